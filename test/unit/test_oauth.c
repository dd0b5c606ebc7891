// SRC: src/oauth.c src/json.c src/arena.c  LIBS:
/*
 * test_oauth.c - credentials as users give them, what is sent to a token endpoint, what its answers
 * mean, and that no message shows a secret.
 */
#include "oauth.h"

#include <stdio.h>
#include <stdlib.h>

static int	passed;
static int	failed;
static Arena *arena;

static const OauthEndpoint form = {.api = "HubSpot",.needs_secret = true};
static const OauthEndpoint basic = {.api = "Airtable",.basic = true};

static void
check(bool ok, const char *sentence)
{
	printf("%s - %s\n", ok ? "ok" : "not ok", sentence);
	ok ? passed++ : failed++;
}

static bool
parses(const OauthEndpoint *endpoint, const char *json, OauthCredential *c)
{
	const char *error;

	return oauth_parse(arena, endpoint, str_of(json), c, &error);
}

static bool
refuses(const OauthEndpoint *endpoint, const char *json, const char *why)
{
	OauthCredential c;
	const char *error = NULL;

	return !oauth_parse(arena, endpoint, str_of(json), &c, &error) && strstr(error, why) != NULL && strstr(error, "s3cret") == NULL;
}

static void
check_credentials(void)
{
	OauthCredential c;
	char		big[10000];

	check(oauth_is(STR_LIT("{}")) && !oauth_is(STR_LIT("pat-x")) && !oauth_is(STR_LIT("")), "an object is not a token");
	check(parses(&form, "{ \"client_id\":\"a\",\n\"client_secret\":\"b\\u002d\",\"refresh_token\":\"c\", \"scope\": [1]}", &c) &&
		  str_is(c.client_id, "a") && str_is(c.client_secret, "b-") && str_is(c.refresh_token, "c"), "all three, and more that is left alone");
	check(parses(&basic, "{\"client_id\":\"a\",\"client_secret\":null,\"refresh_token\":\"c\"}", &c) && c.client_secret.p == NULL,
		  "a public client has no secret");
	check(refuses(&form, "{\"client_id\":\"a\",\"refresh_token\":\"s3cret\"}", "client_secret"), "where one is needed it is missed");
	check(refuses(&form, "{\"client_secret\":\"s3cret\",\"refresh_token\":\"c\"}", "client_id"), "so is the id");
	check(refuses(&basic, "{\"client_id\":\"a\",\"client_secret\":\"s3cret\"}", "refresh_token"), "so is the refresh token");
	check(refuses(&basic, "{\"client_id\":\"a\",\"client_secret\":7,\"refresh_token\":\"c\"}", "not a secret"), "a number is no secret");
	check(refuses(&basic, "{\"client_id\":\"a\",\"client_secret\":\"\",\"refresh_token\":\"c\"}", "not a secret"), "nor is nothing");
	check(refuses(&basic, "{\"client_id\":\"a:b\",\"client_secret\":\"c\",\"refresh_token\":\"c\"}", "colon"), "an id with a colon would end early in Basic");
	check(refuses(&basic, "{\"client_id\":\"a\",\"refresh_token\":\"s3cret\\r\\n\"}", "refresh_token"), "a line end is refused");
	check(refuses(&basic, "{\"client_id\":\"a\",\"refresh_token\":\"s3cret\\u0000\"}", "refresh_token"), "so is a NUL");
	check(refuses(&basic, "{\"client_id\":\"a\",\"refresh_token\":\"s3cret\"", "not a JSON object"), "half an object is refused");
	check(refuses(&basic, "[\"s3cret\"]", "not a JSON object"), "and a list");
	snprintf(big, sizeof(big), "{\"client_id\":\"a\",\"refresh_token\":\"%09000d\"}", 0);
	check(refuses(&basic, big, "refresh_token"), "and 9 KB of it");
}

static bool
asks(const OauthEndpoint *endpoint, Str secret, const char *body, const char *authorization)
{
	OauthCredential c = {STR_LIT("id/1"), secret, STR_LIT("old")};
	OauthRequest r;

	return oauth_request(arena, endpoint, &c, STR_LIT("r+1 &="), &r) && str_is(r.body, body) &&
		(authorization ? str_is(r.authorization, authorization) : r.authorization.p == NULL);
}

static void
check_requests(void)
{
	check(asks(&form, STR_LIT("s%"), "grant_type=refresh_token&client_id=id%2F1&client_secret=s%25&refresh_token=r%2B1%20%26%3D", NULL),
		  "HubSpot's has everything in the form");
	check(asks(&basic, STR_LIT("s"), "grant_type=refresh_token&refresh_token=r%2B1%20%26%3D", "Basic aWQvMTpz"), "Airtable's has a header for the client");
	check(asks(&basic, STR_LIT("se"), "grant_type=refresh_token&refresh_token=r%2B1%20%26%3D", "Basic aWQvMTpzZQ=="), "padded by two");
	check(asks(&basic, STR_LIT("sec~"), "grant_type=refresh_token&refresh_token=r%2B1%20%26%3D", "Basic aWQvMTpzZWN+"), "or not at all");
	check(asks(&basic, STR_NULL, "grant_type=refresh_token&client_id=id%2F1&refresh_token=r%2B1%20%26%3D", NULL), "and none without a secret");
}

static OauthAnswer
answer(int status, const char *body)
{
	OauthAnswer a;

	oauth_answer(arena, &basic, status, str_of(body), &a);
	return a;
}

static bool
fails(int status, const char *body, OauthVerdict verdict, const char *words)
{
	OauthAnswer a = answer(status, body);

	if (a.verdict == verdict && a.access_token.p == NULL && a.error != NULL && strstr(a.error, words) != NULL && strstr(a.error, "s3cret") == NULL)
		return true;
	printf("# %d %s\n", a.verdict, a.error ? a.error : "(no words)");
	return false;
}

static void
check_answers(void)
{
	OauthAnswer a = answer(200, "{\"access_token\":\"x\",\"refresh_token\":\"y\",\"expires_in\":3600}");

	check(a.verdict == OAUTH_GRANTED && str_is(a.access_token, "x") && str_is(a.refresh_token, "y") && a.life_s == 3600 && a.error == NULL, "a grant");
	a = answer(200, "{\"access_token\":\"x\"}");
	check(a.verdict == OAUTH_GRANTED && a.refresh_token.p == NULL && a.life_s == OAUTH_DEFAULT_LIFE_S, "a short one: the refresh token stays, a usual life");
	check(answer(200, "{\"access_token\":\"x\",\"expires_in\":0}").life_s == 1 && answer(200, "{\"access_token\":\"x\",\"expires_in\":-5}").life_s == 1,
		  "a life is at least a second");
	check(answer(200, "{\"access_token\":\"x\",\"expires_in\":99999999999999999999999}").life_s == INT64_C(315360000), "and at most ten years");
	check(fails(200, "{\"access_token\":\"s3cret\\r\\nX: y\"}", OAUTH_LATER, "without an access token"), "a token that would make a header is none");
	check(fails(200, "s3cret", OAUTH_LATER, "without an access token") && fails(204, "", OAUTH_LATER, "without"), "no JSON, no token");
	check(fails(400, "{\"error\":\"invalid_grant\",\"error_description\":\"s3cret\"}", OAUTH_REFUSED, "Airtable refused the refresh token (400 invalid_grant)"),
		  "a dead refresh token");
	check(fails(401, "{\"error\":\"invalid_client\"}", OAUTH_REFUSED, "refused the client (401 invalid_client)"), "a wrong client");
	check(fails(401, "", OAUTH_REFUSED, "refused the client (401)") && fails(400, "{\"error\":{\"type\":\"X_Y\"}}", OAUTH_REFUSED, "400 X_Y"), "other envelopes");
	check(fails(400, "{\"status\":\"BAD_REFRESH_TOKEN\",\"message\":\"s3cret\"}", OAUTH_REFUSED, "BAD_REFRESH_TOKEN"), "HubSpot's own");
	check(fails(400, "{\"error\":\"s3cret s3cret\"}", OAUTH_REFUSED, "(400)"), "words are not repeated");
	check(fails(409, "{\"error\":\"invalid_grant\"}", OAUTH_CONFLICT, "409"), "a conflict");
	check(fails(503, "", OAUTH_LATER, "503") && fails(429, "{}", OAUTH_LATER, "429") && fails(302, "", OAUTH_LATER, "302") && fails(404, "", OAUTH_LATER, "404"),
		  "a trouble of its own");
}

int
main(void)
{
	arena = arena_create();
	if (arena == NULL)
		abort();
	check_credentials();
	check_requests();
	check_answers();
	arena_destroy(arena);
	printf("%d passed, %d failed\n", passed, failed);
	return failed > 0;
}
