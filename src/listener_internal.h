/*
 * listener_internal.h - what the listener's files share; nobody else includes it.
 *
 *   listener.c          the public calls, requests' lifetimes, the turn (listener_run)
 *   listener_sockets.c  listening addresses, accept
 *   listener_gate.c     a connection's states and deadlines; heads are filtered here
 *   listener_direct.c   bodies and responses that we read and write ourselves
 *   listener_mhd.c      bodies and responses that libmicrohttpd reads and writes
 *
 * A connection belongs to the gate; libmicrohttpd borrows its socket for a plain request whose body
 * is still to come (one that it provably reads as we do, and that fits its memory), and is suspended whenever it is
 * not reading that request's bytes or writing its response.  Everything else (requests that are there as a
 * whole, chunked, Expect, cookies, HEAD, long heads, heads that came in pieces, our own errors) is served directly.
 * Nothing of the user's (on_request, on_done ...) is called inside a libmicrohttpd frame: the
 * connection is kicked, and listener_run goes on with it.
 */
#ifndef SEQUIN_LISTENER_INTERNAL_H
#define SEQUIN_LISTENER_INTERNAL_H

#include <sys/socket.h>

#include "http_chunked.h"
#include "listener.h"

struct MHD_Connection;
struct MHD_Daemon;

#define LISTENER_MAX_SOCKETS 32
#define LISTENER_SCRATCH (64 * 1024)	/* one recv's worth */

typedef enum ConnState
{
	CONN_IDLE,					/* between requests, nothing read; deadline: idle (fresh ones: head) */
	CONN_HEAD,					/* a part of a head is in conn->in; deadline: head */
	CONN_BODY,					/* we read the body; deadline: body */
	CONN_MHD_READ,				/* libmicrohttpd reads head and body; deadline: body */
	CONN_READY,					/* the request is whole, on_request is due (kicked) */
	CONN_WAIT,					/* handed over: waiting for listener_respond; no deadline */
	CONN_MHD_WRITE,				/* libmicrohttpd writes the response; deadline: write */
	CONN_WRITE,					/* we write the response; deadline: write */
	CONN_MHD_CLOSING,			/* libmicrohttpd is about to close it */
	CONN_LINGER,				/* our side is shut: drained until the client's is; deadline: linger */
	CONN_CLOSED					/* no fd any more; freed by listener_run */
} ConnState;

/* Where a head was seen, and so who has to take it out of there. */
typedef enum HeadPlace
{
	HEAD_PEEKED,				/* in the scratch buffer, and still in the socket */
	HEAD_TAKEN,					/* in the scratch buffer, out of the socket */
	HEAD_KEPT					/* in conn->in */
} HeadPlace;

typedef struct Conn Conn;

/* One request and its response.  Lives in its own arena, until on_done. */
typedef struct Inbound
{
	Request		request;		/* first: a Request is its Inbound */
	Arena	   *arena;			/* request.arena, out of the handler's reach */
	Conn	   *conn;			/* NULL: the connection has gone or is done with it */
	struct Inbound *prev;		/* in Listener.inbounds, once on_head was called */
	struct Inbound *next;
	struct Inbound *done_next;	/* in Listener.done */
	bool		announced;		/* on_head was called, so on_done will be */
	bool		handed_over;	/* on_request was called */
	bool		answered;
	bool		done;
	bool		mhd_taken;		/* libmicrohttpd has (or had) this request */
	char	   *body;			/* malloc'd request body */
	size_t		body_n;
	size_t		body_cap;
	char	   *out_body;		/* malloc'd response body, ours from listener_respond on */
	size_t		out_body_n;
} Inbound;

struct Conn
{
	Listener   *listener;
	Conn	   *prev;			/* in Listener.conns */
	Conn	   *next;
	Conn	   *kick_next;
	bool		kicked;
	bool		processing;		/* conn_process is on the stack */
	ConnState	state;
	int			fd;				/* ours or, while mhd is set, libmicrohttpd's to close */
	Watch	   *watch;
	Timer		timer;			/* rings at due_us or before */
	int64_t		due_us;			/* the present state's deadline; 0: none */
	bool		peer_loopback;
	bool		close_after;	/* close when the present response is out */
	bool		unread_body;	/* closing with request bytes still to come */
	bool		peer_closed;	/* its FIN has come */
	bool		outright;		/* its last request was there as a whole: the next is taken without a look */
	bool		readable;		/* there may be bytes in the socket: false only when the next ones will give an edge */
	Inbound    *inbound;		/* the present request */
	uint64_t	consumed;		/* request bytes that have rightly left the socket */

	char	   *in;				/* malloc'd: bytes that we took from the socket, not yet used */
	size_t		in_n;
	size_t		in_cap;
	ChunkedDecoder chunked;

	const char *out_head;		/* in the request's arena: status line and headers of a direct response */
	size_t		out_head_n;
	size_t		out_sent;		/* of head and body together */
	bool		out_no_body;	/* HEAD, 204, 304 */
	size_t		drained;		/* while lingering */

	struct MHD_Connection *mhd;
	void	  **mhd_slot;		/* libmicrohttpd's pointer back to us */
	bool		mhd_suspended;
	unsigned char kept[REQUEST_KEPT];	/* the requests' kept */
	bool		mhd_started;	/* it has called the handler for the present request */
	struct MHD_Response *mhd_response;	/* to be queued when it calls the handler again */
	int			mhd_status;
};

typedef struct ListenSocket
{
	Listener   *listener;
	int			fd;				/* -1: free */
	Watch	   *watch;
	struct sockaddr_storage address;
	socklen_t	address_n;
} ListenSocket;

struct Listener
{
	Reactor    *reactor;
	ListenerHandler handler;
	ListenerOptions options;	/* strings are our copies */
	ListenerStats stats;
	ListenSocket sockets[LISTENER_MAX_SOCKETS];
	Timer		accept_timer;	/* set: out of descriptors, accepting pauses */
	bool		stopping;
	Conn	   *conns;
	Conn	   *kicked;
	Conn	   *closed;			/* chained by kick_next */
	Inbound    *inbounds;
	Inbound    *done;
	int			ninbounds;
	Timer		run_timer;		/* set: listener_run is due */
	int			depth;			/* conn_process on the stack: nothing is freed, listener_run waits */
	struct MHD_Daemon *mhd;
	Watch	   *mhd_watch;
	bool		mhd_due;		/* MHD_run has something to do */
	Conn	   *mhd_adding;		/* the connection in MHD_add_connection */
	int			dead_fd;		/* reads as ended: what libmicrohttpd gets for a socket taken back */
	unsigned char random[1024];	/* for request ids */
	size_t		random_left;
	char		scratch[LISTENER_SCRATCH];
};

/* listener.c */
extern void listener_log(Listener *listener, int level, const char *fmt,...) __attribute__((format(printf, 3, 4)));
extern void listener_due(Listener *listener);		/* listener_run shall run in this turn */
extern Inbound *inbound_create(Conn *conn);			/* NULL: out of memory */
extern void inbound_announce(Inbound *inbound);		/* on_head is about to be called */
extern bool inbound_add(Inbound *inbound, Str piece);	/* false: out of memory */
extern bool inbound_reserve(Inbound *inbound, size_t total);
extern void inbound_finish(Inbound *inbound);		/* its connection is through with it */

/* listener_sockets.c */
extern bool sockets_bind(Listener *listener, char *error, size_t error_size);
extern void sockets_close(Listener *listener);

/* listener_gate.c */
extern Conn *conn_create(Listener *listener, int fd, bool peer_loopback);	/* NULL: fd is still the caller's */
extern void conn_process(Conn *conn);
extern void conn_kick(Conn *conn);					/* conn_process soon, outside this frame */
extern void conn_close(Conn *conn);					/* at once; the request, if any, is told */
extern void conn_linger(Conn *conn);				/* shuts our side, drains, closes */
extern void conn_deadline(Conn *conn, int64_t ms);	/* for the present state; 0: none */
extern void conn_refuse(Conn *conn, int status, const char *code, const char *message, const char *hint);
extern void conn_response_done(Conn *conn);			/* the last byte is taken; goes on or closes */
extern void conn_request_whole(Conn *conn);			/* the body is in: READY, and kicked */
extern void conn_drop_request(Conn *conn);			/* the client left */
extern bool conn_watch(Conn *conn);
extern size_t conn_peek_size(const Listener *listener);	/* bytes that are looked at for a head */
extern void conn_shift_in(Conn *conn, size_t n);	/* n bytes of conn->in are used */
extern bool conn_keep_rest(Conn *conn, Str bytes, size_t used);	/* false: out of memory */
extern bool conn_reserve_in(Conn *conn, size_t cap);
extern size_t conn_unread(const Conn *conn);		/* bytes in the socket's receive queue */

/* listener_direct.c */
extern void direct_start_body(Conn *conn);
extern void direct_take_whole(Conn *conn, Str bytes, size_t head_size, HeadPlace place);	/* head and body are in bytes */
extern void direct_read_body(Conn *conn);
extern void direct_respond(Conn *conn, const Response *response);
extern void direct_write(Conn *conn);
extern bool response_header_ok(const HttpHeader *header);	/* may go out: well-formed and no framing */

/* listener_mhd.c */
extern bool mhd_start(Listener *listener);
extern void mhd_stop(Listener *listener);
extern bool mhd_can_take(const Conn *conn, size_t head_size);
extern void mhd_take(Conn *conn, size_t head_size);
extern bool mhd_respond(Conn *conn, const Response *response);	/* false: not for libmicrohttpd; respond directly */
extern void mhd_let_go(Conn *conn);		/* it closes the socket; conn->fd is -1 */
extern bool mhd_give_back(Conn *conn);	/* conn->fd is ours alone again; false: only conn_close is left */
extern void mhd_run(Listener *listener);

#endif
