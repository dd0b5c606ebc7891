/*
 * hubspot_labels.c - is an association type a labelled one?
 *
 * Owns the judgement about type ids and v3 names, from the account's own definitions, or where it
 * listed none for the pair, from HubSpot's published ones.  Called by hubspot_associations.c only.  Pure.
 */
#include "hubspot.h"

const LinkType *
hubspot_link_type(const SchemaCollection *link, long type_id, Str from)
{
	for (int i = 0; link != NULL && i < link->nlink_types; i++)
		if (link->link_types[i].type_id == type_id && (from.p == NULL || str_is(from, link->link_types[i].from)))
			return &link->link_types[i];
	return NULL;
}

HubspotLabelled
hubspot_type_labelled(const HubspotEnds *ends, long type_id)
{
	const LinkType *type = hubspot_link_type(ends->link, type_id, ends->from);
	const HubspotLinkType *builtin;

	if (type != NULL)
		return type->label != NULL ? LABELLED_YES : LABELLED_NO;
	if (ends->link != NULL && ends->link->nlink_types > 0)
		return LABELLED_UNKNOWN;
	builtin = hubspot_builtin_link(type_id);
	if (builtin == NULL || !str_is(ends->from, builtin->from) || !str_is(ends->to, builtin->to))
		return LABELLED_UNKNOWN;
	return builtin->labelled ? LABELLED_YES : LABELLED_NO;
}

bool
hubspot_type_number(Str s, long *value)
{
	*value = 0;
	if (s.n == 0 || s.n > 9)
		return false;
	for (size_t i = 0; i < s.n; i++)
	{
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
		*value = *value * 10 + (s.p[i] - '0');
	}
	return true;
}

static bool
ends_with(Str s, const char *suffix)
{
	size_t		n = strlen(suffix);

	return s.n >= n && memcmp(s.p + s.n - n, suffix, n) == 0;
}

/*
 * v3 names types by a number or by a name.  "contact_to_company" is the labelled one (primary)
 * where the pair has labels of HubSpot's own, then "contact_to_company_unlabeled" is the plain one.
 */
HubspotLabelled
hubspot_named_labelled(const HubspotEnds *ends, Str type)
{
	long		type_id;

	if (hubspot_type_number(type, &type_id))
		return hubspot_type_labelled(ends, type_id);
	if (ends_with(type, "_unlabeled"))
		return LABELLED_NO;
	for (int i = 0; ends->link != NULL && i < ends->link->nlink_types; i++)
		if (ends->link->link_types[i].label != NULL && str_is(ends->from, ends->link->link_types[i].from))
			return LABELLED_UNKNOWN;
	return LABELLED_NO;
}

HubspotLabelled
hubspot_more_labelled(HubspotLabelled a, HubspotLabelled b)
{
	if (a == LABELLED_YES || b == LABELLED_YES)
		return LABELLED_YES;
	return a == LABELLED_UNKNOWN ? a : b;
}

/*
 * Of a list of {associationCategory, associationTypeId}.  answered: the response tells its labels, which
 * decides where a type of HubSpot's own is unknown.
 */
HubspotLabelled
hubspot_specs_labelled(const JsonDoc *doc, const HubspotEnds *ends, uint32_t specs, bool answered)
{
	HubspotLabelled	all = LABELLED_NO;

	for (uint32_t it = json_first(doc, specs); it != JSON_NONE; it = json_next(doc, specs, it))
	{
		long		type_id;
		HubspotLabelled	one = LABELLED_UNKNOWN;

		if (hubspot_type_number(json_text_at(doc, it, "associationTypeId"), &type_id))
			one = hubspot_type_labelled(ends, type_id);
		if (one == LABELLED_UNKNOWN && answered && str_is(json_text_at(doc, it, "associationCategory"), "HUBSPOT_DEFINED"))
			one = LABELLED_NO;
		all = hubspot_more_labelled(all, one);
	}
	return all;
}
