// SRC: src/limit_queue.c src/rate_window.c src/rate_spec.c  LIBS:
/*
 * limiter_bench.c - what a rate-limit slot costs: ticket + take + sent under a spinlock in shared
 * memory, as limiter.c does it, with one process and with two that contend.
 *
 * Compared in the same run with an empty critical section of three spinlock rounds, which no
 * limiter of three calls can go below.  Build and run:
 *   gcc -O2 -Isrc bench/limiter_bench.c src/limit_queue.c src/rate_window.c src/rate_spec.c -o /tmp/limiter_bench && /tmp/limiter_bench
 */
#include "../src/limit_queue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 1000000

typedef struct Shared
{
	volatile int lock;
	volatile int go;
	LimitQueue	queue;
	int64_t		granted[2];
	_Alignas(64) char windows[4 * 1024 * 1024];
} Shared;

static Shared *shared;

static int64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void
lock(void)
{
	for (int spins = 0; __sync_lock_test_and_set(&shared->lock, 1); spins++)
	{
		while (shared->lock)
			if (++spins % 1000 == 0)
				usleep(1000);	/* the holder lost its CPU: as PostgreSQL's spinlocks */
			else
				__builtin_ia32_pause();
	}
}

static void
unlock(void)
{
	__sync_lock_release(&shared->lock);
}

/* One exchange: three lock rounds. */
static void
one_slot(int place, LimitWindows *windows)
{
	LimitSet	wake = {0};
	int64_t		retry;
	uint64_t	ticket;
	bool		ok;

	lock();
	ticket = limit_queue_ticket(&shared->queue, place);
	unlock();
	lock();
	ok = limit_queue_take(&shared->queue, windows, place, LIMIT_PROXY, ticket, now_us(), &retry, &wake);
	unlock();
	lock();
	if (ok)
		limit_queue_sent(&shared->queue, windows, place, LIMIT_PROXY, now_us(), &wake);
	else
		limit_queue_publish(&shared->queue, windows, place, 0, 0, now_us(), &wake);
	unlock();
	shared->granted[place] += ok;
}

static void
empty_rounds(int place, LimitWindows *windows)
{
	(void) place;
	(void) windows;
	for (int i = 0; i < 3; i++)
	{
		lock();
		unlock();
	}
}

static void
child(int place, void (*work) (int, LimitWindows *))
{
	while (!shared->go)
		__builtin_ia32_pause();
	for (int i = 0; i < ROUNDS; i++)
		work(place, (LimitWindows *) shared->windows);
	_exit(0);
}

static double
measure(int processes, void (*work) (int, LimitWindows *))
{
	int64_t		start;

	shared->go = 0;
	memset(shared->granted, 0, sizeof(shared->granted));
	for (int i = 0; i < processes; i++)
		if (fork() == 0)
			child(i, work);
	usleep(20000);
	start = now_us();
	shared->go = 1;
	while (wait(NULL) > 0)
		;
	return (double) (now_us() - start) * 1000 / ((double) ROUNDS * processes);
}

static void
report(const char *limits)
{
	RateSpec	specs[4];
	char		error[200];
	int			n = rate_parse(limits, specs, 4, error, sizeof(error));

	for (int processes = 1; processes <= 2; processes++)
	{
		double		bare;
		double		full;

		if (n < 1 || limit_windows_size(specs, n) > sizeof(shared->windows))
			exit(1);
		limit_windows_init((LimitWindows *) shared->windows, specs, n);
		limit_queue_init(&shared->queue);
		bare = measure(processes, empty_rounds);
		full = measure(processes, one_slot);
		printf("%-24s %d process%s  %6.0f ns per slot (bare locks %4.0f ns), %3.0f %% granted\n", limits, processes,
			   processes > 1 ? "es" : "  ", full, bare,
			   100.0 * (shared->granted[0] + shared->granted[1]) / ((double) ROUNDS * processes));
	}
}

int
main(void)
{
	shared = mmap(NULL, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 1;
	report("1000000000/1s");
	report("100/10s");
	report("100/10s, 250000/1d");
	report("1000/1s, 1000000000/1d");
	return 0;
}
