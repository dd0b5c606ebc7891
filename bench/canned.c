/*
 * canned.c - an API that answers from memory, after a delay: what nginx cannot do for the benchmark.
 *
 *     canned PORT DELAY_MS SCHEMA_FILE ANSWER_FILE
 *
 * One thread, one epoll set.  Any POST, PATCH or GET of /crm/v3/objects/contacts... is answered with
 * ANSWER_FILE after DELAY_MS, each "@@@@@@@@@@" in it replaced by ten digits that count up; a path that ends
 * in /properties/contacts gets SCHEMA_FILE, anything else an empty list, both at once.  Trusts its clients:
 * a request has a Content-Length or no body, and is not pipelined.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PLACE "@@@@@@@@@@"
#define PLACE_N 10
#define MAX_PLACES 1024

typedef struct Text
{
	char	   *p;
	size_t		n;
} Text;

typedef struct Conn
{
	int			fd;
	char	   *in;
	size_t		in_n;
	size_t		in_cap;
	char	   *out;			/* what is being sent, or NULL */
	size_t		out_n;
	size_t		sent;
	bool		blocked;		/* EPOLLOUT is asked for */
	int64_t		due_us;			/* when the answer may go */
	struct Conn *next;			/* in the line of those that wait: the delay is the same for all, so it is in order */
} Conn;

static int	epoll_fd;
static int64_t delay_us;
static Text schema;
static Text answer;
static size_t places[MAX_PLACES];
static int	nplaces;
static uint64_t next_id = 1000000000;
static Conn *first;
static Conn *last;

static int64_t
clock_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void
die(const char *what)
{
	perror(what);
	exit(1);
}

static Text
read_file(const char *path)
{
	FILE	   *f = fopen(path, "rb");
	Text		text = {malloc(64 * 1024 * 1024), 0};

	if (f == NULL || text.p == NULL)
		die(path);
	text.n = fread(text.p, 1, 64 * 1024 * 1024 - 1, f);
	text.p[text.n] = '\0';
	fclose(f);
	return text;
}

static void
find_places(void)
{
	for (char *p = answer.p; (p = strstr(p, PLACE)) != NULL && nplaces < MAX_PLACES; p += PLACE_N)
		places[nplaces++] = (size_t) (p - answer.p);
}

static void
conn_close(Conn *conn)
{
	close(conn->fd);			/* never one that waits: its client is in flight until it has its answer */
	free(conn->in);
	free(conn->out);
	free(conn);
}

static void
set_answer(Conn *conn, int status, Text body)
{
	char		head[200];
	int			n = snprintf(head, sizeof(head), "HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
							 status, body.n);

	conn->out = malloc((size_t) n + body.n);
	if (conn->out == NULL)
		die("malloc");
	memcpy(conn->out, head, (size_t) n);
	memcpy(conn->out + n, body.p, body.n);
	conn->out_n = (size_t) n + body.n;
	conn->sent = 0;
	if (body.p != answer.p)
		return;
	for (int i = 0; i < nplaces; i++)
	{
		char		digits[24];

		snprintf(digits, sizeof(digits), "%010llu", (unsigned long long) next_id++);
		memcpy(conn->out + n + places[i], digits, PLACE_N);
	}
}

static void
want_out(Conn *conn, bool wanted)
{
	struct epoll_event event = {.events = wanted ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = conn};

	if (conn->blocked != wanted)
		epoll_ctl(epoll_fd, EPOLL_CTL_MOD, conn->fd, &event);
	conn->blocked = wanted;
}

static void
conn_send(Conn *conn)
{
	while (conn->sent < conn->out_n)
	{
		ssize_t		n = send(conn->fd, conn->out + conn->sent, conn->out_n - conn->sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN)
		{
			want_out(conn, true);
			return;
		}
		if (n <= 0)
			break;				/* the next read tells */
		conn->sent += (size_t) n;
	}
	want_out(conn, false);
	free(conn->out);
	conn->out = NULL;
}

/* The request in conn->in[0 .. n) is whole. */
static void
conn_request(Conn *conn, size_t n)
{
	char	   *target = memchr(conn->in, ' ', n);
	size_t		target_n = target ? strcspn(target + 1, " ?\r") : 0;
	static const char contacts[] = "/crm/v3/objects/contacts";
	static const char properties[] = "/properties/contacts";
	Text		nothing = {"{\"results\":[]}", 14};

	if (target_n >= sizeof(properties) - 1 &&
		memcmp(target + 1 + target_n - (sizeof(properties) - 1), properties, sizeof(properties) - 1) == 0)
		set_answer(conn, 200, schema);
	else if (target_n < sizeof(contacts) - 1 || memcmp(target + 1, contacts, sizeof(contacts) - 1) != 0)
		set_answer(conn, 200, nothing);
	else
	{
		set_answer(conn, conn->in[0] == 'P' && conn->in[1] == 'O' ? 201 : 200, answer);
		if (delay_us > 0)
		{
			conn->due_us = clock_us() + delay_us;
			conn->next = NULL;
			*(last ? &last->next : &first) = conn;
			last = conn;
			return;
		}
	}
	conn_send(conn);
}

/* The length of the request at the start of what is there; 0: not whole yet. */
static size_t
request_size(Conn *conn)
{
	char	   *end = memmem(conn->in, conn->in_n, "\r\n\r\n", 4);
	char	   *length;
	size_t		n;

	if (end == NULL)
		return 0;
	*end = '\0';
	length = strcasestr(conn->in, "\r\ncontent-length:");
	n = (size_t) (end - conn->in) + 4 + (length ? strtoul(length + 17, NULL, 10) : 0);
	*end = '\r';
	return n <= conn->in_n ? n : 0;
}

static void
conn_read(Conn *conn)
{
	ssize_t		n;
	size_t		size;

	if (conn->in_cap - conn->in_n < 65536)
	{
		conn->in_cap = conn->in_cap ? conn->in_cap * 2 : 128 * 1024;
		conn->in = realloc(conn->in, conn->in_cap);
		if (conn->in == NULL)
			die("realloc");
	}
	n = recv(conn->fd, conn->in + conn->in_n, conn->in_cap - conn->in_n - 1, 0);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0)
	{
		if (conn->out == NULL)
			conn_close(conn);
		else
			epoll_ctl(epoll_fd, EPOLL_CTL_DEL, conn->fd, NULL);	/* its answer is due: forgotten then */
		return;
	}
	conn->in_n += (size_t) n;
	conn->in[conn->in_n] = '\0';
	size = request_size(conn);
	if (size == 0)
		return;
	conn_request(conn, size);
	conn->in_n -= size;
	memmove(conn->in, conn->in + size, conn->in_n);
}

static void
accept_all(int listen_fd)
{
	int			fd;
	int			one = 1;

	while ((fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
	{
		Conn	   *conn = calloc(1, sizeof(Conn));
		struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};

		if (conn == NULL)
			die("calloc");
		conn->fd = fd;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
	}
}

static int
listen_on(int port)
{
	int			fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int			one = 1;
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t) port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *) &address, sizeof(address)) != 0 || listen(fd, 4096) != 0)
		die("listen");
	epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
	return fd;
}

/* Sends what is due; returns how long to wait for the next, in ms. */
static int
send_due(void)
{
	while (first != NULL)
	{
		Conn	   *conn = first;
		int64_t		left = conn->due_us - clock_us();

		if (left > 0)
			return (int) ((left + 999) / 1000);
		first = conn->next;
		if (first == NULL)
			last = NULL;
		conn_send(conn);
	}
	return -1;
}

int
main(int argc, char **argv)
{
	struct rlimit files = {20000, 20000};
	struct epoll_event events[512];
	int			listen_fd;

	if (argc != 5)
		return 2;
	setrlimit(RLIMIT_NOFILE, &files);
	delay_us = atol(argv[2]) * 1000;
	schema = read_file(argv[3]);
	answer = read_file(argv[4]);
	find_places();
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	listen_fd = listen_on(atoi(argv[1]));
	for (;;)
	{
		int			n = epoll_wait(epoll_fd, events, 512, send_due());

		for (int i = 0; i < n; i++)
		{
			Conn	   *conn = events[i].data.ptr;

			if (conn == NULL)
				accept_all(listen_fd);
			else if (conn->blocked)
				conn_send(conn);
			else
				conn_read(conn);
		}
	}
}
