/*
 * hubspot_schema.c - discovery of object types and their properties (Provider.discover).
 *
 * Owns the first two stages: custom object schemas, then the properties of every chosen type.  The
 * third, association labels, is hubspot_pairs.c.  A type that the credential may not read is
 * skipped with a note; only what could go well later, or what the user must repair, is a failure.
 * Called by hubspot.c only.  Pure.
 */
#include "hubspot.h"

#include "../names.h"

#define SCHEMAS_TARGET "/crm-object-schemas/v3/schemas"

static bool
out_of_memory(Conversation *conv)
{
	conversation_fail(conv, true, "out of memory");
	return false;
}

static HubspotFound *
find_found(HubspotDiscovery *dis, const char *collection)
{
	for (int i = 0; i < dis->nfound; i++)
		if (strcmp(dis->found[i].collection, collection) == 0)
			return &dis->found[i];
	return NULL;
}

/* Room for all types there can be is made before the first is added, so that pointers to them stay. */
static bool
reserve_found(Conversation *conv, HubspotDiscovery *dis, int more)
{
	int			cap = dis->nfound + more;
	HubspotFound *found;

	if (cap <= dis->cap)
		return true;
	found = arena_zalloc(conv->arena, sizeof(HubspotFound) * (size_t) cap);
	if (found == NULL)
		return out_of_memory(conv);
	if (dis->nfound > 0)
		memcpy(found, dis->found, sizeof(HubspotFound) * (size_t) dis->nfound);
	dis->found = found;
	dis->cap = cap;
	return true;
}

static bool
add_found(Conversation *conv, HubspotDiscovery *dis, const char *collection, const char *name, const char **aliases,
		  int naliases)
{
	HubspotFound *found = find_found(dis, collection);
	Str			table = hubspot_singular(conv->arena, collection, name);

	if (found != NULL)
		return true;
	if (strcmp(collection, HUBSPOT_OWNERS) == 0)
		table = STR_LIT("owner");
	if (table.p == NULL || !reserve_found(conv, dis, 1))
		return out_of_memory(conv);
	found = &dis->found[dis->nfound++];
	*found = (HubspotFound) {.collection = collection, .name = name, .aliases = aliases, .naliases = naliases};
	found->table = arena_cstr(conv->arena, table);
	return found->table != NULL || out_of_memory(conv);
}

static bool
add_builtin(Conversation *conv, HubspotDiscovery *dis, const HubspotType *type)
{
	return add_found(conv, dis, type->id, type->plural, NULL, 0);
}

static bool
is_owners(Str name)
{
	return str_iis(name, HUBSPOT_OWNERS) || str_iis(name, "owner");
}

/* Is this custom object meant by that name of the user's? */
static bool
schema_named(const JsonDoc *doc, uint32_t schema, Str name)
{
	return name.n > 0 &&
		(str_ieq(name, json_text_at(doc, schema, "objectTypeId")) ||
		 str_ieq(name, json_text_at(doc, schema, "name")) ||
		 str_ieq(name, json_text_at(doc, schema, "fullyQualifiedName")));
}

static bool
add_custom(Conversation *conv, HubspotDiscovery *dis, const JsonDoc *doc, uint32_t schema)
{
	Str			id = json_text_at(doc, schema, "objectTypeId");
	Str			name = json_text_at(doc, schema, "name");
	Str			full = json_text_at(doc, schema, "fullyQualifiedName");
	const char **aliases = arena_alloc(conv->arena, sizeof(char *) * 2);
	const char *collection;
	const char *copy;

	if (!hubspot_is_type_id(id) || name.n == 0)
		return true;
	collection = arena_cstr(conv->arena, id);
	copy = arena_cstr(conv->arena, name);
	if (aliases == NULL || collection == NULL || copy == NULL)
		return out_of_memory(conv);
	aliases[0] = arena_cstr(conv->arena, full);
	aliases[1] = arena_printf(conv->arena, "p_%s", copy);
	if (aliases[0] == NULL || aliases[1] == NULL)
		return out_of_memory(conv);
	/* without a fully qualified name only the short form is left */
	return add_found(conv, dis, collection, copy, full.n > 0 ? aliases : aliases + 1, full.n > 0 ? 2 : 1);
}

/* The custom objects of the account that the user wants. */
static bool
choose_custom(Conversation *conv, HubspotDiscovery *dis, const JsonDoc *doc)
{
	const SyncView *view = conv->view;
	uint32_t	results = json_get(doc, 0, "results");

	for (uint32_t it = json_first(doc, results); it != JSON_NONE; it = json_next(doc, results, it))
	{
		bool		wanted = view->tables == NULL && conv->scope == NULL;

		if (json_is_true(doc, json_get(doc, it, "archived")))
			continue;
		if (conv->scope != NULL)
			wanted = schema_named(doc, it, str_of(conv->scope));
		for (int i = 0; conv->scope == NULL && view->tables != NULL && i < view->ntables && !wanted; i++)
			wanted = hubspot_builtin(str_of(view->tables[i])) == NULL &&
				schema_named(doc, it, str_of(view->tables[i]));
		if (wanted && !add_custom(conv, dis, doc, it))
			return false;
	}
	return true;
}

static bool
chosen(const HubspotDiscovery *dis, Str name)
{
	for (int i = 0; i < dis->nfound; i++)
	{
		const HubspotFound *f = &dis->found[i];

		if (str_iis(name, f->name) || str_iis(name, f->collection))
			return true;
		for (int j = 0; j < f->naliases; j++)
			if (str_iis(name, f->aliases[j]))
				return true;
	}
	return false;
}

/* What the user named and the account does not list: a bare type id may still be readable. */
static bool
choose_rest(Conversation *conv, HubspotDiscovery *dis)
{
	for (int i = 0; conv->view->tables != NULL && i < conv->view->ntables; i++)
	{
		Str			name = str_of(conv->view->tables[i]);

		if (hubspot_builtin(name) != NULL || is_owners(name) || chosen(dis, name))
			continue;
		if (!hubspot_is_type_id(name))
			conversation_note(conv, "%s: no such object type in this account", conv->view->tables[i]);
		else if (!add_found(conv, dis, conv->view->tables[i], conv->view->tables[i], NULL, 0))
			return false;
	}
	return true;
}

/* HubSpot's own types and owners, by the user's choice; *custom: others may be meant. */
static bool
choose_builtin(Conversation *conv, HubspotDiscovery *dis, bool *custom)
{
	const SyncView *view = conv->view;
	int			n;
	const HubspotType *types = hubspot_types(&n);

	*custom = view->tables == NULL;
	for (int i = 0; view->tables == NULL && i < n; i++)
		if (!add_builtin(conv, dis, &types[i]))
			return false;
	for (int i = 0; view->tables != NULL && i < view->ntables; i++)
	{
		Str			name = str_of(view->tables[i]);
		const HubspotType *type = hubspot_builtin(name);

		if (type != NULL && !add_builtin(conv, dis, type))
			return false;
		if (is_owners(name) && !add_found(conv, dis, HUBSPOT_OWNERS, HUBSPOT_OWNERS, NULL, 0))
			return false;
		if (type == NULL && !is_owners(name))
			*custom = true;
	}
	return view->tables != NULL || add_found(conv, dis, HUBSPOT_OWNERS, HUBSPOT_OWNERS, NULL, 0);
}

static bool
ask(Conversation *conv, const char *target, HubspotStep step, void *state)
{
	Call		call = {.host = HUBSPOT_HOST, .method = "GET", .bucket = "default", .step = step, .state = state};

	call.target = str_of(target);
	if (call.target.p == NULL)
		return out_of_memory(conv);
	return conversation_call(conv, call);
}

/* Second stage: the properties of every chosen type. */
static void
ask_properties(Conversation *conv, HubspotDiscovery *dis)
{
	for (int i = 0; i < dis->nfound && !conv->failed; i++)
	{
		HubspotFound *found = &dis->found[i];

		if (strcmp(found->collection, HUBSPOT_OWNERS) == 0)
			ask(conv, "/crm/v3/owners?limit=1", STEP_OWNERS, found);
		else
			ask(conv, arena_printf(conv->arena, "/crm/v3/properties/%s", hubspot_path_name(found->collection)),
				STEP_PROPERTIES, found);
		dis->waiting++;
	}
	if (dis->nfound == 0)
		hubspot_discovered_all(conv, dis);
}

/* ---- one collection only ---- */

/* A type of the snapshot, as discovery would find it. */
static bool
add_known(Conversation *conv, HubspotDiscovery *dis, const char *collection)
{
	const HubspotType *type = hubspot_builtin(str_of(collection));
	const SchemaCollection *c = schema_find(conv->view->schema, str_of(collection));

	if (type != NULL)
		return add_builtin(conv, dis, type);
	if (strcmp(collection, HUBSPOT_OWNERS) == 0)
		return add_found(conv, dis, HUBSPOT_OWNERS, HUBSPOT_OWNERS, NULL, 0);
	if (c == NULL)
		return true;
	return add_found(conv, dis, c->collection, c->name, c->aliases, c->naliases);
}

static void
discover_link(Conversation *conv, HubspotDiscovery *dis, const char *colon)
{
	char	   *from = arena_cstr(conv->arena, (Str) {conv->scope, (size_t) (colon - conv->scope)});
	HubspotPair *pair = arena_zalloc(conv->arena, sizeof(*pair));

	if (from == NULL || pair == NULL || !reserve_found(conv, dis, 2))
	{
		out_of_memory(conv);
		return;
	}
	if (!add_known(conv, dis, from) || !add_known(conv, dis, colon + 1))
		return;
	pair->from = find_found(dis, from);
	pair->to = find_found(dis, colon + 1);
	if (pair->from == NULL || pair->to == NULL)
	{
		conversation_note(conv, "%s: no such pair of object types", conv->scope);
		return;
	}
	dis->pairs = pair;
	dis->npairs = 1;
	hubspot_pair_ask(conv, dis, pair);
}

static void
discover_scope(Conversation *conv, HubspotDiscovery *dis)
{
	const char *colon = strchr(conv->scope, ':');

	if (colon != NULL)
	{
		discover_link(conv, dis, colon);
		return;
	}
	if (!add_known(conv, dis, conv->scope))
		return;
	if (dis->nfound > 0)
		ask_properties(conv, dis);
	else
		ask(conv, SCHEMAS_TARGET, STEP_SCHEMAS, NULL);
}

void
hubspot_discover(Conversation *conv)
{
	HubspotDiscovery *dis = arena_zalloc(conv->arena, sizeof(*dis));
	bool		custom;
	int			n;

	conv->state = dis;
	hubspot_types(&n);
	if (dis == NULL)
		out_of_memory(conv);
	else if (conv->scope != NULL)
		discover_scope(conv, dis);
	else if (!reserve_found(conv, dis, n + 1) || !choose_builtin(conv, dis, &custom))
		return;
	else if (custom)
		ask(conv, SCHEMAS_TARGET, STEP_SCHEMAS, NULL);
	else
		ask_properties(conv, dis);
}

/* ---- answers ---- */

static int
result_count(const JsonDoc *doc)
{
	uint32_t	results = json_get(doc, 0, "results");

	return results == JSON_NONE ? 0 : (int) doc->nodes[results].count;
}

static void
feed_schemas(Conversation *conv, HubspotDiscovery *dis, int status, Str body)
{
	JsonDoc		doc;

	if (status >= 200 && status < 300)
	{
		if (!hubspot_answer(conv, "custom object schemas", body, &doc) ||
			!reserve_found(conv, dis, result_count(&doc)) || !choose_custom(conv, dis, &doc))
			return;
	}
	else if (status == 400 || status == 403 || status == 404)
		conversation_note(conv, "custom objects: %d, the credential may not read their schemas", status);
	else
	{
		hubspot_fail_status(conv, "custom object schemas", status, body);
		return;
	}
	if (conv->scope == NULL && !(reserve_found(conv, dis, conv->view->ntables) && choose_rest(conv, dis)))
		return;
	ask_properties(conv, dis);
}

/* API_FACTS A13 */
static MirrorType
property_type(Str type, Str field_type)
{
	static const struct
	{
		const char *type;
		MirrorType	mirror;
	}			map[] = {
		{"number", MIRROR_NUMERIC},
		{"currency_number", MIRROR_NUMERIC},
		{"bool", MIRROR_BOOLEAN},
		{"date", MIRROR_DATE},
		{"datetime", MIRROR_TIMESTAMPTZ},
		{"json", MIRROR_JSONB},
	};

	if (str_is(type, "enumeration"))
		return str_is(field_type, "checkbox") ? MIRROR_TEXT_ARRAY : MIRROR_TEXT;
	for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++)
		if (str_is(type, map[i].type))
			return map[i].mirror;
	return MIRROR_TEXT;
}

static bool
read_properties(Conversation *conv, HubspotFound *found, const JsonDoc *doc, uint32_t results)
{
	found->fields = arena_zalloc(conv->arena, sizeof(SchemaField) * (doc->nodes[results].count + 1));
	if (found->fields == NULL)
		return out_of_memory(conv);
	for (uint32_t it = json_first(doc, results); it != JSON_NONE; it = json_next(doc, results, it))
	{
		Str			name = hubspot_id_at(doc, it, "name");
		SchemaField *field = &found->fields[found->nfields];

		if (name.p == NULL || json_is_true(doc, json_get(doc, it, "archived")))
			continue;
		field->field = arena_cstr(conv->arena, name);
		if (field->field == NULL)
			return out_of_memory(conv);
		field->name = field->field;
		field->type = property_type(json_text_at(doc, it, "type"), json_text_at(doc, it, "fieldType"));
		found->nfields++;
	}
	return true;
}

static void
feed_properties(Conversation *conv, HubspotFound *found, int status, Str body)
{
	JsonDoc		doc;
	uint32_t	results;

	if (status == 400 || status == 403 || status == 404)
	{
		conversation_note(conv, "%s: %d, the credential may not read it", found->name, status);
		return;
	}
	if (status < 200 || status >= 300)
	{
		hubspot_fail_status(conv, found->name, status, body);
		return;
	}
	if (!hubspot_answer(conv, found->name, body, &doc))
		return;
	results = json_get(&doc, 0, "results");
	if (json_type(&doc, results) != JSON_ARRAY)
		conversation_fail(conv, true, "HubSpot's answer has no results (properties of %s)", found->name);
	else if (read_properties(conv, found, &doc, results))
		found->readable = true;
}

/* Owners have no properties API; these are the fields of PublicOwner. */
static void
feed_owners(Conversation *conv, HubspotFound *found, int status, Str body)
{
	static const SchemaField fields[] = {
		{.field = "email", .name = "email", .type = MIRROR_TEXT},
		{.field = "firstName", .name = "firstName", .type = MIRROR_TEXT},
		{.field = "lastName", .name = "lastName", .type = MIRROR_TEXT},
		{.field = "userId", .name = "userId", .type = MIRROR_BIGINT},
		{.field = "userIdIncludingInactive", .name = "userIdIncludingInactive", .type = MIRROR_BIGINT},
		{.field = "type", .name = "type", .type = MIRROR_TEXT},
		{.field = "teams", .name = "teams", .type = MIRROR_JSONB},
		{.field = "archived", .name = "archived", .type = MIRROR_BOOLEAN},
	};

	if (status == 400 || status == 403 || status == 404)
	{
		conversation_note(conv, "owners: %d, the credential may not read it", status);
		return;
	}
	if (status < 200 || status >= 300)
	{
		hubspot_fail_status(conv, "owners", status, body);
		return;
	}
	found->fields = arena_alloc(conv->arena, sizeof(fields));
	if (found->fields == NULL)
	{
		out_of_memory(conv);
		return;
	}
	memcpy(found->fields, fields, sizeof(fields));
	found->nfields = (int) (sizeof(fields) / sizeof(fields[0]));
	found->readable = true;
}

void
hubspot_discover_feed(Conversation *conv, const Call *call, int status, Str body)
{
	HubspotDiscovery *dis = conv->state;

	if (call->step == STEP_LABELS)
	{
		hubspot_pairs_feed(conv, call, status, body);
		return;
	}
	if (call->step == STEP_SCHEMAS)
	{
		feed_schemas(conv, dis, status, body);
		return;
	}
	if (call->step == STEP_OWNERS)
		feed_owners(conv, call->state, status, body);
	else
		feed_properties(conv, call->state, status, body);
	if (--dis->waiting > 0 || conv->failed)
		return;
	if (conv->scope != NULL)
		hubspot_discovered_all(conv, dis);
	else
		hubspot_pairs_start(conv, dis);
}
