/*
 * limiter.c - this process's handles of the shared rate-limit records, and the lock around
 * limit_queue.c's arithmetic (limiter.h).
 *
 * A LimitRecord is a handle: it knows the record (limit_registry.h) and its windows as of an
 * epoch and a version, and checks both under the record's spinlock before it touches anything.
 * Handles live as long as the process.  Only workers that called limiter_attach take slots.
 * Never allocates, maps, wakes or fails while a spinlock is held.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "limit_registry.h"
#include "limit_store.h"
#include "reactor.h"

#define UNMAPPED_RETRY_US 100000

struct LimitRecord
{
	LimitKey	key;			/* first: the hash table's */
	SharedLimit *limit;			/* NULL: limiter_configure failed half-way; never given out */
	uint32		epoch;
	uint32		version;
	LimitWindows *windows;		/* of that version */
	LimitRecord *next;			/* all handles */
};

static HTAB *handles;
static LimitRecord *all_handles;
static int	my_place = -1;
static bool some_are_new;		/* limits that the file does not know yet */

static LimitRecord *
handle_for(const LimitKey *key)
{
	bool		found;
	LimitRecord *record;

	if (handles == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = sizeof(LimitKey);
		ctl.entrysize = sizeof(LimitRecord);
		ctl.hcxt = TopMemoryContext;
		handles = hash_create("sequin_proxy limits", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	record = hash_search(handles, key, HASH_ENTER, &found);
	if (!found)
	{
		record->limit = NULL;
		record->next = all_handles;
		all_handles = record;
	}
	return record;
}

/* control->lock is held. */
static void
handle_follow(LimitRecord *record)
{
	record->windows = registry_windows(record->limit);
	record->version = record->limit->version;
}

/* The windows were replaced: find the new ones.  False: they cannot be mapped now (logged). */
static bool
handle_refresh(LimitRecord *record)
{
	LWLock	   *lock = registry_control()->lock;
	MemoryContext cx = CurrentMemoryContext;
	volatile bool ok = true;

	LWLockAcquire(lock, LW_SHARED);
	PG_TRY();
	{
		if (record->limit->epoch == record->epoch)
			handle_follow(record);
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();		/* the error reset the count that LWLockRelease lowers */
		MemoryContextSwitchTo(cx);
		EmitErrorReport();
		FlushErrorState();
		ok = false;
	}
	PG_END_TRY();
	LWLockRelease(lock);
	return ok;
}

/*
 * Locks the record, its present windows in record->windows.  False: it belongs to another sync by
 * now, or cannot be had.
 */
static bool
lock_record(LimitRecord *record)
{
	SharedLimit *limit = record->limit;

	for (;;)
	{
		bool		recycled;

		SpinLockAcquire(&limit->mutex);
		recycled = limit->epoch != record->epoch;
		if (!recycled && limit->version == record->version)
			return true;
		SpinLockRelease(&limit->mutex);
		if (recycled || !handle_refresh(record))
			return false;
	}
}

/* For the calls of an attached worker only. */
static bool
lock_mine(LimitRecord *record)
{
	return record != NULL && my_place >= 0 && lock_record(record);
}

static void
unlock_record(LimitRecord *record, const LimitSet *wake)
{
	SpinLockRelease(&record->limit->mutex);
	if (wake != NULL)
		registry_wake(wake);
}

/* Does the handle lead to the record, and is that as these specs want it?  So it is at most reloads. */
static bool
is_current(LimitRecord *record, const char *sync_name, const RateSpec *specs, int nspecs, double sync_reserve)
{
	bool		same;

	if (record->limit == NULL || !lock_record(record))
		return false;
	same = !record->limit->forgotten && strncmp(record->limit->sync_name, sync_name, NAMEDATALEN - 1) == 0 &&
		limit_windows_match(record->windows, specs, nspecs) && record->limit->queue.sync_share == sync_reserve;
	unlock_record(record, NULL);
	return same;
}

static LimitRecord *
configure_bucket(const LimitKey *key, const char *sync_name, const RateSpec *specs, int nspecs, double sync_reserve,
				 bool *is_new)
{
	LimitRecord *record = handle_for(key);
	SharedLimit *limit;

	if (is_current(record, sync_name, specs, nspecs, sync_reserve))
		return record;
	LWLockAcquire(registry_control()->lock, LW_EXCLUSIVE);
	limit = registry_find(key);
	if (limit != NULL)
		registry_update(limit, sync_name, specs, nspecs);
	else
	{
		limit = registry_add(key, sync_name, specs, nspecs);
		store_distrust_new(limit);
		*is_new = true;
	}
	registry_set_share(limit, sync_reserve);
	record->limit = limit;
	record->epoch = limit->epoch;
	handle_follow(record);
	LWLockRelease(registry_control()->lock);
	return record;
}

#define MAX_LIMIT INT64_C(1000000000)	/* as rate_parse; a cell's counts are 32 bits wide */

/* The specs of one bucket, in the order given. */
static int
pick_bucket(const RateSpec *specs, int nspecs, const char *bucket, RateSpec *picked)
{
	int			n = 0;

	for (int i = 0; i < nspecs && n < RATE_MAX_WINDOWS; i++)
	{
		if (strcmp(specs[i].bucket, bucket) != 0)
			continue;
		picked[n] = specs[i];
		picked[n].limit = Min(specs[i].limit, MAX_LIMIT);
		n++;
	}
	return n;
}

static bool
seen_before(const RateSpec *specs, int i)
{
	for (int j = 0; j < i; j++)
		if (strcmp(specs[j].bucket, specs[i].bucket) == 0)
			return true;
	return false;
}

int
limiter_configure(const uint8_t sync_key[16], const char *sync_name, const RateSpec *specs, int nspecs,
				  double sync_reserve, LimitRecord *records[RATE_MAX_BUCKETS])
{
	int			nrecords = 0;

	registry_attach();
	for (int i = 0; i < nspecs && nrecords < RATE_MAX_BUCKETS; i++)
	{
		RateSpec	picked[RATE_MAX_WINDOWS];
		int			npicked = pick_bucket(specs, nspecs, specs[i].bucket, picked);
		LimitKey	key = {0};

		if (seen_before(specs, i))
			continue;
		memcpy(key.sync, sync_key, sizeof(key.sync));
		strlcpy(key.bucket, specs[i].bucket, sizeof(key.bucket));
		records[nrecords++] = configure_bucket(&key, sync_name, picked, npicked, sync_reserve,
												&some_are_new);
	}
	return nrecords;
}

/* After a crash, a limit that the file does not know would start empty. */
void
limiter_configured(void)
{
	if (some_are_new && my_place >= 0)
		limiter_save();
	some_are_new = false;
}

const char *
limiter_bucket(const LimitRecord *record)
{
	return record ? record->key.bucket : "default";
}

uint64_t
limiter_ticket(LimitRecord *record)
{
	uint64_t	ticket;

	if (!lock_mine(record))
		return 0;
	ticket = limit_queue_ticket(&record->limit->queue, my_place);
	unlock_record(record, NULL);
	return ticket;
}

void
limiter_set_waiting(LimitRecord *record, uint64_t oldest_ticket, int nwaiting)
{
	LimitSet	wake = {0};

	if (!lock_mine(record))
		return;
	limit_queue_publish(&record->limit->queue, record->windows, my_place, oldest_ticket, nwaiting, clock_us(), &wake);
	unlock_record(record, &wake);
}

bool
limiter_take(LimitRecord *record, LimitParty party, uint64_t ticket, int64_t now_us, int64_t *retry_at_us)
{
	LimitSet	wake = {0};
	bool		granted;

	if (record == NULL)
		return true;
	*retry_at_us = now_us + UNMAPPED_RETRY_US;
	if (!lock_mine(record))
		return false;
	granted = limit_queue_take(&record->limit->queue, record->windows, my_place, party, ticket, now_us, retry_at_us,
							   &wake);
	unlock_record(record, &wake);
	return granted;
}

void
limiter_sent(LimitRecord *record, LimitParty party, int64_t now_us)
{
	LimitSet	wake = {0};

	if (!lock_mine(record))
		return;
	limit_queue_sent(&record->limit->queue, record->windows, my_place, party, now_us, &wake);
	unlock_record(record, &wake);
}

void
limiter_cancel(LimitRecord *record, LimitParty party)
{
	LimitSet	wake = {0};

	if (!lock_mine(record))
		return;
	limit_queue_cancel(&record->limit->queue, record->windows, my_place, party, clock_us(), &wake);
	unlock_record(record, &wake);
}

void
limiter_block(LimitRecord *record, int64_t until_us)
{
	if (!lock_mine(record))
		return;
	limit_queue_block(&record->limit->queue, until_us);
	unlock_record(record, NULL);
}

void
limiter_tighten(LimitRecord *record, int64_t window_us, int64_t remaining, int64_t asked_at_us)
{
	if (!lock_mine(record))
		return;
	limit_queue_tighten(record->windows, window_us, remaining, asked_at_us, clock_us());
	unlock_record(record, NULL);
}

int
limiter_windows(LimitRecord *record, LimitWindowInfo *out, int max)
{
	int64_t		now = clock_us();
	int			n = 0;

	if (record == NULL || !lock_record(record))
		return 0;
	for (int i = 0; i < record->windows->count && n < max; i++)
	{
		RateWindow *w = limit_window(record->windows, i);
		LimitWindowInfo *info = &out[n++];

		info->limit = w->limit;
		info->period_us = w->period_us;
		info->used = rate_window_count(w, now);
		info->used_by_sync = w->logged_by[LIMIT_SYNC] + limit_queue_reserved(&record->limit->queue, LIMIT_SYNC);
	}
	unlock_record(record, NULL);
	return n;
}

void
limiter_attach(int slot)
{
	registry_attach();
	/* a predecessor that did not detach would leave reservations that nobody can give back */
	registry_vacate(slot);
	store_arrive(slot);
	my_place = slot;
}

void
limiter_detach(void)
{
	if (my_place < 0)
		return;
	for (LimitRecord *record = all_handles; record != NULL; record = record->next)
	{
		LimitSet	wake = {0};

		if (record->limit == NULL || !lock_record(record))
			continue;
		limit_queue_vacate(&record->limit->queue, record->windows, my_place, clock_us(), &wake);
		unlock_record(record, &wake);
	}
	store_leave(my_place);
	my_place = -1;
}
