/*
 * upstream.h - connections by libcurl, HTTP/1.1 on them: an UpstreamCall in, an UpstreamResult out.  Knows no provider.
 *
 * Pure C (no postgres.h), driven by the reactor.  Guarantees: verified HTTPS; no redirects,
 * proxies, cookies or netrc; method, path, query and headers byte for byte; bounded headers and
 * body; and G8: a request whose bytes may have reached the API is never sent again.  What provably
 * was not sent is tried again once, on a fresh connection.
 * Signals are blocked around calls that may start libcurl's resolver thread.
 */
#ifndef SEQUIN_UPSTREAM_H
#define SEQUIN_UPSTREAM_H

#include "http_head.h"
#include "reactor.h"

typedef struct Upstream Upstream;
typedef struct UpstreamCall UpstreamCall;

typedef struct UpstreamOptions	/* may be changed at any time; applies to calls started later */
{
	int64_t		connect_timeout_ms;	/* DNS, TCP and TLS together */
	int64_t		timeout_ms;			/* from sending to the whole answer */
	size_t		max_body;			/* response body bytes */
	const char *ca_file;			/* NULL or "": the system's */
	int			max_kept;			/* idle connections, when it is created; 0: many */
} UpstreamOptions;

typedef enum UpstreamOutcome
{
	UPSTREAM_ANSWERED,			/* status, headers, body are whole */
	UPSTREAM_UNREACHABLE,		/* no connection: nothing was sent */
	UPSTREAM_BROKEN,			/* the connection broke, or no HTTP came back; sent says whether bytes may have reached it */
	UPSTREAM_TIMEOUT,			/* sent, and no whole answer in time */
	UPSTREAM_TOO_LARGE,			/* over max_body or header limits */
	UPSTREAM_CANCELLED			/* by upstream_cancel_all */
} UpstreamOutcome;

typedef struct UpstreamResult
{
	UpstreamOutcome outcome;
	bool		sent;			/* bytes may have reached the API */
	int			status;
	HttpHeader *headers;		/* in the call's arena, as received (names and values), final response only, no trailers */
	int			nheaders;
	char	   *body;			/* malloc'd, NUL-terminated; owned by the receiver (free); NULL when empty */
	size_t		body_len;
	char		error[256];		/* libcurl's, the system's or our words, for the message; never a header or body */
	int64_t		sent_at_us;		/* monotonic: just before the first byte was written; 0: never */
	int64_t		done_at_us;
} UpstreamResult;

/* The caller owns the call and its arena until done() has been called. */
struct UpstreamCall
{
	Arena	   *arena;
	Str			origin;			/* "https://api.hubapi.com" or "http://127.0.0.1:9000"; no trailing slash */
	Str			method;
	Str			target;			/* "/crm/v3/objects/contacts?limit=1", raw */
	HttpHeader *headers;		/* validated end-to-end headers, Authorization included */
	int			nheaders;
	Str			body;			/* STR_NULL: none; must stay valid until done */
	void		(*on_send) (UpstreamCall *call);	/* may be NULL: called once, just before the first byte */
	int64_t		seen_at_us;		/* set for on_send: when the API sees the request at the latest, as far as our side knows (monotonic):
								 * a connection that was just made has still to be taken up by it */
	void		(*done) (UpstreamCall *call, UpstreamResult *result);	/* called from the reactor's dispatch
																		 * (never from inside upstream_start) */
	void	   *cls;
	void	   *internal;		/* upstream.c's */
};

/* The first header of that name, case-insensitive; STR_NULL where absent.  result: an UpstreamResult (a HeaderFinder's cls). */
extern Str	upstream_result_header(void *result, const char *name);

extern Upstream *upstream_create(Reactor *reactor, const UpstreamOptions *options);
extern void upstream_set_options(Upstream *upstream, const UpstreamOptions *options);
/* False: could not even start (memory); done() will not be called and nothing was sent. */
extern bool upstream_start(Upstream *upstream, UpstreamCall *call);
extern void upstream_cancel_all(Upstream *upstream);	/* done(UPSTREAM_CANCELLED) for each, synchronously */
extern int	upstream_in_flight(const Upstream *upstream);
extern void upstream_destroy(Upstream *upstream);		/* cancels all first */

#endif
