/*
 * sql_decode.c - sequin.decode: the changes that an exchange would commit.  A dry run without I/O.
 *
 * Runs the very functions that the proxy runs (target, route, decode) on what the caller gives,
 * with the configuration as this transaction sees it.  Changes nothing; touches no limiter.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "catalog.h"
#include "sql_function.h"
#include "target.h"

SQL_FUNCTION(sequin_decode);

static void
require_memory(bool ok)
{
	if (!ok)
		ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
}

/* The host that a bare path means. */
static const char *
default_host(const Provider *provider)
{
	return strcmp(provider->name, "airtable") == 0 ? "api.airtable.com" : "api.hubapi.com";
}

/* url: with or without scheme and host ("/crm/v3/...", "api.hubapi.com/crm/...", "https://..."). */
static void
parse_url(Arena *arena, const Provider *provider, const char *url, RequestView *request)
{
	const char *host = url[0] == '/' ? default_host(provider) : "";
	char	   *raw = arena_printf(arena, "/x/%s%s", host, url);
	Target		target;

	require_memory(raw != NULL && target_parse(arena, str_of(raw), &target));
	if (target.kind != TARGET_API)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid url: %s", target.kind == TARGET_BAD && target.error ? target.error : "not a URL of the API"));
	request->host = target.host;
	request->path = target.path.n > 0 ? target.path : STR_LIT("/");
	request->query = target.query;
}

static void
require_route(const Route *route)
{
	require_memory(route->verdict != ROUTE_NOMEM);
	if (route->verdict == ROUTE_OK)
		return;
	ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("%s: %s", route->verdict == ROUTE_BAD_HOST ? "bad_hostname" : "unsupported_path",
				   route->message ? route->message : "not a request of this API"),
			route->hint ? errhint("%s", route->hint) : 0);
}

/* Raw JSON with \u0000 in a string fits no PostgreSQL type; the mirror makes it NULL. */
static bool
has_nul(Str s, bool raw)
{
	if (!raw)
		return memchr(s.p, '\0', s.n) != NULL;
	for (size_t i = 0; i + 5 < s.n; i++)
	{
		if (s.p[i] != '\\')
			continue;
		if (memcmp(s.p + i, "\\u0000", 6) == 0)
			return true;
		i++;
	}
	return false;
}

static void
add_value(Buf *buf, const FieldValue *value)
{
	bool		raw = value->type == JSON_ARRAY || value->type == JSON_OBJECT;

	switch (value->type)
	{
		case JSON_NULL:
			buf_cstr(buf, "null");
			break;
		case JSON_FALSE:
			buf_cstr(buf, "false");
			break;
		case JSON_TRUE:
			buf_cstr(buf, "true");
			break;
		default:
			if (has_nul(value->text, raw))
				buf_cstr(buf, "null");
			else if (value->type == JSON_STRING)
				buf_json_string(buf, value->text);
			else
				buf_str(buf, value->text);
	}
}

static void
add_texts(Buf *buf, const char *key, const Str *texts, int count)
{
	buf_printf(buf, ",\"%s\":[", key);
	for (int i = 0; i < count; i++)
	{
		if (i > 0)
			buf_char(buf, ',');
		buf_json_string(buf, texts[i]);
	}
	buf_char(buf, ']');
}

static void
add_fields(Buf *buf, const Change *change)
{
	for (int i = 0; i < change->nfields; i++)
	{
		buf_char(buf, i > 0 ? ',' : '{');
		buf_json_string(buf, change->fields[i].field);
		buf_char(buf, ':');
		add_value(buf, &change->fields[i]);
	}
	buf_cstr(buf, change->nfields > 0 ? "}" : "{}");
}

static void
add_link(Buf *buf, const Change *change)
{
	buf_cstr(buf, "{\"to_collection\":");
	if (change->to_collection.p != NULL)
		buf_json_string(buf, change->to_collection);
	else
		buf_cstr(buf, "null");
	if (change->to_id.p != NULL)
	{
		buf_cstr(buf, ",\"to_id\":");
		buf_json_string(buf, change->to_id);
	}
	else
		add_texts(buf, "keep_ids", change->keep_ids, change->nkeep_ids);
	if (change->op != CHANGE_REREAD)
		add_texts(buf, "labels", change->labels, change->nlabels);
	if (change->labels_replace)
		buf_cstr(buf, ",\"labels_replace\":true");
	buf_char(buf, '}');
}

static void
add_match(Buf *buf, const Change *change)
{
	buf_cstr(buf, "{\"match\":{");
	buf_json_string(buf, change->match_field);
	buf_char(buf, ':');
	buf_json_string(buf, change->match_value);
	buf_cstr(buf, "}}");
}

/* The change's data as JSON; false: it has none. */
static bool
change_data(Buf *buf, const Change *change)
{
	switch (change->op)
	{
		case CHANGE_UPSERT:
		case CHANGE_PATCH:
			add_fields(buf, change);
			return true;
		case CHANGE_LINK:
		case CHANGE_UNLINK:
			add_link(buf, change);
			return true;
		case CHANGE_DELETE:
			if (change->match_field.p == NULL)
				return false;
			add_match(buf, change);
			return true;
		case CHANGE_REREAD:
			if (change->to_collection.p != NULL)
				add_link(buf, change);
			else if (change->with_links)
				buf_cstr(buf, "{\"with_links\":true}");
			return change->to_collection.p != NULL || change->with_links;
		case CHANGE_REFRESH_SCHEMA:
			return false;
	}
	return false;
}

static Datum
text_or_null(Str s, bool *isnull)
{
	*isnull = s.p == NULL;
	return *isnull ? (Datum) 0 : PointerGetDatum(cstring_to_text_with_len(s.p, (int) s.n));
}

static void
add_change(const SqlRows *rows, Arena *arena, const Change *change)
{
	Datum		values[4];
	bool		nulls[4] = {0};
	Buf			buf;
	Str			json;

	values[0] = CStringGetTextDatum(change_op_name(change->op));
	values[1] = text_or_null(change->collection, &nulls[1]);
	values[2] = text_or_null(change->id, &nulls[2]);
	buf_init(&buf, arena);
	nulls[3] = !change_data(&buf, change);
	if (!nulls[3])
	{
		json = buf_finish(&buf);
		require_memory(json.p != NULL);
		values[3] = DirectFunctionCall1(jsonb_in, CStringGetDatum(json.p));
	}
	sql_rows_add(rows, values, nulls);
}

static void
decode_exchange(Arena *arena, const CatalogSync *sync, RequestView *request, const ResponseView *response, const SqlRows *rows)
{
	ChangeList	changes = {0};
	Route		route;
	Str			body = request->body;

	memset(&route, 0, sizeof(route));
	request->body = STR_LIT("");
	sync->provider->route(&sync->view, request, arena, &route);
	require_route(&route);
	request->body = body;
	if (!route.mirrored || response->status < 200 || response->status > 299)
		return;
	require_memory(sync->provider->decode(&sync->view, &route, request, response, arena, &changes) != DECODE_NOMEM);
	for (int i = 0; i < changes.count; i++)
		add_change(rows, arena, &changes.items[i]);
}

static char *
argument(FunctionCallInfo fcinfo, int i, const char *name)
{
	if (PG_ARGISNULL(i) && name != NULL)
		ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be null", name));
	return PG_ARGISNULL(i) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(i));
}

/* sequin._decode(sync, method, url, request_body, status, response_body) */
Datum
sequin_decode(PG_FUNCTION_ARGS)
{
	char	   *name = argument(fcinfo, 0, "sync");
	const char *url = argument(fcinfo, 2, "url");
	RequestView request = {.method = str_of(argument(fcinfo, 1, "method")), .body = str_of(argument(fcinfo, 3, NULL))};
	ResponseView response = {.status = PG_ARGISNULL(4) ? 0 : PG_GETARG_INT32(4), .body = str_of(argument(fcinfo, 5, NULL))};
	SqlRows		rows = sql_rows_begin(fcinfo);
	CatalogSync *sync = catalog_sync_by_name(catalog_load(), name);
	Arena	   *arena;

	if (sync == NULL)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("sync \"%s\" does not exist", name),
				errhint("SELECT name FROM sequin.syncs lists them."));
	arena = arena_create();
	require_memory(arena != NULL);
	PG_TRY();
	{
		parse_url(arena, sync->provider, url, &request);
		decode_exchange(arena, sync, &request, &response, &rows);
	}
	PG_FINALLY();
	{
		arena_destroy(arena);
	}
	PG_END_TRY();
	return (Datum) 0;
}
