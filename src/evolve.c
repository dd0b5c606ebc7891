/*
 * evolve.c - the mirror follows the API's schema: tables, columns, renames, types (mirror.h).
 *
 * Owns mirror_evolve and all DDL on mirror tables, which runs as the role that owns the sync.  Each
 * statement stands in a subtransaction: what one table refuses (a view depends on a column, a
 * stranger's table has the name) becomes a note, and the others go on.  Never drops anything:
 * what the API removed stays until the user drops it.
 */
#include "evolve_internal.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "names.h"
#include "shared.h"
#include "txn.h"

#define EVOLVE_CLASS 0x5352		/* the fourth field of the advisory lock's tag; PostgreSQL's own use 1 and 2 */

static void
note(Evolve *e, const char *what, const char *why)
{
	appendStringInfo(&e->notes, "%s%s: %s", e->notes.len > 0 ? "; " : "", what, why);
}

/* ---- DDL as the owner ---- */

static void
execute_as_owner(Oid owner, const char *sql)
{
	Oid			user;
	int			context;
	int			result;

	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(owner, context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	result = SPI_execute(sql, false, 0);
	SetUserIdAndSecContext(user, context);
	if (result < 0)
		elog(ERROR, "could not change a mirror table: %s", SPI_result_code_string(result));
}

typedef struct Ddl
{
	Evolve	   *e;
	const char *sql;
} Ddl;

static void
ddl_run(void *arg)
{
	Ddl		   *ddl = arg;

	execute_as_owner(ddl->e->sync->owner, ddl->sql);
}

/* All but what is no fault of this statement: then the transaction must end, and may be tried again. */
static bool
is_refusal(int sqlstate)
{
	int			category = ERRCODE_TO_CATEGORY(sqlstate);

	return category != ERRCODE_OPERATOR_INTERVENTION && category != ERRCODE_INSUFFICIENT_RESOURCES &&
		category != ERRCODE_TRANSACTION_ROLLBACK && sqlstate != ERRCODE_LOCK_NOT_AVAILABLE;
}

/* False: refused, and noted. */
static bool
ddl(Evolve *e, const char *table, const char *sql)
{
	Ddl			run = {e, sql};
	char	   *refusal;

	if (!txn_try(ddl_run, &run, is_refusal, &refusal))
	{
		note(e, table, refusal);
		return false;
	}
	e->changed = true;
	return true;
}

/* ---- names ---- */

typedef struct Names
{
	Evolve	   *e;
	const void *but;			/* the row whose name is sought */
	const char *type;			/* columns: an existing column of this type may be taken over */
} Names;

static const char *
checked(Str name)
{
	if (name.p == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return name.p;
}

static bool
table_taken(void *cls, const char *name)
{
	const Names *names = cls;

	for (int i = 0; i < names->e->ntables; i++)
		if (&names->e->tables[i] != names->but && strcmp(names->e->tables[i].table, name) == 0)
			return true;
	return false;
}

static bool
is_reserved(const char *name)
{
	static const char *const reserved[] = {
		"id", "created_at", "created_time", "updated_at", "_sync_updated_at",
		/* PostgreSQL's own */
		"ctid", "xmin", "cmin", "xmax", "cmax", "tableoid",
	};

	for (size_t i = 0; i < lengthof(reserved); i++)
		if (strcmp(reserved[i], name) == 0)
			return true;
	return false;
}

/* The column's type as SQL spells it; NULL: no such column. */
static const char *
actual_type(Oid relid, const char *column)
{
	AttrNumber	attnum = OidIsValid(relid) ? get_attnum(relid, column) : InvalidAttrNumber;

	return attnum > InvalidAttrNumber ? format_type_be(get_atttype(relid, attnum)) : NULL;
}

static bool
column_taken(void *cls, const char *name)
{
	const Names *names = cls;
	const char *type = actual_type(names->e->relid, name);

	if (is_reserved(name) || (type != NULL && strcmp(type, names->type) != 0))
		return true;
	for (int i = 0; i < names->e->ncolumns; i++)
		if (&names->e->columns[i] != names->but && strcmp(names->e->columns[i].column, name) == 0)
			return true;
	return false;
}

static const char *
column_name(Evolve *e, const SchemaField *field, const ColumnRow *row, const char *type)
{
	Names		names = {e, row, type};
	Str			snake = str_of(checked(name_snake(e->arena, str_of(field->name))));

	return checked(name_unique(e->arena, snake, column_taken, &names));
}

/* ---- columns ---- */

static bool
one_of(const char *type, const char *const *list)
{
	for (; *list != NULL; list++)
		if (strcmp(type, *list) == 0)
			return true;
	return false;
}

/* Whether every value of the old type is one of the new. */
static bool
is_wider(const char *old, const char *new)
{
	static const char *const to_bigint[] = {"integer", NULL};
	static const char *const to_numeric[] = {"integer", "bigint", NULL};
	static const char *const to_time[] = {"date", NULL};

	return strcmp(new, "text") == 0 || (strcmp(new, "bigint") == 0 && one_of(old, to_bigint)) ||
		(strcmp(new, "numeric") == 0 && one_of(old, to_numeric)) ||
		(strcmp(new, "timestamp with time zone") == 0 && one_of(old, to_time));
}

/*
 * The API changed a field's type.  Where the old values need not fit the new type the column
 * becomes text, which holds both, and stays so: a cast could fail or lose what is there, and
 * the API gives each row anew only when it changes.  A user who wants the type drops the column.
 */
static void
change_type(Evolve *e, ColumnRow *row, const char *wanted, const char *table)
{
	const char *type = is_wider(row->type, wanted) ? wanted : "text";
	const char *actual = actual_type(e->relid, row->column);
	const char *column = quote_identifier(row->column);
	const char *using = strcmp(type, "timestamp with time zone") == 0
		? psprintf("(%s::pg_catalog.timestamp AT TIME ZONE 'UTC')", column) : psprintf("%s::%s", column, type);

	if (actual == NULL)
		type = wanted;
	if (strcmp(row->type, type) == 0)
		return;
	/* A type that the user gave the column is the user's. */
	if (actual != NULL && strcmp(actual, row->type) == 0 &&
		!ddl(e, table, psprintf("ALTER TABLE %s ALTER COLUMN %s DROP DEFAULT, ALTER COLUMN %s TYPE %s USING %s",
								e->quoted, column, column, type, using)))
		return;
	row->type = type;
}

static void
rename_column(Evolve *e, const SchemaField *field, ColumnRow *row, const char *table)
{
	const char *name = column_name(e, field, row, row->type);

	if (strcmp(name, row->column) == 0)
		return;
	if (actual_type(e->relid, row->column) != NULL)
	{
		/* a column of that name that is not ours stays where it is, and so does ours */
		if (actual_type(e->relid, name) != NULL)
		{
			note(e, table, psprintf("column %s exists already", name));
			return;
		}
		if (!ddl(e, table, psprintf("ALTER TABLE %s RENAME COLUMN %s TO %s", e->quoted, quote_identifier(row->column),
									quote_identifier(name))))
			return;
	}
	row->column = name;
}

static ColumnRow *
find_column(Evolve *e, const char *field)
{
	for (int i = 0; i < e->ncolumns; i++)
		if (strcmp(e->columns[i].field, field) == 0)
			return &e->columns[i];
	return NULL;
}

static void
evolve_field(Evolve *e, const char *collection, const SchemaField *field, const char *table)
{
	const char *type = schema_type_name(field->type);
	ColumnRow  *row = find_column(e, field->field);
	ColumnRow	before;

	if (row == NULL)
	{
		/* not counted yet: its own name is not taken */
		row = &e->columns[e->ncolumns];
		*row = (ColumnRow) {.field = field->field,.field_name = field->name,.type = type,.enabled = true,.found = true};
		row->column = column_name(e, field, row, type);
		e->ncolumns++;
		evolve_write_column(e, collection, row);
		evolve_fill(e, collection, field->field);
		return;
	}
	before = *row;
	row->found = true;
	if (strcmp(row->field_name, field->name) != 0 && !row->locked)
		rename_column(e, field, row, table);
	if (strcmp(row->type, type) != 0)
		change_type(e, row, type, table);
	row->field_name = field->name;
	row->removed = false;
	if (row->enabled && (before.removed || strcmp(before.type, row->type) != 0))
		evolve_fill(e, collection, field->field);
	if (before.removed || strcmp(before.field_name, row->field_name) != 0 || strcmp(before.column, row->column) != 0 ||
		strcmp(before.type, row->type) != 0)
		evolve_write_column(e, collection, row);
}

/* ---- the table itself ---- */

static void
add_definition(StringInfo sql, const char *verb, const char *name, const char *type)
{
	appendStringInfo(sql, "%s%s%s %s", sql->len > 0 ? ", " : "", verb, quote_identifier(name), type);
}

/* Columns of the table that it does not have (all, while there is no table), each after the verb. */
static void
missing_columns(Evolve *e, const SchemaCollection *c, StringInfo sql, const char *verb)
{
	const Provider *provider = e->sync->provider;
	const char *standard[] = {"id", provider->created_column, provider->has_updated_at ? "updated_at" : NULL};
	static const char *const standard_types[] = {"text PRIMARY KEY", "timestamp with time zone", "timestamp with time zone"};

	for (int i = 0; i < 3 && c->kind == COLLECTION_RECORDS; i++)
		if (standard[i] != NULL && actual_type(e->relid, standard[i]) == NULL)
			add_definition(sql, verb, standard[i], standard_types[i]);
	for (int i = 0; i < e->ncolumns; i++)
	{
		const ColumnRow *row = &e->columns[i];
		bool		is_false = strcmp(row->type, "boolean") == 0 && provider->absent_boolean_is_false;

		if (row->found && row->enabled && actual_type(e->relid, row->column) == NULL)
			add_definition(sql, verb, row->column, is_false ? "boolean DEFAULT false" : row->type);
	}
	if (c->kind == COLLECTION_LINKS && actual_type(e->relid, "labels") == NULL)
		add_definition(sql, verb, "labels", "text[] NOT NULL DEFAULT '{}'");
	if (actual_type(e->relid, "_sync_updated_at") == NULL)
		add_definition(sql, verb, "_sync_updated_at", "timestamp with time zone");
}

/*
 * Hundreds of short values make a row of 2 to 4 kB, of which PostgreSQL would move values of 30 bytes out of line, one
 * by one, until 2 kB are left: six times the work of writing such a row.  Two rows fit a page whole; long texts still
 * go out.  The user may alter it.
 */
#define ROW_STORAGE " WITH (toast_tuple_target = 4080)"

static void
create_table(Evolve *e, const SchemaCollection *c, const char *table)
{
	StringInfoData sql;
	const char *from = c->kind == COLLECTION_LINKS ? quote_identifier(c->from_column) : "";
	const char *to = c->kind == COLLECTION_LINKS ? quote_identifier(c->to_column) : "";

	initStringInfo(&sql);
	if (c->kind == COLLECTION_LINKS)
		appendStringInfo(&sql, "%s text, %s text", from, to);
	missing_columns(e, c, &sql, "");
	if (c->kind == COLLECTION_LINKS)
		appendStringInfo(&sql, ", PRIMARY KEY (%s, %s)", from, to);
	/* With the key's second column alone, records that are deleted find their links. */
	if (ddl(e, table, psprintf("CREATE TABLE %s (%s)%s", e->quoted, sql.data, c->kind == COLLECTION_LINKS ? "" : ROW_STORAGE))
		&& c->kind == COLLECTION_LINKS)
		ddl(e, table, psprintf("CREATE INDEX ON %s (%s)", e->quoted, to));
}

static void
add_columns(Evolve *e, const SchemaCollection *c, const char *table)
{
	StringInfoData columns;

	initStringInfo(&columns);
	missing_columns(e, c, &columns, "ADD COLUMN ");
	if (columns.len > 0)
		ddl(e, table, psprintf("ALTER TABLE %s %s", e->quoted, columns.data));
}

/* Whether the relation of that name is the sync's: its owner's, and it looks like one that we made. */
static bool
is_ours(Evolve *e, const SchemaCollection *c)
{
	const char *key = c->kind == COLLECTION_LINKS ? c->from_column : "id";
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(e->relid));
	Form_pg_class class;
	bool		ours;

	if (!HeapTupleIsValid(tuple))
		return false;
	class = (Form_pg_class) GETSTRUCT(tuple);
	ours = (class->relkind == RELKIND_RELATION || class->relkind == RELKIND_PARTITIONED_TABLE) &&
		has_privs_of_role(e->sync->owner, class->relowner) && actual_type(e->relid, key) != NULL &&
		actual_type(e->relid, "_sync_updated_at") != NULL;
	ReleaseSysCache(tuple);
	return ours;
}

static const char *
quoted_table(const Evolve *e, const char *table)
{
	return quote_qualified_identifier(e->sync->target_schema, table);
}

static Oid
find_relation(const Evolve *e, const char *table)
{
	Oid			namespace = get_namespace_oid(e->sync->target_schema, true);

	return OidIsValid(namespace) ? get_relname_relid(table, namespace) : InvalidOid;
}

static void
rename_table(Evolve *e, const SchemaCollection *c, TableRow *row)
{
	Names		names = {e, row, NULL};
	const char *name = checked(name_unique(e->arena, str_of(c->table), table_taken, &names));

	if (strcmp(name, row->table) == 0)
		return;
	if (OidIsValid(find_relation(e, row->table)))
	{
		if (OidIsValid(find_relation(e, name)))
		{
			note(e, row->table, psprintf("cannot be renamed to %s, which exists already", name));
			return;
		}
		if (!ddl(e, row->table, psprintf("ALTER TABLE %s RENAME TO %s", quoted_table(e, row->table), quote_identifier(name))))
			return;
	}
	row->table = name;
}

static TableRow *
find_table(Evolve *e, const SchemaCollection *c)
{
	for (int i = 0; i < e->ntables; i++)
		if (strcmp(e->tables[i].collection, c->collection) == 0)
			return &e->tables[i];
	return NULL;
}

static TableRow *
register_table(Evolve *e, const SchemaCollection *c)
{
	TableRow   *row = find_table(e, c);

	if (row == NULL)
	{
		Names		names = {e, NULL, NULL};

		row = &e->tables[e->ntables];
		*row = (TableRow) {.collection = c->collection,.enabled = true};
		row->table = checked(name_unique(e->arena, str_of(c->table), table_taken, &names));
		e->ntables++;
	}
	else if (strcmp(row->name, c->name) != 0 && !row->locked)
		rename_table(e, c, row);
	row->name = c->name;
	row->found = true;
	evolve_write_table(e, c, row);
	return row;
}

static void
evolve_collection(Evolve *e, const SchemaCollection *c)
{
	TableRow   *row = register_table(e, c);
	bool		stranger;

	CommandCounterIncrement();
	e->quoted = quoted_table(e, row->table);
	e->relid = find_relation(e, row->table);
	stranger = OidIsValid(e->relid) && !is_ours(e, c);
	if (stranger)
	{
		note(e, row->table, "a table of this name exists already and is not the sync's");
		e->relid = InvalidOid;
	}
	evolve_read_columns(e, c->collection, c->nfields);
	for (int i = 0; i < c->nfields; i++)
		evolve_field(e, c->collection, &c->fields[i], row->table);
	for (int i = 0; i < e->ncolumns; i++)
		if (!e->columns[i].found && !e->columns[i].removed)
			evolve_column_removed(e, c->collection, e->columns[i].field);
	if (stranger || !row->enabled)
		return;
	if (OidIsValid(e->relid))
		add_columns(e, c, row->table);
	else
		create_table(e, c, row->table);
}

/* ---- everything ---- */

/* One evolution of a sync at a time: two workers may both have met the same new property. */
static void
lock_sync(const CatalogSync *sync)
{
	LOCKTAG		tag;
	uint32		key[2];

	memcpy(key, sync->key, sizeof(key));
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, key[0], key[1], EVOLVE_CLASS);
	LockAcquire(&tag, ExclusiveLock, false, false);
}

static void
evolve_all(Evolve *e, const Schema *found, const char *scope)
{
	lock_sync(e->sync);
	evolve_read_tables(e, found->ncollections);
	for (int i = 0; i < found->ncollections; i++)
		evolve_collection(e, &found->collections[i]);
	for (int i = 0; i < e->ntables; i++)
		if (!e->tables[i].found && !e->tables[i].removed && (scope == NULL || strcmp(scope, e->tables[i].collection) == 0))
			evolve_table_removed(e, e->tables[i].collection);
	if (e->changed)
		shared_config_changed();
}

void
mirror_evolve(CatalogSync *sync, const Schema *found, const char *scope, char **notes)
{
	Evolve		e = {.sync = sync};

	if (!OidIsValid(sync->owner))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("the role that owns this sync does not exist any more")));
	e.arena = arena_create();
	if (e.arena == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	initStringInfo(&e.notes);
	PG_TRY();
	{
		evolve_all(&e, found, scope);
	}
	PG_FINALLY();
	{
		arena_destroy(e.arena);
	}
	PG_END_TRY();
	*notes = e.notes.len > 0 ? e.notes.data : NULL;
}
