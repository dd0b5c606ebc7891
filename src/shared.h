/*
 * shared.h - what the processes share beside the limiter: the configuration generation, one slot
 * per worker (latch, what it serves, statistics) and the listener's state.
 *
 * Fixed size, allocated at postmaster start.  Counters are atomics or single-writer; no lock is
 * held while anything can fail.
 */
#ifndef SEQUIN_SHARED_H
#define SEQUIN_SHARED_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/latch.h"
#include "storage/spin.h"

#define SHARED_MAX_WORKERS 64
#define SHARED_SYNC_SLOT SHARED_MAX_WORKERS		/* the sync process's slot */
#define SHARED_SLOTS (SHARED_MAX_WORKERS + 1)

/* The LWLocks of tranche "sequin_proxy", by place. */
#define SHARED_LOCK_LIMITS 0	/* limit_registry.c's */
#define SHARED_LOCK_LISTEN 1	/* worker.c's: who is first to bind the port */
#define SHARED_LOCKS 2

typedef struct WorkerStats		/* written by its worker only; read without a lock */
{
	uint64		connections;	/* open now */
	uint64		accepted;
	uint64		requests;
	uint64		status_class[6];	/* [2]: 2xx ... of API answers; [0]: the proxy's own errors */
	uint64		commits;		/* exchanges answered `committed` */
	uint64		batches;		/* transactions that carried them */
	uint64		deferred;
	uint64		queued;			/* waiting for a rate-limit slot now */
	uint64		in_flight;		/* at the API now */
	uint64		upstream_us;	/* sum over answered calls, for a mean */
	uint64		commit_us;		/* sum over batches */
	uint64		total_us;		/* sum over exchanges */
} WorkerStats;

typedef struct WorkerSlot
{
	int			pid;			/* 0: not running */
	Latch	   *latch;
	pg_atomic_uint64 generation;	/* of the catalog snapshot it uses for new requests */
	bool		listening;
	int			listen_port;	/* where, while listening */
	char		listen_error[200];	/* why it does not, "" */
	WorkerStats stats;
} WorkerSlot;

/* What wait_for asked of the sync process: polls and sweeps of a sync that begin after these times. */
typedef struct SharedWanted
{
	uint8		sync[16];
	TimestampTz polled;			/* 0: nobody asked */
	TimestampTz swept;
} SharedWanted;

#define SHARED_WANTED 64

#define SHARED_REFUSED_TOKENS 16

/* An access token that an API refused; the sync process is to refresh it. */
typedef struct RefusedToken
{
	uint8		sync[16];
	uint8		hash[32];		/* SHA-256 of the token, so that a newer one is not taken for it */
} RefusedToken;

typedef struct SharedState
{
	TransactionId first_xid;		/* no older transaction is of a worker that lives (in this shared memory); 0: none was here yet */
	pg_atomic_uint64 clock_base;	/* shared_now()'s: what to add to the monotonic clock; int64, never lowered */
	pg_atomic_uint64 generation;	/* bumped at the commit of every configuration change */
	pg_atomic_uint32 stop_for_drop;	/* OID of the database that is being dropped; 0: none */
	pg_atomic_uint32 kick;			/* bumped to ask the sync process for a look at its work at once */
	pg_atomic_uint32 token_asks;	/* bumped to ask the sync process for a look at the OAuth tokens at once */
	slock_t		mutex;				/* guards pid and latch of the slots, what is wanted, and the refused tokens */
	SharedWanted wanted[SHARED_WANTED];
	SharedWanted wanted_of_all;		/* what was asked of syncs that had no place in the list any more: of every sync, then */
	RefusedToken refused[SHARED_REFUSED_TOKENS];
	int			nrefused;
	WorkerSlot	slots[SHARED_SLOTS];
} SharedState;

extern SharedState *shared;			/* NULL when the library was not preloaded */
extern int	shared_my_slot;			/* -1 in backends */

extern Size shared_size(void);
extern void shared_init(void);				/* shmem_startup_hook body */
extern void shared_claim_slot(int slot);	/* worker start; ereports when taken */
extern void shared_release_slot(void);		/* before_shmem_exit */
/*
 * The time by which answers, reads and polls are ordered: the wall clock's, but it never goes back, in any process
 * (a clock that is set back would make everything newer look stale).
 */
extern TimestampTz shared_now(void);
extern void shared_now_at_least(TimestampTz then);	/* what an earlier life of the cluster had reached */
extern void shared_wake(int slot);			/* sets that worker's latch; safe when it is gone */
extern void shared_wake_all(void);

/* Notes that a poll (or sweep) of that sync is wanted which begins after the time that is returned; wakes the sync process. */
extern TimestampTz shared_want(const uint8 sync[16], bool swept);
extern void shared_wanted(const uint8 sync[16], TimestampTz *polled, TimestampTz *swept);

/* A token is missing or refused (NULL: none was): asks the sync process for another; safe anywhere. */
extern void shared_ask_token(const RefusedToken *refused);
extern bool shared_take_refused(RefusedToken *refused);	/* the sync process's: the next of them; false: none */

/*
 * Marks that this transaction changes the configuration: at its commit, and only then, the
 * generation moves and all workers wake.  PREPARE TRANSACTION after it is an error.
 */
extern void shared_config_changed(void);
/* It may have changed, as a side effect of what is none of ours: as above, but PREPARE TRANSACTION stays possible. */
extern void shared_config_may_have_changed(void);

#endif
