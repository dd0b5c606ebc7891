// SRC: src/values.c src/decimal.c src/times.c src/json.c src/schema.c src/arena.c
/*
 * fuzz_values.c - libFuzzer target: any value in any type.  First byte: the type and whose value
 * it is; second: string or JSON; the rest: the value.
 */
#include <stdlib.h>

#include "../../src/values.h"

#define MUST(x) do { if (!(x)) abort(); } while (0)

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool
make_value(Arena *arena, const uint8_t *data, size_t size, bool string, FieldValue *value)
{
	JsonDoc		doc;
	size_t		at;
	const char *text;
	Str			input = {(const char *) data, size};

	if (string)
	{
		/* whatever bytes: UTF-8 was checked by the parser, and is not looked at again */
		value->type = JSON_STRING;
		value->text = input;
		return true;
	}
	if (json_parse(arena, input, &doc, &at, &text) != JSON_OK)
		return false;
	value->type = json_type(&doc, 0);
	value->text = value->type >= JSON_NUMBER ? doc.nodes[0].text : STR_NULL;
	return true;
}

static void
check_ok(Arena *arena, MirrorType type, const ColumnValue *out)
{
	Str			text;

	if (out->is_null)
		return;
	text = value_text(arena, type, out);
	MUST(text.p != NULL && text.p[text.n] == '\0' && strlen(text.p) == text.n);
	if (type == MIRROR_INTEGER)
		MUST(out->number >= INT32_MIN && out->number <= INT32_MAX);
	if (type == MIRROR_TEXT_ARRAY)
		MUST(text.p[0] == '{' && text.p[text.n - 1] == '}');
}

/* A time that we print is a time that we read, the same. */
static void
check_time(Arena *arena, const ColumnValue *out)
{
	Buf			buf;
	int64_t		us;
	Str			text = value_text(arena, MIRROR_TIMESTAMPTZ, out);

	/* beyond four digits PostgreSQL's spelling is not ISO's */
	if (text.n != 29)
		return;
	buf_init(&buf, arena);
	buf_add(&buf, text.p, 26);
	buf_char(&buf, 'Z');
	MUST(value_parse_time(buf_finish(&buf), &us) && us == out->number);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Arena	   *arena = arena_create();
	FieldValue	value = {.known = true};
	MirrorType	type;

	if (size >= 2)
	{
		type = (MirrorType) (data[0] % (MIRROR_BIGINT + 1));
		if (make_value(arena, data + 2, size - 2, data[1] % 2, &value))
		{
			ColumnValue out;
			const char *error;
			ValueResult result = value_convert(arena, type, &value, data[0] & 0x80, &out, &error);

			MUST(result == VALUE_OK || (result == VALUE_MISFIT && error != NULL));
			if (result == VALUE_OK)
				check_ok(arena, type, &out);
			if (result == VALUE_OK && type == MIRROR_TIMESTAMPTZ && !out.is_null)
				check_time(arena, &out);
		}
	}
	arena_destroy(arena);
	return 0;
}
