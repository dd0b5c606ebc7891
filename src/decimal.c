/*
 * decimal.c - decimal numbers as APIs write them (see decimal.h).
 *
 * Owns the grammar of numbers in strings and the question what numeric and the integer types can
 * hold.  Called by values.c.  It must never touch PostgreSQL, depend on the locale, or go through
 * a double: amounts of money come this way.
 */
#include "decimal.h"

#define MAX_SCALE 16383			/* numeric: digits behind the point */
#define MAX_MAGNITUDE 131072	/* numeric: digits before it */
#define MAX_EXPONENT 1000000000
#define SHORT_DIGITS 15

static Str
take_digits(Str *rest)
{
	Str			digits = {rest->p, 0};

	while (rest->n > 0 && *rest->p >= '0' && *rest->p <= '9')
	{
		digits.n++;
		rest->p++;
		rest->n--;
	}
	return digits;
}

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

static bool
take_exponent(Str *rest, int64_t *exponent)
{
	bool		negative;
	Str			digits;

	take_sign(rest, &negative);
	digits = take_digits(rest);
	*exponent = 0;
	for (size_t i = 0; i < digits.n && *exponent <= MAX_EXPONENT; i++)
		*exponent = *exponent * 10 + (digits.p[i] - '0');
	if (negative)
		*exponent = -*exponent;
	return digits.n > 0;
}

bool
decimal_parse(Str text, Decimal *d)
{
	*d = (Decimal) {.fraction = STR_LIT("")};
	take_sign(&text, &d->negative);
	d->whole = take_digits(&text);
	if (take_char(&text, '.'))
		d->fraction = take_digits(&text);
	if (d->whole.n + d->fraction.n == 0)
		return false;
	if ((take_char(&text, 'e') || take_char(&text, 'E')) && !take_exponent(&text, &d->exponent))
		return false;
	return text.n == 0;
}

static char
decimal_digit(const Decimal *d, size_t i)
{
	return i < d->whole.n ? d->whole.p[i] : d->fraction.p[i - d->whole.n];
}

bool
decimal_fits_numeric(const Decimal *d)
{
	size_t		n = d->whole.n + d->fraction.n;
	size_t		zeros = 0;

	if (d->exponent > MAX_EXPONENT || (int64_t) d->fraction.n - d->exponent > MAX_SCALE)
		return false;
	while (zeros < n && decimal_digit(d, zeros) == '0')
		zeros++;
	return zeros == n || (int64_t) d->whole.n - (int64_t) zeros + d->exponent <= MAX_MAGNITUDE;
}

bool
decimal_integer(const Decimal *d, int64_t *number)
{
	size_t		n = d->whole.n + d->fraction.n;
	int64_t		exponent = d->exponent - (int64_t) d->fraction.n;

	*number = 0;
	while (n > 0 && decimal_digit(d, n - 1) == '0')
		n--, exponent++;
	if (n == 0)
		return true;
	if (exponent < 0)
		return false;
	for (size_t i = 0; i < n; i++)
	{
		int			digit = decimal_digit(d, i) - '0';

		if (__builtin_mul_overflow(*number, 10, number) ||
			__builtin_add_overflow(*number, d->negative ? -digit : digit, number))
			return false;
	}
	while (exponent-- > 0)
		if (__builtin_mul_overflow(*number, 10, number))
			return false;
	return true;
}

bool
decimal_short(const Decimal *d, int64_t *number, int *scale)
{
	size_t		n = d->whole.n + d->fraction.n;

	if (d->exponent != 0 || n > SHORT_DIGITS)
		return false;
	*number = 0;
	for (size_t i = 0; i < n; i++)
		*number = *number * 10 + (decimal_digit(d, i) - '0');
	if (d->negative)
		*number = -*number;
	*scale = (int) d->fraction.n;
	return true;
}
