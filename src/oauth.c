/*
 * oauth.c - OAuth's refresh-token grant (oauth.h): credential in, request out, answer in.
 *
 * Called by oauth_refresh.c, by catalog.c (is there a token to be waited for?) and by the SQL that
 * validates a credential.  Knows no sync and no table; the differences between APIs are the fields
 * of OauthEndpoint.
 */
#include "oauth.h"

#include "json.h"

#define MAX_PART 8192			/* bytes of any one secret; real ones have below 2000 */
#define MAX_LIFE_S INT64_C(315360000)	/* ten years: beyond it the number is nonsense */

bool
oauth_is(Str value)
{
	return value.n > 0 && value.p[0] == '{';
}

/* ---- the credential ---- */

/* Visible ASCII: what every issuer of ids, secrets and tokens keeps to, and what a header can hold. */
static bool
is_plain(Str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] <= ' ' || s.p[i] > '~')
			return false;
	return s.n > 0 && s.n <= MAX_PART;
}

static Str
plain_member(const JsonDoc *doc, const char *key)
{
	uint32_t	node = json_get(doc, 0, key);
	Str			text = json_type(doc, node) == JSON_STRING ? json_text(doc, node) : STR_NULL;

	return is_plain(text) ? text : STR_NULL;
}

static bool
absent(const JsonDoc *doc, const char *key)
{
	return json_type(doc, json_get(doc, 0, key)) == JSON_NULL;
}

static const char *
what_is_wrong(const OauthEndpoint *endpoint, const JsonDoc *doc, const OauthCredential *c)
{
	if (c->client_id.p == NULL)
		return "the OAuth credential needs a \"client_id\"";
	if (c->refresh_token.p == NULL)
		return "the OAuth credential needs a \"refresh_token\"";
	if (c->client_secret.p == NULL && !absent(doc, "client_secret"))
		return "the \"client_secret\" of the OAuth credential is not a secret";
	if (c->client_secret.p == NULL && endpoint->needs_secret)
		return "the OAuth credential needs a \"client_secret\"";
	if (endpoint->basic && c->client_secret.p != NULL && memchr(c->client_id.p, ':', c->client_id.n) != NULL)
		return "the \"client_id\" of the OAuth credential holds a colon";
	return NULL;
}

bool
oauth_parse(Arena *arena, const OauthEndpoint *endpoint, Str value, OauthCredential *credential, const char **error)
{
	JsonDoc		doc;
	size_t		at;
	const char *text;
	JsonResult	result = json_parse(arena, value, &doc, &at, &text);

	*credential = (OauthCredential) {0};
	*error = result == JSON_NOMEM ? "out of memory" : "the OAuth credential is not a JSON object";
	if (result != JSON_OK || json_type(&doc, 0) != JSON_OBJECT)
		return false;
	credential->client_id = plain_member(&doc, "client_id");
	credential->client_secret = plain_member(&doc, "client_secret");
	credential->refresh_token = plain_member(&doc, "refresh_token");
	*error = what_is_wrong(endpoint, &doc, credential);
	return *error == NULL;
}

/* ---- the request ---- */

static void
add_form(Buf *buf, const char *name, Str value)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";

	if (buf->n > 0)
		buf_char(buf, '&');
	buf_cstr(buf, name);
	buf_char(buf, '=');
	for (size_t i = 0; i < value.n; i++)
		if (memchr(plain, value.p[i], sizeof(plain) - 1) != NULL)
			buf_char(buf, value.p[i]);
		else
			buf_printf(buf, "%%%02X", (unsigned char) value.p[i]);
}

static void
add_base64(Buf *buf, const unsigned char *p, size_t n)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < n; i += 3)
	{
		unsigned	bits = p[i] << 16 | (i + 1 < n ? p[i + 1] << 8 : 0) | (i + 2 < n ? p[i + 2] : 0);

		buf_char(buf, digits[bits >> 18]);
		buf_char(buf, digits[bits >> 12 & 63]);
		buf_char(buf, i + 1 < n ? digits[bits >> 6 & 63] : '=');
		buf_char(buf, i + 2 < n ? digits[bits & 63] : '=');
	}
}

static Str
basic_value(Arena *arena, const OauthCredential *credential)
{
	Buf			pair;
	Buf			value;
	Str			text;

	buf_init(&pair, arena);
	buf_str(&pair, credential->client_id);
	buf_char(&pair, ':');
	buf_str(&pair, credential->client_secret);
	text = buf_finish(&pair);
	if (text.p == NULL)
		return STR_NULL;
	buf_init(&value, arena);
	buf_cstr(&value, "Basic ");
	add_base64(&value, (const unsigned char *) text.p, text.n);
	return buf_finish(&value);
}

bool
oauth_request(Arena *arena, const OauthEndpoint *endpoint, const OauthCredential *credential, Str refresh_token,
			  OauthRequest *request)
{
	bool		basic = endpoint->basic && credential->client_secret.p != NULL;
	Buf			form;

	request->authorization = basic ? basic_value(arena, credential) : STR_NULL;
	buf_init(&form, arena);
	add_form(&form, "grant_type", STR_LIT("refresh_token"));
	if (!basic)
		add_form(&form, "client_id", credential->client_id);
	if (!basic && credential->client_secret.p != NULL)
		add_form(&form, "client_secret", credential->client_secret);
	add_form(&form, "refresh_token", refresh_token);
	request->body = buf_finish(&form);
	return request->body.p != NULL && (!basic || request->authorization.p != NULL);
}

/* ---- the answer ---- */

/* OAuth's error code (RFC 6749 5.2), HubSpot's BAD_REFRESH_TOKEN included; nothing else of the body is shown. */
static bool
is_code(Str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!((s.p[i] >= 'a' && s.p[i] <= 'z') || (s.p[i] >= 'A' && s.p[i] <= 'Z') || s.p[i] == '_'))
			return false;
	return s.n > 0 && s.n <= 40;
}

static Str
error_code(const JsonDoc *doc)
{
	static const char *const places[] = {"error", "error.type", "status", NULL};

	for (int i = 0; places[i] != NULL; i++)
	{
		uint32_t	node = json_path(doc, 0, places[i]);

		if (json_type(doc, node) == JSON_STRING && is_code(json_text(doc, node)))
			return json_text(doc, node);
	}
	return STR_LIT("");
}

static const char *
say(Arena *arena, const OauthEndpoint *endpoint, const char *what, int status, Str code, const char *fix)
{
	const char *text = arena_printf(arena, "%s %s (%d%s%.*s)%s%s", endpoint->api, what, status, code.n > 0 ? " " : "",
									STR_FMT(code), fix[0] != '\0' ? ": " : "", fix);

	return text ? text : "out of memory";
}

static void
read_refusal(Arena *arena, const OauthEndpoint *endpoint, int status, const JsonDoc *doc, OauthAnswer *answer)
{
	Str			code = doc ? error_code(doc) : STR_LIT("");

	answer->verdict = OAUTH_REFUSED;
	if (status == 409)
	{
		answer->verdict = OAUTH_CONFLICT;
		answer->error = say(arena, endpoint, "has refreshed a token a moment ago", status, code, "it is asked again");
	}
	else if (str_is(code, "invalid_client") || str_is(code, "unauthorized_client") || (status == 401 && code.n == 0))
		answer->error = say(arena, endpoint, "refused the client", status, code,
							"set a credential with the app's client_id and client_secret");
	else if (status == 400 || status == 401 || status == 403)
		answer->error = say(arena, endpoint, "refused the refresh token", status, code,
							"authorise the app again and set the new credential");
	else
	{
		answer->verdict = OAUTH_LATER;
		answer->error = say(arena, endpoint, "gave no token", status, code, "it is asked again");
	}
}

static int64_t
read_life(const JsonDoc *doc)
{
	uint32_t	node = json_get(doc, 0, "expires_in");
	Str			text = json_type(doc, node) == JSON_NUMBER ? json_text(doc, node) : STR_NULL;
	int64_t		life = 0;

	if (text.p == NULL || text.p[0] == '-')
		return text.p ? 1 : OAUTH_DEFAULT_LIFE_S;
	for (size_t i = 0; i < text.n && text.p[i] >= '0' && text.p[i] <= '9' && life < MAX_LIFE_S; i++)
		life = life * 10 + (text.p[i] - '0');
	return life < 1 ? 1 : life > MAX_LIFE_S ? MAX_LIFE_S : life;
}

void
oauth_answer(Arena *arena, const OauthEndpoint *endpoint, int status, Str body, OauthAnswer *answer)
{
	JsonDoc		doc;
	size_t		at;
	const char *text;
	bool		parsed = json_parse(arena, body, &doc, &at, &text) == JSON_OK && json_type(&doc, 0) == JSON_OBJECT;

	*answer = (OauthAnswer) {.verdict = OAUTH_LATER};
	if (status < 200 || status > 299)
	{
		read_refusal(arena, endpoint, status, parsed ? &doc : NULL, answer);
		return;
	}
	answer->access_token = parsed ? plain_member(&doc, "access_token") : STR_NULL;
	answer->refresh_token = parsed ? plain_member(&doc, "refresh_token") : STR_NULL;
	if (answer->access_token.p == NULL)
	{
		answer->error = say(arena, endpoint, "answered without an access token", status, STR_LIT(""), "it is asked again");
		return;
	}
	answer->verdict = OAUTH_GRANTED;
	answer->life_s = read_life(&doc);
}
