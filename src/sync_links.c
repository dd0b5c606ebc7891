/*
 * sync_links.c - which records' associations are to be asked for next (sync_internal.h).
 *
 * Owns the ids of link readings: for a backfill or a sweep all records of one side, in the order of
 * the mirror's key, and for a sweep also what links name and the mirror does not have; after a poll the
 * records that it brought.  Called by sync_jobs.c.
 */
#include "sync_internal.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "mirror_scan.h"

#define MOST_DIRTY 2000			/* more records than these are a sweep's business */

/* ---- after a poll ---- */

void
dirty_forget(SyncTable *links)
{
	for (int side = 0; side < 2; side++)
	{
		for (int i = 0; i < links->dirty[side].count; i++)
			pfree(links->dirty[side].ids[i]);
		links->dirty[side].count = 0;
	}
}

void
dirty_add(SyncTable *links, bool is_to, const char *id)
{
	DirtyIds   *d = &links->dirty[is_to];

	if (id == NULL || links->state.live_at == SCHEDULE_NEVER)
		return;					/* a backfill will come by */
	if (d->count >= MOST_DIRTY)
	{
		links->state.sweep_wanted = true;	/* in memory: after a restart the interval sees to it */
		dirty_forget(links);
		return;
	}
	if (d->count == d->cap)
	{
		d->cap = d->cap ? d->cap * 2 : 16;
		d->ids = d->ids ? repalloc(d->ids, sizeof(char *) * d->cap) : MemoryContextAlloc(TopMemoryContext, sizeof(char *) * d->cap);
	}
	d->ids[d->count++] = MemoryContextStrdup(TopMemoryContext, id);
}

bool
dirty_any(const SyncTable *links)
{
	return links->dirty[0].count + links->dirty[1].count > 0;
}

void
dirty_return(Chain *chain)
{
	for (int i = 0; i < chain->nids; i++)
		dirty_add(chain->table, chain->ids_are_to, chain->ids[i]);
}

static void
take_dirty(Chain *chain, int most)
{
	SyncTable  *t = chain->table;
	DirtyIds   *d = &t->dirty[t->dirty[0].count == 0];

	chain->ids_are_to = t->dirty[0].count == 0;
	chain->ids = MemoryContextAlloc(chain->cx, sizeof(char *) * (most + 1));
	while (chain->nids < most && d->count > 0)
	{
		char	   *id = d->ids[--d->count];

		chain->ids[chain->nids++] = MemoryContextStrdup(chain->cx, id);
		pfree(id);
	}
}

/* ---- all of one side ---- */

typedef struct LinksScan
{
	Chain	   *chain;
	CatalogSync *sync;
	SchemaCollection *links;
	int			most;
} LinksScan;

static void
scan_body(void *arg)
{
	LinksScan  *scan = arg;
	Chain	   *chain = scan->chain;
	const char *side = chain->ids_are_to ? scan->links->to : scan->links->from;
	char	  **ids;
	int			n = chain->orphans
		? mirror_scan_orphans(scan->sync, scan->links, chain->ids_are_to, chain->cursor, scan->most, &ids)
		: mirror_scan_ids(scan->sync, schema_find(&scan->sync->schema, str_of(side)), chain->cursor, DT_NOEND, scan->most, &ids);

	chain->ids = MemoryContextAlloc(chain->cx, sizeof(char *) * (n + 1));
	for (int i = 0; i < n; i++)
		chain->ids[i] = MemoryContextStrdup(chain->cx, ids[i]);
	chain->nids = n;
}

static int64
rows_of(SyncRun *run, const char *collection)
{
	SyncTable  *t = table_of(run, collection);

	return t ? t->state.rows_done : 0;
}

/* The smaller side costs fewer calls; one that was begun goes on as it was. */
static void
choose_side(Chain *chain, const SchemaCollection *links)
{
	const TableState *s = &chain->table->state;

	if (chain->cursor != NULL && s->phase == TABLE_BACKFILL && s->list_cursor[0])
		chain->ids_are_to = strcmp(s->list_last, "to") == 0;
	else
		chain->ids_are_to = rows_of(chain->run, links->to) < rows_of(chain->run, links->from);
}

static void
forget_ids(Chain *chain)
{
	for (int i = 0; i < chain->nids; i++)
		pfree(chain->ids[i]);
	if (chain->ids != NULL)
		pfree(chain->ids);
	chain->ids = NULL;
	chain->nids = 0;
}

bool
links_next_ids(Chain *chain, CatalogSync *sync, int most, TxnError *error)
{
	SchemaCollection *links = schema_find(&sync->schema, str_of(chain->table->state.collection));
	LinksScan	scan = {chain, sync, links, most};

	if (links == NULL || links->kind != COLLECTION_LINKS)
		return true;
	if (chain->nids > 0 && chain->job == CHAIN_LINKS && chain->attempts == 0)
	{
		if (chain->cursor != NULL)
			pfree(chain->cursor);
		chain->cursor = MemoryContextStrdup(chain->cx, chain->ids[chain->nids - 1]);
	}
	if (chain->attempts > 0 && chain->nids > 0)
		return true;			/* the same ones once more */
	forget_ids(chain);
	if (chain->job == CHAIN_DIRTY)
	{
		take_dirty(chain, most);
		return true;
	}
	if (chain->pages == 0)
		choose_side(chain, links);
	if (!txn_run(scan_body, &scan, 500, error))
		return false;
	if (chain->nids > 0 || chain->orphans || chain->table->state.phase != TABLE_LIVE)
		return true;
	/* a sweep's last: links of records that we do not have, which nobody else asks for */
	chain->orphans = true;
	if (chain->cursor != NULL)
		pfree(chain->cursor);
	chain->cursor = NULL;
	return txn_run(scan_body, &scan, 500, error);
}
