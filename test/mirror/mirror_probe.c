/*
 * mirror_probe.c - mirror_apply by itself, for tests and bench/ingest.py; never part of the product.
 *
 * A loadable module with its own copy of the objects in src.  probe_apply(sync, items) hands it
 * changes that are spelled as JSON and tells what came of them; probe_ingest(sync, collection, file, page)
 * feeds it HubSpot list pages (a line each) from a file, a transaction per page.  Superusers only, in
 * a session whose search_path is pg_catalog.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "mirror.h"
#include "providers/hubspot.h"
#include "sql_function.h"
#include "values.h"

PG_MODULE_MAGIC;

SQL_FUNCTION(probe_apply);
SQL_FUNCTION(probe_ingest);

static Catalog *catalog;

static CatalogSync *
find_sync(const char *name)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	CatalogSync *sync = catalog ? catalog_sync_by_name(catalog, name) : NULL;

	if (sync == NULL)
	{
		if (catalog != NULL)
			mirror_forget(catalog);
		catalog = catalog_load();
		sync = catalog_sync_by_name(catalog, name);
	}
	MemoryContextSwitchTo(old);
	if (sync == NULL)
		elog(ERROR, "no sync %s", name);
	return sync;
}

/* ---- changes spelled as JSON ---- */

static Str *
texts(Arena *arena, const JsonDoc *doc, uint32_t array, int *n)
{
	Str		   *items = arena_alloc(arena, sizeof(Str) * (size_t) (doc->count + 1));

	*n = 0;
	for (uint32_t it = json_first(doc, array); array != JSON_NONE && it != JSON_NONE; it = json_next(doc, array, it))
		items[(*n)++] = json_text(doc, it);
	return items;
}

static int64_t
time_at(const JsonDoc *doc, uint32_t object, const char *key)
{
	Str			text = json_text_at(doc, object, key);
	int64_t		us;

	return text.p != NULL && value_parse_time(text, &us) ? us : TIME_NONE;
}

static ChangeOp
op_of(Str name)
{
	for (ChangeOp op = CHANGE_UPSERT; op <= CHANGE_UNLINK; op++)
		if (str_is(name, change_op_name(op)))
			return op;
	elog(ERROR, "unknown op");
}

static void
add_change(MirrorItem *item, ChangeList *list, const JsonDoc *doc, uint32_t it)
{
	Change	   *c = change_add(list, item->arena, op_of(json_text_at(doc, it, "op")), json_text_at(doc, it, "collection"),
							   json_text_at(doc, it, "id"));
	bool		unknown = false;

	c->created_at_us = time_at(doc, it, "created_at");
	c->updated_at_us = time_at(doc, it, "updated_at");
	c->to_collection = json_text_at(doc, it, "to_collection");
	c->to_id = json_text_at(doc, it, "to_id");
	c->match_field = json_text_at(doc, it, "match_field");
	c->match_value = json_text_at(doc, it, "match_value");
	c->labels_replace = json_is_true(doc, json_get(doc, it, "replace"));
	c->labels = texts(item->arena, doc, json_get(doc, it, "labels"), &c->nlabels);
	c->keep_ids = texts(item->arena, doc, json_get(doc, it, "keep"), &c->nkeep_ids);
	hubspot_add_properties(c, item->arena, schema_find(&item->sync->schema, c->collection), doc, json_get(doc, it, "fields"),
						   &unknown);
}

static void
add_item(MirrorItem *item, CatalogSync *sync, Arena *arena, const JsonDoc *doc, uint32_t it)
{
	ChangeList	changes = {0};
	Str			ago = json_text_at(doc, it, "ago_ms");
	uint32_t	list = json_get(doc, it, "changes");

	*item = (MirrorItem) {.sync = sync,.arena = arena,.page = json_is_true(doc, json_get(doc, it, "page"))};
	item->asked_at = GetCurrentTimestamp() - (ago.p ? strtol(arena_cstr(arena, ago), NULL, 10) * 1000 : 0);
	for (uint32_t c = json_first(doc, list); c != JSON_NONE; c = json_next(doc, list, c))
		add_change(item, &changes, doc, c);
	item->changes = changes.items;
	item->nchanges = changes.count;
}

static void
tell_item(StringInfo out, const MirrorItem *item)
{
	static const char *const verdicts[] = {"applied", "reread", "refresh"};

	appendStringInfo(out, "%s{\"verdict\":\"%s\",\"nwritten\":%d,\"written\":[", out->len > 1 ? "," : "",
					 verdicts[item->verdict], item->nwritten);
	for (int i = 0; i < item->nchanges; i++)
		appendStringInfo(out, "%s%d", i > 0 ? "," : "", item->written[i]);
	appendStringInfoString(out, "],\"rereads\":[");
	for (int i = 0; i < item->rereads.count; i++)
	{
		const Change *c = &item->rereads.items[i];

		appendStringInfo(out, "%s\"%.*s%s%.*s\"", i > 0 ? "," : "", STR_FMT(c->id), c->to_id.p ? ":" : "", STR_FMT(c->to_id));
	}
	appendStringInfoString(out, "]}");
}

/* probe_apply(sync text, items text) returns text */
Datum
probe_apply(PG_FUNCTION_ARGS)
{
	CatalogSync *sync = find_sync(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	Str			spelled = str_of(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	Arena	   *arena = arena_create();
	MirrorItem	items[8];
	MirrorItem *pointers[8];
	StringInfoData out;
	const char *error;
	size_t		at;
	JsonDoc		doc;
	int			n = 0;

	if (json_parse(arena, spelled, &doc, &at, &error) != JSON_OK)
		elog(ERROR, "items: %s at %zu", error, at);
	for (uint32_t it = json_first(&doc, 0); it != JSON_NONE && n < 8; it = json_next(&doc, 0, it), n++)
	{
		add_item(&items[n], sync, arena, &doc, it);
		pointers[n] = &items[n];
	}
	initStringInfo(&out);
	SPI_connect();
	mirror_apply(pointers, n);
	SPI_finish();
	appendStringInfoChar(&out, '[');
	for (int i = 0; i < n; i++)
		tell_item(&out, &items[i]);
	appendStringInfoChar(&out, ']');
	arena_destroy(arena);
	PG_RETURN_TEXT_P(cstring_to_text(out.data));
}

/* ---- pages from a file ---- */

static void
read_page(MirrorItem *item, const SchemaCollection *c, Str body)
{
	ChangeList	changes = {0};
	const char *error;
	size_t		at;
	JsonDoc		doc;
	uint32_t	results;
	bool		unknown = false;

	if (json_parse(item->arena, body, &doc, &at, &error) != JSON_OK)
		elog(ERROR, "page: %s at %zu", error, at);
	results = json_get(&doc, 0, "results");
	for (uint32_t it = json_first(&doc, results); it != JSON_NONE; it = json_next(&doc, results, it))
	{
		Change	   *change = change_add(&changes, item->arena, CHANGE_PATCH, str_of(c->collection), hubspot_id_at(&doc, it, "id"));

		change->created_at_us = hubspot_time_at(&doc, it, "createdAt");
		change->updated_at_us = hubspot_time_at(&doc, it, "updatedAt");
		hubspot_add_properties(change, item->arena, c, &doc, json_get(&doc, it, "properties"), &unknown);
	}
	item->changes = changes.items;
	item->nchanges = changes.count;
}

static int
ingest_page(CatalogSync *sync, const SchemaCollection *c, Str body, bool page)
{
	Arena	   *arena = arena_create();
	MirrorItem	item = {.sync = sync,.arena = arena,.page = page,.asked_at = GetCurrentTimestamp()};
	MirrorItem *pointer = &item;
	int			written;

	read_page(&item, c, body);
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	mirror_apply(&pointer, 1);
	SPI_commit();
	SPI_finish();
	written = item.verdict == MIRROR_APPLIED ? item.nwritten : -1;
	arena_destroy(arena);
	return written;
}

/* CALL probe_ingest(sync text, collection text, file text, page boolean, INOUT seconds float8, INOUT written bigint) */
Datum
probe_ingest(PG_FUNCTION_ARGS)
{
	CatalogSync *sync = find_sync(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	SchemaCollection *c = schema_find_name(&sync->schema, str_of(text_to_cstring(PG_GETARG_TEXT_PP(1))));
	FILE	   *file = fopen(text_to_cstring(PG_GETARG_TEXT_PP(2)), "r");
	bool		page = PG_GETARG_BOOL(3);
	int64		us = 0;
	int64		written = 0;
	char	   *line = NULL;
	size_t		size = 0;
	ssize_t		n;
	Datum		values[2];
	bool		nulls[2] = {false};
	TupleDesc	desc = CreateTemplateTupleDesc(2);

	if (file == NULL || c == NULL)
		elog(ERROR, "no such file or collection");
	while ((n = getline(&line, &size, file)) > 0)
	{
		TimestampTz began = GetCurrentTimestamp();

		written += ingest_page(sync, c, (Str) {line, (size_t) n}, page);
		us += GetCurrentTimestamp() - began;
	}
	free(line);
	fclose(file);
	TupleDescInitEntry(desc, 1, "seconds", FLOAT8OID, -1, 0);
	TupleDescInitEntry(desc, 2, "written", INT8OID, -1, 0);
	values[0] = Float8GetDatum((double) us / 1e6);
	values[1] = Int64GetDatum(written);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
