/*
 * airtable_decode.c - (request, 2xx response) -> changes.
 *
 * Pure C; called through provider_airtable.decode.  A response holds the whole record minus its
 * empty fields, so a record becomes an UPSERT.  What cannot be applied as it is (display strings,
 * narrowed fields, a request we cannot read) becomes REREADs.
 *
 * Not done here, on purpose:
 *  - A link field's write also changes the inverse field and the computed fields of *other*
 *    records.  The response does not say which (the ids no longer linked are gone from it), and
 *    read-after-write is promised for the records written: the sync brings the others.
 *  - typecast:true may create records in a linked table, which the response does not mention
 *    either: nothing could be re-read.  New choices need no column to change.
 *  - `details` (partialSuccess) tells of attachments that failed: the records are as returned.
 */
#include "airtable.h"

#include "../target.h"

#define MAX_DISTINCT 64				/* how far back duplicates are looked for; the API takes 10 records a call */

typedef struct Decoding
{
	const SyncView *view;
	const Route *route;
	const RequestView *request;
	Arena	   *arena;
	ChangeList *changes;
	int			first;			/* where ours begin in changes */
	const SchemaCollection *table;	/* NULL: unknown */
	Str			collection;		/* STR_NULL: unknown */
	bool		single;			/* the record may live in any table of the base */
	bool		by_id;			/* returnFieldsByFieldId */
	bool		reread;			/* the response cannot be applied as it is */
	bool		has_body;
	bool		has_answer;
	JsonDoc		body;			/* the request's */
	JsonDoc		answer;			/* the response's */
} Decoding;

/* A table that is unknown needs the whole schema (it may be a new name of one we have), an unknown field its table's. */
static bool
add_refresh(Decoding *d, bool unknown_field)
{
	bool		any_table = d->route->op == AIRTABLE_UPLOAD || d->route->op == AIRTABLE_META_WRITE;

	if (!unknown_field && (d->table != NULL || any_table))
		return true;
	if (d->table == NULL && !any_table && !airtable_table_may_be_chosen(d->view, d->route->args[AIRTABLE_ARG_TABLE]))
		return true;
	return change_add(d->changes, d->arena, CHANGE_REFRESH_SCHEMA, d->table ? d->collection : STR_NULL,
					  STR_NULL) != NULL;
}

static bool
is_listed(const Decoding *d, Str id)
{
	for (int i = d->changes->count - 1; i >= d->first && i >= d->changes->count - MAX_DISTINCT; i--)
		if (str_eq(d->changes->items[i].id, id))
			return true;
	return false;
}

static bool
add_reread(Decoding *d, Str id)
{
	Change	   *change;

	if (!airtable_is_id(id, "rec") || is_listed(d, id))
		return true;
	/* By an unknown name it may be any table: its record is looked for everywhere. */
	change = change_add(d->changes, d->arena, CHANGE_REREAD, d->collection, id);
	if (change == NULL)
		return false;
	change->base_wide = d->single || d->collection.p == NULL;
	return true;
}

/* Changes of records in a table that we do not know: named as the caller named it, beside a refresh of the schema. */
static Str
collection_of_records(const Decoding *d)
{
	return d->collection.p || d->route->op == AIRTABLE_UPLOAD ? d->collection : d->route->args[AIRTABLE_ARG_TABLE];
}

/* ---- the request ---- */

static void
note_parameter(Decoding *d, Str key, Str value)
{
	if (str_is(key, "cellFormat") && !str_is(value, "json"))
		d->reread = true;		/* display strings must never reach the mirror */
	else if (memchr(key.p, '%', key.n) != NULL)
		d->reread = true;		/* could not be decoded: it may be that one */
	else if (str_is(key, "fields") || str_starts(key, "fields["))
		d->reread = true;		/* not known to work on writes; if it does, fields are missing */
	else if (str_is(key, "returnFieldsByFieldId"))
		d->by_id = str_is(value, "true") || str_is(value, "1");
}

static bool
read_query(Decoding *d)
{
	Str			rest = d->request->query;
	Str			key = STR_LIT("");
	Str			value = STR_LIT("");

	while (target_query_next(d->arena, &rest, &key, &value))
		note_parameter(d, key, value);
	return key.p != NULL && value.p != NULL;
}

static bool
read_body(Decoding *d)
{
	size_t		at;
	const char *why;
	uint32_t	format;
	JsonResult	result;

	if (d->request->body.n == 0)
		return true;
	result = json_parse(d->arena, d->request->body, &d->body, &at, &why);
	if (result == JSON_NOMEM)
		return false;
	if (result != JSON_OK)
	{
		d->reread = true;		/* the API could read it, we cannot: it may ask for display strings */
		return true;
	}
	d->has_body = true;
	format = json_get(&d->body, 0, "cellFormat");
	if (format != JSON_NONE && !str_is(json_text(&d->body, format), "json"))
		d->reread = true;
	if (json_is_true(&d->body, json_get(&d->body, 0, "returnFieldsByFieldId")))
		d->by_id = true;
	return true;
}

/* ---- ids, for re-reads ---- */

static bool
reread_ids_in(Decoding *d, const JsonDoc *doc)
{
	uint32_t	records = json_get(doc, 0, "records");

	if (!add_reread(d, json_text_at(doc, 0, "id")))
		return false;
	if (json_type(doc, records) != JSON_ARRAY)
		return true;
	for (uint32_t it = json_first(doc, records); it != JSON_NONE; it = json_next(doc, records, it))
		if (!add_reread(d, json_type(doc, it) == JSON_OBJECT ? json_text_at(doc, it, "id") : json_text(doc, it)))
			return false;
	return true;
}

static bool
reread_ids_in_query(Decoding *d)
{
	Str			rest = d->request->query;
	Str			key = STR_LIT("");
	Str			value = STR_LIT("");

	while (target_query_next(d->arena, &rest, &key, &value))
		if ((str_is(key, "records") || str_starts(key, "records[")) && !add_reread(d, value))
			return false;
	return key.p != NULL && value.p != NULL;
}

/* Every record that this exchange is known to be about.  Of an unreadable create none is: the sync will find it. */
static DecodeResult
reread_all(Decoding *d, bool unknown_field, DecodeResult result)
{
	d->changes->count = d->first;
	if (!add_reread(d, d->route->args[AIRTABLE_ARG_RECORD]) ||
		(d->has_body && !reread_ids_in(d, &d->body)) ||
		!reread_ids_in_query(d) ||
		(d->has_answer && !reread_ids_in(d, &d->answer)) ||
		!add_refresh(d, unknown_field))
		return DECODE_NOMEM;
	return result;
}

/* ---- the response ---- */

static RecordReader
record_reader(const Decoding *d)
{
	return (RecordReader) {
		.arena = d->arena, .changes = d->changes,
		.op = d->route->op == AIRTABLE_UPLOAD ? CHANGE_PATCH : CHANGE_UPSERT,
		.schema = d->view->schema, .table = d->table,
		.collection = collection_of_records(d),
		.base_wide = d->single, .by_id = d->by_id,
	};
}

static RecordResult
read_records(RecordReader *reader, const JsonDoc *doc)
{
	uint32_t	records = json_get(doc, 0, "records");

	if (records == JSON_NONE)
		return airtable_record_read(reader, doc, 0);
	if (json_type(doc, records) != JSON_ARRAY)
		return RECORD_MALFORMED;
	for (uint32_t it = json_first(doc, records); it != JSON_NONE; it = json_next(doc, records, it))
	{
		RecordResult result = airtable_record_read(reader, doc, it);

		if (result != RECORD_OK)
			return result;
	}
	return RECORD_OK;
}

/* A single call answers with one record, the one it was about. */
static bool
is_about_its_record(const Decoding *d)
{
	return !d->single || str_eq(json_text_at(&d->answer, 0, "id"), d->route->args[AIRTABLE_ARG_RECORD]);
}

static DecodeResult
decode_records(Decoding *d)
{
	RecordReader reader = record_reader(d);
	RecordResult result = is_about_its_record(d) ? read_records(&reader, &d->answer) : RECORD_MALFORMED;

	if (result == RECORD_NOMEM)
		return DECODE_NOMEM;
	if (result == RECORD_MALFORMED)
		return reread_all(d, false, DECODE_UNREADABLE);
	if (d->changes->count == d->first)
		return DECODE_OK;
	if (d->reread)
		return reread_all(d, reader.unknown_field, DECODE_OK);
	return add_refresh(d, reader.unknown_field) ? DECODE_OK : DECODE_NOMEM;
}

/* Record ids are unique in a base: with an unknown table the id alone tells what is gone. */
static RecordResult
read_deleted(Decoding *d, uint32_t node)
{
	Str			id = json_text_at(&d->answer, node, "id");
	Change	   *change;

	if (json_type(&d->answer, node) != JSON_OBJECT || !airtable_is_id(id, "rec"))
		return RECORD_MALFORMED;
	if (!json_is_true(&d->answer, json_get(&d->answer, node, "deleted")))
		return add_reread(d, id) ? RECORD_OK : RECORD_NOMEM;
	change = change_add(d->changes, d->arena, CHANGE_DELETE, d->table ? d->collection : STR_NULL, id);
	if (change == NULL)
		return RECORD_NOMEM;
	change->base_wide = d->single || d->table == NULL;
	return RECORD_OK;
}

static DecodeResult
decode_deletes(Decoding *d)
{
	uint32_t	records = json_get(&d->answer, 0, "records");
	RecordResult result = RECORD_OK;

	if (d->single)
		result = is_about_its_record(d) ? read_deleted(d, 0) : RECORD_MALFORMED;
	else if (json_type(&d->answer, records) != JSON_ARRAY)
		result = RECORD_MALFORMED;
	else
		for (uint32_t it = json_first(&d->answer, records); result == RECORD_OK && it != JSON_NONE;
			 it = json_next(&d->answer, records, it))
			result = read_deleted(d, it);
	if (result == RECORD_NOMEM)
		return DECODE_NOMEM;
	return result == RECORD_OK ? DECODE_OK : reread_all(d, false, DECODE_UNREADABLE);
}

static DecodeResult
decode_answer(Decoding *d, const ResponseView *response)
{
	JsonResult	result = JSON_INVALID;
	size_t		at;
	const char *why;

	if (!response->encoded)
		result = json_parse(d->arena, response->body, &d->answer, &at, &why);
	if (result == JSON_NOMEM)
		return DECODE_NOMEM;
	d->has_answer = result == JSON_OK && json_type(&d->answer, 0) == JSON_OBJECT;
	if (!d->has_answer || d->route->op == AIRTABLE_OTHER_WRITE)
		return reread_all(d, false, DECODE_UNREADABLE);
	if (d->route->op == AIRTABLE_DELETE_ONE || d->route->op == AIRTABLE_DELETE_MANY)
		return decode_deletes(d);
	return decode_records(d);
}

static void
find_table(Decoding *d)
{
	Str			segment = d->route->args[AIRTABLE_ARG_TABLE];

	if (segment.p == NULL)
		return;
	d->table = airtable_table(d->view->schema, segment);
	if (d->table != NULL)
		d->collection = str_of(d->table->collection);
	else if (airtable_is_id(segment, "tbl"))
		d->collection = segment;
}

DecodeResult
airtable_decode(const SyncView *view, const Route *route, const RequestView *request,
				const ResponseView *response, Arena *arena, ChangeList *changes)
{
	Decoding	d = {.view = view, .route = route, .request = request, .arena = arena, .changes = changes};

	d.first = changes->count;
	d.single = route->op == AIRTABLE_UPDATE_ONE || route->op == AIRTABLE_DELETE_ONE || route->op == AIRTABLE_UPLOAD ||
		(route->op == AIRTABLE_OTHER_WRITE && route->args[AIRTABLE_ARG_RECORD].p != NULL);
	if (route->op == AIRTABLE_PASS)
		return DECODE_OK;
	/* A new link field makes another in the linked table: refresh all.  It is one call in any case. */
	if (route->op == AIRTABLE_META_WRITE)
		return add_refresh(&d, true) ? DECODE_OK : DECODE_NOMEM;
	find_table(&d);
	/* A batch call names its table truly: in one that nobody chose it changes nothing of ours. */
	if (d.table == NULL && !d.single && !airtable_table_may_be_chosen(view, route->args[AIRTABLE_ARG_TABLE]))
		return DECODE_OK;
	if (!read_query(&d) || !read_body(&d))
		return DECODE_NOMEM;
	return decode_answer(&d, response);
}
