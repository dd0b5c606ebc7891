/*
 * evolve_internal.h - schema evolution: what evolve.c (tables, DDL) and evolve_rows.c (sequin's own
 * rows) share; nobody else's.
 */
#ifndef SEQUIN_EVOLVE_INTERNAL_H
#define SEQUIN_EVOLVE_INTERNAL_H

#include "postgres.h"

#include "lib/stringinfo.h"

#include "mirror.h"

/* A row of sequin.mirror_column. */
typedef struct ColumnRow
{
	const char *field;
	const char *field_name;
	const char *column;
	const char *type;
	bool		enabled;
	bool		locked;
	bool		removed;
	bool		found;			/* by this discovery */
} ColumnRow;

/* A row of sequin.mirror_table. */
typedef struct TableRow
{
	const char *collection;
	const char *name;
	const char *table;
	bool		enabled;
	bool		locked;
	bool		removed;
	bool		found;
} TableRow;

typedef struct Evolve
{
	CatalogSync *sync;
	Arena	   *arena;
	TableRow   *tables;
	int			ntables;
	StringInfoData notes;
	bool		changed;		/* anything of the mirror, or of what we say about it */
	/* of the present collection: */
	ColumnRow  *columns;
	int			ncolumns;
	Oid			relid;
	const char *quoted;
} Evolve;

/* room: so many more may be added */
extern void evolve_read_tables(Evolve *e, int room);
extern void evolve_read_columns(Evolve *e, const char *collection, int room);
extern void evolve_write_table(Evolve *e, const SchemaCollection *c, const TableRow *row);
extern void evolve_write_column(Evolve *e, const char *collection, const ColumnRow *row);
/* The field's column is new, or has another type: its values are to be read for the rows that are there. */
extern void evolve_fill(Evolve *e, const char *collection, const char *field);
extern void evolve_table_removed(Evolve *e, const char *collection);
extern void evolve_column_removed(Evolve *e, const char *collection, const char *field);

#endif
