/*
 * sync_sweep.c - what is gone from the API (sync_internal.h).
 *
 * A sweep reads a whole collection and notes each id that a page showed in a temporary table of
 * this session (so its size costs no memory).  Only when every page has come are the mirror's rows
 * looked through for those that no page showed and nobody confirmed meanwhile; each of these is
 * asked for by its id before it is deleted.  So a sweep that broke off, or a page that lacked
 * something, deletes nothing.  Called by sync_chain.c.
 */
#include "sync_internal.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "fault_point.h"
#include "mirror_scan.h"

#define SCAN_ROWS 1000			/* of the mirror, at a time */
#define SCAN_GONE 100			/* one re-read's worth */

static int	last_number;

static void
execute(const char *sql, int nargs, Oid *types, Datum *values)
{
	int			result = SPI_execute_with_args(sql, nargs, types, values, NULL, false, 0);

	if (result < 0)
		elog(ERROR, "sequin_proxy: could not note what a sweep has seen: %s", SPI_result_code_string(result));
}

static const char *
seen_table(int number)
{
	return psprintf("pg_temp.sequin_seen_%d", number);
}

void
sweep_note_seen(Chain *chain, const PageResult *result)
{
	Oid			types[] = {TEXTARRAYOID};
	Datum		values[] = {mirror_texts(result->ids, result->nids)};

	if (chain->seen_number == 0)
	{
		int			number = ++last_number;

		execute(psprintf("CREATE TEMPORARY TABLE sequin_seen_%d (id pg_catalog.text COLLATE \"C\" PRIMARY KEY)", number), 0, NULL, NULL);
		chain->seen_number = number;
		chain->seen_fresh = true;
	}
	execute(psprintf("INSERT INTO %s SELECT DISTINCT x FROM pg_catalog.unnest($1) AS x ON CONFLICT DO NOTHING", seen_table(chain->seen_number)),
			1, types, values);
}

/* Where the list shows only ids and versions: what the mirror lacks, or has older, is asked for. */
void
sweep_add_stale(Chain *chain, CatalogSync *sync, const PageResult *result)
{
	SchemaCollection *c = schema_find(&sync->schema, str_of(chain->table->state.collection));
	Reading		reading = {0};
	int		   *stale;
	int			n;

	if (c != NULL)
		sync->provider->reading(&sync->view, c, &reading);
	if (reading.list_whole || c == NULL)
		return;
	n = mirror_scan_stale(sync, c, result->ids, result->versions, result->nids, &stale);
	for (int i = 0; i < n; i++)
		if (change_add(&chain->targets, chain->page->arena, CHANGE_REREAD, str_of(c->collection), result->ids[stale[i]]) == NULL)
			ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
}

/* ---- rows that no page showed ---- */

typedef struct SweepScan
{
	Chain	   *chain;
	CatalogSync *sync;
} SweepScan;

/* Of these ids, those that were not seen. */
static void
add_unseen(Chain *chain, const char *collection, char **ids, int n)
{
	Str		   *list = palloc(sizeof(Str) * n);
	Oid			types[] = {TEXTARRAYOID};
	Datum		values[1];

	for (int i = 0; i < n; i++)
		list[i] = str_of(ids[i]);
	values[0] = mirror_texts(list, n);
	execute(psprintf("SELECT x FROM pg_catalog.unnest($1) AS x WHERE NOT EXISTS"
					 " (SELECT FROM %s AS s WHERE s.id OPERATOR(pg_catalog.=) x)", seen_table(chain->seen_number)), 1, types, values);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		char	   *id = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		Str			kept = arena_str(chain->scan_arena, id, strlen(id));

		if (kept.p == NULL || change_add(&chain->targets, chain->scan_arena, CHANGE_REREAD, str_of(collection), kept) == NULL)
			ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	}
}

static void
scan_body(void *arg)
{
	SweepScan  *scan = arg;
	Chain	   *chain = scan->chain;
	const char *collection = chain->table->state.collection;
	SchemaCollection *c = schema_find(&scan->sync->schema, str_of(collection));
	char	   *after = chain->scanned_to;

	chain->targets = (ChangeList) {0};
	for (int blocks = 0; blocks < 20 && chain->targets.count < SCAN_GONE; blocks++)
	{
		char	  **ids;
		int			n = mirror_scan_ids(scan->sync, c, after, chain->started_at, SCAN_ROWS, &ids);

		if (n > 0)
		{
			add_unseen(chain, collection, ids, n);
			after = ids[n - 1];
		}
		if (n < SCAN_ROWS)
		{
			chain->scan_done = true;
			break;
		}
	}
	chain->scanned_to = after ? MemoryContextStrdup(chain->cx, after) : NULL;
	FAULT_IN_TXN("sweep.scanned");
}

bool
sweep_scan_next(Chain *chain, CatalogSync *sync, TxnError *error)
{
	SweepScan	scan = {chain, sync};

	chain->targets = (ChangeList) {0};
	if (chain->scan_done)
		return true;
	chain->scan_from = chain->scanned_to;
	arena_destroy(chain->scan_arena);
	chain->scan_arena = arena_create();
	if (chain->scan_arena == NULL)
	{
		memset(error, 0, sizeof(*error));
		strlcpy(error->message, "out of memory", sizeof(error->message));
		return false;
	}
	return txn_run(scan_body, &scan, 500, error);
}

void
sweep_scan_again(Chain *chain)
{
	chain->targets = (ChangeList) {0};
	chain->scanned_to = chain->scan_from;
	chain->scan_done = false;
}

static void
forget_body(void *arg)
{
	Chain	   *chain = arg;

	execute(psprintf("DROP TABLE IF EXISTS %s", seen_table(chain->seen_number)), 0, NULL, NULL);
}

void
sweep_forget(Chain *chain)
{
	TxnError	error;

	if (chain->seen_number == 0)
		return;
	if (!txn_run(forget_body, chain, 500, &error))
		ereport(LOG, (errmsg("sequin_proxy: could not drop a sweep's temporary table: %s", error.message)));
	chain->seen_number = 0;
}
