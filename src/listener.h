/*
 * listener.h - libmicrohttpd <-> Request/Response.  Knows no Postgres tables, no provider, no sync.
 *
 * Pure C (no postgres.h), driven by the reactor.  It accepts (SO_REUSEPORT, so that workers
 * share a port), lets every request head through the strict filter of http_head.h before
 * libmicrohttpd sees a byte of it, collects the body, hands a whole Request over, and sends the
 * Response that it is given some time later.  Its own errors (400, 413, 431, 503 when full) go
 * out through the same error writer as everybody's (listener callbacks), so that each is JSON with Sequin-Error.
 * Deadlines: whole head, whole body, idle keep-alive, response to a slow reader; all are ours.
 */
#ifndef SEQUIN_LISTENER_H
#define SEQUIN_LISTENER_H

#include "http_head.h"
#include "reactor.h"

typedef struct Listener Listener;
typedef struct Request Request;

typedef struct ListenerOptions	/* may be changed at any time; applies to what starts later */
{
	const char *addresses;		/* as PostgreSQL's listen_addresses: "localhost", "*", "127.0.0.1, ::1", "" (none) */
	int			port;

	/*
	 * Refuse an address that anybody listens on already.  For the first of a cluster's workers:
	 * SO_REUSEPORT would let a second cluster of the same user share the port, and half of the
	 * requests would go to each.
	 */
	bool		exclusive;
	int			max_connections;	/* of this worker */
	size_t		max_head;			/* bytes; 431 over it */
	size_t		max_body;			/* bytes; 413 over it */
	int64_t		head_timeout_ms;	/* accept or first byte to end of head */
	int64_t		body_timeout_ms;	/* end of head to end of body */
	int64_t		idle_timeout_ms;	/* keep-alive */
	int64_t		write_timeout_ms;	/* from the response's start to its last byte taken */
	const char *tls_cert_file;	/* NULL or "": plain HTTP */
	const char *tls_key_file;
} ListenerOptions;

/*
 * Room of a connection for what its handler need not find out anew for each request.  Zeroed when the connection
 * begins and when it ends, since it may hold a secret that the client sent.
 */
#define REQUEST_KEPT 96

/* A whole request.  Lives until its response has gone out (or its client); then request_done is called, once. */
struct Request
{
	Arena	   *arena;			/* everything of this exchange may live here */
	HttpHead	head;
	Str			body;			/* whole; p != NULL when the request had a body */
	bool		peer_loopback;
	char		id[33];			/* Sequin-Request-Id: 32 hex digits */
	int64_t		received_at_us;	/* monotonic: head complete */
	bool		client_gone;	/* the client left; respond() is a no-op then */
	bool		client_closed;	/* it sends nothing more: it has left, or only waits for its answer */
	void	   *cls;			/* the handler's own */
	unsigned char *kept;		/* REQUEST_KEPT bytes of its connection; NULL: that has gone */
	void	   *internal;		/* listener.c's */
};

typedef struct Response
{
	int			status;
	HttpHeader *headers;		/* in the request's arena; no framing headers */
	int			nheaders;
	char	   *body;			/* malloc'd: the listener frees it; NULL when empty */
	size_t		body_len;
	bool		has_declared_length;	/* answer to HEAD: the Content-Length that the API declared */
	uint64_t	declared_length;
	bool		close;			/* close the connection after it */
} Response;

typedef struct ListenerHandler
{
	void	   *cls;

	/*
	 * The head is complete and well-formed, the body (if any) is still to come.  Return true to
	 * go on; or false after filling *refusal (answered without reading the body; then the
	 * connection closes if a body was announced).  Must not call PostgreSQL.
	 */
	bool		(*on_head) (void *cls, Request *request, Response *refusal);
	/* The request is whole.  Called from dispatch; answer later with listener_respond.  Must not call PostgreSQL. */
	void		(*on_request) (void *cls, Request *request);
	/* The client left before its answer. request_done follows only after listener_respond or listener_abandon. */
	void		(*on_client_gone) (void *cls, Request *request);
	/* client_closed came true after on_request.  May be NULL.  The request goes on, to its response. */
	void		(*on_client_closed) (void *cls, Request *request);
	/* The response is out, or failed: the request and its arena go away after this returns. */
	void		(*on_done) (void *cls, Request *request);
	/*
	 * Fill a proxy error: code e.g. "bad_request".  Used for what the listener itself refuses;
	 * request_id is always set, arena never NULL.
	 */
	void		(*make_error) (void *cls, Arena *arena, const char *request_id, int status, const char *code,
							   const char *message, const char *hint, Response *response);
	/* One line for the log, without secrets.  level: 0 debug, 1 log, 2 warning. */
	void		(*log) (void *cls, int level, const char *message);
} ListenerHandler;

typedef struct ListenerStats
{
	int			connections;	/* open now */
	uint64_t	accepted;
	uint64_t	refused;		/* over max_connections */
	uint64_t	bad_heads;
} ListenerStats;

extern Listener *listener_create(Reactor *reactor, const ListenerHandler *handler, const ListenerOptions *options);

/*
 * Binds to the options' addresses.  Can be called again after listener_set_options with another
 * address or port: binds the new ones, then closes those no longer wanted; open connections stay.
 * False: not even one address could be bound; error says why; the caller retries later.  True
 * with a non-empty error: some could, and error names one that could not.
 */
extern bool listener_bind(Listener *listener, char *error, size_t error_size);
extern void listener_set_options(Listener *listener, const ListenerOptions *options);
extern void listener_respond(Listener *listener, Request *request, Response *response);
/* After a batch of listener_respond: lets libmicrohttpd write (one MHD_run).  Call once per loop turn. */
extern void listener_flush(Listener *listener);
/* Milliseconds until libmicrohttpd itself wants to run; -1: never. */
extern int	listener_timeout_ms(Listener *listener);
extern void listener_stop_accepting(Listener *listener);	/* shutdown, step 1: closes the listening sockets and idle connections */
extern int	listener_busy(const Listener *listener);		/* requests not yet fully answered */
extern void listener_stats(const Listener *listener, ListenerStats *stats);
/* Shutdown, last step: cuts what is left; never aborts, even with unanswered requests. */
extern void listener_destroy(Listener *listener);

#endif
