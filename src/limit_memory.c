/*
 * limit_memory.c - sequin.limit_memory: what long rate-limit windows hold (limit_memory.h).
 *
 * The limiter's own file (limit_store.c) stays on its machine, so a standby that takes over would know nothing of what
 * the old primary sent today.  Windows up to a minute need no memory: they start as used up.  Written by the sync
 * process only, and only what moved; read by whoever loads the first catalog after a promotion.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "catalog.h"
#include "limit_memory.h"
#include "limiter.h"
#include "txn.h"

#define LONG_PERIOD_US INT64CONST(60000000)
#define LOCK_MS 100

typedef struct Save
{
	LimitUsage *usage;
	int			count;
} Save;

static Datum
array_of(Datum *values, int n, Oid type)
{
	return PointerGetDatum(type == INT8OID ? construct_array(values, n, INT8OID, 8, true, TYPALIGN_DOUBLE)
						   : construct_array(values, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* A count that stands still is written anew now and then: its time is that of its youngest requests. */
static void
save_body(void *arg)
{
	Save	   *save = arg;
	Oid			types[] = {TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID, INT8ARRAYOID};
	Datum	   *columns[4];
	Datum		args[4];
	int			n = 0;

	for (int i = 0; i < 4; i++)
		columns[i] = palloc(sizeof(Datum) * (save->count + 1));
	for (int i = 0; i < save->count; i++)
	{
		const LimitUsage *u = &save->usage[i];

		if (u->period_us <= LONG_PERIOD_US)
			continue;
		columns[0][n] = CStringGetTextDatum(u->sync_name);
		columns[1][n] = CStringGetTextDatum(u->bucket);
		columns[2][n] = Int64GetDatum(u->period_us);
		columns[3][n++] = Int64GetDatum(u->used);
	}
	if (n == 0)
		return;
	for (int i = 0; i < 4; i++)
		args[i] = array_of(columns[i], n, i < 2 ? TEXTOID : INT8OID);
	if (SPI_execute_with_args("INSERT INTO sequin.limit_memory AS m (sync, bucket, period_us, used, at) "
							  "SELECT s.name, x.b, x.p, x.u, pg_catalog.now() "
							  "FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4)) AS x(s, b, p, u) "
							  "JOIN sequin.sync s ON s.name OPERATOR(pg_catalog.=) x.s ORDER BY 1, 2, 3 "
							  "ON CONFLICT (sync, bucket, period_us) DO UPDATE SET used = excluded.used, at = excluded.at "
							  "WHERE m.used OPERATOR(pg_catalog.<>) excluded.used OR (m.used OPERATOR(pg_catalog.>) 0 AND m.at OPERATOR(pg_catalog.<) "
							  "  (excluded.at OPERATOR(pg_catalog.-) pg_catalog.make_interval(secs => m.period_us OPERATOR(pg_catalog./) 100000000.0)))",
							  4, types, args, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "sequin_proxy: could not save what long rate limits hold");
}

void
limit_memory_save(void)
{
	Catalog    *catalog = catalog_current();
	Save		save = {0};
	TxnError	error;

	if (catalog == NULL || !catalog->installed)
		return;
	save.count = limiter_usage(&save.usage);
	if (!txn_run(save_body, &save, LOCK_MS, &error))
		ereport(LOG, (errmsg("sequin_proxy: could not save what long rate limits hold: %s", error.message)));
}

static void
take_row(LimitMemory *memory, HeapTuple tuple, TupleDesc desc)
{
	bool		null;
	char	   *bucket = SPI_getvalue(tuple, desc, 2);

	memcpy(memory->sync, DatumGetUUIDP(SPI_getbinval(tuple, desc, 1, &null))->data, sizeof(memory->sync));
	strlcpy(memory->bucket, bucket ? bucket : "", sizeof(memory->bucket));
	memory->period_us = DatumGetInt64(SPI_getbinval(tuple, desc, 3, &null));
	memory->used = DatumGetInt64(SPI_getbinval(tuple, desc, 4, &null));
	memory->ago_us = DatumGetInt64(SPI_getbinval(tuple, desc, 5, &null));
}

void
limit_memory_tell(void)
{
	LimitMemory *memory;
	int			n;

	if (SPI_execute("SELECT s.id, m.bucket, m.period_us, m.used, GREATEST(0, (EXTRACT(epoch FROM pg_catalog.now() OPERATOR(pg_catalog.-) m.at) "
					"  OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8) FROM sequin.limit_memory m JOIN sequin.sync s ON s.name OPERATOR(pg_catalog.=) m.sync",
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "sequin_proxy: could not read what long rate limits hold");
	n = (int) SPI_processed;
	memory = palloc0(sizeof(LimitMemory) * (n + 1));
	for (int i = 0; i < n; i++)
		take_row(&memory[i], SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
	limiter_remember(memory, n);
}
