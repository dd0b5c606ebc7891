// SRC: src/providers/*.c src/target.c src/json.c src/arena.c src/change.c src/schema.c src/provider.c src/names.c src/values.c src/decimal.c src/times.c  LIBS: -lunistring
/*
 * fuzz_decode.c - libFuzzer target: any request and answer into both providers.
 *
 * Input: one byte of choices (provider, method, ...), then path, query, request body, answer and
 * further answers, each ended by a byte 0xff (which no valid UTF-8 has).  Goes through route, decode, a
 * re-read of what decode asked for and a discovery, with the further answers in turn, and limits.
 * Checks what every caller relies on, and that decode is a function: the same twice.
 */
#define _GNU_SOURCE
#include "fuzz_input.h"

#include "../../src/target.h"
#include "../../src/values.h"

#define BASE "appBASE00000000001"
#define MAX_CALLS 40

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static SchemaField airtable_fields[] = {
	{.field = "fldName", .name = "Name", .type = MIRROR_TEXT, .enabled = true},
	{.field = "fldDone", .name = "Done", .type = MIRROR_BOOLEAN, .enabled = true},
	{.field = "fldEst", .name = "Est", .type = MIRROR_NUMERIC, .enabled = true},
	{.field = "fldTags", .name = "Tags", .type = MIRROR_TEXT_ARRAY, .enabled = true},
	{.field = "fldFiles", .name = "Files", .type = MIRROR_JSONB, .enabled = true},
	{.field = "fldOld", .name = "Old", .type = MIRROR_TEXT, .enabled = true, .removed = true},
};

static SchemaCollection airtable_tables[] = {
	{.collection = "tblTasks", .name = "Tasks", .table = "tasks", .fields = airtable_fields, .nfields = 6, .enabled = true},
	{.collection = "tblPeople", .name = "A/B", .table = "people", .enabled = true},
};

static SchemaField hubspot_fields[] = {
	{.field = "email", .name = "email", .type = MIRROR_TEXT, .enabled = true},
	{.field = "firstname", .name = "firstname", .type = MIRROR_TEXT, .enabled = true},
	{.field = "hs_object_id", .name = "hs_object_id", .type = MIRROR_BIGINT, .enabled = true},
	{.field = "amount", .name = "amount", .type = MIRROR_NUMERIC, .enabled = true},
	{.field = "closedate", .name = "closedate", .type = MIRROR_TIMESTAMPTZ, .enabled = true},
};

static const char *custom_names[] = {"p1_cars", "car"};
static LinkType link_types[] = {
	{279, "HUBSPOT_DEFINED", "0-1", "0-2", NULL},
	{280, "HUBSPOT_DEFINED", "0-2", "0-1", NULL},
	{1, "HUBSPOT_DEFINED", "0-1", "0-2", "Primary"},
	{7, "USER_DEFINED", "0-1", "0-2", "boss"},
};

static SchemaCollection hubspot_tables[] = {
	{.collection = "0-1", .name = "contacts", .table = "contact", .fields = hubspot_fields, .nfields = 5, .enabled = true},
	{.collection = "0-2", .name = "companies", .table = "company", .fields = hubspot_fields, .nfields = 5, .enabled = true},
	{.collection = "0-3", .name = "deals", .table = "deal", .enabled = true},
	{.collection = "2-123", .name = "cars", .table = "car", .aliases = custom_names, .naliases = 2, .enabled = true},
	{.collection = "owners", .name = "owners", .table = "owner", .enabled = true},
	{.collection = "0-2:0-1", .name = "companies:contacts", .table = "associations_company_contact", .kind = COLLECTION_LINKS,
		.from = "0-2", .to = "0-1", .from_column = "company_id", .to_column = "contact_id",
	.link_types = link_types, .nlink_types = 4, .enabled = true},
	{.collection = "0-1:0-1", .name = "contacts:contacts", .table = "associations_contact_contact", .kind = COLLECTION_LINKS,
		.from = "0-1", .to = "0-1", .from_column = "from_contact_id", .to_column = "to_contact_id", .enabled = true},
};

static const Schema airtable_schema = {airtable_tables, 2};
static const Schema hubspot_schema = {hubspot_tables, 7};
static const char *const methods[] = {"GET", "POST", "PATCH", "PUT", "DELETE", "HEAD", "MOVE", "POST"};
static const int statuses[] = {200, 200, 200, 429, 404, 207, 500, 0};

static void
check_value(Arena *arena, const FieldValue *value)
{
	static const MirrorType types[] = {MIRROR_TEXT, MIRROR_NUMERIC, MIRROR_BOOLEAN, MIRROR_DATE, MIRROR_TIMESTAMPTZ,
	MIRROR_TEXT_ARRAY, MIRROR_JSONB, MIRROR_INTEGER, MIRROR_BIGINT};
	ColumnValue column;
	const char *error;

	require(value->field.p != NULL);
	require(value->type <= JSON_OBJECT);
	touch(value->field);
	if (value->type >= JSON_NUMBER)
	{
		require(value->text.p != NULL);
		touch(value->text);
	}
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		require(value_convert(arena, types[i], value, i & 1, &column, &error) != VALUE_NOMEM);
}

static bool
is_pair(const Change *c)
{
	return c->op == CHANGE_LINK || c->op == CHANGE_UNLINK || c->to_collection.p != NULL;
}

static void
check_change(Arena *arena, const Change *c)
{
	require(c->op <= CHANGE_REFRESH_SCHEMA);
	require(c->id.p != NULL || c->op == CHANGE_REFRESH_SCHEMA || (c->op == CHANGE_DELETE && c->match_field.p != NULL));
	require(c->collection.p != NULL || c->op == CHANGE_REFRESH_SCHEMA || c->base_wide);
	require(c->op == CHANGE_UNLINK || !is_pair(c) || c->to_id.p != NULL || c->op == CHANGE_REREAD);
	require(!is_pair(c) || (c->to_collection.p != NULL && c->collection.p != NULL));
	require(c->nfields == 0 || c->op == CHANGE_UPSERT || c->op == CHANGE_PATCH);
	require(c->id.p == NULL || c->id.n > 0);
	touch(c->collection);
	touch(c->id);
	touch(c->to_collection);
	touch(c->to_id);
	touch(c->match_value);
	for (int i = 0; i < c->nlabels; i++)
		touch(c->labels[i]);
	for (int i = 0; i < c->nkeep_ids; i++)
		touch(c->keep_ids[i]);
	for (int i = 0; i < c->nfields; i++)
		check_value(arena, &c->fields[i]);
}

static void
check_changes(Arena *arena, const ChangeList *list)
{
	for (int i = 0; i < list->count; i++)
		check_change(arena, &list->items[i]);
}

static void
check_same(const ChangeList *a, const ChangeList *b)
{
	require(a->count == b->count);
	for (int i = 0; i < a->count; i++)
	{
		require(a->items[i].op == b->items[i].op && str_eq(a->items[i].id, b->items[i].id));
		require(str_eq(a->items[i].collection, b->items[i].collection) && a->items[i].nfields == b->items[i].nfields);
	}
}

static void
check_route(const Route *route)
{
	require(route->verdict != ROUTE_NOMEM);
	if (route->verdict != ROUTE_OK)
	{
		require(route->message != NULL && route->hint != NULL);
		return;
	}
	require(route->bucket != NULL);
	require(!(route->read && route->mirrored));
}

/* What goes up on our own behalf: one request line, no byte that could end it. */
/* Runs a conversation to its end, or until it has had enough; every answer is gone after it was fed. */
static void
converse(const Provider *provider, Conversation *conv, Input in, uint8_t choice)
{
	Call		call;

	for (int i = 0; i < MAX_CALLS && conversation_take(conv, &call); i++)
	{
		Str			answer = take_piece(&in);
		int			status = statuses[(choice >> (i % 6)) & 7];

		check_call(&call);
		provider->feed(conv, &call, answer.p ? status : 0, answer);
		if (answer.n > 0)
			memset((char *) answer.p, 0xdd, answer.n);
		free((char *) answer.p);
	}
	require(!conv->failed || (conv->error != NULL && conv->error[0] != '\0'));
}

static void
check_schema(const Conversation *conv)
{
	for (int i = 0; !conv->failed && i < conv->schema.ncollections; i++)
	{
		const SchemaCollection *c = &conv->schema.collections[i];

		require(c->collection != NULL && c->name != NULL && c->table != NULL);
		for (int f = 0; f < c->nfields; f++)
			require(c->fields[f].field != NULL && c->fields[f].name != NULL);
		require(c->kind == COLLECTION_RECORDS || (c->from && c->to && c->from_column && c->to_column));
	}
}

static void
fuzz_conversations(const Provider *provider, const SyncView *view, Arena *arena, const ChangeList *changes, Input in,
				   uint8_t choice)
{
	Conversation rereading = {.arena = arena, .view = view};
	Conversation discovering = {.arena = arena, .view = view, .discovering = true};
	Change	   *targets = arena_alloc(arena, sizeof(Change) * (size_t) (changes->count + 1));
	int			ntargets = 0;

	for (int i = 0; i < changes->count; i++)
		if (changes->items[i].op == CHANGE_REREAD)
			targets[ntargets++] = changes->items[i];
	provider->reread(&rereading, targets, ntargets);
	converse(provider, &rereading, in, choice);
	check_changes(arena, &rereading.changes);
	provider->discover(&discovering);
	converse(provider, &discovering, in, choice);
	check_schema(&discovering);
}

static Str
no_header(void *cls, const char *name)
{
	(void) name;
	return *(Str *) cls;
}

static void
fuzz_exchange(const Provider *provider, const SyncView *view, Arena *arena, const RequestView *request, Str answer,
			  Input rest, uint8_t choice)
{
	ResponseView response = {.status = (choice & 0x20) ? 207 : 200, .body = answer, .encoded = (choice & 0xc0) == 0xc0};
	ChangeList	changes = {0};
	ChangeList	again = {0};
	RequestView head = *request;
	Route		route;
	LimitHint	hint;
	Str			retry_after = request->query;
	DecodeResult result;

	head.body = STR_NULL;		/* as it is when a route is judged */
	provider->route(view, &head, arena, &route);
	check_route(&route);
	provider->limits(429, no_header, &retry_after, answer, &hint);
	require(hint.block_ms >= 0);
	if (route.verdict != ROUTE_OK || !route.mirrored)
		return;
	result = provider->decode(view, &route, request, &response, arena, &changes);
	require(result != DECODE_NOMEM);
	check_changes(arena, &changes);
	require(provider->decode(view, &route, request, &response, arena, &again) == result);
	check_same(&changes, &again);
	fuzz_conversations(provider, view, arena, &changes, rest, choice);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *chosen[] = {"Tasks", "contacts"};
	uint8_t		choice = size > 0 ? data[0] : 0;
	bool		hubspot = (choice & 1) != 0;
	SyncView	view = {.name = "fuzz", .base_id = hubspot ? NULL : BASE};
	Input		in = {data + 1, size > 0 ? size - 1 : 0};
	Str			path = take_piece(&in);
	Str			query = take_piece(&in);
	Str			body = take_piece(&in);
	Str			answer = take_piece(&in);
	RequestView request = {.method = str_of(methods[(choice >> 1) & 7]), .path = path.p ? path : STR_LIT("/"),
	.query = query.n > 0 ? query : STR_NULL, .body = body};
	Arena	   *arena = arena_create();

	require(arena != NULL);
	request.host = hubspot ? STR_LIT("api.hubapi.com")
		: memmem(path.p ? path.p : "", path.n, "/uploadA", 8) ? STR_LIT("content.airtable.com") : STR_LIT("api.airtable.com");
	view.schema = (choice & 0x50) == 0x50 ? NULL : hubspot ? &hubspot_schema : &airtable_schema;
	if ((choice & 0x90) == 0x90)
	{
		view.tables = &chosen[hubspot ? 1 : 0];
		view.ntables = 1;
	}
	fuzz_exchange(hubspot ? &provider_hubspot : &provider_airtable, &view, arena, &request,
				  answer.p ? answer : STR_LIT(""), in, choice);
	arena_destroy(arena);
	free((char *) path.p);
	free((char *) query.p);
	free((char *) body.p);
	free((char *) answer.p);
	return 0;
}
