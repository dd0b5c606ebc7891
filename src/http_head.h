/*
 * http_head.h - the strict parse of an HTTP/1.x request head: the request filter.  Pure C.
 *
 * libmicrohttpd 0.9.75 accepts heads that other programs read differently (ANCHORS 2.5), so the
 * listener lets it see only heads that passed here, and everything after routing uses this
 * parse, not libmicrohttpd's.  Refuses: bare LF or CR, NUL or another control character in a
 * value, folded lines, a name that is no token, space before the colon, a target that is not
 * origin-form, more than one of Host/Content-Length/Transfer-Encoding/Authorization/Content-Type/
 * Sequin-Key, Content-Length beside Transfer-Encoding, a Transfer-Encoding other than exactly
 * "chunked", a Content-Length that is not plain digits, no Host in HTTP/1.1, a version other than
 * 1.0 and 1.1, a Transfer-Encoding in HTTP/1.0.
 */
#ifndef SEQUIN_HTTP_HEAD_H
#define SEQUIN_HTTP_HEAD_H

#include "arena.h"

typedef struct HttpHeader
{
	Str			name;			/* as spelled */
	Str			value;			/* without surrounding blanks */
} HttpHeader;

/* The headers that mean something to a proxy; whoever has to tell many apart looks a name up once. */
typedef enum HttpName
{
	HTTP_OTHER,
	HTTP_ACCEPT_ENCODING,
	HTTP_AUTHORIZATION,
	HTTP_CONNECTION,
	HTTP_CONTENT_LENGTH,
	HTTP_CONTENT_TYPE,
	HTTP_EXPECT,
	HTTP_HOST,
	HTTP_KEEP_ALIVE,
	HTTP_PROXY_AUTHENTICATE,
	HTTP_PROXY_AUTHORIZATION,
	HTTP_PROXY_CONNECTION,
	HTTP_SEQUIN_KEY,
	HTTP_TE,
	HTTP_TRAILER,
	HTTP_TRANSFER_ENCODING,
	HTTP_UPGRADE
} HttpName;

typedef struct HttpHead
{
	Str			method;
	Str			target;			/* raw, origin-form, byte for byte */
	int			minor_version;	/* 0 or 1 */
	HttpHeader *headers;		/* in order */
	int			nheaders;
	bool		has_length;
	uint64_t	length;			/* Content-Length */
	bool		chunked;
	bool		expect_continue;
	bool		close;			/* Connection: close, or HTTP/1.0 without keep-alive */
} HttpHead;

typedef enum HeadResult
{
	HEAD_OK,
	HEAD_INCOMPLETE,			/* more bytes are needed */
	HEAD_BAD,					/* *error: 400 bad_request with this message */
	HEAD_TOO_LARGE,				/* 431: over limit bytes, or over HTTP_MAX_HEADERS lines */
	HEAD_NOMEM
} HeadResult;

#define HTTP_MAX_HEADERS 200

/* *size is the head's length with its blank line when HEAD_OK.  The head's slices point into a copy in the arena. */
extern HeadResult http_head_parse(Arena *arena, Str bytes, size_t limit, HttpHead *head, size_t *size,
								  const char **error);

/* The value of the first header of that name (case-insensitive); STR_NULL where absent. */
extern Str	http_head_get(const HttpHead *head, const char *name);
extern HttpName http_name(Str name);	/* case-insensitive */
extern bool http_is_token(Str s);
extern Str	http_trim(Str s);			/* without blanks (space, TAB) around it */
/* Takes the next element, trimmed and not empty, off the front of a comma-separated list.  False: none is left. */
extern bool http_list_next(Str *list, Str *element);
extern bool http_is_value(Str s);		/* no control characters but TAB */

#endif
