// SRC: src/upstream.c src/upstream_connection.c src/upstream_socket.c src/upstream_request.c src/upstream_answer.c src/reactor.c src/arena.c src/http_head.c src/http_chunked.c  LIBS: -lcurl -lssl -lcrypto -lpthread
/*
 * test_upstream_tls.c - whom we trust, and G8 through TLS.  Certificates are made with openssl(1).
 */
#include "upstream_harness.h"

#include <sys/stat.h>

#define OK_2 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

static bool blocks;				/* the loop's sends would block: as libcurl's and OpenSSL's see it */
static pthread_t loop_thread;

ssize_t
send(int fd, const void *p, size_t n, int flags)
{
	if (blocks && pthread_equal(pthread_self(), loop_thread))
	{
		errno = EAGAIN;
		return -1;
	}
	return sendto(fd, p, n, flags, NULL, 0);
}

static char dir[] = "/tmp/test_upstream_tls.XXXXXX";

static void
sh(const char *command)
{
	char		text[2000];

	snprintf(text, sizeof(text), "cd %s && (%s) >>log 2>&1", dir, command);
	if (system(text) != 0)
	{
		printf("not ok - %s (see %s/log)\n", command, dir);
		exit(1);
	}
}

static void
make_authority(const char *name)
{
	char		text[1000];

	snprintf(text, sizeof(text), "openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=%s -keyout %s.key -out %s.crt", name, name, name);
	sh(text);
}

static void
make_certificate(const char *name, const char *authority, const char *host, const char *from, const char *to)
{
	char		text[1500];

	snprintf(text, sizeof(text), "openssl req -newkey rsa:2048 -nodes -subj /CN=%s -keyout %s.key -out %s.csr", host, name, name);
	sh(text);
	snprintf(text, sizeof(text), "mkdir -p ca && : >ca/index && echo 01 >ca/serial && printf "
			 "'[ca]\\ndefault_ca=d\\n[d]\\ndatabase=ca/index\\nserial=ca/serial\\nnew_certs_dir=ca\\ndefault_md=sha256\\npolicy=p\\n[p]\\ncommonName=supplied\\n[e]\\nsubjectAltName=DNS:%s\\n' >ca/conf && "
			 "openssl ca -batch -config ca/conf -extensions e -cert %s.crt -keyfile %s.key -startdate %s -enddate %s -in %s.csr -out %s.crt",
			 host, authority, authority, from, to, name, name);
	sh(text);
}

static SSL_CTX *
tls(const char *name)
{
	SSL_CTX    *ctx = SSL_CTX_new(TLS_server_method());
	char		crt[200];
	char		key[200];

	snprintf(crt, sizeof(crt), "%s/%s.crt", dir, name);
	snprintf(key, sizeof(key), "%s/%s.key", dir, name);
	if (SSL_CTX_use_certificate_chain_file(ctx, crt) != 1 || SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
		abort();
	return ctx;
}

static void
trust(const char *authority)
{
	UpstreamOptions o = options;
	char		file[200] = "";

	if (authority != NULL)
		snprintf(file, sizeof(file), "%s/%s.crt", dir, authority);
	o.ca_file = file;
	o.connect_timeout_ms = 1000;
	upstream_set_options(upstream, &o);
}

static void
keep_alive(Conn *conn)
{
	while (hear(conn))
		says(conn, OK_2);
}

static void
close_on_second(Conn *conn)
{
	while (hear(conn))
	{
		if (conn->nth == 1 && conn->served == 2)
			return;
		says(conn, OK_2);
	}
}

/* As web servers end an idle connection: close_notify, then the end of the stream. */
static void
answer_and_say_goodbye(Conn *conn)
{
	if (!hear(conn))
		return;
	says(conn, OK_2);
	usleep(20000);
	SSL_shutdown(conn->ssl);
}

static void
cut_off(Conn *conn)
{
	if (hear(conn))
		says(conn, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhalf of it");
}

static void
whole_with_goodbye(Conn *conn)
{
	if (hear(conn) && says(conn, "HTTP/1.1 200 OK\r\n\r\nall of it"))
		SSL_shutdown(conn->ssl);
}

static void
echo_length(Conn *conn)
{
	char		text[100];

	while (hear(conn))
	{
		snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n%s", strstr(conn->server->last, "zz") ? "zz" : "no");
		says(conn, text);
	}
}

static void
stay_silent(Conn *conn)
{
	char		c;

	while (recv(conn->fd, &c, 1, 0) > 0)
		;
}

static SSL_CTX *handshaker;

static void
hang_up_first(Conn *conn)
{
	if (conn->nth == 1)
		return;
	conn->ssl = SSL_new(handshaker);
	SSL_set_fd(conn->ssl, conn->fd);
	if (SSL_accept(conn->ssl) == 1)
		keep_alive(conn);
}

static void
expect_unreachable(const char *certificate, const char *what)
{
	SSL_CTX    *ctx = tls(certificate);
	Server	   *server = server_start(keep_alive, ctx);
	Try		   *try = try_run(server, "POST", "/", "secret");

	check(try_failed(try, UPSTREAM_UNREACHABLE, false) && server->requests == 0, what);
	try_free(try);
	server_stop(server);
	SSL_CTX_free(ctx);
}

static void
test_trust(void)
{
	SSL_CTX    *ctx = tls("good");
	Server	   *server = server_start(keep_alive, ctx);
	Try		   *try;

	trust("ca");
	for (int i = 0; i < 10; i++)
	{
		try = try_run(server, i % 2 ? "GET" : "POST", "/x", i % 2 ? NULL : "body");
		if (i == 0 || i == 9 || try->result.outcome != UPSTREAM_ANSWERED)
			check(try_answered(try, 200, "hi"), "a certificate of our authority for this host is trusted");
		try_free(try);
	}
	check(server->connections == 1, "ten calls use one TLS connection");
	trust("other");
	try = try_run(server, "POST", "/x", "body");
	check(try_failed(try, UPSTREAM_UNREACHABLE, false) && server->requests == 10, "with another authority the same server is not, though a connection is idle");
	try_free(try);
	trust(NULL);
	try = try_run(server, "POST", "/x", "body");
	check(try_failed(try, UPSTREAM_UNREACHABLE, false) && server->requests == 10, "nor with the system's authorities");
	try_free(try);
	trust("ca");
	try = try_run(server, "POST", "/x", "body");
	check(try_answered(try, 200, "hi"), "with ours it is again");
	try_free(try);
	server_stop(server);
	SSL_CTX_free(ctx);
	expect_unreachable("expired", "an expired certificate is refused");
	expect_unreachable("wronghost", "a certificate for another host is refused");
	expect_unreachable("stranger", "a certificate of an unknown authority is refused");
	expect_unreachable("other", "a self-signed certificate is refused");
}

static void
test_protocol_version(void)
{
	SSL_CTX    *ctx = tls("good");
	Server	   *server;
	Try		   *try;

	SSL_CTX_set_security_level(ctx, 0);
	SSL_CTX_set_min_proto_version(ctx, TLS1_1_VERSION);
	SSL_CTX_set_max_proto_version(ctx, TLS1_1_VERSION);
	server = server_start(keep_alive, ctx);
	try = try_run(server, "GET", "/", NULL);
	check(try_failed(try, UPSTREAM_UNREACHABLE, false), "TLS 1.1 is refused");
	try_free(try);
	server_stop(server);
	SSL_CTX_free(ctx);
	ctx = tls("good");
	SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
	server = server_start(keep_alive, ctx);
	try = try_run(server, "GET", "/", NULL);
	check(try_answered(try, 200, "hi"), "TLS 1.2 is taken");
	try_free(try);
	server_stop(server);
	SSL_CTX_free(ctx);
}

static void
test_never_twice(void)
{
	static const char *methods[] = {"POST", "DELETE", "GET"};

	for (int i = 0; i < 3; i++)
	{
		SSL_CTX    *ctx = tls("good");
		Server	   *server = server_start(close_on_second, ctx);
		Try		   *first = try_run(server, "GET", "/1", NULL);
		Try		   *second = try_run(server, methods[i], "/2", i == 0 ? "x" : NULL);

		usleep(50000);
		check(try_answered(first, 200, "hi") && try_failed(second, UPSTREAM_BROKEN, true) && server->requests == 2 && server->connections == 1,
			  "a request on a kept TLS connection that closes after reading it is sent once");
		try_free(first);
		try_free(second);
		server_stop(server);
		SSL_CTX_free(ctx);
	}
}

/* OpenSSL may have written a part of its record by then, and closing may write the rest of it. */
static void
test_blocked_first_write(void)
{
	SSL_CTX    *ctx = tls("good");
	Server	   *server = server_start(keep_alive, ctx);
	Try		   *first = try_run(server, "GET", "/1", NULL);
	Try		   *second = try_new(server->origin, "POST", "/2", "x");
	Try		   *third = try_new(server->origin, "POST", "/3", "x");

	try_start(second);
	blocks = true;
	turn(100);
	blocks = false;
	try_wait(second);
	check(try_answered(first, 200, "hi") && try_answered(second, 200, "hi") && server->requests == 2, "a TLS request whose first write would block goes out once it does not");
	try_start(third);
	blocks = true;
	turn(100);
	upstream_cancel_all(upstream);
	blocks = false;
	check(try_failed(third, UPSTREAM_CANCELLED, true), "given up while it blocks it counts as sent");
	try_free(first);
	try_free(second);
	try_free(third);
	server_stop(server);
	SSL_CTX_free(ctx);
}

static void
test_idle_end(void)
{
	SSL_CTX    *ctx = tls("good");

	for (int i = 0; i < 2; i++)
	{
		Server	   *server = server_start(answer_and_say_goodbye, ctx);
		Try		   *first = try_run(server, "POST", "/1", "x");
		Try		   *second;

		for (int t = 0; t < 20; t++)
			i == 0 ? turn(5) : (void) usleep(5000);
		second = try_run(server, "POST", "/2", "x");
		check(try_answered(first, 200, "hi") && try_answered(second, 200, "hi") && server->connections == 2 && server->requests == 2,
			  i == 0 ? "after close_notify on an idle connection the next call uses a fresh one" : "so it does when the loop has not yet noticed");
		try_free(first);
		try_free(second);
		server_stop(server);
	}
	SSL_CTX_free(ctx);
}

static void
test_truncation(void)
{
	SSL_CTX    *ctx = tls("good");
	Server	   *server = server_start(cut_off, ctx);
	Try		   *try = try_run(server, "GET", "/", NULL);

	check(try_failed(try, UPSTREAM_BROKEN, true), "an answer that is cut is broken");
	try_free(try);
	server_stop(server);
	server = server_start(whole_with_goodbye, ctx);
	try = try_run(server, "GET", "/", NULL);
	check(try_answered(try, 200, "all of it"), "an answer that ends with the connection is whole");
	try_free(try);
	server_stop(server);
	SSL_CTX_free(ctx);
}

static void
test_big_body(void)
{
	SSL_CTX    *ctx = tls("good");
	Server	   *server = server_start(echo_length, ctx);
	char	   *body = malloc(60001);
	Try		   *try;

	memset(body, 'x', 60000);
	memcpy(body + 59998, "zz", 3);
	for (int i = 0; i < 3; i++)
	{
		try = try_run(server, "POST", "/", body);
		check(try_answered(try, 200, "zz"), "a body of several TLS records goes up whole");
		try_free(try);
	}
	free(body);
	server_stop(server);
	SSL_CTX_free(ctx);
}

static Try *
https_to(Server *plain)
{
	char		origin[64];
	Try		   *try;

	snprintf(origin, sizeof(origin), "https://localhost:%d", plain->port);
	try = try_new(origin, "POST", "/", "x");
	try_start(try);
	try_wait(try);
	return try;
}

static void
test_handshakes(void)
{
	Server	   *server = server_start(stay_silent, NULL);
	int64_t		start = clock_us();
	Try		   *try = https_to(server);

	check(try_failed(try, UPSTREAM_UNREACHABLE, false) && clock_us() - start < 1500000, "a handshake that hangs: unreachable after the connect timeout");
	try_free(try);
	server_stop(server);
	server = server_start(keep_alive, NULL);
	try = https_to(server);
	check(try_failed(try, UPSTREAM_UNREACHABLE, false) && server->requests == 0, "HTTPS to a plain listener: unreachable");
	try_free(try);
	server_stop(server);
	handshaker = tls("good");
	server = server_start(hang_up_first, NULL);
	try = https_to(server);
	check(try_answered(try, 200, "hi") && server->connections >= 2 && server->requests == 1, "a handshake that was hung up on is tried once more");
	try_free(try);
	server_stop(server);
	SSL_CTX_free(handshaker);
}

int
main(void)
{
	if (mkdtemp(dir) == NULL)
		return 1;
	make_authority("ca");
	make_authority("other");
	make_certificate("good", "ca", "localhost", "20200101000000Z", "20990101000000Z");
	make_certificate("expired", "ca", "localhost", "20200101000000Z", "20200201000000Z");
	make_certificate("wronghost", "ca", "elsewhere.example", "20200101000000Z", "20990101000000Z");
	make_certificate("stranger", "other", "localhost", "20200101000000Z", "20990101000000Z");
	loop_thread = pthread_self();
	harness_start();
	test_trust();
	test_protocol_version();
	test_never_twice();
	test_blocked_first_write();
	test_idle_end();
	test_truncation();
	test_big_body();
	test_handshakes();
	sh("rm -rf -- *.crt *.key *.csr ca");
	sh("rm -f log; rmdir \"$PWD\"; exec >/dev/null");
	return harness_end();
}
