// SRC: src/upstream_answer.c src/arena.c src/http_head.c src/http_chunked.c
/*
 * test_upstream_answer.c - where an answer ends, whether its connection may be used again, and that
 * it does not matter how its bytes were cut on the way.
 */
#include "../../src/upstream_internal.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_BODY 100

static int	passed;
static int	failed;

static void
check(bool ok, const char *what)
{
	printf("%s - %s\n", ok ? "ok" : "not ok", what);
	ok ? passed++ : failed++;
}

typedef struct Read
{
	Answer		answer;
	size_t		taken;
	bool		whole;			/* at its end or the connection's */
} Read;

/* Feeds pieces of step bytes, each in memory of its own, and then the connection's end. */
static Read
read_answer(Str bytes, size_t step, bool head)
{
	Read		r = {.answer = {.arena = arena_create(), .max_body = MAX_BODY, .no_body = head}};
	Answer	   *answer = &r.answer;

	while (r.taken < bytes.n && answer->state != ANSWER_WHOLE && answer->fault == ANSWER_FINE)
	{
		size_t		n = bytes.n - r.taken < step ? bytes.n - r.taken : step;
		char	   *exact = malloc(n);

		memcpy(exact, bytes.p + r.taken, n);
		r.taken += answer_feed(answer, exact, n);
		free(exact);
	}
	r.whole = answer_end(answer);
	return r;
}

static void
read_free(Read *r)
{
	arena_destroy(r->answer.arena);
	answer_free(&r->answer);
}

static bool
same(const Read *a, const Read *b)
{
	const Answer *x = &a->answer;
	const Answer *y = &b->answer;

	if (x->fault != y->fault || a->whole != b->whole)
		return false;
	if (x->fault != ANSWER_FINE)
		return true;
	if (x->status != y->status || x->close != y->close || a->taken != b->taken || x->nheaders != y->nheaders
		|| x->body_len != y->body_len || (x->body_len > 0 && memcmp(x->body, y->body, x->body_len) != 0))
		return false;
	for (int i = 0; i < x->nheaders; i++)
		if (!str_eq(x->headers[i].name, y->headers[i].name) || !str_eq(x->headers[i].value, y->headers[i].value))
			return false;
	return true;
}

static Read
read_cut_anywhere(const char *text, bool head, const char *what)
{
	Str			bytes = str_of(text);
	Read		whole = read_answer(bytes, bytes.n, head);
	bool		ok = true;

	for (size_t step = 1; step < bytes.n; step++)
	{
		Read		cut = read_answer(bytes, step, head);

		ok &= same(&whole, &cut);
		read_free(&cut);
	}
	check(ok, what);
	return whole;
}

/* keep: the connection may serve another call; rest: bytes behind the answer. */
static void
good(const char *text, bool head, const char *body, bool keep, size_t rest, const char *what)
{
	Read		r = read_cut_anywhere(text, head, what);

	check(r.whole && r.answer.fault == ANSWER_FINE && r.answer.body_len == strlen(body)
		  && (body[0] == '\0' || strcmp(r.answer.body, body) == 0), "... its body");
	check(r.answer.close == !keep && strlen(text) - r.taken == rest, "... its end, and its connection");
	read_free(&r);
}

static void
bad(const char *text, AnswerFault fault, const char *what)
{
	Read		r = read_cut_anywhere(text, false, what);

	check(!r.whole && r.answer.fault == fault, "... and why");
	read_free(&r);
}

#define OK "HTTP/1.1 200 OK\r\n"

static void
test_ends(void)
{
	good(OK "Content-Length: 2\r\n\r\nhi", false, "hi", true, 0, "a declared length");
	good(OK "Content-Length: 2\r\n\r\nhiHTTP/1.1 200", false, "hi", true, 12, "bytes behind the answer are not taken");
	good(OK "Content-Length: 0\r\n\r\nx", false, "", true, 1, "an empty body");
	good(OK "Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi", false, "hi", true, 0, "the same length twice");
	good(OK "Transfer-Encoding: Chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\nrest", false, "hi", true, 4, "chunks");
	good(OK "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-T: u\r\n\r\n", false, "hi", true, 0, "chunks and a trailer, which is dropped");
	good(OK "Transfer-Encoding: chunked\r\n\r\n2 \t\r\nhi\r\n0  \r\n\r\n", false, "hi", true, 0, "chunks whose sizes have blanks behind them");
	good(OK "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", false, "hi", false, 0, "chunks beside a length: chunks, and the connection's end");
	good(OK "\r\nto the end", false, "to the end", false, 0, "neither");
	good(OK "Transfer-Encoding: identity\r\nContent-Length: 1\r\n\r\nx", false, "x", true, 0, "identity is no coding");
	good("HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nhello", false, "", true, 5, "204 has no body, whatever it declares");
	good("HTTP/1.1 304 No\r\nTransfer-Encoding: chunked\r\n\r\n", false, "", true, 0, "nor has 304");
	good(OK "Content-Length: 99999\r\n\r\n", true, "", true, 0, "nor an answer to HEAD, however long the body would be");
	good("HTTP/1.1 100 C\r\nContent-Length: 7\r\nConnection: close\r\n\r\nHTTP/1.1 103 E\r\nTransfer-Encoding: chunked\r\n\r\n" OK "Content-Length: 1\r\n\r\nx",
		 false, "x", false, 0, "interim answers have no body; a close among them holds");
	good("HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", false, "hi", true, 0, "bare line feeds");
}

static void
test_connections(void)
{
	good(OK "Connection: close\r\nContent-Length: 1\r\n\r\nx", false, "x", false, 0, "close");
	good(OK "connection: foo ,\tCLOSE, bar\r\nContent-Length: 1\r\n\r\nx", false, "x", false, 0, "close in a list");
	good(OK "Connection: closed, not-close\r\nContent-Length: 1\r\n\r\nx", false, "x", true, 0, "words like it");
	good(OK "Connection: ,,\r\nContent-Length: 1\r\n\r\nx", false, "x", true, 0, "an empty list");
	good("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", false, "x", false, 0, "HTTP/1.0");
	good("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx", false, "x", true, 0, "HTTP/1.0 that stays");
	good("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false, "", false, 0, "HTTP/1.0 with a coding that it does not have");
}

static void
test_faults(void)
{
	bad("", ANSWER_FINE, "nothing");
	bad(OK "Content-Length: 3\r\n\r\nhi", ANSWER_FINE, "a short body");
	bad(OK "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", ANSWER_FINE, "chunks without an end");
	bad(OK "X: y\r\n", ANSWER_FINE, "a head without an end");
	bad("HTTP/1.1 100 Continue\r\n\r\n", ANSWER_FINE, "an interim answer alone");
	bad("\r\n" OK "\r\n", ANSWER_NOT_HTTP, "a blank line first");
	bad(OK "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ANSWER_NOT_HTTP, "chunked twice");
	bad(OK "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", ANSWER_NOT_HTTP, "a coding that was not asked for");
	bad(OK "Transfer-Encoding: chunked\r\n\r\n2\r\nhix\r\n0\r\n\r\n", ANSWER_NOT_HTTP, "a chunk that is longer than it says");
	bad(OK "Transfer-Encoding: chunked\r\n\r\n-2\r\nhi\r\n0\r\n\r\n", ANSWER_NOT_HTTP, "a negative chunk");
	bad(OK "Content-Length:\r\n\r\n", ANSWER_NOT_HTTP, "a length that is not there");
	bad(OK "Content-Length: 1, 1\r\n\r\nx", ANSWER_NOT_HTTP, "a list of lengths");
	bad(OK "Content-Length: 101\r\n\r\n", ANSWER_TOO_LARGE, "a length over the limit, at once");
	bad("HTTP/1.1 101 S\r\n\r\n", ANSWER_NOT_HTTP, "another protocol");
	bad("SSH-2.0-x\r\n", ANSWER_NOT_HTTP, "another server");
}

static void
test_dripped_limits(void)
{
	Read		r = {.answer = {.arena = arena_create(), .max_body = MAX_BODY}};
	size_t		n = 0;

	(void) answer_feed(&r.answer, OK "X-Endless: ", 28);
	while (r.answer.fault == ANSWER_FINE && n < 10 * ANSWER_MAX_HEAD)
		n += answer_feed(&r.answer, "aaaaaaaaaaaaaaaa", 16);
	check(r.answer.fault == ANSWER_TOO_LARGE && n <= ANSWER_MAX_HEAD + 16, "a line that never ends is cut off at the limit of heads");
	check(answer_feed(&r.answer, "x", 1) == 0, "after a fault nothing is taken");
	read_free(&r);
}

int
main(void)
{
	test_ends();
	test_connections();
	test_faults();
	test_dripped_limits();
	printf("%d passed, %d failed\n", passed, failed);
	return failed != 0;
}
