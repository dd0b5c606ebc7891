/*
 * retention.c - what nobody needs any more goes: settled rows of sequin.write_log, old tombstones.
 *
 * Part of the sync process.  Deletes the oldest first, a chunk per transaction, so that neither a long lock
 * nor a long turn comes of it.  Never deletes a write whose outcome is still open, whatever the settings.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "settings.h"
#include "sync.h"
#include "txn.h"

#define CHUNK 10000
#define INTERVAL_US (INT64CONST(60) * 1000 * 1000)
#define MORE_US (INT64CONST(1000) * 1000)	/* the last chunk was a full one */
#define LOCK_MS 200
/* No page or answer is under way for so long that a tombstone of then could still keep it out. */
#define TOMBSTONE_LIFE "2 days"

static int64
delete_rows(const char *sql, int nargs, Oid *types, Datum *args)
{
	if (SPI_execute_with_args(sql, nargs, types, args, NULL, false, 0) != SPI_OK_DELETE)
		elog(ERROR, "sequin_proxy: could not delete what is too old");
	return (int64) SPI_processed;
}

/* Ids are in the order of sending: the first settled ones are the oldest, and none beyond them has to be looked at. */
static int64
delete_settled(void)
{
	Oid			types[] = {INT4OID, INT4OID, INT8OID};
	Datum		args[] = {Int32GetDatum(CHUNK), Int32GetDatum(setting_journal_retention), Int64GetDatum(setting_journal_max_rows)};

	return delete_rows("DELETE FROM sequin.write_log WHERE id OPERATOR(pg_catalog.=) ANY (ARRAY("
					   "  SELECT id FROM sequin.write_log WHERE state OPERATOR(pg_catalog.<>) ALL ('{intent,deferred}'::pg_catalog.text[])"
					   "  AND next_attempt_at IS NULL ORDER BY id LIMIT $1))"
					   " AND (at OPERATOR(pg_catalog.<) (pg_catalog.now() OPERATOR(pg_catalog.-) pg_catalog.make_interval(mins => $2))"
					   "  OR id OPERATOR(pg_catalog.<=) ((SELECT pg_catalog.max(id) FROM sequin.write_log) OPERATOR(pg_catalog.-) $3))",
					   3, types, args);
}

static int64
delete_tombstones(void)
{
	Oid			types[] = {INT4OID};
	Datum		args[] = {Int32GetDatum(CHUNK)};

	return delete_rows("DELETE FROM sequin.tombstone WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY("
					   "  SELECT ctid FROM sequin.tombstone WHERE at OPERATOR(pg_catalog.<)"
					   "  (pg_catalog.now() OPERATOR(pg_catalog.-) '" TOMBSTONE_LIFE "'::pg_catalog.interval) LIMIT $1))",
					   1, types, args);
}

static void
retention_body(void *arg)
{
	bool	   *more = arg;

	*more = delete_settled() == CHUNK;
	*more |= delete_tombstones() == CHUNK;
}

int
retention_turn(Loop *loop)
{
	static int64 next_us;
	Catalog    *catalog = catalog_current();
	int64		now = clock_us();
	bool		more = false;
	TxnError	error;

	if (catalog == NULL || !catalog->installed)
		return -1;
	if (now >= next_us || loop->reload)
	{
		if (!txn_run(retention_body, &more, LOCK_MS, &error))
			ereport(LOG, (errmsg("sequin_proxy: could not delete old rows of sequin.write_log and sequin.tombstone: %s", error.message)));
		next_us = now + (more ? MORE_US : INTERVAL_US);
	}
	return (int) ((next_us - now) / 1000) + 1;
}
