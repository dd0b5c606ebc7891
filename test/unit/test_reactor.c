// SRC: src/reactor.c  LIBS:
/*
 * test_reactor.c - the reactor's promises: deadlines in order, watches that come and go in callbacks.
 */
#include "../../src/reactor.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static int	passed;
static int	failed;

static void
check(bool ok, const char *what)
{
	printf("%s - %s\n", ok ? "ok" : "not ok", what);
	ok ? passed++ : failed++;
}

typedef struct Tick
{
	Timer		timer;
	int			id;
	struct Bench *bench;
} Tick;

typedef struct Bench
{
	Reactor    *reactor;
	int			order[4000];
	int			n;
	int			pipes[4][2];
	Watch	   *watches[4];
	Watch	   *extra;
	int			hits[4];
	Tick	   *victim;
} Bench;

static void
note(void *arg)
{
	Tick	   *tick = arg;

	tick->bench->order[tick->bench->n++] = tick->id;
}

static void
note_and_again(void *arg)
{
	Tick	   *tick = arg;

	note(arg);
	timer_set(tick->bench->reactor, &tick->timer, tick->timer.at_us - 10, note_and_again, tick);
}

static void
clear_victim(void *arg)
{
	Tick	   *tick = arg;

	note(arg);
	timer_clear(tick->bench->reactor, &tick->bench->victim->timer);
}

static void
free_itself(void *arg)
{
	note(arg);
	free(arg);
}

static Tick
tick_of(Bench *bench, int id)
{
	return (Tick) {.id = id, .bench = bench};
}

static void
test_timer_order(Bench *bench)
{
	static Tick ticks[2000];
	int64_t		start = clock_us() - 1000000;
	bool		sorted = true;
	int			expected = 0;

	srand(7);
	bench->n = 0;
	for (int i = 0; i < 2000; i++)
	{
		ticks[i] = tick_of(bench, i);
		timer_set(bench->reactor, &ticks[i].timer, start + rand() % 5000, note, &ticks[i]);
	}
	for (int i = 0; i < 2000; i += 3)	/* moved: some earlier, some later */
		timer_set(bench->reactor, &ticks[i].timer, start + rand() % 5000, note, &ticks[i]);
	for (int i = 1; i < 2000; i += 3)	/* cleared */
		timer_clear(bench->reactor, &ticks[i].timer);
	for (int i = 0; i < 2000; i++)
		expected += ticks[i].timer.slot != 0;
	check(reactor_dispatch(bench->reactor) == expected && bench->n == expected, "every timer that is due and still set runs once");
	for (int i = 1; i < bench->n; i++)
		sorted &= ticks[bench->order[i - 1]].timer.at_us <= ticks[bench->order[i]].timer.at_us;
	check(sorted, "timers run in the order of their deadlines after moves and removals");
	check(reactor_timeout_ms(bench->reactor) == -1, "without a timer there is no timeout");
}

static void
test_timer_timeouts(Bench *bench)
{
	Tick		late = tick_of(bench, 1);
	int			ms;

	bench->n = 0;
	timer_set(bench->reactor, &late.timer, clock_us() + 1500, note, &late);
	ms = reactor_timeout_ms(bench->reactor);
	check(ms == 1 || ms == 2, "the timeout is rounded up to whole milliseconds");
	check(reactor_dispatch(bench->reactor) == 0 && bench->n == 0, "a timer does not run before its time");
	timer_set(bench->reactor, &late.timer, clock_us() - 1, note, &late);
	check(reactor_timeout_ms(bench->reactor) == 0, "a due timer makes the timeout 0");
	timer_clear(bench->reactor, &late.timer);
	timer_clear(bench->reactor, &late.timer);
	check(reactor_dispatch(bench->reactor) == 0, "a cleared timer does not run, and clearing twice is harmless");
}

static void
test_timer_callbacks(Bench *bench)
{
	Tick		again = tick_of(bench, 1);
	Tick		first = tick_of(bench, 2);
	Tick		victim = tick_of(bench, 3);
	Tick	   *heap = malloc(sizeof(Tick));

	bench->n = 0;
	timer_set(bench->reactor, &again.timer, clock_us() - 1000, note_and_again, &again);
	check(reactor_dispatch(bench->reactor) == 1, "a timer that sets itself again in the past runs once a turn");
	timer_clear(bench->reactor, &again.timer);
	bench->n = 0;
	bench->victim = &victim;
	timer_set(bench->reactor, &first.timer, clock_us() - 2000, clear_victim, &first);
	timer_set(bench->reactor, &victim.timer, clock_us() - 1000, note, &victim);
	check(reactor_dispatch(bench->reactor) == 1 && bench->order[0] == 2, "a timer cleared by an earlier one of the same turn does not run");
	*heap = tick_of(bench, 4);
	timer_set(bench->reactor, &heap->timer, clock_us() - 1, free_itself, heap);
	check(reactor_dispatch(bench->reactor) == 1, "a callback may free the timer's owner");
}

static void
on_readable(void *arg, uint32_t events)
{
	int		   *hit = arg;

	(void) events;
	++*hit;
}

static Bench *the_bench;

static void
on_readable_remove_all(void *arg, uint32_t events)
{
	(void) arg;
	(void) events;
	for (int i = 0; i < 2; i++)
	{
		the_bench->hits[3]++;
		reactor_unwatch(the_bench->reactor, the_bench->watches[i]);
	}
	/* The same descriptor, watched again in the same turn: the old event must not reach it. */
	the_bench->extra = reactor_watch(the_bench->reactor, the_bench->pipes[1][0], EPOLLIN, on_readable, &the_bench->hits[2]);
}

static void
test_watches(Bench *bench)
{
	Reactor    *reactor = bench->reactor;
	struct pollfd outer = {.fd = reactor_fd(reactor), .events = POLLIN};

	bench->watches[0] = reactor_watch(reactor, bench->pipes[0][0], EPOLLIN, on_readable, &bench->hits[0]);
	check(bench->watches[0] != NULL && poll(&outer, 1, 0) == 0, "the reactor's own descriptor is quiet while nothing is ready");
	check(reactor_watch(reactor, bench->pipes[0][0], EPOLLIN, on_readable, NULL) == NULL && errno == EEXIST, "watching a descriptor twice is refused");
	check(reactor_watch(reactor, -1, EPOLLIN, on_readable, NULL) == NULL && errno == EBADF, "watching a bad descriptor is refused with its errno");
	check(write(bench->pipes[0][1], "x", 1) == 1 && poll(&outer, 1, 1000) == 1, "the reactor's own descriptor becomes readable with a watch");
	check(reactor_dispatch(reactor) == 1 && bench->hits[0] == 1, "a ready watch runs");
	check(reactor_dispatch(reactor) == 1 && bench->hits[0] == 2, "a level stays until it is read");
	check(reactor_rewatch(reactor, bench->watches[0], 0) && reactor_dispatch(reactor) == 0, "a watch for nothing stays quiet");
	check(reactor_rewatch(reactor, bench->watches[0], EPOLLIN | EPOLLET) && reactor_dispatch(reactor) == 1 && reactor_dispatch(reactor) == 0, "an edge runs once");
	reactor_unwatch(reactor, bench->watches[0]);
	check(reactor_dispatch(reactor) == 0, "a removed watch does not run");
}

static void
test_removal_in_callbacks(Bench *bench)
{
	for (int i = 0; i < 2; i++)
	{
		bench->watches[i] = reactor_watch(bench->reactor, bench->pipes[i][0], EPOLLIN, on_readable_remove_all, NULL);
		check(write(bench->pipes[i][1], "x", 1) == 1, "both pipes are readable");
	}
	memset(bench->hits, 0, sizeof(bench->hits));
	check(reactor_dispatch(bench->reactor) == 1 && bench->hits[3] == 2, "a watch removed by another callback of the same turn does not run");
	check(bench->hits[2] == 0, "a descriptor watched again in the same turn does not get the old watch's event");
	check(reactor_dispatch(bench->reactor) == 1 && bench->hits[2] == 1, "it gets its own in the next turn");
	reactor_unwatch(bench->reactor, bench->extra);
}

static void
test_many_ready(Bench *bench)
{
	static int	many[700][2];
	static Watch *watches[700];
	int			hits = 0;

	for (int i = 0; i < 700; i++)
	{
		if (pipe(many[i]) != 0 || write(many[i][1], "x", 1) != 1)
			break;
		watches[i] = reactor_watch(bench->reactor, many[i][0], EPOLLIN | EPOLLET, on_readable, &hits);
	}
	for (int i = 0; i < 3; i++)
		reactor_dispatch(bench->reactor);
	check(hits == 700, "more ready watches than one turn takes are all served within the next turns");
	for (int i = 0; i < 700; i++)
	{
		reactor_unwatch(bench->reactor, watches[i]);
		close(many[i][0]);
		close(many[i][1]);
	}
}

int
main(void)
{
	static Bench bench;
	Tick		left = tick_of(&bench, 9);

	bench.reactor = reactor_create();
	the_bench = &bench;
	for (int i = 0; i < 4; i++)
		if (bench.reactor == NULL || pipe(bench.pipes[i]) != 0)
			return 1;
	test_timer_order(&bench);
	test_timer_timeouts(&bench);
	test_timer_callbacks(&bench);
	test_watches(&bench);
	test_removal_in_callbacks(&bench);
	test_many_ready(&bench);
	check(reactor_watch(bench.reactor, bench.pipes[3][0], EPOLLIN, on_readable, NULL) != NULL, "a watch is left for the end");
	timer_set(bench.reactor, &left.timer, clock_us() + 1000000, note, &left);
	reactor_destroy(bench.reactor);
	check(left.timer.slot == 0, "destroying the reactor unsets what timers are left");
	printf("%d passed, %d failed\n", passed, failed);
	return failed != 0;
}
