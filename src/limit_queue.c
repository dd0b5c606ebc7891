/*
 * limit_queue.c - tickets, parties and waking of one rate-limit record (limit_queue.h).
 *
 * Owns nothing: it works on a LimitQueue and its LimitWindows in shared memory, called by
 * limiter.c under the record's spinlock.  So it must never fail, block, allocate or loop for
 * longer than O(windows + waiting places), and O(a window's cells) where the sync has a share.  The unit test drives it with a simulated clock.
 */
#include "limit_queue.h"

#include <string.h>

/*
 * The sync's pace.  Windows up to PACED_PERIOD_US are spread (a day's are not: who plans the work
 * sees to them), and only beyond their first quarter, so that a few calls, as a discovery makes,
 * go out at once.  A pace slightly faster than the limit itself, and PACE_SLACK_US beyond an
 * interval that may be caught up, make good for turns that came late: the pace wastes nothing.
 */
#define PACED_PERIOD_US INT64_C(60000000)
#define PACED_FROM(limit) ((limit) / 4)
#define PACE_INTERVAL_US(w) ((w)->period_us / (w)->limit * 63 / 64)
#define PACE_SLACK_US 20000

static size_t
aligned(size_t size)
{
	return (size + 7) & ~(size_t) 7;
}

size_t
limit_windows_size(const RateSpec *specs, int nspecs)
{
	size_t		size = aligned(sizeof(LimitWindows));

	for (int i = 0; i < nspecs; i++)
		size += aligned(rate_window_size(specs[i].limit));
	return size;
}

void
limit_windows_init(LimitWindows *windows, const RateSpec *specs, int nspecs)
{
	size_t		offset = aligned(sizeof(LimitWindows));

	memset(windows, 0, sizeof(LimitWindows));
	windows->size = (int32_t) limit_windows_size(specs, nspecs);
	windows->count = nspecs;
	for (int i = 0; i < nspecs; i++)
	{
		windows->offset[i] = (int32_t) offset;
		rate_window_init(limit_window(windows, i), specs[i].limit, specs[i].period_us);
		offset += aligned(rate_window_size(specs[i].limit));
	}
}

RateWindow *
limit_window(LimitWindows *windows, int i)
{
	return (RateWindow *) ((char *) windows + windows->offset[i]);
}

bool
limit_windows_match(LimitWindows *windows, const RateSpec *specs, int nspecs)
{
	if (windows->count != nspecs)
		return false;
	for (int i = 0; i < nspecs; i++)
	{
		RateWindow *w = limit_window(windows, i);

		if (w->limit != specs[i].limit || w->period_us != specs[i].period_us)
			return false;
	}
	return true;
}

/* Which old window knows most about the sends of a period: the shortest that covers it, else the longest. */
static RateWindow *
best_source(LimitWindows *from, int64_t period_us)
{
	RateWindow *best = NULL;

	for (int i = 0; i < from->count; i++)
	{
		RateWindow *w = limit_window(from, i);
		bool		covers = w->period_us >= period_us;

		if (best == NULL ||
			(covers ? best->period_us < period_us || w->period_us < best->period_us
			 : w->period_us > best->period_us))
			best = w;
	}
	return best;
}

void
limit_windows_carry(LimitWindows *to, LimitWindows *from, const LimitQueue *queue, int64_t now_us)
{
	int64_t		reserved = limit_queue_reserved(queue, LIMIT_PROXY) + limit_queue_reserved(queue, LIMIT_SYNC);

	for (int i = 0; i < to->count; i++)
	{
		RateWindow *w = limit_window(to, i);
		RateWindow *source = best_source(from, w->period_us);

		if (source != NULL)
			rate_window_carry(w, source, now_us);
		w->reserved = reserved;
	}
}

void
limit_queue_init(LimitQueue *queue)
{
	memset(queue, 0, sizeof(LimitQueue));
}

bool
limit_queue_idle(const LimitQueue *queue)
{
	for (int place = 0; place < LIMIT_PLACES; place++)
	{
		const LimitPlace *p = &queue->places[place];

		if (p->waiting != 0 || p->oldest != 0 || p->reserved[LIMIT_PROXY] != 0 || p->reserved[LIMIT_SYNC] != 0)
			return false;
	}
	return true;
}

int
limit_queue_waiting(const LimitQueue *queue)
{
	int			n = 0;

	for (int i = limit_set_next(&queue->waiting, 0); i >= 0; i = limit_set_next(&queue->waiting, i + 1))
		n += queue->places[i].waiting;
	return n;
}

int64_t
limit_queue_reserved(const LimitQueue *queue, LimitParty party)
{
	return queue->reserved[party];
}

/* When a slot can be taken as far as blocks and windows go; now_us if at once; INT64_MAX: not by time alone. */
static int64_t
opens_at(const LimitQueue *queue, LimitWindows *windows, int64_t now_us)
{
	int64_t		at = queue->blocked_until_us > now_us ? queue->blocked_until_us : now_us;

	for (int i = 0; i < windows->count; i++)
	{
		int64_t		next = rate_window_next(limit_window(windows, i), now_us);

		if (next > at)
			at = next;
	}
	return at;
}

/* The place with the lowest waiting ticket, those passed over apart; -1: nobody. */
static int
first_in_line(const LimitQueue *queue)
{
	int			first = -1;

	for (int i = limit_set_next(&queue->waiting, 0); i >= 0; i = limit_set_next(&queue->waiting, i + 1))
		if (!limit_set_has(&queue->absent, i) &&
			(first < 0 || queue->places[i].oldest < queue->places[first].oldest))
			first = i;
	return first;
}

static bool
any(const LimitSet *set)
{
	return (set->bits[0] | set->bits[1]) != 0;
}

/* How far apart the sync's slots should be now. */
static int64_t
pace_interval(LimitWindows *windows, int64_t now_us)
{
	int64_t		interval = 0;

	for (int i = 0; i < windows->count; i++)
	{
		RateWindow *w = limit_window(windows, i);

		if (w->period_us <= PACED_PERIOD_US && rate_window_count(w, now_us) >= PACED_FROM(w->limit) &&
			PACE_INTERVAL_US(w) > interval)
			interval = PACE_INTERVAL_US(w);
	}
	return interval;
}

/* When the sync's pace lets it take another slot. */
static int64_t
pace_opens_at(const LimitQueue *queue, LimitWindows *windows, int64_t now_us)
{
	int64_t		at = queue->sync_paced_us + pace_interval(windows, now_us);

	return at > now_us ? at : now_us;
}

/* The sync takes a slot; what it is late may be caught up, but not much of it. */
static void
pace_note(LimitQueue *queue, LimitWindows *windows, int64_t now_us)
{
	int64_t		interval = pace_interval(windows, now_us);
	int64_t		due = queue->sync_paced_us + interval;

	if (due < now_us - interval - PACE_SLACK_US)
		due = now_us - interval - PACE_SLACK_US;
	queue->sync_paced_us = due < now_us ? due : now_us;
}

/* How many of a window's slots the sync may hold while tickets wait; it is below the limit but where that is one. */
static int64_t
share_of(const LimitQueue *queue, const RateWindow *w)
{
	int64_t		share = (int64_t) ((double) w->limit * queue->sync_share + 1e-6);

	return share < 1 ? 1 : share;
}

/* When the sync is below its share in every window; now_us if it is; INT64_MAX: not by time alone. */
static int64_t
share_opens_at(const LimitQueue *queue, LimitWindows *windows, int64_t now_us)
{
	int64_t		at = now_us;

	if (queue->sync_share <= 0)
		return INT64_MAX;
	for (int i = 0; i < windows->count; i++)
	{
		RateWindow *w = limit_window(windows, i);
		int64_t		share = share_of(queue, w);
		int64_t		next = share == w->limit && queue->sync_was_last ? INT64_MAX
			: rate_window_next_of(w, LIMIT_SYNC, queue->reserved[LIMIT_SYNC], share, now_us);

		if (next > at)
			at = next;
	}
	return at;
}

static int64_t
after(int64_t at_us, int64_t delay_us)
{
	return at_us < INT64_MAX ? at_us + delay_us : at_us;
}

/* When the sync should ask, given when a slot comes free; INT64_MAX: somebody will have to call it. */
static int64_t
sync_turn_at(const LimitQueue *queue, LimitWindows *windows, int64_t opens_at_us, int64_t now_us)
{
	int64_t		share_at;
	int64_t		stuck_at;

	if (first_in_line(queue) < 0)
	{
		int64_t		pace_at = pace_opens_at(queue, windows, now_us);

		return pace_at > opens_at_us ? pace_at : opens_at_us;
	}
	share_at = share_opens_at(queue, windows, now_us);
	if (share_at < opens_at_us)
		share_at = opens_at_us;
	/* should those who wait not come for their slots, nobody would call it */
	stuck_at = after(opens_at_us, LIMIT_STUCK_US);
	return share_at < stuck_at ? share_at : stuck_at;
}

/*
 * When the first in line should ask.  Also when the slot will be the sync's: should that not come,
 * this one will be there, and start the clock of its patience.
 */
static int64_t
proxy_turn_at(const LimitQueue *queue, int64_t opens_at_us)
{
	int64_t		held_until = queue->sync_open_since_us + LIMIT_SYNC_PATIENCE_US;

	if (queue->sync_open_since_us == 0 || !any(&queue->sync_claims) || opens_at_us > held_until)
		return opens_at_us;
	return held_until;
}

static void
call(LimitQueue *queue, int place, LimitParty party, int64_t opens_at_us, LimitSet *wake)
{
	LimitPlace *p = &queue->places[place];

	if (p->told_us[party] <= opens_at_us)
		return;					/* it is about to ask, or will in time */
	p->told_us[party] = 0;
	if (party == LIMIT_SYNC)
		limit_set_remove(&queue->sync_refused, place);
	limit_set_add(wake, place);
}

void
limit_queue_review(LimitQueue *queue, LimitWindows *windows, int64_t now_us, LimitSet *wake)
{
	int			first = first_in_line(queue);
	const LimitSet *syncs = &queue->sync_refused;
	int64_t		at;

	if (first < 0 && !any(syncs))
		return;
	at = opens_at(queue, windows, now_us);
	if (first >= 0)
		call(queue, first, LIMIT_PROXY, proxy_turn_at(queue, at), wake);
	if (any(syncs))
		at = sync_turn_at(queue, windows, at, now_us);
	for (int i = limit_set_next(syncs, 0); i >= 0; i = limit_set_next(syncs, i + 1))
		call(queue, i, LIMIT_SYNC, at, wake);
}

void
limit_queue_set_share(LimitQueue *queue, LimitWindows *windows, double sync_share, int64_t now_us, LimitSet *wake)
{
	queue->sync_share = sync_share;
	limit_queue_review(queue, windows, now_us, wake);
}

static void
set_waiting(LimitQueue *queue, int place, uint64_t oldest, int waiting)
{
	LimitPlace *p = &queue->places[place];

	limit_set_remove(&queue->absent, place);
	p->oldest = waiting > 0 ? oldest : 0;
	p->waiting = p->oldest != 0 ? waiting : 0;
	if (p->oldest != 0)
		limit_set_add(&queue->waiting, place);
	else
	{
		limit_set_remove(&queue->waiting, place);
		p->told_us[LIMIT_PROXY] = 0;
	}
}

uint64_t
limit_queue_ticket(LimitQueue *queue, int place)
{
	LimitPlace *p = &queue->places[place];
	uint64_t	ticket = ++queue->last_ticket;

	p->waiting++;
	if (p->oldest == 0)
	{
		p->oldest = ticket;
		limit_set_add(&queue->waiting, place);
	}
	return ticket;
}

void
limit_queue_publish(LimitQueue *queue, LimitWindows *windows, int place, uint64_t oldest, int waiting, int64_t now_us,
					LimitSet *wake)
{
	set_waiting(queue, place, oldest, waiting);
	limit_queue_review(queue, windows, now_us, wake);
}

/*
 * A slot is free, but `first` has the lower ticket.  True once it has had its chance and may be
 * passed over; else *until_us says when that will be.
 */
static bool
patience_ends(LimitQueue *queue, int first, int64_t patience_us, int64_t now_us, int64_t *until_us)
{
	uint64_t	ticket = queue->places[first].oldest;

	if (queue->open_ticket != ticket)
	{
		queue->open_ticket = ticket;
		queue->open_since_us = now_us;
	}
	*until_us = queue->open_since_us + patience_us;
	return now_us >= *until_us;
}

static void
pass_over(LimitQueue *queue, int place)
{
	limit_set_add(&queue->absent, place);
	queue->places[place].told_us[LIMIT_PROXY] = 0;
}

/* A slot is free: is it held for a sync's share?  Then *until_us says how long at most. */
static bool
held_for_sync(LimitQueue *queue, LimitWindows *windows, int64_t now_us, int64_t *until_us)
{
	if (!any(&queue->sync_claims) || share_opens_at(queue, windows, now_us) > now_us)
		return false;
	if (queue->sync_open_since_us == 0)
		queue->sync_open_since_us = now_us;
	*until_us = queue->sync_open_since_us + LIMIT_SYNC_PATIENCE_US;
	if (now_us < *until_us)
		return true;
	memset(&queue->sync_claims, 0, sizeof(LimitSet));
	return false;
}

/* May this ticket have the next slot?  If not, but one is open, *retry_at_us says when those before it are passed over. */
static bool
is_its_turn(LimitQueue *queue, uint64_t ticket, bool open, int64_t now_us, int64_t *retry_at_us)
{
	for (;;)
	{
		int			first = first_in_line(queue);

		if (first < 0 || queue->places[first].oldest >= ticket)
			return true;
		if (!open || !patience_ends(queue, first, LIMIT_PATIENCE_US, now_us, retry_at_us))
			return false;
		pass_over(queue, first);
	}
}

static bool
proxy_may_take(LimitQueue *queue, LimitWindows *windows, uint64_t ticket, int64_t opens_at_us, int64_t now_us,
			   int64_t *retry_at_us)
{
	bool		open = opens_at_us <= now_us;

	*retry_at_us = opens_at_us;
	if (is_its_turn(queue, ticket, open, now_us, retry_at_us))
		return open && !held_for_sync(queue, windows, now_us, retry_at_us);
	/* should those before it not come for their slots, nobody would call it */
	if (!open)
		*retry_at_us = (opens_at_us < INT64_MAX ? opens_at_us : now_us + LIMIT_RECHECK_US) + LIMIT_PATIENCE_US;
	return false;
}

static bool
sync_may_take(LimitQueue *queue, LimitWindows *windows, int64_t opens_at_us, int64_t now_us, int64_t *retry_at_us)
{
	int64_t		share_at;
	int			first;

	if (opens_at_us > now_us)
	{
		*retry_at_us = sync_turn_at(queue, windows, opens_at_us, now_us);
		return false;
	}
	share_at = share_opens_at(queue, windows, now_us);
	if (share_at <= now_us && first_in_line(queue) >= 0)
		return true;
	while ((first = first_in_line(queue)) >= 0)
	{
		if (!patience_ends(queue, first, LIMIT_STUCK_US, now_us, retry_at_us))
		{
			if (share_at < *retry_at_us)
				*retry_at_us = share_at;
			return false;
		}
		pass_over(queue, first);
	}
	*retry_at_us = pace_opens_at(queue, windows, now_us);
	return *retry_at_us <= now_us;
}

static void
note_grant(LimitQueue *queue, LimitPlace *p, LimitParty party)
{
	p->reserved[party]++;
	queue->reserved[party]++;
	queue->sync_was_last = party == LIMIT_SYNC;
	/* whoever was being waited for has had its chance, or has it anew at the next slot */
	queue->sync_open_since_us = 0;
	if (party == LIMIT_SYNC)
		queue->open_ticket = 0;
}

bool
limit_queue_take(LimitQueue *queue, LimitWindows *windows, int place, LimitParty party, uint64_t ticket, int64_t now_us,
				 int64_t *retry_at_us, LimitSet *wake)
{
	LimitPlace *p = &queue->places[place];
	int64_t		opens_at_us = opens_at(queue, windows, now_us);
	bool		granted;

	p->told_us[party] = 0;
	if (party == LIMIT_SYNC)
	{
		limit_set_remove(&queue->sync_refused, place);
		limit_set_remove(&queue->sync_claims, place);
		granted = sync_may_take(queue, windows, opens_at_us, now_us, retry_at_us);
	}
	else
	{
		limit_set_remove(&queue->absent, place);
		granted = proxy_may_take(queue, windows, ticket, opens_at_us, now_us, retry_at_us);
	}
	if (!granted)
	{
		p->told_us[party] = *retry_at_us;
		if (party == LIMIT_SYNC)
		{
			limit_set_add(&queue->sync_refused, place);
			limit_set_add(&queue->sync_claims, place);
		}
	}
	else
	{
		if (party == LIMIT_SYNC)
			pace_note(queue, windows, now_us);
		for (int i = 0; i < windows->count; i++)
			rate_window_reserve(limit_window(windows, i));
		note_grant(queue, p, party);
		/* others that wait here: limit_queue_publish follows and says which is the oldest now */
		if (party == LIMIT_PROXY)
			set_waiting(queue, place, p->oldest, p->waiting - 1);
	}
	limit_queue_review(queue, windows, now_us, wake);
	return granted;
}

void
limit_queue_sent(LimitQueue *queue, LimitWindows *windows, int place, LimitParty party, int64_t now_us, LimitSet *wake)
{
	LimitPlace *p = &queue->places[place];

	if (p->reserved[party] <= 0)
		return;					/* vacated in between: it was stamped then */
	p->reserved[party]--;
	queue->reserved[party]--;
	for (int i = 0; i < windows->count; i++)
		rate_window_stamp(limit_window(windows, i), now_us, 1, party);
	limit_queue_review(queue, windows, now_us, wake);
}

void
limit_queue_cancel(LimitQueue *queue, LimitWindows *windows, int place, LimitParty party, int64_t now_us, LimitSet *wake)
{
	LimitPlace *p = &queue->places[place];

	if (p->reserved[party] <= 0)
		return;
	p->reserved[party]--;
	queue->reserved[party]--;
	for (int i = 0; i < windows->count; i++)
		rate_window_cancel(limit_window(windows, i));
	limit_queue_review(queue, windows, now_us, wake);
}

void
limit_queue_block(LimitQueue *queue, int64_t until_us)
{
	if (until_us <= queue->blocked_until_us)
		return;
	queue->blocked_until_us = until_us;
	/* what was open is not any more: nobody has missed a chance yet */
	queue->open_ticket = 0;
	queue->sync_open_since_us = 0;
}

void
limit_queue_tighten(LimitWindows *windows, int64_t window_us, int64_t remaining, int64_t asked_at_us, int64_t now_us)
{
	if (remaining < 0)
		remaining = 0;
	for (int i = 0; i < windows->count; i++)
	{
		RateWindow *w = limit_window(windows, i);
		int64_t		ours;

		if (w->period_us != window_us || remaining >= w->limit)
			continue;
		/* the API spoke at some time after asked_at: what it counted beyond all of ours is somebody else's */
		ours = rate_window_count_since(w, asked_at_us, now_us);
		if (ours >= 0)
			rate_window_charge(w, now_us, w->limit - ours - remaining);
	}
}

void
limit_queue_vacate(LimitQueue *queue, LimitWindows *windows, int place, int64_t now_us, LimitSet *wake)
{
	LimitPlace *p = &queue->places[place];

	for (int party = 0; party < RATE_PARTIES; party++)
	{
		for (int i = 0; i < windows->count; i++)
			rate_window_stamp(limit_window(windows, i), now_us, p->reserved[party], party);
		queue->reserved[party] -= p->reserved[party];
		p->reserved[party] = 0;
		p->told_us[party] = 0;
	}
	limit_set_remove(&queue->sync_refused, place);
	limit_set_remove(&queue->sync_claims, place);
	set_waiting(queue, place, 0, 0);
	limit_queue_review(queue, windows, now_us, wake);
}
