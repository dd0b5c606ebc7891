/*
 * hubspot_pages.c - reading a collection page by page (Provider.reading and .page).
 *
 * Owns the questions: which URL or search body brings a page, and what its answer means for the next one: the
 * cursor, the end, whether two readings have met, which errors only close this way of reading.  What
 * the records change is hubspot_page_records.c's, links are hubspot_page_links.c's.
 *
 * Searches go by id (keyset), never by HubSpot's own offset: so its window of 10,000 does not matter, nor
 * do records with the same time.  Called by hubspot.c only.  Pure.  It must never take half a page or an
 * error for the end.
 */
#include "hubspot.h"

#define LIST_SIZE 100			/* HubSpot's limits */
#define SEARCH_SIZE 200
#define LINK_IDS 1000
#define URL_MAX 7000			/* longer ones may be refused: then the list shows ids only */
#define AFTER_MAX 1000			/* no token is so long */

static bool
out_of_memory(Conversation *conv)
{
	conversation_fail(conv, true, "out of memory");
	return false;
}

static bool
is_owners(const SchemaCollection *c)
{
	return strcmp(c->collection, HUBSPOT_OWNERS) == 0;
}

static bool
is_search(PageKind kind)
{
	return kind == PAGE_DOWN || kind == PAGE_CHANGES || kind == PAGE_FIELD;
}

/* API_FACTS A8 */
static const char *
modified_property(const SchemaCollection *c)
{
	return strcmp(c->collection, "0-1") == 0 ? "lastmodifieddate" : "hs_lastmodifieddate";
}

/* ---- what can be read ---- */

static bool
is_plain(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c != '\0' && strchr("-_.~", c) != NULL);
}

static void
add_encoded(Buf *buf, Str s)
{
	size_t		i = 0;

	while (i < s.n)
	{
		size_t		n = 0;

		while (i + n < s.n && is_plain(s.p[i + n]))
			n++;
		buf_add(buf, s.p + i, n);
		i += n;
		if (i < s.n)
			buf_printf(buf, "%%%02X", (unsigned char) s.p[i++]);
	}
}

/* The bytes that the fields take in a URL. */
static size_t
fields_length(const SchemaCollection *c)
{
	size_t		n = 0;

	for (int i = 0; i < c->nfields; i++)
	{
		if (!hubspot_asked(&c->fields[i]))
			continue;
		for (const char *p = c->fields[i].field; *p != '\0'; p++)
			n += is_plain(*p) ? 1 : 3;
		n++;
	}
	return n;
}

/* Do all fields fit into the URL of a list?  The rest of it is its path, constants and a token. */
static bool
list_is_whole(const SchemaCollection *c)
{
	return is_owners(c) || strlen(hubspot_path_name(c->collection)) + fields_length(c) + 200 <= URL_MAX;
}

void
hubspot_reading(const SyncView *view, const SchemaCollection *c, Reading *reading)
{
	bool		search = !is_owners(c);

	(void) view;
	if (c->kind == COLLECTION_LINKS)
		*reading = (Reading) {.link_ids = LINK_IDS};
	else
		*reading = (Reading) {.list = true,.list_whole = list_is_whole(c),.down = search,.changes = search,
		.field = search,.list_size = LIST_SIZE};
}

/* ---- questions ---- */

/* A list's cursor is "<last id>|<token>": the token is HubSpot's own affair, the id tells the order. */
static Str
cursor_id(Str cursor)
{
	const char *bar = cursor.n > 0 ? memchr(cursor.p, '|', cursor.n) : NULL;
	Str			id = bar != NULL ? (Str) {cursor.p, (size_t) (bar - cursor.p)} : cursor;

	return hubspot_is_number(id) ? id : STR_NULL;
}

static Str
cursor_token(Str cursor)
{
	const char *bar = cursor.n > 0 ? memchr(cursor.p, '|', cursor.n) : NULL;

	return bar != NULL ? (Str) {bar + 1, (size_t) (cursor.p + cursor.n - bar - 1)} : cursor;
}

static void
add_list_properties(Buf *buf, const SchemaCollection *c)
{
	buf_cstr(buf, "&properties=");
	if (!list_is_whole(c))
	{
		buf_cstr(buf, "hs_object_id");
		return;
	}
	for (int i = 0; i < c->nfields; i++)
		if (hubspot_asked(&c->fields[i]) && strcmp(c->fields[i].field, HUBSPOT_MERGED_IDS) != 0)
		{
			add_encoded(buf, str_of(c->fields[i].field));
			buf_char(buf, ',');
		}
	buf_cstr(buf, HUBSPOT_MERGED_IDS);
}

static bool
ask_list(Conversation *conv, const SchemaCollection *c)
{
	Call		call = {.host = HUBSPOT_HOST,.method = "GET",.bucket = "default",.step = STEP_PAGE};
	Str			token = cursor_token(conv->page->cursor);
	Buf			buf;

	buf_init(&buf, conv->arena);
	if (is_owners(c))
		buf_cstr(&buf, "/crm/v3/owners");
	else
		buf_printf(&buf, "/crm/v3/objects/%s", hubspot_path_name(c->collection));
	buf_printf(&buf, "?limit=%d&archived=false", LIST_SIZE);
	if (!is_owners(c))
		add_list_properties(&buf, c);
	if (token.n > 0)
	{
		buf_cstr(&buf, "&after=");
		add_encoded(&buf, token);
	}
	call.target = buf_finish(&buf);
	return call.target.p != NULL ? conversation_call(conv, call) : out_of_memory(conv);
}

static void
add_filter(Buf *buf, bool *any, const char *op, Str property, Str value)
{
	buf_cstr(buf, *any ? ",{\"propertyName\":" : "\"filterGroups\":[{\"filters\":[{\"propertyName\":");
	*any = true;
	buf_json_string(buf, property);
	buf_printf(buf, ",\"operator\":\"%s\"", op);
	if (value.p != NULL)
	{
		buf_cstr(buf, ",\"value\":");
		buf_json_string(buf, value);
	}
	buf_char(buf, '}');
}

/* Milliseconds, and not later. */
static Str
time_value(Arena *arena, int64_t us)
{
	int64_t		ms = us / 1000 - (us % 1000 < 0 ? 1 : 0);

	return str_of(arena_printf(arena, "%lld", (long long) ms));
}

static void
add_filters(Buf *buf, Conversation *conv, const SchemaCollection *c)
{
	const PageRequest *page = conv->page;
	bool		any = false;

	if (page->kind == PAGE_CHANGES)
		add_filter(buf, &any, "GTE", str_of(modified_property(c)), time_value(conv->arena, page->since_us));
	if (page->kind == PAGE_FIELD)
		add_filter(buf, &any, "HAS_PROPERTY", page->field, STR_NULL);
	if (page->cursor.n > 0)
		add_filter(buf, &any, page->kind == PAGE_DOWN ? "LT" : "GT", STR_LIT("hs_object_id"), page->cursor);
	if (any)
		buf_cstr(buf, "]}],");
}

static Str
search_body(Conversation *conv, const SchemaCollection *c)
{
	Buf			buf;

	buf_init(&buf, conv->arena);
	buf_char(&buf, '{');
	add_filters(&buf, conv, c);
	buf_printf(&buf, "\"sorts\":[{\"propertyName\":\"hs_object_id\",\"direction\":\"%s\"}],\"properties\":[",
			   conv->page->kind == PAGE_DOWN ? "DESCENDING" : "ASCENDING");
	for (int i = 0; i < c->nfields; i++)
		if (hubspot_asked(&c->fields[i]) && strcmp(c->fields[i].field, HUBSPOT_MERGED_IDS) != 0)
		{
			buf_json_string(&buf, str_of(c->fields[i].field));
			buf_char(&buf, ',');
		}
	buf_printf(&buf, "\"" HUBSPOT_MERGED_IDS "\"],\"limit\":%d}", SEARCH_SIZE);
	return buf_finish(&buf);
}

static bool
ask_search(Conversation *conv, const SchemaCollection *c)
{
	Call		call = {.host = HUBSPOT_HOST,.method = "POST",.bucket = "search",.step = STEP_PAGE};

	call.target = str_of(arena_printf(conv->arena, "/crm/v3/objects/%s/search", hubspot_path_name(c->collection)));
	call.body = search_body(conv, c);
	if (call.target.p == NULL || call.body.p == NULL)
		return out_of_memory(conv);
	return conversation_call(conv, call);
}

static void
refuse(Conversation *conv, const char *why)
{
	conv->result.refused = true;
	conv->result.refusal = why;
	if (why == NULL)
		out_of_memory(conv);
}

void
hubspot_page(Conversation *conv)
{
	const PageRequest *page = conv->page;
	const SchemaCollection *c = page->collection != NULL ? schema_find(conv->view->schema, str_of(page->collection)) : NULL;

	if (page->kind == PAGE_FEED)
		refuse(conv, "HubSpot has no change feed that a service key or private app may read");
	else if (c == NULL)
		conversation_fail(conv, true, "%s is not mirrored", page->collection != NULL ? page->collection : "nothing");
	else if ((page->kind == PAGE_LINKS) != (c->kind == COLLECTION_LINKS) || (is_search(page->kind) && is_owners(c)) ||
			 (page->kind == PAGE_FIELD && page->field.n == 0))
		refuse(conv, "this collection cannot be read in this way");
	else if (page->kind == PAGE_LINKS)
		hubspot_page_links(conv, c);
	else if (page->kind == PAGE_LIST)
		ask_list(conv, c);
	else
		ask_search(conv, c);
}

/* ---- answers: order, and the next page ---- */

/* Ids strictly in one direction (sign 1: up), all beyond `from` where that is known. */
static bool
is_ordered(const HubspotShown *shown, Str from, int sign)
{
	Str			last = hubspot_is_number(from) ? from : STR_NULL;

	for (int i = 0; i < shown->n; i++)
	{
		if (!hubspot_is_number(shown->ids[i]))
			return false;
		if (last.p != NULL && hubspot_compare_numbers(shown->ids[i], last) * sign <= 0)
			return false;
		last = shown->ids[i];
	}
	return true;
}

/* An ordered page that reaches the id from which another reading came: nothing is left between them. */
static bool
has_met(Conversation *conv, const HubspotShown *shown, int sign)
{
	Str			until = conv->page->until_id;

	if (!conv->result.ordered || shown->n == 0 || !hubspot_is_number(until) ||
		hubspot_compare_numbers(shown->ids[shown->n - 1], until) * sign < 0)
		return false;
	conv->result.next = STR_NULL;
	return true;
}

static bool
same_token(Str a, Str b)
{
	return a.n > 0 && str_eq(a, b);
}

static bool
finish_list(Conversation *conv, const JsonDoc *doc, const HubspotShown *shown)
{
	Str			cursor = conv->page->cursor;
	Str			last = shown->n > 0 ? shown->ids[shown->n - 1] : cursor_id(cursor);
	Str			after;

	if (!hubspot_next_page(conv, doc, 0, &after))
		return false;
	if (same_token(after, cursor_token(cursor)) || after.n > AFTER_MAX)
	{
		conversation_fail(conv, true, "HubSpot's list does not go on: its next page is the same again");
		return false;
	}
	conv->result.ordered = is_ordered(shown, cursor_id(cursor), 1);
	if (after.p != NULL)
	{
		conv->result.next = str_of(arena_printf(conv->arena, "%.*s|%.*s", hubspot_is_number(last) ? (int) last.n : 0,
												last.p != NULL ? last.p : "", STR_FMT(after)));
		if (conv->result.next.p == NULL)
			return out_of_memory(conv);
	}
	conv->result.met = has_met(conv, shown, 1);
	return true;
}

/* By the API's own count there is more than it showed. */
static bool
tells_more(const Conversation *conv, const JsonDoc *doc, const HubspotShown *shown)
{
	return json_type(doc, json_get(doc, 0, "paging")) == JSON_OBJECT || shown->n >= SEARCH_SIZE ||
		conv->result.total > shown->n;
}

static bool
finish_search(Conversation *conv, const JsonDoc *doc, const HubspotShown *shown)
{
	int			sign = conv->page->kind == PAGE_DOWN ? -1 : 1;
	Str			last = STR_NULL;

	conv->result.ordered = is_ordered(shown, conv->page->cursor, sign);
	if (shown->n == 0 || !tells_more(conv, doc, shown))
		return true;
	for (int i = 0; i < shown->n; i++)
		if (hubspot_is_number(shown->ids[i]) &&
			(last.p == NULL || hubspot_compare_numbers(shown->ids[i], last) * sign > 0))
			last = shown->ids[i];
	/* without order, or without progress, going on from the last id would leave records out or never end */
	if (last.p == NULL || (!conv->result.ordered && conv->page->kind != PAGE_DOWN) ||
		(hubspot_is_number(conv->page->cursor) && hubspot_compare_numbers(last, conv->page->cursor) * sign <= 0))
	{
		conversation_fail(conv, true, "HubSpot's search is not in the order of ids that was asked for");
		return false;
	}
	conv->result.next = last;
	return true;
}

static int64_t
total_of(const JsonDoc *doc)
{
	Str			text = json_text_at(doc, 0, "total");
	int64_t		total = 0;

	if (!hubspot_is_number(text) || text.n > 15)
		return -1;
	for (size_t i = 0; i < text.n; i++)
		total = total * 10 + (text.p[i] - '0');
	return total;
}

static int64_t
newest(const PageResult *result)
{
	int64_t		newest = TIME_NONE;

	for (int i = 0; i < result->nids; i++)
		if (result->versions[i] > newest)
			newest = result->versions[i];
	return newest;
}

static bool
take_search(Conversation *conv, const JsonDoc *doc, const HubspotShown *shown)
{
	conv->result.total = total_of(doc);
	if (!finish_search(conv, doc, shown))
		return false;
	if (conv->page->kind == PAGE_DOWN)
		conv->result.met = has_met(conv, shown, -1);
	if (conv->page->kind == PAGE_CHANGES)
		conv->result.newest_us = newest(&conv->result);
	return true;
}

static void
take_page(Conversation *conv, const SchemaCollection *c, const JsonDoc *doc)
{
	uint32_t	results = hubspot_results(conv, c->collection, doc);
	bool		search = is_search(conv->page->kind);
	HubspotShown shown;

	if (results == JSON_NONE)
		return;
	if (str_iis(json_text_at(doc, 0, "status"), "error"))
		conversation_fail(conv, true, "HubSpot answered with an error and no page (%s)", c->collection);
	else if (hubspot_page_records(conv, c, doc, results, search || list_is_whole(c), &shown))
		(search ? take_search : finish_list) (conv, doc, &shown);
}

/* ---- answers: errors ---- */

/* A type that cannot be searched, or not with this credential.  A 401 that speaks of the credential is no such thing. */
static bool
is_refusal(Conversation *conv, int status, Str body)
{
	JsonDoc		doc;
	size_t		at;
	const char *error;

	if (status == 400 || status == 403 || status == 404 || status == 405)
		return true;
	return status == 401 && json_parse(conv->arena, body, &doc, &at, &error) == JSON_OK &&
		json_text_at(&doc, 0, "category").n > 0 && !str_is(json_text_at(&doc, 0, "category"), "INVALID_AUTHENTICATION") &&
		!str_is(json_text_at(&doc, 0, "category"), "EXPIRED_AUTHENTICATION");
}

static void
refuse_status(Conversation *conv, int status, Str body)
{
	const char *words = hubspot_words(conv->arena, body);

	refuse(conv, arena_printf(conv->arena, "HubSpot answered %d%s%s", status, words[0] != '\0' ? " " : "", words));
}

/* A token that HubSpot does not take, though it gave it. */
static bool
is_stale(Conversation *conv, int status, Str body)
{
	return status == 400 && conv->page->cursor.n > 0 && strstr(hubspot_words(conv->arena, body), "after") != NULL;
}

void
hubspot_page_feed(Conversation *conv, const Call *call, int status, Str body)
{
	const PageRequest *page = conv->page;
	const SchemaCollection *c = schema_find(conv->view->schema, str_of(page->collection));
	JsonDoc		doc;

	if (call->step != STEP_PAGE)
		hubspot_page_links_feed(conv, call, status, body);
	else if (is_search(page->kind) && is_refusal(conv, status, body))
		refuse_status(conv, status, body);
	else if (page->kind == PAGE_LIST && is_stale(conv, status, body))
		conv->result.restart = true;
	else if (status < 200 || status >= 300)
		hubspot_fail_status(conv, arena_printf(conv->arena, "%s %s", is_search(page->kind) ? "searching" : "listing",
											   c->name != NULL ? c->name : c->collection), status, body);
	else if (hubspot_answer(conv, c->collection, body, &doc))
		take_page(conv, c, &doc);
}
