/*
 * header_policy.c - which headers cross the proxy (see header_policy.h).
 *
 * Owns the lists of hop-by-hop and of the proxy's own headers.  Called once per direction of an
 * exchange; the results point at the input's bytes.  Must never change a name, a value or the
 * order of what passes, and never add a header.
 */
#include "header_policy.h"

/* RFC 9110 7.6.1, and what everybody treats as such. */
static bool
is_hop_by_hop(HttpName name)
{
	switch (name)
	{
		case HTTP_CONNECTION:
		case HTTP_KEEP_ALIVE:
		case HTTP_PROXY_CONNECTION:
		case HTTP_PROXY_AUTHENTICATE:
		case HTTP_PROXY_AUTHORIZATION:
		case HTTP_TE:
		case HTTP_TRAILER:
		case HTTP_TRANSFER_ENCODING:
		case HTTP_UPGRADE:
			return true;
		default:
			return false;
	}
}

/* Of this hop alone, or ours, in a request. */
static bool
ends_here(HttpName name)
{
	return is_hop_by_hop(name) || name == HTTP_HOST || name == HTTP_CONTENT_LENGTH || name == HTTP_EXPECT ||
		name == HTTP_SEQUIN_KEY;
}

/* Is name an element of this Connection header's value? */
static bool
list_names(Str list, Str name)
{
	Str			element;

	while (http_list_next(&list, &element))
		if (str_ieq(element, name))
			return true;
	return false;
}

/*
 * Each header's name, looked up once, and whether a Connection header may name others (keep-alive, which most of them
 * say, is no end-to-end header anyway); NULL: out of memory.
 */
static uint8_t *
look_up_names(Arena *arena, const HttpHeader *headers, int nheaders, bool *connection)
{
	uint8_t    *names = arena_alloc(arena, (size_t) nheaders + 1);

	*connection = false;
	for (int i = 0; names != NULL && i < nheaders; i++)
	{
		names[i] = (uint8_t) http_name(headers[i].name);
		*connection |= names[i] == HTTP_CONNECTION && !str_iis(headers[i].value, "keep-alive");
	}
	return names;
}

/* Does a Connection header name it? */
static bool
connection_names(const HttpHeader *headers, const uint8_t *names, int nheaders, Str name)
{
	for (int i = 0; i < nheaders; i++)
		if (names[i] == HTTP_CONNECTION && list_names(headers[i].value, name))
			return true;
	return false;
}

static HttpHeader *
room_for(Arena *arena, int nheaders)
{
	return arena_alloc(arena, sizeof(HttpHeader) * (size_t) (nheaders > 0 ? nheaders : 1));
}

int
headers_up(Arena *arena, const HttpHead *head, Str authorization, bool strip_accept_encoding,
		   HttpHeader **out)
{
	const HttpHeader *in = head->headers;
	bool		connection;
	uint8_t    *names = look_up_names(arena, in, head->nheaders, &connection);
	HttpHeader *kept = room_for(arena, head->nheaders);
	HttpName	bearer = http_head_get(head, "Authorization").p != NULL ? HTTP_AUTHORIZATION : HTTP_SEQUIN_KEY;
	int			n = 0;

	if (names == NULL || kept == NULL)
		return -1;
	for (int i = 0; i < head->nheaders; i++)
	{
		if (authorization.p != NULL && names[i] == bearer)
		{
			kept[n++] = (HttpHeader) {bearer == HTTP_AUTHORIZATION ? in[i].name : STR_LIT("Authorization"), authorization};
			continue;
		}
		if (ends_here(names[i]) || (connection && connection_names(in, names, head->nheaders, in[i].name)))
			continue;
		if (strip_accept_encoding && names[i] == HTTP_ACCEPT_ENCODING)
			continue;
		kept[n++] = in[i];
	}
	*out = kept;
	return n;
}

int
headers_down(Arena *arena, const HttpHeader *in, int nin, HttpHeader **out)
{
	bool		connection;
	uint8_t    *names = look_up_names(arena, in, nin, &connection);
	HttpHeader *kept = room_for(arena, nin);
	int			n = 0;

	if (names == NULL || kept == NULL)
		return -1;
	for (int i = 0; i < nin; i++)
	{
		if (names[i] == HTTP_CONTENT_LENGTH || is_hop_by_hop(names[i]) ||
			(connection && connection_names(in, names, nin, in[i].name)))
			continue;
		if (in[i].name.n >= 7 && str_iis((Str) {in[i].name.p, 7}, "Sequin-"))
			continue;
		kept[n++] = in[i];
	}
	*out = kept;
	return n;
}
