/*
 * header_policy.c - which headers cross the proxy (see header_policy.h).
 *
 * Owns the lists of hop-by-hop and of the proxy's own headers.  Called once per direction of an
 * exchange; the results point at the input's bytes.  Must never change a name, a value or the
 * order of what passes, and never add a header.
 */
#include "header_policy.h"

static const Str hop_by_hop[] = {
	STR_LIT("Connection"), STR_LIT("Keep-Alive"), STR_LIT("Proxy-Connection"), STR_LIT("Proxy-Authenticate"),
	STR_LIT("Proxy-Authorization"), STR_LIT("TE"), STR_LIT("Trailer"), STR_LIT("Transfer-Encoding"), STR_LIT("Upgrade"),
	STR_NULL
};

static const Str request_framing[] = {
	STR_LIT("Host"), STR_LIT("Content-Length"), STR_LIT("Expect"), STR_LIT("Sequin-Key"), STR_NULL
};

static bool
is_one_of(Str name, const Str *names)
{
	for (; names->p != NULL; names++)
		if (name.n == names->n && str_ieq(name, *names))
			return true;
	return false;
}

/* Is name an element of this Connection header's value? */
static bool
list_names(Str list, Str name)
{
	size_t		start = 0;

	for (size_t i = 0; i <= list.n; i++)
	{
		Str			element = {list.p + start, i - start};

		if (i < list.n && list.p[i] != ',')
			continue;
		while (element.n > 0 && (element.p[0] == ' ' || element.p[0] == '\t'))
			element.p++, element.n--;
		while (element.n > 0 && (element.p[element.n - 1] == ' ' || element.p[element.n - 1] == '\t'))
			element.n--;
		if (element.n > 0 && str_ieq(element, name))
			return true;
		start = i + 1;
	}
	return false;
}

static bool
connection_names(const HttpHeader *headers, int nheaders, Str name)
{
	for (int i = 0; i < nheaders; i++)
		if (str_iis(headers[i].name, "Connection") && list_names(headers[i].value, name))
			return true;
	return false;
}

static bool
is_hop_by_hop(const HttpHeader *headers, int nheaders, Str name)
{
	return is_one_of(name, hop_by_hop) || connection_names(headers, nheaders, name);
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
	HttpHeader *kept = room_for(arena, head->nheaders);
	bool		has_own = http_head_get(head, "Authorization").p != NULL;
	int			n = 0;

	if (kept == NULL)
		return -1;
	for (int i = 0; i < head->nheaders; i++)
	{
		Str			name = head->headers[i].name;

		if (authorization.p != NULL && str_iis(name, has_own ? "Authorization" : "Sequin-Key"))
		{
			kept[n++] = (HttpHeader) {has_own ? name : STR_LIT("Authorization"), authorization};
			continue;
		}
		if (is_one_of(name, request_framing) || is_hop_by_hop(head->headers, head->nheaders, name))
			continue;
		if (strip_accept_encoding && str_iis(name, "Accept-Encoding"))
			continue;
		kept[n++] = head->headers[i];
	}
	*out = kept;
	return n;
}

int
headers_down(Arena *arena, const HttpHeader *in, int nin, HttpHeader **out)
{
	HttpHeader *kept = room_for(arena, nin);
	int			n = 0;

	if (kept == NULL)
		return -1;
	for (int i = 0; i < nin; i++)
	{
		Str			name = in[i].name;

		if (str_iis(name, "Content-Length") || is_hop_by_hop(in, nin, name))
			continue;
		if (name.n >= 7 && str_iis((Str) {name.p, 7}, "Sequin-"))
			continue;
		kept[n++] = in[i];
	}
	*out = kept;
	return n;
}
