/*
 * times.h - dates and points in time as APIs write them, and as PostgreSQL reads them.  Pure C.
 *
 * The calendar is PostgreSQL's: proleptic Gregorian, from 4713-11-24 BC on.
 */
#ifndef SEQUIN_TIMES_H
#define SEQUIN_TIMES_H

#include "arena.h"

#define TIME_SECOND_US INT64_C(1000000)
#define TIME_DAY_US (INT64_C(86400) * TIME_SECOND_US)
#define TIME_MIN_DAY INT64_C(-2440588)	/* where PostgreSQL's calendar begins */
#define TIME_MIN_US (TIME_MIN_DAY * TIME_DAY_US)

extern bool date_parse(Str text, int64_t *days);	/* "2024-01-31" -> days since the Unix epoch */
extern bool time_parse(Str text, int64_t *us);		/* ISO 8601 with a zone -> microseconds since it */
extern int64_t time_day(int64_t us);				/* the day that it is then in UTC */
extern char *date_print(Arena *arena, int64_t days);	/* for date's input function; NULL: out of memory */
extern char *time_print(Arena *arena, int64_t us);		/* for timestamptz's */

/* From the Unix epoch to PostgreSQL's, 2000-01-01. */
#define UNIX_EPOCH_US INT64_C(946684800000000)

#endif
