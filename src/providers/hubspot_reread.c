/*
 * hubspot_reread.c - asking HubSpot for records again (Provider.reread, first half).
 *
 * Owns batch/read: which ids go into which call, and what their absence means.  An id that does
 * not come back is gone; one that comes back under another id was merged into that.  Pairs and
 * links are hubspot_relink.c's.  Called by hubspot.c only.  Pure.
 */
#include "hubspot.h"

#include <stdlib.h>

#define BATCH_SIZE 100			/* HubSpot's limit for batch/read */

typedef struct RecordBatch
{
	Str			collection;
	const SchemaCollection *c;
	const Change *const *targets;	/* sorted by id */
	int			n;
	bool		with_links;
} RecordBatch;

static bool
out_of_memory(Conversation *conv)
{
	conversation_fail(conv, true, "out of memory");
	return false;
}

static Str
batch_body(Conversation *conv, const RecordBatch *batch)
{
	Buf			buf;
	bool		first = true;

	buf_init(&buf, conv->arena);
	buf_cstr(&buf, "{\"inputs\":[");
	for (int i = 0; i < batch->n; i++)
	{
		buf_cstr(&buf, i > 0 ? ",{\"id\":" : "{\"id\":");
		buf_json_string(&buf, batch->targets[i]->id);
		buf_char(&buf, '}');
	}
	buf_cstr(&buf, "],\"properties\":[");
	for (int i = 0; i < batch->c->nfields; i++)
	{
		if (batch->c->fields[i].removed)
			continue;
		if (!first)
			buf_char(&buf, ',');
		first = false;
		buf_json_string(&buf, str_of(batch->c->fields[i].field));
	}
	buf_cstr(&buf, "]}");
	return buf_finish(&buf);
}

static bool
ask_batch(Conversation *conv, Str collection, const Change *const *targets, int n, bool with_links)
{
	Call		call = {.host = HUBSPOT_HOST, .method = "POST", .bucket = "default", .step = STEP_RECORDS};
	RecordBatch *batch = arena_alloc(conv->arena, sizeof(*batch));
	const SchemaCollection *c = schema_find(conv->view->schema, collection);

	/* a type that is not mirrored has no rows to correct, and owners are never written through the proxy */
	if (c == NULL || c->kind != COLLECTION_RECORDS || strcmp(c->collection, HUBSPOT_OWNERS) == 0)
		return true;
	if (batch == NULL)
		return out_of_memory(conv);
	*batch = (RecordBatch) {collection, c, targets, n, with_links};
	call.state = batch;
	call.body = batch_body(conv, batch);
	call.target = str_of(arena_printf(conv->arena, "/crm/v3/objects/%s/batch/read", hubspot_path_name(c->collection)));
	if (call.body.p == NULL || call.target.p == NULL)
		return out_of_memory(conv);
	return conversation_call(conv, call);
}

/* Records before pairs, same kinds together, ids in order; with_links first, so that duplicates drop the lesser. */
static int
compare_targets(const void *a, const void *b)
{
	const Change *x = *(const Change *const *) a;
	const Change *y = *(const Change *const *) b;
	int			c = (x->to_id.p != NULL) - (y->to_id.p != NULL);

	if (c == 0)
		c = str_cmp(x->collection, y->collection);
	if (c == 0 && x->to_id.p != NULL)
		c = str_cmp(x->to_collection, y->to_collection);
	if (c == 0)
		c = str_cmp(x->id, y->id);
	if (c == 0 && x->to_id.p != NULL)
		c = str_cmp(x->to_id, y->to_id);
	return c != 0 ? c : (int) y->with_links - (int) x->with_links;
}

static bool
same_target(const Change *x, const Change *y)
{
	return (x->to_id.p != NULL) == (y->to_id.p != NULL) && str_eq(x->collection, y->collection) &&
		str_eq(x->id, y->id) &&
		(x->to_id.p == NULL || (str_eq(x->to_collection, y->to_collection) && str_eq(x->to_id, y->to_id)));
}

/* Those that belong into calls of the same kind. */
static bool
same_group(const Change *x, const Change *y)
{
	return (x->to_id.p != NULL) == (y->to_id.p != NULL) && str_eq(x->collection, y->collection) &&
		(x->to_id.p == NULL || str_eq(x->to_collection, y->to_collection));
}

static const Change **
sorted_targets(Conversation *conv, const Change *targets, int *n)
{
	const Change **sorted = arena_alloc(conv->arena, sizeof(Change *) * (size_t) (*n + 1));
	int			kept = 0;

	if (sorted == NULL)
	{
		out_of_memory(conv);
		return NULL;
	}
	for (int i = 0; i < *n; i++)
		if (targets[i].id.n > 0 && targets[i].collection.p != NULL)
			sorted[kept++] = &targets[i];
	*n = kept;
	if (kept > 1)
		qsort(sorted, (size_t) kept, sizeof(Change *), compare_targets);
	kept = 0;
	for (int i = 0; i < *n; i++)
		if (kept == 0 || !same_target(sorted[kept - 1], sorted[i]))
			sorted[kept++] = sorted[i];
	*n = kept;
	return sorted;
}

/* One type's records; those whose links are wanted too go into calls of their own. */
static bool
reread_records(Conversation *conv, const Change *const *group, int n)
{
	for (int links = 1; links >= 0; links--)
	{
		const Change **part = arena_alloc(conv->arena, sizeof(Change *) * (size_t) n);
		int			count = 0;

		if (part == NULL)
			return out_of_memory(conv);
		for (int i = 0; i < n; i++)
			if (group[i]->with_links == (links == 1))
				part[count++] = group[i];
		for (int i = 0; i < count; i += BATCH_SIZE)
			if (!ask_batch(conv, part[i]->collection, part + i, count - i < BATCH_SIZE ? count - i : BATCH_SIZE, links == 1))
				return false;
	}
	return true;
}

static bool
reread_pairs(Conversation *conv, const Change *const *group, int n)
{
	Change	   *copy = arena_alloc(conv->arena, sizeof(Change) * (size_t) n);

	if (copy == NULL)
		return out_of_memory(conv);
	for (int i = 0; i < n; i++)
		copy[i] = *group[i];
	for (int i = 0; i < n; i += BATCH_SIZE)
		if (!hubspot_pairs_reread(conv, copy + i, n - i < BATCH_SIZE ? n - i : BATCH_SIZE))
			return false;
	return true;
}

void
hubspot_reread(Conversation *conv, const Change *targets, int ntargets)
{
	int			n = ntargets;
	const Change **sorted = sorted_targets(conv, targets, &n);
	int			start = 0;

	if (sorted == NULL)
		return;
	while (start < n)
	{
		int			end = start + 1;

		while (end < n && same_group(sorted[start], sorted[end]))
			end++;
		if (!(sorted[start]->to_id.p != NULL ? reread_pairs : reread_records) (conv, sorted + start, end - start))
			return;
		start = end;
	}
}

/* ---- answers ---- */

/*
 * What the record has swallowed is gone, whatever ids the merge named: one that was merged away earlier stands for
 * the record that it is in, and the answer does not say so.
 */
static bool
delete_merged(Conversation *conv, const RecordBatch *batch, Str rest, Str survivor)
{
	while (rest.n > 0)
	{
		const char *end = memchr(rest.p, ';', rest.n);
		Str			id = {rest.p, end != NULL ? (size_t) (end - rest.p) : rest.n};

		rest = end != NULL ? (Str) {end + 1, rest.n - id.n - 1} : STR_NULL;
		if (hubspot_is_number(id) && !str_eq(id, survivor) &&
			change_add(&conv->changes, conv->arena, CHANGE_DELETE, batch->collection, id) == NULL)
			return out_of_memory(conv);
	}
	return true;
}

static bool
add_record(Conversation *conv, const RecordBatch *batch, const JsonDoc *doc, uint32_t record, Str id)
{
	uint32_t	properties = json_get(doc, record, "properties");
	bool		archived = json_is_true(doc, json_get(doc, record, "archived"));
	Change	   *change = change_add(&conv->changes, conv->arena, archived ? CHANGE_DELETE : CHANGE_UPSERT,
									batch->collection, id);
	bool		unknown = false;

	if (change == NULL)
		return out_of_memory(conv);
	if (archived)
		return true;
	change->created_at_us = hubspot_time_at(doc, record, "createdAt");
	change->updated_at_us = hubspot_time_at(doc, record, "updatedAt");
	if (!hubspot_add_properties(change, conv->arena, batch->c, doc, properties, &unknown))
		return out_of_memory(conv);
	return !batch->with_links || delete_merged(conv, batch, json_text(doc, json_get(doc, properties, HUBSPOT_MERGED_IDS)), id);
}

static bool
came_back(const Str *ids, int n, Str id)
{
	for (int i = 0; i < n; i++)
		if (str_eq(ids[i], id))
			return true;
	return false;
}

static bool
delete_missing(Conversation *conv, const RecordBatch *batch, const Str *ids, int n)
{
	for (int i = 0; i < batch->n; i++)
		if (!came_back(ids, n, batch->targets[i]->id) &&
			change_add(&conv->changes, conv->arena, CHANGE_DELETE, batch->collection, batch->targets[i]->id) == NULL)
			return out_of_memory(conv);
	return true;
}

/* Reads all results; ids: those of live records. */
static bool
take_records(Conversation *conv, const RecordBatch *batch, const JsonDoc *doc)
{
	uint32_t	results = hubspot_results(conv, "batch read", doc);
	Str		   *ids;
	int			n = 0;

	if (results == JSON_NONE)
		return false;
	ids = arena_alloc(conv->arena, sizeof(Str) * (doc->nodes[results].count + 1));
	if (ids == NULL)
		return out_of_memory(conv);
	for (uint32_t it = json_first(doc, results); it != JSON_NONE; it = json_next(doc, results, it))
	{
		Str			id = hubspot_id_at(doc, it, "id");

		if (id.p == NULL || came_back(ids, n, id))
			continue;
		if (!add_record(conv, batch, doc, it, id))
			return false;
		ids[n++] = id;
	}
	return delete_missing(conv, batch, ids, n) &&
		(!batch->with_links || n == 0 || hubspot_links_reread(conv, batch->collection, ids, n));
}

void
hubspot_reread_feed(Conversation *conv, const Call *call, int status, Str body)
{
	const RecordBatch *batch = call->state;
	JsonDoc		doc;

	if (call->step != STEP_RECORDS)
		hubspot_relink_feed(conv, call, status, body);
	else if (status == 404)
		delete_missing(conv, batch, NULL, 0);
	else if (status < 200 || status >= 300)
		hubspot_fail_status(conv, "re-reading records", status, body);
	else if (hubspot_answer(conv, "re-reading records", body, &doc) && hubspot_errors_harmless(conv, &doc))
		take_records(conv, batch, &doc);
}
