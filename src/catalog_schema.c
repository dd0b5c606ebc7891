/*
 * catalog_schema.c - sequin.mirror_table and mirror_column -> the syncs' Schemas.
 *
 * Two queries, ordered alike and merged: linear in rows.  A link table's ends and types are in
 * mirror_table.detail: {"from","to","from_column","to_column","types":[{"id","category","from",
 * "to","label"}]}; a record table's {"aliases":[...],"exact":true}.  mirror.c writes them.
 * Called by the catalog's loader inside a transaction; may ereport.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "executor/spi.h"
#include "utils/lsyscache.h"

#include "catalog_load.h"
#include "json.h"

static const char table_query[] =
	"SELECT sync::text, collection::text, collection_name, table_name::text, kind = 'links', enabled,"
	" removed_at IS NOT NULL, detail::text"
	" FROM sequin.mirror_table ORDER BY sync COLLATE \"C\", collection COLLATE \"C\"";

static const char column_query[] =
	"SELECT sync::text, collection::text, field::text, field_name, column_name::text, column_type::text, enabled,"
	" removed_at IS NOT NULL"
	" FROM sequin.mirror_column ORDER BY sync COLLATE \"C\", collection COLLATE \"C\", field COLLATE \"C\"";

/* The row's (sync, collection) against ours: <0 it comes before, 0 it is ours. */
static int
row_order(uint64 row, const char *sync, const char *collection)
{
	int			order = catalog_compare(row, 1, sync);

	return order == 0 && collection != NULL ? catalog_compare(row, 2, collection) : order;
}

static const char *
member(MemoryContext cx, const JsonDoc *doc, uint32_t object, const char *key)
{
	uint32_t	node = json_get(doc, object, key);

	if (node == JSON_NONE || json_type(doc, node) != JSON_STRING)
		return NULL;
	return MemoryContextStrdup(cx, pnstrdup(doc->nodes[node].text.p, doc->nodes[node].text.n));
}

static void
read_aliases(SchemaCollection *c, MemoryContext cx, const JsonDoc *doc)
{
	uint32_t	list = json_get(doc, 0, "aliases");

	if (list == JSON_NONE || json_type(doc, list) != JSON_ARRAY)
		return;
	c->aliases = MemoryContextAlloc(cx, sizeof(char *) * (doc->nodes[list].count + 1));
	for (uint32_t it = json_first(doc, list); it != JSON_NONE; it = json_next(doc, list, it))
		if (json_type(doc, it) == JSON_STRING)
			c->aliases[c->naliases++] = MemoryContextStrdup(cx, pnstrdup(doc->nodes[it].text.p, doc->nodes[it].text.n));
}

static void
read_link_type(LinkType *type, MemoryContext cx, const JsonDoc *doc, uint32_t node)
{
	Str			id = json_text_at(doc, node, "id");

	type->type_id = id.p ? strtol(pnstrdup(id.p, id.n), NULL, 10) : 0;
	type->category = member(cx, doc, node, "category");
	type->from = member(cx, doc, node, "from");
	type->to = member(cx, doc, node, "to");
	type->label = member(cx, doc, node, "label");
}

static void
read_links(SchemaCollection *c, MemoryContext cx, const JsonDoc *doc)
{
	uint32_t	list = json_get(doc, 0, "types");

	c->from = member(cx, doc, 0, "from");
	c->to = member(cx, doc, 0, "to");
	c->from_column = member(cx, doc, 0, "from_column");
	c->to_column = member(cx, doc, 0, "to_column");
	/* a row that somebody wrote by hand: without its ends it cannot be written to */
	if (c->from == NULL || c->to == NULL || c->from_column == NULL || c->to_column == NULL)
	{
		c->enabled = false;
		c->from = c->from ? c->from : "";
		c->to = c->to ? c->to : "";
	}
	if (list == JSON_NONE || json_type(doc, list) != JSON_ARRAY)
		return;
	c->link_types = MemoryContextAllocZero(cx, sizeof(LinkType) * (doc->nodes[list].count + 1));
	for (uint32_t it = json_first(doc, list); it != JSON_NONE; it = json_next(doc, list, it))
		if (json_type(doc, it) == JSON_OBJECT)
			read_link_type(&c->link_types[c->nlink_types++], cx, doc, it);
}

static void
read_detail(SchemaCollection *c, MemoryContext cx, const char *detail)
{
	Arena	   *arena = arena_create();
	JsonDoc		doc;
	size_t		at;
	const char *why;

	if (arena == NULL)
		ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
	PG_TRY();
	{
		if (json_parse(arena, str_of(detail), &doc, &at, &why) != JSON_OK)
			ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not read a mirror table's detail"));
		if (c->kind == COLLECTION_LINKS)
			read_links(c, cx, &doc);
		else
			read_aliases(c, cx, &doc);
		c->exact = json_is_true(&doc, json_get(&doc, 0, "exact"));
	}
	PG_FINALLY();
	{
		arena_destroy(arena);
	}
	PG_END_TRY();
}

static void
read_table(SchemaCollection *c, MemoryContext cx, Oid namespace, uint64 row)
{
	char	   *detail = catalog_text(CurrentMemoryContext, row, 8);

	c->collection = catalog_text(cx, row, 2);
	c->name = catalog_text(cx, row, 3);
	c->table = catalog_text(cx, row, 4);
	c->kind = catalog_bool(row, 5) ? COLLECTION_LINKS : COLLECTION_RECORDS;
	c->enabled = catalog_bool(row, 6);
	c->removed = catalog_bool(row, 7);
	c->relid = OidIsValid(namespace) ? get_relname_relid(c->table, namespace) : InvalidOid;
	if (detail != NULL)
	{
		read_detail(c, cx, detail);
		pfree(detail);
	}
}

/* This sync's tables: rows [*next, end) of the ordered result. */
static void
read_sync_tables(CatalogSync *sync, MemoryContext cx, uint64 rows, uint64 *next)
{
	Oid			namespace = get_namespace_oid(sync->target_schema, true);
	uint64		end;
	int			count;

	while (*next < rows && row_order(*next, sync->view.name, NULL) < 0)
		(*next)++;
	for (end = *next; end < rows && row_order(end, sync->view.name, NULL) == 0;)
		end++;
	count = (int) (end - *next);
	sync->schema.collections = MemoryContextAllocZero(cx, sizeof(SchemaCollection) * Max(count, 1));
	sync->schema.ncollections = count;
	for (int i = 0; i < count; i++)
		read_table(&sync->schema.collections[i], cx, namespace, (*next)++);
	if (count > 0 || sync->ready)
		sync->view.schema = &sync->schema;
}

static void
read_field(SchemaField *field, MemoryContext cx, uint64 row)
{
	char	   *type = catalog_text(CurrentMemoryContext, row, 6);

	field->field = catalog_text(cx, row, 3);
	field->name = catalog_text(cx, row, 4);
	field->column = catalog_text(cx, row, 5);
	if (!schema_type_parse(type, &field->type))
		field->type = MIRROR_TEXT;
	field->enabled = catalog_bool(row, 7);
	field->removed = catalog_bool(row, 8);
	pfree(type);
}

static void
read_fields(SchemaCollection *c, const char *sync, MemoryContext cx, uint64 rows, uint64 *next)
{
	uint64		end;
	int			count;

	while (*next < rows && row_order(*next, sync, c->collection) < 0)
		(*next)++;
	for (end = *next; end < rows && row_order(end, sync, c->collection) == 0;)
		end++;
	count = (int) (end - *next);
	c->fields = MemoryContextAllocZero(cx, sizeof(SchemaField) * Max(count, 1));
	c->nfields = count;
	for (int i = 0; i < count; i++)
		read_field(&c->fields[i], cx, (*next)++);
}

void
catalog_read_schemas(Catalog *catalog)
{
	uint64		rows = catalog_query(table_query);
	uint64		next = 0;

	for (int i = 0; i < catalog->nsyncs; i++)
		read_sync_tables(&catalog->syncs[i], catalog->cx, rows, &next);
	rows = catalog_query(column_query);
	next = 0;
	for (int i = 0; i < catalog->nsyncs; i++)
		for (int j = 0; j < catalog->syncs[i].schema.ncollections; j++)
			read_fields(&catalog->syncs[i].schema.collections[j], catalog->syncs[i].view.name, catalog->cx, rows, &next);
}
