/*
 * follow.c - a discovery's result becomes tables and columns (follow.h).
 *
 * The transaction around mirror_evolve, shared by the sync process (whole discoveries) and by
 * exchanges (one table's unknown property).  Called from a loop turn, outside any transaction.
 */
#include "postgres.h"

#include "fault_point.h"
#include "follow.h"
#include "mirror.h"
#include "settings.h"

/* DDL waits longer for a lock than a row does, but not for ever: a reader's long query must not stall the loop. */
#define FOLLOW_LOCK_TIMEOUT_MS 500

typedef struct Follow
{
	Errand	   *errand;
	void		(*in_same_txn) (void *arg, const char *notes);
	void	   *arg;
} Follow;

static void
follow_body(void *arg)
{
	Follow	   *f = arg;
	char	   *notes = NULL;

	mirror_evolve(f->errand->sync, &f->errand->conv.schema, f->errand->conv.scope, &notes);
	if (f->in_same_txn != NULL)
		f->in_same_txn(f->arg, notes);
	FAULT_IN_TXN("schema.followed");
}

bool
follow_schema(Errand *errand, void (*in_same_txn) (void *arg, const char *notes), void *arg, TxnError *error)
{
	Follow		f = {errand, in_same_txn, arg};

	return txn_run(follow_body, &f, Min(FOLLOW_LOCK_TIMEOUT_MS, setting_commit_timeout), error);
}
