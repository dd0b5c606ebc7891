/*
 * accepted.c - from the API's answer to the caller's: decode, refresh a schema, re-read, commit.
 *
 * The second half of an exchange's story (exchange.c has the first).  Called from engine_turn and
 * from errands' done, both outside any foreign frame; what touches PostgreSQL goes through
 * follow.h and commit.c.  Never sends the caller's request again.
 */
#include "exchange_internal.h"

#include "fault_point.h"
#include "follow.h"
#include "settings.h"
#include "txn.h"
#include "unlisted.h"

#define MAX_REFRESHES 2				/* schema refreshes per exchange: more would be a loop */
#define MAX_ROUNDS 3				/* re-reads per exchange */

static void exchange_redecode(Exchange *x);

/* ---- received -> decoded -> committing ---- */

static Str
result_body(const Exchange *x)
{
	return (Str) {x->result.body ? x->result.body : "", x->result.body_len};
}

static void
note_limits(Exchange *x)
{
	LimitHint	hint = {0};

	x->sync->provider->limits(x->result.status, upstream_result_header, &x->result, result_body(x), &hint);
	if (hint.block_ms > 0)
		limiter_block(x->limit, clock_us() + hint.block_ms * 1000);
	if (hint.has_remaining)
		limiter_tighten(x->limit, hint.window_ms * 1000, hint.remaining, x->result.sent_at_us);
}

/* The API refused our OAuth token: the caller is told so, and the next one has a fresh one. */
static void
note_refused_token(const Exchange *x)
{
	Str			value = STR_NULL;

	if (x->result.status != 401 || x->sync->auth == AUTH_PASSTHROUGH || x->sync->token == NULL)
		return;
	for (int i = 0; i < x->call.nheaders; i++)
		if (str_iis(x->call.headers[i].name, "Authorization"))
			value = x->call.headers[i].value;
	catalog_token_refused(x->sync, value);
}

/* Moves the exchange to the newest snapshot, so that it is committed by today's table and column names. */
static bool
exchange_rebase(Exchange *x)
{
	Catalog    *catalog = catalog_current();
	CatalogSync *sync;

	if (catalog == NULL || catalog == x->catalog)
		return catalog != NULL;
	sync = catalog_same_sync(catalog, x->sync);
	if (sync == NULL)
		return false;
	memset(&x->route, 0, sizeof(x->route));
	sync->provider->route(&sync->view, &x->view, x->arena, &x->route);
	catalog_unref(x->catalog);
	x->catalog = catalog_ref(catalog);
	x->sync = sync;
	return x->route.verdict == ROUTE_OK;
}

/* What a re-read told lies in its errand's arena, so it is forgotten with it; the response's own changes stay. */
static void
drop_errand(Exchange *x)
{
	if (x->errand != NULL)
		errand_free(x->errand);
	x->errand = NULL;
	x->nitems = Min(x->nitems, 1);
}

static Errand *
start_errand(Exchange *x, void (*done) (Errand *errand))
{
	Str			authorization = x->sync->credential == NULL ? x->authorization : STR_NULL;
	Errand	   *errand;

	drop_errand(x);
	errand = errand_create(x->engine->loop->errands, x->sync, LIMIT_PROXY, authorization,
						   clock_us() + (int64_t) setting_queue_timeout * 1000);
	if (errand == NULL)
		return NULL;
	errand->done = done;
	errand->cls = x;
	exchange_set_state(x, EXCHANGE_ASKING);
	x->errand = errand;
	return errand;
}

static void
keep_notes(void *arg, const char *notes)
{
	Exchange   *x = arg;

	x->schema_notes = notes ? arena_cstr(x->arena, str_of(notes)) : NULL;
}

/* Nothing but the schema was written: then what the mirror's schema could not follow is the whole answer. */
static bool
only_refreshes(const Exchange *x)
{
	for (int i = 0; i < x->changes.count; i++)
		if (x->changes.items[i].op != CHANGE_REFRESH_SCHEMA)
			return false;
	return true;
}

/* The schema errand is back: the mirror follows, then the answer is decoded anew. */
static void
on_refreshed(Errand *errand)
{
	Exchange   *x = errand->cls;
	TxnError	error;

	if (errand->conv.failed)
		commit_defer(x, errand->conv.error);
	else if (!follow_schema(errand, keep_notes, x, &error))
		commit_defer(x, arena_printf(x->arena, "the mirror's schema could not follow: %s", error.message));
	else if (x->schema_notes != NULL && only_refreshes(x))
		commit_defer(x, arena_printf(x->arena, "the mirror's schema could not follow: %s", x->schema_notes));
	else
	{
		x->schema_followed = true;
		/* By us, or by somebody who asked after our write: in either case it is in the mirror now. */
		x->schema_changed |= catalog_current() != NULL && catalog_current()->generation != x->generation;
		exchange_redecode(x);
	}
}

static void
exchange_refresh(Exchange *x, const char *scope)
{
	Errand	   *errand;

	if (x->refreshes++ >= MAX_REFRESHES)
	{
		commit_defer(x, "the API's answer names fields that its schema does not have");
		return;
	}
	errand = start_errand(x, on_refreshed);
	if (errand == NULL)
		commit_defer(x, "out of memory");
	else
		errand_discover(errand, scope);
}

/* The collection of a record that was read again with a field that nobody looked for yet; NULL: there is none. */
static const char *
new_field_in(Exchange *x, const ChangeList *changes)
{
	Str			sync = str_of(x->sync->view.name);

	for (int i = 0; i < changes->count; i++)
	{
		const Change *c = &changes->items[i];

		for (int j = 0; j < c->nfields; j++)
			if (!c->fields[j].known && !unlisted_known(sync, c->collection, c->fields[j].field, clock_us()))
			{
				unlisted_remember(sync, c->collection, c->fields[j].field, clock_us());
				return arena_cstr(x->arena, c->collection);
			}
	}
	return NULL;
}

static void
on_reread(Errand *errand)
{
	Exchange   *x = errand->cls;
	const char *scope;

	if (errand->conv.failed)
	{
		commit_defer(x, errand->conv.error);
		return;
	}
	scope = x->refreshes < MAX_REFRESHES ? new_field_in(x, &errand->conv.changes) : NULL;
	if (scope != NULL)
	{
		/* The answer's own refresh was of another table: once more, with this one's fields. */
		exchange_refresh(x, scope);
		return;
	}
	x->items[x->nitems++] = (MirrorItem)
	{
		.sync = errand->sync,.changes = errand->conv.changes.items,.nchanges = errand->conv.changes.count,
		.asked_at = errand->asked_at,.arena = x->arena
	};
	exchange_set_state(x, EXCHANGE_COMMITTING);
}

static void
exchange_reread(Exchange *x, const Change *targets, int ntargets)
{
	Errand	   *errand;

	FAULT_POINT("exchange.reread");
	if (x->rounds++ >= MAX_ROUNDS)
	{
		commit_defer(x, "the record changes faster than it can be re-read");
		return;
	}
	errand = start_errand(x, on_reread);
	if (errand == NULL)
		commit_defer(x, "out of memory");
	else
		errand_reread(errand, targets, ntargets);
}

static bool
has_fields(const Change *c)
{
	return c->op == CHANGE_UPSERT || c->op == CHANGE_PATCH;
}

/*
 * Fields that even the refreshed schema does not list are not asked for at every write.  Those of a
 * base-wide change may be another table's, and say nothing of the one that was refreshed.
 */
static void
remember_unlisted(const Exchange *x)
{
	for (int i = 0; i < x->changes.count; i++)
	{
		const Change *c = &x->changes.items[i];

		for (int j = 0; has_fields(c) && !c->base_wide && j < c->nfields; j++)
			if (!c->fields[j].known)
				unlisted_remember(str_of(x->sync->view.name), c->collection, c->fields[j].field, clock_us());
	}
}

/* Is this refresh asked for only because of fields that a refresh does not bring? */
static bool
refresh_is_vain(const Exchange *x, Str collection)
{
	bool		unlisted = false;

	for (int i = 0; i < x->changes.count; i++)
	{
		const Change *c = &x->changes.items[i];

		if (!has_fields(c) || !str_eq(c->collection, collection))
			continue;
		for (int j = 0; j < c->nfields; j++)
		{
			if (c->fields[j].known)
				continue;
			if (!unlisted_known(str_of(x->sync->view.name), collection, c->fields[j].field, clock_us()))
				return false;
			unlisted = true;
		}
	}
	return unlisted;
}

/* Of all refreshes asked for: the one collection, or NULL for everything. */
static bool
wanted_refresh(const Exchange *x, const char **scope)
{
	bool		wanted = false;

	for (int i = 0; i < x->changes.count; i++)
	{
		const Change *c = &x->changes.items[i];

		if (c->op != CHANGE_REFRESH_SCHEMA || refresh_is_vain(x, c->collection))
			continue;
		if (!wanted)
			*scope = c->collection.p;
		else if (*scope != NULL && (c->collection.p == NULL || !str_is(c->collection, *scope)))
			*scope = NULL;
		wanted = true;
	}
	return wanted;
}

/* Puts the CHANGE_REREADs side by side; returns how many. */
static int
collect_rereads(Exchange *x, Change **targets)
{
	int			n = 0;

	*targets = arena_alloc(x->arena, sizeof(Change) * (size_t) (x->changes.count + 1));
	for (int i = 0; *targets != NULL && i < x->changes.count; i++)
		if (x->changes.items[i].op == CHANGE_REREAD)
			(*targets)[n++] = x->changes.items[i];
	return n;
}

/* The changes are known: ask for what they lack, or commit them. */
static void
exchange_decoded(Exchange *x)
{
	const char *scope = NULL;
	Change	   *targets;
	int			ntargets;

	/* Whatever else has to be asked for: what the response itself told is committed. */
	x->items[0] = (MirrorItem)
	{
		.sync = x->sync,.changes = x->changes.items,.nchanges = x->changes.count,
		.asked_at = x->asked_at,.answer = true,.arena = x->arena
	};
	x->nitems = 1;
	if (x->schema_followed)
		remember_unlisted(x);
	else if (x->refreshes < MAX_REFRESHES && wanted_refresh(x, &scope))
	{
		exchange_refresh(x, scope ? arena_cstr(x->arena, str_of(scope)) : NULL);
		return;
	}
	ntargets = collect_rereads(x, &targets);
	if (ntargets > 0)
		exchange_reread(x, targets, ntargets);
	else
		exchange_set_state(x, EXCHANGE_COMMITTING);
}

static void
exchange_redecode(Exchange *x)
{
	ResponseView response = {.status = x->result.status,.body = result_body(x),
	.encoded = upstream_result_header(&x->result, "Content-Encoding").p != NULL,.location = upstream_result_header(&x->result, "Location")};
	DecodeResult decoded;

	x->nitems = 0;				/* they are of the snapshot that may go now */
	if (!exchange_rebase(x) || !x->route.mirrored)
	{
		/* The sync, its table or the whole extension went meanwhile: there is no mirror to commit to. */
		commit_settle(x, JOURNAL_NONE, "the table is mirrored no more");
		answer_upstream(x, "none");
		return;
	}
	if (str_iis(upstream_result_header(&x->result, "Content-Encoding"), "identity"))
		response.encoded = false;
	x->changes = (ChangeList) {0};
	decoded = FAULT_FAILS("exchange.decode") ? DECODE_NOMEM
		: x->sync->provider->decode(&x->sync->view, &x->route, &x->view, &response, x->arena, &x->changes);
	if (decoded == DECODE_NOMEM)
		commit_defer(x, "out of memory");
	else if (decoded == DECODE_UNREADABLE)
		commit_defer(x, "the API's answer could not be read as its format");
	else
		exchange_decoded(x);
}

void
exchange_received(Exchange *x)
{
	UpstreamResult *r = &x->result;

	FAULT_POINT("exchange.received");
	exchange_release_slot(x);
	if (r->outcome != UPSTREAM_ANSWERED)
	{
		commit_settle(x, r->sent ? JOURNAL_DEFERRED : JOURNAL_FAILED,
					  r->sent ? "no whole answer: the outcome is unknown" : "not sent");
		answer_upstream_failure(x);
		return;
	}
	x->engine->stats->upstream_us += r->done_at_us - r->sent_at_us;
	note_limits(x);
	note_refused_token(x);
	x->generation = x->catalog->generation;
	if (!x->route.mirrored || r->status < 200 || r->status > 299)
	{
		commit_settle(x, JOURNAL_NONE, NULL);
		answer_upstream(x, "none");
		return;
	}
	exchange_redecode(x);
}

/* ---- committed -> answered ---- */

static void
gather_rereads(Exchange *x, ChangeList *all)
{
	for (int i = 0; i < x->nitems; i++)
		for (int j = 0; j < x->items[i].rereads.count; j++)
		{
			Change	   *source = &x->items[i].rereads.items[j];
			Change	   *copy = change_add(all, x->arena, CHANGE_REREAD, source->collection, source->id);

			if (copy == NULL)
				continue;
			/* the names may lie in the errand's arena, which goes before the next errand begins */
			*copy = *source;
			copy->collection = arena_copy(x->arena, source->collection);
			copy->id = arena_copy(x->arena, source->id);
			copy->to_collection = arena_copy(x->arena, source->to_collection);
			copy->to_id = arena_copy(x->arena, source->to_id);
		}
}

void
exchange_committed(Exchange *x)
{
	ChangeList	rereads = {0};

	for (int i = 0; i < x->nitems; i++)
		x->touched |= x->items[i].touched;
	if (x->defer != NULL)
	{
		answer_upstream(x, "deferred");
		return;
	}
	for (int i = 0; i < x->nitems; i++)
		if (x->items[i].verdict == MIRROR_REFRESH)
		{
			x->schema_followed = false;
			exchange_refresh(x, x->items[i].refresh ? arena_cstr(x->arena, str_of(x->items[i].refresh)) : NULL);
			return;
		}
	gather_rereads(x, &rereads);
	x->nitems = 0;
	if (rereads.count > 0)
		exchange_reread(x, rereads.items, rereads.count);
	else
		answer_upstream(x, !x->touched && !x->schema_changed ? "none" : x->unconfirmed ? "deferred" : "committed");
}
