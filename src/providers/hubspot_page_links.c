/*
 * hubspot_page_links.c - all links of many records at once (PAGE_LINKS).
 *
 * Owns one question in two rounds.  First the lists of the asked records, all their pages.  Then, for
 * pairs whose labels may have other names in the other direction, the lists of the records on
 * that side, as far as the pairs need.  Only when both are complete there are changes: a LINK per pair, with the
 * labels of both directions, and an UNLINK per asked record that takes all its other links away; so
 * anything that is not a whole answer must fail, never shorten a list.  Called by hubspot_pages.c only.  Pure.
 */
#include "hubspot.h"

#include <stdio.h>
#include <stdlib.h>

#define ASK_SIZE 1000			/* HubSpot's limit for inputs */
#define WHAT "reading associations"

typedef struct PageLink
{
	Str			id;				/* asked for */
	Str			to;
	HubspotLabels labels;
	bool		both;			/* the other direction may name its labels differently */
	bool		back;			/* ... and has been found there */
} PageLink;

typedef struct LinksJob
{
	const SchemaCollection *link;
	Str			type;			/* of the asked ids */
	Str			other;
	Str		   *ids;			/* sorted, each once */
	int			n;
	PageLink   *links;
	int			nlinks;
	int			cap;
	PageLink  **wanted;			/* those with `both`, by `to` and id */
	int			nwanted;
	int			waiting;
} LinksJob;

typedef struct LinksInput
{
	Str			id;
	Str			after;
} LinksInput;

typedef struct LinksAsk			/* one call */
{
	LinksJob   *job;
	LinksInput *inputs;
	int			n;
	bool		back;
} LinksAsk;

static bool
out_of_memory(Conversation *conv)
{
	conversation_fail(conv, true, "out of memory");
	return false;
}

static bool
broken(Conversation *conv, const char *what)
{
	conversation_fail(conv, true, "HubSpot's answer %s (" WHAT ")", what);
	return false;
}

/* ---- asking ---- */

static bool
ask(Conversation *conv, LinksJob *job, LinksInput *inputs, int n, bool back)
{
	LinksAsk   *call = arena_alloc(conv->arena, sizeof(*call));
	Buf			buf;

	if (call == NULL)
		return out_of_memory(conv);
	*call = (LinksAsk) {job, inputs, n, back};
	buf_init(&buf, conv->arena);
	for (int i = 0; i < n; i++)
		hubspot_links_input(&buf, inputs[i].id, inputs[i].after);
	job->waiting++;
	return hubspot_links_ask(conv, back ? job->other : job->type, back ? job->type : job->other, &buf,
							 back ? STEP_PAGE_LINKS_BACK : STEP_PAGE_LINKS, call);
}

static bool
ask_all(Conversation *conv, LinksJob *job, LinksInput *inputs, int n, bool back)
{
	for (int i = 0; i < n; i += ASK_SIZE)
		if (!ask(conv, job, inputs + i, n - i < ASK_SIZE ? n - i : ASK_SIZE, back))
			return false;
	return true;
}

static int
compare_strs(const void *a, const void *b)
{
	return str_cmp(*(const Str *) a, *(const Str *) b);
}

/* The asked ids, sorted, each once. */
static bool
take_ids(Conversation *conv, LinksJob *job)
{
	const PageRequest *page = conv->page;
	int			n = 0;

	job->ids = arena_alloc(conv->arena, sizeof(Str) * (size_t) (page->nids + 1));
	if (job->ids == NULL)
		return out_of_memory(conv);
	for (int i = 0; i < page->nids; i++)
		if (page->ids[i].n > 0)
			job->ids[n++] = page->ids[i];
	qsort(job->ids, (size_t) n, sizeof(Str), compare_strs);
	for (int i = 0; i < n; i++)
		if (job->n == 0 || !str_eq(job->ids[job->n - 1], job->ids[i]))
			job->ids[job->n++] = job->ids[i];
	return true;
}

static bool
show_ids(Conversation *conv)
{
	PageResult *result = &conv->result;

	result->ids = conv->page->ids;
	result->nids = conv->page->nids;
	result->versions = arena_alloc(conv->arena, sizeof(int64_t) * (size_t) (result->nids + 1));
	if (result->versions == NULL)
		return out_of_memory(conv);
	for (int i = 0; i < result->nids; i++)
		result->versions[i] = TIME_NONE;
	return true;
}

static Str
copy_of(Arena *arena, const char *s)
{
	return arena_str(arena, s, strlen(s));
}

void
hubspot_page_links(Conversation *conv, const SchemaCollection *link)
{
	LinksJob   *job = arena_zalloc(conv->arena, sizeof(*job));
	bool		turned = conv->page->ids_are_to;
	LinksInput *inputs;

	if (job == NULL || !take_ids(conv, job) || !show_ids(conv))
	{
		out_of_memory(conv);
		return;
	}
	job->link = link;
	job->type = copy_of(conv->arena, turned ? link->to : link->from);
	job->other = copy_of(conv->arena, turned ? link->from : link->to);
	inputs = arena_alloc(conv->arena, sizeof(LinksInput) * (size_t) (job->n + 1));
	if (job->type.p == NULL || job->other.p == NULL || inputs == NULL)
	{
		out_of_memory(conv);
		return;
	}
	for (int i = 0; i < job->n; i++)
		inputs[i] = (LinksInput) {job->ids[i], STR_NULL};
	ask_all(conv, job, inputs, job->n, false);
}

/* ---- the asked records' lists ---- */

/*
 * Is a label of this entry known by another name in the other direction, or may it be?  HubSpot's own labels that both
 * directions have (primary) are the same; of the account's own that holds only where all of them agree.
 */
static bool
needs_both(const LinksJob *job, bool agree, const JsonDoc *doc, uint32_t entry)
{
	uint32_t	types = json_get(doc, entry, "associationTypes");
	bool		self = str_eq(job->type, job->other);

	for (uint32_t it = json_first(doc, types); it != JSON_NONE && !agree; it = json_next(doc, types, it))
	{
		Str			label = hubspot_id_at(doc, it, "label");

		if (label.p != NULL && (self || !str_is(json_text_at(doc, it, "category"), "HUBSPOT_DEFINED") ||
								!hubspot_has_label(job->link, job->other, label)))
			return true;
	}
	return false;
}

static PageLink *
add_link(Conversation *conv, LinksJob *job, Str id, Str to)
{
	if (job->nlinks == job->cap)
	{
		int			cap = job->cap ? job->cap * 2 : 64;
		PageLink   *links = arena_alloc(conv->arena, sizeof(PageLink) * (size_t) cap);

		if (links == NULL)
		{
			out_of_memory(conv);
			return NULL;
		}
		if (job->nlinks > 0)
			memcpy(links, job->links, sizeof(PageLink) * (size_t) job->nlinks);
		job->links = links;
		job->cap = cap;
	}
	job->links[job->nlinks] = (PageLink) {.id = id,.to = to};
	return &job->links[job->nlinks++];
}

static const Str *
find_asked(const LinksJob *job, Str id)
{
	return bsearch(&id, job->ids, (size_t) job->n, sizeof(Str), compare_strs);
}

/* One record's list, or a page of it. */
static bool
take_list(Conversation *conv, LinksJob *job, Str id, const JsonDoc *doc, uint32_t to)
{
	const Str  *known = find_asked(job, id);
	bool		agree = hubspot_labels_agree(job->link);

	for (uint32_t it = json_first(doc, to); known != NULL && it != JSON_NONE; it = json_next(doc, to, it))
	{
		Str			to_id = hubspot_id_at(doc, it, "toObjectId");
		PageLink   *link;

		if (to_id.p == NULL)
			return broken(conv, "has an association with no record");
		link = add_link(conv, job, *known, to_id);
		if (link == NULL || !hubspot_entry_labels(conv, &link->labels, doc, it))
			return false;
		link->both = link->labels.n > 0 && needs_both(job, agree, doc, it);
	}
	return true;
}

/* ---- the other side's lists ---- */

static int
compare_wanted(const void *a, const void *b)
{
	const PageLink *x = *(const PageLink *const *) a;
	const PageLink *y = *(const PageLink *const *) b;
	int			c = str_cmp(x->to, y->to);

	return c != 0 ? c : str_cmp(x->id, y->id);
}

static bool
ask_back(Conversation *conv, LinksJob *job)
{
	LinksInput *inputs;
	int			n = 0;

	job->wanted = arena_alloc(conv->arena, sizeof(PageLink *) * (size_t) (job->nlinks + 1));
	inputs = arena_alloc(conv->arena, sizeof(LinksInput) * (size_t) (job->nlinks + 1));
	if (job->wanted == NULL || inputs == NULL)
		return out_of_memory(conv);
	for (int i = 0; i < job->nlinks; i++)
		if (job->links[i].both)
			job->wanted[job->nwanted++] = &job->links[i];
	if (job->nwanted > 0)
		qsort(job->wanted, (size_t) job->nwanted, sizeof(PageLink *), compare_wanted);
	for (int i = 0; i < job->nwanted; i++)
		if (n == 0 || !str_eq(inputs[n - 1].id, job->wanted[i]->to))
			inputs[n++] = (LinksInput) {job->wanted[i]->to, STR_NULL};
	return ask_all(conv, job, inputs, n, true);
}

static PageLink *
find_wanted(const LinksJob *job, Str id, Str to)
{
	PageLink	key = {.id = id,.to = to};
	PageLink   *at = &key;
	PageLink  **found = bsearch(&at, job->wanted, (size_t) job->nwanted, sizeof(PageLink *), compare_wanted);

	return found != NULL ? *found : NULL;
}

/* Adds what the list of a record on the other side tells of the wanted pairs. */
static bool
take_back(Conversation *conv, LinksJob *job, Str to, const JsonDoc *doc, uint32_t list)
{
	for (uint32_t it = json_first(doc, list); it != JSON_NONE; it = json_next(doc, list, it))
	{
		PageLink   *link = find_wanted(job, hubspot_id_at(doc, it, "toObjectId"), to);

		if (link == NULL)
			continue;
		link->back = true;
		if (!hubspot_entry_labels(conv, &link->labels, doc, it))
			return false;
	}
	return true;
}

/* Are pairs with this record still to be found? */
static bool
is_missing(const LinksJob *job, Str to)
{
	int			low = 0;
	int			high = job->nwanted;

	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (str_cmp(job->wanted[middle]->to, to) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < job->nwanted && str_eq(job->wanted[low]->to, to); low++)
		if (!job->wanted[low]->back)
			return true;
	return false;
}

/* ---- the changes ---- */

static int
compare_links(const void *a, const void *b)
{
	const PageLink *x = a;
	const PageLink *y = b;
	int			c = str_cmp(x->id, y->id);

	return c != 0 ? c : str_cmp(x->to, y->to);
}

/* Sorts the links, and unites those that came twice. */
static bool
unite_links(Conversation *conv, LinksJob *job)
{
	int			kept = 0;

	if (job->nlinks > 0)
		qsort(job->links, (size_t) job->nlinks, sizeof(PageLink), compare_links);
	for (int i = 0; i < job->nlinks; i++)
	{
		PageLink   *link = &job->links[i];

		if (kept == 0 || compare_links(&job->links[kept - 1], link) != 0)
		{
			job->links[kept++] = *link;
			continue;
		}
		for (int j = 0; j < link->labels.n; j++)
			if (!hubspot_labels_add(conv, &job->links[kept - 1].labels, link->labels.items[j]))
				return false;
	}
	job->nlinks = kept;
	return true;
}

static bool
add_pair(Conversation *conv, const LinksJob *job, const PageLink *link)
{
	Change	   *change = change_add(&conv->changes, conv->arena, CHANGE_LINK, job->type, link->id);

	if (change == NULL)
		return out_of_memory(conv);
	change->to_collection = job->other;
	change->to_id = link->to;
	change->labels = link->labels.items;
	change->nlabels = link->labels.n;
	change->labels_replace = true;
	return true;
}

/* One asked record: its n links from `start` on, and nothing else. */
static bool
add_record(Conversation *conv, const LinksJob *job, Str id, int start, int n)
{
	Str		   *keep = arena_alloc(conv->arena, sizeof(Str) * (size_t) (n + 1));
	Change	   *rest;

	if (keep == NULL)
		return out_of_memory(conv);
	for (int i = 0; i < n; i++)
	{
		keep[i] = job->links[start + i].to;
		if (!add_pair(conv, job, &job->links[start + i]))
			return false;
	}
	rest = change_add(&conv->changes, conv->arena, CHANGE_UNLINK, job->type, id);
	if (rest == NULL)
		return out_of_memory(conv);
	rest->to_collection = job->other;
	rest->keep_ids = keep;
	rest->nkeep_ids = n;
	return true;
}

static bool
finish(Conversation *conv, LinksJob *job)
{
	int			at = 0;

	if (!unite_links(conv, job))
		return false;
	for (int i = 0; i < job->n; i++)
	{
		int			start = at;

		while (at < job->nlinks && str_eq(job->links[at].id, job->ids[i]))
			at++;
		if (!add_record(conv, job, job->ids[i], start, at - start))
			return false;
	}
	return true;
}

/* ---- answers ---- */

/* HubSpot gave the same token for the page after this. */
static bool
goes_on(Conversation *conv, const LinksAsk *call, Str id, Str after)
{
	for (int i = 0; i < call->n; i++)
		if (str_eq(call->inputs[i].id, id) && call->inputs[i].after.p != NULL && str_eq(call->inputs[i].after, after))
			return broken(conv, "does not go on: its next page is the same again");
	return true;
}

/* One record of an answer; *next: there is a page after this which is wanted too. */
static bool
take_result(Conversation *conv, LinksAsk *call, const JsonDoc *doc, uint32_t result, LinksInput *next)
{
	LinksJob   *job = call->job;
	uint32_t	to = json_get(doc, result, "to");

	next->id = hubspot_links_from(doc, result);
	if (next->id.p == NULL || json_type(doc, to) != JSON_ARRAY)
		return broken(conv, "has a list without a record, or a record without a list");
	if (!(call->back ? take_back : take_list) (conv, job, next->id, doc, to) ||
		!hubspot_next_page(conv, doc, result, &next->after))
		return false;
	if (call->back ? !is_missing(job, next->id) : find_asked(job, next->id) == NULL)
		next->after = STR_NULL;
	return next->after.p == NULL || goes_on(conv, call, next->id, next->after);
}

static bool
take_answer(Conversation *conv, LinksAsk *call, const JsonDoc *doc)
{
	uint32_t	results = json_get(doc, 0, "results");
	LinksInput *next = arena_alloc(conv->arena, sizeof(LinksInput) * ((size_t) doc->nodes[results].count + 1));
	int			n = 0;

	if (next == NULL)
		return out_of_memory(conv);
	for (uint32_t it = json_first(doc, results); it != JSON_NONE; it = json_next(doc, results, it))
	{
		if (!take_result(conv, call, doc, it, &next[n]))
			return false;
		if (next[n].after.p != NULL)
			n++;
	}
	return ask_all(conv, call->job, next, n, call->back);
}

/* More errors than the answer names: nobody knows whose lists are missing. */
static bool
errors_told(Conversation *conv, const JsonDoc *doc)
{
	uint32_t	errors = json_get(doc, 0, "errors");
	Str			count = json_text_at(doc, 0, "numErrors");
	char		told[24];

	snprintf(told, sizeof(told), "%u", json_type(doc, errors) == JSON_ARRAY ? doc->nodes[errors].count : 0);
	if (!hubspot_is_number(count) || hubspot_compare_numbers(count, str_of(told)) <= 0)
		return true;
	return broken(conv, "has errors that it does not name");
}

/* A whole call that is refused for missing records: which they are is found by halves. */
static bool
halve(Conversation *conv, LinksAsk *call)
{
	int			half = call->n / 2;

	return call->n <= 1 ||		/* this one is not there, so neither are links */
		(ask(conv, call->job, call->inputs, half, call->back) &&
		 ask(conv, call->job, call->inputs + half, call->n - half, call->back));
}

static bool
take(Conversation *conv, LinksAsk *call, int status, Str body)
{
	JsonDoc		doc;

	if (hubspot_names_missing(conv, status, body))
		return halve(conv, call);
	return hubspot_links_answer(conv, WHAT, status, body, &doc) && errors_told(conv, &doc) && take_answer(conv, call, &doc);
}

void
hubspot_page_links_feed(Conversation *conv, const Call *call, int status, Str body)
{
	LinksAsk   *asked = call->state;
	LinksJob   *job = asked->job;

	if (!take(conv, asked, status, body) || --job->waiting > 0)
		return;
	if (!asked->back && !ask_back(conv, job))
		return;
	if (job->waiting == 0)
		finish(conv, job);
}
