/*
 * http_chunked.h - a strict decoder of the chunked transfer coding.  Pure C, incremental.
 *
 * Refuses what two readers could frame differently: a size that is not 1-15 hex digits, bare LF,
 * a control character in an extension, a trailer line that is no header.  Trailers are dropped.
 * Blanks behind a size, which some old servers write, are an answer's privilege.
 */
#ifndef SEQUIN_HTTP_CHUNKED_H
#define SEQUIN_HTTP_CHUNKED_H

#include "arena.h"

typedef enum ChunkedResult
{
	CHUNKED_MORE,				/* all input is used up; more is needed */
	CHUNKED_DATA,				/* *data is a piece of the body */
	CHUNKED_END,				/* the body is whole; what follows is not its */
	CHUNKED_BAD
} ChunkedResult;

typedef struct ChunkedDecoder	/* zeroed before first use */
{
	int			state;
	int			digits;
	uint64_t	left;			/* of the present chunk */
	uint32_t	line_bytes;		/* of extensions and trailers so far, bounded */
	bool		trailer_colon;
	bool		blanks;			/* set by the owner: blanks may follow a size */
} ChunkedDecoder;

/* Takes from the front of *in; call until it does not return CHUNKED_DATA.  *data points into *in. */
extern ChunkedResult chunked_next(ChunkedDecoder *decoder, Str *in, Str *data);

#endif
