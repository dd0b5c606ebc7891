/*
 * change.c - growing lists of Changes, and looking things up in a Schema.
 *
 * Pure C; everything lives in the caller's arena.  Must never touch PostgreSQL.
 */
#include "change.h"

const char *
change_op_name(ChangeOp op)
{
	static const char *const names[] = {
		[CHANGE_UPSERT] = "upsert",
		[CHANGE_PATCH] = "patch",
		[CHANGE_DELETE] = "delete",
		[CHANGE_LINK] = "link",
		[CHANGE_UNLINK] = "unlink",
		[CHANGE_REREAD] = "reread",
		[CHANGE_REFRESH_SCHEMA] = "refresh_schema",
	};

	return names[op];
}

Change *
change_add(ChangeList *list, Arena *arena, ChangeOp op, Str collection, Str id)
{
	Change	   *change;

	if (list->count == list->cap)
	{
		int			cap = list->cap ? list->cap * 2 : 4;
		Change	   *items = arena_alloc(arena, sizeof(Change) * (size_t) cap);

		if (items == NULL)
			return NULL;
		if (list->count > 0)
			memcpy(items, list->items, sizeof(Change) * (size_t) list->count);
		list->items = items;
		list->cap = cap;
	}
	change = &list->items[list->count++];
	memset(change, 0, sizeof(*change));
	change->op = op;
	change->collection = collection;
	change->id = id;
	change->created_at_us = TIME_NONE;
	change->updated_at_us = TIME_NONE;
	return change;
}

FieldValue *
change_add_field(Change *change, Arena *arena, Str field)
{
	FieldValue *value;

	/* Capacity is the next power of two: nothing to store beside the count. */
	if ((change->nfields & (change->nfields - 1)) == 0)
	{
		int			cap = change->nfields ? change->nfields * 2 : 1;
		FieldValue *fields = arena_alloc(arena, sizeof(FieldValue) * (size_t) cap);

		if (fields == NULL)
			return NULL;
		if (change->nfields > 0)
			memcpy(fields, change->fields, sizeof(FieldValue) * (size_t) change->nfields);
		change->fields = fields;
	}
	value = &change->fields[change->nfields++];
	memset(value, 0, sizeof(*value));
	value->field = field;
	return value;
}
