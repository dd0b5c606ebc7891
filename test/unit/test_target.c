// SRC: src/target.c src/arena.c
/* test_target.c - URL policy: what is the API's, what is ours, and what is refused. */
#include "../../src/target.h"

#include <stdio.h>

static int	passed;
static int	failed;

static void
check(bool ok, const char *name)
{
	printf("%s - %s\n", ok ? "ok" : "not ok", name);
	ok ? passed++ : failed++;
}

static Target
parse(Arena *arena, const char *raw)
{
	Target		target;

	if (!target_parse(arena, str_of(raw), &target))
		printf("# out of memory\n");
	return target;
}

static void
check_api(const char *raw, const char *identifier, const char *host, const char *path, const char *query)
{
	Arena	   *arena = arena_create();
	Target		t = parse(arena, raw);
	char		name[300];

	snprintf(name, sizeof(name), "%s asks %s for %s", raw, host, path);
	check(t.kind == TARGET_API && str_is(t.identifier, identifier) && str_is(t.host, host) &&
		  str_is(t.path, path) && (query ? str_is(t.query, query) && t.query.p : t.query.p == NULL), name);
	arena_destroy(arena);
}

static void
check_bad(const char *raw, const char *why)
{
	Arena	   *arena = arena_create();
	Target		t = parse(arena, raw);
	char		name[300];

	snprintf(name, sizeof(name), "%.100s is refused: %s", raw, why);
	check(t.kind == TARGET_BAD && t.error && strstr(t.error, why), name);
	arena_destroy(arena);
}

static void
test_api_targets(void)
{
	check_api("/Jt3/api.hubapi.com/crm/v3/objects/contacts?limit=1", "Jt3", "api.hubapi.com",
			  "/crm/v3/objects/contacts", "limit=1");
	check_api("/Jt3/https://API.HubAPI.com/a", "Jt3", "api.hubapi.com", "/a", NULL);
	check_api("/Jt3/https:/api.hubapi.com/a", "Jt3", "api.hubapi.com", "/a", NULL);
	check_api("/Jt3/HTTP://api.hubapi.com/a", "Jt3", "api.hubapi.com", "/a", NULL);
	check_api("/Jt3/api.hubapi.com:443/a", "Jt3", "api.hubapi.com", "/a", NULL);
	check_api("/Jt3/api.hubapi.com:8443/a", "Jt3", "api.hubapi.com:8443", "/a", NULL);
	check_api("/Jt3/api.airtable.com/v0/app1/Product%2FInventory%20x/", "Jt3", "api.airtable.com",
			  "/v0/app1/Product%2FInventory%20x/", NULL);
	check_api("/Jt3/api.hubapi.com//a///b", "Jt3", "api.hubapi.com", "//a///b", NULL);
	check_api("/Jt3/api.hubapi.com/a?", "Jt3", "api.hubapi.com", "/a", "");
	check_api("/Jt3/api.hubapi.com/a?b=%2e%2e/../%00\\", "Jt3", "api.hubapi.com", "/a", "b=%2e%2e/../%00\\");
	check_api("/Jt3/api.hubapi.com", "Jt3", "api.hubapi.com", "", NULL);
	check_api("/Jt3/api.hubapi.com?a", "Jt3", "api.hubapi.com", "", "a");
	check_api("/Jt3/", "Jt3", "", "", NULL);
	check_api("/Jt3", "Jt3", "", "", NULL);
	check_api("/", "", "", "", NULL);
	check_api("//api.hubapi.com/a", "", "api.hubapi.com", "/a", NULL);
	check_api("/Jt3/https://", "Jt3", "", "", NULL);
	check_api("/healthz/", "healthz", "", "", NULL);
	check_api("/Jt3/api.hubapi.com/...", "Jt3", "api.hubapi.com", "/...", NULL);
	check_api("/Jt3/api.hubapi.com/a..b/.c/d./..;x", "Jt3", "api.hubapi.com", "/a..b/.c/d./..;x", NULL);
	check_api("/Jt3/api.hubapi.com/100%25", "Jt3", "api.hubapi.com", "/100%25", NULL);
	check_api("/Jt3/api.hubapi.com/\xc3\xa9", "Jt3", "api.hubapi.com", "/\xc3\xa9", NULL);
}

static void
test_refused_targets(void)
{
	check_bad("/x/h/..", "dot segment");
	check_bad("/x/h/./a", "dot segment");
	check_bad("/x/../h/a", "dot segment");
	check_bad("/x/h/%2e%2E/a", "dot segment");
	check_bad("/x/h/.%2e", "dot segment");
	check_bad("/x/h/%2e/a", "dot segment");
	check_bad("/x/h/a%2F..%2Fb", "dot segment");
	check_bad("/x/h/a%2f%2e%2e", "dot segment");
	check_bad("/x/h/%252e%252e/a", "dot segment");
	check_bad("/x/h/%25%32%65./a", "dot segment");
	check_bad("/x/h/%2525252e./a", "dot segment");
	check_bad("/x/h/a%255c../b", "dot segment");
	check_bad("/x/h/a%00b", "%00");
	check_bad("/x/h/a%0ab", "control");
	check_bad("/x/h/a%7Fb", "control");
	check_bad("/x/h/a\x01", "control");
	check_bad("/x/h/a b", "control");
	check_bad("/x/h/a?b\x01", "control character in the query");
	check_bad("/x/h/a\\b", "backslash");
	check_bad("/x/h/a%5Cb", "backslash");
	check_bad("/x/h/a%5", "malformed");
	check_bad("/x/h/%2", "malformed");
	check_bad("/x/h/%zz", "malformed");
	check_bad("/x/h/%", "malformed");
	check_bad("/x/h/a#b", "fragment");
	check_bad("http://evil/a", "slash");
	check_bad("*", "slash");
	check_bad("", "slash");
	check_bad("?a", "slash");
}

static void
test_own_pages(void)
{
	Arena	   *arena = arena_create();

	check(parse(arena, "/healthz").kind == TARGET_HEALTH, "/healthz is the health page");
	check(parse(arena, "/healthz?x=1").kind == TARGET_HEALTH, "/healthz with a query is the health page");
	check(parse(arena, "/metrics").kind == TARGET_METRICS, "/metrics is the metrics page");
	check(parse(arena, "/metricsx").kind == TARGET_API, "/metricsx is an identifier");
	arena_destroy(arena);
}

static void
test_decode(void)
{
	Arena	   *arena = arena_create();
	Str			out;

	check(target_decode(arena, STR_LIT("a%2Fb+c%C3%A9"), &out) && str_is(out, "a/b+c\xc3\xa9"),
		  "decoding touches %XX only");
	check(!target_decode(arena, STR_LIT("a%2"), &out), "a cut escape does not decode");
	check(!target_decode(arena, STR_LIT("%g0"), &out), "an escape of no hex digits does not decode");
	check(target_decode(arena, STR_LIT(""), &out) && out.p && out.n == 0, "nothing decodes to nothing");
	arena_destroy(arena);
}

static void
check_segments(const char *path, int want, const char *last, bool want_trailing)
{
	Str			segments[8];
	bool		trailing;
	int			n = target_segments(str_of(path), segments, 8, &trailing);
	char		name[200];

	snprintf(name, sizeof(name), "\"%s\" has %d segments%s", path, want, want_trailing ? " and a trailing slash" : "");
	check(n == want && trailing == want_trailing && (n == 0 || str_is(segments[n - 1], last)), name);
}

static void
test_segments(void)
{
	Str			one[1];
	bool		trailing;

	check_segments("/a/b%2Fc/", 2, "b%2Fc", true);
	check_segments("/a/b", 2, "b", false);
	check_segments("/a//b", 3, "b", false);
	check_segments("/a//", 2, "", true);
	check_segments("/", 0, NULL, false);
	check_segments("", 0, NULL, false);
	check_segments("/a", 1, "a", false);
	check(target_segments(STR_LIT("/a/b/c"), one, 1, &trailing) == 3 && str_is(one[0], "a"),
		  "segments beyond max are counted, not stored");
}

static void
test_query(void)
{
	Arena	   *arena = arena_create();
	Str			rest = STR_LIT("a=1&b&&c%5B%5D=x+y%26&=z&d=%zz");
	Str			key,
				value;

	check(target_query_next(arena, &rest, &key, &value) && str_is(key, "a") && str_is(value, "1"), "key=value");
	check(target_query_next(arena, &rest, &key, &value) && str_is(key, "b") && value.n == 0, "a key alone");
	check(target_query_next(arena, &rest, &key, &value) && str_is(key, "c[]") && str_is(value, "x y&"),
		  "escapes and plus are decoded");
	check(target_query_next(arena, &rest, &key, &value) && key.n == 0 && str_is(value, "z"), "an empty key");
	check(target_query_next(arena, &rest, &key, &value) && str_is(value, "%zz"), "a malformed escape stays");
	check(!target_query_next(arena, &rest, &key, &value), "the end");
	arena_destroy(arena);
}

static bool
escape_is_malformed(const char *at)
{
	return strspn(at + 1, "0123456789abcdef") < 2;
}

/* Paths are looked through in words: each byte, at each place, is judged as it is alone. */
static void
test_bytes(void)
{
	bool		all = true;

	for (int c = 1; c < 256; c++)
		for (int at = 4; at < 30; at++)
		{
			Arena	   *arena = arena_create();
			char		raw[] = "/Jt3/api.hubspot.com/zyxwvutszyxwvuts";
			bool		bad = c <= 0x20 || c == 0x7f || c == '\\' || c == '#' ||
				(c == '%' && escape_is_malformed(raw + at));

			raw[at] = (char) c;
			all = all && (parse(arena, raw).kind == TARGET_BAD) == bad;
			arena_destroy(arena);
		}
	check(all, "a byte that no path may have is refused wherever it stands");
	check_bad("/x/h/0123456789/.", "dot segment");
	check_bad("/x/h/0123456789/..", "dot segment");
	check_bad("/x/h/./0123456789", "dot segment");
	check_bad("/../x/h", "dot segment");
	check_bad("/.", "dot segment");
	check_api("/x/h/.a/..b/...", "x", "h", "/.a/..b/...", NULL);
}

int
main(void)
{
	test_bytes();
	test_api_targets();
	test_refused_targets();
	test_own_pages();
	test_decode();
	test_segments();
	test_query();
	printf("%d passed, %d failed\n", passed, failed);
	return failed > 0;
}
