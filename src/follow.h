/*
 * follow.h - makes the mirror follow what a discovery errand found, in a transaction of its own.
 */
#ifndef SEQUIN_FOLLOW_H
#define SEQUIN_FOLLOW_H

#include "errand.h"
#include "txn.h"

/*
 * in_same_txn, when not NULL, runs in the same transaction after the schema change; notes tell what
 * could not follow (NULL: nothing) and end with it.  False: nothing changed; *error says why.
 */
extern bool follow_schema(Errand *errand, void (*in_same_txn) (void *arg, const char *notes), void *arg, TxnError *error);

#endif
