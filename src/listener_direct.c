/*
 * listener_direct.c - requests that we read, and responses that we write, ourselves: what is there as a
 * whole when its head is seen (the usual case: no second parse), what libmicrohttpd would not read as
 * strictly as we do, what does not fit its memory, and every error of the listener's own.
 *
 * Called by the gate.  It reads exactly the bytes of the request (or keeps what it read too much
 * for the next one) and must never block, nor send a header that it did not check.
 */
#include "listener_internal.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define CHUNKED_PIECE (16 * 1024)
#define READS_PER_TURN 64

static bool
send_continue(Conn *conn)
{
	static const char line[] = "HTTP/1.1 100 Continue\r\n\r\n";

	/* Nothing else is in the socket's send buffer, so these few bytes fit or the client is gone. */
	return send(conn->fd, line, sizeof(line) - 1, MSG_NOSIGNAL) == (ssize_t) sizeof(line) - 1;
}

void
direct_start_body(Conn *conn)
{
	HttpHead   *head = &conn->inbound->request.head;

	memset(&conn->chunked, 0, sizeof(conn->chunked));
	if (!head->chunked && head->length == 0)
	{
		conn_request_whole(conn);
		return;
	}
	conn->state = CONN_BODY;
	conn_deadline(conn, conn->listener->options.body_timeout_ms);
	if (head->expect_continue && head->minor_version == 1 && conn->in_n == 0 && !send_continue(conn))
		conn_close(conn);
	else
		direct_read_body(conn);
}

/* Takes what was only peeked at out of the socket, without copying it again. */
static bool
take_peeked(Conn *conn, Str bytes, size_t size)
{
	if (recv(conn->fd, NULL, size, MSG_TRUNC) != (ssize_t) size)
		return false;
	conn->consumed += size;
	/* if that was all, and no end behind it, what comes from now on gives an edge */
	conn->readable = bytes.n > size || bytes.n >= conn_peek_size(conn->listener) || conn->peer_closed;
	return true;
}

void
direct_take_whole(Conn *conn, Str bytes, size_t head_size, HeadPlace place)
{
	Inbound    *inbound = conn->inbound;
	size_t		body_n = (size_t) inbound->request.head.length;
	size_t		size = head_size + body_n;

	if ((body_n > 0 && !inbound_add(inbound, (Str) {bytes.p + head_size, body_n})) ||
		!(place == HEAD_TAKEN ? conn_keep_rest(conn, bytes, size) : take_peeked(conn, bytes, size)))
	{
		conn_close(conn);
		return;
	}
	conn->outright = true;
	conn_request_whole(conn);
}

/* False: no more for now (the state says why). */
static bool
read_sized(Conn *conn)
{
	Inbound    *inbound = conn->inbound;
	size_t		left = (size_t) inbound->request.head.length - inbound->body_n;
	size_t		ahead = conn->in_n < left ? conn->in_n : left;
	size_t		piece = left < LISTENER_SCRATCH ? left : LISTENER_SCRATCH;
	ssize_t		n;

	if (!inbound_reserve(inbound, inbound->body_n + (ahead > piece ? ahead : piece)))
	{
		conn_close(conn);
		return false;
	}
	if (ahead > 0)
	{
		memcpy(inbound->body + inbound->body_n, conn->in, ahead);
		inbound->body_n += ahead;
		conn_shift_in(conn, ahead);
		return true;
	}
	n = recv(conn->fd, inbound->body + inbound->body_n, piece, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0)
	{
		conn_close(conn);
		return false;
	}
	inbound->body_n += (size_t) n;
	conn->consumed += (uint64_t) n;
	return true;
}

static ChunkedResult
decode_in(Conn *conn)
{
	Inbound    *inbound = conn->inbound;
	Str			in = {conn->in, conn->in_n};
	Str			data = STR_NULL;
	ChunkedResult result;

	while ((result = chunked_next(&conn->chunked, &in, &data)) == CHUNKED_DATA)
	{
		if (data.n > conn->listener->options.max_body - inbound->body_n)
		{
			conn_refuse(conn, 413, "body_too_large", "the request body is larger than allowed",
						"Raise sequin_proxy.max_request_body.");
			return CHUNKED_BAD;
		}
		if (!inbound_add(inbound, data))
		{
			conn_close(conn);
			return CHUNKED_BAD;
		}
	}
	if (result == CHUNKED_BAD)
		conn_refuse(conn, 400, "bad_request", "a malformed chunk in the request body", NULL);
	else
		conn_shift_in(conn, conn->in_n - in.n);
	return result;
}

static bool
receive_piece(Conn *conn)
{
	ssize_t		n;

	if (!conn_reserve_in(conn, CHUNKED_PIECE))
	{
		conn_close(conn);
		return false;
	}
	n = recv(conn->fd, conn->in, conn->in_cap, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0)
	{
		conn_close(conn);
		return false;
	}
	conn->in_n = (size_t) n;
	conn->consumed += (uint64_t) n;
	return true;
}

static bool
read_chunked(Conn *conn)
{
	ChunkedResult result;

	if (conn->in_n == 0 && !receive_piece(conn))
		return false;
	result = decode_in(conn);
	if (result == CHUNKED_END)
		conn_request_whole(conn);
	return result == CHUNKED_MORE;
}

void
direct_read_body(Conn *conn)
{
	HttpHead   *head = &conn->inbound->request.head;

	for (int i = 0; i < READS_PER_TURN; i++)
	{
		if (head->chunked ? !read_chunked(conn) : !read_sized(conn))
			return;
		if (!head->chunked && conn->inbound->body_n == head->length)
		{
			conn_request_whole(conn);
			return;
		}
	}
	conn_kick(conn);			/* a fast sender: others have their turn first */
}

bool
response_header_ok(const HttpHeader *header)
{
	switch (http_name(header->name))
	{
		case HTTP_CONNECTION:
		case HTTP_CONTENT_LENGTH:
		case HTTP_KEEP_ALIVE:
		case HTTP_TRANSFER_ENCODING:
			return false;
		case HTTP_OTHER:
			return http_is_token(header->name) && http_is_value(header->value);
		default:
			return http_is_value(header->value);
	}
}

#define put_lit(p, text) str_put((p), STR_LIT(text))

static char *
put_headers(Conn *conn, char *p, const Response *response)
{
	for (int i = 0; i < response->nheaders; i++)
	{
		const HttpHeader *header = &response->headers[i];

		if (!response_header_ok(header))
		{
			listener_log(conn->listener, 0, "dropped a malformed header of a response");
			continue;
		}
		p = str_put(p, header->name);
		p = put_lit(p, ": ");
		p = str_put(p, header->value);
		p = put_lit(p, "\r\n");
	}
	return p;
}

static char *
put_length(char *p, uint64_t length)
{
	p = put_lit(p, "Content-Length: ");
	p = str_put_number(p, length);
	return put_lit(p, "\r\n");
}

static char *
put_framing(Conn *conn, char *p, const Response *response)
{
	const HttpHead *head = &conn->inbound->request.head;
	bool		is_head = str_is(head->method, "HEAD");
	bool		bodiless = response->status == 204 || response->status == 304;

	conn->out_no_body = is_head || bodiless;
	if ((is_head || response->status == 304) && response->status != 204 && response->has_declared_length)
		p = put_length(p, response->declared_length);
	else if (!bodiless && (!is_head || conn->inbound->out_body_n > 0))
		p = put_length(p, conn->inbound->out_body_n);
	if (conn->close_after)
		p = put_lit(p, "Connection: close\r\n");
	else if (head->minor_version == 0)
		p = put_lit(p, "Connection: keep-alive\r\n");
	return put_lit(p, "\r\n");
}

/* What build_head writes at most, beside the reason. */
static size_t
head_room(const Response *response)
{
	size_t		n = sizeof("HTTP/1.1 200 \r\nContent-Length: 18446744073709551615\r\nConnection: keep-alive\r\n\r\n");

	for (int i = 0; i < response->nheaders; i++)
		n += response->headers[i].name.n + response->headers[i].value.n + 4;
	return n;
}

/* Measured first, then written at once. */
static bool
build_head(Conn *conn, const Response *response)
{
	const char *phrase = MHD_get_reason_phrase_for((unsigned) response->status);
	Str			reason = str_of(phrase && strcmp(phrase, "Unknown") != 0 ? phrase : "Non-Standard Status");
	char	   *head = arena_alloc(conn->inbound->arena, head_room(response) + reason.n);
	char	   *p = head;

	if (head == NULL)
		return false;
	p = put_lit(p, "HTTP/1.1 ");
	p = str_put_number(p, (uint64_t) response->status);		/* of three digits: direct_respond saw to it */
	p = put_lit(p, " ");
	p = str_put(p, reason);
	p = put_lit(p, "\r\n");
	p = put_headers(conn, p, response);
	p = put_framing(conn, p, response);
	conn->out_head = head;
	conn->out_head_n = (size_t) (p - head);
	conn->out_sent = 0;
	return true;
}

void
direct_respond(Conn *conn, const Response *response)
{
	if (response->status < 200 || response->status > 999)
	{
		listener_log(conn->listener, 2, "a response with status %d was dropped", response->status);
		conn_close(conn);
		return;
	}
	if ((conn->mhd != NULL && conn->inbound->mhd_taken && !mhd_give_back(conn)) || !build_head(conn, response))
	{
		conn_close(conn);
		return;
	}
	conn->state = CONN_WRITE;
	conn_deadline(conn, conn->listener->options.write_timeout_ms);
	direct_write(conn);
}

void
direct_write(Conn *conn)
{
	Inbound    *inbound = conn->inbound;
	size_t		body_n = conn->out_no_body ? 0 : inbound->out_body_n;

	while (conn->out_sent < conn->out_head_n + body_n)
	{
		size_t		head_left = conn->out_sent < conn->out_head_n ? conn->out_head_n - conn->out_sent : 0;
		size_t		body_sent = head_left > 0 ? 0 : conn->out_sent - conn->out_head_n;
		struct iovec parts[2] = {
			{(char *) conn->out_head + conn->out_head_n - head_left, head_left},
			{inbound->out_body ? inbound->out_body + body_sent : NULL, body_n - body_sent}
		};
		struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
		ssize_t		n = sendmsg(conn->fd, &message, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0)
		{
			conn_close(conn);
			return;
		}
		conn->out_sent += (size_t) n;
	}
	conn_response_done(conn);
}
