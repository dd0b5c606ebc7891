// SRC: src/providers/airtable.c src/providers/airtable_paths.c src/providers/airtable_schema.c src/providers/airtable_decode.c src/providers/airtable_record.c src/providers/airtable_reread.c src/providers/airtable_pages.c src/providers/airtable_feed.c src/target.c src/json.c src/arena.c src/change.c src/schema.c src/provider.c src/names.c src/values.c src/decimal.c src/times.c  LIBS: -lunistring
/*
 * test_airtable_pages.c - lists, changes by formula and the webhook feed, as conversations with a scripted API.
 */
#include "../../src/providers/airtable.h"
#include "airtable_fixture.h"

#define NOW INT64_C(1795584000000000)	/* 2026-11-25 05:20 UTC */

const Provider provider_hubspot = {.name = "hubspot"};	/* provider.c wants one */

typedef struct Talk
{
	Arena	   *arena;
	SyncView	view;
	PageRequest request;
	Conversation conv;
	Call		call;			/* the last one taken */
} Talk;

static void
start(Talk *t, PageKind kind, const char *collection, const char *cursor)
{
	*t = (Talk) {.arena = arena_create(),.view = base_view()};
	t->request = (PageRequest) {.kind = kind,.collection = collection,.cursor = str_of(cursor),.since_us = NOW,.until_id = STR_NULL};
	t->conv = (Conversation) {.arena = t->arena,.view = &t->view,.page = &t->request};
	t->conv.result.total = -1;
	t->conv.result.newest_us = TIME_NONE;
	provider_airtable.page(&t->conv);
}

static const char *
asked(Talk *t)
{
	if (!conversation_take(&t->conv, &t->call))
		return "(nothing)";
	return arena_printf(t->arena, "%s %.*s%s%.*s", t->call.method, STR_FMT(t->call.target), t->call.body.p ? " " : "",
						t->call.body.p ? (int) t->call.body.n : 0, t->call.body.p ? t->call.body.p : "");
}

/* The body is gone afterwards, as errand.c's is. */
static void
answer(Talk *t, int status, const char *body)
{
	Str			copy = exact(body);

	provider_airtable.feed(&t->conv, &t->call, status, copy);
	if (copy.p != NULL)
		memset((char *) copy.p, '#', copy.n);
	release(copy);
}

/* "upsert tblTasks rec1; ... | next | flags" */
static const char *
outcome(Talk *t)
{
	Buf			buf;
	const PageResult *r = &t->conv.result;

	buf_init(&buf, t->arena);
	if (t->conv.failed)
		buf_printf(&buf, "failed%s: %s", t->conv.retriable ? " (retriable)" : "", t->conv.error);
	for (int i = 0; !t->conv.failed && i < t->conv.changes.count; i++)
	{
		const Change *c = &t->conv.changes.items[i];

		buf_printf(&buf, "%s%s %.*s %.*s", i > 0 ? "; " : "", change_op_name(c->op), STR_FMT(c->collection), STR_FMT(c->id));
	}
	if (!t->conv.failed)
		buf_printf(&buf, " | %.*s |%s%s%s%s ids=%d", STR_FMT(r->next), r->more ? " more" : "", r->gap ? " gap" : "",
				   r->restart ? " restart" : "", r->refused ? " refused" : "", r->nids);
	return buf_finish(&buf).p;
}

static void
page(const char *cursor, int status, const char *body, const char *expected, const char *what)
{
	Talk		t;

	start(&t, PAGE_LIST, "tblTasks", cursor);
	asked(&t);
	answer(&t, status, body);
	check_text(outcome(&t), expected, what);
	arena_destroy(t.arena);
}

#define REC(n) "{\"id\":\"rec" n "\",\"createdTime\":\"2024-01-01T00:00:00.000Z\",\"fields\":{\"fldName\":\"x\"}}"

static void
test_list(void)
{
	Talk		t;

	start(&t, PAGE_LIST, "tblTasks", "itrA/rec B");
	check_text(asked(&t), "GET /v0/" BASE "/tblTasks?pageSize=100&returnFieldsByFieldId=true&offset=itrA%2Frec%20B", "the offset is encoded");
	check(!t.call.once, "a list may be asked for again");
	arena_destroy(t.arena);
	page(NULL, 200, "{\"records\":[" REC("A") "," REC("B") "],\"offset\":\"itr/1\"}", "upsert tblTasks recA; upsert tblTasks recB | itr/1 | ids=2", "a page");
	page("x", 200, "{\"records\":[]}", " |  | ids=0", "the last page may be empty");
	page(NULL, 200, "{\"records\":[],\"offset\":\"itr/2\"}", " | itr/2 | ids=0", "an empty page with an offset goes on");
	page(NULL, 200, "{\"records\":[" REC("A") ",{\"id\":7}]}", "failed (retriable): reading records: the answer is not a list of records", "a record without an id");
	page(NULL, 200, "{\"error\":\"x\"}", "failed (retriable): reading records: the answer is not a list of records", "an error is no empty page");
	page(NULL, 200, "{\"records\":[" REC("A"), "failed (retriable): reading records: the answer is not a list of records", "half a page");
	page(NULL, 200, "{\"records\":[],\"offset\":7}", "failed (retriable): reading records: the answer's offset is none", "an offset of another type");
	page("same", 200, "{\"records\":[],\"offset\":\"same\"}", "failed (retriable): reading records: Airtable's list does not move on", "an offset that stands still");
	page("old", 422, "{\"error\":{\"type\":\"LIST_RECORDS_ITERATOR_NOT_AVAILABLE\"}}", " |  | restart ids=0", "an offset that expired");
	page(NULL, 422, "{\"error\":{\"type\":\"VIEW_NAME_NOT_FOUND\"}}", "failed: reading records: Airtable answered 422 VIEW_NAME_NOT_FOUND", "another 422");
	page(NULL, 429, "{}", "failed (retriable): reading records: Airtable answered 429", "a 429");
	page(NULL, 0, NULL, "failed (retriable): reading records: no answer from Airtable", "no answer");
}

static void
test_changes(void)
{
	Talk		t;
	Reading		reading;

	start(&t, PAGE_CHANGES, "tblTasks", NULL);
	check_text(asked(&t), "POST /v0/" BASE "/tblTasks/listRecords {\"filterByFormula\":\"OR(IS_AFTER(LAST_MODIFIED_TIME(),'2026-11-25T05:19:58.000Z'),"
			   "IS_AFTER(CREATED_TIME(),'2026-11-25T05:19:58.000Z'))\",\"returnFieldsByFieldId\":true,\"pageSize\":100}", "changes are asked for from before");
	arena_destroy(t.arena);
	start(&t, PAGE_DOWN, "tblTasks", NULL);
	check_text(outcome(&t), " |  | refused ids=0", "no list from the other end");
	arena_destroy(t.arena);
	provider_airtable.reading(&t.view, &base_tables[1], &reading);
	check(reading.list && reading.list_whole && !reading.changes && reading.feed && !reading.down, "a table that may hold computed fields is not polled");
	{
		SchemaCollection exact_table = base_tables[1];

		exact_table.exact = true;
		provider_airtable.reading(&t.view, &exact_table, &reading);
		check(reading.changes, "one without is");
	}
}

static void
feed(const char *cursor, int status, const char *body, const char *expected, const char *what)
{
	Talk		t;

	start(&t, PAGE_FEED, NULL, cursor);
	asked(&t);
	answer(&t, status, body);
	check_text(outcome(&t), expected, what);
	arena_destroy(t.arena);
}

#define STATE "achA:5:1795583000000000"
#define NEXT "achA:6:1795584000000000"
#define PAYLOADS(p) "{\"cursor\":6,\"mightHaveMore\":false,\"payloads\":[" p "]}"

static void
test_feed(void)
{
	Talk		t;

	start(&t, PAGE_FEED, NULL, STATE);
	check_text(asked(&t), "GET /v0/bases/" BASE "/webhooks/achA/payloads?cursor=5&limit=50", "an idle poll is one call");
	arena_destroy(t.arena);
	feed(STATE, 200, "{\"cursor\":5,\"mightHaveMore\":false,\"payloads\":[]}", " | achA:5:1795584000000000 | ids=0", "nothing new");
	feed(STATE, 200, "{\"cursor\":6,\"mightHaveMore\":true,\"payloads\":[{}]}", " | " NEXT " | more ids=0", "there is more");
	feed(STATE, 200, PAYLOADS("{\"changedTablesById\":{\"tblTasks\":{\"createdRecordsById\":{\"recA\":{}},\"changedRecordsById\":{\"recB\":{},\"recC\":{}},"
							  "\"destroyedRecordIds\":[\"recC\",\"recD\"]},\"tblOff\":{\"destroyedRecordIds\":[\"recE\"]}}}"),
		 "reread tblTasks recA; reread tblTasks recB; reread tblTasks recC; delete tblTasks recD | " NEXT " | ids=0",
		 "changes, deletes, both of one record, a table that is not mirrored");
	feed(STATE, 200, PAYLOADS("{\"changedTablesById\":{\"tblOther\":{\"changedMetadata\":{\"current\":{}}}},\"createdTablesById\":{\"tblN\":{}}}"),
		 "refresh_schema   | " NEXT " | ids=0", "the schema; a table that we do not have is everything's business");
	feed(STATE, 200, PAYLOADS("{\"changedTablesById\":{\"tblTasks\":{\"createdFieldsById\":{\"fldX\":{}}}}}"),
		 "refresh_schema tblTasks  | " NEXT " | ids=0", "a new field of one that we have");
	feed(STATE, 200, "{\"cursor\":9,\"mightHaveMore\":true,\"payloads\":[]}", " | achA:9:1795584000000000 | more gap ids=0", "payloads that are gone leave a gap");
	feed(STATE, 200, "{\"cursor\":5,\"mightHaveMore\":true,\"payloads\":[]}", " | achA:5:1795584000000000 | ids=0", "a cursor that stands still has no more");
	feed(STATE, 200, "{\"cursor\":4,\"payloads\":[]}", " |  | gap ids=0", "one that goes back is another hook's");
	feed(STATE, 200, PAYLOADS("7,{\"changedTablesById\":[1]},{\"changedTablesById\":{\"tblTasks\":3,\"x\":{}}},{\"changedTablesById\":{\"tblTasks\":"
							  "{\"destroyedRecordIds\":[1,\"x\"],\"createdRecordsById\":[\"recA\"]}}}"),
		 "reread tblTasks recA | achA:6:1795584000000000 | gap ids=0", "what is not as it should be leaves a gap");
	feed(STATE, 200, "{\"payloads\":[]}", "failed (retriable): reading a webhook: the answer is not a list of payloads", "no cursor");
	feed(STATE, 200, "{\"cursor\":6}", "failed (retriable): reading a webhook: the answer is not a list of payloads", "no payloads");
	feed(STATE, 503, "", "failed (retriable): reading webhooks: Airtable answered 503", "a 503");
	start(&t, PAGE_FEED, NULL, STATE);
	asked(&t);
	answer(&t, 403, "{}");
	check_text(asked(&t), "GET /v0/bases/" BASE "/webhooks", "a 403 to payloads may be a hook that is gone");
	arena_destroy(t.arena);
	{
		Buf			body;

		start(&t, PAGE_FEED, NULL, STATE);
		asked(&t);
		buf_init(&body, t.arena);
		buf_cstr(&body, "{\"cursor\":6,\"payloads\":[{\"changedTablesById\":{\"tblTasks\":{\"destroyedRecordIds\":[");
		for (int i = 0; i < 20000; i++)
			buf_printf(&body, "%s\"rec%d\"", i ? "," : "", i % 10000);
		buf_cstr(&body, "]}}}]}");
		answer(&t, 200, buf_finish(&body).p);
		check(t.conv.changes.count == 10000 && !t.conv.failed, "each record once, of ever so many");
		arena_destroy(t.arena);
	}
	feed(NULL, 403, "{\"error\":{\"type\":\"INVALID_PERMISSIONS\"}}", " |  | refused ids=0", "no right");
	feed(NULL, 401, "{\"error\":{\"type\":\"AUTHENTICATION_REQUIRED\"}}", "failed: reading webhooks: Airtable refused the credential (401 AUTHENTICATION_REQUIRED):"
		 " set a personal access token that is valid", "a bad token is not a missing right");
}

#define OURS(expires) "{\"webhooks\":[{\"id\":\"achZ\",\"notificationUrl\":\"http://x\",\"isHookEnabled\":true,\"cursorForNextPayload\":2,\"expirationTime\":\"2030-01-01T00:00:00.000Z\"," \
	"\"specification\":{\"options\":{\"filters\":{\"dataTypes\":[\"a\",\"b\",\"c\"]}}}},{\"id\":\"achB\",\"notificationUrl\":null,\"isHookEnabled\":true,\"cursorForNextPayload\":9,\"expirationTime\":\"" expires "\"," \
	"\"specification\":{\"options\":{\"filters\":{\"dataTypes\":[\"a\",\"b\",\"c\"]}}}}]}"

static void
test_setup(void)
{
	Talk		t;

	start(&t, PAGE_FEED, NULL, NULL);
	check_text(asked(&t), "GET /v0/bases/" BASE "/webhooks", "first: is there one of ours");
	answer(&t, 200, OURS("2030-01-01T00:00:00.000Z"));
	check_text(outcome(&t), " | achB:9:1892851200000000 | ids=0", "it is taken over, and nobody else's, as read when its life began");
	arena_destroy(t.arena);
	start(&t, PAGE_FEED, NULL, NULL);
	asked(&t);
	answer(&t, 200, OURS("2026-11-26T05:10:00.000Z"));
	check(strstr(asked(&t), "POST /v0/bases/" BASE "/webhooks {\"specification\"") != NULL && t.call.once, "one that is about to expire is not; a new one is made, once");
	answer(&t, 200, "{\"id\":\"achN\"}");
	check_text(outcome(&t), " | achN:1:1795584000000000 | ids=0", "it begins at its first payload");
	arena_destroy(t.arena);
	start(&t, PAGE_FEED, NULL, STATE);
	asked(&t);
	answer(&t, 404, "{\"error\":\"NOT_FOUND\"}");
	check_text(asked(&t), "GET /v0/bases/" BASE "/webhooks", "a hook that is gone");
	answer(&t, 200, "{\"webhooks\":[]}");
	asked(&t);
	answer(&t, 200, "{\"id\":\"achN\"}");
	check_text(outcome(&t), " | achN:1:1795584000000000 | gap ids=0", "leaves a gap");
	arena_destroy(t.arena);
	start(&t, PAGE_FEED, NULL, "achA:5:1795000000000000");
	check_text(asked(&t), "GET /v0/bases/" BASE "/webhooks", "one that was not read for six days counts as gone");
	check(t.conv.result.gap, "and so leaves a gap");
	arena_destroy(t.arena);
	start(&t, PAGE_FEED, NULL, STATE);
	asked(&t);
	answer(&t, 200, PAYLOADS("{\"changedTablesById\":{\"tblTasks\":{\"destroyedRecordIds\":[\"recD\"]}}},{\"error\":true,\"code\":\"INVALID_HOOK\"}"));
	check(strstr(asked(&t), "GET /v0/bases/" BASE "/webhooks") != NULL && t.conv.result.gap && t.conv.changes.count == 0, "an error payload: a gap, and first a look at the hooks");
	answer(&t, 200, "{\"webhooks\":[{\"id\":\"achA\",\"notificationUrl\":null,\"isHookEnabled\":true,\"cursorForNextPayload\":9,\"expirationTime\":\"2030-01-01T00:00:00.000Z\","
		   "\"specification\":{\"options\":{\"filters\":{\"dataTypes\":[\"a\",\"b\",\"c\"]}}}}]}");
	check(strstr(asked(&t), "POST /v0/bases/" BASE "/webhooks {") != NULL, "the lost one is not taken again");
	arena_destroy(t.arena);
	start(&t, PAGE_FEED, NULL, "rubbish");
	check_text(asked(&t), "GET /v0/bases/" BASE "/webhooks", "a state that is none of ours");
	arena_destroy(t.arena);
}

int
main(void)
{
	test_list();
	test_changes();
	test_feed();
	test_setup();
	return finish();
}
