/*
 * airtable_reread.c - asks for records again, by listRecords with a formula over their ids.
 *
 * Pure C; called through provider_airtable.reread and .feed.  Records are grouped into batches of
 * one table and at most 100 ids; batches run in parallel.  A batch whose records may be in any
 * table asks one table after the other for what is still missing.  Only an id that every table it
 * may be in has answered without is deleted: a failed call never is a proof.
 */
#include "airtable.h"

#define BATCH_IDS 100				/* one page's worth; the formula stays under 4 kB */
#define MAX_PAGES 1000				/* pages may be short or empty, but not for ever */

typedef struct Batch
{
	Str			collection;		/* asked first; STR_NULL: none in particular */
	bool		anywhere;		/* then all mirrored tables */
	Str			asked;			/* the table being asked */
	int			next;			/* index in the schema of the table to ask next */
	int			pages;
	Str			ids[BATCH_IDS];	/* still missing */
	int			nids;
} Batch;

static void
out_of_memory(Conversation *conv)
{
	conversation_fail(conv, true, "out of memory");
}

static Str
list_body(Conversation *conv, const Batch *batch, Str offset)
{
	Buf			buf;

	buf_init(&buf, conv->arena);
	buf_cstr(&buf, "{\"filterByFormula\":\"OR(");
	for (int i = 0; i < batch->nids; i++)
		buf_printf(&buf, "%sRECORD_ID()='%.*s'", i > 0 ? "," : "", STR_FMT(batch->ids[i]));
	buf_cstr(&buf, ")\",\"returnFieldsByFieldId\":true,\"pageSize\":100");
	if (offset.p != NULL)
	{
		buf_cstr(&buf, ",\"offset\":");
		buf_json_string(&buf, offset);
	}
	buf_char(&buf, '}');
	return buf_finish(&buf);
}

static void
ask(Conversation *conv, Batch *batch, Str offset)
{
	const char *target = arena_printf(conv->arena, "/v0/%s/%.*s/listRecords", conv->view->base_id, STR_FMT(batch->asked));
	Call		call = {
		.host = AIRTABLE_API_HOST, .method = "POST", .bucket = AIRTABLE_BUCKET,
		.step = AIRTABLE_STEP_LIST, .state = batch,
		.target = str_of(target), .body = list_body(conv, batch, offset),
	};

	if (target == NULL || call.body.p == NULL)
		out_of_memory(conv);
	else
		conversation_call(conv, call);
}

/* The next table that is mirrored and was not asked at first; false when there is none. */
static bool
take_table(const Schema *schema, Batch *batch)
{
	while (schema != NULL && batch->next < schema->ncollections)
	{
		const SchemaCollection *table = &schema->collections[batch->next++];

		if (!table->enabled || table->removed || str_is(batch->collection, table->collection) ||
			!airtable_is_id(str_of(table->collection), "tbl"))
			continue;
		batch->asked = str_of(table->collection);
		return true;
	}
	return false;
}

/* No table that may have them has these: they are deleted. */
static void
delete_missing(Conversation *conv, const Batch *batch)
{
	for (int i = 0; i < batch->nids; i++)
	{
		Change	   *change = change_add(&conv->changes, conv->arena, CHANGE_DELETE,
										batch->anywhere ? STR_NULL : batch->collection, batch->ids[i]);

		if (change == NULL)
		{
			out_of_memory(conv);
			return;
		}
		change->base_wide = batch->anywhere;
	}
}

static void
ask_next_table(Conversation *conv, Batch *batch)
{
	if (batch->nids == 0)
		return;
	if (batch->anywhere && take_table(conv->view->schema, batch))
		ask(conv, batch, STR_NULL);
	else
		delete_missing(conv, batch);
}

/* Takes an id off the missing ones; false when it was not asked for. */
static bool
take_id(Batch *batch, Str id)
{
	for (int i = 0; i < batch->nids; i++)
		if (str_eq(batch->ids[i], id))
		{
			batch->ids[i] = batch->ids[--batch->nids];
			return true;
		}
	return false;
}

/* False: this is no list of records. */
static bool
read_page(Conversation *conv, Batch *batch, const JsonDoc *doc)
{
	uint32_t	records = json_get(doc, 0, "records");
	RecordReader reader = {
		.arena = conv->arena, .changes = &conv->changes, .op = CHANGE_UPSERT, .by_id = true,
		.schema = conv->view->schema, .table = schema_find(conv->view->schema, batch->asked), .collection = batch->asked,
	};

	if (json_type(doc, records) != JSON_ARRAY)
		return false;
	for (uint32_t it = json_first(doc, records); it != JSON_NONE; it = json_next(doc, records, it))
	{
		RecordResult result;

		if (json_type(doc, it) != JSON_OBJECT)
			return false;
		if (!take_id(batch, json_text_at(doc, it, "id")))
			continue;
		result = airtable_record_read(&reader, doc, it);
		if (result == RECORD_NOMEM)
			out_of_memory(conv);
		if (result != RECORD_OK)
			return false;
	}
	return true;
}

static void
read_answer(Conversation *conv, Batch *batch, Str body)
{
	JsonDoc		doc;
	size_t		at;
	const char *why;
	JsonResult	result = json_parse(conv->arena, body, &doc, &at, &why);
	Str			offset;

	if (result == JSON_NOMEM)
	{
		out_of_memory(conv);
		return;
	}
	if (result != JSON_OK || !read_page(conv, batch, &doc))
	{
		conversation_fail(conv, true, "reading records again: the answer is not a list of records");
		return;
	}
	offset = json_text_at(&doc, 0, "offset");
	if (offset.p == NULL || batch->nids == 0)
		ask_next_table(conv, batch);
	else if (++batch->pages > MAX_PAGES)
		conversation_fail(conv, true, "reading records again: Airtable's list does not end");
	else
		ask(conv, batch, offset);
}

void
airtable_reread_feed(Conversation *conv, const Call *call, int status, Str body)
{
	Str			copy;

	if (status != 200)
	{
		airtable_answer_fail(conv, "reading records again", status, body);
		return;
	}
	/* Changes point into it, and outlive the answer. */
	copy = arena_str(conv->arena, body.p, body.n);
	if (copy.p == NULL)
		out_of_memory(conv);
	else
		read_answer(conv, call->state, copy);
}

/* The open batch of this kind, or a new one. */
static Batch *
find_batch(Conversation *conv, Batch **batches, int *nbatches, Str collection, bool anywhere)
{
	Batch	   *batch;

	for (int i = *nbatches - 1; i >= 0; i--)
		if (batches[i]->nids < BATCH_IDS && batches[i]->anywhere == anywhere && str_eq(batches[i]->collection, collection))
			return batches[i];
	batch = arena_zalloc(conv->arena, sizeof(Batch));
	if (batch == NULL)
		return NULL;
	batch->collection = batch->asked = collection;
	batch->anywhere = anywhere;
	return batches[(*nbatches)++] = batch;
}

static bool
is_mirrored(const Schema *schema, Str collection)
{
	const SchemaCollection *table = schema_find(schema, collection);

	return table != NULL && table->enabled && !table->removed;
}

/*
 * The table to ask first; STR_NULL: none.  Where the record may be anywhere, a table that is not
 * mirrored is no place to look for it: the API may not even have it.
 */
static Str
first_table(const Conversation *conv, const Change *target)
{
	if (!airtable_is_id(target->collection, "tbl") ||
		(target->base_wide && !is_mirrored(conv->view->schema, target->collection)))
		return STR_NULL;
	return target->collection;
}

static bool
add_target(Conversation *conv, Batch **batches, int *nbatches, const Change *target)
{
	Str			table = first_table(conv, target);
	Batch	   *batch;

	if (!airtable_is_id(target->id, "rec"))
	{
		conversation_note(conv, "an id that is not an Airtable record id was not read again");
		return true;
	}
	batch = find_batch(conv, batches, nbatches, table, target->base_wide || table.p == NULL);
	if (batch == NULL)
		return false;
	for (int i = 0; i < batch->nids; i++)
		if (str_eq(batch->ids[i], target->id))
			return true;
	batch->ids[batch->nids++] = target->id;
	return true;
}

void
airtable_reread(Conversation *conv, const Change *targets, int ntargets)
{
	Batch	  **batches = arena_alloc(conv->arena, sizeof(Batch *) * (size_t) (ntargets > 0 ? ntargets : 1));
	int			nbatches = 0;

	if (conv->view->base_id == NULL || !airtable_is_id(str_of(conv->view->base_id), "app"))
	{
		conversation_fail(conv, false, "the sync's config needs the id of an Airtable base: {\"base_id\": \"app...\"}");
		return;
	}
	if (batches == NULL)
		out_of_memory(conv);
	for (int i = 0; i < ntargets && !conv->failed; i++)
		if (targets[i].op == CHANGE_REREAD && !add_target(conv, batches, &nbatches, &targets[i]))
			out_of_memory(conv);
	for (int i = 0; i < nbatches && !conv->failed; i++)
	{
		if (batches[i]->collection.p != NULL)
			ask(conv, batches[i], STR_NULL);
		else
			ask_next_table(conv, batches[i]);
	}
}
