/*
 * change.h - the Change: what providers produce and the mirror consumes.
 *
 * Pure data in the exchange's arena.  A Change names records by the API's stable identities
 * (schema.h) and never holds PostgreSQL objects.
 */
#ifndef SEQUIN_CHANGE_H
#define SEQUIN_CHANGE_H

#include "json.h"
#include "schema.h"

#define TIME_NONE INT64_MIN

typedef enum ChangeOp
{
	CHANGE_UPSERT,				/* whole row: fields that are absent become NULL (Airtable checkbox: false) */
	CHANGE_PATCH,				/* partial row: absent columns stay; inserts the row if it is not there */
	CHANGE_DELETE,
	CHANGE_LINK,				/* add a pair; labels are added to those it has, unless labels_replace */
	CHANGE_UNLINK,				/* labels given: remove these; none: remove the pair */
	CHANGE_REREAD,				/* ask the API for this record (or pair) and apply its answer */
	CHANGE_REFRESH_SCHEMA		/* ask the API for this collection's fields (collection NULL: everything) */
} ChangeOp;

extern const char *change_op_name(ChangeOp op);		/* "upsert", "refresh_schema" ... */

/*
 * A field's value.  JSON_STRING: text is the string's content; JSON_NUMBER: its literal;
 * JSON_ARRAY/JSON_OBJECT: raw JSON; JSON_NULL/TRUE/FALSE: text unused.
 */
typedef struct FieldValue
{
	Str			field;			/* stable identity when known, else the name as the API gave it */
	bool		known;			/* the snapshot has this field (whether or not it is enabled) */
	JsonType	type;
	Str			text;
} FieldValue;

typedef struct Change
{
	ChangeOp	op;
	Str			collection;		/* stable identity; STR_NULL: any collection of the sync (Airtable base-wide ids) */
	Str			id;				/* record id; STR_NULL with REFRESH_SCHEMA, links and delete-by-field */

	/*
	 * Airtable single-record calls: the record may live in another table than the path said.  The
	 * mirror looks the id up in `collection` first, then in all others; where it is found
	 * elsewhere (or nowhere, with an unknown field), the record is re-read instead.
	 */
	bool		base_wide;

	/* UPSERT, PATCH */
	FieldValue *fields;
	int			nfields;
	int64_t		created_at_us;	/* µs since the Unix epoch; TIME_NONE: not told */
	int64_t		updated_at_us;	/* the provider's version of the record; TIME_NONE: it has none */

	/* DELETE by a field's value instead of by id (HubSpot gdpr-delete with idProperty) */
	Str			match_field;
	Str			match_value;	/* compared without regard to ASCII case when match_field is "email" */

	/* LINK, UNLINK, REREAD of a pair.  collection/id is one end (in the direction written), these the other */
	Str			to_collection;
	Str			to_id;
	Str		   *labels;
	int			nlabels;
	bool		labels_replace;	/* LINK: the pair has exactly these labels now */

	/*
	 * REREAD of a record: also re-read all its links (merges).  As a result of such a re-read:
	 * links_complete on a LINK/UNLINK list is expressed by unlink_rest below.
	 */
	bool		with_links;

	/*
	 * UNLINK with to_id STR_NULL: remove the links of collection/id in the table shared with
	 * to_collection, but those to keep_ids (what a complete re-read of one side found).
	 */
	Str		   *keep_ids;
	int			nkeep_ids;
} Change;

typedef struct ChangeList
{
	Change	   *items;
	int			count;
	int			cap;
} ChangeList;

/* Appends a zeroed change (times TIME_NONE) and returns it; NULL when memory is out. */
extern Change *change_add(ChangeList *list, Arena *arena, ChangeOp op, Str collection, Str id);
extern FieldValue *change_add_field(Change *change, Arena *arena, Str field);

#endif
