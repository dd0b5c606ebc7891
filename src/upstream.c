/*
 * upstream.c - the life of an UpstreamCall: start, send, perhaps one retry, end (see upstream.h).
 *
 * Owns the multi handle, the pool of easy handles and every running Transfer.  exchange.c and
 * sync.c (through errands) start calls; done() is called from the reactor's dispatch, outside
 * libcurl's frames.  It must never send a request a second time when bytes of the first may have
 * reached the API (G8), and never touch PostgreSQL.  The process must ignore SIGPIPE, as
 * PostgreSQL's workers do.
 */
#include "upstream_internal.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define POOL_MAX 256			/* idle easy handles; one takes about 6 kB */

/* Connections kept for reuse.  libcurl walks them all at each transfer's end, so not without bound. */
#define MAX_CONNECTIONS 1024L

static void transfer_finish(Transfer *transfer, UpstreamOutcome outcome, const char *error);

/*
 * Were bytes written?  libcurl counts those of the first write (CURLINFO_REQUEST_SIZE); when that
 * one would have blocked it waits on the connection's socket, which note_use() has seen.  A
 * first write that failed left at most a part of one TLS record, which the API cannot read.
 */
bool
transfer_sent(const Transfer *transfer)
{
	long		size = 0;

	if (!transfer->announced)
		return false;
	if (transfer->written)
		return true;
	if (curl_easy_getinfo(transfer->easy, CURLINFO_REQUEST_SIZE, &size) != CURLE_OK)
		return true;
	return size > 0;
}

static void
deadline_due(void *arg)
{
	Transfer   *transfer = arg;

	if (transfer->refusal != NULL)
		transfer_finish(transfer, UPSTREAM_BROKEN, transfer->refusal);
	else if (transfer_sent(transfer))
		transfer_finish(transfer, UPSTREAM_TIMEOUT, "no whole answer in time");
	else
		transfer_finish(transfer, UPSTREAM_UNREACHABLE, "the connection did not take the request in time");
}

/*
 * A server that has just accepted a connection reads from it later than from one that it watches already (measured
 * on a busy machine: 5 to 17 ms): requests that follow on kept-alive connections would seem to come too early.
 */
#define TAKEN_UP_US 15000

/* libcurl has a connection and is about to write the request: for the first time, or again. */
static int
before_request(void *clientp, char *primary_ip, char *local_ip, int primary_port, int local_port)
{
	Transfer   *transfer = clientp;

	(void) primary_ip, (void) local_ip, (void) primary_port, (void) local_port;
	if (transfer->sending && transfer_sent(transfer))
	{
		transfer->resend_refused = true;
		return CURL_PREREQFUNC_ABORT;
	}
	transfer->sending = true;
	transfer->reopened = false;
	transfer->sent_at_us = clock_us();
	/* Without memory for it libcurl's own, slightly later timeout ends the call. */
	(void) timer_set(transfer->upstream->reactor, &transfer->deadline, transfer->sent_at_us + transfer->timeout_us,
					 deadline_due, transfer);
	if (!transfer->announced)
	{
		transfer->announced = true;
		transfer->call->seen_at_us = transfer->sent_at_us + (transfer->fresh ? TAKEN_UP_US : 0);
		if (transfer->call->on_send != NULL)
			transfer->call->on_send(transfer->call);
	}
	return CURL_PREREQFUNC_OK;
}

static size_t
on_head(char *p, size_t size, size_t n, void *userp)
{
	Transfer   *transfer = userp;

	if (!answer_head_line(&transfer->answer, p, size * n))
		return 0;
	/* The body that libcurl would now wait for does not come; see transfer_ended(). */
	if (transfer->shape == SHAPE_HEAD_BODY && transfer->answer.whole_head)
		return 0;
	return size * n;
}

static size_t
on_body(char *p, size_t size, size_t n, void *userp)
{
	Transfer   *transfer = userp;
	curl_off_t	declared = -1;

	if (transfer->answer.body == NULL
		&& curl_easy_getinfo(transfer->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &declared) != CURLE_OK)
		declared = -1;
	return answer_body(&transfer->answer, p, size * n, declared) ? size * n : 0;
}

static bool
apply_callbacks(Transfer *transfer)
{
	CURL	   *easy = transfer->easy;
	bool		ok = sockets_apply(transfer);

	ok &= curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->error) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, before_request) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_PREREQDATA, transfer) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_head) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer) == CURLE_OK;
	return ok;
}

static void
transfer_free(Transfer *transfer)
{
	curl_easy_cleanup(transfer->easy);
	free(transfer);
}

static Transfer *
transfer_create(Upstream *upstream)
{
	Transfer   *transfer = calloc(1, sizeof(Transfer));

	if (transfer == NULL)
		return NULL;
	transfer->upstream = upstream;
	transfer->generation = upstream->generation;
	transfer->easy = curl_easy_init();
	if (transfer->easy == NULL || !upstream_apply_policy(transfer->easy)
		|| !request_apply_options(transfer, &upstream->options) || !apply_callbacks(transfer))
	{
		transfer_free(transfer);
		return NULL;
	}
	return transfer;
}

static Transfer *
pool_take(Upstream *upstream)
{
	Transfer   *transfer = upstream->idle;

	if (transfer == NULL)
		return transfer_create(upstream);
	upstream->idle = transfer->next;
	upstream->nidle--;
	return transfer;
}

/* Handles of older options, and those bent for a retry (generation 0), are not kept. */
static void
pool_give(Upstream *upstream, Transfer *transfer)
{
	if (transfer->generation != upstream->generation || upstream->nidle >= POOL_MAX)
	{
		transfer_free(transfer);
		return;
	}
	transfer->call = NULL;
	transfer->next = upstream->idle;
	upstream->idle = transfer;
	upstream->nidle++;
}

static void
pool_drop(Upstream *upstream)
{
	while (upstream->idle != NULL)
	{
		Transfer   *transfer = upstream->idle;

		upstream->idle = transfer->next;
		transfer_free(transfer);
	}
	upstream->nidle = 0;
}

static void
transfer_link(Upstream *upstream, Transfer *transfer)
{
	transfer->list = &upstream->active;
	transfer->prev = NULL;
	transfer->next = upstream->active;
	if (transfer->next != NULL)
		transfer->next->prev = transfer;
	upstream->active = transfer;
	upstream->in_flight++;
}

static void
transfer_unlink(Transfer *transfer)
{
	if (transfer->prev != NULL)
		transfer->prev->next = transfer->next;
	else
		*transfer->list = transfer->next;
	if (transfer->next != NULL)
		transfer->next->prev = transfer->prev;
	transfer->upstream->in_flight--;
}

static bool
transfer_add(Transfer *transfer)
{
	transfer->error[0] = '\0';
	transfer->sending = false;
	transfer->reopened = false;
	transfer->written = false;
	transfer->resend_refused = false;
	transfer->in_multi = curl_multi_add_handle(transfer->upstream->multi, transfer->easy) == CURLM_OK;
	return transfer->in_multi;
}

static bool
transfer_prepare(Transfer *transfer, UpstreamCall *call)
{
	Upstream   *upstream = transfer->upstream;

	transfer->call = call;
	transfer->answer = (Answer) {.arena = call->arena, .max_body = upstream->options.max_body};
	transfer->deadline = (Timer) {0};
	transfer->timeout_us = upstream->options.timeout_ms * 1000;
	transfer->started_at_us = clock_us();
	transfer->sent_at_us = 0;
	transfer->fresh = false;
	transfer->announced = false;
	transfer->retried = false;
	transfer->refusal = request_refusal(call);
	/* A refused call ends in the next dispatch, as all calls do. */
	if (transfer->refusal != NULL)
		return timer_set(upstream->reactor, &transfer->deadline, transfer->started_at_us, deadline_due, transfer);
	return request_apply(transfer) && transfer_add(transfer);
}

bool
upstream_start(Upstream *upstream, UpstreamCall *call)
{
	Transfer   *transfer = pool_take(upstream);

	if (transfer == NULL)
		return false;
	if (!transfer_prepare(transfer, call))
	{
		transfer_free(transfer);
		return false;
	}
	call->internal = transfer;
	transfer_link(upstream, transfer);
	return true;
}

static void
fill_result(Transfer *transfer, UpstreamOutcome outcome, const char *error, UpstreamResult *result)
{
	Answer	   *answer = &transfer->answer;

	memset(result, 0, sizeof(*result));
	result->outcome = outcome;
	result->sent = transfer_sent(transfer);
	result->sent_at_us = result->sent ? transfer->sent_at_us : 0;
	result->done_at_us = clock_us();
	if (outcome != UPSTREAM_ANSWERED)
	{
		snprintf(result->error, sizeof(result->error), "%s", error);
		free(answer->body);
	}
	else
	{
		result->status = answer->status;
		result->headers = answer->headers;
		result->nheaders = answer->nheaders;
		result->body = answer->body_len > 0 ? answer->body : NULL;
		result->body_len = answer->body_len;
		if (answer->body_len == 0)
			free(answer->body);
	}
	answer->body = NULL;
}

static void
transfer_remove(Transfer *transfer)
{
	if (!transfer->in_multi)
		return;
	transfer->in_multi = false;
	/* Fails only for a handle that is not there or from inside a callback: neither is possible here. */
	if (curl_multi_remove_handle(transfer->upstream->multi, transfer->easy) != CURLM_OK)
		transfer->generation = 0;
}

/* The call's owner may free the call in done(), so the transfer is off it before. */
static void
transfer_finish(Transfer *transfer, UpstreamOutcome outcome, const char *error)
{
	Upstream   *upstream = transfer->upstream;
	UpstreamCall *call = transfer->call;
	UpstreamResult result;

	fill_result(transfer, outcome, error, &result);
	timer_clear(upstream->reactor, &transfer->deadline);
	transfer_remove(transfer);
	transfer_unlink(transfer);
	call->internal = NULL;
	pool_give(upstream, transfer);
	call->done(call, &result);
}

/* What could go better on a fresh connection: not a name that does not resolve, a certificate, a timeout. */
static bool
may_retry(const Transfer *transfer, CURLcode code)
{
	switch (code)
	{
		case CURLE_COULDNT_CONNECT:
		case CURLE_SSL_CONNECT_ERROR:
		case CURLE_SEND_ERROR:
		case CURLE_RECV_ERROR:
		case CURLE_GOT_NOTHING:
			return !transfer->retried;
		default:
			return false;
	}
}

/* Nothing was sent: once more, on a fresh connection, within what is left of the time to connect. */
static bool
transfer_retry(Transfer *transfer)
{
	int64_t		left_ms = transfer->upstream->options.connect_timeout_ms
		- (clock_us() - transfer->started_at_us) / 1000;

	if (left_ms <= 0)
		return false;
	timer_clear(transfer->upstream->reactor, &transfer->deadline);
	transfer_remove(transfer);
	transfer->retried = true;
	transfer->generation = 0;	/* the options below are not for the pool */
	return curl_easy_setopt(transfer->easy, CURLOPT_FRESH_CONNECT, 1L) == CURLE_OK
		&& curl_easy_setopt(transfer->easy, CURLOPT_CONNECTTIMEOUT_MS, (long) left_ms) == CURLE_OK
		&& transfer_add(transfer);
}

static UpstreamOutcome
failure_outcome(const Transfer *transfer, CURLcode code, bool sent)
{
	if (!sent)
		return UPSTREAM_UNREACHABLE;
	if (transfer->answer.fault == ANSWER_TOO_LARGE)
		return UPSTREAM_TOO_LARGE;
	if (code == CURLE_OPERATION_TIMEDOUT)
		return UPSTREAM_TIMEOUT;
	return UPSTREAM_BROKEN;
}

static const char *
failure_text(const Transfer *transfer, CURLcode code)
{
	switch (transfer->answer.fault)
	{
		case ANSWER_TOO_LARGE:
			return "the answer is over the size limit";
		case ANSWER_NOT_HTTP:
			return "the answer is not HTTP/1.1";
		case ANSWER_NOMEM:
			return "out of memory";
		case ANSWER_FINE:
			break;
	}
	if (transfer->resend_refused)
		return "the connection closed before an answer came";
	if (code == CURLE_OK)
		return "the answer ended within its headers";
	return transfer->error[0] != '\0' ? transfer->error : curl_easy_strerror(code);
}

/* libcurl is done with it. */
static void
transfer_ended(Transfer *transfer, CURLcode code)
{
	bool		sent = transfer_sent(transfer);
	char		text[sizeof(((UpstreamResult *) NULL)->error)];

	if (transfer->answer.whole_head && transfer->answer.fault == ANSWER_FINE
		&& (code == CURLE_OK || (code == CURLE_WRITE_ERROR && transfer->shape == SHAPE_HEAD_BODY)))
	{
		transfer_finish(transfer, UPSTREAM_ANSWERED, NULL);
		return;
	}
	/* a copy: a retry that cannot start must still tell the first failure */
	snprintf(text, sizeof(text), "%s", failure_text(transfer, code));
	if (!sent && may_retry(transfer, code) && transfer_retry(transfer))
		return;
	transfer_finish(transfer, failure_outcome(transfer, code, sent), text);
}

static void
drain_messages(Upstream *upstream)
{
	CURLMsg    *message;
	int			left;

	while ((message = curl_multi_info_read(upstream->multi, &left)) != NULL)
	{
		Transfer   *transfer = NULL;

		if (message->msg == CURLMSG_DONE
			&& curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &transfer) == CURLE_OK)
			transfer_ended(transfer, message->data.result);
	}
}

/* Ends every call that runs now; what done() starts meanwhile is left alone. */
static void
finish_all(Upstream *upstream, UpstreamOutcome outcome, const char *error)
{
	Transfer   *ending = upstream->active;

	upstream->active = NULL;
	for (Transfer *transfer = ending; transfer != NULL; transfer = transfer->next)
		transfer->list = &ending;
	while (ending != NULL)
	{
		bool		unreachable = outcome == UPSTREAM_BROKEN && !transfer_sent(ending);

		transfer_finish(ending, unreachable ? UPSTREAM_UNREACHABLE : outcome, error);
	}
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
	/* Memory, in practice.  No transfer can be trusted to go on, so none is left waiting. */
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

/* Without memory for the new CA file's name all stays as it was. */
void
upstream_set_options(Upstream *upstream, const UpstreamOptions *options)
{
	char	   *ca_file = strdup(options->ca_file != NULL ? options->ca_file : "");

	if (ca_file == NULL)
		return;
	free((char *) upstream->options.ca_file);
	upstream->options = *options;
	upstream->options.ca_file = ca_file;
	if (++upstream->generation == 0)
		upstream->generation = 1;	/* 0 is for handles that must not be pooled */
	pool_drop(upstream);
}

static bool
multi_create(Upstream *upstream)
{
	int			most = upstream->options.max_kept;
	long		kept = most > 0 && most < MAX_CONNECTIONS ? most : MAX_CONNECTIONS;

	upstream->multi = curl_multi_init();
	return upstream->multi != NULL && sockets_install(upstream)
		&& curl_multi_setopt(upstream->multi, CURLMOPT_PIPELINING, (long) CURLPIPE_NOTHING) == CURLM_OK
		&& curl_multi_setopt(upstream->multi, CURLMOPT_MAXCONNECTS, kept) == CURLM_OK;
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
	upstream_set_options(upstream, options);
	if (upstream->options.ca_file == NULL || !multi_create(upstream))
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
	pool_drop(upstream);
	/* closes the kept connections, through close_socket() */
	if (upstream->multi != NULL && curl_multi_cleanup(upstream->multi) != CURLM_OK)
		errno = 0;				/* nothing is left to be done about it */
	timer_clear(upstream->reactor, &upstream->timer);
	sockets_free(upstream);
	free((char *) upstream->options.ca_file);
	free(upstream);
}
