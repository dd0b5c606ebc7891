// SRC: src/upstream.c src/upstream_connection.c src/upstream_socket.c src/upstream_request.c src/upstream_answer.c src/reactor.c src/arena.c src/http_head.c src/http_chunked.c  LIBS: -lcurl -lssl -lcrypto -lpthread
/*
 * test_upstream.c - what goes up and what comes down: bytes, framing, limits, outcomes.
 */
#include "upstream_harness.h"

#define OK_2 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

static void
keep_alive(Conn *conn)
{
	while (hear(conn))
		says(conn, OK_2);
}

static bool
saw(Server *server, const char *text)
{
	bool		found;

	pthread_mutex_lock(&server->mutex);
	found = strstr(server->last, text) != NULL;
	if (!found)
		printf("# not seen: '%s' in '%.400s'\n", text, server->last);
	pthread_mutex_unlock(&server->mutex);
	return found;
}

static void
test_exact_bytes(void)
{
	Server	   *server = server_start(keep_alive, NULL);
	Try		   *try = try_new(server->origin, "GET", "/crm/./a/../b//c%2Fd/?q=%20x&y=\"<>{}|^`\xc3\xa9", NULL);
	char		expected[512];

	try_header(try, "X-Some-Thing", "a;b, c:d");
	try_header(try, "x-empty", "");
	try_header(try, "Authorization", "Bearer t");
	try_header(try, "X-Some-Thing", "again");
	try_start(try);
	check(try->dones == 0 && try->sends == 0, "nothing happens inside upstream_start");
	try_wait(try);
	check(try_answered(try, 200, "hi"), "a GET is answered");
	snprintf(expected, sizeof(expected),
			 "GET /crm/./a/../b//c%%2Fd/?q=%%20x&y=\"<>{}|^`\xc3\xa9 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
			 "X-Some-Thing: a;b, c:d\r\nx-empty:\r\nAuthorization: Bearer t\r\nX-Some-Thing: again\r\n\r\n", server->port);
	check(saw(server, expected) && server->last_len == strlen(expected), "target and headers go up byte for byte, and nothing else does");
	try_free(try);
	server_stop(server);
}

static void
body_case(Server *server, const char *method, const char *body, const char *framing, const char *what)
{
	Try		   *try = try_run(server, method, "/x", body);
	char		line[64];
	char		tail[64];

	snprintf(line, sizeof(line), "%s /x HTTP/1.1\r\n", method);
	snprintf(tail, sizeof(tail), "%s\r\n\r\n%s", framing, body ? body : "");
	check(try_answered(try, 200, "hi") && saw(server, line) && saw(server, tail)
		  && !strcasestr(server->last, "content-type") && !strcasestr(server->last, "accept") && !strcasestr(server->last, "expect")
		  && !strcasestr(server->last, "user-agent") && !strcasestr(server->last, "transfer-encoding"), what);
	if (framing[0] == '\0')
		check(strcasestr(server->last, "content-length") == NULL, "... without a Content-Length");
	try_free(try);
}

static void
test_methods_and_bodies(void)
{
	Server	   *server = server_start(keep_alive, NULL);

	body_case(server, "POST", "{\"a\":1}", "Content-Length: 7", "POST with a body, without libcurl's own headers");
	body_case(server, "GET", NULL, "", "GET after POST on the same handle has no body");
	body_case(server, "PATCH", "{}", "Content-Length: 2", "PATCH with a body");
	body_case(server, "PUT", "{}", "Content-Length: 2", "PUT with a body");
	body_case(server, "GET", "{\"q\":1}", "Content-Length: 7", "GET with a body");
	body_case(server, "DELETE", NULL, "", "DELETE without a body");
	body_case(server, "DELETE", "[1]", "Content-Length: 3", "DELETE with a body");
	body_case(server, "DELETE", "", "Content-Length: 0", "DELETE with an empty body");
	body_case(server, "POST", NULL, "Content-Length: 0", "POST without a body");
	body_case(server, "PUT", "", "Content-Length: 0", "PUT with an empty body");
	body_case(server, "OPTIONS", NULL, "", "OPTIONS");
	body_case(server, "LINK", NULL, "", "a method that libcurl does not know");
	body_case(server, "A-METHOD-WHOSE-NAME-IS-VERY-LONG-INDEED", NULL, "", "a very long method");
	body_case(server, "GET", NULL, "", "GET at the end");
	check(server->connections == 1, "all of these used one connection");
	server_stop(server);
}

static void
head_script(Conn *conn)
{
	while (hear(conn))
		says(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\nX-A: b\r\n\r\n");
}

static void
test_head(void)
{
	Server	   *server = server_start(head_script, NULL);

	for (int i = 0; i < 2; i++)
	{
		Try		   *try = try_run(server, "HEAD", "/x", NULL);

		check(try_answered(try, 200, "") && str_is(try_answer_header(try, "content-length"), "5000"), "HEAD keeps the declared length and has no body");
		try_free(try);
	}
	check(server->connections == 1 && saw(server, "HEAD /x HTTP/1.1\r\n") && !strcasestr(server->last, "content-length"), "HEAD leaves the connection usable");
	server_stop(server);
	server = server_start(head_script, NULL);
	for (int i = 0; i < 2; i++)
	{
		Try		   *try = try_run(server, "HEAD", "/x", i ? NULL : "body");

		check(try_answered(try, 200, "") && saw(server, i ? "\r\n\r\n" : "Content-Length: 4\r\n\r\nbody"), "HEAD with a body sends it, and one without after it");
		try_free(try);
	}
	server_stop(server);
}

static void
big_body_script(Conn *conn)
{
	char		text[200];
	char	   *body;
	size_t		length = 0;

	while (conn_read(conn))
	{
		body = strstr(conn->in, "\r\n\r\n");
		length = body ? conn->len - (size_t) (body + 4 - conn->in) : 0;
		if (length >= 3000000)
			break;
	}
	snprintf(text, sizeof(text), "HTTP/1.1 201 Created\r\nContent-Length: 7\r\n\r\n%zu", length);
	says(conn, text);
}

static void
test_big_request(void)
{
	Server	   *server = server_start(big_body_script, NULL);
	char	   *body = malloc(3000001);
	Try		   *try;

	memset(body, 'x', 3000000);
	body[3000000] = '\0';
	try = try_run(server, "POST", "/big", body);
	check(try_answered(try, 201, "3000000"), "a body of 3 MB goes up whole and without Expect");
	try_free(try);
	free(body);
	server_stop(server);
}

static const char *canned;
static size_t canned_len;
static bool canned_reset;

static void
canned_script(Conn *conn)
{
	if (!hear(conn))
		return;
	say(conn, canned, canned_len);
	if (canned_reset)
		reset(conn);
	else
		shutdown(conn->fd, SHUT_WR);
}

static Try *
canned_try(const char *answer, const char *method)
{
	Server	   *server = server_start(canned_script, NULL);
	Try		   *try;

	canned = answer;
	canned_len = strlen(answer);
	try = try_run(server, method, "/x", NULL);
	if (server->requests != 1)
		check(false, "the server saw the request once");
	server_stop(server);
	return try;
}

static void
expect_answer(const char *answer, const char *method, int status, const char *body, const char *what)
{
	Try		   *try = canned_try(answer, method);

	check(try_answered(try, status, body), what);
	try_free(try);
}

static void
expect_failure(const char *answer, UpstreamOutcome outcome, const char *what)
{
	Try		   *try = canned_try(answer, "POST");

	check(try_failed(try, outcome, true), what);
	try_free(try);
}

static void
test_answers(void)
{
	expect_answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-T: u\r\n\r\n", "GET", 200, "abcde", "a chunked answer");
	expect_answer("HTTP/1.1 200 OK\r\n\r\nuntil the end", "GET", 200, "until the end", "an answer that ends with the connection");
	expect_answer("HTTP/1.0 200 OK\r\n\r\nold", "GET", 200, "old", "an HTTP/1.0 answer");
	expect_answer("HTTP/1.1 204 No Content\r\n\r\n", "DELETE", 204, "", "204");
	expect_answer("HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n", "GET", 304, "", "304 with a length");
	expect_answer("HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", "GET", 200, "x", "a status line without a reason");
	expect_answer("HTTP/1.1 599 Odd\r\nContent-Length: 1\r\n\r\nx", "GET", 599, "x", "an unusual status");
	expect_answer("HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\nContent-Length: 1\r\n\r\nx", "POST", 401, "x", "401 is passed back without another attempt");
	expect_answer("HTTP/1.1 417 No\r\nContent-Length: 1\r\n\r\nx", "POST", 417, "x", "417 is passed back without another attempt");
	expect_answer("HTTP/1.1 102 P\r\nX-I: 1\r\n\r\nHTTP/1.1 103 H\r\nLink: a\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", "GET", 200, "x", "interim answers are skipped");
}

static void
test_broken_answers(void)
{
	expect_failure("", UPSTREAM_BROKEN, "a connection that closes without an answer is broken");
	expect_failure("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", UPSTREAM_BROKEN, "a short body is broken");
	expect_failure("HTTP/1.1 200 OK\r\nContent-Le", UPSTREAM_BROKEN, "a cut header is broken");
	expect_failure("HTTP/1.1 200 OK\r\nX-Y: z\r\n", UPSTREAM_BROKEN, "a head without its end is broken");
	expect_failure("HTTP/1.1 200 OK", UPSTREAM_BROKEN, "a cut status line is broken");
	expect_failure("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n", UPSTREAM_BROKEN, "a chunked body without its end is broken");
	expect_failure("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabcde\r\n", UPSTREAM_BROKEN, "a malformed chunk is broken");
	expect_failure("hello, this is a line\r\n", UPSTREAM_BROKEN, "HTTP/0.9 is broken");
	expect_failure("\x16\x03\x01\x02\x03 garbage \n\n\n", UPSTREAM_BROKEN, "garbage is broken");
	expect_failure("HTTP/2 200\r\nContent-Length: 1\r\n\r\nx", UPSTREAM_BROKEN, "an answer that claims HTTP/2 is broken");
	expect_failure("HTTP/1.1 099 No\r\n\r\n", UPSTREAM_BROKEN, "a status below 100 is broken");
	expect_failure("HTTP/1.1 2000 No\r\n\r\n", UPSTREAM_BROKEN, "a status of four digits is broken");
	expect_failure("HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\nblah", UPSTREAM_BROKEN, "an upgrade that was not asked for is broken");
	expect_failure("HTTP/1.1 100 Continue\r\n\r\n", UPSTREAM_BROKEN, "an interim answer alone is broken");
	expect_failure("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc", UPSTREAM_BROKEN, "a negative length is broken");
	expect_failure("HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\nabcde", UPSTREAM_BROKEN, "a length that is no number is broken");
	expect_failure("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 4\r\n\r\nabcde", UPSTREAM_BROKEN, "two different lengths are broken");
	canned_reset = true;
	expect_failure("", UPSTREAM_BROKEN, "a reset before the answer is broken");
	expect_failure("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", UPSTREAM_BROKEN, "a reset within the body is broken");
	canned_reset = false;
}

static void
test_answer_headers(void)
{
	Try		   *try = canned_try("HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/x\r\nsEt-Cookie:  a=b; c \t\r\nSet-Cookie: d\r\n"
								 "X-Empty:\r\nX-Bad\x01Name: 1\r\nX-Bad-Value: a\rb\r\nX-Fold: one\r\n  two\r\nX-Utf: \xc3\xa9\r\nContent-Length: 2\r\n\r\nhi", "GET");

	check(try_answered(try, 302, "hi"), "a redirect is passed back, not followed");
	check(try->result.nheaders == 7 && str_is(try->result.headers[1].name, "sEt-Cookie") && str_is(try->result.headers[1].value, "a=b; c")
		  && str_is(try->result.headers[2].value, "d"), "names and values come as received, in order, without surrounding blanks");
	check(try->result.headers[3].value.p != NULL && try->result.headers[3].value.n == 0, "an empty header is there");
	check(str_is(try_answer_header(try, "X-Fold"), "one two"), "a folded header is joined");
	check(try_answer_header(try, "X-Bad-Value").p == NULL, "a header with a bare CR is dropped");
	try_free(try);
}

static char *
repeat(const char *head, const char *part, size_t times, const char *tail)
{
	size_t		n = strlen(part);
	char	   *text = malloc(strlen(head) + n * times + strlen(tail) + 1);
	char	   *to = stpcpy(text, head);

	for (size_t i = 0; i < times; i++)
		to = stpcpy(to, part);
	strcpy(to, tail);
	return text;
}

static void
expect_repeated(const char *head, const char *part, size_t times, const char *tail, UpstreamOutcome outcome, const char *what)
{
	char	   *answer = repeat(head, part, times, tail);
	Try		   *try = canned_try(answer, "GET");

	check(outcome == UPSTREAM_ANSWERED ? try->result.outcome == outcome : try_failed(try, outcome, true), what);
	try_free(try);
	free(answer);
}

static void
test_limits(void)
{
	const char *mega = "HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n";

	expect_repeated("HTTP/1.1 200 OK\r\n", "A: b\r\n", 199, "Content-Length: 0\r\n\r\n", UPSTREAM_ANSWERED, "200 header lines are taken");
	expect_repeated("HTTP/1.1 200 OK\r\n", "A: b\r\n", 200, "Content-Length: 0\r\n\r\n", UPSTREAM_TOO_LARGE, "201 header lines are too many");
	expect_repeated("HTTP/1.1 200 OK\r\nA: ", "aaaaaaaaaaaaaaaa", 4096, "\r\nContent-Length: 0\r\n\r\n", UPSTREAM_TOO_LARGE, "a head over 64 kB is too large");
	expect_repeated("HTTP/1.1 200 OK\r\nA: ", "aaaaaaaaaaaaaaaa", 3900, "\r\nContent-Length: 0\r\n\r\n", UPSTREAM_ANSWERED, "a head of 62 kB is taken");
	expect_repeated("", "HTTP/1.1 100 Continue\r\nA: b\r\n\r\n", 100, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", UPSTREAM_ANSWERED, "100 interim answers are taken");
	expect_repeated("", "HTTP/1.1 100 Continue\r\nA: b\r\n\r\n", 40000, "", UPSTREAM_BROKEN, "endless interim answers are broken");
	expect_repeated(mega, "0123456789abcdef", 65536, "", UPSTREAM_ANSWERED, "a body of exactly the limit is taken");
	expect_failure("HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\nx", UPSTREAM_TOO_LARGE, "a declared length over the limit fails at once");
	expect_failure("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nx", UPSTREAM_TOO_LARGE, "an absurd length is too large");
	expect_repeated("HTTP/1.1 200 OK\r\n\r\n", "0123456789abcdef", 65537, "", UPSTREAM_TOO_LARGE, "an undeclared body over the limit is too large");
	expect_repeated("HTTP/1.1 200 OK\r\n\r\n", "0123456789abcdef", 65536, "", UPSTREAM_ANSWERED, "an undeclared body of the limit is taken");
	expect_repeated("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "10\r\n0123456789abcdef\r\n", 65537, "0\r\n\r\n", UPSTREAM_TOO_LARGE, "a chunked body over the limit is too large");
	expect_repeated("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", "A: b\r\n", 1000, "\r\n", UPSTREAM_ANSWERED, "trailers of 6 kB are taken");
	expect_repeated("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", "A: b\r\n", 100000, "\r\n", UPSTREAM_BROKEN, "endless trailers are broken");
}

static void
refused(Server *server, const char *origin, const char *method, const char *target, const char *name, const char *value, const char *what)
{
	Try		   *try = try_new(origin ? origin : server->origin, method, target, NULL);
	int			before = server->connections;

	if (name != NULL)
		try_header(try, name, value);
	try_start(try);
	try_wait(try);
	check(try_failed(try, UPSTREAM_BROKEN, false) && try->sends == 0 && server->connections == before, what);
	check(strstr(try->result.error, "secret") == NULL, "... and the error does not quote it");
	try_free(try);
}

static void
test_refusals(void)
{
	Server	   *server = server_start(keep_alive, NULL);

	refused(server, NULL, "GET", "/", "X-A", "secret\r\nX-Evil: 1", "a line break in a header value is refused");
	refused(server, NULL, "GET", "/", "X-A\r\nX-Evil", "secret", "a line break in a header name is refused");
	refused(server, NULL, "GET", "/", "", "secret", "an empty header name is refused");
	refused(server, NULL, "GET", "/", "content-length", "5", "a Content-Length of the caller's own is refused");
	refused(server, NULL, "GET", "/", "Transfer-Encoding", "chunked", "a Transfer-Encoding of the caller's own is refused");
	refused(server, NULL, "GET", "/", "Host", "secret", "a Host of the caller's own is refused");
	refused(server, NULL, "GET / HTTP/1.1\r\nX:", "/", NULL, NULL, "a line break in the method is refused");
	refused(server, NULL, "GET", "/ HTTP/1.1\r\nX-Evil: 1", NULL, NULL, "a line break in the target is refused");
	refused(server, NULL, "GET", "/a b", NULL, NULL, "a blank in the target is refused");
	refused(server, NULL, "GET", "secret", NULL, NULL, "a target that is no path is refused");
	refused(server, NULL, "GET", "", NULL, NULL, "an empty target is refused");
	refused(server, "ftp://127.0.0.1", "GET", "/", NULL, NULL, "another scheme is refused");
	refused(server, "file:///etc/passwd", "GET", "/", NULL, NULL, "a file is refused");
	server_stop(server);
}

static void
test_environment(void)
{
	Server	   *server = server_start(keep_alive, NULL);
	Server	   *proxy = server_start(keep_alive, NULL);
	Try		   *try;

	setenv("http_proxy", proxy->origin, 1);
	setenv("all_proxy", proxy->origin, 1);
	setenv("no_proxy", "", 1);
	try = try_run(server, "GET", "/", NULL);
	check(try_answered(try, 200, "hi") && proxy->connections == 0 && server->requests == 1, "a proxy in the environment is ignored");
	try_free(try);
	unsetenv("http_proxy");
	unsetenv("all_proxy");
	unsetenv("no_proxy");
	server_stop(server);
	server_stop(proxy);
}

int
main(void)
{
	harness_start();
	test_exact_bytes();
	test_methods_and_bodies();
	test_head();
	test_big_request();
	test_answers();
	test_broken_answers();
	test_answer_headers();
	test_limits();
	test_refusals();
	test_environment();
	return harness_end();
}
