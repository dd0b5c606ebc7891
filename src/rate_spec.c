/*
 * rate_spec.c - the text of rate limits, "100/10s, search:4/1s", into RateSpecs (rate_window.h).
 *
 * Pure C, no allocation; anybody may call it.  Its messages go to users as they are: lower case,
 * no full stop, and they quote at most the one piece that is wrong.
 */
#include "rate_window.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MAX_LIMIT INT64_C(1000000000)
#define MAX_PERIOD_US (INT64_C(366) * 86400 * 1000000)

typedef struct Parse
{
	const char *p;				/* the rest of the text */
	RateSpec   *specs;
	int			nspecs;
	char	   *error;
	size_t		error_size;
} Parse;

static bool __attribute__((format(printf, 2, 3)))
refuse(Parse *parse, const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	if (parse->error != NULL && parse->error_size > 0)
		vsnprintf(parse->error, parse->error_size, fmt, args);
	va_end(args);
	return false;
}

/* How much of the rest to quote: plain ASCII only, so that no character is cut in two. */
static int
shown(const Parse *parse)
{
	int			n = 0;

	while (n < 20 && parse->p[n] >= ' ' && parse->p[n] <= '~')
		n++;
	return n;
}

static void
skip_blanks(Parse *parse)
{
	parse->p += strspn(parse->p, " \t\r\n");
}

/* 0 where there are no digits; saturates far above every limit. */
static int64_t
digits(Parse *parse)
{
	int64_t		n = 0;

	for (; *parse->p >= '0' && *parse->p <= '9'; parse->p++)
		if (n <= MAX_LIMIT)
			n = n * 10 + (*parse->p - '0');
	return n;
}

/* "name:" when there is one; the limit stands for itself otherwise. */
static bool
parse_bucket(Parse *parse, RateSpec *spec)
{
	static const char name_chars[] = "abcdefghijklmnopqrstuvwxyz0123456789_";
	size_t		n = strspn(parse->p, name_chars);

	if (parse->p[n + strspn(parse->p + n, " \t\r\n")] != ':')
	{
		strcpy(spec->bucket, "default");
		return true;
	}
	if (n == 0 || n >= RATE_BUCKET_NAME || (parse->p[0] >= '0' && parse->p[0] <= '9'))
		return refuse(parse, "a bucket's name has 1 to %d lower-case letters, digits and underscores, and begins with a letter",
					  RATE_BUCKET_NAME - 1);
	memcpy(spec->bucket, parse->p, n);
	spec->bucket[n] = '\0';
	parse->p += n;
	skip_blanks(parse);
	parse->p++;
	skip_blanks(parse);
	return true;
}

static bool
parse_period(Parse *parse, RateSpec *spec)
{
	static const struct
	{
		const char *name;
		int64_t		us;
	}			units[] = {{"s", 1000000}, {"min", 60000000}, {"h", INT64_C(3600000000)}, {"d", INT64_C(86400000000)}};
	bool		has_number = *parse->p >= '0' && *parse->p <= '9';
	int64_t		n = has_number ? digits(parse) : 1;
	size_t		len;

	skip_blanks(parse);
	len = strspn(parse->p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
	{
		if (strlen(units[i].name) != len || memcmp(parse->p, units[i].name, len) != 0)
			continue;
		if (n == 0 || n > MAX_PERIOD_US / units[i].us)
			return refuse(parse, "a rate limit's period must be between 1s and 366d");
		spec->period_us = n * units[i].us;
		parse->p += len;
		return true;
	}
	return refuse(parse, "unknown unit \"%.*s\" in a rate limit; units are s, min, h and d", (int) (len > 20 ? 20 : len),
				  parse->p);
}

/* N/T */
static bool
parse_window(Parse *parse, RateSpec *spec)
{
	if (*parse->p < '0' || *parse->p > '9')
		return refuse(parse, "a rate limit reads [bucket:]N/T, such as 100/10s; found \"%.*s\"",
					  shown(parse), parse->p);
	spec->limit = digits(parse);
	if (spec->limit < 1 || spec->limit > MAX_LIMIT)
		return refuse(parse, "a rate limit must allow between 1 and 1000000000 requests");
	skip_blanks(parse);
	if (*parse->p != '/')
		return refuse(parse, "a rate limit reads [bucket:]N/T, such as 100/10s; found \"%.*s\" after the number",
					  shown(parse), parse->p);
	parse->p++;
	skip_blanks(parse);
	return parse_period(parse, spec);
}

static bool
parse_fits(Parse *parse, const RateSpec *spec)
{
	int			windows = 0;
	int			buckets = 0;

	for (int i = 0; i < parse->nspecs; i++)
	{
		const RateSpec *other = &parse->specs[i];
		bool		first = true;

		for (int j = 0; j < i; j++)
			first &= strcmp(parse->specs[j].bucket, other->bucket) != 0;
		buckets += first;
		if (strcmp(other->bucket, spec->bucket) != 0)
			continue;
		windows++;
		if (other->period_us == spec->period_us)
			return refuse(parse, "bucket \"%s\" has two limits for the same period", spec->bucket);
	}
	if (windows == RATE_MAX_WINDOWS)
		return refuse(parse, "bucket \"%s\" has more than %d limits", spec->bucket, RATE_MAX_WINDOWS);
	if (windows == 0 && buckets == RATE_MAX_BUCKETS)
		return refuse(parse, "a rate limit has at most %d buckets", RATE_MAX_BUCKETS);
	return true;
}

int
rate_parse(const char *text, RateSpec *specs, int max, char *error, size_t error_size)
{
	Parse		parse = {text, specs, 0, error, error_size};

	for (;;)
	{
		RateSpec	spec = {0};

		skip_blanks(&parse);
		if (!parse_bucket(&parse, &spec) || !parse_window(&parse, &spec) || !parse_fits(&parse, &spec))
			return -1;
		if (parse.nspecs == max)
		{
			refuse(&parse, "more than %d rate limits", max);
			return -1;
		}
		specs[parse.nspecs++] = spec;
		skip_blanks(&parse);
		if (*parse.p == '\0')
			return parse.nspecs;
		if (*parse.p != ',')
		{
			refuse(&parse, "rate limits are separated by commas; found \"%.*s\"", shown(&parse), parse.p);
			return -1;
		}
		parse.p++;
	}
}
