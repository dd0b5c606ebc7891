/*
 * values.h - from an API's JSON value to the text that a mirror column's input function takes, or
 * to the reason why it does not fit.  Pure C.
 *
 * A value that passes here never makes the type's input function fail: dates, times and numbers
 * are range-checked as PostgreSQL 14-18 would, arrays become array literals, jsonb is checked for
 * \u0000.  The mirror turns a misfit into NULL and a sequin.cast_error row.
 */
#ifndef SEQUIN_VALUES_H
#define SEQUIN_VALUES_H

#include "change.h"

typedef enum ValueResult
{
	VALUE_OK,					/* out->text is the column's text, or is_null; int64 forms below are set too */
	VALUE_MISFIT,				/* *error says why: "not a number" */
	VALUE_NOMEM
} ValueResult;

typedef struct ColumnValue
{
	bool		is_null;
	Str			text;			/* NUL-terminated, fit for the type's input function */
	bool		boolean;		/* MIRROR_BOOLEAN */
	int64_t		number;			/* MIRROR_INTEGER, MIRROR_BIGINT; MIRROR_TIMESTAMPTZ: µs since the Unix epoch;
								 * MIRROR_DATE: days since the Unix epoch */
} ColumnValue;

/*
 * HubSpot gives strings for everything ("17", "true", "a;b", "2024-01-31", epoch ms, ""), Airtable
 * typed JSON; both are accepted for every type.  "" is NULL for all types but text, and for text
 * too when empty_is_null (HubSpot).  text[]: a JSON array of scalars, or a ';'-separated string.
 */
extern ValueResult value_convert(Arena *arena, MirrorType type, const FieldValue *value, bool empty_is_null,
								 ColumnValue *out, const char **error);

/* ISO 8601 with zone, or epoch milliseconds -> µs since the Unix epoch.  False: neither. */
extern bool value_parse_time(Str text, int64_t *us);

#endif
