/*
 * shared.c - the fixed part of shared memory: generation, worker slots, statistics (shared.h).
 *
 * Owns the SharedState and each process's claim on a slot.  Any process may call it.  Its
 * spinlock guards pid, latch and a short list of refused tokens, for a few instructions; latches are set after it is
 * released: a latch of a process that has gone belongs to PostgreSQL's process array and stays
 * valid memory, so the worst is a needless wake-up of whoever has it now.
 */
#include "postgres.h"

#include <signal.h>

#include "access/transam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "reactor.h"
#include "shared.h"

SharedState *shared;
int			shared_my_slot = -1;

static bool config_changed;		/* in the running transaction */
static bool config_may_have_changed;
static bool callback_registered;

Size
shared_size(void)
{
	return MAXALIGN(sizeof(SharedState));
}

void
shared_init(void)
{
	bool		found;

	shared = ShmemInitStruct("sequin_proxy", shared_size(), &found);
	if (found)
		return;
	memset(shared, 0, sizeof(SharedState));
	pg_atomic_init_u64(&shared->clock_base, (uint64) PG_INT64_MIN);
	pg_atomic_init_u64(&shared->generation, 1);
	pg_atomic_init_u32(&shared->stop_for_drop, InvalidOid);
	pg_atomic_init_u32(&shared->kick, 0);
	pg_atomic_init_u32(&shared->token_asks, 0);
	SpinLockInit(&shared->mutex);
	for (int i = 0; i < SHARED_SLOTS; i++)
		pg_atomic_init_u64(&shared->slots[i].generation, 0);
}

/* The wall clock is read first: whatever comes between only makes the sum smaller. */
static void
raise_clock(TimestampTz wall, int64 mono_us)
{
	uint64		base = pg_atomic_read_u64(&shared->clock_base);

	while (wall - mono_us > (int64) base &&
		   !pg_atomic_compare_exchange_u64(&shared->clock_base, &base, (uint64) (wall - mono_us)))
		;
}

TimestampTz
shared_now(void)
{
	TimestampTz wall = GetCurrentTimestamp();
	int64		mono_us = clock_us();

	if (shared == NULL)
		return wall;			/* not preloaded: nobody to agree with */
	raise_clock(wall, mono_us);
	return (int64) pg_atomic_read_u64(&shared->clock_base) + mono_us;
}

void
shared_now_at_least(TimestampTz then)
{
	raise_clock(then, clock_us());
}

/* Its place in the list; where there is none the oldest gives way, and what it wanted is asked of everybody.  mutex is held. */
static SharedWanted *
wanted_place(const uint8 sync[16])
{
	SharedWanted *oldest = &shared->wanted[0];

	for (int i = 0; i < SHARED_WANTED; i++)
	{
		SharedWanted *w = &shared->wanted[i];

		if (memcmp(w->sync, sync, sizeof(w->sync)) == 0)
			return w;
		if (Max(w->polled, w->swept) < Max(oldest->polled, oldest->swept))
			oldest = w;
	}
	shared->wanted_of_all.polled = Max(shared->wanted_of_all.polled, oldest->polled);
	shared->wanted_of_all.swept = Max(shared->wanted_of_all.swept, oldest->swept);
	memset(oldest, 0, sizeof(*oldest));
	memcpy(oldest->sync, sync, sizeof(oldest->sync));
	return oldest;
}

TimestampTz
shared_want(const uint8 sync[16], bool swept)
{
	TimestampTz now = shared_now();
	SharedWanted *w;

	SpinLockAcquire(&shared->mutex);
	w = wanted_place(sync);
	if (swept)
		w->swept = Max(w->swept, now);
	else
		w->polled = Max(w->polled, now);
	SpinLockRelease(&shared->mutex);
	shared_wake(SHARED_SYNC_SLOT);
	return now;
}

void
shared_wanted(const uint8 sync[16], TimestampTz *polled, TimestampTz *swept)
{
	SpinLockAcquire(&shared->mutex);
	*polled = shared->wanted_of_all.polled;
	*swept = shared->wanted_of_all.swept;
	for (int i = 0; i < SHARED_WANTED; i++)
		if (memcmp(shared->wanted[i].sync, sync, sizeof(shared->wanted[i].sync)) == 0)
		{
			*polled = Max(*polled, shared->wanted[i].polled);
			*swept = Max(*swept, shared->wanted[i].swept);
		}
	SpinLockRelease(&shared->mutex);
}

void
shared_claim_slot(int slot)
{
	WorkerSlot *mine = &shared->slots[slot];
	TransactionId next = ReadNextTransactionId();
	int			holder;

	SpinLockAcquire(&shared->mutex);
	holder = mine->pid;
	SpinLockRelease(&shared->mutex);
	/* a process that died without release took the cluster's shared memory with it: this is a second one */
	if (holder != 0 && holder != MyProcPid && (kill(holder, 0) == 0 || errno == EPERM))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("sequin_proxy: slot %d is taken by process %d", slot, holder)));
	mine->listening = false;
	mine->listen_error[0] = '\0';
	memset(&mine->stats, 0, sizeof(mine->stats));
	pg_atomic_write_u64(&mine->generation, 0);
	SpinLockAcquire(&shared->mutex);
	mine->pid = MyProcPid;
	mine->latch = MyLatch;
	if (!TransactionIdIsValid(shared->first_xid))
		shared->first_xid = next;
	SpinLockRelease(&shared->mutex);
	shared_my_slot = slot;
}

void
shared_release_slot(void)
{
	WorkerSlot *mine;

	if (shared == NULL || shared_my_slot < 0)
		return;
	mine = &shared->slots[shared_my_slot];
	mine->listening = false;
	mine->stats.connections = 0;
	mine->stats.queued = 0;
	mine->stats.in_flight = 0;
	SpinLockAcquire(&shared->mutex);
	mine->pid = 0;
	mine->latch = NULL;
	SpinLockRelease(&shared->mutex);
	shared_my_slot = -1;
}

void
shared_wake(int slot)
{
	Latch	   *latch;

	if (shared == NULL || slot < 0 || slot >= SHARED_SLOTS)
		return;
	SpinLockAcquire(&shared->mutex);
	latch = shared->slots[slot].latch;
	SpinLockRelease(&shared->mutex);
	if (latch != NULL)
		SetLatch(latch);
}

void
shared_wake_all(void)
{
	for (int slot = 0; slot < SHARED_SLOTS; slot++)
		shared_wake(slot);
}

/* When there is no place the question is lost: whoever is refused next puts it again. */
static void
add_refused(const RefusedToken *refused)
{
	bool		known = false;

	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < shared->nrefused && !known; i++)
		known = memcmp(&shared->refused[i], refused, sizeof(*refused)) == 0;
	if (!known && shared->nrefused < SHARED_REFUSED_TOKENS)
		shared->refused[shared->nrefused++] = *refused;
	SpinLockRelease(&shared->mutex);
}

void
shared_ask_token(const RefusedToken *refused)
{
	if (refused != NULL)
		add_refused(refused);
	pg_atomic_fetch_add_u32(&shared->token_asks, 1);
	shared_wake(SHARED_SYNC_SLOT);
}

bool
shared_take_refused(RefusedToken *refused)
{
	bool		taken = false;

	SpinLockAcquire(&shared->mutex);
	if (shared->nrefused > 0)
	{
		*refused = shared->refused[--shared->nrefused];
		taken = true;
	}
	SpinLockRelease(&shared->mutex);
	return taken;
}

/*
 * A rolled-back savepoint leaves the flag set: the workers then reload a configuration that did
 * not change, which costs a few queries and is never wrong.
 */
static void
at_transaction_end(XactEvent event, void *arg)
{
	if (!config_changed && !config_may_have_changed)
		return;
	switch (event)
	{
		case XACT_EVENT_PRE_PREPARE:
			if (!config_changed)
				break;
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot PREPARE a transaction that has changed the configuration of sequin_proxy"),
					 errhint("Use COMMIT, so that the proxy sees the change at once.")));
			break;
		case XACT_EVENT_PREPARE:	/* its locks keep the workers from loading until it is decided, and then they do */
		case XACT_EVENT_COMMIT:
			/* here the change is visible to others already, and the client has no answer yet */
			config_changed = config_may_have_changed = false;
			pg_atomic_fetch_add_u64(&shared->generation, 1);
			shared_wake_all();
			break;
		case XACT_EVENT_ABORT:
			config_changed = config_may_have_changed = false;
			break;
		default:
			break;
	}
}

static void
register_callback(void)
{
	if (!callback_registered)
		RegisterXactCallback(at_transaction_end, NULL);
	callback_registered = true;
}

void
shared_config_changed(void)
{
	if (shared == NULL)
		return;
	register_callback();
	config_changed = true;
}

void
shared_config_may_have_changed(void)
{
	if (shared == NULL)
		return;
	register_callback();
	config_may_have_changed = true;
}
