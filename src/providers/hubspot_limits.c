/*
 * hubspot_limits.c - what HubSpot's responses say about rate limits (API_FACTS A8, A11, A12).
 *
 * Owns the reading of 429 bodies, Retry-After and the remaining-quota headers.  Called by hubspot.c only.  Pure but for
 * the clock, which a Retry-After date needs when the response has no Date.
 */
#include "hubspot.h"

#include <time.h>

#define SECOND_MS 1000
#define DAY_MS (INT64_C(86400) * SECOND_MS)

static bool
parse_count(Str s, int64_t *value)
{
	*value = 0;
	if (s.n == 0 || s.n > 12)
		return false;
	for (size_t i = 0; i < s.n; i++)
	{
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
		*value = *value * 10 + (s.p[i] - '0');
	}
	return true;
}

static int
two_digits(const char *p)
{
	return p[0] >= '0' && p[0] <= '9' && p[1] >= '0' && p[1] <= '9' ? (p[0] - '0') * 10 + p[1] - '0' : -1;
}

/* "Sun, 06 Nov 1994 08:49:37 GMT": the form that HTTP's senders must use */
static bool
parse_http_date(Str s, int64_t *seconds)
{
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	struct tm	tm = {0};
	const char *p = s.p;

	if (s.n != 29 || memcmp(p + 25, " GMT", 4) != 0 || two_digits(p + 12) < 0 || two_digits(p + 14) < 0)
		return false;
	tm.tm_mday = two_digits(p + 5);
	tm.tm_mon = -1;
	for (int i = 0; i < 12; i++)
		if (memcmp(p + 8, months + i * 3, 3) == 0)
			tm.tm_mon = i;
	tm.tm_year = two_digits(p + 12) * 100 + two_digits(p + 14) - 1900;
	tm.tm_hour = two_digits(p + 17);
	tm.tm_min = two_digits(p + 20);
	tm.tm_sec = two_digits(p + 23);
	if (tm.tm_mday < 1 || tm.tm_mon < 0 || tm.tm_hour < 0 || tm.tm_min < 0 || tm.tm_sec < 0)
		return false;
	*seconds = (int64_t) timegm(&tm);
	return true;
}

/* Milliseconds to wait, at most a day; 0: the response does not say. */
static int64_t
retry_after(HeaderFinder find, void *cls)
{
	Str			value = find(cls, "Retry-After");
	int64_t		seconds;
	int64_t		now;

	if (value.p == NULL)
		return 0;
	if (!parse_count(value, &seconds))
	{
		if (!parse_http_date(value, &seconds))
			return 0;
		/* HubSpot's own clock, if it shows it */
		if (!parse_http_date(find(cls, "Date"), &now))
			now = (int64_t) time(NULL);
		seconds = seconds > now ? seconds - now : 0;
	}
	if (seconds > 86400)
		seconds = 86400;
	return seconds > 0 ? seconds * SECOND_MS : SECOND_MS;
}

static int64_t
policy_block(Str policy)
{
	if (str_is(policy, "SECONDLY"))
		return 1 * SECOND_MS;
	if (str_is(policy, "DAILY"))
		return 300 * SECOND_MS;
	return 10 * SECOND_MS;
}

/* How long the policy that a 429's body names takes to forget. */
static int64_t
body_block(Str body)
{
	Arena	   *arena = arena_create();
	int64_t		ms = policy_block(STR_NULL);
	JsonDoc		doc;
	size_t		at;
	const char *error;

	if (arena == NULL)
		return ms;
	if (body.n > 0 && json_parse(arena, body, &doc, &at, &error) == JSON_OK)
		ms = policy_block(json_text_at(&doc, 0, "policyName"));
	arena_destroy(arena);
	return ms;
}

/* The tighter of the burst's and the day's remainder. */
static void
remaining_quota(HeaderFinder find, void *cls, LimitHint *hint)
{
	int64_t		remaining;
	int64_t		interval;
	int64_t		daily;

	if (parse_count(find(cls, "X-HubSpot-RateLimit-Remaining"), &remaining) &&
		parse_count(find(cls, "X-HubSpot-RateLimit-Interval-Milliseconds"), &interval) && interval > 0)
	{
		hint->has_remaining = true;
		hint->window_ms = interval;
		hint->remaining = remaining;
	}
	if (parse_count(find(cls, "X-HubSpot-RateLimit-Daily-Remaining"), &daily) &&
		(!hint->has_remaining || daily < hint->remaining))
	{
		hint->has_remaining = true;
		hint->window_ms = DAY_MS;
		hint->remaining = daily;
	}
}

void
hubspot_limits(int status, HeaderFinder find, void *cls, Str body, LimitHint *hint)
{
	memset(hint, 0, sizeof(*hint));
	if (status == 429 || status == 503 || status == 477)
		hint->block_ms = retry_after(find, cls);
	if (status == 429 && hint->block_ms == 0)
		hint->block_ms = body_block(body);
	remaining_quota(find, cls, hint);
}
