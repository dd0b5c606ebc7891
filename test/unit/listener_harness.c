// SRC: src/listener.c src/listener_gate.c src/listener_sockets.c src/listener_direct.c src/listener_mhd.c src/http_head.c src/http_chunked.c src/arena.c src/reactor.c  LIBS: -lmicrohttpd
/*
 * listener_harness.c - the listener alone with an echo behind it, for test_listener.py and wrk.
 *
 * listener_harness PORT [name=value ...]     names: the ListenerOptions; port2 (SIGUSR1 rebinds to it)
 *
 *   /instant          "ok", answered inside on_request
 *   /delay/MS/...     echo after MS milliseconds
 *   /status/N         that status, no body
 *   /size/N           N bytes
 *   /head/N           to HEAD: declares N bytes
 *   /odd              headers that libmicrohttpd would not send
 *   /refuse           403 from on_head, before the body
 *   /stats            what the listener says of itself
 *   anything else     the body back, X-Method, X-Target; at once
 */
#include "../../src/listener.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct Harness
{
	Reactor    *reactor;
	Listener   *listener;
	ListenerOptions options;
	int			port2;
	int			heads;
	int			requests;
	int			done;
	int			gone;
} Harness;

typedef struct Delayed
{
	Harness    *harness;
	Request    *request;
	Timer		timer;
} Delayed;

static volatile sig_atomic_t stop;
static volatile sig_atomic_t rebind;

static void
on_signal(int sig)
{
	if (sig == SIGUSR1)
		rebind = 1;
	else
		stop = 1;
}

static void
add(Request *request, Response *response, const char *name, Str value)
{
	if (response->headers == NULL)
		response->headers = arena_alloc(request->arena, sizeof(HttpHeader) * 16);
	response->headers[response->nheaders++] = (HttpHeader) {str_of(name), value};
}

static void
text_body(Response *response, const char *text)
{
	response->body = strdup(text);
	response->body_len = strlen(text);
}

static void
echo(Request *request, Response *response)
{
	response->status = 200;
	add(request, response, "Content-Type", STR_LIT("application/octet-stream"));
	add(request, response, "X-Method", request->head.method);
	add(request, response, "X-Target", request->head.target);
	add(request, response, "Sequin-Request-Id", str_of(request->id));
	response->body_len = request->body.n;
	response->body = malloc(request->body.n + 1);
	if (request->body.n > 0)
		memcpy(response->body, request->body.p, request->body.n);
}

static void
sized(Response *response, const char *number)
{
	response->status = 200;
	response->body_len = strtoul(number, NULL, 10);
	response->body = malloc(response->body_len + 1);
	memset(response->body, 'x', response->body_len);
}

static void
stats(Harness *harness, Response *response)
{
	ListenerStats s;
	char		text[300];

	listener_stats(harness->listener, &s);
	snprintf(text, sizeof(text), "{\"connections\":%d,\"accepted\":%llu,\"refused\":%llu,\"bad_heads\":%llu,"
			 "\"busy\":%d,\"heads\":%d,\"requests\":%d,\"done\":%d,\"gone\":%d}", s.connections,
			 (unsigned long long) s.accepted, (unsigned long long) s.refused, (unsigned long long) s.bad_heads,
			 listener_busy(harness->listener), harness->heads, harness->requests, harness->done, harness->gone);
	response->status = 200;
	text_body(response, text);
}

static void
respond(Harness *harness, Request *request)
{
	Response	response = {0};
	const char *target = arena_cstr(request->arena, request->head.target);

	if (strncmp(target, "/instant", 8) == 0)
	{
		response.status = 200;
		text_body(&response, "ok");
	}
	else if (strncmp(target, "/status/", 8) == 0)
		response.status = atoi(target + 8);
	else if (strncmp(target, "/size/", 6) == 0)
		sized(&response, target + 6);
	else if (strncmp(target, "/head/", 6) == 0)
	{
		response.status = 200;
		response.has_declared_length = true;
		response.declared_length = strtoull(target + 6, NULL, 10);
	}
	else if (strncmp(target, "/odd", 4) == 0)
	{
		echo(request, &response);
		add(request, &response, "X-Empty", STR_LIT(""));
		add(request, &response, "Set-Cookie", STR_LIT("a=1"));
		add(request, &response, "Set-Cookie", STR_LIT("b=2"));
		add(request, &response, "Connection", STR_LIT("x-hop"));
		add(request, &response, "X-Bad", STR_LIT("a\r\nX-Injected: 1"));
	}
	else if (strncmp(target, "/stats", 6) == 0)
		stats(harness, &response);
	else
		echo(request, &response);
	listener_respond(harness->listener, request, &response);
}

static void
delay_over(void *arg)
{
	Delayed    *delayed = arg;

	respond(delayed->harness, delayed->request);
}

static void
on_request(void *cls, Request *request)
{
	Harness    *harness = cls;
	Delayed    *delayed;
	int			ms;

	harness->requests++;
	if (!str_starts(request->head.target, "/delay/"))
	{
		respond(harness, request);
		return;
	}
	delayed = arena_zalloc(request->arena, sizeof(Delayed));
	*delayed = (Delayed) {.harness = harness, .request = request};
	request->cls = delayed;
	ms = atoi(arena_cstr(request->arena, request->head.target) + 7);
	if (!timer_set(harness->reactor, &delayed->timer, clock_us() + ms * 1000, delay_over, delayed))
		abort();
}

static void
make_error(void *cls, Arena *arena, const char *id, int status, const char *code, const char *message,
		   const char *hint, Response *response)
{
	Buf			buf;

	(void) cls;
	buf_init(&buf, arena);
	buf_printf(&buf, "{\"error\":{\"source\":\"sequin_proxy\",\"code\":\"%s\",\"message\":", code);
	buf_json_string(&buf, str_of(message));
	buf_cstr(&buf, ",\"hint\":");
	buf_json_string(&buf, str_of(hint ? hint : ""));
	buf_printf(&buf, ",\"request_id\":\"%s\",\"sent_upstream\":false}}", id);
	response->status = status;
	response->body = strdup(buf_finish(&buf).p);
	response->body_len = buf.n;
	response->headers = arena_alloc(arena, sizeof(HttpHeader) * 3);
	response->headers[0] = (HttpHeader) {STR_LIT("Content-Type"), STR_LIT("application/json")};
	response->headers[1] = (HttpHeader) {STR_LIT("Sequin-Error"), str_of(code)};
	response->headers[2] = (HttpHeader) {STR_LIT("Sequin-Request-Id"), str_of(arena_cstr(arena, str_of(id)))};
	response->nheaders = 3;
}

static bool
on_head(void *cls, Request *request, Response *refusal)
{
	Harness    *harness = cls;

	harness->heads++;
	if (!str_starts(request->head.target, "/refuse"))
		return true;
	make_error(cls, request->arena, request->id, 403, "missing_key", "no key", NULL, refusal);
	return false;
}

static void
on_client_gone(void *cls, Request *request)
{
	(void) request;
	((Harness *) cls)->gone++;
}

static void
on_done(void *cls, Request *request)
{
	Harness    *harness = cls;

	if (request->cls != NULL)
		timer_clear(harness->reactor, &((Delayed *) request->cls)->timer);
	harness->done++;
}

static void
log_line(void *cls, int level, const char *message)
{
	(void) cls;
	if (level > 0)
		fprintf(stderr, "log %d: %s\n", level, message);
}

static void
set_option(Harness *harness, char *arg)
{
	ListenerOptions *o = &harness->options;
	char	   *equals = strchr(arg, '=');
	long		n;

	if (equals == NULL)
		return;
	*equals = '\0';
	n = atol(equals + 1);
	if (strcmp(arg, "addresses") == 0)
		o->addresses = equals + 1;
	else if (strcmp(arg, "max_connections") == 0)
		o->max_connections = (int) n;
	else if (strcmp(arg, "max_head") == 0)
		o->max_head = (size_t) n;
	else if (strcmp(arg, "max_body") == 0)
		o->max_body = (size_t) n;
	else if (strcmp(arg, "head_ms") == 0)
		o->head_timeout_ms = n;
	else if (strcmp(arg, "body_ms") == 0)
		o->body_timeout_ms = n;
	else if (strcmp(arg, "idle_ms") == 0)
		o->idle_timeout_ms = n;
	else if (strcmp(arg, "write_ms") == 0)
		o->write_timeout_ms = n;
	else if (strcmp(arg, "port2") == 0)
		harness->port2 = (int) n;
	else
		fprintf(stderr, "unknown option %s\n", arg);
}

static void
turn(Harness *harness)
{
	struct pollfd p = {.fd = reactor_fd(harness->reactor), .events = POLLIN};
	int			wait = reactor_timeout_ms(harness->reactor);
	int			listener_wait = listener_timeout_ms(harness->listener);

	if (listener_wait >= 0 && (wait < 0 || listener_wait < wait))
		wait = listener_wait;
	if (poll(&p, 1, wait) < 0 && errno != EINTR)
		abort();
	reactor_dispatch(harness->reactor);
	listener_flush(harness->listener);
	if (rebind)
	{
		char		error[200] = "";

		rebind = 0;
		harness->options.port = harness->port2;
		listener_set_options(harness->listener, &harness->options);
		fprintf(stderr, "rebound: %d %s\n", listener_bind(harness->listener, error, sizeof(error)), error);
	}
}

int
main(int argc, char **argv)
{
	Harness		harness = {.options = {.addresses = "127.0.0.1", .max_connections = 5000, .max_head = 32768,
			.max_body = 1 << 20, .head_timeout_ms = 10000, .body_timeout_ms = 20000, .idle_timeout_ms = 60000,
	.write_timeout_ms = 20000}};
	ListenerHandler handler = {.cls = &harness, .on_head = on_head, .on_request = on_request, .on_client_gone = on_client_gone,
		.on_done = on_done, .make_error = make_error, .log = log_line};
	char		error[200] = "";
	int64_t		give_up;

	harness.options.port = argc > 1 ? atoi(argv[1]) : 8432;
	for (int i = 2; i < argc; i++)
		set_option(&harness, argv[i]);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	signal(SIGUSR1, on_signal);
	harness.reactor = reactor_create();
	harness.listener = listener_create(harness.reactor, &handler, &harness.options);
	if (harness.listener == NULL || !listener_bind(harness.listener, error, sizeof(error)))
	{
		fprintf(stderr, "could not start: %s\n", error);
		return 1;
	}
	fprintf(stderr, "listening\n");
	while (!stop)
		turn(&harness);
	listener_stop_accepting(harness.listener);
	give_up = clock_us() + 300000;
	while (listener_busy(harness.listener) > 0 && clock_us() < give_up)
		reactor_dispatch(harness.reactor), listener_flush(harness.listener);
	listener_destroy(harness.listener);
	reactor_destroy(harness.reactor);
	fprintf(stderr, "stopped: %d heads, %d done\n", harness.heads, harness.done);
	return harness.heads == harness.done ? 0 : 1;
}
