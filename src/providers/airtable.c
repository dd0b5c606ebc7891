/*
 * airtable.c - the Airtable provider: its row in provider_all, its rate-limit news, its errors.
 *
 * Pure C; called through `provider_airtable` only.  It must never show an error's message: it may
 * hold a caller's data; the type is a word of a fixed vocabulary and may be shown.
 */
#include "airtable.h"

#define PENALTY_MS 30000			/* after a 429 nothing succeeds for so long */
/*
 * The month's calls are used up.  The month may end no sooner, but the workspace may be given
 * more at any time: asking once an hour costs little and notices that.
 */
#define BILLING_LIMIT_MS 3600000
#define RETRY_AFTER_MAX_S 86400		/* more is a mistake, and must not block us for ever */

bool
airtable_is_id(Str s, const char *prefix)
{
	size_t		n = strlen(prefix);

	if (s.n <= n || s.n > 64 || !str_starts(s, prefix))
		return false;
	for (size_t i = n; i < s.n; i++)
	{
		char		c = s.p[i];

		if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z')))
			return false;
	}
	return true;
}

static bool
is_error_type(Str s)
{
	if (s.n == 0 || s.n > 64)
		return false;
	for (size_t i = 0; i < s.n; i++)
	{
		char		c = s.p[i];

		if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_'))
			return false;
	}
	return true;
}

/* {"error":{"type":T}}, {"error":T} or {"errors":[{"error":T}]} */
const char *
airtable_error_type(Arena *arena, Str body)
{
	JsonDoc		doc;
	size_t		at;
	const char *why;
	Str			type;
	const char *copy;

	if (body.n == 0 || json_parse(arena, body, &doc, &at, &why) != JSON_OK)
		return "";
	type = json_text(&doc, json_path(&doc, 0, "error.type"));
	if (type.p == NULL)
		type = json_text_at(&doc, 0, "error");
	if (type.p == NULL)
	{
		uint32_t	errors = json_get(&doc, 0, "errors");

		if (json_type(&doc, errors) == JSON_ARRAY && doc.nodes[errors].count > 0)
			type = json_text_at(&doc, json_first(&doc, errors), "error");
	}
	if (!is_error_type(type))
		return "";
	copy = arena_cstr(arena, type);
	return copy ? copy : "";
}

void
airtable_answer_fail(Conversation *conv, const char *what, int status, Str body)
{
	const char *type = airtable_error_type(conv->arena, body);
	const char *gap = *type ? " " : "";

	if (status == 0)
		conversation_fail(conv, true, "%s: no answer from Airtable", what);
	else if (status == 429 && strcmp(type, "PUBLIC_API_BILLING_LIMIT_EXCEEDED") == 0)
		conversation_fail(conv, true, "%s: Airtable answered 429 %s: the workspace has used up its API calls of this month",
						  what, type);
	else if (status == 401)
		conversation_fail(conv, false, "%s: Airtable refused the credential (401%s%s): set a personal access token that is valid",
						  what, gap, type);
	else
		conversation_fail(conv, status == 408 || status == 429 || status >= 500, "%s: Airtable answered %d%s%s",
						  what, status, gap, type);
}

/* Seconds of a Retry-After header, -1 for none.  A date counts as none: a pure function has no clock. */
static int64_t
retry_after_s(HeaderFinder find, void *cls)
{
	Str			text = find(cls, "Retry-After");
	int64_t		s = 0;

	if (text.p == NULL || text.n == 0)
		return -1;
	for (size_t i = 0; i < text.n; i++)
	{
		if (text.p[i] < '0' || text.p[i] > '9')
			return -1;
		s = s * 10 + (text.p[i] - '0');
		if (s > RETRY_AFTER_MAX_S)
			s = RETRY_AFTER_MAX_S;
	}
	return s;
}

static bool
is_billing_limit(Str body)
{
	Arena	   *arena = arena_create();
	bool		yes;

	if (arena == NULL)
		return false;			/* then the ordinary penalty it is: the API will tell again */
	yes = strcmp(airtable_error_type(arena, body), "PUBLIC_API_BILLING_LIMIT_EXCEEDED") == 0;
	arena_destroy(arena);
	return yes;
}

/* Airtable tells of its limits only once they are exceeded: there is never a remaining quota. */
static void
limits(int status, HeaderFinder find, void *cls, Str body, LimitHint *hint)
{
	int64_t		named_s;

	*hint = (LimitHint) {0};
	if (status != 429 && status != 503)
		return;
	named_s = retry_after_s(find, cls);
	if (named_s >= 0)
		hint->block_ms = named_s > 0 ? named_s * 1000 : 1000;
	else if (status == 429)
		hint->block_ms = PENALTY_MS;
	if (status == 429 && hint->block_ms < BILLING_LIMIT_MS && is_billing_limit(body))
		hint->block_ms = BILLING_LIMIT_MS;
}

static void
feed(Conversation *conv, const Call *call, int status, Str body)
{
	if (conv->failed)
		return;					/* answers to calls that were under way when it failed */
	if (conv->page != NULL)
		airtable_page_feed(conv, call, status, body);
	else if (call->step == AIRTABLE_STEP_TABLES)
		airtable_schema_feed(conv, status, body);
	else
		airtable_reread_feed(conv, call, status, body);
}

static const OauthEndpoint oauth = {
	.api = "Airtable",.host = "airtable.com",.path = "/oauth2/v1/token",.basic = true,.ends_old = true,
};

const Provider provider_airtable = {
	.name = "airtable",
	.default_rate_limit = "5/1s",
	.created_column = "created_time",
	.has_updated_at = false,
	.absent_boolean_is_false = true,
	.oauth = &oauth,
	.route = airtable_route,
	.decode = airtable_decode,
	.discover = airtable_discover,
	.reread = airtable_reread,
	.reading = airtable_reading,
	.page = airtable_page,
	.feed = feed,
	.limits = limits,
};
