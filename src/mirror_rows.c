/*
 * mirror_rows.c - records -> rows: upsert, partial update, delete.
 *
 * Owns the SQL for record tables.  Called by mirror.c as the owner of the sync, with the row's
 * fence lock held.  A row goes in by one INSERT ... ON CONFLICT whose WHERE is guarantee G2: where
 * the API gives versions a lower one never overwrites a higher; where it gives none, or the same
 * (its clock ticks slower than writes come), an answer overwrites only what was confirmed before
 * the answer was asked for.
 */
#include "mirror_internal.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define UNIX_EPOCH_US (INT64CONST(946684800) * USECS_PER_SEC)

/* What a row write sets: one byte per column, and the two times. */
typedef struct RowSet
{
	uint8	   *set;
	const FieldValue **given;	/* per column; NULL: absent */
	bool		created;
	bool		updated;
} RowSet;

static void
read_row(const MirrorOp *op, RowSet *row)
{
	MirrorTable *t = op->table;
	Change	   *change = op->change;

	row->set = palloc0(t->ncolumns + 2);
	row->given = palloc0(sizeof(FieldValue *) * (t->ncolumns + 1));
	row->created = change->created_at_us != TIME_NONE;
	row->updated = change->updated_at_us != TIME_NONE && t->sync->provider->has_updated_at;
	row->set[t->ncolumns] = row->created;
	row->set[t->ncolumns + 1] = row->updated;
	for (int i = 0; i < change->nfields; i++)
	{
		MirrorColumn *column = change->fields[i].known ? mirror_table_column(t, change->fields[i].field) : NULL;

		if (column == NULL)
			continue;
		row->given[column - t->columns] = &change->fields[i];
		row->set[column - t->columns] = true;
	}
	if (change->op == CHANGE_UPSERT)
		memset(row->set, true, t->ncolumns);
}

static void
add_assignment(StringInfo names, StringInfo params, StringInfo sets, const char *name, int param)
{
	appendStringInfo(names, ", %s", name);
	appendStringInfo(params, ", $%d", param);
	appendStringInfo(sets, ", %s = excluded.%s", name, name);
}

static MirrorPlan *
prepare_write(MirrorTable *t, const RowSet *row)
{
	StringInfoData names,
				params,
				sets;
	Oid		   *types = palloc(sizeof(Oid) * (t->ncolumns + 5));
	int			n = 3;

	initStringInfo(&names);
	initStringInfo(&params);
	initStringInfo(&sets);
	types[0] = TEXTOID;
	types[1] = types[2] = types[3] = types[4] = TIMESTAMPTZOID;
	if (row->created)
		add_assignment(&names, &params, &sets, t->sync->provider->created_column, ++n);
	if (row->updated)
		add_assignment(&names, &params, &sets, "updated_at", ++n);
	for (int i = 0; i < t->ncolumns; i++)
		if (row->set[i])
		{
			types[n] = t->columns[i].type;
			add_assignment(&names, &params, &sets, t->columns[i].quoted, ++n);
		}
	return mirror_table_plan(t, psprintf("INSERT INTO %s AS mirrored (id, _sync_updated_at%s) VALUES ($1, $2%s)"
										 " ON CONFLICT (id) DO UPDATE SET _sync_updated_at = $2%s WHERE %s",
										 t->quoted, names.data, params.data, sets.data, row->updated
										 ? "mirrored.updated_at IS NULL OR mirrored.updated_at OPERATOR(pg_catalog.<) excluded.updated_at"
										 " OR (mirrored.updated_at OPERATOR(pg_catalog.=) excluded.updated_at AND"
										 " (mirrored._sync_updated_at IS NULL OR mirrored._sync_updated_at OPERATOR(pg_catalog.<) $3))"
										 : "mirrored._sync_updated_at IS NULL OR mirrored._sync_updated_at OPERATOR(pg_catalog.<) $3"),
							 n, types);
}

/* Rows of a page set the same columns one after the other: their SQL is not even spelled. */
static SPIPlanPtr
write_plan(MirrorTable *t, const RowSet *row)
{
	if (t->row_plan == NULL || memcmp(t->row_set, row->set, t->ncolumns + 2) != 0)
	{
		t->row_plan = prepare_write(t, row);
		memcpy(t->row_set, row->set, t->ncolumns + 2);
	}
	return t->row_plan->plan;
}

/* The fence: what was confirmed before this may be overwritten. */
static Datum
fence(const MirrorOp *op)
{
	return TimestampTzGetDatum(op->again ? DT_NOEND : op->item->asked_at);
}

static uint64
execute_write(Apply *apply, MirrorOp *op, const RowSet *row)
{
	MirrorTable *t = op->table;
	SPIPlanPtr	plan = write_plan(t, row);
	Datum	   *values = palloc(sizeof(Datum) * (t->ncolumns + 5));
	char	   *nulls = palloc(t->ncolumns + 5);
	int			n = 3;

	memset(nulls, ' ', t->ncolumns + 5);
	values[0] = mirror_text(op->id);
	values[1] = TimestampTzGetDatum(apply->stamp);
	values[2] = fence(op);
	if (row->created)
		values[n++] = TimestampTzGetDatum(op->change->created_at_us - UNIX_EPOCH_US);
	if (row->updated)
		values[n++] = TimestampTzGetDatum(op->change->updated_at_us - UNIX_EPOCH_US);
	for (int i = 0; i < t->ncolumns; i++)
		if (row->set[i])
		{
			bool		isnull;

			values[n] = mirror_value(apply, op, &t->columns[i], row->given[i], &isnull);
			nulls[n++] = isnull ? 'n' : ' ';
		}
	return mirror_execute(plan, values, nulls);
}

/* Whether a row that was not written is newer, rather than swallowed by a trigger of the user's. */
static bool
is_newer(const MirrorOp *op, const RowSet *row)
{
	MirrorTable *t = op->table;
	Oid			types[] = {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[] = {mirror_text(op->id), fence(op), 0};
	const char *condition = row->updated
		? "(updated_at OPERATOR(pg_catalog.>) $3 OR"
		" (updated_at OPERATOR(pg_catalog.=) $3 AND _sync_updated_at OPERATOR(pg_catalog.>=) $2))"
		: "_sync_updated_at OPERATOR(pg_catalog.>=) $2";
	MirrorPlan *plan = mirror_table_plan(t, psprintf("SELECT FROM %s WHERE id OPERATOR(pg_catalog.=) $1 AND %s",
													 t->quoted, condition), row->updated ? 3 : 2, types);

	if (row->updated)
		values[2] = TimestampTzGetDatum(op->change->updated_at_us - UNIX_EPOCH_US);
	return mirror_execute(plan->plan, values, NULL) > 0;
}

void
mirror_row_write(Apply *apply, MirrorOp *op)
{
	RowSet		row;

	if (mirror_is_deleted(apply, op))
	{
		mirror_reread(op);
		return;
	}
	read_row(op, &row);
	op->written = execute_write(apply, op, &row) > 0;
	/*
	 * Even a whole answer that is older than the row may hold what the row lacks: the newer one can
	 * have been a partial update, on top of a row from before both.
	 */
	if (!op->written && is_newer(op, &row))
		mirror_reread(op);
}

bool
mirror_row_exists(MirrorTable *table, Str id)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {mirror_text(id)};
	MirrorPlan *plan = mirror_table_plan(table, psprintf("SELECT FROM %s WHERE id OPERATOR(pg_catalog.=) $1", table->quoted),
										 1, types);

	return mirror_execute(plan->plan, values, NULL) > 0;
}

static void
forget_record(Apply *apply, const MirrorOp *op, Str id)
{
	mirror_note_tombstone(apply, op, id);
	mirror_links_drop(op->table->sync, str_of(op->table->c->collection), id);
}

/* HubSpot's gdpr-delete names the record by its email address. */
static void
delete_matching(Apply *apply, MirrorOp *op)
{
	MirrorTable *t = op->table;
	MirrorColumn *column = mirror_table_column(t, op->change->match_field);
	Oid			types[] = {TEXTOID};
	Datum		values[] = {mirror_text(op->change->match_value)};
	const char *fold = str_is(op->change->match_field, "email") ? "pg_catalog.lower" : "";
	SPITupleTable *rows;
	uint64		n;

	if (column == NULL)
		return;					/* a column that we don't mirror: the next sweep finds the row gone */
	n = mirror_execute(mirror_table_plan(t, psprintf("DELETE FROM %s WHERE %s(%s::pg_catalog.text) OPERATOR(pg_catalog.=) %s($1)"
													 " RETURNING id", t->quoted, fold, column->quoted, fold), 1, types)->plan,
					   values, NULL);
	rows = SPI_tuptable;
	for (uint64 i = 0; i < n; i++)
	{
		char	   *id = SPI_getvalue(rows->vals[i], rows->tupdesc, 1);
		Str			kept = arena_str(op->item->arena, id, strlen(id));

		if (kept.p == NULL)
			ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
		forget_record(apply, op, kept);
	}
	SPI_freetuptable(rows);
}

/* A delete and an answer that shows the record overlapped (a restore, say): only the API knows which came last. */
void
mirror_row_delete(Apply *apply, MirrorOp *op)
{
	MirrorTable *t = op->table;
	Oid			types[] = {TEXTOID, TIMESTAMPTZOID};
	Datum		values[] = {mirror_text(op->id), fence(op)};

	if (op->change->match_field.p != NULL)
	{
		delete_matching(apply, op);
		return;
	}
	op->written = mirror_execute(mirror_table_plan(t, psprintf("DELETE FROM %s WHERE id OPERATOR(pg_catalog.=) $1 AND"
															   " (_sync_updated_at IS NULL OR _sync_updated_at OPERATOR(pg_catalog.<) $2)",
															   t->quoted), 2, types)->plan, values, NULL) > 0;
	if (!op->written && mirror_row_exists(t, op->id))
	{
		mirror_reread(op);
		return;
	}
	op->written = true;
	forget_record(apply, op, op->id);
}
