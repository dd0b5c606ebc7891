/*
 * listener_sockets.c - the listening sockets: addresses as in PostgreSQL's listen_addresses,
 * rebinding without a gap, accept.
 *
 * Owns Listener.sockets.  Called by listener.c and the reactor.  It must never block in accept,
 * never spin when descriptors run out, and never close a socket that the new settings still want.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE				/* accept4 */
#endif
#include "listener_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define ACCEPT_BATCH 64			/* per socket and turn: the rest waits for the next one */
#define ACCEPT_PAUSE_US 100000	/* when descriptors or memory run out */
#define OVERFLOW_CONNECTIONS 64	/* beyond max_connections, to be told so; further ones are just closed */
#define BACKLOG 1024

typedef struct Wanted
{
	struct sockaddr_storage address[LISTENER_MAX_SOCKETS];
	socklen_t	address_n[LISTENER_MAX_SOCKETS];
	int			n;
} Wanted;

static bool
is_loopback(const struct sockaddr_storage *address)
{
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *) address;

	if (address->ss_family == AF_INET)
		return ntohl(((const struct sockaddr_in *) address)->sin_addr.s_addr) >> 24 == 127;
	if (address->ss_family != AF_INET6)
		return false;
	if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
		return v6->sin6_addr.s6_addr[12] == 127;
	return IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}

static void
accept_again(void *arg)
{
	Listener   *listener = arg;

	for (int i = 0; i < LISTENER_MAX_SOCKETS; i++)
		if (listener->sockets[i].fd >= 0 &&
			!reactor_rewatch(listener->reactor, listener->sockets[i].watch, EPOLLIN))
			listener_log(listener, 2, "could not go on accepting: %m");
}

static void
accept_pause(Listener *listener)
{
	listener_log(listener, 2, "could not accept a connection: %m");
	if (!timer_set(listener->reactor, &listener->accept_timer, clock_us() + ACCEPT_PAUSE_US, accept_again, listener))
		return;
	for (int i = 0; i < LISTENER_MAX_SOCKETS; i++)
		if (listener->sockets[i].fd >= 0 && !reactor_rewatch(listener->reactor, listener->sockets[i].watch, 0))
			listener_log(listener, 2, "could not pause accepting: %m");
}

static void
welcome(Listener *listener, int fd, const struct sockaddr_storage *peer)
{
	bool		full = listener->stats.connections >= listener->options.max_connections;
	int			on = 1;
	Conn	   *conn;

	if (full)
		listener->stats.refused++;
	else
		listener->stats.accepted++;
	/* Without it a response may wait for an acknowledgement; not worth refusing the client. */
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0)
		listener_log(listener, 0, "could not set TCP_NODELAY: %m");
	if (listener->stats.connections >= listener->options.max_connections + OVERFLOW_CONNECTIONS ||
		(conn = conn_create(listener, fd, is_loopback(peer))) == NULL)
	{
		close(fd);
		return;
	}
	if (full)
		conn_refuse(conn, 503, "not_ready", "too many connections", "Raise sequin_proxy.max_connections; or the limit of open files, if the server's log says so.");
}

static void
accept_ready(void *arg, uint32_t events)
{
	ListenSocket *sock = arg;
	Listener   *listener = sock->listener;

	(void) events;
	for (int i = 0; i < ACCEPT_BATCH && sock->fd >= 0; i++)
	{
		struct sockaddr_storage peer;
		socklen_t	peer_n = sizeof(peer);
		int			fd = accept4(sock->fd, (struct sockaddr *) &peer, &peer_n, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0)
			welcome(listener, fd, &peer);
		else if (errno == EAGAIN)
			return;
		else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
		{
			accept_pause(listener);
			return;
		}
		/* else: that connection's own trouble (ECONNABORTED ...) */
	}
}

static bool
want(Wanted *wanted, const struct addrinfo *info)
{
	for (int i = 0; i < wanted->n; i++)
		if (wanted->address_n[i] == info->ai_addrlen &&
			memcmp(&wanted->address[i], info->ai_addr, info->ai_addrlen) == 0)
			return true;
	if (wanted->n == LISTENER_MAX_SOCKETS || info->ai_addrlen > sizeof(struct sockaddr_storage))
		return false;
	memset(&wanted->address[wanted->n], 0, sizeof(struct sockaddr_storage));
	memcpy(&wanted->address[wanted->n], info->ai_addr, info->ai_addrlen);
	wanted->address_n[wanted->n++] = info->ai_addrlen;
	return true;
}

/* One element of listen_addresses; "*" is every interface, as in PostgreSQL. */
static void
resolve(const char *host, int port, Wanted *wanted, char *error, size_t error_size)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
	struct addrinfo *found = NULL;
	char		service[16];
	int			rc;

	snprintf(service, sizeof(service), "%d", port);
	rc = getaddrinfo(strcmp(host, "*") == 0 ? NULL : host, service, &hints, &found);
	if (rc != 0)
	{
		snprintf(error, error_size, "could not resolve \"%s\": %s", host, gai_strerror(rc));
		return;
	}
	for (struct addrinfo *info = found; info != NULL; info = info->ai_next)
		if ((info->ai_family == AF_INET || info->ai_family == AF_INET6) && !want(wanted, info))
			snprintf(error, error_size, "too many listen addresses");
	freeaddrinfo(found);
}

static void
resolve_all(const ListenerOptions *options, Wanted *wanted, char *error, size_t error_size)
{
	char		host[256];
	const char *p = options->addresses;

	wanted->n = 0;
	while (*p != '\0')
	{
		size_t		n = strcspn(p, ", \t");

		if (n > 0 && n < sizeof(host))
		{
			memcpy(host, p, n);
			host[n] = '\0';
			resolve(host, options->port, wanted, error, error_size);
		}
		p += n;
		p += strspn(p, ", \t");
	}
}

static int
open_socket(const struct sockaddr_storage *address, socklen_t address_n, bool share)
{
	int			fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int			on = 1;

	if (fd < 0)
		return -1;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
		(!share || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == 0) &&
		(address->ss_family != AF_INET6 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) == 0) &&
		bind(fd, (const struct sockaddr *) address, address_n) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	on = errno;
	close(fd);
	errno = on;
	return -1;
}

/* A socket of our own, shared with our other workers; as the first of them only where nobody else listens. */
static int
open_listener(const ListenerOptions *options, const struct sockaddr_storage *address, socklen_t address_n)
{
	if (options->exclusive)
	{
		int			probe = open_socket(address, address_n, false);

		if (probe < 0)
			return -1;
		close(probe);
	}
	return open_socket(address, address_n, true);
}

static ListenSocket *
find_socket(Listener *listener, const struct sockaddr_storage *address, socklen_t address_n)
{
	for (int i = 0; i < LISTENER_MAX_SOCKETS; i++)
	{
		ListenSocket *sock = &listener->sockets[i];

		if (sock->fd >= 0 && sock->address_n == address_n && memcmp(&sock->address, address, address_n) == 0)
			return sock;
	}
	return NULL;
}

static bool
add_socket(Listener *listener, const struct sockaddr_storage *address, socklen_t address_n)
{
	for (int i = 0; i < LISTENER_MAX_SOCKETS; i++)
	{
		ListenSocket *sock = &listener->sockets[i];

		if (sock->fd >= 0)
			continue;
		sock->fd = open_listener(&listener->options, address, address_n);
		if (sock->fd < 0)
			return false;
		sock->address = *address;
		sock->address_n = address_n;
		sock->watch = reactor_watch(listener->reactor, sock->fd, EPOLLIN, accept_ready, sock);
		if (sock->watch != NULL)
			return true;
		close(sock->fd);
		sock->fd = -1;
		return false;
	}
	errno = EMFILE;				/* a rebind that replaces every one of 32 sockets */
	return false;
}

static void
close_socket(ListenSocket *sock)
{
	if (sock->fd < 0)
		return;
	reactor_unwatch(sock->listener->reactor, sock->watch);
	close(sock->fd);
	sock->fd = -1;
}

static void
describe(const struct sockaddr_storage *address, socklen_t address_n, char *text, size_t size)
{
	char		host[NI_MAXHOST];
	char		port[NI_MAXSERV];

	if (getnameinfo((const struct sockaddr *) address, address_n, host, sizeof(host), port, sizeof(port),
					NI_NUMERICHOST | NI_NUMERICSERV) == 0)
		snprintf(text, size, address->ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
	else
		snprintf(text, size, "?");
}

static void
close_unwanted(Listener *listener, const Wanted *wanted)
{
	for (int i = 0; i < LISTENER_MAX_SOCKETS; i++)
	{
		ListenSocket *sock = &listener->sockets[i];
		bool		keep = false;

		for (int j = 0; j < wanted->n && sock->fd >= 0; j++)
			keep = keep || find_socket(listener, &wanted->address[j], wanted->address_n[j]) == sock;
		if (!keep)
			close_socket(sock);
	}
}

/* An address family that this machine does not have is no reason to complain: localhost names both. */
static bool
is_absent_family(int error)
{
	return error == EADDRNOTAVAIL || error == EAFNOSUPPORT;
}

/* Binds what is not bound yet; returns how many addresses are, and says in error which cannot be. */
static int
bind_wanted(Listener *listener, const Wanted *wanted, char *error, size_t error_size)
{
	char		text[NI_MAXHOST + NI_MAXSERV + 8];
	int			bound = 0;

	for (int i = 0; i < wanted->n; i++)
	{
		if (find_socket(listener, &wanted->address[i], wanted->address_n[i]) != NULL ||
			add_socket(listener, &wanted->address[i], wanted->address_n[i]))
		{
			bound++;
			continue;
		}
		if (is_absent_family(errno) && wanted->n > 1)
			continue;
		describe(&wanted->address[i], wanted->address_n[i], text, sizeof(text));
		snprintf(error, error_size, "could not listen on %s: %s", text, strerror(errno));
	}
	return bound;
}

bool
sockets_bind(Listener *listener, char *error, size_t error_size)
{
	Wanted		wanted;
	bool		none_wanted = listener->options.addresses[strspn(listener->options.addresses, ", \t")] == '\0';
	int			bound;

	error[0] = '\0';
	resolve_all(&listener->options, &wanted, error, error_size);
	bound = bind_wanted(listener, &wanted, error, error_size);
	if (bound == 0 && !none_wanted)
	{
		if (error[0] == '\0')
			snprintf(error, error_size, "no address to listen on");
		return false;
	}
	close_unwanted(listener, &wanted);
	listener->stopping = false;
	return true;
}

void
sockets_close(Listener *listener)
{
	timer_clear(listener->reactor, &listener->accept_timer);
	for (int i = 0; i < LISTENER_MAX_SOCKETS; i++)
		close_socket(&listener->sockets[i]);
}
