/*
 * sql_stats.c - the functions behind sequin.proxy_stats, sequin.rate_limit_usage and rate_limit text.
 *
 * Views run their functions as whoever reads them, so these are open to PUBLIC and check SELECT on
 * the view themselves: GRANT SELECT ON sequin.proxy_stats is all that a monitoring role needs.
 * Read shared memory only.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/namespace.h"
#include "datatype/timestamp.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "limiter.h"
#include "settings.h"
#include "shared.h"
#include "sql_function.h"

SQL_FUNCTION(sequin_proxy_stats);
SQL_FUNCTION(sequin_rate_limit_usage);
SQL_FUNCTION(sequin_rate_parse);

#define MAX_SPECS (RATE_MAX_BUCKETS * RATE_MAX_WINDOWS)

static void
require_select(const char *view)
{
	Oid			namespace = get_namespace_oid("sequin", false);
	Oid			relation = get_relname_relid(view, namespace);

	if (!OidIsValid(relation) || pg_class_aclcheck(relation, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_VIEW, view);
}

static Datum
interval_of_us(int64 us)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = us;
	return IntervalPGetDatum(interval);
}

/* Mean in milliseconds of a sum in microseconds; NULL when nothing was counted. */
static Datum
mean_ms(uint64 sum_us, uint64 count, bool *isnull)
{
	*isnull = count == 0;
	return Float8GetDatum(count == 0 ? 0 : (double) sum_us / (double) count / 1000.0);
}

static int
slot_pid(int slot)
{
	int			pid;

	SpinLockAcquire(&shared->mutex);
	pid = shared->slots[slot].pid;
	SpinLockRelease(&shared->mutex);
	return pid;
}

static void
add_worker(const SqlRows *rows, int slot)
{
	WorkerSlot *worker = &shared->slots[slot];
	WorkerStats stats = worker->stats;
	char		error[sizeof(worker->listen_error)] = "";
	Datum		values[22];
	bool		nulls[22] = {0};
	uint64		answered = 0;
	int			pid = slot_pid(slot);
	int			n = 0;

	if (pid != 0)
		strlcpy(error, worker->listen_error, sizeof(error));
	else if (RecoveryInProgress())
		strlcpy(error, "this server is a standby: its workers start when it is promoted", sizeof(error));
	else
		snprintf(error, sizeof(error), "it does not run: it starts again within seconds; or max_worker_processes (%d) is too small, as the server's log then says",
				 max_worker_processes);
	values[n++] = Int32GetDatum(slot + 1);
	nulls[n] = pid == 0;
	values[n++] = Int32GetDatum(pid);
	values[n++] = BoolGetDatum(pid != 0 && worker->listening);
	nulls[n] = error[0] == '\0';
	values[n++] = CStringGetTextDatum(error);
	values[n++] = Int64GetDatum(pid != 0 ? (int64) stats.connections : 0);
	values[n++] = Int64GetDatum((int64) stats.accepted);
	values[n++] = Int64GetDatum((int64) stats.requests);
	for (int class = 1; class <= 5; class++)
	{
		values[n++] = Int64GetDatum((int64) stats.status_class[class]);
		answered += stats.status_class[class];
	}
	values[n++] = Int64GetDatum((int64) stats.status_class[0]);
	values[n++] = Int64GetDatum((int64) stats.commits);
	values[n++] = Int64GetDatum((int64) stats.batches);
	values[n++] = Int64GetDatum((int64) stats.deferred);
	values[n++] = Int64GetDatum(pid != 0 ? (int64) stats.queued : 0);
	values[n++] = Int64GetDatum(pid != 0 ? (int64) stats.in_flight : 0);
	values[n] = mean_ms(stats.upstream_us, answered, &nulls[n]);
	n++;
	values[n] = mean_ms(stats.commit_us, stats.batches, &nulls[n]);
	n++;
	values[n] = mean_ms(stats.total_us, stats.requests, &nulls[n]);
	n++;
	Assert(n == rows->desc->natts);
	sql_rows_add(rows, values, nulls);
}

Datum
sequin_proxy_stats(PG_FUNCTION_ARGS)
{
	SqlRows		rows;

	sql_require_preload();
	require_select("proxy_stats");
	rows = sql_rows_begin(fcinfo);
	for (int slot = 0; slot < setting_workers; slot++)
		add_worker(&rows, slot);
	return (Datum) 0;
}

static void
add_usage(const SqlRows *rows, const LimitUsage *usage, TimestampTz now)
{
	Datum		values[8];
	bool		nulls[8] = {0};

	values[0] = CStringGetTextDatum(usage->sync_name);
	values[1] = CStringGetTextDatum(usage->bucket);
	values[2] = interval_of_us(usage->period_us);
	values[3] = Int64GetDatum(usage->limit);
	values[4] = Int64GetDatum(usage->used_by_proxy);
	values[5] = Int64GetDatum(usage->used_by_sync);
	values[6] = Int32GetDatum(usage->proxy_waiting);
	nulls[7] = usage->blocked_for_us <= 0;
	values[7] = TimestampTzGetDatum(now + usage->blocked_for_us);
	sql_rows_add(rows, values, nulls);
}

Datum
sequin_rate_limit_usage(PG_FUNCTION_ARGS)
{
	TimestampTz now = GetCurrentTimestamp();
	LimitUsage *usage;
	SqlRows		rows;
	int			count;

	sql_require_preload();
	require_select("rate_limit_usage");
	rows = sql_rows_begin(fcinfo);
	count = limiter_usage(&usage);
	for (int i = 0; i < count; i++)
		add_usage(&rows, &usage[i], now);
	return (Datum) 0;
}

/* sequin._rate_parse(text) -> (bucket, max_requests, period) */
Datum
sequin_rate_parse(PG_FUNCTION_ARGS)
{
	char	   *limits = text_to_cstring(PG_GETARG_TEXT_PP(0));
	SqlRows		rows = sql_rows_begin(fcinfo);
	RateSpec	specs[MAX_SPECS];
	char		error[200] = "";
	int			count = rate_parse(limits, specs, MAX_SPECS, error, sizeof(error));

	if (count <= 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid rate_limit \"%s\": %s", limits, error[0] ? error : "empty"),
				errhint("Write [bucket:]N/T windows with commas between, T in s, min, h or d: '100/10s, search:4/1s, 250000/1d'."));
	for (int i = 0; i < count; i++)
	{
		Datum		values[3];
		bool		nulls[3] = {0};

		values[0] = CStringGetTextDatum(specs[i].bucket);
		values[1] = Int64GetDatum(specs[i].limit);
		values[2] = interval_of_us(specs[i].period_us);
		sql_rows_add(&rows, values, nulls);
	}
	return (Datum) 0;
}
