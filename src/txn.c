/*
 * txn.c - the one boundary around a transaction (txn.h).
 *
 * Every piece of database work that a worker does runs in txn_run: PostgreSQL's ERROR lands here
 * and nowhere else.  Must never be reached from a libmicrohttpd or libcurl callback: longjmp
 * would skip their frames.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#include "settings.h"
#include "shared.h"
#include "txn.h"

#define GUARD_INTERVAL_MS 250

static TimeoutId guard_timeout;
static volatile sig_atomic_t *guard_stopping;
static volatile sig_atomic_t guard_fired;
static volatile sig_atomic_t guard_ticks;	/* of GUARD_INTERVAL_MS, since the commit began; a clock may jump */
static volatile sig_atomic_t guard_most_ticks;

/*
 * A cancel (pg_cancel_backend, or a lock timeout that came a moment too late) means a transaction.
 * Outside of one it must not become an ERROR: any ereport(LOG) looks for it, and nobody catches.
 */
static void
hold_cancels(void)
{
	QueryCancelPending = false;
	QueryCancelHoldoffCount = 1;
}

/* Signal handler: ends a wait for a synchronous standby that takes too long, or once the worker is to stop. */
static void
guard_handler(void)
{
	if (++guard_ticks < guard_most_ticks && !*guard_stopping)
		return;
	guard_fired = true;
	QueryCancelPending = true;
	InterruptPending = true;
	SetLatch(MyLatch);
}

void
txn_guard_init(volatile sig_atomic_t *stopping)
{
	guard_stopping = stopping;
	guard_timeout = RegisterTimeout(USER_TIMEOUT, guard_handler);
	hold_cancels();
}

static bool
is_standby_named(void)
{
	return SyncRepStandbyNames != NULL && SyncRepStandbyNames[0] != '\0';
}

/*
 * Has the standby what we committed?  PostgreSQL only warns when the wait for it is cancelled (by us, by
 * pg_cancel_backend), so the place that it has confirmed is looked at.  Where this process may not have
 * read the newest settings yet, a standby counts as named: rather a `deferred` too many.
 */
static bool
standby_has_it(XLogRecPtr before)
{
	int			mode = synchronous_commit == SYNCHRONOUS_COMMIT_REMOTE_WRITE ? SYNC_REP_WAIT_WRITE
		: synchronous_commit == SYNCHRONOUS_COMMIT_REMOTE_APPLY ? SYNC_REP_WAIT_APPLY : SYNC_REP_WAIT_FLUSH;
	bool		has;

	if (XactLastCommitEnd == before || !(guard_fired || ConfigReloadPending || is_standby_named()))
		return true;			/* nothing was written, or nobody waited for */
	LWLockAcquire(SyncRepLock, LW_SHARED);
	has = XactLastCommitEnd <= WalSndCtl->lsn[mode];
	LWLockRelease(SyncRepLock);
	return has;
}

/*
 * Commits; false when a standby was to confirm it and has not.  The guard is there whenever a standby could be
 * waited for: its name may be newer than the settings that this process has read.
 */
static bool
commit_guarded(void)
{
	XLogRecPtr	before = XactLastCommitEnd;

	if (guard_stopping == NULL || !SyncRepRequested())
	{
		CommitTransactionCommand();
		return true;
	}
	guard_fired = false;
	guard_ticks = 0;
	guard_most_ticks = (setting_commit_timeout + GUARD_INTERVAL_MS - 1) / GUARD_INTERVAL_MS;
	enable_timeout_every(guard_timeout, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), GUARD_INTERVAL_MS),
						 GUARD_INTERVAL_MS);
	CommitTransactionCommand();
	disable_timeout(guard_timeout, false);
	QueryCancelPending = false;
	return standby_has_it(before);
}

static bool
is_transient(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_INSUFFICIENT_RESOURCES:	/* disk full, out of memory */
		case ERRCODE_OPERATOR_INTERVENTION:		/* cancelled, shutdown */
		case ERRCODE_TRANSACTION_ROLLBACK:		/* deadlock, serialization */
		case ERRCODE_SYSTEM_ERROR:				/* I/O */
			return true;
	}
	return sqlstate == ERRCODE_LOCK_NOT_AVAILABLE || sqlstate == ERRCODE_READ_ONLY_SQL_TRANSACTION;
}

static void
set_error(TxnError *error, int sqlstate, const char *message)
{
	error->sqlstate = sqlstate;
	strlcpy(error->message, message, sizeof(error->message));
	error->lock_timeout = sqlstate == ERRCODE_LOCK_NOT_AVAILABLE;
	error->transient = is_transient(sqlstate);
}

static void
set_unconfirmed(TxnError *error)
{
	set_error(error, ERRCODE_T_R_STATEMENT_COMPLETION_UNKNOWN, "the synchronous standby has not confirmed it");
	error->unconfirmed = true;
}

/* In the catch block: takes the error, rolls back, leaves the process as it was. */
static void
recover(MemoryContext cx, TxnError *error)
{
	ErrorData  *data;

	MemoryContextSwitchTo(cx);
	HOLD_INTERRUPTS();
	data = CopyErrorData();
	FlushErrorState();
	set_error(error, data->sqlerrcode, data->message ? data->message : "unknown error");
	FreeErrorData(data);
	if (guard_stopping != NULL)
		disable_timeout(guard_timeout, false);
	AbortOutOfAnyTransaction();
	QueryCancelPending = false;
	RESUME_INTERRUPTS();
}

bool
txn_run(void (*body) (void *arg), void *arg, int lock_timeout_ms, TxnError *error)
{
	MemoryContext cx = CurrentMemoryContext;
	int			saved_lock_timeout = LockTimeout;
	volatile bool ok = false;

	Assert(!IsTransactionState());
	memset(error, 0, sizeof(*error));
	LockTimeout = lock_timeout_ms;
	PG_TRY();
	{
		QueryCancelHoldoffCount = 0;
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		SPI_connect();
		body(arg);
		SPI_finish();
		PopActiveSnapshot();
		if (!commit_guarded())
			set_unconfirmed(error);
		ok = true;
	}
	PG_CATCH();
	{
		ok = false;
		recover(cx, error);
	}
	PG_END_TRY();
	hold_cancels();
	/*
	 * A wait for a lock or a standby may have eaten a wake-up that was meant for the loop: one more turn.  A worker whose
	 * commit waits for a stranger's lock has turns enough, and would only spin.
	 */
	if (MyLatch != NULL && (ok || shared_my_slot == SHARED_SYNC_SLOT))
		SetLatch(MyLatch);
	LockTimeout = saved_lock_timeout;
	MemoryContextSwitchTo(cx);
	return ok;
}

bool
txn_try(void (*body) (void *arg), void *arg, bool (*forgives) (int sqlstate), char **message)
{
	MemoryContext cx = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool ok = true;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(cx);
	PG_TRY();
	{
		body(arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *data;

		MemoryContextSwitchTo(cx);
		data = CopyErrorData();
		FlushErrorState();
		/* Also before the error goes on: whoever catches it ends one level only. */
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(cx);
		CurrentResourceOwner = owner;
		if (!forgives(data->sqlerrcode))
			ReThrowError(data);
		if (message != NULL)
			*message = data->message;
		ok = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cx);
	CurrentResourceOwner = owner;
	return ok;
}

void
txn_report_stats(void)
{
	MemoryContext cx = CurrentMemoryContext;

	PG_TRY();
	{
		pgstat_report_stat(false);
	}
	PG_CATCH();
	{
		/* Statistics are not worth a worker. */
		MemoryContextSwitchTo(cx);
		FlushErrorState();
	}
	PG_END_TRY();
}
