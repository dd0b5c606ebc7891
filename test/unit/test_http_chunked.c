// SRC: src/http_chunked.c src/arena.c
/* test_http_chunked.c - the chunked coding, whole and cut at every place, and every ambiguous form refused. */
#include "../../src/http_chunked.h"

#include <stdio.h>
#include <stdlib.h>

static int	passed;
static int	failed;

static void
check(bool ok, const char *name)
{
	printf("%s - %s\n", ok ? "ok" : "not ok", name);
	ok ? passed++ : failed++;
}

/* Feeds pieces of step bytes; the body goes to out, what follows it is counted in *rest. */
static ChunkedResult
decode(Str bytes, size_t step, char *out, size_t *out_n, size_t *rest)
{
	ChunkedDecoder decoder = {0};
	ChunkedResult result = CHUNKED_MORE;

	*out_n = 0;
	for (size_t at = 0; at < bytes.n && result == CHUNKED_MORE; at += step)
	{
		size_t		n = bytes.n - at < step ? bytes.n - at : step;
		char	   *exact = malloc(n);
		Str			in = {exact, n};
		Str			data;

		memcpy(exact, bytes.p + at, n);
		while ((result = chunked_next(&decoder, &in, &data)) == CHUNKED_DATA)
		{
			memcpy(out + *out_n, data.p, data.n);
			*out_n += data.n;
		}
		*rest = in.n + (bytes.n - at - n);
		free(exact);
	}
	return result;
}

static void
check_good(const char *text, const char *want, size_t want_rest, const char *name)
{
	bool		ok = true;
	char		out[1000];
	size_t		n,
				rest;

	for (size_t step = 1; step <= strlen(text); step++)
		ok = ok && decode(str_of(text), step, out, &n, &rest) == CHUNKED_END && n == strlen(want) &&
			memcmp(out, want, n) == 0 && rest == want_rest;
	check(ok, name);
}

static void
check_bad(const char *text, const char *name)
{
	bool		ok = true;
	char		out[1000];
	size_t		n,
				rest;

	for (size_t step = 1; step <= strlen(text); step++)
		ok = ok && decode(str_of(text), step, out, &n, &rest) == CHUNKED_BAD;
	check(ok, name);
}

static void
test_limits(void)
{
	char	   *big = malloc(20000);
	char		out[10];
	size_t		n,
				rest;

	memset(big, 'x', 20000);
	memcpy(big, "5;", 2);
	check(decode((Str) {big, 20000}, 20000, out, &n, &rest) == CHUNKED_BAD, "an extension without end is refused");
	memcpy(big, "0\r\nA:", 5);
	check(decode((Str) {big, 20000}, 100, out, &n, &rest) == CHUNKED_BAD, "a trailer without end is refused");
	free(big);
}

int
main(void)
{
	char		out[100];
	size_t		n,
				rest;

	check_good("5\r\nhello\r\n0\r\n\r\n", "hello", 0, "one chunk");
	check_good("1\r\na\r\nA\r\n0123456789\r\n0\r\n\r\n", "a0123456789", 0, "chunks are joined");
	check_good("0\r\n\r\n", "", 0, "an empty body");
	check_good("000a\r\n0123456789\r\n000\r\n\r\n", "0123456789", 0, "leading zeros");
	check_good("3;a=\"b;c\"\r\nabc\r\n0;x\r\nA: b\r\nC: d\r\n\r\n", "abc", 0, "extensions and trailers are passed over");
	check_good("3\r\n\r\n\r\r\n0\r\n\r\n", "\r\n\r", 0, "CR and LF may be data");
	check_good("0\r\n\r\nGET /next", "", 9, "what follows is left alone");
	check(decode(STR_LIT("5\r\nhel"), 3, out, &n, &rest) == CHUNKED_MORE && n == 3, "a cut chunk wants more");
	check(decode(STR_LIT("0\r\n"), 3, out, &n, &rest) == CHUNKED_MORE, "a cut end wants more");
	check_bad("\r\n", "an empty size");
	check_bad(";a\r\n", "an extension without a size");
	check_bad("+5\r\n", "a sign");
	check_bad("0x5\r\n", "0x");
	check_bad(" 5\r\n", "a blank before the size");
	check_bad("5 \r\n", "a blank after the size");
	check_bad("g\r\n", "no hex digit");
	check_bad("1234567812345678\r\n", "a size of 16 digits");
	check_bad("5\nhello", "a size ended by LF");
	check_bad("5\rhello", "a size ended by CR alone");
	check_bad("5;a\nhello", "an extension ended by LF");
	check_bad("5;a\x01", "a control character in an extension");
	check_bad("2\r\nhello", "more data than the size");
	check_bad("5\r\nhello\n0", "data ended by LF");
	check_bad("5\r\nhello0", "data without an end");
	check_bad("0\r\n\n", "the end as LF");
	check_bad("0\r\nabc\r\n", "a trailer without a colon");
	check_bad("0\r\n a: b\r\n", "a folded trailer");
	check_bad("0\r\na b: c\r\n", "a blank in a trailer's name");
	check_bad("0\r\n: c\r\n", "a trailer without a name");
	check_bad("0\r\na: b\n", "a trailer ended by LF");
	test_limits();
	printf("%d passed, %d failed\n", passed, failed);
	return failed > 0;
}
