/*
 * txn.h - the one boundary around a transaction: the only place where a PostgreSQL ERROR lands.
 */
#ifndef SEQUIN_TXN_H
#define SEQUIN_TXN_H

#include "postgres.h"

#include <signal.h>

typedef struct TxnError
{
	int			sqlstate;
	char		message[512];	/* the primary message; no detail: it may hold data */
	bool		lock_timeout;	/* somebody else holds the lock */
	bool		transient;		/* may go well later: lock, deadlock, serialization, resources, read-only, shutdown */
	bool		unconfirmed;	/* committed here, but the synchronous standby has not said that it has it */
} TxnError;

/*
 * Runs body(arg) in a transaction of its own with an active snapshot and SPI connected, and
 * commits.  True: committed; and on the synchronous standby, where one is configured, unless
 * error->unconfirmed (it did not say so within commit_timeout, or before a stop or a cancel).  False:
 * rolled back, *error filled, process as clean as before.  Never called inside a libmicrohttpd or
 * libcurl frame.  lock_timeout_ms: 0 = wait for ever.
 */
extern bool txn_run(void (*body) (void *arg), void *arg, int lock_timeout_ms, TxnError *error);

/*
 * Inside of a transaction: runs body(arg) in a subtransaction.  False: it failed with an error that `forgives` takes,
 * and nothing of it stands; *message (palloc'd; NULL: not asked for) is the primary one.  Any other error goes on.
 */
extern bool txn_try(void (*body) (void *arg), void *arg, bool (*forgives) (int sqlstate), char **message);

/*
 * Once per worker, after its database connection: a commit that waits for a synchronous standby is let
 * go after commit_timeout, and soon once *stopping is set (where the standby is missing it would hold up
 * every other request of the worker, and the shutdown, for ever).
 */
extern void txn_guard_init(volatile sig_atomic_t *stopping);

/* Reports statistics to the collector; between transactions, once per loop turn; cheap when called often. */
extern void txn_report_stats(void);

#endif
