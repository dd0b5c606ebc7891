/*
 * discovery.c - brings every sync from new to ready: asks the API for its schema and makes the
 * mirror follow; tries again with back-off, and says in sequin.sync_state what is in the way.
 *
 * Part of the sync process.  What is to be done is read from sequin.sync_state whenever the
 * configuration moved or a retry is due; one errand per sync at a time.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "pgstat.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "follow.h"
#include "shared.h"
#include "sync.h"
#include "txn.h"

#define DISCOVERY_TIMEOUT_US (INT64CONST(600) * 1000 * 1000)
#define SCHEMA_INTERVAL_US (INT64CONST(3600) * 1000 * 1000)
#define ASK_AGAIN_MS 60000		/* even without a sign of change */
#define LOAD_AGAIN_MS 200		/* a configuration that somebody locks */

typedef struct Running			/* syncs that are being discovered, or have been */
{
	char	   *sync;
	bool		running;
	int64		began_at;		/* TimestampTz, shared_now(): the last one */
	int64		began_wall;		/* the same by the wall clock, as next_attempt_at is */
	struct Running *next;
} Running;

typedef struct Due
{
	MemoryContext cx;
	char	  **syncs;
	int			nsyncs;
	int64		next_ms;		/* until the next retry is due; -1: none */
} Due;

/* A discovery that failed. */
typedef struct Outcome
{
	const char *sync;
	const char *error;
} Outcome;

static Running *running;
static uint64 seen_generation = UINT64_MAX;
static int64_t next_look_us;

static Running *
find_running(const char *sync)
{
	for (Running *r = running; r != NULL; r = r->next)
		if (strcmp(r->sync, sync) == 0)
			return r;
	return NULL;
}

static Running *
make_running(const char *sync)
{
	Running    *r = find_running(sync);

	if (r != NULL)
		return r;
	r = MemoryContextAllocZero(TopMemoryContext, sizeof(*r));
	r->sync = MemoryContextStrdup(TopMemoryContext, sync);
	r->next = running;
	running = r;
	return r;
}

/* Syncs that are no more. */
static void
forget_dropped(const Catalog *catalog)
{
	for (Running **r = &running; *r != NULL;)
	{
		Running    *gone = *r;

		if (gone->running || catalog_sync_by_name(catalog, gone->sync) != NULL)
		{
			r = &gone->next;
			continue;
		}
		*r = gone->next;
		pfree(gone->sync);
		pfree(gone);
	}
}

static void
due_body(void *arg)
{
	Due		   *due = arg;
	bool		null;

	if (SPI_execute("SELECT s.name, (EXTRACT(epoch FROM t.next_attempt_at OPERATOR(pg_catalog.-) pg_catalog.now()) "
					"  OPERATOR(pg_catalog.*) 1000)::pg_catalog.int8 "
					"FROM sequin.sync s LEFT JOIN sequin.sync_state t ON t.sync OPERATOR(pg_catalog.=) s.name "
					"WHERE NOT s.paused AND (t.state IS DISTINCT FROM 'ready' OR t.next_attempt_at IS NOT NULL)", true, 0) != SPI_OK_SELECT)
		elog(ERROR, "sequin_proxy: could not read the syncs");
	due->syncs = MemoryContextAlloc(due->cx, sizeof(char *) * (SPI_processed + 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		char	   *name = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		int64		ms = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &null));

		if (null || ms <= 0)
			due->syncs[due->nsyncs++] = MemoryContextStrdup(due->cx, name);
		else if (due->next_ms < 0 || ms < due->next_ms)
			due->next_ms = ms;
	}
}

/* Back-off: 1 s, 2 s, 4 s ... 1 min. */
static void
record_outcome(const Outcome *outcome)
{
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		args[] = {CStringGetTextDatum(outcome->sync), CStringGetTextDatum(outcome->error)};

	if (SPI_execute_with_args("INSERT INTO sequin.sync_state AS t (sync, state, last_error, last_error_at, attempts, next_attempt_at) "
							  "SELECT s.name, 'error', $2, pg_catalog.now(), 1, pg_catalog.now() OPERATOR(pg_catalog.+) '1 second'::pg_catalog.interval "
							  "FROM sequin.sync s WHERE s.name OPERATOR(pg_catalog.=) $1 "
							  "ON CONFLICT (sync) DO UPDATE SET state = 'error', last_error = excluded.last_error, "
							  "  last_error_at = excluded.last_error_at, attempts = t.attempts OPERATOR(pg_catalog.+) 1, "
							  "  next_attempt_at = pg_catalog.now() OPERATOR(pg_catalog.+) "
							  "    pg_catalog.make_interval(secs => LEAST(60, pg_catalog.power(2, LEAST(t.attempts, 10))))",
							  2, types, args, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "sequin_proxy: could not record the state of a sync");
}

static void
record_failure_body(void *arg)
{
	record_outcome(arg);
}

/*
 * How often the API's schema is looked at without a sign of change.  A change feed and unknown fields in
 * answers tell at once; an hour is for what neither shows.
 */
static int64
schema_interval_us(const CatalogSync *sync)
{
	return sync->schema_us > 0 ? sync->schema_us : SCHEMA_INTERVAL_US;
}

/* In the transaction that made the tables: the sync is ready, for everybody, at its commit. */
static void
mark_ready(void *arg, const char *notes)
{
	Errand	   *errand = arg;
	const char *skipped = errand->conv.notes.p;
	char	   *text = NULL;
	Oid			types[] = {TEXTOID, TEXTOID, TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID};
	Datum		args[5];
	char		nulls[] = {' ', 'n', ' ', ' ', ' '};

	if (skipped != NULL || notes != NULL)
		text = psprintf("%s%s%s", skipped ? skipped : "", skipped && notes ? "; " : "", notes ? notes : "");
	args[0] = CStringGetTextDatum(errand->sync->view.name);
	args[1] = text ? CStringGetTextDatum(text) : (Datum) 0;
	nulls[1] = text ? ' ' : 'n';
	args[2] = TimestampTzGetDatum(errand->asked_at);
	args[3] = Int64GetDatum(schema_interval_us(errand->sync) / 1000);
	args[4] = TimestampTzGetDatum(make_running(errand->sync->view.name)->began_wall);
	if (SPI_execute_with_args("INSERT INTO sequin.sync_state AS t (sync, state, last_error, last_error_at, ready_at, attempts, next_attempt_at, checked_at) "
							  "SELECT s.name, 'ready', $2, CASE WHEN $2 IS NOT NULL THEN pg_catalog.now() END, pg_catalog.now(), 0, "
							  "  pg_catalog.now() OPERATOR(pg_catalog.+) pg_catalog.make_interval(secs => $4 OPERATOR(pg_catalog./) 1000.0), $3 "
							  "FROM sequin.sync s WHERE s.name OPERATOR(pg_catalog.=) $1 "
							  "ON CONFLICT (sync) DO UPDATE SET state = 'ready', last_error = excluded.last_error, "
							  "  last_error_at = excluded.last_error_at, ready_at = COALESCE(t.ready_at, excluded.ready_at), "
							  /* what was changed while we asked wants another look */
							  "  attempts = 0, checked_at = excluded.checked_at, next_attempt_at = CASE WHEN t.next_attempt_at OPERATOR(pg_catalog.>) $5 "
							  "  AND t.next_attempt_at OPERATOR(pg_catalog.<=) pg_catalog.now() THEN t.next_attempt_at ELSE excluded.next_attempt_at END",
							  5, types, args, nulls, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "sequin_proxy: could not record the state of a sync");
	shared_config_changed();
}

static void
record_failure(const char *sync, const char *why)
{
	Outcome		outcome = {sync, why};
	TxnError	error;

	ereport(LOG, (errmsg("sequin_proxy: sync \"%s\" is not ready: %s", sync, why)));
	if (!txn_run(record_failure_body, &outcome, 1000, &error))
		ereport(WARNING, (errmsg("sequin_proxy: could not record the state of sync \"%s\": %s", sync, error.message)));
}

static void
on_discovered(Errand *errand)
{
	const char *sync = errand->sync->view.name;
	TxnError	error;

	if (errand->conv.failed)
		record_failure(sync, errand->conv.error);
	else if (!follow_schema(errand, mark_ready, errand, &error))
		record_failure(sync, error.message);
	else
		ereport(LOG, (errmsg("sequin_proxy: sync \"%s\" is ready: %d collections", sync, errand->conv.schema.ncollections)));
	make_running(sync)->running = false;
	next_look_us = 0;
	errand_free(errand);
}

static void
start_discovery(Loop *loop, const char *name)
{
	Catalog    *catalog = catalog_current();
	CatalogSync *sync = catalog ? catalog_sync_by_name(catalog, name) : NULL;
	Running    *r = make_running(name);
	Errand	   *errand;

	if (sync == NULL || r->running)
		return;
	r->began_at = shared_now();
	r->began_wall = GetCurrentTimestamp();
	errand = errand_create(loop->errands, sync, LIMIT_SYNC, STR_NULL, clock_us() + DISCOVERY_TIMEOUT_US);
	if (errand == NULL)
		return;
	r->running = true;
	errand->done = on_discovered;
	errand_discover(errand, NULL);
}

bool
discovery_wanted(Loop *loop, const char *sync, int64 after)
{
	Running    *r = find_running(sync);

	if (r == NULL || r->began_at < after)
		start_discovery(loop, sync);
	r = find_running(sync);
	return r != NULL && r->running;
}

int
discovery_turn(Loop *loop)
{
	uint64		generation = pg_atomic_read_u64(&shared->generation);
	Due			due = {.cx = CurrentMemoryContext,.next_ms = -1};
	TxnError	error;
	Catalog    *catalog;
	int64_t		now = clock_us();

	if (generation == seen_generation && now < next_look_us)
		return (int) ((next_look_us - now) / 1000) + 1;
	catalog = catalog_current();
	if (catalog == NULL || catalog->generation < generation)
		return LOAD_AGAIN_MS;	/* it could not be loaded now: what moved is still to be looked at */
	seen_generation = generation;
	next_look_us = now + (int64_t) ASK_AGAIN_MS * 1000;
	if (!catalog->installed)
		return ASK_AGAIN_MS;
	if (!txn_run(due_body, &due, 1000, &error))
	{
		next_look_us = now + 1000 * 1000;
		return 1000;
	}
	if (due.next_ms >= 0)
		next_look_us = Min(next_look_us, now + (due.next_ms + 1) * 1000);
	forget_dropped(catalog);
	for (int i = 0; i < due.nsyncs; i++)
		start_discovery(loop, due.syncs[i]);
	return (int) ((next_look_us - now) / 1000) + 1;
}
