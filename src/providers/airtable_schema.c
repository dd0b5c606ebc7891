/*
 * airtable_schema.c - the base's tables and fields: discovery, types, and which tables are chosen.
 *
 * Pure C; called by the rest of the Airtable provider.  One call tells of all tables with all
 * fields, so a refresh of one table costs as much as one of all.  Field names are the caller's
 * data: they go into the Schema and nowhere else.
 */
#include "airtable.h"

#include "../names.h"

#define MAX_BASE_ID 64

static const struct
{
	const char *airtable;
	MirrorType	type;
}			plain_types[] = {
	{"singleLineText", MIRROR_TEXT},
	{"multilineText", MIRROR_TEXT},
	{"richText", MIRROR_TEXT},
	{"email", MIRROR_TEXT},
	{"url", MIRROR_TEXT},
	{"phoneNumber", MIRROR_TEXT},
	{"singleSelect", MIRROR_TEXT},
	{"externalSyncSource", MIRROR_TEXT},
	{"number", MIRROR_NUMERIC},
	{"currency", MIRROR_NUMERIC},
	{"percent", MIRROR_NUMERIC},
	{"duration", MIRROR_NUMERIC},
	{"count", MIRROR_NUMERIC},
	{"autoNumber", MIRROR_BIGINT},
	{"rating", MIRROR_INTEGER},
	{"checkbox", MIRROR_BOOLEAN},
	{"date", MIRROR_DATE},
	{"dateTime", MIRROR_TIMESTAMPTZ},
	{"multipleSelects", MIRROR_TEXT_ARRAY},
	{"multipleRecordLinks", MIRROR_TEXT_ARRAY},
};

/* Objects, arrays of objects, and whatever Airtable adds one day: jsonb takes anything. */
static MirrorType
plain_type(Str type)
{
	for (size_t i = 0; i < sizeof(plain_types) / sizeof(plain_types[0]); i++)
		if (str_is(type, plain_types[i].airtable))
			return plain_types[i].type;
	return MIRROR_JSONB;
}

static bool
is_date_only(const JsonDoc *doc, uint32_t field)
{
	return str_is(json_text(doc, json_path(doc, field, "options.result.type")), "date");
}

static MirrorType
field_type(const JsonDoc *doc, uint32_t field)
{
	Str			type = json_text_at(doc, field, "type");
	Str			result = json_text(doc, json_path(doc, field, "options.result.type"));

	if (str_is(type, "createdTime") || str_is(type, "lastModifiedTime"))
		return is_date_only(doc, field) ? MIRROR_DATE : MIRROR_TIMESTAMPTZ;
	if (str_is(type, "formula") || str_is(type, "rollup"))
	{
		if (str_is(result, "createdTime") || str_is(result, "lastModifiedTime"))
			return MIRROR_TIMESTAMPTZ;
		return plain_type(result);	/* invalid formulas have no result: jsonb */
	}
	/* A lookup is the array of the cells it finds; only scalars that are text stay text in it. */
	if (str_is(type, "multipleLookupValues"))
		return plain_type(result) == MIRROR_TEXT ? MIRROR_TEXT_ARRAY : MIRROR_JSONB;
	return plain_type(type);
}

SchemaCollection *
airtable_table(const Schema *schema, Str segment)
{
	SchemaCollection *table = schema_find(schema, segment);

	if (table != NULL && !table->removed)
		return table;
	/* Not schema_find_name: a removed table may have left its name to a newer one. */
	for (int i = 0; schema != NULL && i < schema->ncollections; i++)
		if (!schema->collections[i].removed && str_is(segment, schema->collections[i].name))
			return &schema->collections[i];
	return NULL;
}

static bool
all_chosen_are_known(const SyncView *view)
{
	for (int i = 0; i < view->ntables; i++)
		if (airtable_table(view->schema, str_of(view->tables[i])) == NULL)
			return false;
	return true;
}

/*
 * By a name it always may: a table we have may have got it since.  By an id only if the user wants
 * all tables, or one that we have not found so far.  "No" saves a refresh per write to such tables.
 */
bool
airtable_table_may_be_chosen(const SyncView *view, Str segment)
{
	if (view->schema == NULL || view->tables == NULL || !airtable_is_id(segment, "tbl"))
		return true;
	return !all_chosen_are_known(view);
}

static bool
is_chosen(const Conversation *conv, Str id, Str name)
{
	const SyncView *view = conv->view;
	const SchemaCollection *mirrored;

	if (conv->scope != NULL)
		return str_is(id, conv->scope);
	if (view->tables == NULL)
		return true;
	for (int i = 0; i < view->ntables; i++)
		if (str_is(id, view->tables[i]) || str_is(name, view->tables[i]))
			return true;
	/* Chosen by a name that it had then: it stays, whatever its name is now. */
	mirrored = schema_find(view->schema, id);
	return mirrored != NULL && mirrored->enabled && !mirrored->removed;
}

static void
note_missing(Conversation *conv)
{
	const SyncView *view = conv->view;

	for (int i = 0; conv->scope == NULL && i < view->ntables; i++)
		if (airtable_table(&conv->schema, str_of(view->tables[i])) == NULL)
			conversation_note(conv, "table \"%.100s\": not in the base, or the credential may not read it",
							  view->tables[i]);
}

/* The schema is made of C strings: a name with U+0000 in it cannot be kept. */
static const char *
name_copy(Arena *arena, Str s, bool *usable)
{
	*usable = s.p != NULL && s.n > 0 && memchr(s.p, '\0', s.n) == NULL;
	return *usable ? arena_cstr(arena, s) : NULL;
}

/* False: out of memory. */
/*
 * Fields whose value changes only by an edit of the record, which moves its modification time.  Not computed ones,
 * nor links (a write to the other table's field changes the cell of this one too [unverified: perhaps it moves]),
 * nor attachments (they are completed later), nor what we do not know.
 */
static bool
is_edited(Str type)
{
	static const char *const edited[] = {
		"singleLineText", "multilineText", "richText", "email", "url", "phoneNumber", "number", "currency", "percent",
		"rating", "duration", "checkbox", "date", "dateTime", "singleSelect", "multipleSelects", "singleCollaborator",
		"multipleCollaborators", "barcode", "autoNumber", "createdTime", "createdBy",
	};

	for (size_t i = 0; i < sizeof(edited) / sizeof(edited[0]); i++)
		if (str_is(type, edited[i]))
			return true;
	return false;
}

static bool
add_field(Arena *arena, SchemaCollection *table, const JsonDoc *doc, uint32_t node)
{
	SchemaField *field = &table->fields[table->nfields];
	bool		has_id,
				has_name;

	*field = (SchemaField) {0};
	field->field = name_copy(arena, json_text_at(doc, node, "id"), &has_id);
	field->name = name_copy(arena, json_text_at(doc, node, "name"), &has_name);
	if (!has_id || !has_name || str_is(json_text_at(doc, node, "type"), "manualSort"))
		return true;			/* manualSort is the order of a view, no data */
	field->type = field_type(doc, node);
	table->exact &= is_edited(json_text_at(doc, node, "type"));
	table->nfields++;
	return field->field != NULL && field->name != NULL;
}

static bool
add_fields(Arena *arena, SchemaCollection *table, const JsonDoc *doc, uint32_t fields)
{
	if (json_type(doc, fields) != JSON_ARRAY || doc->nodes[fields].count == 0)
		return true;
	table->fields = arena_alloc(arena, sizeof(SchemaField) * doc->nodes[fields].count);
	if (table->fields == NULL)
		return false;
	for (uint32_t it = json_first(doc, fields); it != JSON_NONE; it = json_next(doc, fields, it))
		if (!add_field(arena, table, doc, it))
			return false;
	return true;
}

static bool
add_table(Conversation *conv, const JsonDoc *doc, uint32_t node)
{
	Str			id = json_text_at(doc, node, "id");
	Str			name = json_text_at(doc, node, "name");
	SchemaCollection *table = &conv->schema.collections[conv->schema.ncollections];
	bool		has_id,
				has_name;

	if (!is_chosen(conv, id, name))
		return true;
	*table = (SchemaCollection) {.kind = COLLECTION_RECORDS,.exact = true};
	table->collection = name_copy(conv->arena, id, &has_id);
	table->name = name_copy(conv->arena, name, &has_name);
	if (!has_id || !has_name)
		return true;
	conv->schema.ncollections++;
	table->table = name_snake(conv->arena, name).p;
	return table->collection != NULL && table->name != NULL && table->table != NULL &&
		add_fields(conv->arena, table, doc, json_get(doc, node, "fields"));
}

static bool
add_tables(Conversation *conv, const JsonDoc *doc, uint32_t tables)
{
	if (doc->nodes[tables].count == 0)
		return true;
	conv->schema.collections = arena_alloc(conv->arena, sizeof(SchemaCollection) * doc->nodes[tables].count);
	if (conv->schema.collections == NULL)
		return false;
	for (uint32_t it = json_first(doc, tables); it != JSON_NONE; it = json_next(doc, tables, it))
		if (!add_table(conv, doc, it))
			return false;
	return true;
}

static void
read_tables(Conversation *conv, Str body)
{
	JsonDoc		doc;
	size_t		at;
	const char *why;
	uint32_t	tables = JSON_NONE;
	JsonResult	result = json_parse(conv->arena, body, &doc, &at, &why);

	if (result == JSON_OK)
		tables = json_get(&doc, 0, "tables");
	if (result == JSON_INVALID)
		conversation_fail(conv, true, "reading the schema: the answer is not JSON (%s at byte %zu)", why, at);
	else if (result == JSON_OK && json_type(&doc, tables) != JSON_ARRAY)
		conversation_fail(conv, true, "reading the schema: the answer has no list of tables");
	else if (result == JSON_NOMEM || !add_tables(conv, &doc, tables))
		conversation_fail(conv, true, "out of memory");
	else
		note_missing(conv);
}

static void
refuse_schema(Conversation *conv, int status, const char *type)
{
	conversation_fail(conv, false, "reading the schema of base %.64s: Airtable answered %d%s%s: give the token the scope "
					  "schema.bases:read and access to this base, and check base_id in the sync's config",
					  conv->view->base_id, status, *type ? " " : "", type);
}

void
airtable_schema_feed(Conversation *conv, int status, Str body)
{
	if (status == 200)
		read_tables(conv, body);
	else if (status == 403 || status == 404)
		refuse_schema(conv, status, airtable_error_type(conv->arena, body));
	else
		airtable_answer_fail(conv, "reading the schema", status, body);
}

void
airtable_discover(Conversation *conv)
{
	const char *base = conv->view->base_id;
	const char *target;
	Call		call = {.host = AIRTABLE_API_HOST, .method = "GET", .bucket = AIRTABLE_BUCKET, .step = AIRTABLE_STEP_TABLES};

	if (base == NULL || !airtable_is_id(str_of(base), "app"))
	{
		conversation_fail(conv, false, "the sync's config needs the id of an Airtable base: {\"base_id\": \"app...\"}");
		return;
	}
	target = arena_printf(conv->arena, "/v0/meta/bases/%s/tables", base);
	if (target == NULL)
		conversation_fail(conv, true, "out of memory");
	else
	{
		call.target = str_of(target);
		conversation_call(conv, call);
	}
}
