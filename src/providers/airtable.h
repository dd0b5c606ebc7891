/*
 * airtable.h - what the files of the Airtable provider share.  Private to src/providers/airtable*.c.
 *
 * Pure C, no I/O, no global state.  Everything made lives in the arena of the caller, except that
 * Changes point into the schema's names and into the response's bytes (in a conversation: into a
 * copy of them), which outlive the changes.
 *
 *   airtable.c         the Provider; limits; the API's error bodies
 *   airtable_paths.c   (method, host, path) -> Route
 *   airtable_decode.c  (request, 2xx response) -> changes
 *   airtable_record.c  one record's JSON -> one Change
 *   airtable_schema.c  discovery, field types, which tables are chosen
 *   airtable_reread.c  asking for records again
 *   airtable_pages.c   a table page by page
 *   airtable_feed.c    a webhook as a change feed
 */
#ifndef SEQUIN_AIRTABLE_H
#define SEQUIN_AIRTABLE_H

#include "../provider.h"

#define AIRTABLE_API_HOST "api.airtable.com"
#define AIRTABLE_CONTENT_HOST "content.airtable.com"
#define AIRTABLE_BUCKET "default"

/* Route.op */
typedef enum AirtableOp
{
	AIRTABLE_PASS,				/* reads, comments, webhooks, what does not touch records or fields */
	AIRTABLE_CREATE,			/* POST table */
	AIRTABLE_UPDATE_ONE,		/* PATCH, PUT record */
	AIRTABLE_UPDATE_MANY,		/* PATCH, PUT table, upserts included */
	AIRTABLE_DELETE_ONE,
	AIRTABLE_DELETE_MANY,
	AIRTABLE_UPLOAD,			/* uploadAttachment */
	AIRTABLE_OTHER_WRITE,		/* a method that a record or table path is not known to take */
	AIRTABLE_META_WRITE			/* tables and fields of the base */
} AirtableOp;

/* Route.args, percent-decoded */
enum
{
	AIRTABLE_ARG_TABLE,			/* id or name, as the caller gave it */
	AIRTABLE_ARG_RECORD,
	AIRTABLE_ARG_FIELD
};

/* Call.step */
enum
{
	AIRTABLE_STEP_TABLES,		/* discovery */
	AIRTABLE_STEP_LIST,			/* re-read; Call.state is its batch */
	AIRTABLE_STEP_PAGE,			/* a page of a table */
	AIRTABLE_STEP_HOOKS,		/* the feed: which webhooks there are, */
	AIRTABLE_STEP_HOOK_MAKE,	/* a new one, */
	AIRTABLE_STEP_PAYLOADS		/* and what it has to tell */
};

/* The prefix and at least one letter or digit, nothing else: safe in a URL and in a formula. */
extern bool airtable_is_id(Str s, const char *prefix);
/* The type in an error body (any of its three shapes), or "" ; only [A-Za-z0-9_], so that it may be shown. */
extern const char *airtable_error_type(Arena *arena, Str body);
/* Ends a conversation because of this answer; what: "reading the schema". */
extern void airtable_answer_fail(Conversation *conv, const char *what, int status, Str body);

/* The table that a path segment names, by id or else by exact name; NULL when the API may mean one we do not know. */
extern SchemaCollection *airtable_table(const Schema *schema, Str segment);
/* Could this table, which airtable_table did not find, be one that the user chose? */
extern bool airtable_table_may_be_chosen(const SyncView *view, Str segment);

typedef enum RecordResult
{
	RECORD_OK,
	RECORD_MALFORMED,
	RECORD_NOMEM
} RecordResult;

/* Turns records of one table into Changes. */
typedef struct RecordReader
{
	Arena	   *arena;
	ChangeList *changes;
	ChangeOp	op;				/* CHANGE_UPSERT, or CHANGE_PATCH for a part of a record */
	const Schema *schema;		/* used where table is NULL: fields by id in any table */
	const SchemaCollection *table;	/* NULL: unknown, or any */
	Str			collection;
	bool		base_wide;
	bool		by_id;			/* keys are field ids (else names, or ids where no name fits) */
	bool		unknown_field;	/* result: a key that the schema does not have was seen */
	int			hint;			/* index of the field after the last one found */
} RecordReader;

extern RecordResult airtable_record_read(RecordReader *reader, const JsonDoc *doc, uint32_t record);

extern void airtable_route(const SyncView *view, const RequestView *request, Arena *arena, Route *route);
extern DecodeResult airtable_decode(const SyncView *view, const Route *route, const RequestView *request,
									const ResponseView *response, Arena *arena, ChangeList *changes);
extern void airtable_discover(Conversation *conv);
extern void airtable_schema_feed(Conversation *conv, int status, Str body);
extern void airtable_reread(Conversation *conv, const Change *targets, int ntargets);
extern void airtable_reading(const SyncView *view, const SchemaCollection *c, Reading *reading);
extern void airtable_page(Conversation *conv);
extern void airtable_page_feed(Conversation *conv, const Call *call, int status, Str body);
extern void airtable_feed_ask(Conversation *conv);
extern void airtable_feed_answer(Conversation *conv, const Call *call, int status, Str body);
extern void airtable_reread_feed(Conversation *conv, const Call *call, int status, Str body);

#endif
