/*
 * airtable_record.c - one record's JSON ({id, createdTime, fields}) -> one Change.
 *
 * Pure C; called by airtable_decode.c and airtable_reread.c.  Values are handed on as they are
 * (values.c knows what fits a column), computed ones and attachments in flight included: they are
 * what the API says the cell holds now.  Never adds more than the one change.
 */
#include "airtable.h"

#include "../values.h"

static bool
field_matches(const SchemaField *field, Str key, bool by_id)
{
	/* What the API has no more cannot be meant: its name may belong to a new field by now. */
	return !field->removed && str_is(key, by_id ? field->field : field->name);
}

/* Records list their fields in the schema's order: the next one is most often the right one. */
static const SchemaField *
find_in_table(RecordReader *reader, Str key, bool by_id)
{
	const SchemaCollection *table = reader->table;

	for (int i = 0; i < table->nfields; i++)
	{
		int			at = (reader->hint + i) % table->nfields;

		if (field_matches(&table->fields[at], key, by_id))
		{
			reader->hint = (at + 1) % table->nfields;
			return &table->fields[at];
		}
	}
	return NULL;
}

static const SchemaField *
find_anywhere(const Schema *schema, Str key)
{
	for (int i = 0; schema != NULL && i < schema->ncollections; i++)
	{
		const SchemaField *field = schema_field(&schema->collections[i], key);

		if (field != NULL && !field->removed)
			return field;
	}
	return NULL;
}

/*
 * Keys are either all names or all ids, as the request asked; the other reading is tried too,
 * since a mistake about the request must not lose a value.  Field ids are unique in a base.
 */
static const SchemaField *
find_field(RecordReader *reader, Str key)
{
	const SchemaField *field;

	if (reader->table == NULL)
		return find_anywhere(reader->schema, key);
	field = find_in_table(reader, key, reader->by_id);
	return field ? field : find_in_table(reader, key, !reader->by_id);
}

/* The same field twice (its name and its id, or a repeated key): the last wins, as in jsonb. */
static FieldValue *
value_slot(RecordReader *reader, Change *change, const SchemaField *field, Str key)
{
	if (field == NULL)
		return change_add_field(change, reader->arena, key);
	for (int i = 0; i < change->nfields; i++)
		if (change->fields[i].field.p == field->field)
			return &change->fields[i];
	return change_add_field(change, reader->arena, str_of(field->field));
}

static bool
add_value(RecordReader *reader, Change *change, const JsonDoc *doc, uint32_t node)
{
	Str			key = json_key(doc, node);
	const SchemaField *field = find_field(reader, key);
	FieldValue *value = value_slot(reader, change, field, key);

	if (value == NULL)
		return false;
	value->known = field != NULL;
	value->type = doc->nodes[node].type;
	value->text = doc->nodes[node].text;
	if (field == NULL)
		reader->unknown_field = true;
	return true;
}

RecordResult
airtable_record_read(RecordReader *reader, const JsonDoc *doc, uint32_t record)
{
	uint32_t	fields;
	Str			id;
	Change	   *change;

	if (json_type(doc, record) != JSON_OBJECT)
		return RECORD_MALFORMED;
	id = json_text_at(doc, record, "id");
	fields = json_get(doc, record, "fields");
	if (!airtable_is_id(id, "rec") || json_type(doc, fields) != JSON_OBJECT)
		return RECORD_MALFORMED;
	change = change_add(reader->changes, reader->arena, reader->op, reader->collection, id);
	if (change == NULL)
		return RECORD_NOMEM;
	change->base_wide = reader->base_wide;
	if (!value_parse_time(json_text_at(doc, record, "createdTime"), &change->created_at_us))
		change->created_at_us = TIME_NONE;
	for (uint32_t it = json_first(doc, fields); it != JSON_NONE; it = json_next(doc, fields, it))
		if (!add_value(reader, change, doc, it))
			return RECORD_NOMEM;
	return RECORD_OK;
}
