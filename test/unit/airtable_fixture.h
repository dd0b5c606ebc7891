/*
 * airtable_fixture.h - a small base, and changes as text, for the Airtable unit tests.
 */
#ifndef AIRTABLE_FIXTURE_H
#define AIRTABLE_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>

#include "../../src/provider.h"

#define BASE "appBASE00000000001"
#define FIXTURE __attribute__((unused)) static

FIXTURE int passed;
FIXTURE int failed;

FIXTURE bool
check(bool ok, const char *what)
{
	printf("%s - %s\n", ok ? "ok" : "not ok", what);
	ok ? passed++ : failed++;
	return ok;
}

FIXTURE void
check_text(const char *got, const char *expected, const char *what)
{
	if (!check(got != NULL && strcmp(got, expected) == 0, what))
		printf("# expected %s\n# got      %s\n", expected, got ? got : "(null)");
}

FIXTURE int
finish(void)
{
	printf("%d passed, %d failed\n", passed, failed);
	return failed > 0;
}

FIXTURE SchemaField tasks_fields[] = {
	{.field = "fldName", .name = "Name", .type = MIRROR_TEXT, .column = "name", .enabled = true},
	{.field = "fldDone", .name = "Done?", .type = MIRROR_BOOLEAN, .column = "done", .enabled = true},
	{.field = "fldEst", .name = "Estimate", .type = MIRROR_NUMERIC, .column = "estimate", .enabled = true},
	{.field = "fldTags", .name = "Tags", .type = MIRROR_TEXT_ARRAY, .column = "tags", .enabled = true},
	{.field = "fldFiles", .name = "Files", .type = MIRROR_JSONB, .column = "files", .enabled = true},
	{.field = "fldOld", .name = "Gone", .type = MIRROR_TEXT, .column = "gone", .enabled = true, .removed = true},
	/* a field whose name is another's id */
	{.field = "fldTwist", .name = "fldEst", .type = MIRROR_TEXT, .column = "fld_est", .enabled = true},
};

FIXTURE SchemaField people_fields[] = {
	{.field = "fldPname", .name = "Name", .type = MIRROR_TEXT, .column = "name", .enabled = true},
};

FIXTURE SchemaCollection base_tables[] = {
	{.collection = "tblOldTasks", .name = "Tasks", .table = "old_tasks", .removed = true, .enabled = true},
	{.collection = "tblTasks", .name = "Tasks", .table = "tasks", .fields = tasks_fields, .nfields = 7, .enabled = true},
	{.collection = "tblPeople", .name = "People / Staff 100%", .table = "people", .fields = people_fields, .nfields = 1,
	.enabled = true},
	{.collection = "tblOff", .name = "Off", .table = "off", .enabled = false},
};

FIXTURE Schema base_schema = {base_tables, 4};

FIXTURE SyncView
base_view(void)
{
	return (SyncView) {.name = "ops", .base_id = BASE, .schema = &base_schema};
}

/* A copy in memory of its own, so that ASan sees a read past its end. */
FIXTURE Str
exact(const char *text)
{
	size_t		n = text ? strlen(text) : 0;
	char	   *copy = text ? malloc(n ? n : 1) : NULL;

	if (copy != NULL)
		memcpy(copy, text, n);
	return (Str) {copy, n};
}

FIXTURE void
release(Str s)
{
	free((char *) s.p);
}

FIXTURE void
print_value(Buf *buf, const FieldValue *value)
{
	static const char *const names[] = {"null", "false", "true"};

	buf_printf(buf, "%s%.*s=", value->known ? "" : "?", STR_FMT(value->field));
	if (value->type <= JSON_TRUE)
		buf_cstr(buf, names[value->type]);
	else
		buf_printf(buf, value->type == JSON_STRING ? "'%.*s'" : "%.*s", STR_FMT(value->text));
}

/* "upsert tblTasks/rec1 @1704067200000000 {fldName='a'}", with * after the id when base-wide */
FIXTURE const char *
print_changes(Arena *arena, const ChangeList *list)
{
	Buf			buf;

	buf_init(&buf, arena);
	for (int i = 0; i < list->count; i++)
	{
		const Change *c = &list->items[i];

		buf_printf(&buf, "%s%s %.*s", i ? "; " : "", change_op_name(c->op), c->collection.p ? (int) c->collection.n : 1,
				   c->collection.p ? c->collection.p : "-");
		if (c->id.p != NULL)
			buf_printf(&buf, "/%.*s%s", STR_FMT(c->id), c->base_wide ? "*" : "");
		if (c->created_at_us != TIME_NONE)
			buf_printf(&buf, " @%lld", (long long) c->created_at_us);
		if (c->op == CHANGE_UPSERT || c->op == CHANGE_PATCH)
			buf_cstr(&buf, " {");
		for (int f = 0; f < c->nfields; f++)
		{
			buf_cstr(&buf, f ? ", " : "");
			print_value(&buf, &c->fields[f]);
		}
		if (c->op == CHANGE_UPSERT || c->op == CHANGE_PATCH)
			buf_char(&buf, '}');
	}
	return buf_finish(&buf).p;
}

#endif
