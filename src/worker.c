/*
 * worker.c - a proxy worker: one thread, one loop over latch, listener, upstream and timers.
 *
 * Puts listener, engine and loop together, binds the port (and tries again, loudly, while it is
 * taken), and ends in order: no new connections, refuse what waits, drain what is at the API,
 * cut the rest.  Knows nothing of what an exchange is.
 */
#include "postgres.h"


#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/lwlock.h"
#include "utils/memutils.h"

#include "catalog.h"
#include "exchange.h"
#include "loop.h"
#include "settings.h"
#include "shared.h"
#include "txn.h"

#define BIND_RETRY_US (1000 * 1000)
#define HEAD_TIMEOUT_MS 15000
#define BODY_TIMEOUT_MS 120000
#define IDLE_TIMEOUT_MS 120000
#define WRITE_TIMEOUT_MS 120000
#define MAX_HEAD (32 * 1024)
/* A database that is dropped waits five seconds for us. */
#define DROP_DRAIN_MS 2000

typedef struct Worker
{
	Loop		loop;
	Engine	   *engine;
	Listener   *listener;
	WorkerSlot *slot;
	Timer		bind_retry;
	bool		bind_due;
} Worker;

extern PGDLLEXPORT void sequin_worker_main(Datum arg);

/* Another worker of this cluster listens on our port already: then it is ours to share. */
static bool
port_is_ours(void)
{
	for (int slot = 0; slot < setting_workers; slot++)
		if (slot != shared_my_slot && shared->slots[slot].pid != 0 && shared->slots[slot].listening &&
			shared->slots[slot].listen_port == setting_port)
			return true;
	return false;
}

static void
listener_settings(ListenerOptions *options)
{
	*options = (ListenerOptions)
	{
		.addresses = setting_listen_addresses,.port = setting_port,.exclusive = !port_is_ours(),
		.max_connections = Min(setting_max_connections, loop_clients_that_fit()),
		.max_head = MAX_HEAD,.max_body = (size_t) setting_max_request_body * 1024,
		.head_timeout_ms = HEAD_TIMEOUT_MS,.body_timeout_ms = BODY_TIMEOUT_MS,
		.idle_timeout_ms = IDLE_TIMEOUT_MS,.write_timeout_ms = WRITE_TIMEOUT_MS,
		.tls_cert_file = setting_tls_cert_file,.tls_key_file = setting_tls_key_file
	};
}

static void
on_bind_due(void *arg)
{
	((Worker *) arg)->bind_due = true;
}

static void
bind_listener(Worker *w)
{
	char		error[200] = "";
	bool		was_listening = w->slot->listening;
	LWLock	   *lock = &GetNamedLWLockTranche("sequin_proxy")[SHARED_LOCK_LISTEN].lock;
	ListenerOptions options;

	w->bind_due = false;
	LWLockAcquire(lock, LW_EXCLUSIVE);	/* one worker is the first, and the others see it */
	listener_settings(&options);
	listener_set_options(w->listener, &options);
	w->slot->listening = listener_bind(w->listener, error, sizeof(error));
	w->slot->listen_port = setting_port;
	LWLockRelease(lock);
	if (w->slot->listening && !was_listening)
		ereport(LOG, (errmsg("sequin_proxy: listening on \"%s\", port %d", setting_listen_addresses, setting_port)));
	if (error[0] != '\0')
	{
		if (strcmp(error, w->slot->listen_error) != 0)
			ereport(WARNING, (errmsg("sequin_proxy: %s", error),
							  errhint("The worker tries again every second. Free the port or set sequin_proxy.port to another one and reload.")));
		timer_set(w->loop.reactor, &w->bind_retry, clock_us() + BIND_RETRY_US, on_bind_due, w);
	}
	strlcpy(w->slot->listen_error, error, sizeof(w->slot->listen_error));
}

static void
tell_limit_of_files(void)
{
	if (loop_clients_that_fit() < setting_max_connections)
		ereport(LOG, (errmsg("sequin_proxy: this worker takes %d connections at most, not sequin_proxy.max_connections = %d: it may not open enough files",
							 loop_clients_that_fit(), setting_max_connections),
					  errhint("Raise the server's limit of open files (ulimit -Hn, LimitNOFILE) to %d or more.",
							  3 * setting_max_connections + 1000)));
}

static void
start_worker(Worker *w, int slot)
{
	ListenerOptions options;

	loop_start(&w->loop, slot);
	w->slot = &shared->slots[slot];
	w->engine = engine_create(&w->loop, &w->slot->stats);
	listener_settings(&options);
	if (w->engine != NULL)
		w->listener = listener_create(w->loop.reactor, engine_handler(w->engine), &options);
	if (w->listener == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("sequin_proxy: could not start the HTTP listener")));
	engine_set_listener(w->engine, w->listener);
	tell_limit_of_files();
	catalog_current();			/* a first request should not have to wait for it */
	bind_listener(w);
}

static int
wait_ms(Worker *w)
{
	return listener_timeout_ms(w->listener);
}

static void
drain(Worker *w)
{
	bool		drop = pg_atomic_read_u32(&shared->stop_for_drop) != InvalidOid;
	int64_t		deadline = clock_us() + (int64_t) (drop ? Min(setting_drain_timeout, DROP_DRAIN_MS) : setting_drain_timeout) * 1000;
	bool		cut = false;

	pgstat_report_activity(STATE_RUNNING, "draining requests before the stop");
	listener_stop_accepting(w->listener);
	engine_stop(w->engine);
	for (;;)
	{
		engine_turn(w->engine);
		if (engine_idle(w->engine))
			break;
		if (clock_us() >= deadline)
		{
			if (cut)
				break;
			engine_cut(w->engine);
			cut = true;
			deadline = clock_us() + 200 * 1000;		/* for the answers to go out */
		}
		loop_wait(&w->loop, 20);
	}
	/* First: their ends would look for exchanges that go with the listener. */
	upstream_cancel_all(w->loop.upstream);
	listener_destroy(w->listener);
}

void
sequin_worker_main(Datum arg)
{
	static Worker worker;		/* outlives every callback, zeroed */
	Worker	   *w = &worker;

	start_worker(w, DatumGetInt32(arg));
	pgstat_report_activity(STATE_IDLE, "serving requests");
	while (!loop_stopping)
	{
		loop_wait(&w->loop, wait_ms(w));
		if (w->loop.reload || w->bind_due)
			bind_listener(w);
		engine_turn(w->engine);
		txn_report_stats();
	}
	drain(w);
	loop_exit(&w->loop);
}
