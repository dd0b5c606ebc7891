/*
 * limit_registry.h - the list of all rate-limit records in shared memory.  For limiter.c and
 * limit_store.c only; everybody else uses limiter.h.
 *
 * control->lock guards the list, each record's identity and the replacing of its windows; the
 * record's spinlock guards its queue, windows and flags.  Whoever changes epoch, version,
 * windows or in_use holds both; so either lock is enough to read them.
 */
#ifndef SEQUIN_LIMIT_REGISTRY_H
#define SEQUIN_LIMIT_REGISTRY_H

#include "postgres.h"

#include "storage/lwlock.h"
#include "storage/spin.h"
#include "utils/dsa.h"

#include "limit_queue.h"

typedef struct LimitKey
{
	uint8_t		sync[16];
	char		bucket[RATE_BUCKET_NAME];	/* padded with zeros */
} LimitKey;

typedef struct SharedLimit		/* in the DSA area; never freed, only recycled */
{
	slock_t		mutex;
	dsa_pointer next;
	dsa_pointer windows;		/* a LimitWindows */
	uint32		epoch;			/* moves when the record is recycled for another sync */
	uint32		version;		/* moves when its windows are replaced */
	bool		in_use;			/* whole: it has a key and windows */
	bool		forgotten;		/* its sync is gone (or not yet seen again after a restart) */
	LimitKey	key;
	char		sync_name[NAMEDATALEN];
	LimitQueue	queue;
} SharedLimit;

typedef struct LimitControl		/* in the main shared memory */
{
	LWLock	   *lock;
	int			tranche;		/* of the DSA area */
	dsa_pointer first;
	int			count;
	bool		restored;		/* the file of the last run has been read */
	bool		file_is_clean;	/* the file on disk tells of a clean end */
	bool		wants_memory;	/* it took over, and has not been told what long windows hold */
	int64_t		promoted_us;	/* when this server took over from another one, whose sends nobody here saw; 0: it did not */
	LimitSet	running;		/* places that are attached */
} LimitControl;

extern void registry_attach(void);				/* any process, any time; may ereport */
extern LimitControl *registry_control(void);	/* after registry_attach */

/* All records: for (r = registry_first(); r != NULL; r = registry_next(r)); the lock is held. */
extern SharedLimit *registry_first(void);
extern SharedLimit *registry_next(const SharedLimit *limit);
extern SharedLimit *registry_find(const LimitKey *key);
extern LimitWindows *registry_windows(const SharedLimit *limit);
extern bool registry_is_spent(SharedLimit *limit);	/* dropped, and nothing of it can matter any more */

/* The lock is held exclusively; may ereport, leaving all as it was. */
extern SharedLimit *registry_add(const LimitKey *key, const char *sync_name, const RateSpec *specs, int nspecs);
extern void registry_update(SharedLimit *limit, const char *sync_name, const RateSpec *specs, int nspecs);
extern void registry_set_share(SharedLimit *limit, double sync_share);	/* never ereports */

extern void registry_vacate(int place);			/* in all records */
extern void registry_wake(const LimitSet *places);

#endif
