/*
 * mirror_links.c - links -> rows of association tables.
 *
 * Owns the SQL for link tables: one row per pair, with the labels of both directions united.  Where
 * a type is linked with itself the pair is one row too, in the direction in which it came first.
 * Called by mirror.c as the owner of the sync.
 */
#include "mirror_internal.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
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

/* The pair's row, when it is there, gets the labels. */
static uint64
update_pair(const MirrorOp *op, Datum *values)
{
	MirrorTable *t = op->table;
	bool		replace = op->change->labels_replace;
	const char *labels = psprintf(SORTED_LABELS, replace ? "$3" : "labels OPERATOR(pg_catalog.||) $3");

	return run(t, psprintf("UPDATE %s SET labels = %s, _sync_updated_at = $4 WHERE %s AND ($5 IS NULL OR %s)",
						   t->quoted, labels, pair_condition(t),
						   replace ? "_sync_updated_at IS NULL OR _sync_updated_at OPERATOR(pg_catalog.<) $5" : "true"),
			   5, pair_types, values);
}

/* Only after update_pair found nothing.  The conflict is another transaction's insert in between. */
static uint64
insert_pair(const MirrorOp *op, Datum *values)
{
	MirrorTable *t = op->table;
	const char *labels = psprintf(SORTED_LABELS, "$3");
	const char *both = psprintf(SORTED_LABELS, "mirrored.labels OPERATOR(pg_catalog.||) $3");

	return run(t, psprintf("INSERT INTO %s AS mirrored (%s, %s, labels, _sync_updated_at) SELECT $1, $2, %s, $4"
						   " WHERE $5 IS NOT NULL ON CONFLICT (%s, %s) DO UPDATE SET labels = %s, _sync_updated_at = $4",
						   t->quoted, from_column(t), to_column(t), labels, from_column(t), to_column(t), both),
			   5, pair_types, values);
}

void
mirror_link_write(Apply *apply, MirrorOp *op)
{
	Datum		values[5];

	if (mirror_is_deleted(apply, op))
	{
		mirror_reread(op);
		return;
	}
	pair_values(apply, op, values);
	op->written = update_pair(op, values) > 0;
	if (op->written)
		return;
	if (op->change->labels_replace && is_newer(op->table, values))
		mirror_reread(op);
	else
		op->written = insert_pair(op, values) > 0;
}

static void
remove_labels(MirrorOp *op, Datum *values)
{
	MirrorTable *t = op->table;
	const char *rest = psprintf("(SELECT pg_catalog.array_agg(l) FROM pg_catalog.unnest(labels) AS l WHERE l <> ALL ($3))");

	op->written = run(t, psprintf("UPDATE %s SET labels = COALESCE(%s, '{}'), _sync_updated_at = $4 WHERE %s AND"
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
	run(t, psprintf("DELETE FROM %s WHERE %s AND $3 IS NOT NULL AND $4 IS NOT NULL AND $5 IS NOT NULL", t->quoted,
					pair_condition(t)), 5, pair_types, values);
	op->written = true;
	mirror_note_tombstone(apply, op, op->key);
}

/* Deletes the rows where `one` is $1 but those where `other` is kept, and what was linked since. */
static void
remove_rest_of(const MirrorOp *op, const char *one, const char *other)
{
	MirrorTable *t = op->table;
	Oid			types[] = {TEXTOID, TEXTARRAYOID, TIMESTAMPTZOID};
	Datum		values[] = {mirror_text(op->id), mirror_texts(op->change->keep_ids, op->change->nkeep_ids),
		TimestampTzGetDatum(op->item->asked_at)};

	run(t, psprintf("DELETE FROM %s WHERE %s " EQ " $1 AND %s <> ALL ($2)"
					" AND (_sync_updated_at IS NULL OR _sync_updated_at OPERATOR(pg_catalog.<) $3)",
					t->quoted, one, other), 3, types, values);
}

static void
remove_rest(MirrorOp *op)
{
	MirrorTable *t = op->table;

	if (!op->reversed || same_type(t))
		remove_rest_of(op, from_column(t), to_column(t));
	if (op->reversed || same_type(t))
		remove_rest_of(op, to_column(t), from_column(t));
}

void
mirror_link_delete(Apply *apply, MirrorOp *op)
{
	Datum		values[5];

	if (op->to_id.p == NULL)
	{
		remove_rest(op);
		return;
	}
	pair_values(apply, op, values);
	if (op->change->nlabels > 0)
		remove_labels(op, values);
	else
		remove_pair(apply, op, values);
}

static void
drop_where(MirrorTable *t, const char *column, Str id)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {mirror_text(id)};

	run(t, psprintf("DELETE FROM %s WHERE %s " EQ " $1", t->quoted, column), 1, types, values);
}

void
mirror_links_drop(CatalogSync *sync, Str collection, Str id)
{
	for (int i = 0; i < sync->schema.ncollections; i++)
	{
		SchemaCollection *c = &sync->schema.collections[i];
		bool		from = c->kind == COLLECTION_LINKS && c->enabled && str_is(collection, c->from);
		bool		to = c->kind == COLLECTION_LINKS && c->enabled && str_is(collection, c->to);
		MirrorTable *t = from || to ? mirror_table_open(sync, c) : NULL;

		if (t != NULL && from)
			drop_where(t, from_column(t), id);
		if (t != NULL && to)
			drop_where(t, to_column(t), id);
	}
}
