/*
 * hubspot_link_lists.c - the lists of associations that v4's batch/read gives: how they are asked for and read.
 *
 * Owns the shape of that call and of its answer, and what the labels of one direction tell of the
 * other's.  Called by hubspot_relink.c (re-reads) and hubspot_page_links.c (sweeps).  Pure.
 */
#include "hubspot.h"

static bool
out_of_memory(Conversation *conv)
{
	conversation_fail(conv, true, "out of memory");
	return false;
}

bool
hubspot_labels_append(Conversation *conv, HubspotLabels *set, Str item)
{
	if (set->n == set->cap)
	{
		int			cap = set->cap ? set->cap * 2 : 4;
		Str		   *items = arena_alloc(conv->arena, sizeof(Str) * (size_t) cap);

		if (items == NULL)
			return out_of_memory(conv);
		if (set->n > 0)
			memcpy(items, set->items, sizeof(Str) * (size_t) set->n);
		set->items = items;
		set->cap = cap;
	}
	set->items[set->n++] = item;
	return true;
}

bool
hubspot_labels_add(Conversation *conv, HubspotLabels *set, Str item)
{
	for (int i = 0; i < set->n; i++)
		if (str_eq(set->items[i], item))
			return true;
	return hubspot_labels_append(conv, set, item);
}

/* The labels of one entry of a list. */
bool
hubspot_entry_labels(Conversation *conv, HubspotLabels *set, const JsonDoc *doc, uint32_t entry)
{
	uint32_t	types = json_get(doc, entry, "associationTypes");

	for (uint32_t it = json_first(doc, types); it != JSON_NONE; it = json_next(doc, types, it))
	{
		Str			label = hubspot_id_at(doc, it, "label");

		if (label.p != NULL && !hubspot_labels_add(conv, set, label))
			return false;
	}
	return true;
}

bool
hubspot_has_label(const SchemaCollection *link, Str from, Str label)
{
	for (int i = 0; i < link->nlink_types; i++)
		if (link->link_types[i].label != NULL && str_is(from, link->link_types[i].from) &&
			str_is(label, link->link_types[i].label))
			return true;
	return false;
}

/* Is every label of one direction known by the same name in the other?  Not told for a type with itself. */
bool
hubspot_labels_agree(const SchemaCollection *link)
{
	if (strcmp(link->from, link->to) == 0 || link->nlink_types == 0)
		return false;
	for (int i = 0; i < link->nlink_types; i++)
	{
		const LinkType *type = &link->link_types[i];

		if (type->label != NULL && !hubspot_has_label(link, str_of(type->to), str_of(type->label)))
			return false;
	}
	return true;
}

void
hubspot_links_input(Buf *buf, Str id, Str after)
{
	buf_cstr(buf, buf->n > 0 ? ",{\"id\":" : "{\"inputs\":[{\"id\":");
	buf_json_string(buf, id);
	if (after.p != NULL)
	{
		buf_cstr(buf, ",\"after\":");
		buf_json_string(buf, after);
	}
	buf_char(buf, '}');
}

/* Sends the inputs that were added to buf. */
bool
hubspot_links_ask(Conversation *conv, Str from, Str to, Buf *buf, int step, void *state)
{
	Call		call = {.host = HUBSPOT_HOST, .method = "POST", .bucket = "default", .step = step, .state = state};
	const char *a = arena_cstr(conv->arena, from);
	const char *b = arena_cstr(conv->arena, to);

	buf_cstr(buf, "]}");
	call.body = buf_finish(buf);
	if (a != NULL && b != NULL)
		call.target = str_of(arena_printf(conv->arena, "/crm/v4/associations/%s/%s/batch/read", hubspot_path_name(a),
										  hubspot_path_name(b)));
	if (call.body.p == NULL || call.target.p == NULL)
		return out_of_memory(conv);
	return conversation_call(conv, call);
}

Str
hubspot_links_next(const JsonDoc *doc, uint32_t result)
{
	return hubspot_id(doc, json_path(doc, result, "paging.next.after"));
}

Str
hubspot_links_from(const JsonDoc *doc, uint32_t result)
{
	return hubspot_id_at(doc, json_get(doc, result, "from"), "id");
}

bool
hubspot_names_missing(Conversation *conv, int status, Str body)
{
	JsonDoc		doc;
	size_t		at;
	const char *error;

	return status == 404 && json_parse(conv->arena, body, &doc, &at, &error) == JSON_OK &&
		str_is(json_text_at(&doc, 0, "category"), "OBJECT_NOT_FOUND");
}

/* Parses an answer that must have results; a 404 that names missing records has none, and is as good as an empty list. */
bool
hubspot_links_answer(Conversation *conv, const char *what, int status, Str body, JsonDoc *doc)
{
	memset(doc, 0, sizeof(*doc));
	if (hubspot_names_missing(conv, status, body))
		return true;
	if (status < 200 || status >= 300)
	{
		hubspot_fail_status(conv, what, status, body);
		return false;
	}
	return hubspot_answer(conv, what, body, doc) && hubspot_errors_harmless(conv, doc) &&
		hubspot_results(conv, what, doc) != JSON_NONE;
}
