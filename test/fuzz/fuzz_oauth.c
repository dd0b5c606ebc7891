// SRC: src/oauth.c src/json.c src/arena.c
/*
 * fuzz_oauth.c - libFuzzer target: any credential and any answer of a token endpoint.  First byte:
 * which of the two, and whose; second: the status; the rest: the bytes.
 */
#include <stdlib.h>

#include "../../src/oauth.h"

#define MUST(x) do { if (!(x)) abort(); } while (0)

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const OauthEndpoint endpoints[] = {
	{.api = "A",.needs_secret = true},
	{.api = "B",.basic = true},
};

/* What goes into a header or a form must not be able to end it. */
static void
must_be_plain(Str s)
{
	for (size_t i = 0; i < s.n; i++)
		MUST(s.p[i] > ' ' && s.p[i] <= '~');
}

static void
try_credential(Arena *arena, const OauthEndpoint *endpoint, Str value)
{
	OauthCredential c;
	OauthRequest r;
	const char *error = NULL;

	if (!oauth_parse(arena, endpoint, value, &c, &error))
	{
		MUST(error != NULL);
		return;
	}
	MUST(c.client_id.n > 0 && c.refresh_token.n > 0 && (c.client_secret.n > 0 || !endpoint->needs_secret));
	MUST(oauth_request(arena, endpoint, &c, c.refresh_token, &r));
	must_be_plain(r.body);
	if (r.authorization.p != NULL)
		must_be_plain((Str) {r.authorization.p + 6, r.authorization.n - 6});
	MUST((r.authorization.p != NULL) == (endpoint->basic && c.client_secret.p != NULL));
}

static void
try_answer(Arena *arena, const OauthEndpoint *endpoint, int status, Str body)
{
	OauthAnswer a;

	oauth_answer(arena, endpoint, status, body, &a);
	MUST((a.verdict == OAUTH_GRANTED) == (a.access_token.p != NULL) && (a.error == NULL) == (a.verdict == OAUTH_GRANTED));
	must_be_plain(a.access_token);
	must_be_plain(a.refresh_token);
	MUST(a.verdict != OAUTH_GRANTED || (a.life_s >= 1 && a.life_s <= 315360000 && status / 100 == 2));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int statuses[] = {200, 201, 400, 401, 403, 404, 409, 429, 500};
	Arena	   *arena = arena_create();

	if (size >= 2)
	{
		const OauthEndpoint *endpoint = &endpoints[data[0] >> 1 & 1];
		Str			rest = {(const char *) data + 2, size - 2};

		if (data[0] & 1)
			try_credential(arena, endpoint, rest);
		else
			try_answer(arena, endpoint, statuses[data[1] % 9], rest);
	}
	arena_destroy(arena);
	return 0;
}
