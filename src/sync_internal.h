/*
 * sync_internal.h - what the parts of the sync process that read tables share: sync_tables.c (who is
 * to be read when), sync_chain.c (page after page), sync_jobs.c (what each kind of reading asks and
 * notes), sync_sweep.c (what is gone) and sync_links.c (which records' links).  Nobody else's.
 *
 * All in the sync process alone, single-threaded.  Runs and tables live in TopMemoryContext from the
 * load that brings them to the one that finds them gone; a chain lives in a context of its own.
 */
#ifndef SEQUIN_SYNC_INTERNAL_H
#define SEQUIN_SYNC_INTERNAL_H

#include "postgres.h"

#include "errand.h"
#include "loop.h"
#include "mirror.h"
#include "sync_state.h"
#include "txn.h"

typedef enum ChainJob			/* one chain of each kind per table at a time */
{
	CHAIN_LIST,					/* backfill: the API's list, from the start up */
	CHAIN_DOWN,					/* backfill: from the highest id down, meeting the list */
	CHAIN_LINKS,				/* backfill or sweep of an association table */
	CHAIN_POLL,
	CHAIN_FIELD,				/* the records that have a field which is new in the mirror */
	CHAIN_SWEEP,
	CHAIN_DIRTY,				/* the links of records that a poll has just brought */
	CHAIN_FEED,					/* of the whole sync */
	CHAIN_JOBS
} ChainJob;

typedef struct SyncRun SyncRun;
typedef struct SyncTable SyncTable;
typedef struct Chain Chain;

typedef struct DirtyIds			/* records of one side of an association table */
{
	char	  **ids;
	int			count;
	int			cap;
} DirtyIds;

struct SyncTable
{
	SyncRun    *run;
	SyncTable  *next;
	TableState	state;			/* as committed */
	bool		kept;			/* the last load has it */
	Chain	   *chains[CHAIN_JOBS];
	int			failures;		/* in a row */
	int64		retry_at;		/* TimestampTz; SCHEDULE_NEVER */
	int64		sweep_took_us;
	int64		late_us;		/* monotonic: the last poll that looked far back */
	bool		no_down;		/* the API refused these ways; asked again after a restart of the server */
	bool		no_changes;
	char		list_seen[STATE_ID];	/* last id received (perhaps not yet committed) */
	char		down_seen[STATE_ID];
	DirtyIds	dirty[2];		/* of the from and the to side */
};

struct SyncRun					/* one sync */
{
	uint8		key[16];
	SyncRun    *next;
	SyncTable  *tables;
	bool		kept;
	int			nchains;
	int			nbackfills;
	int64		checked_at;		/* TimestampTz: the schema */
	int64		wanted_poll;	/* TimestampTz; SCHEDULE_NEVER: nobody waits */
	int64		wanted_sweep;
	char	   *feed;			/* its state; NULL: none yet */
	bool		feed_tried;		/* it is set up, or refused: backfills may begin */
	bool		feed_works;
	int64		feed_polled_at;
	int64		feed_retry_at;
	int			feed_failures;
	Chain	   *feed_chain;
	int64		budget_us;		/* monotonic: routine calls up to now have used the budget up to then */
};

struct Chain
{
	SyncRun    *run;
	SyncTable  *table;			/* NULL: the feed */
	ChainJob	job;
	MemoryContext cx;
	bool		wanted;			/* somebody waits for it: no budget */
	bool		cancelled;
	int64		started_at;		/* TimestampTz */
	int64		began_us;		/* monotonic */
	/* fetching */
	char	   *cursor;			/* of the page to fetch next; NULL: from the start */
	char	   *page_cursor;	/* of the page in hand */
	bool		first;			/* the page in hand is the first */
	bool		no_more;		/* nothing is to be fetched after the page in hand */
	Errand	   *fetching;
	Errand	   *parked;			/* fetched while the page in hand was not done */
	int64		resume_us;		/* monotonic: waits until then before it fetches; 0: does not wait */
	int			attempts;		/* for the present page */
	int			pages;
	/* the page in hand */
	Errand	   *page;
	bool		apply_due;		/* in the next turn, when the next page's request is out */
	MirrorItem	item;
	ChangeList	targets;		/* what is to be re-read before the page counts as done */
	int			rounds;
	int			refreshes;
	TableState	next;			/* the state with this page */
	bool		saved;			/* ... has been committed */
	bool		part;			/* the item is a part of a page that failed as a whole: rows only */
	bool		bad_rows;		/* the table refused some, and its state says so */
	bool		void_state;		/* ... and was not: the table is read anew, or gone */
	bool		orphans;		/* CHAIN_LINKS: all records were asked for, now link ends without a record */
	char	  **ids;			/* CHAIN_LINKS, CHAIN_DIRTY: of the page in hand; palloc'd in cx */
	int			nids;
	bool		ids_are_to;
	char	   *field;			/* CHAIN_FIELD */
	/* a poll */
	bool		tail;			/* only of what the backfill's second reading brought */
	bool		late;			/* looks far back */
	int64		api_time_us;	/* of its first answer */
	int64		newest_us;
	/* a sweep */
	int			seen_number;	/* names its temporary table; 0: there is none */
	bool		seen_fresh;		/* made by the present transaction: gone with it if it fails */
	bool		scanning;		/* all pages are in: looks for rows that no page showed */
	char	   *scan_from;		/* the records being asked for are of those after it */
	char	   *scanned_to;
	Arena	   *scan_arena;
	bool		scan_done;
};

/* ---- sync_tables.c ---- */

extern SyncTable *table_of(SyncRun *run, const char *collection);
extern void tables_failed(Chain *chain, const char *error);		/* the chain gave up: back off, and say why */
extern void tables_refill(SyncTable *table);	/* it is read anew from the start */
extern void tables_note(Chain *chain, const char *error);		/* something of it went wrong, and it goes on */
extern int64 tables_spacing_us(const CatalogSync *sync);

/* ---- sync_chain.c ---- */

extern void chain_start(Loop *loop, SyncRun *run, SyncTable *table, ChainJob job, bool wanted);
extern void chain_cancel(Chain *chain);			/* it ends as soon as it can */
extern void chain_resume(Chain *chain);			/* its wait is over */
/* The page in hand, if it is its turn; may end the chain, and others of its table.  True: another page has its turn next. */
extern bool chain_apply_due(Chain *chain);
extern void chain_reread(Chain *chain);			/* chain->targets: asks for them, applies them, then goes on */

/* ---- sync_jobs.c ---- */

extern bool job_is_routine(const Chain *chain);	/* counts against the budget of long windows */
/* What to ask for next; false: nothing, the chain is at its end, or the database refused (*error, else it is empty). */
extern bool job_request(Chain *chain, CatalogSync *sync, PageRequest *request, TxnError *error);
/* Before it is applied: how far the readings are.  False: it is not to be applied, the chain ends. */
extern bool job_received(Chain *chain, const PageResult *result);
extern void job_advance(Chain *chain, const PageResult *result);	/* chain->next: the state with this page */
extern void job_committed(Chain *chain);			/* chain->next is durable */
/* At the chain's end: commits what only that can tell.  False: *error. */
extern bool job_finished(Chain *chain, TxnError *error);
extern bool job_saves_page(const Chain *chain);
extern void job_restart(Chain *chain);			/* the cursor is not good any more */
extern void job_refused(Chain *chain, const char *why);
extern void job_written(Chain *chain);			/* chain->item was applied: notes whose links may have changed */

/* ---- sync_sweep.c (inside a transaction but sweep_scan_next) ---- */

extern void sweep_note_seen(Chain *chain, const PageResult *result);
extern void sweep_add_stale(Chain *chain, CatalogSync *sync, const PageResult *result);
/* Finds the next records that no page showed, into chain->targets; false: the database refused (*error). */
extern bool sweep_scan_next(Chain *chain, CatalogSync *sync, TxnError *error);
extern void sweep_scan_again(Chain *chain);		/* these were not settled: they are to be found once more */
extern void sweep_forget(Chain *chain);			/* drops the temporary table, in a transaction of its own */

/* ---- sync_links.c ---- */

extern void dirty_add(SyncTable *links, bool is_to, const char *id);
extern void dirty_return(Chain *chain);			/* its ids were not asked for: somebody else has to */
extern bool dirty_any(const SyncTable *links);
extern void dirty_forget(SyncTable *links);
/* The next ids of the chain, into chain->ids; false: the database refused. */
extern bool links_next_ids(Chain *chain, CatalogSync *sync, int most, TxnError *error);

#endif
