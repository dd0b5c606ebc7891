/*
 * airtable_feed.c - a base's webhook, read by polling, as a change feed (PAGE_FEED).
 *
 * Pure C; called by airtable_pages.c.  The feed's state is "ach...:cursor:time of the last reading": one
 * call tells which records of all tables changed, were deleted, and whether the schema did.  Values in
 * payloads have other shapes than cells: what changed is re-read.  Reading payloads does not use
 * them up, so a webhook of ours that an earlier life (or another cluster) left is taken over.  A hook
 * lives for 7 days after its last reading: one that may have expired is replaced, and what happened
 * meanwhile is a gap.
 */
#include "airtable.h"

#include <stdlib.h>

#include "../values.h"

#define PAYLOADS 50
#define DAY_US (INT64_C(86400) * 1000000)
#define LIFE_US (7 * DAY_US)			/* from a hook's last reading to its end */
#define KEPT_ALIVE_US (6 * DAY_US)

static void
out_of_memory(Conversation *conv)
{
	conversation_fail(conv, true, "out of memory");
}

/* ---- the state ---- */

typedef struct FeedState
{
	Str			hook;
	int64_t		cursor;
	int64_t		read_us;
} FeedState;

static bool
take_number(Str *s, int64_t *number)
{
	size_t		i = 0;

	*number = 0;
	while (i < s->n && i < 18 && s->p[i] >= '0' && s->p[i] <= '9')
		*number = *number * 10 + (s->p[i++] - '0');
	if (i == 0)
		return false;
	s->p += i;
	s->n -= i;
	return true;
}

static bool
take_colon(Str *s)
{
	if (s->n == 0 || s->p[0] != ':')
		return false;
	s->p++;
	s->n--;
	return true;
}

/* False: not one that we wrote. */
static bool
parse_state(Str text, FeedState *state)
{
	Str			rest = text;

	state->hook = text;
	while (rest.n > 0 && rest.p[0] != ':')
	{
		rest.p++;
		rest.n--;
	}
	state->hook.n = text.n - rest.n;
	return airtable_is_id(state->hook, "ach") && take_colon(&rest) && take_number(&rest, &state->cursor) &&
		take_colon(&rest) && take_number(&rest, &state->read_us) && rest.n == 0;
}

static void
set_state(Conversation *conv, Str hook, int64_t cursor, int64_t read_us)
{
	const char *text = arena_printf(conv->arena, "%.*s:%lld:%lld", STR_FMT(hook), (long long) cursor, (long long) read_us);

	if (text == NULL)
		out_of_memory(conv);
	conv->result.next = str_of(text);
}

/* ---- asking ---- */

static void
ask(Conversation *conv, const char *method, const char *rest, Str body, int step)
{
	const char *target = arena_printf(conv->arena, "/v0/bases/%s/webhooks%s", conv->view->base_id, rest ? rest : "");
	Call		call = {
		.host = AIRTABLE_API_HOST,.method = method,.bucket = AIRTABLE_BUCKET,.step = step,.body = body,
		.once = step == AIRTABLE_STEP_HOOK_MAKE
	};

	call.target = str_of(target);
	if (target == NULL || rest == NULL)
		out_of_memory(conv);
	else
		conversation_call(conv, call);
}

static void
ask_hooks(Conversation *conv)
{
	ask(conv, "GET", "", STR_NULL, AIRTABLE_STEP_HOOKS);
}

static void
make_hook(Conversation *conv)
{
	ask(conv, "POST", "", STR_LIT("{\"specification\":{\"options\":{\"filters\":{\"dataTypes\":"
								  "[\"tableData\",\"tableFields\",\"tableMetadata\"]}}}}"), AIRTABLE_STEP_HOOK_MAKE);
}

/* What we had is not to be had any more. */
static void
start_over(Conversation *conv)
{
	conv->result.gap = true;
	ask_hooks(conv);
}

void
airtable_feed_ask(Conversation *conv)
{
	FeedState	state;

	if (conv->page->cursor.p == NULL)
		ask_hooks(conv);
	else if (!parse_state(conv->page->cursor, &state) || conv->page->since_us - state.read_us > KEPT_ALIVE_US)
		start_over(conv);
	else
		ask(conv, "GET", arena_printf(conv->arena, "/%.*s/payloads?cursor=%lld&limit=%d", STR_FMT(state.hook),
									  (long long) state.cursor, PAYLOADS), STR_NULL, AIRTABLE_STEP_PAYLOADS);
}

/* ---- setting it up ---- */

static void
refuse(Conversation *conv, int status, Str body)
{
	const char *type = airtable_error_type(conv->arena, body);
	const char *text = arena_printf(conv->arena, "Airtable answered %d%s%s to webhooks", status, *type ? " " : "", type);

	conv->result.refused = true;
	conv->result.refusal = text ? text : "Airtable refused webhooks";
}

static int
count_of(const JsonDoc *doc, uint32_t node)
{
	return node != JSON_NONE && json_type(doc, node) != JSON_NULL ? (int) doc->nodes[node].count : 0;
}

/* The one that the state names: it was lost, and is not taken again. */
static bool
is_lost(const Conversation *conv, Str id)
{
	FeedState	state;

	return conv->page->cursor.p != NULL && parse_state(conv->page->cursor, &state) && str_eq(state.hook, id);
}

/* Exactly what make_hook asks for: everything, from everybody, told to nobody; with a day to live at least. */
static bool
is_ours(Conversation *conv, const JsonDoc *doc, uint32_t hook, int64_t *expires)
{
	uint32_t	filters = json_path(doc, hook, "specification.options.filters");

	return !is_lost(conv, json_text_at(doc, hook, "id")) && airtable_is_id(json_text_at(doc, hook, "id"), "ach") && json_type(doc, filters) == JSON_OBJECT &&
		doc->nodes[filters].count == 1 && count_of(doc, json_get(doc, filters, "dataTypes")) == 3 &&
		json_type(doc, json_get(doc, hook, "notificationUrl")) == JSON_NULL &&
		json_is_true(doc, json_get(doc, hook, "isHookEnabled")) &&
		json_type(doc, json_get(doc, hook, "cursorForNextPayload")) == JSON_NUMBER &&
		value_parse_time(json_text_at(doc, hook, "expirationTime"), expires) && *expires > conv->page->since_us + DAY_US;
}

static void
read_hooks(Conversation *conv, const JsonDoc *doc)
{
	uint32_t	hooks = json_get(doc, 0, "webhooks");
	int64_t		expires;

	if (json_type(doc, hooks) != JSON_ARRAY)
	{
		conversation_fail(conv, true, "reading webhooks: the answer is not a list of webhooks");
		return;
	}
	for (uint32_t it = json_first(doc, hooks); it != JSON_NONE; it = json_next(doc, hooks, it))
		if (json_type(doc, it) == JSON_OBJECT && is_ours(conv, doc, it, &expires))
		{
			Str			text = json_text_at(doc, it, "cursorForNextPayload");
			int64_t		cursor;

			if (take_number(&text, &cursor) && text.n == 0)
			{
				/* as if it had been read when its present life began: that reading is still to come */
				set_state(conv, json_text_at(doc, it, "id"), cursor, expires - LIFE_US);
				return;
			}
		}
	make_hook(conv);
}

static void
read_made(Conversation *conv, const JsonDoc *doc)
{
	Str			id = json_text_at(doc, 0, "id");

	if (airtable_is_id(id, "ach"))
		set_state(conv, id, 1, conv->page->since_us);
	else
		conversation_fail(conv, true, "making a webhook: the answer names none");
}

/* ---- payloads ---- */

/* Which change is about what: indexes into conv->changes + 1, by hash; as conv->state. */
typedef struct ChangeIndex
{
	uint32_t   *slots;
	uint32_t	size;			/* a power of two */
} ChangeIndex;

static uint32_t
hash_of(Str table, Str id, bool schema)
{
	uint32_t	h = schema ? 7 : 5381;

	for (size_t i = 0; i < table.n; i++)
		h = h * 33 ^ (unsigned char) table.p[i];
	for (size_t i = 0; i < id.n; i++)
		h = h * 33 ^ (unsigned char) id.p[i];
	return h ^ h >> 15;
}

static bool
is_about(const Change *c, Str table, Str id, bool schema)
{
	return str_eq(c->collection, table) && str_eq(c->id, id) && (c->op == CHANGE_REFRESH_SCHEMA) == schema;
}

/* The slot of this, taken or free; there is always a free one. */
static uint32_t *
find_slot(const Conversation *conv, const ChangeIndex *index, Str table, Str id, bool schema)
{
	uint32_t	at = hash_of(table, id, schema);

	for (;; at++)
	{
		uint32_t   *slot = &index->slots[at & (index->size - 1)];

		if (*slot == 0 || is_about(&conv->changes.items[*slot - 1], table, id, schema))
			return slot;
	}
}

/* Room for one more; half of the slots stay free. */
static ChangeIndex *
grow_index(Conversation *conv)
{
	ChangeIndex *index = conv->state ? conv->state : arena_zalloc(conv->arena, sizeof(*index));
	uint32_t	size = index != NULL && index->size > 0 ? index->size : 64;

	conv->state = index;
	if (index == NULL || (index->size > 0 && (uint32_t) conv->changes.count * 2 < index->size))
		return index;
	while ((uint32_t) conv->changes.count * 2 >= size)
		size *= 2;
	index->slots = arena_zalloc(conv->arena, sizeof(uint32_t) * size);
	index->size = size;
	if (index->slots == NULL)
		return NULL;
	for (int i = 0; i < conv->changes.count; i++)
	{
		const Change *c = &conv->changes.items[i];

		*find_slot(conv, index, c->collection, c->id, c->op == CHANGE_REFRESH_SCHEMA) = (uint32_t) i + 1;
	}
	return index;
}

static bool
add_change(Conversation *conv, ChangeOp op, Str table, Str id)
{
	ChangeIndex *index = grow_index(conv);
	uint32_t   *slot = index ? find_slot(conv, index, table, id, op == CHANGE_REFRESH_SCHEMA) : NULL;

	if (slot != NULL && *slot != 0)
	{
		/* changed and deleted in one go: in what order is best asked of the API */
		if (conv->changes.items[*slot - 1].op != op)
			conv->changes.items[*slot - 1].op = CHANGE_REREAD;
		return true;
	}
	if (slot == NULL || change_add(&conv->changes, conv->arena, op, table, id) == NULL)
	{
		out_of_memory(conv);
		return false;
	}
	*slot = (uint32_t) conv->changes.count;
	return true;
}

static bool
is_mirrored(const Conversation *conv, Str table)
{
	const SchemaCollection *c = schema_find(conv->view->schema, table);

	return c != NULL && c->enabled && !c->removed;
}

/* Objects have records as keys, arrays hold them. */
static void
add_records(Conversation *conv, const JsonDoc *doc, uint32_t list, ChangeOp op, Str table)
{
	bool		keys = json_type(doc, list) == JSON_OBJECT;

	if (!keys && json_type(doc, list) != JSON_ARRAY)
	{
		conv->result.gap |= json_type(doc, list) != JSON_NULL;	/* what it was to tell is not known */
		return;
	}
	for (uint32_t it = json_first(doc, list); it != JSON_NONE; it = json_next(doc, list, it))
	{
		Str			id = keys ? json_key(doc, it) : json_text(doc, it);

		if (!airtable_is_id(id, "rec"))
			conv->result.gap = true;
		else if (!add_change(conv, op, table, id))
			return;
	}
}

static void
read_table(Conversation *conv, const JsonDoc *doc, uint32_t node, Str table)
{
	static const char *const schema_keys[] = {"changedMetadata", "createdFieldsById", "changedFieldsById", "destroyedFieldIds"};
	/* a table that we do not have: a discovery of everything knows whether it is chosen */
	Str			scope = schema_find(conv->view->schema, table) ? table : STR_NULL;

	for (size_t i = 0; i < sizeof(schema_keys) / sizeof(schema_keys[0]); i++)
		if (count_of(doc, json_get(doc, node, schema_keys[i])) > 0 && !add_change(conv, CHANGE_REFRESH_SCHEMA, scope, STR_NULL))
			return;
	if (!is_mirrored(conv, table))
		return;
	add_records(conv, doc, json_get(doc, node, "createdRecordsById"), CHANGE_REREAD, table);
	add_records(conv, doc, json_get(doc, node, "changedRecordsById"), CHANGE_REREAD, table);
	add_records(conv, doc, json_get(doc, node, "destroyedRecordIds"), CHANGE_DELETE, table);
}

static void
read_payload(Conversation *conv, const JsonDoc *doc, uint32_t payload)
{
	uint32_t	tables = json_get(doc, payload, "changedTablesById");

	if (count_of(doc, json_get(doc, payload, "createdTablesById")) + count_of(doc, json_get(doc, payload, "destroyedTableIds")) > 0)
		add_change(conv, CHANGE_REFRESH_SCHEMA, STR_NULL, STR_NULL);
	if (json_type(doc, tables) != JSON_OBJECT)
	{
		conv->result.gap |= json_type(doc, payload) != JSON_OBJECT || json_type(doc, tables) != JSON_NULL;
		return;
	}
	for (uint32_t it = json_first(doc, tables); it != JSON_NONE && !conv->failed; it = json_next(doc, tables, it))
		if (airtable_is_id(json_key(doc, it), "tbl") && json_type(doc, it) == JSON_OBJECT)
			read_table(conv, doc, it, json_key(doc, it));
		else
			conv->result.gap = true;
}

static void
read_payloads(Conversation *conv, const JsonDoc *doc)
{
	uint32_t	payloads = json_get(doc, 0, "payloads");
	Str			text = json_text_at(doc, 0, "cursor");
	FeedState	state;
	int64_t		cursor;

	if (json_type(doc, payloads) != JSON_ARRAY || text.p == NULL || !take_number(&text, &cursor) || text.n > 0)
	{
		conversation_fail(conv, true, "reading a webhook: the answer is not a list of payloads");
		return;
	}
	if (!parse_state(conv->page->cursor, &state) || cursor < state.cursor)
	{
		start_over(conv);		/* not the hook that we read */
		return;
	}
	for (uint32_t it = json_first(doc, payloads); it != JSON_NONE; it = json_next(doc, payloads, it))
	{
		if (json_is_true(doc, json_get(doc, it, "error")))
		{
			/* the hook has ended: a field that it watched is gone, or Airtable lost it */
			conv->changes = (ChangeList) {0};
			conv->state = NULL;
			start_over(conv);
			return;
		}
		read_payload(conv, doc, it);
	}
	set_state(conv, state.hook, cursor, conv->page->since_us);
	/* payloads that were kept too long are passed over */
	conv->result.gap |= cursor > state.cursor + (int64_t) doc->nodes[payloads].count;
	conv->result.more = cursor > state.cursor && json_is_true(doc, json_get(doc, 0, "mightHaveMore"));
}

void
airtable_feed_answer(Conversation *conv, const Call *call, int status, Str body)
{
	JsonDoc		doc;
	size_t		at;
	const char *why;
	Str			copy;

	/* what is not there, or not there for us, looks alike: the list of hooks tells */
	if (call->step == AIRTABLE_STEP_PAYLOADS && (status == 403 || status == 404 || status == 422))
		start_over(conv);
	else if (status == 403 || status == 404 || (status == 422 && call->step == AIRTABLE_STEP_HOOK_MAKE))
		refuse(conv, status, body);
	else if (status != 200)
		airtable_answer_fail(conv, "reading webhooks", status, body);
	else
	{
		copy = arena_str(conv->arena, body.p, body.n);
		if (copy.p == NULL)
			out_of_memory(conv);
		else if (json_parse(conv->arena, copy, &doc, &at, &why) != JSON_OK || json_type(&doc, 0) != JSON_OBJECT)
			conversation_fail(conv, true, "reading webhooks: the answer is not JSON");
		else if (call->step == AIRTABLE_STEP_HOOKS)
			read_hooks(conv, &doc);
		else if (call->step == AIRTABLE_STEP_HOOK_MAKE)
			read_made(conv, &doc);
		else
			read_payloads(conv, &doc);
	}
}
