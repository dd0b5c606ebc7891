/*
 * commit.c - the turn's transaction: group commit.
 *
 * One transaction per loop turn carries the changes of all exchanges that were answered in it, the
 * journal rows of those, and the intents of the exchanges that are about to be sent.  If it
 * fails, each exchange is tried again in a transaction of its own, so that one bad row never
 * harms its neighbours.  Nobody waits for a stranger's lock here for more than a few
 * milliseconds: an exchange whose row or table is locked is tried again, turn after turn, until
 * commit_timeout, and then deferred.  Where the synchronous standby does not confirm a commit in
 * time, it stands here, but is not called `committed` and nothing is sent on its strength.
 * Called from engine_turn only.
 */
#include "exchange_internal.h"

#include "access/xact.h"
#include "lib/stringinfo.h"
#include "pgstat.h"

#include "fault_point.h"
#include "settings.h"
#include "txn.h"

/* Longest wait for a lock: together, and for one exchange alone. */
#define LOCK_TOGETHER_MS 10
#define LOCK_ALONE_MS 2
/* Time per turn for commits one by one; the rest waits for the next turn. */
#define ALONE_BUDGET_US (25 * 1000)
#define SETTLE_RETRY_US (1000 * 1000)

/* What one transaction carries. */
typedef struct Batch
{
	Exchange  **finished;
	int			nfinished;
	Exchange  **starting;
	int			nstarting;
	Settle	   *settles;
	JournalEntry **entries;
	bool	   *fresh;			/* the entry's row is inserted by this very transaction */
	int			nentries;
} Batch;

/* ---- the transaction's body ---- */

static bool
wants_more(const Exchange *x)
{
	for (int i = 0; i < x->nitems; i++)
		if (x->items[i].verdict != MIRROR_APPLIED || x->items[i].rereads.count > 0)
			return true;
	return false;
}

static bool
touches(const Exchange *x)
{
	bool		touched = x->touched || x->schema_changed;

	for (int i = 0; i < x->nitems; i++)
		touched |= x->items[i].touched;
	return touched;
}

static void
add_entry(Batch *batch, JournalEntry *entry)
{
	batch->fresh[batch->nentries] = entry->id == 0;
	batch->entries[batch->nentries++] = entry;
}

/* Journals how this exchange ends, unless it goes on, or is neither journalled nor deferred. */
static void
add_finished_entry(Batch *batch, Exchange *x)
{
	JournalEntry *entry = &x->journal;

	if (x->defer == NULL && wants_more(x))
		return;
	entry->status = x->result.status;
	entry->state = x->defer ? JOURNAL_DEFERRED : touches(x) ? JOURNAL_COMMITTED : JOURNAL_NONE;
	entry->error = x->defer;
	if (entry->id != 0 || x->defer != NULL)
		add_entry(batch, entry);
}

static int
count_settles(const Settle *settle)
{
	int			n = 0;

	for (; settle != NULL; settle = settle->next)
		n++;
	return n;
}

static void
batch_body(void *arg)
{
	Batch	   *batch = arg;
	int			most = batch->nfinished + batch->nstarting + count_settles(batch->settles);
	MirrorItem **items = palloc(sizeof(MirrorItem *) * (batch->nfinished * 2 + 1));
	int			nitems = 0;

	batch->entries = palloc(sizeof(JournalEntry *) * (most + 1));
	batch->fresh = palloc(sizeof(bool) * (most + 1));
	batch->nentries = 0;
	for (int i = 0; i < batch->nfinished; i++)
		for (int j = 0; j < batch->finished[i]->nitems; j++)
			items[nitems++] = &batch->finished[i]->items[j];
	if (nitems > 0)
		mirror_apply(items, nitems);
	for (int i = 0; i < batch->nfinished; i++)
		add_finished_entry(batch, batch->finished[i]);
	for (int i = 0; i < batch->nstarting; i++)
		add_entry(batch, &batch->starting[i]->journal);
	for (Settle *s = batch->settles; s != NULL; s = s->next)
		add_entry(batch, &s->entry);
	FAULT_IN_TXN("commit.applied");
	journal_write_rows(batch->entries, batch->nentries);
	FAULT_IN_TXN("commit.journalled");
	ForceSyncCommit();			/* an answer says `committed`, an intent counts: whatever synchronous_commit says */
}

/* palloc'd in the transaction's context, entries are gone after a failure: ids are reset one by one. */
static void
forget_ids(Batch *batch, const int64 *ids)
{
	int			n = 0;

	for (int i = 0; i < batch->nfinished; i++)
		batch->finished[i]->journal.id = ids[n++];
	for (int i = 0; i < batch->nstarting; i++)
		batch->starting[i]->journal.id = ids[n++];
	for (Settle *s = batch->settles; s != NULL; s = s->next)
		s->entry.id = ids[n++];
}

static int64 *
remember_ids(const Batch *batch)
{
	int64	   *ids = palloc(sizeof(int64) * (batch->nfinished + batch->nstarting + count_settles(batch->settles) + 1));
	int			n = 0;

	for (int i = 0; i < batch->nfinished; i++)
		ids[n++] = batch->finished[i]->journal.id;
	for (int i = 0; i < batch->nstarting; i++)
		ids[n++] = batch->starting[i]->journal.id;
	for (const Settle *s = batch->settles; s != NULL; s = s->next)
		ids[n++] = s->entry.id;
	return ids;
}

/* A deferred row is the sync process's to retry. */
static bool
leaves_deferred(const Batch *batch)
{
	for (int i = 0; i < batch->nfinished; i++)
		if (batch->finished[i]->defer != NULL)
			return true;
	for (const Settle *s = batch->settles; s != NULL; s = s->next)
		if (s->entry.state == JOURNAL_DEFERRED)
			return true;
	return false;
}

static void
wake_recovery(void)
{
	pg_atomic_fetch_add_u32(&shared->kick, 1);
	shared_wake(SHARED_SYNC_SLOT);
}

static void
starting_failed(Exchange *x, const TxnError *error)
{
	exchange_release_slot(x);
	ereport(WARNING, (errmsg("sequin_proxy: request %s was not sent: its intent could not be journalled: %s",
							 x->request->id, error->message)));
	commit_settle(x, JOURNAL_FAILED, "not sent");	/* the row, if there is one */
	answer_error(x, 503, "not_ready", "the intent of this write could not be journalled",
				 "Nothing was sent. The server's log says why.", false);
}

/*
 * Committed here, but perhaps not on the standby that is to be waited for: should it take over now, the
 * intents of what is finished are there and their records are re-read, but those of this turn may not be.
 */
static void
note_confirmation(Batch *batch, const TxnError *error)
{
	for (int i = 0; i < batch->nfinished; i++)
		batch->finished[i]->unconfirmed |= error->unconfirmed;	/* a later round that wrote nothing confirms nothing */
	if (!error->unconfirmed)
		return;
	if (batch->nfinished > 0)
		ereport(LOG, (errmsg("sequin_proxy: committed, but %s: %d writes are answered as deferred", error->message, batch->nfinished)));
	for (int i = 0; i < batch->nstarting; i++)
		starting_failed(batch->starting[i], error);
}

static bool
run_batch(Engine *engine, Batch *batch, int lock_ms, TxnError *error)
{
	int64	   *ids = remember_ids(batch);
	int64_t		began = clock_us();
	bool		ok;

	pgstat_report_activity(STATE_RUNNING, "committing changes to the mirror");
	ok = txn_run(batch_body, batch, Min(lock_ms, setting_commit_timeout), error);
	pgstat_report_activity(STATE_IDLE, "serving requests");
	if (ok && batch->nfinished > 0)
		FAULT_POINT("commit.durable");
	if (!ok)
		forget_ids(batch, ids);
	else if (leaves_deferred(batch))
		wake_recovery();
	if (ok)
		note_confirmation(batch, error);
	if (ok && batch->nfinished > 0)
		engine->stats->batches++;
	engine->now_us = clock_us();
	engine->stats->commit_us += engine->now_us - began;
	pfree(ids);
	return ok;
}

static const char *
copy_cstr(Arena *arena, const char *s)
{
	return s ? arena_cstr(arena, str_of(s)) : NULL;
}

/* ---- what an intent says ---- */

static Change *
add_target(ChangeList *targets, Arena *arena, const Change *source)
{
	Change	   *c = change_add(targets, arena, source->op == CHANGE_REFRESH_SCHEMA ? CHANGE_REFRESH_SCHEMA : CHANGE_REREAD,
							   source->collection, source->id);

	if (c != NULL)
	{
		c->to_collection = source->to_collection;
		c->to_id = source->to_id;
		c->base_wide = source->base_wide;
		c->with_links = source->with_links;
	}
	return c;
}

/*
 * The records that the request names: what the provider would have re-read if the answer could
 * not be understood.
 */
const char *
commit_targets(Exchange *x)
{
	ResponseView unreadable = {.status = 200,.body = STR_LIT("")};
	ChangeList	changes = {0};
	ChangeList	targets = {0};

	x->sync->provider->decode(&x->sync->view, &x->route, &x->view, &unreadable, x->arena, &changes);
	for (int i = 0; i < x->changes.count; i++)	/* what the answer named, when there was one */
		if (x->changes.items[i].id.p != NULL || x->changes.items[i].op == CHANGE_REFRESH_SCHEMA)
			add_target(&targets, x->arena, &x->changes.items[i]);
	for (int i = 0; i < changes.count; i++)
		if (changes.items[i].id.p != NULL || changes.items[i].op == CHANGE_REFRESH_SCHEMA)
			add_target(&targets, x->arena, &changes.items[i]);
	/* A create whose answer may never come: the sync's next poll of the collection finds it. */
	if (targets.count == 0 && x->route.collection != NULL)
		change_add(&targets, x->arena, CHANGE_REREAD, str_of(x->route.collection), STR_NULL);
	return journal_targets(x->arena, targets.items, targets.count);
}

static void
fill_intent(Exchange *x)
{
	/* recovery looks for the sync by the name that it has by then */
	CatalogSync *now = catalog_peek() ? catalog_same_sync(catalog_peek(), x->sync) : NULL;

	x->journal.request_id = x->request->id;
	x->journal.sync = copy_cstr(x->arena, (now ? now : x->sync)->view.name);
	x->journal.method = arena_cstr(x->arena, x->view.method);
	x->journal.path = arena_cstr(x->arena, x->view.path);
	x->journal.state = JOURNAL_INTENT;
	if (x->journal.targets == NULL)
		x->journal.targets = commit_targets(x);
	if (x->journal.path == NULL || x->journal.method == NULL)
		x->journal.path = x->journal.method = "";
}

/* ---- settling rows of exchanges that are answered already ---- */

/* From that one on; what was added meanwhile stands before it. */
static void
free_settled(Engine *engine, Settle *settled)
{
	Settle	  **link = &engine->settles;

	while (*link != settled)
		link = &(*link)->next;
	*link = NULL;
	while (settled != NULL)
	{
		Settle	   *s = settled;

		settled = s->next;
		arena_destroy(s->arena);
	}
}

void
commit_settle(Exchange *x, JournalState state, const char *error)
{
	Arena	   *arena;
	Settle	   *s;

	/* Without a row only an unknown outcome is worth one. */
	if (x->journal.id == 0 && !(state == JOURNAL_DEFERRED && x->route.mirrored))
		return;
	if (x->journal.path == NULL)
		fill_intent(x);
	arena = arena_create();
	s = arena ? arena_zalloc(arena, sizeof(*s)) : NULL;
	if (s == NULL)
	{
		arena_destroy(arena);	/* the row stays an intent: recovery will look at it */
		return;
	}
	s->arena = arena;
	s->entry = x->journal;
	s->entry.state = state;
	s->entry.status = x->result.status;
	s->entry.error = copy_cstr(arena, error);
	s->entry.request_id = copy_cstr(arena, x->request->id);
	s->entry.sync = copy_cstr(arena, x->journal.sync);
	s->entry.key_label = copy_cstr(arena, x->journal.key_label);
	s->entry.method = copy_cstr(arena, x->journal.method);
	s->entry.path = copy_cstr(arena, x->journal.path);
	s->entry.targets = copy_cstr(arena, state == JOURNAL_DEFERRED ? x->journal.targets : NULL);
	s->next = x->engine->settles;
	x->engine->settles = s;
}

void
commit_defer(Exchange *x, const char *why)
{
	x->defer = copy_cstr(x->arena, why);
	if (x->defer == NULL)
		x->defer = "out of memory";
	ereport(LOG, (errmsg("sequin_proxy: request %s: the API accepted, the mirror will follow later: %s",
						 x->request->id, x->defer)));
	x->journal.targets = NULL;
	fill_intent(x);				/* now with the ids that the answer named */
	exchange_set_state(x, EXCHANGE_COMMITTING);
}

/* ---- outcomes ---- */

/* Its transaction failed: wait for the lock's holder, or defer. */
static void
finished_failed(Exchange *x, const TxnError *error)
{
	int64_t		now = clock_us();

	if (x->defer != NULL)
	{
		/* Not even the journal could be written: it is kept in memory and tried again. */
		x->nitems = 0;
		commit_settle(x, JOURNAL_DEFERRED, x->defer);
		answer_upstream(x, "deferred");
		return;
	}
	if (error->lock_timeout && x->state != EXCHANGE_BLOCKED)
		x->deadline_us = now + (int64_t) setting_commit_timeout * 1000;
	if (error->lock_timeout && now < x->deadline_us)
	{
		exchange_set_state(x, EXCHANGE_BLOCKED);
		return;
	}
	x->nitems = 0;
	commit_defer(x, error->message);
}

static void
commit_alone(Engine *engine, Exchange *x)
{
	Batch		batch = {.finished = &x,.nfinished = 1};
	TxnError	error;

	FAULT_POINT("commit.alone");
	if (run_batch(engine, &batch, LOCK_ALONE_MS, &error))
		exchange_committed(x);
	else
		finished_failed(x, &error);
}

/* An intent that cannot be written must not keep the others from being sent. */
static void
start_apart(Engine *engine, Exchange **starting, int n)
{
	Batch		batch = {.starting = starting,.nstarting = n};
	TxnError	error;

	if (n == 0 || run_batch(engine, &batch, LOCK_TOGETHER_MS, &error))
		return;
	/* What keeps one from the journal that way (a lock, a full disk) keeps all. */
	if (n == 1 || error.transient)
		for (int i = 0; i < n; i++)
			starting_failed(starting[i], &error);
	else
		for (int i = 0; i < n; i++)
			start_apart(engine, &starting[i], 1);
}

/* A row that no journal can ever take: the text is not one that the database can hold, or the extension is gone. */
static bool
is_hopeless(const TxnError *error)
{
	return ERRCODE_TO_CATEGORY(error->sqlstate) == ERRCODE_DATA_EXCEPTION || catalog_peek() == NULL || !catalog_peek()->installed;
}

/* One by one, within the turn's budget: what cannot be settled now is tried again, apart from everything else. */
static void
settle_apart(Engine *engine)
{
	int64_t		stop = clock_us() + ALONE_BUDGET_US;
	Settle	  **link = &engine->settles;

	while (*link != NULL && clock_us() < stop)
	{
		Settle	   *s = *link;
		Settle	   *rest = s->next;
		Batch		batch = {.settles = s};
		TxnError	error;

		s->next = NULL;
		if (run_batch(engine, &batch, LOCK_ALONE_MS, &error) || is_hopeless(&error))
		{
			*link = rest;
			arena_destroy(s->arena);
		}
		else
		{
			s->next = rest;
			link = &s->next;
		}
	}
	if (engine->settles != NULL)
		engine->settle_retry_us = clock_us() + SETTLE_RETRY_US;
}

/* Together it failed: intents first, for they wait to be sent; then each exchange and each settled row by itself. */
static void
commit_apart(Engine *engine, Batch *together)
{
	start_apart(engine, together->starting, together->nstarting);
	if (together->settles != NULL)
		settle_apart(engine);
	for (int i = 0; i < together->nfinished; i++)
		commit_alone(engine, together->finished[i]);
}

/* ---- the turn ---- */

static bool
same_table_blocked(Engine *engine, const Exchange *x)
{
	for (Exchange *b = engine->lists[EXCHANGE_BLOCKED].first; b != NULL; b = b->next)
		if (strcmp(b->sync->view.name, x->sync->view.name) == 0 &&
			(b->route.collection == NULL || x->route.collection == NULL ||
			 strcmp(b->route.collection, x->route.collection) == 0))
			return true;
	return false;
}

/* Those that somebody's lock holds up, one by one, within the turn's budget. */
static void
retry_blocked(Engine *engine)
{
	int64_t		stop = clock_us() + ALONE_BUDGET_US;
	int			n = engine->lists[EXCHANGE_BLOCKED].count;

	while (n-- > 0 && clock_us() < stop)
	{
		Exchange   *x = engine->lists[EXCHANGE_BLOCKED].first;

		exchange_set_state(x, EXCHANGE_BLOCKED);	/* to the list's end: each has its turn */
		commit_alone(engine, x);
	}
}

/* Picks what goes into the common transaction; what a known lock may hold up is left to be tried alone. */
static void
gather(Engine *engine, Batch *batch)
{
	Exchange   *next;

	batch->finished = palloc(sizeof(Exchange *) * (engine->lists[EXCHANGE_COMMITTING].count + 1));
	batch->starting = palloc(sizeof(Exchange *) * (engine->lists[EXCHANGE_GRANTED].count + 1));
	for (Exchange *x = engine->lists[EXCHANGE_COMMITTING].first; x != NULL; x = next)
	{
		next = x->next;
		if (x->defer == NULL && engine->lists[EXCHANGE_BLOCKED].count > 0 && same_table_blocked(engine, x))
		{
			x->deadline_us = clock_us() + (int64_t) setting_commit_timeout * 1000;
			exchange_set_state(x, EXCHANGE_BLOCKED);
		}
		else
			batch->finished[batch->nfinished++] = x;
	}
	for (Exchange *x = engine->lists[EXCHANGE_GRANTED].first; x != NULL; x = x->next)
		if (x->route.mirrored && setting_journal && x->journal.id == 0)
		{
			fill_intent(x);
			batch->starting[batch->nstarting++] = x;
		}
	if (clock_us() >= engine->settle_retry_us)
		batch->settles = engine->settles;
}

/* Two passes at most: an exchange that has to be deferred gets its journal row in the second. */
void
commit_turn(Engine *engine)
{
	for (int pass = 0; pass < 2; pass++)
	{
		Batch		batch = {0};
		TxnError	error;

		gather(engine, &batch);
		if (batch.nfinished + batch.nstarting == 0 && batch.settles == NULL)
			break;
		if (!run_batch(engine, &batch, LOCK_TOGETHER_MS, &error))
		{
			commit_apart(engine, &batch);
			continue;
		}
		if (batch.settles != NULL)
			free_settled(engine, batch.settles);
		for (int i = 0; i < batch.nfinished; i++)
			exchange_committed(batch.finished[i]);
	}
	retry_blocked(engine);
}
