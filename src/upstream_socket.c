/*
 * upstream_socket.c - libcurl's sockets and its timer on the reactor, while it connects.
 *
 * Owns one Socket for each descriptor that libcurl wants watched: attempts to connect, handshakes,
 * its resolver's pipes.  A connection that is made is upstream_connection.c's and watched there.
 * libcurl closes some descriptors without telling, so that each is looked up again by its number
 * and a stale one is found out when the number is used anew.  The callbacks here run inside
 * libcurl and must never call it back.
 */
#include "upstream_internal.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct Socket
{
	Upstream   *upstream;
	Watch	   *watch;			/* NULL: not registered */
	uint32_t	registered;		/* events */
	int			fd;
};

static Socket *
socket_find(const Upstream *upstream, int fd)
{
	return fd >= 0 && fd < upstream->nsockets ? upstream->sockets[fd] : NULL;
}

static Socket *
socket_make(Upstream *upstream, int fd)
{
	Socket	   *sock = socket_find(upstream, fd);

	if (sock != NULL)
		return sock;
	if (fd >= upstream->nsockets)
	{
		int			n = fd + 64;
		Socket	  **sockets = reallocarray(upstream->sockets, (size_t) n, sizeof(Socket *));

		if (sockets == NULL)
			return NULL;
		memset(sockets + upstream->nsockets, 0, sizeof(Socket *) * (size_t) (n - upstream->nsockets));
		upstream->sockets = sockets;
		upstream->nsockets = n;
	}
	sock = calloc(1, sizeof(Socket));
	if (sock == NULL)
		return NULL;
	sock->upstream = upstream;
	sock->fd = fd;
	upstream->sockets[fd] = sock;
	return sock;
}

static void
socket_forget(Socket *sock)
{
	if (sock->watch != NULL)
		reactor_unwatch(sock->upstream->reactor, sock->watch);
	sock->upstream->sockets[sock->fd] = NULL;
	free(sock);
}

void
sockets_forget(Upstream *upstream, int fd)
{
	Socket	   *sock = socket_find(upstream, fd);

	if (sock != NULL)
		socket_forget(sock);
}

static void
socket_ready(void *arg, uint32_t events)
{
	Socket	   *sock = arg;
	int			what = 0;

	if (events & EPOLLIN)
		what |= CURL_CSELECT_IN;
	if (events & EPOLLOUT)
		what |= CURL_CSELECT_OUT;
	if (events & (EPOLLERR | EPOLLHUP))
		what |= CURL_CSELECT_ERR;
	upstream_drive(sock->upstream, sock->fd, what);
}

/* False: not watched.  The transfer's deadlines then end it; memory is short, and this is not the place to fail. */
static bool
socket_register(Socket *sock, uint32_t events)
{
	Reactor    *reactor = sock->upstream->reactor;

	if (sock->watch != NULL && events != sock->registered && !reactor_rewatch(reactor, sock->watch, events))
	{
		/* the descriptor was closed and is another one now */
		reactor_unwatch(reactor, sock->watch);
		sock->watch = NULL;
	}
	if (sock->watch == NULL)
		sock->watch = reactor_watch(reactor, sock->fd, events, socket_ready, sock);
	sock->registered = events;
	return sock->watch != NULL;
}

static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *userp, void *socketp)
{
	Upstream   *upstream = userp;
	Socket	   *sock;

	(void) easy, (void) socketp;
	if (what == CURL_POLL_REMOVE)
	{
		sockets_forget(upstream, fd);
		return 0;
	}
	sock = socket_make(upstream, fd);
	if (sock != NULL)			/* no memory: see socket_register() */
		(void) socket_register(sock, (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0));
	return 0;
}

static curl_socket_t
open_socket(void *clientp, curlsocktype purpose, struct curl_sockaddr *address)
{
	int			fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);

	(void) purpose;
	if (fd < 0)
		return CURL_SOCKET_BAD;
	sockets_forget(clientp, fd);	/* one that was closed behind our back */
	return fd;
}

static int
close_socket(void *clientp, curl_socket_t fd)
{
	sockets_forget(clientp, fd);
	return close(fd);
}

/* libcurl is about to start a thread, which would otherwise run this process's signal handlers. */
static int
before_resolver(void *resolver, void *reserved, void *clientp)
{
	Upstream   *upstream = clientp;
	sigset_t	all;

	(void) resolver;
	(void) reserved;
	if (upstream->signals_blocked)
		return 0;
	sigfillset(&all);
	upstream->signals_blocked = pthread_sigmask(SIG_SETMASK, &all, &upstream->signals) == 0;
	return upstream->signals_blocked ? 0 : 1;
}

static void
timer_due(void *arg)
{
	upstream_drive(arg, CURL_SOCKET_TIMEOUT, 0);
}

static int
on_timer(CURLM *multi, long timeout_ms, void *userp)
{
	Upstream   *upstream = userp;

	(void) multi;
	if (timeout_ms < 0)
		timer_clear(upstream->reactor, &upstream->timer);
	else if (!timer_set(upstream->reactor, &upstream->timer, clock_us() + timeout_ms * (int64_t) 1000, timer_due,
						upstream))
		return 0;				/* no memory: the next socket's event runs libcurl's timers too; -1 would end them all */
	return 0;
}

bool
sockets_install(Upstream *upstream)
{
	CURLM	   *multi = upstream->multi;

	return curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket) == CURLM_OK
		&& curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, upstream) == CURLM_OK
		&& curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer) == CURLM_OK
		&& curl_multi_setopt(multi, CURLMOPT_TIMERDATA, upstream) == CURLM_OK;
}

bool
sockets_apply(Connection *connection)
{
	CURL	   *easy = connection->easy;
	Upstream   *upstream = connection->upstream;
	bool		ok = true;

	ok &= curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, upstream) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, close_socket) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, upstream) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_RESOLVER_START_FUNCTION, before_resolver) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_RESOLVER_START_DATA, upstream) == CURLE_OK;
	return ok;
}

void
sockets_free(Upstream *upstream)
{
	for (int fd = 0; fd < upstream->nsockets; fd++)
		if (upstream->sockets[fd] != NULL)
			socket_forget(upstream->sockets[fd]);
	free(upstream->sockets);
	upstream->sockets = NULL;
	upstream->nsockets = 0;
}
