/*
 * sync_jobs.c - what each kind of reading asks for, and what its pages mean for the table's state
 * (sync_internal.h).
 *
 * Owns the rules of backfill (a list that goes up, and where the API allows it a second reading that
 * comes down to meet it), poll, sweep, links and feed.  Called by sync_chain.c; the only SQL
 * here is job_finished's transaction.
 */
#include "sync_internal.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "fault_point.h"
#include "shared.h"
#include "times.h"

/*
 * A search index shows a change seconds later, now and then much later.  So polls overlap a little each time and
 * a lot every ten minutes; what is later still is the sweep's.
 */
#define OVERLAP_US (20 * USECS_PER_SEC)
#define LATE_OVERLAP_US (660 * USECS_PER_SEC)
#define LATE_EVERY_US (600 * USECS_PER_SEC)
#define CLOCK_STEP_US (2 * USECS_PER_SEC)	/* the API's clock is told in whole seconds */

/* ---- asking ---- */

bool
job_is_routine(const Chain *chain)
{
	if (chain->wanted)
		return false;
	if (chain->job == CHAIN_LINKS)
		return chain->table->state.phase == TABLE_LIVE;
	return chain->job == CHAIN_POLL || chain->job == CHAIN_SWEEP || chain->job == CHAIN_FEED;
}

static Str
other_reading(const char *seen, bool in_use)
{
	return in_use && seen[0] ? str_of(seen) : STR_NULL;
}

static bool
links_request(Chain *chain, CatalogSync *sync, PageRequest *request, TxnError *error)
{
	SchemaCollection *c = schema_find(&sync->schema, str_of(request->collection));
	Reading		reading = {0};

	if (c != NULL)
		sync->provider->reading(&sync->view, c, &reading);
	if (reading.link_ids == 0 || !links_next_ids(chain, sync, reading.link_ids, error) || chain->nids == 0)
		return false;
	request->kind = PAGE_LINKS;
	request->cursor = STR_NULL;
	request->nids = chain->nids;
	request->ids_are_to = chain->ids_are_to;
	request->ids = palloc(sizeof(Str) * chain->nids);	/* of the turn; the errand copies it */
	for (int i = 0; i < chain->nids; i++)
		request->ids[i] = str_of(chain->ids[i]);
	return true;
}

/* The field that a chain fills: the first of the list, and the same one to its end. */
static char *
first_word(MemoryContext cx, char *chosen, const char *list)
{
	size_t		n = strcspn(list, " ");
	char	   *word;

	if (chosen != NULL || n == 0)
		return chosen;
	word = MemoryContextAlloc(cx, n + 1);
	memcpy(word, list, n);
	word[n] = '\0';
	return word;
}

/*
 * Where the backfill came down by the search index, that part of the records is asked for once more with the
 * overlap; the list needs none.
 */
static bool
is_tail(const Chain *chain)
{
	return chain->table->state.phase == TABLE_LIVE && chain->table->state.down_last[0];
}

static int64
poll_since(Chain *chain)
{
	SyncTable  *t = chain->table;
	int64		since = t->state.since_us;

	if (chain->pages == 0 && chain->fetching == NULL && chain->page == NULL)
	{
		if (is_tail(chain) && chain->cursor == NULL)
			chain->cursor = MemoryContextStrdup(chain->cx, t->state.down_last);
		chain->tail = is_tail(chain);
		chain->late = !chain->tail && chain->began_us - t->late_us >= LATE_EVERY_US;
	}
	if (since == TIME_NONE)
		return 0;
	return chain->tail ? since - OVERLAP_US : chain->late ? since - LATE_OVERLAP_US : since;
}

bool
job_request(Chain *chain, CatalogSync *sync, PageRequest *request, TxnError *error)
{
	static const PageKind kinds[] = {
		[CHAIN_LIST] = PAGE_LIST,[CHAIN_DOWN] = PAGE_DOWN,[CHAIN_LINKS] = PAGE_LINKS,[CHAIN_POLL] = PAGE_CHANGES,[CHAIN_FIELD] = PAGE_FIELD,
		[CHAIN_SWEEP] = PAGE_LIST,[CHAIN_DIRTY] = PAGE_LINKS,[CHAIN_FEED] = PAGE_FEED,
	};
	SyncTable  *t = chain->table;
	int64		since = 0;

	memset(error, 0, sizeof(*error));
	if (chain->job == CHAIN_POLL)
		since = poll_since(chain);	/* it may set the cursor */
	*request = (PageRequest) {.kind = kinds[chain->job],.cursor = str_of(chain->cursor),.until_id = STR_NULL,.field = STR_NULL};
	request->collection = t ? t->state.collection : NULL;
	switch (chain->job)
	{
		case CHAIN_LINKS:
		case CHAIN_DIRTY:
			return links_request(chain, sync, request, error);
		case CHAIN_LIST:
			request->until_id = other_reading(t->down_seen, !t->no_down);
			break;
		case CHAIN_DOWN:
			request->until_id = str_of(t->list_seen[0] ? t->list_seen : NULL);
			break;
		case CHAIN_POLL:
			request->since_us = since;
			break;
		case CHAIN_FIELD:
			chain->field = first_word(chain->cx, chain->field, t->state.fill);
			request->field = str_of(chain->field);
			return chain->field != NULL;
		case CHAIN_FEED:
			request->since_us = GetCurrentTimestamp() + UNIX_EPOCH_US;
			break;
		case CHAIN_SWEEP:
		case CHAIN_JOBS:
			break;
	}
	return true;
}

/* ---- what came ---- */

static void
note_last(char *to, const PageResult *result)
{
	Str			last = result->nids > 0 ? result->ids[result->nids - 1] : STR_NULL;

	if (last.p == NULL || last.n >= STATE_ID)
		return;
	memcpy(to, last.p, last.n);
	to[last.n] = '\0';
}

/* The two readings cannot meet: the list goes to its end alone. */
static void
give_up_down(SyncTable *t)
{
	t->no_down = true;
	t->down_seen[0] = '\0';
	if (t->chains[CHAIN_DOWN] != NULL)
		chain_cancel(t->chains[CHAIN_DOWN]);
}

bool
job_received(Chain *chain, const PageResult *result)
{
	SyncTable  *t = chain->table;

	if (chain->job == CHAIN_DOWN && !result->ordered)
	{
		job_refused(chain, "its answers are not in the order asked for");
		return false;
	}
	if (chain->job == CHAIN_LIST && result->ordered)
		note_last(t->list_seen, result);
	else if (chain->job == CHAIN_LIST)
		give_up_down(t);
	if (chain->job == CHAIN_DOWN)
		note_last(t->down_seen, result);
	if (chain->job == CHAIN_POLL && result->newest_us != TIME_NONE)
		chain->newest_us = chain->newest_us == TIME_NONE ? result->newest_us : Max(chain->newest_us, result->newest_us);
	return true;
}

static void
set_cursor(char *to, Str cursor)
{
	/* one that is too long to keep: a kill repeats a few pages more */
	if (cursor.p == NULL || cursor.n >= STATE_CURSOR)
		return;
	memcpy(to, cursor.p, cursor.n);
	to[cursor.n] = '\0';
}

static void
complete(Chain *chain, TableState *s)
{
	s->list_done = s->down_done = true;
	s->phase = TABLE_LIVE;
	s->live_at = shared_now();
	/* the poll that follows asks for everything since then */
	s->polled_at = Max(s->polled_at, s->started_at);
	/* where two readings met, some records came twice */
	if (s->rows_total < 0 || s->rows_total > s->rows_done)
		s->rows_total = s->rows_done;
	s->rows_done = s->rows_total;
	s->list_cursor[0] = '\0';
}

static void
begin(Chain *chain, TableState *s)
{
	if (s->phase == TABLE_BACKFILL)
		return;
	s->phase = TABLE_BACKFILL;
	s->started_at = chain->started_at;
	if (s->live_at == SCHEDULE_NEVER)
		chain->table->late_us = chain->began_us;
	if (s->since_us == TIME_NONE)
		s->since_us = (chain->api_time_us != TIME_NONE ? chain->api_time_us : chain->started_at + UNIX_EPOCH_US) - CLOCK_STEP_US;
}

static void
advance_list(Chain *chain, const PageResult *result, TableState *s)
{
	begin(chain, s);
	set_cursor(s->list_cursor, result->next);
	if (result->ordered)
		note_last(s->list_last, result);
	s->rows_done += result->nids;
	if (result->total >= 0)
		s->rows_total = result->total;
	if (result->next.p != NULL)
		return;
	if (result->met && !s->down_done && chain->table->no_down)
		return;					/* whom it met has given up meanwhile: once more, to the end */
	s->list_done = true;
	if (!result->met || s->down_done)
		complete(chain, s);
}

static void
advance_down(Chain *chain, const PageResult *result, TableState *s)
{
	note_last(s->down_last, result);
	s->rows_done += result->nids;
	if (result->total >= 0 && chain->first && chain->page_cursor == NULL)
		s->rows_total = result->total;
	if (result->next.p != NULL)
		return;
	s->down_done = true;
	if (!result->met || s->list_done)
		complete(chain, s);
}

/* From where the next poll asks: by the API's clock, with an overlap for its index; never backwards. */
static void
advance_poll(Chain *chain, TableState *s)
{
	int64		since = chain->api_time_us != TIME_NONE ? chain->api_time_us : chain->newest_us;

	if (chain->tail)
	{
		s->down_last[0] = '\0';	/* now for what has changed since */
		return;
	}
	if (chain->late)
		chain->table->late_us = chain->began_us;
	if (since != TIME_NONE && (s->since_us == TIME_NONE || since - OVERLAP_US > s->since_us))
		s->since_us = since - OVERLAP_US;
	s->polled_at = chain->started_at;
}

static int
count_links(const Chain *chain)
{
	int			n = 0;

	for (int i = 0; chain->page != NULL && i < chain->page->conv.changes.count; i++)
		n += chain->page->conv.changes.items[i].op == CHANGE_LINK;
	return n;
}

void
job_advance(Chain *chain, const PageResult *result)
{
	TableState *s = &chain->next;

	switch (chain->job)
	{
		case CHAIN_LIST:
			advance_list(chain, result, s);
			break;
		case CHAIN_DOWN:
			advance_down(chain, result, s);
			break;
		case CHAIN_POLL:
			if (chain->no_more)
				advance_poll(chain, s);
			break;
		case CHAIN_LINKS:
			if (s->phase == TABLE_LIVE)
				break;
			begin(chain, s);
			s->rows_done += count_links(chain);
			set_cursor(s->list_cursor, str_of(chain->nids > 0 ? chain->ids[chain->nids - 1] : NULL));
			strlcpy(s->list_last, chain->ids_are_to ? "to" : "from", sizeof(s->list_last));
			break;
		default:
			break;
	}
}

bool
job_saves_page(const Chain *chain)
{
	switch (chain->job)
	{
		case CHAIN_LIST:
		case CHAIN_DOWN:
			return true;
		case CHAIN_LINKS:
			return chain->next.phase == TABLE_BACKFILL;
		case CHAIN_POLL:
			return chain->no_more;
		default:
			return false;
	}
}

/* ---- done ---- */

static void
feed_committed(Chain *chain)
{
	SyncRun    *run = chain->run;
	const PageResult *result = &chain->page->conv.result;

	if (result->next.p != NULL)
	{
		if (run->feed != NULL)
			pfree(run->feed);
		run->feed = MemoryContextAlloc(TopMemoryContext, result->next.n + 1);
		memcpy(run->feed, result->next.p, result->next.n);
		run->feed[result->next.n] = '\0';
	}
	run->feed_tried = run->feed_works = true;
	run->feed_failures = 0;
	run->feed_retry_at = SCHEDULE_NEVER;
	for (SyncTable *t = run->tables; t != NULL; t = t->next)
		if (t->state.live_at != SCHEDULE_NEVER)
		{
			t->state.sweep_wanted |= result->gap;
			if (chain->no_more)
				t->state.polled_at = chain->started_at;
		}
	if (chain->no_more)
		run->feed_polled_at = chain->started_at;
}

static void
goes_well(SyncTable *t)
{
	t->failures = 0;
	t->retry_at = SCHEDULE_NEVER;
}

void
job_committed(Chain *chain)
{
	SyncTable  *t = chain->table;

	if (t == NULL)
	{
		feed_committed(chain);
		return;
	}
	if (job_saves_page(chain))
		t->state = chain->next;
	goes_well(t);
	/* one of the two has seen everything: the other is not needed any more */
	if (t->state.phase == TABLE_LIVE)
		for (ChainJob job = CHAIN_LIST; job <= CHAIN_DOWN; job++)
			if (t->chains[job] != NULL && t->chains[job] != chain)
				chain_cancel(t->chains[job]);
}

static void
filled_body(void *arg)
{
	Chain	   *chain = arg;

	state_filled_row(&chain->table->state, chain->field);
}

/* The list in memory too, so that the next one has its turn. */
static bool
field_finished(Chain *chain, TxnError *error)
{
	char	   *fill = chain->table->state.fill;
	size_t		n = chain->field ? strlen(chain->field) : 0;

	if (n == 0)
		return true;
	if (!txn_run(filled_body, chain, 500, error))
		return false;
	if (strncmp(fill, chain->field, n) == 0 && (fill[n] == ' ' || fill[n] == '\0'))
		memmove(fill, fill + n + (fill[n] == ' '), strlen(fill + n + (fill[n] == ' ')) + 1);
	return true;
}

static void
finish_body(void *arg)
{
	Chain	   *chain = arg;

	chain->void_state = !state_save_row(&chain->next, chain->bad_rows);
	FAULT_IN_TXN("page.finished");
}

bool
job_finished(Chain *chain, TxnError *error)
{
	TableState *s = &chain->next;
	SyncTable  *t = chain->table;

	if (chain->job == CHAIN_FIELD)
		return field_finished(chain, error);
	if (chain->job != CHAIN_SWEEP && chain->job != CHAIN_LINKS)
		return true;
	*s = t->state;
	if (chain->job == CHAIN_LINKS && s->phase != TABLE_LIVE)
	{
		begin(chain, s);
		complete(chain, s);
	}
	else
		t->sweep_took_us = clock_us() - chain->began_us;
	s->swept_at = chain->started_at;
	s->polled_at = Max(s->polled_at, chain->started_at);
	s->sweep_wanted = false;
	if (!txn_run(finish_body, chain, 500, error))
		return false;
	if (!chain->void_state)
		t->state = *s;
	goes_well(t);
	return true;
}

/* ---- what cannot go on as it was ---- */

static void
save_body(void *arg)
{
	TableState *s = arg;

	state_save_row(s, true);
}

void
job_restart(Chain *chain)
{
	TableState	s;
	TxnError	error;

	if (chain->job == CHAIN_SWEEP)
		sweep_forget(chain);	/* what was seen by a list that broke off proves nothing */
	if (chain->job != CHAIN_LIST)
		return;
	s = chain->table->state;
	s.list_cursor[0] = s.list_last[0] = '\0';
	s.rows_done = 0;
	if (txn_run(save_body, &s, 500, &error))
		chain->table->state = s;
}

static void
refuse_down(SyncTable *t)
{
	TableState	s = t->state;
	TxnError	error;

	t->no_down = true;
	t->down_seen[0] = '\0';
	s.down_last[0] = '\0';
	s.down_done = false;
	if (s.phase == TABLE_BACKFILL)
		s.list_done = false;	/* it may have ended where the other was to come */
	if (txn_run(save_body, &s, 500, &error))
		t->state = s;
}

typedef struct FeedRefusal
{
	const SyncRun *run;
	const char *why;
} FeedRefusal;

static void
refused_feed_body(void *arg)
{
	FeedRefusal *refusal = arg;

	state_save_feed(refusal->run->key, NULL, refusal->why, SCHEDULE_NEVER, false);
}

/* Without the right to use a feed there are polls and sweeps; asked again once an hour. */
static void
refuse_feed(SyncRun *run, const char *why)
{
	FeedRefusal refusal = {run, why};
	TxnError	error;

	run->feed_tried = true;
	run->feed_works = false;
	run->feed_retry_at = shared_now() + SCHEDULE_SWEEP_US;
	(void) txn_run(refused_feed_body, &refusal, 500, &error);	/* it is only told: what matters is in memory */
}

void
job_refused(Chain *chain, const char *why)
{
	ereport(LOG, (errmsg("sequin_proxy: %s cannot be read that way: %s",
						 chain->table ? chain->table->state.collection : "the change feed", why)));
	if (chain->job == CHAIN_DOWN)
		refuse_down(chain->table);
	else if (chain->job == CHAIN_POLL)
		chain->table->no_changes = true;
	else if (chain->job == CHAIN_FIELD)
		tables_refill(chain->table);
	else if (chain->job == CHAIN_FEED)
		refuse_feed(chain->run, why);
	else
		tables_failed(chain, why);
}

void
job_written(Chain *chain)
{
	if (chain->job != CHAIN_POLL && chain->job != CHAIN_FEED)
		return;
	for (int i = 0; i < chain->item.nchanges; i++)
	{
		const Change *c = &chain->item.changes[i];

		if (chain->item.written == NULL || !chain->item.written[i] || c->id.p == NULL || (c->op != CHANGE_UPSERT && c->op != CHANGE_PATCH))
			continue;
		for (SyncTable *t = chain->run->tables; t != NULL; t = t->next)
		{
			const SchemaCollection *links = schema_find(&chain->item.sync->schema, str_of(t->state.collection));

			if (links == NULL || links->kind != COLLECTION_LINKS)
				continue;
			if (str_is(c->collection, links->from))
				dirty_add(t, false, arena_cstr(chain->item.arena, c->id));
			else if (str_is(c->collection, links->to))
				dirty_add(t, true, arena_cstr(chain->item.arena, c->id));
		}
	}
}
