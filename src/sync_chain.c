/*
 * sync_chain.c - a collection page after page: fetch, apply, and again (sync_internal.h).
 *
 * Owns the Chain.  A page is applied a turn after the next one was asked for, so that the API works
 * on that one meanwhile; pages are committed in order, each in one transaction with the cursor that it leads to, so that a kill
 * repeats at most what was not committed.  What a page cannot settle (a record that the mirror
 * has newer, a field that the schema lacks) is asked for before the page counts as done.  A page that
 * fails is asked for again with back-off; when that does not help either, the chain ends and the
 * table's state says why.  Called from the loop's turn, outside foreign frames; SQL in txn_run only.
 */
#include "sync_internal.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "fault_point.h"
#include "follow.h"
#include "reactor.h"
#include "shared.h"
#include "txn.h"
#include "unlisted.h"

#define PAGE_TIMEOUT_US (INT64CONST(600) * 1000 * 1000)
#define COMMIT_LOCK_MS 500
#define MAX_ATTEMPTS 6			/* for one page, with back-off in between: about a minute */
#define MAX_ROUNDS 6			/* re-reads for one page */
#define MAX_REFRESHES 2			/* schema refreshes for one page */

static Loop *the_loop;

static void chain_fetch(Chain *chain);
static void chain_take(Chain *chain, Errand *errand);
static void chain_apply(Chain *chain);
static void chain_page_done(Chain *chain);

/* ---- its life ---- */

static bool
is_backfill(ChainJob job)
{
	return job == CHAIN_LIST || job == CHAIN_DOWN;
}

static bool
is_links(ChainJob job)
{
	return job == CHAIN_LINKS || job == CHAIN_DIRTY;
}

static char *
keep_str(Chain *chain, char *old, Str s)
{
	char	   *copy = NULL;

	if (s.p != NULL)
	{
		copy = MemoryContextAlloc(chain->cx, s.n + 1);
		memcpy(copy, s.p, s.n);
		copy[s.n] = '\0';
	}
	if (old != NULL)
		pfree(old);
	return copy;
}

void
chain_start(Loop *loop, SyncRun *run, SyncTable *table, ChainJob job, bool wanted)
{
	MemoryContext cx = AllocSetContextCreate(TopMemoryContext, "sequin chain", ALLOCSET_SMALL_SIZES);
	Chain	   *chain = MemoryContextAllocZero(cx, sizeof(*chain));

	the_loop = loop;
	chain->run = run;
	chain->table = table;
	chain->job = job;
	chain->cx = cx;
	chain->wanted = wanted;
	chain->first = true;
	chain->started_at = shared_now();
	chain->began_us = clock_us();
	chain->api_time_us = chain->newest_us = TIME_NONE;
	run->nchains++;
	run->nbackfills += is_backfill(job);
	if (table != NULL)
	{
		table->chains[job] = chain;
		if (job == CHAIN_LIST && table->state.list_cursor[0])
			chain->cursor = keep_str(chain, NULL, str_of(table->state.list_cursor));
		if (job == CHAIN_DOWN && table->state.down_last[0])
			chain->cursor = keep_str(chain, NULL, str_of(table->state.down_last));
		if (job == CHAIN_LINKS && table->state.phase == TABLE_BACKFILL && table->state.list_cursor[0])
			chain->cursor = keep_str(chain, NULL, str_of(table->state.list_cursor));
	}
	else
	{
		run->feed_chain = chain;
		chain->cursor = keep_str(chain, NULL, str_of(run->feed));
	}
	chain_fetch(chain);
}

/* The sync as it is now; NULL: it was dropped. */
static CatalogSync *
present_sync(const Chain *chain)
{
	Catalog    *catalog = catalog_current();

	return catalog ? catalog_sync_by_key(catalog, chain->run->key) : NULL;
}

/* NULL: out of memory. */
static Errand *
make_errand(Chain *chain, CatalogSync *sync, void (*done) (Errand *errand))
{
	Errand	   *errand = errand_create(the_loop->errands, sync, LIMIT_SYNC, STR_NULL, clock_us() + PAGE_TIMEOUT_US);

	if (errand != NULL)
	{
		errand->done = done;
		errand->cls = chain;
	}
	return errand;
}

/* A page that is on its way belongs to nobody any more. */
static void
let_go(Errand **errand, bool is_running)
{
	if (*errand == NULL)
		return;
	if (is_running)
		(*errand)->cls = NULL;	/* its done() frees it */
	else
		errand_free(*errand);
	*errand = NULL;
}

static void
drop_page(Chain *chain)
{
	let_go(&chain->page, false);
	chain->targets = (ChangeList) {0};
	chain->item = (MirrorItem) {0};
	chain->rounds = chain->refreshes = 0;
	chain->apply_due = false;
}

static void
chain_end(Chain *chain)
{
	let_go(&chain->fetching, true);
	let_go(&chain->parked, false);
	drop_page(chain);
	sweep_forget(chain);
	arena_destroy(chain->scan_arena);
	chain->run->nchains--;
	chain->run->nbackfills -= is_backfill(chain->job);
	if (chain->table != NULL)
		chain->table->chains[chain->job] = NULL;
	else
		chain->run->feed_chain = NULL;
	MemoryContextDelete(chain->cx);
}

void
chain_cancel(Chain *chain)
{
	chain->cancelled = true;
	/* without a re-read or refresh under way nobody else will look at it */
	if (chain->page == NULL && (!chain->scanning || chain->resume_us != 0))
		chain_end(chain);
}

static void
chain_fail(Chain *chain, const char *error)
{
	if (chain->job == CHAIN_DIRTY)
		dirty_return(chain);
	if (!chain->cancelled)
		tables_failed(chain, error);
	chain_end(chain);
}

/* The page in hand could not be had or not be kept: once more, after a while. */
static void
chain_again(Chain *chain, const char *error, bool may_retry)
{
	char	   *why = MemoryContextStrdup(chain->cx, error ? error : "unknown error");

	if (!may_retry || chain->cancelled || ++chain->attempts >= MAX_ATTEMPTS || chain->job == CHAIN_FEED)
	{
		chain_fail(chain, why);
		return;
	}
	let_go(&chain->fetching, true);
	let_go(&chain->parked, false);
	drop_page(chain);
	if (chain->scanning)
		sweep_scan_again(chain);
	if (!is_links(chain->job))	/* these go on by the mirror's ids */
		chain->cursor = keep_str(chain, chain->cursor, str_of(chain->page_cursor));
	chain->no_more = false;
	chain->resume_us = clock_us() + schedule_backoff_us(chain->attempts);
}

/* ---- fetching ---- */

static void
on_page(Errand *errand)
{
	Chain	   *chain = errand->cls;

	if (chain == NULL)
	{
		errand_free(errand);
		return;
	}
	chain->fetching = NULL;
	if (chain->cancelled)
	{
		errand_free(errand);
		if (chain->page == NULL)
			chain_end(chain);
	}
	else if (chain->page != NULL)
		chain->parked = errand;
	else
		chain_take(chain, errand);
}

/* True: this call has to wait for its share of the long windows. */
static bool
over_budget(Chain *chain, CatalogSync *sync)
{
	int64		spacing = job_is_routine(chain) ? tables_spacing_us(sync) : 0;
	int64		now = clock_us();

	if (spacing == 0)
		return false;
	if (chain->run->budget_us > now + 60 * USECS_PER_SEC)
	{
		chain->resume_us = chain->run->budget_us - 60 * USECS_PER_SEC;
		return true;
	}
	chain->run->budget_us = Max(chain->run->budget_us, now) + spacing;
	return false;
}

static void
chain_finish(Chain *chain)
{
	TxnError	error;

	if (job_finished(chain, &error))
		chain_end(chain);
	else
		chain_fail(chain, error.message);
}

static void
chain_fetch(Chain *chain)
{
	CatalogSync *sync = present_sync(chain);
	PageRequest request = {0};
	TxnError	error;
	Errand	   *errand;

	chain->resume_us = 0;
	if (sync == NULL || chain->cancelled)
	{
		if (chain->page == NULL)
			chain_end(chain);
		else
			chain->cancelled = true;
		return;
	}
	if (over_budget(chain, sync))
		return;
	if (!job_request(chain, sync, &request, &error))
	{
		if (chain->page == NULL && error.message[0])
			chain_again(chain, error.message, true);
		else if (chain->page == NULL)
			chain_finish(chain);
		else
			chain->no_more = true;
		return;
	}
	errand = make_errand(chain, sync, on_page);
	if (errand == NULL)
	{
		chain->attempts += is_links(chain->job);	/* the same ids once more */
		chain->resume_us = clock_us() + USECS_PER_SEC;
		return;
	}
	chain->fetching = errand;
	errand_page(errand, &request);
}

static void scan_on(Chain *chain);

void
chain_resume(Chain *chain)
{
	chain->resume_us = 0;
	if (chain->scanning)
		scan_on(chain);
	else if (chain->fetching == NULL && chain->parked == NULL)
		chain_fetch(chain);
}

/* ---- fields that the schema lacks ---- */

static void
on_refreshed(Errand *errand)
{
	Chain	   *chain = errand->cls;
	TxnError	error;
	char	   *why = NULL;

	if (errand->conv.failed)
		why = MemoryContextStrdup(chain->cx, errand->conv.error);
	else if (!follow_schema(errand, NULL, NULL, &error))
		why = MemoryContextStrdup(chain->cx, error.message);
	errand_free(errand);
	if (why != NULL)
		chain_again(chain, why, true);
	else if (chain->job == CHAIN_FEED)
		chain_apply(chain);		/* it holds no fields */
	else
	{
		/* decoded by a schema that is no more: the page once again */
		int			refreshes = chain->refreshes;

		let_go(&chain->fetching, true);
		let_go(&chain->parked, false);
		drop_page(chain);
		chain->refreshes = refreshes;
		if (is_links(chain->job))
			chain->attempts = Max(chain->attempts, 1);	/* the same ids once more */
		else
			chain->cursor = keep_str(chain, chain->cursor, str_of(chain->page_cursor));
		chain->no_more = false;
		chain_fetch(chain);
	}
}

static void
chain_refresh(Chain *chain, const char *scope)
{
	CatalogSync *sync = present_sync(chain);
	Errand	   *errand = sync ? make_errand(chain, sync, on_refreshed) : NULL;

	if (errand == NULL)
	{
		chain_again(chain, sync ? "out of memory" : "the sync was dropped", sync != NULL);
		return;
	}
	chain->refreshes++;
	errand_discover(errand, scope);
}

/* A collection with a field that its schema lacks, and that is not known to be lacking; NULL: none. */
static const char *
new_field_in(const Errand *errand, const ChangeList *changes)
{
	Str			sync = str_of(errand->sync->view.name);

	for (int i = 0; i < changes->count; i++)
		for (int j = 0; j < changes->items[i].nfields; j++)
		{
			const FieldValue *f = &changes->items[i].fields[j];

			if (f->known)
				continue;
			if (errand->catalog == catalog_peek() && unlisted_known(sync, changes->items[i].collection, f->field, clock_us()))
				continue;
			unlisted_remember(sync, changes->items[i].collection, f->field, clock_us());
			return arena_cstr(errand->arena, changes->items[i].collection);
		}
	return NULL;
}

/* What a feed says of the schema: one collection (in the errand's arena), or NULL for everything. */
static bool
feed_wants_refresh(const Errand *errand, const char **scope)
{
	const ChangeList *changes = &errand->conv.changes;
	Str			only = STR_NULL;
	bool		wanted = false;

	for (int i = 0; i < changes->count; i++)
	{
		Str			collection = changes->items[i].collection;

		if (changes->items[i].op != CHANGE_REFRESH_SCHEMA)
			continue;
		only = wanted && !str_eq(only, collection) ? STR_NULL : collection;
		wanted = true;
	}
	*scope = only.p ? arena_cstr(errand->arena, only) : NULL;
	return wanted;
}

/* ---- a page ---- */

/* Out of memory: one that is not asked for again now is compared, and asked for, by the next sweep. */
static void
add_target(ChangeList *targets, Arena *arena, const Change *change)
{
	Change	   *target = change_add(targets, arena, CHANGE_REREAD, change->collection, change->id);

	if (target != NULL)
		*target = *change;
}

/* True: the answer is none that could be applied, and has been dealt with. */
static bool
is_no_page(Chain *chain, Errand *errand)
{
	PageResult *result = &errand->conv.result;

	if (errand->conv.failed)
		chain_again(chain, errand->conv.error, errand->conv.retriable);
	else if (result->refused)
	{
		job_refused(chain, result->refusal ? result->refusal : "the API refused it");
		chain_end(chain);
	}
	else if (result->restart && chain->page_cursor == NULL)
		chain_again(chain, "the API asks to start again at the start", true);
	else if (result->restart)
	{
		job_restart(chain);
		chain->page_cursor = keep_str(chain, chain->page_cursor, STR_NULL);
		chain_again(chain, "the API's cursor expired", true);
	}
	else
		return false;
	return true;
}

static void
collect_targets(Chain *chain, Errand *errand)
{
	for (int i = 0; i < errand->conv.changes.count; i++)
		if (errand->conv.changes.items[i].op == CHANGE_REREAD)
			add_target(&chain->targets, errand->arena, &errand->conv.changes.items[i]);
}

/* A page has come and is the one in hand from now on. */
static void
chain_take(Chain *chain, Errand *errand)
{
	PageResult *result = &errand->conv.result;
	const char *scope;

	FAULT_POINT("page.received");
	chain->page = errand;
	chain->page_cursor = keep_str(chain, chain->page_cursor, errand->conv.page ? errand->conv.page->cursor : STR_NULL);
	chain->saved = false;
	if (chain->api_time_us == TIME_NONE)
		chain->api_time_us = errand->api_time_us;
	if (is_no_page(chain, errand))
		return;
	scope = chain->refreshes < MAX_REFRESHES ? new_field_in(errand, &errand->conv.changes) : NULL;
	if (scope != NULL)
	{
		chain_refresh(chain, scope);
		return;
	}
	if (!job_received(chain, result))
	{
		chain_end(chain);
		return;
	}
	collect_targets(chain, errand);
	chain->cursor = keep_str(chain, chain->cursor, result->next);
	/* links are asked for by ids, until there are none */
	chain->no_more = !is_links(chain->job) && (result->next.p == NULL || (chain->job == CHAIN_FEED && !result->more));
	if (!chain->no_more && !is_links(chain->job) && chain->job != CHAIN_FEED)
		chain_fetch(chain);		/* while this one is committed */
	if (chain->job == CHAIN_FEED && chain->refreshes == 0 && feed_wants_refresh(errand, &scope))
		chain_refresh(chain, scope);
	else
		chain->apply_due = true;
}

bool
chain_apply_due(Chain *chain)
{
	bool		parked = chain->parked != NULL;

	if (!chain->apply_due)
		return false;
	chain->apply_due = false;
	chain_apply(chain);
	return parked;
}

static void
save_in_txn(Chain *chain)
{
	if (chain->job == CHAIN_FEED)
	{
		const PageResult *result = &chain->page->conv.result;
		char	   *feed = result->next.p ? pnstrdup(result->next.p, result->next.n) : NULL;

		state_save_feed(chain->run->key, feed, NULL, chain->no_more ? chain->started_at : SCHEDULE_NEVER, result->gap);
	}
	else if (job_saves_page(chain))
		chain->void_state = !state_save_row(&chain->next, chain->bad_rows);
	chain->saved = true;
	FAULT_IN_TXN("page.saved");
}

static void
page_body(void *arg)
{
	Chain	   *chain = arg;
	MirrorItem *item = &chain->item;

	chain->saved = false;
	if (item->nchanges > 0)
		mirror_apply(&item, 1);
	FAULT_IN_TXN("page.applied");
	if (chain->part || (item->nchanges > 0 && item->verdict == MIRROR_REFRESH))
		return;
	if (chain->rounds == 0 && chain->job == CHAIN_SWEEP && !chain->scanning)
	{
		sweep_note_seen(chain, &chain->page->conv.result);
		sweep_add_stale(chain, chain->page->sync, &chain->page->conv.result);
	}
	if (chain->targets.count == 0 && item->rereads.count == 0 && !chain->scanning)
		save_in_txn(chain);
}

static void
add_rereads(Chain *chain)
{
	for (int i = 0; i < chain->item.rereads.count; i++)
		add_target(&chain->targets, chain->item.arena, &chain->item.rereads.items[i]);
	chain->item.rereads = (ChangeList) {0};
}

static bool
run_page(Chain *chain, TxnError *error)
{
	bool		ok = txn_run(page_body, chain, COMMIT_LOCK_MS, error);

	if (!ok && chain->seen_fresh)
		chain->seen_number = 0;	/* its table went with the transaction */
	chain->seen_fresh = false;
	return ok;
}

static bool apply_part(Chain *chain, MirrorItem part, TxnError *error);

/* One bad row never stops the others: halves, and halves of halves. */
static bool
apply_split(Chain *chain, MirrorItem whole, TxnError *error)
{
	MirrorItem	first = whole;
	MirrorItem	second = whole;

	if (whole.nchanges == 1)
	{
		const Change *c = whole.changes;

		chain->bad_rows = true;
		tables_note(chain, psprintf("record %.*s could not be written to the mirror: %s", STR_FMT(c->id), error->message));
		return true;
	}
	first.nchanges = whole.nchanges / 2;
	second.changes += first.nchanges;
	second.nchanges -= first.nchanges;
	return apply_part(chain, first, error) && apply_part(chain, second, error);
}

static bool
apply_part(Chain *chain, MirrorItem part, TxnError *error)
{
	bool		ok;

	chain->item = part;
	chain->part = true;
	ok = txn_run(page_body, chain, COMMIT_LOCK_MS, error);
	chain->part = false;
	if (!ok)
		return !error->transient && apply_split(chain, part, error);
	job_written(chain);
	add_rereads(chain);
	return true;
}

/* The item is in chain->item.  True: it is committed, but for rows that the table refuses. */
static bool
apply_item(Chain *chain, TxnError *error)
{
	MirrorItem	whole = chain->item;

	if (run_page(chain, error))
	{
		job_written(chain);
		return true;
	}
	if (error->transient || whole.nchanges == 0 || !apply_split(chain, whole, error))
		return false;
	/* what the page says beside its rows */
	chain->item = (MirrorItem) {.sync = whole.sync,.asked_at = whole.asked_at,.arena = whole.arena,.page = true};
	return run_page(chain, error);
}

static void chain_settle(Chain *chain);

static void
chain_apply(Chain *chain)
{
	Errand	   *errand = chain->page;
	TxnError	error;

	if (chain->cancelled)
	{
		chain_end(chain);
		return;
	}
	if (chain->table != NULL)
	{
		chain->next = chain->table->state;
		job_advance(chain, &errand->conv.result);
	}
	chain->item = (MirrorItem)
	{
		.sync = errand->sync,.changes = errand->conv.changes.items,.nchanges = errand->conv.changes.count,
		.asked_at = errand->asked_at,.page = true,.arena = errand->arena
	};
	if (!apply_item(chain, &error))
		chain_again(chain, error.message, true);
	else if (chain->item.nchanges > 0 && chain->item.verdict == MIRROR_REFRESH)
	{
		if (chain->refreshes < MAX_REFRESHES)
			chain_refresh(chain, chain->item.refresh);
		else
			chain_again(chain, "the mirror's table does not match the API's schema", true);
	}
	else
		chain_settle(chain);
}

/* ---- re-reads ---- */

static void
round_done(Chain *chain)
{
	if (chain->scanning)
	{
		chain->attempts = 0;
		scan_on(chain);			/* the next ids */
	}
	else
		chain_page_done(chain);
}

/* Applied; is there something that has to be asked for first? */
static void
chain_settle(Chain *chain)
{
	add_rereads(chain);
	if (chain->targets.count > 0)
		chain_reread(chain);
	else if (chain->saved || chain->scanning)
		round_done(chain);
	else
	{
		TxnError	error;

		/* what was asked for is in: now the page's own state, beside what others have saved meanwhile */
		if (chain->table != NULL)
		{
			chain->next = chain->table->state;
			job_advance(chain, &chain->page->conv.result);
		}
		chain->item = (MirrorItem) {.sync = chain->page->sync,.arena = chain->page->arena,.page = true};
		chain->rounds = Max(chain->rounds, 1);
		if (run_page(chain, &error))
			round_done(chain);
		else
			chain_again(chain, error.message, true);
	}
}

/* They are to outlive the errand that brought them. */
static void
keep_targets(Chain *chain, Arena *arena)
{
	ChangeList	kept = {0};

	for (int i = 0; i < chain->targets.count; i++)
	{
		Change		c = chain->targets.items[i];

		c.collection = arena_copy(arena, c.collection);
		c.id = arena_copy(arena, c.id);
		c.to_collection = arena_copy(arena, c.to_collection);
		c.to_id = arena_copy(arena, c.to_id);
		add_target(&kept, arena, &c);
	}
	chain->targets = kept;
}

static void
on_reread(Errand *errand)
{
	Chain	   *chain = errand->cls;
	TxnError	error;

	if (chain->cancelled || errand->conv.failed)
	{
		char	   *why = errand->conv.failed ? MemoryContextStrdup(chain->cx, errand->conv.error) : NULL;
		bool		retriable = errand->conv.retriable;

		errand_free(errand);
		if (chain->cancelled)
			chain_end(chain);
		else
			chain_again(chain, why, retriable);
		return;
	}
	FAULT_POINT("page.reread");
	chain->targets = (ChangeList) {0};
	chain->item = (MirrorItem)
	{
		.sync = errand->sync,.changes = errand->conv.changes.items,.nchanges = errand->conv.changes.count,
		.asked_at = errand->asked_at,.page = true,.arena = errand->arena
	};
	if (apply_item(chain, &error))
	{
		add_rereads(chain);
		keep_targets(chain, chain->page ? chain->page->arena : chain->scan_arena);
		chain->item = (MirrorItem) {0};
		errand_free(errand);
		chain_settle(chain);
	}
	else
	{
		errand_free(errand);
		chain_again(chain, error.message, true);
	}
}

void
chain_reread(Chain *chain)
{
	CatalogSync *sync = present_sync(chain);
	Errand	   *errand;

	if (chain->rounds++ >= MAX_ROUNDS)
	{
		chain_again(chain, "records change faster than they can be re-read", true);
		return;
	}
	errand = sync ? make_errand(chain, sync, on_reread) : NULL;
	if (errand == NULL)
	{
		chain_again(chain, "out of memory", sync != NULL);
		return;
	}
	errand_reread(errand, chain->targets.items, chain->targets.count);
}

/* ---- the end of a page, and of the chain ---- */

/* Without a next page a sweep looks for what no page has shown. */
static void
scan_on(Chain *chain)
{
	CatalogSync *sync = present_sync(chain);
	TxnError	error;

	chain->rounds = 0;
	if (sync == NULL || chain->cancelled)
		chain_end(chain);
	else if (!sweep_scan_next(chain, sync, &error))
		chain_again(chain, error.message, true);
	else if (chain->targets.count > 0)
		chain_reread(chain);
	else if (chain->scan_done)
		chain_finish(chain);
	else
		chain->resume_us = clock_us();	/* a turn for the others */
}

static void
chain_page_done(Chain *chain)
{
	Errand	   *parked = chain->parked;

	FAULT_POINT("page.durable");
	if (chain->void_state)
	{
		chain_end(chain);		/* the table is read anew, or was dropped */
		return;
	}
	job_committed(chain);
	drop_page(chain);
	chain->first = false;
	chain->pages++;
	chain->attempts = 0;
	chain->parked = NULL;
	if (chain->cancelled)
		chain_end(chain);
	else if (parked != NULL)
		chain_take(chain, parked);
	else if (chain->fetching != NULL || chain->resume_us != 0)
		return;
	else if (!chain->no_more)
		chain_fetch(chain);
	else if (chain->job == CHAIN_SWEEP)
	{
		chain->scanning = true;
		scan_on(chain);
	}
	else
		chain_finish(chain);
}
