/*
 * journal.c - sequin.write_log (journal.h): rows, targets as JSON, what is due for a retry.
 *
 * Called inside a transaction only (but for the pure target functions).  Writes as the worker's
 * own role.  Stores no body and no secret: method, path without query, record ids.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "journal.h"
#include "journal_table.h"
#include "reactor.h"
#include "settings.h"

/* Longest time to the next attempt. */
#define MAX_BACKOFF_S 300

static const char *const state_names[] = {
	[JOURNAL_INTENT] = "intent",
	[JOURNAL_COMMITTED] = "committed",
	[JOURNAL_NONE] = "none",
	[JOURNAL_DEFERRED] = "deferred",
	[JOURNAL_RESOLVED] = "resolved",
	[JOURNAL_FAILED] = "failed",
};

const char *
journal_state_name(JournalState state)
{
	return state_names[state];
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

void
journal_write_rows(JournalEntry **entries, int count)
{
	JournalTable *table;

	if (count == 0)
		return;
	table = journal_table_open();
	for (int i = 0; i < count; i++)
		if (entries[i]->id != 0)
			journal_table_update(table, entries[i]);
		else
			journal_table_insert(table, entries[i]);
	journal_table_close(table);
}

static void
add_member(Buf *buf, const char *key, Str value)
{
	if (value.p == NULL)
		return;
	buf_cstr(buf, buf->p[buf->n - 1] == '{' ? "\"" : ",\"");
	buf_cstr(buf, key);
	buf_cstr(buf, "\":");
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
							  "  pg_catalog.make_interval(secs => LEAST(" CppAsString2(MAX_BACKOFF_S) ", pg_catalog.power(2, LEAST(attempts, 12)))) "
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

/*
 * A writer's transaction lasts no longer, beside commit_timeout for the standby: ids up to that of a row which is
 * older are all there.  Younger ones may yet be shown below others.
 */
#define LONGEST_WRITER_S 60
#define READ_WHOLE_US (INT64CONST(3600) * 1000 * 1000)

/* No row of this table below this id is an intent, nor will be. */
static Oid	adopted_of;
static int64 adopted_to;
static int64 read_whole_us;		/* when all rows were looked at */

/* Counted before this transaction changes anything: should it fail, nothing has been left out. */
static void
note_adopted(void)
{
	Oid			relid = get_relname_relid("write_log", get_namespace_oid("sequin", false));
	Oid			types[] = {INT8OID, INT8OID};
	Datum		args[2];
	Datum		first;
	bool		null;

	/* The extension was made anew; or, once an hour, whatever was done to the table, no intent is forgotten. */
	if (relid != adopted_of || clock_us() - read_whole_us > READ_WHOLE_US)
	{
		adopted_to = 0;
		read_whole_us = clock_us();
	}
	adopted_of = relid;
	args[0] = Int64GetDatum(adopted_to);
	args[1] = Int64GetDatum(setting_commit_timeout / 1000 + LONGEST_WRITER_S);
	if (SPI_execute_with_args("SELECT CASE WHEN x.old IS NOT NULL THEN LEAST(x.intent, x.old OPERATOR(pg_catalog.+) 1) END FROM (SELECT"
							  " pg_catalog.min(id) FILTER (WHERE state OPERATOR(pg_catalog.=) 'intent') AS intent,"
							  " pg_catalog.max(id) FILTER (WHERE at OPERATOR(pg_catalog.<=)"
							  "  (pg_catalog.now() OPERATOR(pg_catalog.-) pg_catalog.make_interval(secs => $2))) AS old"
							  " FROM sequin.write_log WHERE id OPERATOR(pg_catalog.>=) $1) AS x", 2, types, args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "sequin_proxy: could not read the journal");
	first = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null);
	if (!null)
		adopted_to = DatumGetInt64(first);
}

/* Intents have no index, which every write would pay for: from where the last look ended, the rows are read. */
int
journal_adopt_rows(TransactionId first_xid, int64 longest_ms)
{
	Oid			types[] = {XIDOID, INT8OID, INT8OID};
	Datum		args[3] = {TransactionIdGetDatum(first_xid), Int64GetDatum(longest_ms)};

	note_adopted();
	args[2] = Int64GetDatum(adopted_to);
	if (SPI_execute_with_args("UPDATE sequin.write_log SET state = 'deferred', next_attempt_at = pg_catalog.now(), "
							  "error = 'it was cut off before its answer was committed' "
							  "WHERE id OPERATOR(pg_catalog.>=) $3 AND state OPERATOR(pg_catalog.=) 'intent' AND"
							  " (pg_catalog.age(xmin) OPERATOR(pg_catalog.>) pg_catalog.age($1) "
							  "  OR pg_catalog.abs(EXTRACT(epoch FROM pg_catalog.now() OPERATOR(pg_catalog.-) at)) "
							  "    OPERATOR(pg_catalog.>) ($2 OPERATOR(pg_catalog./) 1000))",
							  3, types, args, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "sequin_proxy: could not read the journal");
	return (int) SPI_processed;
}
