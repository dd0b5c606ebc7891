/*
 * upstream_answer.c - the answer's head and body, collected within bounds.
 *
 * Owns the growing of an Answer: header slices in the call's arena, the body in malloc'd memory
 * that goes to the call's owner.  Called from libcurl's write callbacks only; knows no libcurl, so
 * that it can be tested and fuzzed alone.  libcurl reads heads leniently, this file does not: what
 * it lets through can be written to a caller without becoming something else.
 */
#include "upstream_internal.h"

#include <stdlib.h>

/* What is allocated on an API's mere word; beyond it a body must have come to grow. */
#define BODY_TRUST (1024 * 1024)
#define BODY_FIRST 4096
#define HEADERS_FIRST 24

static bool
stop(Answer *answer, AnswerFault fault)
{
	answer->fault = fault;
	return false;
}

static Str
trim(Str s)
{
	while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t'))
		s.p++, s.n--;
	while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* "HTTP/1.x NNN" and then nothing or a blank. */
static bool
status_line(Answer *answer, Str line)
{
	const char *p = line.p;

	if (line.n < 12 || memcmp(p, "HTTP/1.", 7) != 0 || (p[7] != '0' && p[7] != '1') || p[8] != ' ')
		return stop(answer, ANSWER_NOT_HTTP);
	if (p[9] < '1' || p[9] > '9' || !is_digit(p[10]) || !is_digit(p[11]) || (line.n > 12 && p[12] != ' '))
		return stop(answer, ANSWER_NOT_HTTP);
	answer->status = (p[9] - '0') * 100 + (p[10] - '0') * 10 + (p[11] - '0');
	return true;
}

static bool
reserve_header(Answer *answer)
{
	int			cap = answer->cap ? answer->cap * 2 : HEADERS_FIRST;
	HttpHeader *headers;

	if (answer->nheaders < answer->cap)
		return true;
	headers = arena_alloc(answer->arena, sizeof(HttpHeader) * (size_t) cap);
	if (headers == NULL)
		return stop(answer, ANSWER_NOMEM);
	if (answer->nheaders > 0)
		memcpy(headers, answer->headers, sizeof(HttpHeader) * (size_t) answer->nheaders);
	answer->headers = headers;
	answer->cap = cap;
	return true;
}

/* An obsolete folded line continues the value before it; RFC 9112 5.2 lets a gateway join them with a blank. */
static bool
folded_line(Answer *answer, Str line)
{
	HttpHeader *last = answer->nheaders > 0 ? &answer->headers[answer->nheaders - 1] : NULL;
	Str			more = trim(line);
	char	   *joined;

	if (last == NULL || more.n == 0 || !http_is_value(more))
		return true;
	joined = arena_alloc(answer->arena, last->value.n + 1 + more.n + 1);
	if (joined == NULL)
		return stop(answer, ANSWER_NOMEM);
	memcpy(joined, last->value.p, last->value.n);
	joined[last->value.n] = ' ';
	memcpy(joined + last->value.n + 1, more.p, more.n);
	joined[last->value.n + 1 + more.n] = '\0';
	last->value = (Str) {joined, last->value.n + 1 + more.n};
	return true;
}

/* libcurl reads "5x" as 5 and an absurd number as "until the end": either way a cut body would pass for whole. */
static bool
length_header(Answer *answer, Str value)
{
	int64_t		length = 0;

	for (size_t i = 0; i < value.n; i++)
	{
		if (!is_digit(value.p[i]))
			return stop(answer, ANSWER_NOT_HTTP);
		if (i >= 18)
			return stop(answer, ANSWER_TOO_LARGE);
		length = length * 10 + (value.p[i] - '0');
	}
	if (value.n == 0 || (answer->has_length && answer->length != length))
		return stop(answer, ANSWER_NOT_HTTP);
	answer->has_length = true;
	answer->length = length;
	return true;
}

static bool
header_line(Answer *answer, Str line)
{
	const char *colon = memchr(line.p, ':', line.n);
	Str			copy;
	Str			name;
	Str			value;

	if (colon == NULL)
		return true;
	name = (Str) {line.p, (size_t) (colon - line.p)};
	value = trim((Str) {colon + 1, line.n - name.n - 1});
	/* A header that cannot be spelled safely to the caller is dropped; the answer stays. */
	if (!http_is_token(name) || !http_is_value(value))
		return true;
	if (str_iis(name, "Content-Length") && !length_header(answer, value))
		return false;
	if (!reserve_header(answer))
		return false;
	copy = arena_str(answer->arena, line.p, line.n);
	if (copy.p == NULL)
		return stop(answer, ANSWER_NOMEM);
	answer->headers[answer->nheaders++] = (HttpHeader) {
		{copy.p, name.n}, {copy.p + (value.p - line.p), value.n}
	};
	return true;
}

/* The blank line: an interim answer (1xx) is forgotten, any other was the one. */
static bool
head_end(Answer *answer)
{
	if (answer->status == 101)
		return stop(answer, ANSWER_NOT_HTTP);	/* we never ask for an upgrade */
	answer->whole_head = answer->status >= 200;
	answer->lines = 0;
	answer->head_bytes = 0;
	if (!answer->whole_head)
	{
		answer->nheaders = 0;
		answer->has_length = false;
		answer->status = 0;
	}
	return true;
}

bool
answer_head_line(Answer *answer, const char *p, size_t n)
{
	Str			line = {p, n};

	if (line.n > 0 && line.p[line.n - 1] == '\n')
		line.n--;
	if (line.n > 0 && line.p[line.n - 1] == '\r')
		line.n--;
	answer->head_bytes += n;
	if (answer->head_bytes > ANSWER_MAX_HEAD || (line.n > 0 && ++answer->lines > ANSWER_MAX_LINES + 1))
		return stop(answer, ANSWER_TOO_LARGE);
	if (answer->whole_head)
		return true;			/* trailers: bounded, dropped */
	if (answer->lines <= 1 && line.n > 0)
		return status_line(answer, line);
	if (line.n == 0)
		return head_end(answer);
	if (line.p[0] == ' ' || line.p[0] == '\t')
		return folded_line(answer, line);
	return header_line(answer, line);
}

static size_t
body_capacity(const Answer *answer, size_t need, int64_t declared)
{
	size_t		cap = answer->body_cap ? answer->body_cap * 2 : BODY_FIRST;

	if (answer->body == NULL && declared >= 0)
		cap = declared < BODY_TRUST ? (size_t) declared : BODY_TRUST;
	if (cap > answer->max_body)
		cap = answer->max_body;
	return cap < need ? need : cap;
}

bool
answer_body(Answer *answer, const char *p, size_t n, int64_t declared)
{
	if (declared > 0 && (uint64_t) declared > answer->max_body)
		return stop(answer, ANSWER_TOO_LARGE);
	if (n > answer->max_body - answer->body_len)
		return stop(answer, ANSWER_TOO_LARGE);
	if (answer->body_len + n > answer->body_cap)
	{
		size_t		cap = body_capacity(answer, answer->body_len + n, declared);
		char	   *body = cap < SIZE_MAX ? realloc(answer->body, cap + 1) : NULL;

		if (body == NULL)
			return stop(answer, ANSWER_NOMEM);
		answer->body = body;
		answer->body_cap = cap;
	}
	if (n > 0)
		memcpy(answer->body + answer->body_len, p, n);
	answer->body_len += n;
	if (answer->body != NULL)
		answer->body[answer->body_len] = '\0';
	return true;
}

Str
upstream_result_header(void *cls, const char *name)
{
	const UpstreamResult *result = cls;

	for (int i = 0; i < result->nheaders; i++)
		if (str_iis(result->headers[i].name, name))
			return result->headers[i].value;
	return STR_NULL;
}
