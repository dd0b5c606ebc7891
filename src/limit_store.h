/*
 * limit_store.h - the rate limits' memory across restarts: one small file in the data directory.
 * For limiter.c only.
 *
 * After a clean end the windows go on where they were.  After a crash nobody knows what was sent
 * since the last save: windows up to a minute start as if full, longer ones from the file.
 */
#ifndef SEQUIN_LIMIT_STORE_H
#define SEQUIN_LIMIT_STORE_H

extern void store_arrive(int place);	/* a worker attaches: the first reads the file; may ereport */
extern void store_leave(int place);		/* a worker ends: the last writes it, as clean; never ereports above LOG */

#endif
