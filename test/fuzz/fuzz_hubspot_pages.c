// SRC: src/providers/*.c src/target.c src/json.c src/arena.c src/change.c src/schema.c src/provider.c src/names.c src/values.c src/decimal.c src/times.c  LIBS: -lunistring
/*
 * fuzz_hubspot_pages.c - libFuzzer target: any answers to HubSpot's pages of lists, searches and links.
 *
 * Input: two bytes of choices (kind and collection, statuses), then cursor, until_id and answers, each ended by a
 * byte 0xff.  Checks what the sync relies on: a page that failed or was refused has no next; ids are
 * there once; a met page has no next; a next page lies beyond this one; every link's record is kept.
 */
#define _GNU_SOURCE
#include "fuzz_input.h"

#include "../../src/providers/hubspot.h"
#include "../../src/values.h"

#define MAX_CALLS 40

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FIELD(n, t) {.field = n, .name = n, .type = t, .enabled = true}

static SchemaField fields[] = {
	FIELD("email", MIRROR_TEXT), FIELD("amount", MIRROR_NUMERIC), FIELD("hs_object_id", MIRROR_BIGINT),
	FIELD("teams", MIRROR_JSONB), {.field = "hidden", .name = "hidden"},
};
static SchemaField many[600];
static char names[600][24];
static LinkType link_types[] = {
	{279, "HUBSPOT_DEFINED", "0-1", "0-2", NULL}, {1, "HUBSPOT_DEFINED", "0-1", "0-2", "Primary"},
	{2, "HUBSPOT_DEFINED", "0-2", "0-1", "Primary"}, {7, "USER_DEFINED", "0-1", "0-2", "boss"}, {8, "USER_DEFINED", "0-2", "0-1", "led"},
};
static SchemaCollection collections[] = {
	{.collection = "0-1", .name = "contacts", .fields = fields, .nfields = 5, .enabled = true},
	{.collection = "0-2", .name = "companies", .fields = many, .nfields = 600, .enabled = true},
	{.collection = "owners", .name = "owners", .fields = fields, .nfields = 5, .enabled = true},
	{.collection = "0-2:0-1", .name = "companies:contacts", .kind = COLLECTION_LINKS, .from = "0-2", .to = "0-1",
	.link_types = link_types, .nlink_types = 5, .enabled = true},
	{.collection = "0-1:0-1", .name = "contacts:contacts", .kind = COLLECTION_LINKS, .from = "0-1", .to = "0-1", .enabled = true},
};
static const Schema schema = {collections, 5};
static const SyncView view = {.name = "fuzz", .schema = &schema};
static const int statuses[] = {200, 200, 200, 207, 200, 403, 404, 0};

static void
converse(Conversation *conv, Input in, uint8_t choice)
{
	Call		call;

	provider_hubspot.page(conv);
	for (int i = 0; i < MAX_CALLS && conversation_take(conv, &call); i++)
	{
		Str			answer = take_piece(&in);
		int			status = statuses[(choice >> (i % 6)) & 7];

		check_call(&call);
		provider_hubspot.feed(conv, &call, answer.p ? status : 0, answer);
		if (answer.n > 0)
			memset((char *) answer.p, 0xdd, answer.n);
		free((char *) answer.p);
	}
	require(!conv->failed || (conv->error != NULL && conv->error[0] != '\0'));
	require(!conv->result.refused || conv->result.refusal != NULL);
}

static bool
has_id(const PageResult *result, Str id)
{
	for (int i = 0; i < result->nids; i++)
		if (str_eq(result->ids[i], id))
			return true;
	return false;
}

static void
check_link(const Conversation *conv, const Change *c)
{
	const PageRequest *page = conv->page;
	bool		asked = false;

	for (int i = 0; i < page->nids; i++)
		asked |= str_eq(page->ids[i], c->id);
	require(asked && c->to_collection.p != NULL);
	require(c->op == CHANGE_UNLINK ? c->to_id.p == NULL && c->nlabels == 0 : c->to_id.n > 0 && c->labels_replace);
	for (int i = 0; i < c->nlabels; i++)
		touch(c->labels[i]);
	for (int i = 0; i < c->nkeep_ids; i++)
		touch(c->keep_ids[i]);
}

static void
check_record(const Conversation *conv, const Change *c)
{
	require(c->op == CHANGE_UPSERT || c->op == CHANGE_PATCH || c->op == CHANGE_DELETE);
	require(c->id.n > 0 && (c->op == CHANGE_DELETE) == !has_id(&conv->result, c->id));
	touch(c->collection);
	for (int i = 0; i < c->nfields; i++)
	{
		ColumnValue column;
		const char *error;

		require(c->fields[i].field.n > 0 && c->fields[i].type <= JSON_OBJECT);
		touch(c->fields[i].field);
		touch(c->fields[i].text);
		require(value_convert(conv->arena, MIRROR_TEXT, &c->fields[i], true, &column, &error) != VALUE_NOMEM);
	}
}

static void
check_next(const Conversation *conv)
{
	const PageResult *r = &conv->result;
	int			sign = conv->page->kind == PAGE_DOWN ? -1 : 1;

	require(!r->met || (r->next.p == NULL && r->ordered));
	touch(r->next);
	if (r->next.p == NULL || conv->page->kind == PAGE_LIST)
		return;
	require(!hubspot_is_number(conv->page->cursor) || hubspot_compare_numbers(r->next, conv->page->cursor) * sign > 0);
	for (int i = 0; i < r->nids; i++)
		require(!hubspot_is_number(r->ids[i]) || hubspot_compare_numbers(r->next, r->ids[i]) * sign >= 0);
}

static void
check_page(const Conversation *conv)
{
	const PageResult *r = &conv->result;
	bool		links = conv->page->kind == PAGE_LINKS;

	if (r->refused || r->restart)
		require(r->next.p == NULL && r->nids == 0 && conv->changes.count == 0);
	if (conv->failed || conv->in_flight > 0)
		return;
	for (int i = 0; i < r->nids && !links; i++)
	{
		PageResult	before = *r;

		before.nids = i;
		require(r->ids[i].n > 0 && !has_id(&before, r->ids[i]));
	}
	for (int i = 0; i < conv->changes.count; i++)
		(links ? check_link : check_record) (conv, &conv->changes.items[i]);
	check_next(conv);
}

static void
set_many(void)
{
	for (int i = 0; i < 600 && many[0].field == NULL; i++)
		snprintf(names[i], sizeof(names[i]), "some_property_%d", i);
	for (int i = 0; i < 600; i++)
		many[i] = (SchemaField) {.field = names[i], .name = names[i], .enabled = true};
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static Str	ids[] = {{"1", 1}, {"2", 1}, {"17", 2}, {"2", 1}};
	static const PageKind kinds[] = {PAGE_LIST, PAGE_DOWN, PAGE_CHANGES, PAGE_FIELD, PAGE_LINKS, PAGE_LIST, PAGE_LINKS, PAGE_FEED};
	uint8_t		choice = size > 0 ? data[0] : 0;
	PageRequest page = {.kind = kinds[choice & 7], .since_us = (int64_t) choice * 1000, .field = STR_LIT("email"), .ids = ids, .nids = 4};
	Arena	   *arena = arena_create();
	Conversation conv = {.arena = arena, .view = &view, .page = &page, .result = {.total = -1, .newest_us = TIME_NONE}};
	Input		in = {data + 2, size > 2 ? size - 2 : 0};
	Str			cursor = take_piece(&in);
	Str			until = take_piece(&in);

	set_many();
	require(arena != NULL);
	page.cursor = cursor.n > 0 ? cursor : STR_NULL;
	page.until_id = until.n > 0 ? until : STR_NULL;
	page.ids_are_to = (choice & 0x10) != 0;
	page.collection = page.kind == PAGE_LINKS ? collections[3 + ((choice >> 3) & 1)].collection
		: collections[(choice >> 3) % 3].collection;
	converse(&conv, in, size > 1 ? data[1] : 0);
	check_page(&conv);
	arena_destroy(arena);
	free((char *) cursor.p);
	free((char *) until.p);
	return 0;
}
