/*
 * hubspot.h - private to providers/hubspot*.c: what the pieces of the HubSpot provider share.
 *
 * Identities.  A record collection is HubSpot's object type id ("0-1", "2-123"); owners are the collection
 * "owners".  A link collection is "<from>:<to>", two type ids, where <from> is the type whose singular name
 * (company, contact, ...; a custom object's schema name in snake case) sorts first.  That order also names
 * the table (associations_company_contact, "0-2:0-1") and its columns.  It never depends on what the user calls
 * the mirror tables.
 *
 * A LINK, UNLINK or REREAD of a pair has the direction in which it was written; the mirror turns it round
 * where the link collection has it the other way.  A DELETE of a record implies that its links go too.
 */
#ifndef SEQUIN_HUBSPOT_H
#define SEQUIN_HUBSPOT_H

#include "../provider.h"

#define HUBSPOT_HOST "api.hubapi.com"
#define HUBSPOT_OWNERS "owners"
#define HUBSPOT_MERGED_IDS "hs_merged_object_ids"	/* of a survivor: the ids that went into it */

/* Route.op */
typedef enum HubspotOp
{
	HUBSPOT_OTHER,				/* forwarded, without an effect on the mirror */
	HUBSPOT_READ,
	HUBSPOT_CREATE,
	HUBSPOT_UPDATE,
	HUBSPOT_DELETE,
	HUBSPOT_BATCH_CREATE,
	HUBSPOT_BATCH_UPDATE,
	HUBSPOT_BATCH_UPSERT,
	HUBSPOT_BATCH_ARCHIVE,
	HUBSPOT_MERGE,
	HUBSPOT_GDPR_DELETE,
	HUBSPOT_RECORD_OTHER,		/* an unknown write on one record: it is re-read */
	HUBSPOT_LINK_PUT,			/* v4: body [{associationCategory, associationTypeId}] */
	HUBSPOT_LINK_PUT_DEFAULT,
	HUBSPOT_LINK_PUT_TYPE,		/* v3: the type is in the path */
	HUBSPOT_LINK_DELETE,		/* v4: the whole pair */
	HUBSPOT_LINK_DELETE_TYPE,	/* v3 */
	HUBSPOT_LINKS_CREATE,
	HUBSPOT_LINKS_DEFAULT,
	HUBSPOT_LINKS_ARCHIVE,
	HUBSPOT_LABELS_ARCHIVE,
	HUBSPOT_LABELS_WRITE,		/* definitions of labels */
	HUBSPOT_PROPERTIES_WRITE,
	HUBSPOT_SCHEMAS_WRITE
} HubspotOp;

/* Route.args, all percent-decoded; types as the caller spelled them, since a newer schema may know more */
enum
{
	ARG_TYPE,					/* object type; the from type of an association */
	ARG_ID,						/* record id; the from id */
	ARG_TO_TYPE,
	ARG_TO_ID,
	ARG_LINK_TYPE,				/* v3: association type, a name or a number */
	ARG_ID_PROPERTY				/* idProperty of the query; STR_NULL: ARG_ID is the record's own id */
};

/* ---- hubspot_types.c: names of object types, association types and link collections ---- */

typedef struct HubspotType
{
	const char *id;
	const char *plural;
	const char *singular;
} HubspotType;

/* One of HubSpot's own association types; a fall-back where the account's are unknown. */
typedef struct HubspotLinkType
{
	int			type_id;
	const char *from;
	const char *to;
	bool		labelled;
} HubspotLinkType;

extern const HubspotType *hubspot_types(int *count);
extern const HubspotType *hubspot_builtin(Str name);		/* by id, plural or singular, any case; NULL */
extern const HubspotLinkType *hubspot_builtin_link(long type_id);	/* NULL: not known */
extern bool hubspot_is_type_id(Str s);						/* "2-123" */
extern bool hubspot_discovered(const SyncView *view);
/* Canonical collection for any spelling that paths allow; NULL: no such type is known. */
extern const char *hubspot_collection(const Schema *schema, Str name);
extern const char *hubspot_path_name(const char *collection);	/* what to put into our own URLs */
extern Str	hubspot_singular(Arena *arena, const char *collection, const char *name);	/* STR_NULL: no memory */

typedef enum HubspotInterest
{
	INTEREST_NONE,				/* not mirrored, or disabled */
	INTEREST_MISSING,			/* a pair of mirrored types without a link collection: it must be discovered */
	INTEREST_MIRRORED
} HubspotInterest;

/* What the mirror has for records of this type, and for links between these two.  Undiscovered: MIRRORED. */
extern HubspotInterest hubspot_record_interest(const SyncView *view, Str collection);
extern HubspotInterest hubspot_link_interest(const SyncView *view, Str from, Str to);
/* "0-2:0-1"; STR_NULL: no memory. */
extern Str	hubspot_link_collection(const SyncView *view, Arena *arena, Str a, Str b);

/* ---- hubspot_paths.c ---- */

extern void hubspot_route(const SyncView *view, const RequestView *request, Arena *arena, Route *route);

/* ---- hubspot_objects.c: JSON objects -> changes, for responses and re-reads ---- */

/* The decoding of one exchange. */
typedef struct HubspotDecoder
{
	const SyncView *view;
	const Route *route;
	Arena	   *arena;
	ChangeList *changes;
	Str			location;		/* the answer's Location header */
	Str			collection;		/* of ARG_TYPE; STR_NULL: unknown */
	JsonDoc		request;		/* count 0: there is no JSON in it */
	JsonDoc		response;
	bool		refreshing;		/* REFRESH_SCHEMA of `collection` is in the list already */
	bool		relinking;		/* REFRESH_SCHEMA of its link collections too */
	bool		unreadable;
	bool		nomem;
} HubspotDecoder;

extern Str	hubspot_id(const JsonDoc *doc, uint32_t node);		/* a string or number that can be an id; else STR_NULL */
extern Str	hubspot_id_at(const JsonDoc *doc, uint32_t object, const char *key);
extern int64_t hubspot_time_at(const JsonDoc *doc, uint32_t object, const char *key);	/* or TIME_NONE */
/* Adds `properties` of doc to change; *unknown becomes true when the schema lacks one.  False: no memory. */
extern bool hubspot_add_properties(Change *change, Arena *arena, const SchemaCollection *c, const JsonDoc *doc,
								   uint32_t properties, bool *unknown);
extern Change *hubspot_change(HubspotDecoder *d, ChangeOp op, Str collection, Str id);	/* NULL: nomem is set */
extern void hubspot_refresh(HubspotDecoder *d);		/* REFRESH_SCHEMA of d->collection, once */
extern void hubspot_decode_objects(HubspotDecoder *d);

/* ---- hubspot_batch.c: which input of a batch a result belongs to ---- */

typedef struct HubspotMatch
{
	uint32_t	result;			/* node in the response */
	uint32_t	input;			/* node in the request, or JSON_NONE */
	Str			id;				/* the result's; STR_NULL: it has none */
	bool		twice;			/* another result has that id, too */
} HubspotMatch;

/* One entry per result, in the response's order; -1: no memory. */
extern int	hubspot_match(HubspotDecoder *d, uint32_t results, uint32_t inputs, HubspotMatch **matches);

/* ---- hubspot_labels.c ---- */

typedef enum HubspotLabelled
{
	LABELLED_NO,
	LABELLED_YES,
	LABELLED_UNKNOWN
} HubspotLabelled;

/* A pair of types as this exchange writes it. */
typedef struct HubspotEnds
{
	Str			from;
	Str			to;
	const SchemaCollection *link;	/* NULL: undiscovered */
} HubspotEnds;

/* The pair's definition of that id in the direction from `from` (STR_NULL: either); NULL: none. */
extern const LinkType *hubspot_link_type(const SchemaCollection *link, long type_id, Str from);
extern bool hubspot_type_number(Str s, long *value);	/* "279" */
extern HubspotLabelled hubspot_type_labelled(const HubspotEnds *ends, long type_id);
extern HubspotLabelled hubspot_named_labelled(const HubspotEnds *ends, Str type);
extern HubspotLabelled hubspot_more_labelled(HubspotLabelled a, HubspotLabelled b);
extern HubspotLabelled hubspot_specs_labelled(const JsonDoc *doc, const HubspotEnds *ends, uint32_t specs, bool answered);

/* ---- hubspot_associations.c ---- */

extern void hubspot_decode_links(HubspotDecoder *d);
/* Inline associations of a create: input's `associations`, for the record that was made. */
extern void hubspot_decode_inline(HubspotDecoder *d, uint32_t input, Str id);

/* ---- hubspot_decode.c ---- */

extern DecodeResult hubspot_decode(const SyncView *view, const Route *route, const RequestView *request,
								   const ResponseView *response, Arena *arena, ChangeList *changes);

/* ---- hubspot_schema.c, hubspot_pairs.c: discovery ---- */

typedef enum HubspotStep
{
	STEP_SCHEMAS,
	STEP_PROPERTIES,
	STEP_OWNERS,
	STEP_LABELS,
	STEP_RECORDS,				/* re-read */
	STEP_PAIRS,
	STEP_LINKS,
	STEP_PAGE,					/* a page of records */
	STEP_PAGE_LINKS,
	STEP_PAGE_LINKS_BACK		/* ... seen from the other side */
} HubspotStep;

typedef struct HubspotFound		/* an object type under discovery */
{
	const char *collection;
	const char *name;
	const char *table;
	const char **aliases;
	int			naliases;
	bool		readable;
	SchemaField *fields;
	int			nfields;
} HubspotFound;

typedef struct HubspotPair		/* two types whose labels are asked for */
{
	HubspotFound *from;
	HubspotFound *to;
	bool		exists;
	LinkType   *link_types;
	int			nlink_types;
	int			cap;
} HubspotPair;

typedef struct HubspotDiscovery
{
	HubspotFound *found;
	int			nfound;
	int			cap;
	HubspotPair *pairs;
	int			npairs;
	int			waiting;		/* answers still to come before the next stage */
	bool		links_noted;
} HubspotDiscovery;

extern void hubspot_discover(Conversation *conv);
extern void hubspot_discover_feed(Conversation *conv, const Call *call, int status, Str body);
extern void hubspot_pairs_start(Conversation *conv, HubspotDiscovery *dis);
extern bool hubspot_pair_ask(Conversation *conv, HubspotDiscovery *dis, HubspotPair *pair);
extern void hubspot_pairs_feed(Conversation *conv, const Call *call, int status, Str body);
extern bool hubspot_pair_collection(Conversation *conv, const HubspotPair *pair, SchemaCollection *c);
extern void hubspot_discovered_all(Conversation *conv, HubspotDiscovery *dis);

/* ---- hubspot_answers.c: answers to our own calls ---- */

/* What an error's body says, for people: "MISSING_SCOPES: This app ..."; at most 200 bytes, no secrets; "" where nothing. */
extern const char *hubspot_words(Arena *arena, Str body);
/* Fails the conversation for what no step has a meaning for (401, 429, 5xx, no answer, ...). */
extern void hubspot_fail_status(Conversation *conv, const char *what, int status, Str body);
/* Copies and parses an answer; false: the conversation has failed. */
extern bool hubspot_answer(Conversation *conv, const char *what, Str body, JsonDoc *doc);
/* The array `results` of an answer; JSON_NONE (and failed): it has none. */
extern uint32_t hubspot_results(Conversation *conv, const char *what, const JsonDoc *doc);
/* *after: the token of the page after this, STR_NULL where this is the last; false (and failed): it cannot be told. */
extern bool hubspot_next_page(Conversation *conv, const JsonDoc *doc, uint32_t object, Str *after);
/* False (and failed): an answer with errors of another kind than "not found". */
extern bool hubspot_errors_harmless(Conversation *conv, const JsonDoc *doc);

/* ---- hubspot_link_lists.c: the lists of associations that v4 batch/read gives ---- */

typedef struct HubspotLabels	/* also a set of ids */
{
	Str		   *items;
	int			n;
	int			cap;
} HubspotLabels;

extern bool hubspot_labels_append(Conversation *conv, HubspotLabels *set, Str item);
extern bool hubspot_labels_add(Conversation *conv, HubspotLabels *set, Str item);	/* once */
extern bool hubspot_entry_labels(Conversation *conv, HubspotLabels *set, const JsonDoc *doc, uint32_t entry);
extern bool hubspot_has_label(const SchemaCollection *link, Str from, Str label);
extern bool hubspot_labels_agree(const SchemaCollection *link);
extern void hubspot_links_input(Buf *buf, Str id, Str after);
extern bool hubspot_links_ask(Conversation *conv, Str from, Str to, Buf *buf, int step, void *state);
extern Str	hubspot_links_from(const JsonDoc *doc, uint32_t result);
extern Str	hubspot_links_next(const JsonDoc *doc, uint32_t result);
/* A 404 that speaks of objects; any other says only that the endpoint is not there, which tells nothing of links. */
extern bool hubspot_names_missing(Conversation *conv, int status, Str body);
extern bool hubspot_links_answer(Conversation *conv, const char *what, int status, Str body, JsonDoc *doc);

/* ---- hubspot_pages.c, hubspot_page_records.c, hubspot_page_links.c: collections page by page ---- */

/* What a page's records are read for: every field that the mirror has a living column for. */
static inline bool
hubspot_asked(const SchemaField *field)
{
	return field->enabled && !field->removed;
}

typedef struct HubspotShown		/* the records of a page, each once, in its order; archived ones too */
{
	Str		   *ids;
	int			n;
} HubspotShown;

extern void hubspot_reading(const SyncView *view, const SchemaCollection *c, Reading *reading);
extern void hubspot_page(Conversation *conv);
extern void hubspot_page_feed(Conversation *conv, const Call *call, int status, Str body);
extern bool hubspot_is_number(Str id);
extern int	hubspot_compare_numbers(Str a, Str b);	/* of any length */
/* whole: the page shows every asked field, so there are changes to make of it. */
extern bool hubspot_page_records(Conversation *conv, const SchemaCollection *c, const JsonDoc *doc, uint32_t results,
								 bool whole, HubspotShown *shown);
extern void hubspot_page_links(Conversation *conv, const SchemaCollection *link);
extern void hubspot_page_links_feed(Conversation *conv, const Call *call, int status, Str body);

/* ---- hubspot_reread.c (records), hubspot_relink.c (pairs and links) ---- */

extern void hubspot_reread(Conversation *conv, const Change *targets, int ntargets);
extern void hubspot_reread_feed(Conversation *conv, const Call *call, int status, Str body);
extern bool hubspot_pairs_reread(Conversation *conv, const Change *targets, int n);	/* all of the same two types */
extern bool hubspot_links_reread(Conversation *conv, Str collection, const Str *ids, int nids);
extern void hubspot_relink_feed(Conversation *conv, const Call *call, int status, Str body);
/* ---- hubspot_limits.c ---- */

extern void hubspot_limits(int status, HeaderFinder find, void *cls, Str body, LimitHint *hint);

#endif
