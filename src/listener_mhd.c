/*
 * listener_mhd.c - libmicrohttpd's part: it reads plain requests and writes most responses.
 *
 * Owns the MHD_Daemon and every call of it.  The callbacks here run inside libmicrohttpd's
 * frames: they only note what happened and kick the connection; they must never call the user's
 * handler, never PostgreSQL, and never suspend another connection than their own.
 *
 * Why its error pages cannot reach a client: it makes them for heads that it cannot parse or that
 * do not fit its pool (mhd_can_take bounds those), for malformed chunks (it never sees any), and
 * for nothing else.  A request that it did not get from the gate is closed without an answer.
 */
#include "listener_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * Per connection, and zeroed after each request, so small; its read buffer begins at half of it.
 * A head costs its bytes and one entry per header and per query argument.
 */
#define POOL_SIZE (16 * 1024)
#define POOL_ENTRY 96
#define MAX_REQUEST_COST (6 * 1024)
#define MAX_RESPONSE_COST (6 * 1024)
#define MAX_BODY (64 * 1024)	/* larger ones we read ourselves, in larger pieces */
#define STOP_ROUNDS 100

/*
 * Each MHD_run after a resume walks all suspended connections (measured: 75 instead of 20 us of
 * CPU per request at 1000 of them), so beyond this many we serve everything directly.
 */
#define BORROW_CONNECTIONS 256

static Listener *panicking;		/* for the message only */

static Conn *
conn_of(struct MHD_Connection *mhd)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return info ? info->socket_context : NULL;
}

static void
panic(void *cls, const char *file, unsigned int line, const char *reason)
{
	(void) cls;
	if (panicking != NULL)
		listener_log(panicking, 2, "libmicrohttpd panics at %s:%u: %s", file, line, reason ? reason : "");
	abort();
}

/* Called with a format and its arguments; the arguments may hold a URL, so only the format is logged. */
static void
log_message(void *cls, const char *fmt, va_list args)
{
	(void) args;
	/* "Error processing request": it made a page of its own, which the gate should have ruled out */
	listener_log(cls, strncmp(fmt, "Error processing", 16) == 0 ? 2 : 0, "libmicrohttpd: %.200s", fmt);
}

static size_t
keep_escapes(void *cls, struct MHD_Connection *mhd, char *text)
{
	(void) cls;
	(void) mhd;
	return strlen(text);
}

/* The whole raw target, before libmicrohttpd cuts it; what we return becomes *con_cls. */
static void *
compare_target(void *cls, const char *target, struct MHD_Connection *mhd)
{
	Conn	   *conn = conn_of(mhd);

	(void) cls;
	if (conn == NULL || conn->state != CONN_MHD_READ || conn->inbound == NULL ||
		!str_is(conn->inbound->request.head.target, target))
		return NULL;
	return conn;
}

/* Has libmicrohttpd read beyond this request?  Then those bytes are in its buffer, unfiltered. */
static bool
read_too_far(Conn *conn)
{
	struct tcp_info info;
	socklen_t	n = sizeof(info);

	if (getsockopt(conn->fd, IPPROTO_TCP, TCP_INFO, &info, &n) != 0 ||
		n < offsetof(struct tcp_info, tcpi_bytes_received) + sizeof(info.tcpi_bytes_received))
		return true;
	return info.tcpi_bytes_received - conn_unread(conn) != conn->consumed;
}

static enum MHD_Result
request_read(Conn *conn, struct MHD_Connection *mhd)
{
	Inbound    *inbound = conn->inbound;

	if (inbound->body_n != inbound->request.head.length)
		return MHD_NO;
	if (read_too_far(conn))
		conn->close_after = true;	/* a legal answer to pipelining */
	MHD_suspend_connection(mhd);
	conn->mhd_suspended = true;
	conn_request_whole(conn);
	return MHD_YES;
}

static enum MHD_Result
respond_now(Conn *conn, struct MHD_Connection *mhd)
{
	struct MHD_Response *response = conn->mhd_response;
	enum MHD_Result queued;

	if (response == NULL)
		return MHD_NO;
	conn->mhd_response = NULL;
	queued = MHD_queue_response(mhd, (unsigned) conn->mhd_status, response);
	MHD_destroy_response(response);
	return queued;
}

static enum MHD_Result
handle(void *cls, struct MHD_Connection *mhd, const char *url, const char *method, const char *version,
	   const char *upload, size_t *upload_n, void **con_cls)
{
	Conn	   *conn = conn_of(mhd);

	(void) cls;
	(void) url;
	(void) version;
	if (conn == NULL || *con_cls != conn || conn->inbound == NULL)
		return MHD_NO;			/* not what passed the gate: closed without a word */
	if (conn->state == CONN_MHD_WRITE)
		return respond_now(conn, mhd);
	if (conn->state != CONN_MHD_READ)
		return MHD_NO;
	if (!conn->mhd_started)
	{
		conn->mhd_started = true;
		return str_is(conn->inbound->request.head.method, method) ? MHD_YES : MHD_NO;
	}
	if (*upload_n == 0)
		return request_read(conn, mhd);
	if (*upload_n > conn->inbound->request.head.length - conn->inbound->body_n ||
		!inbound_add(conn->inbound, (Str) {upload, *upload_n}))
		return MHD_NO;
	*upload_n = 0;
	return MHD_YES;
}

/*
 * In a kept-alive connection this runs before libmicrohttpd resets it: suspended here, it does
 * not look for the next head until the gate has.
 */
static void
request_completed(void *cls, struct MHD_Connection *mhd, void **con_cls, enum MHD_RequestTerminationCode code)
{
	Conn	   *conn = conn_of(mhd);
	bool		written;

	(void) cls;
	(void) con_cls;
	if (conn == NULL)
		return;
	written = conn->state == CONN_MHD_WRITE && code == MHD_REQUEST_TERMINATED_COMPLETED_OK;
	if (!written || conn->close_after)
	{
		conn->state = CONN_MHD_CLOSING;	/* connection_changed ends it, and the request */
		return;
	}
	MHD_suspend_connection(mhd);
	conn->mhd_suspended = true;
	conn_response_done(conn);
}

/* libmicrohttpd is about to close the socket: keep a copy when bytes are unread, for the linger. */
static void
connection_closed(Conn *conn)
{
	int			fd = conn_unread(conn) > 0 ? fcntl(conn->fd, F_DUPFD_CLOEXEC, 0) : -1;

	reactor_unwatch(conn->listener->reactor, conn->watch);
	conn->watch = NULL;
	conn->mhd = NULL;
	conn->fd = fd;
	if (fd >= 0 && !conn_watch(conn))
	{
		close(fd);
		conn->fd = -1;
	}
	if (conn->mhd_response != NULL)
		MHD_destroy_response(conn->mhd_response);
	conn->mhd_response = NULL;
	conn->state = CONN_MHD_CLOSING;
	conn_kick(conn);			/* telling the request's handler is not for this frame */
}

static void
connection_changed(void *cls, struct MHD_Connection *mhd, void **slot, enum MHD_ConnectionNotificationCode code)
{
	Listener   *listener = cls;
	Conn	   *conn;

	if (code == MHD_CONNECTION_NOTIFY_STARTED)
	{
		conn = listener->mhd_adding;
		*slot = conn;
		conn->mhd = mhd;
		conn->mhd_slot = slot;
		return;
	}
	conn = *slot;
	*slot = NULL;
	if (conn != NULL)
		connection_closed(conn);
}

static void
mhd_ready(void *arg, uint32_t events)
{
	Listener   *listener = arg;

	(void) events;
	listener->mhd_due = true;
	listener_due(listener);
}

bool
mhd_start(Listener *listener)
{
	const union MHD_DaemonInfo *info;

	panicking = listener;
	MHD_set_panic_func(panic, NULL);
	listener->mhd = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME |
									 MHD_USE_SUPPRESS_DATE_NO_CLOCK | MHD_USE_ERROR_LOG,
									 0, NULL, NULL, handle, listener,
									 MHD_OPTION_EXTERNAL_LOGGER, log_message, listener,
									 MHD_OPTION_CONNECTION_LIMIT, 1u << 20,
									 MHD_OPTION_CONNECTION_TIMEOUT, 0u,
									 MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) POOL_SIZE,
									 MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL,
									 MHD_OPTION_URI_LOG_CALLBACK, compare_target, listener,
									 MHD_OPTION_NOTIFY_COMPLETED, request_completed, listener,
									 MHD_OPTION_NOTIFY_CONNECTION, connection_changed, listener,
									 MHD_OPTION_END);
	if (listener->mhd == NULL)
		return false;
	info = MHD_get_daemon_info(listener->mhd, MHD_DAEMON_INFO_EPOLL_FD);
	if (info != NULL)
		listener->mhd_watch = reactor_watch(listener->reactor, info->epoll_fd, EPOLLIN, mhd_ready, listener);
	return listener->mhd_watch != NULL;
}

void
mhd_run(Listener *listener)
{
	MHD_UNSIGNED_LONG_LONG wait;

	listener->mhd_due = false;
	if (MHD_run(listener->mhd) != MHD_YES)
		listener_log(listener, 2, "MHD_run failed");
	if (MHD_get_timeout(listener->mhd, &wait) == MHD_YES && wait == 0)
		listener->mhd_due = true;
}

/*
 * Every borrowed socket has been taken back: libmicrohttpd finds them ended and lets go.  If it
 * does not, it leaks: stopping it with a suspended connection would abort the process.
 */
void
mhd_stop(Listener *listener)
{
	const union MHD_DaemonInfo *info = NULL;

	if (listener->mhd == NULL)
		return;
	for (int i = 0; i < STOP_ROUNDS; i++)
	{
		mhd_run(listener);
		info = MHD_get_daemon_info(listener->mhd, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
		if (info == NULL || info->num_connections == 0)
			break;
	}
	reactor_unwatch(listener->reactor, listener->mhd_watch);
	if (info != NULL && info->num_connections == 0)
		MHD_stop_daemon(listener->mhd);
	else
		listener_log(listener, 2, "libmicrohttpd did not let go of its connections");
	if (panicking == listener)
		panicking = NULL;
	listener->mhd = NULL;
}

static size_t
count_char(Str s, char c)
{
	size_t		n = 0;

	for (size_t i = 0; i < s.n; i++)
		n += s.p[i] == c;
	return n;
}

bool
mhd_can_take(const Conn *conn, size_t head_size)
{
	const HttpHead *head = &conn->inbound->request.head;
	size_t		entries = (size_t) head->nheaders + 2 + count_char(head->target, '&');

	return conn->listener->stats.connections <= BORROW_CONNECTIONS && head->minor_version == 1 && !head->chunked && !head->expect_continue && head->length <= MAX_BODY &&
		head_size + POOL_ENTRY * entries <= MAX_REQUEST_COST && !str_is(head->method, "HEAD") &&
		!str_is(head->method, "CONNECT") &&		/* it would send the answer without its body's length */
		http_head_get(head, "Cookie").p == NULL;	/* which it parses into its pool a second time */
}

static void
borrow(Conn *conn)
{
	/* it only uses the address for limits per address, which we do not set */
	static const struct sockaddr_in nowhere = {.sin_family = AF_INET};
	Listener   *listener = conn->listener;
	enum MHD_Result added;

	listener->mhd_adding = conn;
	added = MHD_add_connection(listener->mhd, conn->fd, (const struct sockaddr *) &nowhere, sizeof(nowhere));
	listener->mhd_adding = NULL;
	if (added == MHD_YES)
		return;
	/* it has closed the socket, and said so if the connection had started */
	listener_log(listener, 2, "libmicrohttpd refused a connection: %m");
	if (conn->state == CONN_MHD_CLOSING)
		return;
	conn->fd = -1;
	conn_close(conn);
}

void
mhd_take(Conn *conn, size_t head_size)
{
	Listener   *listener = conn->listener;
	HttpHead   *head = &conn->inbound->request.head;

	conn->state = CONN_MHD_READ;
	conn->mhd_started = false;
	conn->inbound->mhd_taken = true;
	conn->consumed += head_size + head->length;
	conn_deadline(conn, listener->options.body_timeout_ms);
	listener->mhd_due = true;
	listener_due(listener);
	if (conn->mhd == NULL)
	{
		borrow(conn);
		return;
	}
	conn->mhd_suspended = false;
	MHD_resume_connection(conn->mhd);
}

/* Its rules for headers are not ours: it refuses empty values, merges Dates, and all must fit its pool. */
static bool
fits(const Conn *conn, const Response *response)
{
	size_t		cost = 100;
	int			dates = 0;

	if (response->status < 200 || response->status > 999 || response->status == 204 || response->status == 304 ||
		str_is(conn->inbound->request.head.method, "HEAD"))
		return false;
	for (int i = 0; i < response->nheaders; i++)
	{
		const HttpHeader *header = &response->headers[i];

		dates += str_iis(header->name, "Date");
		if (header->value.n == 0 || dates > 1 || !response_header_ok(header))
			return false;
		cost += header->name.n + header->value.n + 4;
	}
	return cost <= MAX_RESPONSE_COST;
}

static bool
add_header(Conn *conn, struct MHD_Response *mhd_response, const HttpHeader *header)
{
	const char *name = arena_cstr(conn->inbound->arena, header->name);
	const char *value = arena_cstr(conn->inbound->arena, header->value);

	return name != NULL && value != NULL && MHD_add_response_header(mhd_response, name, value) == MHD_YES;
}

static struct MHD_Response *
build_response(Conn *conn, const Response *response)
{
	Inbound    *inbound = conn->inbound;
	/* PERSISTENT: the Inbound keeps the body until after the response is destroyed */
	struct MHD_Response *built = MHD_create_response_from_buffer(inbound->out_body_n,
																inbound->out_body ? inbound->out_body : "",
																MHD_RESPMEM_PERSISTENT);
	bool		ok = built != NULL;

	for (int i = 0; ok && i < response->nheaders; i++)
		ok = add_header(conn, built, &response->headers[i]);
	if (ok && conn->close_after)
		ok = MHD_add_response_header(built, "Connection", "close") == MHD_YES;
	if (ok || built == NULL)
		return built;
	MHD_destroy_response(built);
	return NULL;
}

bool
mhd_respond(Conn *conn, const Response *response)
{
	Listener   *listener = conn->listener;

	if (conn->mhd == NULL || !conn->inbound->mhd_taken || !fits(conn, response))
		return false;
	conn->mhd_response = build_response(conn, response);
	if (conn->mhd_response == NULL)
		return false;
	conn->mhd_status = response->status;
	conn->state = CONN_MHD_WRITE;
	conn_deadline(conn, listener->options.write_timeout_ms);
	conn->mhd_suspended = false;
	MHD_resume_connection(conn->mhd);
	listener->mhd_due = true;
	listener_due(listener);
	return true;
}

/*
 * Its descriptor becomes one that reads as ended, so it closes that as soon as it is resumed.
 * Suspending first takes the socket out of its epoll set, where it would be missed later (a panic).
 */
void
mhd_let_go(Conn *conn)
{
	Listener   *listener = conn->listener;

	reactor_unwatch(listener->reactor, conn->watch);
	conn->watch = NULL;
	*conn->mhd_slot = NULL;
	if (conn->state != CONN_MHD_CLOSING)
	{
		if (!conn->mhd_suspended)
			MHD_suspend_connection(conn->mhd);
		if (dup2(listener->dead_fd, conn->fd) < 0)
			shutdown(conn->fd, SHUT_RDWR);
		MHD_resume_connection(conn->mhd);
	}
	conn->mhd = NULL;
	conn->mhd_suspended = false;
	conn->fd = -1;
	if (conn->mhd_response != NULL)
		MHD_destroy_response(conn->mhd_response);
	conn->mhd_response = NULL;
	listener->mhd_due = true;
	listener_due(listener);
}

/* The same, but the connection goes on: a duplicate of the descriptor is ours. */
bool
mhd_give_back(Conn *conn)
{
	int			fd = fcntl(conn->fd, F_DUPFD_CLOEXEC, 0);

	mhd_let_go(conn);
	conn->fd = fd;
	return fd >= 0 && conn_watch(conn);
}
