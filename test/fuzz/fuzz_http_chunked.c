// SRC: src/http_chunked.c src/arena.c
/*
 * fuzz_http_chunked.c - however the same bytes are cut, they decode to the same body.
 */
#include "../../src/http_chunked.h"

#include <stdlib.h>

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct Outcome
{
	ChunkedResult result;
	uint64_t	hash;
	size_t		n;
	size_t		used;
} Outcome;

static Outcome
decode(const char *p, size_t size, size_t step)
{
	ChunkedDecoder decoder = {0};
	Outcome		o = {.result = CHUNKED_MORE};

	for (size_t at = 0; at < size && o.result == CHUNKED_MORE; at += step)
	{
		Str			in = {p + at, size - at < step ? size - at : step};
		size_t		given = in.n;
		Str			piece;

		while ((o.result = chunked_next(&decoder, &in, &piece)) == CHUNKED_DATA)
		{
			o.n += piece.n;
			for (size_t i = 0; i < piece.n; i++)
				o.hash = o.hash * 31 + (unsigned char) piece.p[i];
		}
		o.used += given - in.n;
	}
	return o;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *p = (const char *) data;
	Outcome		whole = decode(p, size, size ? size : 1);

	for (size_t step = 1; step < 8; step++)
	{
		Outcome		cut = decode(p, size, step);

		if (cut.result != whole.result || cut.hash != whole.hash || cut.n != whole.n || cut.used != whole.used)
			abort();
	}
	return 0;
}
