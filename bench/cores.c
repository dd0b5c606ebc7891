// SRC: src/arena.c src/change.c src/schema.c src/json.c src/target.c src/values.c src/times.c src/decimal.c src/names.c src/provider.c src/http_head.c src/header_policy.c src/rate_window.c src/rate_spec.c src/limit_queue.c src/providers/hubspot.c src/providers/hubspot_types.c src/providers/hubspot_paths.c src/providers/hubspot_objects.c src/providers/hubspot_batch.c src/providers/hubspot_decode.c src/providers/hubspot_associations.c src/providers/hubspot_labels.c src/providers/hubspot_schema.c src/providers/hubspot_pairs.c src/providers/hubspot_reread.c src/providers/hubspot_relink.c src/providers/hubspot_answers.c src/providers/hubspot_link_lists.c src/providers/hubspot_pages.c src/providers/hubspot_page_records.c src/providers/hubspot_page_links.c src/providers/hubspot_limits.c src/upstream_request.c src/upstream_answer.c src/http_chunked.c LIBS: -lunistring -lcurl
/*
 * cores.c - runs one of the pure cores on a fixed input, for counting its instructions (instructions.py).
 *
 *     cores             names the cores
 *     cores NAME N      runs one N times
 *
 * Inputs are made before the first run and are the same each time; what a run allocates is in an arena of its own.
 */
#include <stdio.h>
#include <stdlib.h>

#include "header_policy.h"
#include "limit_queue.h"
#include "provider.h"
#include "target.h"
#include "upstream_internal.h"
#include "values.h"

const Provider provider_airtable = {.name = "airtable"};

#define IDENTIFIER "Jt3aBcDeFgHiJkLmNoPqRs"
#define FIELDS 23

static const char head_text[] =
	"POST /" IDENTIFIER "/api.hubapi.com/crm/v3/objects/contacts HTTP/1.1\r\nHost: localhost:8432\r\n"
	"Authorization: Bearer sqk_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHI\r\nContent-Type: application/json\r\n"
	"User-Agent: hubspot-api-client-nodejs; 13.5.0\r\nAccept: application/json\r\nAccept-Encoding: gzip, deflate\r\n"
	"Connection: keep-alive\r\nContent-Length: 62\r\n\r\n";
static const char request_text[] = "{\"properties\":{\"p00\":\"Ada\",\"p01\":\"King-Noel\",\"p11\":\"a@b.example\"}}";

static SchemaField fields[FIELDS];
static SchemaCollection contacts = {.collection = "0-1", .name = "contacts", .table = "contact", .kind = COLLECTION_RECORDS,
.fields = fields, .nfields = FIELDS, .enabled = true};
static Schema schema = {&contacts, 1};
static SyncView view = {.name = "crm", .schema = &schema};
static char record_text[2048];
static char page_text[256 * 1024];
static Arena *kept;				/* of the inputs */

static void
check(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "cores: %s failed\n", what);
	exit(1);
}

/* ---- inputs ---- */

static size_t
add_record(char *to, size_t size, int id)
{
	static const char *const values[] = {"Augusta Ada King-Noel", "salesqualifiedlead", "184467.25", "2024-03-17T09:15:30.125Z", "true", "2023-11-05"};
	size_t		n = (size_t) snprintf(to, size, "{\"id\":\"%d\",\"properties\":{", id);

	for (int i = 0; i < FIELDS; i++)
		n += (size_t) snprintf(to + n, size - n, "%s\"p%02d\":\"%s\"", i > 0 ? "," : "", i, values[i % 6]);
	return n + (size_t) snprintf(to + n, size - n, "},\"createdAt\":\"2024-01-01T00:00:00.000Z\",\"updatedAt\":\"2024-05-01T00:05:00.000Z\",\"archived\":false}");
}

static void
make_inputs(void)
{
	size_t		n = (size_t) snprintf(page_text, sizeof(page_text), "{\"status\":\"COMPLETE\",\"results\":[");

	kept = arena_create();
	for (int i = 0; i < FIELDS; i++)
	{
		char	   *name = arena_printf(kept, "p%02d", i);

		fields[i] = (SchemaField) {.field = name, .name = name, .column = name, .enabled = true};
	}
	add_record(record_text, sizeof(record_text), 1001);
	for (int i = 0; i < 100; i++)
	{
		n += (size_t) snprintf(page_text + n, sizeof(page_text) - n, "%s", i > 0 ? "," : "");
		n += add_record(page_text + n, sizeof(page_text) - n, 1000 + i);
	}
	snprintf(page_text + n, sizeof(page_text) - n, "]}");
}

/* ---- cores ---- */

static void
parse_json(Arena *arena, const char *text)
{
	JsonDoc		doc;
	size_t		at;
	const char *error;

	check(json_parse(arena, str_of(text), &doc, &at, &error) == JSON_OK, "json");
}

static void
json_record(Arena *arena)
{
	parse_json(arena, record_text);
}

static void
json_page(Arena *arena)
{
	parse_json(arena, page_text);
}

static void
parse_head(Arena *arena, HttpHead *head)
{
	size_t		size;
	const char *error;

	check(http_head_parse(arena, STR_LIT(head_text), 65536, head, &size, &error) == HEAD_OK, "head");
}

static void
http_head(Arena *arena)
{
	HttpHead	head;

	parse_head(arena, &head);
}

static void
header_policy(Arena *arena)
{
	static HttpHead head;
	HttpHeader *out;

	if (head.nheaders == 0)
		parse_head(kept, &head);
	check(headers_up(arena, &head, STR_LIT("Bearer pat-na1-x"), true, &out) > 0 && headers_down(arena, head.headers, head.nheaders, &out) > 0, "headers");
}

static void
target_route(Arena *arena)
{
	Target		target;
	RequestView request = {.method = STR_LIT("POST")};
	Route		route = {0};

	check(target_parse(arena, STR_LIT("/" IDENTIFIER "/api.hubapi.com/crm/v3/objects/contacts"), &target), "target");
	request.host = target.host;
	request.path = target.path;
	provider_hubspot.route(&view, &request, arena, &route);
	check(route.mirrored, "route");
}

static void
decode(Arena *arena, const char *path, const char *body, const char *answer, int least)
{
	RequestView request = {.method = STR_LIT("POST"), .host = STR_LIT("api.hubapi.com"), .path = str_of(path), .body = str_of(body)};
	ResponseView response = {.status = 201, .body = str_of(answer)};
	Route		route = {0};
	ChangeList	changes = {0};

	provider_hubspot.route(&view, &request, arena, &route);
	check(provider_hubspot.decode(&view, &route, &request, &response, arena, &changes) == DECODE_OK && changes.count >= least, "decode");
}

static void
decode_record(Arena *arena)
{
	decode(arena, "/crm/v3/objects/contacts", request_text, record_text, 1);
}

static void
decode_page(Arena *arena)
{
	decode(arena, "/crm/v3/objects/contacts/batch/update", "{\"inputs\":[]}", page_text, 100);
}

/* A row's 23 values. */
static void
values(Arena *arena)
{
	static const struct
	{
		MirrorType	type;
		const char *text;
	}			given[] = {{MIRROR_TEXT, "Augusta Ada King-Noel"}, {MIRROR_NUMERIC, "184467.25"}, {MIRROR_TIMESTAMPTZ, "2024-03-17T09:15:30.125Z"},
	{MIRROR_BOOLEAN, "true"}, {MIRROR_DATE, "2023-11-05"}, {MIRROR_TEXT_ARRAY, "analysis;engines;poetry"}};

	for (int i = 0; i < FIELDS; i++)
	{
		FieldValue	value = {.type = JSON_STRING, .text = str_of(given[i % 6].text)};
		ColumnValue out;
		const char *error;

		check(value_convert(arena, given[i % 6].type, &value, true, &out, &error) == VALUE_OK, "value");
	}
}

/* A request's bytes, after the check that they may be sent. */
static void
upstream_request(Arena *arena)
{
	static HttpHeader headers[] = {
		{STR_LIT("Authorization"), STR_LIT("Bearer pat-na1-01234567-89ab-cdef-0123-456789abcdef")},
		{STR_LIT("Content-Type"), STR_LIT("application/json")}, {STR_LIT("User-Agent"), STR_LIT("hubspot-api-client-nodejs; 13.5.0")},
		{STR_LIT("Accept"), STR_LIT("application/json")}
	};
	UpstreamCall call = {
		.arena = arena,.origin = STR_LIT("https://api.hubapi.com"),.method = STR_LIT("POST"),.target = STR_LIT("/crm/v3/objects/contacts"),
		.headers = headers,.nheaders = 4,.body = str_of(request_text)
	};
	Transfer	transfer = {.call = &call};

	check(request_refusal(&call) == NULL && request_write(&transfer, "api.hubapi.com"), "request_write");
}

/* An answer of a record, in one piece. */
static void
upstream_answer(Arena *arena)
{
	static char text[sizeof(record_text) + 1000];
	static size_t n;
	Answer		answer = {.arena = arena,.max_body = 1 << 20};

	if (n == 0)
		n = (size_t) snprintf(text, sizeof(text), "HTTP/1.1 201 Created\r\nDate: Sat, 28 Nov 2026 15:00:00 GMT\r\nContent-Type: application/json;charset=utf-8\r\n"
							  "Content-Length: %zu\r\nConnection: keep-alive\r\nServer: cloudflare\r\nVary: origin\r\nX-HubSpot-RateLimit-Max: 190\r\n"
							  "X-HubSpot-RateLimit-Remaining: 189\r\nX-HubSpot-Correlation-Id: 01234567-89ab-cdef-0123-456789abcdef\r\n\r\n%s",
							  strlen(record_text), record_text);
	check(answer_feed(&answer, text, n) == n && answer.state == ANSWER_WHOLE, "answer_feed");
	answer_free(&answer);
}

/* A slot of two windows that are nearly full: ticket, take, send. */
static void
limiter(Arena *arena)
{
	static LimitQueue queue;
	static LimitWindows *windows;
	static int64_t now = 1000000;
	LimitSet	wake = {0};
	int64_t		retry;
	uint64_t	ticket;

	(void) arena;
	if (windows == NULL)
	{
		RateSpec	specs[2];
		char		error[100];

		check(rate_parse("1000/10s, 250000/1d", specs, 2, error, sizeof(error)) == 2, "rate_parse");
		windows = malloc(limit_windows_size(specs, 2));
		limit_windows_init(windows, specs, 2);
		limit_queue_init(&queue);
	}
	now += 11000;
	ticket = limit_queue_ticket(&queue, 1);
	check(limit_queue_take(&queue, windows, 1, LIMIT_PROXY, ticket, now, &retry, &wake), "take");
	limit_queue_sent(&queue, windows, 1, LIMIT_PROXY, now, &wake);
}

static const struct
{
	const char *name;
	void		(*run) (Arena *arena);
}			cores[] = {
	{"http_head", http_head}, {"header_policy", header_policy}, {"target_and_route", target_route}, {"limiter", limiter},
	{"upstream_request", upstream_request}, {"upstream_answer", upstream_answer},
	{"json_record_1kB", json_record}, {"json_page_100", json_page}, {"decode_record", decode_record}, {"decode_page_100", decode_page}, {"values_23", values}
};

int
main(int argc, char **argv)
{
	make_inputs();
	for (size_t i = 0; i < sizeof(cores) / sizeof(cores[0]); i++)
	{
		if (argc < 3)
			printf("%s\n", cores[i].name);
		else if (strcmp(argv[1], cores[i].name) == 0)
			for (int n = atoi(argv[2]); n > 0; n--)
			{
				Arena	   *arena = arena_create();

				cores[i].run(arena);
				arena_destroy(arena);
			}
	}
	return 0;
}
