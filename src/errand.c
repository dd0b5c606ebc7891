/*
 * errand.c - our own calls to the API (errand.h): takes calls from a conversation, waits for a
 * rate-limit slot for each, sends it, feeds its answer back.
 *
 * Owns the errands between errand_create and errand_free.  Called from the loop's turn and from
 * upstream's done callback; never runs SQL, never ereports.
 */
#include "errand.h"

#include "utils/timestamp.h"

#include "header_policy.h"

#include <curl/curl.h>
#include <stdlib.h>

#define ERRAND_MAX_IN_FLIGHT 8
#define ERRAND_MAX_THROTTLED 5		/* answers of 429 to one call before the errand gives up */

struct ErrandRunner
{
	Reactor    *reactor;
	Pacer	   *pacer;
	Upstream   *upstream;
	Errand	   *finished;		/* done() is due */
	int			running;
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
} ErrandCall;

static void errand_pump(Errand *errand);
static void call_wait(ErrandCall *c);

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
errand_create(ErrandRunner *runner, Catalog *catalog, CatalogSync *sync, LimitParty party,
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
	errand->catalog = catalog_ref(catalog);
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
	errand->asked_at = GetCurrentTimestamp();
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

/* An errand without a caller's own authorization speaks with the sync's credential. */
static bool
authorize(Errand *errand)
{
	Str			secret;
	const char *error;
	const char *value;

	if (errand->authorization.p != NULL)
		return true;
	if (!catalog_credential(errand->sync, errand->arena, &secret, &error))
	{
		conversation_fail(&errand->conv, true, "%s", error);
		return false;
	}
	value = arena_printf(errand->arena, "Bearer %.*s", STR_FMT(secret));
	errand->authorization = str_of(value);
	if (value == NULL || !http_is_value(errand->authorization))
	{
		conversation_fail(&errand->conv, false, "the credential holds characters that an HTTP header cannot");
		return false;
	}
	return true;
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

static void
call_sent(UpstreamCall *upstream)
{
	ErrandCall *c = upstream->cls;

	c->slot_used = true;
	limiter_sent(c->limit, c->errand->party, clock_us());
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
	else
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
	headers[n++] = (HttpHeader) {STR_LIT("Authorization"), c->errand->authorization};
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
	const char *origin = errand->sync->upstream_url ? errand->sync->upstream_url
		: arena_printf(errand->arena, "https://%s", c->call.host);

	c->slot_used = false;
	c->upstream = (UpstreamCall)
	{
		.arena = errand->arena,.origin = str_of(origin),.method = str_of(c->call.method),
		.target = c->call.target,.body = c->call.body,.on_send = call_sent,.done = call_done,.cls = c
	};
	if (errand->conv.failed || origin == NULL || !call_headers(c) ||
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

int
errand_turn(ErrandRunner *runner)
{
	int			finished = 0;

	for (; runner->finished != NULL; finished++)
	{
		Errand	   *errand = runner->finished;

		runner->finished = errand->next;
		errand->done(errand);
	}
	return finished;
}
