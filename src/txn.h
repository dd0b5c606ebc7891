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
} TxnError;

/*
 * Runs body(arg) in a transaction of its own with an active snapshot and SPI connected, and
 * commits.  True: durable (and on the synchronous standby, where one is configured).  False:
 * rolled back, or not confirmed by the standby before a stop; *error filled, process as clean as
 * before.  Never called inside a libmicrohttpd or libcurl frame.  lock_timeout_ms: 0 = wait for ever.
 */
extern bool txn_run(void (*body) (void *arg), void *arg, int lock_timeout_ms, TxnError *error);

/*
 * Once per worker, after its database connection: while *stopping is set, a commit that waits for
 * a synchronous standby is let go (it would hang the shutdown for ever where the standby is missing).
 */
extern void txn_guard_init(volatile sig_atomic_t *stopping);

/* Reports statistics to the collector; between transactions, once per loop turn; cheap when called often. */
extern void txn_report_stats(void);

#endif
