/*
 * sync_schedule.h - when a table is to be read next, and how.  Pure C: no clock, no state.
 *
 * Times are µs on one clock (TimestampTz), SCHEDULE_NEVER where something has not happened.  The
 * answers are due times: the past means now.  Who is due longest goes first.
 */
#ifndef SEQUIN_SYNC_SCHEDULE_H
#define SEQUIN_SYNC_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#define SCHEDULE_NEVER INT64_MIN		/* has not happened */
#define SCHEDULE_NONE INT64_MAX			/* is not to happen */

#define SCHEDULE_POLL_US (INT64_C(30) * 1000 * 1000)			/* defaults */
#define SCHEDULE_SWEEP_US (INT64_C(3600) * 1000 * 1000)
#define SCHEDULE_FEED_SWEEP 24			/* with a change feed a sweep is only a check: so many times rarer */
#define SCHEDULE_RESTED 10				/* a table that only sweeps can keep fresh rests so many times as long as a sweep took */

typedef enum TablePhase
{
	TABLE_WAITING,				/* its backfill has not begun */
	TABLE_BACKFILL,
	TABLE_LIVE
} TablePhase;

typedef struct ScheduleTable
{
	TablePhase	phase;
	bool		links;			/* an association table: no polls, only sweeps */
	bool		changes;		/* a poll can ask for what was modified */
	bool		feed;			/* the sync's change feed tells its changes */
	int64_t		live_at;		/* when it was filled first, or last: SCHEDULE_NEVER: it has not been; polls go on while it is read anew */
	int64_t		polled_at;		/* when the last finished one began */
	int64_t		swept_at;
	int64_t		sweep_took_us;	/* how long the last one took; 0: not known */
	bool		sweep_wanted;
	int64_t		wanted_poll_at;		/* somebody waits for a poll that begins after this; SCHEDULE_NEVER: nobody */
	int64_t		wanted_sweep_at;
	int64_t		retry_at;		/* after a failure: not before */
} ScheduleTable;

typedef struct ScheduleTimes
{
	int64_t		poll_us;		/* 0: the default */
	int64_t		sweep_us;
} ScheduleTimes;

/* Due times; SCHEDULE_NONE: not in this phase, or the other does it.  *wanted: somebody waits for it. */
extern int64_t schedule_poll(const ScheduleTable *t, const ScheduleTimes *times, bool *wanted);
extern int64_t schedule_sweep(const ScheduleTable *t, const ScheduleTimes *times, bool *wanted);
extern int64_t schedule_feed(int64_t polled_at, int64_t wanted_at, int64_t retry_at, const ScheduleTimes *times, bool *wanted);

/* After the n-th failure in a row: 1 s, 2 s, 4 s ... 1 min. */
extern int64_t schedule_backoff_us(int failures);

/*
 * The budget of long windows: the sync's own routine (polls, sweeps, schema) uses at most half of what a
 * window of an hour or more allows, evenly spread; backfills and what somebody waits for are not
 * held up.  Returns how far apart such calls have to be, 0: no such window.
 */
typedef struct ScheduleWindow
{
	int64_t		limit;
	int64_t		period_us;
} ScheduleWindow;

extern int64_t schedule_spacing_us(const ScheduleWindow *windows, int nwindows);

#endif
