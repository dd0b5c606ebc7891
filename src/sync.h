/*
 * sync.h - the sync process: discovers each sync's schema, fills its tables and keeps them fresh,
 * retries deferred writes.
 *
 * Its entry point is sequin_sync_main, registered in sequin_proxy.c.
 */
#ifndef SEQUIN_SYNC_H
#define SEQUIN_SYNC_H

#include "postgres.h"

#include "loop.h"

extern PGDLLEXPORT void sequin_sync_main(Datum arg);

/* recovery.c: retries what sequin.write_log holds as deferred; once per turn; ms until it wants to run again, -1: never. */
extern int	recovery_turn(Loop *loop);

/* retention.c: deletes settled rows of sequin.write_log and tombstones that are too old; once per turn; ms until it wants to run again, -1: never. */
extern int	retention_turn(Loop *loop);

/* discovery.c: brings every sync from new to ready; once per turn; ms until it wants to run again, -1: never. */
extern int	discovery_turn(Loop *loop);
/*
 * A discovery of that sync that begins after `after` is wanted: starts one, unless one has been tried since.  True: it is
 * still under way.
 */
extern bool discovery_wanted(Loop *loop, const char *sync, int64 after);

/* sync_tables.c: fills the tables of every sync that is ready and keeps them fresh; once per turn; ms until it wants to run again. */
extern int	tables_turn(Loop *loop);

/* oauth_refresh.c: keeps the access tokens of OAuth credentials fresh; once per turn; ms until it wants to run again. */
extern int	oauth_turn(Loop *loop);
/* Before the process ends: a token that is being refreshed is waited for and stored, for the old one may be spent. */
extern void oauth_finish(Loop *loop);

#endif
