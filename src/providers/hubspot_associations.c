/*
 * hubspot_associations.c - what an accepted write on associations changed (API_FACTS A9, A16).
 *
 * Owns the choice between a LINK, which needs no further call, and the REREAD of a pair, which is the
 * only way to know labels for sure: they may be named otherwise in the other direction, and HubSpot does not
 * say whether it adds or replaces.  Unlabelled: LINK; labelled or unknown: REREAD.
 * Called by hubspot_decode.c, and by hubspot_objects.c for creates.  Pure.
 */
#include "hubspot.h"

#include <stdlib.h>

/* Canonical names in the arena; false when nothing of this pair is mirrored (or a refresh was asked for). */
static bool
find_ends(HubspotDecoder *d, Str from, Str to, HubspotEnds *ends)
{
	const char *a = hubspot_collection(d->view->schema, from);
	const char *b = hubspot_collection(d->view->schema, to);
	Str			scope;

	if (a == NULL || b == NULL)
		return false;
	ends->from = arena_str(d->arena, a, strlen(a));
	ends->to = arena_str(d->arena, b, strlen(b));
	if (ends->from.p == NULL || ends->to.p == NULL)
	{
		d->nomem = true;
		return false;
	}
	ends->link = schema_find_links(d->view->schema, ends->from, ends->to);
	switch (hubspot_link_interest(d->view, ends->from, ends->to))
	{
		case INTEREST_MIRRORED:
			return true;
		case INTEREST_NONE:
			return false;
		case INTEREST_MISSING:
			break;
	}
	/* HubSpot took an association that discovery found impossible: ask again, once. */
	if (d->relinking)
		return false;
	d->relinking = true;
	scope = hubspot_link_collection(d->view, d->arena, ends->from, ends->to);
	if (scope.p == NULL)
		d->nomem = true;
	else
		hubspot_change(d, CHANGE_REFRESH_SCHEMA, scope, STR_NULL);
	return false;
}

static Change *
add_pair(HubspotDecoder *d, ChangeOp op, const HubspotEnds *ends, Str from_id, Str to_id)
{
	Change	   *change;

	if (from_id.n == 0 || to_id.n == 0)
		return NULL;
	change = hubspot_change(d, op, ends->from, from_id);
	if (change == NULL)
		return NULL;
	change->to_collection = ends->to;
	change->to_id = to_id;
	return change;
}

static void
link_pair(HubspotDecoder *d, const HubspotEnds *ends, Str from_id, Str to_id, HubspotLabelled labelled)
{
	add_pair(d, labelled == LABELLED_NO ? CHANGE_LINK : CHANGE_REREAD, ends, from_id, to_id);
}

/*
 * A label's type is gone from the pair.  The label itself can be taken away only where the other
 * direction calls it the same; an unlabelled type takes the whole pair with it.
 */
static void
unlink_type(HubspotDecoder *d, const HubspotEnds *ends, Str from_id, Str to_id, long type_id)
{
	const LinkType *type = hubspot_link_type(ends->link, type_id, ends->from);
	Change	   *change;

	if (hubspot_type_labelled(ends, type_id) == LABELLED_NO)
	{
		add_pair(d, CHANGE_UNLINK, ends, from_id, to_id);
		return;
	}
	for (int i = 0; type != NULL && !str_eq(ends->from, ends->to) && i < ends->link->nlink_types; i++)
	{
		const LinkType *other = &ends->link->link_types[i];

		if (other->label == NULL || strcmp(other->label, type->label) != 0 || !str_is(ends->to, other->from))
			continue;
		change = add_pair(d, CHANGE_UNLINK, ends, from_id, to_id);
		if (change == NULL)
			return;
		change->labels = arena_alloc(d->arena, sizeof(Str));
		if (change->labels != NULL)
			change->labels[0] = arena_str(d->arena, type->label, strlen(type->label));
		if (change->labels == NULL || change->labels[0].p == NULL)
			d->nomem = true;
		change->nlabels = 1;
		return;
	}
	add_pair(d, CHANGE_REREAD, ends, from_id, to_id);
}

/* v3's type in words or digits */
static void
unlink_named(HubspotDecoder *d, const HubspotEnds *ends, Str from_id, Str to_id, Str type)
{
	long		type_id;

	if (hubspot_type_number(type, &type_id))
		unlink_type(d, ends, from_id, to_id, type_id);
	else if (hubspot_named_labelled(ends, type) == LABELLED_NO)
		add_pair(d, CHANGE_UNLINK, ends, from_id, to_id);
	else
		add_pair(d, CHANGE_REREAD, ends, from_id, to_id);
}

static Str
end_id(const JsonDoc *doc, uint32_t item, const char *end)
{
	return hubspot_id_at(doc, json_get(doc, item, end), "id");
}

/* ---- one pair, in the path ---- */

static HubspotLabelled
answered_labels(const JsonDoc *doc, uint32_t item)
{
	uint32_t	labels = json_get(doc, item, "labels");

	for (uint32_t it = json_first(doc, labels); it != JSON_NONE; it = json_next(doc, labels, it))
		if (json_text(doc, it).n > 0)
			return LABELLED_YES;
	return LABELLED_NO;
}

/* Does this result tell the path's link from its other end?  By the type's direction where we know it, else by the ids. */
static bool
is_reversed(const HubspotDecoder *d, const HubspotEnds *ends, uint32_t item, Str from, Str to)
{
	uint32_t	spec = json_get(&d->response, item, "associationSpec");
	long		type_id;

	if (hubspot_type_number(hubspot_id_at(&d->response, spec, "associationTypeId"), &type_id))
	{
		if (hubspot_link_type(ends->link, type_id, ends->from) != NULL)
			return false;
		if (hubspot_link_type(ends->link, type_id, ends->to) != NULL)
			return true;
	}
	return !str_eq(from, d->route->args[ARG_ID]) && !str_eq(to, d->route->args[ARG_TO_ID]) &&
		(str_eq(from, d->route->args[ARG_TO_ID]) || str_eq(to, d->route->args[ARG_ID]));
}

/*
 * The pair that the answer (or one of its results) names, in the path's direction: after a merge other ids than
 * were asked for.  False: it names none.
 */
static bool
answered_pair(const HubspotDecoder *d, const HubspotEnds *ends, uint32_t item, Str *from_id, Str *to_id)
{
	const JsonDoc *doc = &d->response;
	Str			from = hubspot_id_at(doc, item, "fromObjectId");
	Str			to = hubspot_id_at(doc, item, "toObjectId");
	const char *type = hubspot_collection(d->view->schema, json_text_at(doc, item, "fromObjectTypeId"));
	bool		back = type != NULL && !str_is(ends->from, type);

	if (from.p == NULL || to.p == NULL)
	{
		from = end_id(doc, item, "from");
		to = end_id(doc, item, "to");
		back = is_reversed(d, ends, item, from, to);
	}
	if (from.p == NULL || to.p == NULL)
		return false;
	*from_id = back ? to : from;
	*to_id = back ? from : to;
	return true;
}

static void
decode_single(HubspotDecoder *d, const HubspotEnds *ends)
{
	const Str  *args = d->route->args;
	Str			id = args[ARG_ID];
	Str			to_id = args[ARG_TO_ID];
	uint32_t	result;
	Str			answered;

	if (d->unreadable)
	{
		add_pair(d, CHANGE_REREAD, ends, id, to_id);
		return;
	}
	switch ((HubspotOp) d->route->op)
	{
		case HUBSPOT_LINK_PUT:
			answered_pair(d, ends, 0, &id, &to_id);
			link_pair(d, ends, id, to_id,
					  hubspot_more_labelled(answered_labels(&d->response, 0), hubspot_specs_labelled(&d->request, ends, 0, d->response.count > 0)));
			break;
		case HUBSPOT_LINK_PUT_DEFAULT:
			/* without a result it was accepted, but nothing was linked: see what is there */
			result = json_first(&d->response, json_get(&d->response, 0, "results"));
			if (result != JSON_NONE)
				answered_pair(d, ends, result, &id, &to_id);
			link_pair(d, ends, id, to_id, result != JSON_NONE ? LABELLED_NO : LABELLED_UNKNOWN);
			break;
		case HUBSPOT_LINK_PUT_TYPE:
			/* it answers with the object, which after a merge has another id than was asked for */
			answered = hubspot_id_at(&d->response, 0, "id");
			link_pair(d, ends, answered.p != NULL ? answered : id, args[ARG_TO_ID],
					  hubspot_named_labelled(ends, args[ARG_LINK_TYPE]));
			break;
		case HUBSPOT_LINK_DELETE_TYPE:
			unlink_named(d, ends, id, args[ARG_TO_ID], args[ARG_LINK_TYPE]);
			break;
		default:
			add_pair(d, CHANGE_UNLINK, ends, id, args[ARG_TO_ID]);
			break;
	}
}

/* ---- batches ---- */

/* Re-reads every pair that the request names. */
static void
reread_inputs(HubspotDecoder *d, const HubspotEnds *ends, uint32_t inputs)
{
	const JsonDoc *doc = &d->request;

	for (uint32_t it = json_first(doc, inputs); it != JSON_NONE; it = json_next(doc, inputs, it))
	{
		uint32_t	to = json_get(doc, it, "to");

		if (json_type(doc, to) != JSON_ARRAY)
			add_pair(d, CHANGE_REREAD, ends, end_id(doc, it, "from"), hubspot_id_at(doc, to, "id"));
		else
			for (uint32_t one = json_first(doc, to); one != JSON_NONE; one = json_next(doc, to, one))
				add_pair(d, CHANGE_REREAD, ends, end_id(doc, it, "from"), hubspot_id_at(doc, one, "id"));
	}
}

/* v4 lists types, v3 has one; the worst of all inputs counts for each result, so that none need be matched. */
static HubspotLabelled
inputs_labelled(HubspotDecoder *d, const HubspotEnds *ends, uint32_t inputs)
{
	const JsonDoc *doc = &d->request;
	HubspotLabelled	all = LABELLED_NO;

	for (uint32_t it = json_first(doc, inputs); it != JSON_NONE; it = json_next(doc, inputs, it))
	{
		Str			type = json_text_at(doc, it, "type");

		all = hubspot_more_labelled(all, hubspot_specs_labelled(doc, ends, json_get(doc, it, "types"), true));
		if (type.n > 0)
			all = hubspot_more_labelled(all, hubspot_named_labelled(ends, type));
	}
	return all;
}

/* v4's results name both types themselves, ids as numbers or strings. */
static void
link_result(HubspotDecoder *d, const HubspotEnds *ends, uint32_t result, HubspotLabelled asked)
{
	const JsonDoc *doc = &d->response;
	Str			from = hubspot_id_at(doc, result, "fromObjectId");
	Str			to = hubspot_id_at(doc, result, "toObjectId");
	Str			from_type = json_text_at(doc, result, "fromObjectTypeId");
	const char *answered = hubspot_collection(d->view->schema, from_type);
	HubspotLabelled	labelled = hubspot_more_labelled(answered_labels(doc, result), asked);

	if (from.p == NULL || to.p == NULL)
	{
		from = end_id(doc, result, "from");
		to = end_id(doc, result, "to");
	}
	if (from.p == NULL || to.p == NULL)
		d->unreadable = true;
	else if (answered != NULL && str_is(ends->to, answered) && !str_eq(ends->from, ends->to))
		link_pair(d, ends, to, from, labelled);		/* told from the other end */
	else
		link_pair(d, ends, from, to, labelled);
}

typedef struct IdPair
{
	Str			from;
	Str			to;
} IdPair;

static int
compare_pairs(const void *a, const void *b)
{
	const IdPair *x = a;
	const IdPair *y = b;
	int			c = str_cmp(x->from, y->from);

	return c != 0 ? c : str_cmp(x->to, y->to);
}

/* Sorted pairs of the request; NULL: no memory. */
static IdPair *
requested_pairs(HubspotDecoder *d, uint32_t inputs, int *n)
{
	const JsonDoc *doc = &d->request;
	size_t		count = json_type(doc, inputs) == JSON_ARRAY ? doc->nodes[inputs].count : 0;
	IdPair	   *pairs = arena_alloc(d->arena, sizeof(IdPair) * (count + 1));

	*n = 0;
	if (pairs == NULL)
	{
		d->nomem = true;
		return NULL;
	}
	for (uint32_t it = json_first(doc, inputs); it != JSON_NONE; it = json_next(doc, inputs, it))
	{
		IdPair		pair = {end_id(doc, it, "from"), end_id(doc, it, "to")};

		if (pair.from.p != NULL && pair.to.p != NULL)
			pairs[(*n)++] = pair;
	}
	if (*n > 1)
		qsort(pairs, (size_t) *n, sizeof(IdPair), compare_pairs);
	return pairs;
}

static bool
is_requested(const IdPair *pairs, int n, Str from, Str to)
{
	IdPair		wanted = {from, to};

	return n > 0 && bsearch(&wanted, pairs, (size_t) n, sizeof(IdPair), compare_pairs) != NULL;
}

/*
 * Default associations answer with {from, to, associationSpec}, and may tell each link from both
 * ends.  Only pairs that were asked for count, so each comes once.
 */
static void
decode_defaults(HubspotDecoder *d, const HubspotEnds *ends, uint32_t inputs, uint32_t results)
{
	const JsonDoc *doc = &d->response;
	int			n;
	IdPair	   *pairs = requested_pairs(d, inputs, &n);

	if (pairs == NULL)
		return;
	for (uint32_t it = json_first(doc, results); it != JSON_NONE; it = json_next(doc, results, it))
	{
		Str			from = end_id(doc, it, "from");
		Str			to = end_id(doc, it, "to");
		long		type_id;
		const LinkType *type = NULL;
		bool		reversed;

		if (hubspot_type_number(json_text_at(doc, json_get(doc, it, "associationSpec"), "associationTypeId"), &type_id))
			type = hubspot_link_type(ends->link, type_id, STR_NULL);
		reversed = type != NULL && !str_eq(ends->from, ends->to) && str_is(ends->to, type->from);
		if (from.p == NULL || to.p == NULL)
			d->unreadable = true;
		else if (!reversed && is_requested(pairs, n, from, to))
			link_pair(d, ends, from, to, LABELLED_NO);
		else if (is_requested(pairs, n, to, from))
			link_pair(d, ends, to, from, LABELLED_NO);
		else
			link_pair(d, ends, reversed ? to : from, reversed ? from : to, LABELLED_UNKNOWN);
	}
}

static void
decode_created(HubspotDecoder *d, const HubspotEnds *ends, uint32_t inputs)
{
	uint32_t	results = json_get(&d->response, 0, "results");
	HubspotLabelled	asked;

	if (json_type(&d->response, results) != JSON_ARRAY)
		d->unreadable = true;
	else if (d->route->op == HUBSPOT_LINKS_DEFAULT)
		decode_defaults(d, ends, inputs, results);
	else
	{
		asked = inputs_labelled(d, ends, inputs);
		for (uint32_t it = json_first(&d->response, results); it != JSON_NONE; it = json_next(&d->response, results, it))
			link_result(d, ends, it, asked);
	}
	if (d->unreadable)
		reread_inputs(d, ends, inputs);
}

/* One input of labels/archive or of v3's archive: types named one by one. */
static void
archive_types(HubspotDecoder *d, const HubspotEnds *ends, uint32_t input, Str to_id)
{
	const JsonDoc *doc = &d->request;
	Str			from_id = end_id(doc, input, "from");
	uint32_t	types = json_get(doc, input, "types");
	Str			type = json_text_at(doc, input, "type");

	if (type.n > 0)
		unlink_named(d, ends, from_id, to_id, type);
	else if (d->route->op != HUBSPOT_LABELS_ARCHIVE)
		add_pair(d, CHANGE_UNLINK, ends, from_id, to_id);
	for (uint32_t it = json_first(doc, types); it != JSON_NONE && d->route->op == HUBSPOT_LABELS_ARCHIVE;
		 it = json_next(doc, types, it))
	{
		long		type_id;

		if (hubspot_type_number(json_text_at(doc, it, "associationTypeId"), &type_id))
			unlink_type(d, ends, from_id, to_id, type_id);
		else
			add_pair(d, CHANGE_REREAD, ends, from_id, to_id);
	}
}

static void
decode_archived(HubspotDecoder *d, const HubspotEnds *ends, uint32_t inputs)
{
	const JsonDoc *doc = &d->request;

	for (uint32_t it = json_first(doc, inputs); it != JSON_NONE; it = json_next(doc, inputs, it))
	{
		uint32_t	to = json_get(doc, it, "to");

		if (json_type(doc, to) != JSON_ARRAY)
			archive_types(d, ends, it, hubspot_id_at(doc, to, "id"));
		else
			for (uint32_t one = json_first(doc, to); one != JSON_NONE; one = json_next(doc, to, one))
				archive_types(d, ends, it, hubspot_id_at(doc, one, "id"));
	}
}

void
hubspot_decode_links(HubspotDecoder *d)
{
	uint32_t	inputs = json_get(&d->request, 0, "inputs");
	HubspotOp	op = (HubspotOp) d->route->op;
	HubspotEnds		ends;

	if (!find_ends(d, d->route->args[ARG_TYPE], d->route->args[ARG_TO_TYPE], &ends))
		return;
	if (op < HUBSPOT_LINKS_CREATE)
		decode_single(d, &ends);
	else if (json_type(&d->request, inputs) != JSON_ARRAY)
		d->unreadable = true;
	else if (d->unreadable)
		reread_inputs(d, &ends, inputs);
	else if (op == HUBSPOT_LINKS_CREATE || op == HUBSPOT_LINKS_DEFAULT)
		decode_created(d, &ends, inputs);
	else
		decode_archived(d, &ends, inputs);
}

/* ---- inline associations of a create ---- */

typedef enum InlineTarget
{
	TARGET_TYPE_FOUND,
	TARGET_TYPE_NOT_MIRRORED,
	TARGET_TYPE_UNKNOWN
} InlineTarget;

/* The body does not name the target's type: the association type's definition does. */
static InlineTarget
inline_target(HubspotDecoder *d, long type_id, Str *to)
{
	const Schema *schema = d->view->schema;
	const HubspotLinkType *builtin = hubspot_builtin_link(type_id);

	for (int i = 0; schema != NULL && i < schema->ncollections; i++)
	{
		const LinkType *type;

		if (schema->collections[i].kind != COLLECTION_LINKS)
			continue;
		type = hubspot_link_type(&schema->collections[i], type_id, d->collection);
		if (type != NULL)
		{
			*to = str_of(type->to);
			return TARGET_TYPE_FOUND;
		}
	}
	if (builtin == NULL || !str_is(d->collection, builtin->from))
		return TARGET_TYPE_UNKNOWN;
	*to = str_of(builtin->to);
	return hubspot_link_interest(d->view, d->collection, *to) == INTEREST_NONE ? TARGET_TYPE_NOT_MIRRORED
		: TARGET_TYPE_FOUND;
}

/*
 * An association type that no definition explains: learn this type's definitions anew, and
 * re-read the record's links, so that they are right even if the definition stays unknown.
 */
static void
relink(HubspotDecoder *d, Str id)
{
	const Schema *schema = d->view->schema;
	bool		any = false;
	Change	   *change;

	for (int i = 0; schema != NULL && i < schema->ncollections; i++)
	{
		const SchemaCollection *c = &schema->collections[i];
		Str			scope;

		if (c->kind != COLLECTION_LINKS || !c->enabled ||
			(!str_is(d->collection, c->from) && !str_is(d->collection, c->to)))
			continue;
		any = true;
		if (d->relinking)
			break;
		scope = arena_str(d->arena, c->collection, strlen(c->collection));
		if (scope.p == NULL || hubspot_change(d, CHANGE_REFRESH_SCHEMA, scope, STR_NULL) == NULL)
			d->nomem = true;
	}
	d->relinking = true;
	change = any ? hubspot_change(d, CHANGE_REREAD, d->collection, id) : NULL;
	if (change != NULL)
		change->with_links = true;
}

/* False: a type in it is unknown. */
static bool
inline_one(HubspotDecoder *d, uint32_t association, Str id)
{
	const JsonDoc *doc = &d->request;
	uint32_t	specs = json_get(doc, association, "types");
	Str			to_id = end_id(doc, association, "to");
	uint32_t	first = json_first(doc, specs);
	Str			to = STR_NULL;
	long		type_id;
	HubspotEnds		ends;

	if (first == JSON_NONE || to_id.p == NULL)
		return true;
	if (!hubspot_type_number(json_text_at(doc, first, "associationTypeId"), &type_id))
		return false;
	switch (inline_target(d, type_id, &to))
	{
		case TARGET_TYPE_UNKNOWN:
			return false;
		case TARGET_TYPE_NOT_MIRRORED:
			return true;
		case TARGET_TYPE_FOUND:
			break;
	}
	if (find_ends(d, d->collection, to, &ends))
		link_pair(d, &ends, id, to_id, hubspot_specs_labelled(doc, &ends, specs, false));
	return true;
}

void
hubspot_decode_inline(HubspotDecoder *d, uint32_t input, Str id)
{
	uint32_t	associations = json_get(&d->request, input, "associations");
	bool		known = true;

	if (json_type(&d->request, associations) != JSON_ARRAY)
		return;
	for (uint32_t it = json_first(&d->request, associations); it != JSON_NONE;
		 it = json_next(&d->request, associations, it))
		known &= inline_one(d, it, id);
	if (!known)
		relink(d, id);
}
