/*
 * shim.c - an environment that fails on demand: preloaded (LD_PRELOAD) into a test's whole cluster.
 *
 * Looks into the directory SHIM_DIR, at each call: the file "full": writes below base/ (tables, not WAL) fail with
 * ENOSPC; "dns_fail", "dns_hang": names under .test do not resolve, or not until the file is gone (else they are
 * 127.0.0.1); "clock": eight bytes, by how many microseconds the wall clock is off.  CLOCK_MONOTONIC stays as it is,
 * as on a machine whose time is set.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name)) dlsym(RTLD_NEXT, #name))

static int
is_set(const char *flag)
{
	char		path[512];
	const char *dir = getenv("SHIM_DIR");
	int			saved = errno;
	int			set;

	snprintf(path, sizeof(path), "%s/%s", dir ? dir : "/nonexistent", flag);
	set = access(path, F_OK) == 0;
	errno = saved;
	return set;
}

/* ---- a full disk ---- */

static int
no_space(int fd)
{
	char		link[64];
	char		path[512];
	int			saved = errno;
	ssize_t		n;

	if (!is_set("full"))
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	errno = saved;
	if (n < 0)
		return 0;
	path[n] = '\0';
	return strstr(path, "/base/") != NULL;
}

ssize_t
pwrite(int fd, const void *data, size_t n, off_t at)
{
	static __typeof__(&pwrite) next;

	if (next == NULL)
		next = NEXT(pwrite);
	if (no_space(fd))
	{
		errno = ENOSPC;
		return -1;
	}
	return next(fd, data, n, at);
}

ssize_t
pwrite64(int fd, const void *data, size_t n, off64_t at)
{
	return pwrite(fd, data, n, at);
}

/* ---- names ---- */

int
getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result)
{
	size_t		n = node ? strlen(node) : 0;

	if (n < 5 || strcmp(node + n - 5, ".test") != 0)
		return NEXT(getaddrinfo) (node, service, hints, result);
	if (is_set("dns_fail"))
		return EAI_AGAIN;
	while (is_set("dns_hang"))
		usleep(20000);
	return NEXT(getaddrinfo) ("127.0.0.1", service, hints, result);
}

/* ---- the wall clock ---- */

static int64_t
offset_us(void)
{
	static volatile int64_t *offset;
	static int64_t none;

	if (offset == NULL)
	{
		char		path[512];
		const char *dir = getenv("SHIM_DIR");
		int			fd;
		void	   *map = MAP_FAILED;

		snprintf(path, sizeof(path), "%s/clock", dir ? dir : "/nonexistent");
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0)
		{
			map = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
			close(fd);
		}
		offset = map == MAP_FAILED ? &none : map;
	}
	return *offset;
}

int
gettimeofday(struct timeval *tv, void *zone)
{
	static __typeof__(&gettimeofday) next;
	int			rc;
	int64_t		us;

	if (next == NULL)
		next = NEXT(gettimeofday);
	rc = next(tv, zone);
	us = (int64_t) tv->tv_sec * 1000000 + tv->tv_usec + offset_us();
	tv->tv_sec = us / 1000000;
	tv->tv_usec = us % 1000000;
	return rc;
}

int
clock_gettime(clockid_t clock, struct timespec *ts)
{
	static __typeof__(&clock_gettime) next;
	int			rc;
	int64_t		us;

	if (next == NULL)
		next = NEXT(clock_gettime);
	rc = next(clock, ts);
	if (clock != CLOCK_REALTIME || rc != 0 || offset_us() == 0)
		return rc;
	us = (int64_t) ts->tv_sec * 1000000 + ts->tv_nsec / 1000 + offset_us();
	ts->tv_sec = us / 1000000;
	ts->tv_nsec = us % 1000000 * 1000;
	return rc;
}

time_t
time(time_t *result)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (result != NULL)
		*result = now.tv_sec;
	return now.tv_sec;
}
