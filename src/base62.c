/*
 * base62.c - random bytes as letters and digits (base62.h).
 *
 * Called by the SQL functions that make proxy keys and identifiers.  A true change of base, so
 * every character is as random as the bytes; 'byte % 62' would not be.  Pure; keeps nothing.
 */
#include "base62.h"

#include <string.h>

static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

size_t
base62_length(size_t nbytes)
{
	/* ceil(8 n / log2 62), log2 62 = 5.95419631; exact for all n <= BASE62_MAX_BYTES */
	return (size_t) (((uint64_t) nbytes * 800000000 + 595419630) / 595419631);
}

/* Divides the number in place; returns the remainder. */
static unsigned
divide_by_62(uint8_t *number, size_t n)
{
	unsigned	rest = 0;

	for (size_t i = 0; i < n; i++)
	{
		unsigned	value = rest * 256 + number[i];

		number[i] = (uint8_t) (value / 62);
		rest = value % 62;
	}
	return rest;
}

void
base62_encode(const uint8_t *bytes, size_t nbytes, char *out)
{
	uint8_t		number[BASE62_MAX_BYTES];
	size_t		length = base62_length(nbytes);

	memcpy(number, bytes, nbytes);
	for (size_t i = length; i > 0; i--)
		out[i - 1] = digits[divide_by_62(number, nbytes)];
	out[length] = '\0';
	/* the bytes are a secret: leave no copy on the stack */
	memset(number, 0, sizeof(number));
	__asm__ __volatile__("" : : "r"(number) : "memory");
}
