/*
 * recovery.c - writes that the API accepted and the mirror has not: sequin.write_log's deferred
 * rows are re-read from the API until they are in.
 *
 * Part of the sync process.  A row names its targets (records, pairs, schema); a re-read brings
 * their present state, which is that write or a newer one.  A row that cannot land now is tried
 * again with back-off and does not hold up others.  Also adopts the intents that an earlier life
 * of the cluster left open: their outcome is unknown, so their targets are re-read.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "fault_point.h"
#include "follow.h"
#include "journal.h"
#include "mirror.h"
#include "settings.h"
#include "shared.h"
#include "sync.h"
#include "txn.h"

#define RECOVERY_BATCH 32			/* rows looked at in one go */
#define RECOVERY_IN_FLIGHT 4		/* errands at a time: the sync's share must not flood the API */
#define RECOVERY_TIMEOUT_US (INT64CONST(120) * 1000 * 1000)
#define LOOK_AGAIN_MS 30000
#define INDEX_LAG_MS 20000			/* so late the API's index may show what it did */
#define COMMIT_LOCK_MS 200
#define PAUSE_US (INT64CONST(5) * 1000 * 1000)	/* when write_log cannot be updated */
#define ADOPT_INTERVAL_US (INT64CONST(30) * 1000 * 1000)
#define TELL_INTERVAL_US (INT64CONST(60) * 1000 * 1000)

/* One row at work. */
typedef struct Repair
{
	int64		id;
	Arena	   *arena;
	ChangeList	targets;
	int			attempts;
	const char *created_in;		/* the collection in which it may have created a record without a known id; or NULL */
	const char *scope;			/* of a schema refresh, NULL: everything */
	bool		refresh;
	MirrorItem	item;
	JournalState state;
	const char *error;
	struct Repair *next;
} Repair;

static Repair *repairs;
static uint32 seen_kick;
static int64_t next_look_us;
static int64_t pause_until_us;
static int64_t next_adopt_us;
static Loop *the_loop;

static void
settle_body(void *arg)
{
	Repair	   *r = arg;

	if (r->item.nchanges > 0)
	{
		MirrorItem *item = &r->item;

		mirror_apply(&item, 1);
		if (item->verdict == MIRROR_REFRESH)
			elog(ERROR, "the mirror's table does not match the API's schema");
		if (item->verdict == MIRROR_REREAD)
		{
			/* Another write's answer overtook this one: what it told may be in neither. */
			r->state = JOURNAL_DEFERRED;
			r->error = "the record changed while it was re-read";
		}
	}
	FAULT_IN_TXN("recovery.applied");
	journal_retry_rows(r->id, r->state, r->error);
}

static void
repair_free(Repair *repair)
{
	for (Repair **r = &repairs; *r != NULL; r = &(*r)->next)
		if (*r == repair)
		{
			*r = repair->next;
			break;
		}
	arena_destroy(repair->arena);	/* the Repair lives in it */
}

static void start_refresh(Repair *r, const char *sync_name);

/* The mirror's tables are not as the snapshot says: the schema first, then the records once more. */
static void
refresh_first(Repair *r)
{
	const char *sync_name = r->item.sync->view.name;

	r->scope = r->item.refresh ? arena_cstr(r->arena, str_of(r->item.refresh)) : NULL;
	r->refresh = true;
	r->item = (MirrorItem) {0};
	start_refresh(r, sync_name);
}

/* Commits what was found, with the row's new state; or notes why it could not. */
static void
repair_finish(Repair *r, JournalState state, const char *why)
{
	TxnError	error;
	TxnError	again;

	r->state = state;
	r->error = why;
	if (!txn_run(settle_body, r, COMMIT_LOCK_MS, &error))
	{
		if (r->item.verdict == MIRROR_REFRESH && !r->refresh)
		{
			refresh_first(r);
			return;
		}
		r->item.nchanges = 0;
		r->state = JOURNAL_DEFERRED;
		r->error = error.message;
		if (!txn_run(settle_body, r, COMMIT_LOCK_MS, &again))
		{
			/* still due: without a pause it would be asked for again and again */
			pause_until_us = clock_us() + PAUSE_US;
			ereport(WARNING, (errmsg("sequin_proxy: could not update sequin.write_log: %s", again.message)));
		}
	}
	next_look_us = 0;
	repair_free(r);
}

/* Whether the records have fields that our schema does not, so that it must be asked for; once. */
static bool
wants_refresh(Repair *r, const ChangeList *changes)
{
	if (r->refresh)
		return false;
	for (int i = 0; i < changes->count; i++)
		for (int j = 0; j < changes->items[i].nfields; j++)
		{
			Str			collection = changes->items[i].collection;

			if (changes->items[i].fields[j].known)
				continue;
			if (!r->refresh)
				r->scope = arena_cstr(r->arena, collection);
			else if (r->scope != NULL && !str_is(collection, r->scope))
				r->scope = NULL;
			r->refresh = true;
		}
	return r->refresh;
}

static void
on_reread(Errand *errand)
{
	Repair	   *r = errand->cls;

	FAULT_POINT("recovery.reread");
	if (errand->conv.failed)
		repair_finish(r, JOURNAL_DEFERRED, arena_cstr(r->arena, str_of(errand->conv.error)));
	else if (wants_refresh(r, &errand->conv.changes))
		start_refresh(r, errand->sync->view.name);
	else
	{
		r->item = (MirrorItem)
		{
			.sync = errand->sync,.changes = errand->conv.changes.items,.nchanges = errand->conv.changes.count,
			.asked_at = errand->asked_at,.arena = r->arena
		};
		repair_finish(r, JOURNAL_RESOLVED, NULL);
	}
	errand_free(errand);
}

static void start_reread(Repair *r, const char *sync_name);

static void
on_refreshed(Errand *errand)
{
	Repair	   *r = errand->cls;
	TxnError	error;
	char	   *sync = arena_cstr(r->arena, str_of(errand->sync->view.name));

	if (errand->conv.failed)
		repair_finish(r, JOURNAL_DEFERRED, arena_cstr(r->arena, str_of(errand->conv.error)));
	else if (!follow_schema(errand, NULL, NULL, &error))
		repair_finish(r, JOURNAL_DEFERRED, arena_cstr(r->arena, str_of(error.message)));
	else if (r->targets.count > 0 && sync != NULL)
		start_reread(r, sync);
	else
		repair_finish(r, JOURNAL_RESOLVED, NULL);
	errand_free(errand);
}

static Errand *
start_errand(Repair *r, const char *sync_name, void (*done) (Errand *errand))
{
	Catalog    *catalog = catalog_current();
	CatalogSync *sync = catalog ? catalog_sync_by_name(catalog, sync_name) : NULL;
	Errand	   *errand;

	if (sync == NULL)
	{
		repair_finish(r, JOURNAL_FAILED, "the sync was dropped");
		return NULL;
	}
	errand = errand_create(the_loop->errands, sync, LIMIT_SYNC, STR_NULL, clock_us() + RECOVERY_TIMEOUT_US);
	if (errand == NULL)
	{
		repair_finish(r, JOURNAL_DEFERRED, "out of memory");
		return NULL;
	}
	errand->done = done;
	errand->cls = r;
	return errand;
}

static void
start_reread(Repair *r, const char *sync_name)
{
	Errand	   *errand = start_errand(r, sync_name, on_reread);

	if (errand != NULL)
		errand_reread(errand, r->targets.items, r->targets.count);
}

static void
start_refresh(Repair *r, const char *sync_name)
{
	Errand	   *errand = start_errand(r, sync_name, on_refreshed);

	if (errand != NULL)
		errand_discover(errand, r->scope);
}

/* Takes the schema refreshes out of the targets; what is left are records and pairs that have an id. */
static void
split_targets(Repair *r, const ChangeList *all)
{
	for (int i = 0; i < all->count; i++)
	{
		Change	   *c = &all->items[i];

		if (c->op == CHANGE_REFRESH_SCHEMA)
		{
			r->scope = r->refresh ? NULL : c->collection.p ? arena_cstr(r->arena, c->collection) : NULL;
			r->refresh = true;
		}
		else if (c->id.p != NULL)
		{
			Change	   *copy = change_add(&r->targets, r->arena, CHANGE_REREAD, c->collection, c->id);

			if (copy != NULL)
				*copy = *c;
		}
		else if (c->collection.p != NULL)
			r->created_in = arena_cstr(r->arena, c->collection);
	}
}

typedef struct Asked
{
	Repair	   *repair;
	JournalPolled polled;
} Asked;

static void
asked_body(void *arg)
{
	Asked	   *asked = arg;
	int64_t		margin_ms = 2 * (int64_t) setting_upstream_timeout + INDEX_LAG_MS;

	asked->polled = journal_polled_row(asked->repair->id, asked->repair->created_in, margin_ms);
}

/* Nobody knows the id of what it created, if it did: the sync's poll finds it by its modification time. */
static void
repair_by_poll(Repair *r, const char *sync_name)
{
	Catalog    *catalog = catalog_current();
	CatalogSync *sync = catalog ? catalog_sync_by_name(catalog, sync_name) : NULL;
	Asked		asked = {r, JOURNAL_POLL_LATER};
	TxnError	error;

	if (sync == NULL)
	{
		repair_finish(r, JOURNAL_FAILED, "the sync was dropped");
		return;
	}
	/* at once, and once more when the API can have acted on it no later */
	if (txn_run(asked_body, &asked, COMMIT_LOCK_MS, &error) && !sync->proxy_only &&
		(asked.polled == JOURNAL_POLL_WANTED || r->attempts == 0))
		(void) shared_want(sync->key, false);
	if (asked.polled == JOURNAL_POLLED)
		repair_finish(r, JOURNAL_RESOLVED, NULL);
	else
		repair_finish(r, JOURNAL_DEFERRED, "the request names no record: the sync's next poll of the table brings its effect");
}

static void
start_repair(const JournalDue *due)
{
	Arena	   *arena = arena_create();
	Repair	   *r = arena ? arena_zalloc(arena, sizeof(*r)) : NULL;
	ChangeList	all = {0};
	Str			json = STR_NULL;

	if (r == NULL)
	{
		arena_destroy(arena);
		return;
	}
	r->id = due->id;
	r->attempts = due->attempts;
	r->arena = arena;
	r->next = repairs;
	repairs = r;
	if (due->targets != NULL)
		json = arena_str(arena, due->targets, strlen(due->targets));
	if (json.p != NULL && journal_parse_targets(arena, json.p, &all))
		split_targets(r, &all);
	if (r->refresh)
		start_refresh(r, due->sync);
	else if (r->targets.count > 0)
		start_reread(r, due->sync);
	else if (r->created_in != NULL)
		repair_by_poll(r, due->sync);
	else
		repair_finish(r, JOURNAL_DEFERRED, "the request names no record: only a sync of the whole table can find its effect");
}

typedef struct Look
{
	MemoryContext cx;
	JournalDue *due;
	int			ndue;
	int64		next_ms;
} Look;

/*
 * No exchange takes longer than all of its timeouts: the worker of an intent that is older ended without
 * being able to settle it.  One taken too early costs a re-read.
 */
static int64
longest_exchange_ms(void)
{
	return INT64CONST(5) * (setting_queue_timeout + setting_connect_timeout + setting_upstream_timeout) +
		setting_commit_timeout + 60000;
}

static void
look_body(void *arg)
{
	Look	   *look = arg;

	if (clock_us() >= next_adopt_us)
	{
		journal_adopt_rows(shared->first_xid, longest_exchange_ms());
		FAULT_IN_TXN("recovery.adopted");
	}
	look->ndue = journal_due_rows(look->cx, RECOVERY_BATCH, &look->due, &look->next_ms);
}

/* What keeps it from being read is told once a minute, not with each try. */
static bool
look_at_journal(Look *look, int64_t now_us)
{
	static int64_t told_us;
	TxnError	error;

	if (txn_run(look_body, look, COMMIT_LOCK_MS, &error))
		return true;
	if (told_us == 0 || now_us - told_us > TELL_INTERVAL_US)
	{
		ereport(WARNING, (errmsg("sequin_proxy: could not look for deferred writes: %s", error.message)));
		told_us = now_us;
	}
	return false;
}

static bool
at_work(int64 id)
{
	for (Repair *r = repairs; r != NULL; r = r->next)
		if (r->id == id)
			return true;
	return false;
}

static int
count_repairs(void)
{
	int			n = 0;

	for (Repair *r = repairs; r != NULL; r = r->next)
		n++;
	return n;
}

int
recovery_turn(Loop *loop)
{
	uint32		kick = pg_atomic_read_u32(&shared->kick);
	Look		look = {.cx = CurrentMemoryContext,.next_ms = -1};
	Catalog    *catalog = catalog_current();
	int64_t		now = clock_us();

	the_loop = loop;
	if (catalog == NULL || !catalog->installed)
		return -1;
	if (now < pause_until_us)
		return (int) ((pause_until_us - now) / 1000) + 1;
	if ((kick == seen_kick && now < next_look_us) || count_repairs() >= RECOVERY_IN_FLIGHT)
		return next_look_us > now ? (int) ((next_look_us - now) / 1000) + 1 : -1;
	seen_kick = kick;
	next_look_us = now + (int64_t) LOOK_AGAIN_MS * 1000;
	if (!look_at_journal(&look, now))
	{
		next_look_us = now + 1000 * 1000;
		return 1000;
	}
	if (now >= next_adopt_us)
		next_adopt_us = now + ADOPT_INTERVAL_US;
	if (look.next_ms >= 0)
		next_look_us = Min(next_look_us, now + (look.next_ms + 1) * 1000);
	for (int i = 0; i < look.ndue && count_repairs() < RECOVERY_IN_FLIGHT; i++)
		if (!at_work(look.due[i].id))
			start_repair(&look.due[i]);
	return next_look_us > now ? (int) ((next_look_us - now) / 1000) + 1 : 0;
}
