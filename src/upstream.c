/*
 * upstream.c - the life of an UpstreamCall: start, send, perhaps one retry, read, end (see upstream.h).
 *
 * Owns the multi handle and every running Transfer.  exchange.c and sync.c (through errands) start
 * calls; what upstream_start() was given begins in the next dispatch, after everything that has
 * arrived was seen, and done() is called from there, outside libcurl's frames.  It must never send
 * a request a second time when bytes of the first may have reached the API (G8), and never touch
 * PostgreSQL.  The process must ignore SIGPIPE, as PostgreSQL's workers do.
 */
#include "upstream_internal.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/* Connections kept for reuse where the options do not say. */
#define MAX_IDLE 1024

/* ---- lists ---- */

static void
list_init(TransferList *list)
{
	list->prev = list->next = list;
}

static void
list_add(TransferList *list, Transfer *transfer)
{
	TransferList *link = &transfer->link;

	link->prev = list->prev;
	link->next = list;
	list->prev->next = link;
	list->prev = link;
}

static void
list_remove(Transfer *transfer)
{
	transfer->link.prev->next = transfer->link.next;
	transfer->link.next->prev = transfer->link.prev;
}

static Transfer *
list_first(TransferList *list)
{
	return list->next != list ? (Transfer *) list->next : NULL;
}

/* All of from, to the end of to. */
static void
list_move(TransferList *from, TransferList *to)
{
	if (from->next == from)
		return;
	to->prev->next = from->next;
	from->next->prev = to->prev;
	from->prev->next = to;
	to->prev = from->prev;
	list_init(from);
}

/* ---- the end ---- */

static void
fill_result(Transfer *transfer, UpstreamOutcome outcome, const char *error, UpstreamResult *result)
{
	Answer	   *answer = &transfer->answer;

	memset(result, 0, sizeof(*result));
	result->outcome = outcome;
	result->sent = transfer->sent;
	result->sent_at_us = result->sent ? transfer->sent_at_us : 0;
	result->done_at_us = clock_us();
	if (outcome != UPSTREAM_ANSWERED)
		snprintf(result->error, sizeof(result->error), "%s", error);
	else
	{
		result->status = answer->status;
		result->headers = answer->headers;
		result->nheaders = answer->nheaders;
		result->body_len = answer->body_len;
		if (answer->body_len > 0)
		{
			result->body = answer->body;
			answer->body = NULL;
		}
	}
	answer_free(answer);
}

/* clean: the answer ended where it should, and nothing came after it. */
static void
release_connection(Transfer *transfer, bool clean, int64_t now_us)
{
	Connection *connection = transfer->connection;

	if (connection == NULL)
		return;
	transfer->connection = NULL;
	if (clean)
		connection_keep(connection, now_us);
	else
		connection_close(connection);
}

/* The call's owner may free the call, and this transfer with its arena, in done(). */
static void
transfer_finish(Transfer *transfer, UpstreamOutcome outcome, const char *error, bool clean)
{
	Upstream   *upstream = transfer->upstream;
	UpstreamCall *call = transfer->call;
	UpstreamResult result;

	fill_result(transfer, outcome, error, &result);
	timer_clear(upstream->reactor, &transfer->deadline);
	release_connection(transfer, clean, result.done_at_us);
	list_remove(transfer);
	upstream->in_flight--;
	call->internal = NULL;
	call->done(call, &result);
}

static void
transfer_fail(Transfer *transfer, UpstreamOutcome outcome, const char *error)
{
	char		text[CURL_ERROR_SIZE];

	/* a copy: the text may be the connection's, which is closed before it is told */
	snprintf(text, sizeof(text), "%s", error);
	transfer_finish(transfer, outcome, text, false);
}

/* ---- retry ---- */

static bool
transfer_connect(Transfer *transfer, int64_t timeout_ms)
{
	transfer->connection = connection_open(transfer->upstream, transfer, timeout_ms);
	return transfer->connection != NULL;
}

/* Nothing was sent: once more, on a fresh connection, within what is left of the time to connect. */
static bool
transfer_retry(Transfer *transfer)
{
	Upstream   *upstream = transfer->upstream;
	int64_t		left_ms = upstream->options.connect_timeout_ms - (clock_us() - transfer->started_at_us) / 1000;

	if (transfer->sent || transfer->retried || left_ms <= 0)
		return false;
	transfer->retried = true;
	timer_clear(upstream->reactor, &transfer->deadline);
	release_connection(transfer, false, 0);
	return transfer_connect(transfer, left_ms);
}

/* The connection failed under it, before or after it was made. */
static void
connection_failed(Transfer *transfer, bool worth_retrying)
{
	const char *error = "the connection closed before a whole answer came";
	char		text[CURL_ERROR_SIZE];

	if (transfer->connection->error[0] != '\0')
		error = transfer->connection->error;
	/* a copy: a retry that cannot start must still tell the first failure */
	snprintf(text, sizeof(text), "%s", error);
	if (worth_retrying && transfer_retry(transfer))
		return;
	transfer_fail(transfer, transfer->sent ? UPSTREAM_BROKEN : UPSTREAM_UNREACHABLE, text);
}

/* ---- reading ---- */

static void
answer_failed(Transfer *transfer)
{
	switch (transfer->answer.fault)
	{
		case ANSWER_TOO_LARGE:
			transfer_fail(transfer, UPSTREAM_TOO_LARGE, "the answer is over the size limit");
			break;
		case ANSWER_NOMEM:
			transfer_fail(transfer, UPSTREAM_BROKEN, "out of memory");
			break;
		default:
			transfer_fail(transfer, UPSTREAM_BROKEN, "the answer is not HTTP/1.1");
	}
}

/* An answer before the request was written whole is an answer; the connection has still to be given up. */
static bool
may_keep(const Transfer *transfer)
{
	/* a HEAD's body may be taken for the beginning of the next request */
	bool		odd = transfer->answer.no_body && transfer->call->body.n > 0;

	return transfer->out.n == 0 && transfer->rest.n == 0 && !transfer->answer.close && !odd;
}

static void
read_failed(Transfer *transfer, bool ended)
{
	Answer	   *answer = &transfer->answer;

	if (ended && answer_end(answer))
		transfer_finish(transfer, UPSTREAM_ANSWERED, NULL, false);
	else if (ended && (answer->lines > 0 || answer->part_len > 0 || answer->status > 0))
		transfer_fail(transfer, UPSTREAM_BROKEN, "the connection closed within the answer");
	else
		connection_failed(transfer, true);
}

/* True: there may be more to read at once. */
static bool
transfer_read(Transfer *transfer)
{
	Upstream   *upstream = transfer->upstream;
	Connection *connection = transfer->connection;
	Answer	   *answer = &transfer->answer;
	size_t		n;
	size_t		taken;
	IoResult	io = connection_recv(connection, upstream->buffer, READ_SIZE, &n);

	if (io == IO_BLOCKED)
		return false;
	if (io == IO_FAILED || n == 0)
	{
		read_failed(transfer, io == IO_DONE);
		return false;
	}
	taken = answer_feed(answer, upstream->buffer, n);
	if (answer->fault != ANSWER_FINE)
		answer_failed(transfer);
	else if (answer->state == ANSWER_WHOLE)
		transfer_finish(transfer, UPSTREAM_ANSWERED, NULL, taken == n && may_keep(transfer));
	else
		return connection->tls || n == READ_SIZE;	/* TLS: what it has decrypted already wakes nobody */
	return false;
}

/* ---- sending ---- */

static void
deadline_due(void *arg)
{
	Transfer   *transfer = arg;

	if (transfer->sent)
		transfer_fail(transfer, UPSTREAM_TIMEOUT, "no whole answer in time");
	else
		transfer_fail(transfer, UPSTREAM_UNREACHABLE, "the connection did not take the request in time");
}

/* False: it has failed. */
static bool
transfer_write(Transfer *transfer)
{
	Connection *connection = transfer->connection;

	while (transfer->out.n > 0)
	{
		size_t		n;
		IoResult	io = connection_send(connection, transfer->out, &n);

		if (io == IO_FAILED)
			return false;
		/* TLS may have written a part of its record, and the rest goes out even as the connection is closed */
		transfer->sent |= n > 0 || connection->tls;
		transfer->out = (Str) {transfer->out.p + n, transfer->out.n - n};
		if (io == IO_BLOCKED)
			return connection_watch_writes(connection, true);
		if (transfer->out.n == 0)
		{
			transfer->out = transfer->rest;
			transfer->rest = STR_NULL;
		}
	}
	return connection_watch_writes(connection, false);
}

/*
 * A server that has just accepted a connection reads from it later than from one that it watches already (measured
 * on a busy machine: 5 to 17 ms): requests that follow on kept-alive connections would seem to come too early.
 */
#define TAKEN_UP_US 15000

static void
announce(Transfer *transfer, bool fresh)
{
	UpstreamCall *call = transfer->call;

	transfer->announced = true;
	call->seen_at_us = transfer->sent_at_us + (fresh ? TAKEN_UP_US : 0);
	if (call->on_send != NULL)
		call->on_send(call);
}

/*
 * Writes on.  False: the transfer is over.  A write that fails once something was sent leaves what
 * the API may have said before it closed, a 413 for instance: from then on it is only read.
 */
static bool
transfer_push(Transfer *transfer)
{
	if (transfer_write(transfer))
		return true;
	if (!transfer->sent)
	{
		connection_failed(transfer, true);
		return false;
	}
	transfer->out = transfer->rest = STR_NULL;
	transfer->answer.close = true;
	/* without it the next event, which is at hand, would come again and again until the deadline */
	(void) connection_watch_writes(transfer->connection, false);
	return true;
}

/* The connection is there: the request goes out on it. */
static void
transfer_send(Transfer *transfer, bool fresh, int64_t now_us)
{
	Upstream   *upstream = transfer->upstream;

	if (!request_write(transfer, transfer->connection->host)
		|| !timer_set(upstream->reactor, &transfer->deadline, now_us + transfer->call_timeout_us, deadline_due, transfer))
	{
		transfer_fail(transfer, UPSTREAM_UNREACHABLE, "out of memory");
		return;
	}
	transfer->sent_at_us = now_us;
	if (!transfer->announced)
		announce(transfer, fresh);
	(void) transfer_push(transfer);
}

/* Of this request nothing is written yet: what the API says now, its end included, is no answer to it. */
static bool
spoke_first(Transfer *transfer)
{
	char		byte;
	size_t		n;

	if (connection_recv(transfer->connection, &byte, 1, &n) == IO_BLOCKED)
		return false;
	connection_failed(transfer, true);
	return true;
}

void
transfer_ready(Transfer *transfer)
{
	if (!transfer->sent && spoke_first(transfer))
		return;
	if (transfer->out.n > 0 && !transfer_push(transfer))
		return;
	while (transfer->sent && transfer_read(transfer))
		;
}

/* ---- starting ---- */

static void
transfer_begin(Transfer *transfer)
{
	Upstream   *upstream = transfer->upstream;
	const char *refusal = request_refusal(transfer->call);
	int64_t		now_us = clock_us();

	list_remove(transfer);
	list_add(&upstream->running, transfer);
	if (refusal != NULL)
	{
		transfer_fail(transfer, UPSTREAM_BROKEN, refusal);
		return;
	}
	transfer->connection = connection_take(upstream, transfer, now_us);
	if (transfer->connection != NULL)
		transfer_send(transfer, false, now_us);
	else if (!transfer_connect(transfer, upstream->options.connect_timeout_ms))
		transfer_fail(transfer, UPSTREAM_UNREACHABLE, "out of memory, or the origin is malformed");
}

/* Those that are there now: what their done() starts comes in the next turn. */
static void
start_due(void *arg)
{
	Upstream   *upstream = arg;
	Transfer   *transfer;

	list_move(&upstream->starting, &upstream->beginning);
	while ((transfer = list_first(&upstream->beginning)) != NULL)
		transfer_begin(transfer);
}

bool
upstream_start(Upstream *upstream, UpstreamCall *call)
{
	Transfer   *transfer = arena_zalloc(call->arena, sizeof(Transfer));

	if (transfer == NULL)
		return false;
	transfer->upstream = upstream;
	transfer->call = call;
	transfer->answer.arena = call->arena;
	transfer->answer.max_body = upstream->options.max_body;
	transfer->answer.no_body = str_is(call->method, "HEAD");
	transfer->call_timeout_us = upstream->options.timeout_ms * 1000;
	transfer->started_at_us = clock_us();
	if (upstream->start.slot == 0
		&& !timer_set(upstream->reactor, &upstream->start, transfer->started_at_us, start_due, upstream))
		return false;
	call->internal = transfer;
	list_add(&upstream->starting, transfer);
	upstream->in_flight++;
	return true;
}

/* ---- libcurl ---- */

/* What could go better on another connection: not a name that does not resolve, a certificate, a timeout. */
static bool
worth_retrying(CURLcode code)
{
	return code == CURLE_COULDNT_CONNECT || code == CURLE_SSL_CONNECT_ERROR || code == CURLE_SEND_ERROR
		|| code == CURLE_RECV_ERROR;
}

/* libcurl is done with it: connected, or not. */
static void
connection_ended(Connection *connection, CURLcode code)
{
	Transfer   *transfer = connection->transfer;
	int64_t		now_us = clock_us();

	if (code == CURLE_OK && connection_opened(connection, now_us))
		transfer_send(transfer, true, now_us);
	else if (code == CURLE_OK)
		transfer_fail(transfer, UPSTREAM_UNREACHABLE, "out of memory");
	else
	{
		connection_note(connection, code);
		connection_failed(transfer, worth_retrying(code));
	}
}

static void
drain_messages(Upstream *upstream)
{
	CURLMsg    *message;
	int			left;

	while ((message = curl_multi_info_read(upstream->multi, &left)) != NULL)
	{
		Connection *connection = NULL;

		if (message->msg == CURLMSG_DONE
			&& curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &connection) == CURLE_OK)
			connection_ended(connection, message->data.result);
	}
}

/* Ends every call that is there now; what done() starts meanwhile is left alone. */
static void
finish_all(Upstream *upstream, UpstreamOutcome outcome, const char *error)
{
	TransferList ending;
	Transfer   *transfer;

	list_init(&ending);
	list_move(&upstream->running, &ending);
	list_move(&upstream->beginning, &ending);
	list_move(&upstream->starting, &ending);
	while ((transfer = list_first(&ending)) != NULL)
		transfer_fail(transfer, outcome == UPSTREAM_BROKEN && !transfer->sent ? UPSTREAM_UNREACHABLE : outcome, error);
}

void
upstream_drive(Upstream *upstream, curl_socket_t fd, int events)
{
	int			running;
	CURLMcode	code = curl_multi_socket_action(upstream->multi, fd, events, &running);

	if (upstream->signals_blocked)
	{
		/* cannot fail: the mask is one that was in force */
		(void) pthread_sigmask(SIG_SETMASK, &upstream->signals, NULL);
		upstream->signals_blocked = false;
	}
	drain_messages(upstream);
	/* Memory, in practice.  No call can be trusted to go on, so none is left waiting. */
	if (code != CURLM_OK)
		finish_all(upstream, UPSTREAM_BROKEN, curl_multi_strerror(code));
}

void
upstream_cancel_all(Upstream *upstream)
{
	finish_all(upstream, UPSTREAM_CANCELLED, "cancelled");
}

int
upstream_in_flight(const Upstream *upstream)
{
	return upstream->in_flight;
}

/* ---- the whole ---- */

/* Without memory for the new CA file's name all stays as it was. */
void
upstream_set_options(Upstream *upstream, const UpstreamOptions *options)
{
	char	   *ca_file = strdup(options->ca_file != NULL ? options->ca_file : "");
	bool		distrusted = upstream->options.ca_file != NULL && ca_file != NULL
		&& strcmp(ca_file, upstream->options.ca_file) != 0;

	if (ca_file == NULL)
		return;
	free((char *) upstream->options.ca_file);
	upstream->options = *options;
	upstream->options.ca_file = ca_file;
	if (!distrusted)
		return;
	upstream->generation++;		/* busy connections are closed after their exchange */
	connections_close_idle(upstream);
}

static bool
multi_create(Upstream *upstream)
{
	upstream->multi = curl_multi_init();
	return upstream->multi != NULL && sockets_install(upstream)
		&& curl_multi_setopt(upstream->multi, CURLMOPT_PIPELINING, (long) CURLPIPE_NOTHING) == CURLM_OK
		/* libcurl keeps what we keep and not less */
		&& curl_multi_setopt(upstream->multi, CURLMOPT_MAXCONNECTS, LONG_MAX) == CURLM_OK;
}

Upstream *
upstream_create(Reactor *reactor, const UpstreamOptions *options)
{
	Upstream   *upstream;

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return NULL;
	upstream = calloc(1, sizeof(Upstream));
	if (upstream == NULL)
		return NULL;
	upstream->reactor = reactor;
	list_init(&upstream->starting);
	list_init(&upstream->beginning);
	list_init(&upstream->running);
	upstream->max_idle = options->max_kept > 0 && options->max_kept < MAX_IDLE ? options->max_kept : MAX_IDLE;
	upstream->buffer = malloc(READ_SIZE);
	upstream_set_options(upstream, options);
	if (upstream->options.ca_file == NULL || upstream->buffer == NULL || !multi_create(upstream))
	{
		upstream_destroy(upstream);
		return NULL;
	}
	return upstream;
}

/* curl_global_cleanup() is not called: OpenSSL is PostgreSQL's too. */
void
upstream_destroy(Upstream *upstream)
{
	if (upstream == NULL)
		return;
	upstream_cancel_all(upstream);
	connections_close_idle(upstream);
	if (upstream->multi != NULL && curl_multi_cleanup(upstream->multi) != CURLM_OK)
		errno = 0;				/* nothing is left to be done about it */
	timer_clear(upstream->reactor, &upstream->start);
	timer_clear(upstream->reactor, &upstream->timer);
	timer_clear(upstream->reactor, &upstream->expiry);
	sockets_free(upstream);
	free((char *) upstream->options.ca_file);
	free(upstream->buffer);
	free(upstream);
}
