/*
 * limit_store.h - the rate limits' memory across restarts: one small file in the data directory.
 * For limiter.c only.
 *
 * After a clean end the windows go on where they were.  After a crash nobody knows what was sent
 * since the last save: windows up to a minute start as if full, longer ones from the file.
 * So too where this server took over from another one (the file's timeline is not ours, or there
 * is no file on a later timeline than the first), and then for limits that no file knows as well.
 */
#ifndef SEQUIN_LIMIT_STORE_H
#define SEQUIN_LIMIT_STORE_H

#include "limit_registry.h"

extern void store_arrive(int place);	/* a worker attaches: the first reads the file; may ereport */
extern void store_leave(int place);		/* a worker ends: the last writes it, as clean; never ereports above LOG */
extern void store_distrust_new(SharedLimit *limit);	/* a record that no file knows was added; control->lock is held */

#endif
