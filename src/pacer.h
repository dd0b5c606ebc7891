/*
 * pacer.h - this worker's waiting line in front of the shared limiter.
 *
 * Exchanges and errands wait here for a slot of their bucket, oldest first, until granted or
 * until their deadline.  Worker-local; never ereports; calls granted()/expired() from pacer_turn.
 */
#ifndef SEQUIN_PACER_H
#define SEQUIN_PACER_H

#include "limiter.h"
#include "reactor.h"

typedef struct Pacer Pacer;
typedef struct PacerWait PacerWait;

struct PacerWait					/* embedded in its owner */
{
	LimitRecord *record;
	LimitParty	party;
	int64_t		deadline_us;
	void		(*granted) (PacerWait *wait);	/* a slot is reserved: owner must call limiter_sent or limiter_cancel */
	void		(*expired) (PacerWait *wait);	/* deadline passed without a slot */
	void	   *cls;
	/* pacer.c's own; zero it before first use: */
	uint64_t	ticket;
	PacerWait  *next;
	PacerWait  *prev;
	struct PacerList *list;		/* where it stands; NULL: not waiting */
	Pacer	   *pacer;
	Timer		deadline;
	bool		timed;			/* it has stood in line for a turn: the deadline's timer is set, if there is one */
};

extern Pacer *pacer_create(Reactor *reactor);		/* NULL: out of memory */
extern void pacer_wait(Pacer *pacer, PacerWait *wait);		/* never calls back at once: see pacer_turn */
extern void pacer_leave(Pacer *pacer, PacerWait *wait);		/* no-op when not waiting */
extern void pacer_expire_all(Pacer *pacer);				/* as if the deadlines of all who stand in a line had passed */
extern void pacer_turn(Pacer *pacer);						/* once per loop turn: grants, expiries, next wake-up timer */
extern int	pacer_waiting(const Pacer *pacer);

#endif
