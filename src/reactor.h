/*
 * reactor.h - one epoll set for everything that is not PostgreSQL's: listening sockets, client
 * sockets, libmicrohttpd's own epoll fd, libcurl's sockets.  And deadlines in a binary heap.
 *
 * Its fd is itself one event in the worker's WaitEventSet.  Pure C (no postgres.h).  Callbacks
 * run inside reactor_dispatch, outside any foreign frame; they may add, change and remove
 * watches, their own included (a removed watch's pending event is dropped).
 */
#ifndef SEQUIN_REACTOR_H
#define SEQUIN_REACTOR_H

#include <stdbool.h>
#include <stdint.h>

typedef struct Reactor Reactor;
typedef struct Watch Watch;
typedef struct Timer Timer;

typedef void (*WatchFn) (void *arg, uint32_t epoll_events);
typedef void (*TimerFn) (void *arg);

struct Timer					/* embedded in its owner; zero it before first use */
{
	int64_t		at_us;			/* monotonic */
	uint32_t	slot;			/* place in the heap + 1; 0: not set */
	TimerFn		fn;
	void	   *arg;
};

extern int64_t clock_us(void);				/* CLOCK_MONOTONIC */
/* The same as of this turn's dispatch: for deadlines of seconds, which need no look at the clock per request. */
extern int64_t reactor_now_us(const Reactor *reactor);

extern Reactor *reactor_create(void);		/* NULL: errno says why */
extern void reactor_destroy(Reactor *reactor);
extern int	reactor_fd(const Reactor *reactor);

/* NULL: errno says why.  events as for epoll (EPOLLIN | EPOLLET ...). */
extern Watch *reactor_watch(Reactor *reactor, int fd, uint32_t events, WatchFn fn, void *arg);
extern bool reactor_rewatch(Reactor *reactor, Watch *watch, uint32_t events);
extern void reactor_unwatch(Reactor *reactor, Watch *watch);	/* before close(fd) */

extern bool timer_set(Reactor *reactor, Timer *timer, int64_t at_us, TimerFn fn, void *arg);	/* moves a set one */
extern void timer_clear(Reactor *reactor, Timer *timer);		/* no-op when not set */

/* Milliseconds until the next timer, rounded up; -1: none; 0: due. */
extern int	reactor_timeout_ms(const Reactor *reactor);
/* Runs due timers and ready watches once, without waiting. Returns how many callbacks ran. */
extern int	reactor_dispatch(Reactor *reactor);

#endif
