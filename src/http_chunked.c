/*
 * http_chunked.c - the chunked transfer coding, decoded strictly (see http_chunked.h).
 *
 * Owns nothing but its decoder's few fields.  The listener feeds it whatever recv() gave; it must
 * never look beyond *in and never accept a line that another reader may end elsewhere.
 */
#include "http_chunked.h"

#define MAX_SIZE_DIGITS 15
#define MAX_LINE_BYTES 8192		/* extensions and trailers of one body together */

enum
{
	SIZE,						/* must be 0: the state of a zeroed decoder */
	EXTENSION,
	SIZE_LF,
	DATA,
	DATA_CR,
	DATA_LF,
	TRAILER_START,
	TRAILER,
	TRAILER_LF,
	END_LF,
	END
};

static int
hex_digit(unsigned char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static bool
expect(ChunkedDecoder *decoder, unsigned char c, unsigned char want, int next)
{
	decoder->state = next;
	return c == want;
}

static bool
size_char(ChunkedDecoder *decoder, unsigned char c)
{
	int			digit = hex_digit(c);

	if (digit >= 0)
	{
		decoder->left = decoder->left * 16 + (uint64_t) digit;
		return ++decoder->digits <= MAX_SIZE_DIGITS;
	}
	decoder->state = c == '\r' ? SIZE_LF : EXTENSION;
	return decoder->digits > 0 && (c == '\r' || c == ';' || (decoder->blanks && (c == ' ' || c == '\t')));
}

static bool
line_char(ChunkedDecoder *decoder, unsigned char c, int after_cr)
{
	if (c == '\r')
		decoder->state = after_cr;
	else if ((c < 0x20 && c != '\t') || c == 0x7f)
		return false;
	return ++decoder->line_bytes <= MAX_LINE_BYTES;
}

static bool
trailer_char(ChunkedDecoder *decoder, unsigned char c)
{
	if (decoder->state == TRAILER_START)
	{
		decoder->trailer_colon = false;
		decoder->state = c == '\r' ? END_LF : TRAILER;
		if (c == '\r')
			return true;
		if (c == ' ' || c == '\t' || c == ':')
			return false;
	}
	if (c == ':')
		decoder->trailer_colon = true;
	if (!decoder->trailer_colon && (c == ' ' || c == '\t' || c == '\r'))
		return false;
	return line_char(decoder, c, TRAILER_LF);
}

/* One byte of framing; false: malformed. */
static bool
framing_char(ChunkedDecoder *decoder, unsigned char c)
{
	switch (decoder->state)
	{
		case SIZE:
			return size_char(decoder, c);
		case EXTENSION:
			return line_char(decoder, c, SIZE_LF);
		case SIZE_LF:
			decoder->digits = 0;
			return expect(decoder, c, '\n', decoder->left > 0 ? DATA : TRAILER_START);
		case DATA_CR:
			return expect(decoder, c, '\r', DATA_LF);
		case DATA_LF:
			return expect(decoder, c, '\n', SIZE);
		case TRAILER_START:
		case TRAILER:
			return trailer_char(decoder, c);
		case TRAILER_LF:
			return expect(decoder, c, '\n', TRAILER_START);
		case END_LF:
			return expect(decoder, c, '\n', END);
		default:
			return false;
	}
}

ChunkedResult
chunked_next(ChunkedDecoder *decoder, Str *in, Str *data)
{
	while (in->n > 0 && decoder->state != END)
	{
		if (decoder->state == DATA)
		{
			size_t		n = decoder->left < in->n ? (size_t) decoder->left : in->n;

			*data = (Str) {in->p, n};
			decoder->left -= n;
			if (decoder->left == 0)
				decoder->state = DATA_CR;
			in->p += n;
			in->n -= n;
			return CHUNKED_DATA;
		}
		if (!framing_char(decoder, (unsigned char) *in->p))
			return CHUNKED_BAD;
		in->p++;
		in->n--;
	}
	return decoder->state == END ? CHUNKED_END : CHUNKED_MORE;
}
