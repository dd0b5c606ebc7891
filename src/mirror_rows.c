/*
 * mirror_rows.c - records -> rows: upsert, partial update, delete.
 *
 * Owns the SQL for record tables.  Called by mirror.c as the owner of the sync, with the row's
 * fence lock held.  A row goes in by one INSERT ... ON CONFLICT whose WHERE is guarantee G2: where
 * the API gives versions a lower one never overwrites a higher; where it gives none, or the same
 * (its clock ticks slower than writes come), an answer overwrites only what was confirmed before
 * the answer was asked for.  Rows that are likely to be new are inserted plainly, which overwrites nothing.
 */
#include "mirror_internal.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "fault_point.h"
#include "times.h"


#define MAX_ROWS 1000			/* per statement */

/* Which columns rows set, and the statements that write such rows; hangs on MirrorTable.shape. */
typedef struct RowShape
{
	uint8	   *set;			/* a byte per column, and two for the times */
	bool		page;
	TupleDesc	desc;
	MirrorPlan *plans[3];		/* by MirrorPlanKind, pinned; NULL: not needed yet */
} RowShape;

/* One row on its way into a batch. */
typedef struct Row
{
	uint8	   *set;
	const FieldValue **given;	/* per column; NULL: absent */
	Datum	   *values;
	bool	   *nulls;
} Row;

static Row
row_create(const MirrorTable *t)
{
	Row			row;

	row.set = palloc(t->ncolumns + 2);
	row.given = palloc(sizeof(FieldValue *) * (t->ncolumns + 1));
	row.values = palloc(sizeof(Datum) * (t->ncolumns + 4));
	row.nulls = palloc(sizeof(bool) * (t->ncolumns + 4));
	return row;
}

static void
row_free(const Row *row)
{
	pfree(row->set);
	pfree(row->given);
	pfree(row->values);
	pfree(row->nulls);
}

static bool
sets_created(const MirrorTable *t, const uint8 *set)
{
	return set[t->ncolumns];
}

static bool
sets_updated(const MirrorTable *t, const uint8 *set)
{
	return set[t->ncolumns + 1];
}

static void
row_read(const MirrorOp *op, Row *row)
{
	MirrorTable *t = op->table;
	Change	   *change = op->change;

	memset(row->given, 0, sizeof(FieldValue *) * t->ncolumns);
	memset(row->set, change->op == CHANGE_UPSERT, t->ncolumns);
	row->set[t->ncolumns] = change->created_at_us != TIME_NONE;
	row->set[t->ncolumns + 1] = change->updated_at_us != TIME_NONE && t->sync->provider->has_updated_at;
	for (int i = 0; i < change->nfields; i++)
	{
		const FieldValue *field = &change->fields[i];
		MirrorColumn *column = field->known ? mirror_table_column_nth(t, field->field, i) : NULL;

		if (column == NULL)
			continue;
		row->given[column - t->columns] = field;
		row->set[column - t->columns] = true;
	}
}

/* ---- SQL ---- */

/* The columns that are set, by their names in the table and in the batch. */
typedef struct Assignment
{
	const char *column;
	const char *batched;
	const MirrorColumn *field;	/* NULL: a time */
} Assignment;

static int
assignments(const MirrorTable *t, const uint8 *set, Assignment *list)
{
	int			n = 0;

	/* updated_at first: where rows differ, they mostly do in that */
	if (sets_updated(t, set))
		list[n++] = (Assignment) {"updated_at", "updated", NULL};
	if (sets_created(t, set))
		list[n++] = (Assignment) {t->sync->provider->created_column, "created", NULL};
	for (int i = 0; i < t->ncolumns; i++)
		if (set[i])
			list[n++] = (Assignment) {t->columns[i].quoted, psprintf("c%d", i), &t->columns[i]};
	return n;
}

/* Bytes decide, whatever the column's collation; what has no equality of its own is compared as it is spelled. */
static const char *
equal_suffix(const Assignment *a)
{
	if (a->field == NULL)
		return "";
	if (!a->field->exact)
		return "::pg_catalog.text COLLATE pg_catalog.\"C\"";
	if (a->field->type == TEXTOID || a->field->type == TEXTARRAYOID)
		return " COLLATE pg_catalog.\"C\"";
	return "";
}

/* All that a row sets is in the table already.  The search path is pg_catalog alone, so "=" can only be its own. */
static char *
same_condition(const Assignment *list, int n, bool excluded)
{
	StringInfoData sql;

	initStringInfo(&sql);
	for (int i = 0; i < n; i++)
	{
		const char *suffix = equal_suffix(&list[i]);

		appendStringInfo(&sql, "%smirrored.%s%s IS NOT DISTINCT FROM %s.%s%s", i > 0 ? " AND " : "", list[i].column, suffix,
						 excluded ? "excluded" : "b", excluded ? list[i].column : list[i].batched, suffix);
	}
	return n > 0 ? sql.data : "true";
}

static const char *
insert_sql(const MirrorTable *t, const Assignment *list, int n)
{
	StringInfoData names,
				values;

	initStringInfo(&names);
	initStringInfo(&values);
	for (int i = 0; i < n; i++)
	{
		appendStringInfo(&names, ", %s", list[i].column);
		appendStringInfo(&values, ", b.%s", list[i].batched);
	}
	return psprintf("INSERT INTO %s AS mirrored (id, _sync_updated_at%s) SELECT b.id, $1%s FROM " MIRROR_BATCH " AS b",
					t->quoted, names.data, values.data);
}

static const char *
write_sql(const MirrorTable *t, const RowShape *shape, const Assignment *list, int n)
{
	StringInfoData sets;

	initStringInfo(&sets);
	for (int i = 0; i < n; i++)
		appendStringInfo(&sets, ", %s = excluded.%s", list[i].column, list[i].column);
	return psprintf("%s ON CONFLICT (id) DO UPDATE SET _sync_updated_at = $1%s WHERE (%s)%s RETURNING mirrored.id::pg_catalog.text",
					insert_sql(t, list, n), sets.data, sets_updated(t, shape->set)
					? "mirrored.updated_at IS NULL OR mirrored.updated_at OPERATOR(pg_catalog.<) excluded.updated_at"
					" OR (mirrored.updated_at OPERATOR(pg_catalog.=) excluded.updated_at AND"
					" (mirrored._sync_updated_at IS NULL OR mirrored._sync_updated_at OPERATOR(pg_catalog.<) $2))"
					: "mirrored._sync_updated_at IS NULL OR mirrored._sync_updated_at OPERATOR(pg_catalog.<) $2",
					shape->page ? psprintf(" AND NOT (%s)", same_condition(list, n, true)) : "");
}

/*
 * A subquery per row, so that no table is ever read as a whole.  What says the same as a newer row has nothing to
 * ask again: else re-reads of one record, each of which confirms the row, would send each other back for ever.
 */
static const char *
judge_sql(const MirrorTable *t, const RowShape *shape, const Assignment *list, int n)
{
	return psprintf("SELECT b.ord, (SELECT CASE WHEN %s THEN 1 WHEN %s THEN 2 ELSE 3 END FROM %s AS mirrored"
					" WHERE mirrored.id OPERATOR(pg_catalog.=) b.id) FROM " MIRROR_BATCH " AS b",
					same_condition(list, n, false), sets_updated(t, shape->set)
					? "mirrored.updated_at OPERATOR(pg_catalog.>) b.updated OR"
					" (mirrored.updated_at OPERATOR(pg_catalog.=) b.updated AND"
					" mirrored._sync_updated_at OPERATOR(pg_catalog.>=) $1)"
					: "mirrored._sync_updated_at OPERATOR(pg_catalog.>=) $1", t->quoted);
}

static SPIPlanPtr
row_plan(MirrorBatch *batch, MirrorPlanKind kind)
{
	static Oid	types[] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	MirrorTable *t = batch->ops->table;
	RowShape   *shape = t->shape;
	Assignment *list;
	int			n;

	if (shape->plans[kind] == NULL)
	{
		list = palloc(sizeof(Assignment) * (t->ncolumns + 2));
		n = assignments(t, shape->set, list);
		if (kind == MIRROR_PLAN_WRITE)
			shape->plans[kind] = mirror_table_plan(t, write_sql(t, shape, list, n), 2, types);
		else if (kind == MIRROR_PLAN_JUDGE)
			shape->plans[kind] = mirror_table_plan(t, judge_sql(t, shape, list, n), 1, types);
		else
			shape->plans[kind] = mirror_table_plan(t, insert_sql(t, list, n), 1, types);
		shape->plans[kind]->pinned = true;
	}
	return shape->plans[kind]->plan;
}

static TupleDesc
row_desc(const MirrorTable *t, const uint8 *set)
{
	MirrorBatchColumn *columns = palloc(sizeof(MirrorBatchColumn) * (t->ncolumns + 3));
	int			n = 0;

	columns[n++] = (MirrorBatchColumn) {"id", TEXTOID, -1};
	if (sets_created(t, set))
		columns[n++] = (MirrorBatchColumn) {"created", TIMESTAMPTZOID, -1};
	if (sets_updated(t, set))
		columns[n++] = (MirrorBatchColumn) {"updated", TIMESTAMPTZOID, -1};
	for (int i = 0; i < t->ncolumns; i++)
		if (set[i])
			columns[n++] = (MirrorBatchColumn) {psprintf("c%d", i), t->columns[i].type, t->columns[i].typmod};
	return mirror_batch_desc(columns, n);
}

/* Rows of a page set the same columns one after the other: their SQL is not even spelled. */
static TupleDesc
take_shape(MirrorTable *t, const Row *row, bool page)
{
	RowShape   *shape = t->shape;
	MemoryContext old;

	if (shape != NULL && shape->page == page && memcmp(shape->set, row->set, t->ncolumns + 2) == 0)
		return shape->desc;
	for (int i = 0; shape != NULL && i < lengthof(shape->plans); i++)
		if (shape->plans[i] != NULL)
			shape->plans[i]->pinned = false;
	if (t->shape_cx == NULL)
		t->shape_cx = AllocSetContextCreate(t->cx, "sequin row shape", ALLOCSET_SMALL_SIZES);
	t->shape = NULL;
	MemoryContextReset(t->shape_cx);
	old = MemoryContextSwitchTo(t->shape_cx);
	shape = palloc0(sizeof(RowShape));
	shape->set = palloc(t->ncolumns + 2);
	memcpy(shape->set, row->set, t->ncolumns + 2);
	shape->page = page;
	shape->desc = row_desc(t, row->set);
	t->shape = shape;
	MemoryContextSwitchTo(old);
	return shape->desc;
}

/* ---- writing ---- */

/* The fence: what was confirmed before this may be overwritten. */
static Datum
fence(const MirrorOp *op)
{
	return TimestampTzGetDatum(op->again ? DT_NOEND : op->item->asked_at);
}

static void
add_row(MirrorBatch *batch, MirrorOp *op, Row *row)
{
	MirrorTable *t = op->table;
	int			n = 2;

	memset(row->nulls, false, batch->desc->natts);
	row->values[1] = mirror_text(op->id);
	if (sets_created(t, row->set))
		row->values[n++] = TimestampTzGetDatum(op->change->created_at_us - UNIX_EPOCH_US);
	if (sets_updated(t, row->set))
		row->values[n++] = TimestampTzGetDatum(op->change->updated_at_us - UNIX_EPOCH_US);
	for (int i = 0; i < t->ncolumns; i++)
		if (row->set[i])
		{
			row->values[n] = mirror_value(batch->apply, op, &t->columns[i], row->given[i], &row->nulls[n]);
			n++;
		}
	mirror_batch_add(batch, op, row->values, row->nulls);
}

static bool
is_write(const MirrorOp *op)
{
	return op->change->op == CHANGE_UPSERT || op->change->op == CHANGE_PATCH;
}

/* Adds rows as long as they are alike; returns how many ops that were. */
static int
gather(MirrorBatch *batch, Apply *apply, MirrorOp *ops, int nops, Row *row)
{
	MemoryContext old = MemoryContextSwitchTo(apply->row_cx);
	bool		begun = false;
	int			n;

	for (n = 0; n < nops && n < MAX_ROWS; n++)
	{
		MirrorOp   *op = &ops[n];

		CHECK_FOR_INTERRUPTS();
		if (n > 0 && !(is_write(op) && mirror_batch_fits(ops, &ops[n - 1], op)))
			break;
		if (mirror_is_deleted(apply, op))
		{
			mirror_reread(op);
			continue;
		}
		row_read(op, row);
		if (!begun)
			mirror_batch_begin(batch, apply, ops, take_shape(op->table, row, op->item->page));
		else if (memcmp(op->table->shape->set, row->set, op->table->ncolumns + 2) != 0)
			break;
		begun = true;
		add_row(batch, op, row);
		MemoryContextReset(apply->row_cx);
	}
	MemoryContextSwitchTo(old);
	return n;
}

/*
 * A row that was not written is newer, or swallowed by a trigger of the user's.  Even a whole answer that is older than the
 * row may hold what the row lacks: the newer one can have been a partial update, on top of a row from before both.
 */
int
mirror_rows_write(Apply *apply, MirrorOp *ops, int nops)
{
	Row			row = row_create(ops->table);
	MirrorBatch batch = {0};
	int			n = gather(&batch, apply, ops, nops, &row);

	row_free(&row);
	if (batch.count == 0)
		return n;
	mirror_batch_write(&batch, row_plan);
	mirror_batch_end(&batch);
	FAULT_IN_TXN("mirror.rows");
	if (batch.page || batch.mixed)
		mirror_note_no_errors(apply, batch.nerrors);
	for (int i = 0; i < n; i++)
		if (ops[i].pending)
		{
			ops[i].pending = false;
			if (batch.mixed)
				mirror_rows_write(apply, &ops[i], 1);	/* by its own fence */
		}
	return n;
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
	int			n = apply->ndeleted++;

	mirror_note_tombstone(apply, op, id);
	if ((n & (n - 1)) == 0)
		apply->deleted = apply->deleted ? repalloc(apply->deleted, sizeof(Str) * n * 2)
			: MemoryContextAlloc(apply->cx, sizeof(Str));
	apply->deleted[n] = id;
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
	op->changed = n > 0;
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
	op->changed = op->written;
	if (!op->written && mirror_row_exists(t, op->id))
	{
		mirror_reread(op);
		return;
	}
	op->written = true;
	forget_record(apply, op, op->id);
}
