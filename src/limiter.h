/*
 * limiter.h - the shared-memory rate limiter: one for all processes (DESIGN.md section 6).
 *
 * Each (sync, bucket) has a record in a DSA area: its windows, a block-until time, and a queue of
 * tickets: proxied requests are served in ticket order across all workers; the sync process
 * gets a slot only while no proxied request waits, or within its reserve.  A spinlock per record; O(windows) per call;
 * no call below ereports but those marked so.  Times are CLOCK_MONOTONIC µs (same for all
 * processes of a machine).
 */
#ifndef SEQUIN_LIMITER_H
#define SEQUIN_LIMITER_H

#include "rate_window.h"

/*
 * This process's handle of a shared record; stays valid while the process lives.  NULL means
 * unlimited: every call below accepts it (a take succeeds, the rest does nothing).
 */
typedef struct LimitRecord LimitRecord;

typedef enum LimitParty
{
	LIMIT_PROXY,
	LIMIT_SYNC
} LimitParty;

extern size_t limiter_shmem_size(void);
extern void limiter_shmem_init(void);		/* under AddinShmemInitLock */
extern void limiter_attach(int slot);		/* once per worker, slot as in shared.h; may ereport */

/*
 * Find or make the records of a sync from its specs, one per bucket; when the specs of a known
 * record changed, its windows are rebuilt and what was logged is carried over (never loosened by
 * the change itself).  Called while the catalog loads, inside a transaction; may ereport.
 * sync_key: the sync's uuid; sync_reserve: 0 .. 0.9, the share of each window that LIMIT_SYNC may
 * have although proxied requests wait (limit_queue.h).  Returns the count and fills records[] (buckets in order of specs).
 */
extern int	limiter_configure(const uint8_t sync_key[16], const char *sync_name, const RateSpec *specs, int nspecs,
							  double sync_reserve, LimitRecord *records[RATE_MAX_BUCKETS]);
extern void limiter_configured(void);	/* all syncs are: new limits are saved at once, before anybody uses them */
extern void limiter_forget(const uint8_t sync_key[16]);		/* the sync was dropped; may ereport */
extern const char *limiter_bucket(const LimitRecord *record);

/*
 * Tickets: order of arrival, across workers.  limiter_ticket joins the queue at once; whoever has
 * tickets asks (limiter_take, the oldest first) soon after, and tells by limiter_set_waiting which
 * of its tickets is the oldest whenever that is not the one it got first: after a grant while
 * others wait, and when one leaves without a slot (0, 0: none waits any more).
 */
extern uint64_t limiter_ticket(LimitRecord *record);
extern void limiter_set_waiting(LimitRecord *record, uint64_t oldest_ticket, int nwaiting);

/*
 * Take a slot for this ticket (LIMIT_SYNC: ticket ignored).  True: reserved; must be followed by
 * exactly one limiter_sent or limiter_cancel.  False: *retry_at_us says when to ask again (INT64_MAX:
 * when this process's latch is set: limiter wakes the next waiter's worker after each grant,
 * stamp, cancel or change).
 */
extern bool limiter_take(LimitRecord *record, LimitParty party, uint64_t ticket, int64_t now_us, int64_t *retry_at_us);
extern void limiter_sent(LimitRecord *record, LimitParty party, int64_t now_us);
extern void limiter_cancel(LimitRecord *record, LimitParty party);

extern void limiter_block(LimitRecord *record, int64_t until_us);		/* 429: only ever moved later */
/* The API's own remaining count of a window; asked_at_us: when the request that it answered was sent (UpstreamResult). */
extern void limiter_tighten(LimitRecord *record, int64_t window_us, int64_t remaining, int64_t asked_at_us);

typedef struct LimitWindowInfo
{
	int64_t		limit;
	int64_t		period_us;
	int64_t		used;			/* sent within the period or about to be, by whomever */
	int64_t		used_by_sync;	/* of these */
} LimitWindowInfo;

/* A record's windows as they are now, at most max of them; returns how many; 0: unlimited, or not to be had now. */
extern int	limiter_windows(LimitRecord *record, LimitWindowInfo *out, int max);

/* A worker's end: reserved slots become sent ones, its waiters vanish. From before_shmem_exit; never ereports. */
extern void limiter_detach(void);

/*
 * Writes all windows to a file, so that a crash does not forget those longer than a minute: the
 * sync process calls it once a minute.  The last worker that detaches writes it too; the first
 * that attaches reads it.  Never ereports above LOG.
 */
extern void limiter_save(void);

typedef struct LimitUsage			/* for sequin.rate_limit_usage */
{
	char		sync_name[64];
	char		bucket[RATE_BUCKET_NAME];
	int64_t		limit;
	int64_t		period_us;
	int64_t		used;				/* by anybody */
	int64_t		used_by_proxy;
	int64_t		used_by_sync;
	int			proxy_waiting;
	int64_t		blocked_for_us;		/* 0: not blocked */
} LimitUsage;

/* Copies all records, a row per window; palloc'd; may ereport (called from a backend). */
extern int	limiter_usage(LimitUsage **rows);

/* What a server that took over knows of one window of the old primary: so many sends, so long ago. */
typedef struct LimitMemory
{
	uint8_t		sync[16];
	char		bucket[RATE_BUCKET_NAME];
	int64_t		period_us;
	int64_t		used;
	int64_t		ago_us;
} LimitMemory;

/* Does this server still have to be told?  Then, once its records are configured: all that is known; the first call counts. */
extern bool limiter_wants_memory(void);
extern void limiter_remember(const LimitMemory *memory, int count);

#endif
