/*
 * hubspot_page_records.c - the records of one page: which they are, and the changes that they make.
 *
 * Owns the reading of list and search results.  An UPSERT clears what the page asked for and a
 * record does not have; but a field that no record of the page has at all is one that the API does not know any
 * more (it shows unset ones as null), and its column keeps its values: then the changes are PATCHes.
 * Merged-away ids become DELETEs.  Called by hubspot_pages.c only.  Pure.
 */
#include "hubspot.h"

#include <stdlib.h>

typedef struct PageRecord
{
	Str			id;
	uint32_t	node;
	int			at;				/* in the page */
} PageRecord;

typedef struct FieldName
{
	Str			name;
	int			field;			/* index in the collection; -1: not in the schema */
} FieldName;

typedef struct Page
{
	Conversation *conv;
	const SchemaCollection *c;
	const JsonDoc *doc;
	bool		owners;
	PageRecord *records;		/* each id once */
	int			n;
	FieldName  *sorted;			/* the schema's fields by name; made when first needed */
	FieldName  *last;			/* what the record before had, in its order: the next has the same, as a rule */
	int			nlast;
	int			caplast;
	bool	   *seen;			/* by index of the field: some record has it */
	Str			collection;
} Page;

static bool
out_of_memory(Conversation *conv)
{
	conversation_fail(conv, true, "out of memory");
	return false;
}

/* ---- ids ---- */

bool
hubspot_is_number(Str id)
{
	for (size_t i = 0; i < id.n; i++)
		if (id.p[i] < '0' || id.p[i] > '9')
			return false;
	return id.n > 0;
}

static Str
without_zeros(Str id)
{
	while (id.n > 1 && id.p[0] == '0')
		id = (Str) {id.p + 1, id.n - 1};
	return id;
}

int
hubspot_compare_numbers(Str a, Str b)
{
	a = without_zeros(a);
	b = without_zeros(b);
	if (a.n != b.n)
		return a.n < b.n ? -1 : 1;
	return memcmp(a.p, b.p, a.n);
}

static int
compare_records(const void *a, const void *b)
{
	const PageRecord *x = *(const PageRecord *const *) a;
	const PageRecord *y = *(const PageRecord *const *) b;
	int			c = str_cmp(x->id, y->id);

	return c != 0 ? c : (x->at > y->at) - (x->at < y->at);
}

static bool
in_order(const Page *page, int sign)
{
	for (int i = 1; i < page->n; i++)
		if (!hubspot_is_number(page->records[i].id) || !hubspot_is_number(page->records[i - 1].id) ||
			hubspot_compare_numbers(page->records[i].id, page->records[i - 1].id) * sign <= 0)
			return false;
	return true;
}

/* Of a record that is there twice the last counts. */
static bool
drop_repeated(Page *page)
{
	PageRecord **sorted;
	int			kept = 0;

	if (in_order(page, 1) || in_order(page, -1))
		return true;			/* then none is */
	sorted = arena_alloc(page->conv->arena, sizeof(*sorted) * (size_t) page->n);
	if (sorted == NULL)
		return out_of_memory(page->conv);
	for (int i = 0; i < page->n; i++)
		sorted[i] = &page->records[i];
	qsort(sorted, (size_t) page->n, sizeof(*sorted), compare_records);
	for (int i = 0; i + 1 < page->n; i++)
		if (str_eq(sorted[i]->id, sorted[i + 1]->id))
			sorted[i]->node = JSON_NONE;
	for (int i = 0; i < page->n; i++)
		if (page->records[i].node != JSON_NONE)
			page->records[kept++] = page->records[i];
	page->n = kept;
	return true;
}

static bool
take_ids(Page *page, uint32_t results)
{
	const JsonDoc *doc = page->doc;

	page->records = arena_alloc(page->conv->arena, sizeof(PageRecord) * ((size_t) doc->nodes[results].count + 1));
	if (page->records == NULL)
		return out_of_memory(page->conv);
	for (uint32_t it = json_first(doc, results); it != JSON_NONE; it = json_next(doc, results, it))
	{
		Str			id = hubspot_id_at(doc, it, "id");

		if (id.p == NULL)
		{
			conversation_fail(page->conv, true, "HubSpot's answer has a record without an id (%s)", page->c->collection);
			return false;
		}
		page->records[page->n] = (PageRecord) {id, it, page->n};
		page->n++;
	}
	return drop_repeated(page);
}

/* ---- fields ---- */

static int
compare_names(const void *a, const void *b)
{
	return str_cmp(((const FieldName *) a)->name, ((const FieldName *) b)->name);
}

static bool
sort_fields(Page *page)
{
	page->sorted = arena_alloc(page->conv->arena, sizeof(FieldName) * (size_t) (page->c->nfields + 1));
	if (page->sorted == NULL)
		return out_of_memory(page->conv);
	for (int i = 0; i < page->c->nfields; i++)
		page->sorted[i] = (FieldName) {str_of(page->c->fields[i].field), i};
	qsort(page->sorted, (size_t) page->c->nfields, sizeof(FieldName), compare_names);
	return true;
}

static int
search_field(const Page *page, Str name)
{
	FieldName	key = {name, -1};
	const FieldName *found = bsearch(&key, page->sorted, (size_t) page->c->nfields, sizeof(FieldName), compare_names);

	return found != NULL ? found->field : -1;
}

/* The field of that name, which is the record's at'th. */
static int
find_field(Page *page, int at, Str name)
{
	if (at < page->nlast && str_eq(page->last[at].name, name))
		return page->last[at].field;
	if (at >= page->caplast)
		return search_field(page, name);
	page->last[at] = (FieldName) {name, search_field(page, name)};
	if (at == page->nlast)
		page->nlast++;
	return page->last[at].field;
}

/* Room as change_add_field makes it, which goes by powers of two. */
static bool
reserve_fields(Page *page, Change *change, size_t n)
{
	size_t		cap = 1;

	while (cap < n)
		cap *= 2;
	change->fields = arena_alloc(page->conv->arena, sizeof(FieldValue) * cap);
	return change->fields != NULL || out_of_memory(page->conv);
}

static FieldValue
value_of(const JsonDoc *doc, uint32_t node, Str name, bool known)
{
	const JsonNode *json = &doc->nodes[node];
	bool		raw = json->type == JSON_ARRAY || json->type == JSON_OBJECT;
	bool		text = json->type == JSON_STRING || json->type == JSON_NUMBER;

	return (FieldValue) {.field = name, .known = known, .type = json->type, .text = raw ? json->raw : text ? json->text : STR_NULL};
}

/* Members that are no columns: what every record has beside its properties, and what only we asked for. */
static bool
is_aside(const Page *page, Str name, int field)
{
	return name.n == 0 || memchr(name.p, '\0', name.n) != NULL ||
		(field < 0 && (page->owners || str_is(name, HUBSPOT_MERGED_IDS)));
}

static bool
add_fields(Page *page, Change *change, uint32_t object)
{
	const JsonDoc *doc = page->doc;
	int			at = 0;

	if (!reserve_fields(page, change, doc->nodes[object].count))
		return false;
	for (uint32_t it = json_first(doc, object); it != JSON_NONE; it = json_next(doc, object, it))
	{
		Str			name = json_key(doc, it);
		int			field = find_field(page, at++, name);

		if (is_aside(page, name, field))
			continue;
		if (field >= 0)
			page->seen[field] = true;
		change->fields[change->nfields++] = value_of(doc, it, name, field >= 0);
	}
	return true;
}

static bool
add_change(Page *page, const PageRecord *record, bool archived)
{
	const JsonDoc *doc = page->doc;
	uint32_t	object = page->owners ? record->node : json_get(doc, record->node, "properties");
	Change	   *change;

	if (!archived && json_type(doc, object) != JSON_OBJECT)
	{
		conversation_fail(page->conv, true, "HubSpot's answer has a record without properties (%s)", page->c->collection);
		return false;
	}
	change = change_add(&page->conv->changes, page->conv->arena, archived ? CHANGE_DELETE : CHANGE_UPSERT,
						page->collection, record->id);
	if (change == NULL)
		return out_of_memory(page->conv);
	if (archived)
		return true;
	change->created_at_us = hubspot_time_at(doc, record->node, "createdAt");
	change->updated_at_us = hubspot_time_at(doc, record->node, "updatedAt");
	return add_fields(page, change, object);
}

/* ---- fields that no record has ---- */

static bool
all_seen(const Page *page)
{
	for (int i = 0; i < page->c->nfields; i++)
		if (hubspot_asked(&page->c->fields[i]) && !page->seen[i])
			return false;
	return true;
}

/* The same change without its effect on columns that the page says nothing of. */
static bool
make_patch(Page *page, Change *change, bool *has)
{
	const SchemaCollection *c = page->c;
	FieldValue *fields = change->fields;
	int			n = change->nfields;

	memset(has, 0, (size_t) c->nfields);
	if (!reserve_fields(page, change, (size_t) (n + c->nfields)))
		return false;
	change->op = CHANGE_PATCH;
	for (int i = 0; i < n; i++)
	{
		int			field = search_field(page, fields[i].field);

		change->fields[i] = fields[i];
		if (field >= 0)
			has[field] = true;
	}
	for (int i = 0; i < c->nfields; i++)
		if (hubspot_asked(&c->fields[i]) && page->seen[i] && !has[i])
			change->fields[change->nfields++] = (FieldValue) {.field = str_of(c->fields[i].field), .known = true,
			.type = JSON_NULL};
	return true;
}

static bool
make_patches(Page *page)
{
	bool	   *has = arena_alloc(page->conv->arena, (size_t) page->c->nfields + 1);

	if (has == NULL)
		return out_of_memory(page->conv);
	for (int i = 0; i < page->conv->changes.count; i++)
		if (page->conv->changes.items[i].op == CHANGE_UPSERT &&
			!make_patch(page, &page->conv->changes.items[i], has))
			return false;
	return true;
}

/* ---- merged-away ids ---- */

/* Is it shown as a living record?  Only few records were ever merged. */
static bool
is_shown(const Page *page, Str id)
{
	for (int i = 0; i < page->n; i++)
		if (str_eq(page->records[i].id, id))
			return true;
	return false;
}

static bool
delete_merged(Page *page, const PageRecord *record)
{
	Str			rest = json_text(page->doc, json_get(page->doc, json_get(page->doc, record->node, "properties"), HUBSPOT_MERGED_IDS));

	while (rest.n > 0)
	{
		const char *end = memchr(rest.p, ';', rest.n);
		Str			id = {rest.p, end != NULL ? (size_t) (end - rest.p) : rest.n};

		rest = end != NULL ? (Str) {end + 1, rest.n - id.n - 1} : STR_NULL;
		if (hubspot_is_number(id) && !is_shown(page, id) &&
			change_add(&page->conv->changes, page->conv->arena, CHANGE_DELETE, page->collection, id) == NULL)
			return out_of_memory(page->conv);
	}
	return true;
}

/* ---- the page ---- */

static bool
prepare(Page *page)
{
	PageResult *result = &page->conv->result;
	size_t		n = (size_t) page->n + 1;

	result->ids = arena_alloc(page->conv->arena, sizeof(Str) * n);
	result->versions = arena_alloc(page->conv->arena, sizeof(int64_t) * n);
	page->seen = arena_zalloc(page->conv->arena, (size_t) page->c->nfields + 1);
	page->caplast = page->c->nfields + 16;
	page->last = arena_alloc(page->conv->arena, sizeof(FieldName) * (size_t) page->caplast);
	if (result->ids == NULL || result->versions == NULL || page->seen == NULL || page->last == NULL)
		return out_of_memory(page->conv);
	return sort_fields(page);
}

static bool
take_record(Page *page, const PageRecord *record, bool whole)
{
	PageResult *result = &page->conv->result;
	bool		archived = !page->owners && json_is_true(page->doc, json_get(page->doc, record->node, "archived"));

	if (whole && !add_change(page, record, archived))
		return false;
	if (archived)
		return true;			/* not asked for, and not alive */
	result->ids[result->nids] = record->id;
	result->versions[result->nids] = hubspot_time_at(page->doc, record->node, "updatedAt");
	result->nids++;
	return true;
}

static bool
take_changes(Page *page)
{
	if (page->owners)
		return true;			/* they leave out what they do not have, and are never merged */
	if (page->conv->result.nids > 0 && !all_seen(page) && !make_patches(page))
		return false;
	for (int i = 0; i < page->n; i++)
		if (!delete_merged(page, &page->records[i]))
			return false;
	return true;
}

bool
hubspot_page_records(Conversation *conv, const SchemaCollection *c, const JsonDoc *doc, uint32_t results, bool whole,
					 HubspotShown *shown)
{
	Page		page = {.conv = conv,.c = c,.doc = doc,.owners = strcmp(c->collection, HUBSPOT_OWNERS) == 0};

	page.collection = arena_str(conv->arena, c->collection, strlen(c->collection));
	if (page.collection.p == NULL)
		return out_of_memory(conv);
	if (!take_ids(&page, results) || !prepare(&page))
		return false;
	for (int i = 0; i < page.n; i++)
		if (!take_record(&page, &page.records[i], whole))
			return false;
	if (whole && !take_changes(&page))
		return false;
	shown->ids = arena_alloc(conv->arena, sizeof(Str) * ((size_t) page.n + 1));
	shown->n = page.n;
	for (int i = 0; shown->ids != NULL && i < page.n; i++)
		shown->ids[i] = page.records[i].id;
	return shown->ids != NULL || out_of_memory(conv);
}
