/*
 * hubspot_relink.c - asking HubSpot for associations again (Provider.reread, second half).
 *
 * Owns two questions.  Pairs: are these two records linked, and with which labels?  Asked in
 * both directions, labels united.  A pair that is found to be primary takes that label from the
 * record's other pairs, as HubSpot did.  Links: what is this record linked to?  Asked from its side only, all pages;
 * labels of the other side are asked for (as pairs) only where they may have other names, which
 * holds for labelled links of pairs whose labels differ by direction.  How the lists are asked for and
 * read is hubspot_link_lists.c's.
 * Called by hubspot_reread.c only.  Pure.
 */
#include "hubspot.h"

#define BATCH_SIZE 100

typedef struct Pair
{
	Str			ids[2];
	bool		found[2];		/* by direction */
	HubspotLabels labels[2];	/* of each direction: united at the end, so that their order does not hang on the calls' */
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
	HubspotLabels keep;			/* ids on the other side */
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
			hubspot_links_input(&buf, job->pairs[i].ids[side], STR_NULL);
	}
	job->waiting++;
	return hubspot_links_ask(conv, job->types[side], job->types[1 - side], &buf, STEP_PAIRS, call);
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
		change = change_add(&conv->changes, conv->arena, CHANGE_UNLINK, job->types[side], hubspot_links_from(doc, result));
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
	return hubspot_entry_labels(conv, &pair->labels[side], doc, entry) &&
		(primary.p == NULL || drop_primary(conv, job, side, doc, result, primary));
}

/* Looks for the wanted pairs of one record in a page of its list; true in *more when some are still missing. */
static bool
scan_page(Conversation *conv, PairJob *job, int side, const JsonDoc *doc, uint32_t result, bool *more)
{
	Str			from = hubspot_links_from(doc, result);
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
			if (!hubspot_labels_add(conv, &pair->labels[0], pair->labels[1].items[j]))
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
		Str			after = hubspot_links_next(doc, it);
		bool		more;

		if (!scan_page(conv, job, call->side, doc, it, &more))
			return false;
		if (more && after.p != NULL)
			hubspot_links_input(&buf, hubspot_links_from(doc, it), after);
	}
	if (buf.n == 0 && !buf.failed)
		return true;
	job->waiting++;
	return hubspot_links_ask(conv, job->types[call->side], job->types[1 - call->side], &buf, STEP_PAIRS, call);
}

/* ---- links of records ---- */

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
	job->same_labels = hubspot_labels_agree(link);
	job->n = nids;
	buf_init(&buf, conv->arena);
	for (int i = 0; i < nids; i++)
	{
		job->links[i].id = ids[i];
		hubspot_links_input(&buf, ids[i], STR_NULL);
	}
	job->waiting = 1;
	return hubspot_links_ask(conv, type, job->other, &buf, STEP_LINKS, job);
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
	HubspotLabels	labels = {0};
	bool		ask_both;
	Change	   *change;

	if (to.p == NULL)
		return true;
	if (!hubspot_labels_append(conv, &links->keep, to) || !hubspot_entry_labels(conv, &labels, doc, entry))
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
		Links	   *links = find_links(job, hubspot_links_from(doc, it));
		uint32_t	to = json_get(doc, it, "to");
		Str			after = hubspot_links_next(doc, it);

		if (links == NULL)
			continue;
		for (uint32_t entry = json_first(doc, to); entry != JSON_NONE; entry = json_next(doc, to, entry))
			if (!take_link(conv, job, links, doc, entry))
				return false;
		if (after.p != NULL)
			hubspot_links_input(&buf, links->id, after);
	}
	if (buf.n == 0 && !buf.failed)
		return true;
	job->waiting++;
	return hubspot_links_ask(conv, job->type, job->other, &buf, STEP_LINKS, job);
}

/* ---- answers ---- */

void
hubspot_relink_feed(Conversation *conv, const Call *call, int status, Str body)
{
	JsonDoc		doc;

	if (!hubspot_links_answer(conv, "re-reading associations", status, body, &doc))
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
