// SRC: src/base62.c  LIBS:
/*
 * test_base62.c - the change of base behind keys and identifiers, against known values and a
 * decoder that shares nothing with the encoder.
 */
#include "base62.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int	passed;
static int	failed;

static void
check(bool ok, const char *sentence)
{
	printf("%s - %s\n", ok ? "ok" : "not ok", sentence);
	if (ok)
		passed++;
	else
		failed++;
}

/* Horner's rule on bytes: out = out * 62 + digit. */
static bool
decode(const char *text, uint8_t *out, size_t n)
{
	static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

	memset(out, 0, n);
	for (; *text; text++)
	{
		const char *digit = strchr(digits, *text);
		unsigned	carry;

		if (digit == NULL)
			return false;
		carry = (unsigned) (digit - digits);
		for (size_t i = n; i > 0; i--)
		{
			carry += out[i - 1] * 62u;
			out[i - 1] = (uint8_t) (carry & 255);
			carry >>= 8;
		}
		if (carry != 0)
			return false;
	}
	return true;
}

static bool
round_trips(size_t n, int rounds)
{
	uint8_t		bytes[BASE62_MAX_BYTES];
	uint8_t		back[BASE62_MAX_BYTES];
	char		text[2 * BASE62_MAX_BYTES];

	for (int r = 0; r < rounds; r++)
	{
		for (size_t i = 0; i < n; i++)
			bytes[i] = r == 0 ? 0 : r == 1 ? 255 : (uint8_t) rand();
		base62_encode(bytes, n, text);
		if (strlen(text) != base62_length(n) || !decode(text, back, n) || memcmp(bytes, back, n) != 0)
			return false;
	}
	return true;
}

static bool
lengths_are_tight(void)
{
	/* 62^length >= 256^n > 62^(length - 1), in logarithms with room to spare */
	for (size_t n = 1; n <= BASE62_MAX_BYTES; n++)
	{
		double		bits = 5.954196310386875 * (double) base62_length(n);

		if (bits < 8.0 * (double) n || bits - 5.954196310386875 >= 8.0 * (double) n)
			return false;
	}
	return true;
}

int
main(void)
{
	char		text[64];
	bool		all = true;

	check(base62_length(16) == 22 && base62_length(32) == 43, "16 bytes take 22 characters, 32 take 43");
	check(lengths_are_tight(), "every length holds its bytes, and one character less would not");
	base62_encode((const uint8_t[]) {0x00}, 1, text);
	check(strcmp(text, "00") == 0, "zero is padded");
	base62_encode((const uint8_t[]) {0xff}, 1, text);
	check(strcmp(text, "47") == 0, "255 is 4 * 62 + 7");
	base62_encode((const uint8_t[]) {0x01, 0x00}, 2, text);
	check(strcmp(text, "048") == 0, "bytes are big-endian");
	for (size_t n = 1; n <= BASE62_MAX_BYTES; n++)
		all &= round_trips(n, 200);
	check(all, "an independent decoder gets every byte back, for 1 to 64 bytes");
	printf("%d passed, %d failed\n", passed, failed);
	return failed > 0;
}
