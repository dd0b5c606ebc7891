/*
 * metrics.c - /healthz and /metrics (metrics.h).
 *
 * Reads shared memory and answers from it; the health check runs one small transaction at most
 * once a second.  Called from engine_turn only; never ereports.
 */
#include "metrics.h"

#include "executor/spi.h"

#include "settings.h"
#include "txn.h"

#define HEALTH_CACHE_US (1000 * 1000)

/* A transaction id is what a read-only or recovering server refuses; its commit proves the WAL. */
static void
health_body(void *arg)
{
	if (SPI_execute("SELECT pg_catalog.pg_current_xact_id(), (SELECT pg_catalog.count(*) FROM sequin.sync)", false, 1) != SPI_OK_SELECT)
		elog(ERROR, "the health check returned no row");
}

static void
answer_health(Exchange *x)
{
	static int64_t checked_us;
	static bool healthy;
	static TxnError error;
	int64_t		now = clock_us();
	Buf			buf;

	if (checked_us == 0 || now - checked_us > HEALTH_CACHE_US)
	{
		healthy = txn_run(health_body, NULL, Min(setting_commit_timeout, 100), &error);
		checked_us = now;
	}
	buf_init(&buf, x->arena);
	buf_printf(&buf, "{\"status\":\"%s\"", healthy ? "ok" : "unavailable");
	if (!healthy)
	{
		buf_cstr(&buf, ",\"reason\":");
		buf_json_string(&buf, str_of(error.message));
	}
	buf_cstr(&buf, "}\n");
	answer_page(x, healthy ? 200 : 503, "application/json", buf_finish(&buf));
}

typedef struct Metric
{
	const char *name;
	const char *type;
	const char *help;
	size_t		offset;			/* of a uint64 in WorkerStats */
	double		scale;
} Metric;

static const Metric metrics[] = {
	{"sequin_proxy_connections", "gauge", "Open client connections.", offsetof(WorkerStats, connections), 1},
	{"sequin_proxy_connections_accepted_total", "counter", "Client connections accepted.", offsetof(WorkerStats, accepted), 1},
	{"sequin_proxy_requests_total", "counter", "Requests answered.", offsetof(WorkerStats, requests), 1},
	{"sequin_proxy_errors_total", "counter", "Errors of the proxy's own.", offsetof(WorkerStats, status_class[0]), 1},
	{"sequin_proxy_commits_total", "counter", "Answers with Sequin-Commit: committed.", offsetof(WorkerStats, commits), 1},
	{"sequin_proxy_deferred_total", "counter", "Answers with Sequin-Commit: deferred.", offsetof(WorkerStats, deferred), 1},
	{"sequin_proxy_batches_total", "counter", "Transactions that carried commits.", offsetof(WorkerStats, batches), 1},
	{"sequin_proxy_queued", "gauge", "Requests that wait for a rate-limit slot.", offsetof(WorkerStats, queued), 1},
	{"sequin_proxy_in_flight", "gauge", "Requests at the API.", offsetof(WorkerStats, in_flight), 1},
	{"sequin_proxy_upstream_seconds_total", "counter", "Time spent waiting for the API.", offsetof(WorkerStats, upstream_us), 1e-6},
	{"sequin_proxy_commit_seconds_total", "counter", "Time spent in transactions.", offsetof(WorkerStats, commit_us), 1e-6},
	{"sequin_proxy_request_seconds_total", "counter", "Time from request to answer.", offsetof(WorkerStats, total_us), 1e-6},
};

static double
metric_value(const Metric *m, int slot)
{
	return (double) *(const uint64 *) ((const char *) &shared->slots[slot].stats + m->offset) * m->scale;
}

static void
add_metric(Buf *buf, const Metric *m)
{
	buf_printf(buf, "# HELP %s %s\n# TYPE %s %s\n", m->name, m->help, m->name, m->type);
	for (int slot = 0; slot < setting_workers; slot++)
		buf_printf(buf, "%s{worker=\"%d\"} %.15g\n", m->name, slot + 1, metric_value(m, slot));
}

static void
add_responses(Buf *buf)
{
	buf_cstr(buf, "# HELP sequin_proxy_responses_total Answers of the API by status class.\n"
			 "# TYPE sequin_proxy_responses_total counter\n");
	for (int slot = 0; slot < setting_workers; slot++)
		for (int class = 2; class <= 5; class++)
			buf_printf(buf, "sequin_proxy_responses_total{worker=\"%d\",class=\"%dxx\"} " UINT64_FORMAT "\n",
					   slot + 1, class, shared->slots[slot].stats.status_class[class]);
}

static void
answer_metrics(Exchange *x)
{
	Buf			buf;
	Refusal		hidden = {404, "unknown_sync", "metrics are served to loopback peers only",
	"Set sequin_proxy.metrics_public to serve them to others."};

	if (!x->request->peer_loopback && !setting_metrics_public)
	{
		answer_refusal(x, &hidden);
		return;
	}
	buf_init(&buf, x->arena);
	for (int i = 0; i < lengthof(metrics); i++)
		add_metric(&buf, &metrics[i]);
	add_responses(&buf);
	answer_page(x, 200, "text/plain; version=0.0.4; charset=utf-8", buf_finish(&buf));
}

void
metrics_answer(Exchange *x)
{
	if (x->target.kind == TARGET_HEALTH)
		answer_health(x);
	else
		answer_metrics(x);
}
