/*
 * mirror_internal.h - what mirror.c, its tables, rows, links and notes share; nobody else's.
 */
#ifndef SEQUIN_MIRROR_INTERNAL_H
#define SEQUIN_MIRROR_INTERNAL_H

#include "postgres.h"

#include "executor/spi.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "utils/queryenvironment.h"
#include "utils/tuplestore.h"

#include "mirror.h"

typedef struct MirrorColumn
{
	const SchemaField *field;
	Str			name;			/* field->field */
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
	bool		pinned;			/* pointed to from elsewhere */
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
	int16	   *hints;			/* where the n-th field of the last change had its column */
	MemoryContext shape_cx;
	struct RowShape *shape;		/* the last rows' columns and plans: pages have the same row after row */
	bool		plain;			/* no trigger or rule sees rows on their way in, or sends them elsewhere */
	bool		pages_are_new;	/* all of the last page was written */
	int			new_rows;		/* of pages in which no row was there before, since the last other page */
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
	const struct MirrorOp *op;
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
	Tombstone  *known;			/* those that may matter to the present run, read from the table, by id */
	int			nknown;
	CastError  *errors;
	int			nerrors;
	Str		   *deleted;		/* records of the present run whose links are to be dropped */
	int			ndeleted;
	MemoryContext cx;			/* of the lists; SPI's own, so that a batch can be known to it */
	MemoryContext run_cx;		/* reset after each statement's ops */
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
	bool		pending;		/* in the present batch, and to be written */
	bool		written;		/* result: this item's own row, or its delete, stands */
	bool		changed;		/* result: the table is not as it was */
} MirrorOp;

#define MIRROR_BATCH "sequin_batch"		/* what a batch is called in SQL */

typedef struct MirrorBatchColumn
{
	const char *name;
	Oid			type;
	int32		typmod;
} MirrorBatchColumn;

/* Rows that one statement reads; the ops of one table, with different keys, in order. */
typedef struct MirrorBatch
{
	Apply	   *apply;
	MirrorOp   *ops;
	int			nops;			/* up to the last that was added; some in between may not be in it */
	TupleDesc	desc;
	EphemeralNamedRelationData relation;
	int			count;			/* rows in its store */
	bool		page;			/* all ops are of one page */
	TimestampTz fence;			/* the earliest: what was confirmed before it may be overwritten */
	bool		mixed;			/* the ops' own fences differ */
	int			nerrors;		/* cast errors noted before it */
} MirrorBatch;

typedef enum MirrorPlanKind
{
	MIRROR_PLAN_WRITE,			/* params: stamp, fence; returns the keys it wrote */
	MIRROR_PLAN_JUDGE,			/* param: fence; returns numbers and Judgements (mirror_batch.c) */
	MIRROR_PLAN_INSERT			/* param: stamp; fails where one of the rows is there already */
} MirrorPlanKind;

typedef SPIPlanPtr (*MirrorPlanSource) (MirrorBatch *batch, MirrorPlanKind kind);

/* mirror_tables.c */
extern void mirror_tables_begin(void);	/* of a mirror_apply: tables are looked at anew, once */
/* Locks it.  NULL: the table, or a column that it must have, is not there. */
extern MirrorTable *mirror_table_open(CatalogSync *sync, SchemaCollection *c);
extern void mirror_table_close(MirrorTable *table);
extern MirrorColumn *mirror_table_column(MirrorTable *table, Str field);	/* NULL: not mirrored */
/* The same for the n-th field of a change: looks first where the n-th of the last one was. */
extern MirrorColumn *mirror_table_column_nth(MirrorTable *table, Str field, int n);
extern MirrorPlan *mirror_table_plan(MirrorTable *table, const char *sql, int nargs, Oid *types);
/* Prepares once per process: for sequin's own tables. */
extern SPIPlanPtr mirror_own_plan(SPIPlanPtr *plan, const char *sql, int nargs, Oid *types);
extern uint64 mirror_execute(SPIPlanPtr plan, Datum *values, const char *nulls);
extern Datum mirror_text(Str s);

/* mirror_values.c */
extern Datum mirror_value(Apply *apply, MirrorOp *op, MirrorColumn *column, const FieldValue *value, bool *isnull);

/* mirror_batch.c */
extern TupleDesc mirror_batch_desc(const MirrorBatchColumn *columns, int n);	/* "ord", then these */
extern void mirror_batch_begin(MirrorBatch *batch, Apply *apply, MirrorOp *ops, TupleDesc desc);
extern void mirror_batch_add(MirrorBatch *batch, MirrorOp *op, Datum *values, bool *nulls);
extern void mirror_batch_write(MirrorBatch *batch, MirrorPlanSource source);
extern void mirror_batch_end(MirrorBatch *batch);
/* Whether op can stand in one batch with the ops from `first` on, of which `last` is the one before it. */
extern bool mirror_batch_fits(const MirrorOp *first, const MirrorOp *last, const MirrorOp *op);

/*
 * mirror_rows.c, mirror_links.c: run as the sync's owner.  Those that return a number take as many of
 * the ops (one at least) as one statement can.
 */
extern int	mirror_rows_write(Apply *apply, MirrorOp *ops, int nops);
extern void mirror_row_delete(Apply *apply, MirrorOp *op);
extern bool mirror_row_exists(MirrorTable *table, Str id);
extern int	mirror_links_write(Apply *apply, MirrorOp *ops, int nops);
extern int	mirror_links_remove_rest(Apply *apply, MirrorOp *ops, int nops);	/* UNLINKs of all but some */
extern void mirror_link_delete(Apply *apply, MirrorOp *op);
extern void mirror_links_drop(Apply *apply, CatalogSync *sync, Str collection);	/* of apply->deleted, and empties that */

/* mirror_notes.c: sequin's own tables; run as the worker */
extern void mirror_note_tombstone(Apply *apply, const MirrorOp *op, Str id);
extern void mirror_note_error(Apply *apply, const MirrorOp *op, const char *column, const FieldValue *value, const char *error);
/* Forgets the errors, from the n-th on, of ops that were not written. */
extern void mirror_note_no_errors(Apply *apply, int n);
extern void mirror_notes_write(Apply *apply);
/* Reads what mirror_is_deleted needs for ops of one table. */
extern void mirror_notes_read(Apply *apply, const MirrorOp *ops, int nops);
/* Was it deleted at or after asked_at?  (Of links: the pair or one of its ends.) */
extern bool mirror_is_deleted(const Apply *apply, const MirrorOp *op);
extern Str	mirror_pair_id(const MirrorTable *table, Arena *arena, Str from, Str to);

/* mirror.c */
typedef struct MirrorRole
{
	Oid			user;
	int			context;
} MirrorRole;

/* Everything in between runs as the owner, in a security-restricted context; an ERROR ends that too.  ereports where the role is gone. */
extern MirrorRole mirror_role_enter(Oid owner);
extern void mirror_role_leave(MirrorRole before);
extern void mirror_reread(const MirrorOp *op);

/*
 * A pair that was to go was not there, nor was an end of it: that id may have been merged away, and the API have
 * meant the survivor's link.  Asks for such ends with all their links.  Only of a caller's answer: an API that was
 * asked for the pair itself has said all there is.
 */
extern void mirror_reread_strangers(const MirrorOp *op);

#endif
