/*
 * mirror_internal.h - what mirror.c, its tables, rows, links and notes share; nobody else's.
 */
#ifndef SEQUIN_MIRROR_INTERNAL_H
#define SEQUIN_MIRROR_INTERNAL_H

#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"

#include "mirror.h"

typedef struct MirrorColumn
{
	const SchemaField *field;
	const char *quoted;
	Oid			type;
	int32		typmod;
	Oid			ioparam;
	FmgrInfo	input;
	bool		exact;			/* the column has the type that we gave it */
} MirrorColumn;

typedef struct MirrorPlan
{
	struct MirrorPlan *next;
	char	   *sql;			/* the key: a plan for the same text is the same plan */
	SPIPlanPtr	plan;
} MirrorPlan;

/* One mirror table as it is now, with its plans; hangs on SchemaCollection.mirror. */
typedef struct MirrorTable
{
	struct MirrorTable *next;	/* all of this process */
	MemoryContext cx;
	CatalogSync *sync;
	SchemaCollection *c;
	Oid			relid;
	bool		stale;			/* its definition changed */
	uint64		opened;			/* by this mirror_apply: locked and up to date */
	const char *quoted;			/* "schema"."table" */
	MirrorColumn *columns;		/* enabled ones, ordered by field identity */
	int			ncolumns;
	MirrorPlan *plans;			/* newest first */
	int			nplans;
	/* the last row's plan: pages have the same columns row after row */
	MirrorPlan *row_plan;
	uint8	   *row_set;
} MirrorTable;

/* A row of sequin.tombstone, read or to be written. */
typedef struct Tombstone
{
	const CatalogSync *sync;
	Str			collection;
	Str			id;
	TimestampTz at;
	const MirrorItem *item;		/* to be written: whose delete it is, */
	int			seq;			/* and which of its changes; what that item says of it later is newer */
} Tombstone;

/* A row of sequin.cast_error that is to be written. */
typedef struct CastError
{
	const CatalogSync *sync;
	const char *table;
	Str			id;
	const char *column;
	const char *value;
	const char *error;
} CastError;

/* One mirror_apply. */
typedef struct Apply
{
	TimestampTz stamp;			/* _sync_updated_at of everything that is written now */
	Tombstone  *tombstones;
	int			ntombstones;
	Tombstone  *known;			/* those of the present run's records and pairs, read from the table */
	int			nknown;
	CastError  *errors;
	int			nerrors;
	MemoryContext cx;			/* of the lists */
	MemoryContext row_cx;		/* reset after each row */
} Apply;

/* One change that goes into one table. */
typedef struct MirrorOp
{
	MirrorItem *item;
	Change	   *change;
	MirrorTable *table;
	Str			id;				/* the record's; links: of the table's from_column */
	Str			to_id;			/* links only; STR_NULL: all of id's */
	bool		reversed;		/* links: to_id is the one that the change's collection/id names */
	int			seq;
	Str			key;			/* what it writes to, for order: the id, or the pair's */
	bool		again;			/* this very item wrote the same row just before: no fence between its own changes */
	bool		written;		/* result */
} MirrorOp;

/* mirror_tables.c */
extern void mirror_tables_begin(void);	/* of a mirror_apply: tables are looked at anew, once */
/* Locks it.  NULL: the table, or a column that it must have, is not there. */
extern MirrorTable *mirror_table_open(CatalogSync *sync, SchemaCollection *c);
extern void mirror_table_close(MirrorTable *table);
extern MirrorColumn *mirror_table_column(MirrorTable *table, Str field);	/* NULL: not mirrored */
extern MirrorPlan *mirror_table_plan(MirrorTable *table, const char *sql, int nargs, Oid *types);
/* Prepares once per process: for sequin's own tables. */
extern SPIPlanPtr mirror_own_plan(SPIPlanPtr *plan, const char *sql, int nargs, Oid *types);
extern uint64 mirror_execute(SPIPlanPtr plan, Datum *values, const char *nulls);
extern Datum mirror_text(Str s);
extern Datum mirror_texts(const Str *items, int n);		/* text[] */

/* mirror_values.c */
extern Datum mirror_value(Apply *apply, MirrorOp *op, MirrorColumn *column, const FieldValue *value, bool *isnull);

/* mirror_rows.c, mirror_links.c: run as the sync's owner */
extern void mirror_row_write(Apply *apply, MirrorOp *op);
extern void mirror_row_delete(Apply *apply, MirrorOp *op);
extern bool mirror_row_exists(MirrorTable *table, Str id);
extern void mirror_link_write(Apply *apply, MirrorOp *op);
extern void mirror_link_delete(Apply *apply, MirrorOp *op);
extern void mirror_links_drop(CatalogSync *sync, Str collection, Str id);	/* all of a record that is deleted */

/* mirror_notes.c: sequin's own tables; run as the worker */
extern void mirror_note_tombstone(Apply *apply, const MirrorOp *op, Str id);
extern void mirror_note_error(Apply *apply, const MirrorOp *op, const char *column, const FieldValue *value, const char *error);
extern void mirror_notes_write(Apply *apply);
/* Reads what mirror_is_deleted needs for ops of one table. */
extern void mirror_notes_read(Apply *apply, const MirrorOp *ops, int nops);
/* Was it deleted at or after asked_at?  (Of links: the pair or one of its ends.) */
extern bool mirror_is_deleted(const Apply *apply, const MirrorOp *op);
extern Str	mirror_pair_id(const MirrorTable *table, Arena *arena, Str from, Str to);

/* mirror.c */
extern void mirror_reread(const MirrorOp *op);

#endif
