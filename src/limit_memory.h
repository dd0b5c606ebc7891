/*
 * limit_memory.h - what long rate-limit windows hold, in a table that standbys have too.
 */
#ifndef SEQUIN_LIMIT_MEMORY_H
#define SEQUIN_LIMIT_MEMORY_H

extern void limit_memory_save(void);	/* the sync process, from time to time, between transactions */
extern void limit_memory_tell(void);	/* to the limiter of a server that took over; within a transaction, records are configured */

#endif
