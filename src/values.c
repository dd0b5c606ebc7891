/*
 * values.c - from an API's JSON value to a mirror column's value (see values.h).
 *
 * Owns the rules of what fits which type, so that PostgreSQL's input functions never see what they
 * would refuse: PostgreSQL before 16 has no soft errors, and an ERROR would cost the whole batch.
 * Called by the mirror for every field of every record, and by providers for times.  It must
 * never touch PostgreSQL, never depend on the locale or the time zone, and never round a number.
 * Where the text that the API gives stands for itself it goes on unchanged (numeric '1.50' keeps
 * its scale); dates and times are spelled anew, since PostgreSQL reads fewer forms than ISO has.
 */
#include "values.h"

#include <inttypes.h>

#include "decimal.h"
#include "times.h"

#define MAX_JSONB (32 * 1024 * 1024)	/* spelled; so that its binary form stays below jsonb's 256 MB */

typedef struct Convert
{
	Arena	   *arena;
	const FieldValue *value;
	bool		hubspot;		/* strings stand for everything, "" for nothing */
	ColumnValue *out;
	const char *error;
} Convert;

static ValueResult
misfit(Convert *c, const char *error)
{
	c->error = error;
	return VALUE_MISFIT;
}

static ValueResult
put_null(Convert *c)
{
	c->out->is_null = true;
	return VALUE_OK;
}

static ValueResult
put_text(Convert *c, Str text)
{
	c->out->text = text;
	return VALUE_OK;
}

static ValueResult
put_number(Convert *c, int64_t number)
{
	c->out->number = number;
	return VALUE_OK;
}

static bool
has_nul(Str s)
{
	return s.n > 0 && memchr(s.p, '\0', s.n) != NULL;
}

static bool
is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static Str
trim(Str s)
{
	while (s.n > 0 && is_space(s.p[0]))
		s.p++, s.n--;
	while (s.n > 0 && is_space(s.p[s.n - 1]))
		s.n--;
	return s;
}

static bool
parse_epoch_ms(Str text, int64_t *us)
{
	Decimal		d;

	return decimal_parse(text, &d) && decimal_integer(&d, us) && !__builtin_mul_overflow(*us, 1000, us) && *us >= TIME_MIN_US;
}

bool
value_parse_time(Str text, int64_t *us)
{
	text = trim(text);
	return time_parse(text, us) || parse_epoch_ms(text, us);
}

static ValueResult
convert_date(Convert *c, Str text)
{
	int64_t		days,
				us;

	if (date_parse(text, &days))
		return put_number(c, days);
	if (value_parse_time(text, &us))
		return put_number(c, time_day(us));
	return misfit(c, "not a date");
}

static ValueResult
convert_time(Convert *c, Str text)
{
	int64_t		days,
				us;

	if (value_parse_time(text, &us))
		return put_number(c, us);
	if (date_parse(text, &days) && !__builtin_mul_overflow(days, TIME_DAY_US, &us))
		return put_number(c, us);
	return misfit(c, "not a point in time");
}

static ValueResult
convert_numeric(Convert *c, Str text)
{
	static const char *const specials[] = {"NaN", "Infinity", "-Infinity"};
	Decimal		d;

	for (size_t i = 0; i < 3; i++)
		if (str_iis(text, specials[i]))
			return put_text(c, str_of(specials[i]));
	if (!decimal_parse(text, &d))
		return misfit(c, "not a number");
	if (!decimal_fits_numeric(&d))
		return misfit(c, "number out of range");
	c->out->is_short = decimal_short(&d, &c->out->number, &c->out->scale);
	return put_text(c, text);
}

static ValueResult
convert_integer(Convert *c, Str text, int64_t min, int64_t max)
{
	Decimal		d;
	int64_t		number;

	if (!decimal_parse(text, &d))
		return misfit(c, "not a number");
	if (!decimal_integer(&d, &number) || number < min || number > max)
		return misfit(c, "not an integer of this size");
	return put_number(c, number);
}

static ValueResult
convert_boolean(Convert *c, Str text)
{
	static const char *const words[] = {"false", "true", "no", "yes", "0", "1"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (str_iis(text, words[i]))
		{
			c->out->boolean = i % 2 == 1;
			return VALUE_OK;
		}
	return misfit(c, "not a boolean");
}

static ValueResult
convert_text(Convert *c, Str text)
{
	if (has_nul(text))
		return misfit(c, "text cannot hold U+0000");
	return put_text(c, text);
}

static void
put_element(Buf *buf, Str element)
{
	buf_cstr(buf, buf->n > 1 ? ",\"" : "\"");
	for (size_t i = 0; i < element.n; i++)
	{
		if (element.p[i] == '"' || element.p[i] == '\\')
			buf_char(buf, '\\');
		buf_char(buf, element.p[i]);
	}
	buf_char(buf, '"');
}

static ValueResult
finish_array(Convert *c, Buf *buf)
{
	buf_char(buf, '}');
	c->out->text = buf_finish(buf);
	return c->out->text.p ? VALUE_OK : VALUE_NOMEM;
}

/* HubSpot's "a;b;c". */
static ValueResult
convert_list(Convert *c, Str text)
{
	Buf			buf;

	if (has_nul(text))
		return misfit(c, "text cannot hold U+0000");
	buf_init(&buf, c->arena);
	buf_char(&buf, '{');
	while (text.n > 0)
	{
		const char *semicolon = memchr(text.p, ';', text.n);
		size_t		n = semicolon ? (size_t) (semicolon - text.p) : text.n;

		if (n > 0)
			put_element(&buf, (Str) {text.p, n});
		n += semicolon != NULL;
		text.p += n;
		text.n -= n;
	}
	return finish_array(c, &buf);
}

/* An element of a text[]: a scalar, or the id of a linked record that came as an object. */
static bool
element_text(const JsonDoc *doc, uint32_t it, Str *text)
{
	uint32_t	id;

	switch (json_type(doc, it))
	{
		case JSON_ARRAY:
			return false;
		case JSON_OBJECT:
			id = json_get(doc, it, "id");
			*text = json_text(doc, id);
			return json_type(doc, id) == JSON_STRING && !has_nul(*text);
		default:
			*text = doc->nodes[it].text;
			return !has_nul(*text);
	}
}

static ValueResult
convert_array(Convert *c)
{
	JsonDoc		doc;
	size_t		at;
	JsonResult	result = json_parse(c->arena, c->value->text, &doc, &at, &c->error);
	Buf			buf;

	if (result != JSON_OK)
		return result == JSON_NOMEM ? VALUE_NOMEM : VALUE_MISFIT;
	buf_init(&buf, c->arena);
	buf_char(&buf, '{');
	for (uint32_t it = json_first(&doc, 0); it != JSON_NONE; it = json_next(&doc, 0, it))
	{
		Str			text;

		if (json_type(&doc, it) == JSON_NULL)
			buf_cstr(&buf, buf.n > 1 ? ",NULL" : "NULL");
		else if (element_text(&doc, it, &text))
			put_element(&buf, text);
		else
			return misfit(c, "not a list of texts");
	}
	return finish_array(c, &buf);
}

/* Strings without U+0000 and numbers that numeric holds: what jsonb refuses of valid JSON. */
static bool
jsonb_fits(const JsonDoc *doc)
{
	for (uint32_t i = 0; i < doc->count; i++)
	{
		const JsonNode *node = &doc->nodes[i];
		Decimal		d;

		if (node->type == JSON_STRING && has_nul(node->text))
			return false;
		if (node->type == JSON_NUMBER && (!decimal_parse(node->text, &d) || !decimal_fits_numeric(&d)))
			return false;
	}
	return true;
}

static ValueResult
put_jsonb(Convert *c, Str raw, const JsonDoc *doc)
{
	if (raw.n > MAX_JSONB)
		return misfit(c, "too large for jsonb");
	if (!jsonb_fits(doc))
		return misfit(c, "jsonb cannot hold U+0000, nor numbers of this size");
	return put_text(c, raw);
}

/* A HubSpot string is the JSON that it spells, if it does; an Airtable string is a string. */
static ValueResult
convert_jsonb(Convert *c)
{
	Str			raw = c->value->text;
	bool		string = c->value->type == JSON_STRING;
	JsonResult	result = JSON_INVALID;
	JsonDoc		doc;
	size_t		at;
	Buf			buf;

	if (!string || c->hubspot)
		result = json_parse(c->arena, raw, &doc, &at, &c->error);
	if (result == JSON_INVALID && string)
	{
		buf_init(&buf, c->arena);
		buf_json_string(&buf, raw);
		raw = buf_finish(&buf);
		if (raw.p == NULL)
			return VALUE_NOMEM;
		result = json_parse(c->arena, raw, &doc, &at, &c->error);
	}
	if (result == JSON_NOMEM)
		return VALUE_NOMEM;
	return result == JSON_OK ? put_jsonb(c, raw, &doc) : VALUE_MISFIT;
}

/* Airtable: {"specialValue":"NaN"} is a number spelled so, {"error":"#ERROR!"} none at all. */
static ValueResult
convert_object(Convert *c, MirrorType type, Str *scalar, bool *is_scalar)
{
	JsonDoc		doc;
	size_t		at;
	JsonResult	result = json_parse(c->arena, c->value->text, &doc, &at, &c->error);

	if (result != JSON_OK)
		return result == JSON_NOMEM ? VALUE_NOMEM : VALUE_MISFIT;
	if (json_get(&doc, 0, "error") != JSON_NONE)
		return misfit(c, "the API could not compute it");
	*scalar = json_text_at(&doc, 0, "specialValue");
	*is_scalar = scalar->p != NULL;
	if (!*is_scalar && type != MIRROR_TEXT)
		return misfit(c, "an object");
	return VALUE_OK;
}

static ValueResult
convert_scalar(Convert *c, MirrorType type, Str text)
{
	if (type == MIRROR_TEXT)
		return convert_text(c, text);
	if (type == MIRROR_TEXT_ARRAY)
		return convert_list(c, text);
	text = trim(text);
	if (text.n == 0)
		return put_null(c);
	switch (type)
	{
		case MIRROR_NUMERIC:
			return convert_numeric(c, text);
		case MIRROR_BOOLEAN:
			return convert_boolean(c, text);
		case MIRROR_DATE:
			return convert_date(c, text);
		case MIRROR_TIMESTAMPTZ:
			return convert_time(c, text);
		case MIRROR_INTEGER:
			return convert_integer(c, text, INT32_MIN, INT32_MAX);
		case MIRROR_BIGINT:
			return convert_integer(c, text, INT64_MIN, INT64_MAX);
		default:
			return misfit(c, "unknown column type");
	}
}

/* true and false have no text of their own in a FieldValue. */
static Str
scalar_text(const FieldValue *value)
{
	if (value->type == JSON_TRUE)
		return STR_LIT("true");
	if (value->type == JSON_FALSE)
		return STR_LIT("false");
	return value->text;
}

static ValueResult
convert(Convert *c, MirrorType type)
{
	Str			text = scalar_text(c->value);
	bool		is_scalar = c->value->type < JSON_ARRAY;

	if (c->value->type == JSON_NULL)
		return put_null(c);
	if (c->value->type == JSON_STRING && text.n == 0 && (type != MIRROR_TEXT || c->hubspot))
		return put_null(c);
	if (type == MIRROR_JSONB)
	{
		FieldValue	spelled = *c->value;

		spelled.text = text;
		c->value = &spelled;
		return convert_jsonb(c);
	}
	if (c->value->type == JSON_ARRAY && type == MIRROR_TEXT_ARRAY)
		return convert_array(c);
	if (c->value->type == JSON_OBJECT)
	{
		ValueResult result = convert_object(c, type, &text, &is_scalar);

		if (result != VALUE_OK)
			return result;
	}
	if (is_scalar)
		return convert_scalar(c, type, text);
	/* Only text takes the spelling of what has a structure. */
	return type == MIRROR_TEXT ? put_text(c, c->value->text) : misfit(c, "a list");
}

ValueResult
value_convert(Arena *arena, MirrorType type, const FieldValue *value, bool empty_is_null,
			  ColumnValue *out, const char **error)
{
	Convert		c = {.arena = arena, .value = value, .hubspot = empty_is_null, .out = out};
	ValueResult result;

	*out = (ColumnValue) {.is_null = false};
	result = convert(&c, type);
	*error = result == VALUE_MISFIT ? c.error : NULL;
	return result;
}

Str
value_text(Arena *arena, MirrorType type, const ColumnValue *value)
{
	switch (type)
	{
		case MIRROR_DATE:
			return str_of(date_print(arena, value->number));
		case MIRROR_TIMESTAMPTZ:
			return str_of(time_print(arena, value->number));
		case MIRROR_INTEGER:
		case MIRROR_BIGINT:
			return str_of(arena_printf(arena, "%" PRId64, value->number));
		case MIRROR_BOOLEAN:
			return value->boolean ? STR_LIT("true") : STR_LIT("false");
		default:
			return arena_str(arena, value->text.p, value->text.n);
	}
}
