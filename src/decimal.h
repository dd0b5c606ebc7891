/*
 * decimal.h - decimal numbers as APIs write them, dissected but never converted to binary.  Pure C.
 */
#ifndef SEQUIN_DECIMAL_H
#define SEQUIN_DECIMAL_H

#include "arena.h"

/* (whole and fraction, read as one row of digits with the point between them) times 10^exponent. */
typedef struct Decimal
{
	bool		negative;
	Str			whole;			/* digits before the point; may be empty */
	Str			fraction;		/* digits behind it; may be empty */
	int64_t		exponent;		/* as written, saturated where nothing could hold it anyway */
} Decimal;

/* JSON's grammar, and what people write in strings: a plus sign, ".5", "5.".  Slices of text. */
extern bool decimal_parse(Str text, Decimal *d);
extern bool decimal_fits_numeric(const Decimal *d);		/* whether PostgreSQL's numeric can hold it */
extern bool decimal_integer(const Decimal *d, int64_t *number);	/* false: it is no integer, or too large */

/* Few digits and no exponent, as most are: it is number / 10^scale, and so many digits are written behind its point. */
extern bool decimal_short(const Decimal *d, int64_t *number, int *scale);

#endif
