/*
 * hubspot_types.c - the names of HubSpot's object types, association types and link collections.
 *
 * Owns the tables of what every account has, and the rule by which any spelling that a path allows
 * becomes the one canonical collection.  Called by the other hubspot*.c only.  Pure; it must
 * never guess: a name that neither HubSpot nor the account's schema knows has no collection.
 */
#include "hubspot.h"

#include "../names.h"

static const HubspotType types[] = {
	{"0-1", "contacts", "contact"},
	{"0-2", "companies", "company"},
	{"0-3", "deals", "deal"},
	{"0-5", "tickets", "ticket"},
	{"0-7", "products", "product"},
	{"0-8", "line_items", "line_item"},
	{"0-14", "quotes", "quote"},
	{"0-18", "communications", "communication"},
	{"0-19", "feedback_submissions", "feedback_submission"},
	{"0-27", "tasks", "task"},
	{"0-46", "notes", "note"},
	{"0-47", "meetings", "meeting"},
	{"0-48", "calls", "call"},
	{"0-49", "emails", "email"},
	{"0-53", "invoices", "invoice"},
	{"0-69", "subscriptions", "subscription"},
	{"0-74", "goal_targets", "goal_target"},
	{"0-84", "discounts", "discount"},
	{"0-85", "fees", "fee"},
	{"0-86", "taxes", "tax"},
	{"0-101", "commerce_payments", "commerce_payment"},
	{"0-115", "users", "user"},
	{"0-116", "postal_mail", "postal_mail"},
	{"0-123", "orders", "order"},
	{"0-136", "leads", "lead"},
	{"0-142", "carts", "cart"},
	{"0-162", "services", "service"},
	{"0-410", "courses", "course"},
	{"0-420", "listings", "listing"},
	{"0-421", "appointments", "appointment"},
};

#define NTYPES ((int) (sizeof(types) / sizeof(types[0])))

/*
 * HubSpot's own association types (published; the same in every account).  Only consulted for a
 * pair whose labels the account did not list.
 */
static const HubspotLinkType link_types[] = {
	{1, "0-1", "0-2", true}, {2, "0-2", "0-1", true}, {279, "0-1", "0-2", false}, {280, "0-2", "0-1", false},
	{3, "0-3", "0-1", false}, {4, "0-1", "0-3", false}, {5, "0-3", "0-2", true}, {6, "0-2", "0-3", true},
	{341, "0-3", "0-2", false}, {342, "0-2", "0-3", false}, {15, "0-1", "0-5", false}, {16, "0-5", "0-1", false},
	{25, "0-2", "0-5", true}, {26, "0-5", "0-2", true}, {339, "0-5", "0-2", false}, {340, "0-2", "0-5", false},
	{27, "0-3", "0-5", false}, {28, "0-5", "0-3", false}, {19, "0-3", "0-8", false}, {20, "0-8", "0-3", false},
	{449, "0-1", "0-1", false}, {450, "0-2", "0-2", false},
	{193, "0-1", "0-48", false}, {194, "0-48", "0-1", false}, {197, "0-1", "0-49", false}, {198, "0-49", "0-1", false},
	{199, "0-1", "0-47", false}, {200, "0-47", "0-1", false}, {201, "0-1", "0-46", false}, {202, "0-46", "0-1", false},
	{203, "0-1", "0-27", false}, {204, "0-27", "0-1", false},
	{181, "0-2", "0-48", false}, {182, "0-48", "0-2", false}, {185, "0-2", "0-49", false}, {186, "0-49", "0-2", false},
	{187, "0-2", "0-47", false}, {188, "0-47", "0-2", false}, {189, "0-2", "0-46", false}, {190, "0-46", "0-2", false},
	{191, "0-2", "0-27", false}, {192, "0-27", "0-2", false},
	{205, "0-3", "0-48", false}, {206, "0-48", "0-3", false}, {209, "0-3", "0-49", false}, {210, "0-49", "0-3", false},
	{211, "0-3", "0-47", false}, {212, "0-47", "0-3", false}, {213, "0-3", "0-46", false}, {214, "0-46", "0-3", false},
	{215, "0-3", "0-27", false}, {216, "0-27", "0-3", false},
	{219, "0-5", "0-48", false}, {220, "0-48", "0-5", false}, {223, "0-5", "0-49", false}, {224, "0-49", "0-5", false},
	{225, "0-5", "0-47", false}, {226, "0-47", "0-5", false}, {227, "0-5", "0-46", false}, {228, "0-46", "0-5", false},
	{229, "0-5", "0-27", false}, {230, "0-27", "0-5", false},
};

const HubspotType *
hubspot_types(int *count)
{
	*count = NTYPES;
	return types;
}

const HubspotType *
hubspot_builtin(Str name)
{
	if (name.n == 0)			/* most operations have no second type */
		return NULL;
	for (int i = 0; i < NTYPES; i++)
		if (str_is(name, types[i].id) || str_iis(name, types[i].plural) || str_iis(name, types[i].singular))
			return &types[i];
	return NULL;
}

const HubspotLinkType *
hubspot_builtin_link(long type_id)
{
	for (size_t i = 0; i < sizeof(link_types) / sizeof(link_types[0]); i++)
		if (link_types[i].type_id == type_id)
			return &link_types[i];
	return NULL;
}

bool
hubspot_is_type_id(Str s)
{
	size_t		dash = 0;

	for (size_t i = 0; i < s.n; i++)
	{
		if (s.p[i] == '-' && dash == 0 && i > 0)
			dash = i;
		else if (s.p[i] < '0' || s.p[i] > '9')
			return false;
	}
	return dash > 0 && dash + 1 < s.n && s.n < 32;
}

bool
hubspot_discovered(const SyncView *view)
{
	return view->schema != NULL && view->schema->ncollections > 0;
}

static bool
named(const SchemaCollection *c, Str name)
{
	if (str_is(name, c->collection) || (c->name != NULL && str_iis(name, c->name)))
		return true;
	for (int i = 0; i < c->naliases; i++)
		if (str_iis(name, c->aliases[i]))
			return true;
	return false;
}

const char *
hubspot_collection(const Schema *schema, Str name)
{
	const HubspotType *type = hubspot_builtin(name);

	if (type != NULL)
		return type->id;
	for (int i = 0; schema != NULL && i < schema->ncollections; i++)
	{
		const SchemaCollection *c = &schema->collections[i];

		if (c->kind == COLLECTION_RECORDS && strcmp(c->collection, HUBSPOT_OWNERS) != 0 && named(c, name))
			return c->collection;
	}
	return NULL;
}

const char *
hubspot_path_name(const char *collection)
{
	const HubspotType *type = hubspot_builtin(str_of(collection));

	return type != NULL ? type->plural : collection;
}

Str
hubspot_singular(Arena *arena, const char *collection, const char *name)
{
	const HubspotType *type = hubspot_builtin(str_of(collection));

	if (type != NULL)
		return str_of(type->singular);
	return name_snake(arena, str_of(name != NULL ? name : collection));
}

HubspotInterest
hubspot_record_interest(const SyncView *view, Str collection)
{
	const SchemaCollection *c;

	if (!hubspot_discovered(view))
		return INTEREST_MIRRORED;
	c = collection.p != NULL ? schema_find(view->schema, collection) : NULL;
	return c != NULL && c->enabled ? INTEREST_MIRRORED : INTEREST_NONE;
}

HubspotInterest
hubspot_link_interest(const SyncView *view, Str from, Str to)
{
	const SchemaCollection *c;

	if (!hubspot_discovered(view))
		return INTEREST_MIRRORED;
	if (from.p == NULL || to.p == NULL)
		return INTEREST_NONE;
	c = schema_find_links(view->schema, from, to);
	if (c != NULL)
		return c->enabled ? INTEREST_MIRRORED : INTEREST_NONE;
	if (hubspot_record_interest(view, from) == INTEREST_MIRRORED &&
		hubspot_record_interest(view, to) == INTEREST_MIRRORED)
		return INTEREST_MISSING;
	return INTEREST_NONE;
}

static Str
singular_of(const SyncView *view, Arena *arena, Str collection)
{
	const SchemaCollection *c = schema_find(view->schema, collection);
	const char *id = arena_cstr(arena, collection);

	if (id == NULL)
		return STR_NULL;
	return hubspot_singular(arena, id, c != NULL ? c->name : NULL);
}

Str
hubspot_link_collection(const SyncView *view, Arena *arena, Str a, Str b)
{
	const SchemaCollection *c = schema_find_links(view->schema, a, b);
	Str			name_a;
	Str			name_b;
	char	   *id;

	if (c != NULL)
		return arena_str(arena, c->collection, strlen(c->collection));
	name_a = singular_of(view, arena, a);
	name_b = singular_of(view, arena, b);
	if (name_a.p == NULL || name_b.p == NULL)
		return STR_NULL;
	if (str_cmp(name_a, name_b) > 0)
		id = arena_printf(arena, "%.*s:%.*s", STR_FMT(b), STR_FMT(a));
	else
		id = arena_printf(arena, "%.*s:%.*s", STR_FMT(a), STR_FMT(b));
	return str_of(id);
}
