// SRC: src/upstream.c src/upstream_connection.c src/upstream_socket.c src/upstream_request.c src/upstream_answer.c src/reactor.c src/arena.c src/http_head.c src/http_chunked.c  LIBS: -lcurl -lssl -lcrypto -lpthread -ldl
/*
 * test_upstream_life.c - connections, deadlines, cancellation, names, and G8: never sent twice.
 */
#include "upstream_harness.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>

#define OK_2 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

/* ---- what upstream and libcurl get in place of send(), getaddrinfo() and clock_gettime() ---- */

static _Atomic int64_t ahead_s;		/* the monotonic clock's, of the time that has passed; only ever forward */

int
clock_gettime(clockid_t id, struct timespec *now)
{
	static int	(*real) (clockid_t, struct timespec *);

	if (real == NULL)
		real = (int (*) (clockid_t, struct timespec *)) dlsym(RTLD_NEXT, "clock_gettime");
	if (real(id, now) != 0)
		return -1;
	if (id == CLOCK_MONOTONIC)
		now->tv_sec += ahead_s;
	return 0;
}

static pthread_t loop_thread;
static int	fail_send_with;		/* the loop's next send() fails with this errno; 0: none */
static int	sends_failed;

static pthread_mutex_t dns_mutex = PTHREAD_MUTEX_INITIALIZER;	/* held: names under hang.test do not come back */
static atomic_int dns_waiting;
static atomic_int dns_open_signals;		/* look-ups that ran with a signal open */

ssize_t
send(int fd, const void *p, size_t n, int flags)
{
	if (fail_send_with != 0 && pthread_equal(pthread_self(), loop_thread))
	{
		errno = fail_send_with;
		fail_send_with = 0;
		sends_failed++;
		return -1;
	}
	return sendto(fd, p, n, flags, NULL, 0);
}

int
getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **res)
{
	static int	(*real) (const char *, const char *, const struct addrinfo *, struct addrinfo **);
	sigset_t	mask;

	if (real == NULL)
		real = (int (*) (const char *, const char *, const struct addrinfo *, struct addrinfo **)) dlsym(RTLD_NEXT, "getaddrinfo");
	pthread_sigmask(SIG_BLOCK, NULL, &mask);
	if (!sigismember(&mask, SIGUSR1) || !sigismember(&mask, SIGTERM))
		dns_open_signals++;
	if (strcmp(node, "nowhere.test") == 0)
		return EAI_NONAME;
	if (strcmp(node, "hang.test") == 0)
	{
		dns_waiting++;
		pthread_mutex_lock(&dns_mutex);
		pthread_mutex_unlock(&dns_mutex);
		dns_waiting--;
	}
	return real("127.0.0.1", service, hints, res);
}

/* ---- scripts ---- */

static void
keep_alive(Conn *conn)
{
	while (hear(conn))
		says(conn, OK_2);
}

/* The first connection answers once, reads a second request and goes; later ones answer. */
static bool second_reset;

static void
close_on_second(Conn *conn)
{
	while (hear(conn))
	{
		if (conn->nth == 1 && conn->served == 2)
		{
			if (second_reset)
				reset(conn);
			return;
		}
		says(conn, OK_2);
	}
}

static void
answer_and_close(Conn *conn)
{
	if (!hear(conn))
		return;
	says(conn, OK_2);
	if (second_reset)
	{
		usleep(50000);
		reset(conn);
	}
}

static void
speak_out_of_turn(Conn *conn)
{
	while (hear(conn))
	{
		says(conn, OK_2);
		if (conn->nth == 1)
		{
			usleep(50000);
			says(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong");
		}
	}
}

static void
one_each(Conn *conn)
{
	if (hear(conn))
		says(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi");
}

static atomic_bool says_wrong;

static void
says_wrong_once(Conn *conn)
{
	if (!hear(conn))
		return;
	says(conn, OK_2);
	if (conn->nth == 1)
	{
		while (!says_wrong)
			usleep(1000);
		says(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong");
	}
	while (hear(conn))
		says(conn, OK_2);
}

/* These go on as if the connection could be used again. */
static void
says_close(Conn *conn)
{
	while (hear(conn))
		says(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi");
}

static void
says_too_much(Conn *conn)
{
	while (hear(conn))
		says(conn, OK_2 "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong");
}

static void
never_answer(Conn *conn)
{
	while (hear(conn))
		;
}

static void
drip(Conn *conn)
{
	if (!hear(conn) || !says(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"))
		return;
	while (says(conn, "x"))
		usleep(20000);
}

static void
slow(Conn *conn)
{
	while (hear(conn))
	{
		usleep(300000);
		says(conn, OK_2);
	}
}

/* ---- tests ---- */

static void
wait_ms(int ms)
{
	int64_t		until = clock_us() + ms * 1000;

	while (clock_us() < until)
		turn(5);
}

static void
never_twice(const char *method, const char *body, bool with_reset, const char *what)
{
	Server	   *server = server_start(close_on_second, NULL);
	Try		   *first = try_run(server, "GET", "/1", NULL);
	Try		   *second;

	second_reset = with_reset;
	second = try_run(server, method, "/2", body);
	wait_ms(50);
	check(try_answered(first, 200, "hi") && try_failed(second, UPSTREAM_BROKEN, true) && server->requests == 2, what);
	check(server->connections == 1, "... and no second connection was opened for it");
	try_free(first);
	try_free(second);
	second_reset = false;
	server_stop(server);
}

static void
test_never_twice(void)
{
	never_twice("POST", "{\"a\":1}", false, "a POST on a kept connection that closes after reading it is sent once");
	never_twice("DELETE", NULL, false, "a DELETE on a kept connection that closes after reading it is sent once");
	never_twice("GET", NULL, false, "a GET on a kept connection that closes after reading it is sent once");
	never_twice("POST", "{\"a\":1}", true, "a POST on a kept connection that resets after reading it is sent once");
	never_twice("DELETE", NULL, true, "a DELETE on a kept connection that resets after reading it is sent once");
}

/* As above, but another idle connection is at hand, which libcurl would take for its resend. */
static void
test_never_twice_with_spare(void)
{
	Server	   *server = server_start(close_on_second, NULL);
	Try		   *a = try_new(server->origin, "GET", "/a", NULL);
	Try		   *b = try_new(server->origin, "GET", "/b", NULL);
	Try		   *c;

	try_start(a);
	try_start(b);
	try_wait(a);
	try_wait(b);
	check(server->connections == 2, "two calls at once use two connections");
	for (int i = 0; i < 2; i++)
	{
		c = try_run(server, "POST", "/c", "x");
		check(try_failed(c, UPSTREAM_BROKEN, true) || try_answered(c, 200, "hi"), "a POST is answered or broken while another connection is idle");
		try_free(c);
		if (server->requests != 3 + i)
			break;
	}
	check(server->requests == 4, "each of them was sent once");
	try_free(a);
	try_free(b);
	server_stop(server);
}

static void
test_blocked_first_write(void)
{
	Server	   *server = server_start(close_on_second, NULL);
	Try		   *first = try_run(server, "GET", "/1", NULL);
	Try		   *second = try_new(server->origin, "POST", "/2", "x");

	try_start(second);
	fail_send_with = EAGAIN;
	try_wait(second);
	wait_ms(50);
	check(sends_failed == 1 && try_failed(second, UPSTREAM_BROKEN, true) && server->requests == 2, "a request whose first write would block is sent once, too");
	try_free(first);
	try_free(second);
	server_stop(server);
}

static void
test_failed_write(void)
{
	Server	   *server = server_start(keep_alive, NULL);
	Try		   *first = try_run(server, "GET", "/1", NULL);
	Try		   *second = try_new(server->origin, "POST", "/2", "x");
	Try		   *third;

	sends_failed = 0;
	try_start(second);
	fail_send_with = EPIPE;
	try_wait(second);
	check(sends_failed == 1 && try_answered(second, 200, "hi") && server->requests == 2 && server->connections == 2,
		  "a request that could not be written to a kept connection goes out once on a fresh one, on_send called once");
	try_free(first);
	try_free(second);
	server_stop(server);
	server = server_start(keep_alive, NULL);
	third = try_new(server->origin, "POST", "/3", "x");
	sends_failed = 0;
	try_start(third);
	fail_send_with = ECONNRESET;
	try_wait(third);
	check(sends_failed == 1 && try_answered(third, 200, "hi") && server->requests == 1 && server->connections == 2,
		  "a request that could not be written to a new connection is tried once more");
	try_free(third);
	server_stop(server);
}

static void
idle_case(Script script, bool with_reset, int pause_ms, const char *what)
{
	Server	   *server = server_start(script, NULL);
	Try		   *first;
	Try		   *second;

	second_reset = with_reset;
	first = try_run(server, "POST", "/1", "x");
	if (pause_ms > 0)
		wait_ms(pause_ms);
	else
		usleep(100000);
	second = try_run(server, "POST", "/2", "y");
	check(try_answered(first, 200, "hi") && try_answered(second, 200, "hi") && server->requests == 2 && server->connections == 2, what);
	try_free(first);
	try_free(second);
	second_reset = false;
	server_stop(server);
}

static void
test_idle_connections(void)
{
	Server	   *server = server_start(keep_alive, NULL);

	for (int i = 0; i < 20; i++)
	{
		try_free(try_run(server, i % 2 ? "POST" : "GET", "/", i % 2 ? "x" : NULL));
		upstream_set_options(upstream, &options);
	}
	check(server->connections == 1 && server->requests == 20, "twenty calls in a row use one connection, and a reload between them leaves it");
	server_stop(server);
	wait_ms(50);
	idle_case(answer_and_close, false, 100, "after the API closed an idle connection the next call uses a fresh one");
	idle_case(answer_and_close, false, 0, "so it does when the loop has not yet noticed");
	idle_case(answer_and_close, true, 100, "after the API reset an idle connection the next call uses a fresh one");
	idle_case(answer_and_close, true, 0, "so it does when the loop has not yet noticed");
	idle_case(speak_out_of_turn, false, 150, "bytes on an idle connection never answer the next call");
	idle_case(speak_out_of_turn, false, 0, "nor when the loop has not yet noticed");
}

static void
not_again(Script script, const char *method, const char *body, const char *answer, const char *what)
{
	Server	   *server = server_start(script, NULL);
	Try		   *first = try_run(server, method, "/1", body);
	Try		   *second = try_run(server, "GET", "/2", NULL);

	check(try_answered(first, 200, answer) && try_answered(second, 200, "hi") && server->connections == 2, what);
	try_free(first);
	try_free(second);
	server_stop(server);
}

static void
answer_head(Conn *conn)
{
	while (hear(conn))
		says(conn, strncmp(conn->server->last, "HEAD", 4) == 0 ? "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" : OK_2);
}

static void
test_not_again(void)
{
	not_again(says_close, "POST", "x", "hi", "a connection of which the API says that it closes is not used again");
	not_again(says_too_much, "POST", "x", "hi", "nor one with bytes behind the answer");
	not_again(answer_head, "HEAD", "x", "", "nor one that a HEAD with a body went over");
}

#define NAMES 400

/* More origins than the pool has buckets, at one address: each has its own connection and its own Host. */
static void
test_origins(void)
{
	Server	   *server = server_start(keep_alive, NULL);
	char		origin[64];
	char		host[64];
	bool		ok = true;

	for (int round = 0; round < 2; round++)
		for (int i = 0; i < NAMES; i++)
		{
			Try		   *try;

			snprintf(origin, sizeof(origin), "http://h%d.test:%d", i, server->port);
			snprintf(host, sizeof(host), "\r\nHost: h%d.test:%d\r\n", i, server->port);
			try = try_new(origin, "GET", "/", NULL);
			try_start(try);
			try_wait(try);
			ok &= try_answered(try, 200, "hi") && strstr(server->last, host) != NULL;
			try_free(try);
		}
	check(ok && server->connections == NAMES, "no origin's call goes over another's connection");
	server_stop(server);
}

/* The API speaks out of turn while a request waits to be written. */
static void
test_spoken_to_while_blocked(void)
{
	Server	   *server = server_start(says_wrong_once, NULL);
	Try		   *first = try_run(server, "GET", "/1", NULL);
	Try		   *second = try_new(server->origin, "POST", "/2", "x");

	try_start(second);
	fail_send_with = EAGAIN;
	turn(100);
	says_wrong = true;
	usleep(100000);
	try_wait(second);
	says_wrong = false;
	check(try_answered(first, 200, "hi") && try_answered(second, 200, "hi") && server->requests == 2 && server->connections == 2,
		  "what the API says before a byte was written answers nothing; the request goes out once, on a fresh connection");
	try_free(first);
	try_free(second);
	server_stop(server);
}

/* The clock moves on by so much; then one more call. */
static void
later(Server *server, int seconds, int connections, const char *what)
{
	Try		   *try;

	ahead_s += seconds;
	try = try_run(server, "GET", "/", NULL);
	check(try_answered(try, 200, "hi") && server->connections == connections, what);
	try_free(try);
}

static void
test_age(void)
{
	Server	   *server = server_start(keep_alive, NULL);
	Server	   *other = server_start(one_each, NULL);

	later(server, 0, 1, "a first call opens a connection");
	later(server, 24, 1, "after 24 idle seconds it is used again");
	later(server, 26, 2, "after 26 it is not");
	ahead_s += 26;
	for (int i = 0; i < 100 && server->open > 0; i++)
		turn(10);
	check(server->open == 0, "and nobody need ask for it to be closed");
	later(server, 0, 3, "a connection in steady use");
	for (int i = 0; i < 29; i++)
	{
		later(server, 20, 3, "... is kept");
		/* libcurl, opening another, looks for old ones among those that it thinks idle */
		later(other, 0, i + 1, "... beside others");
	}
	later(server, 21, 4, "... for ten minutes");
	server_stop(server);
	server_stop(other);
}

/* Two calls at once to each of n origins, of which one connection each may stay open. */
static void
test_pool_bound(void)
{
	UpstreamOptions small = options;
	Upstream   *all = upstream;
	Server	   *servers[3];
	Try		   *tries[6];
	int			open = 0;

	small.max_kept = 3;
	upstream = upstream_create(reactor, &small);
	for (int i = 0; i < 3; i++)
		servers[i] = server_start(keep_alive, NULL);
	for (int i = 0; i < 6; i++)
		try_start(tries[i] = try_new(servers[i / 2]->origin, "GET", "/", NULL));
	for (int i = 0; i < 6; i++)
	{
		try_wait(tries[i]);
		if (!try_answered(tries[i], 200, "hi"))
			check(false, "each is answered");
		try_free(tries[i]);
	}
	wait_ms(50);
	for (int i = 0; i < 3; i++)
		open += servers[i]->open;
	check(open == 3, "no more idle connections are kept than max_kept");
	upstream_destroy(upstream);
	upstream = all;
	for (int i = 0; i < 3; i++)
		server_stop(servers[i]);
}

/* Reads the head, then answers; with n > 0 the rest stays unread and the connection goes. */
static bool early_close;

static void
answer_early(Conn *conn)
{
	while (conn_read(conn) && strstr(conn->in, "\r\n\r\n") == NULL)
		;
	says(conn, "HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno");
	while (!early_close && conn->server->requests == 0)	/* until the test has seen what comes of it */
		usleep(10000);
}

static void
test_early_answer(bool closes, const char *what)
{
	Server	   *server;
	size_t		size = 30 * 1000 * 1000;
	char	   *body = malloc(size + 1);
	Try		   *try;

	memset(body, 'x', size);
	body[size] = '\0';
	early_close = closes;
	server = server_start(answer_early, NULL);
	try = try_run(server, "POST", "/", body);
	check(try_answered(try, 413, "no") || (closes && try_failed(try, UPSTREAM_BROKEN, true)), what);
	try_free(try);
	try = try_run(server, "GET", "/", NULL);
	check(try_answered(try, 413, "no") && server->connections == 2, "... and its connection, with half a request on it, is not used again");
	try_free(try);
	server->requests = 1;
	free(body);
	server_stop(server);
}

static void
test_deadlines(void)
{
	Server	   *server = server_start(never_answer, NULL);
	UpstreamOptions quick = options;
	Try		   *try;
	int64_t		start = clock_us();
	int64_t		took;

	quick.timeout_ms = 300;
	upstream_set_options(upstream, &quick);
	try = try_run(server, "POST", "/", "x");
	took = (clock_us() - start) / 1000;
	check(try_failed(try, UPSTREAM_TIMEOUT, true) && took >= 299 && took < 500, "a call without an answer ends after its timeout");
	check(server->requests == 1, "... sent once");
	try_free(try);
	server_stop(server);
	server = server_start(drip, NULL);
	start = clock_us();
	try = try_run(server, "GET", "/", NULL);
	took = (clock_us() - start) / 1000;
	check(try_failed(try, UPSTREAM_TIMEOUT, true) && took >= 299 && took < 500, "a dripping answer does not put the timeout off");
	try_free(try);
	server_stop(server);
	upstream_set_options(upstream, &options);
	server = server_start(slow, NULL);
	try = try_run(server, "GET", "/", NULL);
	check(try_answered(try, 200, "hi"), "options that were set back apply to the next call");
	try_free(try);
	server_stop(server);
}

static int
closed_port(void)
{
	Server	   *server = server_start(keep_alive, NULL);
	int			port = server->port;

	server_stop(server);
	return port;
}

static Try *
run_url(const char *origin)
{
	Try		   *try = try_new(origin, "POST", "/", "x");

	try_start(try);
	try_wait(try);
	return try;
}

static void
test_unreachable(void)
{
	UpstreamOptions quick = options;
	Server	   *full = server_start(keep_alive, NULL);
	char		origin[64];
	int			fillers[16];
	int64_t		start;
	int64_t		took;
	Try		   *try;

	snprintf(origin, sizeof(origin), "http://127.0.0.1:%d", closed_port());
	start = clock_us();
	try = run_url(origin);
	check(try_failed(try, UPSTREAM_UNREACHABLE, false) && try->sends == 0 && clock_us() - start < 500000, "no listener: unreachable, at once");
	try_free(try);
	snprintf(origin, sizeof(origin), "http://nowhere.test:%d", full->port);
	try = run_url(origin);
	check(try_failed(try, UPSTREAM_UNREACHABLE, false), "a name that does not resolve: unreachable");
	try_free(try);
	/* A listener that takes no more connections drops our SYN. */
	server_stop(full);
	quick.connect_timeout_ms = 300;
	upstream_set_options(upstream, &quick);
	{
		struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
		socklen_t	size = sizeof(address);
		int			deaf = socket(AF_INET, SOCK_STREAM, 0);

		if (bind(deaf, (struct sockaddr *) &address, size) != 0 || listen(deaf, 0) != 0 || getsockname(deaf, (struct sockaddr *) &address, &size) != 0)
			abort();
		for (int i = 0; i < 16; i++)
		{
			fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
			if (connect(fillers[i], (struct sockaddr *) &address, size) != 0 && errno != EINPROGRESS)
				abort();
		}
		usleep(50000);
		snprintf(origin, sizeof(origin), "http://127.0.0.1:%d", ntohs(address.sin_port));
		start = clock_us();
		try = run_url(origin);
		took = (clock_us() - start) / 1000;
		check(try_failed(try, UPSTREAM_UNREACHABLE, false) && took >= 250 && took < 600, "a connection that is not taken: unreachable after the connect timeout");
		try_free(try);
		for (int i = 0; i < 16; i++)
			close(fillers[i]);
		close(deaf);
	}
	upstream_set_options(upstream, &options);
}

static int64_t longest_turn;

static void
test_hung_resolver(void)
{
	UpstreamOptions quick = options;
	Server	   *server = server_start(keep_alive, NULL);
	char		origin[64];
	Try		   *hung[10];
	int			answered = 0;
	int64_t		start = clock_us();

	quick.connect_timeout_ms = 400;
	upstream_set_options(upstream, &quick);
	pthread_mutex_lock(&dns_mutex);
	snprintf(origin, sizeof(origin), "http://hang.test:%d", server->port);
	for (int i = 0; i < 10; i++)
		try_start(hung[i] = try_new(origin, "POST", "/", "x"));
	while (hung[9]->dones == 0 || hung[0]->dones == 0)
	{
		int64_t		before;
		Try		   *try = try_new(server->origin, "GET", "/", NULL);

		before = clock_us();
		try_start(try);
		try_wait(try);
		if (clock_us() - before > longest_turn)
			longest_turn = clock_us() - before;
		answered += try->result.outcome == UPSTREAM_ANSWERED;
		try_free(try);
	}
	check(answered > 20 && longest_turn < 100000, "while the resolver hangs other calls are answered without a stall");
	check(clock_us() - start < 800000, "calls to a name that hangs end after the connect timeout");
	for (int i = 0; i < 10; i++)
	{
		if (!try_failed(hung[i], UPSTREAM_UNREACHABLE, false))
			check(false, "each of them as unreachable");
		try_free(hung[i]);
	}
	check(dns_waiting > 0, "although their look-ups still hang");
	start = clock_us();
	hung[0] = try_new(origin, "POST", "/", "x");
	try_start(hung[0]);
	wait_ms(50);
	upstream_cancel_all(upstream);
	check(try_failed(hung[0], UPSTREAM_CANCELLED, false) && clock_us() - start < 200000, "cancelling a look-up that hangs does not block");
	try_free(hung[0]);
	pthread_mutex_unlock(&dns_mutex);
	for (int i = 0; i < 500 && dns_waiting > 0; i++)
		usleep(10000);
	upstream_set_options(upstream, &options);
	hung[0] = run_url(origin);
	check(try_answered(hung[0], 200, "hi"), "when the resolver is back the name resolves");
	try_free(hung[0]);
	check(dns_open_signals == 0, "resolver threads run with all signals blocked");
	{
		sigset_t	mask;

		pthread_sigmask(SIG_BLOCK, NULL, &mask);
		check(!sigismember(&mask, SIGTERM) && !sigismember(&mask, SIGUSR1), "and the loop's own mask is as before");
	}
	server_stop(server);
}

static void
test_cancel(void)
{
	Server	   *server = server_start(never_answer, NULL);
	Try		   *sent = try_new(server->origin, "POST", "/", "x");
	Try		   *fresh = try_new(server->origin, "POST", "/", "x");
	Try		   *refused = try_new(server->origin, "POST", "no path", "x");
	Try		   *next = try_new(server->origin, "GET", "/next", NULL);

	try_start(sent);
	while (server->requests == 0)
		turn(10);
	try_start(fresh);
	try_start(refused);
	sent->next = next;
	check(upstream_in_flight(upstream) == 3, "three calls are in flight");
	upstream_cancel_all(upstream);
	check(try_failed(sent, UPSTREAM_CANCELLED, true) && try_failed(fresh, UPSTREAM_CANCELLED, false) && try_failed(refused, UPSTREAM_CANCELLED, false),
		  "cancelling ends each at once and says what was sent");
	check(upstream_in_flight(upstream) == 1 && next->dones == 0, "a call started by a cancelled one's done() goes on");
	upstream_cancel_all(upstream);
	check(next->dones == 1 && upstream_in_flight(upstream) == 0, "until it is cancelled, too");
	try_free(sent);
	try_free(fresh);
	try_free(refused);
	try_free(next);
	server_stop(server);
}

static void
test_chain(void)
{
	Server	   *server = server_start(keep_alive, NULL);
	Try		   *chain[100];

	for (int i = 0; i < 100; i++)
		chain[i] = try_new(server->origin, "POST", "/", "x");
	for (int i = 0; i < 99; i++)
		chain[i]->next = chain[i + 1];
	try_start(chain[0]);
	try_wait(chain[99]);
	check(try_answered(chain[99], 200, "hi") && server->connections == 1 && server->requests == 100, "a hundred calls, each started from the last one's done(), use one connection");
	for (int i = 0; i < 100; i++)
		try_free(chain[i]);
	server_stop(server);
}

#define MANY 2000

static void
test_many(void)
{
	Server	   *server = server_start(slow, NULL);
	static Try *many[MANY];
	int			answered = 0;
	int64_t		start = clock_us();
	UpstreamOptions patient = options;

	patient.timeout_ms = patient.connect_timeout_ms = 15000;
	upstream_set_options(upstream, &patient);
	for (int round = 0; round < 2; round++)
	{
		for (int i = 0; i < MANY; i++)
			try_start(many[i] = try_new(server->origin, "POST", "/many", "x"));
		while (upstream_in_flight(upstream) > 0 && clock_us() - start < 60 * 1000000)
			turn(100);
		for (int i = 0; i < MANY; i++)
		{
			answered += many[i]->result.outcome == UPSTREAM_ANSWERED && many[i]->sends == 1;
			try_free(many[i]);
		}
	}
	printf("# %d calls in %d ms over %d connections\n", 2 * MANY, (int) ((clock_us() - start) / 1000), server->connections);
	check(answered == 2 * MANY && server->requests == 2 * MANY, "two thousand calls at once to a slow server are all answered, twice");
	/* a socket that nobody watches is found by its timeout only (once: descriptors that libcurl closes without telling) */
	check(clock_us() - start < 12 * 1000000, "and none of them had to wait for a timeout");
	upstream_set_options(upstream, &options);
	server_stop(server);
}

int
main(void)
{
	loop_thread = pthread_self();
	harness_start();
	test_never_twice();
	test_never_twice_with_spare();
	test_blocked_first_write();
	test_failed_write();
	test_idle_connections();
	test_not_again();
	test_origins();
	test_spoken_to_while_blocked();
	test_age();
	test_pool_bound();
	test_early_answer(false, "an answer that comes while the body is still being sent is the answer");
	test_early_answer(true, "so it is, or a broken connection, when the API hangs up with it");
	test_deadlines();
	test_unreachable();
	test_hung_resolver();
	test_cancel();
	test_chain();
	test_many();
	return harness_end();
}
