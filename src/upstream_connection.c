/*
 * upstream_connection.c - connections to the API: opened by libcurl, kept, written, read, closed.
 *
 * Owns every Connection and the pool of idle ones.  libcurl resolves, connects and does TLS with
 * CURLOPT_CONNECT_ONLY; its easy handle stays in the multi handle as long as the connection lives.
 * Plain connections are then read and written directly, TLS ones through curl_easy_recv() and
 * curl_easy_send().  A connection stays registered with the reactor between exchanges: the API's
 * closing it (or speaking out of turn) is seen before the next request would be written into it.
 * Called by upstream.c only, outside libcurl's frames.  It must never give an idle connection to
 * another origin, nor one that was trusted by another CA file to anybody.
 */
#include "upstream_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define IDLE_US (25 * INT64_C(1000000))		/* below what APIs and load balancers allow (30 s and more) */
#define LIFETIME_US (600 * INT64_C(1000000))	/* so that new certificates and addresses are noticed */

/* OpenSSL makes one record of a write up to this size: its repetition after a block must be the same. */
#define ONE_TLS_RECORD 16384

/* ---- the pool of idle ones ---- */

static void
idle_add(Connection *connection)
{
	Upstream   *upstream = connection->upstream;
	Connection **bucket = &upstream->idle[connection->hash % IDLE_BUCKETS];

	connection->prev = NULL;
	connection->next = *bucket;
	if (connection->next != NULL)
		connection->next->prev = connection;
	*bucket = connection;
	connection->newer = NULL;
	connection->older = upstream->newest;
	if (connection->older != NULL)
		connection->older->newer = connection;
	else
		upstream->oldest = connection;
	upstream->newest = connection;
	upstream->nidle++;
}

static void
idle_remove(Connection *connection)
{
	Upstream   *upstream = connection->upstream;

	if (connection->prev != NULL)
		connection->prev->next = connection->next;
	else
		upstream->idle[connection->hash % IDLE_BUCKETS] = connection->next;
	if (connection->next != NULL)
		connection->next->prev = connection->prev;
	if (connection->older != NULL)
		connection->older->newer = connection->newer;
	else
		upstream->oldest = connection->newer;
	if (connection->newer != NULL)
		connection->newer->older = connection->older;
	else
		upstream->newest = connection->older;
	upstream->nidle--;
}

static void
idle_close(Connection *connection)
{
	idle_remove(connection);
	connection_close(connection);
}

void
connections_close_idle(Upstream *upstream)
{
	while (upstream->oldest != NULL)
		idle_close(upstream->oldest);
}

static void
idle_expire(void *arg)
{
	Upstream   *upstream = arg;
	int64_t		now_us = clock_us();

	while (upstream->oldest != NULL && now_us - upstream->oldest->idle_at_us >= IDLE_US)
		idle_close(upstream->oldest);
	/* Without memory for the timer they are closed when they are next looked at. */
	if (upstream->oldest != NULL)
		(void) timer_set(upstream->reactor, &upstream->expiry, upstream->oldest->idle_at_us + IDLE_US, idle_expire,
						 upstream);
}

static bool
may_serve(const Connection *connection, int64_t now_us)
{
	return connection->generation == connection->upstream->generation && now_us - connection->idle_at_us < IDLE_US
		&& now_us - connection->opened_at_us < LIFETIME_US;
}

Connection *
connection_take(Upstream *upstream, Transfer *transfer, int64_t now_us)
{
	Str			origin = transfer->call->origin;
	uint32_t	hash = str_hash(origin);
	Connection *connection = upstream->idle[hash % IDLE_BUCKETS];

	while (connection != NULL)
	{
		Connection *next = connection->next;

		if (connection->hash == hash && str_is(origin, connection->origin))
		{
			if (may_serve(connection, now_us))
			{
				idle_remove(connection);
				connection->transfer = transfer;
				return connection;
			}
			idle_close(connection);
		}
		connection = next;
	}
	return NULL;
}

void
connection_keep(Connection *connection, int64_t now_us)
{
	Upstream   *upstream = connection->upstream;

	connection->transfer = NULL;
	connection->idle_at_us = now_us;
	if (!may_serve(connection, now_us))
	{
		connection_close(connection);
		return;
	}
	if (upstream->nidle >= upstream->max_idle)
		idle_close(upstream->oldest);
	idle_add(connection);
	if (upstream->expiry.slot == 0)
		(void) timer_set(upstream->reactor, &upstream->expiry, now_us + IDLE_US, idle_expire, upstream);
}

/* ---- reading and writing ---- */

void
connection_note(Connection *connection, CURLcode code)
{
	if (connection->error[0] == '\0')
		snprintf(connection->error, sizeof(connection->error), "%s", curl_easy_strerror(code));
}

static IoResult
libcurl_result(Connection *connection, CURLcode code)
{
	if (code == CURLE_OK)
		return IO_DONE;
	if (code == CURLE_AGAIN)
		return IO_BLOCKED;
	connection_note(connection, code);
	return IO_FAILED;
}

static IoResult
socket_result(Connection *connection, ssize_t got, size_t *n)
{
	if (got >= 0)
	{
		*n = (size_t) got;
		return IO_DONE;
	}
	if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
		return IO_BLOCKED;
	snprintf(connection->error, sizeof(connection->error), "%s", strerror(errno));
	return IO_FAILED;
}

/*
 * The first write goes through libcurl on a plain connection, too: until then it takes the
 * connection for an idle one, which it looks at and may close whenever it opens another.
 */
IoResult
connection_send(Connection *connection, Str bytes, size_t *n)
{
	*n = 0;
	if (connection->attached && !connection->tls)
		return socket_result(connection, send(connection->fd, bytes.p, bytes.n, MSG_NOSIGNAL | MSG_DONTWAIT), n);
	connection->attached = true;
	if (bytes.n > ONE_TLS_RECORD)
		bytes.n = ONE_TLS_RECORD;
	return libcurl_result(connection, curl_easy_send(connection->easy, bytes.p, bytes.n, n));
}

IoResult
connection_recv(Connection *connection, char *p, size_t size, size_t *n)
{
	*n = 0;
	if (!connection->tls)
		return socket_result(connection, recv(connection->fd, p, size, MSG_DONTWAIT), n);
	return libcurl_result(connection, curl_easy_recv(connection->easy, p, size, n));
}

/* Nobody waits for it, yet something is there: its end, or bytes that would be taken for the next request's answer. */
static void
idle_ready(Connection *connection)
{
	char		byte;
	size_t		n;

	/* IO_BLOCKED: TLS's own, a session ticket for instance */
	if (connection_recv(connection, &byte, 1, &n) != IO_BLOCKED)
		idle_close(connection);
}

static void
connection_ready(void *arg, uint32_t events)
{
	Connection *connection = arg;

	(void) events;				/* read, write and failure all show in what recv() and send() say */
	if (connection->transfer != NULL)
		transfer_ready(connection->transfer);
	else
		idle_ready(connection);
}

bool
connection_watch_writes(Connection *connection, bool writes)
{
	uint32_t	events = EPOLLIN | (writes ? EPOLLOUT : 0);

	if (events == connection->events)
		return true;
	connection->events = events;
	return reactor_rewatch(connection->upstream->reactor, connection->watch, events);
}

/* ---- opening and closing ---- */

static void
connection_free(Connection *connection)
{
	curl_easy_cleanup(connection->easy);
	free(connection->origin);
	free(connection->host);
	free(connection);
}

/* libcurl closes the socket as its handle leaves the multi handle: with a TLS goodbye, and without waiting for one. */
void
connection_close(Connection *connection)
{
	Upstream   *upstream = connection->upstream;

	reactor_unwatch(upstream->reactor, connection->watch);
	/* Fails only from inside a callback of libcurl's, where nobody calls this; the clean-up below then removes it. */
	if (curl_multi_remove_handle(upstream->multi, connection->easy) != CURLM_OK)
		errno = 0;
	connection_free(connection);
}

static bool
connection_start(Connection *connection, int64_t timeout_ms)
{
	CURL	   *easy = connection->easy;
	Upstream   *upstream = connection->upstream;

	return request_apply_policy(easy, &upstream->options, timeout_ms) && sockets_apply(connection)
		&& curl_easy_setopt(easy, CURLOPT_PRIVATE, connection) == CURLE_OK
		&& curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, connection->error) == CURLE_OK
		&& curl_easy_setopt(easy, CURLOPT_URL, connection->origin) == CURLE_OK
		&& curl_multi_add_handle(upstream->multi, easy) == CURLM_OK;
}

Connection *
connection_open(Upstream *upstream, Transfer *transfer, int64_t timeout_ms)
{
	Str			origin = transfer->call->origin;
	Connection *connection = calloc(1, sizeof(Connection));

	if (connection == NULL)
		return NULL;
	connection->upstream = upstream;
	connection->transfer = transfer;
	connection->generation = upstream->generation;
	connection->hash = str_hash(origin);
	connection->tls = str_starts(origin, "https://");
	connection->fd = -1;
	connection->easy = curl_easy_init();
	connection->origin = strndup(origin.p, origin.n);
	connection->host = connection->origin != NULL ? request_host(connection->origin) : NULL;
	if (connection->easy != NULL && connection->host != NULL && connection_start(connection, timeout_ms))
		return connection;
	connection_free(connection);
	return NULL;
}

bool
connection_opened(Connection *connection, int64_t now_us)
{
	Upstream   *upstream = connection->upstream;
	curl_socket_t fd = CURL_SOCKET_BAD;

	if (curl_easy_getinfo(connection->easy, CURLINFO_ACTIVESOCKET, &fd) != CURLE_OK || fd == CURL_SOCKET_BAD)
		return false;
	sockets_forget(upstream, fd);
	connection->error[0] = '\0';	/* of an address that did not answer, before the one that did */
	connection->fd = fd;
	connection->opened_at_us = now_us;
	connection->events = EPOLLIN;
	connection->watch = reactor_watch(upstream->reactor, fd, EPOLLIN, connection_ready, connection);
	return connection->watch != NULL;
}
