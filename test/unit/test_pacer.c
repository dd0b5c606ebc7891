// SRC: src/pacer.c src/reactor.c  LIBS:
/*
 * test_pacer.c - a worker's waiting lines, on the real reactor and a stand-in limiter that grants
 * as many slots as the test says.
 */
#include "../../src/pacer.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int	passed;
static int	failed;

static void
check(bool ok, const char *what)
{
	printf("%s - %s\n", ok ? "ok" : "not ok", what);
	ok ? passed++ : failed++;
}

/* ---- the stand-in ---- */

struct LimitRecord
{
	int			slots;
	uint64_t	tickets;
	uint64_t	oldest;			/* as published */
	int			waiting;
	int			cancelled;
	int			takes;
	int64_t		retry_at;
};

uint64_t
limiter_ticket(LimitRecord *record)
{
	record->waiting++;
	record->tickets++;
	if (record->oldest == 0)
		record->oldest = record->tickets;
	return record->tickets;
}

void
limiter_set_waiting(LimitRecord *record, uint64_t oldest_ticket, int nwaiting)
{
	record->oldest = oldest_ticket;
	record->waiting = nwaiting;
}

bool
limiter_take(LimitRecord *record, LimitParty party, uint64_t ticket, int64_t now_us, int64_t *retry_at_us)
{
	(void) now_us;
	record->takes++;
	*retry_at_us = record->retry_at;
	if (record->slots == 0 || (party == LIMIT_SYNC && record->waiting > 0))
		return false;
	record->slots--;
	if (party == LIMIT_PROXY && (--record->waiting == 0 || ticket != record->oldest))
		record->oldest = 0;
	return true;
}

void
limiter_cancel(LimitRecord *record, LimitParty party)
{
	(void) party;
	record->cancelled++;
}

/* ---- waits that note what became of them ---- */

#define WAITS 2000

static Reactor *reactor;
static Pacer *pacer;
static PacerWait waits[WAITS];
static int	order[WAITS * 2];
static int	ngranted;
static int	nexpired;
static PacerWait *leaves_on_grant;
static LimitRecord *again;

static void
granted(PacerWait *wait)
{
	order[ngranted++] = (int) (wait - waits);
	if (leaves_on_grant != NULL && leaves_on_grant != wait)
	{
		PacerWait  *other = leaves_on_grant;

		leaves_on_grant = NULL;
		pacer_leave(pacer, other);
	}
	if (again != NULL)
	{
		wait->record = again == (LimitRecord *) -1 ? NULL : again;
		again = NULL;
		pacer_wait(pacer, wait);
	}
}

static void
expired(PacerWait *wait)
{
	(void) wait;
	nexpired++;
}

static void
start(void)
{
	memset(waits, 0, sizeof(waits));
	ngranted = nexpired = 0;
}

static PacerWait *
add(int i, LimitRecord *record, LimitParty party, int64_t deadline)
{
	waits[i].record = record;
	waits[i].party = party;
	waits[i].deadline_us = deadline;
	waits[i].granted = granted;
	waits[i].expired = expired;
	pacer_wait(pacer, &waits[i]);
	return &waits[i];
}

static void
turn(void)
{
	(void) reactor_dispatch(reactor);
	pacer_turn(pacer);
}

static void
test_order(void)
{
	LimitRecord record = {.slots = 3, .retry_at = INT64_MAX};
	LimitRecord other = {.slots = 1, .retry_at = INT64_MAX};
	bool		fifo = true;

	start();
	for (int i = 0; i < 10; i++)
		add(i, &record, i == 0 ? LIMIT_SYNC : LIMIT_PROXY, INT64_MAX);
	add(10, &other, LIMIT_PROXY, INT64_MAX);
	add(11, NULL, LIMIT_PROXY, INT64_MAX);
	check(ngranted == 0 && pacer_waiting(pacer) == 12, "pacer_wait calls nobody back");
	check(reactor_timeout_ms(reactor) == 0, "and sees to it that a turn follows");
	turn();
	check(ngranted == 5 && pacer_waiting(pacer) == 7, "as many are granted as there are slots, the unlimited too");
	check(record.oldest == 4 && record.waiting == 6, "the limiter is told who is the oldest now");
	check(reactor_timeout_ms(reactor) == -1, "without a time to ask again it sleeps until it is woken");
	record.slots = 100;
	turn();
	for (int i = 1, last = 0; i < ngranted; i++)
		if (order[i] > 0 && order[i] < 10)
		{
			fifo &= order[i] > last;
			last = order[i];
		}
	check(fifo && ngranted == 12 && order[11] == 0, "oldest first, and the sync's after the proxied ones");
	record.takes = 0;
	turn();
	check(record.takes == 0 && pacer_waiting(pacer) == 0, "when nobody waits nobody is asked");
}

static void
test_deadlines(void)
{
	LimitRecord record = {.retry_at = INT64_MAX};
	int64_t		now = clock_us();

	start();
	for (int i = 0; i < 100; i++)
		add(i, &record, LIMIT_PROXY, now + (i % 2 ? 3000 : 10000000));
	turn();
	check(nexpired == 0 && reactor_timeout_ms(reactor) >= 0 && reactor_timeout_ms(reactor) <= 4, "the next deadline ends the sleep");
	usleep(5000);
	turn();
	check(nexpired == 50 && ngranted == 0, "those whose deadline has passed are told so");
	check(record.oldest == 1 && record.waiting == 50, "and wait no more");
	for (int i = 0; i < 100; i += 2)
		pacer_leave(pacer, &waits[i]);
	check(record.oldest == 0 && record.waiting == 0 && pacer_waiting(pacer) == 0, "who leaves is forgotten");
	pacer_leave(pacer, &waits[0]);
	record.slots = 5;
	turn();
	check(ngranted == 0 && nexpired == 50, "leaving twice is harmless");
}

static void
test_retry_time(void)
{
	LimitRecord record = {.retry_at = clock_us() + 4000};

	start();
	add(0, &record, LIMIT_PROXY, INT64_MAX);
	turn();
	check(reactor_timeout_ms(reactor) > 0 && reactor_timeout_ms(reactor) <= 4, "the limiter's retry time ends the sleep");
	record.slots = 1;
	turn();
	check(ngranted == 1, "a turn before that asks too");
}

static void
test_callbacks(void)
{
	LimitRecord record = {.slots = 2, .retry_at = INT64_MAX};

	start();
	add(0, &record, LIMIT_PROXY, INT64_MAX);
	leaves_on_grant = add(1, &record, LIMIT_PROXY, INT64_MAX);
	turn();
	check(ngranted == 1 && record.cancelled == 1 && pacer_waiting(pacer) == 0,
		  "who leaves between its grant and being told gives its slot back");
	again = (LimitRecord *) -1;
	record.slots = 1;
	add(2, &record, LIMIT_PROXY, INT64_MAX);
	turn();
	check(ngranted == 2 && pacer_waiting(pacer) == 1 && reactor_timeout_ms(reactor) == 0,
		  "who waits again from its callback has its turn later, and soon");
	turn();
	check(ngranted == 3, "then it is granted");
}

static void
test_many(void)
{
	static LimitRecord records[300];
	int			left = 0;

	start();
	memset(records, 0, sizeof(records));
	for (int i = 0; i < WAITS; i++)
	{
		records[i % 300].retry_at = INT64_MAX;
		add(i, &records[i % 300], i % 7 ? LIMIT_PROXY : LIMIT_SYNC, clock_us() + 1000000);
	}
	turn();
	for (int i = 0; i < WAITS; i += 3)
		pacer_leave(pacer, &waits[i]), left++;
	for (int i = 0; i < 300; i++)
		records[i].slots = 1000;
	turn();
	check(ngranted == WAITS - left && pacer_waiting(pacer) == 0, "many records at once: each wait ends once");
}

int
main(void)
{
	reactor = reactor_create();
	pacer = pacer_create(reactor);
	test_order();
	test_deadlines();
	test_retry_time();
	test_callbacks();
	test_many();
	reactor_destroy(reactor);
	printf("%d passed, %d failed\n", passed, failed);
	return failed ? 1 : 0;
}
