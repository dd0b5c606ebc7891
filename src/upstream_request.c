/*
 * upstream_request.c - the security policy of every request, and an UpstreamCall as libcurl options.
 *
 * Owns what libcurl is told: upstream_apply_policy() is the whole security posture on one screen
 * and is applied once to each handle; request_apply() sets what differs from call to call, and
 * only that, since options cost time.  Called by upstream.c only.  It must never let a caller's
 * bytes decide framing or add a header line, and never copy a body.
 */
#include "upstream_internal.h"

/* OpenSSL writes one TLS record (at most this much) per libcurl write: see transfer_sent(). */
#define ONE_TLS_RECORD 16384L

#define DNS_CACHE_SECONDS 60L
#define CA_CACHE_SECONDS 300L		/* a replaced CA file is noticed within this */
#define IDLE_SECONDS 25L			/* below what APIs and load balancers allow (30 s and more) */
#define LIFETIME_SECONDS 600L		/* so that new certificates and addresses are noticed */

bool
upstream_apply_policy(CURL *easy)
{
	bool		ok = true;

#define POLICY(option, value) (ok &= curl_easy_setopt(easy, option, value) == CURLE_OK)
	/* whom we talk to */
	POLICY(CURLOPT_SSL_VERIFYPEER, 1L);
	POLICY(CURLOPT_SSL_VERIFYHOST, 2L);
	POLICY(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	POLICY(CURLOPT_CAPATH, NULL);	/* one file of authorities; with a directory beside it libcurl parses it per connection */
	POLICY(CURLOPT_CA_CACHE_TIMEOUT, CA_CACHE_SECONDS);
	POLICY(CURLOPT_PROTOCOLS_STR, "http,https");
	POLICY(CURLOPT_REDIR_PROTOCOLS_STR, "https");
	POLICY(CURLOPT_FOLLOWLOCATION, 0L);
	POLICY(CURLOPT_PROXY, "");	/* "" and not NULL: NULL would heed http_proxy in the environment */
	POLICY(CURLOPT_NOPROXY, "*");
	POLICY(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	POLICY(CURLOPT_DNS_CACHE_TIMEOUT, DNS_CACHE_SECONDS);
	POLICY(CURLOPT_MAXAGE_CONN, IDLE_SECONDS);
	POLICY(CURLOPT_MAXLIFETIME_CONN, LIFETIME_SECONDS);
	/* what we bring along: nothing but the call's own */
	POLICY(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	POLICY(CURLOPT_UNRESTRICTED_AUTH, 0L);
	POLICY(CURLOPT_COOKIEFILE, NULL);
	POLICY(CURLOPT_ACCEPT_ENCODING, NULL);
	POLICY(CURLOPT_USERAGENT, NULL);
	POLICY(CURLOPT_AUTOREFERER, 0L);
	/* how it is spelled: HTTP/1.1, byte for byte, both ways */
	POLICY(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	POLICY(CURLOPT_HTTP09_ALLOWED, 0L);
	POLICY(CURLOPT_PATH_AS_IS, 1L);
	POLICY(CURLOPT_HTTP_CONTENT_DECODING, 0L);
	POLICY(CURLOPT_FAILONERROR, 0L);
	POLICY(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	POLICY(CURLOPT_TCP_NODELAY, 1L);
	POLICY(CURLOPT_UPLOAD_BUFFERSIZE, ONE_TLS_RECORD);
	/* how it behaves in this process: no signals, no waiting for a hung resolver, no output */
	POLICY(CURLOPT_NOSIGNAL, 1L);
	POLICY(CURLOPT_QUICK_EXIT, 1L);
	POLICY(CURLOPT_VERBOSE, 0L);
	POLICY(CURLOPT_NOPROGRESS, 1L);
#undef POLICY
	return ok;
}

bool
request_apply_options(Transfer *transfer, const UpstreamOptions *options)
{
	CURL	   *easy = transfer->easy;
	bool		ok = true;

	/* The whole is timed by transfer->deadline; libcurl's own limit is a belt behind it. */
	ok &= curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long) options->connect_timeout_ms) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS,
						   (long) (options->connect_timeout_ms + options->timeout_ms + 1000)) == CURLE_OK;
	if (options->ca_file != NULL && options->ca_file[0] != '\0')
		ok &= curl_easy_setopt(easy, CURLOPT_CAINFO, options->ca_file) == CURLE_OK;
	return ok;
}

/* Framing and connection are libcurl's: a second opinion in a header would be request smuggling. */
static bool
is_framing(Str name)
{
	static const Str framing[] = {
		STR_LIT("Connection"), STR_LIT("Content-Length"), STR_LIT("Expect"), STR_LIT("Host"),
		STR_LIT("Keep-Alive"), STR_LIT("Proxy-Connection"), STR_LIT("TE"), STR_LIT("Trailer"),
		STR_LIT("Transfer-Encoding"), STR_LIT("Upgrade")
	};

	for (size_t i = 0; i < sizeof(framing) / sizeof(framing[0]); i++)
		if (framing[i].n == name.n && str_ieq(framing[i], name))
			return true;
	return false;
}

static bool
is_target(Str target)
{
	if (target.n == 0 || target.p[0] != '/')
		return false;
	for (size_t i = 0; i < target.n; i++)
		if ((unsigned char) target.p[i] <= 0x20 || target.p[i] == 0x7f)
			return false;
	return true;
}

const char *
request_refusal(const UpstreamCall *call)
{
	if (!str_starts(call->origin, "https://") && !str_starts(call->origin, "http://"))
		return "the origin is not an http(s) URL";
	if (call->origin.n >= sizeof(((Transfer *) NULL)->origin) || memchr(call->origin.p, '\0', call->origin.n) != NULL)
		return "the origin is too long or malformed";
	if (!http_is_token(call->method))
		return "the method is not a token";
	if (!is_target(call->target))
		return "the target is not a path without blanks and control characters";
	for (int i = 0; i < call->nheaders; i++)
	{
		if (!http_is_token(call->headers[i].name) || !http_is_value(call->headers[i].value))
			return "a header is malformed";
		if (is_framing(call->headers[i].name))
			return "a header would change the request's framing";
	}
	return NULL;
}

/* The tail of every header list: without a value these keep libcurl from adding its own. */
static char no_accept[] = "Accept:";
static char no_content_type[] = "Content-Type:";
static char no_expect[] = "Expect:";
static struct curl_slist no_defaults[3] = {
	{no_accept, &no_defaults[1]}, {no_content_type, &no_defaults[2]}, {no_expect, NULL}
};

static char *
put(char *to, Str s)
{
	if (s.n > 0)
		memcpy(to, s.p, s.n);
	return to + s.n;
}

/* "Name: value", or "Name;", which is libcurl's spelling of a header without a value. */
static char *
put_header(char *to, const HttpHeader *header)
{
	to = put(to, header->name);
	if (header->value.n > 0)
		to = put(put(to, STR_LIT(": ")), header->value);
	else
		*to++ = ';';
	*to++ = '\0';
	return to;
}

/* libcurl's list, in one piece of the arena; NULL: out of memory. */
static struct curl_slist *
header_list(UpstreamCall *call)
{
	size_t		nodes = sizeof(struct curl_slist) * (size_t) call->nheaders;
	size_t		text = 0;
	struct curl_slist *list;
	char	   *to;

	if (call->nheaders == 0)
		return no_defaults;
	for (int i = 0; i < call->nheaders; i++)
		text += call->headers[i].name.n + call->headers[i].value.n + 3;
	list = arena_alloc(call->arena, nodes + text);
	if (list == NULL)
		return NULL;
	to = (char *) list + nodes;
	for (int i = 0; i < call->nheaders; i++)
	{
		list[i].data = to;
		list[i].next = i + 1 < call->nheaders ? &list[i + 1] : no_defaults;
		to = put_header(to, &call->headers[i]);
	}
	return list;
}

/* A method whose meaning includes content says so even when there is none (RFC 9110 8.6). */
static RequestShape
request_shape(const UpstreamCall *call)
{
	if (str_is(call->method, "HEAD"))
		return call->body.n > 0 ? SHAPE_HEAD_BODY : SHAPE_HEAD;
	if (call->body.p != NULL)
		return SHAPE_BODY;
	if (str_is(call->method, "POST") || str_is(call->method, "PUT") || str_is(call->method, "PATCH"))
		return SHAPE_BODY;
	return SHAPE_PLAIN;
}

static bool
apply_body(Transfer *transfer)
{
	CURL	   *easy = transfer->easy;
	Str			body = transfer->call->body;
	bool		ok = true;

	/* the length first: libcurl must never measure the body itself */
	ok &= curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) body.n) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body.n > 0 ? body.p : "") == CURLE_OK;
	return ok;
}

static bool
apply_shape(Transfer *transfer, RequestShape shape)
{
	CURL	   *easy = transfer->easy;
	bool		body = shape == SHAPE_BODY || shape == SHAPE_HEAD_BODY;
	bool		ok = true;

	if (shape != transfer->shape)
	{
		transfer->shape = SHAPE_UNSET;	/* until all went well */
		ok &= curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L) == CURLE_OK;	/* from wherever it was */
		if (shape == SHAPE_HEAD)
			ok &= curl_easy_setopt(easy, CURLOPT_NOBODY, 1L) == CURLE_OK;
		else if (body)
			ok &= curl_easy_setopt(easy, CURLOPT_POST, 1L) == CURLE_OK;
	}
	if (body)
		ok &= apply_body(transfer);
	if (ok)
		transfer->shape = shape;
	return ok;
}

/* Sets a string option when it differs from what the handle has; remembered holds size bytes. */
static bool
apply_text(Transfer *transfer, CURLoption option, Str value, char *remembered, size_t size)
{
	char	   *text;

	if (value.n < size && str_is(value, remembered))
		return true;
	text = arena_cstr(transfer->call->arena, value);
	remembered[0] = '\0';
	if (text == NULL || curl_easy_setopt(transfer->easy, option, text) != CURLE_OK)
		return false;
	if (value.n < size)
		memcpy(remembered, text, value.n + 1);
	return true;
}

bool
request_apply(Transfer *transfer)
{
	UpstreamCall *call = transfer->call;
	CURL	   *easy = transfer->easy;
	struct curl_slist *headers = header_list(call);
	char	   *target = arena_cstr(call->arena, call->target);

	if (headers == NULL || target == NULL)
		return false;
	if (!apply_text(transfer, CURLOPT_URL, call->origin, transfer->origin, sizeof(transfer->origin)))
		return false;
	if (!apply_text(transfer, CURLOPT_CUSTOMREQUEST, call->method, transfer->method, sizeof(transfer->method)))
		return false;
	return apply_shape(transfer, request_shape(call))
		&& curl_easy_setopt(easy, CURLOPT_REQUEST_TARGET, target) == CURLE_OK
		&& curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers) == CURLE_OK;
}
