/*
 * upstream_internal.h - what the four upstream*.c files share; nobody else includes it.
 *
 *   upstream.c          the life of a call: start, send, retry, end
 *   upstream_socket.c   libcurl's sockets and timer on the reactor
 *   upstream_request.c  the security policy; an UpstreamCall as libcurl options
 *   upstream_answer.c   the answer's head and body, bounded (knows no libcurl)
 */
#ifndef SEQUIN_UPSTREAM_INTERNAL_H
#define SEQUIN_UPSTREAM_INTERNAL_H

#include "upstream.h"

#include <curl/curl.h>
#include <signal.h>

/* One response head: the same limits as for the heads that callers send. */
#define ANSWER_MAX_HEAD (64 * 1024)
#define ANSWER_MAX_LINES HTTP_MAX_HEADERS

typedef enum AnswerFault
{
	ANSWER_FINE,
	ANSWER_TOO_LARGE,
	ANSWER_NOT_HTTP,
	ANSWER_NOMEM
} AnswerFault;

typedef struct Answer			/* zero it, then set arena and max_body */
{
	Arena	   *arena;
	size_t		max_body;
	int			status;
	bool		whole_head;		/* the final response's blank line was seen; what follows are trailers */
	AnswerFault fault;
	bool		has_length;		/* Content-Length, of the present head */
	int64_t		length;
	HttpHeader *headers;
	int			nheaders;
	int			cap;
	int			lines;			/* of the present head, dropped ones included */
	size_t		head_bytes;
	char	   *body;			/* malloc'd; freed by whoever takes it */
	size_t		body_len;
	size_t		body_cap;
} Answer;

/* One line as it came, its line end included.  False: stop; fault says why. */
extern bool answer_head_line(Answer *answer, const char *p, size_t n);
/* declared: the body's length as announced; -1: unknown. */
extern bool answer_body(Answer *answer, const char *p, size_t n, int64_t declared);

/* How libcurl is told what to do with a body: a change of shape costs options, so it is remembered. */
typedef enum RequestShape
{
	SHAPE_UNSET,
	SHAPE_PLAIN,				/* no body, no Content-Length */
	SHAPE_HEAD,
	SHAPE_BODY,					/* a body, perhaps empty (Content-Length: 0) */
	SHAPE_HEAD_BODY				/* libcurl cannot: sent as a body, and cut off after the answer's head */
} RequestShape;

typedef struct Transfer Transfer;

struct Transfer					/* an easy handle and the call that it serves; pooled by Upstream */
{
	Upstream   *upstream;
	CURL	   *easy;
	uint32_t	generation;		/* of the options that it was made with */
	Transfer   *prev;			/* in Upstream.active */
	Transfer   *next;			/* in Upstream.active or .idle */
	Transfer  **list;			/* the list of running transfers it is in */

	/* what the handle was told last */
	char		origin[320];
	char		method[32];
	RequestShape shape;

	/* the call */
	UpstreamCall *call;
	Answer		answer;
	Timer		deadline;		/* from sending; or: now, for a refused call */
	int64_t		timeout_us;
	int64_t		started_at_us;
	int64_t		sent_at_us;
	bool		in_multi;
	bool		fresh;			/* a connection was opened for it */
	bool		announced;		/* on_send has been called */
	bool		sending;		/* the pre-request callback let it write */
	bool		reopened;		/* since then libcurl has opened another connection for it */
	bool		written;		/* since then libcurl has waited on the connection: see transfer_sent() */
	bool		resend_refused;
	bool		retried;
	const char *refusal;		/* why it was not even tried */
	char		error[CURL_ERROR_SIZE];
};

typedef struct Socket Socket;

struct Upstream
{
	Reactor    *reactor;
	CURLM	   *multi;
	UpstreamOptions options;	/* ca_file is ours */
	uint32_t	generation;		/* moves with the options */
	Transfer   *active;
	Transfer   *idle;
	int			nidle;
	int			in_flight;
	Timer		timer;			/* libcurl's */
	Socket	  **sockets;		/* by descriptor */
	int			nsockets;
	bool		signals_blocked;
	sigset_t	signals;		/* the mask to go back to */
};

/* upstream.c: after libcurl has run, outside its frames. */
extern void upstream_drive(Upstream *upstream, curl_socket_t fd, int events);
/* Bytes of this call may have reached the API. */
extern bool transfer_sent(const Transfer *transfer);

/* upstream_socket.c */
extern bool sockets_install(Upstream *upstream);
extern bool sockets_apply(Transfer *transfer);	/* the easy handle's socket callbacks */
extern void sockets_free(Upstream *upstream);	/* after curl_multi_cleanup */

/* upstream_request.c */
extern bool upstream_apply_policy(CURL *easy);
extern bool request_apply_options(Transfer *transfer, const UpstreamOptions *options);
/* Why this call must not be sent as it stands (a constant text); NULL: it may. */
extern const char *request_refusal(const UpstreamCall *call);
extern bool request_apply(Transfer *transfer);	/* false: out of memory */

#endif
