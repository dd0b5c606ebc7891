/*
 * sync.c - the sync process: one background worker that drives all syncs.
 *
 * Puts the loop and the tasks together: discovery.c, recovery.c, retention.c and sync_tables.c.  Owns no state of its
 * own; takes rate-limit slots only as LIMIT_SYNC, behind every proxied request.
 */
#include "postgres.h"

#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "utils/memutils.h"

#include "catalog.h"
#include "limit_memory.h"
#include "limiter.h"
#include "shared.h"
#include "sync.h"
#include "txn.h"

#define SAVE_MS 30000				/* limiter windows to disk: at least once a minute (DESIGN.md 6) */

static int
sooner(int a, int b)
{
	if (a < 0 || b < 0)
		return Max(a, b);
	return Min(a, b);
}

/* After a crash, long windows go on from what was saved last. */
static void
save_limits(void)
{
	static int64_t saved_us;
	int64_t		now = clock_us();

	if (now - saved_us < (int64_t) SAVE_MS * 1000)
		return;
	limiter_save();
	limit_memory_save();
	saved_us = now;
}

/* Everything that touches PostgreSQL; returns how long the loop may wait. */
static int
sync_turn(Loop *loop, MemoryContext cx)
{
	MemoryContext old = MemoryContextSwitchTo(cx);
	int			wait;
	int			ended;

	catalog_begin_turn();
	catalog_current();
	pacer_turn(loop->pacer);
	wait = sooner(oauth_turn(loop), sooner(discovery_turn(loop), recovery_turn(loop)));
	wait = sooner(sooner(wait, retention_turn(loop)), tables_turn(loop));
	save_limits();
	/* Last: what the answers ask for next is sent by the loop before the next turn applies what they brought. */
	ended = errand_turn(loop->errands);
	pacer_turn(loop->pacer);	/* what was just begun */
	ended += errand_turn(loop->errands);	/* what ended at once */
	if (ended > 0)
		wait = 0;
	MemoryContextSwitchTo(old);
	MemoryContextReset(cx);
	return sooner(wait, SAVE_MS);
}

void
sequin_sync_main(Datum arg)
{
	static Loop loop;			/* outlives every callback, zeroed */
	MemoryContext cx;

	loop_start(&loop, SHARED_SYNC_SLOT);
	cx = AllocSetContextCreate(TopMemoryContext, "sequin_proxy turn", ALLOCSET_DEFAULT_SIZES);
	while (!loop_stopping)
	{
		int			wait = sync_turn(&loop, cx);

		pgstat_report_activity(errand_running(loop.errands) > 0 ? STATE_RUNNING : STATE_IDLE,
							   errand_running(loop.errands) > 0 ? "asking the API" : "waiting for work");
		txn_report_stats();
		loop_wait(&loop, loop_stopping ? 0 : wait);
	}
	oauth_finish(&loop);
	loop_exit(&loop);
}
