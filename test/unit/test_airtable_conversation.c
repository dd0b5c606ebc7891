// SRC: src/providers/airtable.c src/providers/airtable_paths.c src/providers/airtable_schema.c src/providers/airtable_decode.c src/providers/airtable_record.c src/providers/airtable_reread.c src/providers/airtable_pages.c src/providers/airtable_feed.c src/target.c src/json.c src/arena.c src/change.c src/schema.c src/provider.c src/names.c src/values.c src/decimal.c src/times.c  LIBS: -lunistring
/*
 * test_airtable_conversation.c - discovery and re-reads, as conversations with a scripted API.
 */
#include "../../src/providers/airtable.h"
#include "airtable_fixture.h"

const Provider provider_hubspot = {.name = "hubspot"};	/* provider.c wants one */

typedef struct Talk
{
	Arena	   *arena;
	SyncView	view;
	Conversation conv;
	Call		call;			/* the last one taken */
} Talk;

static void
talk_start(Talk *t)
{
	*t = (Talk) {.arena = arena_create(), .view = base_view()};
	t->conv = (Conversation) {.arena = t->arena, .view = &t->view};
}

static bool
talk_take(Talk *t)
{
	return conversation_take(&t->conv, &t->call);
}

/* Answers the last call; the body is gone afterwards, as errand.c's is. */
static void
talk_answer(Talk *t, int status, const char *body)
{
	Str			copy = exact(body);

	provider_airtable.feed(&t->conv, &t->call, status, copy);
	if (copy.p != NULL)
		memset((char *) copy.p, '#', copy.n);
	release(copy);
}

/* ---- discovery ---- */

static const char *const tables_body =
"{\"tables\":["
"{\"id\":\"tblTasks\",\"name\":\"Tasks 📋\",\"primaryFieldId\":\"fldName\",\"fields\":["
"{\"id\":\"f1\",\"name\":\"Name\",\"type\":\"singleLineText\"},"
"{\"id\":\"f2\",\"name\":\"N\",\"type\":\"number\",\"options\":{\"precision\":1}},"
"{\"id\":\"f3\",\"name\":\"C\",\"type\":\"checkbox\"},"
"{\"id\":\"f4\",\"name\":\"Count\",\"type\":\"count\"},"
"{\"id\":\"f5\",\"name\":\"Auto\",\"type\":\"autoNumber\"},"
"{\"id\":\"f6\",\"name\":\"R\",\"type\":\"rating\"},"
"{\"id\":\"f7\",\"name\":\"Dur\",\"type\":\"duration\"},"
"{\"id\":\"f8\",\"name\":\"D\",\"type\":\"date\"},"
"{\"id\":\"f9\",\"name\":\"DT\",\"type\":\"dateTime\"},"
"{\"id\":\"g1\",\"name\":\"CT\",\"type\":\"createdTime\",\"options\":{\"result\":{\"type\":\"date\"}}},"
"{\"id\":\"g2\",\"name\":\"LM\",\"type\":\"lastModifiedTime\",\"options\":{\"result\":{\"type\":\"dateTime\"}}},"
"{\"id\":\"g3\",\"name\":\"MS\",\"type\":\"multipleSelects\"},"
"{\"id\":\"g4\",\"name\":\"L\",\"type\":\"multipleRecordLinks\"},"
"{\"id\":\"g5\",\"name\":\"A\",\"type\":\"multipleAttachments\"},"
"{\"id\":\"g6\",\"name\":\"B\",\"type\":\"barcode\"},"
"{\"id\":\"g7\",\"name\":\"Fn\",\"type\":\"formula\",\"options\":{\"result\":{\"type\":\"number\"}}},"
"{\"id\":\"g8\",\"name\":\"Fx\",\"type\":\"formula\",\"options\":{\"isValid\":false,\"result\":null}},"
"{\"id\":\"g9\",\"name\":\"Ro\",\"type\":\"rollup\",\"options\":{\"result\":{\"type\":\"checkbox\"}}},"
"{\"id\":\"h1\",\"name\":\"Lt\",\"type\":\"multipleLookupValues\",\"options\":{\"result\":{\"type\":\"email\"}}},"
"{\"id\":\"h2\",\"name\":\"Ln\",\"type\":\"multipleLookupValues\",\"options\":{\"result\":{\"type\":\"number\"}}},"
"{\"id\":\"h3\",\"name\":\"manual\",\"type\":\"manualSort\"},"
"{\"id\":\"h4\",\"name\":\"New\",\"type\":\"hologram\"},"
"{\"id\":\"h5\",\"name\":\"S\",\"type\":\"singleSelect\"},"
"{\"id\":\"h6\",\"name\":\"Who\",\"type\":\"singleCollaborator\"},"
"{\"id\":\"h7\",\"name\":\"AI\",\"type\":\"aiText\"},"
"{\"name\":\"no id\",\"type\":\"number\"},"
"7"
"],\"views\":[]},"
"{\"id\":\"tblPeople\",\"name\":\"People / Staff 100%\",\"fields\":[]},"
"{\"id\":\"tblThird\",\"name\":\"Third\"},"
"\"nonsense\""
"]}";

static const char *
print_schema(Arena *arena, const Schema *schema)
{
	Buf			buf;

	buf_init(&buf, arena);
	for (int i = 0; i < schema->ncollections; i++)
	{
		const SchemaCollection *c = &schema->collections[i];

		buf_printf(&buf, "%s%s=%s(%d)", i ? " " : "", c->collection, c->table, c->nfields);
	}
	return buf_finish(&buf).p;
}

static const char *
print_fields(Arena *arena, const SchemaCollection *c)
{
	Buf			buf;

	buf_init(&buf, arena);
	for (int i = 0; i < c->nfields; i++)
		buf_printf(&buf, "%s%s:%s", i ? " " : "", c->fields[i].name, schema_type_name(c->fields[i].type));
	return buf_finish(&buf).p;
}

static void
discover(Talk *t, const char **tables, int ntables, const char *scope)
{
	talk_start(t);
	t->conv.discovering = true;
	t->conv.scope = scope;
	t->view.tables = tables;
	t->view.ntables = ntables;
	provider_airtable.discover(&t->conv);
}

static void
test_discover_all(void)
{
	Talk		t;

	discover(&t, NULL, 0, NULL);
	check(talk_take(&t) && str_is(t.call.target, "/v0/meta/bases/" BASE "/tables") && strcmp(t.call.method, "GET") == 0 &&
		  strcmp(t.call.host, "api.airtable.com") == 0 && t.call.body.p == NULL, "discovery asks for the base's tables");
	check(!talk_take(&t), "discovery is one call");
	talk_answer(&t, 200, tables_body);
	check(!t.conv.failed && !talk_take(&t) && t.conv.notes.p == NULL, "discovery ends after one answer");
	check_text(print_schema(t.arena, &t.conv.schema), "tblTasks=tasks(24) tblPeople=people_staff_100(0) tblThird=third(0)",
			   "discovery finds all tables, with wished names, and skips manualSort and nonsense");
	check_text(print_fields(t.arena, &t.conv.schema.collections[0]),
			   "Name:text N:numeric C:boolean Count:numeric Auto:bigint R:integer Dur:numeric D:date "
			   "DT:timestamp with time zone CT:date LM:timestamp with time zone MS:text[] L:text[] A:jsonb B:jsonb Fn:numeric "
			   "Fx:jsonb Ro:boolean Lt:text[] Ln:jsonb New:jsonb S:text Who:jsonb AI:jsonb",
			   "every field type has its column type");
	arena_destroy(t.arena);
}

static void
test_discover_chosen(void)
{
	const char *by_both[] = {"Third", "tblPeople", "Nowhere"};
	const char *by_old_name[] = {"Third", "Tasks"};
	Talk		t;

	discover(&t, by_both, 3, NULL);
	t.view.schema = NULL;
	talk_take(&t);
	talk_answer(&t, 200, tables_body);
	check_text(print_schema(t.arena, &t.conv.schema), "tblPeople=people_staff_100(0) tblThird=third(0)",
			   "tables are chosen by name or id");
	check(!t.conv.failed && strstr(t.conv.notes.p, "\"Nowhere\"") != NULL && strstr(t.conv.notes.p, "Third") == NULL,
		  "a chosen table that is missing is noted");
	arena_destroy(t.arena);

	discover(&t, by_old_name, 2, NULL);
	talk_take(&t);
	talk_answer(&t, 200, tables_body);
	check_text(print_schema(t.arena, &t.conv.schema), "tblTasks=tasks(24) tblPeople=people_staff_100(0) tblThird=third(0)",
			   "a mirrored table stays when the API renames it");
	arena_destroy(t.arena);

	discover(&t, by_both, 3, "tblTasks");
	talk_take(&t);
	talk_answer(&t, 200, tables_body);
	check_text(print_schema(t.arena, &t.conv.schema), "tblTasks=tasks(24)", "discovery of one table keeps that one only");
	check(t.conv.notes.p == NULL, "discovery of one table notes nothing of others");
	arena_destroy(t.arena);
}

static void
check_failure(int status, const char *body, bool retriable, const char *words, const char *what)
{
	Talk		t;

	discover(&t, NULL, 0, NULL);
	talk_take(&t);
	talk_answer(&t, status, body);
	check(t.conv.failed && t.conv.retriable == retriable && strstr(t.conv.error, words) != NULL, what);
	arena_destroy(t.arena);
}

static void
test_discover_fails(void)
{
	Talk		t;

	check_failure(401, "{\"error\":{\"type\":\"AUTHENTICATION_REQUIRED\",\"message\":\"m\"}}", false, "personal access token", "401: the credential");
	check_failure(403, "{\"error\":{\"type\":\"INVALID_PERMISSIONS_OR_MODEL_NOT_FOUND\"}}", false, "schema.bases:read", "403: the scope");
	check_failure(404, "{\"error\":\"NOT_FOUND\"}", false, "404 NOT_FOUND", "404: the base");
	check_failure(422, "{\"error\":{\"type\":\"bad'type\"}}", false, "422", "422 cannot be repeated");
	check_failure(429, "{\"error\":{\"type\":\"RATE_LIMIT_REACHED\"}}", true, "429 RATE_LIMIT_REACHED", "429 can be repeated");
	check_failure(429, "{\"error\":{\"type\":\"PUBLIC_API_BILLING_LIMIT_EXCEEDED\"}}", true, "month", "429 of the month says so");
	check_failure(503, "", true, "503", "503 can be repeated");
	check_failure(0, NULL, true, "no answer", "no answer can be repeated");
	check_failure(200, "{\"tables\":{}}", true, "list of tables", "a 200 without tables is a failure");
	check_failure(200, "{\"tables\":[", true, "not JSON", "a 200 that is no JSON is a failure");
	check_failure(200, "", true, "not JSON", "an empty 200 is a failure");
	discover(&t, NULL, 0, NULL);
	talk_take(&t);
	talk_answer(&t, 403, "{\"error\":{\"type\":\"pat.secret token\"}}");
	check(strstr(t.conv.error, "secret") == NULL, "an error's words are not repeated, only a type's");
	arena_destroy(t.arena);
	talk_start(&t);
	t.view.base_id = "app/../x";
	provider_airtable.discover(&t.conv);
	check(t.conv.failed && !t.conv.retriable && strstr(t.conv.error, "base_id"), "a base id that is none is refused");
	arena_destroy(t.arena);
}

/* ---- re-reads ---- */

static void
reread(Talk *t, const char *collection, bool base_wide, const char *const *ids, int nids)
{
	ChangeList	targets = {0};

	talk_start(t);
	for (int i = 0; i < nids; i++)
		change_add(&targets, t->arena, CHANGE_REREAD, str_of(collection), str_of(ids[i]))->base_wide = base_wide;
	provider_airtable.reread(&t->conv, targets.items, targets.count);
}

static void
check_changes(Talk *t, const char *expected, const char *what)
{
	check_text(print_changes(t->arena, &t->conv.changes), expected, what);
}

#define LIST(table) "/v0/" BASE "/" table "/listRecords"

static void
test_reread_one_table(void)
{
	const char *const ids[] = {"recA1", "recA2", "recA1"};
	Talk		t;

	reread(&t, "tblTasks", false, ids, 3);
	check(talk_take(&t) && str_is(t.call.target, LIST("tblTasks")) && strcmp(t.call.method, "POST") == 0,
		  "a re-read lists the table");
	check_text(t.call.body.p, "{\"filterByFormula\":\"OR(RECORD_ID()='recA1',RECORD_ID()='recA2')\","
			   "\"returnFieldsByFieldId\":true,\"pageSize\":100}", "a re-read asks for each id once, with keys by id");
	check(!talk_take(&t), "a re-read of a few ids is one call");
	talk_answer(&t, 200, "{\"records\":[{\"id\":\"recA2\",\"createdTime\":\"2024-01-01T00:00:00.000Z\","
				"\"fields\":{\"fldName\":\"b\",\"fldEst\":2}},{\"id\":\"recOther\",\"fields\":{}}]}");
	check_changes(&t, "upsert tblTasks/recA2 @1704067200000000 {fldName='b', fldEst=2}; delete tblTasks/recA1",
				  "what came is upserted, what did not is deleted, what nobody asked for is left");
	check(!t.conv.failed && !talk_take(&t), "the re-read is over");
	arena_destroy(t.arena);
}

static void
test_reread_pages(void)
{
	const char *const ids[] = {"recA1", "recA2"};
	Talk		t;

	reread(&t, "tblTasks", false, ids, 2);
	talk_take(&t);
	talk_answer(&t, 200, "{\"records\":[{\"id\":\"recA1\",\"fields\":{}}],\"offset\":\"itr\\\"1/rec2\"}");
	check(talk_take(&t), "an offset is followed");
	check_text(t.call.body.p, "{\"filterByFormula\":\"OR(RECORD_ID()='recA2')\",\"returnFieldsByFieldId\":true,"
			   "\"pageSize\":100,\"offset\":\"itr\\\"1/rec2\"}", "an offset is passed on, escaped");
	talk_answer(&t, 200, "{\"records\":[{\"id\":\"recA2\",\"fields\":{}}],\"offset\":\"itr2\"}");
	check(!talk_take(&t), "no offset is followed once all are found");
	check_changes(&t, "upsert tblTasks/recA1 {}; upsert tblTasks/recA2 {}", "both pages count");
	arena_destroy(t.arena);
}

static void
test_reread_many(void)
{
	enum
	{
		N = 250
	};
	static char names[N][16];
	const char *ids[N];
	Talk		t;
	int			calls = 0;

	for (int i = 0; i < N; i++)
	{
		snprintf(names[i], sizeof(names[i]), "recN%04d", i);
		ids[i] = names[i];
	}
	reread(&t, "tblTasks", false, ids, N);
	while (talk_take(&t))
	{
		calls++;
		check(t.call.body.n < 4096, "the formula stays small");
		talk_answer(&t, 200, "{\"records\":[]}");
	}
	check(calls == 3 && t.conv.changes.count == N, "250 ids are three calls");
	arena_destroy(t.arena);
}

static void
test_reread_anywhere(void)
{
	const char *const ids[] = {"recA1", "recP1", "recX1"};
	Talk		t;

	reread(&t, NULL, false, ids, 3);
	check(talk_take(&t) && str_is(t.call.target, LIST("tblTasks")), "without a table, mirrored tables are asked in turn");
	check(!talk_take(&t), "one table at a time");
	talk_answer(&t, 200, "{\"records\":[{\"id\":\"recA1\",\"fields\":{}}]}");
	check(talk_take(&t) && str_is(t.call.target, LIST("tblPeople")) && strstr(t.call.body.p, "recA1") == NULL,
		  "the next table is asked for what is still missing");
	talk_answer(&t, 200, "{\"records\":[{\"id\":\"recP1\",\"fields\":{\"fldPname\":\"p\"}}]}");
	check(!talk_take(&t), "tables that are removed or disabled are not asked");
	check_changes(&t, "upsert tblTasks/recA1 {}; upsert tblPeople/recP1 {fldPname='p'}; delete -/recX1*",
				  "an id found nowhere is deleted everywhere");
	arena_destroy(t.arena);

	reread(&t, "tblPeople", true, ids, 1);
	check(talk_take(&t) && str_is(t.call.target, LIST("tblPeople")), "a base-wide re-read asks the named table first");
	talk_answer(&t, 200, "{\"records\":[]}");
	check(talk_take(&t) && str_is(t.call.target, LIST("tblTasks")), "and then the others");
	talk_answer(&t, 200, "{\"records\":[{\"id\":\"recA1\",\"fields\":{}}]}");
	check(!talk_take(&t), "until it is found");
	check_changes(&t, "upsert tblTasks/recA1 {}", "and takes it from where it is");
	arena_destroy(t.arena);

	reread(&t, "tblPeople", true, ids, 1);
	for (int i = 0; i < 2; i++)
	{
		talk_take(&t);
		talk_answer(&t, 200, "{\"records\":[]}");
	}
	check(!talk_take(&t), "a base-wide re-read asks each table once");
	check_changes(&t, "delete -/recA1*", "and deletes the id everywhere when none has it");
	arena_destroy(t.arena);

	reread(&t, "tblUnknown", true, ids, 1);
	check(talk_take(&t) && str_is(t.call.target, LIST("tblTasks")), "a base-wide re-read does not ask a table that is not mirrored");
	arena_destroy(t.arena);
}

static void
test_reread_fails(void)
{
	const char *const ids[] = {"recA1"};
	const char *const bad[] = {"rec') OR TRUE() OR ('", "recA1"};
	Talk		t;

	reread(&t, NULL, false, ids, 1);
	talk_take(&t);
	talk_answer(&t, 403, "{\"error\":{\"type\":\"INVALID_PERMISSIONS_OR_MODEL_NOT_FOUND\"}}");
	check(t.conv.failed && !t.conv.retriable && strstr(t.conv.error, "403 INVALID_PERMISSIONS_OR_MODEL_NOT_FOUND") &&
		  t.conv.changes.count == 0, "a refused re-read deletes nothing, and says why");
	arena_destroy(t.arena);

	reread(&t, "tblTasks", false, ids, 1);
	talk_take(&t);
	talk_answer(&t, 500, "");
	check(t.conv.failed && t.conv.retriable, "a 500 can be repeated");
	arena_destroy(t.arena);

	reread(&t, "tblTasks", false, ids, 1);
	talk_take(&t);
	talk_answer(&t, 200, "{\"records\":[{\"id\":\"recA1\"}]}");
	check(t.conv.failed && t.conv.retriable && t.conv.changes.count == 0, "a record without fields is no proof of anything");
	arena_destroy(t.arena);

	reread(&t, "tblTasks", false, bad, 2);
	check(talk_take(&t) && strstr(t.call.body.p, "TRUE") == NULL && t.conv.notes.p != NULL,
		  "an id that could break out of the formula is not sent, but noted");
	arena_destroy(t.arena);

	reread(&t, "tblTasks", false, ids, 1);
	for (int i = 0; i < 1100 && talk_take(&t); i++)
		talk_answer(&t, 200, "{\"records\":[],\"offset\":\"again\"}");
	check(t.conv.failed && t.conv.retriable, "a list without an end is left");
	arena_destroy(t.arena);
}

int
main(void)
{
	test_discover_all();
	test_discover_chosen();
	test_discover_fails();
	test_reread_one_table();
	test_reread_pages();
	test_reread_many();
	test_reread_anywhere();
	test_reread_fails();
	return finish();
}
