/*
 * catalog_load.h - the sequin.* tables -> one Catalog; catalog.c's and its loader's business only.
 */
#ifndef SEQUIN_CATALOG_LOAD_H
#define SEQUIN_CATALOG_LOAD_H

#include "catalog.h"

/*
 * Reads everything inside the running transaction, with its active snapshot; may ereport.  The
 * Catalog lives in cx, which it owns (deleted by its last unref).  with_limits: also find or make
 * the shared limiter's records, which only workers may do: what a backend reads may never commit.
 */
extern Catalog *catalog_read(MemoryContext cx, bool with_limits);

/* NULL: no such key. */
extern const CatalogKey *catalog_key_by_hash(const Catalog *catalog, const uint8_t hash[32]);

/* catalog_schema.c: fills the syncs' Schemas from mirror_table and mirror_column; SPI is connected. */
extern void catalog_read_schemas(Catalog *catalog);

/* catalog_limits.c: fills the syncs' limiter records; SPI is connected. */
extern void catalog_read_limits(Catalog *catalog);

/* One query's rows, in the order asked for. */
extern uint64 catalog_query(const char *query);
/* Column (from 1) of row i of the last query, copied into cx; NULL for SQL NULL. */
extern char *catalog_text(MemoryContext cx, uint64 row, int column);
/* Its order against text, in bytes (as COLLATE "C"); NULL comes first. */
extern int	catalog_compare(uint64 row, int column, const char *text);
extern bool catalog_bool(uint64 row, int column);	/* NULL: false */
/* A text[]; *count 0 and NULL for SQL NULL. */
extern const char **catalog_texts(MemoryContext cx, uint64 row, int column, int *count);
extern Datum catalog_datum(uint64 row, int column, bool *isnull);

#endif
