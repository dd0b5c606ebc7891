/*
 * upstream_socket.c - libcurl's sockets and its timer on the reactor.
 *
 * Owns one Socket for each descriptor that libcurl wants watched.  libcurl takes its socket out of
 * the poll set after every transfer and adds it for the next; here a connection stays registered
 * between transfers, which saves two system calls per request and shows at once when the API
 * closes an idle connection (or speaks out of turn): it is then shut down, so that libcurl finds
 * it dead and does not send a request into it.  Only a connection that has carried a request is
 * kept so: libcurl closes others (attempts to connect, its resolver's pipes) without telling us.
 * The callbacks here run inside libcurl and must never call it back.
 */
#include "upstream_internal.h"

#include <errno.h>
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
	uint32_t	wanted;			/* events; 0: no transfer uses it */
	int			fd;
	bool		kept;			/* a connection in use: stays registered until close_socket() */
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

/*
 * Nobody waits for this connection, yet something is there: its end, or bytes that would be taken
 * for the next request's answer.  Drained, because libcurl calls a connection with unread bytes alive.
 */
static void
socket_retire(Socket *sock)
{
	char		junk[4096];
	ssize_t		n;
	int			reads = 0;

	do
		n = recv(sock->fd, junk, sizeof(junk), MSG_DONTWAIT);
	while (n > 0 && ++reads < 64);
	if (n < 0 && (errno == EAGAIN || errno == EINTR) && reads == 0)
		return;					/* a transfer that has just ended has read it */
	if (shutdown(sock->fd, SHUT_RDWR) != 0)
		errno = 0;				/* already reset by the peer: as good */
	reactor_unwatch(sock->upstream->reactor, sock->watch);
	sock->watch = NULL;
}

static void
socket_ready(void *arg, uint32_t events)
{
	Socket	   *sock = arg;
	int			what = 0;

	if (sock->wanted == 0)
	{
		socket_retire(sock);
		return;
	}
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

static void
socket_unwanted(Socket *sock)
{
	sock->wanted = 0;
	if (!sock->kept)
		socket_forget(sock);
	else if (sock->watch != NULL && sock->registered != EPOLLIN)
		(void) socket_register(sock, EPOLLIN);	/* or an idle, writable socket would keep the loop busy */
}

static bool
is_connection(int fd)
{
	int			domain = AF_UNSPEC;
	socklen_t	size = sizeof(domain);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && (domain == AF_INET || domain == AF_INET6);
}

/*
 * After the pre-request callback, and as long as libcurl has not begun to connect anew, this is the
 * call's connection.  libcurl tells only what changes, so a removal may be the first we hear of it;
 * it also tells that of attempts to connect which it has already closed.
 */
static void
note_use(CURL *easy, Socket *sock, bool waits)
{
	Transfer   *transfer = NULL;

	if (curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **) &transfer) != CURLE_OK || transfer == NULL)
		return;
	if (!transfer->sending || transfer->reopened)
		return;
	if (waits)
		transfer->written = true;
	if (!sock->kept)
		sock->kept = is_connection(sock->fd);
}

static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *userp, void *socketp)
{
	Upstream   *upstream = userp;
	Socket	   *sock = what == CURL_POLL_REMOVE ? socket_find(upstream, fd) : socket_make(upstream, fd);

	(void) socketp;
	if (sock == NULL)
		return 0;				/* nothing to remove; or no memory: see socket_register() */
	note_use(easy, sock, what != CURL_POLL_REMOVE);
	if (what == CURL_POLL_REMOVE)
	{
		socket_unwanted(sock);
		return 0;
	}
	sock->wanted = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
	(void) socket_register(sock, sock->wanted);
	return 0;
}

/*
 * libcurl opens another connection while a call is being sent: its silent resend has begun.  It
 * ends here, before anything reaches the API, when the first attempt may have (G8).
 */
static curl_socket_t
open_socket(void *clientp, curlsocktype purpose, struct curl_sockaddr *address)
{
	Transfer   *transfer = clientp;
	Socket	   *sock;
	int			fd;

	(void) purpose;
	transfer->fresh = true;
	if (transfer->sending)
	{
		if (transfer_sent(transfer))
		{
			transfer->resend_refused = true;
			return CURL_SOCKET_BAD;
		}
		transfer->reopened = true;
	}
	fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
	if (fd < 0)
		return CURL_SOCKET_BAD;
	sock = socket_find(transfer->upstream, fd);
	if (sock != NULL)
		socket_forget(sock);	/* of one that was closed behind our back */
	return fd;
}

static int
close_socket(void *clientp, curl_socket_t fd)
{
	Upstream   *upstream = clientp;
	Socket	   *sock = socket_find(upstream, fd);

	if (sock != NULL)
		socket_forget(sock);
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
sockets_apply(Transfer *transfer)
{
	CURL	   *easy = transfer->easy;
	bool		ok = true;

	ok &= curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, transfer) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, close_socket) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, transfer->upstream) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_RESOLVER_START_FUNCTION, before_resolver) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_RESOLVER_START_DATA, transfer->upstream) == CURLE_OK;
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
