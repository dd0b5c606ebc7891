/*
 * airtable_pages.c - a table page by page (Provider.reading, Provider.page): its list, and by formula
 * what was modified.
 *
 * Pure C; called through provider_airtable.  A page is whole records (fields that are absent are empty),
 * keyed by field id, so that a rename cannot confuse it.  An offset lives for minutes: one that has
 * expired makes the reading start again, it is no failure; everything else that is not a list of
 * records is one, and never looks like an empty page.  The feed is airtable_feed.c's.
 */
#include "airtable.h"

#include <time.h>

#define PAGE_SIZE 100

/* Airtable's times may be whole seconds: IS_AFTER is strict, so ask from before. */
#define STEP_US 2000000

static void
out_of_memory(Conversation *conv)
{
	conversation_fail(conv, true, "out of memory");
}

void
airtable_reading(const SyncView *view, const SchemaCollection *c, Reading *reading)
{
	*reading = (Reading) {0};
	if (c->kind != COLLECTION_RECORDS || !airtable_is_id(str_of(c->collection), "tbl"))
		return;
	reading->list = reading->list_whole = true;
	reading->changes = c->exact;
	reading->feed = true;
	reading->list_size = PAGE_SIZE;
}

/* ---- asking ---- */

static bool
is_unreserved(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || strchr("-._~", c) != NULL;
}

static void
add_encoded(Buf *buf, Str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] != '\0' && is_unreserved(s.p[i]))
			buf_char(buf, s.p[i]);
		else
			buf_printf(buf, "%%%02X", (unsigned char) s.p[i]);
}

static void
queue(Conversation *conv, const char *method, Str target, Str body, int step, bool has_body)
{
	Call		call = {
		.host = AIRTABLE_API_HOST,.method = method,.bucket = AIRTABLE_BUCKET,.step = step,.target = target,.body = body
	};

	if (target.p == NULL || (has_body && body.p == NULL))
		out_of_memory(conv);
	else
		conversation_call(conv, call);
}

static void
ask_list(Conversation *conv)
{
	const PageRequest *page = conv->page;
	Buf			target;

	buf_init(&target, conv->arena);
	buf_printf(&target, "/v0/%s/%s?pageSize=%d&returnFieldsByFieldId=true", conv->view->base_id, page->collection, PAGE_SIZE);
	if (page->cursor.p != NULL)
	{
		buf_cstr(&target, "&offset=");
		add_encoded(&target, page->cursor);
	}
	queue(conv, "GET", buf_finish(&target), STR_NULL, AIRTABLE_STEP_PAGE, false);
}

/* "2026-11-25T05:11:04.000Z", in whole seconds */
static bool
iso_time(int64_t us, char *text, size_t size)
{
	time_t		seconds = (time_t) (us / 1000000);
	struct tm	tm;

	return gmtime_r(&seconds, &tm) != NULL && strftime(text, size, "%Y-%m-%dT%H:%M:%S.000Z", &tm) > 0;
}

/* A record that was never edited may have no modification time [unverified]: its creation counts too. */
static void
ask_changes(Conversation *conv)
{
	const PageRequest *page = conv->page;
	char		since[40];
	Buf			body;

	if (!iso_time(page->since_us > STEP_US ? page->since_us - STEP_US : 0, since, sizeof(since)))
	{
		conversation_fail(conv, false, "reading changes: a time that cannot be written");
		return;
	}
	buf_init(&body, conv->arena);
	buf_printf(&body, "{\"filterByFormula\":\"OR(IS_AFTER(LAST_MODIFIED_TIME(),'%s'),IS_AFTER(CREATED_TIME(),'%s'))\","
			   "\"returnFieldsByFieldId\":true,\"pageSize\":%d", since, since, PAGE_SIZE);
	if (page->cursor.p != NULL)
	{
		buf_cstr(&body, ",\"offset\":");
		buf_json_string(&body, page->cursor);
	}
	buf_char(&body, '}');
	queue(conv, "POST", str_of(arena_printf(conv->arena, "/v0/%s/%s/listRecords", conv->view->base_id, page->collection)),
		  buf_finish(&body), AIRTABLE_STEP_PAGE, true);
}

void
airtable_page(Conversation *conv)
{
	const char *base = conv->view->base_id;

	if (base == NULL || !airtable_is_id(str_of(base), "app"))
	{
		conversation_fail(conv, false, "the sync's config needs the id of an Airtable base: {\"base_id\": \"app...\"}");
		return;
	}
	if (conv->page->kind == PAGE_FEED)
		airtable_feed_ask(conv);
	else if (conv->page->collection == NULL || !airtable_is_id(str_of(conv->page->collection), "tbl"))
		conversation_fail(conv, false, "not an Airtable table");
	else if (conv->page->kind == PAGE_LIST)
		ask_list(conv);
	else if (conv->page->kind == PAGE_CHANGES)
		ask_changes(conv);
	else
	{
		conv->result.refused = true;
		conv->result.refusal = "Airtable has no such way of reading";
	}
}

/* ---- what came ---- */

/* False: not a list of records; or no memory, and the conversation has failed. */
static bool
read_records(Conversation *conv, const JsonDoc *doc, uint32_t records)
{
	PageResult *result = &conv->result;
	RecordReader reader = {
		.arena = conv->arena,.changes = &conv->changes,.op = CHANGE_UPSERT,.by_id = true,.schema = conv->view->schema,
		.table = schema_find(conv->view->schema, str_of(conv->page->collection)),.collection = str_of(conv->page->collection),
	};
	size_t		n = doc->nodes[records].count;

	result->ids = arena_alloc(conv->arena, sizeof(Str) * (n + 1));
	result->versions = arena_alloc(conv->arena, sizeof(int64_t) * (n + 1));
	if (result->ids == NULL || result->versions == NULL)
	{
		out_of_memory(conv);
		return false;
	}
	for (uint32_t it = json_first(doc, records); it != JSON_NONE; it = json_next(doc, records, it))
	{
		RecordResult read = airtable_record_read(&reader, doc, it);

		if (read == RECORD_NOMEM)
			out_of_memory(conv);
		if (read != RECORD_OK)
			return false;
		result->ids[result->nids] = json_text_at(doc, it, "id");
		result->versions[result->nids++] = TIME_NONE;
	}
	return true;
}

static void
read_page(Conversation *conv, Str body)
{
	JsonDoc		doc;
	size_t		at;
	const char *why;
	Str			copy = arena_str(conv->arena, body.p, body.n);	/* changes point into it */
	JsonResult	parsed = copy.p ? json_parse(conv->arena, copy, &doc, &at, &why) : JSON_NOMEM;
	uint32_t	records = parsed == JSON_OK ? json_get(&doc, 0, "records") : JSON_NONE;

	if (parsed == JSON_NOMEM)
		out_of_memory(conv);
	else if (parsed != JSON_OK || json_type(&doc, records) != JSON_ARRAY || !read_records(conv, &doc, records))
		conversation_fail(conv, true, "reading records: the answer is not a list of records");
	else
	{
		uint32_t	offset = json_get(&doc, 0, "offset");

		if (json_type(&doc, offset) == JSON_STRING && str_eq(json_text(&doc, offset), conv->page->cursor))
			conversation_fail(conv, true, "reading records: Airtable's list does not move on");
		else if (json_type(&doc, offset) == JSON_STRING && json_text(&doc, offset).n > 0)
			conv->result.next = json_text(&doc, offset);
		else if (json_type(&doc, offset) != JSON_NULL)
			conversation_fail(conv, true, "reading records: the answer's offset is none");
	}
}

void
airtable_page_feed(Conversation *conv, const Call *call, int status, Str body)
{
	if (call->step != AIRTABLE_STEP_PAGE)
		airtable_feed_answer(conv, call, status, body);
	else if (status == 200)
		read_page(conv, body);
	else if (status == 422 && strcmp(airtable_error_type(conv->arena, body), "LIST_RECORDS_ITERATOR_NOT_AVAILABLE") == 0)
		conv->result.restart = true;
	else
		airtable_answer_fail(conv, "reading records", status, body);
}
