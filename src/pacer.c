/*
 * pacer.c - this worker's waiting lines for rate-limit slots (pacer.h).
 *
 * Owns a line per limiter record that somebody waits for, in arrival order, proxied requests and
 * sync apart.  Called from the worker's loop only; it never touches PostgreSQL, and it calls its
 * owners back from pacer_turn alone.  Each wait stands in exactly one PacerList: its line's, or
 * `free` (unlimited), `expired` (deadline passed, or no memory for a line) or `granted` (has its
 * slot, not yet told).
 */
#include "pacer.h"

#include "fault_point.h"

#include <stdlib.h>

#define LINE_BUCKETS 64

typedef struct Line Line;

typedef struct PacerList
{
	PacerWait  *first;
	PacerWait  *last;
	int			n;
	Line	   *line;			/* NULL: not a line's */
} PacerList;

struct Line
{
	LimitRecord *record;
	PacerList	waits[RATE_PARTIES];	/* by LimitParty */
	Line	   *next;			/* in its bucket */
};

struct Pacer
{
	Reactor    *reactor;
	Timer		timer;			/* the next turn that is due by time */
	Line	   *lines[LINE_BUCKETS];
	int			nlines;
	PacerList	free;
	PacerList	expired;
	PacerList	granted;
};

static void
list_add(PacerList *list, PacerWait *wait)
{
	wait->list = list;
	wait->next = NULL;
	wait->prev = list->last;
	if (list->last != NULL)
		list->last->next = wait;
	else
		list->first = wait;
	list->last = wait;
	list->n++;
}

static void
list_remove(PacerWait *wait)
{
	PacerList  *list = wait->list;

	if (wait->prev != NULL)
		wait->prev->next = wait->next;
	else
		list->first = wait->next;
	if (wait->next != NULL)
		wait->next->prev = wait->prev;
	else
		list->last = wait->prev;
	list->n--;
	wait->list = NULL;
}

static void
timer_due(void *arg)
{
	/* pacer_turn follows in this loop turn: there is nothing to do but not to sleep */
	(void) arg;
}

/* If the timer cannot be set (memory), the loop's own wake-ups still bring the next turn. */
static void
turn_by(Pacer *pacer, int64_t at_us)
{
	if (pacer->timer.slot == 0 || at_us < pacer->timer.at_us)
		(void) timer_set(pacer->reactor, &pacer->timer, at_us, timer_due, pacer);
}

Pacer *
pacer_create(Reactor *reactor)
{
	Pacer	   *pacer = calloc(1, sizeof(Pacer));

	if (pacer != NULL)
		pacer->reactor = reactor;
	return pacer;
}

static Line **
line_bucket(Pacer *pacer, const LimitRecord *record)
{
	return &pacer->lines[((uintptr_t) record >> 5) % LINE_BUCKETS];
}

static Line *
line_for(Pacer *pacer, LimitRecord *record)
{
	Line	  **bucket = line_bucket(pacer, record);
	Line	   *line;

	for (line = *bucket; line != NULL; line = line->next)
		if (line->record == record)
			return line;
	line = calloc(1, sizeof(Line));
	if (line == NULL)
		return NULL;
	line->record = record;
	line->waits[LIMIT_PROXY].line = line;
	line->waits[LIMIT_SYNC].line = line;
	line->next = *bucket;
	*bucket = line;
	pacer->nlines++;
	return line;
}

/* Tells the limiter who is first here now. */
static void
line_publish(Line *line)
{
	PacerList  *proxied = &line->waits[LIMIT_PROXY];

	limiter_set_waiting(line->record, proxied->first ? proxied->first->ticket : 0, proxied->n);
}

static void
leave_line(PacerWait *wait)
{
	Line	   *line = wait->list->line;

	list_remove(wait);
	if (line != NULL && wait->party == LIMIT_PROXY)
		line_publish(line);
}

static void
deadline_passed(void *arg)
{
	PacerWait  *wait = arg;
	Pacer	   *pacer = wait->pacer;

	leave_line(wait);
	list_add(&pacer->expired, wait);
	turn_by(pacer, 0);
}

/*
 * Those who got no slot in their first turn wait by the clock from now on; most get one, and need no timer.  They are
 * the last of the line.  Who cannot have a timer (memory) does not wait.
 */
static void
set_deadlines(PacerList *list)
{
	PacerWait  *prev;

	for (PacerWait *wait = list->last; wait != NULL && !wait->timed; wait = prev)
	{
		prev = wait->prev;
		wait->timed = true;
		if (wait->deadline_us != INT64_MAX &&
			!timer_set(wait->pacer->reactor, &wait->deadline, wait->deadline_us, deadline_passed, wait))
			deadline_passed(wait);
	}
}

void
pacer_wait(Pacer *pacer, PacerWait *wait)
{
	Line	   *line = wait->record ? line_for(pacer, wait->record) : NULL;

	wait->pacer = pacer;
	wait->timed = false;
	turn_by(pacer, 0);
	if (wait->record == NULL)
		list_add(&pacer->free, wait);
	else if (line == NULL)
		list_add(&pacer->expired, wait);
	else
	{
		list_add(&line->waits[wait->party], wait);
		if (wait->party == LIMIT_PROXY)
			wait->ticket = limiter_ticket(wait->record);
	}
}

void
pacer_leave(Pacer *pacer, PacerWait *wait)
{
	if (wait->list == NULL)
		return;
	timer_clear(pacer->reactor, &wait->deadline);
	if (wait->list == &pacer->granted)
		limiter_cancel(wait->record, wait->party);
	leave_line(wait);
}

void
pacer_expire_all(Pacer *pacer)
{
	for (int i = 0; i < LINE_BUCKETS; i++)
		for (Line *line = pacer->lines[i]; line != NULL; line = line->next)
			for (int party = 0; party < RATE_PARTIES; party++)
				while (line->waits[party].first != NULL)
				{
					PacerWait  *wait = line->waits[party].first;

					timer_clear(pacer->reactor, &wait->deadline);
					deadline_passed(wait);
				}
}

/* Moves everybody who gets a slot now to `granted`; returns when to ask again. */
static int64_t
line_take(Pacer *pacer, Line *line, LimitParty party, int64_t now)
{
	PacerList  *list = &line->waits[party];
	int64_t		retry_at = INT64_MAX;

	while (list->first != NULL)
	{
		PacerWait  *wait = list->first;

		if (!limiter_take(line->record, party, wait->ticket, now, &retry_at))
		{
			set_deadlines(list);
			return retry_at;
		}
		FAULT_POINT("limiter.granted");
		timer_clear(pacer->reactor, &wait->deadline);
		list_remove(wait);
		list_add(&pacer->granted, wait);
		if (party == LIMIT_PROXY && list->first != NULL)
			line_publish(line);
	}
	return INT64_MAX;
}

static void
take_all(Pacer *pacer)
{
	int64_t		next = INT64_MAX;
	int64_t		now = pacer->nlines > 0 ? clock_us() : 0;

	for (int i = 0; i < LINE_BUCKETS && pacer->nlines > 0; i++)
	{
		Line	  **link = &pacer->lines[i];

		while (*link != NULL)
		{
			Line	   *line = *link;

			for (int party = 0; party < RATE_PARTIES; party++)
			{
				int64_t		at = line_take(pacer, line, party, now);

				if (at < next)
					next = at;
			}
			if (line->waits[LIMIT_PROXY].n + line->waits[LIMIT_SYNC].n > 0)
			{
				link = &line->next;
				continue;
			}
			*link = line->next;
			pacer->nlines--;
			free(line);
		}
	}
	if (next < INT64_MAX)
		turn_by(pacer, next);
}

/* Calls back those who stand in the list now; who joins it meanwhile waits for the next turn. */
static void
tell_all(Pacer *pacer, PacerList *list)
{
	for (int n = list->n; n > 0 && list->first != NULL; n--)
	{
		PacerWait  *wait = list->first;

		list_remove(wait);
		if (list == &pacer->expired)
			wait->expired(wait);
		else
			wait->granted(wait);
	}
}

void
pacer_turn(Pacer *pacer)
{
	timer_clear(pacer->reactor, &pacer->timer);
	take_all(pacer);
	tell_all(pacer, &pacer->expired);
	tell_all(pacer, &pacer->free);
	tell_all(pacer, &pacer->granted);
}

static int
count_lines(const Pacer *pacer)
{
	int			n = 0;

	for (int i = 0; i < LINE_BUCKETS; i++)
		for (Line *line = pacer->lines[i]; line != NULL; line = line->next)
			n += line->waits[LIMIT_PROXY].n + line->waits[LIMIT_SYNC].n;
	return n;
}

int
pacer_waiting(const Pacer *pacer)
{
	return count_lines(pacer) + pacer->free.n + pacer->expired.n + pacer->granted.n;
}
