/*
 * sequin_proxy.c - the module's entry: settings, shared memory, worker registration; nothing else.
 *
 * Runs in the postmaster when preloaded (where no libcurl, libmicrohttpd or thread may be
 * started) and in every backend that loads the library.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "limiter.h"
#include "settings.h"
#include "shared.h"
#include "utility_hook.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

/* A worker that fails comes back after this long: not so soon that its errors fill the log. */
#define RESTART_SECONDS 5

static shmem_request_hook_type previous_shmem_request;
static shmem_startup_hook_type previous_shmem_startup;

static void
request_shared_memory(void)
{
	if (previous_shmem_request)
		previous_shmem_request();
	RequestAddinShmemSpace(shared_size());
	RequestAddinShmemSpace(limiter_shmem_size());
	RequestNamedLWLockTranche("sequin_proxy", SHARED_LOCKS);
}

static void
start_shared_memory(void)
{
	if (previous_shmem_startup)
		previous_shmem_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared_init();
	limiter_shmem_init();
	LWLockRelease(AddinShmemInitLock);
}

static void
register_worker(const char *type, const char *name, const char *function, int slot)
{
	BackgroundWorker worker = {0};

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;	/* on the primary only; follows a promotion */
	worker.bgw_restart_time = RESTART_SECONDS;
	worker.bgw_main_arg = Int32GetDatum(slot);
	strlcpy(worker.bgw_library_name, "sequin_proxy", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, function, BGW_MAXLEN);
	strlcpy(worker.bgw_type, type, BGW_MAXLEN);
	strlcpy(worker.bgw_name, name, BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

static void
register_workers(void)
{
	char		name[BGW_MAXLEN];

	for (int slot = 0; slot < setting_workers; slot++)
	{
		snprintf(name, sizeof(name), "sequin_proxy worker %d", slot + 1);
		register_worker("sequin_proxy worker", name, "sequin_worker_main", slot);
	}
	register_worker("sequin_proxy sync", "sequin_proxy sync", "sequin_sync_main", SHARED_SYNC_SLOT);
}

void
_PG_init(void)
{
	/*
	 * Loaded late (a function call in a cluster without the preload): do nothing, so that
	 * sequin._check_install() can say what to do.  Postmaster settings cannot be defined any more.
	 */
	if (!process_shared_preload_libraries_in_progress)
		return;
	settings_define();
	previous_shmem_request = shmem_request_hook;
	shmem_request_hook = request_shared_memory;
	previous_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = start_shared_memory;
	utility_hook_install();
	if (!IsBinaryUpgrade)
		register_workers();
}
