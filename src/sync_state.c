/*
 * sync_state.c - sequin.table_state <-> TableState (sync_state.h).
 *
 * Owns the SQL about the sync process's progress.  Called inside txn_run by sync_tables.c and
 * sync_chain.c; never touches a mirror table.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "sync_state.h"
#include "times.h"

static const char *const phase_names[] = {"waiting", "backfill", "live"};

static void
run(SPIPlanPtr *plan, const char *sql, int nargs, Oid *types, Datum *values, const char *nulls)
{
	int			result;

	if (*plan == NULL)
	{
		SPIPlanPtr	fresh = SPI_prepare(sql, nargs, types);

		if (fresh == NULL || SPI_keepplan(fresh) != 0)
			elog(ERROR, "sequin_proxy: could not prepare a statement: %s", SPI_result_code_string(SPI_result));
		*plan = fresh;
	}
	result = SPI_execute_plan(*plan, values, nulls, false, 0);
	if (result < 0)
		elog(ERROR, "sequin_proxy: could not execute a statement: %s", SPI_result_code_string(result));
}

/* ---- reading ---- */

static bool
get(uint64 row, int column, Datum *datum)
{
	bool		isnull;

	*datum = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);
	return !isnull;
}

/* False: it does not fit. */
static bool
get_text(uint64 row, int column, char *to, size_t size)
{
	Datum		datum;

	to[0] = '\0';
	return !get(row, column, &datum) || strlcpy(to, TextDatumGetCString(datum), size) < size;
}

static int64
get_int(uint64 row, int column, int64 otherwise)
{
	Datum		datum;

	return get(row, column, &datum) ? DatumGetInt64(datum) : otherwise;
}

static bool
get_bool(uint64 row, int column)
{
	Datum		datum;

	return get(row, column, &datum) && DatumGetBool(datum);
}

static TablePhase
get_phase(uint64 row, int column)
{
	char		name[16];

	get_text(row, column, name, sizeof(name));
	for (int i = 0; i < lengthof(phase_names); i++)
		if (strcmp(name, phase_names[i]) == 0)
			return i;
	return TABLE_WAITING;
}

/* False: not a row that we could have written. */
static bool
read_state(uint64 row, TableState *s)
{
	Datum		datum;
	int64		since;

	memset(s, 0, sizeof(*s));
	if (!get(row, 1, &datum))
		return false;
	memcpy(s->key, DatumGetUUIDP(datum)->data, sizeof(s->key));
	s->epoch = (int) get_int(row, 3, 0);
	s->phase = get_phase(row, 4);
	s->list_done = get_bool(row, 7);
	s->down_done = get_bool(row, 9);
	s->rows_done = get_int(row, 10, 0);
	s->rows_total = get_int(row, 11, -1);
	s->started_at = get_int(row, 12, SCHEDULE_NEVER);
	s->live_at = get_int(row, 13, SCHEDULE_NEVER);
	since = get_int(row, 14, SCHEDULE_NEVER);
	s->since_us = since == SCHEDULE_NEVER ? TIME_NONE : since + UNIX_EPOCH_US;
	s->polled_at = get_int(row, 15, SCHEDULE_NEVER);
	s->swept_at = get_int(row, 16, SCHEDULE_NEVER);
	s->sweep_wanted = get_bool(row, 17);
	get_text(row, 18, s->fill, sizeof(s->fill));	/* cut off: the rest has its turn later */
	return get_text(row, 2, s->collection, sizeof(s->collection)) &&
		get_text(row, 5, s->list_cursor, sizeof(s->list_cursor)) &&
		get_text(row, 6, s->list_last, sizeof(s->list_last)) && get_text(row, 8, s->down_last, sizeof(s->down_last));
}

int
state_load_rows(MemoryContext cx, TableState **states)
{
	static SPIPlanPtr make;
	static SPIPlanPtr load;
	int			n = 0;

	run(&make, "INSERT INTO sequin.table_state (sync, collection)"
		" SELECT m.sync, m.collection FROM sequin.mirror_table m"
		" WHERE m.enabled AND m.removed_at IS NULL AND NOT EXISTS (SELECT FROM sequin.table_state t"
		"  WHERE t.sync OPERATOR(pg_catalog.=) m.sync AND t.collection OPERATOR(pg_catalog.=) m.collection)"
		" ON CONFLICT DO NOTHING", 0, NULL, NULL, NULL);
	run(&load, "SELECT s.id, t.collection, t.epoch::pg_catalog.int8, t.phase, t.list_cursor, t.list_last, t.list_done, t.down_last, t.down_done,"
		" t.rows_done, t.rows_total, t.started_at, t.live_at, t.since, t.polled_at, t.swept_at, t.sweep_wanted,"
		" t.fill"
		" FROM sequin.table_state t"
		" JOIN sequin.mirror_table m ON m.sync OPERATOR(pg_catalog.=) t.sync AND m.collection OPERATOR(pg_catalog.=) t.collection"
		" JOIN sequin.sync s ON s.name OPERATOR(pg_catalog.=) t.sync"
		" JOIN sequin.sync_state st ON st.sync OPERATOR(pg_catalog.=) t.sync"
		" WHERE m.enabled AND m.removed_at IS NULL AND NOT s.paused AND s.config->'sync' IS DISTINCT FROM 'false'"
		" AND st.ready_at IS NOT NULL"
		"  AND st.state OPERATOR(pg_catalog.<>) 'discovering'"
		" ORDER BY s.id, t.collection", 0, NULL, NULL, NULL);
	*states = MemoryContextAllocHuge(cx, sizeof(TableState) * (SPI_processed + 1));
	for (uint64 i = 0; i < SPI_processed; i++)
		if (read_state(i, &(*states)[n]))
			n++;
	return n;
}

int
state_load_feeds(MemoryContext cx, SyncFeed **feeds)
{
	static SPIPlanPtr plan;
	int			n = 0;

	run(&plan, "SELECT s.id, st.feed, st.checked_at FROM sequin.sync_state st"
		" JOIN sequin.sync s ON s.name OPERATOR(pg_catalog.=) st.sync ORDER BY s.id", 0, NULL, NULL, NULL);
	*feeds = MemoryContextAllocZero(cx, sizeof(SyncFeed) * (SPI_processed + 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		SyncFeed   *f = &(*feeds)[n++];
		Datum		datum;

		if (get(i, 1, &datum))
			memcpy(f->key, DatumGetUUIDP(datum)->data, sizeof(f->key));
		if (get(i, 2, &datum))
			f->feed = MemoryContextStrdup(cx, TextDatumGetCString(datum));
		f->checked_at = get_int(i, 3, SCHEDULE_NEVER);
	}
	return n;
}

/* ---- writing ---- */

static void
put_text(Datum *values, char *nulls, int i, const char *text)
{
	values[i] = *text ? CStringGetTextDatum(text) : (Datum) 0;
	nulls[i] = *text ? ' ' : 'n';
}

static void
put_time(Datum *values, char *nulls, int i, int64 at)
{
	values[i] = TimestampTzGetDatum(at);
	nulls[i] = at == SCHEDULE_NEVER ? 'n' : ' ';
}

static Datum
key_datum(const uint8 key[16])
{
	pg_uuid_t  *uuid = palloc(sizeof(*uuid));

	memcpy(uuid->data, key, sizeof(uuid->data));
	return UUIDPGetDatum(uuid);
}

bool
state_save_row(const TableState *s, bool keep_error)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID, TEXTOID, INT4OID, TEXTOID, TEXTOID, TEXTOID, BOOLOID, TEXTOID, BOOLOID, INT8OID, INT8OID,
	TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, BOOLOID, BOOLOID};
	Datum		v[18];
	char		nulls[18];

	memset(nulls, ' ', sizeof(nulls));
	v[0] = key_datum(s->key);
	v[1] = CStringGetTextDatum(s->collection);
	v[2] = Int32GetDatum(s->epoch);
	v[3] = CStringGetTextDatum(phase_names[s->phase]);
	put_text(v, nulls, 4, s->list_cursor);
	put_text(v, nulls, 5, s->list_last);
	v[6] = BoolGetDatum(s->list_done);
	put_text(v, nulls, 7, s->down_last);
	v[8] = BoolGetDatum(s->down_done);
	v[9] = Int64GetDatum(s->rows_done);
	v[10] = Int64GetDatum(s->rows_total);
	nulls[10] = s->rows_total < 0 ? 'n' : ' ';
	put_time(v, nulls, 11, s->started_at);
	put_time(v, nulls, 12, s->live_at);
	put_time(v, nulls, 13, s->since_us == TIME_NONE ? SCHEDULE_NEVER : s->since_us - UNIX_EPOCH_US);
	put_time(v, nulls, 14, s->polled_at);
	put_time(v, nulls, 15, s->swept_at);
	v[16] = BoolGetDatum(s->sweep_wanted);
	v[17] = BoolGetDatum(keep_error);
	run(&plan, "UPDATE sequin.table_state t SET phase = $4, list_cursor = $5, list_last = $6, list_done = $7, down_last = $8,"
		" down_done = $9, rows_done = $10, rows_total = $11, started_at = $12, live_at = $13, since = $14, polled_at = $15,"
		" swept_at = $16, sweep_wanted = $17,"
		" last_error = CASE WHEN $18 THEN t.last_error END, last_error_at = CASE WHEN $18 THEN t.last_error_at END"
		" FROM sequin.sync s WHERE s.id OPERATOR(pg_catalog.=) $1 AND t.sync OPERATOR(pg_catalog.=) s.name"
		" AND t.collection OPERATOR(pg_catalog.=) $2 AND t.epoch OPERATOR(pg_catalog.=) $3", 18, types, v, nulls);
	return SPI_processed > 0;
}

void
state_filled_row(const TableState *s, const char *field)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID, TEXTOID, TEXTOID};
	Datum		v[] = {key_datum(s->key), CStringGetTextDatum(s->collection), CStringGetTextDatum(field)};

	run(&plan, "UPDATE sequin.table_state t SET fill = NULLIF(pg_catalog.array_to_string(pg_catalog.array_remove("
		"pg_catalog.string_to_array(t.fill, ' '), $3), ' '), '')"
		" FROM sequin.sync s WHERE s.id OPERATOR(pg_catalog.=) $1 AND t.sync OPERATOR(pg_catalog.=) s.name"
		" AND t.collection OPERATOR(pg_catalog.=) $2", 3, types, v, NULL);
}

void
state_refill_row(const TableState *s)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID, TEXTOID};
	Datum		v[] = {key_datum(s->key), CStringGetTextDatum(s->collection)};

	run(&plan, "UPDATE sequin.table_state t SET epoch = t.epoch OPERATOR(pg_catalog.+) 1, phase = 'waiting', list_cursor = NULL,"
		" list_last = NULL, list_done = false, down_last = NULL, down_done = false, rows_done = 0, rows_total = NULL,"
		" started_at = NULL, fill = NULL"
		" FROM sequin.sync s WHERE s.id OPERATOR(pg_catalog.=) $1 AND t.sync OPERATOR(pg_catalog.=) s.name"
		" AND t.collection OPERATOR(pg_catalog.=) $2", 2, types, v, NULL);
}

void
state_fail_row(const TableState *s, const char *error)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID, TEXTOID, TEXTOID};
	Datum		v[] = {key_datum(s->key), CStringGetTextDatum(s->collection), CStringGetTextDatum(error)};

	run(&plan, "UPDATE sequin.table_state t SET last_error = $3, last_error_at = pg_catalog.now()"
		" FROM sequin.sync s WHERE s.id OPERATOR(pg_catalog.=) $1 AND t.sync OPERATOR(pg_catalog.=) s.name"
		" AND t.collection OPERATOR(pg_catalog.=) $2", 3, types, v, NULL);
}

void
state_save_feed(const uint8 key[16], const char *feed, const char *error, int64 polled_at, bool gap)
{
	static SPIPlanPtr save;
	static SPIPlanPtr mark;
	Oid			types[] = {UUIDOID, TEXTOID, TEXTOID};
	Oid			mark_types[] = {UUIDOID, TIMESTAMPTZOID, BOOLOID};
	Datum		v[3] = {key_datum(key), 0, 0};
	char		nulls[3] = {' ', 'n', 'n'};

	if (feed != NULL)
		put_text(v, nulls, 1, feed);
	if (error != NULL)
		put_text(v, nulls, 2, error);
	run(&save, "UPDATE sequin.sync_state st SET feed = COALESCE($2, st.feed), feed_error = $3"
		" FROM sequin.sync s WHERE s.id OPERATOR(pg_catalog.=) $1 AND st.sync OPERATOR(pg_catalog.=) s.name", 3, types, v, nulls);
	if (polled_at == SCHEDULE_NEVER && !gap)
		return;
	nulls[1] = nulls[2] = ' ';
	put_time(v, nulls, 1, polled_at);
	v[2] = BoolGetDatum(gap);
	run(&mark, "UPDATE sequin.table_state t SET polled_at = COALESCE($2, t.polled_at), sweep_wanted = t.sweep_wanted OR $3"
		" FROM sequin.sync s WHERE s.id OPERATOR(pg_catalog.=) $1 AND t.sync OPERATOR(pg_catalog.=) s.name"
		" AND t.live_at IS NOT NULL", 3, mark_types, v, nulls);
}
