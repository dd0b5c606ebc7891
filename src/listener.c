/*
 * listener.c - the listener's public face (see listener.h): creation, options, responses,
 * shutdown; the lifetimes of requests; and the turn.
 *
 * Owns the Listener and every Inbound.  Called by the worker only, from one thread.  It must
 * never call into PostgreSQL, log a header, a path or a body, nor run the handler's callbacks
 * inside a libmicrohttpd frame.
 */
#include "listener_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#define RUN_ROUNDS 4			/* of libmicrohttpd and kicked connections per turn */

static void run_due(void *arg);

void
listener_log(Listener *listener, int level, const char *fmt,...)
{
	char		message[400];
	va_list		args;

	va_start(args, fmt);
	vsnprintf(message, sizeof(message), fmt, args);
	va_end(args);
	listener->handler.log(listener->handler.cls, level, message);
}

void
listener_due(Listener *listener)
{
	if (listener->run_timer.slot == 0 && !timer_set(listener->reactor, &listener->run_timer, 0, run_due, listener))
		listener_log(listener, 2, "out of memory for a timer");	/* listener_flush still runs it */
}

static bool
random_id(Listener *listener, char id[33])
{
	static const char hex[] = "0123456789abcdef";
	const unsigned char *bytes;

	if (listener->random_left < 16)
	{
		if (getrandom(listener->random, sizeof(listener->random), 0) != (ssize_t) sizeof(listener->random))
			return false;
		listener->random_left = sizeof(listener->random);
	}
	listener->random_left -= 16;
	bytes = listener->random + listener->random_left;
	for (int i = 0; i < 16; i++)
	{
		id[2 * i] = hex[bytes[i] >> 4];
		id[2 * i + 1] = hex[bytes[i] & 15];
	}
	id[32] = '\0';
	return true;
}

Inbound *
inbound_create(Conn *conn)
{
	Arena	   *arena = arena_create();
	Inbound    *inbound = arena ? arena_zalloc(arena, sizeof(Inbound)) : NULL;

	if (inbound == NULL || !random_id(conn->listener, inbound->request.id))
	{
		arena_destroy(arena);
		return NULL;
	}
	inbound->arena = arena;
	inbound->conn = conn;
	inbound->request.arena = arena;
	inbound->request.peer_loopback = conn->peer_loopback;
	inbound->request.kept = conn->kept;
	inbound->request.internal = inbound;
	return inbound;
}

void
inbound_announce(Inbound *inbound)
{
	Listener   *listener = inbound->conn->listener;

	inbound->announced = true;
	inbound->next = listener->inbounds;
	if (inbound->next != NULL)
		inbound->next->prev = inbound;
	listener->inbounds = inbound;
	listener->ninbounds++;
}

bool
inbound_reserve(Inbound *inbound, size_t total)
{
	size_t		cap = inbound->body_cap ? inbound->body_cap : 1024;
	char	   *grown;

	if (total < inbound->body_cap)	/* one byte is kept for a NUL */
		return true;
	while (cap <= total)
		cap *= 2;
	grown = realloc(inbound->body, cap);
	if (grown == NULL)
		return false;
	inbound->body = grown;
	inbound->body_cap = cap;
	return true;
}

bool
inbound_add(Inbound *inbound, Str piece)
{
	if (!inbound_reserve(inbound, inbound->body_n + piece.n))
		return false;
	memcpy(inbound->body + inbound->body_n, piece.p, piece.n);
	inbound->body_n += piece.n;
	return true;
}

static void
inbound_free(Listener *listener, Inbound *inbound)
{
	if (inbound->announced)
	{
		listener->handler.on_done(listener->handler.cls, &inbound->request);
		if (inbound->prev != NULL)
			inbound->prev->next = inbound->next;
		else
			listener->inbounds = inbound->next;
		if (inbound->next != NULL)
			inbound->next->prev = inbound->prev;
		listener->ninbounds--;
	}
	free(inbound->body);
	free(inbound->out_body);
	arena_destroy(inbound->arena);
}

void
inbound_finish(Inbound *inbound)
{
	Listener   *listener = inbound->conn->listener;

	if (inbound->done)
		return;
	inbound->done = true;
	inbound->done_next = listener->done;
	listener->done = inbound;
	listener_due(listener);
}

static void
free_done(Listener *listener)
{
	while (listener->done != NULL)
	{
		Inbound    *inbound = listener->done;

		listener->done = inbound->done_next;
		inbound_free(listener, inbound);
	}
}

static void
free_closed(Listener *listener)
{
	while (listener->closed != NULL)
	{
		Conn	   *conn = listener->closed;

		listener->closed = conn->kick_next;
		free(conn->in);
		explicit_bzero(conn->kept, sizeof(conn->kept));
		free(conn);
	}
}

static void
process_kicked(Listener *listener)
{
	Conn	   *conn = NULL;

	while (listener->kicked != NULL)	/* first kicked, first served */
	{
		Conn	   *next = listener->kicked->kick_next;

		listener->kicked->kick_next = conn;
		conn = listener->kicked;
		listener->kicked = next;
	}
	while (conn != NULL)
	{
		Conn	   *next = conn->kick_next;

		conn->kicked = false;
		if (conn->state == CONN_CLOSED)
		{
			conn->kick_next = listener->closed;
			listener->closed = conn;
		}
		else
			conn_process(conn);
		conn = next;
	}
}

/*
 * The turn: libmicrohttpd reads and writes what it may, then connections go on with what came of
 * it, which may give libmicrohttpd more to do.
 */
static void
listener_run(Listener *listener)
{
	if (listener->depth > 0)
	{
		listener_due(listener);
		return;
	}
	for (int round = 0; round < RUN_ROUNDS; round++)
	{
		timer_clear(listener->reactor, &listener->run_timer);
		if (!listener->mhd_due && listener->kicked == NULL)
			break;
		if (listener->mhd_due)
			mhd_run(listener);
		process_kicked(listener);
	}
	free_done(listener);
	free_closed(listener);
	if (listener->mhd_due || listener->kicked != NULL || listener->done != NULL)
		listener_due(listener);
}

static void
run_due(void *arg)
{
	listener_run(arg);
}

static void
free_options(ListenerOptions *options)
{
	free((char *) options->addresses);
	free((char *) options->tls_cert_file);
	free((char *) options->tls_key_file);
}

static bool
copy_options(ListenerOptions *copy, const ListenerOptions *options)
{
	*copy = *options;
	copy->addresses = strdup(options->addresses ? options->addresses : "");
	copy->tls_cert_file = strdup(options->tls_cert_file ? options->tls_cert_file : "");
	copy->tls_key_file = strdup(options->tls_key_file ? options->tls_key_file : "");
	if (copy->addresses != NULL && copy->tls_cert_file != NULL && copy->tls_key_file != NULL)
		return true;
	free_options(copy);
	return false;
}

static void
warn_about_tls(Listener *listener)
{
	if (listener->options.tls_cert_file[0] != '\0' || listener->options.tls_key_file[0] != '\0')
		listener_log(listener, 2, "TLS on the listener is not supported yet: it will not listen while "
					 "tls_cert_file or tls_key_file is set");
}

/* A socket whose other end is closed: reading it gives the end, writing it EPIPE. */
static int
dead_socket(void)
{
	int			pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
		return -1;
	close(pair[1]);
	return pair[0];
}

Listener *
listener_create(Reactor *reactor, const ListenerHandler *handler, const ListenerOptions *options)
{
	Listener   *listener = calloc(1, sizeof(Listener));

	if (listener == NULL)
		return NULL;
	listener->reactor = reactor;
	listener->handler = *handler;
	for (int i = 0; i < LISTENER_MAX_SOCKETS; i++)
		listener->sockets[i] = (ListenSocket) {.listener = listener, .fd = -1};
	listener->dead_fd = dead_socket();
	if (!copy_options(&listener->options, options))
	{
		close(listener->dead_fd);
		free(listener);
		return NULL;
	}
	if (listener->dead_fd < 0 || !mhd_start(listener))
	{
		listener_destroy(listener);
		return NULL;
	}
	warn_about_tls(listener);
	return listener;
}

bool
listener_bind(Listener *listener, char *error, size_t error_size)
{
	if (listener->options.tls_cert_file[0] != '\0' || listener->options.tls_key_file[0] != '\0')
	{
		/* Never plain text where the administrator asked for TLS. */
		snprintf(error, error_size, "TLS on the listener is not supported yet; unset tls_cert_file and tls_key_file");
		sockets_close(listener);
		return false;
	}
	return sockets_bind(listener, error, error_size);
}

void
listener_set_options(Listener *listener, const ListenerOptions *options)
{
	ListenerOptions copy;

	if (!copy_options(&copy, options))
	{
		listener_log(listener, 2, "out of memory: the listener keeps its old settings");
		return;
	}
	free_options(&listener->options);
	listener->options = copy;
	warn_about_tls(listener);
}

void
listener_respond(Listener *listener, Request *request, Response *response)
{
	Inbound    *inbound = request->internal;

	if (inbound->answered)
	{
		free(response->body);
		listener_log(listener, 2, "a request was answered twice");
		return;
	}
	inbound->answered = true;
	inbound->out_body = response->body;
	inbound->out_body_n = response->body ? response->body_len : 0;
	response->body = NULL;
	if (inbound->conn == NULL)
	{
		inbound->done = true;
		inbound->done_next = listener->done;
		listener->done = inbound;
		listener_due(listener);
		return;
	}
	if (response->close || listener->stopping)
		inbound->conn->close_after = true;
	if (!mhd_respond(inbound->conn, response))
		direct_respond(inbound->conn, response);
}

void
listener_flush(Listener *listener)
{
	if (listener->run_timer.slot != 0 || listener->mhd_due || listener->kicked != NULL)
		listener_run(listener);
}

int
listener_timeout_ms(Listener *listener)
{
	/* libmicrohttpd has no timeouts of its own here; what is due is in the reactor's timers */
	return listener->mhd_due || listener->kicked != NULL || listener->done != NULL ? 0 : -1;
}

void
listener_stop_accepting(Listener *listener)
{
	Conn	   *next;

	listener->stopping = true;
	sockets_close(listener);
	for (Conn *conn = listener->conns; conn != NULL; conn = next)
	{
		next = conn->next;
		if (conn->state == CONN_IDLE && !conn->processing && !conn->kicked && conn_unread(conn) == 0)
			conn_close(conn);
	}
}

int
listener_busy(const Listener *listener)
{
	return listener->ninbounds;
}

void
listener_stats(const Listener *listener, ListenerStats *stats)
{
	*stats = listener->stats;
}

/* Requests that nobody will answer any more: their handler is told, and they end. */
static void
abandon_requests(Listener *listener)
{
	free_done(listener);
	while (listener->inbounds != NULL)
		inbound_free(listener, listener->inbounds);
}

void
listener_destroy(Listener *listener)
{
	if (listener == NULL)
		return;
	listener->stopping = true;
	sockets_close(listener);
	while (listener->conns != NULL)
		conn_close(listener->conns);
	mhd_stop(listener);
	process_kicked(listener);	/* all closed: only moves them to be freed */
	free_closed(listener);
	abandon_requests(listener);
	timer_clear(listener->reactor, &listener->run_timer);
	timer_clear(listener->reactor, &listener->accept_timer);
	if (listener->dead_fd >= 0)
		close(listener->dead_fd);
	free_options(&listener->options);
	free(listener);
}
