/*
 * times.c - dates and points in time as APIs write them (see times.h).
 *
 * Owns the calendar and the grammar of ISO 8601.  Called by values.c.  It must never touch
 * PostgreSQL nor the process's time zone; and it takes no time without a zone, since a guess
 * would be a wrong value that looks right.
 */
#include "times.h"

static bool
take_char(Str *rest, char c)
{
	if (rest->n == 0 || *rest->p != c)
		return false;
	rest->p++;
	rest->n--;
	return true;
}

static bool
take_sign(Str *rest, bool *negative)
{
	*negative = take_char(rest, '-');
	return *negative || take_char(rest, '+');
}

/* Days from 1970-01-01 of a day in the proleptic Gregorian calendar (year 0 is 1 BC). */
static int64_t
days_of(int64_t year, int month, int day)
{
	int64_t		y = month <= 2 ? year - 1 : year;
	int64_t		era = (y >= 0 ? y : y - 399) / 400;
	int64_t		of_era = y - era * 400;
	int64_t		of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

	return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static void
date_of(int64_t days, int64_t *year, int *month, int *day)
{
	int64_t		z = days + 719468;
	int64_t		era = (z >= 0 ? z : z - 146096) / 146097;
	int64_t		of_era = z - era * 146097;
	int64_t		y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t		of_year = of_era - (365 * y + y / 4 - y / 100);
	int64_t		m = (5 * of_year + 2) / 153;

	*day = (int) (of_year - (153 * m + 2) / 5 + 1);
	*month = (int) (m < 10 ? m + 3 : m - 9);
	*year = y + era * 400 + (*month <= 2);
}

/* Exactly n digits. */
static bool
take_number(Str *rest, size_t n, int *number)
{
	*number = 0;
	if (rest->n < n)
		return false;
	for (size_t i = 0; i < n; i++)
	{
		if (rest->p[i] < '0' || rest->p[i] > '9')
			return false;
		*number = *number * 10 + (rest->p[i] - '0');
	}
	rest->p += n;
	rest->n -= n;
	return true;
}

/* YYYY-MM-DD, or with a sign and six digits for the year, as JavaScript writes far years. */
static bool
take_date(Str *rest, int64_t *days)
{
	static const int month_days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool		negative;
	bool		sign = take_sign(rest, &negative);
	int			year,
				month,
				day;

	if (!take_number(rest, sign ? 6 : 4, &year) || !take_char(rest, '-') || !take_number(rest, 2, &month) ||
		!take_char(rest, '-') || !take_number(rest, 2, &day))
		return false;
	if (negative)
		year = -year;
	if (month < 1 || month > 12 || day < 1 || day > month_days[month - 1])
		return false;
	if (month == 2 && day == 29 && (year % 4 != 0 || (year % 100 == 0 && year % 400 != 0)))
		return false;
	*days = days_of(year, month, day);
	return *days >= TIME_MIN_DAY;
}

/* ".123456789", rounded to microseconds. */
static bool
take_fraction(Str *rest, int64_t *us)
{
	size_t		n = 0;

	for (; rest->n > 0 && *rest->p >= '0' && *rest->p <= '9'; n++)
	{
		if (n < 6)
			*us = *us * 10 + (*rest->p - '0');
		else if (n == 6 && *rest->p >= '5')
			(*us)++;
		rest->p++;
		rest->n--;
	}
	for (size_t i = n; i < 6; i++)
		*us *= 10;
	return n > 0;
}

/* hh:mm[:ss[.ffffff]] */
static bool
take_time(Str *rest, int64_t *us)
{
	int			hour,
				minute,
				second = 0;
	int64_t		fraction = 0;

	if (!take_number(rest, 2, &hour) || !take_char(rest, ':') || !take_number(rest, 2, &minute))
		return false;
	if (take_char(rest, ':'))
	{
		if (!take_number(rest, 2, &second))
			return false;
		if (take_char(rest, '.') && !take_fraction(rest, &fraction))
			return false;
	}
	*us = (hour * 3600 + minute * 60 + second) * TIME_SECOND_US + fraction;
	return hour < 24 && minute < 60 && second < 60;
}

/* Z, +hh, +hhmm, +hh:mm */
static bool
take_zone(Str *rest, int64_t *us)
{
	bool		negative;
	int			hour,
				minute = 0;

	*us = 0;
	if (take_char(rest, 'Z') || take_char(rest, 'z'))
		return true;
	if (!take_sign(rest, &negative) || !take_number(rest, 2, &hour))
		return false;
	if ((take_char(rest, ':') || rest->n > 0) && !take_number(rest, 2, &minute))
		return false;
	*us = (hour * 60 + minute) * 60 * TIME_SECOND_US;
	if (negative)
		*us = -*us;
	return hour < 16 && minute < 60;
}

bool
time_parse(Str text, int64_t *us)
{
	int64_t		days,
				time,
				zone;

	if (!take_date(&text, &days))
		return false;
	if (!take_char(&text, 'T') && !take_char(&text, 't') && !take_char(&text, ' '))
		return false;
	if (!take_time(&text, &time) || !take_zone(&text, &zone) || text.n > 0)
		return false;
	return !__builtin_mul_overflow(days, TIME_DAY_US, us) && !__builtin_add_overflow(*us, time - zone, us) && *us >= TIME_MIN_US;
}

bool
date_parse(Str text, int64_t *days)
{
	return take_date(&text, days) && text.n == 0;
}

int64_t
time_day(int64_t us)
{
	return us / TIME_DAY_US - (us % TIME_DAY_US < 0);
}

/* n digits, with zeros before them; printf would cost more than all else that a value needs. */
static char *
put_digits(char *to, int64_t number, int n)
{
	for (int i = n - 1; i >= 0; i--, number /= 10)
		to[i] = (char) ('0' + number % 10);
	return to + n;
}

/* "2024-02-29", room for more: the year has as many digits as it takes, at least four. */
static char *
put_date(char *to, int64_t days, bool *bc)
{
	int64_t		year;
	int			month,
				day;
	int			digits = 4;

	date_of(days, &year, &month, &day);
	*bc = year <= 0;
	if (*bc)
		year = 1 - year;
	for (int64_t limit = 10000; digits < 18 && year >= limit; limit *= 10)
		digits++;
	to = put_digits(to, year, digits);
	*to++ = '-';
	to = put_digits(to, month, 2);
	*to++ = '-';
	return put_digits(to, day, 2);
}

static char *
finish_print(Arena *arena, char *text, char *end, bool bc)
{
	if (bc)
	{
		memcpy(end, " BC", 3);
		end += 3;
	}
	return arena_cstr(arena, (Str) {text, (size_t) (end - text)});
}

char *
date_print(Arena *arena, int64_t days)
{
	char		text[64];
	bool		bc;
	char	   *end = put_date(text, days, &bc);

	return finish_print(arena, text, end, bc);
}

char *
time_print(Arena *arena, int64_t us)
{
	int64_t		days = time_day(us);
	int64_t		rest = us - days * TIME_DAY_US;
	int64_t		seconds = rest / TIME_SECOND_US;
	char		text[64];
	bool		bc;
	char	   *to = put_date(text, days, &bc);

	*to++ = ' ';
	to = put_digits(to, seconds / 3600, 2);
	*to++ = ':';
	to = put_digits(to, seconds / 60 % 60, 2);
	*to++ = ':';
	to = put_digits(to, seconds % 60, 2);
	*to++ = '.';
	to = put_digits(to, rest % TIME_SECOND_US, 6);
	memcpy(to, "+00", 3);
	return finish_print(arena, text, to + 3, bc);
}
