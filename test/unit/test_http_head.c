// SRC: src/http_head.c src/arena.c
/* test_http_head.c - the request filter: every ambiguous head of ANCHORS 2.5 is refused. */
#include "../../src/http_head.h"

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

static const char *error;
static HttpHead head;
static size_t size;

static HeadResult
parse_n(Arena *arena, const char *p, size_t n, size_t limit)
{
	error = NULL;
	size = 0;
	return http_head_parse(arena, (Str) {p, n}, limit, &head, &size, &error);
}

/* A head with these lines after "GET /a HTTP/1.1" and Host. */
static HeadResult
parse_with(Arena *arena, const char *lines)
{
	char		bytes[2000];
	int			n = snprintf(bytes, sizeof(bytes), "POST /a HTTP/1.1\r\nHost: x\r\n%s\r\n", lines);

	return parse_n(arena, bytes, (size_t) n, 16000);
}

static void
check_bad_lines(const char *lines, const char *why, const char *name)
{
	Arena	   *arena = arena_create();
	HeadResult	result = parse_with(arena, lines);

	check(result == HEAD_BAD && error && strstr(error, why), name);
	if (result == HEAD_BAD && error && !strstr(error, why))
		printf("# says: %s\n", error);
	arena_destroy(arena);
}

static void
check_bad_bytes(const char *bytes, size_t n, const char *why, const char *name)
{
	Arena	   *arena = arena_create();

	check(parse_n(arena, bytes, n, 16000) == HEAD_BAD && error && strstr(error, why), name);
	arena_destroy(arena);
}

#define BAD_BYTES(bytes, why, name) check_bad_bytes(bytes, sizeof(bytes) - 1, why, name)

static void
test_good(void)
{
	static const char plain[] = "GET /a%2Fb?c=d HTTP/1.1\r\nHost: x\r\nX-Y:  z \t\r\nEmpty:\r\n\r\nBODY";
	Arena	   *arena = arena_create();

	check(parse_n(arena, plain, sizeof(plain) - 1, 16000) == HEAD_OK &&
		  size == sizeof(plain) - 1 - 4 && str_is(head.method, "GET") && str_is(head.target, "/a%2Fb?c=d") && head.minor_version == 1 &&
		  head.nheaders == 3 && str_is(http_head_get(&head, "x-y"), "z") && http_head_get(&head, "empty").p != NULL &&
		  http_head_get(&head, "empty").n == 0 && http_head_get(&head, "none").p == NULL && !head.close,
		  "a plain head parses and stops at its blank line");
	check(parse_with(arena, "Content-Length: 12\r\n") == HEAD_OK && head.has_length && head.length == 12 && !head.chunked,
		  "Content-Length is understood");
	check(parse_with(arena, "Transfer-Encoding: Chunked\r\n") == HEAD_OK && head.chunked && !head.has_length,
		  "chunked is understood in any case");
	check(parse_with(arena, "Expect: 100-Continue\r\n") == HEAD_OK && head.expect_continue, "Expect is understood");
	check(parse_with(arena, "Connection: x, Close\r\n") == HEAD_OK && head.close, "Connection: close in a list");
	check(parse_n(arena, "GET / HTTP/1.0\r\n\r\n", 18, 99) == HEAD_OK && head.close && head.minor_version == 0,
		  "HTTP/1.0 needs no Host and closes");
	check(parse_n(arena, "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", 42, 99) == HEAD_OK && !head.close,
		  "HTTP/1.0 may ask to be kept alive");
	check(parse_with(arena, "X: a\tb \xc3\xa9\r\n") == HEAD_OK && str_is(head.headers[1].value, "a\tb \xc3\xa9"),
		  "TAB and bytes over 0x7f may stand in a value");
	check(parse_with(arena, "Accept: a\r\nAccept: b\r\nCookie: 1\r\nCookie: 2\r\n") == HEAD_OK && head.nheaders == 5,
		  "other headers may be repeated");
	arena_destroy(arena);
}

static void
test_framing(void)
{
	check_bad_lines("Content-Length: 5\r\nContent-Length: 5\r\n", "more than one", "two equal Content-Lengths");
	check_bad_lines("Content-Length: 5\r\ncontent-length: 6\r\n", "more than one", "two different Content-Lengths");
	check_bad_lines("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "beside", "Content-Length then chunked");
	check_bad_lines("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "beside", "chunked then Content-Length");
	check_bad_lines("Transfer-Encoding: xchunked\r\n", "exactly chunked", "a coding that is not chunked");
	check_bad_lines("Transfer-Encoding: gzip, chunked\r\n", "exactly chunked", "gzip, chunked");
	check_bad_lines("Transfer-Encoding: chunked, identity\r\n", "exactly chunked", "chunked, identity");
	check_bad_lines("Transfer-Encoding:\r\n", "exactly chunked", "an empty Transfer-Encoding");
	check_bad_lines("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "more than one", "two codings");
	check_bad_lines("Content-Length : 5\r\n", "token", "a space before the colon");
	check_bad_lines("Content-Length: 5, 5\r\n", "plain number", "Content-Length as a list");
	check_bad_lines("Content-Length: +5\r\n", "plain number", "Content-Length with a sign");
	check_bad_lines("Content-Length: -5\r\n", "plain number", "a negative Content-Length");
	check_bad_lines("Content-Length: 0x5\r\n", "plain number", "a hexadecimal Content-Length");
	check_bad_lines("Content-Length: 18446744073709551617\r\n", "plain number", "a Content-Length that overflows");
	check_bad_lines("Content-Length:\r\n", "plain number", "an empty Content-Length");
	check_bad_lines("Host: y\r\n", "more than one Host", "two Hosts");
	check_bad_lines("Authorization: a\r\nAuthorization: a\r\n", "more than one Auth", "two Authorizations");
	check_bad_lines("Sequin-Key: a\r\nsequin-key: b\r\n", "more than one Seq", "two Sequin-Keys");
	check_bad_lines("Content-Type: a\r\nContent-Type: b\r\n", "more than one Content-Type", "two Content-Types");
}

static void
test_lines(void)
{
	check_bad_lines("A: b\r\n c\r\n", "folded", "a folded line");
	check_bad_lines(" A: b\r\n", "folded", "a first header that begins with a blank");
	check_bad_lines("A\r\n", "colon", "a line without a colon");
	check_bad_lines(": b\r\n", "token", "an empty name");
	check_bad_lines("A(: b\r\n", "token", "a name that is no token");
	check_bad_lines("A\xc3\xa9: b\r\n", "token", "a name beyond ASCII");
	check_bad_lines("A: b\n", "LF alone", "a line that ends in LF");
	check_bad_lines("A: b\rc\r\n", "control", "a CR in a value");
	check_bad_lines("A: b\x01\r\n", "control", "a control character in a value");
	check_bad_lines("A: b\x7f\r\n", "control", "DEL in a value");
	BAD_BYTES("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", "control", "a NUL in a value");
	BAD_BYTES("GET / HTTP/1.1\nHost: x\n\n", "LF alone", "a head with bare LFs");
	BAD_BYTES("GET / HTTP/1.1\r\n\r\n", "no Host", "no Host in HTTP/1.1");
	BAD_BYTES("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "in HTTP/1.0", "chunked in HTTP/1.0");
	BAD_BYTES("\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", "empty request line", "an empty line in front");
}

static void
test_request_line(void)
{
	BAD_BYTES("GET http://evil/a HTTP/1.1\r\nHost: x\r\n\r\n", "slash", "an absolute target");
	BAD_BYTES("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "slash", "an asterisk target");
	BAD_BYTES("CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", "slash", "an authority target");
	BAD_BYTES("GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", "version", "a space in the target");
	BAD_BYTES("GET  /a HTTP/1.1\r\nHost: x\r\n\r\n", "slash", "two spaces after the method");
	BAD_BYTES("GET /a HTTP/1.1 \r\nHost: x\r\n\r\n", "version", "a space after the version");
	BAD_BYTES("GET /a\tb HTTP/1.1\r\nHost: x\r\n\r\n", "control", "a TAB in the target");
	BAD_BYTES("G@T /a HTTP/1.1\r\nHost: x\r\n\r\n", "token", "a method that is no token");
	BAD_BYTES("GET /a HTTP/2.0\r\nHost: x\r\n\r\n", "version", "HTTP/2.0");
	BAD_BYTES("GET /a HTTP/1.2\r\nHost: x\r\n\r\n", "version", "HTTP/1.2");
	BAD_BYTES("GET /a http/1.1\r\nHost: x\r\n\r\n", "version", "a version in lower case");
	BAD_BYTES("GET /a\r\n\r\n", "request line", "HTTP/0.9");
	BAD_BYTES("\x16\x03\x01\x02", "control", "a TLS hello is refused at its first bytes");
}

static void
test_incomplete_and_large(void)
{
	static const char whole[] = "GET /a HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n";
	size_t		n = sizeof(whole) - 1;
	Arena	   *arena = arena_create();
	bool		all = true;
	char	   *big;

	for (size_t i = 0; i < n; i++)
	{
		char	   *exact = malloc(i ? i : 1);	/* so that ASan sees a read past the end */

		memcpy(exact, whole, i);
		all = all && parse_n(arena, exact, i, 16000) == HEAD_INCOMPLETE;
		free(exact);
	}
	check(all, "every proper prefix of a head is incomplete");
	check(parse_n(arena, whole, n, n) == HEAD_OK, "a head of exactly the limit passes");
	check(parse_n(arena, whole, n, n - 1) == HEAD_TOO_LARGE, "a head one byte over the limit is too large");
	check(parse_n(arena, whole, n - 2, n - 4) == HEAD_TOO_LARGE, "an unfinished head over the limit is too large");
	big = malloc(100000);
	memcpy(big, whole, 26);
	n = 26;
	for (int i = 0; i < HTTP_MAX_HEADERS; i++)
		n += (size_t) sprintf(big + n, "H%d: x\r\n", i);
	memcpy(big + n, "\r\n", 2);
	check(parse_n(arena, big, n + 2, 90000) == HEAD_TOO_LARGE, "more than HTTP_MAX_HEADERS lines are too many");
	n = 26;
	for (int i = 0; i < HTTP_MAX_HEADERS - 1; i++)
		n += (size_t) sprintf(big + n, "H%d: x\r\n", i);
	memcpy(big + n, "\r\n", 2);
	check(parse_n(arena, big, n + 2, 90000) == HEAD_OK && head.nheaders == HTTP_MAX_HEADERS &&
		  str_is(head.headers[HTTP_MAX_HEADERS - 1].name, "H198"), "HTTP_MAX_HEADERS lines pass, all kept");
	free(big);
	arena_destroy(arena);
}

static bool
same_letter(int a, int b)
{
	a = a >= 'A' && a <= 'Z' ? a + 32 : a;
	b = b >= 'A' && b <= 'Z' ? b + 32 : b;
	return a == b;
}

/* Compared eight at a time: each pair of bytes, at each place of texts of each length. */
static void
test_case(void)
{
	bool		all = true;

	for (size_t n = 1; n <= 19; n++)
		for (size_t at = 0; at < n; at++)
			for (int i = 0; i < 256 * 256; i++)
			{
				char		a[19] = "Qx-\xe4[@z{`A~Zaw0_9b";
				char		b[19] = "qX-\xe4[@Z{`a~zAW0_9B";

				a[at] = (char) (i >> 8);
				b[at] = (char) i;
				all = all && str_ieq((Str) {a, n}, (Str) {b, n}) == same_letter(i >> 8, i & 255);
			}
	check(all, "two texts are the same but for ASCII letters' case, or they are not");
}

static void
test_names(void)
{
	static const char *const names[] = {
		[HTTP_ACCEPT_ENCODING] = "Accept-Encoding",[HTTP_AUTHORIZATION] = "Authorization",[HTTP_CONNECTION] = "Connection",
		[HTTP_CONTENT_LENGTH] = "Content-Length",[HTTP_CONTENT_TYPE] = "Content-Type",[HTTP_EXPECT] = "Expect",
		[HTTP_HOST] = "Host",[HTTP_KEEP_ALIVE] = "Keep-Alive",[HTTP_PROXY_AUTHENTICATE] = "Proxy-Authenticate",
		[HTTP_PROXY_AUTHORIZATION] = "Proxy-Authorization",[HTTP_PROXY_CONNECTION] = "Proxy-Connection",
		[HTTP_SEQUIN_KEY] = "Sequin-Key",[HTTP_TE] = "TE",[HTTP_TRAILER] = "Trailer",
		[HTTP_TRANSFER_ENCODING] = "Transfer-Encoding",[HTTP_UPGRADE] = "Upgrade"
	};
	bool		known = true;
	bool		others = true;

	for (int i = HTTP_OTHER + 1; i <= HTTP_UPGRADE; i++)
	{
		char		text[40];
		size_t		n = strlen(names[i]);

		memcpy(text, names[i], n);
		for (size_t j = 0; j < n; j++)
		{
			known = known && http_name((Str) {text, n}) == (HttpName) i;
			if (text[j] != '-')
				text[j] ^= 0x20;	/* the other case */
		}
		known = known && http_name((Str) {text, n}) == (HttpName) i;
		for (size_t j = 0; j < n; j++)
		{
			text[j] ^= 1;
			others = others && http_name((Str) {text, n}) == HTTP_OTHER;
			text[j] ^= 1;
		}
		others = others && http_name((Str) {text, n - 1}) == HTTP_OTHER;
	}
	check(known, "known names are known in any case");
	check(others && http_name((Str) {"", 0}) == HTTP_OTHER &&
		  http_name(STR_LIT("A-name-that-is-longer-than-any")) == HTTP_OTHER, "no other name is");
}

/* Lines are looked through in words: each byte, at each place of a line, is judged as it is alone. */
static void
test_bytes(void)
{
	bool		all = true;

	for (int c = 0; c < 256; c++)
		for (int at = 0; at < 21; at++)
		{
			Arena	   *arena = arena_create();
			char		bytes[] = "GET /a HTTP/1.1\r\nHost: x\r\nName: 01234567890123456789-\r\n\r\n";
			HeadResult	result;

			bytes[32 + at] = (char) c;
			result = parse_n(arena, bytes, sizeof(bytes) - 1, 16000);
			all = all && (result == HEAD_OK) == ((c >= 0x20 && c != 0x7f) || c == '\t');
			all = all && (result != HEAD_OK || http_is_value(head.headers[1].value));
			arena_destroy(arena);
		}
	check(all, "a control character but TAB is refused wherever in a value it stands");
}

int
main(void)
{
	test_case();
	test_names();
	test_bytes();
	test_good();
	test_framing();
	test_lines();
	test_request_line();
	test_incomplete_and_large();
	printf("%d passed, %d failed\n", passed, failed);
	return failed > 0;
}
