/*
 * hubspot_paths.c - from a URL to the operation it asks for (Provider.route).
 *
 * Owns the list of paths that HubSpot's API has, and which writes the mirror can follow.  Versions
 * are matched by pattern (v3, 2026-03, 2026-09-beta) in both places where HubSpot puts them.
 * Pure, called by hubspot.c only.  It must never call a request a read unless that is certain,
 * and must refuse a write whose path HubSpot might understand in another way than we do.
 */
#include "hubspot.h"

#include "../target.h"

#define MAX_SEGMENTS 12

typedef struct Path
{
	Str			seg[MAX_SEGMENTS];	/* decoded */
	int			n;
	Str			area;			/* "objects", "associations", ...; STR_NULL outside the CRM */
	Str		   *rest;			/* what follows area and version */
	int			nrest;
} Path;

/* First segments of HubSpot's public API; anything else is no path of it. */
static const char *const known_roots[] = {
	"crm", "crm-object-schemas", "account-info", "analytics", "app-webhooks", "audit", "automation",
	"behavioral-events", "blogs", "broadcast", "business-units", "calling", "cms", "cms-files", "collector",
	"comments", "communication-preferences", "communication_preferences", "companies", "contacts", "content",
	"content-audit", "conversations", "cosemail", "crm-associations", "crm-objects", "crm-pipelines",
	"ctas", "custom-channels", "data-privacy", "data-studio", "deals", "developer", "developers", "domains", "ecomm",
	"email", "engagements", "event-completion", "events", "extensions", "feature-flags", "feedback", "files",
	"filemanager", "form-integrations", "forms", "graphql", "hubdb", "integrations", "integrators", "keywords",
	"layouts", "limits", "lists", "livechat", "localization", "marketing", "marketing-emails", "media-bridge",
	"meetings", "multicurrency", "notifications", "oauth", "owners", "pipelines", "portal-info", "products",
	"properties", "publishing", "reports", "scheduler", "service", "settings", "sequences", "site-search",
	"subscriptions", "tax-rates", "templates", "tickets", "timeline", "url-mappings", "usage", "users", "visitor-identification",
	"webhooks", "webhooks-journal", "workflows",
};

typedef struct Legacy
{
	const char *root;
	const char *hint;
} Legacy;

static const Legacy legacy_roots[] = {
	{"contacts", "Use /crm/v3/objects/contacts (or its dated form, /crm/objects/2026-03/contacts)."},
	{"companies", "Use /crm/v3/objects/companies (or its dated form, /crm/objects/2026-03/companies)."},
	{"deals", "Use /crm/v3/objects/deals (or its dated form, /crm/objects/2026-03/deals)."},
	{"tickets", "Use /crm/v3/objects/tickets (or its dated form, /crm/objects/2026-03/tickets)."},
	{"products", "Use /crm/v3/objects/products (or its dated form, /crm/objects/2026-03/products)."},
	{"engagements", "Use /crm/v3/objects/calls, emails, meetings, notes or tasks."},
	{"calling", "Use /crm/v3/objects/calls."},
	{"crm-objects", "Use /crm/v3/objects/{objectType} (or its dated form, /crm/objects/2026-03/{objectType})."},
	{"crm-associations", "Use /crm/v4/associations/{fromObjectType}/{toObjectType}/batch/create or archive."},
	{"properties", "Use /crm/v3/properties/{objectType} (or its dated form, /crm/properties/2026-03/{objectType})."},
	{"owners", "Owners are read-only: see GET /crm/v3/owners."},
	{"ecomm", "Use /crm/v3/objects/{objectType}/batch/upsert."},
};

static bool
all_digits(Str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
	return s.n > 0;
}

/* v3, 2026-03, 2026-09-beta */
static bool
is_version(Str s)
{
	if (s.n >= 2 && s.p[0] == 'v')
		return all_digits((Str) {s.p + 1, s.n - 1});
	if (s.n < 7 || s.p[4] != '-' || !all_digits((Str) {s.p, 4}) || !all_digits((Str) {s.p + 5, 2}))
		return false;
	return s.n == 7 || (s.n == 12 && memcmp(s.p + 7, "-beta", 5) == 0);
}

static bool
is_root(Str s)
{
	for (size_t i = 0; i < sizeof(known_roots) / sizeof(known_roots[0]); i++)
		if (str_is(s, known_roots[i]))
			return true;
	return false;
}

static void
refuse(Route *route, const char *message, const char *hint)
{
	route->verdict = ROUTE_UNSUPPORTED;
	route->message = message;
	route->hint = hint;
}

/* /crm/{version}/{area}/..., /crm/{area}/{version}/..., /crm-object-schemas/{version}/schemas/... */
static void
find_area(Path *path)
{
	bool		schemas = str_is(path->seg[0], "crm-object-schemas");

	path->area = STR_NULL;
	path->nrest = 0;
	path->rest = &path->seg[path->n < 3 ? path->n : 3];
	if ((!schemas && !str_is(path->seg[0], "crm")) || path->n < 3)
		return;
	if (is_version(path->seg[1]))
		path->area = path->seg[2];
	else if (!schemas && is_version(path->seg[2]))
		path->area = path->seg[1];
	else
		return;
	path->nrest = path->n - 3;
}

/* Splits and decodes; false: route has its verdict. */
static bool
parse_path(const RequestView *request, Arena *arena, Path *path, Route *route)
{
	static const char *const outside = "This path is not part of HubSpot's API.";
	static const char *const example = "Paths look like /crm/v3/objects/contacts.";
	Str			raw[MAX_SEGMENTS];
	bool		trailing;
	int			n = target_segments(request->path, raw, MAX_SEGMENTS, &trailing);

	for (size_t i = 0; i + 1 < request->path.n; i++)
		if (request->path.p[i] == '/' && request->path.p[i + 1] == '/')
		{
			refuse(route, "The path has an empty segment.", example);
			return false;
		}
	if (n < 1 || n > MAX_SEGMENTS || raw[0].n == 0)
	{
		refuse(route, outside, example);
		return false;
	}
	for (int i = 0; i < n; i++)
		if (!target_decode(arena, raw[i], &path->seg[i]))
		{
			refuse(route, "The path has a malformed %-escape.", example);
			return false;
		}
	path->n = n;
	if (!is_root(path->seg[0]))
	{
		refuse(route, outside, example);
		return false;
	}
	find_area(path);
	return true;
}

/* A few POSTs of the legacy APIs only read, and contact lists are not mirrored. */
static bool
legacy_harmless(const Path *path)
{
	Str			root = path->seg[0];

	if (str_is(path->seg[path->n - 1], "batch-read"))
		return true;
	if (path->n < 3)
		return false;
	return (str_is(root, "companies") && str_is(path->seg[2], "domains")) ||
		(str_is(root, "contacts") && str_is(path->seg[2], "lists"));
}

static bool
refuse_legacy(const Path *path, Route *route)
{
	static const char *const message = "The mirror cannot follow a write through this legacy path.";

	if (path->n >= 2 && str_is(path->seg[0], "extensions") && str_is(path->seg[1], "ecomm"))
	{
		refuse(route, message, "Use /crm/v3/objects/{objectType}/batch/upsert.");
		return true;
	}
	for (size_t i = 0; i < sizeof(legacy_roots) / sizeof(legacy_roots[0]); i++)
		if (str_is(path->seg[0], legacy_roots[i].root) && !legacy_harmless(path))
		{
			refuse(route, message, legacy_roots[i].hint);
			return true;
		}
	return false;
}

static bool
is_batch_read(const Path *path)
{
	return path->n >= 2 && str_is(path->seg[path->n - 1], "read") && str_is(path->seg[path->n - 2], "batch");
}

/* POSTs that only read. */
static bool
is_read_post(const Path *path)
{
	Str			last = path->seg[path->n - 1];

	if (is_batch_read(path))
		return true;
	if (str_is(path->area, "objects"))
		return path->nrest == 2 && str_is(last, "search");
	if (str_is(path->area, "lists"))
		return path->nrest == 1 && str_is(last, "search");
	return str_is(last, "batch-read");
}

static HubspotOp
batch_op(Str verb)
{
	static const struct
	{
		const char *verb;
		HubspotOp	op;
	}			verbs[] = {
		{"create", HUBSPOT_BATCH_CREATE},
		{"update", HUBSPOT_BATCH_UPDATE},
		{"upsert", HUBSPOT_BATCH_UPSERT},
		{"archive", HUBSPOT_BATCH_ARCHIVE},
	};

	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (str_is(verb, verbs[i].verb))
			return verbs[i].op;
	return HUBSPOT_OTHER;
}

/* objects/{type}/{id}/associations/... */
static HubspotOp
single_link_op(const Path *path, Str method, Route *route)
{
	bool		put = str_is(method, "PUT");
	bool		by_default = path->nrest == 6 && put && str_is(path->rest[3], "default");
	int			to = by_default ? 4 : 3;

	if ((path->nrest != 5 && path->nrest != 6) || (!put && !str_is(method, "DELETE")))
		return HUBSPOT_RECORD_OTHER;
	route->args[ARG_TO_TYPE] = path->rest[to];
	route->args[ARG_TO_ID] = path->rest[to + 1];
	if (by_default)
		return HUBSPOT_LINK_PUT_DEFAULT;
	if (path->nrest == 5)
		return put ? HUBSPOT_LINK_PUT : HUBSPOT_LINK_DELETE;
	route->args[ARG_LINK_TYPE] = path->rest[5];
	return put ? HUBSPOT_LINK_PUT_TYPE : HUBSPOT_LINK_DELETE_TYPE;
}

static HubspotOp
record_op(const Path *path, Str method)
{
	bool		post = str_is(method, "POST");

	if (post && str_is(path->rest[1], "merge"))
		return HUBSPOT_MERGE;
	if (post && str_is(path->rest[1], "gdpr-delete"))
		return HUBSPOT_GDPR_DELETE;
	if (str_is(method, "PATCH"))
		return HUBSPOT_UPDATE;
	if (str_is(method, "DELETE"))
		return HUBSPOT_DELETE;
	return HUBSPOT_RECORD_OTHER;
}

static HubspotOp
object_op(const Path *path, Str method, Route *route)
{
	HubspotOp	op = HUBSPOT_RECORD_OTHER;

	if (path->nrest < 1)
		return HUBSPOT_OTHER;
	route->args[ARG_TYPE] = path->rest[0];
	if (path->nrest == 1)
		return str_is(method, "POST") ? HUBSPOT_CREATE : HUBSPOT_OTHER;
	if (str_is(path->rest[1], "batch"))
		return path->nrest == 3 && str_is(method, "POST") ? batch_op(path->rest[2]) : HUBSPOT_OTHER;
	route->args[ARG_ID] = path->rest[1];
	if (path->nrest == 2)
		op = record_op(path, method);
	else if (str_is(path->rest[2], "associations"))
		op = single_link_op(path, method, route);
	/* An unknown write is worth a re-read of the record it names; other words are unknown sub-resources. */
	if (op == HUBSPOT_RECORD_OTHER && !all_digits(path->rest[1]))
		return HUBSPOT_OTHER;
	return op;
}

/* associations/{from}/{to}/... */
static HubspotOp
links_op(const Path *path, Str method, Route *route)
{
	Str		   *rest = path->rest;
	bool		post = str_is(method, "POST");

	if (path->nrest < 3)
		return HUBSPOT_OTHER;
	route->args[ARG_TYPE] = rest[0];
	route->args[ARG_TO_TYPE] = rest[1];
	if (str_is(rest[2], "labels"))
	{
		if ((path->nrest == 3 && (post || str_is(method, "PUT"))) || (path->nrest == 4 && str_is(method, "DELETE")))
			return HUBSPOT_LABELS_WRITE;
		return HUBSPOT_OTHER;
	}
	if (!post || !str_is(rest[2], "batch") || path->nrest < 4)
		return HUBSPOT_OTHER;
	if (path->nrest == 4 && str_is(rest[3], "create"))
		return HUBSPOT_LINKS_CREATE;
	if (path->nrest == 4 && str_is(rest[3], "archive"))
		return HUBSPOT_LINKS_ARCHIVE;
	if (path->nrest == 5 && str_is(rest[3], "associate") && str_is(rest[4], "default"))
		return HUBSPOT_LINKS_DEFAULT;
	if (path->nrest == 5 && str_is(rest[3], "labels") && str_is(rest[4], "archive"))
		return HUBSPOT_LABELS_ARCHIVE;
	return HUBSPOT_OTHER;
}

static HubspotOp
property_op(const Path *path, Route *route)
{
	if (path->nrest < 1)
		return HUBSPOT_OTHER;
	route->args[ARG_TYPE] = path->rest[0];
	/* property groups make no column */
	if (path->nrest >= 2 && str_is(path->rest[1], "groups"))
		return HUBSPOT_OTHER;
	return HUBSPOT_PROPERTIES_WRITE;
}

static HubspotOp
classify(const Path *path, Str method, Route *route)
{
	if (str_is(path->area, "objects"))
		return object_op(path, method, route);
	if (str_is(path->area, "associations"))
		return links_op(path, method, route);
	if (str_is(path->area, "properties"))
		return property_op(path, route);
	if (str_is(path->area, "schemas"))
		return HUBSPOT_SCHEMAS_WRITE;
	return HUBSPOT_OTHER;
}

static bool
is_mirrored(const SyncView *view, const Route *route)
{
	const char *to = hubspot_collection(view->schema, route->args[ARG_TO_TYPE]);

	if (route->op == HUBSPOT_OTHER || route->op == HUBSPOT_READ)
		return false;
	if (route->op == HUBSPOT_SCHEMAS_WRITE || !hubspot_discovered(view))
		return true;
	if (route->op >= HUBSPOT_LINK_PUT && route->op <= HUBSPOT_LABELS_WRITE)
		return hubspot_link_interest(view, str_of(route->collection), str_of(to)) != INTEREST_NONE;
	return hubspot_record_interest(view, str_of(route->collection)) == INTEREST_MIRRORED;
}

/* idProperty of the query: then the path's id is that property's value. */
static void
find_id_property(const RequestView *request, Arena *arena, Route *route)
{
	Str			rest = request->query;
	Str			key;
	Str			value;

	if (rest.p == NULL)
		return;
	while (target_query_next(arena, &rest, &key, &value))
		if (str_is(key, "idProperty"))
			route->args[ARG_ID_PROPERTY] = value.n > 0 && !str_is(value, "hs_object_id") ? value : STR_NULL;
}

/*
 * An encoded slash or a ';' may be taken for structure by HubSpot's servers.  Only a unique
 * value in a record's place may hold one.
 */
static bool
is_ambiguous(const Path *path, const Route *route)
{
	bool		unique_value = route->args[ARG_ID_PROPERTY].p != NULL && str_is(path->area, "objects");

	for (int i = 0; i < path->n; i++)
	{
		Str			s = path->seg[i];

		if (unique_value && i == 4)
			continue;
		if (s.n > 0 && (memchr(s.p, '/', s.n) != NULL || memchr(s.p, ';', s.n) != NULL))
			return true;
	}
	return false;
}

static void
refuse_host(const RequestView *request, Arena *arena, Route *route)
{
	route->verdict = ROUTE_BAD_HOST;
	route->message = request->host.n > 0 && request->host.n < 254
		? arena_printf(arena, "%.*s is not the host of HubSpot's API.", STR_FMT(request->host))
		: "The URL does not name the host of HubSpot's API.";
	route->hint = "Use " HUBSPOT_HOST ".";
	if (route->message == NULL)
		route->verdict = ROUTE_NOMEM;
}

static void
route_write(const SyncView *view, const RequestView *request, Arena *arena, const Path *path, Route *route)
{
	if (refuse_legacy(path, route))
		return;
	find_id_property(request, arena, route);
	if (is_ambiguous(path, route))
	{
		refuse(route, "A path segment of a write has an encoded slash or a semicolon.",
			   "Give a unique value that needs one as the id of a batch, or with idProperty.");
		return;
	}
	route->op = classify(path, request->method, route);
	route->collection = hubspot_collection(view->schema, route->args[ARG_TYPE]);
	route->mirrored = is_mirrored(view, route);
}

static void
route_read(const SyncView *view, const Path *path, Route *route)
{
	route->read = true;
	route->op = HUBSPOT_READ;
	if (path->nrest > 0 && (str_is(path->area, "objects") || str_is(path->area, "properties")))
	{
		route->args[ARG_TYPE] = path->rest[0];
		route->collection = hubspot_collection(view->schema, path->rest[0]);
	}
	else if (str_is(path->area, "owners"))
		route->collection = HUBSPOT_OWNERS;
}

void
hubspot_route(const SyncView *view, const RequestView *request, Arena *arena, Route *route)
{
	Str			method = request->method;
	bool		read;
	Path		path;

	memset(route, 0, sizeof(*route));
	route->verdict = ROUTE_OK;
	route->bucket = "default";
	if (!str_is(request->host, HUBSPOT_HOST))
	{
		refuse_host(request, arena, route);
		return;
	}
	if (!parse_path(request, arena, &path, route))
		return;
	read = str_is(method, "GET") || str_is(method, "HEAD") || str_is(method, "OPTIONS");
	if (str_is(method, "POST") && is_read_post(&path) && !is_ambiguous(&path, route))
		read = true;
	if (read)
		route_read(view, &path, route);
	else
		route_write(view, request, arena, &path, route);
	if (str_is(path.area, "objects") && path.nrest >= 2 && str_is(path.seg[path.n - 1], "search"))
		route->bucket = "search";
}
