/*
 * errand.c - our own calls to the API (errand.h): takes calls from a conversation, waits for a
 * rate-limit slot for each, sends it, feeds its answer back.
 *
 * Owns the errands between errand_create and errand_free.  Called from the loop's turn and from
 * upstream's done callback; never runs SQL, never ereports.
 */
#include "errand.h"

#include "utils/timestamp.h"

#include "fault_point.h"
#include "header_policy.h"
#include "shared.h"

#include <curl/curl.h>
#include <stdlib.h>

#define ERRAND_MAX_IN_FLIGHT 8
#define ERRAND_MAX_THROTTLED 5		/* answers of 429 to one call before the errand gives up */
#define TOKEN_WAIT_US (INT64_C(30) * 1000 * 1000)	/* for an access token, within the errand's own deadline */
#define PARKED_LOOK_US (INT64_C(500) * 1000)

struct ErrandRunner
{
	Reactor    *reactor;
	Pacer	   *pacer;
	Upstream   *upstream;
	Errand	   *finished;		/* done() is due */
	int			running;
	struct ErrandCall *parked;	/* calls that wait for an access token */
	Timer		parked_timer;
	uint64_t	parked_generation;	/* of the configuration when they were last looked at */
	int64_t		parked_look_us;
};

/* One call of an errand, from waiting for its slot to its answer. */
typedef struct ErrandCall
{
	Errand	   *errand;
	Call		call;
	LimitRecord *limit;
	PacerWait	wait;
	UpstreamCall upstream;
	bool		slot_used;		/* the slot was turned into a sent request */
	bool		repeated;		/* its connection broke once already */
	int			throttled;
	Str			authorization;	/* what it was sent with */
	bool		refused;		/* the API refused that once: it is not asked a third time */
	int64_t		parked_until_us;
	struct ErrandCall *next_parked;
} ErrandCall;

static void errand_pump(Errand *errand);
static void call_wait(ErrandCall *c);
static void call_resume(ErrandCall *c);

ErrandRunner *
errand_runner_create(Reactor *reactor, Pacer *pacer, Upstream *upstream)
{
	ErrandRunner *runner = calloc(1, sizeof(*runner));

	if (runner != NULL)
	{
		runner->reactor = reactor;
		runner->pacer = pacer;
		runner->upstream = upstream;
	}
	return runner;
}

int
errand_running(const ErrandRunner *runner)
{
	return runner->running;
}

Errand *
errand_create(ErrandRunner *runner, CatalogSync *sync, LimitParty party,
			  Str authorization, int64_t deadline_us)
{
	Arena	   *arena = arena_create();
	Errand	   *errand = arena ? arena_zalloc(arena, sizeof(Errand)) : NULL;

	if (errand == NULL)
	{
		arena_destroy(arena);
		return NULL;
	}
	errand->arena = arena;
	errand->catalog = catalog_ref(sync->catalog);
	errand->sync = sync;
	errand->party = party;
	errand->authorization = authorization.p ? arena_str(arena, authorization.p, authorization.n) : STR_NULL;
	errand->deadline_us = deadline_us;
	errand->runner = runner;
	errand->conv.arena = arena;
	errand->conv.view = &sync->view;
	errand->conv.result.total = -1;
	errand->conv.result.newest_us = TIME_NONE;
	errand->api_time_us = TIME_NONE;
	errand->asked_at = shared_now();
	runner->running++;
	return errand;
}

void
errand_free(Errand *errand)
{
	errand->runner->running--;
	catalog_unref(errand->catalog);
	arena_destroy(errand->arena);
}

/*
 * The header value to send: the caller's own, or the sync's credential as it is by now, for an access
 * token may be spent before the errand is over.  STR_NULL with a reason: not to be had.
 */
static Str
authorization_now(Errand *errand, const char **error)
{
	CatalogSync *newest = catalog_peek() ? catalog_same_sync(catalog_peek(), errand->sync) : NULL;
	Str			secret;
	Str			value;

	*error = NULL;
	if (errand->authorization.p != NULL)
		return errand->authorization;
	if (!catalog_credential(newest ? newest : errand->sync, errand->arena, &secret, error))
		return STR_NULL;
	value = str_of(arena_printf(errand->arena, "Bearer %.*s", STR_FMT(secret)));
	if (value.p != NULL && http_is_value(value))
		return value;
	*error = value.p ? "the credential holds characters that an HTTP header cannot" : "out of memory";
	return STR_NULL;
}

/* Can an access token be waited for? */
static bool
awaits_token(Errand *errand)
{
	CatalogSync *newest = catalog_peek() ? catalog_same_sync(catalog_peek(), errand->sync) : NULL;

	return errand->authorization.p == NULL && newest != NULL && catalog_awaits_token(newest, errand->arena);
}

/* False: there is no credential, nor will there be one in a moment. */
static bool
authorize(Errand *errand)
{
	const char *error;

	if (authorization_now(errand, &error).p != NULL || awaits_token(errand))
		return true;
	conversation_fail(&errand->conv, true, "%s", error);
	return false;
}

void
errand_discover(Errand *errand, const char *scope)
{
	errand->conv.discovering = true;
	errand->conv.scope = scope ? arena_cstr(errand->arena, str_of(scope)) : NULL;
	if (authorize(errand))
		errand->sync->provider->discover(&errand->conv);
	errand_pump(errand);
}

void
errand_reread(Errand *errand, const Change *targets, int ntargets)
{
	Change	   *copy = arena_alloc(errand->arena, sizeof(Change) * (size_t) (ntargets > 0 ? ntargets : 1));

	if (copy == NULL)
		conversation_fail(&errand->conv, true, "out of memory");
	else if (authorize(errand))
	{
		for (int i = 0; i < ntargets; i++)
		{
			copy[i] = targets[i];
			copy[i].collection = arena_copy(errand->arena, targets[i].collection);
			copy[i].id = arena_copy(errand->arena, targets[i].id);
			copy[i].to_collection = arena_copy(errand->arena, targets[i].to_collection);
			copy[i].to_id = arena_copy(errand->arena, targets[i].to_id);
		}
		errand->sync->provider->reread(&errand->conv, copy, ntargets);
	}
	errand_pump(errand);
}

/* The request in the errand's own memory; NULL: there is none left. */
static PageRequest *
copy_request(Arena *arena, const PageRequest *request)
{
	PageRequest *copy = arena_alloc(arena, sizeof(*copy));

	if (copy == NULL)
		return NULL;
	*copy = *request;
	copy->collection = request->collection ? arena_cstr(arena, str_of(request->collection)) : NULL;
	copy->cursor = arena_copy(arena, request->cursor);
	copy->until_id = arena_copy(arena, request->until_id);
	copy->field = arena_copy(arena, request->field);
	copy->ids = arena_alloc(arena, sizeof(Str) * (size_t) (request->nids > 0 ? request->nids : 1));
	for (int i = 0; copy->ids != NULL && i < request->nids; i++)
		copy->ids[i] = arena_copy(arena, request->ids[i]);
	return copy->ids ? copy : NULL;
}

void
errand_page(Errand *errand, const PageRequest *request)
{
	errand->conv.page = copy_request(errand->arena, request);
	if (errand->conv.page == NULL)
		conversation_fail(&errand->conv, true, "out of memory");
	else if (authorize(errand))
		errand->sync->provider->page(&errand->conv);
	errand_pump(errand);
}

static void
errand_finish(Errand *errand)
{
	if (errand->finished)
		return;
	errand->finished = true;
	errand->next = errand->runner->finished;
	errand->runner->finished = errand;
}

/* Starts what can be started; finishes the errand when nothing is left. */
static void
errand_pump(Errand *errand)
{
	Call		call;

	while (errand->conv.in_flight < ERRAND_MAX_IN_FLIGHT && conversation_take(&errand->conv, &call))
	{
		ErrandCall *c = arena_zalloc(errand->arena, sizeof(*c));

		if (c == NULL)
		{
			conversation_fail(&errand->conv, true, "out of memory");
			break;
		}
		c->errand = errand;
		c->call = call;
		c->limit = catalog_limit(errand->sync, call.bucket);
		errand->conv.in_flight++;
		call_wait(c);
	}
	if (errand->conv.in_flight == 0)
		errand_finish(errand);
}

/* The call is over, well or not: feed it (status 0: no answer) and go on. */
static void
call_over(ErrandCall *c, int status, Str body)
{
	Errand	   *errand = c->errand;

	errand->conv.in_flight--;
	if (!errand->conv.failed)
		errand->sync->provider->feed(&errand->conv, &c->call, status, body);
	errand_pump(errand);
}

static void
call_failed(ErrandCall *c, const char *why)
{
	conversation_fail(&c->errand->conv, true, "%s %s: %s", c->call.method, c->call.host, why);
	call_over(c, 0, STR_NULL);
}

/* ---- waiting for an access token ---- */

static void
on_parked_timer(void *arg)
{
	/* its only purpose is to end the wait */
}

static void
call_park(ErrandCall *c)
{
	ErrandRunner *runner = c->errand->runner;

	c->next_parked = runner->parked;
	runner->parked = c;
	timer_set(runner->reactor, &runner->parked_timer, clock_us() + PARKED_LOOK_US, on_parked_timer, NULL);
	shared_ask_token(NULL);
}

/* Goes on with another credential than the one that was refused, waits for it, or gives up. */
static void
call_resume(ErrandCall *c)
{
	const char *error;
	Str			now = authorization_now(c->errand, &error);

	if (c->parked_until_us == 0)
		c->parked_until_us = Min(c->errand->deadline_us, clock_us() + TOKEN_WAIT_US);
	if (now.p != NULL && (!c->refused || !str_eq(now, c->authorization)))
	{
		c->parked_until_us = 0;
		call_wait(c);
	}
	else if (c->errand->conv.failed || clock_us() >= c->parked_until_us)
		call_failed(c, now.p ? "the API refused the access token (401), and there is no newer one" : error);
	else
		call_park(c);
}

/* A new token is a new configuration; and once in a while, for the deadlines. */
static void
resume_parked(ErrandRunner *runner)
{
	ErrandCall *c = runner->parked;
	int64_t		now = clock_us();

	if (c == NULL || (catalog_peek()->generation == runner->parked_generation && now - runner->parked_look_us < PARKED_LOOK_US))
		return;
	runner->parked_generation = catalog_peek()->generation;
	runner->parked_look_us = now;
	runner->parked = NULL;
	while (c != NULL)
	{
		ErrandCall *next = c->next_parked;

		call_resume(c);
		c = next;
	}
}

/*
 * A 401 may only mean that the credential has changed while the call was under way, or that an
 * access token ended early: the API did nothing, so it is asked once more, with another one.
 */
static bool
ask_again(ErrandCall *c, int status)
{
	Errand	   *errand = c->errand;
	CatalogSync *newest = catalog_peek() ? catalog_same_sync(catalog_peek(), errand->sync) : NULL;
	const char *error;
	Str			now;

	if (status != 401 || c->refused || errand->authorization.p != NULL || newest == NULL || errand->conv.failed)
		return false;
	now = authorization_now(errand, &error);
	if (newest->token == NULL && (now.p == NULL || str_eq(now, c->authorization)))
		return false;
	if (newest->token != NULL)
		catalog_token_refused(newest, c->authorization);
	c->refused = true;
	c->parked_until_us = 0;
	call_resume(c);
	return true;
}

static void
call_sent(UpstreamCall *upstream)
{
	ErrandCall *c = upstream->cls;

	c->slot_used = true;
	FAULT_POINT("errand.sent");
	limiter_sent(c->limit, c->errand->party, upstream->seen_at_us);
}

/* Takes what the API says of its limits; true when this very call was refused for them. */
static bool
note_limits(ErrandCall *c, UpstreamResult *result)
{
	LimitHint	hint = {0};
	Str			body = {result->body ? result->body : "", result->body_len};
	int64_t		now = clock_us();

	c->errand->sync->provider->limits(result->status, upstream_result_header, result, body, &hint);
	if (hint.has_remaining)
		limiter_tighten(c->limit, hint.window_ms * 1000, hint.remaining, result->sent_at_us);
	if (hint.block_ms <= 0)
		return false;
	limiter_block(c->limit, now + hint.block_ms * 1000);
	return result->status == 429;
}

/* The API's clock, by which its modification times are, to the second. */
static void
note_time(Errand *errand, UpstreamResult *result)
{
	char		text[64];
	Str			date = upstream_result_header(result, "Date");
	time_t		seconds;

	if (errand->api_time_us != TIME_NONE || date.p == NULL || date.n >= sizeof(text))
		return;
	memcpy(text, date.p, date.n);
	text[date.n] = '\0';
	seconds = curl_getdate(text, NULL);
	if (seconds > 0)
		errand->api_time_us = (int64_t) seconds * 1000000;
}

/* An API may hang up on an idle connection just as we use it.  What only reads may be asked again, once. */
static bool
may_repeat(ErrandCall *c, const UpstreamResult *result)
{
	if (result->outcome != UPSTREAM_BROKEN || c->repeated || c->call.once || c->errand->conv.failed)
		return false;
	c->repeated = true;
	return true;
}

static void
call_done(UpstreamCall *upstream, UpstreamResult *result)
{
	ErrandCall *c = upstream->cls;

	note_time(c->errand, result);
	if (!c->slot_used)
		limiter_cancel(c->limit, c->errand->party);
	if (may_repeat(c, result))
		call_wait(c);
	else if (result->outcome != UPSTREAM_ANSWERED)
		call_failed(c, result->error[0] ? result->error : "no answer");
	else if (note_limits(c, result) && ++c->throttled < ERRAND_MAX_THROTTLED && !c->errand->conv.failed)
		call_wait(c);			/* refused, so it had no effect: asking again is safe */
	else if (!ask_again(c, result->status))
		call_over(c, result->status, (Str) {result->body ? result->body : "", result->body_len});
	free(result->body);
}

static bool
call_headers(ErrandCall *c)
{
	HttpHeader *headers = arena_alloc(c->errand->arena, sizeof(HttpHeader) * 4);
	int			n = 0;

	if (headers == NULL)
		return false;
	headers[n++] = (HttpHeader) {STR_LIT("Authorization"), c->authorization};
	headers[n++] = (HttpHeader) {STR_LIT("Accept"), STR_LIT("application/json")};
	headers[n++] = (HttpHeader) {STR_LIT("User-Agent"), STR_LIT("sequin_proxy/1.0")};
	if (c->call.body.p != NULL)
		headers[n++] = (HttpHeader) {STR_LIT("Content-Type"), STR_LIT("application/json")};
	c->upstream.headers = headers;
	c->upstream.nheaders = n;
	return true;
}

static void
call_granted(PacerWait *wait)
{
	ErrandCall *c = wait->cls;
	Errand	   *errand = c->errand;
	const char *error;
	const char *origin = errand->sync->upstream_url ? errand->sync->upstream_url
		: arena_printf(errand->arena, "https://%s", c->call.host);

	c->slot_used = false;
	c->authorization = authorization_now(errand, &error);
	if (c->authorization.p == NULL)
	{
		limiter_cancel(c->limit, errand->party);
		call_resume(c);
		return;
	}
	c->upstream = (UpstreamCall)
	{
		.arena = errand->arena,.origin = str_of(origin),.method = str_of(c->call.method),
		.target = c->call.target,.body = c->call.body,.on_send = call_sent,.done = call_done,.cls = c
	};
	if (errand->conv.failed || origin == NULL || !call_headers(c) || FAULT_FAILS("errand.send") ||
		!upstream_start(errand->runner->upstream, &c->upstream))
	{
		limiter_cancel(c->limit, errand->party);
		call_failed(c, "could not be started");
	}
}

static void
call_expired(PacerWait *wait)
{
	call_failed(wait->cls, "no rate-limit slot in time");
}

static void
call_wait(ErrandCall *c)
{
	c->wait = (PacerWait)
	{
		.record = c->limit,.party = c->errand->party,.deadline_us = c->errand->deadline_us,
		.granted = call_granted,.expired = call_expired,.cls = c
	};
	pacer_wait(c->errand->runner->pacer, &c->wait);
}

void
errand_give_up(ErrandRunner *runner)
{
	while (runner->parked != NULL)
	{
		ErrandCall *c = runner->parked;

		runner->parked = c->next_parked;
		call_failed(c, "no access token in time");
	}
}

int
errand_turn(ErrandRunner *runner)
{
	int			finished = 0;

	resume_parked(runner);
	for (; runner->finished != NULL; finished++)
	{
		Errand	   *errand = runner->finished;

		runner->finished = errand->next;
		errand->done(errand);
	}
	return finished;
}
