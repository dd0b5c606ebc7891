/*
 * sync_schedule.c - when a table is to be read next (sync_schedule.h).
 *
 * The arithmetic of freshness alone: intervals, who waits, back-off, and the budget of long
 * rate-limit windows.  Called by sync_tables.c.  Pure: never reads a clock, so it is tested with
 * times of the test's own.
 */
#include "sync_schedule.h"

#define SECOND_US (INT64_C(1000) * 1000)
#define MAX_BACKOFF_US (60 * SECOND_US)
#define LONG_WINDOW_US (3600 * SECOND_US)

static int64_t
later(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static int64_t
poll_interval(const ScheduleTimes *times)
{
	return times->poll_us > 0 ? times->poll_us : SCHEDULE_POLL_US;
}

static int64_t
sweep_interval(const ScheduleTable *t, const ScheduleTimes *times)
{
	if (times->sweep_us > 0)
		return times->sweep_us;
	return t->feed ? SCHEDULE_SWEEP_US * SCHEDULE_FEED_SWEEP : SCHEDULE_SWEEP_US;
}

/* Somebody waits for one that begins after wanted_at, and the last one did not. */
static bool
is_wanted(int64_t wanted_at, int64_t last_at)
{
	return wanted_at != SCHEDULE_NEVER && last_at < wanted_at;
}

int64_t
schedule_poll(const ScheduleTable *t, const ScheduleTimes *times, bool *wanted)
{
	*wanted = false;
	if (t->live_at == SCHEDULE_NEVER || t->links || t->feed || !t->changes)
		return SCHEDULE_NONE;
	*wanted = is_wanted(t->wanted_poll_at, t->polled_at);
	if (*wanted)
		return later(t->wanted_poll_at, t->retry_at);
	if (t->polled_at == SCHEDULE_NEVER)
		return later(t->live_at, t->retry_at);
	return later(t->polled_at + poll_interval(times), t->retry_at);
}

/* Of a table that nothing but a sweep keeps fresh. */
static int64_t
fresh_by_sweep(const ScheduleTable *t, const ScheduleTimes *times)
{
	int64_t		rest = later(poll_interval(times), SCHEDULE_RESTED * t->sweep_took_us);

	return (t->polled_at == SCHEDULE_NEVER ? t->live_at : t->polled_at) + rest;
}

int64_t
schedule_sweep(const ScheduleTable *t, const ScheduleTimes *times, bool *wanted)
{
	bool		is_poll = !t->links && !t->feed && !t->changes;
	int64_t		due;

	*wanted = false;
	if (t->live_at == SCHEDULE_NEVER)
		return SCHEDULE_NONE;
	due = later(t->swept_at, t->live_at) + sweep_interval(t, times);
	if (is_poll && fresh_by_sweep(t, times) < due)
		due = fresh_by_sweep(t, times);
	if (t->sweep_wanted)
		due = t->live_at;
	if (is_wanted(t->wanted_sweep_at, t->swept_at) || (is_poll && is_wanted(t->wanted_poll_at, t->polled_at)))
	{
		*wanted = true;
		due = t->live_at;
	}
	if (t->phase != TABLE_LIVE && !*wanted)
		return SCHEDULE_NONE;	/* it is being read anew: that comes first */
	return later(due, t->retry_at);
}

int64_t
schedule_feed(int64_t polled_at, int64_t wanted_at, int64_t retry_at, const ScheduleTimes *times, bool *wanted)
{
	*wanted = is_wanted(wanted_at, polled_at);
	if (*wanted || polled_at == SCHEDULE_NEVER)
		return retry_at;
	return later(polled_at + poll_interval(times), retry_at);
}

int64_t
schedule_backoff_us(int failures)
{
	int64_t		us = SECOND_US;

	for (int i = 1; i < failures && us < MAX_BACKOFF_US; i++)
		us *= 2;
	return us < MAX_BACKOFF_US ? us : MAX_BACKOFF_US;
}

int64_t
schedule_spacing_us(const ScheduleWindow *windows, int nwindows)
{
	int64_t		spacing = 0;

	for (int i = 0; i < nwindows; i++)
		if (windows[i].period_us >= LONG_WINDOW_US && windows[i].limit > 0)
			spacing = later(spacing, windows[i].period_us * 2 / windows[i].limit);
	return spacing;
}
