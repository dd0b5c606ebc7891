/*
 * rate_window.h - the arithmetic of exact sliding windows.  Pure C, no locks, no clock: `now` is
 * given.  Works in place on memory that may be shared (no pointers inside).
 *
 * A window is N requests per T.  It logs send times, so that in ANY interval of length T at most
 * N sends lie.  Up to RATE_EXACT_MAX it keeps every time; above that, times are merged into
 * RATE_COARSE_CELLS cells per T, each counted as its latest time: never too many, at most
 * 1/RATE_COARSE_CELLS too few.  A request is first reserved (counted, no time yet), then stamped
 * when its first byte is about to be written, or cancelled: so that a delay between grant and
 * send cannot squeeze more than N into a window.
 */
#ifndef SEQUIN_RATE_WINDOW_H
#define SEQUIN_RATE_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RATE_EXACT_MAX 1024
#define RATE_COARSE_CELLS 256
#define RATE_MAX_WINDOWS 4			/* per bucket */
#define RATE_MAX_BUCKETS 4			/* per sync */
#define RATE_BUCKET_NAME 16

typedef struct RateSpec				/* one "[bucket:]N/Ts" */
{
	char		bucket[RATE_BUCKET_NAME];	/* "default" when none was written */
	int64_t		limit;				/* N, 1..10^9 */
	int64_t		period_us;			/* T, 1 s .. 366 d */
} RateSpec;

/*
 * "100/10s, search:4/1s, 250000/1d" -> specs.  Returns the count, or -1 with a clear *error
 * (malformed text, zero, unknown unit, too many windows or buckets, the same window twice).
 */
extern int	rate_parse(const char *text, RateSpec *specs, int max, char *error, size_t error_size);

#define RATE_PARTIES 2				/* who sent: LimitParty; told apart for the statistics only */
#define RATE_NOBODY (-1)			/* neither: somebody else with the same account, or before a restart */

typedef struct RateCell
{
	int64_t		first_us;
	int64_t		last_us;
	int32_t		count;
	int32_t		by[RATE_PARTIES];	/* of count; the rest is nobody's */
} RateCell;

typedef struct RateWindow
{
	int64_t		limit;
	int64_t		period_us;
	int64_t		margin_us;			/* added to the period: network jitter between our send and the API's clock */
	int64_t		reserved;			/* granted, not yet stamped */
	int64_t		logged;				/* sum of the live cells' counts; never above limit */
	int64_t		logged_by[RATE_PARTIES];
	int64_t		last_us;			/* latest stamp: times never go back, whoever's clock reading comes late */
	int32_t		capacity;
	int32_t		head;				/* oldest live cell */
	int32_t		used;				/* live cells */
	int32_t		kept;				/* dropped cells still intact just before head (rate_window_count_since) */
	int64_t		forgotten_us;		/* sends up to this time are no longer in any cell */
	RateCell	cells[];			/* capacity of them */
} RateWindow;

extern int32_t rate_capacity(int64_t limit);		/* cells that a window of this limit needs */
extern size_t rate_window_size(int64_t limit);		/* bytes */
extern void rate_window_init(RateWindow *w, int64_t limit, int64_t period_us);
extern bool rate_window_free(RateWindow *w, int64_t now_us);		/* is there room for one more? (expires old cells) */
extern int64_t rate_window_next(RateWindow *w, int64_t now_us);	/* when room will come by time alone; now if there is;
																 * INT64_MAX if only a stamp or cancel can bring it */
/* When fewer than `most` of one party count, of which `reserved` are not stamped yet; otherwise as rate_window_next. */
extern int64_t rate_window_next_of(RateWindow *w, int party, int64_t reserved, int64_t most, int64_t now_us);
extern void rate_window_reserve(RateWindow *w);
extern void rate_window_stamp(RateWindow *w, int64_t now_us, int64_t count, int party);	/* reserved -> logged */
extern void rate_window_cancel(RateWindow *w);
extern void rate_window_charge(RateWindow *w, int64_t now_us, int64_t count);	/* log sends that were not reserved here:
																				 * the API's own remaining count, a restart */
extern int64_t rate_window_count(RateWindow *w, int64_t now_us);	/* reserved + logged within the period */

/*
 * What was on log at then_us, and everything since: what a remote counter that spoke some time
 * after then_us can have seen of us, at most.  -1: not remembered so far back.
 */
extern int64_t rate_window_count_since(RateWindow *w, int64_t then_us, int64_t now_us);

/* Logs in `to` what `from` remembers (for a changed limit or period); reservations are not copied. */
extern void rate_window_carry(RateWindow *to, const RateWindow *from, int64_t now_us);

#endif
