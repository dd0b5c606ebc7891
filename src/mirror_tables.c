/*
 * mirror_tables.c - a mirror table as it really is, and its cached plans (mirror_internal.h).
 *
 * Owns MirrorTable: which columns exist with which types, looked up once and again whenever
 * PostgreSQL says that the table changed.  Called by mirror.c and its parts inside a
 * transaction.  The relcache callback may run anywhere, so it only sets flags.
 */
#include "mirror_internal.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"
#include "utils/syscache.h"

/* Partial updates come with many different sets of columns. */
#define MAX_PLANS 64

static MirrorTable *tables;
static uint64 present_apply;

static void
relation_changed(Datum arg, Oid relid)
{
	for (MirrorTable *t = tables; t != NULL; t = t->next)
		if (!OidIsValid(relid) || t->relid == relid)
			t->stale = true;
}

static void
watch_relations(void)
{
	static bool watching;

	if (!watching)
		CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	watching = true;
}

static Oid
type_oid(MirrorType type)
{
	switch (type)
	{
		case MIRROR_NUMERIC:
			return NUMERICOID;
		case MIRROR_BOOLEAN:
			return BOOLOID;
		case MIRROR_DATE:
			return DATEOID;
		case MIRROR_TIMESTAMPTZ:
			return TIMESTAMPTZOID;
		case MIRROR_TEXT_ARRAY:
			return TEXTARRAYOID;
		case MIRROR_JSONB:
			return JSONBOID;
		case MIRROR_INTEGER:
			return INT4OID;
		case MIRROR_BIGINT:
			return INT8OID;
		case MIRROR_TEXT:
			break;
	}
	return TEXTOID;
}

static bool
has_column(Oid relid, const char *column)
{
	return column != NULL && get_attnum(relid, column) > InvalidAttrNumber;
}

static bool
has_standard_columns(const MirrorTable *t)
{
	const Provider *provider = t->sync->provider;

	if (!has_column(t->relid, "_sync_updated_at"))
		return false;
	if (t->c->kind == COLLECTION_LINKS)
		return has_column(t->relid, t->c->from_column) && has_column(t->relid, t->c->to_column) &&
			has_column(t->relid, "labels");
	return has_column(t->relid, "id") && has_column(t->relid, provider->created_column) &&
		(!provider->has_updated_at || has_column(t->relid, "updated_at"));
}

/* False: no such column. */
static bool
read_column(MirrorTable *t, const SchemaField *field)
{
	MirrorColumn *column = &t->columns[t->ncolumns];
	HeapTuple	tuple = SearchSysCacheAttName(t->relid, field->column);
	Form_pg_attribute attribute;
	Oid			input;

	if (!HeapTupleIsValid(tuple))
		return false;
	attribute = (Form_pg_attribute) GETSTRUCT(tuple);
	column->field = field;
	column->name = str_of(field->field);
	column->type = attribute->atttypid;
	column->typmod = attribute->atttypmod;
	column->exact = column->type == type_oid(field->type) && column->typmod == -1;
	ReleaseSysCache(tuple);
	column->quoted = quote_identifier(MemoryContextStrdup(t->cx, field->column));
	getTypeInputInfo(column->type, &input, &column->ioparam);
	fmgr_info_cxt(input, &column->input, t->cx);
	t->ncolumns++;
	return true;
}

static int
compare_columns(const void *a, const void *b)
{
	return strcmp(((const MirrorColumn *) a)->field->field, ((const MirrorColumn *) b)->field->field);
}

static bool
read_columns(MirrorTable *t)
{
	t->columns = palloc0(sizeof(MirrorColumn) * (t->c->nfields + 1));
	for (int i = 0; i < t->c->nfields; i++)
	{
		const SchemaField *field = &t->c->fields[i];

		/* What the API removed may be dropped by the user at any time, and gets no values. */
		if (field->enabled && !field->removed && !read_column(t, field))
			return false;
	}
	qsort(t->columns, t->ncolumns, sizeof(MirrorColumn), compare_columns);
	return true;
}

static bool
sees_inserts(const TriggerDesc *triggers)
{
	return triggers != NULL && (triggers->trig_insert_before_row || triggers->trig_insert_after_row ||
								triggers->trig_insert_before_statement || triggers->trig_insert_after_statement);
}

static bool
is_plain(Oid relid)
{
	Relation	rel = table_open(relid, NoLock);
	bool		plain = rel->rd_rel->relkind == RELKIND_RELATION && rel->rd_rules == NULL && !sees_inserts(rel->trigdesc);

	table_close(rel, NoLock);
	return plain;
}

/* NULL: something that it must have is missing. */
static MirrorTable *
table_build(CatalogSync *sync, SchemaCollection *c, Oid relid)
{
	MemoryContext cx = AllocSetContextCreate(CurrentMemoryContext, "sequin mirror table", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cx);
	MirrorTable *t = palloc0(sizeof(MirrorTable));
	bool		whole;

	t->cx = cx;
	t->sync = sync;
	t->c = c;
	t->relid = relid;
	t->plain = is_plain(relid);
	t->quoted = quote_qualified_identifier(sync->target_schema, c->table);
	whole = has_standard_columns(t) && read_columns(t);
	t->hints = palloc0(sizeof(int16) * (t->c->nfields + 1));
	MemoryContextSwitchTo(old);
	if (!whole)
	{
		MemoryContextDelete(cx);
		return NULL;
	}
	MemoryContextSetParent(cx, TopMemoryContext);
	t->next = tables;
	tables = t;
	return t;
}

void
mirror_tables_begin(void)
{
	present_apply++;
}

MirrorTable *
mirror_table_open(CatalogSync *sync, SchemaCollection *c)
{
	MirrorTable *t = c->mirror;
	Oid			relid;

	/* Once is enough, since we hold a lock; and others may point to it now. */
	if (t != NULL && t->opened == present_apply)
		return t;
	relid = RangeVarGetRelid(makeRangeVar(pstrdup(sync->target_schema), pstrdup(c->table), -1), RowExclusiveLock, true);
	if (t != NULL && (t->stale || t->relid != relid))
	{
		mirror_table_close(t);
		t = NULL;
	}
	if (t == NULL && OidIsValid(relid))
	{
		watch_relations();
		t = table_build(sync, c, relid);
		c->mirror = t;
	}
	if (t != NULL)
		t->opened = present_apply;
	return t;
}

static void
plan_free(MirrorPlan *plan)
{
	SPI_freeplan(plan->plan);
	pfree(plan->sql);
	pfree(plan);
}

/* Also outside a transaction. */
void
mirror_table_close(MirrorTable *table)
{
	MirrorTable **link = &tables;

	while (*link != NULL && *link != table)
		link = &(*link)->next;
	if (*link != NULL)
		*link = table->next;
	table->c->mirror = NULL;
	while (table->plans != NULL)
	{
		MirrorPlan *next = table->plans->next;

		plan_free(table->plans);
		table->plans = next;
	}
	MemoryContextDelete(table->cx);
}

MirrorColumn *
mirror_table_column(MirrorTable *table, Str field)
{
	int			low = 0;
	int			high = table->ncolumns;

	while (low < high)
	{
		int			middle = (low + high) / 2;
		int			order = str_cmp(field, table->columns[middle].name);

		if (order == 0)
			return &table->columns[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

MirrorColumn *
mirror_table_column_nth(MirrorTable *table, Str field, int n)
{
	int16	   *hint = &table->hints[Min(n, table->c->nfields)];
	MirrorColumn *column;

	if (*hint < table->ncolumns && str_eq(table->columns[*hint].name, field))
		return &table->columns[*hint];
	column = mirror_table_column(table, field);
	if (column != NULL)
		*hint = (int16) (column - table->columns);
	return column;
}

static void
forget_oldest_plan(MirrorTable *table)
{
	MirrorPlan **oldest = NULL;
	MirrorPlan *next;

	for (MirrorPlan **link = &table->plans; *link != NULL; link = &(*link)->next)
		if (!(*link)->pinned)
			oldest = link;
	if (oldest == NULL)
		return;
	next = (*oldest)->next;
	plan_free(*oldest);
	*oldest = next;
	table->nplans--;
}

static SPIPlanPtr
prepare(const char *sql, int nargs, Oid *types)
{
	/* One row in, by its key: no value makes another plan the better one. */
	SPIPlanPtr	plan = SPI_prepare_cursor(sql, nargs, types, CURSOR_OPT_GENERIC_PLAN);

	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare a statement: %s", SPI_result_code_string(SPI_result));
	return plan;
}

MirrorPlan *
mirror_table_plan(MirrorTable *table, const char *sql, int nargs, Oid *types)
{
	MirrorPlan **link = &table->plans;
	MirrorPlan *plan;
	SPIPlanPtr	prepared;

	while (*link != NULL && strcmp((*link)->sql, sql) != 0)
		link = &(*link)->next;
	plan = *link;
	if (plan != NULL)
		*link = plan->next;		/* to the front: the last one of the list is the one least used */
	else
	{
		if (table->nplans >= MAX_PLANS)
			forget_oldest_plan(table);
		prepared = prepare(sql, nargs, types);
		plan = MemoryContextAlloc(table->cx, sizeof(MirrorPlan));
		plan->sql = MemoryContextStrdup(table->cx, sql);
		plan->plan = prepared;
		plan->pinned = false;
		table->nplans++;
	}
	plan->next = table->plans;
	table->plans = plan;
	return plan;
}

SPIPlanPtr
mirror_own_plan(SPIPlanPtr *plan, const char *sql, int nargs, Oid *types)
{
	if (*plan == NULL)
		*plan = prepare(sql, nargs, types);
	return *plan;
}

uint64
mirror_execute(SPIPlanPtr plan, Datum *values, const char *nulls)
{
	int			result = SPI_execute_plan(plan, values, nulls, false, 0);

	if (result < 0)
		elog(ERROR, "could not write to the mirror: %s", SPI_result_code_string(result));
	return SPI_processed;
}

Datum
mirror_text(Str s)
{
	return PointerGetDatum(cstring_to_text_with_len(s.p ? s.p : "", s.n));
}

Datum
mirror_texts(const Str *items, int n)
{
	Datum	   *datums = palloc(sizeof(Datum) * (n + 1));

	for (int i = 0; i < n; i++)
		datums[i] = mirror_text(items[i]);
	return PointerGetDatum(construct_array(datums, n, TEXTOID, -1, false, TYPALIGN_INT));
}
