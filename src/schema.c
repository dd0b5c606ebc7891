/*
 * schema.c - look-ups in a Schema, and the spelling of mirror types.
 *
 * Pure C, read-only.  Linear searches: a sync has tens of collections with tens to hundreds of
 * fields; mirror.c keeps its own maps for the hot path.
 */
#include "schema.h"

static const struct
{
	const char *sql;
	MirrorType	type;
}			type_names[] = {
	/* the first spelling of each type is the canonical one */
	{"text", MIRROR_TEXT},
	{"numeric", MIRROR_NUMERIC},
	{"boolean", MIRROR_BOOLEAN},
	{"date", MIRROR_DATE},
	{"timestamp with time zone", MIRROR_TIMESTAMPTZ},
	{"text[]", MIRROR_TEXT_ARRAY},
	{"jsonb", MIRROR_JSONB},
	{"integer", MIRROR_INTEGER},
	{"bigint", MIRROR_BIGINT},
	{"bool", MIRROR_BOOLEAN},
	{"timestamptz", MIRROR_TIMESTAMPTZ},
	{"int", MIRROR_INTEGER},
	{"int4", MIRROR_INTEGER},
	{"int8", MIRROR_BIGINT},
};

#define NTYPE_NAMES (sizeof(type_names) / sizeof(type_names[0]))

const char *
schema_type_name(MirrorType type)
{
	for (size_t i = 0; i < NTYPE_NAMES; i++)
		if (type_names[i].type == type)
			return type_names[i].sql;
	return "text";
}

bool
schema_type_parse(const char *sql, MirrorType *type)
{
	for (size_t i = 0; i < NTYPE_NAMES; i++)
		if (strcmp(type_names[i].sql, sql) == 0)
		{
			*type = type_names[i].type;
			return true;
		}
	return false;
}

SchemaCollection *
schema_find(const Schema *schema, Str collection)
{
	for (int i = 0; schema != NULL && i < schema->ncollections; i++)
		if (str_is(collection, schema->collections[i].collection))
			return &schema->collections[i];
	return NULL;
}

SchemaCollection *
schema_find_name(const Schema *schema, Str name)
{
	for (int i = 0; schema != NULL && i < schema->ncollections; i++)
		if (str_is(name, schema->collections[i].name))
			return &schema->collections[i];
	return NULL;
}

SchemaCollection *
schema_find_links(const Schema *schema, Str a, Str b)
{
	for (int i = 0; schema != NULL && i < schema->ncollections; i++)
	{
		SchemaCollection *c = &schema->collections[i];

		if (c->kind == COLLECTION_LINKS &&
			((str_is(a, c->from) && str_is(b, c->to)) || (str_is(b, c->from) && str_is(a, c->to))))
			return c;
	}
	return NULL;
}

SchemaField *
schema_field(const SchemaCollection *c, Str field)
{
	for (int i = 0; i < c->nfields; i++)
		if (str_is(field, c->fields[i].field))
			return &c->fields[i];
	return NULL;
}

SchemaField *
schema_field_name(const SchemaCollection *c, Str name)
{
	for (int i = 0; i < c->nfields; i++)
		if (str_is(name, c->fields[i].name))
			return &c->fields[i];
	return NULL;
}
