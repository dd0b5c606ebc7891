/*
 * limit_queue.h - who gets the next slot of a rate limit: the record's arithmetic.  Pure C, no
 * locks, no clock, no pointers: it works in place on shared memory, under the caller's lock.
 *
 * A LimitQueue holds, per process ("place"), the oldest ticket that waits there, what it has
 * reserved and when it means to ask again.  The rules:
 *  - a slot goes to the lowest waiting ticket of all places; LIMIT_SYNC gets one only when no
 *    ticket waits, but for its share:
 *  - sync_share of each window (at least one slot, when it is not 0) is kept for a sync that wants
 *    it: while its own count is below that in every window, the next slot is the sync's, before
 *    any ticket; in a window of one slot the two parties take turns;
 *  - the sync spreads what it takes of a window over its period (PACED_PERIOD_US in limit_queue.c):
 *    a hundred at once would come free at once too, and a proxied request wait for that all the
 *    while.  Proxied requests are never paced;
 *  - whoever is next in line has always been told a time to ask again that is not later than the
 *    moment at which a slot comes free; when a call makes that moment earlier, or somebody else
 *    next in line, the call returns whom to wake;
 *  - a place that does not come for its slot within LIMIT_PATIENCE_US (its process is busy in a
 *    transaction) is passed over by other proxied requests until it asks again, and by the sync
 *    after LIMIT_STUCK_US; a sync that does not come for its share within LIMIT_SYNC_PATIENCE_US
 *    (it is busy, or wants it no more) has no claim until it asks again.
 */
#ifndef SEQUIN_LIMIT_QUEUE_H
#define SEQUIN_LIMIT_QUEUE_H

#include "limiter.h"

#define LIMIT_PLACES 65				/* SHARED_SLOTS */
#define LIMIT_PATIENCE_US 25000
#define LIMIT_STUCK_US 100000
#define LIMIT_SYNC_PATIENCE_US 10000
#define LIMIT_RECHECK_US 75000		/* who is not first asks again after this long when no moment is known */

typedef struct LimitSet				/* of places */
{
	uint64_t	bits[2];
} LimitSet;

typedef struct LimitPlace
{
	uint64_t	oldest;				/* ticket; 0: none waits */
	int32_t		waiting;			/* tickets that wait here */
	int32_t		reserved[RATE_PARTIES];
	int64_t		told_us[RATE_PARTIES];	/* refused, and will ask again then; 0: not refused since it last asked, or woken */
} LimitPlace;

typedef struct LimitQueue
{
	uint64_t	last_ticket;
	int64_t		blocked_until_us;
	double		sync_share;			/* 0 .. 0.9 */
	int64_t		reserved[RATE_PARTIES];	/* of all places */
	uint64_t	open_ticket;		/* the ticket that was first in line, with a slot free, ... */
	int64_t		open_since_us;		/* ... when somebody else was refused for it */
	LimitSet	waiting;			/* places with oldest != 0 */
	LimitSet	sync_refused;		/* places with told_us[LIMIT_SYNC] != 0 */
	LimitSet	absent;				/* passed over */
	LimitSet	sync_claims;		/* places whose LIMIT_SYNC was refused and has not been passed over since */
	int64_t		sync_open_since_us;	/* since when a slot is held for a claim; 0: none is */
	bool		sync_was_last;		/* to get a slot */
	int64_t		sync_paced_us;		/* when the sync's latest slot was due by its pace */
	LimitPlace	places[LIMIT_PLACES];
} LimitQueue;

/* The windows of one bucket, in one piece of memory. */
typedef struct LimitWindows
{
	int32_t		size;				/* bytes, all in all */
	int32_t		count;
	int32_t		offset[RATE_MAX_WINDOWS];	/* of each RateWindow from the start of this struct */
} LimitWindows;

extern size_t limit_windows_size(const RateSpec *specs, int nspecs);
extern void limit_windows_init(LimitWindows *windows, const RateSpec *specs, int nspecs);
extern RateWindow *limit_window(LimitWindows *windows, int i);
extern bool limit_windows_match(LimitWindows *windows, const RateSpec *specs, int nspecs);
/* Fills new windows with what the old ones remember, and with what is reserved now. */
extern void limit_windows_carry(LimitWindows *to, LimitWindows *from, const LimitQueue *queue, int64_t now_us);

extern void limit_queue_init(LimitQueue *queue);
extern void limit_queue_set_share(LimitQueue *queue, LimitWindows *windows, double sync_share, int64_t now_us,
								  LimitSet *wake);
extern bool limit_queue_idle(const LimitQueue *queue);		/* nothing waits, nothing is reserved */
extern int	limit_queue_waiting(const LimitQueue *queue);
extern int64_t limit_queue_reserved(const LimitQueue *queue, LimitParty party);

/* As limiter.h promises; wake is added to, never cleared. */
extern uint64_t limit_queue_ticket(LimitQueue *queue, int place);
extern void limit_queue_publish(LimitQueue *queue, LimitWindows *windows, int place, uint64_t oldest, int waiting,
								int64_t now_us, LimitSet *wake);
extern bool limit_queue_take(LimitQueue *queue, LimitWindows *windows, int place, LimitParty party, uint64_t ticket,
							 int64_t now_us, int64_t *retry_at_us, LimitSet *wake);
extern void limit_queue_sent(LimitQueue *queue, LimitWindows *windows, int place, LimitParty party, int64_t now_us,
							 LimitSet *wake);
extern void limit_queue_cancel(LimitQueue *queue, LimitWindows *windows, int place, LimitParty party, int64_t now_us,
							   LimitSet *wake);
extern void limit_queue_block(LimitQueue *queue, int64_t until_us);
extern void limit_queue_tighten(LimitWindows *windows, int64_t window_us, int64_t remaining, int64_t asked_at_us,
								int64_t now_us);
/* The place's process is gone: its reservations count as sent now, its waiters are no more. */
extern void limit_queue_vacate(LimitQueue *queue, LimitWindows *windows, int place, int64_t now_us, LimitSet *wake);
/* After the windows changed. */
extern void limit_queue_review(LimitQueue *queue, LimitWindows *windows, int64_t now_us, LimitSet *wake);

static inline void
limit_set_add(LimitSet *set, int i)
{
	set->bits[i >> 6] |= UINT64_C(1) << (i & 63);
}

static inline void
limit_set_remove(LimitSet *set, int i)
{
	set->bits[i >> 6] &= ~(UINT64_C(1) << (i & 63));
}

static inline bool
limit_set_has(const LimitSet *set, int i)
{
	return (set->bits[i >> 6] >> (i & 63)) & 1;
}

/* for (i = limit_set_next(set, 0); i >= 0; i = limit_set_next(set, i + 1)) */
static inline int
limit_set_next(const LimitSet *set, int from)
{
	for (int word = from >> 6; word < 2; word++, from = word << 6)
	{
		uint64_t	bits = set->bits[word] >> (from & 63);

		if (bits != 0)
			return from + __builtin_ctzll(bits);
	}
	return -1;
}

#endif
