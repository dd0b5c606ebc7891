/*
 * hubspot_decode.c - (request, accepted response) -> changes (Provider.decode).
 *
 * Owns the parsing of both bodies and the choice of who reads them: hubspot_objects.c,
 * hubspot_associations.c, or, for writes on the schema itself, this file.  Pure, called through
 * hubspot.c only.  It must never turn a read into a change.
 */
#include "hubspot.h"

/* False: no memory.  A body that is no JSON object or array leaves the document empty. */
static bool
parse(HubspotDecoder *d, Str body, JsonDoc *doc)
{
	size_t		at;
	const char *text;
	JsonResult	result;

	memset(doc, 0, sizeof(*doc));
	if (body.n == 0)
		return true;
	result = json_parse(d->arena, body, doc, &at, &text);
	if (result != JSON_OK)
		memset(doc, 0, sizeof(*doc));
	return result != JSON_NOMEM;
}

/* REFRESH_SCHEMA of what was defined anew. */
static void
decode_schema_write(HubspotDecoder *d)
{
	Str			to = str_of(hubspot_collection(d->view->schema, d->route->args[ARG_TO_TYPE]));
	Str			scope = STR_NULL;

	if (d->route->op == HUBSPOT_SCHEMAS_WRITE)
	{
		hubspot_change(d, CHANGE_REFRESH_SCHEMA, STR_NULL, STR_NULL);
		return;
	}
	if (d->route->op == HUBSPOT_PROPERTIES_WRITE)
	{
		if (hubspot_record_interest(d->view, d->collection) == INTEREST_MIRRORED && d->collection.p != NULL)
			hubspot_change(d, CHANGE_REFRESH_SCHEMA, d->collection, STR_NULL);
		return;
	}
	if (d->collection.p == NULL || to.p == NULL || hubspot_link_interest(d->view, d->collection, to) == INTEREST_NONE)
		return;
	scope = hubspot_link_collection(d->view, d->arena, d->collection, to);
	if (scope.p == NULL)
		d->nomem = true;
	else
		hubspot_change(d, CHANGE_REFRESH_SCHEMA, scope, STR_NULL);
}

static void
decode_op(HubspotDecoder *d)
{
	HubspotOp	op = (HubspotOp) d->route->op;

	if (op == HUBSPOT_OTHER || op == HUBSPOT_READ)
		return;
	if (op == HUBSPOT_PROPERTIES_WRITE || op == HUBSPOT_SCHEMAS_WRITE || op == HUBSPOT_LABELS_WRITE)
		decode_schema_write(d);
	else if (op >= HUBSPOT_LINK_PUT && op <= HUBSPOT_LABELS_ARCHIVE)
		hubspot_decode_links(d);
	else if (d->collection.p != NULL && hubspot_record_interest(d->view, d->collection) == INTEREST_MIRRORED)
		hubspot_decode_objects(d);
}

/* Changes outlive the snapshot that the collection's name may come from. */
static bool
copy_collection(HubspotDecoder *d)
{
	const char *collection = hubspot_collection(d->view->schema, d->route->args[ARG_TYPE]);

	if (collection == NULL && !hubspot_discovered(d->view) && hubspot_is_type_id(d->route->args[ARG_TYPE]))
		d->collection = d->route->args[ARG_TYPE];
	if (collection == NULL)
		return true;
	d->collection = arena_str(d->arena, collection, strlen(collection));
	return d->collection.p != NULL;
}

DecodeResult
hubspot_decode(const SyncView *view, const Route *route, const RequestView *request, const ResponseView *response,
			   Arena *arena, ChangeList *changes)
{
	HubspotDecoder d = {.view = view, .route = route, .arena = arena, .changes = changes, .location = response->location};

	if (!copy_collection(&d) || !parse(&d, request->body, &d.request))
		return DECODE_NOMEM;
	if (!response->encoded && !parse(&d, response->body, &d.response))
		return DECODE_NOMEM;
	/* An answer that has a body must be JSON; whether an empty one will do is for the operation to say. */
	d.unreadable = response->encoded || (response->body.n > 0 && d.response.count == 0);
	decode_op(&d);
	if (d.nomem)
		return DECODE_NOMEM;
	return d.unreadable ? DECODE_UNREADABLE : DECODE_OK;
}
