/*
 * limit_queue.c - tickets, parties and waking of one rate-limit record (limit_queue.h).
 *
 * Owns nothing: it works on a LimitQueue and its LimitWindows in shared memory, called by
 * limiter.c under the record's spinlock.  So it must never fail, block, allocate or loop for
 * longer than O(windows + waiting places).  The unit test drives it with a simulated clock.
 */
#include "limit_queue.h"

#include <string.h>

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
	int64_t		n = 0;

	for (int place = 0; place < LIMIT_PLACES; place++)
		n += queue->places[place].reserved[party];
	return n;
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
anybody_waits(const LimitQueue *queue)
{
	return (queue->waiting.bits[0] | queue->waiting.bits[1]) != 0;
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

	if (first >= 0)
		call(queue, first, LIMIT_PROXY, opens_at(queue, windows, now_us), wake);
	else if (!anybody_waits(queue) && (syncs->bits[0] | syncs->bits[1]) != 0)
	{
		int64_t		at = opens_at(queue, windows, now_us);

		for (int i = limit_set_next(syncs, 0); i >= 0; i = limit_set_next(syncs, i + 1))
			call(queue, i, LIMIT_SYNC, at, wake);
	}
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
patience_ends(LimitQueue *queue, int first, int64_t now_us, int64_t *until_us)
{
	uint64_t	ticket = queue->places[first].oldest;

	if (queue->open_ticket != ticket)
	{
		queue->open_ticket = ticket;
		queue->open_since_us = now_us;
	}
	*until_us = queue->open_since_us + LIMIT_PATIENCE_US;
	return now_us >= *until_us;
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
		if (!open || !patience_ends(queue, first, now_us, retry_at_us))
			return false;
		limit_set_add(&queue->absent, first);
		queue->places[first].told_us[LIMIT_PROXY] = 0;
	}
}

static bool
may_take(LimitQueue *queue, LimitParty party, uint64_t ticket, int64_t opens_at_us, int64_t now_us,
		 int64_t *retry_at_us)
{
	bool		open = opens_at_us <= now_us;

	*retry_at_us = opens_at_us;
	if (party == LIMIT_SYNC)
	{
		if (!anybody_waits(queue))
			return open;
		*retry_at_us = INT64_MAX;
		return false;
	}
	if (is_its_turn(queue, ticket, open, now_us, retry_at_us))
		return open;
	/* should those before it not come for their slots, nobody would call it */
	if (!open)
		*retry_at_us = (opens_at_us < INT64_MAX ? opens_at_us : now_us + LIMIT_RECHECK_US) + LIMIT_PATIENCE_US;
	return false;
}

bool
limit_queue_take(LimitQueue *queue, LimitWindows *windows, int place, LimitParty party, uint64_t ticket, int64_t now_us,
				 int64_t *retry_at_us, LimitSet *wake)
{
	LimitPlace *p = &queue->places[place];
	bool		granted;

	p->told_us[party] = 0;
	limit_set_remove(party == LIMIT_SYNC ? &queue->sync_refused : &queue->absent, place);
	granted = may_take(queue, party, ticket, opens_at(queue, windows, now_us), now_us, retry_at_us);
	if (!granted)
	{
		p->told_us[party] = *retry_at_us;
		if (party == LIMIT_SYNC)
			limit_set_add(&queue->sync_refused, place);
	}
	else
	{
		for (int i = 0; i < windows->count; i++)
			rate_window_reserve(limit_window(windows, i));
		p->reserved[party]++;
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
	for (int i = 0; i < windows->count; i++)
		rate_window_cancel(limit_window(windows, i));
	limit_queue_review(queue, windows, now_us, wake);
}

void
limit_queue_block(LimitQueue *queue, int64_t until_us)
{
	if (until_us > queue->blocked_until_us)
		queue->blocked_until_us = until_us;
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
		p->reserved[party] = 0;
		p->told_us[party] = 0;
	}
	limit_set_remove(&queue->sync_refused, place);
	set_waiting(queue, place, 0, 0);
	limit_queue_review(queue, windows, now_us, wake);
}
