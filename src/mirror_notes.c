/*
 * mirror_notes.c - sequin.tombstone and sequin.cast_error.
 *
 * Owns what the mirror remembers beside the rows: which records and pairs were deleted when, so
 * that an older answer can't bring them back, and which values did not fit.  Called by mirror.c
 * and its parts; its SQL runs as the worker, never as the owner of a sync.
 */
#include "mirror_internal.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define MAX_NOTED_VALUE 8000

void
mirror_note_tombstone(Apply *apply, const MirrorOp *op, Str id)
{
	int			n = apply->ntombstones++;

	if ((n & (n - 1)) == 0)
		apply->tombstones = apply->tombstones ? repalloc(apply->tombstones, sizeof(Tombstone) * n * 2)
			: MemoryContextAlloc(apply->cx, sizeof(Tombstone));
	apply->tombstones[n] = (Tombstone) {op->table->sync, str_of(op->table->c->collection), id, apply->stamp, op->item, op->seq};
}

/* What a text column of this database can hold, of any bytes. */
static const char *
notable_text(Str s)
{
	int			n = (int) Min(s.n, MAX_NOTED_VALUE);
	char	   *text;

	if (s.n > MAX_NOTED_VALUE)
		n = pg_encoding_mbcliplen(PG_UTF8, s.p, (int) s.n, MAX_NOTED_VALUE);
	text = palloc(n + 1);
	for (int i = 0; i < n; i++)
	{
		bool		odd = s.p[i] == '\0' || (IS_HIGHBIT_SET(s.p[i]) && GetDatabaseEncoding() != PG_UTF8);

		text[i] = odd ? '?' : s.p[i];
	}
	text[n] = '\0';
	return text;
}

void
mirror_note_error(Apply *apply, const MirrorOp *op, const char *column, const FieldValue *value, const char *error)
{
	MemoryContext old = MemoryContextSwitchTo(apply->cx);
	int			n = apply->nerrors++;
	Str			text = value ? value->text : STR_NULL;

	if (value && (value->type == JSON_TRUE || value->type == JSON_FALSE))
		text = value->type == JSON_TRUE ? STR_LIT("true") : STR_LIT("false");
	if ((n & (n - 1)) == 0)
		apply->errors = apply->errors ? repalloc(apply->errors, sizeof(CastError) * n * 2) : palloc(sizeof(CastError));
	apply->errors[n] = (CastError) {op->table->sync, op->table->c->table, op->id, column, notable_text(text), pstrdup(error)};
	MemoryContextSwitchTo(old);
}

static void
write_tombstone(const Tombstone *t)
{
	static SPIPlanPtr plan;
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID};
	Datum		values[] = {CStringGetTextDatum(t->sync->view.name), mirror_text(t->collection), mirror_text(t->id),
		TimestampTzGetDatum(t->at)};

	mirror_own_plan(&plan, "INSERT INTO sequin.tombstone AS t (sync, collection, id, at) VALUES ($1, $2, $3, $4)"
					" ON CONFLICT (sync, collection, id) DO UPDATE"
					" SET at = GREATEST(t.at, excluded.at)", 4, types);
	mirror_execute(plan, values, NULL);
}

static void
write_error(const CastError *e)
{
	static SPIPlanPtr plan;
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID};
	Datum		values[] = {CStringGetTextDatum(e->sync->view.name), CStringGetTextDatum(e->table), mirror_text(e->id),
		CStringGetTextDatum(e->column), CStringGetTextDatum(e->value), CStringGetTextDatum(e->error)};

	mirror_own_plan(&plan, "INSERT INTO sequin.cast_error (sync, table_name, id, column_name, value, error)"
					" VALUES ($1, $2, $3, $4, $5, $6)", 6, types);
	mirror_execute(plan, values, NULL);
}

void
mirror_notes_write(Apply *apply)
{
	for (int i = 0; i < apply->ntombstones; i++)
		write_tombstone(&apply->tombstones[i]);
	for (int i = 0; i < apply->nerrors; i++)
		write_error(&apply->errors[i]);
}

/* ---- reading ---- */

Str
mirror_pair_id(const MirrorTable *table, Arena *arena, Str from, Str to)
{
	bool		swap = strcmp(table->c->from, table->c->to) == 0 && str_cmp(from, to) > 0;
	Str			a = swap ? to : from;
	Str			b = swap ? from : to;
	char	   *pair = arena_printf(arena, "%.*s:%.*s", STR_FMT(a), STR_FMT(b));

	if (pair == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return str_of(pair);
}

static Str
copy_text(Datum datum)
{
	return str_of(TextDatumGetCString(datum));
}

static void
take_known(Apply *apply, const CatalogSync *sync)
{
	SPITupleTable *rows = SPI_tuptable;

	apply->nknown = 0;
	apply->known = palloc(sizeof(Tombstone) * (SPI_processed + 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Tombstone  *t = &apply->known[apply->nknown++];
		bool		isnull;

		*t = (Tombstone) {.sync = sync};
		t->collection = copy_text(SPI_getbinval(rows->vals[i], rows->tupdesc, 1, &isnull));
		t->id = copy_text(SPI_getbinval(rows->vals[i], rows->tupdesc, 2, &isnull));
		t->at = DatumGetTimestampTz(SPI_getbinval(rows->vals[i], rows->tupdesc, 3, &isnull));
	}
	SPI_freetuptable(rows);
}

void
mirror_notes_read(Apply *apply, const MirrorOp *ops, int nops)
{
	static SPIPlanPtr plan;
	Oid			types[] = {TEXTOID, TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZOID};
	const SchemaCollection *c = ops->table->c;
	bool		links = c->kind == COLLECTION_LINKS;
	Str			collections[] = {str_of(c->collection), str_of(c->from), str_of(c->to)};
	Str		   *ids = palloc(sizeof(Str) * nops * 3);
	TimestampTz asked_at = ops->item->asked_at;
	int			n = 0;
	Datum		values[4];

	for (int i = 0; i < nops; i++)
	{
		ids[n++] = ops[i].key;
		if (links)
		{
			ids[n++] = ops[i].id;
			if (ops[i].to_id.p != NULL)
				ids[n++] = ops[i].to_id;
		}
		asked_at = Min(asked_at, ops[i].item->asked_at);
	}
	values[0] = CStringGetTextDatum(ops->table->sync->view.name);
	values[1] = mirror_texts(collections, links ? 3 : 1);
	values[2] = mirror_texts(ids, n);
	values[3] = TimestampTzGetDatum(asked_at);
	mirror_own_plan(&plan, "SELECT collection, id, at FROM sequin.tombstone WHERE sync = $1"
					" AND collection = ANY ($2) AND id = ANY ($3) AND at >= $4", 4, types);
	mirror_execute(plan, values, NULL);
	take_known(apply, ops->table->sync);
}

static bool
has_tombstone(const Tombstone *list, int n, const MirrorOp *op, const char *collection, Str id)
{
	for (int i = 0; i < n; i++)
		if (list[i].at >= op->item->asked_at && !(list[i].item == op->item && list[i].seq < op->seq) && str_eq(list[i].id, id) && str_is(list[i].collection, collection) &&
			strcmp(list[i].sync->view.name, op->table->sync->view.name) == 0)
			return true;
	return false;
}

static bool
is_gone(const Apply *apply, const MirrorOp *op, const char *collection, Str id)
{
	return has_tombstone(apply->known, apply->nknown, op, collection, id) ||
		has_tombstone(apply->tombstones, apply->ntombstones, op, collection, id);
}

bool
mirror_is_deleted(const Apply *apply, const MirrorOp *op)
{
	const SchemaCollection *c = op->table->c;

	if (op->again)
		return false;
	if (is_gone(apply, op, c->collection, op->key))
		return true;
	return c->kind == COLLECTION_LINKS && (is_gone(apply, op, c->from, op->id) || is_gone(apply, op, c->to, op->to_id));
}
