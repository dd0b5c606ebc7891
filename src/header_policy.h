/*
 * header_policy.h - which headers go up to the API and which come down.  Pure C; pure decisions.
 */
#ifndef SEQUIN_HEADER_POLICY_H
#define SEQUIN_HEADER_POLICY_H

#include "http_head.h"

/*
 * Up: every end-to-end header, in order, byte for byte.  Not: hop-by-hop ones (RFC 9110 7.6.1:
 * Connection and what it names, Keep-Alive, Proxy-Connection, Proxy-Authenticate, Proxy-Authorization, TE, Trailer,
 * Transfer-Encoding, Upgrade), Host, Content-Length, Expect, Sequin-Key;
 * Accept-Encoding when strip_accept_encoding.  authorization (STR_NULL: the caller's own goes up) takes the place
 * of the header that brought the proxy key.  Returns the count, -1 when out of memory.
 */
extern int	headers_up(Arena *arena, const HttpHead *head, Str authorization, bool strip_accept_encoding,
					   HttpHeader **out);

/*
 * Down: all but hop-by-hop ones, Content-Length and Transfer-Encoding (framing is ours) and any
 * Sequin-*.  in may be reordered never; returns the count, -1 when out of memory.
 */
extern int	headers_down(Arena *arena, const HttpHeader *in, int nin, HttpHeader **out);

#endif
