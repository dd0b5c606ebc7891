/*
 * hubspot_relink.c - asking HubSpot for associations again (Provider.reread, second half).
 *
 * Owns two questions.  Pairs: are these two records linked, and with which labels?  Asked in
 * both directions, labels united.  A pair that is found to be primary takes that label from the
 * record's other pairs, as HubSpot did.  Links: what is this record linked to?  Asked from its side only, all pages;
 * labels of the other side are asked for (as pairs) only where they may have other names, which
 * holds for labelled links of pairs whose labels differ by direction.
 * Called by hubspot_reread.c only.  Pure.
 */
#include "hubspot.h"

#define BATCH_SIZE 100

typedef struct LabelSet
{
	Str		   *items;
	int			n;
	int			cap;
} LabelSet;

typedef struct Pair
{
	Str			ids[2];
	bool		found[2];		/* by direction */
	LabelSet	labels[2];		/* of each direction: united at the end, so that their order does not hang on the calls' */
} Pair;

typedef struct PairJob
{
	Str			types[2];
	Pair	   *pairs;
	int			n;
	int			waiting;
} PairJob;

typedef struct PairCall
{
	PairJob    *job;
	int			side;			/* whose ids were asked for */
} PairCall;

typedef struct Links			/* of one record */
{
	Str			id;
	LabelSet	keep;			/* ids on the other side */
} Links;

typedef struct LinksJob
{
	Str			type;
	Str			other;
	bool		same_labels;	/* both directions have the same labels */
	Links	   *links;
	int			n;
	ChangeList	pairs;			/* to be asked for from both sides */
	int			waiting;
} LinksJob;

static bool
out_of_memory(Conversation *conv)
{
	conversation_fail(conv, true, "out of memory");
	return false;
}

static bool
set_append(Conversation *conv, LabelSet *set, Str item)
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

static bool
set_add(Conversation *conv, LabelSet *set, Str item)
{
	for (int i = 0; i < set->n; i++)
		if (str_eq(set->items[i], item))
			return true;
	return set_append(conv, set, item);
}

/* The labels of one entry of a v4 list. */
static bool
add_labels(Conversation *conv, LabelSet *set, const JsonDoc *doc, uint32_t entry)
{
	uint32_t	types = json_get(doc, entry, "associationTypes");

	for (uint32_t it = json_first(doc, types); it != JSON_NONE; it = json_next(doc, types, it))
	{
		Str			label = hubspot_id_at(doc, it, "label");

		if (label.p != NULL && !set_add(conv, set, label))
			return false;
	}
	return true;
}

static void
add_input(Buf *buf, Str id, Str after)
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
static bool
ask(Conversation *conv, Str from, Str to, Buf *buf, HubspotStep step, void *state)
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

static Str
next_page(const JsonDoc *doc, uint32_t result)
{
	return hubspot_id(doc, json_path(doc, result, "paging.next.after"));
}

static Str
result_from(const JsonDoc *doc, uint32_t result)
{
	return hubspot_id_at(doc, json_get(doc, result, "from"), "id");
}

/* ---- pairs ---- */

static bool
ask_side(Conversation *conv, PairJob *job, int side)
{
	PairCall   *call = arena_alloc(conv->arena, sizeof(*call));
	Buf			buf;

	if (call == NULL)
		return out_of_memory(conv);
	*call = (PairCall) {job, side};
	buf_init(&buf, conv->arena);
	for (int i = 0; i < job->n; i++)
	{
		bool		again = false;

		for (int j = 0; j < i && !again; j++)
			again = str_eq(job->pairs[j].ids[side], job->pairs[i].ids[side]);
		if (!again)
			add_input(&buf, job->pairs[i].ids[side], STR_NULL);
	}
	job->waiting++;
	return ask(conv, job->types[side], job->types[1 - side], &buf, STEP_PAIRS, call);
}

bool
hubspot_pairs_reread(Conversation *conv, const Change *targets, int n)
{
	PairJob    *job = arena_zalloc(conv->arena, sizeof(*job));

	if (job != NULL)
		job->pairs = arena_zalloc(conv->arena, sizeof(Pair) * (size_t) n);
	if (job == NULL || job->pairs == NULL)
		return out_of_memory(conv);
	job->types[0] = targets[0].collection;
	job->types[1] = targets[0].to_collection;
	job->n = n;
	for (int i = 0; i < n; i++)
	{
		job->pairs[i].ids[0] = targets[i].id;
		job->pairs[i].ids[1] = targets[i].to_id;
	}
	return ask_side(conv, job, 0) && ask_side(conv, job, 1);
}

/* The label of an entry that a record gives to one other at most (its primary company); STR_NULL: the entry has none. */
static Str
primary_label(const JsonDoc *doc, uint32_t entry, Str from)
{
	uint32_t	types = json_get(doc, entry, "associationTypes");

	for (uint32_t it = json_first(doc, types); it != JSON_NONE; it = json_next(doc, types, it))
	{
		const HubspotLinkType *type = NULL;
		long		type_id;

		if (hubspot_type_number(json_text_at(doc, it, "typeId"), &type_id))
			type = hubspot_builtin_link(type_id);
		if (type != NULL && type->labelled && str_is(from, type->from) && strcmp(type->to, "0-2") == 0)
			return hubspot_id_at(doc, it, "label");
	}
	return STR_NULL;
}

/* A new primary took the label from the old one, which the write did not name: the same list shows that too. */
static bool
drop_primary(Conversation *conv, const PairJob *job, int side, const JsonDoc *doc, uint32_t result, Str label)
{
	uint32_t	to = json_get(doc, result, "to");

	for (uint32_t it = json_first(doc, to); it != JSON_NONE; it = json_next(doc, to, it))
	{
		Change	   *change;

		if (primary_label(doc, it, job->types[side]).p != NULL)
			continue;
		change = change_add(&conv->changes, conv->arena, CHANGE_UNLINK, job->types[side], result_from(doc, result));
		if (change == NULL || (change->labels = arena_alloc(conv->arena, sizeof(Str))) == NULL)
			return out_of_memory(conv);
		change->to_collection = job->types[1 - side];
		change->to_id = hubspot_id_at(doc, it, "toObjectId");
		change->labels[0] = label;
		change->nlabels = 1;
	}
	return true;
}

/* One wanted pair, found in its record's list. */
static bool
take_pair(Conversation *conv, PairJob *job, Pair *pair, int side, const JsonDoc *doc, uint32_t result, uint32_t entry)
{
	Str			primary = primary_label(doc, entry, job->types[side]);

	pair->found[side] = true;
	return add_labels(conv, &pair->labels[side], doc, entry) &&
		(primary.p == NULL || drop_primary(conv, job, side, doc, result, primary));
}

/* Looks for the wanted pairs of one record in a page of its list; true in *more when some are still missing. */
static bool
scan_page(Conversation *conv, PairJob *job, int side, const JsonDoc *doc, uint32_t result, bool *more)
{
	Str			from = result_from(doc, result);
	uint32_t	to = json_get(doc, result, "to");

	*more = false;
	for (int i = 0; i < job->n; i++)
	{
		Pair	   *pair = &job->pairs[i];

		if (!str_eq(pair->ids[side], from) || pair->found[side])
			continue;
		for (uint32_t it = json_first(doc, to); it != JSON_NONE && !pair->found[side]; it = json_next(doc, to, it))
			if (str_eq(hubspot_id_at(doc, it, "toObjectId"), pair->ids[1 - side]) &&
				!take_pair(conv, job, pair, side, doc, result, it))
				return false;
		*more |= !pair->found[side];
	}
	return true;
}

static bool
finish_pairs(Conversation *conv, const PairJob *job)
{
	for (int i = 0; i < job->n; i++)
	{
		Pair	   *pair = &job->pairs[i];
		bool		linked = pair->found[0] || pair->found[1];
		Change	   *change = change_add(&conv->changes, conv->arena, linked ? CHANGE_LINK : CHANGE_UNLINK,
										job->types[0], pair->ids[0]);

		if (change == NULL)
			return out_of_memory(conv);
		change->to_collection = job->types[1];
		change->to_id = pair->ids[1];
		if (!linked)
			continue;
		for (int j = 0; j < pair->labels[1].n; j++)
			if (!set_add(conv, &pair->labels[0], pair->labels[1].items[j]))
				return false;
		change->labels = pair->labels[0].items;
		change->nlabels = pair->labels[0].n;
		change->labels_replace = true;
	}
	return true;
}

static bool
take_pairs(Conversation *conv, PairCall *call, const JsonDoc *doc)
{
	PairJob    *job = call->job;
	uint32_t	results = json_get(doc, 0, "results");
	Buf			buf;

	buf_init(&buf, conv->arena);
	for (uint32_t it = json_first(doc, results); it != JSON_NONE; it = json_next(doc, results, it))
	{
		Str			after = next_page(doc, it);
		bool		more;

		if (!scan_page(conv, job, call->side, doc, it, &more))
			return false;
		if (more && after.p != NULL)
			add_input(&buf, result_from(doc, it), after);
	}
	if (buf.n == 0 && !buf.failed)
		return true;
	job->waiting++;
	return ask(conv, job->types[call->side], job->types[1 - call->side], &buf, STEP_PAIRS, call);
}

/* ---- links of records ---- */

static bool
has_label(const SchemaCollection *link, const char *from, const char *label)
{
	for (int i = 0; i < link->nlink_types; i++)
		if (link->link_types[i].label != NULL && strcmp(link->link_types[i].from, from) == 0 &&
			strcmp(link->link_types[i].label, label) == 0)
			return true;
	return false;
}

/* Is every label of one direction known by the same name in the other?  Not told for a type with itself. */
static bool
labels_agree(const SchemaCollection *link)
{
	if (strcmp(link->from, link->to) == 0 || link->nlink_types == 0)
		return false;
	for (int i = 0; i < link->nlink_types; i++)
	{
		const LinkType *type = &link->link_types[i];

		if (type->label != NULL && !has_label(link, type->to, type->label))
			return false;
	}
	return true;
}

static bool
ask_links(Conversation *conv, const SchemaCollection *link, Str type, const Str *ids, int nids)
{
	LinksJob   *job = arena_zalloc(conv->arena, sizeof(*job));
	Buf			buf;

	if (job != NULL)
		job->links = arena_zalloc(conv->arena, sizeof(Links) * (size_t) nids);
	if (job == NULL || job->links == NULL)
		return out_of_memory(conv);
	job->type = type;
	job->other = str_of(str_is(type, link->from) ? link->to : link->from);
	job->same_labels = labels_agree(link);
	job->n = nids;
	buf_init(&buf, conv->arena);
	for (int i = 0; i < nids; i++)
	{
		job->links[i].id = ids[i];
		add_input(&buf, ids[i], STR_NULL);
	}
	job->waiting = 1;
	return ask(conv, type, job->other, &buf, STEP_LINKS, job);
}

bool
hubspot_links_reread(Conversation *conv, Str collection, const Str *ids, int nids)
{
	const Schema *schema = conv->view->schema;

	for (int i = 0; schema != NULL && i < schema->ncollections; i++)
	{
		const SchemaCollection *c = &schema->collections[i];

		if (c->kind != COLLECTION_LINKS || !c->enabled || (!str_is(collection, c->from) && !str_is(collection, c->to)))
			continue;
		if (!ask_links(conv, c, collection, ids, nids))
			return false;
	}
	return true;
}

static Links *
find_links(LinksJob *job, Str id)
{
	for (int i = 0; i < job->n; i++)
		if (str_eq(job->links[i].id, id))
			return &job->links[i];
	return NULL;
}

/* One entry of a record's list. */
static bool
take_link(Conversation *conv, LinksJob *job, Links *links, const JsonDoc *doc, uint32_t entry)
{
	Str			to = hubspot_id_at(doc, entry, "toObjectId");
	LabelSet	labels = {0};
	bool		ask_both;
	Change	   *change;

	if (to.p == NULL)
		return true;
	if (!set_append(conv, &links->keep, to) || !add_labels(conv, &labels, doc, entry))
		return false;
	ask_both = labels.n > 0 && !job->same_labels;
	change = change_add(ask_both ? &job->pairs : &conv->changes, conv->arena, ask_both ? CHANGE_REREAD : CHANGE_LINK,
						job->type, links->id);
	if (change == NULL)
		return out_of_memory(conv);
	change->to_collection = job->other;
	change->to_id = to;
	change->labels = labels.items;
	change->nlabels = labels.n;
	change->labels_replace = !ask_both;
	return true;
}

static bool
finish_links(Conversation *conv, LinksJob *job)
{
	for (int i = 0; i < job->n; i++)
	{
		Change	   *change = change_add(&conv->changes, conv->arena, CHANGE_UNLINK, job->type, job->links[i].id);

		if (change == NULL)
			return out_of_memory(conv);
		change->to_collection = job->other;
		change->keep_ids = job->links[i].keep.items;
		change->nkeep_ids = job->links[i].keep.n;
	}
	for (int i = 0; i < job->pairs.count; i += BATCH_SIZE)
		if (!hubspot_pairs_reread(conv, job->pairs.items + i,
								  job->pairs.count - i < BATCH_SIZE ? job->pairs.count - i : BATCH_SIZE))
			return false;
	return true;
}

static bool
take_links(Conversation *conv, LinksJob *job, const JsonDoc *doc)
{
	uint32_t	results = json_get(doc, 0, "results");
	Buf			buf;

	buf_init(&buf, conv->arena);
	for (uint32_t it = json_first(doc, results); it != JSON_NONE; it = json_next(doc, results, it))
	{
		Links	   *links = find_links(job, result_from(doc, it));
		uint32_t	to = json_get(doc, it, "to");
		Str			after = next_page(doc, it);

		if (links == NULL)
			continue;
		for (uint32_t entry = json_first(doc, to); entry != JSON_NONE; entry = json_next(doc, to, entry))
			if (!take_link(conv, job, links, doc, entry))
				return false;
		if (after.p != NULL)
			add_input(&buf, links->id, after);
	}
	if (buf.n == 0 && !buf.failed)
		return true;
	job->waiting++;
	return ask(conv, job->type, job->other, &buf, STEP_LINKS, job);
}

/* ---- answers ---- */

/* A 404 that speaks of objects; any other says only that the endpoint is not there, which tells nothing of links. */
static bool
names_missing_records(Conversation *conv, Str body)
{
	JsonDoc		doc;
	size_t		at;
	const char *error;

	return json_parse(conv->arena, body, &doc, &at, &error) == JSON_OK &&
		str_is(json_text_at(&doc, 0, "category"), "OBJECT_NOT_FOUND");
}

static bool
readable(Conversation *conv, int status, Str body, JsonDoc *doc)
{
	memset(doc, 0, sizeof(*doc));
	if (status == 404 && names_missing_records(conv, body))
		return true;			/* none of these records is there, so neither are links */
	if (status < 200 || status >= 300)
	{
		hubspot_fail_status(conv, "re-reading associations", status);
		return false;
	}
	if (!hubspot_answer(conv, "re-reading associations", body, doc) || !hubspot_errors_harmless(conv, doc))
		return false;
	if (json_type(doc, json_get(doc, 0, "results")) == JSON_ARRAY)
		return true;
	conversation_fail(conv, true, "HubSpot's answer has no results (re-reading associations)");
	return false;
}

void
hubspot_relink_feed(Conversation *conv, const Call *call, int status, Str body)
{
	JsonDoc		doc;

	if (!readable(conv, status, body, &doc))
		return;
	if (call->step == STEP_PAIRS)
	{
		PairCall   *pairs = call->state;

		if (take_pairs(conv, pairs, &doc) && --pairs->job->waiting == 0)
			finish_pairs(conv, pairs->job);
	}
	else
	{
		LinksJob   *job = call->state;

		if (take_links(conv, job, &doc) && --job->waiting == 0)
			finish_links(conv, job);
	}
}
