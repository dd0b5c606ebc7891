// SRC: src/sync_schedule.c
/*
 * test_sync_schedule.c - when a table is read next: intervals, who waits, back-off, budget.
 */
#include "sync_schedule.h"

#include <stdio.h>

#define S INT64_C(1000000)

static int	failed;

static void
check(bool ok, const char *what)
{
	printf("%sok - %s\n", ok ? "" : "not ", what);
	failed += !ok;
}

static ScheduleTable
table(void)
{
	return (ScheduleTable) {.phase = TABLE_LIVE,.changes = true,.live_at = 100 * S,.polled_at = 200 * S,.swept_at = SCHEDULE_NEVER,
		.wanted_poll_at = SCHEDULE_NEVER,.wanted_sweep_at = SCHEDULE_NEVER,.retry_at = SCHEDULE_NEVER};
}

static void
test_polls(void)
{
	ScheduleTable t = table();
	ScheduleTimes times = {0};
	bool		wanted;

	check(schedule_poll(&t, &times, &wanted) == 230 * S && !wanted, "a poll comes 30 s after the last one began");
	times.poll_us = 5 * S;
	check(schedule_poll(&t, &times, &wanted) == 205 * S, "or at the interval set");
	t.retry_at = 300 * S;
	check(schedule_poll(&t, &times, &wanted) == 300 * S, "not before a retry is due");
	t.retry_at = SCHEDULE_NEVER;
	t.wanted_poll_at = 201 * S;
	check(schedule_poll(&t, &times, &wanted) == 201 * S && wanted, "at once when somebody waits for one that begins later");
	t.wanted_poll_at = 200 * S;
	check(schedule_poll(&t, &times, &wanted) == 205 * S && !wanted, "one that began then is late enough");
	t.polled_at = SCHEDULE_NEVER;
	t.wanted_poll_at = SCHEDULE_NEVER;
	check(schedule_poll(&t, &times, &wanted) == 100 * S, "the first one when the table is live");
	t.live_at = SCHEDULE_NEVER;
	t.phase = TABLE_BACKFILL;
	check(schedule_poll(&t, &times, &wanted) == SCHEDULE_NONE, "none before it was filled");
	t = table();
	t.phase = TABLE_WAITING;
	check(schedule_poll(&t, &times, &wanted) == 205 * S, "polls go on while it is read anew");
	t = table();
	t.links = true;
	check(schedule_poll(&t, &times, &wanted) == SCHEDULE_NONE, "associations are not polled");
	t = table();
	t.feed = true;
	check(schedule_poll(&t, &times, &wanted) == SCHEDULE_NONE, "nor is what the feed tells");
}

static void
test_sweeps(void)
{
	ScheduleTable t = table();
	ScheduleTimes times = {0};
	bool		wanted;

	check(schedule_sweep(&t, &times, &wanted) == 3700 * S && !wanted, "a sweep comes an hour after the table went live");
	t.swept_at = 5000 * S;
	check(schedule_sweep(&t, &times, &wanted) == 8600 * S, "or after the last one");
	t.feed = true;
	check(schedule_sweep(&t, &times, &wanted) == (5000 + 24 * 3600) * S, "rarer with a feed");
	times.sweep_us = 10 * S;
	check(schedule_sweep(&t, &times, &wanted) == 5010 * S, "but as often as it is set to");
	t.sweep_wanted = true;
	check(schedule_sweep(&t, &times, &wanted) == 100 * S && !wanted, "at once when there was a gap");
	t.sweep_wanted = false;
	t.wanted_sweep_at = 5001 * S;
	check(schedule_sweep(&t, &times, &wanted) == 100 * S && wanted, "at once when somebody waits");
	t.phase = TABLE_BACKFILL;
	check(schedule_sweep(&t, &times, &wanted) == 100 * S && wanted, "also while it is read anew");
	t.wanted_sweep_at = SCHEDULE_NEVER;
	check(schedule_sweep(&t, &times, &wanted) == SCHEDULE_NONE, "otherwise not then");
	t = table();
	t.changes = false;
	check(schedule_sweep(&t, &(ScheduleTimes) {0}, &wanted) == 230 * S, "a table without polls is swept instead");
	t.sweep_took_us = 20 * S;
	check(schedule_sweep(&t, &(ScheduleTimes) {0}, &wanted) == 400 * S, "and rests ten times as long as that took");
	t.wanted_poll_at = 201 * S;
	check(schedule_sweep(&t, &(ScheduleTimes) {0}, &wanted) == 100 * S && wanted, "unless somebody waits for a poll");
}

static void
test_rest(void)
{
	ScheduleWindow windows[] = {{100, 10 * S}, {250000, 86400 * S}, {1000, 30 * 86400 * S}};
	bool		wanted;

	check(schedule_backoff_us(1) == S && schedule_backoff_us(2) == 2 * S && schedule_backoff_us(4) == 8 * S, "back-off doubles");
	check(schedule_backoff_us(7) == 60 * S && schedule_backoff_us(1000000) == 60 * S, "up to a minute");
	check(schedule_spacing_us(windows, 1) == 0, "short windows need no budget");
	check(schedule_spacing_us(windows, 2) == 691200, "half of a day's calls, evenly");
	check(schedule_spacing_us(windows, 3) == 5184 * S, "half of a month's");
	check(schedule_feed(SCHEDULE_NEVER, SCHEDULE_NEVER, SCHEDULE_NEVER, &(ScheduleTimes) {0}, &wanted) == SCHEDULE_NEVER, "the feed begins at once");
	check(schedule_feed(10 * S, SCHEDULE_NEVER, SCHEDULE_NEVER, &(ScheduleTimes) {0}, &wanted) == 40 * S && !wanted, "and is asked every 30 s");
	check(schedule_feed(10 * S, 11 * S, 12 * S, &(ScheduleTimes) {0}, &wanted) == 12 * S && wanted, "a retry waits also when it is wanted");
}

int
main(void)
{
	test_polls();
	test_sweeps();
	test_rest();
	return failed != 0;
}
