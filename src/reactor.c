/*
 * reactor.c - one epoll set and one heap of deadlines (see reactor.h).
 *
 * Owns the epoll fd, every Watch, and the heap's array; a Timer belongs to whoever embeds it, and
 * a watched fd to whoever opened it.  Anybody in the worker may call it, from callbacks too.  It
 * must never wait (the worker's WaitEventSet does), never close a watched fd and never touch
 * PostgreSQL.
 */
#include "reactor.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

/*
 * Events taken per turn.  Large, since upstream.c relies on it: what has arrived on an idle connection (its end,
 * most of all) is seen before a timer of the same turn sends a request there.
 */
#define REACTOR_BATCH 1024

struct Watch
{
	Watch	   *prev;			/* in Reactor.watches; next is reused for Reactor.dead */
	Watch	   *next;
	int			fd;
	WatchFn		fn;				/* NULL: removed, freed when the running dispatch ends */
	void	   *arg;
};

struct Reactor
{
	int			epoll_fd;
	int			depth;			/* dispatches on the stack */
	int64_t		now_us;			/* when the last dispatch began */
	Watch	   *watches;
	Watch	   *dead;
	Timer	  **heap;			/* heap[0] is the earliest */
	uint32_t	ntimers;
	uint32_t	cap;
};

int64_t
clock_us(void)
{
	struct timespec now;

	if (clock_gettime(CLOCK_MONOTONIC, &now) != 0)
		return 0;				/* cannot happen on Linux: the clock exists and the address is good */
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

Reactor *
reactor_create(void)
{
	Reactor    *reactor = calloc(1, sizeof(Reactor));

	if (reactor == NULL)
		return NULL;
	reactor->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (reactor->epoll_fd < 0)
	{
		int			saved = errno;

		free(reactor);
		errno = saved;
		return NULL;
	}
	reactor->now_us = clock_us();
	return reactor;
}

int64_t
reactor_now_us(const Reactor *reactor)
{
	return reactor->now_us;
}

static void
watch_list_free(Watch *watch)
{
	while (watch != NULL)
	{
		Watch	   *next = watch->next;

		free(watch);
		watch = next;
	}
}

void
reactor_destroy(Reactor *reactor)
{
	if (reactor == NULL)
		return;
	/* Timers outlive us in their owners: a later timer_clear must find them unset. */
	for (uint32_t i = 0; i < reactor->ntimers; i++)
		reactor->heap[i]->slot = 0;
	watch_list_free(reactor->watches);
	watch_list_free(reactor->dead);
	free(reactor->heap);
	close(reactor->epoll_fd);
	free(reactor);
}

int
reactor_fd(const Reactor *reactor)
{
	return reactor->epoll_fd;
}

Watch *
reactor_watch(Reactor *reactor, int fd, uint32_t events, WatchFn fn, void *arg)
{
	Watch	   *watch = malloc(sizeof(Watch));
	struct epoll_event event = {.events = events, .data.ptr = watch};

	if (watch == NULL)
		return NULL;
	if (epoll_ctl(reactor->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
	{
		int			saved = errno;

		free(watch);
		errno = saved;
		return NULL;
	}
	*watch = (Watch) {.next = reactor->watches, .fd = fd, .fn = fn, .arg = arg};
	if (watch->next != NULL)
		watch->next->prev = watch;
	reactor->watches = watch;
	return watch;
}

bool
reactor_rewatch(Reactor *reactor, Watch *watch, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = watch};

	return epoll_ctl(reactor->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event) == 0;
}

void
reactor_unwatch(Reactor *reactor, Watch *watch)
{
	if (watch == NULL || watch->fn == NULL)
		return;
	/* Fails only for an fd that was closed too early, which epoll has then forgotten by itself. */
	if (epoll_ctl(reactor->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL) != 0)
		errno = 0;
	if (watch->prev != NULL)
		watch->prev->next = watch->next;
	else
		reactor->watches = watch->next;
	if (watch->next != NULL)
		watch->next->prev = watch->prev;
	watch->fn = NULL;
	if (reactor->depth == 0)
	{
		free(watch);
		return;
	}
	/* The running dispatch may still hold an event that points here. */
	watch->next = reactor->dead;
	reactor->dead = watch;
}

static void
heap_put(Reactor *reactor, uint32_t i, Timer *timer)
{
	reactor->heap[i] = timer;
	timer->slot = i + 1;
}

static void
heap_rise(Reactor *reactor, uint32_t i, Timer *timer)
{
	while (i > 0)
	{
		uint32_t	parent = (i - 1) / 2;

		if (reactor->heap[parent]->at_us <= timer->at_us)
			break;
		heap_put(reactor, i, reactor->heap[parent]);
		i = parent;
	}
	heap_put(reactor, i, timer);
}

static void
heap_sink(Reactor *reactor, uint32_t i, Timer *timer)
{
	for (;;)
	{
		uint32_t	child = 2 * i + 1;

		if (child >= reactor->ntimers)
			break;
		if (child + 1 < reactor->ntimers && reactor->heap[child + 1]->at_us < reactor->heap[child]->at_us)
			child++;
		if (reactor->heap[child]->at_us >= timer->at_us)
			break;
		heap_put(reactor, i, reactor->heap[child]);
		i = child;
	}
	heap_put(reactor, i, timer);
}

static void
heap_settle(Reactor *reactor, uint32_t i, Timer *timer)
{
	if (i > 0 && reactor->heap[(i - 1) / 2]->at_us > timer->at_us)
		heap_rise(reactor, i, timer);
	else
		heap_sink(reactor, i, timer);
}

static bool
heap_reserve(Reactor *reactor)
{
	uint32_t	cap = reactor->cap ? reactor->cap * 2 : 64;
	Timer	  **heap;

	if (reactor->ntimers < reactor->cap)
		return true;
	heap = reallocarray(reactor->heap, cap, sizeof(Timer *));
	if (heap == NULL)
		return false;
	reactor->heap = heap;
	reactor->cap = cap;
	return true;
}

bool
timer_set(Reactor *reactor, Timer *timer, int64_t at_us, TimerFn fn, void *arg)
{
	if (timer->slot == 0 && !heap_reserve(reactor))
		return false;
	timer->at_us = at_us;
	timer->fn = fn;
	timer->arg = arg;
	if (timer->slot != 0)
		heap_settle(reactor, timer->slot - 1, timer);
	else
		heap_rise(reactor, reactor->ntimers++, timer);
	return true;
}

void
timer_clear(Reactor *reactor, Timer *timer)
{
	uint32_t	i = timer->slot - 1;
	Timer	   *last;

	if (timer->slot == 0)
		return;
	timer->slot = 0;
	last = reactor->heap[--reactor->ntimers];
	if (last != timer)
		heap_settle(reactor, i, last);
}

int
reactor_timeout_ms(const Reactor *reactor)
{
	int64_t		left;

	if (reactor->ntimers == 0)
		return -1;
	left = reactor->heap[0]->at_us - clock_us();
	if (left <= 0)
		return 0;
	left = (left + 999) / 1000;
	return left > INT_MAX ? INT_MAX : (int) left;
}

static int
dispatch_watches(Reactor *reactor)
{
	struct epoll_event events[REACTOR_BATCH];
	int			n = epoll_wait(reactor->epoll_fd, events, REACTOR_BATCH, 0);
	int			ran = 0;

	/* n < 0 is EINTR: the level stays, the next turn sees it */
	for (int i = 0; i < n; i++)
	{
		Watch	   *watch = events[i].data.ptr;

		if (watch->fn == NULL)
			continue;
		watch->fn(watch->arg, events[i].events);
		ran++;
	}
	return ran;
}

static int
dispatch_timers(Reactor *reactor)
{
	int64_t		now = clock_us();
	uint32_t	budget = reactor->ntimers;	/* one that sets itself again waits for the next turn */
	int			ran = 0;

	while (budget-- > 0 && reactor->ntimers > 0 && reactor->heap[0]->at_us <= now)
	{
		Timer	   *timer = reactor->heap[0];

		timer_clear(reactor, timer);
		timer->fn(timer->arg);
		ran++;
	}
	return ran;
}

/* Watches first: an answer that has arrived is not timed out because this process was slow. */
int
reactor_dispatch(Reactor *reactor)
{
	int			ran;

	reactor->now_us = clock_us();
	reactor->depth++;
	ran = dispatch_watches(reactor);
	ran += dispatch_timers(reactor);
	if (--reactor->depth == 0)
	{
		watch_list_free(reactor->dead);
		reactor->dead = NULL;
	}
	return ran;
}
