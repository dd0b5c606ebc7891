/*
 * upstream_request.c - the security policy of every connection, and an UpstreamCall as bytes.
 *
 * Owns what libcurl is told (request_apply_policy() is the whole security posture on one screen)
 * and the spelling of a request: HTTP/1.1, the caller's target and headers byte for byte, framing
 * ours.  Called by upstream.c and upstream_connection.c only.  It must never let a caller's bytes
 * decide framing or add a header line, and never copy a large body.
 */
#include "upstream_internal.h"

#include <stdio.h>
#include <stdlib.h>

#define DNS_CACHE_SECONDS 60L
#define CA_CACHE_SECONDS 300L		/* a replaced CA file is noticed within this */

/* Head and body up to this size are one write: one TLS record, and usually one packet. */
#define ONE_WRITE 16384

bool
request_apply_policy(CURL *easy, const UpstreamOptions *options, int64_t connect_timeout_ms)
{
	bool		ok = true;

#define POLICY(option, value) (ok &= curl_easy_setopt(easy, option, value) == CURLE_OK)
	/* whom we talk to */
	POLICY(CURLOPT_SSL_VERIFYPEER, 1L);
	POLICY(CURLOPT_SSL_VERIFYHOST, 2L);
	POLICY(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	POLICY(CURLOPT_CAPATH, NULL);	/* one file of authorities; with a directory beside it libcurl parses it per connection */
	POLICY(CURLOPT_CA_CACHE_TIMEOUT, CA_CACHE_SECONDS);
	if (options->ca_file != NULL && options->ca_file[0] != '\0')
		POLICY(CURLOPT_CAINFO, options->ca_file);
	POLICY(CURLOPT_PROTOCOLS_STR, "http,https");
	POLICY(CURLOPT_PROXY, "");	/* "" and not NULL: NULL would heed http_proxy in the environment */
	POLICY(CURLOPT_NOPROXY, "*");
	POLICY(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	POLICY(CURLOPT_DNS_CACHE_TIMEOUT, DNS_CACHE_SECONDS);
	/* a connection and nothing on it: no request, redirect, cookie, netrc or user agent of libcurl's; HTTP/1.1 by ALPN */
	POLICY(CURLOPT_CONNECT_ONLY, 1L);
	POLICY(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	POLICY(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	POLICY(CURLOPT_TCP_NODELAY, 1L);
	POLICY(CURLOPT_BUFFERSIZE, 16384L);	/* the most that curl_easy_recv() gives: a TLS record; held while it connects */
	POLICY(CURLOPT_CONNECTTIMEOUT_MS, (long) connect_timeout_ms);
	/* how it behaves in this process: no signals, no waiting for a hung resolver, no output */
	POLICY(CURLOPT_NOSIGNAL, 1L);
	POLICY(CURLOPT_QUICK_EXIT, 1L);
	POLICY(CURLOPT_VERBOSE, 0L);
	POLICY(CURLOPT_NOPROGRESS, 1L);
#undef POLICY
	return ok;
}

/* Framing and connection are ours: a second opinion in a header would be request smuggling. */
static bool
is_framing(Str name)
{
	switch (http_name(name))
	{
		case HTTP_CONNECTION:
		case HTTP_CONTENT_LENGTH:
		case HTTP_EXPECT:
		case HTTP_HOST:
		case HTTP_KEEP_ALIVE:
		case HTTP_PROXY_CONNECTION:
		case HTTP_TE:
		case HTTP_TRAILER:
		case HTTP_TRANSFER_ENCODING:
		case HTTP_UPGRADE:
			return true;
		default:
			return false;
	}
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
	if (memchr(call->origin.p, '\0', call->origin.n) != NULL)
		return "the origin is malformed";
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

/* As libcurl itself would spell it: the port only where it is not the scheme's own. */
char *
request_host(const char *origin)
{
	CURLU	   *url = curl_url();
	char	   *host = NULL;
	char	   *port = NULL;
	char	   *value = NULL;
	size_t		size;

	if (url != NULL && curl_url_set(url, CURLUPART_URL, origin, CURLU_DISALLOW_USER) == CURLUE_OK
		&& curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK)
	{
		/* CURLUE_NO_PORT, in effect, leaves NULL */
		if (curl_url_get(url, CURLUPART_PORT, &port, CURLU_NO_DEFAULT_PORT) != CURLUE_OK)
			port = NULL;
		size = strlen(host) + (port != NULL ? strlen(port) : 0) + 2;
		value = malloc(size);
		if (value != NULL)
			snprintf(value, size, "%s%s%s", host, port != NULL ? ":" : "", port != NULL ? port : "");
	}
	curl_free(host);
	curl_free(port);
	curl_url_cleanup(url);
	return value;
}

/* A method whose meaning includes content says so even when there is none (RFC 9110 8.6). */
static bool
has_length(const UpstreamCall *call)
{
	if (str_is(call->method, "HEAD"))
		return call->body.n > 0;
	return call->body.p != NULL || str_is(call->method, "POST") || str_is(call->method, "PUT")
		|| str_is(call->method, "PATCH");
}

static char *
put_header(char *to, Str name, Str value)
{
	to = str_put(str_put(to, name), STR_LIT(":"));
	if (value.n > 0)
		to = str_put(str_put(to, STR_LIT(" ")), value);
	return str_put(to, STR_LIT("\r\n"));
}

/* At least as long as the head becomes; 64: " HTTP/1.1", "Host: ", "Content-Length: " and a number, line ends. */
static size_t
head_size(const UpstreamCall *call, Str host)
{
	size_t		size = call->method.n + call->target.n + host.n + 64;

	for (int i = 0; i < call->nheaders; i++)
		size += call->headers[i].name.n + call->headers[i].value.n + 4;
	return size;
}

static char *
put_head(char *to, const UpstreamCall *call, Str host)
{
	to = str_put(str_put(to, call->method), STR_LIT(" "));
	to = str_put(str_put(to, call->target), STR_LIT(" HTTP/1.1\r\n"));
	to = put_header(to, STR_LIT("Host"), host);
	for (int i = 0; i < call->nheaders; i++)
		to = put_header(to, call->headers[i].name, call->headers[i].value);
	if (has_length(call))
	{
		to = str_put(to, STR_LIT("Content-Length: "));
		to = str_put(str_put_number(to, call->body.n), STR_LIT("\r\n"));
	}
	return str_put(to, STR_LIT("\r\n"));
}

bool
request_write(Transfer *transfer, const char *host_cstr)
{
	UpstreamCall *call = transfer->call;
	Str			host = str_of(host_cstr);
	Str			body = call->body;
	size_t		size = head_size(call, host);
	size_t		first = size < ONE_WRITE ? ONE_WRITE - size : 0;
	char	   *p;
	char	   *to;

	if (first > body.n)
		first = body.n;
	p = arena_alloc(call->arena, size + first);
	if (p == NULL)
		return false;
	to = put_head(p, call, host);
	to = str_put(to, (Str) {body.p, first});
	transfer->out = (Str) {p, (size_t) (to - p)};
	transfer->rest = (Str) {first < body.n ? body.p + first : NULL, body.n - first};
	return true;
}
