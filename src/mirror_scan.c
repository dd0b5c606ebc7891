/*
 * mirror_scan.c - reading ids back from mirror tables (mirror_scan.h).
 *
 * Owns the two questions that a sweep asks of a table: which rows has it, and which of these are
 * older than what the API shows.  Reads as the role that owns the sync, so that a view or policy
 * in the table's place gets no rights of ours.  Never writes.
 */
#include "mirror_internal.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "mirror_scan.h"
#include "times.h"

static uint64
execute_as_owner(CatalogSync *sync, MirrorPlan *plan, Datum *values, const char *nulls)
{
	MirrorRole	before = mirror_role_enter(sync->owner);
	uint64		n = mirror_execute(plan->plan, values, nulls);

	mirror_role_leave(before);
	return n;
}

/* NULL: nothing to read from.  A table that is wanted and not there is no empty one: an ERROR, until it is made anew. */
static MirrorTable *
open_records(CatalogSync *sync, SchemaCollection *c)
{
	MirrorTable *t;

	if (c == NULL || c->kind != COLLECTION_RECORDS || !c->enabled || !OidIsValid(sync->owner))
		return NULL;
	mirror_tables_begin();
	t = mirror_table_open(sync, c);
	if (t == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("the mirror table of %s is not there", c->collection)));
	return t;
}

int
mirror_scan_ids(CatalogSync *sync, SchemaCollection *c, const char *after, TimestampTz before, int limit, char ***ids)
{
	MirrorTable *t = open_records(sync, c);
	Oid			types[] = {TEXTOID, TIMESTAMPTZOID, INT8OID};
	Datum		values[] = {CStringGetTextDatum(after ? after : ""), TimestampTzGetDatum(before), Int64GetDatum(limit)};
	uint64		n;

	if (t == NULL)
		return 0;
	n = execute_as_owner(sync, mirror_table_plan(t, psprintf("SELECT id FROM %s WHERE id OPERATOR(pg_catalog.>) $1 AND"
															 " (_sync_updated_at IS NULL OR _sync_updated_at OPERATOR(pg_catalog.<) $2)"
															 " ORDER BY id LIMIT $3", t->quoted), 3, types), values, NULL);
	*ids = palloc(sizeof(char *) * (n + 1));
	for (uint64 i = 0; i < n; i++)
		(*ids)[i] = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
	return (int) n;
}

/* Ids of link ends that the records' own table has not. */
int
mirror_scan_orphans(CatalogSync *sync, SchemaCollection *links, bool is_to, const char *after, int limit, char ***ids)
{
	SchemaCollection *end = schema_find(&sync->schema, str_of(is_to ? links->to : links->from));
	MirrorTable *records = open_records(sync, end);
	MirrorTable *t = records != NULL && links->enabled ? mirror_table_open(sync, links) : NULL;
	Oid			types[] = {TEXTOID, INT8OID};
	Datum		values[] = {CStringGetTextDatum(after ? after : ""), Int64GetDatum(limit)};
	const char *column;
	uint64		n;

	if (t == NULL)
		return 0;
	column = quote_identifier(is_to ? links->to_column : links->from_column);
	n = execute_as_owner(sync, mirror_table_plan(t, psprintf("SELECT DISTINCT l.%s FROM %s AS l WHERE l.%s OPERATOR(pg_catalog.>) $1 AND NOT EXISTS"
															 " (SELECT FROM %s AS r WHERE r.id OPERATOR(pg_catalog.=) l.%s) ORDER BY 1 LIMIT $2",
															 column, t->quoted, column, records->quoted, column), 2, types), values, NULL);
	*ids = palloc(sizeof(char *) * (n + 1));
	for (uint64 i = 0; i < n; i++)
		(*ids)[i] = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
	return (int) n;
}

static Datum
times_array(const int64 *versions, int n)
{
	Datum	   *elems = palloc(sizeof(Datum) * (n + 1));

	for (int i = 0; i < n; i++)
		elems[i] = TimestampTzGetDatum(versions[i] == TIME_NONE ? DT_NOEND : versions[i] - UNIX_EPOCH_US);
	return PointerGetDatum(construct_array(elems, n, TIMESTAMPTZOID, 8, true, TYPALIGN_DOUBLE));
}

int
mirror_scan_stale(CatalogSync *sync, SchemaCollection *c, const Str *ids, const int64 *versions, int n, int **stale)
{
	MirrorTable *t = open_records(sync, c);
	Oid			types[] = {TEXTARRAYOID, TIMESTAMPTZARRAYOID};
	Datum		values[2];
	const char *fresh = sync->provider->has_updated_at ? "m.updated_at OPERATOR(pg_catalog.>=) x.version" : "false";
	uint64		found;
	bool		isnull;

	if (t == NULL || n == 0)
		return 0;
	values[0] = mirror_texts(ids, n);
	values[1] = times_array(versions, n);
	found = execute_as_owner(sync, mirror_table_plan(t, psprintf("SELECT x.n::pg_catalog.int4 FROM ROWS FROM (pg_catalog.unnest($1),"
																 " pg_catalog.unnest($2)) WITH ORDINALITY AS x(id, version, n)"
																 " WHERE NOT EXISTS (SELECT FROM %s m WHERE m.id OPERATOR(pg_catalog.=) x.id"
																 " AND %s)", t->quoted, fresh), 2, types), values, NULL);
	*stale = palloc(sizeof(int) * (found + 1));
	for (uint64 i = 0; i < found; i++)
		(*stale)[i] = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull)) - 1;
	return (int) found;
}
