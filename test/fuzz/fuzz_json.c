// SRC: src/json.c src/arena.c
/*
 * fuzz_json.c - libFuzzer target: the parser on any bytes, and the invariants of its tape.
 *
 * clang -g -O1 -fsanitize=fuzzer,address,undefined test/fuzz/fuzz_json.c src/json.c src/arena.c
 */
#include <stdlib.h>

#include "../../src/json.h"

#define MUST(x) do { if (!(x)) abort(); } while (0)

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_container(const JsonDoc *doc, uint32_t node)
{
	uint32_t	n = 0;

	for (uint32_t it = json_first(doc, node); it != JSON_NONE; it = json_next(doc, node, it))
	{
		MUST(it > node && it < doc->nodes[node].next);
		n++;
		if (doc->nodes[node].type == JSON_OBJECT)
		{
			MUST(doc->nodes[it - 1].type == JSON_STRING);
			/* looking every key up is quadratic */
			MUST(n > 100 || json_get_str(doc, node, json_key(doc, it)) != JSON_NONE);
		}
	}
	MUST(n == doc->nodes[node].count);
}

/* A raw slice parsed by itself is the same value. */
static void
check_raw(Arena *arena, const JsonDoc *doc, uint32_t node)
{
	JsonDoc		again;
	size_t		at;
	const char *text;

	MUST(json_parse(arena, doc->nodes[node].raw, &again, &at, &text) == JSON_OK);
	MUST(again.count == doc->nodes[node].next - node);
	MUST(again.nodes[0].type == doc->nodes[node].type);
	MUST(str_eq(again.nodes[0].text, doc->nodes[node].text));
}

/* What we escape, we read back. */
static void
check_escape(Arena *arena, Str s)
{
	Buf			buf;
	JsonDoc		again;
	size_t		at;
	const char *text;
	Str			spelled;

	buf_init(&buf, arena);
	buf_json_string(&buf, s);
	spelled = buf_finish(&buf);
	MUST(json_parse(arena, spelled, &again, &at, &text) == JSON_OK);
	MUST(str_eq(again.nodes[0].text, s));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Arena	   *arena = arena_create();
	JsonDoc		doc;
	size_t		at;
	const char *text;
	JsonResult	result = json_parse(arena, (Str) {(const char *) data, size}, &doc, &at, &text);

	MUST(result == JSON_OK || (result == JSON_INVALID && at <= size && text != NULL && doc.count == 0));
	if (result == JSON_OK)
		MUST(doc.nodes[0].next == doc.count);
	for (uint32_t i = 0; i < doc.count; i++)
	{
		if (doc.nodes[i].type >= JSON_ARRAY)
			check_container(&doc, i);
		if (i < 50)
			check_raw(arena, &doc, i);
		if (i < 50 && doc.nodes[i].type == JSON_STRING)
			check_escape(arena, doc.nodes[i].text);
	}
	arena_destroy(arena);
	return 0;
}
