/*
 * txn.c - the one boundary around a transaction (txn.h).
 *
 * Every piece of database work that a worker does runs in txn_run: PostgreSQL's ERROR lands here
 * and nowhere else.  Must never be reached from a libmicrohttpd or libcurl callback: longjmp
 * would skip their frames.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#include "txn.h"

#define GUARD_INTERVAL_MS 250

static TimeoutId guard_timeout;
static volatile sig_atomic_t *guard_stopping;
static volatile sig_atomic_t guard_fired;

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

/* Signal handler: ends a wait for a synchronous standby once the worker is to stop. */
static void
guard_handler(void)
{
	if (guard_stopping == NULL || !*guard_stopping)
		return;
	guard_fired = 1;
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
guard_wanted(void)
{
	return guard_stopping != NULL && SyncRepRequested() && SyncRepStandbyNames != NULL &&
		SyncRepStandbyNames[0] != '\0';
}

/* Commits; false when the wait for the standby was cut short. */
static bool
commit_guarded(void)
{
	if (!guard_wanted())
	{
		CommitTransactionCommand();
		return true;
	}
	guard_fired = 0;
	enable_timeout_every(guard_timeout, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), GUARD_INTERVAL_MS),
						 GUARD_INTERVAL_MS);
	CommitTransactionCommand();
	disable_timeout(guard_timeout, false);
	QueryCancelPending = false;
	return !guard_fired;
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
	AbortCurrentTransaction();
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
		ok = commit_guarded();
		if (!ok)
			set_error(error, ERRCODE_ADMIN_SHUTDOWN, "stopped while waiting for the synchronous standby");
	}
	PG_CATCH();
	{
		ok = false;
		recover(cx, error);
	}
	PG_END_TRY();
	hold_cancels();
	LockTimeout = saved_lock_timeout;
	MemoryContextSwitchTo(cx);
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
