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
	apply->errors[n] = (CastError) {op, op->table->sync, op->table->c->table, op->id, column, notable_text(text), pstrdup(error)};
	MemoryContextSwitchTo(old);
}

void
mirror_note_no_errors(Apply *apply, int n)
{
	int			kept = n;

	for (int i = n; i < apply->nerrors; i++)
		if (apply->errors[i].op->written)
			apply->errors[kept++] = apply->errors[i];
	apply->nerrors = kept;
}

static void
write_tombstones(const Apply *apply)
{
	static SPIPlanPtr plan;
	Oid			types[] = {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZOID};
	int			n = apply->ntombstones;
	Str		   *texts[3];
	Datum		values[4];

	for (int i = 0; i < 3; i++)
		texts[i] = palloc(sizeof(Str) * n);
	for (int i = 0; i < n; i++)
	{
		texts[0][i] = str_of(apply->tombstones[i].sync->view.name);
		texts[1][i] = apply->tombstones[i].collection;
		texts[2][i] = apply->tombstones[i].id;
	}
	for (int i = 0; i < 3; i++)
		values[i] = mirror_texts(texts[i], n);
	values[3] = TimestampTzGetDatum(apply->stamp);
	/* in the order of the key, so that two workers can't deadlock */
	mirror_own_plan(&plan, "INSERT INTO sequin.tombstone AS t (sync, collection, id, at)"
					" SELECT DISTINCT n.sync COLLATE \"C\", n.collection COLLATE \"C\", n.id COLLATE \"C\", $4"
					" FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) AS n (sync, collection, id)"
					" ORDER BY 1, 2, 3 ON CONFLICT (sync, collection, id) DO UPDATE SET at = GREATEST(t.at, excluded.at)", 4, types);
	mirror_execute(plan, values, NULL);
}

static Str
error_text(const CastError *e, int i)
{
	const char *const texts[] = {e->sync->view.name, e->table, NULL, e->column, e->value, e->error};

	return i == 2 ? e->id : str_of(texts[i]);
}

static void
write_errors(const Apply *apply)
{
	static SPIPlanPtr plan;
	Oid			types[6];
	Datum		values[6];
	Str		   *texts = palloc(sizeof(Str) * apply->nerrors);

	for (int i = 0; i < 6; i++)
	{
		types[i] = TEXTARRAYOID;
		for (int j = 0; j < apply->nerrors; j++)
			texts[j] = error_text(&apply->errors[j], i);
		values[i] = mirror_texts(texts, apply->nerrors);
	}
	mirror_own_plan(&plan, "INSERT INTO sequin.cast_error (sync, table_name, id, column_name, value, error)"
					" SELECT * FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3),"
					" pg_catalog.unnest($4), pg_catalog.unnest($5), pg_catalog.unnest($6)) AS n", 6, types);
	mirror_execute(plan, values, NULL);
}

void
mirror_notes_write(Apply *apply)
{
	if (apply->ntombstones > 0)
		write_tombstones(apply);
	if (apply->nerrors > 0)
		write_errors(apply);
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

static int
compare_ids(const void *a, const void *b)
{
	return str_cmp(((const Tombstone *) a)->id, ((const Tombstone *) b)->id);
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
	qsort(apply->known, apply->nknown, sizeof(Tombstone), compare_ids);
}

/* All of late, of the run's tables: seldom more than a few, however many ops there are. */
void
mirror_notes_read(Apply *apply, const MirrorOp *ops, int nops)
{
	static SPIPlanPtr plan;
	Oid			types[] = {TEXTOID, TEXTARRAYOID, TIMESTAMPTZOID};
	const SchemaCollection *c = ops->table->c;
	bool		links = c->kind == COLLECTION_LINKS;
	Str			collections[] = {str_of(c->collection), str_of(c->from), str_of(c->to)};
	TimestampTz asked_at = ops->item->asked_at;
	Datum		values[3];

	for (int i = 1; i < nops; i++)
		asked_at = Min(asked_at, ops[i].item->asked_at);
	values[0] = CStringGetTextDatum(ops->table->sync->view.name);
	values[1] = mirror_texts(collections, links ? 3 : 1);
	values[2] = TimestampTzGetDatum(asked_at);
	mirror_own_plan(&plan, "SELECT collection, id, at FROM sequin.tombstone WHERE sync = $1"
					" AND collection = ANY ($2) AND at >= $3", 3, types);
	mirror_execute(plan, values, NULL);
	take_known(apply, ops->table->sync);
}

/* Is it of this record or pair, and not older than what the op tells? */
static bool
forbids(const Tombstone *t, const MirrorOp *op, const char *collection, Str id)
{
	return t->at >= op->item->asked_at && !(t->item == op->item && t->seq < op->seq) && str_eq(t->id, id) &&
		str_is(t->collection, collection) && strcmp(t->sync->view.name, op->table->sync->view.name) == 0;
}

static bool
is_known_gone(const Apply *apply, const MirrorOp *op, const char *collection, Str id)
{
	int			low = 0;
	int			high = apply->nknown;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (str_cmp(apply->known[middle].id, id) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < apply->nknown && str_eq(apply->known[low].id, id); low++)
		if (forbids(&apply->known[low], op, collection, id))
			return true;
	return false;
}

static bool
is_gone(const Apply *apply, const MirrorOp *op, const char *collection, Str id)
{
	for (int i = 0; i < apply->ntombstones; i++)
		if (forbids(&apply->tombstones[i], op, collection, id))
			return true;
	return is_known_gone(apply, op, collection, id);
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
