/*
 * hubspot_batch.c - which input of a batch a result belongs to.
 *
 * HubSpot does not promise that results come in the order of the inputs.  They are matched by
 * objectWriteTraceId, by id, by the unique property's value, and at last by elimination: one
 * result and one input left over.  Called by hubspot_objects.c only.  Pure.  It must never match
 * by position or by likeness.
 */
#include "hubspot.h"

#include <stdlib.h>

typedef struct Key
{
	Str			text;			/* lower case for unique values, as HubSpot compares them */
	uint32_t	input;
	int			at;				/* index among the inputs */
} Key;

typedef struct Matching
{
	HubspotDecoder *d;
	uint32_t	inputs;
	int			ninputs;
	Key		   *keys;			/* sorted by text */
	int			nkeys;
	bool	   *taken;			/* by index of the input */
	Str			id_property;	/* what the ids of the inputs are; STR_NULL: record ids */
} Matching;

static int
compare_keys(const void *a, const void *b)
{
	return str_cmp(((const Key *) a)->text, ((const Key *) b)->text);
}

static Str
lower(Arena *arena, Str s)
{
	Str			copy = arena_str(arena, s.p, s.n);

	for (size_t i = 0; i < copy.n; i++)
		if (copy.p[i] >= 'A' && copy.p[i] <= 'Z')
			((char *) copy.p)[i] = (char) (copy.p[i] + 32);
	return copy;
}

/* Sorted keys of all inputs that have one; false: no memory. */
static bool
collect_keys(Matching *m, const char *key)
{
	const JsonDoc *doc = &m->d->request;
	int			at = 0;

	m->nkeys = 0;
	for (uint32_t it = json_first(doc, m->inputs); it != JSON_NONE; it = json_next(doc, m->inputs, it), at++)
	{
		Str			text = hubspot_id_at(doc, it, key);

		if (text.p == NULL)
			continue;
		text = lower(m->d->arena, text);
		if (text.p == NULL)
			return false;
		m->keys[m->nkeys++] = (Key) {text, it, at};
	}
	if (m->nkeys > 1)
		qsort(m->keys, (size_t) m->nkeys, sizeof(Key), compare_keys);
	return true;
}

/* The input of that key; JSON_NONE when there is none, or more than one. */
static const Key *
find_key(const Matching *m, Str text)
{
	Key			wanted = {text, 0, 0};
	const Key  *key;

	if (m->nkeys == 0 || text.p == NULL)
		return NULL;
	key = bsearch(&wanted, m->keys, (size_t) m->nkeys, sizeof(Key), compare_keys);
	if (key == NULL || (key > m->keys && str_eq(key[-1].text, text)) ||
		(key + 1 < m->keys + m->nkeys && str_eq(key[1].text, text)))
		return NULL;
	return key;
}

/* What stands in a result for the id that its input has. */
static Str
result_key(const Matching *m, const HubspotMatch *match)
{
	const JsonDoc *doc = &m->d->response;
	uint32_t	properties;

	if (m->id_property.p == NULL)
		return match->id;
	properties = json_get(doc, match->result, "properties");
	return hubspot_id(doc, json_get_str(doc, properties, m->id_property));
}

static bool
match_keys(Matching *m, HubspotMatch *matches, int n, bool by_trace)
{
	for (int i = 0; i < n && m->nkeys > 0; i++)
	{
		const JsonDoc *doc = &m->d->response;
		Str			text;
		const Key  *key;

		if (matches[i].input != JSON_NONE)
			continue;
		text = by_trace ? hubspot_id_at(doc, matches[i].result, "objectWriteTraceId") : result_key(m, &matches[i]);
		if (text.p == NULL)
			continue;
		text = lower(m->d->arena, text);
		if (text.p == NULL)
			return false;
		key = find_key(m, text);
		if (key == NULL || m->taken[key->at])
			continue;
		matches[i].input = key->input;
		m->taken[key->at] = true;
	}
	return true;
}

/* As many results as inputs, and one of each left: they belong together. */
static void
match_last(Matching *m, HubspotMatch *matches, int n)
{
	const JsonDoc *doc = &m->d->request;
	int			open = -1;
	int			at = 0;

	if (n != m->ninputs)
		return;
	for (int i = 0; i < n; i++)
	{
		if (matches[i].input != JSON_NONE)
			continue;
		if (open >= 0)
			return;
		open = i;
	}
	if (open < 0)
		return;
	for (uint32_t it = json_first(doc, m->inputs); it != JSON_NONE; it = json_next(doc, m->inputs, it), at++)
		if (!m->taken[at])
			matches[open].input = it;
}

static bool
matching_start(Matching *m, HubspotDecoder *d, uint32_t inputs)
{
	uint32_t	first = json_first(&d->request, inputs);

	memset(m, 0, sizeof(*m));
	m->d = d;
	m->inputs = inputs;
	m->ninputs = json_type(&d->request, inputs) == JSON_ARRAY ? (int) d->request.nodes[inputs].count : 0;
	m->keys = arena_alloc(d->arena, sizeof(Key) * (size_t) (m->ninputs + 1));
	m->taken = arena_zalloc(d->arena, sizeof(bool) * (size_t) (m->ninputs + 1));
	/* all inputs of a batch have the same idProperty: HubSpot refuses others */
	m->id_property = hubspot_id_at(&d->request, first, "idProperty");
	if (str_is(m->id_property, "hs_object_id"))
		m->id_property = STR_NULL;
	return m->keys != NULL && m->taken != NULL;
}

/* Notes each result's id, and those that several have; false: no memory. */
static bool
note_ids(HubspotDecoder *d, HubspotMatch *matches, int n)
{
	Key		   *keys = arena_alloc(d->arena, sizeof(Key) * (size_t) (n + 1));
	int			nkeys = 0;

	if (keys == NULL)
		return false;
	for (int i = 0; i < n; i++)
	{
		matches[i].id = hubspot_id_at(&d->response, matches[i].result, "id");
		if (matches[i].id.p != NULL)
			keys[nkeys++] = (Key) {matches[i].id, matches[i].result, i};
	}
	if (nkeys > 1)
		qsort(keys, (size_t) nkeys, sizeof(Key), compare_keys);
	for (int i = 1; i < nkeys; i++)
		if (str_eq(keys[i - 1].text, keys[i].text))
			matches[keys[i - 1].at].twice = matches[keys[i].at].twice = true;
	return true;
}

int
hubspot_match(HubspotDecoder *d, uint32_t results, uint32_t inputs, HubspotMatch **matches)
{
	int			n = (int) d->response.nodes[results].count;
	HubspotMatch *out = arena_alloc(d->arena, sizeof(HubspotMatch) * (size_t) (n + 1));
	Matching	m;
	int			i = 0;

	if (out == NULL || !matching_start(&m, d, inputs))
		return -1;
	for (uint32_t it = json_first(&d->response, results); it != JSON_NONE; it = json_next(&d->response, results, it))
		out[i++] = (HubspotMatch) {.result = it,.input = JSON_NONE};
	if (!note_ids(d, out, n) || !collect_keys(&m, "objectWriteTraceId") || !match_keys(&m, out, n, true) ||
		!collect_keys(&m, "id") || !match_keys(&m, out, n, false))
		return -1;
	match_last(&m, out, n);
	*matches = out;
	return n;
}
