/*
 * oauth_refresh.c - keeps the access tokens of OAuth credentials fresh: the only place that asks a
 * token endpoint, and in the sync process only, so that a token is refreshed once, whoever waits.
 *
 * Owns a Refresh per sync with such a credential.  What an answer brings is durable in
 * sequin.oauth_token before anybody can use it; an answer whose commit fails is kept and committed
 * again, and nothing is asked meanwhile.  Where a refresh ends the token before it, that one is
 * first put out of use, until every worker has seen so: requests wait for the new one rather than
 * meet a 401.  Callbacks of upstream and pacer only note what came; SQL runs from oauth_turn.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include <stdlib.h>

#include "oauth_rows.h"
#include "settings.h"
#include "shared.h"
#include "sync.h"

#define SECOND_US (INT64CONST(1000) * 1000)
#define LOOK_AGAIN_US (60 * SECOND_US)
#define LOOK_AT_FILES_US (5 * SECOND_US)	/* nobody tells when a credential's file changes */
#define REFUSED_PAUSE_US (3600 * SECOND_US)	/* the API refused the credential: only another one helps, most likely */
#define MAX_PAUSE_US (60 * SECOND_US)
#define CONFLICT_PAUSE_US (1200 * INT64CONST(1000))
#define SETTLED_US (60 * SECOND_US)		/* a token that was good for so long may be replaced at once when it is refused */
#define MAX_MARGIN_US (300 * SECOND_US)	/* refreshed so long before its end, or at the last tenth of its life */
#define HOLD_US (2 * SECOND_US)			/* for workers to let go of a token */
#define HOLD_POLL_MS 2
#define STORE_PAUSE_US (INT64CONST(200) * 1000)
#define SLOT_US (60 * SECOND_US)
#define MAX_AT_WORK 16

typedef enum RefreshPhase
{
	REFRESH_IDLE,
	REFRESH_HOLDING,			/* the old token is out of use; workers are about to see it */
	REFRESH_PACING,				/* waits for a rate-limit slot */
	REFRESH_ASKING,				/* at the token endpoint */
	REFRESH_ANSWERED			/* what came is to be stored */
} RefreshPhase;

typedef struct Refresh
{
	uint8_t		sync[16];
	RefreshPhase phase;
	struct Refresh *next;

	/* between refreshes */
	uint8_t		fingerprint[32];	/* of what was asked with last: another credential waits for nothing */
	int			attempts;			/* failed ones in a row */
	int64_t		retry_at_us;
	bool		wanted;				/* the API refused the present token */
	int			refusals;			/* ... in a row, each soon after the refresh */
	int64_t		refreshed_us;

	/* of the refresh under way */
	Arena	   *arena;
	Catalog    *catalog;			/* referenced */
	CatalogSync *csync;
	OauthCredential credential;
	uint8_t		source[32];
	Str			refresh_token;		/* that is given */
	TimestampTz held_until;			/* when the token that was put out of use would have expired; DT_NOBEGIN: none was */
	uint64		hold_generation;
	int64_t		hold_deadline_us;
	LimitRecord *limit;
	PacerWait	wait;
	bool		slot_held;
	UpstreamCall call;
	HttpHeader	headers[4];
	TimestampTz asked_at;
	Str			answer_body;
	OauthAnswer answer;				/* slices of it */
	int64_t		store_at_us;
} Refresh;

/* A sync that is looked at: what its credential is just now. */
typedef struct Look
{
	CatalogSync *sync;
	Arena	   *arena;
	OauthCredential credential;
	uint8_t		source[32];
	bool		same_source;
	Str			refresh_token;
	uint8_t		fingerprint[32];
} Look;

static Loop *the_loop;
static Refresh *refreshes;
static int	at_work;
static uint64 seen_generation = UINT64_MAX;
static uint32 seen_asks;
static int64_t next_look_us;

static Refresh *
refresh_find(const uint8_t *sync)
{
	for (Refresh *r = refreshes; r != NULL; r = r->next)
		if (memcmp(r->sync, sync, sizeof(r->sync)) == 0)
			return r;
	return NULL;
}

static Refresh *
refresh_of(const uint8_t *sync)
{
	Refresh    *r = refresh_find(sync);

	if (r == NULL && (r = calloc(1, sizeof(*r))) != NULL)
	{
		memcpy(r->sync, sync, sizeof(r->sync));
		r->next = refreshes;
		refreshes = r;
	}
	return r;
}

/* ---- the end of a refresh ---- */

static void
wipe(Str s)
{
	if (s.p != NULL)
		explicit_bzero((char *) s.p, s.n);
}

static void
refresh_end(Refresh *r)
{
	wipe(r->call.body);
	wipe(r->answer_body);
	wipe(r->answer.access_token);
	wipe(r->answer.refresh_token);
	catalog_unref(r->catalog);
	arena_destroy(r->arena);
	r->arena = NULL;
	r->catalog = NULL;
	r->csync = NULL;
	r->phase = REFRESH_IDLE;
	at_work--;
	next_look_us = 0;
}

static OauthRow
row_of(const Refresh *r, TimestampTz expires_at, TimestampTz refreshed_at)
{
	return (OauthRow) {.sync = r->sync,.source = r->source,.expires_at = expires_at,.refreshed_at = refreshed_at};
}

static int64_t
pause_after(const Refresh *r)
{
	switch (r->answer.verdict)
	{
		case OAUTH_REFUSED:
			return REFUSED_PAUSE_US;
		case OAUTH_CONFLICT:
			return CONFLICT_PAUSE_US;
		default:
			return Min(MAX_PAUSE_US, SECOND_US << Min(r->attempts, 10));
	}
}

static void
refresh_failed(Refresh *r)
{
	const CatalogToken *token = r->csync->token;
	bool		news = token == NULL || token->error == NULL || strcmp(token->error, r->answer.error) != 0;
	OauthRow	row = row_of(r, r->held_until, DT_NOBEGIN);
	TxnError	error;

	row.error = r->answer.error;
	r->retry_at_us = clock_us() + pause_after(r);
	r->attempts++;
	if (news)
		ereport(LOG, (errmsg("sequin_proxy: sync \"%s\" has no new access token: %s", r->csync->view.name, r->answer.error)));
	if ((news || r->held_until != DT_NOBEGIN) && !oauth_row_fail(&row, &error))
		ereport(WARNING, (errmsg("sequin_proxy: could not record the state of sync \"%s\": %s", r->csync->view.name, error.message)));
	refresh_end(r);
}

/* Until it is durable the new token is nobody's; what fails is tried again, for the old one is spent. */
static void
refresh_store(Refresh *r)
{
	OauthRow	row = row_of(r, r->asked_at + r->answer.life_s * SECOND_US, r->asked_at);
	TxnError	error;

	row.access_token = r->answer.access_token;
	row.refresh_token = r->answer.refresh_token.p ? r->answer.refresh_token : r->refresh_token;
	if (!oauth_row_store(&row, &error))
	{
		if (r->store_at_us == 0)
			ereport(WARNING, (errmsg("sequin_proxy: could not store the new token of sync \"%s\", trying again: %s",
									 r->csync->view.name, error.message)));
		r->store_at_us = clock_us() + STORE_PAUSE_US;
		return;
	}
	r->refusals = !r->wanted ? 0 : clock_us() - r->refreshed_us >= SETTLED_US ? 1 : r->refusals + 1;
	r->wanted = false;
	r->attempts = 0;
	r->retry_at_us = 0;
	r->refreshed_us = clock_us();
	refresh_end(r);
}

static void
fail_later(Refresh *r, const char *why)
{
	const char *text = arena_printf(r->arena, "%s could not be asked for an access token: %s", r->csync->provider->oauth->api, why);

	r->answer = (OauthAnswer) {.verdict = OAUTH_LATER,.error = text ? text : "out of memory"};
	r->phase = REFRESH_ANSWERED;
}

/* ---- asking ---- */

static void
on_send(UpstreamCall *call)
{
	Refresh    *r = call->cls;

	r->slot_held = false;
	limiter_sent(r->limit, LIMIT_PROXY, call->seen_at_us);
}

static void
release_slot(Refresh *r)
{
	if (r->slot_held)
		limiter_cancel(r->limit, LIMIT_PROXY);
	r->slot_held = false;
}

static void
on_answer(UpstreamCall *call, UpstreamResult *result)
{
	Refresh    *r = call->cls;
	Str			body = {result->body ? result->body : "", result->body_len};

	release_slot(r);
	if (result->outcome != UPSTREAM_ANSWERED)
		fail_later(r, result->error[0] ? result->error : "no answer");
	else
	{
		r->answer_body = arena_copy(r->arena, body);
		r->answer = (OauthAnswer) {.verdict = OAUTH_LATER,.error = "out of memory"};
		if (r->answer_body.p != NULL)
			oauth_answer(r->arena, r->csync->provider->oauth, result->status, r->answer_body, &r->answer);
		r->phase = REFRESH_ANSWERED;
		if (result->body != NULL)
			explicit_bzero(result->body, result->body_len);
	}
	free(result->body);
}

static int
fill_headers(Refresh *r, Str authorization)
{
	int			n = 0;

	r->headers[n++] = (HttpHeader) {STR_LIT("Content-Type"), STR_LIT("application/x-www-form-urlencoded")};
	r->headers[n++] = (HttpHeader) {STR_LIT("Accept"), STR_LIT("application/json")};
	r->headers[n++] = (HttpHeader) {STR_LIT("User-Agent"), STR_LIT("sequin_proxy/1.0")};
	if (authorization.p != NULL)
		r->headers[n++] = (HttpHeader) {STR_LIT("Authorization"), authorization};
	return n;
}

static void
refresh_ask(Refresh *r)
{
	const OauthEndpoint *endpoint = r->csync->provider->oauth;
	const char *origin = r->csync->upstream_url ? r->csync->upstream_url : arena_printf(r->arena, "https://%s", endpoint->host);
	OauthRequest request;

	if (origin == NULL || !oauth_request(r->arena, endpoint, &r->credential, r->refresh_token, &request))
	{
		release_slot(r);
		fail_later(r, "out of memory");
		return;
	}
	r->call = (UpstreamCall)
	{
		.arena = r->arena,.origin = str_of(origin),.method = STR_LIT("POST"),.target = str_of(endpoint->path),
		.headers = r->headers,.nheaders = fill_headers(r, request.authorization),.body = request.body,
		.on_send = on_send,.done = on_answer,.cls = r
	};
	r->asked_at = GetCurrentTimestamp();	/* before it is sent: the token's life cannot have begun earlier */
	r->phase = REFRESH_ASKING;
	if (!upstream_start(the_loop->upstream, &r->call))
	{
		release_slot(r);
		fail_later(r, "could not be started");
	}
}

static void
on_granted(PacerWait *wait)
{
	Refresh    *r = wait->cls;

	r->slot_held = true;
	refresh_ask(r);
}

static void
on_expired(PacerWait *wait)
{
	fail_later(wait->cls, "no rate-limit slot in time");
}

/*
 * In the proxy's line, not the sync's: it is for the proxied requests, and behind them all it would
 * never come while there is a crowd.
 */
static void
refresh_pace(Refresh *r)
{
	const OauthEndpoint *endpoint = r->csync->provider->oauth;

	r->limit = endpoint->bucket ? catalog_limit(r->csync, endpoint->bucket) : NULL;
	if (endpoint->bucket == NULL)
	{
		refresh_ask(r);
		return;
	}
	r->phase = REFRESH_PACING;
	r->wait = (PacerWait)
	{
		.record = r->limit,.party = LIMIT_PROXY,.deadline_us = clock_us() + SLOT_US,
		.granted = on_granted,.expired = on_expired,.cls = r
	};
	pacer_wait(the_loop->pacer, &r->wait);
}

/* Has every worker a snapshot in which the old token is out of use? */
static bool
workers_follow(uint64 generation)
{
	for (int slot = 0; slot < SHARED_MAX_WORKERS; slot++)
		if (shared->slots[slot].pid != 0 && pg_atomic_read_u64(&shared->slots[slot].generation) < generation)
			return false;
	return true;
}

static void
refresh_hold(Refresh *r)
{
	const CatalogToken *token = r->csync->token;
	OauthRow	row = row_of(r, DT_NOBEGIN, DT_NOBEGIN);
	TxnError	error;

	if (!oauth_row_hold(&row, &error))
	{
		fail_later(r, error.message);
		return;
	}
	if (token != NULL && token->expires_at > GetCurrentTimestamp() && memcmp(token->source, r->source, sizeof(r->source)) == 0)
		r->held_until = token->expires_at;
	r->hold_generation = pg_atomic_read_u64(&shared->generation);
	r->hold_deadline_us = clock_us() + HOLD_US;
	r->phase = REFRESH_HOLDING;
}

/* ---- which are due ---- */

static bool
hash_parts(Arena *arena, const OauthCredential *c, Str refresh_token, uint8_t *hash)
{
	Buf			buf;
	Str			text;

	buf_init(&buf, arena);
	buf_str(&buf, c->client_id);
	buf_char(&buf, '\n');
	if (c->client_secret.p != NULL)
		buf_str(&buf, c->client_secret);
	buf_char(&buf, '\n');
	buf_str(&buf, refresh_token);
	text = buf_finish(&buf);
	if (text.p != NULL)
		catalog_token_hash(text, hash);
	wipe(text);
	return text.p != NULL;
}

/* False: nothing to refresh, as far as can be known. */
static bool
look_at(Look *look)
{
	const CatalogToken *token = look->sync->token;
	const char *error;

	if (!catalog_oauth(look->sync, look->arena, &look->credential, look->source, &error))
	{
		TxnError	failure;

		if (error == NULL && token != NULL && !oauth_row_forget(look->sync, &failure))
			ereport(LOG, (errmsg("sequin_proxy: could not drop the token of sync \"%s\": %s", look->sync->view.name, failure.message)));
		return false;
	}
	look->same_source = token != NULL && memcmp(token->source, look->source, sizeof(look->source)) == 0;
	look->refresh_token = look->same_source && token->refresh_token ? str_of(token->refresh_token) : look->credential.refresh_token;
	return hash_parts(look->arena, &look->credential, look->refresh_token, look->fingerprint);
}

/* A token that is refused again and again right after its refresh is not mended by more of them. */
static int64_t
refused_pause(const Refresh *r)
{
	int64_t		since = clock_us() - r->refreshed_us;

	if (r->refreshed_us == 0 || r->refusals == 0 || since >= SETTLED_US)
		return 0;
	return Max(0, Min(MAX_PAUSE_US, SECOND_US << Min(r->refusals - 1, 10)) - since);
}

/* Until a refresh is due, or another look. */
static int64_t
due_in_us(const Look *look, const Refresh *r)
{
	const CatalogToken *token = look->sync->token;
	TimestampTz now = GetCurrentTimestamp();
	int64_t		life;

	if (!look->same_source || token->access_token == NULL || token->expires_at <= now || token->refreshed_at == DT_NOBEGIN)
		return 0;
	if (r->wanted)
		return refused_pause(r);
	life = token->expires_at - token->refreshed_at;
	return Min(LOOK_AGAIN_US, Max(0, token->expires_at - Min(MAX_MARGIN_US, life / 10) - now));
}

static void
refresh_start(Refresh *r, Catalog *catalog, Look *look)
{
	r->arena = look->arena;
	look->arena = NULL;			/* ours now, with all that the look found */
	r->catalog = catalog_ref(catalog);
	r->csync = look->sync;
	r->credential = look->credential;
	r->refresh_token = look->refresh_token;
	memcpy(r->source, look->source, sizeof(r->source));
	memcpy(r->fingerprint, look->fingerprint, sizeof(r->fingerprint));
	r->held_until = DT_NOBEGIN;
	r->answer = (OauthAnswer) {0};
	r->answer_body = STR_NULL;
	r->call = (UpstreamCall) {0};
	r->slot_held = false;
	r->store_at_us = 0;
	at_work++;
	if (r->csync->provider->oauth->ends_old)
		refresh_hold(r);
	else
		refresh_pace(r);
}

/* Starts what is due, or says when it will be. */
static void
consider(Catalog *catalog, Look *look)
{
	Refresh    *r = refresh_find(look->sync->key);
	int64_t		now = clock_us();
	int64_t		start_at;

	if ((r != NULL && r->phase != REFRESH_IDLE) || !look_at(look))
		return;
	r = refresh_of(look->sync->key);
	if (r == NULL)
		return;
	if (memcmp(r->fingerprint, look->fingerprint, sizeof(r->fingerprint)) != 0)
	{
		r->attempts = 0;
		r->retry_at_us = 0;
	}
	start_at = Max(now + due_in_us(look, r), r->retry_at_us);
	if (start_at <= now && at_work < MAX_AT_WORK)
		refresh_start(r, catalog, look);
	else if (start_at > now)	/* when one of those at work ends, there is another look anyway */
		next_look_us = Min(next_look_us, start_at);
}

static void
look_around(Catalog *catalog)
{
	next_look_us = clock_us() + LOOK_AGAIN_US;
	for (int i = 0; i < catalog->nsyncs; i++)
	{
		Look		look = {.sync = &catalog->syncs[i],.arena = NULL};

		if (look.sync->credential == NULL && look.sync->token == NULL)
			continue;
		if (look.sync->credential != NULL && strncmp(look.sync->credential, "file:", 5) == 0)
			next_look_us = Min(next_look_us, clock_us() + LOOK_AT_FILES_US);
		look.arena = arena_create();
		if (look.arena != NULL)
			consider(catalog, &look);
		arena_destroy(look.arena);
	}
}

static CatalogSync *
sync_by_key(const Catalog *catalog, const uint8_t *key)
{
	for (int i = 0; i < catalog->nsyncs; i++)
		if (memcmp(catalog->syncs[i].key, key, sizeof(catalog->syncs[i].key)) == 0)
			return &catalog->syncs[i];
	return NULL;
}

/* Syncs that were dropped. */
static void
prune(const Catalog *catalog)
{
	for (Refresh **p = &refreshes; *p != NULL;)
	{
		Refresh    *r = *p;
		if (r->phase != REFRESH_IDLE || sync_by_key(catalog, r->sync) != NULL)
			p = &r->next;
		else
		{
			*p = r->next;
			free(r);
		}
	}
}

/* Those that workers saw refused, unless there is a newer one already. */
static void
take_refused(const Catalog *catalog)
{
	RefusedToken refused;

	while (shared_take_refused(&refused))
	{
		CatalogSync *sync = sync_by_key(catalog, refused.sync);
		uint8_t		hash[32];
		Refresh    *r;

		if (sync == NULL || sync->token == NULL || sync->token->access_token == NULL)
			continue;
		catalog_token_hash(str_of(sync->token->access_token), hash);
		r = memcmp(hash, refused.hash, sizeof(hash)) == 0 ? refresh_of(refused.sync) : NULL;
		if (r != NULL)
			r->wanted = true;
	}
}

/* ---- the turn ---- */

static void
advance(Refresh *r)
{
	if (r->phase == REFRESH_HOLDING && (workers_follow(r->hold_generation) || clock_us() >= r->hold_deadline_us))
		refresh_pace(r);
	if (r->phase != REFRESH_ANSWERED || clock_us() < r->store_at_us)
		return;
	if (r->answer.verdict == OAUTH_GRANTED)
		refresh_store(r);
	else
		refresh_failed(r);
}

/* Milliseconds until one under way wants to be looked at; -1: none does. */
static int
advance_all(void)
{
	int			wait = -1;

	for (Refresh *r = refreshes; r != NULL; r = r->next)
	{
		advance(r);
		if (r->phase == REFRESH_HOLDING)
			wait = HOLD_POLL_MS;
		else if (r->phase == REFRESH_ANSWERED && wait < 0)
			wait = (int) (STORE_PAUSE_US / 1000);
	}
	return wait;
}

int
oauth_turn(Loop *loop)
{
	uint64		generation;
	uint32		asks;
	Catalog    *catalog;
	int			wait;
	int64_t		now;

	the_loop = loop;
	wait = advance_all();
	catalog = catalog_current();
	generation = pg_atomic_read_u64(&shared->generation);
	/* By an older snapshot a token might be taken for the newest that is spent already. */
	if (catalog == NULL || !catalog->installed || catalog->generation != generation)
		return wait < 0 ? 100 : wait;
	asks = pg_atomic_read_u32(&shared->token_asks);
	take_refused(catalog);
	if (generation != seen_generation || asks != seen_asks || clock_us() >= next_look_us)
	{
		seen_generation = generation;
		seen_asks = asks;
		prune(catalog);
		look_around(catalog);
		if (advance_all() >= 0)
			wait = HOLD_POLL_MS;
	}
	now = clock_us();
	if (wait < 0)
		wait = next_look_us > now ? (int) ((next_look_us - now) / 1000) + 1 : 0;
	return wait;
}

void
oauth_finish(Loop *loop)
{
	int64_t		deadline = clock_us() + (int64_t) setting_drain_timeout * 1000;

	the_loop = loop;
	if (pg_atomic_read_u32(&shared->stop_for_drop) != InvalidOid)
		return;					/* the tokens go with the database */
	for (Refresh *r = refreshes; r != NULL; r = r->next)
		if (r->phase == REFRESH_PACING)
		{
			pacer_leave(loop->pacer, &r->wait);
			refresh_end(r);
		}
	while (at_work > 0 && clock_us() < deadline)
	{
		advance_all();
		if (at_work > 0)
			loop_wait(loop, 20);
	}
}
