/*
 * journal.c - sequin.write_log (journal.h): rows, targets as JSON, what is due for a retry.
 *
 * Called inside a transaction only (but for the pure target functions).  Writes as the worker's
 * own role.  Stores no body and no secret: method, path without query, record ids.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "journal.h"
#include "settings.h"

/* Longest time to the next attempt. */
#define MAX_BACKOFF_S 300
#define MAX_BACKOFF_TEXT "300"

static const char *const state_names[] = {
	[JOURNAL_INTENT] = "intent",
	[JOURNAL_COMMITTED] = "committed",
	[JOURNAL_NONE] = "none",
	[JOURNAL_DEFERRED] = "deferred",
	[JOURNAL_RESOLVED] = "resolved",
	[JOURNAL_FAILED] = "failed",
};

/* A column of an unnest(): n values of which each may be NULL. */
typedef struct Column
{
	Datum	   *values;
	bool	   *nulls;
	int			n;
} Column;

static Column
column_create(int capacity)
{
	return (Column) {palloc(sizeof(Datum) * capacity), palloc0(sizeof(bool) * capacity), 0};
}

static void
column_text(Column *column, const char *value)
{
	column->nulls[column->n] = value == NULL;
	column->values[column->n++] = value ? CStringGetTextDatum(value) : (Datum) 0;
}

static void
column_int(Column *column, Datum value, bool null)
{
	column->nulls[column->n] = null;
	column->values[column->n++] = value;
}

static Datum
column_array(Column *column, Oid type)
{
	int			lower = 1;
	int16		len;
	bool		byval;
	char		align;

	get_typlenbyvalalign(type, &len, &byval, &align);
	return PointerGetDatum(construct_md_array(column->values, column->nulls, 1, &column->n, &lower, type, len, byval, align));
}

static SPIPlanPtr
prepared(SPIPlanPtr *plan, const char *sql, int nargs, Oid *types)
{
	if (*plan == NULL)
	{
		SPIPlanPtr	fresh = SPI_prepare_cursor(sql, nargs, types, CURSOR_OPT_GENERIC_PLAN);

		if (fresh == NULL || SPI_keepplan(fresh) != 0)
			elog(ERROR, "sequin_proxy: could not prepare a journal statement: %s", SPI_result_code_string(SPI_result));
		*plan = fresh;
	}
	return *plan;
}

/*
 * Executes a plan that finds its rows by id.  It is made while the journal is small, when reading all of it looks
 * cheapest, and it is kept while the journal grows: so reading all of it is not offered.
 */
static int
execute_by_id(SPIPlanPtr plan, Datum *args)
{
	static const char *const off[] = {"enable_seqscan", "enable_hashjoin", "enable_mergejoin"};
	int			level = NewGUCNestLevel();
	int			result;

	for (int i = 0; i < lengthof(off); i++)
		(void) set_config_option(off[i], "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	result = SPI_execute_plan(plan, args, NULL, false, 0);
	AtEOXact_GUC(true, level);	/* after an ERROR the transaction's end does it */
	return result;
}

static void
insert_rows(JournalEntry **entries, int count)
{
	static SPIPlanPtr plan;
	static const char *sql =
		"INSERT INTO sequin.write_log (request_id, sync, method, path, status, state, targets, error, key_label, next_attempt_at, settled_at) "
		"SELECT r, s, m, p, st, state, t::pg_catalog.jsonb, e, k, "
		"  CASE WHEN state OPERATOR(pg_catalog.=) 'deferred' THEN pg_catalog.now() END, "
		"  CASE WHEN state OPERATOR(pg_catalog.<>) ALL ('{intent,deferred}'::pg_catalog.text[]) THEN pg_catalog.now() END "
		"FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4), "
		"  pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($7), pg_catalog.unnest($8), pg_catalog.unnest($9)) "
		"  WITH ORDINALITY AS x(r, s, m, p, st, state, t, e, k, n) ORDER BY n RETURNING id";
	Oid			types[] = {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID};
	Column		c[9];
	Datum		args[9];
	int			next = 0;

	for (int i = 0; i < 9; i++)
		c[i] = column_create(count);
	for (int i = 0; i < count; i++)
	{
		JournalEntry *e = entries[i];

		if (e->id != 0)
			continue;
		column_text(&c[0], e->request_id);
		column_text(&c[1], e->sync);
		column_text(&c[2], e->method);
		column_text(&c[3], e->path);
		column_int(&c[4], Int32GetDatum(e->status), e->status == 0);
		column_text(&c[5], state_names[e->state]);
		column_text(&c[6], e->targets);
		column_text(&c[7], e->error);
		column_text(&c[8], e->key_label);
	}
	if (c[0].n == 0)
		return;
	for (int i = 0; i < 9; i++)
		args[i] = column_array(&c[i], i == 4 ? INT4OID : TEXTOID);
	if (SPI_execute_plan(prepared(&plan, sql, 9, types), args, NULL, false, 0) != SPI_OK_INSERT_RETURNING ||
		SPI_processed != (uint64) c[0].n)
		elog(ERROR, "sequin_proxy: could not write the journal");
	for (int i = 0; i < count; i++)
	{
		bool		null;

		if (entries[i]->id == 0)
			entries[i]->id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[next++], SPI_tuptable->tupdesc, 1, &null));
	}
}

static void
update_rows(JournalEntry **entries, int count)
{
	static SPIPlanPtr plan;
	static const char *sql =
		"UPDATE sequin.write_log w SET state = x.state, status = COALESCE(x.st, w.status), "
		"  targets = COALESCE(x.t::pg_catalog.jsonb, w.targets), error = x.e, "
		"  next_attempt_at = CASE WHEN x.state OPERATOR(pg_catalog.=) 'deferred' THEN pg_catalog.now() END, "
		"  settled_at = CASE WHEN x.state OPERATOR(pg_catalog.<>) ALL ('{intent,deferred}'::pg_catalog.text[]) THEN pg_catalog.now() END "
		"FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5)) "
		"  AS x(id, st, state, t, e) WHERE w.id OPERATOR(pg_catalog.=) x.id";
	Oid			types[] = {INT8ARRAYOID, INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID};
	Oid			elements[] = {INT8OID, INT4OID, TEXTOID, TEXTOID, TEXTOID};
	Column		c[5];
	Datum		args[5];

	for (int i = 0; i < 5; i++)
		c[i] = column_create(count);
	for (int i = 0; i < count; i++)
	{
		JournalEntry *e = entries[i];

		if (e->id == 0)
			continue;
		column_int(&c[0], Int64GetDatum(e->id), false);
		column_int(&c[1], Int32GetDatum(e->status), e->status == 0);
		column_text(&c[2], state_names[e->state]);
		column_text(&c[3], e->targets);
		column_text(&c[4], e->error);
	}
	if (c[0].n == 0)
		return;
	for (int i = 0; i < 5; i++)
		args[i] = column_array(&c[i], elements[i]);
	if (execute_by_id(prepared(&plan, sql, 5, types), args) != SPI_OK_UPDATE)
		elog(ERROR, "sequin_proxy: could not settle the journal");
}

void
journal_write_rows(JournalEntry **entries, int count)
{
	if (count == 0)
		return;
	update_rows(entries, count);	/* first: the insert gives ids to the others */
	insert_rows(entries, count);
}

static void
add_member(Buf *buf, const char *key, Str value)
{
	if (value.p == NULL)
		return;
	buf_printf(buf, "%s\"%s\":", buf->p[buf->n - 1] == '{' ? "" : ",", key);
	buf_json_string(buf, value);
}

/* An id that jsonb cannot hold (a NUL, broken UTF-8) is no record's, but a caller may well send it. */
static bool
is_storable(Str s)
{
	return s.p == NULL || pg_verify_mbstr(PG_UTF8, s.p, (int) s.n, true);
}

const char *
journal_targets(Arena *arena, const Change *changes, int count)
{
	Buf			buf;
	int			written = 0;

	buf_init(&buf, arena);
	buf_char(&buf, '[');
	for (int i = 0; i < count && !buf.failed; i++)
	{
		const Change *c = &changes[i];

		if (!is_storable(c->id) || !is_storable(c->to_id))
			continue;
		buf_cstr(&buf, written++ > 0 ? ",{" : "{");
		if (buf.failed)
			break;
		add_member(&buf, "op", str_of(change_op_name(c->op)));
		add_member(&buf, "collection", c->collection);
		add_member(&buf, "id", c->id);
		add_member(&buf, "to_collection", c->to_collection);
		add_member(&buf, "to_id", c->to_id);
		buf_cstr(&buf, c->base_wide ? ",\"base_wide\":true" : "");
		buf_cstr(&buf, c->with_links ? ",\"with_links\":true}" : "}");
	}
	buf_char(&buf, ']');
	return buf_finish(&buf).p;
}

bool
journal_parse_targets(Arena *arena, const char *json, ChangeList *targets)
{
	JsonDoc		doc;
	size_t		at;
	const char *error;

	if (json == NULL || json_parse(arena, str_of(json), &doc, &at, &error) != JSON_OK || doc.nodes[0].type != JSON_ARRAY)
		return false;
	for (uint32_t it = json_first(&doc, 0); it != JSON_NONE; it = json_next(&doc, 0, it))
	{
		bool		refresh = str_is(json_text_at(&doc, it, "op"), "refresh_schema");
		Change	   *c = change_add(targets, arena, refresh ? CHANGE_REFRESH_SCHEMA : CHANGE_REREAD,
								   json_text_at(&doc, it, "collection"), json_text_at(&doc, it, "id"));

		if (c == NULL)
			return false;
		c->to_collection = json_text_at(&doc, it, "to_collection");
		c->to_id = json_text_at(&doc, it, "to_id");
		c->base_wide = json_is_true(&doc, json_get(&doc, it, "base_wide"));
		c->with_links = json_is_true(&doc, json_get(&doc, it, "with_links"));
	}
	return true;
}

static char *
column_cstr(MemoryContext cx, HeapTuple tuple, TupleDesc desc, int column)
{
	char	   *value = SPI_getvalue(tuple, desc, column);

	return value ? MemoryContextStrdup(cx, value) : NULL;
}

int
journal_due_rows(MemoryContext cx, int limit, JournalDue **due, int64 *next_ms)
{
	Oid			types[] = {INT8OID, INT8OID};
	/* no attempt is planned for later: the clock was set back since */
	Datum		args[] = {Int64GetDatum(limit), Int64GetDatum(MAX_BACKOFF_S + 2 * setting_upstream_timeout / 1000 + 60)};
	int			n;
	bool		null;

	*due = NULL;
	/* not read-only: rows that this transaction has adopted are due at once */
	if (SPI_execute_with_args("SELECT id, sync, targets::pg_catalog.text, attempts FROM sequin.write_log "
							  "WHERE state OPERATOR(pg_catalog.=) ANY ('{deferred,resolved}'::pg_catalog.text[]) AND (next_attempt_at OPERATOR(pg_catalog.<=) pg_catalog.now() "
							  "  OR next_attempt_at OPERATOR(pg_catalog.>) (pg_catalog.now() OPERATOR(pg_catalog.+) pg_catalog.make_interval(secs => $2))) "
							  "ORDER BY id LIMIT $1", 2, types, args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "sequin_proxy: could not read the journal");
	n = (int) SPI_processed;
	if (n > 0)
		*due = MemoryContextAllocZero(cx, sizeof(JournalDue) * n);
	for (int i = 0; i < n; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;

		(*due)[i].id = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &null));
		(*due)[i].sync = column_cstr(cx, tuple, desc, 2);
		(*due)[i].targets = column_cstr(cx, tuple, desc, 3);
		(*due)[i].attempts = DatumGetInt32(SPI_getbinval(tuple, desc, 4, &null));
	}
	if (SPI_execute("SELECT pg_catalog.ceil(EXTRACT(epoch FROM pg_catalog.min(next_attempt_at) OPERATOR(pg_catalog.-) pg_catalog.now()) "
					"OPERATOR(pg_catalog.*) 1000)::pg_catalog.int8 FROM sequin.write_log "
					"WHERE state OPERATOR(pg_catalog.=) ANY ('{deferred,resolved}'::pg_catalog.text[]) AND next_attempt_at OPERATOR(pg_catalog.>) pg_catalog.now()",
					false, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "sequin_proxy: could not read the journal");
	*next_ms = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null));
	if (null)
		*next_ms = -1;
	return n;
}

void
journal_retry_rows(int64 id, JournalState state, const char *error)
{
	Oid			types[] = {INT8OID, TEXTOID, TEXTOID, INT8OID};
	Datum		args[] = {Int64GetDatum(id), CStringGetTextDatum(state_names[state]), error ? CStringGetTextDatum(error) : (Datum) 0,
		Int64GetDatum(setting_upstream_timeout)};
	char		nulls[] = {' ', ' ', error ? ' ' : 'n', ' '};

	/*
	 * Back-off: 1 s, 2 s, 4 s ... 5 min.  Where no answer came, a re-read soon after may be sooner
	 * than the API was done: it is looked at a second time, as long again after it was sent.
	 */
	if (SPI_execute_with_args("UPDATE sequin.write_log SET state = $2, error = $3, attempts = attempts OPERATOR(pg_catalog.+) 1, "
							  "next_attempt_at = CASE WHEN $2 OPERATOR(pg_catalog.=) 'deferred' THEN pg_catalog.now() OPERATOR(pg_catalog.+) "
							  "  pg_catalog.make_interval(secs => LEAST(" MAX_BACKOFF_TEXT ", pg_catalog.power(2, LEAST(attempts, 12)))) "
							  "  WHEN $2 OPERATOR(pg_catalog.=) 'resolved' AND status IS NULL AND pg_catalog.now() OPERATOR(pg_catalog.<) (at "
							  "    OPERATOR(pg_catalog.+) pg_catalog.make_interval(secs => $4 OPERATOR(pg_catalog./) 500.0)) "
							  "  THEN at OPERATOR(pg_catalog.+) pg_catalog.make_interval(secs => $4 OPERATOR(pg_catalog./) 500.0) END, "
							  "settled_at = CASE WHEN $2 OPERATOR(pg_catalog.<>) 'deferred' THEN pg_catalog.now() END "
							  "WHERE id OPERATOR(pg_catalog.=) $1", 4, types, args, nulls, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "sequin_proxy: could not update the journal");
}

JournalPolled
journal_polled_row(int64 id, const char *collection, int64 margin_ms)
{
	static SPIPlanPtr plan;
	Oid			types[] = {INT8OID, TEXTOID, INT8OID};
	Datum		args[] = {Int64GetDatum(id), CStringGetTextDatum(collection), Int64GetDatum(margin_ms)};
	bool		null;

	if (SPI_execute_plan(prepared(&plan, "SELECT CASE WHEN t.polled_at OPERATOR(pg_catalog.>=) x.after THEN 2"
								  " WHEN pg_catalog.now() OPERATOR(pg_catalog.>=) x.after THEN 1 ELSE 0 END"
								  " FROM sequin.write_log w"
								  " CROSS JOIN LATERAL (SELECT w.at OPERATOR(pg_catalog.+)"
								  "  pg_catalog.make_interval(secs => $3 OPERATOR(pg_catalog./) 1000.0) AS after) x"
								  " LEFT JOIN sequin.table_state t ON t.sync OPERATOR(pg_catalog.=) w.sync"
								  "  AND t.collection OPERATOR(pg_catalog.=) $2 AND t.live_at IS NOT NULL"
								  " WHERE w.id OPERATOR(pg_catalog.=) $1", 3, types), args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "sequin_proxy: could not read the journal");
	if (SPI_processed == 0)
		return JOURNAL_POLL_LATER;
	return (JournalPolled) DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null));
}

int
journal_adopt_rows(TransactionId first_xid, int64 longest_ms)
{
	Oid			types[] = {XIDOID, INT8OID};
	Datum		args[] = {TransactionIdGetDatum(first_xid), Int64GetDatum(longest_ms)};

	if (SPI_execute_with_args("UPDATE sequin.write_log SET state = 'deferred', next_attempt_at = pg_catalog.now(), "
							  "error = 'it was cut off before its answer was committed' "
							  "WHERE state OPERATOR(pg_catalog.=) 'intent' AND (pg_catalog.age(xmin) OPERATOR(pg_catalog.>) pg_catalog.age($1) "
							  "  OR pg_catalog.abs(EXTRACT(epoch FROM pg_catalog.now() OPERATOR(pg_catalog.-) at)) "
							  "    OPERATOR(pg_catalog.>) ($2 OPERATOR(pg_catalog./) 1000))",
							  2, types, args, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "sequin_proxy: could not read the journal");
	return (int) SPI_processed;
}
