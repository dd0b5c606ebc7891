/*
 * sync_state.h - sequin.table_state: how far the sync process is with each mirror table.
 *
 * The functions run inside the caller's transaction (txn.h) and may ereport.  Only the sync process
 * writes these rows, but for a restart (resync, a new column): that moves the row's epoch, and a save
 * with an old epoch does nothing.
 */
#ifndef SEQUIN_SYNC_STATE_H
#define SEQUIN_SYNC_STATE_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "catalog.h"
#include "sync_schedule.h"

#define STATE_COLLECTION 200	/* bytes of a collection's identity; longer ones there are none */
#define STATE_CURSOR 512		/* ... of an API's cursor */
#define STATE_ID 128
#define STATE_FILL 512

typedef struct TableState
{
	uint8		key[16];		/* the sync's uuid */
	char		collection[STATE_COLLECTION];
	int			epoch;
	TablePhase	phase;
	char		list_cursor[STATE_CURSOR];	/* "": from the start */
	char		list_last[STATE_ID];
	bool		list_done;
	char		down_last[STATE_ID];		/* "": it has not begun */
	bool		down_done;
	int64		rows_done;
	int64		rows_total;		/* -1: not known */
	int64		started_at;		/* TimestampTz; SCHEDULE_NEVER where it has not happened */
	int64		live_at;
	int64		since_us;		/* µs since the Unix epoch, by the API's clock; TIME_NONE */
	int64		polled_at;
	int64		swept_at;
	bool		sweep_wanted;
	char		fill[STATE_FILL];	/* fields to be read for the rows that are there; with blanks between */
} TableState;

typedef struct SyncFeed			/* of one sync */
{
	uint8		key[16];
	char	   *feed;			/* palloc'd; NULL: none */
	int64		checked_at;		/* the schema, SCHEDULE_NEVER */
} SyncFeed;

/* Makes rows for tables that have none, and reads all of those that are to be kept fresh; palloc'd in cx. */
extern int	state_load_rows(MemoryContext cx, TableState **states);
extern int	state_load_feeds(MemoryContext cx, SyncFeed **feeds);
/* False: the row is of another epoch by now, or gone. */
extern bool state_save_row(const TableState *state, bool keep_error);
extern void state_filled_row(const TableState *state, const char *field);	/* that field is filled */
extern void state_refill_row(const TableState *state);	/* read it anew from the start; moves the epoch */
extern void state_fail_row(const TableState *state, const char *error);	/* until the next save that does not keep it */
/* feed NULL: leave.  polled: every table of the sync that the feed tells of has been polled since then; gap: all must be swept. */
extern void state_save_feed(const uint8 key[16], const char *feed, const char *error, int64 polled_at, bool gap);

#endif
