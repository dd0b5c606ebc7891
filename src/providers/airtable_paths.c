/*
 * airtable_paths.c - which URLs are Airtable's and the sync's base, and what each request does.
 *
 * Pure C; called through provider_airtable.route.  The rule: a read is forwarded wherever it stays
 * inside the base; a write only where its effect on the mirror is known.  Segments are compared
 * percent-decoded, as the API sees them, but the path that goes up is never touched.
 */
#include "airtable.h"

#include "../target.h"

#define MAX_SEGMENTS 10

typedef struct Path
{
	const SyncView *view;
	const RequestView *request;
	Arena	   *arena;
	Route	   *route;
	bool		read_method;
	Str			seg[MAX_SEGMENTS];	/* decoded; seg[0] is "v0" */
	int			nseg;
} Path;

static void
refuse(Path *path, RouteVerdict verdict, const char *message, const char *hint)
{
	path->route->verdict = message && hint ? verdict : ROUTE_NOMEM;
	path->route->message = message;
	path->route->hint = hint;
}

static void
unsupported(Path *path, const char *message, const char *hint)
{
	refuse(path, ROUTE_UNSUPPORTED, message, hint);
}

static bool
method_is(const Path *path, const char *method)
{
	return str_is(path->request->method, method);
}

static void
pass(Path *path)
{
	path->route->op = AIRTABLE_PASS;
	path->route->read = path->read_method;
}

static void
write_route(Path *path, AirtableOp op)
{
	path->route->op = (int) op;
	path->route->mirrored = true;
}

/* True when seg[i] is the sync's base; else the route is refused. */
static bool
check_base(Path *path, int i)
{
	const char *base = path->view->base_id;

	if (base == NULL)
		unsupported(path, "this sync has no base", "Set base_id in the sync's config, for example {\"base_id\": \"app...\"}.");
	else if (i >= path->nseg || !str_is(path->seg[i], base))
		unsupported(path, "the path is outside the base of this sync",
					arena_printf(path->arena, "This sync mirrors the base %.64s: use /v0/%.64s/{table} "
								 "(or /v0/meta/bases/%.64s/tables), or create a sync for the other base.",
								 base, base, base));
	else
		return true;
	return false;
}

static void
address_table(Path *path, Str segment)
{
	SchemaCollection *table = airtable_table(path->view->schema, segment);

	path->route->args[AIRTABLE_ARG_TABLE] = segment;
	if (table != NULL)
		path->route->collection = table->collection;
	else if (airtable_is_id(segment, "tbl"))
		path->route->collection = segment.p;	/* target_decode ends it with a NUL */
}

static void
route_table(Path *path)
{
	if (path->read_method)
		pass(path);
	else if (method_is(path, "POST"))
		write_route(path, AIRTABLE_CREATE);
	else if (method_is(path, "PATCH") || method_is(path, "PUT"))
		write_route(path, AIRTABLE_UPDATE_MANY);
	else if (method_is(path, "DELETE"))
		write_route(path, AIRTABLE_DELETE_MANY);
	else
		write_route(path, AIRTABLE_OTHER_WRITE);
}

static void
route_record(Path *path)
{
	path->route->args[AIRTABLE_ARG_RECORD] = path->seg[3];
	if (path->read_method)
		pass(path);
	else if (method_is(path, "PATCH") || method_is(path, "PUT"))
		write_route(path, AIRTABLE_UPDATE_ONE);
	else if (method_is(path, "DELETE"))
		write_route(path, AIRTABLE_DELETE_ONE);
	else
		write_route(path, AIRTABLE_OTHER_WRITE);
}

/* Below a table, but neither listRecords nor a record nor its comments. */
static void
route_unknown(Path *path)
{
	if (path->read_method)
		pass(path);
	else if (path->nseg == 5 && str_is(path->seg[4], "uploadAttachment"))
		unsupported(path, "attachments are uploaded to another host",
					"Use " AIRTABLE_CONTENT_HOST " instead of " AIRTABLE_API_HOST " for uploadAttachment.");
	else if (path->nseg == 5 && str_is(path->seg[3], "sync"))
		unsupported(path, "the sync API changes records without telling which, so the mirror could not follow",
					"Send it to Airtable directly (the sync process finds the changes later), or write the records.");
	else
		unsupported(path, "this is not a known path for writing to Airtable, so the mirror could not follow",
					"Write records with /v0/{base}/{table} or /v0/{base}/{table}/{record}.");
}

/* /v0/{base}/{table}[/...] */
static void
route_data(Path *path)
{
	if (!check_base(path, 1))
		return;
	if (path->nseg < 3)
	{
		unsupported(path, "the path names no table", "Use /v0/{base}/{table id or percent-encoded name}.");
		return;
	}
	/* Not where seg[2] is a record: /v0/{base}/{record}/{field}/uploadAttachment, sent to the wrong host. */
	if (!(path->nseg == 5 && str_is(path->seg[4], "uploadAttachment")))
		address_table(path, path->seg[2]);
	if (path->nseg == 3)
		route_table(path);
	else if (path->nseg == 4 && str_is(path->seg[3], "listRecords") && method_is(path, "POST"))
	{
		pass(path);
		path->route->read = true;	/* a POST that is a read: for queries too long for a URL */
	}
	else if (path->nseg == 4 && airtable_is_id(path->seg[3], "rec"))
		route_record(path);
	else if (path->nseg >= 5 && airtable_is_id(path->seg[3], "rec") && str_is(path->seg[4], "comments"))
		pass(path);
	else
		route_unknown(path);
}

/* /v0/meta/whoami, /v0/meta/bases, /v0/meta/bases/{base}[/...] */
static void
route_meta(Path *path)
{
	bool		bases = path->nseg >= 3 && str_is(path->seg[2], "bases");

	if (path->nseg == 3 && (bases || str_is(path->seg[2], "whoami")))
		pass(path);
	else if (!bases)
		unsupported(path, "this part of Airtable's metadata API is outside the base of this sync",
					"Use /v0/meta/whoami, /v0/meta/bases or /v0/meta/bases/{base}/tables.");
	else if (check_base(path, 3))
	{
		bool		tables = path->nseg >= 5 && str_is(path->seg[4], "tables");

		if (tables && path->nseg >= 6)
			address_table(path, path->seg[5]);
		/* A write to the base itself (it may be deleted) changes its tables as well. */
		if (!path->read_method && (tables || path->nseg == 4))
			write_route(path, AIRTABLE_META_WRITE);
		else
			pass(path);
	}
}

/* /v0/bases/{base}/webhooks[/...] */
static void
route_bases(Path *path)
{
	if (!check_base(path, 2))
		return;
	if (path->nseg >= 4 && str_is(path->seg[3], "webhooks"))
		pass(path);
	else
		unsupported(path, "this is not a path of the Airtable API", "Webhooks are at /v0/bases/{base}/webhooks.");
}

/* /v0/{base}/{record}/{field}/uploadAttachment and nothing else */
static void
route_content(Path *path)
{
	if (path->nseg != 5 || !str_is(path->seg[4], "uploadAttachment") || !method_is(path, "POST"))
		unsupported(path, AIRTABLE_CONTENT_HOST " is for uploadAttachment only",
					"Use " AIRTABLE_API_HOST " for everything else.");
	else if (!check_base(path, 1))
		return;
	else if (!airtable_is_id(path->seg[2], "rec"))
		unsupported(path, "the path names no record", "Use /v0/{base}/{record id}/{field id or name}/uploadAttachment.");
	else
	{
		path->route->args[AIRTABLE_ARG_RECORD] = path->seg[2];
		path->route->args[AIRTABLE_ARG_FIELD] = path->seg[3];
		write_route(path, AIRTABLE_UPLOAD);
	}
}

/* Fills seg and nseg; false when this cannot be a path of the API. */
static bool
split_path(Path *path)
{
	Str			raw[MAX_SEGMENTS];
	bool		trailing_slash;		/* official clients send it; it means nothing */
	int			n = target_segments(path->request->path, raw, MAX_SEGMENTS, &trailing_slash);

	if (n < 1 || n > MAX_SEGMENTS || !str_is(raw[0], "v0"))
		return false;
	for (int i = 0; i < n; i++)
		if (raw[i].n == 0 || !target_decode(path->arena, raw[i], &path->seg[i]))
			return false;
	path->nseg = n;
	return true;
}

static void
refuse_host(Path *path)
{
	Str			host = path->request->host;
	int			n = host.n > 100 ? 100 : (int) host.n;

	refuse(path, ROUTE_BAD_HOST,
		   host.n == 0 ? "the URL names no host"
		   : arena_printf(path->arena, "\"%.*s\" is not a host of the Airtable API", n, host.p),
		   str_is(host, "airtable.com") || str_is(host, "www.airtable.com")
		   ? "Use " AIRTABLE_API_HOST "; OAuth on airtable.com does not go through the proxy."
		   : "Use " AIRTABLE_API_HOST ", or " AIRTABLE_CONTENT_HOST " for uploadAttachment.");
}

void
airtable_route(const SyncView *view, const RequestView *request, Arena *arena, Route *route)
{
	Path		path = {.view = view, .request = request, .arena = arena, .route = route};

	*route = (Route) {.verdict = ROUTE_OK, .bucket = AIRTABLE_BUCKET};
	path.read_method = method_is(&path, "GET") || method_is(&path, "HEAD") || method_is(&path, "OPTIONS");
	if (!str_is(request->host, AIRTABLE_API_HOST) && !str_is(request->host, AIRTABLE_CONTENT_HOST))
		refuse_host(&path);
	else if (!split_path(&path))
		unsupported(&path, "this is not a path of the Airtable API",
					"Paths are /v0/{base}/{table}, /v0/{base}/{table}/{record} and /v0/meta/...; "
					"no segment may be empty, and a / in a table's name is written %2F.");
	else if (str_is(request->host, AIRTABLE_CONTENT_HOST))
		route_content(&path);
	else if (path.nseg >= 2 && str_is(path.seg[1], "meta"))
		route_meta(&path);
	else if (path.nseg >= 2 && str_is(path.seg[1], "bases"))
		route_bases(&path);
	else
		route_data(&path);
}
