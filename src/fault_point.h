/*
 * fault_point.h - named places at which a test makes a process fail, die or stand still.
 *
 * Only a build with -DSEQUIN_FAULT_POINTS (tools/check_faults.sh) has them; in every other build they are
 * nothing.  Armed by a file named as the point in sequin_faults/ of the data directory, which holds what is
 * to happen there: "kill" (SIGKILL), "pause" (stands still as long as a file <point>.hold is there, at most
 * 20 s) or "error".  The process that comes first takes the file away, so it happens once.
 */
#ifndef SEQUIN_FAULT_POINT_H
#define SEQUIN_FAULT_POINT_H

#include <stdbool.h>

#ifdef SEQUIN_FAULT_POINTS
extern bool fault_point(const char *name, bool in_txn);
#define FAULT_POINT(name) ((void) fault_point(name, false))		/* "error" is not for here */
#define FAULT_IN_TXN(name) ((void) fault_point(name, true))		/* "error" is an ERROR, of the kind that a full disk makes */
#define FAULT_FAILS(name) fault_point(name, false)				/* true: fail as this place can fail */
#else
#define FAULT_POINT(name) ((void) 0)
#define FAULT_IN_TXN(name) ((void) 0)
#define FAULT_FAILS(name) false
#endif

#endif
