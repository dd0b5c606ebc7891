// SRC: src/values.c src/decimal.c src/times.c src/json.c src/schema.c src/arena.c
/*
 * test_values.c - what becomes of an API's value in a column of each type.
 *
 * `test_values --check` reads "<type> <h|a> <JSON on one line>" per line, and prints "null",
 * "misfit <reason>" or "text <column text>", for a differential test against PostgreSQL.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../src/values.h"

static int	passed;
static int	failed;
static Arena *arena;

static void
check(bool ok, const char *what)
{
	printf("%s - %s\n", ok ? "ok" : "not ok", what);
	ok ? passed++ : failed++;
}

static ValueResult
convert(MirrorType type, bool hubspot, Str json, ColumnValue *out, const char **error)
{
	JsonDoc		doc;
	size_t		at;
	const char *text;
	FieldValue	value = {.known = true};

	if (json_parse(arena, json, &doc, &at, &text) != JSON_OK)
	{
		printf("# test document is not JSON: %.*s\n", STR_FMT(json));
		exit(2);
	}
	value.type = json_type(&doc, 0);
	if (value.type >= JSON_NUMBER)
		value.text = doc.nodes[0].text;
	return value_convert(arena, type, &value, hubspot, out, error);
}

/* want: the text, NULL for NULL, "!reason" for a misfit */
static bool
becomes(MirrorType type, bool hubspot, const char *json, const char *want)
{
	ColumnValue out;
	const char *error;
	ValueResult result = convert(type, hubspot, str_of(json), &out, &error);
	Str			text = result == VALUE_OK && !out.is_null ? value_text(arena, type, &out) : STR_NULL;
	bool		ok;

	if (result == VALUE_MISFIT)
		ok = want != NULL && want[0] == '!' && error != NULL && strstr(error, want + 1) != NULL;
	else
		ok = result == VALUE_OK && out.is_null == (want == NULL) && error == NULL &&
			(want == NULL || (str_is(text, want) && text.p[text.n] == '\0'));
	if (!ok)
		printf("# %s as %s became %s%s%s, not %s\n", json, schema_type_name(type), result == VALUE_MISFIT ? "a misfit: " : "",
			   out.is_null ? "NULL" : text.p ? text.p : "", error ? error : "", want ? want : "NULL");
	return ok;
}

#define H(type, json, want) becomes(MIRROR_##type, true, json, want)
#define A(type, json, want) becomes(MIRROR_##type, false, json, want)

static bool
number_is(MirrorType type, const char *json, int64_t want)
{
	ColumnValue out;
	const char *error;

	return convert(type, true, str_of(json), &out, &error) == VALUE_OK && !out.is_null && out.number == want;
}

static void
test_nothing(void)
{
	bool		ok = true;
	bool		empty = true;

	for (MirrorType type = MIRROR_TEXT; type <= MIRROR_BIGINT; type++)
	{
		ok = ok && becomes(type, true, "null", NULL) && becomes(type, false, "null", NULL);
		empty = empty && becomes(type, true, "\"\"", NULL) && (type == MIRROR_TEXT || becomes(type, false, "\"\"", NULL));
	}
	check(ok, "null is NULL in every type");
	check(empty, "an empty string clears every type");
	check(A(TEXT, "\"\"", ""), "Airtable's empty text stays empty text");
	check(H(NUMERIC, "\"  \"", NULL) && H(TEXT, "\"  \"", "  "), "blanks are nothing but in text");
}

static void
test_text(void)
{
	check(H(TEXT, "\"a\\u00e9\\n\"", "a\xC3\xA9\n"), "text is the string's content");
	check(A(TEXT, "17.50", "17.50") && A(TEXT, "true", "true") && A(TEXT, "false", "false"), "text takes other scalars as spelled");
	check(A(TEXT, "[1, \"a\"]", "[1, \"a\"]") && A(TEXT, "{\"a\":1}", "{\"a\":1}"), "text takes structures as JSON");
	check(A(TEXT, "\"a\\u0000b\"", "!U+0000"), "U+0000 does not fit text");
	check(A(TEXT, "{\"error\":\"#ERROR!\"}", "!could not compute"), "an error of a formula is no text");
	check(A(TEXT, "{\"specialValue\":\"NaN\"}", "NaN"), "a special value is spelled in text");
}

static bool
short_is(const char *json, int64_t number, int scale)
{
	ColumnValue out;
	const char *error;

	return convert(MIRROR_NUMERIC, true, str_of(json), &out, &error) == VALUE_OK && out.is_short && out.number == number && out.scale == scale;
}

static void
test_numeric(void)
{
	char		digits[20100];

	check(H(NUMERIC, "\"17\"", "17") && A(NUMERIC, "17.50", "17.50") && A(NUMERIC, "-1e-7", "-1e-7"), "numbers keep their spelling");
	check(H(NUMERIC, "\" +.5 \"", "+.5") && H(NUMERIC, "\"5.\"", "5.") && H(NUMERIC, "\"123456789012345678901234567890.123456789\"",
		  "123456789012345678901234567890.123456789"), "numbers in strings may look as people write them");
	check(A(NUMERIC, "{\"specialValue\":\"NaN\"}", "NaN") && A(NUMERIC, "{\"specialValue\":\"Infinity\"}", "Infinity") &&
		  A(NUMERIC, "{\"specialValue\":\"-Infinity\"}", "-Infinity") && H(NUMERIC, "\"nan\"", "NaN"), "numeric takes NaN and Infinity");
	check(A(NUMERIC, "{\"error\":\"#ERROR!\"}", "!could not compute") && A(NUMERIC, "{\"error\":null}", "!could not compute"), "an error is no number");
	check(H(NUMERIC, "\"1,5\"", "!not a number") && H(NUMERIC, "\"abc\"", "!not a number") && H(NUMERIC, "\"1 2\"", "!not a number") &&
		  H(NUMERIC, "\"0x10\"", "!not a number") && H(NUMERIC, "\"1_000\"", "!not a number") && H(NUMERIC, "\".\"", "!not a number") &&
		  H(NUMERIC, "\"1e\"", "!not a number") && H(NUMERIC, "\"1\\u0000\"", "!not a number") && H(NUMERIC, "\"\xD9\xA3\"", "!not a number"),
		  "what is no number does not fit numeric");
	check(A(NUMERIC, "true", "!not a number") && A(NUMERIC, "[1]", "!list") && A(NUMERIC, "{\"a\":1}", "!object"), "booleans, lists and objects are no numbers");
	check(A(NUMERIC, "1e131071", "1e131071") && A(NUMERIC, "1e131072", "!range") && A(NUMERIC, "0.01e131073", "0.01e131073") &&
		  A(NUMERIC, "00.01e131074" + 1, "!range"), "numeric ends at 131072 digits before the point");
	check(A(NUMERIC, "1e-16383", "1e-16383") && A(NUMERIC, "1e-16384", "!range") && A(NUMERIC, "0e-16384", "!range"), "... and at 16383 behind it");
	check(A(NUMERIC, "0e1000000000", "0e1000000000") && A(NUMERIC, "0e99999999999999999999", "!range") &&
		  A(NUMERIC, "1e-99999999999999999999", "!range"), "absurd exponents do not overflow");
	check(short_is("17", 17, 0) && short_is("-17.50", -1750, 2) && short_is("\"+.5\"", 5, 1) && short_is("\"5.\"", 5, 0) && short_is("-0.00", 0, 2) &&
		  short_is("\"007\"", 7, 0) && short_is("999999999999999", INT64_C(999999999999999), 0) && short_is("0.00000000000001", 1, 14),
		  "a short number is a whole one and its digits behind the point");
	check(!short_is("9999999999999999", 0, 0) && !short_is("0.000000000000001", 1, 15) && !short_is("1e2", 100, 0) && !short_is("\"NaN\"", 0, 0),
		  "a long one, or one with an exponent, is text alone");
	memset(digits, '9', sizeof(digits));
	digits[20000] = '\0';
	check(A(NUMERIC, digits, digits), "a long number fits");
}

static void
test_integers(void)
{
	check(number_is(MIRROR_INTEGER, "5", 5) && number_is(MIRROR_INTEGER, "\"-5\"", -5) && number_is(MIRROR_INTEGER, "5.0", 5) &&
		  number_is(MIRROR_INTEGER, "50e-1", 5) && number_is(MIRROR_INTEGER, "5e2", 500) && number_is(MIRROR_BIGINT, "0e-9999999999", 0),
		  "whole numbers are integers however they are written");
	check(H(INTEGER, "5.0", "5") && H(BIGINT, "1e3", "1000"), "an integer's text is plain");
	check(A(INTEGER, "5.5", "!integer") && A(INTEGER, "1e-3", "!integer") && A(INTEGER, "\"x\"", "!number") &&
		  A(INTEGER, "{\"specialValue\":\"NaN\"}", "!number"), "what is no whole number does not fit");
	check(A(INTEGER, "2147483647", "2147483647") && A(INTEGER, "-2147483648", "-2147483648") && A(INTEGER, "2147483648", "!size") &&
		  A(INTEGER, "-2147483649", "!size"), "integer has 32 bits");
	check(number_is(MIRROR_BIGINT, "9223372036854775807", INT64_MAX) && number_is(MIRROR_BIGINT, "-9223372036854775808", INT64_MIN) &&
		  A(BIGINT, "9223372036854775808", "!size") && A(BIGINT, "-9223372036854775809", "!size") && A(BIGINT, "1e999999999", "!size"),
		  "bigint has 64 bits");
}

static void
test_boolean(void)
{
	ColumnValue out;
	const char *error;

	check(convert(MIRROR_BOOLEAN, true, STR_LIT("\"true\""), &out, &error) == VALUE_OK && out.boolean &&
		  convert(MIRROR_BOOLEAN, false, STR_LIT("true"), &out, &error) == VALUE_OK && out.boolean, "true is true");
	check(convert(MIRROR_BOOLEAN, true, STR_LIT("\"false\""), &out, &error) == VALUE_OK && !out.boolean && !out.is_null &&
		  convert(MIRROR_BOOLEAN, false, STR_LIT("false"), &out, &error) == VALUE_OK && !out.boolean && !out.is_null, "false is false");
	check(H(BOOLEAN, "\"TRUE\"", "true") && H(BOOLEAN, "\"No\"", "false") && A(BOOLEAN, "1", "true"), "historic spellings are taken");
	check(H(BOOLEAN, "\"maybe\"", "!boolean") && A(BOOLEAN, "2", "!boolean") && A(BOOLEAN, "[true]", "!list"), "others are not");
}

static void
test_dates(void)
{
	check(H(DATE, "\"2024-02-29\"", "2024-02-29") && number_is(MIRROR_DATE, "\"1970-01-02\"", 1) && number_is(MIRROR_DATE, "\"1969-12-31\"", -1),
		  "a date is a date");
	check(H(DATE, "\"1706659200000\"", "2024-01-31") && A(DATE, "1706659200000", "2024-01-31") && H(DATE, "\"-86400000\"", "1969-12-31"),
		  "epoch milliseconds are a date");
	check(H(DATE, "\"2024-01-31T23:30:00Z\"", "2024-01-31") && H(DATE, "\"2024-01-31T23:30:00-01:00\"", "2024-02-01"), "a time is its day in UTC");
	check(H(DATE, "\"2023-02-29\"", "!date") && H(DATE, "\"1900-02-29\"", "!date") && H(DATE, "\"2024-13-01\"", "!date") &&
		  H(DATE, "\"2024-00-01\"", "!date") && H(DATE, "\"2024-04-31\"", "!date") && H(DATE, "\"2024-1-1\"", "!date") &&
		  H(DATE, "\"31.01.2024\"", "!date") && H(DATE, "\"2024-01-31x\"", "!date") && H(DATE, "\"today\"", "!date"), "days that are none do not fit");
	check(H(DATE, "\"2000-02-29\"", "2000-02-29") && H(DATE, "\"0000-01-01\"", "0001-01-01 BC") && H(DATE, "\"-004713-11-24\"", "4714-11-24 BC") &&
		  H(DATE, "\"-004713-11-23\"", "!date") && H(DATE, "\"+275760-09-13\"", "275760-09-13"), "far dates fit as far as PostgreSQL's");
}

static void
test_times(void)
{
	int64_t		us;

	check(H(TIMESTAMPTZ, "\"2024-01-31T10:00:00.123Z\"", "2024-01-31 10:00:00.123000+00") &&
		  number_is(MIRROR_TIMESTAMPTZ, "\"2024-01-31T10:00:00.123Z\"", INT64_C(1706695200123000)), "ISO 8601 is a time");
	check(H(TIMESTAMPTZ, "\"2024-01-31T10:00Z\"", "2024-01-31 10:00:00.000000+00") && number_is(MIRROR_TIMESTAMPTZ, "\"1970-01-01 01:00:00+0100\"", 0) &&
		  number_is(MIRROR_TIMESTAMPTZ, "\"1970-01-01T01:30:00+01:30\"", 0) && number_is(MIRROR_TIMESTAMPTZ, "\"1969-12-31T23:00:00-01\"", 0),
		  "zones are applied");
	check(number_is(MIRROR_TIMESTAMPTZ, "\"1970-01-01T00:00:00.1234565Z\"", 123457) && number_is(MIRROR_TIMESTAMPTZ, "\"1970-01-01T00:00:00.9999999Z\"", 1000000) &&
		  number_is(MIRROR_TIMESTAMPTZ, "\"1970-01-01T00:00:00.12345649Z\"", 123456), "fractions are rounded to microseconds");
	check(H(TIMESTAMPTZ, "\"1706695200123\"", "2024-01-31 10:00:00.123000+00") && A(TIMESTAMPTZ, "0", "1970-01-01 00:00:00.000000+00") &&
		  number_is(MIRROR_TIMESTAMPTZ, "-1", -1000), "epoch milliseconds are a time");
	check(H(TIMESTAMPTZ, "\"2024-01-31\"", "2024-01-31 00:00:00.000000+00"), "a day is its midnight in UTC");
	check(H(TIMESTAMPTZ, "\"2024-01-31T10:00:00\"", "!time") && H(TIMESTAMPTZ, "\"2024-01-31T24:00:00Z\"", "!time") &&
		  H(TIMESTAMPTZ, "\"2024-01-31T10:60:00Z\"", "!time") && H(TIMESTAMPTZ, "\"2024-01-31T10:00:60Z\"", "!time") &&
		  H(TIMESTAMPTZ, "\"2024-01-31T10:00:00.Z\"", "!time") && H(TIMESTAMPTZ, "\"2024-01-31T10:00:00Zx\"", "!time") &&
		  H(TIMESTAMPTZ, "\"2024-01-31T10:00:00+16:00\"", "!time") && H(TIMESTAMPTZ, "\"1706695200123.5\"", "!time") &&
		  H(TIMESTAMPTZ, "\"now\"", "!time"), "times that are none, or have no zone, do not fit");
	check(A(TIMESTAMPTZ, "9999999999999999", "!time") && A(TIMESTAMPTZ, "-210866803200000", "4714-11-24 00:00:00.000000+00 BC") &&
		  A(TIMESTAMPTZ, "-210866803200001", "!time") && H(TIMESTAMPTZ, "\"+294247-01-11T00:00:00Z\"", "!time") &&
		  H(TIMESTAMPTZ, "\"+275760-09-13T00:00:00Z\"", "275760-09-13 00:00:00.000000+00") &&
		  H(TIMESTAMPTZ, "\"-004713-11-24T00:00:00+00:01\"", "!time"), "far times fit as far as PostgreSQL's");
	check(value_parse_time(STR_LIT(" 2024-01-31T10:00:00Z "), &us) && us == INT64_C(1706695200000000) && !value_parse_time(STR_LIT("2024-01-31"), &us) &&
		  !value_parse_time(STR_NULL, &us) && !value_parse_time(STR_LIT(""), &us), "value_parse_time wants a whole time");
}

static void
test_lists(void)
{
	check(H(TEXT_ARRAY, "\"a;b c\"", "{\"a\",\"b c\"}") && H(TEXT_ARRAY, "\";a;;b;\"", "{\"a\",\"b\"}") && H(TEXT_ARRAY, "\";\"", "{}"),
		  "a string is split at semicolons");
	check(A(TEXT_ARRAY, "[\"a\",null,1.5,true,\"\"]", "{\"a\",NULL,\"1.5\",\"true\",\"\"}") && A(TEXT_ARRAY, "[]", "{}"), "a list of scalars fits, with nulls");
	check(A(TEXT_ARRAY, "[\"NULL\",\"{,}\",\"\\\"\\\\\"]", "{\"NULL\",\"{,}\",\"\\\"\\\\\"}"), "elements are quoted");
	check(A(TEXT_ARRAY, "[{\"id\":\"recA\",\"x\":1}]", "{\"recA\"}"), "a linked record that comes as an object is its id");
	check(A(TEXT_ARRAY, "[[1]]", "!list of texts") && A(TEXT_ARRAY, "[{\"a\":1}]", "!list of texts") && A(TEXT_ARRAY, "[\"a\\u0000\"]", "!list of texts") &&
		  A(TEXT_ARRAY, "{\"error\":\"#ERROR!\"}", "!could not compute") && H(TEXT_ARRAY, "\"a;\\u0000\"", "!U+0000"), "other lists do not");
	check(A(TEXT_ARRAY, "17", "{\"17\"}"), "a scalar is a list of one");
}

static void
test_jsonb(void)
{
	check(A(JSONB, "{\"a\": [1]}", "{\"a\": [1]}") && A(JSONB, "[]", "[]") && A(JSONB, "1.50", "1.50") && A(JSONB, "true", "true"), "JSON stays as it is");
	check(A(JSONB, "{\"error\":\"#ERROR!\"}", "{\"error\":\"#ERROR!\"}"), "jsonb keeps errors and special values");
	check(A(JSONB, "\"123\"", "\"123\"") && A(JSONB, "\"a\\\"\\n\\u0001\"", "\"a\\\"\\n\\u0001\""), "Airtable's string is a string");
	check(H(JSONB, "\"{\\\"a\\\":1}\"", "{\"a\":1}") && H(JSONB, "\"nope\"", "\"nope\""), "HubSpot's string is the JSON in it, else a string");
	check(A(JSONB, "[\"\\u0000\"]", "!jsonb") && A(JSONB, "{\"a\\u0000\":1}", "!jsonb") && A(JSONB, "\"\\u0000\"", "!jsonb"), "U+0000 does not fit jsonb");
	check(A(JSONB, "[1e200000]", "!jsonb") && A(JSONB, "[1e-20000]", "!jsonb"), "numbers beyond numeric do not fit jsonb");
}

static bool
parse_type(char *line, MirrorType *type, char **rest)
{
	for (MirrorType t = MIRROR_TEXT; t <= MIRROR_BIGINT; t++)
	{
		static const char *const names[] = {"text", "numeric", "boolean", "date", "timestamptz", "text[]", "jsonb", "integer", "bigint"};
		size_t		n = strlen(names[t]);

		if (strncmp(line, names[t], n) == 0 && line[n] == ' ')
		{
			*type = t;
			*rest = line + n + 1;
			return true;
		}
	}
	return false;
}

static int
check_stdin(void)
{
	char	   *line = NULL;
	size_t		cap = 0;
	ssize_t		n;

	while ((n = getline(&line, &cap, stdin)) > 0)
	{
		MirrorType	type;
		char	   *rest;
		ColumnValue out;
		const char *error;
		ValueResult result;

		arena = arena_create();
		line[n - 1] = '\0';
		if (!parse_type(line, &type, &rest))
			return 2;
		result = convert(type, rest[0] == 'h', str_of(rest + 2), &out, &error);
		if (result == VALUE_MISFIT)
			printf("misfit %s\n", error);
		else if (out.is_null)
			printf("null\n");
		else
		{
			Buf			buf;

			buf_init(&buf, arena);
			buf_json_string(&buf, value_text(arena, type, &out));
			printf("text %s %" PRId64 "\n", buf_finish(&buf).p, out.number);
		}
		arena_destroy(arena);
	}
	free(line);
	return 0;
}

int
main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "--check") == 0)
		return check_stdin();
	arena = arena_create();
	test_nothing();
	test_text();
	test_numeric();
	test_integers();
	test_boolean();
	test_dates();
	test_times();
	test_lists();
	test_jsonb();
	arena_destroy(arena);
	printf("%d passed, %d failed\n", passed, failed);
	return failed > 0;
}
