/*
 * mirror_links.c - links -> rows of association tables.
 *
 * Owns the SQL for link tables: one row per pair, with the labels of both directions united.  Where
 * a type is linked with itself the pair is one row too, in the direction in which it came first.
 * Called by mirror.c as the owner of the sync.
 */
#include "mirror_internal.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define EQ "OPERATOR(pg_catalog.=)"
#define SORTED_LABELS "COALESCE((SELECT pg_catalog.array_agg(DISTINCT l COLLATE \"C\" ORDER BY l COLLATE \"C\")" \
	" FROM pg_catalog.unnest(%s) AS l), '{}')"

static bool
same_type(const MirrorTable *t)
{
	return strcmp(t->c->from, t->c->to) == 0;
}

static const char *
from_column(const MirrorTable *t)
{
	return quote_identifier(t->c->from_column);
}

static const char *
to_column(const MirrorTable *t)
{
	return quote_identifier(t->c->to_column);
}

/* $1, $2 name the pair; in either direction where both ends are of one type. */
static const char *
pair_condition(const MirrorTable *t)
{
	const char *from = from_column(t);
	const char *to = to_column(t);

	if (!same_type(t))
		return psprintf("(%s " EQ " $1 AND %s " EQ " $2)", from, to);
	return psprintf("((%s " EQ " $1 AND %s " EQ " $2) OR (%s " EQ " $2 AND %s " EQ " $1))", from, to, from, to);
}

static uint64
run(MirrorTable *t, const char *sql, int nargs, Oid *types, Datum *values)
{
	return mirror_execute(mirror_table_plan(t, sql, nargs, types)->plan, values, NULL);
}

/* Params of every statement about a pair: from, to, labels, stamp, fence. */
static Oid	pair_types[] = {TEXTOID, TEXTOID, TEXTARRAYOID, TIMESTAMPTZOID, TIMESTAMPTZOID};

static void
pair_values(const Apply *apply, const MirrorOp *op, Datum values[5])
{
	values[0] = mirror_text(op->id);
	values[1] = mirror_text(op->to_id);
	values[2] = mirror_texts(op->change->labels, op->change->nlabels);
	values[3] = TimestampTzGetDatum(apply->stamp);
	values[4] = TimestampTzGetDatum(op->again ? DT_NOEND : op->item->asked_at);
}

/* Was the pair written after this was asked for? */
static bool
is_newer(MirrorTable *t, Datum *values)
{
	return run(t, psprintf("SELECT FROM %s WHERE %s AND _sync_updated_at OPERATOR(pg_catalog.>=) $5 AND $3 IS NOT NULL"
						   " AND $4 IS NOT NULL", t->quoted, pair_condition(t)), 5, pair_types, values) > 0;
}

/* ---- LINKs ---- */

#define MAX_PAIRS 1000			/* per statement */
#define MIRRORED_LABELS "mirrored.labels COLLATE pg_catalog.\"C\""

static const MirrorBatchColumn pair_columns[] = {{"from_id", TEXTOID, -1}, {"to_id", TEXTOID, -1}, {"labels", TEXTARRAYOID, -1}};

/* What the labels of a pair become; source: "excluded" or "b". */
static const char *
new_labels(const MirrorOp *op, const char *source)
{
	if (op->change->labels_replace)
		return psprintf("%s.labels", source);
	return psprintf(SORTED_LABELS, psprintf("mirrored.labels OPERATOR(pg_catalog.||) %s.labels", source));
}

static const char *
link_insert_sql(const MirrorTable *t)
{
	return psprintf("INSERT INTO %s AS mirrored (%s, %s, labels, _sync_updated_at)"
					" SELECT b.from_id, b.to_id, b.labels, $1 FROM " MIRROR_BATCH " AS b", t->quoted, from_column(t), to_column(t));
}

/* Labels that are added need no fence: whenever they were there, they were. */
static const char *
link_write_sql(const MirrorOp *op)
{
	MirrorTable *t = op->table;
	const char *labels = new_labels(op, "excluded");

	return psprintf("%s ON CONFLICT (%s, %s) DO UPDATE SET labels = %s, _sync_updated_at = $1 WHERE (%s)%s"
					" RETURNING mirrored.%s::pg_catalog.text, mirrored.%s::pg_catalog.text",
					link_insert_sql(t), from_column(t), to_column(t), labels,
					op->change->labels_replace
					? "mirrored._sync_updated_at IS NULL OR mirrored._sync_updated_at OPERATOR(pg_catalog.<) $2"
					: "$2 IS NOT NULL",
					op->item->page ? psprintf(" AND " MIRRORED_LABELS " IS DISTINCT FROM %s", labels) : "",
					from_column(t), to_column(t));
}

static const char *
link_judge_sql(const MirrorOp *op)
{
	MirrorTable *t = op->table;

	return psprintf("SELECT b.ord, (SELECT CASE WHEN %s THEN 1 WHEN %s THEN 2 ELSE 3 END FROM %s AS mirrored"
					" WHERE mirrored.%s " EQ " b.from_id AND mirrored.%s " EQ " b.to_id) FROM " MIRROR_BATCH " AS b",
					op->item->page ? psprintf(MIRRORED_LABELS " IS NOT DISTINCT FROM %s", new_labels(op, "b")) : "false",
					op->change->labels_replace ? "mirrored._sync_updated_at OPERATOR(pg_catalog.>=) $1" : "$1 IS NULL",
					t->quoted, from_column(t), to_column(t));
}

static SPIPlanPtr
link_plan(MirrorBatch *batch, MirrorPlanKind kind)
{
	static Oid	types[] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	MirrorTable *t = batch->ops->table;

	if (kind == MIRROR_PLAN_WRITE)
		return mirror_table_plan(t, link_write_sql(batch->ops), 2, types)->plan;
	if (kind == MIRROR_PLAN_JUDGE)
		return mirror_table_plan(t, link_judge_sql(batch->ops), 1, types)->plan;
	return mirror_table_plan(t, link_insert_sql(t), 1, types)->plan;
}

static int
compare_labels(const void *a, const void *b)
{
	return str_cmp(*(const Str *) a, *(const Str *) b);
}

/* As SORTED_LABELS has them. */
static Datum
sorted_labels(const Change *change)
{
	Str		   *labels = palloc(sizeof(Str) * (change->nlabels + 1));
	int			n = 0;

	for (int i = 0; i < change->nlabels; i++)
		labels[i] = change->labels[i];
	qsort(labels, change->nlabels, sizeof(Str), compare_labels);
	for (int i = 0; i < change->nlabels; i++)
		if (n == 0 || !str_eq(labels[n - 1], labels[i]))
			labels[n++] = labels[i];
	return mirror_texts(labels, n);
}

static void
add_pair(MirrorBatch *batch, MirrorOp *op)
{
	MemoryContext old = MemoryContextSwitchTo(batch->apply->row_cx);
	Datum		values[4] = {0, mirror_text(op->id), mirror_text(op->to_id), sorted_labels(op->change)};
	bool		nulls[4] = {false};

	mirror_batch_add(batch, op, values, nulls);
	MemoryContextSwitchTo(old);
	MemoryContextReset(batch->apply->row_cx);
}

static bool
is_like(const MirrorOp *first, const MirrorOp *last, const MirrorOp *op)
{
	return op->change->op == CHANGE_LINK && op->change->labels_replace == first->change->labels_replace &&
		mirror_batch_fits(first, last, op);
}

/* Adds pairs as long as one statement does for them; returns how many ops that were. */
static int
gather(MirrorBatch *batch, Apply *apply, MirrorOp *ops, int nops)
{
	int			n;

	for (n = 0; n < nops && n < MAX_PAIRS; n++)
	{
		CHECK_FOR_INTERRUPTS();
		if (n > 0 && !is_like(ops, &ops[n - 1], &ops[n]))
			break;
		if (mirror_is_deleted(apply, &ops[n]))
		{
			mirror_reread(&ops[n]);
			continue;
		}
		if (batch->count == 0)
			mirror_batch_begin(batch, apply, ops, mirror_batch_desc(pair_columns, lengthof(pair_columns)));
		add_pair(batch, &ops[n]);
	}
	return n;
}

/* One type with itself: a pair that is there the other way round stays so.  True: one is. */
static bool
turn_pairs(MirrorBatch *batch)
{
	MirrorTable *t = batch->ops->table;
	uint64		n = run(t, psprintf("SELECT b.ord FROM " MIRROR_BATCH " AS b WHERE (SELECT true FROM %s AS mirrored"
									" WHERE mirrored.%s " EQ " b.to_id AND mirrored.%s " EQ " b.from_id)",
									t->quoted, from_column(t), to_column(t)), 0, NULL, NULL);
	SPITupleTable *rows = SPI_tuptable;

	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;
		MirrorOp   *op = &batch->ops[DatumGetInt32(SPI_getbinval(rows->vals[i], rows->tupdesc, 1, &isnull))];
		Str			id = op->id;

		op->id = op->to_id;
		op->to_id = id;
	}
	SPI_freetuptable(rows);
	return n > 0;
}

static void
gather_again(MirrorBatch *batch)
{
	MirrorOp   *ops = batch->ops;
	int			nops = batch->nops;

	mirror_batch_end(batch);
	mirror_batch_begin(batch, batch->apply, ops, batch->desc);
	for (int i = 0; i < nops; i++)
		if (ops[i].pending)
			add_pair(batch, &ops[i]);
}

int
mirror_links_write(Apply *apply, MirrorOp *ops, int nops)
{
	MirrorBatch batch = {0};
	int			n = gather(&batch, apply, ops, nops);

	if (batch.count == 0)
		return n;
	if (same_type(ops->table) && turn_pairs(&batch))
		gather_again(&batch);
	mirror_batch_write(&batch, link_plan);
	mirror_batch_end(&batch);
	for (int i = 0; i < n; i++)
		if (ops[i].pending)
		{
			ops[i].pending = false;
			if (batch.mixed)
				mirror_links_write(apply, &ops[i], 1);	/* by its own fence */
		}
	return n;
}

/* ---- UNLINKs ---- */

static void
remove_labels(MirrorOp *op, Datum *values)
{
	MirrorTable *t = op->table;
	const char *rest = psprintf("(SELECT pg_catalog.array_agg(l) FROM pg_catalog.unnest(labels) AS l WHERE l <> ALL ($3))");

	op->changed = op->written = run(t, psprintf("UPDATE %s SET labels = COALESCE(%s, '{}'), _sync_updated_at = $4 WHERE %s AND"
								  " ($5 IS NOT NULL)", t->quoted, rest, pair_condition(t)), 5, pair_types, values) > 0;
}

/* An unlink and a link that overlapped: only the API knows which came last. */
static void
remove_pair(Apply *apply, MirrorOp *op, Datum *values)
{
	MirrorTable *t = op->table;

	if (is_newer(t, values))
	{
		mirror_reread(op);
		return;
	}
	op->changed = run(t, psprintf("DELETE FROM %s WHERE %s AND $3 IS NOT NULL AND $4 IS NOT NULL AND $5 IS NOT NULL",
								  t->quoted, pair_condition(t)), 5, pair_types, values) > 0;
	op->written = true;
	mirror_note_tombstone(apply, op, op->key);
}

/* Of one pair. */
void
mirror_link_delete(Apply *apply, MirrorOp *op)
{
	Datum		values[5];

	pair_values(apply, op, values);
	if (op->change->nlabels > 0)
		remove_labels(op, values);
	else
		remove_pair(apply, op, values);
	if (!op->changed && op->item->answer)
		mirror_reread_strangers(op);
}

/* ---- UNLINKs of all but some ---- */

static const MirrorBatchColumn rest_columns[] = {{"id", TEXTOID, -1}, {"keep", TEXTARRAYOID, -1}, {"fence", TIMESTAMPTZOID, -1}};

/* A pair that nobody confirmed since this was asked for: false where it is gone, or was confirmed just now. */
static bool
remove_stale_pair(MirrorOp *op, const char *from, const char *to)
{
	MirrorTable *t = op->table;
	Oid			types[] = {TEXTOID, TEXTOID, TIMESTAMPTZOID};
	Datum		values[] = {CStringGetTextDatum(from), CStringGetTextDatum(to), TimestampTzGetDatum(op->item->asked_at)};

	return run(t, psprintf("DELETE FROM %s WHERE %s " EQ " $1 AND %s " EQ " $2"
						   " AND (_sync_updated_at IS NULL OR _sync_updated_at OPERATOR(pg_catalog.<) $3)",
						   t->quoted, from_column(t), to_column(t)), 3, types, values) > 0;
}

static Str
keep_str(Arena *arena, const char *cstr)
{
	Str			kept = arena_str(arena, cstr, strlen(cstr));

	if (kept.p == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return kept;
}

/* Its tombstone keeps an answer from before this one from bringing the pair back. */
static void
remove_found(Apply *apply, MirrorOp *op, const char *from, const char *to)
{
	Arena	   *arena = op->item->arena;

	if (!remove_stale_pair(op, from, to))
		return;
	op->changed = true;
	mirror_note_tombstone(apply, op, mirror_pair_id(op->table, arena, keep_str(arena, from), keep_str(arena, to)));
}

/* Looks first, since there is mostly nothing to remove; `one` is the column where the ops' ids are. */
static void
remove_rest_of(MirrorBatch *batch, const char *one, const char *other)
{
	MirrorTable *t = batch->ops->table;
	uint64		n = run(t, psprintf("SELECT b.ord, r.f, r.t FROM " MIRROR_BATCH " AS b, LATERAL"
									" (SELECT m.%s::pg_catalog.text, m.%s::pg_catalog.text FROM %s AS m WHERE m.%s " EQ " b.id AND"
									" m.%s OPERATOR(pg_catalog.<>) ALL (b.keep) AND (m._sync_updated_at IS NULL OR"
									" m._sync_updated_at OPERATOR(pg_catalog.<) b.fence) OFFSET 0) AS r (f, t)",
									from_column(t), to_column(t), t->quoted, one, other), 0, NULL, NULL);
	SPITupleTable *rows = SPI_tuptable;

	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;
		int			ord = DatumGetInt32(SPI_getbinval(rows->vals[i], rows->tupdesc, 1, &isnull));

		remove_found(batch->apply, &batch->ops[ord], SPI_getvalue(rows->vals[i], rows->tupdesc, 2),
					 SPI_getvalue(rows->vals[i], rows->tupdesc, 3));
	}
	SPI_freetuptable(rows);
}

static bool
is_rest(const MirrorOp *op)
{
	return op->change->op == CHANGE_UNLINK && op->to_id.p == NULL;
}

static void
add_rest(MirrorBatch *batch, MirrorOp *op)
{
	const Change *change = op->change;
	MemoryContext old = MemoryContextSwitchTo(batch->apply->row_cx);
	Datum		values[4] = {0, mirror_text(op->id), mirror_texts(change->keep_ids, change->nkeep_ids),
	TimestampTzGetDatum(op->item->asked_at)};
	bool		nulls[4] = {false};

	mirror_batch_add(batch, op, values, nulls);
	op->pending = false;
	MemoryContextSwitchTo(old);
	MemoryContextReset(batch->apply->row_cx);
}

/* All ops name the same side of the table. */
int
mirror_links_remove_rest(Apply *apply, MirrorOp *ops, int nops)
{
	MirrorTable *t = ops->table;
	MirrorBatch batch;
	int			n;

	mirror_batch_begin(&batch, apply, ops, mirror_batch_desc(rest_columns, lengthof(rest_columns)));
	for (n = 0; n < nops && n < MAX_PAIRS && is_rest(&ops[n]) && ops[n].reversed == ops->reversed; n++)
		add_rest(&batch, &ops[n]);
	if (!ops->reversed || same_type(t))
		remove_rest_of(&batch, from_column(t), to_column(t));
	if (ops->reversed || same_type(t))
		remove_rest_of(&batch, to_column(t), from_column(t));
	mirror_batch_end(&batch);
	return n;
}

/* ---- records that are gone ---- */

static void
drop_where(MirrorTable *t, const char *column, Datum ids)
{
	Oid			types[] = {TEXTARRAYOID};

	run(t, psprintf("DELETE FROM %s WHERE %s " EQ " ANY ($1)", t->quoted, column), 1, types, &ids);
}

void
mirror_links_drop(Apply *apply, CatalogSync *sync, Str collection)
{
	Datum		ids = apply->ndeleted > 0 ? mirror_texts(apply->deleted, apply->ndeleted) : (Datum) 0;

	for (int i = 0; i < sync->schema.ncollections && apply->ndeleted > 0; i++)
	{
		SchemaCollection *c = &sync->schema.collections[i];
		bool		from = c->kind == COLLECTION_LINKS && c->enabled && str_is(collection, c->from);
		bool		to = c->kind == COLLECTION_LINKS && c->enabled && str_is(collection, c->to);
		MirrorTable *t = from || to ? mirror_table_open(sync, c) : NULL;

		if (t != NULL && from)
			drop_where(t, from_column(t), ids);
		if (t != NULL && to)
			drop_where(t, to_column(t), ids);
	}
	apply->deleted = NULL;
	apply->ndeleted = 0;
}
