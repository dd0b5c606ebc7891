/*
 * listener_gate.c - a connection's life: which state follows which, its deadlines, and the filter
 * that every request head passes before anything acts on it.
 *
 * Owns every Conn.  Each has one edge-triggered watch for all its life; whoever changes the state
 * to one that reads must see to it that conn_process runs, for the edge may be over.  It must never let
 * libmicrohttpd run on a connection whose next bytes are not a head that passed here.
 */
#include "listener_internal.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINGER_MS 2000
#define LINGER_BYTES (8 * 1024 * 1024)

static void conn_event(void *arg, uint32_t events);
static void timer_rang(void *arg);

Conn *
conn_create(Listener *listener, int fd, bool peer_loopback)
{
	Conn	   *conn = calloc(1, sizeof(Conn));

	if (conn == NULL)
		return NULL;
	conn->listener = listener;
	conn->fd = fd;
	conn->readable = true;
	conn->peer_loopback = peer_loopback;
	if (!conn_watch(conn))
	{
		free(conn);
		return NULL;
	}
	conn->next = listener->conns;
	if (conn->next != NULL)
		conn->next->prev = conn;
	listener->conns = conn;
	listener->stats.connections++;
	conn_deadline(conn, listener->options.head_timeout_ms);
	return conn;
}

bool
conn_watch(Conn *conn)
{
	conn->watch = reactor_watch(conn->listener->reactor, conn->fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
								conn_event, conn);
	return conn->watch != NULL;
}

size_t
conn_unread(const Conn *conn)
{
	int			n = 0;

	return conn->fd >= 0 && ioctl(conn->fd, SIOCINQ, &n) == 0 && n > 0 ? (size_t) n : 0;
}

/*
 * Deadlines mostly move on, request by request.  So the timer stays where it was and looks at due_us when it
 * comes: a busy connection costs the heap nothing.
 */
void
conn_deadline(Conn *conn, int64_t ms)
{
	Reactor    *reactor = conn->listener->reactor;

	conn->due_us = ms <= 0 ? 0 : reactor_now_us(reactor) + ms * 1000;
	if (ms <= 0 || (conn->timer.slot != 0 && conn->timer.at_us <= conn->due_us))
		return;
	if (!timer_set(reactor, &conn->timer, conn->due_us, timer_rang, conn))
		listener_log(conn->listener, 2, "out of memory for a deadline");
}

void
conn_kick(Conn *conn)
{
	Listener   *listener = conn->listener;

	if (!conn->kicked)
	{
		conn->kicked = true;
		conn->kick_next = listener->kicked;
		listener->kicked = conn;
	}
	listener_due(listener);
}

/* The client has left, or its connection is of no use any more: its request goes on without it. */
void
conn_drop_request(Conn *conn)
{
	Inbound    *inbound = conn->inbound;
	Listener   *listener = conn->listener;

	conn->inbound = NULL;
	if (inbound == NULL)
		return;
	inbound->request.kept = NULL;
	if (!inbound->handed_over || inbound->answered)
	{
		inbound_finish(inbound);
		inbound->conn = NULL;
		return;
	}
	inbound->conn = NULL;
	inbound->request.client_gone = true;
	listener->handler.on_client_gone(listener->handler.cls, &inbound->request);
}

static void
unlink_conn(Conn *conn)
{
	Listener   *listener = conn->listener;

	if (conn->prev != NULL)
		conn->prev->next = conn->next;
	else
		listener->conns = conn->next;
	if (conn->next != NULL)
		conn->next->prev = conn->prev;
	listener->stats.connections--;
	if (!conn->kicked)			/* else process_kicked moves it */
	{
		conn->kick_next = listener->closed;
		listener->closed = conn;
	}
	listener_due(listener);
}

void
conn_close(Conn *conn)
{
	Listener   *listener = conn->listener;

	if (conn->state == CONN_CLOSED)
		return;
	timer_clear(listener->reactor, &conn->timer);
	if (conn->mhd != NULL)
		mhd_let_go(conn);
	reactor_unwatch(listener->reactor, conn->watch);
	conn->watch = NULL;
	if (conn->fd >= 0)
		close(conn->fd);
	conn->fd = -1;
	conn->state = CONN_CLOSED;
	unlink_conn(conn);
	conn_drop_request(conn);
}

/* Closing with bytes unread makes the kernel send a reset, which may overtake our answer. */
void
conn_linger(Conn *conn)
{
	if (conn->mhd != NULL && !mhd_give_back(conn))
	{
		conn_close(conn);
		return;
	}
	if (shutdown(conn->fd, SHUT_WR) != 0 || (!conn->unread_body && conn_unread(conn) == 0))
	{
		conn_close(conn);
		return;
	}
	conn->state = CONN_LINGER;
	conn_deadline(conn, LINGER_MS);
	conn_kick(conn);
}

static void
drain(Conn *conn)
{
	Listener   *listener = conn->listener;

	while (conn->drained < LINGER_BYTES)
	{
		ssize_t		n = recv(conn->fd, listener->scratch, sizeof(listener->scratch), 0);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0)
			break;
		conn->drained += (size_t) n;
	}
	conn_close(conn);
}

void
conn_refuse(Conn *conn, int status, const char *code, const char *message, const char *hint)
{
	Listener   *listener = conn->listener;
	Response	response = {0};

	if (conn->mhd != NULL && !mhd_give_back(conn))
	{
		conn_close(conn);
		return;
	}
	if (conn->inbound == NULL && (conn->inbound = inbound_create(conn)) == NULL)
	{
		conn_close(conn);
		return;
	}
	conn->unread_body = true;
	conn->close_after = true;
	conn->inbound->answered = true;
	listener->handler.make_error(listener->handler.cls, conn->inbound->arena, conn->inbound->request.id, status,
								 code, message, hint, &response);
	conn->inbound->out_body = response.body;
	conn->inbound->out_body_n = response.body ? response.body_len : 0;
	direct_respond(conn, &response);
}

static void
refuse_late(Conn *conn, const char *part, int64_t ms)
{
	char		message[100];

	snprintf(message, sizeof(message), "the request's %s did not arrive within %lld ms", part, (long long) ms);
	conn_refuse(conn, 400, "bad_request", message, NULL);
}

static void
deadline_passed(Conn *conn)
{
	const ListenerOptions *options = &conn->listener->options;

	switch (conn->state)
	{
		case CONN_HEAD:
			refuse_late(conn, "head", options->head_timeout_ms);
			break;
		case CONN_BODY:
		case CONN_MHD_READ:
			refuse_late(conn, "body", options->body_timeout_ms);
			break;
		default:				/* idle, a client that does not read, a linger that ends */
			conn_close(conn);
	}
}

static void
timer_rang(void *arg)
{
	Conn	   *conn = arg;
	Reactor    *reactor = conn->listener->reactor;

	if (conn->due_us == 0)
		return;					/* the next deadline sets the timer again */
	if (conn->due_us <= clock_us())
		deadline_passed(conn);
	else if (!timer_set(reactor, &conn->timer, conn->due_us, timer_rang, conn))
		listener_log(conn->listener, 2, "out of memory for a deadline");
}

static void
note_peer_closed(Conn *conn)
{
	Inbound    *inbound = conn->inbound;
	Listener   *listener = conn->listener;

	conn->peer_closed = true;
	if (inbound == NULL || !inbound->handed_over || inbound->answered || inbound->request.client_closed)
		return;
	inbound->request.client_closed = true;
	if (listener->handler.on_client_closed != NULL)
		listener->handler.on_client_closed(listener->handler.cls, &inbound->request);
}

static void
conn_event(void *arg, uint32_t events)
{
	Conn	   *conn = arg;

	if (conn->state == CONN_CLOSED)
		return;
	/* A half-closed connection (RDHUP alone) still waits for its answer; a reset one does not. */
	if (events & (EPOLLERR | EPOLLHUP) && conn->state != CONN_MHD_CLOSING)
	{
		conn_close(conn);
		return;
	}
	if (events & (EPOLLIN | EPOLLRDHUP))
		conn->readable = true;
	if (events & EPOLLRDHUP)
		note_peer_closed(conn);
	conn_process(conn);
}

bool
conn_reserve_in(Conn *conn, size_t cap)
{
	char	   *grown;

	if (conn->in_cap >= cap)
		return true;
	grown = realloc(conn->in, cap);
	if (grown == NULL)
		return false;
	conn->in = grown;
	conn->in_cap = cap;
	return true;
}

void
conn_shift_in(Conn *conn, size_t n)
{
	conn->in_n -= n;
	if (conn->in_n > 0)
		memmove(conn->in, conn->in + n, conn->in_n);
}

/* Makes what was only peeked at ours: the rest of this request is read directly. */
static bool
consume(Conn *conn, size_t n, bool keep)
{
	char	   *to = conn->listener->scratch;

	if (keep)
	{
		if (!conn_reserve_in(conn, conn->listener->options.max_head + 1))
			return false;
		to = conn->in;
	}
	if (recv(conn->fd, to, n, 0) != (ssize_t) n)
		return false;
	conn->consumed += n;
	conn->in_n = keep ? n : 0;
	return true;
}

/* What has left the socket beyond the request (or its head) at hand is the next one's, or the body's. */
bool
conn_keep_rest(Conn *conn, Str bytes, size_t used)
{
	size_t		n = bytes.n - used;

	if (n == 0)
		return true;
	if (!conn_reserve_in(conn, n))
		return false;
	memcpy(conn->in, bytes.p + used, n);
	conn->in_n = n;
	return true;
}

/* Makes what is behind the head ours to go on with, wherever the head was seen. */
static bool
leave_head(Conn *conn, Str bytes, size_t head_size, HeadPlace place)
{
	switch (place)
	{
		case HEAD_PEEKED:
			return consume(conn, head_size, false);
		case HEAD_TAKEN:
			return conn_keep_rest(conn, bytes, head_size);
		case HEAD_KEPT:
			conn_shift_in(conn, head_size);
	}
	return true;
}

static void
refuse_head(Conn *conn, const Response *refusal, bool has_body)
{
	Inbound    *inbound = conn->inbound;

	conn->unread_body = has_body;
	conn->close_after = conn->close_after || has_body || refusal->close;
	inbound->answered = true;
	inbound->out_body = refusal->body;
	inbound->out_body_n = refusal->body ? refusal->body_len : 0;
	direct_respond(conn, refusal);
}

/* The handler has its say; then the body is read by whoever can.  bytes: what is there, the head first. */
static void
head_complete(Conn *conn, Str bytes, size_t head_size, HeadPlace place)
{
	Listener   *listener = conn->listener;
	Inbound    *inbound = conn->inbound;
	HttpHead   *head = &inbound->request.head;
	Response	refusal = {0};
	bool		has_body = head->chunked || head->length > 0;
	bool		accepted;

	conn->close_after = head->close || listener->stopping;
	inbound->request.received_at_us = reactor_now_us(listener->reactor);
	if (head->length > listener->options.max_body)
	{
		conn_refuse(conn, 413, "body_too_large", "the request body is larger than allowed",
					"Raise sequin_proxy.max_request_body.");
		return;
	}
	inbound_announce(inbound);
	accepted = listener->handler.on_head(listener->handler.cls, &inbound->request, &refusal);
	if (accepted && place != HEAD_KEPT && !head->chunked && !head->expect_continue &&
		bytes.n - head_size >= head->length)
	{
		direct_take_whole(conn, bytes, head_size, place);
		return;
	}
	conn->outright = !has_body;
	if (accepted && place == HEAD_PEEKED && mhd_can_take(conn, head_size))
		mhd_take(conn, head_size);
	else if (!leave_head(conn, bytes, head_size, place))
	{
		free(refusal.body);
		conn_close(conn);
	}
	else if (accepted)
		direct_start_body(conn);
	else
		refuse_head(conn, &refusal, has_body);
}

/* HEAD_OK and refusals are dealt with here; false: more bytes are needed. */
static bool
filter_head(Conn *conn, Str bytes, HeadPlace place)
{
	Listener   *listener = conn->listener;
	const char *error = NULL;
	size_t		size = 0;
	HeadResult	result = HEAD_NOMEM;

	if (conn->inbound == NULL)
		conn->inbound = inbound_create(conn);
	if (conn->inbound != NULL)
		result = http_head_parse(conn->inbound->arena, bytes, listener->options.max_head,
								 &conn->inbound->request.head, &size, &error);
	if (result == HEAD_INCOMPLETE)
		return false;
	if (result != HEAD_OK)
		listener->stats.bad_heads++;
	if (result == HEAD_OK)
		head_complete(conn, bytes, size, place);
	else if (result == HEAD_BAD)
		conn_refuse(conn, 400, "bad_request", error, NULL);
	else if (result == HEAD_TOO_LARGE)
		conn_refuse(conn, 431, "headers_too_large", "the request's head is larger than allowed", NULL);
	else
		conn_close(conn);		/* out of memory: nothing can be built to say so */
	return true;
}

/* The client has sent all it ever will, in the middle of or instead of a head. */
static void
head_ended(Conn *conn, ssize_t n)
{
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	conn_close(conn);
}

static void
read_head_on(Conn *conn)
{
	Listener   *listener = conn->listener;

	for (;;)
	{
		char	   *to = conn->in + conn->in_n;
		ssize_t		n = recv(conn->fd, to, conn->in_cap - conn->in_n, 0);

		if (n <= 0)
		{
			head_ended(conn, n);
			return;
		}
		conn->in_n += (size_t) n;
		conn->consumed += (uint64_t) n;
		/* a head can only end, and be found wrong for good, at a line's end or at its limit */
		if ((memchr(to, '\n', (size_t) n) != NULL || conn->in_n > listener->options.max_head) &&
			filter_head(conn, (Str) {conn->in, conn->in_n}, HEAD_KEPT))
			return;
	}
}

size_t
conn_peek_size(const Listener *listener)
{
	size_t		limit = listener->options.max_head + 1;

	return limit < sizeof(listener->scratch) ? limit : sizeof(listener->scratch);
}

/* Only a part of a head is there, and it is ours: the rest of it is read directly. */
static void
await_head(Conn *conn, bool got_it)
{
	conn->state = CONN_HEAD;
	conn_deadline(conn, conn->listener->options.head_timeout_ms);
	if (got_it && conn_reserve_in(conn, conn->listener->options.max_head + 1))
		read_head_on(conn);
	else
		conn_close(conn);
}

/* The whole head may be there, its body not: it is only peeked at, so that libmicrohttpd can read it. */
static void
peek_head(Conn *conn)
{
	Listener   *listener = conn->listener;
	ssize_t		n = recv(conn->fd, listener->scratch, conn_peek_size(listener), MSG_PEEK);

	if (n <= 0)
		head_ended(conn, n);
	else if (!filter_head(conn, (Str) {listener->scratch, (size_t) n}, HEAD_PEEKED))
		await_head(conn, consume(conn, (size_t) n, true));
}

/*
 * The usual case: a connection whose last request was there as a whole.  The next one most likely is too, and
 * one call takes it from the socket.  Should its body still be to come, that is read directly.
 */
static void
take_head(Conn *conn)
{
	Listener   *listener = conn->listener;
	size_t		most = conn_peek_size(listener);
	ssize_t		n = recv(conn->fd, listener->scratch, most, 0);
	Str			bytes = {listener->scratch, n > 0 ? (size_t) n : 0};

	if (n <= 0)
	{
		head_ended(conn, n);
		return;
	}
	conn->consumed += bytes.n;
	/* if that was all, and no end behind it, what comes from now on gives an edge */
	conn->readable = bytes.n == most || conn->peer_closed;
	if (!filter_head(conn, bytes, HEAD_TAKEN))
		await_head(conn, conn_keep_rest(conn, bytes, 0));
}

static void
read_head(Conn *conn)
{
	if (conn->in_n == 0 && conn->outright)
	{
		take_head(conn);
		return;
	}
	if (conn->in_n == 0)
	{
		peek_head(conn);
		return;
	}
	if (!conn_reserve_in(conn, conn->listener->options.max_head + 1))
	{
		conn_close(conn);
		return;
	}
	if (conn->state == CONN_IDLE)
	{
		/* a pipelined head, whole or in part, came with the last request */
		conn->state = CONN_HEAD;
		conn_deadline(conn, conn->listener->options.head_timeout_ms);
		if (filter_head(conn, (Str) {conn->in, conn->in_n}, HEAD_KEPT))
			return;
	}
	read_head_on(conn);
}

void
conn_request_whole(Conn *conn)
{
	Inbound    *inbound = conn->inbound;
	HttpHead   *head = &inbound->request.head;

	conn->state = CONN_READY;
	conn_deadline(conn, 0);
	if (head->chunked || head->has_length)
		inbound->request.body = inbound->body ? (Str) {inbound->body, inbound->body_n} : (Str) {"", 0};
	if (inbound->body != NULL)
		inbound->body[inbound->body_n] = '\0';
	conn_kick(conn);
}

static void
hand_over(Conn *conn)
{
	Listener   *listener = conn->listener;

	conn->state = CONN_WAIT;
	conn->inbound->handed_over = true;
	conn->inbound->request.client_closed = conn->peer_closed;
	listener->handler.on_request(listener->handler.cls, &conn->inbound->request);
}

void
conn_response_done(Conn *conn)
{
	Inbound    *inbound = conn->inbound;

	conn->inbound = NULL;
	inbound_finish(inbound);
	inbound->conn = NULL;
	conn->out_head = NULL;
	conn->out_head_n = conn->out_sent = 0;
	if (conn->in_n == 0)
	{
		free(conn->in);
		conn->in = NULL;
		conn->in_cap = 0;
	}
	if (conn->close_after)
	{
		conn_linger(conn);
		return;
	}
	conn->state = CONN_IDLE;
	conn_deadline(conn, conn->listener->options.idle_timeout_ms);
	if (conn->readable || conn->in_n > 0)
		conn_kick(conn);		/* what came meanwhile gave its edge long ago */
}

/* libmicrohttpd has let go; what it left unread is ours to drain. */
static void
mhd_has_closed(Conn *conn)
{
	if (conn->mhd != NULL)
		return;					/* not yet */
	conn_drop_request(conn);
	if (conn->fd < 0)
		conn_close(conn);
	else
		conn_linger(conn);
}

static void
step(Conn *conn)
{
	switch (conn->state)
	{
		case CONN_IDLE:
		case CONN_HEAD:
			read_head(conn);
			break;
		case CONN_BODY:
			direct_read_body(conn);
			break;
		case CONN_READY:
			hand_over(conn);
			break;
		case CONN_WRITE:
			direct_write(conn);
			break;
		case CONN_LINGER:
			drain(conn);
			break;
		case CONN_MHD_CLOSING:
			mhd_has_closed(conn);
			break;
		case CONN_MHD_READ:		/* libmicrohttpd's own epoll set tells it */
		case CONN_MHD_WRITE:
		case CONN_WAIT:
		case CONN_CLOSED:
			break;
	}
}

void
conn_process(Conn *conn)
{
	Listener   *listener = conn->listener;

	if (conn->state == CONN_CLOSED || conn->processing)
		return;
	conn->processing = true;
	listener->depth++;
	step(conn);
	listener->depth--;
	conn->processing = false;
}
