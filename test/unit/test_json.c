// SRC: src/json.c src/arena.c
/*
 * test_json.c - the JSON parser: what it takes, what it refuses, what it gives back.
 *
 * With arguments it is a tool for differential tests: `test_json --check` reads length-prefixed
 * documents ("<n>\n<n bytes>") from stdin and prints for each "0" or "1 <hash of the values>".
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../../src/json.h"

static int	passed;
static int	failed;

static void
check(bool ok, const char *what)
{
	printf("%s - %s\n", ok ? "ok" : "not ok", what);
	ok ? passed++ : failed++;
}

static JsonResult
parse(Arena *arena, const char *p, size_t n, JsonDoc *doc)
{
	size_t		at;
	const char *text;
	char	   *exact = malloc(n ? n : 1);	/* so that ASan sees one byte read too far */
	JsonResult	result;

	memcpy(exact, p, n);
	result = json_parse(arena, (Str) {exact, n}, doc, &at, &text);
	if (result == JSON_INVALID && (text == NULL || at > n))
		abort();
	/* keep what nodes point into */
	if (result == JSON_OK)
		for (uint32_t i = 0; i < doc->count; i++)
		{
			JsonNode   *node = &doc->nodes[i];

			if (node->raw.p < exact || node->raw.p + node->raw.n > exact + n)
				abort();
			if (node->text.p >= exact && node->text.p <= exact + n)
				node->text = arena_str(arena, node->text.p, node->text.n);
			node->raw = arena_str(arena, node->raw.p, node->raw.n);
		}
	free(exact);
	return result;
}

static bool
valid_n(const char *p, size_t n)
{
	Arena	   *arena = arena_create();
	JsonDoc		doc;
	bool		ok = parse(arena, p, n, &doc) == JSON_OK;

	arena_destroy(arena);
	return ok;
}

static bool
valid(const char *s)
{
	return valid_n(s, strlen(s));
}

static bool
all(const char *const *docs, bool want)
{
	bool		ok = true;

	for (; *docs != NULL; docs++)
		if (valid(*docs) != want)
		{
			printf("# wrong about: %s\n", *docs);
			ok = false;
		}
	return ok;
}

static void
test_grammar(void)
{
	static const char *const good[] = {
		"null", " true\n", "false", "0", "-0", "1.5", "-1e5", "1E+5", "1e-05", "[]", "{}", "[ ]", "{ }", "\"\"",
		"[1,2]", "[[],{}]", "{\"a\":1,\"a\":2}", "\t[\r\n]", "{\"\":null}", "123456789012345678901234567890.5e999", NULL,
	};
	static const char *const bad[] = {
		"", " ", "nul", "nulll", "True", "[", "]", "{", "}", "[1,]", "[,1]", "{,}", "{\"a\"}", "{\"a\":}", "{\"a\":1,}",
		"{a:1}", "{1:1}", "[1 2]", "{\"a\" 1}", "{\"a\":1 \"b\":2}", "1 2", "[1}", "{\"a\":1]", "'a'", "[1]x", "\v1",
		"NaN", "Infinity", "-Infinity", "-", "/**/1", "\xEF\xBB\xBF" "1", "[\"a\":1]", "{\"a\",1}", NULL,
	};
	static const char *const bad_numbers[] = {
		"01", "-01", "00", "+1", ".5", "1.", "1.e5", "1e", "1e+", "0x1", "1_0", "--1", "-a", "1.5.5", "1e5e5", NULL,
	};

	check(all(good, true), "takes every form of RFC 8259");
	check(all(bad, false), "refuses malformed documents");
	check(all(bad_numbers, false), "refuses malformed numbers");
}

static void
test_strings(void)
{
	static const char *const good[] = {
		"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\"", "\"\\ud83d\\ude00\"", "\"\\uD83D\\uDE00\"", "\"\\u0000\"", "\"\\\\\"",
		"\"\xC3\xA9\"", "\"\xE2\x82\xAC\"", "\"\xF0\x9F\x98\x80\"", "\"\xEE\x80\x80\"", "\"\xF4\x8F\xBF\xBF\"", "\"\x7f\"",
		"\"\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xF0\x90\x80\x80\"", NULL,
	};
	static const char *const bad[] = {
		"\"", "\"a", "\"\\", "\"\\\"", "\"\\a\"", "\"\\u\"", "\"\\u12\"", "\"\\u12g4\"", "\"\\U0041\"", "\"\n\"", "\"a\tb\"",
		"\"\\\n\"", "\"\\x41\"", "\"abcdefg\x1f\"", "\"\\u 123\"", "\"\\u+123\"", NULL,
	};
	static const char *const surrogates[] = {
		"\"\\ud83d\"", "\"\\ud83dx\"", "\"\\ud83d\\n\"", "\"\\ud83d\\u0041\"", "\"\\ud83d\\ud83d\"", "\"\\ude00\"",
		"\"\\ude00\\ud83d\"", "\"\\ud83d\\ude0\"", "\"\\ud83d\\\"", NULL,
	};
	static const char *const utf8[] = {
		"\"\x80\"", "\"\xBF\"", "\"\xC0\x80\"", "\"\xC1\xBF\"", "\"\xC3\"", "\"\xC3(\"", "\"\xE0\x80\x80\"", "\"\xE0\x9F\xBF\"",
		"\"\xE2\x82\"", "\"\xE2\x28\xA1\"", "\"\xED\xA0\x80\"", "\"\xED\xBF\xBF\"", "\"\xF0\x80\x80\x80\"",
		"\"\xF0\x8F\xBF\xBF\"", "\"\xF4\x90\x80\x80\"", "\"\xF5\x80\x80\x80\"", "\"\xFF\"", "\"\xFE\"", "\"\xF0\x9F\x98\"", "\"\xC3", NULL,
	};

	check(all(good, true), "takes every form of string");
	check(all(bad, false), "refuses malformed strings");
	check(all(surrogates, false), "refuses surrogates that are not a pair");
	check(all(utf8, false), "refuses invalid UTF-8");
	check(!valid_n("\"a\0b\"", 5), "refuses a raw NUL in a string");
	check(!valid_n("1\0", 2), "refuses a NUL behind the document");
}

/* Every kind of byte at every offset of the eight-byte window. */
static void
test_windows(void)
{
	bool		ok = true;

	for (int at = 0; at < 24; at++)
		for (int c = 0; c < 256; c++)
		{
			char		doc[32];
			bool		want = c >= 0x20 && c < 0x80 && c != '"' && c != '\\';

			memset(doc, 'x', sizeof(doc));
			doc[0] = doc[27] = '"';
			doc[1 + at] = (char) c;
			if (c == '\\')
				continue;
			if (valid_n(doc, 28) != want)
				ok = false;
		}
	check(ok, "sees a special byte at any offset");
}

static void
test_values(void)
{
	static const char text[] =
		" {\"id\":\"51\",\"properties\":{\"name\":\"A\\u00e9\\n\\\"\\ud83d\\ude00\",\"n\":-1.50e3},"
		"\"list\":[1,[2,3],{\"a\":null},true],\"id\":\"52\",\"paging\":{\"next\":{\"after\":\"x\"}},\"e\":[],\"o\":{}} ";
	Arena	   *arena = arena_create();
	JsonDoc		doc;
	uint32_t	list,
				it;
	int			n = 0;

	check(parse(arena, text, sizeof(text) - 1, &doc) == JSON_OK, "parses a record");
	check(str_is(json_text_at(&doc, 0, "id"), "52"), "with duplicate keys the last wins");
	check(str_is(json_text(&doc, json_path(&doc, 0, "paging.next.after")), "x"), "finds a dotted path");
	check(json_path(&doc, 0, "paging.prev.after") == JSON_NONE && json_path(&doc, 0, "id.x") == JSON_NONE,
		  "a path that is not there is JSON_NONE");
	check(str_is(json_text(&doc, json_path(&doc, 0, "properties.name")), "A\xC3\xA9\n\"\xF0\x9F\x98\x80"), "unescapes strings");
	check(str_is(json_text(&doc, json_path(&doc, 0, "properties.n")), "-1.50e3"), "keeps a number's literal");
	list = json_get(&doc, 0, "list");
	check(json_type(&doc, list) == JSON_ARRAY && doc.nodes[list].count == 4, "counts an array's elements");
	check(str_is(doc.nodes[list].raw, "[1,[2,3],{\"a\":null},true]"), "keeps the raw slice of a container");
	check(str_is(doc.nodes[list].text, "[1,[2,3],{\"a\":null},true]"), "a container's text is its raw slice");
	for (it = json_first(&doc, list); it != JSON_NONE; it = json_next(&doc, list, it))
		n++;
	check(n == 4, "iterates an array");
	check(json_is_true(&doc, doc.nodes[list].next - 1), "ends the array with its last element");
	n = 0;
	for (it = json_first(&doc, 0); it != JSON_NONE; it = json_next(&doc, 0, it))
		n += (int) json_key(&doc, it).n;
	check(n == 2 + 10 + 4 + 2 + 6 + 1 + 1 && doc.nodes[0].count == 7, "iterates an object's members with their keys");
	check(json_first(&doc, json_get(&doc, 0, "e")) == JSON_NONE && json_first(&doc, json_get(&doc, 0, "o")) == JSON_NONE &&
		  json_first(&doc, JSON_NONE) == JSON_NONE, "empty containers have nothing to iterate");
	check(json_get(&doc, list, "a") == JSON_NONE && json_get(&doc, JSON_NONE, "a") == JSON_NONE, "looking into what is no object finds nothing");
	check(json_text(&doc, list).p == NULL && json_text(&doc, JSON_NONE).p == NULL && json_type(&doc, JSON_NONE) == JSON_NULL,
		  "only strings and numbers have text");
	check(parse(arena, "\"a\\u0000b\"", 10, &doc) == JSON_OK && doc.nodes[0].text.n == 3 && doc.nodes[0].text.p[1] == 0,
		  "an escaped U+0000 is a NUL byte in the text");
	check(parse(arena, "\"\"", 2, &doc) == JSON_OK && doc.nodes[0].text.p != NULL && doc.nodes[0].text.n == 0,
		  "an empty string is not absent");
	arena_destroy(arena);
}

static void
test_depth(void)
{
	char		doc[2 * (JSON_MAX_DEPTH + 1)];
	bool		deepest;

	memset(doc, '[', JSON_MAX_DEPTH + 1);
	memset(doc + JSON_MAX_DEPTH + 1, ']', JSON_MAX_DEPTH + 1);
	deepest = valid_n(doc + 1, 2 * JSON_MAX_DEPTH);
	check(deepest, "takes JSON_MAX_DEPTH levels");
	check(!valid_n(doc, 2 * (JSON_MAX_DEPTH + 1)), "refuses one level more");
}

static void
test_error(void)
{
	Arena	   *arena = arena_create();
	JsonDoc		doc;
	size_t		at;
	const char *text;

	check(json_parse(arena, STR_LIT("{\"a\":tru}"), &doc, &at, &text) == JSON_INVALID && at == 5 && strcmp(text, "value expected") == 0,
		  "says where and what is wrong");
	check(doc.count == 0 && json_get(&doc, 0, "a") == JSON_NONE, "an invalid document has no nodes");
	check(json_parse(arena, STR_NULL, &doc, &at, &text) == JSON_INVALID, "an absent document is invalid");
	check(json_parse(arena, STR_LIT("[\"abc\\q\"]"), &doc, &at, &text) == JSON_INVALID && at == 5, "points at a bad escape");
	arena_destroy(arena);
}

static void
test_growth(void)
{
	size_t		n = 200001;
	char	   *doc = malloc(n);
	Arena	   *arena = arena_create();
	JsonDoc		parsed;

	for (size_t i = 0; i < n; i++)
		doc[i] = i % 2 ? '1' : ',';
	doc[0] = '[';
	doc[n - 1] = ']';
	check(parse(arena, doc, n, &parsed) == JSON_OK && parsed.nodes[0].count == 100000 && parsed.count == 100001,
		  "the node array grows");
	arena_destroy(arena);
	free(doc);
}

static uint64_t
hash_bytes(uint64_t h, const void *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		h = (h ^ ((const unsigned char *) p)[i]) * 1099511628211ULL;
	return h;
}

/* FNV-1a over the values in order; the Python side computes the same from its own parse. */
static uint64_t
hash_doc(const JsonDoc *doc)
{
	uint64_t	h = 14695981039346656037ULL;

	for (uint32_t i = 0; i < doc->count; i++)
	{
		JsonNode   *node = &doc->nodes[i];
		char		kind = "nft#\"[{"[node->type];

		h = hash_bytes(h, &kind, 1);
		if (node->type == JSON_NUMBER || node->type == JSON_STRING)
			h = hash_bytes(h, node->text.p, node->text.n);
		else if (node->type >= JSON_ARRAY)
			h = hash_bytes(h, &node->count, 4);
	}
	return h;
}

static int
check_stdin(void)
{
	size_t		n;

	while (scanf("%zu", &n) == 1 && getchar() == '\n')
	{
		char	   *doc = malloc(n ? n : 1);
		Arena	   *arena = arena_create();
		JsonDoc		parsed;

		if (fread(doc, 1, n, stdin) != n)
			return 1;
		if (parse(arena, doc, n, &parsed) == JSON_OK)
			printf("1 %016llx\n", (unsigned long long) hash_doc(&parsed));
		else
			printf("0\n");
		arena_destroy(arena);
		free(doc);
	}
	return 0;
}

int
main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "--check") == 0)
		return check_stdin();
	test_grammar();
	test_strings();
	test_windows();
	test_values();
	test_depth();
	test_error();
	test_growth();
	printf("%d passed, %d failed\n", passed, failed);
	return failed > 0;
}
