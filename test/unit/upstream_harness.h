/*
 * upstream_harness.h - for test_upstream*.c: scripted servers in threads, and calls made to wait.
 *
 * A Server listens on 127.0.0.1 and runs its script in one thread per connection.  It counts
 * connections and whole requests and keeps the last request's bytes, so that tests judge by what
 * the server saw and not by what the client says.
 */
#ifndef UPSTREAM_HARNESS_H
#define UPSTREAM_HARNESS_H

#include "../../src/upstream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static int	passed;
static int	failed;

static void
check(bool ok, const char *what)
{
	printf("%s - %s\n", ok ? "ok" : "not ok", what);
	fflush(stdout);
	ok ? passed++ : failed++;
}

typedef struct Server Server;
typedef struct Conn Conn;
typedef void (*Script) (Conn *conn);

struct Server
{
	int			fd;
	int			port;
	Script		script;
	SSL_CTX    *tls;
	char		origin[64];
	pthread_t	thread;
	atomic_int	connections;
	atomic_int	requests;		/* whole ones */
	atomic_int	open;			/* connections whose script runs */
	Conn	   *live;
	pthread_mutex_t mutex;
	char		last[70000];	/* the last whole request, cut */
	size_t		last_len;
};

struct Conn
{
	Server	   *server;
	SSL		   *ssl;
	Conn	   *next;			/* in Server.live */
	int			fd;
	int			nth;			/* 1 for the server's first connection */
	int			served;			/* requests read on this connection */
	char	   *in;
	size_t		len;
	size_t		cap;
};

static inline bool
say(Conn *conn, const char *p, size_t n)
{
	while (n > 0)
	{
		ssize_t		sent = conn->ssl ? SSL_write(conn->ssl, p, (int) n) : send(conn->fd, p, n, MSG_NOSIGNAL);

		if (sent <= 0)
			return false;
		p += sent;
		n -= (size_t) sent;
	}
	return true;
}

static inline bool
says(Conn *conn, const char *text)
{
	return say(conn, text, strlen(text));
}

static inline bool
conn_read(Conn *conn)
{
	ssize_t		n;

	if (conn->cap - conn->len < 65536)
	{
		conn->cap = conn->cap * 2 + 131072;
		conn->in = realloc(conn->in, conn->cap);
	}
	n = conn->ssl ? SSL_read(conn->ssl, conn->in + conn->len, 65000) : recv(conn->fd, conn->in + conn->len, 65000, 0);
	if (n <= 0)
		return false;
	conn->len += (size_t) n;
	conn->in[conn->len] = '\0';
	return true;
}

/* Waits for a whole request (head and Content-Length bytes); false when the client closed. */
static inline bool
hear(Conn *conn)
{
	for (;;)
	{
		char	   *end = conn->len ? strstr(conn->in, "\r\n\r\n") : NULL;

		if (end != NULL)
		{
			char	   *length = strcasestr(conn->in, "\r\nContent-Length:");
			size_t		body = length && length < end ? strtoul(length + 17, NULL, 10) : 0;
			size_t		whole = (size_t) (end + 4 - conn->in) + body;

			if (conn->len >= whole)
			{
				Server	   *server = conn->server;

				pthread_mutex_lock(&server->mutex);
				server->last_len = whole < sizeof(server->last) - 1 ? whole : sizeof(server->last) - 1;
				memcpy(server->last, conn->in, server->last_len);
				server->last[server->last_len] = '\0';
				pthread_mutex_unlock(&server->mutex);
				memmove(conn->in, conn->in + whole, conn->len - whole + 1);
				conn->len -= whole;
				conn->served++;
				server->requests++;
				return true;
			}
		}
		if (!conn_read(conn))
			return false;
	}
}

static inline void
reset(Conn *conn)
{
	struct linger hard = {1, 0};

	setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
}

static inline void
conn_end(Conn *conn)
{
	Server	   *server = conn->server;

	pthread_mutex_lock(&server->mutex);
	for (Conn **at = &server->live; *at != NULL; at = &(*at)->next)
		if (*at == conn)
		{
			*at = conn->next;
			break;
		}
	close(conn->fd);
	pthread_mutex_unlock(&server->mutex);
	if (conn->ssl != NULL)
		SSL_free(conn->ssl);
	free(conn->in);
	free(conn);
	server->open--;
}

static inline void *
conn_main(void *arg)
{
	Conn	   *conn = arg;
	Server	   *server = conn->server;

	if (server->tls != NULL)
	{
		conn->ssl = SSL_new(server->tls);
		SSL_set_fd(conn->ssl, conn->fd);
	}
	if (conn->ssl == NULL || SSL_accept(conn->ssl) == 1)
		server->script(conn);
	conn_end(conn);
	return NULL;
}

static inline void *
server_main(void *arg)
{
	Server	   *server = arg;
	pthread_attr_t small;

	pthread_attr_init(&small);
	pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&small, 256 * 1024);
	for (;;)
	{
		int			fd = accept(server->fd, NULL, NULL);
		int			on = 1;
		Conn	   *conn;
		pthread_t	thread;

		if (fd < 0)
			return NULL;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		conn = calloc(1, sizeof(Conn));
		conn->server = server;
		conn->fd = fd;
		server->open++;
		conn->nth = ++server->connections;
		pthread_mutex_lock(&server->mutex);
		conn->next = server->live;
		server->live = conn;
		pthread_mutex_unlock(&server->mutex);
		if (pthread_create(&thread, &small, conn_main, conn) != 0)
			abort();
	}
}

static inline Server *
server_start(Script script, SSL_CTX *tls)
{
	Server	   *server = calloc(1, sizeof(Server));
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t	size = sizeof(address);

	server->script = script;
	server->tls = tls;
	pthread_mutex_init(&server->mutex, NULL);
	server->fd = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(server->fd, (struct sockaddr *) &address, size) != 0 || listen(server->fd, 4096) != 0
		|| getsockname(server->fd, (struct sockaddr *) &address, &size) != 0)
		abort();
	server->port = ntohs(address.sin_port);
	snprintf(server->origin, sizeof(server->origin), "%s://%s:%d", tls ? "https" : "http", tls ? "localhost" : "127.0.0.1", server->port);
	if (pthread_create(&server->thread, NULL, server_main, server) != 0)
		abort();
	return server;
}

static inline void
server_stop(Server *server)
{
	shutdown(server->fd, SHUT_RDWR);
	close(server->fd);
	pthread_join(server->thread, NULL);
	pthread_mutex_lock(&server->mutex);
	for (Conn *conn = server->live; conn != NULL; conn = conn->next)
		shutdown(conn->fd, SHUT_RDWR);
	pthread_mutex_unlock(&server->mutex);
	for (int i = 0; i < 500 && server->open > 0; i++)
		usleep(10000);
	if (server->open == 0)
		free(server);			/* else a script still sleeps: left to it */
}

/* The caller's side: one call and what came of it. */
typedef struct Try
{
	UpstreamCall call;
	UpstreamResult result;
	int			sends;
	int			dones;
	bool		in_start;
	bool		done_in_start;
	HttpHeader	headers[16];
	struct Try *next;			/* started from done() */
} Try;

static Reactor *reactor;
static Upstream *upstream;
static UpstreamOptions options = {.connect_timeout_ms = 2000, .timeout_ms = 2000, .max_body = 1 << 20};

static inline void
try_sent(UpstreamCall *call)
{
	((Try *) call->cls)->sends++;
}

static inline void
try_done(UpstreamCall *call, UpstreamResult *result)
{
	Try		   *try = call->cls;

	try->result = *result;
	try->dones++;
	try->done_in_start |= try->in_start;
	if (try->next != NULL && !upstream_start(upstream, &try->next->call))
		abort();
}

static inline Try *
try_new(const char *origin, const char *method, const char *target, const char *body)
{
	Try		   *try = calloc(1, sizeof(Try));

	try->call = (UpstreamCall) {
		.arena = arena_create(), .origin = str_of(origin), .method = str_of(method), .target = str_of(target),
		.headers = try->headers, .body = str_of(body), .on_send = try_sent, .done = try_done, .cls = try
	};
	return try;
}

static inline void
try_header(Try *try, const char *name, const char *value)
{
	try->headers[try->call.nheaders++] = (HttpHeader) {str_of(name), str_of(value)};
}

static inline void
try_start(Try *try)
{
	try->in_start = true;
	if (!upstream_start(upstream, &try->call))
		abort();
	try->in_start = false;
}

/* One turn of the loop; false when nothing happened for the given time. */
static inline void
turn(int max_ms)
{
	struct pollfd fd = {.fd = reactor_fd(reactor), .events = POLLIN};
	int			ms = reactor_timeout_ms(reactor);

	if (ms < 0 || ms > max_ms)
		ms = max_ms;
	if (poll(&fd, 1, ms) < 0 && errno != EINTR)
		abort();
	reactor_dispatch(reactor);
}

static inline void
try_wait(Try *try)
{
	int64_t		until = clock_us() + 20 * 1000000;

	while (try->dones == 0 && clock_us() < until)
		turn(100);
	if (try->dones == 0)
	{
		printf("not ok - %.*s %.*s ended\n", STR_FMT(try->call.method), STR_FMT(try->call.target));
		exit(1);
	}
}

static inline void
try_free(Try *try)
{
	free(try->result.body);
	arena_destroy(try->call.arena);
	free(try);
}

static inline Try *
try_run(Server *server, const char *method, const char *target, const char *body)
{
	Try		   *try = try_new(server->origin, method, target, body);

	try_start(try);
	try_wait(try);
	return try;
}

static inline Str
try_answer_header(const Try *try, const char *name)
{
	for (int i = 0; i < try->result.nheaders; i++)
		if (str_iis(try->result.headers[i].name, name))
			return try->result.headers[i].value;
	return STR_NULL;
}

static inline bool
try_answered(const Try *try, int status, const char *body)
{
	const UpstreamResult *r = &try->result;
	bool		ok = r->outcome == UPSTREAM_ANSWERED && r->sent && r->status == status && try->sends == 1
		&& r->sent_at_us > 0 && r->done_at_us >= r->sent_at_us && try->dones == 1 && !try->done_in_start
		&& r->body_len == strlen(body) && (r->body_len == 0 ? r->body == NULL : strcmp(r->body, body) == 0);

	if (!ok)
		printf("# outcome %d sent %d status %d body %zu '%.80s' error '%s' sends %d dones %d\n", r->outcome, r->sent,
			   r->status, r->body_len, r->body ? r->body : "", r->error, try->sends, try->dones);
	return ok;
}

static inline bool
try_failed(const Try *try, UpstreamOutcome outcome, bool sent)
{
	const UpstreamResult *r = &try->result;
	bool		ok = r->outcome == outcome && r->sent == sent && r->body == NULL && r->error[0] != '\0'
		&& (r->sent_at_us != 0) == sent && try->sends <= 1 && (!sent || try->sends == 1) && try->dones == 1 && !try->done_in_start;

	if (!ok)
		printf("# outcome %d sent %d status %d error '%s' sends %d dones %d\n", r->outcome, r->sent, r->status, r->error,
			   try->sends, try->dones);
	return ok;
}

static inline void
harness_start(void)
{
	struct rlimit files;

	signal(SIGPIPE, SIG_IGN);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0)
	{
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	reactor = reactor_create();
	upstream = reactor ? upstream_create(reactor, &options) : NULL;
	if (upstream == NULL)
		abort();
}

static inline int
harness_end(void)
{
	upstream_destroy(upstream);
	check(reactor_timeout_ms(reactor) == -1 && reactor_dispatch(reactor) == 0, "after destroy neither a timer nor a watch is left");
	reactor_destroy(reactor);
	printf("%d passed, %d failed\n", passed, failed);
	return failed != 0;
}

#endif
