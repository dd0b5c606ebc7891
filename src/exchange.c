/*
 * exchange.c - the story of one proxied request (exchange.h), told in the order of a loop turn.
 *
 * Owns every Exchange from on_head to on_done.  Handler functions run inside libmicrohttpd's and
 * libcurl's callbacks: they only move an exchange to another list.  What touches PostgreSQL
 * happens in engine_turn, through txn.h; nothing here ereports.
 */
#include "exchange_internal.h"

#include <stdlib.h>

#include "fault_point.h"
#include "header_policy.h"
#include "metrics.h"
#include "settings.h"
#include "shared.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define TICK_US (20 * 1000)

/* ---- lists ---- */

static void
list_remove(ExchangeList *list, Exchange *x)
{
	*(x->prev ? &x->prev->next : &list->first) = x->next;
	*(x->next ? &x->next->prev : &list->last) = x->prev;
	x->next = x->prev = NULL;
	list->count--;
}

static void
list_append(ExchangeList *list, Exchange *x)
{
	x->prev = list->last;
	x->next = NULL;
	*(list->last ? &list->last->next : &list->first) = x;
	list->last = x;
	list->count++;
}

void
exchange_set_state(Exchange *x, ExchangeState state)
{
	list_remove(&x->engine->lists[x->state], x);
	x->state = state;
	list_append(&x->engine->lists[state], x);
}

/* ---- the listener's side (inside libmicrohttpd's callbacks) ---- */

static bool
snapshot_is_current(const Catalog *catalog)
{
	return catalog != NULL && catalog->generation == pg_atomic_read_u64(&shared->generation);
}

static void
refuse_head(Engine *engine, Request *request, const Refusal *refusal, Response *response)
{
	answer_make_error(engine, request->arena, request->id, refusal->status, refusal->code, refusal->message,
					  refusal->hint, response);
}

static Exchange *
exchange_create(Engine *engine, Request *request)
{
	Exchange   *x = arena_zalloc(request->arena, sizeof(*x));

	if (x == NULL)
		return NULL;
	x->engine = engine;
	x->request = request;
	x->arena = request->arena;
	x->state = EXCHANGE_HEAD;
	list_append(&engine->lists[EXCHANGE_HEAD], x);
	request->cls = x;
	return x;
}

/*
 * Refuses what can be refused before its body is uploaded, if the snapshot at hand is the newest;
 * otherwise the body comes first and exchange_arrived judges.
 */
static bool
on_head(void *cls, Request *request, Response *response)
{
	Engine	   *engine = cls;
	Exchange   *x = exchange_create(engine, request);
	Refusal		refusal = {503, "not_ready", "the proxy is out of memory", "Try again later."};

	if (x == NULL || !target_parse(x->arena, request->head.target, &x->target))
	{
		refuse_head(engine, request, &refusal, response);
		return false;
	}
	if (x->target.kind == TARGET_BAD ||
		(x->target.kind == TARGET_API && snapshot_is_current(catalog_peek())))
	{
		if (!exchange_check(x, catalog_peek(), &refusal))
		{
			refuse_head(engine, request, &refusal, response);
			return false;
		}
	}
	return true;
}

static void
on_request(void *cls, Request *request)
{
	exchange_set_state(request->cls, EXCHANGE_ARRIVED);
}

/* What has not been sent need not be; what has goes on to its commit. */
static void
on_client_gone(void *cls, Request *request)
{
	Exchange   *x = request->cls;

	if (x == NULL)
		return;
	if (x->state == EXCHANGE_QUEUED)
		pacer_leave(x->engine->loop->pacer, &x->wait);
	if (x->state == EXCHANGE_QUEUED || x->state == EXCHANGE_UNREADY)
		exchange_set_state(x, EXCHANGE_ARRIVED);
}

static void
on_client_closed(void *cls, Request *request)
{
	((Engine *) cls)->deserted = true;
}

static void
on_done(void *cls, Request *request)
{
	Exchange   *x = request->cls;

	if (x == NULL)
		return;
	list_remove(&x->engine->lists[x->state], x);
	if (x->errand != NULL)
		errand_free(x->errand);
	catalog_unref(x->catalog);
	free(x->result.body);
	request->cls = NULL;
}

static void
on_log(void *cls, int level, const char *message)
{
	ereport(level >= 2 ? WARNING : level == 1 ? LOG : DEBUG1, (errmsg_internal("sequin_proxy: %s", message)));
}

/* ---- arrived -> queued ---- */

static void
on_granted(PacerWait *wait)
{
	Exchange   *x = wait->cls;

	x->slot_held = true;
	exchange_set_state(x, EXCHANGE_GRANTED);
}

static void
on_expired(PacerWait *wait)
{
	answer_error(wait->cls, 504, "queue_timeout", "no rate-limit slot came free within sequin_proxy.queue_timeout",
				 "Nothing was sent: it is safe to try again. sequin.rate_limit_usage shows who uses the limit.", false);
}

static void
exchange_queue(Exchange *x)
{
	x->limit = catalog_limit(x->sync, x->route.bucket);
	x->wait.record = x->limit;
	x->wait.party = LIMIT_PROXY;
	x->wait.deadline_us = x->deadline_us;
	x->wait.granted = on_granted;
	x->wait.expired = on_expired;
	x->wait.cls = x;
	x->engine->deserted |= x->request->client_closed;
	exchange_set_state(x, EXCHANGE_QUEUED);
	pacer_wait(x->engine->loop->pacer, &x->wait);
}

/*
 * A client that has closed its side has most likely given up, and what it left behind must not take
 * slots from those who still wait.  One that only half-closed reads why.
 */
static void
refuse_deserted(Engine *engine)
{
	Exchange   *next;

	if (!engine->deserted)
		return;
	engine->deserted = false;
	for (Exchange *x = engine->lists[EXCHANGE_QUEUED].first; x != NULL; x = next)
	{
		next = x->next;
		if (!x->request->client_closed)
			continue;
		pacer_leave(engine->loop->pacer, &x->wait);
		answer_error(x, 504, "queue_timeout", "the connection was closed by the client before a rate-limit slot came free",
					 "Nothing was sent: it is safe to try again. Keep the connection open until the answer is there.", false);
	}
}

static bool
must_wait_for_discovery(const Exchange *x)
{
	return x->route.mirrored && !x->sync->ready;
}

/* The sync as it is by now: the token that was good when the exchange came may be spent. */
static const CatalogSync *
newest_sync(const Exchange *x)
{
	const CatalogSync *newest = x->catalog == catalog_peek() ? x->sync : catalog_same_sync(catalog_peek(), x->sync);

	return newest ? newest : x->sync;
}

/* An OAuth credential without an access token: the sync process is bringing one, or asked to. */
static bool
must_wait_for_token(const Exchange *x)
{
	return x->sync->auth != AUTH_PASSTHROUGH && catalog_awaits_token(newest_sync(x), x->arena);
}

static const char *
what_is_missing(const Exchange *x)
{
	if (!snapshot_is_current(catalog_peek()) || x->sync == NULL)
		return "the newest configuration could not be read";
	if (must_wait_for_token(x))
		return "the sync's OAuth credential has no valid access token";
	return "the sync has not discovered the API's schema yet";
}

static void
give_up_waiting(Exchange *x)
{
	answer_error(x, 503, "not_ready", what_is_missing(x),
				 "Nothing was sent. sequin.syncs.last_error or the server's log says what is in the way.", false);
}

/* An older configuration must not decide: its keys may be revoked. */
static bool
must_wait_for_configuration(Exchange *x, const Catalog *catalog)
{
	if (snapshot_is_current(catalog))
		return false;
	if (x->deadline_us <= clock_us())
		give_up_waiting(x);
	else if (x->state != EXCHANGE_UNREADY)
		exchange_set_state(x, EXCHANGE_UNREADY);
	return true;
}

static void
await_token(Exchange *x)
{
	shared_ask_token(NULL);
	exchange_set_state(x, EXCHANGE_UNREADY);
}

static void
exchange_arrived(Exchange *x)
{
	Catalog    *catalog = catalog_current();
	Refusal		refusal;

	FAULT_POINT("exchange.arrived");
	if (x->request->client_gone || x->engine->stopping)
	{
		answer_error(x, 503, "shutting_down", "the server is stopping", "Nothing was sent: try again in a moment.", false);
		return;
	}
	if (x->target.kind == TARGET_HEALTH || x->target.kind == TARGET_METRICS)
	{
		metrics_answer(x);
		return;
	}
	if (x->deadline_us == 0)
		x->deadline_us = x->engine->now_us + (int64_t) setting_queue_timeout * 1000;
	if (must_wait_for_configuration(x, catalog))
		return;
	if ((x->sync == NULL || x->catalog != catalog) && !exchange_check(x, catalog, &refusal))
	{
		answer_refusal(x, &refusal);
		return;
	}
	x->view.body = x->request->body.p ? x->request->body : STR_LIT("");
	if (must_wait_for_token(x))
		await_token(x);
	else if (must_wait_for_discovery(x))
		exchange_set_state(x, EXCHANGE_UNREADY);
	else
		exchange_queue(x);
}

/* Its turn came, but the token it was to go with is no more: before its intent is written, it waits for the next. */
static void
keep_granted(Exchange *x)
{
	FAULT_POINT("exchange.granted");
	if (!must_wait_for_token(x))
	{
		exchange_set_state(x, EXCHANGE_GRANTED);	/* keeps the order: each is looked at once */
		return;
	}
	exchange_release_slot(x);
	await_token(x);
}

/* Those that wait for discovery or the newest configuration: look again when that moved, give up in time. */
static void
retry_unready(Engine *engine)
{
	Exchange   *next;
	int64_t		now = clock_us();

	for (Exchange *x = engine->lists[EXCHANGE_UNREADY].first; x != NULL; x = next)
	{
		next = x->next;
		if (x->catalog != catalog_peek() || engine->stopping)
			exchange_arrived(x);
		else if (x->deadline_us <= now)
			give_up_waiting(x);
	}
}

/* ---- granted -> sent -> received ---- */

static void
on_send(UpstreamCall *call)
{
	Exchange   *x = call->cls;

	x->slot_held = false;
	limiter_sent(x->limit, LIMIT_PROXY, call->seen_at_us);
	FAULT_POINT("exchange.sent");
}

static void
on_received(UpstreamCall *call, UpstreamResult *result)
{
	Exchange   *x = call->cls;

	x->result = *result;
	exchange_set_state(x, EXCHANGE_RECEIVED);
}

void
exchange_release_slot(Exchange *x)
{
	if (x->slot_held)
		limiter_cancel(x->limit, LIMIT_PROXY);
	x->slot_held = false;
}

/* Path and query as they came: the two slices stand side by side in the raw target. */
static Str
raw_target(const Exchange *x)
{
	const char *end = x->target.query.p ? x->target.query.p + x->target.query.n : x->target.path.p + x->target.path.n;

	return (Str) {x->target.path.p, (size_t) (end - x->target.path.p)};
}

static Str
bearer(Arena *arena, Str secret)
{
	char	   *text = arena_alloc(arena, secret.n + 8);

	if (text == NULL)
		return STR_NULL;
	memcpy(text, "Bearer ", 7);
	memcpy(text + 7, secret.p, secret.n);
	text[secret.n + 7] = '\0';
	return (Str) {text, secret.n + 7};
}

/* The headers to send; false with a refusal when the credential is not to be had. */
static bool
build_headers(Exchange *x, Refusal *refusal)
{
	const CatalogSync *newest = newest_sync(x);
	Str			authorization = STR_NULL;	/* passthrough: the caller's own */
	HttpHeader *up;
	Str			secret;
	const char *error;

	if (x->sync->auth != AUTH_PASSTHROUGH && newest == x->sync && newest->bearer != NULL)
		authorization = str_of(newest->bearer);		/* of the snapshot that the exchange holds */
	else if (x->sync->auth != AUTH_PASSTHROUGH)
	{
		*refusal = (Refusal) {503, "not_ready", "the sync's credential cannot be used", "sequin.syncs.last_error says what to fix."};
		if (!catalog_credential(newest, x->arena, &secret, &error) || !http_is_value(secret))
			return false;
		authorization = bearer(x->arena, secret);
	}
	*refusal = (Refusal) {503, "not_ready", "the proxy is out of memory", "Nothing was sent: try again later."};
	if (x->sync->auth != AUTH_PASSTHROUGH && authorization.p == NULL)
		return false;
	x->call.nheaders = headers_up(x->arena, &x->request->head, authorization, !x->route.read, &up);
	if (x->call.nheaders < 0)
		return false;
	x->call.headers = up;
	return true;
}

static void
exchange_send(Exchange *x)
{
	Refusal		refusal;
	const char *origin = x->sync->upstream_url ? x->sync->upstream_url
		: arena_printf(x->arena, "https://%.*s", STR_FMT(x->target.host));

	x->call.arena = x->arena;
	x->call.origin = str_of(origin);
	x->call.method = x->view.method;
	x->call.target = raw_target(x);
	x->call.body = x->request->body;
	x->call.on_send = on_send;
	x->call.done = on_received;
	x->call.cls = x;
	x->asked_at = x->engine->asked_at;
	FAULT_POINT("exchange.journalled");
	if (origin == NULL || !build_headers(x, &refusal) || FAULT_FAILS("exchange.send") ||
		!upstream_start(x->engine->loop->upstream, &x->call))
	{
		if (origin == NULL || x->call.headers != NULL)
			refusal = (Refusal) {503, "not_ready", "the request could not be started", "Nothing was sent: try again later."};
		exchange_release_slot(x);
		commit_settle(x, JOURNAL_FAILED, "not sent");
		answer_refusal(x, &refusal);
		return;
	}
	exchange_set_state(x, EXCHANGE_SENT);
}

/* ---- the engine ---- */

static void
on_tick(void *arg)
{
	/* its only purpose is to end the wait */
}

/* The turn may have left work for the next one, which must not wait for a stranger's event. */
static void
set_tick(Engine *engine)
{
	const ExchangeList *lists = engine->lists;

	if (lists[EXCHANGE_ARRIVED].count + lists[EXCHANGE_GRANTED].count + lists[EXCHANGE_RECEIVED].count +
		lists[EXCHANGE_COMMITTING].count > 0)
		timer_set(engine->loop->reactor, &engine->tick, clock_us(), on_tick, NULL);
	else if (lists[EXCHANGE_BLOCKED].count + lists[EXCHANGE_UNREADY].count > 0 || engine->settles != NULL)
		timer_set(engine->loop->reactor, &engine->tick, clock_us() + TICK_US, on_tick, NULL);
}

static void
update_stats(Engine *engine)
{
	ListenerStats ls;

	listener_stats(engine->listener, &ls);
	engine->stats->connections = ls.connections;
	engine->stats->accepted = ls.accepted;
	engine->stats->queued = engine->lists[EXCHANGE_QUEUED].count;
	engine->stats->in_flight = engine->lists[EXCHANGE_SENT].count;
}

static void
for_each(Engine *engine, ExchangeState state, void (*visit) (Exchange *x))
{
	int			n = engine->lists[state].count;

	/* Each visit moves its exchange to another list; what is appended meanwhile has its own turn. */
	while (n-- > 0 && engine->lists[state].first != NULL)
		visit(engine->lists[state].first);
}

void
engine_turn(Engine *engine)
{
	MemoryContext old = MemoryContextSwitchTo(engine->turn_cx);

	engine->now_us = clock_us();
	catalog_begin_turn();
	catalog_current();
	for_each(engine, EXCHANGE_ARRIVED, exchange_arrived);
	retry_unready(engine);
	pacer_turn(engine->loop->pacer);
	refuse_deserted(engine);	/* those who got no slot at once */
	errand_turn(engine->loop->errands);
	for_each(engine, EXCHANGE_RECEIVED, exchange_received);
	for_each(engine, EXCHANGE_GRANTED, keep_granted);
	commit_turn(engine);
	if (engine->lists[EXCHANGE_GRANTED].count > 0)
		engine->asked_at = shared_now();	/* a little early for the later ones, as a lower bound may be */
	for_each(engine, EXCHANGE_GRANTED, exchange_send);
	pacer_turn(engine->loop->pacer);	/* re-reads that this turn began need not wait for the next */
	errand_turn(engine->loop->errands);
	if (engine->flush)
		listener_flush(engine->listener);
	engine->flush = false;
	set_tick(engine);			/* last: what stood behind an answered request has arrived by now */
	update_stats(engine);
	MemoryContextSwitchTo(old);
	MemoryContextReset(engine->turn_cx);
}

Engine *
engine_create(Loop *loop, WorkerStats *stats)
{
	Engine	   *engine = calloc(1, sizeof(*engine));

	if (engine == NULL)
		return NULL;
	engine->loop = loop;
	engine->stats = stats;
	engine->turn_cx = AllocSetContextCreate(TopMemoryContext, "sequin_proxy turn", ALLOCSET_DEFAULT_SIZES);
	engine->handler = (ListenerHandler)
	{
		.cls = engine,.on_head = on_head,.on_request = on_request,.on_client_gone = on_client_gone,
		.on_client_closed = on_client_closed,.on_done = on_done,.make_error = answer_make_error,.log = on_log
	};
	return engine;
}

const ListenerHandler *
engine_handler(Engine *engine)
{
	return &engine->handler;
}

void
engine_set_listener(Engine *engine, Listener *listener)
{
	engine->listener = listener;
}

bool
engine_idle(const Engine *engine)
{
	for (int state = EXCHANGE_HEAD; state < EXCHANGE_DONE; state++)
		if (engine->lists[state].count > 0)
			return false;
	return engine->settles == NULL && listener_busy(engine->listener) == 0;
}

static void
refuse_queued(Exchange *x)
{
	pacer_leave(x->engine->loop->pacer, &x->wait);
	exchange_arrived(x);
}

void
engine_stop(Engine *engine)
{
	engine->stopping = true;
	for_each(engine, EXCHANGE_QUEUED, refuse_queued);
	retry_unready(engine);
}

static void
defer_blocked(Exchange *x)
{
	x->nitems = 0;
	commit_defer(x, "the server stopped while a lock kept the mirror from following");
}

void
engine_cut(Engine *engine)
{
	upstream_cancel_all(engine->loop->upstream);
	errand_give_up(engine->loop->errands);
	pacer_expire_all(engine->loop->pacer);	/* re-reads: their exchanges are deferred */
	for_each(engine, EXCHANGE_BLOCKED, defer_blocked);
	engine_turn(engine);
}
