/*
 * sync_tables.c - which table of which sync is read next (sync_internal.h).
 *
 * Owns the runs (one per sync) and their tables: loads them whenever the configuration moved, asks
 * sync_schedule.c when each is due, and starts chains: who is waited for first, then who is
 * due longest.  Backfills never take all places, so that polls go on beside them.  Keeps no
 * truth of its own: what matters is in sequin.table_state.
 */
#include "sync_internal.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "shared.h"
#include "sync.h"

#define MAX_CHAINS 12			/* per sync */
#define MAX_BACKFILLS 6
#define MANY_ROWS 2000
#define RELOAD_RETRY_MS 1000
#define MAX_SLEEP_MS 30000
#define MAX_ERROR 400

static SyncRun *runs;
static uint64 seen_generation = UINT64_MAX;
static int64 reload_us;			/* not before; 0: at the next move of the generation */

/* ---- loading ---- */

static SyncRun *
run_find(const uint8 key[16])
{
	for (SyncRun *r = runs; r != NULL; r = r->next)
		if (memcmp(r->key, key, sizeof(r->key)) == 0)
			return r;
	return NULL;
}

static SyncRun *
run_add(const uint8 key[16])
{
	SyncRun    *r = MemoryContextAllocZero(TopMemoryContext, sizeof(*r));

	memcpy(r->key, key, sizeof(r->key));
	r->checked_at = r->feed_polled_at = r->feed_retry_at = r->wanted_poll = r->wanted_sweep = SCHEDULE_NEVER;
	r->next = runs;
	runs = r;
	return r;
}

SyncTable *
table_of(SyncRun *run, const char *collection)
{
	for (SyncTable *t = run->tables; t != NULL; t = t->next)
		if (strcmp(t->state.collection, collection) == 0)
			return t;
	return NULL;
}

static void
cancel_chains(SyncTable *t)
{
	for (ChainJob job = 0; job < CHAIN_JOBS; job++)
		if (t->chains[job] != NULL)
			chain_cancel(t->chains[job]);
}

/* Written by a server whose clock was ahead of what ours has ever been: what it says of the future has been. */
static void
not_later_than_now(TableState *state)
{
	int64		now = shared_now();

	state->live_at = Min(state->live_at, now);
	state->polled_at = Min(state->polled_at, now);
	state->swept_at = Min(state->swept_at, now);
}

static void
take_state(const TableState *state)
{
	SyncRun    *run = run_find(state->key);
	SyncTable  *t;

	if (run == NULL)
		run = run_add(state->key);
	run->kept = true;
	t = table_of(run, state->collection);
	if (t == NULL)
	{
		t = MemoryContextAllocZero(TopMemoryContext, sizeof(*t));
		t->run = run;
		t->next = run->tables;
		run->tables = t;
		t->retry_at = SCHEDULE_NEVER;
		t->state = *state;
	}
	else if (t->state.epoch != state->epoch)
	{
		/* it is to be read anew: what is on its way leads nowhere any more */
		cancel_chains(t);
		t->state = *state;
		t->list_seen[0] = t->down_seen[0] = '\0';
		t->no_down = t->no_changes = false;
	}
	else if (t->chains[CHAIN_FIELD] == NULL)
		strlcpy(t->state.fill, state->fill, sizeof(t->state.fill));
	if (t->state.phase != TABLE_LIVE && t->list_seen[0] == '\0')
	{
		strlcpy(t->list_seen, t->state.list_last, sizeof(t->list_seen));
		strlcpy(t->down_seen, t->state.down_last, sizeof(t->down_seen));
	}
	t->kept = true;
}

static void
take_feed(const SyncFeed *feed)
{
	SyncRun    *run = run_find(feed->key);

	if (run == NULL)
		return;
	run->checked_at = feed->checked_at;
	run->feed_retry_at = Min(run->feed_retry_at, shared_now());	/* the credential may be another */
	if (run->feed_chain != NULL)
		return;
	if (run->feed != NULL)
		pfree(run->feed);
	run->feed = feed->feed ? MemoryContextStrdup(TopMemoryContext, feed->feed) : NULL;
}

static bool
has_chains(const SyncTable *t)
{
	for (ChainJob job = 0; job < CHAIN_JOBS; job++)
		if (t->chains[job] != NULL)
			return true;
	return false;
}

/* Tables that the last load did not have; those with chains under way go once these have ended. */
static void
drop_tables(SyncRun *run)
{
	for (SyncTable **link = &run->tables; *link != NULL;)
	{
		SyncTable  *t = *link;

		if (!t->kept)
			cancel_chains(t);
		if (t->kept || has_chains(t))
		{
			link = &t->next;
			continue;
		}
		*link = t->next;
		dirty_forget(t);
		for (int side = 0; side < 2; side++)
			if (t->dirty[side].ids != NULL)
				pfree(t->dirty[side].ids);
		pfree(t);
	}
}

static void
drop_gone(void)
{
	for (SyncRun **link = &runs; *link != NULL;)
	{
		SyncRun    *run = *link;

		if (!run->kept && run->feed_chain != NULL)
			chain_cancel(run->feed_chain);
		drop_tables(run);
		if (run->kept || run->tables != NULL || run->feed_chain != NULL)
		{
			link = &run->next;
			continue;
		}
		*link = run->next;
		if (run->feed != NULL)
			pfree(run->feed);
		pfree(run);
	}
}

typedef struct Load
{
	MemoryContext cx;
	TableState *states;
	int			nstates;
	SyncFeed   *feeds;
	int			nfeeds;
} Load;

static void
load_body(void *arg)
{
	Load	   *load = arg;

	load->nstates = state_load_rows(load->cx, &load->states);
	load->nfeeds = state_load_feeds(load->cx, &load->feeds);
}

static bool
load_tables(void)
{
	Load		load = {.cx = CurrentMemoryContext};
	TxnError	error;

	if (!txn_run(load_body, &load, 500, &error))
		return false;
	for (SyncRun *r = runs; r != NULL; r = r->next)
	{
		r->kept = false;
		for (SyncTable *t = r->tables; t != NULL; t = t->next)
			t->kept = false;
	}
	for (int i = 0; i < load.nstates; i++)
	{
		not_later_than_now(&load.states[i]);
		take_state(&load.states[i]);
	}
	for (int i = 0; i < load.nfeeds; i++)
		take_feed(&load.feeds[i]);
	drop_gone();
	return true;
}

/* ---- failures ---- */

typedef struct Note
{
	const TableState *state;
	const char *error;
} Note;

static void
note_body(void *arg)
{
	Note	   *note = arg;

	state_fail_row(note->state, note->error);
}

void
tables_note(Chain *chain, const char *error)
{
	char		text[MAX_ERROR];
	TxnError	why;
	Note		note = {chain->table ? &chain->table->state : NULL, text};

	strlcpy(text, error, sizeof(text));
	ereport(LOG, (errmsg("sequin_proxy: reading %s: %s", chain->table ? chain->table->state.collection : "the change feed", text)));
	if (chain->table == NULL)
		return;
	if (!txn_run(note_body, &note, 500, &why))
		ereport(LOG, (errmsg("sequin_proxy: could not note what keeps %s from being read: %s", chain->table->state.collection, why.message)));
}

void
tables_failed(Chain *chain, const char *error)
{
	int			failures = chain->table ? ++chain->table->failures : ++chain->run->feed_failures;
	int64		retry_at = shared_now() + schedule_backoff_us(failures);

	if (chain->table != NULL)
		chain->table->retry_at = retry_at;
	else
	{
		chain->run->feed_retry_at = retry_at;
		chain->run->feed_tried |= failures >= 3;	/* backfills do not wait for ever */
	}
	tables_note(chain, error);
}

/* ---- the budget of long windows ---- */

int64
tables_spacing_us(const CatalogSync *sync)
{
	LimitWindowInfo info[RATE_MAX_WINDOWS];
	ScheduleWindow windows[RATE_MAX_WINDOWS];
	int			n = limiter_windows(catalog_limit(sync, "default"), info, RATE_MAX_WINDOWS);

	for (int i = 0; i < n; i++)
		windows[i] = (ScheduleWindow) {info[i].limit, info[i].period_us};
	return schedule_spacing_us(windows, n);
}

/* ---- planning ---- */

typedef struct Due
{
	SyncTable  *table;
	ChainJob	job;
	int64		at;
	bool		wanted;
} Due;

typedef struct Plan
{
	Loop	   *loop;
	SyncRun    *run;
	CatalogSync *sync;
	int64		now;
	int64		next;			/* the next due time that is not yet */
	Due		   *due;
	int			ndue;
} Plan;

static void
add_due(Plan *plan, SyncTable *t, ChainJob job, int64 at, bool wanted)
{
	if (at == SCHEDULE_NONE || t->chains[job] != NULL)
		return;
	if (at > plan->now)
		plan->next = Min(plan->next, at);
	else
		plan->due[plan->ndue++] = (Due) {t, job, at, wanted};
}

static void
refill_body(void *arg)
{
	state_refill_row(arg);
}

void
tables_refill(SyncTable *table)
{
	TxnError	error;

	/* its epoch moves, and with it the generation: the next load takes it from there */
	if (!txn_run(refill_body, &table->state, 500, &error))
		table->retry_at = shared_now() + schedule_backoff_us(++table->failures);
}

/* Columns that are new: where the API can be asked for the records that have a value, these alone are read. */
static void
plan_fill(Plan *plan, SyncTable *t, const Reading *reading)
{
	if (t->state.fill[0] == '\0' || t->state.phase != TABLE_LIVE || t->retry_at > plan->now)
		return;
	if (reading->field)
		add_due(plan, t, CHAIN_FIELD, Max(t->retry_at, 0), false);
	else
		tables_refill(t);
}

static bool
end_is_filled(SyncRun *run, const char *collection)
{
	SyncTable  *t = table_of(run, collection);

	return t == NULL || t->state.live_at != SCHEDULE_NEVER;
}

/* Associations are asked for by the records of the mirror: those have to be there. */
static void
plan_links_backfill(Plan *plan, SyncTable *t, const SchemaCollection *c)
{
	if (end_is_filled(plan->run, c->from) && end_is_filled(plan->run, c->to))
		add_due(plan, t, CHAIN_LINKS, Max(t->retry_at, 0), false);
}

static void
plan_backfill(Plan *plan, SyncTable *t, const Reading *reading)
{
	bool		down_only = reading->down && !t->no_down && !reading->list_whole;

	if (reading->feed && !plan->run->feed_tried)
		return;					/* so that the feed tells of what changes meanwhile */
	if (reading->list && !down_only && !t->state.list_done)
		add_due(plan, t, CHAIN_LIST, Max(t->retry_at, 0), false);
	/* the second reading is worth its calls where there are many records */
	if (reading->down && !t->no_down && !t->state.down_done && (down_only || t->state.down_last[0] || t->state.rows_done >= MANY_ROWS))
		add_due(plan, t, CHAIN_DOWN, Max(t->retry_at, 0), false);
}

static void
plan_fresh(Plan *plan, SyncTable *t, const SchemaCollection *c, const Reading *reading)
{
	SyncRun    *run = plan->run;
	ScheduleTimes times = {plan->sync->poll_us, plan->sync->sweep_us};
	ScheduleTable s = {
		.phase = t->state.phase,.links = c->kind == COLLECTION_LINKS,.changes = reading->changes && !t->no_changes,
		.feed = reading->feed && run->feed_works,.live_at = t->state.live_at,.polled_at = t->state.polled_at,
		.swept_at = t->state.swept_at,.sweep_took_us = t->sweep_took_us,.sweep_wanted = t->state.sweep_wanted,
		.wanted_poll_at = run->wanted_poll,.wanted_sweep_at = run->wanted_sweep,.retry_at = t->retry_at,
	};
	bool		wanted;
	int64		at = schedule_poll(&s, &times, &wanted);

	add_due(plan, t, CHAIN_POLL, at, wanted);
	at = schedule_sweep(&s, &times, &wanted);
	/* what is swept on demand is swept with the schema of now */
	if (wanted && run->wanted_sweep != SCHEDULE_NEVER && run->checked_at < run->wanted_sweep &&
		discovery_wanted(plan->loop, plan->sync->view.name, run->wanted_sweep))
		return;
	add_due(plan, t, s.links ? CHAIN_LINKS : CHAIN_SWEEP, at, wanted);
	if (s.links && dirty_any(t))
		add_due(plan, t, CHAIN_DIRTY, Max(t->retry_at, 0), true);
}

static void
plan_table(Plan *plan, SyncTable *t)
{
	SchemaCollection *c = schema_find(&plan->sync->schema, str_of(t->state.collection));
	Reading		reading = {0};

	if (!t->kept || c == NULL || !c->enabled || c->removed)
		return;
	plan->sync->provider->reading(&plan->sync->view, c, &reading);
	if (t->state.phase != TABLE_LIVE && c->kind == COLLECTION_LINKS)
		plan_links_backfill(plan, t, c);
	else if (t->state.phase != TABLE_LIVE)
		plan_backfill(plan, t, &reading);
	plan_fill(plan, t, &reading);
	if (t->state.live_at != SCHEDULE_NEVER)
		plan_fresh(plan, t, c, &reading);
}

static void
plan_feed(Plan *plan)
{
	SyncRun    *run = plan->run;
	ScheduleTimes times = {plan->sync->poll_us, plan->sync->sweep_us};
	bool		any = false;
	bool		wanted;
	int64		at;

	for (SyncTable *t = run->tables; t != NULL && !any; t = t->next)
	{
		SchemaCollection *c = schema_find(&plan->sync->schema, str_of(t->state.collection));
		Reading		reading = {0};

		if (c != NULL)
			plan->sync->provider->reading(&plan->sync->view, c, &reading);
		any = reading.feed;
	}
	if (!any || run->feed_chain != NULL)
		return;
	at = schedule_feed(run->feed_polled_at, run->wanted_poll, run->feed_retry_at, &times, &wanted);
	if (at <= plan->now)
		chain_start(plan->loop, run, NULL, CHAIN_FEED, wanted);
	else
		plan->next = Min(plan->next, at);
}

static int
compare_due(const void *a, const void *b)
{
	const Due  *x = a;
	const Due  *y = b;

	if (x->wanted != y->wanted)
		return x->wanted ? -1 : 1;
	return x->at < y->at ? -1 : x->at > y->at;
}

static void
start_due(Plan *plan)
{
	SyncRun    *run = plan->run;

	qsort(plan->due, plan->ndue, sizeof(Due), compare_due);
	for (int i = 0; i < plan->ndue && run->nchains < MAX_CHAINS; i++)
	{
		Due		   *d = &plan->due[i];
		bool		backfill = d->job == CHAIN_LIST || d->job == CHAIN_DOWN;

		/* an end at once (no ids, no sync) may have changed what the others found */
		if ((backfill && run->nbackfills >= MAX_BACKFILLS) || d->table->chains[d->job] != NULL)
			continue;
		chain_start(plan->loop, run, d->table, d->job, d->wanted);
	}
}

static void
resume_chain(Plan *plan, Chain *chain)
{
	int64		now = clock_us();

	if (chain == NULL || chain->resume_us == 0)
		return;
	if (chain->resume_us <= now)
		chain_resume(chain);
	else
		plan->next = Min(plan->next, plan->now + (chain->resume_us - now));
}

static void
plan_run(Plan *plan)
{
	SyncRun    *run = plan->run;
	int			ntables = 0;
	TimestampTz polled;
	TimestampTz swept;

	shared_wanted(run->key, &polled, &swept);
	run->wanted_poll = polled ? polled : SCHEDULE_NEVER;
	run->wanted_sweep = swept ? swept : SCHEDULE_NEVER;
	resume_chain(plan, run->feed_chain);
	for (SyncTable *t = run->tables; t != NULL; t = t->next, ntables++)
		for (ChainJob job = 0; job < CHAIN_JOBS; job++)
			resume_chain(plan, t->chains[job]);
	plan->due = palloc(sizeof(Due) * (ntables * CHAIN_JOBS + 1));
	plan_feed(plan);
	for (SyncTable *t = run->tables; t != NULL; t = t->next)
		plan_table(plan, t);
	start_due(plan);
	pfree(plan->due);
}

static void
reload_when_moved(Catalog *catalog)
{
	if (catalog->generation == seen_generation && reload_us == 0)
		return;
	if (reload_us > clock_us())
		return;
	if (load_tables())
	{
		seen_generation = catalog->generation;
		reload_us = 0;
	}
	else
		reload_us = clock_us() + RELOAD_RETRY_MS * 1000;
}

/*
 * Of paused syncs and dropped tables too: only there does a cancelled chain see that it is to end.  True: a page that
 * had come before has its turn next.
 */
static bool
apply_pages(void)
{
	bool		more = false;

	for (SyncRun *run = runs; run != NULL; run = run->next)
	{
		if (run->feed_chain != NULL)
			more |= chain_apply_due(run->feed_chain);
		for (SyncTable *t = run->tables; t != NULL; t = t->next)
			for (ChainJob job = 0; job < CHAIN_JOBS; job++)
				if (t->chains[job] != NULL)
					more |= chain_apply_due(t->chains[job]);
	}
	return more;
}

int
tables_turn(Loop *loop)
{
	Catalog    *catalog = catalog_current();
	int64		now = shared_now();
	int64		next = now + MAX_SLEEP_MS * INT64CONST(1000);

	if (apply_pages())
		next = now;
	if (catalog == NULL || !catalog->installed)
		return -1;
	reload_when_moved(catalog);
	if (reload_us != 0)
		next = Min(next, now + RELOAD_RETRY_MS * INT64CONST(1000));
	for (SyncRun *run = runs; run != NULL; run = run->next)
	{
		CatalogSync *sync = catalog_sync_by_key(catalog, run->key);
		Plan		plan = {.loop = loop,.run = run,.sync = sync,.now = now,.next = next};

		if (sync == NULL || sync->paused || sync->proxy_only || !sync->ready || !run->kept)
			continue;
		plan_run(&plan);
		next = plan.next;
	}
	return next > now ? (int) ((next - now) / 1000) + 1 : 0;
}
