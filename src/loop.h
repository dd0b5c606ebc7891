/*
 * loop.h - what a proxy worker and the sync process have in common: signals, the WaitEventSet, the
 * reactor with upstream, pacer and errands in it, and an orderly end.
 */
#ifndef SEQUIN_LOOP_H
#define SEQUIN_LOOP_H

#include "postgres.h"

#include <signal.h>

#include "errand.h"
#include "pacer.h"
#include "reactor.h"
#include "upstream.h"

typedef struct Loop
{
	Reactor    *reactor;
	Upstream   *upstream;
	Pacer	   *pacer;
	ErrandRunner *errands;
	struct WaitEventSet *events;
	bool		reload;			/* SIGHUP came: settings were re-read in this turn */
} Loop;

extern volatile sig_atomic_t loop_stopping;		/* SIGTERM, or our database is to be dropped: drain and exit */

/* Everything up to the database connection and the shared slot; ereports when it cannot. */
extern void loop_start(Loop *loop, int slot);
/* Waits for anything to happen (at most max_wait_ms, -1: no limit), re-reads settings, dispatches the reactor once. */
extern void loop_wait(Loop *loop, int max_wait_ms);
/* Leaves so that the postmaster starts the worker again (unless the cluster stops). */
extern void loop_exit(Loop *loop) pg_attribute_noreturn();
/*
 * So many clients a process has descriptors for: each may need a connection to the API, as many may be kept idle,
 * and PostgreSQL must never be without (a WAL segment that cannot be opened takes the whole cluster down).
 */
extern int	loop_clients_that_fit(void);

#endif
