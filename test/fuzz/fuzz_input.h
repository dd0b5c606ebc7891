/*
 * fuzz_input.h - what the fuzz targets of the providers share: an input in pieces, and what every call must be.
 */
#ifndef FUZZ_INPUT_H
#define FUZZ_INPUT_H

#include <stdio.h>
#include <stdlib.h>

#include "../../src/provider.h"

#define require(ok) \
	do { \
		if (!(ok)) \
		{ \
			fprintf(stderr, "broken: %s (line %d)\n", #ok, __LINE__); \
			abort(); \
		} \
	} while (0)

typedef struct Input
{
	const uint8_t *p;
	size_t		n;
} Input;

/* The next piece, in memory of its own that ends where it ends; STR_NULL when there is none. */
static Str
take_piece(Input *in)
{
	const uint8_t *end = in->n > 0 ? memchr(in->p, 0xff, in->n) : NULL;
	size_t		n = end ? (size_t) (end - in->p) : in->n;
	char	   *copy;

	if (in->n == 0)
		return STR_NULL;
	copy = malloc(n > 0 ? n : 1);
	require(copy != NULL);
	memcpy(copy, in->p, n);
	in->p += end ? n + 1 : n;
	in->n -= end ? n + 1 : n;
	return (Str) {copy, n};
}

/* Every byte that a slice claims can be read. */
static void
touch(Str s)
{
	volatile char sink;

	for (size_t i = 0; i < s.n; i++)
		sink = s.p[i], (void) sink;
}

static void
check_call(const Call *call)
{
	require(call->host != NULL && call->method != NULL && call->bucket != NULL);
	require(call->target.n > 0 && call->target.p[0] == '/');
	for (size_t i = 0; i < call->target.n; i++)
		require((unsigned char) call->target.p[i] > 0x20 && (unsigned char) call->target.p[i] < 0x7f);
	touch(call->body);
}

#endif
