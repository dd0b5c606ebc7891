/*
 * upstream_internal.h - what the upstream*.c files share; nobody else includes it.
 *
 *   upstream.c             the life of a call: start, send, retry, read, end
 *   upstream_connection.c  connections: opened by libcurl, kept, written, read, closed
 *   upstream_socket.c      libcurl's sockets and timer on the reactor, while it connects
 *   upstream_request.c     the security policy; an UpstreamCall as bytes
 *   upstream_answer.c      bytes as an answer, bounded (knows neither libcurl nor sockets)
 *
 * libcurl makes the connections (names, addresses, TLS) and CURLOPT_CONNECT_ONLY hands them over;
 * the one HTTP/1.1 exchange at a time on each is ours.  So we know to the byte what was written
 * (G8), and an exchange costs a send and a recv instead of 78,000 instructions (docs/performance.md).
 */
#ifndef SEQUIN_UPSTREAM_INTERNAL_H
#define SEQUIN_UPSTREAM_INTERNAL_H

#include "http_chunked.h"
#include "upstream.h"

#include <curl/curl.h>
#include <signal.h>

/* ---- an answer ---- */

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

typedef enum AnswerState
{
	ANSWER_HEAD,				/* or an interim answer's */
	ANSWER_LENGTH,				/* within a body of declared length */
	ANSWER_CHUNKS,
	ANSWER_UNTIL_END,			/* within a body that the connection's end ends */
	ANSWER_WHOLE
} AnswerState;

typedef struct Answer			/* zero it, then set arena, max_body and no_body */
{
	Arena	   *arena;
	size_t		max_body;
	bool		no_body;		/* HEAD: whatever the head says */
	AnswerState state;
	AnswerFault fault;			/* once set nothing more is taken */
	int			status;
	bool		old;			/* HTTP/1.0 */
	bool		close;			/* the connection must not be used again */
	bool		keep;			/* "Connection: keep-alive" */
	bool		chunked;
	bool		has_length;		/* Content-Length, of the present head */
	int64_t		length;
	HttpHeader *headers;
	int			nheaders;
	int			cap;
	int			lines;			/* of the present head, dropped ones included */
	size_t		head_bytes;
	char	   *part;			/* malloc'd: the start of a line that has not ended */
	size_t		part_len;
	ChunkedDecoder chunks;
	char	   *body;			/* malloc'd; freed by whoever takes it */
	size_t		body_len;
	size_t		body_cap;
} Answer;

/* Takes what it can of n > 0 bytes, up to the answer's end; returns how many. */
extern size_t answer_feed(Answer *answer, const char *p, size_t n);
/* The connection ended in an orderly way.  False: before the answer was whole. */
extern bool answer_end(Answer *answer);
extern void answer_free(Answer *answer);	/* its malloc'd parts */

/* ---- connections and the calls on them ---- */

typedef struct Transfer Transfer;
typedef struct Connection Connection;
typedef struct Socket Socket;

struct Connection				/* malloc'd; opened for a transfer, then busy or idle, closed by connection_close() */
{
	Upstream   *upstream;
	CURL	   *easy;			/* stays in the multi handle as long as the connection lives */
	Transfer   *transfer;		/* NULL: idle */
	Watch	   *watch;			/* NULL: not connected yet (or about to be freed) */
	uint32_t	events;
	int			fd;
	bool		tls;
	bool		attached;		/* libcurl knows it to be in use: see connection_send() */
	uint32_t	generation;		/* of trust, when it was opened */
	uint32_t	hash;			/* of the origin */
	int64_t		opened_at_us;
	int64_t		idle_at_us;
	Connection *prev;			/* of the same bucket, later used first */
	Connection *next;
	Connection *older;			/* of all idle ones */
	Connection *newer;
	char	   *origin;
	char	   *host;			/* the Host header's value */
	char		error[CURL_ERROR_SIZE];
};

typedef struct TransferList		/* circular; an empty one points to itself */
{
	struct TransferList *prev;
	struct TransferList *next;
} TransferList;

struct Transfer					/* in the call's arena */
{
	TransferList link;			/* must be first; in one of Upstream's lists */
	Upstream   *upstream;
	UpstreamCall *call;
	Connection *connection;
	Answer		answer;
	Timer		deadline;		/* from sending */
	int64_t		call_timeout_us;	/* from there, by the options of its start */
	int64_t		started_at_us;
	int64_t		sent_at_us;
	Str			out;			/* what is to be written next: the head with the body's beginning ... */
	Str			rest;			/* ... and then the rest of the body */
	bool		announced;		/* on_send has been called */
	bool		sent;			/* bytes may have reached the API */
	bool		retried;
};

#define IDLE_BUCKETS 256

struct Upstream
{
	Reactor    *reactor;
	CURLM	   *multi;
	UpstreamOptions options;	/* ca_file is ours */
	uint32_t	generation;		/* of trust: moves with the CA file */
	TransferList starting;		/* in the order of upstream_start(); nothing has happened for them yet */
	TransferList beginning;		/* those of them that this turn begins */
	TransferList running;
	int			in_flight;
	Timer		start;			/* begins those in starting */
	Timer		timer;			/* libcurl's */
	Timer		expiry;			/* of idle connections */
	Socket	  **sockets;		/* by descriptor, while libcurl connects */
	int			nsockets;
	Connection *idle[IDLE_BUCKETS];	/* by the origin's hash */
	Connection *oldest;
	Connection *newest;
	int			nidle;
	int			max_idle;
	bool		signals_blocked;
	sigset_t	signals;		/* the mask to go back to */
	char	   *buffer;			/* what a recv() gave, until it is fed to an answer */
};

#define READ_SIZE 65536

/* upstream.c: called from the reactor's dispatch, outside libcurl's frames. */
extern void upstream_drive(Upstream *upstream, curl_socket_t fd, int events);
extern void transfer_ready(Transfer *transfer);	/* its connection may be read, or written where it blocked */

/* upstream_connection.c */
typedef enum IoResult
{
	IO_DONE,					/* *n bytes; reading: 0 is the connection's orderly end */
	IO_BLOCKED,
	IO_FAILED					/* the connection's error says why */
} IoResult;

/* An idle one for this origin, now the transfer's; NULL: none. */
extern Connection *connection_take(Upstream *upstream, Transfer *transfer, int64_t now_us);
/* Begins to open one for it; NULL: no memory, or the origin is malformed. */
extern Connection *connection_open(Upstream *upstream, Transfer *transfer, int64_t timeout_ms);
/* libcurl has connected it.  False: it cannot be watched. */
extern bool connection_opened(Connection *connection, int64_t now_us);
/* Keeps what a code of libcurl's means, unless libcurl has said more. */
extern void connection_note(Connection *connection, CURLcode code);
extern IoResult connection_send(Connection *connection, Str bytes, size_t *n);
extern IoResult connection_recv(Connection *connection, char *p, size_t size, size_t *n);
extern bool connection_watch_writes(Connection *connection, bool writes);	/* besides reads */
extern void connection_keep(Connection *connection, int64_t now_us);	/* its exchange is over: idle, or closed where it cannot be */
extern void connection_close(Connection *connection);
extern void connections_close_idle(Upstream *upstream);

/* upstream_socket.c */
extern bool sockets_install(Upstream *upstream);
extern bool sockets_apply(Connection *connection);	/* the easy handle's socket callbacks */
extern void sockets_forget(Upstream *upstream, int fd);	/* libcurl needs it no longer */
extern void sockets_free(Upstream *upstream);	/* after curl_multi_cleanup */

/* upstream_request.c */
extern bool request_apply_policy(CURL *easy, const UpstreamOptions *options, int64_t connect_timeout_ms);
/* Why this call must not be sent as it stands (a constant text); NULL: it may. */
extern const char *request_refusal(const UpstreamCall *call);
/* The value of Host for this origin, malloc'd; NULL: no memory, or the origin is malformed. */
extern char *request_host(const char *origin);
/* Its bytes in transfer->out and ->rest.  False: no memory. */
extern bool request_write(Transfer *transfer, const char *host);

#endif
