/*
 * upstream_answer.c - an answer's bytes, as they come, to its status, headers and body, within bounds.
 *
 * Owns the growing of an Answer: header slices in the call's arena, the body in malloc'd memory
 * that goes to the call's owner, and the decision where an answer ends (RFC 9112 6.3).  Called by
 * upstream.c with whatever a connection gave; knows neither sockets nor libcurl, so that it is
 * tested and fuzzed alone.  Lenient where programs agree (a bare LF ends a line), strict where two
 * readers could see different answers: what it lets through can be written to a caller without
 * becoming something else, and a connection is kept only when the end was certain.
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
	answer->old = p[7] == '0';
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
	Str			more = http_trim(line);
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

/* "5x" is not 5, and two lengths are none: a cut body would pass for whole. */
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

/* We send no TE, so that chunked, once, is all that an API may use. */
static bool
coding_header(Answer *answer, Str value)
{
	if (str_iis(value, "identity"))
		return true;
	if (!str_iis(value, "chunked") || answer->chunked)
		return stop(answer, ANSWER_NOT_HTTP);
	answer->chunked = true;
	return true;
}

static void
connection_header(Answer *answer, Str list)
{
	Str			option;

	while (http_list_next(&list, &option))
	{
		answer->close |= str_iis(option, "close");
		answer->keep |= str_iis(option, "keep-alive");
	}
}

/* What decides about this answer's end and its connection's. */
static bool
framing_header(Answer *answer, HttpName name, Str value)
{
	switch (name)
	{
		case HTTP_CONNECTION:
			connection_header(answer, value);
			return true;
		case HTTP_CONTENT_LENGTH:
			return length_header(answer, value);
		case HTTP_TRANSFER_ENCODING:
			return coding_header(answer, value);
		default:
			return true;
	}
}

static bool
header_line(Answer *answer, Str line)
{
	const char *colon = memchr(line.p, ':', line.n);
	HttpName	known;
	Str			copy;
	Str			name;
	Str			value;

	if (colon == NULL)
		return true;
	name = (Str) {line.p, (size_t) (colon - line.p)};
	value = http_trim((Str) {colon + 1, line.n - name.n - 1});
	/* A header that cannot be spelled safely to the caller is dropped; the answer stays. */
	known = http_name(name);
	if ((known == HTTP_OTHER && !http_is_token(name)) || !http_is_value(value))
		return true;
	if (!framing_header(answer, known, value))
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

/* An interim answer (1xx) is forgotten. */
static bool
interim_end(Answer *answer)
{
	if (answer->status == 101)
		return stop(answer, ANSWER_NOT_HTTP);	/* we never ask for an upgrade */
	answer->nheaders = 0;
	answer->has_length = answer->chunked = false;
	answer->status = 0;
	answer->lines = 0;
	answer->head_bytes = 0;
	return true;
}

/* The final answer's blank line: where does its body end?  RFC 9112 6.3. */
static bool
head_end(Answer *answer)
{
	if (answer->status < 200)
		return interim_end(answer);
	if (answer->old)
		answer->close |= !answer->keep || answer->chunked;
	if (answer->no_body || answer->status == 204 || answer->status == 304)
		answer->state = ANSWER_WHOLE;
	else if (answer->chunked)
	{
		answer->state = ANSWER_CHUNKS;
		answer->chunks.blanks = true;
		answer->close |= answer->has_length;	/* one of the two is wrong: this far, and no further */
		answer->has_length = false;
	}
	else if (!answer->has_length)
	{
		answer->state = ANSWER_UNTIL_END;
		answer->close = true;
	}
	else if ((uint64_t) answer->length > answer->max_body)
		return stop(answer, ANSWER_TOO_LARGE);
	else
		answer->state = answer->length > 0 ? ANSWER_LENGTH : ANSWER_WHOLE;
	return true;
}

/* One line as it came, its line end included.  False: stop; fault says why. */
static bool
head_line(Answer *answer, Str line)
{
	bool		first = answer->lines == 0;

	answer->head_bytes += line.n;
	if (line.n > 0 && line.p[line.n - 1] == '\n')
		line.n--;
	if (line.n > 0 && line.p[line.n - 1] == '\r')
		line.n--;
	if (answer->head_bytes > ANSWER_MAX_HEAD || (line.n > 0 && ++answer->lines > ANSWER_MAX_LINES + 1))
		return stop(answer, ANSWER_TOO_LARGE);
	if (first)
		return status_line(answer, line);
	if (line.n == 0)
		return head_end(answer);
	if (line.p[0] == ' ' || line.p[0] == '\t')
		return folded_line(answer, line);
	return header_line(answer, line);
}

/* Keeps the start of a line whose end has not come yet. */
static bool
keep_part(Answer *answer, const char *p, size_t n)
{
	char	   *part;

	if (answer->part_len + n + answer->head_bytes > ANSWER_MAX_HEAD)
		return stop(answer, ANSWER_TOO_LARGE);
	part = realloc(answer->part, answer->part_len + n);
	if (part == NULL)
		return stop(answer, ANSWER_NOMEM);
	memcpy(part + answer->part_len, p, n);
	answer->part = part;
	answer->part_len += n;
	return true;
}

/* How many bytes went into the next line; its fault is seen by answer_feed(). */
static size_t
feed_line(Answer *answer, const char *p, size_t n)
{
	const char *end = memchr(p, '\n', n);
	size_t		taken = end != NULL ? (size_t) (end - p) + 1 : n;
	Str			line = {p, taken};

	/* other protocols need not ever end their first line */
	if (answer->lines == 0 && answer->part_len == 0 && *p != 'H')
	{
		answer->fault = ANSWER_NOT_HTTP;
		return n;
	}
	if (end == NULL || answer->part_len > 0)
	{
		if (!keep_part(answer, p, taken) || end == NULL)
			return taken;
		line = (Str) {answer->part, answer->part_len};
		answer->part_len = 0;
	}
	(void) head_line(answer, line);
	return taken;
}

static size_t
body_capacity(const Answer *answer, size_t need)
{
	size_t		cap = answer->body_cap ? answer->body_cap * 2 : BODY_FIRST;

	if (answer->body == NULL && answer->has_length)
		cap = answer->length < BODY_TRUST ? (size_t) answer->length : BODY_TRUST;
	if (cap > answer->max_body)
		cap = answer->max_body;
	return cap < need ? need : cap;
}

static bool
add_body(Answer *answer, const char *p, size_t n)
{
	if (n > answer->max_body - answer->body_len)
		return stop(answer, ANSWER_TOO_LARGE);
	if (answer->body_len + n > answer->body_cap)
	{
		size_t		cap = body_capacity(answer, answer->body_len + n);
		char	   *body = cap < SIZE_MAX ? realloc(answer->body, cap + 1) : NULL;

		if (body == NULL)
			return stop(answer, ANSWER_NOMEM);
		answer->body = body;
		answer->body_cap = cap;
	}
	memcpy(answer->body + answer->body_len, p, n);
	answer->body_len += n;
	answer->body[answer->body_len] = '\0';
	return true;
}

static size_t
feed_length(Answer *answer, const char *p, size_t n)
{
	size_t		left = (size_t) answer->length - answer->body_len;

	if (n >= left)
	{
		n = left;
		answer->state = ANSWER_WHOLE;
	}
	(void) add_body(answer, p, n);
	return n;
}

static size_t
feed_chunks(Answer *answer, const char *p, size_t n)
{
	Str			in = {p, n};
	Str			data;
	ChunkedResult result;

	while ((result = chunked_next(&answer->chunks, &in, &data)) == CHUNKED_DATA)
		if (!add_body(answer, data.p, data.n))
			return n;
	if (result == CHUNKED_BAD)
		answer->fault = ANSWER_NOT_HTTP;
	else if (result == CHUNKED_END)
		answer->state = ANSWER_WHOLE;
	return n - in.n;
}

size_t
answer_feed(Answer *answer, const char *p, size_t n)
{
	size_t		taken = 0;

	while (taken < n && answer->fault == ANSWER_FINE && answer->state != ANSWER_WHOLE)
	{
		const char *at = p + taken;
		size_t		left = n - taken;

		switch (answer->state)
		{
			case ANSWER_HEAD:
				taken += feed_line(answer, at, left);
				break;
			case ANSWER_LENGTH:
				taken += feed_length(answer, at, left);
				break;
			case ANSWER_CHUNKS:
				taken += feed_chunks(answer, at, left);
				break;
			case ANSWER_UNTIL_END:
				(void) add_body(answer, at, left);
				return n;
			case ANSWER_WHOLE:
				break;
		}
	}
	return taken;
}

bool
answer_end(Answer *answer)
{
	if (answer->state == ANSWER_UNTIL_END && answer->fault == ANSWER_FINE)
		answer->state = ANSWER_WHOLE;
	return answer->state == ANSWER_WHOLE;
}

void
answer_free(Answer *answer)
{
	free(answer->part);
	free(answer->body);
	answer->part = answer->body = NULL;
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
