/*
 * provider.h - the provider interface.  Pure: no I/O, no SPI, no postgres.h, no global state.
 *
 * A provider knows one kind of API: which URLs are its own, which requests are writes, what an
 * accepted write changed, how to ask for a schema or a record again, and how the API speaks of
 * rate limits.  It is called by exchange, errand and sync only.  Everything it makes lives in
 * the arena it is given.  Adding an API is one file in src/providers and one row in provider_all.
 */
#ifndef SEQUIN_PROVIDER_H
#define SEQUIN_PROVIDER_H

#include "change.h"
#include "oauth.h"

/* What a provider may know of a sync: a part of the catalog's snapshot, immutable. */
typedef struct SyncView
{
	const char *name;
	const char *base_id;		/* config->>'base_id' (Airtable), NULL where none */
	const char **tables;		/* the `tables` the user chose, the API's own names; NULL: all */
	int			ntables;
	const Schema *schema;		/* as mirrored now; NULL before discovery */
} SyncView;

/* A request as far as providers care.  path and query are the raw bytes after the host. */
typedef struct RequestView
{
	Str			method;
	Str			host;			/* lower case, without port */
	Str			path;			/* starts with '/', no '?' */
	Str			query;			/* without '?'; STR_NULL when there was none */
	Str			body;			/* empty during route() */
} RequestView;

typedef struct ResponseView
{
	int			status;
	Str			body;
	bool		encoded;		/* it came with a Content-Encoding: the body cannot be read */
	Str			location;		/* its Location header; STR_NULL: none, or not known */
} ResponseView;

typedef enum RouteVerdict
{
	ROUTE_OK,
	ROUTE_BAD_HOST,				/* 404 bad_hostname */
	ROUTE_UNSUPPORTED,			/* 404 unsupported_path */
	ROUTE_NOMEM
} RouteVerdict;

typedef struct Route
{
	RouteVerdict verdict;
	const char *message;		/* for BAD_HOST and UNSUPPORTED: what is wrong, one sentence */
	const char *hint;			/* ... and what to do, one sentence; both without secrets */
	bool		read;			/* provably a read: what a read-only key may do */
	bool		mirrored;		/* may change mirrored data or the schema: journalled and decoded */
	const char *bucket;			/* rate-limit bucket: "default", "search" */
	const char *collection;		/* the collection it addresses, canonical identity, NULL: none or unknown */
	int			op;				/* the provider's own: which operation this is */
	Str			args[6];		/* the provider's own: path pieces, percent-decoded where it needs them */
} Route;

typedef enum DecodeResult
{
	DECODE_OK,
	DECODE_UNREADABLE,			/* 2xx, but the body is not what the API's format says; the list holds REREADs as far
								 * as ids are known from the request */
	DECODE_NOMEM
} DecodeResult;

/* One call that an errand makes to the API. */
typedef struct Call
{
	const char *host;			/* "api.hubapi.com" */
	const char *method;
	Str			target;			/* path and query, encoded */
	Str			body;			/* JSON, or STR_NULL */
	const char *bucket;
	bool		once;			/* it changes something at the API: never asked again when its connection broke */
	int			step;			/* the provider's own */
	void	   *state;			/* the provider's own */
} Call;

/* ---- reading a collection page by page: what the sync process does beside re-reads ---- */

typedef enum PageKind
{
	PAGE_LIST,					/* every record of the collection, by the API's own list */
	PAGE_DOWN,					/* every record, by another endpoint (and bucket), from the highest id down: it meets
								 * PAGE_LIST in the middle when that goes up */
	PAGE_CHANGES,				/* the records that were modified at or after since_us */
	PAGE_FIELD,					/* the records in which `field` has a value */
	PAGE_LINKS,					/* a link collection: all links of `ids`, which are records of its `from` or `to` side */
	PAGE_FEED					/* the sync's change feed: of all collections (collection NULL) */
} PageKind;

/* How a collection can be read; zero: not at all. */
typedef struct Reading
{
	bool		list;			/* PAGE_LIST */
	bool		list_whole;		/* ... shows every mirrored field; else ids and versions only (too many fields for a URL) */
	bool		down;			/* PAGE_DOWN, every field */
	bool		changes;		/* PAGE_CHANGES shows every change of a record (Airtable: false where computed fields are) */
	bool		field;			/* PAGE_FIELD */
	bool		feed;			/* PAGE_FEED can tell its changes and deletes, where the credential may use it */
	int			list_size;		/* records per page */
	int			link_ids;		/* PAGE_LINKS: most ids per request */
} Reading;

/* One page to be asked for.  Immutable; all memory is the caller's, valid while the conversation lives. */
typedef struct PageRequest
{
	PageKind	kind;
	const char *collection;		/* NULL with PAGE_FEED */
	Str			cursor;			/* PageResult.next of the page before; STR_NULL: from the start.  PAGE_FEED: the feed's
								 * state as it was left; STR_NULL: there is none yet, it must be set up */
	Str			until_id;		/* PAGE_LIST, PAGE_DOWN: the other reading has come so far; STR_NULL: there is no other */
	int64_t		since_us;		/* PAGE_CHANGES: µs since the Unix epoch, by the API's clock; PAGE_FEED: the present time */
	Str			field;			/* PAGE_FIELD: stable identity */
	Str		   *ids;			/* PAGE_LINKS */
	int			nids;
	bool		ids_are_to;		/* PAGE_LINKS: ids are of the `to` side of the link collection */
} PageRequest;

/*
 * What came of it; beside it the records are in Conversation.changes (PATCH or UPSERT as a re-read
 * makes them; DELETE where the page says so; LINK with labels_replace and the UNLINK that takes the rest
 * away; of a feed: DELETE, REREAD, REFRESH_SCHEMA).  A field that the schema does not have is
 * there with known = false.  A page that is not what the API's format says fails the
 * conversation: an error never looks like an empty page.
 */
typedef struct PageResult
{
	Str			next;			/* cursor of the following page (PAGE_FEED: the state to store); STR_NULL: this was the last */
	bool		more;			/* PAGE_FEED: there is more to be had at once */
	Str		   *ids;			/* every record that the page showed, in its order */
	int64_t    *versions;		/* of each: its updatedAt, µs since the Unix epoch; TIME_NONE */
	int			nids;
	bool		ordered;		/* PAGE_LIST, PAGE_DOWN: ids came in the order that until_id relies on, also after the cursor */
	bool		met;			/* ... and this page has reached until_id: nothing is left between the two (next is STR_NULL) */
	int64_t		total;			/* records that the API counts in all for this question; -1: not told */
	int64_t		newest_us;		/* PAGE_CHANGES: the highest modification time shown; TIME_NONE */
	bool		restart;		/* the cursor is not good any more (it expired): read from the start */
	bool		refused;		/* this way of reading is not to be had (no right, unknown endpoint): use another; refusal says why */
	const char *refusal;
	bool		gap;			/* PAGE_FEED: changes from before may have been missed: everything must be swept once */
} PageResult;

/*
 * A conversation: several calls whose answers lead to a schema or to changes.  The provider
 * queues calls with conversation_call; the runner (errand.c) takes them with conversation_take,
 * makes them in any order and in parallel, and feeds each answer back.  Done when nothing is
 * queued or in flight.
 */
typedef struct Conversation
{
	Arena	   *arena;
	const SyncView *view;
	bool		discovering;	/* else re-reading, or reading a page: */
	const PageRequest *page;	/* what page is asked for; NULL: none */
	PageResult	result;			/* ... and what came of it (total -1, times TIME_NONE at first) */
	const char *scope;			/* discovery of one collection only; NULL: everything */
	/* results: */
	Schema		schema;			/* of a discovery, complete when it succeeded */
	ChangeList	changes;		/* of a re-read: UPSERT, PATCH, DELETE, LINK, UNLINK */
	Str			notes;			/* what was skipped and why ("tickets: 403, the credential may not read it"); or STR_NULL */
	/* failure: */
	bool		failed;
	bool		retriable;		/* may go well later (5xx, 429, network) */
	const char *error;			/* for syncs.last_error: says what to fix; no secrets */
	/* the queue: */
	Call	   *calls;
	int			ncalls;
	int			taken;
	int			cap;
	int			in_flight;		/* kept by the runner */
	void	   *state;			/* the provider's own */
} Conversation;

extern bool conversation_call(Conversation *conv, Call call);		/* false: out of memory (and conv->failed) */
extern bool conversation_take(Conversation *conv, Call *call);
extern void conversation_fail(Conversation *conv, bool retriable, const char *fmt,...) __attribute__((format(printf, 3, 4)));
extern void conversation_note(Conversation *conv, const char *fmt,...) __attribute__((format(printf, 2, 3)));

/* What a response says about rate limits. */
typedef struct LimitHint
{
	int64_t		block_ms;		/* > 0: nothing more in this bucket for so long (429, 503 with Retry-After) */
	bool		has_remaining;	/* the API told what is left of a window: */
	int64_t		window_ms;
	int64_t		remaining;
} LimitHint;

/* Finds a response header by name, case-insensitive; STR_NULL where absent.  cls is the caller's. */
typedef Str (*HeaderFinder) (void *cls, const char *name);

typedef struct Provider
{
	const char *name;					/* "hubspot" */
	const char *default_rate_limit;		/* the published default: "100/10s, 250000/1d, search:5/1s" */
	const char *created_column;			/* "created_at", Airtable "created_time" */
	bool		has_updated_at;			/* mirror tables have updated_at */
	bool		absent_boolean_is_false;	/* UPSERT: an absent boolean field is false */
	const OauthEndpoint *oauth;			/* where access tokens are refreshed; NULL: it has no OAuth */

	/* Is this (method, host, path) ours, and what is it?  Judges before any rate-limit slot is taken. */
	void		(*route) (const SyncView *view, const RequestView *request, Arena *arena, Route *route);
	/* (request, 2xx response) -> changes.  Never called for non-2xx or for routes that are not mirrored. */
	DecodeResult (*decode) (const SyncView *view, const Route *route, const RequestView *request,
							const ResponseView *response, Arena *arena, ChangeList *changes);
	/* Queue the first calls of a discovery (conv->scope) or of a re-read of these CHANGE_REREADs. */
	void		(*discover) (Conversation *conv);
	void		(*reread) (Conversation *conv, const Change *targets, int ntargets);
	/* How a collection is read, as the mirror has it now (link collections too). */
	void		(*reading) (const SyncView *view, const SchemaCollection *c, Reading *reading);
	/* Queue the calls that bring conv->page. */
	void		(*page) (Conversation *conv);
	/* One answer.  status 0: no answer (network); body as the API sent it. */
	void		(*feed) (Conversation *conv, const Call *call, int status, Str body);
	/* Rate-limit news of any response, 2xx or not. */
	void		(*limits) (int status, HeaderFinder find, void *cls, Str body, LimitHint *hint);
} Provider;

extern const Provider provider_hubspot;
extern const Provider provider_airtable;
extern const Provider *provider_find(const char *name);		/* NULL: unknown */
extern const Provider *const provider_all[];				/* NULL-terminated */

#endif
