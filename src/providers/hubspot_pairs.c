/*
 * hubspot_pairs.c - discovery of associations: which types can be linked, and with which labels.
 *
 * Owns the last stage of a discovery and the Schema that it ends with.  Labels are asked for in
 * both directions of every pair of readable types, since each direction has names and ids of its own.
 * Called by hubspot_schema.c only.  Pure.
 */
#include "hubspot.h"

#include <stdlib.h>

typedef struct LabelsAsked
{
	HubspotPair *pair;
	const char *from;
	const char *to;
} LabelsAsked;

static bool
ask_labels(Conversation *conv, HubspotDiscovery *dis, HubspotPair *pair, const char *from, const char *to)
{
	Call		call = {.host = HUBSPOT_HOST, .method = "GET", .bucket = "default", .step = STEP_LABELS};
	LabelsAsked *asked = arena_alloc(conv->arena, sizeof(*asked));

	call.target = str_of(arena_printf(conv->arena, "/crm/v4/associations/%s/%s/labels", hubspot_path_name(from),
									  hubspot_path_name(to)));
	if (asked == NULL || call.target.p == NULL)
	{
		conversation_fail(conv, true, "out of memory");
		return false;
	}
	*asked = (LabelsAsked) {pair, from, to};
	call.state = asked;
	dis->waiting++;
	return conversation_call(conv, call);
}

bool
hubspot_pair_ask(Conversation *conv, HubspotDiscovery *dis, HubspotPair *pair)
{
	if (!ask_labels(conv, dis, pair, pair->from->collection, pair->to->collection))
		return false;
	return pair->from == pair->to || ask_labels(conv, dis, pair, pair->to->collection, pair->from->collection);
}

static bool
linkable(const HubspotFound *found)
{
	return found->readable && strcmp(found->collection, HUBSPOT_OWNERS) != 0;
}

/* from: the type whose singular name sorts first (hubspot.h) */
static HubspotPair
make_pair(HubspotFound *a, HubspotFound *b)
{
	if (strcmp(a->table, b->table) > 0)
		return (HubspotPair) {.from = b, .to = a};
	return (HubspotPair) {.from = a, .to = b};
}

void
hubspot_pairs_start(Conversation *conv, HubspotDiscovery *dis)
{
	size_t		n = (size_t) dis->nfound;

	dis->waiting = 0;
	dis->pairs = arena_zalloc(conv->arena, sizeof(HubspotPair) * (n * (n + 1) / 2 + 1));
	if (dis->pairs == NULL)
	{
		conversation_fail(conv, true, "out of memory");
		return;
	}
	for (int i = 0; i < dis->nfound; i++)
		for (int j = i; j < dis->nfound; j++)
		{
			if (!linkable(&dis->found[i]) || !linkable(&dis->found[j]))
				continue;
			dis->pairs[dis->npairs] = make_pair(&dis->found[i], &dis->found[j]);
			if (!hubspot_pair_ask(conv, dis, &dis->pairs[dis->npairs++]))
				return;
		}
	if (dis->npairs == 0)
		hubspot_discovered_all(conv, dis);
}

static LinkType *
add_link_type(Conversation *conv, HubspotPair *pair)
{
	if (pair->nlink_types == pair->cap)
	{
		int			cap = pair->cap ? pair->cap * 2 : 4;
		LinkType   *types = arena_alloc(conv->arena, sizeof(LinkType) * (size_t) cap);

		if (types == NULL)
			return NULL;
		if (pair->nlink_types > 0)
			memcpy(types, pair->link_types, sizeof(LinkType) * (size_t) pair->nlink_types);
		pair->link_types = types;
		pair->cap = cap;
	}
	return &pair->link_types[pair->nlink_types++];
}

static bool
read_labels(Conversation *conv, const LabelsAsked *asked, const JsonDoc *doc)
{
	uint32_t	results = json_get(doc, 0, "results");

	for (uint32_t it = json_first(doc, results); it != JSON_NONE; it = json_next(doc, results, it))
	{
		Str			id = json_text_at(doc, it, "typeId");
		Str			label = hubspot_id_at(doc, it, "label");
		LinkType   *type = id.n > 0 ? add_link_type(conv, asked->pair) : NULL;
		char	   *digits = arena_cstr(conv->arena, id);

		if (id.n == 0)
			continue;
		if (type == NULL || digits == NULL)
			return false;
		type->type_id = strtol(digits, NULL, 10);
		type->category = arena_cstr(conv->arena, json_text_at(doc, it, "category"));
		type->from = asked->from;
		type->to = asked->to;
		type->label = label.p != NULL ? arena_cstr(conv->arena, label) : NULL;
		if (type->category == NULL || (label.p != NULL && type->label == NULL))
			return false;
		asked->pair->exists = true;
	}
	return true;
}

/* 404 and 405: this API cannot tell, so the table is made; 400: there is no such association. */
static void
take_labels(Conversation *conv, HubspotDiscovery *dis, const LabelsAsked *asked, int status, Str body)
{
	JsonDoc		doc;

	if (status >= 200 && status < 300)
	{
		if (body.n == 0)
			return;
		if (hubspot_answer(conv, "association labels", body, &doc) && !read_labels(conv, asked, &doc))
			conversation_fail(conv, true, "out of memory");
	}
	else if (status == 404 || status == 405)
		asked->pair->exists = true;
	else if (status == 403)
	{
		if (!dis->links_noted)
			conversation_note(conv, "associations %s-%s: 403, the credential may not read them", asked->from, asked->to);
		dis->links_noted = true;
	}
	else if (status != 400)
		hubspot_fail_status(conv, "association labels", status, body);
}

void
hubspot_pairs_feed(Conversation *conv, const Call *call, int status, Str body)
{
	HubspotDiscovery *dis = conv->state;

	take_labels(conv, dis, call->state, status, body);
	if (--dis->waiting == 0 && !conv->failed)
		hubspot_discovered_all(conv, dis);
}

bool
hubspot_pair_collection(Conversation *conv, const HubspotPair *pair, SchemaCollection *c)
{
	const HubspotFound *a = pair->from;
	const HubspotFound *b = pair->to;
	bool		self = strcmp(a->collection, b->collection) == 0;

	memset(c, 0, sizeof(*c));
	c->kind = COLLECTION_LINKS;
	c->collection = arena_printf(conv->arena, "%s:%s", a->collection, b->collection);
	c->name = arena_printf(conv->arena, "%s:%s", a->name, b->name);
	c->table = arena_printf(conv->arena, "associations_%s_%s", a->table, b->table);
	c->from = a->collection;
	c->to = b->collection;
	c->from_column = arena_printf(conv->arena, self ? "from_%s_id" : "%s_id", a->table);
	c->to_column = arena_printf(conv->arena, self ? "to_%s_id" : "%s_id", b->table);
	c->link_types = pair->link_types;
	c->nlink_types = pair->nlink_types;
	if (c->collection == NULL || c->name == NULL || c->table == NULL || c->from_column == NULL || c->to_column == NULL)
	{
		conversation_fail(conv, true, "out of memory");
		return false;
	}
	return true;
}

static void
record_collection(const HubspotFound *found, SchemaCollection *c)
{
	memset(c, 0, sizeof(*c));
	c->kind = COLLECTION_RECORDS;
	c->collection = found->collection;
	c->name = found->name;
	c->table = found->table;
	c->aliases = found->aliases;
	c->naliases = found->naliases;
	c->fields = found->fields;
	c->nfields = found->nfields;
}

/* The end of a discovery: readable types first, then the pairs that exist. */
void
hubspot_discovered_all(Conversation *conv, HubspotDiscovery *dis)
{
	size_t		max = (size_t) (dis->nfound + dis->npairs) + 1;
	Schema	   *schema = &conv->schema;

	schema->collections = arena_alloc(conv->arena, sizeof(SchemaCollection) * max);
	schema->ncollections = 0;
	if (schema->collections == NULL)
	{
		conversation_fail(conv, true, "out of memory");
		return;
	}
	for (int i = 0; i < dis->nfound; i++)
		if (dis->found[i].readable)
			record_collection(&dis->found[i], &schema->collections[schema->ncollections++]);
	for (int i = 0; i < dis->npairs; i++)
		if (dis->pairs[i].exists &&
			!hubspot_pair_collection(conv, &dis->pairs[i], &schema->collections[schema->ncollections++]))
			return;
}
