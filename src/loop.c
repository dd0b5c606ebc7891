/*
 * loop.c - the frame of a worker process (loop.h).
 *
 * Owns the process's signals, its WaitEventSet (latch, postmaster death, the reactor's epoll fd)
 * and the orderly end.  SIGTERM does not use PostgreSQL's die(): a worker that has requests at
 * the API drains first; txn.c's guard sees to it that no commit can hang the shutdown.
 */
#include "postgres.h"

#include <malloc.h>

#include <sys/resource.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procsignal.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "compat.h"
#include "limiter.h"
#include "loop.h"
#include "settings.h"
#include "shared.h"
#include "txn.h"

/* Descriptors for PostgreSQL, the loop's own, and connections that are refused with a word. */
#define RESERVED_FILES 164
#define MANY_FILES 1000000

volatile sig_atomic_t loop_stopping;

static void
handle_stop(SIGNAL_ARGS)
{
	int			saved_errno = errno;

	loop_stopping = 1;
	SetLatch(MyLatch);
	errno = saved_errno;
}

/* Thousands of sockets: the soft limit that a worker inherits is 1024. */
static void
raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max)
	{
		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
			ereport(LOG, (errmsg("sequin_proxy: could not raise the limit of open files: %m")));
	}
}

int
loop_clients_that_fit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > MANY_FILES)
		return MANY_FILES;
	return Max((int) (limit.rlim_cur - RESERVED_FILES) / 3, 1);
}

/* The worker's own session: nothing of it may depend on settings of the database or role. */
static void
pin_session_settings(void)
{
	static const char *const pinned[][2] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"row_security", "off"},
		{"statement_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"session_replication_role", "origin"},
		{"client_min_messages", "warning"},
		{"jit", "off"},			/* statements of microseconds */
		{"DateStyle", "ISO, YMD"},
		{"IntervalStyle", "postgres"},
		{"bytea_output", "hex"},
		{"extra_float_digits", "1"},
		{"xmloption", "content"},
		{"TimeZone", "UTC"},
	};

	for (int i = 0; i < lengthof(pinned); i++)
		SetConfigOption(pinned[i][0], pinned[i][1], PGC_SUSET, PGC_S_OVERRIDE);
}

static void
release_shared(int code, Datum arg)
{
	limiter_detach();
	shared_release_slot();
}

static UpstreamOptions
upstream_settings(void)
{
	return (UpstreamOptions)
	{
		.connect_timeout_ms = setting_connect_timeout,.timeout_ms = setting_upstream_timeout,
		.max_body = (size_t) setting_max_response_body * 1024,.ca_file = setting_upstream_ca_file,
		.max_kept = loop_clients_that_fit()
	};
}

static void
create_parts(Loop *loop)
{
	UpstreamOptions options = upstream_settings();

	loop->reactor = reactor_create();
	if (loop->reactor == NULL)
		ereport(ERROR, (errcode_for_socket_access(), errmsg("sequin_proxy: could not create an epoll set: %m")));
	loop->upstream = upstream_create(loop->reactor, &options);
	loop->pacer = pacer_create(loop->reactor);
	if (loop->upstream != NULL && loop->pacer != NULL)
		loop->errands = errand_runner_create(loop->reactor, loop->pacer, loop->upstream);
	if (loop->errands == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("sequin_proxy: could not start libcurl")));
}

void
loop_start(Loop *loop, int slot)
{
	pqsignal(SIGTERM, handle_stop);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGUSR1, procsignal_sigusr1_handler);
	BackgroundWorkerUnblockSignals();

	/* Bodies come and go: keep the heap's top, and never mmap what is freed a moment later. */
	mallopt(M_TRIM_THRESHOLD, 64 * 1024 * 1024);
	mallopt(M_MMAP_THRESHOLD, 4 * 1024 * 1024);
	raise_file_limit();
	before_shmem_exit(release_shared, 0);
	shared_claim_slot(slot);
	BackgroundWorkerInitializeConnection(setting_database, NULL, 0);
	pin_session_settings();
	txn_guard_init(&loop_stopping);
	limiter_attach(slot);

	create_parts(loop);
	loop->events = wait_event_set_create(3);
	AddWaitEventToSet(loop->events, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(loop->events, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(loop->events, WL_SOCKET_READABLE, reactor_fd(loop->reactor), NULL, NULL);
}

static void
reload_settings(Loop *loop)
{
	UpstreamOptions options;

	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	options = upstream_settings();
	upstream_set_options(loop->upstream, &options);
	loop->reload = true;
}

/* An ERROR has no place in the loop itself (a bad configuration file only warns); CFI may raise FATAL. */
static void
serve_signals(Loop *loop)
{
	CHECK_FOR_INTERRUPTS();
	loop->reload = false;
	if (ConfigReloadPending)
		reload_settings(loop);
	if (shared != NULL && pg_atomic_read_u32(&shared->stop_for_drop) == MyDatabaseId && OidIsValid(MyDatabaseId))
		loop_stopping = 1;
}

void
loop_wait(Loop *loop, int max_wait_ms)
{
	WaitEvent	event;
	int			timeout = reactor_timeout_ms(loop->reactor);

	if (timeout < 0 || (max_wait_ms >= 0 && max_wait_ms < timeout))
		timeout = max_wait_ms;
	if (WaitEventSetWait(loop->events, timeout, &event, 1, PG_WAIT_EXTENSION) > 0 &&
		(event.events & WL_LATCH_SET))
		ResetLatch(MyLatch);
	serve_signals(loop);
	reactor_dispatch(loop->reactor);
}

void
loop_exit(Loop *loop)
{
	upstream_destroy(loop->upstream);
	/* Exit code 1: the postmaster starts the worker again, unless the cluster stops. */
	proc_exit(1);
}
