/*
 * mirror_scan.h - reading ids back from mirror tables, for sweeps.
 *
 * Inside a transaction (txn.h); may ereport.  As the sync's owner.
 */
#ifndef SEQUIN_MIRROR_SCAN_H
#define SEQUIN_MIRROR_SCAN_H

#include "postgres.h"

#include "catalog.h"

/*
 * The next ids of a record table in the order of its key, after `after` (NULL: from the start), that were
 * confirmed before that time (DT_NOEND: all).  palloc'd; at most limit.  None where the collection is
 * disabled; an ERROR where its table should be there and is not.
 */
extern int	mirror_scan_ids(CatalogSync *sync, SchemaCollection *c, const char *after, TimestampTz before, int limit, char ***ids);

/* The same of records that an association table names at this end, and that the record table does not have. */
extern int	mirror_scan_orphans(CatalogSync *sync, SchemaCollection *links, bool is_to, const char *after, int limit, char ***ids);

/* Of these records, those that the mirror lacks or has in an older version; indexes into ids. */
extern int	mirror_scan_stale(CatalogSync *sync, SchemaCollection *c, const Str *ids, const int64 *versions, int n, int **stale);

#endif
