/*
 * errand.h - our own calls to the API: a conversation (provider.h) run through the rate limiter
 * and upstream.  Discovery, re-reads before an answer, retries of deferred writes.
 *
 * Worker-local; never ereports; done() is called from errand_turn, outside any foreign frame.
 */
#ifndef SEQUIN_ERRAND_H
#define SEQUIN_ERRAND_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "catalog.h"
#include "pacer.h"
#include "upstream.h"

typedef struct Errand Errand;
typedef struct ErrandRunner ErrandRunner;

struct Errand
{
	Arena	   *arena;			/* the errand's own; freed by errand_free */
	Catalog    *catalog;		/* referenced */
	CatalogSync *sync;
	Conversation conv;
	LimitParty	party;
	Str			authorization;	/* header value to send; STR_NULL: the sync's credential, as it is when each call is sent */
	TimestampTz asked_at;		/* before the first call was sent: its answers cannot be older */
	int64_t		api_time_us;	/* the first answer's Date header, µs since the Unix epoch; TIME_NONE: it had none */
	int64_t		deadline_us;
	void		(*done) (Errand *errand);	/* conv.failed and conv.error tell how it went */
	void	   *cls;
	/* errand.c's own: */
	ErrandRunner *runner;
	Errand	   *next;
	bool		finished;
};

extern ErrandRunner *errand_runner_create(Reactor *reactor, Pacer *pacer, Upstream *upstream);
extern int	errand_turn(ErrandRunner *runner);		/* once per loop turn: done() of what has finished; returns how many */
extern void errand_give_up(ErrandRunner *runner);		/* fails the calls that wait for an access token */
extern int	errand_running(const ErrandRunner *runner);

/* NULL: out of memory.  authorization: STR_NULL = the sync's credential. */
extern Errand *errand_create(ErrandRunner *runner, CatalogSync *sync, LimitParty party,
							 Str authorization, int64_t deadline_us);
extern void errand_discover(Errand *errand, const char *scope);
/* The targets are copied into the errand's arena. */
extern void errand_reread(Errand *errand, const Change *targets, int ntargets);
/* One page; what request points to is copied.  errand->conv.result and .changes are what came. */
extern void errand_page(Errand *errand, const PageRequest *request);
extern void errand_free(Errand *errand);			/* from or after done() */

#endif
