/*
 * evolve_rows.c - schema evolution's reads and writes of sequin.mirror_table and mirror_column.
 *
 * Runs as the worker.  Rows are written only where they change: each write, even of no row at all,
 * moves the generation of every process, and a restore or a user's UPDATE must not be undone by a discovery.
 */
#include "evolve_internal.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#include "mirror_internal.h"

static char *
text_at(uint64 row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

static bool
bool_at(uint64 row, int column)
{
	const char *text = text_at(row, column);

	return text != NULL && text[0] == 't';
}

void
evolve_read_tables(Evolve *e, int room)
{
	static SPIPlanPtr plan;
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(e->sync->view.name)};

	mirror_own_plan(&plan, "SELECT collection, collection_name, table_name, enabled, locked, removed_at IS NOT NULL"
					" FROM sequin.mirror_table WHERE sync = $1 ORDER BY collection", 1, types);
	mirror_execute(plan, values, NULL);
	e->tables = palloc0(sizeof(TableRow) * (SPI_processed + room + 1));
	e->ntables = (int) SPI_processed;
	for (int i = 0; i < e->ntables; i++)
		e->tables[i] = (TableRow)
		{
			.collection = text_at(i, 1),.name = text_at(i, 2),.table = text_at(i, 3),
			.enabled = bool_at(i, 4),.locked = bool_at(i, 5),.removed = bool_at(i, 6)
		};
	SPI_freetuptable(SPI_tuptable);
}

void
evolve_read_columns(Evolve *e, const char *collection, int room)
{
	static SPIPlanPtr plan;
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		values[] = {CStringGetTextDatum(e->sync->view.name), CStringGetTextDatum(collection)};

	mirror_own_plan(&plan, "SELECT field, field_name, column_name, column_type, enabled, locked, removed_at IS NOT NULL"
					" FROM sequin.mirror_column WHERE sync = $1 AND collection = $2 ORDER BY field", 2, types);
	mirror_execute(plan, values, NULL);
	e->columns = palloc0(sizeof(ColumnRow) * (SPI_processed + room + 1));
	e->ncolumns = (int) SPI_processed;
	for (int i = 0; i < e->ncolumns; i++)
		e->columns[i] = (ColumnRow)
		{
			.field = text_at(i, 1),.field_name = text_at(i, 2),.column = text_at(i, 3),.type = text_at(i, 4),
			.enabled = bool_at(i, 5),.locked = bool_at(i, 6),.removed = bool_at(i, 7)
		};
	SPI_freetuptable(SPI_tuptable);
}

/* ---- mirror_table.detail, as catalog_schema.c reads it ---- */

static void
add_member(Buf *buf, const char *name, const char *value)
{
	if (buf->p[buf->n - 1] != '{')
		buf_char(buf, ',');
	buf_printf(buf, "\"%s\":", name);
	if (value != NULL)
		buf_json_string(buf, str_of(value));
	else
		buf_cstr(buf, "null");
}

static void
add_link_type(Buf *buf, const LinkType *type)
{
	buf_printf(buf, "{\"id\":%ld", type->type_id);
	add_member(buf, "category", type->category);
	add_member(buf, "from", type->from);
	add_member(buf, "to", type->to);
	add_member(buf, "label", type->label);
	buf_char(buf, '}');
}

static void
add_links(Buf *buf, const SchemaCollection *c)
{
	add_member(buf, "from", c->from);
	add_member(buf, "to", c->to);
	add_member(buf, "from_column", c->from_column);
	add_member(buf, "to_column", c->to_column);
	buf_cstr(buf, ",\"types\":[");
	for (int i = 0; i < c->nlink_types; i++)
	{
		if (i > 0)
			buf_char(buf, ',');
		add_link_type(buf, &c->link_types[i]);
	}
	buf_char(buf, ']');
}

static const char *
detail_of(Evolve *e, const SchemaCollection *c)
{
	Buf			buf;
	Str			text;

	buf_init(&buf, e->arena);
	buf_char(&buf, '{');
	if (!buf.failed && c->kind == COLLECTION_LINKS)
		add_links(&buf, c);
	for (int i = 0; i < c->naliases; i++)
	{
		buf_cstr(&buf, i == 0 ? "\"aliases\":[" : ",");
		buf_json_string(&buf, str_of(c->aliases[i]));
	}
	buf_cstr(&buf, c->naliases > 0 ? "]" : "");
	if (c->exact)
		buf_cstr(&buf, c->naliases > 0 ? ",\"exact\":true" : "\"exact\":true");
	buf_char(&buf, '}');
	text = buf_finish(&buf);
	if (text.p == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return text.p;
}

void
evolve_write_table(Evolve *e, const SchemaCollection *c, const TableRow *row)
{
	static SPIPlanPtr plan;
	static SPIPlanPtr same_plan;
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID};
	Datum		values[] = {CStringGetTextDatum(e->sync->view.name), CStringGetTextDatum(c->collection),
		CStringGetTextDatum(row->name), CStringGetTextDatum(row->table),
		CStringGetTextDatum(c->kind == COLLECTION_LINKS ? "links" : "records"), CStringGetTextDatum(detail_of(e, c))};

	mirror_own_plan(&same_plan, "SELECT FROM sequin.mirror_table WHERE sync = $1 AND collection = $2 AND removed_at IS NULL"
					" AND (collection_name, table_name, kind, detail) IS NOT DISTINCT FROM ($3, $4, $5, $6::pg_catalog.jsonb)", 6, types);
	if (mirror_execute(same_plan, values, NULL) > 0)
		return;
	mirror_own_plan(&plan, "INSERT INTO sequin.mirror_table (sync, collection, collection_name, table_name, kind, detail)"
					" VALUES ($1, $2, $3, $4, $5, $6::pg_catalog.jsonb)"
					" ON CONFLICT (sync, collection) DO UPDATE SET collection_name = excluded.collection_name,"
					" table_name = excluded.table_name, kind = excluded.kind, detail = excluded.detail, removed_at = NULL",
					6, types);
	e->changed |= mirror_execute(plan, values, NULL) > 0;
}

void
evolve_write_column(Evolve *e, const char *collection, const ColumnRow *row)
{
	static SPIPlanPtr plan;
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID};
	Datum		values[] = {CStringGetTextDatum(e->sync->view.name), CStringGetTextDatum(collection),
		CStringGetTextDatum(row->field), CStringGetTextDatum(row->field_name), CStringGetTextDatum(row->column),
		CStringGetTextDatum(row->type)};

	mirror_own_plan(&plan, "INSERT INTO sequin.mirror_column (sync, collection, field, field_name, column_name, column_type)"
					" VALUES ($1, $2, $3, $4, $5, $6)"
					" ON CONFLICT (sync, collection, field) DO UPDATE SET field_name = excluded.field_name,"
					" column_name = excluded.column_name, column_type = excluded.column_type, removed_at = NULL", 6, types);
	e->changed |= mirror_execute(plan, values, NULL) > 0;
}

void
evolve_fill(Evolve *e, const char *collection, const char *field)
{
	static SPIPlanPtr plan;
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID};
	Datum		values[] = {CStringGetTextDatum(e->sync->view.name), CStringGetTextDatum(collection), CStringGetTextDatum(field)};

	/* a table whose reading has not begun will be read with it */
	mirror_own_plan(&plan, "UPDATE sequin.table_state SET fill = pg_catalog.concat_ws(' ', fill, $3::pg_catalog.text)"
					" WHERE sync = $1 AND collection = $2 AND (phase <> 'waiting' OR live_at IS NOT NULL)"
					" AND $3 <> ALL (pg_catalog.string_to_array(COALESCE(fill, ''), ' '))", 3, types);
	e->changed |= mirror_execute(plan, values, NULL) > 0;
}

void
evolve_table_removed(Evolve *e, const char *collection)
{
	static SPIPlanPtr plan;
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		values[] = {CStringGetTextDatum(e->sync->view.name), CStringGetTextDatum(collection)};

	mirror_own_plan(&plan, "UPDATE sequin.mirror_table SET removed_at = pg_catalog.now()"
					" WHERE sync = $1 AND collection = $2 AND removed_at IS NULL", 2, types);
	e->changed |= mirror_execute(plan, values, NULL) > 0;
}

void
evolve_column_removed(Evolve *e, const char *collection, const char *field)
{
	static SPIPlanPtr plan;
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID};
	Datum		values[] = {CStringGetTextDatum(e->sync->view.name), CStringGetTextDatum(collection), CStringGetTextDatum(field)};

	mirror_own_plan(&plan, "UPDATE sequin.mirror_column SET removed_at = pg_catalog.now()"
					" WHERE sync = $1 AND collection = $2 AND field = $3 AND removed_at IS NULL", 3, types);
	e->changed |= mirror_execute(plan, values, NULL) > 0;
}
