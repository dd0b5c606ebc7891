/*
 * hubspot_objects.c - records: what an accepted write on CRM objects changed (API_FACTS A4-A7, A16).
 *
 * Owns the rule by which response and request become one partial row: the response wins for the
 * properties it has, the request fills in those that it does not repeat.  Called by
 * hubspot_decode.c, and by the re-reads for single values.  Pure.  It must never invent a value:
 * where a result's input is not certain, the record is re-read.
 */
#include "hubspot.h"

#include "../values.h"

Str
hubspot_id(const JsonDoc *doc, uint32_t node)
{
	Str			id = json_text(doc, node);

	/* no id has a NUL, and none can be stored */
	if (id.n == 0 || memchr(id.p, '\0', id.n) != NULL)
		return STR_NULL;
	return id;
}

Str
hubspot_id_at(const JsonDoc *doc, uint32_t object, const char *key)
{
	return hubspot_id(doc, json_get(doc, object, key));
}

int64_t
hubspot_time_at(const JsonDoc *doc, uint32_t object, const char *key)
{
	Str			text = json_text_at(doc, object, key);
	int64_t		us;

	return text.n > 0 && value_parse_time(text, &us) ? us : TIME_NONE;
}

Change *
hubspot_change(HubspotDecoder *d, ChangeOp op, Str collection, Str id)
{
	Change	   *change = change_add(d->changes, d->arena, op, collection, id);

	if (change == NULL)
		d->nomem = true;
	return change;
}

void
hubspot_refresh(HubspotDecoder *d)
{
	if (d->refreshing || !hubspot_discovered(d->view))
		return;
	d->refreshing = true;
	hubspot_change(d, CHANGE_REFRESH_SCHEMA, d->collection, STR_NULL);
}

static const SchemaField *
field_at(const SchemaCollection *c, int at, Str name, int *hint)
{
	*hint = at + 1 < c->nfields ? at + 1 : 0;
	return str_is(name, c->fields[at].field) ? &c->fields[at] : NULL;
}

/*
 * Where the properties stood in their type when they were last named in this order: an API's answers name them in the
 * same order nearly always.  Only ever a guess, which is compared.
 */
#define GUESSES 512
static uint16_t guesses[GUESSES];

#define FEW_FIELDS 64			/* looked through from the start sooner than halved */

/* By halves, as the snapshot has its fields in the order of their names' bytes; elsewhere it may miss. */
static int
search_field(const SchemaCollection *c, Str name)
{
	int			low = 0;
	int			high = c->nfields;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (str_cmp(str_of(c->fields[middle].field), name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/*
 * Types have hundreds of fields, and responses often name them in the schema's order: first the one after the last
 * that was found is tried, then, where they are many, the search by halves, and for a name that may be none's all of them.
 */
static const SchemaField *
find_field(const SchemaCollection *c, Str name, int *hint)
{
	const SchemaField *found;
	int			at;

	if (c == NULL || c->nfields == 0 || name.n == 0)
		return NULL;
	if ((found = field_at(c, *hint, name, hint)) != NULL)
		return found;
	at = c->nfields > FEW_FIELDS ? search_field(c, name) : c->nfields;
	if (at < c->nfields && (found = field_at(c, at, name, hint)) != NULL)
		return found;
	for (at = 0; at < c->nfields; at++)
		if (c->fields[at].field[0] == name.p[0] && (found = field_at(c, at, name, hint)) != NULL)
			return found;
	return NULL;
}

/* The nth property of an object. */
static bool
is_known(const SchemaCollection *c, Str name, int nth, int *hint)
{
	uint16_t   *guess = &guesses[nth % GUESSES];
	const SchemaField *found;

	if (c != NULL && *guess < c->nfields && name.n > 0 && field_at(c, *guess, name, hint) != NULL)
		return true;
	found = find_field(c, name, hint);
	if (found != NULL)
		*guess = (uint16_t) (found - c->fields);
	return found != NULL;
}

static void
set_value(FieldValue *value, const JsonDoc *doc, uint32_t node)
{
	value->type = json_type(doc, node);
	if (value->type == JSON_ARRAY || value->type == JSON_OBJECT)
		value->text = doc->nodes[node].raw;
	else
		value->text = json_text(doc, node);
}

static bool
usable_name(Str name)
{
	return name.n > 0 && memchr(name.p, '\0', name.n) == NULL;
}

bool
hubspot_add_properties(Change *change, Arena *arena, const SchemaCollection *c, const JsonDoc *doc,
					   uint32_t properties, bool *unknown)
{
	int			hint = 0;
	int			nth = 0;

	if (json_type(doc, properties) != JSON_OBJECT)
		return true;
	for (uint32_t it = json_first(doc, properties); it != JSON_NONE; it = json_next(doc, properties, it))
	{
		Str			name = json_key(doc, it);
		FieldValue *value;

		if (!usable_name(name))
			continue;
		value = change_add_field(change, arena, name);
		if (value == NULL)
			return false;
		value->known = is_known(c, name, nth++, &hint);
		set_value(value, doc, it);
		if (!value->known)
			*unknown = true;
	}
	return true;
}

static bool
has_field(const Change *change, Str name)
{
	for (int i = 0; i < change->nfields; i++)
		if (str_eq(change->fields[i].field, name))
			return true;
	return false;
}

/* HubSpot's property names are lower case, and it takes others for them. */
static Str
lower_case(Arena *arena, Str name)
{
	Str			lower = STR_NULL;

	for (size_t i = 0; i < name.n; i++)
	{
		if (name.p[i] < 'A' || name.p[i] > 'Z')
			continue;
		if (lower.p == NULL)
			lower = arena_str(arena, name.p, name.n);
		if (lower.p == NULL)
			return STR_NULL;
		((char *) lower.p)[i] = (char) (name.p[i] + 32);
	}
	return lower.p != NULL ? lower : name;
}

static FieldValue *
add_field(HubspotDecoder *d, Change *change, const SchemaCollection *c, Str name, bool *unknown)
{
	int			hint = 0;
	FieldValue *value = change_add_field(change, d->arena, name);

	if (value == NULL)
	{
		d->nomem = true;
		return NULL;
	}
	value->known = find_field(c, name, &hint) != NULL;
	if (!value->known)
		*unknown = true;
	return value;
}

/*
 * Properties that were sent and not answered.  *append: one of them (";new") adds to a value that
 * we do not know.
 */
static void
add_requested(HubspotDecoder *d, Change *change, const SchemaCollection *c, uint32_t properties, bool *unknown,
			  bool *append)
{
	if (json_type(&d->request, properties) != JSON_OBJECT)
		return;
	for (uint32_t it = json_first(&d->request, properties); it != JSON_NONE; it = json_next(&d->request, properties, it))
	{
		Str			key = json_key(&d->request, it);
		Str			text = json_text(&d->request, it);
		Str			name;
		FieldValue *value;

		if (!usable_name(key) || has_field(change, key))
			continue;
		name = lower_case(d->arena, key);
		if (name.p != NULL && name.p != key.p && has_field(change, name))
			continue;
		if (text.n > 0 && text.p[0] == ';')
		{
			*append = true;
			continue;
		}
		value = name.p != NULL ? add_field(d, change, c, name, unknown) : NULL;
		if (value == NULL)
		{
			d->nomem = true;
			return;
		}
		set_value(value, &d->request, it);
		if (value->type == JSON_STRING && value->text.n == 0)
			value->type = JSON_NULL;	/* "" clears a property */
	}
}

/* The input of an upsert or update is found by a unique property: the record has that value. */
static void
add_unique_value(HubspotDecoder *d, Change *change, const SchemaCollection *c, Str property, Str unique, bool *unknown)
{
	FieldValue *value;

	if (property.n == 0 || unique.p == NULL || has_field(change, property) || str_is(property, "hs_object_id"))
		return;
	value = add_field(d, change, c, property, unknown);
	if (value == NULL)
		return;
	value->type = JSON_STRING;
	/* an address is found in any spelling, and kept in lower case */
	value->text = str_is(property, "email") ? lower_case(d->arena, unique) : unique;
	if (value->text.p == NULL)
		d->nomem = true;
}

static void
reread(HubspotDecoder *d, Str id, bool with_links)
{
	Change	   *change = hubspot_change(d, CHANGE_REREAD, d->collection, id);

	if (change != NULL)
		change->with_links = with_links;
}

/* One record of a response, with the request's part about it (input: JSON_NONE where there is none). */
static void
decode_record(HubspotDecoder *d, uint32_t record, uint32_t input, Str id_property, Str unique)
{
	const SchemaCollection *c = schema_find(d->view->schema, d->collection);
	Str			id = hubspot_id_at(&d->response, record, "id");
	bool		unknown = false;
	bool		append = false;
	Change	   *change;

	if (json_is_true(&d->response, json_get(&d->response, record, "archived")))
	{
		hubspot_change(d, CHANGE_DELETE, d->collection, id);
		return;
	}
	change = hubspot_change(d, CHANGE_PATCH, d->collection, id);
	if (change == NULL)
		return;
	change->created_at_us = hubspot_time_at(&d->response, record, "createdAt");
	change->updated_at_us = hubspot_time_at(&d->response, record, "updatedAt");
	if (!hubspot_add_properties(change, d->arena, c, &d->response, json_get(&d->response, record, "properties"), &unknown))
		d->nomem = true;
	add_requested(d, change, c, json_get(&d->request, input, "properties"), &unknown, &append);
	add_unique_value(d, change, c, id_property, unique, &unknown);
	if (unknown)
		hubspot_refresh(d);
	if (append)
		reread(d, id, false);
}

/* A record that answers for another id has swallowed it in a merge, with its links. */
static void
retire(HubspotDecoder *d, Str asked, Str answered)
{
	if (asked.p == NULL || str_eq(asked, answered))
		return;
	hubspot_change(d, CHANGE_DELETE, d->collection, asked);
	reread(d, answered, true);
}

static bool
is_number(Str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
	return s.n > 0;
}

static bool
input_has(const HubspotDecoder *d, uint32_t input, const char *key)
{
	uint32_t	node = json_get(&d->request, input, key);

	return node != JSON_NONE && d->request.nodes[node].count > 0;
}

/* What was made is known by the answer's Location header alone. */
static void
reread_location(HubspotDecoder *d)
{
	Str			id = d->location;

	for (size_t i = 0; i < d->location.n; i++)
		if (d->location.p[i] == '/')
			id = (Str) {d->location.p + i + 1, d->location.n - i - 1};
	if (is_number(id))
		reread(d, id, d->request.count > 0 && input_has(d, 0, "associations"));
}

/* The response's record: the body itself, or its `entity` (old create responses). */
static uint32_t
response_record(HubspotDecoder *d)
{
	uint32_t	record = 0;

	if (hubspot_id_at(&d->response, 0, "id").p == NULL)
		record = json_get(&d->response, 0, "entity");
	if (d->response.count == 0 || hubspot_id_at(&d->response, record, "id").p == NULL)
	{
		d->unreadable = true;
		return JSON_NONE;
	}
	return record;
}

static void
decode_create(HubspotDecoder *d)
{
	uint32_t	record = response_record(d);

	if (record == JSON_NONE)
	{
		reread_location(d);
		return;
	}
	decode_record(d, record, d->request.count > 0 ? 0 : JSON_NONE, STR_NULL, STR_NULL);
	if (d->request.count > 0)
		hubspot_decode_inline(d, 0, hubspot_id_at(&d->response, record, "id"));
}

static void
decode_update(HubspotDecoder *d)
{
	Str			asked = d->route->args[ARG_ID];
	Str			property = d->route->args[ARG_ID_PROPERTY];
	uint32_t	record = response_record(d);

	if (record == JSON_NONE)
	{
		if (property.p == NULL && asked.n > 0)
			reread(d, asked, false);
		return;
	}
	if (property.p == NULL && is_number(asked))
		retire(d, asked, hubspot_id_at(&d->response, record, "id"));
	decode_record(d, record, d->request.count > 0 ? 0 : JSON_NONE, property, property.p != NULL ? asked : STR_NULL);
}

static Str
input_property(const HubspotDecoder *d, uint32_t input)
{
	Str			property = hubspot_id_at(&d->request, input, "idProperty");

	return str_is(property, "hs_object_id") ? STR_NULL : property;
}

static void
reread_inputs(HubspotDecoder *d, uint32_t inputs)
{
	for (uint32_t it = json_first(&d->request, inputs); it != JSON_NONE; it = json_next(&d->request, inputs, it))
	{
		Str			id = hubspot_id_at(&d->request, it, "id");

		if (id.p != NULL && input_property(d, it).p == NULL)
			reread(d, id, false);
	}
}

/* Does any input hold a property that this result does not repeat? */
static bool
inputs_tell_more(const HubspotDecoder *d, uint32_t result, uint32_t inputs)
{
	uint32_t	answered = json_get(&d->response, result, "properties");

	for (uint32_t it = json_first(&d->request, inputs); it != JSON_NONE; it = json_next(&d->request, inputs, it))
	{
		uint32_t	sent = json_get(&d->request, it, "properties");

		if (json_type(&d->request, sent) != JSON_OBJECT)
			continue;
		for (uint32_t p = json_first(&d->request, sent); p != JSON_NONE; p = json_next(&d->request, sent, p))
			if (json_get_str(&d->response, answered, json_key(&d->request, p)) == JSON_NONE)
				return true;
	}
	return false;
}

static bool
inputs_link(const HubspotDecoder *d, uint32_t inputs)
{
	for (uint32_t it = json_first(&d->request, inputs); it != JSON_NONE; it = json_next(&d->request, inputs, it))
		if (input_has(d, it, "associations"))
			return true;
	return false;
}

static void
decode_result(HubspotDecoder *d, const HubspotMatch *match, uint32_t inputs, bool linked)
{
	Str			id = match->id;
	Str			property = match->input != JSON_NONE ? input_property(d, match->input) : STR_NULL;
	Str			asked = match->input != JSON_NONE ? hubspot_id_at(&d->request, match->input, "id") : STR_NULL;

	if (property.p == NULL && is_number(asked))
		retire(d, asked, id);
	decode_record(d, match->result, match->input, property, property.p != NULL ? asked : STR_NULL);
	if (match->input != JSON_NONE)
		hubspot_decode_inline(d, match->input, id);
	else if (linked || inputs_tell_more(d, match->result, inputs))
		reread(d, id, linked);
}

/* batch/create, batch/update, batch/upsert: one change per result; what failed is not among them */
static void
decode_batch(HubspotDecoder *d)
{
	uint32_t	results = json_get(&d->response, 0, "results");
	uint32_t	inputs = json_get(&d->request, 0, "inputs");
	bool		linked = inputs_link(d, inputs);
	HubspotMatch *matches;
	int			n;

	if (json_type(&d->response, results) != JSON_ARRAY)
	{
		d->unreadable = true;
		reread_inputs(d, inputs);
		return;
	}
	n = hubspot_match(d, results, inputs, &matches);
	if (n < 0)
		d->nomem = true;
	for (int i = 0; i < n && !d->nomem; i++)
	{
		if (matches[i].id.p == NULL)
			d->unreadable = true;
		/* two inputs named one record, one of them by an id that was merged away: which came last is not told */
		else if (matches[i].twice)
			reread(d, matches[i].id, true);
		else
			decode_result(d, &matches[i], inputs, linked);
	}
	if (d->unreadable)
		reread_inputs(d, inputs);
}

static void
delete_by(HubspotDecoder *d, Str id, Str property)
{
	Change	   *change;

	if (property.p == NULL)
	{
		hubspot_change(d, CHANGE_DELETE, d->collection, id);
		return;
	}
	change = hubspot_change(d, CHANGE_DELETE, d->collection, STR_NULL);
	if (change == NULL)
		return;
	change->match_field = property;
	change->match_value = id;
}

static void
decode_archive(HubspotDecoder *d)
{
	uint32_t	inputs = json_get(&d->request, 0, "inputs");

	if (json_type(&d->request, inputs) != JSON_ARRAY)
		d->unreadable = true;
	for (uint32_t it = json_first(&d->request, inputs); it != JSON_NONE; it = json_next(&d->request, inputs, it))
	{
		Str			id = hubspot_id_at(&d->request, it, "id");

		if (id.p != NULL)
			delete_by(d, id, input_property(d, it));
	}
}

static void
decode_gdpr_delete(HubspotDecoder *d)
{
	Str			id = hubspot_id_at(&d->request, 0, "objectId");

	if (id.p == NULL)
		d->unreadable = true;
	else
		delete_by(d, id, input_property(d, 0));
}

static void
decode_merge(HubspotDecoder *d)
{
	Str			ids[2] = {
		hubspot_id_at(&d->request, 0, "primaryObjectId"),
		hubspot_id_at(&d->request, 0, "objectIdToMerge"),
	};
	uint32_t	record = response_record(d);
	Str			survivor = hubspot_id_at(&d->response, record, "id");

	for (int i = 0; i < 2; i++)
	{
		if (ids[i].p == NULL || str_eq(ids[i], survivor))
			continue;
		if (survivor.p != NULL)
			hubspot_change(d, CHANGE_DELETE, d->collection, ids[i]);
		else
			reread(d, ids[i], true);
	}
	if (survivor.p != NULL)
		reread(d, survivor, true);
}

/* The response cannot be read at all: ask for every record that the request names. */
static void
reread_request(HubspotDecoder *d)
{
	Str			id = d->route->args[ARG_ID];

	switch ((HubspotOp) d->route->op)
	{
		case HUBSPOT_CREATE:
			reread_location(d);
			break;
		case HUBSPOT_UPDATE:
		case HUBSPOT_DELETE:
		case HUBSPOT_RECORD_OTHER:
			if (id.n > 0 && d->route->args[ARG_ID_PROPERTY].p == NULL)
				reread(d, id, d->route->op == HUBSPOT_RECORD_OTHER);
			break;
		case HUBSPOT_MERGE:
			decode_merge(d);
			break;
		case HUBSPOT_GDPR_DELETE:
			id = hubspot_id_at(&d->request, 0, "objectId");
			if (id.p != NULL && input_property(d, 0).p == NULL)
				reread(d, id, false);
			break;
		default:
			reread_inputs(d, json_get(&d->request, 0, "inputs"));
			break;
	}
}

void
hubspot_decode_objects(HubspotDecoder *d)
{
	if (d->unreadable)
	{
		reread_request(d);
		return;
	}
	switch ((HubspotOp) d->route->op)
	{
		case HUBSPOT_CREATE:
			decode_create(d);
			break;
		case HUBSPOT_UPDATE:
			decode_update(d);
			break;
		case HUBSPOT_DELETE:
			delete_by(d, d->route->args[ARG_ID], d->route->args[ARG_ID_PROPERTY]);
			break;
		case HUBSPOT_BATCH_ARCHIVE:
			decode_archive(d);
			break;
		case HUBSPOT_GDPR_DELETE:
			decode_gdpr_delete(d);
			break;
		case HUBSPOT_MERGE:
			decode_merge(d);
			break;
		case HUBSPOT_RECORD_OTHER:
			reread(d, d->route->args[ARG_ID], true);
			break;
		default:
			decode_batch(d);
			break;
	}
}
