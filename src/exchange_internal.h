/*
 * exchange_internal.h - the Exchange and the Engine, shared by exchange.c and accepted.c (the story), check.c
 * (who may ask for what), answer.c (what the caller gets) and commit.c (the turn's transaction).
 * Nobody else includes it.
 */
#ifndef SEQUIN_EXCHANGE_INTERNAL_H
#define SEQUIN_EXCHANGE_INTERNAL_H

#include "exchange.h"

#include "catalog.h"
#include "errand.h"
#include "journal.h"
#include "mirror.h"
#include "target.h"

/* Each state is a list of the engine, which owns the exchanges in it. */
typedef enum ExchangeState
{
	EXCHANGE_HEAD,				/* its body is still coming -> ARRIVED, DONE */
	EXCHANGE_ARRIVED,			/* whole; to be looked at in this turn -> UNREADY, QUEUED, DONE */
	EXCHANGE_UNREADY,			/* its sync is not discovered yet or has no token -> QUEUED, DONE */
	EXCHANGE_QUEUED,			/* waits for a rate-limit slot (pacer) -> GRANTED, DONE */
	EXCHANGE_GRANTED,			/* has a slot; its intent is written in this turn -> SENT, UNREADY, DONE */
	EXCHANGE_SENT,				/* at the API (upstream) -> RECEIVED */
	EXCHANGE_RECEIVED,			/* has the API's answer, or the reason why not -> ASKING, COMMITTING, DONE */
	EXCHANGE_ASKING,			/* an errand re-reads records or a schema for it -> COMMITTING, RECEIVED */
	EXCHANGE_COMMITTING,		/* in the next transaction -> BLOCKED, ASKING, DONE */
	EXCHANGE_BLOCKED,			/* somebody holds a lock on its row: tried again until commit_timeout -> DONE */
	EXCHANGE_DONE,				/* answered; the listener still sends */
	EXCHANGE_STATES
} ExchangeState;

typedef struct Exchange Exchange;

struct Exchange
{
	Engine	   *engine;
	Request    *request;		/* its arena holds everything here but errand and snapshot */
	Arena	   *arena;
	ExchangeState state;
	Exchange   *next;
	Exchange   *prev;

	/* what it asks for (check.c) */
	Target		target;
	Catalog    *catalog;		/* the snapshot it is judged by; referenced */
	CatalogSync *sync;
	Route		route;
	RequestView view;
	Str			authorization;	/* passthrough: the caller's own */

	/* pacing and sending */
	LimitRecord *limit;
	PacerWait	wait;
	bool		slot_held;		/* reserved and not yet sent */
	UpstreamCall call;
	UpstreamResult result;
	TimestampTz asked_at;
	int64_t		deadline_us;	/* of the queue, later of blocked commits */

	/* after the API accepted */
	ChangeList	changes;
	Errand	   *errand;			/* the re-read whose changes are to be committed, or NULL */
	MirrorItem	items[2];		/* of the response, of the re-read */
	int			nitems;
	int			refreshes;		/* schema refreshes made for it */
	int			rounds;			/* re-reads made for it */
	bool		touched;		/* something of it is in the mirror */
	bool		schema_followed;	/* the API's schema was asked for, and the mirror's is like it */
	bool		schema_changed;	/* ... and is another than when the request was judged */
	uint64		generation;		/* of the configuration by which it was judged */
	const char *schema_notes;	/* what a refresh could not bring into the mirror; NULL: nothing */
	const char *defer;			/* why it must be deferred; NULL: it need not */
	bool		unconfirmed;	/* its last commit is not known to be on the synchronous standby */
	JournalEntry journal;
};

typedef struct ExchangeList
{
	Exchange   *first;
	Exchange   *last;
	int			count;
} ExchangeList;

/* A journal row to be settled though its exchange has been answered. */
typedef struct Settle
{
	Arena	   *arena;
	JournalEntry entry;
	struct Settle *next;
} Settle;

struct Engine
{
	Loop	   *loop;
	Listener   *listener;
	ListenerHandler handler;
	WorkerStats *stats;
	ExchangeList lists[EXCHANGE_STATES];
	Settle	   *settles;
	Timer		tick;			/* while something is blocked, unready or unsettled */
	int64_t		settle_retry_us;
	bool		stopping;
	int64_t		now_us;			/* when the turn began, or its last transaction ended: for statistics */
	TimestampTz asked_at;		/* shared_now() before the first request of the turn was sent */
	bool		flush;			/* an answer was given in this turn */
	bool		deserted;		/* of those who wait for a slot, some have closed their connection */
	MemoryContext turn_cx;
};

extern void exchange_set_state(Exchange *x, ExchangeState state);

/* exchange.c */
extern void exchange_release_slot(Exchange *x);		/* gives a slot back that nothing was sent with */

/* accepted.c */
extern void exchange_received(Exchange *x);			/* the API's answer, or the reason why not, is there */
extern void exchange_committed(Exchange *x);		/* its transaction is durable */

/* check.c: judges x->request against the snapshot; false: *refusal says why. */
typedef struct Refusal
{
	int			status;
	const char *code;
	const char *message;
	const char *hint;
} Refusal;

extern bool exchange_check(Exchange *x, Catalog *catalog, Refusal *refusal);

/* answer.c */
extern void answer_error(Exchange *x, int status, const char *code, const char *message, const char *hint, bool sent);
extern void answer_refusal(Exchange *x, const Refusal *refusal);
extern void answer_upstream(Exchange *x, const char *commit);	/* "committed", "none", "deferred" */
extern void answer_page(Exchange *x, int status, const char *type, Str body);
extern void answer_make_error(void *cls, Arena *arena, const char *request_id, int status, const char *code,
							  const char *message, const char *hint, Response *response);
extern void answer_upstream_failure(Exchange *x);

/* commit.c */
extern void commit_turn(Engine *engine);
extern void commit_settle(Exchange *x, JournalState state, const char *error);	/* settles its row in a later turn */
extern void commit_defer(Exchange *x, const char *why);	/* journal it as deferred, then answer */
extern const char *commit_targets(Exchange *x);			/* what a re-read would have to ask for, as JSON */

#endif
