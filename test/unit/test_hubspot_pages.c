// SRC: src/arena.c src/change.c src/schema.c src/json.c src/target.c src/values.c src/times.c src/decimal.c src/names.c src/provider.c src/providers/hubspot.c src/providers/hubspot_types.c src/providers/hubspot_paths.c src/providers/hubspot_objects.c src/providers/hubspot_batch.c src/providers/hubspot_decode.c src/providers/hubspot_associations.c src/providers/hubspot_labels.c src/providers/hubspot_schema.c src/providers/hubspot_pairs.c src/providers/hubspot_reread.c src/providers/hubspot_relink.c src/providers/hubspot_answers.c src/providers/hubspot_link_lists.c src/providers/hubspot_pages.c src/providers/hubspot_page_records.c src/providers/hubspot_page_links.c src/providers/hubspot_limits.c  LIBS: -lunistring
/*
 * Unit tests of HubSpot's reading page by page: what is asked for, what a page's records change, where the
 * next page begins, when two readings have met, what an error or a broken answer means; links of
 * many records at once.  No I/O: answers are scripted, and gone after they were fed.
 */
#include "../../src/provider.h"

#include <stdio.h>
#include <stdlib.h>

const Provider provider_airtable = {.name = "airtable"};

static int	passed;
static int	failed;

static void
check(bool ok, const char *what)
{
	printf("%s - %s\n", ok ? "ok" : "not ok", what);
	ok ? passed++ : failed++;
}

static void
check_text(const char *got, const char *want, const char *what)
{
	bool		ok = strcmp(got, want) == 0;

	check(ok, what);
	if (!ok)
		printf("#   want: %s\n#   got:  %s\n", want, got);
}

static const Provider *const hs = &provider_hubspot;
static Arena *scratch;

#define FIELD(n) {.field = n, .name = n, .enabled = true}
#define COUNT(a) ((int) (sizeof(a) / sizeof(a[0])))

static SchemaField contact_fields[] = {
	FIELD("email"), FIELD("firstname"), FIELD("hs_object_id"), {.field = "hidden", .name = "hidden"},
	{.field = "gone", .name = "gone", .enabled = true, .removed = true}, FIELD("odd name&"),
};
static SchemaField deal_fields[] = {FIELD("amount"), FIELD("hs_merged_object_ids")};
static SchemaField owner_fields[] = {FIELD("email"), FIELD("userId"), FIELD("teams"), FIELD("archived")};
static SchemaField many_fields[400];
static char many_names[400][32];
static LinkType cc_types[] = {
	{279, "HUBSPOT_DEFINED", "0-1", "0-2", NULL}, {280, "HUBSPOT_DEFINED", "0-2", "0-1", NULL},
	{1, "HUBSPOT_DEFINED", "0-1", "0-2", "Primary"}, {2, "HUBSPOT_DEFINED", "0-2", "0-1", "Primary"},
	{37, "USER_DEFINED", "0-1", "0-2", "Boss of"}, {38, "USER_DEFINED", "0-2", "0-1", "Led by"},
	{39, "USER_DEFINED", "0-1", "0-2", "Twin"}, {40, "USER_DEFINED", "0-2", "0-1", "Twin"},
};
static LinkType self_types[] = {
	{449, "HUBSPOT_DEFINED", "0-1", "0-1", NULL}, {13, "HUBSPOT_DEFINED", "0-1", "0-1", "Parent"}, {14, "HUBSPOT_DEFINED", "0-1", "0-1", "Child"},
};
static LinkType cd_types[] = {
	{4, "HUBSPOT_DEFINED", "0-1", "0-3", NULL}, {60, "USER_DEFINED", "0-1", "0-3", "Fan"}, {61, "USER_DEFINED", "0-3", "0-1", "Fan"},
};
static SchemaCollection collections[] = {
	{.collection = "0-1", .name = "contacts", .fields = contact_fields, .nfields = COUNT(contact_fields), .enabled = true},
	{.collection = "0-3", .name = "deals", .fields = deal_fields, .nfields = COUNT(deal_fields), .enabled = true},
	{.collection = "0-2", .name = "companies", .fields = many_fields, .nfields = COUNT(many_fields), .enabled = true},
	{.collection = "owners", .name = "owners", .fields = owner_fields, .nfields = COUNT(owner_fields), .enabled = true},
	{.collection = "0-2:0-1", .name = "companies:contacts", .kind = COLLECTION_LINKS, .from = "0-2", .to = "0-1",
	.link_types = cc_types, .nlink_types = COUNT(cc_types), .enabled = true},
	{.collection = "0-1:0-3", .name = "contacts:deals", .kind = COLLECTION_LINKS, .from = "0-1", .to = "0-3",
	.link_types = cd_types, .nlink_types = COUNT(cd_types), .enabled = true},
	{.collection = "0-1:0-1", .name = "contacts:contacts", .kind = COLLECTION_LINKS, .from = "0-1", .to = "0-1",
	.link_types = self_types, .nlink_types = COUNT(self_types), .enabled = true},
};
static const Schema schema = {collections, COUNT(collections)};
static const SyncView view = {.name = "crm", .schema = &schema};

/* ---- scripts and prints ---- */

typedef struct Script
{
	const char *needle;			/* "METHOD target body" contains it */
	int			status;
	const char *body;
} Script;

static Conversation conv;		/* of the last page */
static const char *asked;		/* its first call */
static int	calls;

static void
print_change(Buf *b, const Change *c)
{
	buf_printf(b, "%s%s", b->n ? "; " : "", change_op_name(c->op));
	buf_printf(b, " %.*s/%.*s", STR_FMT(c->collection), STR_FMT(c->id));
	if (c->to_collection.p)
		buf_printf(b, " > %.*s", STR_FMT(c->to_collection));
	if (c->to_id.p)
		buf_printf(b, "/%.*s", STR_FMT(c->to_id));
	for (int i = 0; i < c->nfields; i++)
	{
		const FieldValue *f = &c->fields[i];

		buf_printf(b, " %.*s%s=", STR_FMT(f->field), f->known ? "" : "?");
		if (f->type <= JSON_TRUE)
			buf_cstr(b, f->type == JSON_NULL ? "null" : f->type == JSON_TRUE ? "true" : "false");
		else
			buf_str(b, f->text);
	}
	for (int i = 0; i < c->nlabels; i++)
		buf_printf(b, " [%.*s]", STR_FMT(c->labels[i]));
	for (int i = 0; i < c->nkeep_ids; i++)
		buf_printf(b, " keep:%.*s", STR_FMT(c->keep_ids[i]));
	if (c->labels_replace)
		buf_cstr(b, " replace");
}

static const char *
changes(void)
{
	Buf			b;

	buf_init(&b, scratch);
	for (int i = 0; i < conv.changes.count; i++)
		print_change(&b, &conv.changes.items[i]);
	return b.n ? buf_finish(&b).p : "";
}

static const char *
outcome(void)
{
	const PageResult *r = &conv.result;
	Buf			b;

	if (conv.failed)
		return arena_printf(scratch, "failed%s: %s", conv.retriable ? ", again" : "", conv.error);
	if (r->refused)
		return arena_printf(scratch, "refused: %s", r->refusal);
	buf_init(&b, scratch);
	for (int i = 0; i < r->nids; i++)
		buf_printf(&b, "%s%.*s", i ? "," : "", STR_FMT(r->ids[i]));
	buf_printf(&b, " next=%.*s%s%s%s", r->next.p ? (int) r->next.n : 4, r->next.p ? r->next.p : "none",
			   r->ordered ? " ordered" : "", r->met ? " met" : "", r->restart ? " restart" : "");
	if (r->total >= 0)
		buf_printf(&b, " total=%lld", (long long) r->total);
	return buf_finish(&b).p;
}

static void
run(const PageRequest *request, const Script *script, int n)
{
	Call		call;

	conv = (Conversation) {.arena = scratch, .view = &view, .page = request, .result = {.total = -1, .newest_us = TIME_NONE}};
	asked = "";
	calls = 0;
	hs->page(&conv);
	while (conversation_take(&conv, &call))
	{
		char	   *text = arena_printf(scratch, "%s %.*s %.*s", call.method, STR_FMT(call.target), (int) call.body.n, call.body.p ? call.body.p : "");
		int			i = 0;
		char	   *body;

		if (calls++ == 0)
			asked = arena_printf(scratch, "%s %s", call.bucket, text);
		while (i < n && strstr(text, script[i].needle) == NULL)
			i++;
		/* a body that is gone after feed() shows any pointer that was kept into it */
		body = strdup(i < n ? script[i].body : "<html>");
		hs->feed(&conv, &call, i < n ? script[i].status : 500, str_of(body));
		free(body);
	}
}

static const char *
answer(PageRequest request, int status, const char *body)
{
	Script		script = {"", status, body};
	PageRequest *copy = arena_alloc(scratch, sizeof(*copy));

	*copy = request;
	run(copy, &script, 1);
	return outcome();
}

#define LIST(...) ((PageRequest) {.kind = PAGE_LIST, .collection = "0-1", __VA_ARGS__})
#define DOWN(...) ((PageRequest) {.kind = PAGE_DOWN, .collection = "0-1", __VA_ARGS__})
#define CHANGES(...) ((PageRequest) {.kind = PAGE_CHANGES, .collection = "0-1", __VA_ARGS__})
#define S(s) STR_LIT(s)
#define P "\"properties\":{}"

/* A page of bare records: "1 2 3" with the rest of the object after the results. */
static const char *
records(const char *ids, const char *rest)
{
	char	   *copy = arena_cstr(scratch, str_of(ids));
	Buf			b;

	buf_init(&b, scratch);
	buf_cstr(&b, "{\"results\":[");
	for (char *id = strtok(copy, " "), *first = id; id != NULL; id = strtok(NULL, " "))
		buf_printf(&b, "%s{\"id\":\"%s\"," P "}", id == first ? "" : ",", id);
	buf_printf(&b, "]%s}", rest);
	return buf_finish(&b).p;
}

static const char *
full_page(int from, int step, int n, const char *rest)
{
	Buf			b;

	buf_init(&b, scratch);
	for (int i = 0; i < n; i++)
		buf_printf(&b, "%s%d", i ? " " : "", from + step * i);
	return records(buf_finish(&b).p, rest);
}

#define AFTER(a) ",\"paging\":{\"next\":{\"after\":\"" a "\"}}"

/* ---- what can be read ---- */

static void
set_many(int n)
{
	for (int i = 0; i < COUNT(many_fields); i++)
	{
		snprintf(many_names[i], sizeof(many_names[i]), "a_property_of_mine_%03d", i);
		many_fields[i] = (SchemaField) {.field = many_names[i], .name = many_names[i], .enabled = i < n};
	}
}

static void
test_reading(void)
{
	Reading		r;

	set_many(250);
	hs->reading(&view, &collections[0], &r);
	check(r.list && r.list_whole && r.down && r.changes && r.field && !r.feed && r.list_size == 100 && r.link_ids == 0, "an object type can be read in every way but by a feed");
	hs->reading(&view, &collections[2], &r);
	check(r.list && r.list_whole, "250 properties fit into a URL");
	set_many(300);
	hs->reading(&view, &collections[2], &r);
	check(r.list && !r.list_whole && r.down && r.changes, "300 properties do not: the list shows ids only, searches show all");
	hs->reading(&view, &collections[3], &r);
	check(r.list && r.list_whole && !r.down && !r.changes && !r.field, "owners can only be listed");
	hs->reading(&view, &collections[4], &r);
	check(!r.list && !r.down && r.link_ids == 1000, "links are read by a thousand ids");
}

static void
test_questions(void)
{
	const char *none = "{\"results\":[]}";

	answer(LIST(), 200, none);
	check_text(asked, "default GET /crm/v3/objects/contacts?limit=100&archived=false&properties=email,firstname,hs_object_id,odd%20name%26,hs_merged_object_ids ",
			   "a list asks for living, enabled properties, encoded, and for merged ids");
	answer((PageRequest) {.kind = PAGE_LIST, .collection = "0-3", .cursor = S("7|a/b=")}, 200, none);
	check_text(asked, "default GET /crm/v3/objects/deals?limit=100&archived=false&properties=amount,hs_merged_object_ids&after=a%2Fb%3D ",
			   "the token of the cursor goes back as it came; nothing is asked for twice");
	set_many(400);
	answer((PageRequest) {.kind = PAGE_LIST, .collection = "0-2"}, 200, none);
	check_text(asked, "default GET /crm/v3/objects/companies?limit=100&archived=false&properties=hs_object_id ", "too many properties: only the constants");
	set_many(250);
	answer((PageRequest) {.kind = PAGE_LIST, .collection = "0-2"}, 200, none);
	check(strlen(asked) < 7000 && strstr(asked, "mine_249"), "... and a URL never gets longer than 7,000 bytes");
	answer((PageRequest) {.kind = PAGE_LIST, .collection = "owners", .cursor = S("5|5")}, 200, none);
	check_text(asked, "default GET /crm/v3/owners?limit=100&archived=false&after=5 ", "owners");
	answer(DOWN(), 200, none);
	check_text(asked, "search POST /crm/v3/objects/contacts/search {\"sorts\":[{\"propertyName\":\"hs_object_id\",\"direction\":\"DESCENDING\"}],"
			   "\"properties\":[\"email\",\"firstname\",\"hs_object_id\",\"odd name&\",\"hs_merged_object_ids\"],\"limit\":200}", "down from the top");
	answer(DOWN(.cursor = S("90")), 200, none);
	check(strstr(asked, "{\"filterGroups\":[{\"filters\":[{\"propertyName\":\"hs_object_id\",\"operator\":\"LT\",\"value\":\"90\"}]}],\"sorts\"") != NULL, "... and on below the cursor");
	answer(CHANGES(.since_us = 1704067200123999), 200, none);
	check(strstr(asked, "{\"filterGroups\":[{\"filters\":[{\"propertyName\":\"lastmodifieddate\",\"operator\":\"GTE\",\"value\":\"1704067200123\"}]}],"
				 "\"sorts\":[{\"propertyName\":\"hs_object_id\",\"direction\":\"ASCENDING\"}]") != NULL, "changes of contacts go by lastmodifieddate, in whole milliseconds");
	answer(CHANGES(.since_us = -1), 200, none);
	check(strstr(asked, "\"value\":\"-1\"") != NULL, "... rounded down before the epoch too");
	answer((PageRequest) {.kind = PAGE_CHANGES, .collection = "0-3", .since_us = 5000, .cursor = S("12")}, 200, none);
	check(strstr(asked, "{\"propertyName\":\"hs_lastmodifieddate\",\"operator\":\"GTE\",\"value\":\"5\"},{\"propertyName\":\"hs_object_id\",\"operator\":\"GT\",\"value\":\"12\"}]}]") != NULL,
		  "... of others by hs_lastmodifieddate, on after the cursor");
	answer((PageRequest) {.kind = PAGE_FIELD, .collection = "0-1", .field = S("email")}, 200, none);
	check(strstr(asked, "\"filters\":[{\"propertyName\":\"email\",\"operator\":\"HAS_PROPERTY\"}]") && strstr(asked, "ASCENDING"), "records in which a field has a value");
}

static void
test_not_to_be_had(void)
{
	check(strstr(answer((PageRequest) {.kind = PAGE_FEED}, 200, "{}"), "refused: ") && calls == 0, "there is no feed");
	check(strstr(answer((PageRequest) {.kind = PAGE_DOWN, .collection = "owners"}, 200, "{}"), "refused: ") && calls == 0, "owners cannot be searched");
	check(strstr(answer((PageRequest) {.kind = PAGE_LIST, .collection = "0-2:0-1"}, 200, "{}"), "refused: ") && calls == 0, "links cannot be listed");
	check(strstr(answer((PageRequest) {.kind = PAGE_LINKS, .collection = "0-1"}, 200, "{}"), "refused: ") && calls == 0, "records have no PAGE_LINKS");
	check(strstr(answer((PageRequest) {.kind = PAGE_FIELD, .collection = "0-1"}, 200, "{}"), "refused: ") && calls == 0, "no field, no PAGE_FIELD");
	check(strstr(answer((PageRequest) {.kind = PAGE_LIST, .collection = "0-9"}, 200, "{}"), "failed, again: ") && calls == 0, "an unknown collection fails");
}

/* ---- records ---- */

#define A3 "\"hs_object_id\":\"1\",\"odd name&\":null"

static void
test_records(void)
{
	check_text(answer(LIST(), 200, "{\"results\":[{\"id\":\"1\",\"properties\":{\"email\":\"a\",\"firstname\":null," A3 ",\"new\":\"x\",\"hidden\":\"h\",\"hs_merged_object_ids\":null},"
					  "\"createdAt\":\"2024-01-01T00:00:00Z\",\"updatedAt\":\"2024-01-02T00:00:00.5Z\",\"archived\":false},"
					  "{\"id\":2,\"properties\":{\"firstname\":\"b\",\"email\":null," A3 "},\"updatedAt\":null}]}"),
			   "1,2 next=none ordered", "a page of two; ids may be numbers");
	check_text(changes(), "upsert 0-1/1 email=a firstname=null hs_object_id=1 odd name&=null new?=x hidden=h; upsert 0-1/2 firstname=b email=null hs_object_id=1 odd name&=null",
			   "each record is an upsert, whatever the order of its fields; what the schema lacks is there as unknown, what only we asked for is not");
	check(conv.result.versions[0] == INT64_C(1704153600500000) && conv.result.versions[1] == TIME_NONE && conv.changes.items[0].updated_at_us == conv.result.versions[0] &&
		  conv.changes.items[0].created_at_us == INT64_C(1704067200000000), "times and versions");
	answer(LIST(), 200, "{\"results\":[{\"id\":\"1\",\"properties\":{\"email\":\"a\"," A3 "}},{\"id\":\"2\",\"properties\":{" A3 ",\"firstname\":\"f\"}}]}");
	check_text(changes(), "upsert 0-1/1 email=a hs_object_id=1 odd name&=null; upsert 0-1/2 hs_object_id=1 odd name&=null firstname=f",
			   "what one record lacks and another has becomes NULL: an upsert");
	answer(LIST(), 200, "{\"results\":[{\"id\":\"1\",\"properties\":{\"email\":\"a\"," A3 "}},{\"id\":\"2\",\"properties\":{" A3 "}}]}");
	check_text(changes(), "patch 0-1/1 email=a hs_object_id=1 odd name&=null; patch 0-1/2 hs_object_id=1 odd name&=null email=null",
			   "a field that no record has is gone in the API: its column keeps its values, the others are cleared as before");
	check_text(answer(LIST(), 200, records("1 2 1", "")), "2,1 next=none", "a record that is there twice counts once, the last time");
	check(conv.changes.count == 2, "... with one change");
	check_text(answer(LIST(), 200, "{\"results\":[{\"id\":\"1\",\"archived\":true},{\"id\":\"2\"," P "}]}"), "2 next=none ordered", "an archived record is not among the living");
	check(strncmp(changes(), "delete 0-1/1; ", 14) == 0, "... and is deleted");
	set_many(400);
	check_text(answer((PageRequest) {.kind = PAGE_LIST, .collection = "0-2"}, 200,
					  "{\"results\":[{\"id\":\"1\",\"updatedAt\":\"1970-01-01T00:00:01Z\",\"properties\":{\"hs_object_id\":\"1\"}},{\"id\":\"2\",\"archived\":true},{\"id\":\"3\"}]}"),
			   "1,3 next=none ordered", "a list that is not whole shows ids");
	check(conv.changes.count == 0 && conv.result.versions[0] == 1000000, "... and versions, but changes nothing");
}

static void
test_merged(void)
{
	answer(LIST(), 200, "{\"results\":[{\"id\":\"9\",\"properties\":{\"hs_merged_object_ids\":\"1;2;;9;x;7\"}},{\"id\":\"7\",\"properties\":{}}]}");
	check(strstr(changes(), "delete 0-1/1; delete 0-1/2") != NULL, "merged-away ids are deleted");
	check(conv.changes.count == 4, "... but not the survivor, nor what the same page shows alive, nor what is no id");
	answer((PageRequest) {.kind = PAGE_DOWN, .collection = "0-3"}, 200, "{\"results\":[{\"id\":\"9\",\"properties\":{\"amount\":\"1\",\"hs_merged_object_ids\":\"3\"}}]}");
	check_text(changes(), "upsert 0-3/9 amount=1 hs_merged_object_ids=3; delete 0-3/3", "a mirrored hs_merged_object_ids is a field as well");
	answer(LIST(), 200, "{\"results\":[{\"id\":\"9\",\"properties\":{\"hs_merged_object_ids\":17}},{\"id\":\"8\",\"properties\":{\"hs_merged_object_ids\":[1]}}]}");
	check(strstr(changes(), "delete 0-1/17") && conv.changes.count == 3, "one merged id as a number; an array is none");
}

static void
test_owners(void)
{
	check_text(answer((PageRequest) {.kind = PAGE_LIST, .collection = "owners"}, 200,
					  "{\"results\":[{\"id\":\"5\",\"email\":\"o@x\",\"userId\":17,\"teams\":[{\"id\":\"1\"}],\"archived\":false,\"createdAt\":\"1970-01-01T00:00:01Z\",\"updatedAt\":\"1970-01-01T00:00:02Z\",\"brandNew\":1},"
					  "{\"id\":\"12\",\"email\":null}]" AFTER("12") "}"), "5,12 next=12|12 ordered", "owners");
	check_text(changes(), "upsert owners/5 email=o@x userId=17 teams=[{\"id\":\"1\"}] archived=false; upsert owners/12 email=null", "... have their fields at the top; those without a column are left out");
	check(conv.changes.items[0].created_at_us == 1000000 && conv.result.versions[0] == 2000000, "... and their times");
}

/* ---- the next page ---- */

static void
test_list_order(void)
{
	check_text(answer(LIST(), 200, records("1 2 10", AFTER("10"))), "1,2,10 next=10|10 ordered", "ids go up as numbers");
	check_text(answer(LIST(), 200, records("1 10 2", AFTER("2"))), "1,10,2 next=2|2", "an unordered page");
	check_text(answer(LIST(.cursor = S("10|tok==")), 200, records("11 12", AFTER("u|v"))), "11,12 next=12|u|v ordered", "tokens that are not ids: the order is known by the last id");
	check_text(answer(LIST(.cursor = S("12|u|v")), 200, records("13", AFTER("w"))), "13 next=13|w ordered", "... even with a bar in them");
	check(strstr(asked, "&after=u%7Cv ") != NULL, "... which go back whole");
	check_text(answer(LIST(.cursor = S("12|x")), 200, records("12 13", "")), "12,13 next=none", "an id at or before the cursor is not in order");
	check_text(answer(LIST(.cursor = S("12")), 200, records("5", "")), "5 next=none", "a cursor that is an id alone tells the order");
	check_text(answer(LIST(.cursor = S("abc")), 200, records("5", "")), "5 next=none ordered", "... a token alone does not");
	check_text(answer(LIST(.cursor = S("5|t")), 200, records("", AFTER("u"))), " next=5|u ordered", "an empty page goes on where it says so, and the last id is kept");
	check_text(answer(LIST(), 200, records("a b", AFTER("b"))), "a,b next=|b", "ids that are no numbers have no order");
	check_text(answer(LIST(), 200, records("99999999999999999999999 100000000000000000000000 0100000000000000000000001", "")),
			   "99999999999999999999999,100000000000000000000000,0100000000000000000000001 next=none ordered", "ids of any length, zeros before them");
	check_text(answer(LIST(), 200, records("1 01", "")), "1,01 next=none", "... which do not make another number");
	check_text(answer(LIST(), 200, "{\"results\":[],\"paging\":null}"), " next=none ordered", "paging may be null");
	check_text(answer(LIST(), 200, "{\"results\":[],\"paging\":{\"next\":null}}"), " next=none ordered", "... or say that nothing is next");
	check_text(answer(LIST(), 200, "{\"results\":[],\"paging\":{\"next\":{\"after\":7}}}"), " next=|7 ordered", "a token may be a number");
}

static void
test_list_meets(void)
{
	check_text(answer(LIST(.until_id = S("100")), 200, records("8 9 99", AFTER("99"))), "8,9,99 next=99|99 ordered", "below the other reading: on");
	check_text(answer(LIST(.until_id = S("100")), 200, records("8 100", AFTER("100"))), "8,100 next=none ordered met", "at it: done");
	check_text(answer(LIST(.until_id = S("100")), 200, records("8 1000", AFTER("1000"))), "8,1000 next=none ordered met", "beyond it: done");
	check_text(answer(LIST(.until_id = S("100")), 200, records("9 8 1000", AFTER("1000"))), "9,8,1000 next=1000|1000", "without order nothing has met");
	check_text(answer(LIST(.until_id = S("x")), 200, records("8", AFTER("8"))), "8 next=8|8 ordered", "... nor with what is no number");
	check_text(answer(DOWN(.until_id = S("100")), 200, records("102 101", ",\"total\":50")), "102,101 next=101 ordered total=50", "down: above the other reading");
	check_text(answer(DOWN(.until_id = S("100")), 200, records("102 100", ",\"total\":50")), "102,100 next=none ordered met total=50", "... at it");
	check_text(answer(DOWN(.until_id = S("100")), 200, records("102 99", ",\"total\":50")), "102,99 next=none ordered met total=50", "... below it");
}

static void
test_search_order(void)
{
	check_text(answer(DOWN(.cursor = S("50")), 200, records("49 7", ",\"total\":9" AFTER("2"))), "49,7 next=7 ordered total=9", "a short page with paging goes on, by the lowest id");
	check_text(answer(DOWN(.cursor = S("50")), 200, records("49 7", ",\"total\":2")), "49,7 next=none ordered total=2", "... without is the end");
	check_text(answer(DOWN(.cursor = S("50")), 200, records("49 7", ",\"total\":5")), "49,7 next=7 ordered total=5", "... unless the API counts more");
	check_text(answer(DOWN(), 200, records("", ",\"total\":0" AFTER("2"))), " next=none ordered total=0", "an empty page is the end");
	check_text(answer(DOWN(), 200, records("7 49", AFTER("2"))), "7,49 next=7", "an unordered page down says so");
	check_text(answer(DOWN(.cursor = S("49")), 200, records("49 48", "")), "49,48 next=none", "... as does one that is not below the cursor");
	check(strstr(answer(DOWN(), 200, full_page(900, -1, 200, "")), ",701 next=701 ordered") != NULL, "a full page without paging goes on");
	check(strstr(answer(DOWN(), 200, full_page(900, -1, 199, "")), ",702 next=none ordered") != NULL, "... one less does not");
	check(strstr(answer(DOWN(.cursor = S("5")), 200, records("9 8", AFTER("2"))), "failed, again: ") != NULL, "a search that does not go on fails");
	check_text(answer(CHANGES(), 200, records("2 10", AFTER("2"))), "2,10 next=10 ordered", "changes go up");
	check(strstr(answer(CHANGES(), 200, records("10 2", AFTER("2"))), "failed, again: ") != NULL, "... and fail where they do not, for records would be left out");
	check_text(answer(CHANGES(), 200, records("10 2", "")), "10,2 next=none", "... but on the only page order is nothing");
	check(strstr(answer(CHANGES(), 200, records("a b", AFTER("2"))), "failed, again: ") != NULL, "ids that are no numbers cannot be gone on from");
	check(strstr(answer(CHANGES(.cursor = S("20")), 200, records("19 20", AFTER("2"))), "failed, again: ") != NULL, "a filter that the API forgot never loops");
	answer(CHANGES(), 200, "{\"results\":[{\"id\":\"1\",\"updatedAt\":\"1970-01-01T00:00:03Z\"," P "},{\"id\":\"2\",\"updatedAt\":\"1970-01-01T00:00:02Z\"," P "},{\"id\":\"3\"," P "}]}");
	check(conv.result.newest_us == 3000000, "the newest time of all");
	answer(CHANGES(), 200, records("", ""));
	check(conv.result.newest_us == TIME_NONE && conv.result.total == -1, "... none where nothing is, no total where none is told");
	answer(CHANGES(), 200, records("", ",\"total\":\"12\""));
	check(conv.result.total == 12, "a total in quotes");
	answer(CHANGES(), 200, records("", ",\"total\":-5"));
	check(conv.result.total == -1, "a total that is none");
}

/* ---- errors ---- */

#define SCOPES "{\"status\":\"error\",\"message\":\"This app hasn't been granted all required scopes.\",\"category\":\"MISSING_SCOPES\"," \
	"\"errors\":[{\"context\":{\"requiredGranularScopes\":[\"crm.objects.contacts.read\"]}}]}"

static void
test_statuses(void)
{
	static const int again[] = {429, 423, 477, 500, 502, 503, 504, 521, 0};

	check_text(answer(LIST(), 403, SCOPES), "failed: HubSpot answered 403 MISSING_SCOPES: This app hasn't been granted all required scopes. crm.objects.contacts.read (listing contacts)",
			   "a list without the right fails for good, in the API's own words");
	for (int i = 0; i < COUNT(again); i++)
	{
		check(strstr(answer(LIST(), again[i], "{\"message\":\"m\"}"), "failed, again: ") != NULL, "a list that may go well later");
		check(strstr(answer(DOWN(), again[i], ""), "failed, again: ") != NULL, "... a search");
		check(strstr(answer((PageRequest) {.kind = PAGE_LINKS, .collection = "0-1:0-3", .ids = (Str[]) {S("1")}, .nids = 1}, again[i], ""), "failed, again: ") != NULL, "... links");
	}
	check_text(answer(DOWN(), 403, SCOPES), "refused: HubSpot answered 403 MISSING_SCOPES: This app hasn't been granted all required scopes. crm.objects.contacts.read",
			   "a search without the right is only not to be had");
	check_text(answer(CHANGES(), 400, "{\"category\":\"VALIDATION_ERROR\",\"message\":\"no\\u0000such\\u009btype\\n\"}"), "refused: HubSpot answered 400 VALIDATION_ERROR: no such type ", "... of a type that cannot be searched; without control characters");
	check_text(answer(CHANGES(), 404, "<html>"), "refused: HubSpot answered 404", "... without words");
	check_text(answer(DOWN(), 401, "{\"category\":\"FORBIDDEN_KIND\"}"), "refused: HubSpot answered 401 FORBIDDEN_KIND", "a 401 that is about the type");
	check(strstr(answer(DOWN(), 401, "{\"category\":\"EXPIRED_AUTHENTICATION\"}"), "failed: HubSpot refused the credential (401 EXPIRED_AUTHENTICATION): ") != NULL, "a 401 that is about the credential");
	check(strstr(answer(DOWN(), 401, ""), "failed: HubSpot refused the credential (401): ") != NULL, "... or about nothing");
	check(strstr(answer(LIST(), 404, "{}"), "failed: HubSpot answered 404 (") != NULL, "a list that is not there fails for good");
	check_text(answer(LIST(.cursor = S("1|x")), 400, "{\"message\":\"Invalid after parameter: x\"}"), " next=none restart", "a token that is not taken: from the start");
	check(strstr(answer(LIST(), 400, "{\"message\":\"Invalid after parameter: x\"}"), "failed: ") != NULL, "... but not without one");
	check(strstr(answer(LIST(.cursor = S("1|x")), 400, "{\"message\":\"no\"}"), "failed: ") != NULL, "... nor for another reason");
}

static void
test_words(void)
{
	Buf			b;

	buf_init(&b, scratch);
	buf_cstr(&b, "{\"message\":\"");
	for (int i = 0; i < 300; i++)
		buf_cstr(&b, "\xc3\xa9");
	buf_cstr(&b, "\"}");
	answer(LIST(), 403, buf_finish(&b).p);
	check(strlen(conv.error) < 260 && strstr(conv.error, "\xc3\xa9 (listing") != NULL, "long words are cut between characters");
	buf_init(&b, scratch);
	buf_cstr(&b, "{\"message\":\"");
	for (int i = 0; i < 300; i++)
		buf_cstr(&b, "x");
	buf_cstr(&b, "\"}");
	answer(LIST(), 403, buf_finish(&b).p);
	check(strlen(conv.error) == strlen("HubSpot answered 403  (listing contacts)") + 200, "... after 200 bytes");
	answer(LIST(), 403, "{\"message\":\"token pat-na1-0a0a0a0a-1111 and CPDYoMOqMBIHAAEAAQAAARiCgYACIIe6 of hs_v2_date_entered_appointmentscheduled 0a1b2c3d-0000-1111-2222-0a1b2c3d4e5f\"}");
	check_text(conv.error, "HubSpot answered 403 token *** and *** of hs_v2_date_entered_appointmentscheduled *** (listing contacts)", "nothing that looks like a token is told");
	answer(LIST(), 503, "{\"category\":5,\"message\":[\"x\"],\"errors\":{\"a\":{\"context\":7}}}");
	check(conv.failed && conv.retriable, "words of wrong types");
}

static void
test_broken(void)
{
	static const char *const bad[] = {
		"", "{", "<html>", "[]", "7", "null", "{}", "{\"results\":null}", "{\"results\":{}}", "{\"results\":\"x\"}", "{\"results\":[", "{\"total\":0}",
		"{\"results\":[7]}", "{\"results\":[null]}", "{\"results\":[[]]}", "{\"results\":[{}]}", "{\"results\":[{\"id\":null," P "}]}", "{\"results\":[{\"id\":\"\"," P "}]}",
		"{\"results\":[{\"id\":\"1\\u0000\"," P "}]}", "{\"results\":[{\"id\":[1]," P "}]}", "{\"results\":[{\"id\":{}," P "}]}", "{\"results\":[{\"id\":true," P "}]}",
		"{\"results\":[{\"id\":\"1\"}]}", "{\"results\":[{\"id\":\"1\",\"properties\":null}]}", "{\"results\":[{\"id\":\"1\",\"properties\":[]}]}", "{\"results\":[{\"id\":\"1\",\"properties\":\"x\"}]}",
		"{\"status\":\"error\",\"message\":\"m\",\"results\":[]}",
	};
	static const char *const bad_lists[] = {
		"{\"results\":[],\"paging\":7}", "{\"results\":[],\"paging\":[]}", "{\"results\":[],\"paging\":{\"next\":7}}", "{\"results\":[],\"paging\":{\"next\":{}}}",
		"{\"results\":[],\"paging\":{\"next\":{\"after\":null}}}", "{\"results\":[],\"paging\":{\"next\":{\"after\":\"\"}}}", "{\"results\":[],\"paging\":{\"next\":{\"after\":[]}}}",
		"{\"results\":[],\"paging\":{\"next\":{\"after\":\"tok\"}}}",
	};

	for (int i = 0; i < COUNT(bad); i++)
	{
		const char *list = answer(LIST(), 200, bad[i]);
		const char *down = answer(DOWN(), 200, bad[i]);

		check(strstr(list, "failed, again: ") == list, arena_printf(scratch, "a list is never %s", bad[i]));
		check(strstr(down, "failed, again: ") == down && conv.result.next.p == NULL, "... nor a search");
	}
	for (int i = 0; i < COUNT(bad_lists); i++)
		check(strstr(answer(LIST(.cursor = S("3|tok")), 200, bad_lists[i]), "failed, again: ") != NULL, arena_printf(scratch, "a list never goes on by %s", bad_lists[i]));
	check(strstr(answer(LIST(), 204, ""), "failed, again: ") != NULL, "a 204 is no empty page");
	answer(LIST(), 200, "{\"results\":[{\"id\":\"1\",\"createdAt\":7,\"updatedAt\":[],\"archived\":\"true\",\"properties\":{\"email\":{\"a\":1},\"\":1,\"a\\u0000b\":2,\"firstname\":false," A3 "}}]}");
	check_text(changes(), "upsert 0-1/1 email={\"a\":1} firstname=false hs_object_id=1 odd name&=null", "wrong types within a record are values like others");
}

/* ---- links ---- */

#define RESULT(id, to) "{\"from\":{\"id\":" id "},\"to\":[" to "]}"
#define PLAIN(id) "{\"toObjectId\":" id ",\"associationTypes\":[{\"category\":\"HUBSPOT_DEFINED\",\"typeId\":279,\"label\":null}]}"
#define LABELLED(id, category, label) "{\"toObjectId\":" id ",\"associationTypes\":[{\"category\":\"" category "\",\"typeId\":1,\"label\":\"" label "\"}]}"

static const char *
links(const char *collection, bool ids_are_to, const char *ids, const Script *script, int n)
{
	PageRequest *request = arena_zalloc(scratch, sizeof(*request));
	char	   *copy = arena_cstr(scratch, str_of(ids));

	request->kind = PAGE_LINKS;
	request->collection = collection;
	request->ids_are_to = ids_are_to;
	request->ids = arena_alloc(scratch, sizeof(Str) * 5000);
	for (char *id = strtok(copy, " "); id != NULL; id = strtok(NULL, " "))
		request->ids[request->nids++] = str_of(id);
	run(request, script, n);
	return conv.failed ? outcome() : changes();
}

static void
test_links(void)
{
	static const Script plain[] = {
		{"POST /crm/v4/associations/contacts/deals/batch/read {\"inputs\":[{\"id\":\"1\",\"after\":\"n\"},{\"id\":\"3\",\"after\":\"m\"}]}", 200,
		"{\"results\":[" RESULT("\"3\"", PLAIN("52")) "," RESULT("1", LABELLED("\"8\"", "USER_DEFINED", "Fan")) "]}"},
		{"POST /crm/v4/associations/contacts/deals/batch/read {\"inputs\":[{\"id\":\"1\"},{\"id\":\"2\"},{\"id\":\"3\"}]}", 207,
		"{\"results\":[{\"from\":{\"id\":\"1\"},\"to\":[" PLAIN("7") "],\"paging\":{\"next\":{\"after\":\"n\"}}},{\"from\":{\"id\":3},\"to\":[" PLAIN("51") "],\"paging\":{\"next\":{\"after\":\"m\"}}}],"
		"\"numErrors\":1,\"errors\":[{\"category\":\"OBJECT_NOT_FOUND\",\"subCategory\":\"crm.associations.NO_ASSOCIATIONS_FOUND\"}]}"},
	};
	static const Script turned[] = {
		{"POST /crm/v4/associations/contacts/companies/batch/read {\"inputs\":[{\"id\":\"1\"},{\"id\":\"2\"},{\"id\":\"4\"}]}", 200,
		"{\"results\":[" RESULT("1", LABELLED("7", "HUBSPOT_DEFINED", "Primary") "," LABELLED("8", "USER_DEFINED", "Boss of") "," PLAIN("9")) "," RESULT("4", LABELLED("8", "USER_DEFINED", "Boss of")) "," RESULT("99", PLAIN("1")) "]}"},
		{"POST /crm/v4/associations/companies/contacts/batch/read {\"inputs\":[{\"id\":\"8\"}]}", 200,
		"{\"results\":[{\"from\":{\"id\":\"8\"},\"to\":[" PLAIN("55") "," LABELLED("1", "USER_DEFINED", "Led by") "],\"paging\":{\"next\":{\"after\":\"x\"}}}]}"},
		{"POST /crm/v4/associations/companies/contacts/batch/read {\"inputs\":[{\"id\":\"8\",\"after\":\"x\"}]}", 200,
		"{\"results\":[{\"from\":{\"id\":\"8\"},\"to\":[" LABELLED("\"4\"", "USER_DEFINED", "Led by") "],\"paging\":{\"next\":{\"after\":\"y\"}}}]}"},
	};
	static const Script twin[] = {
		{"{\"inputs\":[{\"id\":\"1\"}]}", 200, "{\"results\":[" RESULT("1", LABELLED("8", "USER_DEFINED", "Twin")) "]}"},
		{"{\"inputs\":[{\"id\":\"8\"}]}", 200, "{\"results\":[" RESULT("8", LABELLED("1", "USER_DEFINED", "Led by")) "]}"},
	};
	static const Script self[] = {
		{"{\"inputs\":[{\"id\":\"1\"}]}", 200, "{\"results\":[" RESULT("1", LABELLED("2", "HUBSPOT_DEFINED", "Parent") "," PLAIN("3")) "]}"},
		{"{\"inputs\":[{\"id\":\"2\"}]}", 200, "{\"results\":[" RESULT("2", LABELLED("1", "HUBSPOT_DEFINED", "Child")) "]}"},
	};

	check_text(links("0-1:0-3", false, "3 1 2 1", plain, 2),
			   "link 0-1/1 > 0-3/7 replace; link 0-1/1 > 0-3/8 [Fan] replace; unlink 0-1/1 > 0-3 keep:7 keep:8; unlink 0-1/2 > 0-3; "
			   "link 0-1/3 > 0-3/51 replace; link 0-1/3 > 0-3/52 replace; unlink 0-1/3 > 0-3 keep:51 keep:52", "all pages of all asked records; none is an answer too");
	check_text(outcome(), "3,1,2,1 next=none", "... and the ids are the asked ones");
	check(calls == 2 && conv.result.versions[0] == TIME_NONE, "... in two calls");
	check_text(links("0-2:0-1", true, "1 2 4", turned, 3),
			   "link 0-1/1 > 0-2/7 [Primary] replace; link 0-1/1 > 0-2/8 [Boss of] [Led by] replace; link 0-1/1 > 0-2/9 replace; unlink 0-1/1 > 0-2 keep:7 keep:8 keep:9; "
			   "unlink 0-1/2 > 0-2; link 0-1/4 > 0-2/8 [Boss of] [Led by] replace; unlink 0-1/4 > 0-2 keep:8",
			   "from the other side; labels that differ by direction are united, as far as the pairs need");
	check(calls == 3, "... HubSpot's own label that both directions have is not asked for again, nor a page after the last wanted pair");
	check_text(links("0-2:0-1", true, "1", twin, 2), "link 0-1/1 > 0-2/8 [Twin] [Led by] replace; unlink 0-1/1 > 0-2 keep:8",
			   "a label of the account's own may be the inverse of another one, though both directions have it");
	check_text(links("0-1:0-1", false, "1", self, 2), "link 0-1/1 > 0-1/2 [Parent] [Child] replace; link 0-1/1 > 0-1/3 replace; unlink 0-1/1 > 0-1 keep:2 keep:3", "a type with itself");
	check_text(links("0-1:0-3", false, "", NULL, 0), "", "no ids, no links");
	check(calls == 0, "... and no call");
}

static void
test_links_many(void)
{
	static const Script none[] = {{"batch/read", 200, "{\"results\":[]}"}};
	static const Script twice[] = {{"batch/read", 200, "{\"results\":[" RESULT("1", PLAIN("7") "," LABELLED("7", "USER_DEFINED", "Fan")) "," RESULT("1", PLAIN("7")) "]}"}};
	static const Script missing[] = {{"{\"inputs\":[{\"id\":\"2\"}]}", 200, "{\"results\":[" RESULT("2", PLAIN("7")) "]}"}, {"", 404, "{\"category\":\"OBJECT_NOT_FOUND\"}"}};
	Buf			b;

	buf_init(&b, scratch);
	for (int i = 0; i < 2500; i++)
		buf_printf(&b, "%d ", i + 1);
	links("0-1:0-3", false, buf_finish(&b).p, none, 1);
	check(!conv.failed && calls == 3 && conv.changes.count == 2500, "never more than a thousand ids in a call");
	check_text(links("0-1:0-3", false, "1", twice, 1), "link 0-1/1 > 0-3/7 [Fan] replace; unlink 0-1/1 > 0-3 keep:7", "a pair that comes twice is one");
	check_text(links("0-1:0-3", false, "1 2 3", missing, 2), "unlink 0-1/1 > 0-3; link 0-1/2 > 0-3/7 replace; unlink 0-1/2 > 0-3 keep:7; unlink 0-1/3 > 0-3",
			   "a call that is refused for missing records takes nothing from the others");
	check_text(links("0-1:0-3", false, "1", NULL, 0), "failed, again: HubSpot answered 500 (reading associations): tried again later", "a 500");
}

static void
test_links_broken(void)
{
	static const char *const bad[] = {
		"", "{}", "{\"results\":null}", "{\"results\":[7]}", "{\"results\":[{}]}", "{\"results\":[{\"from\":{\"id\":\"1\"}}]}", "{\"results\":[{\"from\":{\"id\":\"1\"},\"to\":{}}]}",
		"{\"results\":[{\"from\":\"1\",\"to\":[]}]}", "{\"results\":[{\"to\":[]}]}", "{\"results\":[" RESULT("1", "7") "]}", "{\"results\":[" RESULT("1", "{\"toObjectId\":null}") "]}",
		"{\"results\":[" RESULT("1", "{\"toObjectId\":\"\"}") "]}", "{\"results\":[{\"from\":{\"id\":\"1\"},\"to\":[],\"paging\":7}]}", "{\"results\":[{\"from\":{\"id\":\"1\"},\"to\":[],\"paging\":{\"next\":{}}}]}",
		"{\"results\":[{\"from\":{\"id\":\"1\"},\"to\":[],\"paging\":{\"next\":{\"after\":\"same\"}}}]}",
		"{\"results\":[],\"errors\":[{\"category\":\"RATE_LIMITS\"}]}", "{\"results\":[],\"errors\":[{}]}", "{\"results\":[],\"errors\":[null]}", "{\"results\":[],\"numErrors\":1}",
		"{\"results\":[],\"numErrors\":2,\"errors\":[{\"category\":\"OBJECT_NOT_FOUND\"}]}",
	};
	Script		half[] = {
		{"{\"inputs\":[{\"id\":\"1\"}]}", 200, "{\"results\":[{\"from\":{\"id\":\"1\"},\"to\":[" PLAIN("7") "],\"paging\":{\"next\":{\"after\":\"n\"}}}]}"},
		{"\"after\":\"n\"", 200, "{\"results\":["},
	};
	const char *text;

	for (int i = 0; i < COUNT(bad); i++)
	{
		Script		script = {"", 200, bad[i]};

		text = links("0-1:0-3", false, "1", &script, 1);
		check(strstr(text, "failed, again: ") == text, arena_printf(scratch, "links are never %s", bad[i]));
	}
	text = links("0-1:0-3", false, "1", half, 2);
	check(strstr(text, "failed, again: ") == text && conv.changes.count == 0, "half of the pages: no change at all");
	half[1].status = 403;
	half[1].body = SCOPES;
	text = links("0-1:0-3", false, "1", half, 2);
	check(strstr(text, "failed: HubSpot answered 403 MISSING_SCOPES") == text, "no right: fails for good, in the API's own words");
	half[1].status = 404;
	half[1].body = "{\"message\":\"resource not found\"}";
	text = links("0-1:0-3", false, "1", half, 2);
	check(strstr(text, "failed: HubSpot answered 404") == text, "a 404 that names no record tells nothing of links");
}

int
main(void)
{
	void		(*const tests[]) (void) = {
		test_reading, test_questions, test_not_to_be_had, test_records, test_merged, test_owners, test_list_order,
		test_list_meets, test_search_order, test_statuses, test_words, test_broken, test_links, test_links_many,
		test_links_broken,
	};

	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
	{
		scratch = arena_create();
		tests[i] ();
		arena_destroy(scratch);
	}
	printf("%d passed, %d failed\n", passed, failed);
	return failed ? 1 : 0;
}
