/*
 * sql_function.h - what the C functions behind sequin.* share: how they are exported, and rows.
 */
#ifndef SEQUIN_SQL_FUNCTION_H
#define SEQUIN_SQL_FUNCTION_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/tuplestore.h"

/* Everything else in the module is hidden; PostgreSQL 15's own macro does not say "default". */
#define SQL_EXPORT __attribute__((visibility("default")))

#define SQL_FUNCTION(name) \
	extern SQL_EXPORT Datum name(PG_FUNCTION_ARGS); \
	extern SQL_EXPORT const Pg_finfo_record *pg_finfo_##name(void); \
	PG_FUNCTION_INFO_V1(name)

/* A set-returning function's result, materialized; the descriptor is the one declared in SQL. */
typedef struct SqlRows
{
	Tuplestorestate *store;
	TupleDesc	desc;
} SqlRows;

extern SqlRows sql_rows_begin(FunctionCallInfo fcinfo);
extern void sql_rows_add(const SqlRows *rows, Datum *values, bool *nulls);

/* Whom a running sequin.* function works for (sql_caller.c). */
extern Oid	sql_caller(void);

/* The function works on shared memory: a clear ERROR when the library was not preloaded. */
extern void sql_require_preload(void);

#endif
