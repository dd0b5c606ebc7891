/*
 * rate_window.c - exact sliding windows on plain memory (rate_window.h).
 *
 * Owns the arithmetic only: no locks, no clock, no allocation, no pointers in what it keeps, so
 * a window may lie in shared memory and be worked on by any process that holds the caller's lock.
 * Nothing here may fail or block: it runs under a spinlock.
 *
 * Why it is exact: take N+1 sends that were stamped within one period, and of these the one that
 * was granted last.  When it was granted, each of the others was either reserved or stamped less
 * than a period ago, so N were counted and it was refused.
 */
#include "rate_window.h"

#include <string.h>

/*
 * The stamp is taken before the first byte is written; what the API's clock sees is shifted by the
 * way there, and by how busy the API is, which varies.  That jitter does not grow with the period:
 * 25 ms cover kept-alive connections to a busy machine; for the shortest periods 1.1 % must do (11 ms
 * of 1 s), since more would endanger the promise to use 98 % of the limit, of which each period also
 * loses the time of a wake-up and a send.  What does grow is how far two clocks drift apart: 1e-4.
 */
#define MARGIN_SHARE 90
#define MARGIN_MAX_US 25000
#define DRIFT_SHARE 10000

#define KEPT_CELLS 32				/* expired cells that are kept for rate_window_count_since, at least */

static bool
is_exact(int64_t limit)
{
	return limit <= RATE_EXACT_MAX;
}

int32_t
rate_capacity(int64_t limit)
{
	/* coarse: the firsts of live cells are at least 1/256 of the span apart and reach one cell beyond it */
	if (!is_exact(limit))
		return RATE_COARSE_CELLS + 2 + KEPT_CELLS;
	return (int32_t) limit * 2 + KEPT_CELLS;
}

size_t
rate_window_size(int64_t limit)
{
	return sizeof(RateWindow) + sizeof(RateCell) * (size_t) rate_capacity(limit);
}

void
rate_window_init(RateWindow *w, int64_t limit, int64_t period_us)
{
	int64_t		margin = period_us / MARGIN_SHARE;

	memset(w, 0, sizeof(RateWindow));
	w->limit = limit;
	w->period_us = period_us;
	w->margin_us = (margin > MARGIN_MAX_US ? MARGIN_MAX_US : margin) + period_us / DRIFT_SHARE;
	w->last_us = INT64_MIN;
	w->forgotten_us = INT64_MIN;
	w->capacity = rate_capacity(limit);
}

static int64_t
span(const RateWindow *w)
{
	return w->period_us + w->margin_us;
}

/* The i-th live cell, oldest first; negative: kept ones, -1 the youngest. */
static RateCell *
cell_at(RateWindow *w, int32_t i)
{
	return &w->cells[(w->head + i + w->capacity) % w->capacity];
}

static void
drop_oldest(RateWindow *w)
{
	RateCell   *cell = cell_at(w, 0);

	w->logged -= cell->count;
	for (int p = 0; p < RATE_PARTIES; p++)
		w->logged_by[p] -= cell->by[p];
	w->head = (w->head + 1) % w->capacity;
	w->used--;
	w->kept++;
}

static void
expire(RateWindow *w, int64_t now_us)
{
	while (w->used > 0 && now_us - cell_at(w, 0)->last_us >= span(w))
		drop_oldest(w);
}

/* Of more than `limit` sends only the youngest `limit` can ever hold back a new one: forget the others. */
static void
trim(RateWindow *w)
{
	while (w->logged > w->limit)
	{
		RateCell   *cell = cell_at(w, 0);
		int32_t		excess = (int32_t) (w->logged - w->limit);

		if (cell->count <= excess)
		{
			drop_oldest(w);
			continue;
		}
		cell->count -= excess;
		w->logged -= excess;
		for (int p = RATE_PARTIES - 1; p >= 0 && excess > 0; p--)
		{
			int32_t		less = cell->by[p] < excess ? cell->by[p] : excess;

			cell->by[p] -= less;
			w->logged_by[p] -= less;
			excess -= less;
		}
	}
}

static RateCell *
new_cell(RateWindow *w, int64_t at_us)
{
	RateCell   *cell;

	if (w->used + w->kept == w->capacity)
		w->forgotten_us = cell_at(w, -w->kept--)->last_us;
	cell = cell_at(w, w->used++);
	memset(cell, 0, sizeof(RateCell));
	cell->first_us = at_us;
	return cell;
}

/* The cell that a send at this time belongs to. */
static RateCell *
cell_for(RateWindow *w, int64_t at_us)
{
	RateCell   *youngest = w->used > 0 ? cell_at(w, w->used - 1) : NULL;
	int64_t		width = is_exact(w->limit) ? 1 : span(w) / RATE_COARSE_CELLS;

	/* a full ring cannot be (rate_capacity); were it, counting a send later than it was is safe */
	if (youngest != NULL && (at_us - youngest->first_us < width || w->used == w->capacity))
		return youngest;
	return new_cell(w, at_us);
}

static void
add(RateWindow *w, int64_t at_us, int64_t count, int party)
{
	RateCell   *cell;

	if (count <= 0)
		return;
	if (count > w->limit)
		count = w->limit;
	if (at_us < w->last_us)
		at_us = w->last_us;
	w->last_us = at_us;
	cell = cell_for(w, at_us);
	cell->last_us = at_us;
	cell->count += (int32_t) count;
	w->logged += count;
	if (party >= 0 && party < RATE_PARTIES)
	{
		cell->by[party] += (int32_t) count;
		w->logged_by[party] += count;
	}
	trim(w);
}

bool
rate_window_free(RateWindow *w, int64_t now_us)
{
	expire(w, now_us);
	return w->reserved + w->logged < w->limit;
}

int64_t
rate_window_next(RateWindow *w, int64_t now_us)
{
	int64_t		surplus;

	expire(w, now_us);
	surplus = w->reserved + w->logged - w->limit;
	if (surplus < 0)
		return now_us;
	for (int32_t i = 0; i < w->used; i++)
	{
		surplus -= cell_at(w, i)->count;
		if (surplus < 0)
			return cell_at(w, i)->last_us + span(w);
	}
	return INT64_MAX;
}

int64_t
rate_window_next_of(RateWindow *w, int party, int64_t reserved, int64_t most, int64_t now_us)
{
	int64_t		surplus;

	expire(w, now_us);
	surplus = reserved + w->logged_by[party] - most;
	if (surplus < 0)
		return now_us;
	for (int32_t i = 0; i < w->used; i++)
	{
		surplus -= cell_at(w, i)->by[party];
		if (surplus < 0)
			return cell_at(w, i)->last_us + span(w);
	}
	return INT64_MAX;
}

void
rate_window_reserve(RateWindow *w)
{
	w->reserved++;
}

void
rate_window_stamp(RateWindow *w, int64_t now_us, int64_t count, int party)
{
	w->reserved = w->reserved > count ? w->reserved - count : 0;
	expire(w, now_us);
	add(w, now_us, count, party);
}

void
rate_window_cancel(RateWindow *w)
{
	if (w->reserved > 0)
		w->reserved--;
}

void
rate_window_charge(RateWindow *w, int64_t now_us, int64_t count)
{
	expire(w, now_us);
	add(w, now_us, count, RATE_NOBODY);
}

int64_t
rate_window_count(RateWindow *w, int64_t now_us)
{
	expire(w, now_us);
	return w->reserved + w->logged;
}

int64_t
rate_window_count_since(RateWindow *w, int64_t then_us, int64_t now_us)
{
	int64_t		count = rate_window_count(w, now_us);

	if (then_us - span(w) < w->forgotten_us)
		return -1;
	for (int32_t i = 1; i <= w->kept && then_us - cell_at(w, -i)->last_us < span(w); i++)
		count += cell_at(w, -i)->count;
	return count;
}

void
rate_window_carry(RateWindow *to, const RateWindow *from, int64_t now_us)
{
	RateWindow *source = (RateWindow *) from;	/* cell_at only reads */

	to->forgotten_us = from->forgotten_us;
	for (int32_t i = -from->kept; i < from->used; i++)
	{
		const RateCell *cell = cell_at(source, i);
		int64_t		rest = cell->count;

		if (now_us - cell->last_us >= span(to))
		{
			to->forgotten_us = cell->last_us;
			continue;
		}
		for (int p = 0; p < RATE_PARTIES; p++)
		{
			add(to, cell->last_us, cell->by[p], p);
			rest -= cell->by[p];
		}
		add(to, cell->last_us, rest, RATE_NOBODY);
	}
	expire(to, now_us);
}
