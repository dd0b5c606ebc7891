// SRC: src/providers/airtable.c src/providers/airtable_paths.c src/providers/airtable_schema.c src/providers/airtable_decode.c src/providers/airtable_record.c src/providers/airtable_reread.c src/providers/airtable_pages.c src/providers/airtable_feed.c src/target.c src/json.c src/arena.c src/change.c src/schema.c src/provider.c src/names.c src/values.c src/decimal.c src/times.c  LIBS: -lunistring
/*
 * test_airtable.c - from 2xx to the mirror (API_FACTS B12, row by row), and rate-limit news.
 */
#include "../../src/providers/airtable.h"
#include "airtable_fixture.h"

const Provider provider_hubspot = {.name = "hubspot"};	/* provider.c wants one */

#define D "/v0/" BASE
#define T ",\"createdTime\":\"2024-01-01T00:00:00.000Z\""
#define AT "@1704067200000000"

typedef struct Case
{
	const char *what;
	const char *method;
	const char *path;
	const char *query;
	const char *body;
	const char *answer;
	const char *expected;
} Case;

static const char *
decode_text(Arena *arena, const SyncView *view, const char *host, const Case *c, bool encoded)
{
	static const char *const prefixes[] = {"", "unreadable: ", "nomem: "};
	Str			body = exact(c->body);
	Str			answer = exact(c->answer);
	RequestView request = {.method = str_of(c->method), .host = str_of(host), .path = str_of(c->path),
	.query = str_of(c->query), .body = body};
	ResponseView response = {.status = 200, .body = answer, .encoded = encoded};
	ChangeList	changes = {0};
	Route		route;
	const char *text;
	DecodeResult result;

	provider_airtable.route(view, &request, arena, &route);
	if (route.verdict != ROUTE_OK || !route.mirrored)
		text = "not mirrored";
	else
	{
		result = provider_airtable.decode(view, &route, &request, &response, arena, &changes);
		text = arena_printf(arena, "%s%s", prefixes[result], print_changes(arena, &changes));
	}
	release(body);
	release(answer);
	return text;
}

static void
run(const SyncView *view, const char *host, const Case *cases, size_t n)
{
	for (size_t i = 0; i < n; i++)
	{
		Arena	   *arena = arena_create();

		check_text(decode_text(arena, view, host, &cases[i], false), cases[i].expected, cases[i].what);
		arena_destroy(arena);
	}
}

#define RUN(view, host, cases) run(view, host, cases, sizeof(cases) / sizeof((cases)[0]))

static const Case creates[] = {
	{"a single create is the whole row", "POST", D "/Tasks", NULL, "{\"fields\":{\"Name\":\"a\"}}",
		"{\"id\":\"recA1\"" T ",\"fields\":{\"Name\":\"a\",\"Done?\":true,\"Estimate\":1.50,\"Tags\":[\"x\"]}}",
	"upsert tblTasks/recA1 " AT " {fldName='a', fldDone=true, fldEst=1.50, fldTags=[\"x\"]}"},
	{"a batch create is every row", "POST", D "/tblTasks", NULL, "{\"records\":[{\"fields\":{}},{\"fields\":{}}]}",
		"{\"records\":[{\"id\":\"recA1\"" T ",\"fields\":{}},{\"id\":\"recA2\"" T ",\"fields\":{\"Name\":\"b\"}}]}",
	"upsert tblTasks/recA1 " AT " {}; upsert tblTasks/recA2 " AT " {fldName='b'}"},
	{"a partial success is applied as returned", "POST", D "/Tasks", NULL, NULL,
		"{\"records\":[{\"id\":\"recA1\"" T ",\"fields\":{\"Name\":\"a\"}}],"
		"\"details\":{\"message\":\"partialSuccess\",\"reasons\":[\"attachmentsFailedUploading\"]}}",
	"upsert tblTasks/recA1 " AT " {fldName='a'}"},
	{"attachments in flight are applied as they are", "POST", D "/Tasks", NULL, NULL,
		"{\"id\":\"recA1\"" T ",\"fields\":{\"Files\":[{\"id\":\"att1\",\"url\":\"https://x\"}]}}",
	"upsert tblTasks/recA1 " AT " {fldFiles=[{\"id\":\"att1\",\"url\":\"https://x\"}]}"},
	{"a special value is handed on", "POST", D "/Tasks", NULL, NULL,
		"{\"id\":\"recA1\"" T ",\"fields\":{\"Estimate\":{\"specialValue\":\"NaN\"}}}",
	"upsert tblTasks/recA1 " AT " {fldEst={\"specialValue\":\"NaN\"}}"},
	{"keys are ids with returnFieldsByFieldId in the body", "POST", D "/Tasks", NULL,
		"{\"fields\":{\"Name\":\"a\"},\"returnFieldsByFieldId\":true}",
		"{\"id\":\"recA1\"" T ",\"fields\":{\"fldName\":\"a\",\"fldEst\":2}}",
	"upsert tblTasks/recA1 " AT " {fldName='a', fldEst=2}"},
	{"keys are ids with returnFieldsByFieldId in the query", "POST", D "/Tasks", "returnFieldsByFieldId=true", "{\"fields\":{}}",
		"{\"id\":\"recA1\"" T ",\"fields\":{\"fldEst\":2}}", "upsert tblTasks/recA1 " AT " {fldEst=2}"},
	{"a name that is another field's id is read as a name", "POST", D "/Tasks", NULL, "{\"fields\":{}}",
		"{\"id\":\"recA1\"" T ",\"fields\":{\"fldEst\":\"text\"}}", "upsert tblTasks/recA1 " AT " {fldTwist='text'}"},
	{"ids are known even where nobody asked for them", "POST", D "/Tasks", NULL, "{\"fields\":{}}",
		"{\"id\":\"recA1\"" T ",\"fields\":{\"fldTags\":[]}}", "upsert tblTasks/recA1 " AT " {fldTags=[]}"},
	{"an escaped field name is found", "POST", D "/Tasks", NULL, NULL,
		"{\"id\":\"recA1\"" T ",\"fields\":{\"Done\\u003f\":true}}", "upsert tblTasks/recA1 " AT " {fldDone=true}"},
	{"the same field twice is one value, the last", "POST", D "/Tasks", NULL, NULL,
		"{\"id\":\"recA1\"" T ",\"fields\":{\"Name\":\"a\",\"Estimate\":1,\"Name\":\"b\"}}",
	"upsert tblTasks/recA1 " AT " {fldName='b', fldEst=1}"},
	{"fields in any order are found", "POST", D "/Tasks", NULL, NULL,
		"{\"id\":\"recA1\"" T ",\"fields\":{\"Tags\":[],\"Name\":\"a\",\"Estimate\":1}}",
	"upsert tblTasks/recA1 " AT " {fldTags=[], fldName='a', fldEst=1}"},
	{"a record without createdTime is still applied", "POST", D "/Tasks", NULL, NULL,
	"{\"id\":\"recA1\",\"fields\":{}}", "upsert tblTasks/recA1 {}"},
	{"an unknown field refreshes its table beside the row", "POST", D "/Tasks", NULL, "{\"fields\":{},\"typecast\":true}",
		"{\"id\":\"recA1\"" T ",\"fields\":{\"Name\":\"a\",\"New\":1}}",
	"upsert tblTasks/recA1 " AT " {fldName='a', ?New=1}; refresh_schema tblTasks"},
	{"typecast without an unknown field refreshes nothing", "POST", D "/Tasks", NULL, "{\"fields\":{},\"typecast\":true}",
	"{\"id\":\"recA1\"" T ",\"fields\":{\"Tags\":[\"new\"]}}", "upsert tblTasks/recA1 " AT " {fldTags=[\"new\"]}"},
	{"a removed field's name is an unknown field", "POST", D "/Tasks", NULL, NULL,
		"{\"id\":\"recA1\"" T ",\"fields\":{\"Gone\":\"x\"}}",
	"upsert tblTasks/recA1 " AT " {?Gone='x'}; refresh_schema tblTasks"},
	{"an unknown table refreshes everything beside the row", "POST", D "/tblNew", NULL, NULL,
		"{\"id\":\"recA1\"" T ",\"fields\":{\"Name\":\"a\"}}",
	"upsert tblNew/recA1 " AT " {?Name='a'}; refresh_schema -"},
	{"a removed table that takes writes refreshes everything", "POST", D "/tblOldTasks", NULL, NULL,
	"{\"id\":\"recA1\"" T ",\"fields\":{}}", "upsert tblOldTasks/recA1 " AT " {}; refresh_schema -"},
	{"an unknown table's name stands for it", "POST", D "/New%20one", NULL, NULL,
	"{\"id\":\"recA1\"" T ",\"fields\":{}}", "upsert New one/recA1 " AT " {}; refresh_schema -"},
	{"an empty list changes nothing", "POST", D "/Tasks", NULL, NULL, "{\"records\":[]}", ""},
};

static const Case updates[] = {
	{"a single PATCH is base-wide", "PATCH", D "/Tasks/recA1", NULL, "{\"fields\":{\"Name\":\"b\"}}",
		"{\"id\":\"recA1\"" T ",\"fields\":{\"Name\":\"b\"}}", "upsert tblTasks/recA1* " AT " {fldName='b'}"},
	{"a single PUT is base-wide", "PUT", D "/Tasks/recA1", NULL, "{\"fields\":{}}",
	"{\"id\":\"recA1\"" T ",\"fields\":{}}", "upsert tblTasks/recA1* " AT " {}"},
	{"a single PATCH whose field its path's table lacks keeps it for the mirror to judge", "PATCH", D "/Tasks/recP1", NULL, NULL,
		"{\"id\":\"recP1\"" T ",\"fields\":{\"Salary\":1}}", "upsert tblTasks/recP1* " AT " {?Salary=1}; refresh_schema tblTasks"},
	{"a batch PATCH is not base-wide", "PATCH", D "/Tasks", NULL, "{\"records\":[{\"id\":\"recA1\",\"fields\":{}}]}",
	"{\"records\":[{\"id\":\"recA1\"" T ",\"fields\":{}}]}", "upsert tblTasks/recA1 " AT " {}"},
	{"a batch PUT is not base-wide", "PUT", D "/Tasks", NULL, "{\"records\":[{\"id\":\"recA1\",\"fields\":{}}]}",
	"{\"records\":[{\"id\":\"recA1\"" T ",\"fields\":{}}]}", "upsert tblTasks/recA1 " AT " {}"},
	{"an upsert applies what it created and what it updated", "PATCH", D "/Tasks", NULL,
		"{\"performUpsert\":{\"fieldsToMergeOn\":[\"Name\"]},\"records\":[{\"fields\":{\"Name\":\"a\"}},{\"fields\":{\"Name\":\"b\"}}]}",
		"{\"records\":[{\"id\":\"recA1\"" T ",\"fields\":{\"Name\":\"a\"}},{\"id\":\"recA2\"" T ",\"fields\":{\"Name\":\"b\"}}],"
		"\"createdRecords\":[\"recA2\"],\"updatedRecords\":[\"recA1\"]}",
	"upsert tblTasks/recA1 " AT " {fldName='a'}; upsert tblTasks/recA2 " AT " {fldName='b'}"},
	{"display strings in the query are read again, never applied", "PATCH", D "/Tasks/recA1",
		"cellFormat=string&timeZone=UTC&userLocale=en", "{\"fields\":{}}",
	"{\"id\":\"recA1\"" T ",\"fields\":{\"Estimate\":\"$1\"}}", "reread tblTasks/recA1*"},
	{"an encoded cellFormat is seen", "PATCH", D "/Tasks/recA1", "cell%46ormat=strin%67", "{\"fields\":{}}",
	"{\"id\":\"recA1\"" T ",\"fields\":{}}", "reread tblTasks/recA1*"},
	{"a parameter that cannot be decoded may ask for display strings", "PATCH", D "/Tasks/recA1", "cellForma%7=string", "{\"fields\":{}}",
	"{\"id\":\"recA1\"" T ",\"fields\":{}}", "reread tblTasks/recA1*"},
	{"display strings in the body are read again, never applied", "POST", D "/Tasks", NULL,
		"{\"records\":[],\"cellFormat\":\"string\"}",
		"{\"records\":[{\"id\":\"recA1\"" T ",\"fields\":{\"Estimate\":\"$1\"}},{\"id\":\"recA2\"" T ",\"fields\":{}}]}",
	"reread tblTasks/recA1; reread tblTasks/recA2"},
	{"display strings with an unknown field refresh the schema too", "PATCH", D "/Tasks/recA1", "cellFormat=string", NULL,
	"{\"id\":\"recA1\"" T ",\"fields\":{\"New\":\"$1\"}}", "reread tblTasks/recA1*; refresh_schema tblTasks"},
	{"cellFormat=json changes nothing", "PATCH", D "/Tasks/recA1", "cellFormat=json", "{\"fields\":{}}",
	"{\"id\":\"recA1\"" T ",\"fields\":{}}", "upsert tblTasks/recA1* " AT " {}"},
	{"narrowed fields are read again", "PATCH", D "/Tasks/recA1", "fields%5B%5D=Name", "{\"fields\":{}}",
	"{\"id\":\"recA1\"" T ",\"fields\":{\"Name\":\"a\"}}", "reread tblTasks/recA1*"},
	{"a request that we cannot read may ask for display strings", "PATCH", D "/Tasks/recA1", NULL, "cellFormat=string",
	"{\"id\":\"recA1\"" T ",\"fields\":{\"Name\":\"a\"}}", "reread tblTasks/recA1*"},
	{"display strings of an unknown table are looked for everywhere", "POST", D "/New", "cellFormat=string", "{\"fields\":{}}",
	"{\"id\":\"recA1\"" T ",\"fields\":{}}", "reread -/recA1*; refresh_schema -"},
};

static const Case deletes[] = {
	{"a single DELETE is base-wide", "DELETE", D "/Tasks/recA1", NULL, NULL, "{\"id\":\"recA1\",\"deleted\":true}",
	"delete tblTasks/recA1*"},
	{"a single DELETE under an unknown name deletes wherever the id is", "DELETE", D "/Nope/recA1", NULL, NULL,
	"{\"id\":\"recA1\",\"deleted\":true}", "delete -/recA1*"},
	{"a batch DELETE deletes what it says", "DELETE", D "/Tasks", "records[]=recA1&records%5B%5D=recA2", NULL,
		"{\"records\":[{\"id\":\"recA1\",\"deleted\":true},{\"id\":\"recA2\",\"deleted\":true}]}",
	"delete tblTasks/recA1; delete tblTasks/recA2"},
	{"a batch DELETE does not delete what was not deleted", "DELETE", D "/Tasks", "records[]=recA1&records[]=recA2", NULL,
		"{\"records\":[{\"id\":\"recA1\",\"deleted\":true},{\"id\":\"recA2\",\"deleted\":false}]}",
	"delete tblTasks/recA1; reread tblTasks/recA2"},
	{"a DELETE that answers with another record is not believed", "DELETE", D "/Tasks/recA1", NULL, NULL,
	"{\"id\":\"recA2\",\"deleted\":true}", "unreadable: reread tblTasks/recA1*; reread tblTasks/recA2*"},
	{"a DELETE of an unreadable batch reads its ids again", "DELETE", D "/Tasks", "records[]=recA1&records[]=recA2&x=1", NULL,
	"gone", "unreadable: reread tblTasks/recA1; reread tblTasks/recA2"},
};

static const Case oddities[] = {
	{"listRecords is a read", "POST", D "/Tasks/listRecords", NULL, "{}", "{\"records\":[]}", "not mirrored"},
	{"GET is a read", "GET", D "/Tasks/recA1", NULL, NULL, "{}", "not mirrored"},
	{"comments change nothing", "POST", D "/Tasks/recA1/comments", NULL, "{\"text\":\"x\"}", "{\"id\":\"com1\"}", "not mirrored"},
	{"webhooks change nothing", "POST", "/v0/bases/" BASE "/webhooks", NULL, "{}", "{\"id\":\"ach1\"}", "not mirrored"},
	{"a new table refreshes the schema", "POST", "/v0/meta/bases/" BASE "/tables", NULL, "{}", "{\"id\":\"tblX\"}", "refresh_schema -"},
	{"a changed table refreshes the schema", "PATCH", "/v0/meta/bases/" BASE "/tables/tblTasks", NULL, "{}", "{}", "refresh_schema -"},
	{"a new field refreshes the schema, of linked tables too", "POST", "/v0/meta/bases/" BASE "/tables/tblTasks/fields", NULL,
	"{}", "not even JSON", "refresh_schema -"},
	{"a changed field refreshes the schema", "PATCH", "/v0/meta/bases/" BASE "/tables/tblTasks/fields/fldName", NULL, "{}", "{}",
	"refresh_schema -"},
	{"an answer that is no JSON reads the path's record again", "PATCH", D "/Tasks/recA1", NULL, "{\"fields\":{}}", "<html>",
	"unreadable: reread tblTasks/recA1*"},
	{"an empty answer reads the body's records again", "PATCH", D "/Tasks", NULL,
		"{\"records\":[{\"id\":\"recA1\",\"fields\":{}},{\"fields\":{}},7,{\"id\":\"recA2\"},{\"id\":\"recA1\"}]}", "",
	"unreadable: reread tblTasks/recA1; reread tblTasks/recA2"},
	{"an answer that is no object is unreadable", "PATCH", D "/Tasks/recA1", NULL, NULL, "[1]", "unreadable: reread tblTasks/recA1*"},
	{"a record without fields is unreadable", "PATCH", D "/Tasks/recA1", NULL, NULL, "{\"id\":\"recA1\"}",
	"unreadable: reread tblTasks/recA1*"},
	{"a record without an id is unreadable", "POST", D "/Tasks", NULL, NULL, "{\"fields\":{}}", "unreadable: "},
	{"one broken record makes all of them re-reads", "POST", D "/Tasks", NULL, NULL,
		"{\"records\":[{\"id\":\"recA1\"" T ",\"fields\":{}},{\"id\":\"recA2\",\"fields\":[]}]}",
	"unreadable: reread tblTasks/recA1; reread tblTasks/recA2"},
	{"an id that could break out of a formula is not a record", "POST", D "/Tasks", NULL, NULL,
	"{\"id\":\"rec') OR ('\",\"fields\":{}}", "unreadable: "},
	{"a PATCH that answers with another record is not believed", "PATCH", D "/Tasks/recA1", NULL, NULL,
	"{\"id\":\"recA2\",\"fields\":{}}", "unreadable: reread tblTasks/recA1*; reread tblTasks/recA2*"},
	{"an unreadable answer of an unknown table refreshes the schema too", "PATCH", D "/New/recA1", NULL, NULL, "x",
	"unreadable: reread -/recA1*; refresh_schema -"},
	{"an unknown method reads its record again", "POST", D "/Tasks/recA1", NULL, NULL, "{\"id\":\"recA1\",\"fields\":{}}",
	"unreadable: reread tblTasks/recA1*"},
};

static const Case uploads[] = {
	{"an upload is one cell, in whatever table", "POST", D "/recA1/fldFiles/uploadAttachment", NULL, "{\"file\":\"eA==\"}",
		"{\"id\":\"recA1\"" T ",\"fields\":{\"fldFiles\":[{\"id\":\"att1\"}]}}",
	"patch -/recA1* " AT " {fldFiles=[{\"id\":\"att1\"}]}"},
	{"an upload to an unknown field refreshes the schema", "POST", D "/recA1/Files/uploadAttachment", NULL, "{}",
	"{\"id\":\"recA1\"" T ",\"fields\":{\"fldNew\":[]}}", "patch -/recA1* " AT " {?fldNew=[]}; refresh_schema -"},
	{"an unreadable upload reads its record again", "POST", D "/recA1/fldFiles/uploadAttachment", NULL, "{}", "{}",
	"unreadable: reread -/recA1*"},
};

/* The user chose Tasks only, and it is there. */
static const Case chosen[] = {
	{"a batch in a table that nobody chose costs nothing", "POST", D "/tblOther", NULL, NULL,
	"{\"id\":\"recO1\"" T ",\"fields\":{\"X\":1}}", ""},
	{"a batch delete in a table that nobody chose costs nothing", "DELETE", D "/tblOther", "records[]=recO1", NULL, "broken", ""},
	{"a single call there may still be about a chosen table's record", "DELETE", D "/tblOther/recA1", NULL, NULL,
	"{\"id\":\"recA1\",\"deleted\":true}", "delete -/recA1*"},
	{"a single update there refreshes nothing", "PATCH", D "/tblOther/recA1", NULL, NULL,
	"{\"id\":\"recA1\"" T ",\"fields\":{}}", "upsert tblOther/recA1* " AT " {}"},
	{"a name may be a chosen table's new one", "POST", D "/Renamed", NULL, NULL,
	"{\"id\":\"recO1\"" T ",\"fields\":{}}", "upsert Renamed/recO1 " AT " {}; refresh_schema -"},
};

static const Case chosen_missing[] = {
	{"while a chosen table is missing, any new id may be it", "POST", D "/tblOther", NULL, NULL,
	"{\"id\":\"recO1\"" T ",\"fields\":{}}", "upsert tblOther/recO1 " AT " {}; refresh_schema -"},
};

static void
test_chosen(void)
{
	const char *tables[] = {"Tasks", "Missing"};
	SyncView	view = base_view();

	view.tables = tables;
	view.ntables = 1;
	RUN(&view, AIRTABLE_API_HOST, chosen);
	view.ntables = 2;
	RUN(&view, AIRTABLE_API_HOST, chosen_missing);
}

static void
test_encoded(void)
{
	SyncView	view = base_view();
	Arena	   *arena = arena_create();
	Case		c = {"", "PATCH", D "/Tasks/recA1", NULL, "{}", "{\"id\":\"recA1\",\"fields\":{}}", ""};

	check_text(decode_text(arena, &view, AIRTABLE_API_HOST, &c, true), "unreadable: reread tblTasks/recA1*",
			   "an answer with a Content-Encoding is not read");
	view.schema = NULL;
	check_text(decode_text(arena, &view, AIRTABLE_API_HOST, &c, false), "upsert Tasks/recA1* {}; refresh_schema -",
			   "before discovery everything is unknown");
	arena_destroy(arena);
}

static Str
find_header(void *cls, const char *name)
{
	return strcmp(name, "Retry-After") == 0 ? str_of(cls) : STR_NULL;
}

static int64_t
block_ms(int status, const char *retry_after, const char *body)
{
	LimitHint	hint = {.has_remaining = true};

	provider_airtable.limits(status, find_header, (void *) retry_after, str_of(body), &hint);
	return hint.has_remaining ? -1 : hint.block_ms;
}

static void
test_limits(void)
{
	const char *billing = "{\"error\":{\"type\":\"PUBLIC_API_BILLING_LIMIT_EXCEEDED\"}}";

	check(block_ms(200, "5", NULL) == 0, "a 200 blocks nothing");
	check(block_ms(429, NULL, "{\"error\":{\"type\":\"RATE_LIMIT_REACHED\"}}") == 30000, "a 429 blocks for 30 s");
	check(block_ms(429, NULL, "{\"errors\":[{\"error\":\"RATE_LIMIT_REACHED\"}]}") == 30000, "the plural 429 blocks for 30 s");
	check(block_ms(429, "7", NULL) == 7000, "a 429 with Retry-After blocks for so long");
	check(block_ms(429, "0", NULL) == 1000, "Retry-After: 0 is a second");
	check(block_ms(429, "-1", NULL) == 30000, "a Retry-After that is no number is none");
	check(block_ms(429, "Fri, 31 Dec 1999 23:59:59 GMT", NULL) == 30000, "a Retry-After that is a date is none");
	check(block_ms(429, "99999999999999999999999", NULL) == 86400000, "a huge Retry-After is a day");
	check(block_ms(429, NULL, billing) == 3600000, "the month's limit blocks for an hour");
	check(block_ms(429, "60", billing) == 3600000, "the month's limit blocks for an hour, whatever Retry-After says");
	check(block_ms(429, NULL, "{\"error\":\"PUBLIC_API_BILLING_LIMIT_EXCEEDED\"}") == 3600000, "a bare string is a type too");
	check(block_ms(503, "3", NULL) == 3000, "a 503 with Retry-After blocks for so long");
	check(block_ms(503, NULL, NULL) == 0, "a 503 without blocks nothing");
	check(block_ms(500, "3", NULL) == 0, "a 500 blocks nothing");
	check(block_ms(403, NULL, billing) == 0, "only a 429 speaks of limits");
}

int
main(void)
{
	SyncView	view = base_view();

	RUN(&view, AIRTABLE_API_HOST, creates);
	RUN(&view, AIRTABLE_API_HOST, updates);
	RUN(&view, AIRTABLE_API_HOST, deletes);
	RUN(&view, AIRTABLE_API_HOST, oddities);
	RUN(&view, AIRTABLE_CONTENT_HOST, uploads);
	test_chosen();
	test_encoded();
	test_limits();
	return finish();
}
