/*
 * mirror.h - Changes -> SQL, and schema evolution.
 *
 * Called inside a transaction (txn.h) only; an ERROR rolls the whole transaction back.  Mirror
 * tables are written as the role that owns the sync, in a security-restricted context, with
 * deferrable constraints immediate; sequin's own tables as the worker.  Never does I/O.
 */
#ifndef SEQUIN_MIRROR_H
#define SEQUIN_MIRROR_H

#include "postgres.h"

#include "catalog.h"

typedef enum MirrorVerdict
{
	MIRROR_APPLIED,				/* every change is in, or had nothing to change */
	MIRROR_REREAD,				/* some records must be re-read first: they are in `rereads`; the rest is in */
	MIRROR_REFRESH				/* a table or column is not there (any more): refresh the schema of `refresh` first; nothing of this item is in */
} MirrorVerdict;

/* The changes of one exchange (or errand, or page). */
typedef struct MirrorItem
{
	CatalogSync *sync;
	Change	   *changes;		/* UPSERT, PATCH, DELETE, LINK, UNLINK; others are ignored */
	int			nchanges;
	TimestampTz asked_at;		/* before the request was sent: a page or response cannot be older than this */
	bool		page;			/* the sync's own reading: rows and links whose values are the same already are left
								 * untouched (not even stamped: no dead tuples) and count as not written */
	bool		answer;			/* what a caller's request was answered, not what was asked for to check it: see mirror_reread_strangers */
	/* results, reset by mirror_apply: */
	uint8_t    *written;		/* per change, in arena: 1 = it inserted, changed or deleted something */
	int			nwritten;
	MirrorVerdict verdict;
	bool		touched;		/* at least one change addressed an enabled mirror table */
	ChangeList	rereads;		/* CHANGE_REREADs, in arena */
	const char *refresh;		/* collection, or NULL: everything */
	Arena	   *arena;
} MirrorItem;

/*
 * Applies all items in this transaction.  Within it the last change per id wins, ids are written
 * in sorted order.  A row that is newer in the mirror (updated_at) than a PATCH or UPSERT is not
 * overwritten but asked for again (MIRROR_REREAD).  An id that is deleted since asked_at (tombstone) is likewise.
 */
extern void mirror_apply(MirrorItem **items, int nitems);

/*
 * Makes the mirror follow a discovered schema: creates tables and columns (as the sync's owner),
 * renames unlocked ones, marks removed ones, rewrites sequin.mirror_table and mirror_column, and
 * bumps the generation if anything changed.  scope as in Conversation: NULL = everything, else that collection only.
 * notes: palloc'd text of what could not be done ("table x exists already"), or NULL.
 */
extern void mirror_evolve(CatalogSync *sync, const Schema *found, const char *scope, char **notes);

extern Datum mirror_texts(const Str *items, int n);		/* text[], in the current memory context */
extern void mirror_forget(Catalog *catalog);	/* frees cached plans of a snapshot that goes away */

#endif
