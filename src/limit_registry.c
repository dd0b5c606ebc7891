/*
 * limit_registry.c - where the rate-limit records live (limit_registry.h).
 *
 * Owns the DSA area (its first segment is part of the main shared memory, so that a usual
 * cluster needs no other), the list of records and the replacing of their windows.  A record is
 * recycled only when its sync was dropped and nothing of it is remembered any more; its epoch
 * then moves, and handles that others still hold see that they are stale.
 * Never allocates, maps, wakes or fails while a spinlock is held.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/memutils.h"

#include "limit_registry.h"
#include "reactor.h"
#include "shared.h"

#define FIRST_SEGMENT ((Size) 512 * 1024)	/* about twenty syncs; more go to dynamic segments */

StaticAssertDecl(LIMIT_PLACES == SHARED_SLOTS, "a place for every slot");

static LimitControl *control;
static dsa_area *area;

static Size
area_size(void)
{
	return Max(MAXALIGN(FIRST_SEGMENT), dsa_minimum_size());
}

static void *
area_place(void)
{
	return (char *) control + MAXALIGN(sizeof(LimitControl));
}

size_t
limiter_shmem_size(void)
{
	return add_size(MAXALIGN(sizeof(LimitControl)), area_size());
}

/* As pgstat does: the postmaster makes the area, pinned, and lets go of it; workers grow it. */
void
limiter_shmem_init(void)
{
	bool		found;
	dsa_area   *made;

	control = ShmemInitStruct("sequin_proxy limiter", limiter_shmem_size(), &found);
	if (found)
		return;
	memset(control, 0, sizeof(LimitControl));
	control->lock = &GetNamedLWLockTranche("sequin_proxy")[SHARED_LOCK_LIMITS].lock;
	control->tranche = LWLockNewTrancheId();
	control->first = InvalidDsaPointer;
	made = dsa_create_in_place(area_place(), area_size(), control->tranche, NULL);
	dsa_pin(made);
	dsa_detach(made);
}

void
registry_attach(void)
{
	MemoryContext old;

	if (area != NULL)
		return;
	if (control == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sequin_proxy is not loaded"),
				 errhint("Add sequin_proxy to shared_preload_libraries and restart the server.")));
	LWLockRegisterTranche(control->tranche, "sequin_proxy_limits");
	old = MemoryContextSwitchTo(TopMemoryContext);
	area = dsa_attach_in_place(area_place(), NULL);
	dsa_pin_mapping(area);
	on_shmem_exit(dsa_on_shmem_exit_release_in_place, PointerGetDatum(area_place()));
	MemoryContextSwitchTo(old);
}

LimitControl *
registry_control(void)
{
	return control;
}

void
registry_wake(const LimitSet *places)
{
	for (int i = limit_set_next(places, 0); i >= 0; i = limit_set_next(places, i + 1))
		shared_wake(i);
}

static SharedLimit *
record_at(dsa_pointer at)
{
	return DsaPointerIsValid(at) ? dsa_get_address(area, at) : NULL;
}

SharedLimit *
registry_first(void)
{
	return record_at(control->first);
}

SharedLimit *
registry_next(const SharedLimit *limit)
{
	return record_at(limit->next);
}

LimitWindows *
registry_windows(const SharedLimit *limit)
{
	return dsa_get_address(area, limit->windows);
}

SharedLimit *
registry_find(const LimitKey *key)
{
	SharedLimit *limit;

	for (limit = registry_first(); limit != NULL; limit = registry_next(limit))
		if (limit->in_use && memcmp(&limit->key, key, sizeof(LimitKey)) == 0)
			return limit;
	return NULL;
}

bool
registry_is_spent(SharedLimit *limit)
{
	LimitWindows *windows = registry_windows(limit);
	int64_t		now = clock_us();
	bool		spent;

	SpinLockAcquire(&limit->mutex);
	spent = limit->forgotten && limit_queue_idle(&limit->queue) && limit->queue.blocked_until_us <= now;
	for (int i = 0; i < windows->count && spent; i++)
		spent = rate_window_count(limit_window(windows, i), now) == 0;
	SpinLockRelease(&limit->mutex);
	return spent;
}

static SharedLimit *
find_reusable(void)
{
	SharedLimit *limit;

	for (limit = registry_first(); limit != NULL; limit = registry_next(limit))
		if (!limit->in_use || registry_is_spent(limit))
			return limit;
	return NULL;
}

static dsa_pointer
allocate(Size size)
{
	dsa_pointer at = dsa_allocate_extended(area, size, DSA_ALLOC_NO_OOM | DSA_ALLOC_ZERO);

	if (!DsaPointerIsValid(at))
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of shared memory for rate limits")));
	return at;
}

/* An unused record, linked into the list; it has no windows yet. */
static SharedLimit *
new_record(void)
{
	dsa_pointer at = allocate(sizeof(SharedLimit));
	SharedLimit *limit = record_at(at);

	SpinLockInit(&limit->mutex);
	limit->windows = InvalidDsaPointer;
	limit->next = control->first;
	control->first = at;
	control->count++;
	return limit;
}

static dsa_pointer
new_windows(const RateSpec *specs, int nspecs)
{
	dsa_pointer at = allocate(limit_windows_size(specs, nspecs));

	limit_windows_init(dsa_get_address(area, at), specs, nspecs);
	return at;
}

SharedLimit *
registry_add(const LimitKey *key, const char *sync_name, const RateSpec *specs, int nspecs)
{
	dsa_pointer old;
	dsa_pointer windows;
	SharedLimit *limit = find_reusable();

	if (limit == NULL)
		limit = new_record();
	windows = new_windows(specs, nspecs);
	old = limit->windows;
	SpinLockAcquire(&limit->mutex);
	limit->windows = windows;
	limit->epoch++;
	limit->version++;
	limit->in_use = true;
	limit->forgotten = false;
	limit->key = *key;
	strlcpy(limit->sync_name, sync_name, sizeof(limit->sync_name));
	limit_queue_init(&limit->queue);
	SpinLockRelease(&limit->mutex);
	/* whoever knew the old windows looks at epoch and version before touching them */
	if (DsaPointerIsValid(old))
		dsa_free(area, old);
	return limit;
}

static void
replace_windows(SharedLimit *limit, const RateSpec *specs, int nspecs)
{
	dsa_pointer windows = new_windows(specs, nspecs);
	dsa_pointer old = limit->windows;
	LimitWindows *to = dsa_get_address(area, windows);
	LimitWindows *from = dsa_get_address(area, old);
	LimitSet	wake = {0};
	int64_t		now = clock_us();

	SpinLockAcquire(&limit->mutex);
	limit_windows_carry(to, from, &limit->queue, now);
	limit->windows = windows;
	limit->version++;
	limit_queue_review(&limit->queue, to, now, &wake);
	SpinLockRelease(&limit->mutex);
	dsa_free(area, old);
	registry_wake(&wake);
}

void
registry_update(SharedLimit *limit, const char *sync_name, const RateSpec *specs, int nspecs)
{
	/* the identity of windows stands still under control->lock, and only they are compared */
	if (!limit_windows_match(registry_windows(limit), specs, nspecs))
		replace_windows(limit, specs, nspecs);
	SpinLockAcquire(&limit->mutex);
	limit->forgotten = false;
	strlcpy(limit->sync_name, sync_name, sizeof(limit->sync_name));
	SpinLockRelease(&limit->mutex);
}

void
registry_set_share(SharedLimit *limit, double sync_share)
{
	LimitWindows *windows = registry_windows(limit);
	LimitSet	wake = {0};

	SpinLockAcquire(&limit->mutex);
	limit_queue_set_share(&limit->queue, windows, sync_share, clock_us(), &wake);
	SpinLockRelease(&limit->mutex);
	registry_wake(&wake);
}

void
registry_vacate(int place)
{
	SharedLimit *limit;

	LWLockAcquire(control->lock, LW_SHARED);
	for (limit = registry_first(); limit != NULL; limit = registry_next(limit))
	{
		LimitSet	wake = {0};
		LimitWindows *windows;

		if (!limit->in_use)
			continue;
		windows = registry_windows(limit);
		SpinLockAcquire(&limit->mutex);
		limit_queue_vacate(&limit->queue, windows, place, clock_us(), &wake);
		SpinLockRelease(&limit->mutex);
		registry_wake(&wake);
	}
	LWLockRelease(control->lock);
}

void
limiter_forget(const uint8_t sync_key[16])
{
	SharedLimit *limit;

	registry_attach();
	LWLockAcquire(control->lock, LW_EXCLUSIVE);
	for (limit = registry_first(); limit != NULL; limit = registry_next(limit))
		if (limit->in_use && memcmp(limit->key.sync, sync_key, sizeof(limit->key.sync)) == 0)
		{
			SpinLockAcquire(&limit->mutex);
			limit->forgotten = true;
			SpinLockRelease(&limit->mutex);
		}
	LWLockRelease(control->lock);
}

/* One row per window of a record; returns how many. */
static int
usage_rows(SharedLimit *limit, LimitUsage *rows, int64_t now)
{
	LimitWindows *windows = registry_windows(limit);
	int			n = 0;

	SpinLockAcquire(&limit->mutex);
	for (int i = 0; i < windows->count && !limit->forgotten; i++)
	{
		RateWindow *w = limit_window(windows, i);
		LimitUsage *row = &rows[n++];

		strlcpy(row->sync_name, limit->sync_name, sizeof(row->sync_name));
		strlcpy(row->bucket, limit->key.bucket, sizeof(row->bucket));
		row->limit = w->limit;
		row->period_us = w->period_us;
		row->used = rate_window_count(w, now);	/* expires */
		row->used_by_proxy = w->logged_by[LIMIT_PROXY] + limit_queue_reserved(&limit->queue, LIMIT_PROXY);
		row->used_by_sync = w->logged_by[LIMIT_SYNC] + limit_queue_reserved(&limit->queue, LIMIT_SYNC);
		row->proxy_waiting = limit_queue_waiting(&limit->queue);
		row->blocked_for_us = Max(limit->queue.blocked_until_us - now, 0);
	}
	SpinLockRelease(&limit->mutex);
	return n;
}

int
limiter_usage(LimitUsage **rows)
{
	SharedLimit *limit;
	int64_t		now = clock_us();
	int			n = 0;

	*rows = NULL;
	if (control == NULL)
		return 0;
	registry_attach();
	LWLockAcquire(control->lock, LW_SHARED);
	*rows = palloc0(sizeof(LimitUsage) * RATE_MAX_WINDOWS * (control->count + 1));
	for (limit = registry_first(); limit != NULL; limit = registry_next(limit))
		if (limit->in_use)
			n += usage_rows(limit, *rows + n, now);
	LWLockRelease(control->lock);
	return n;
}
