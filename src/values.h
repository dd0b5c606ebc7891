/*
 * values.h - from an API's JSON value to a mirror column's, or to the reason why it does not fit.  Pure C.
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
	VALUE_OK,
	VALUE_MISFIT,				/* *error says why: "not a number" */
	VALUE_NOMEM
} ValueResult;

typedef struct ColumnValue
{
	bool		is_null;
	Str			text;			/* all other types; as long as the FieldValue or the arena lives, and not NUL-terminated */
	bool		boolean;		/* MIRROR_BOOLEAN */
	int64_t		number;			/* MIRROR_INTEGER, MIRROR_BIGINT; MIRROR_TIMESTAMPTZ: µs since the Unix epoch;
								 * MIRROR_DATE: days since the Unix epoch; MIRROR_NUMERIC, where is_short: */
	bool		is_short;		/* number / 10^scale says the same as text, with as many digits behind the point */
	int			scale;
} ColumnValue;

/*
 * HubSpot gives strings for everything ("17", "true", "a;b", "2024-01-31", epoch ms, ""), Airtable
 * typed JSON; both are accepted for every type.  "" is NULL for all types but text, and for text
 * too when empty_is_null (HubSpot).  text[]: a JSON array of scalars, or a ';'-separated string.
 */
extern ValueResult value_convert(Arena *arena, MirrorType type, const FieldValue *value, bool empty_is_null,
								 ColumnValue *out, const char **error);

/* What the type's input function takes, NUL-terminated, of a value that is not NULL.  STR_NULL: out of memory. */
extern Str	value_text(Arena *arena, MirrorType type, const ColumnValue *value);

/* ISO 8601 with zone, or epoch milliseconds -> µs since the Unix epoch.  False: neither. */
extern bool value_parse_time(Str text, int64_t *us);

#endif
