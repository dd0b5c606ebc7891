/*
 * mirror_values.c - a field's value becomes a column's Datum, or NULL and a note why.
 *
 * values.c judges what fits the type that we gave the column, so the input functions called here
 * can't fail.  Where the user gave the column another type, or the database is not in UTF-8,
 * they can: then they run in a subtransaction, and what they refuse is a misfit like any other.
 */
#include "mirror_internal.h"

#include "catalog/pg_type.h"
#include "datatype/timestamp.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "txn.h"
#include "values.h"

#define UNIX_EPOCH_DAYS (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE)

static bool
needs_encoding(Str text)
{
	if (GetDatabaseEncoding() == PG_UTF8)
		return false;
	for (size_t i = 0; i < text.n; i++)
		if (IS_HIGHBIT_SET(text.p[i]))
			return true;
	return false;
}

typedef struct Input
{
	MirrorColumn *column;
	Str			text;
	Datum		datum;
} Input;

static void
input_run(void *arg)
{
	Input	   *input = arg;
	char	   *encoded = pg_any_to_server(input->text.p, (int) input->text.n, PG_UTF8);

	input->datum = InputFunctionCall(&input->column->input, encoded, input->column->ioparam, input->column->typmod);
}

/* All but what is out of our hands: memory, cancel. */
static bool
is_refusal(int sqlstate)
{
	int			category = ERRCODE_TO_CATEGORY(sqlstate);

	return category != ERRCODE_OPERATOR_INTERVENTION && category != ERRCODE_INSUFFICIENT_RESOURCES;
}

/* The next element of the text that values.c spells: quoted, or NULL; put at *room.  Returns what follows it. */
static const char *
next_element(const char *p, char **room, Datum *element, bool *isnull)
{
	char	   *value = *room;
	char	   *to = VARDATA(value);

	*isnull = *p != '"';
	if (*isnull)
		return p + 4;
	for (p++; *p != '"'; p++)
	{
		p += *p == '\\';
		*to++ = *p;
	}
	SET_VARSIZE(value, to - value);
	*element = PointerGetDatum(value);
	*room = (char *) INTALIGN(to);
	return p + 1;
}

/* What array_in would make of values.c's text, which has one form only. */
static Datum
text_array(Str text)
{
	int			most = 1;
	int			n = 0;
	Datum	   *elements;
	bool	   *nulls;
	char	   *room;
	int			lower = 1;

	if (text.n <= 2)
		return PointerGetDatum(construct_empty_array(TEXTOID));
	for (size_t i = 0; i < text.n; i++)
		most += text.p[i] == ',';
	elements = palloc(sizeof(Datum) * most);
	nulls = palloc(sizeof(bool) * most);
	room = palloc_extended(text.n + (Size) most * (VARHDRSZ + ALIGNOF_INT), MCXT_ALLOC_HUGE);
	for (const char *p = text.p + 1;; p++)
	{
		p = next_element(p, &room, &elements[n], &nulls[n]);
		n++;
		if (*p != ',')
			break;
	}
	return PointerGetDatum(construct_md_array(elements, nulls, 1, &n, &lower, TEXTOID, -1, false, TYPALIGN_INT));
}

static Str
checked_text(Arena *arena, const MirrorColumn *column, const ColumnValue *value)
{
	Str			text = value_text(arena, column->field->type, value);

	if (text.p == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return text;
}

static Datum
exact_datum(Arena *arena, MirrorColumn *column, const ColumnValue *value)
{
	switch (column->field->type)
	{
		case MIRROR_TEXT:
			return mirror_text(value->text);
		case MIRROR_BOOLEAN:
			return BoolGetDatum(value->boolean);
		case MIRROR_INTEGER:
			return Int32GetDatum((int32) value->number);
		case MIRROR_BIGINT:
			return Int64GetDatum(value->number);
		case MIRROR_DATE:
			return DateADTGetDatum((DateADT) (value->number - UNIX_EPOCH_DAYS));
		case MIRROR_TIMESTAMPTZ:
			return TimestampTzGetDatum(value->number - UNIX_EPOCH_DAYS * USECS_PER_DAY);
		case MIRROR_TEXT_ARRAY:
			return text_array(value->text);
		case MIRROR_NUMERIC:
			if (value->is_short)	/* a third of the input function's work */
				return NumericGetDatum(int64_div_fast_to_numeric(value->number, value->scale));
			/* FALLTHROUGH */
		default:
			return InputFunctionCall(&column->input, (char *) checked_text(arena, column, value).p, column->ioparam, column->typmod);
	}
}

/* The provider that leaves out what is false does so in every way of saying nothing. */
static bool
is_false(const MirrorOp *op, const MirrorColumn *column)
{
	return column->field->type == MIRROR_BOOLEAN && column->exact && op->table->sync->provider->absent_boolean_is_false;
}

Datum
mirror_value(Apply *apply, MirrorOp *op, MirrorColumn *column, const FieldValue *value, bool *isnull)
{
	static const FieldValue nothing = {.type = JSON_NULL};
	ColumnValue converted;
	const char *error = NULL;
	char	   *refusal;
	Input		input;
	ValueResult result;

	/* HubSpot, which has versions, is the one that writes "" for nothing. */
	result = value_convert(op->item->arena, column->field->type, value ? value : &nothing,
						   op->table->sync->provider->has_updated_at, &converted, &error);
	if (result == VALUE_NOMEM)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	*isnull = true;
	if (result == VALUE_MISFIT)
	{
		mirror_note_error(apply, op, column->field->column, value, error);
		return (Datum) 0;
	}
	if (converted.is_null)
	{
		*isnull = !is_false(op, column);
		return BoolGetDatum(false);
	}
	*isnull = false;
	if (column->exact && !needs_encoding(converted.text))
		return exact_datum(op->item->arena, column, &converted);
	input = (Input) {column, checked_text(op->item->arena, column, &converted)};
	if (txn_try(input_run, &input, is_refusal, &refusal))
		return input.datum;
	mirror_note_error(apply, op, column->field->column, value, refusal);
	*isnull = true;
	return (Datum) 0;
}
