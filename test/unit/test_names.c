// SRC: src/names.c src/arena.c  LIBS: -lunistring
/* test_names.c - the naming rules of DESIGN.md section 3. */
#include <stdio.h>

#include "../../src/names.h"

static int	passed;
static int	failed;
static Arena *arena;

static void
check(bool ok, const char *what)
{
	printf("%s - %s\n", ok ? "ok" : "not ok", what);
	ok ? passed++ : failed++;
}

static bool
is(const char *api, const char *want)
{
	Str			got = name_snake(arena, str_of(api));
	bool		ok = str_is(got, want) && got.p[got.n] == '\0';

	if (!ok)
		printf("# \"%s\" became \"%.*s\", not \"%s\"\n", api, STR_FMT(got), want);
	return ok;
}

static void
test_words(void)
{
	check(is("Product Inventory", "product_inventory") && is("a - b", "a_b"), "words split at blanks and punctuation");
	check(is("firstName", "first_name") && is("aBC", "a_bc") && is("iPhone", "i_phone"), "words split from lower to upper case");
	check(is("HTTPServer", "http_server") && is("ABc", "a_bc") && is("HTTP", "http"), "an upper case run ends before its last letter");
	check(is("address2Line", "address2line") && is("Line 2", "line_2") && is("q3A", "q3a"), "a digit does not split words");
	check(is("hs_object_id", "hs_object_id") && is("num__c", "num_c") && is("_x_", "x"), "underscores are punctuation");
	check(is("Price (\xE2\x82\xAC)", "price") && is("100%", "_100") && is("a/b\\c\"d'e", "a_b_c_d_e"), "punctuation goes");
	check(is("2nd Name", "_2nd_name") && is("\xF0\x9F\x98\x80 2", "_2") && is("x2", "x2"), "a leading digit gets _ before it");
	check(is("", "_") && is("\xF0\x9F\x98\x80", "_") && is("--", "_"), "nothing left is _");
}

static void
test_unicode(void)
{
	check(is("\xC3\x89t\xC3\xA9", "\xC3\xA9t\xC3\xA9"), "letters beyond ASCII stay, in lower case");
	check(is("Stra\xC3\x9F" "e", "stra\xC3\x9F" "e") && is("\xE9\xA1\xBE\xE5\xAE\xA2", "\xE9\xA1\xBE\xE5\xAE\xA2"), "scripts without case stay");
	check(is("\xD0\xB8\xD0\x9C\xD1\x8F", "\xD0\xB8_\xD0\xBC\xD1\x8F"), "case splits words beyond ASCII too");
	check(is("E\xCC\x81t", "e\xCC\x81t") && is("e\xCC\x81T", "e\xCC\x81_t"), "an accent belongs to its letter");
	check(is("\xCC\x81 x", "x"), "an accent on nothing goes");
	check(is("\xE2\x9D\xA4\xEF\xB8\x8F Love", "love") && is("1\xEF\xB8\x8F\xE2\x83\xA3 One", "_1_one"), "emoji go with their selectors and keycaps");
	check(is("\xF0\x9F\x91\xA8\xE2\x80\x8D\xF0\x9F\x91\xA9 Fam\xF0\x9F\x87\xA9\xF0\x9F\x87\xAA", "fam"), "joined emoji and flags go");
	check(is("a\xFF" "b", "a_b") && is("a\xE2\x82", "a") && is("\xC3", "_"), "bytes that are not UTF-8 end a word");
	check(is("\xD9\xA3 x", "_\xD9\xA3_x"), "digits of other scripts are digits");
}

static void
test_length(void)
{
	char		long_name[201];
	Str			got,
				other;

	memset(long_name, 'a', 200);
	long_name[63] = '\0';
	check(is(long_name, long_name), "63 bytes stay");
	long_name[63] = 'a';
	long_name[64] = '\0';
	got = name_snake(arena, str_of(long_name));
	check(got.n == 63 && memcmp(got.p, long_name, 54) == 0 && got.p[54] == '_', "64 bytes keep 54, _ and a hash");
	check(strspn(got.p + 55, "0123456789abcdef") == 8, "the hash is 8 hexadecimal digits");
	check(str_is(got, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa_d96f0f85"), "the hash is FNV-1a and stays so for ever");
	long_name[63] = 'b';
	other = name_snake(arena, str_of(long_name));
	check(!str_eq(got, other) && memcmp(got.p, other.p, 55) == 0, "the hash is of the whole name");
	for (int i = 0; i < 100; i++)
		memcpy(long_name + 2 * i, "\xC3\xA9", 2);
	memmove(long_name + 1, long_name, 199);
	long_name[0] = 'x';
	long_name[199] = '\0';
	got = name_snake(arena, str_of(long_name));
	check(got.n == 62 && got.p[53] == '_', "the cut is at a character");
}

static const char *const *taken_names;

static bool
taken(void *cls, const char *name)
{
	(*(int *) cls)++;
	for (const char *const *t = taken_names; *t != NULL; t++)
		if (strcmp(*t, name) == 0)
			return true;
	return false;
}

static bool
unique_is(const char *name, const char *want)
{
	int			calls = 0;
	Str			got = name_unique(arena, str_of(name), taken, &calls);

	return str_is(got, want) && got.p[got.n] == '\0' && calls > 0;
}

static void
test_unique(void)
{
	static const char *const names[] = {
		"id", "x", "x_", "x_2",
		"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "ccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc", NULL,
	};
	int			calls = 0;
	Str			got;

	taken_names = names;
	check(unique_is("free", "free"), "a free name stays");
	check(unique_is("id", "id_"), "the first collision gets _");
	check(unique_is("x", "x_3"), "the next ones get _2, _3");
	got = name_unique(arena, str_of(names[4]), taken, &calls);
	check(got.n == 63 && memcmp(got.p, "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb_", 54) == 0 && got.p[62] == '_',
		  "a suffix that does not fit shortens the name");
	got = name_unique(arena, str_of(names[5]), taken, &calls);
	check(got.n == 62 && got.p[61] == '_', "a suffix that fits does not");
}

int
main(void)
{
	arena = arena_create();
	test_words();
	test_unicode();
	test_length();
	test_unique();
	arena_destroy(arena);
	printf("%d passed, %d failed\n", passed, failed);
	return failed > 0;
}
