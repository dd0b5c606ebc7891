/*
 * journal.h - sequin.write_log: what was asked, what became of it.
 *
 * The *_rows functions run inside the caller's transaction (txn.h) and may ereport.
 */
#ifndef SEQUIN_JOURNAL_H
#define SEQUIN_JOURNAL_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "storage/itemptr.h"

#include "change.h"

typedef enum JournalState
{
	JOURNAL_INTENT,
	JOURNAL_COMMITTED,
	JOURNAL_NONE,
	JOURNAL_DEFERRED,
	JOURNAL_RESOLVED,
	JOURNAL_FAILED
} JournalState;

typedef struct JournalEntry
{
	int64		id;				/* of the row; 0: there is none yet */
	ItemPointerData place;		/* where it was put; zero: not known */
	const char *request_id;
	const char *sync;
	const char *key_label;		/* of the caller's proxy key; NULL: it sent the API's own token */
	const char *method;
	const char *path;			/* without the query: it may hold an e-mail address */
	int			status;			/* the API's; 0: none came */
	JournalState state;
	const char *targets;		/* JSON text; NULL: unchanged */
	const char *error;			/* NULL: none */
} JournalEntry;

/* Inserts those whose id is 0 (and sets it), updates the others. */
extern void journal_write_rows(JournalEntry **entries, int count);

/* The targets of a re-read as JSON, and back (for a retry); NULL / false when out of memory or malformed. */
extern const char *journal_targets(Arena *arena, const Change *changes, int count);
extern bool journal_parse_targets(Arena *arena, const char *json, ChangeList *targets);

/* A deferred write that is due for a retry. */
typedef struct JournalDue
{
	int64		id;
	char	   *sync;
	char	   *targets;
	int			attempts;
} JournalDue;

/* Due rows (palloc'd in cx), oldest first, and when the next one will be due (ms; -1: none). */
extern int	journal_due_rows(MemoryContext cx, int limit, JournalDue **due, int64 *next_ms);
extern void journal_retry_rows(int64 id, JournalState state, const char *error);	/* DEFERRED: next attempt with back-off */
/*
 * A write that may have created a record whose id nobody knows: has a poll of its collection that began
 * margin_ms after it brought what it did?
 */
typedef enum JournalPolled
{
	JOURNAL_POLL_LATER,			/* it is too early to ask */
	JOURNAL_POLL_WANTED,
	JOURNAL_POLLED
} JournalPolled;

extern JournalPolled journal_polled_row(int64 id, const char *collection, int64 margin_ms);
/*
 * Intents that nobody will settle count as deferred: those written before that transaction (by an earlier
 * life of the cluster, or by the primary from which this one took over), and those that are longer ago
 * than that (or later than now: the clock was set back since).
 */
extern int	journal_adopt_rows(TransactionId first_xid, int64 longest_ms);

#endif
