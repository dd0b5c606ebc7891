/*
 * http_head.c - the request filter: a strict parse of an HTTP/1.x request head (see http_head.h).
 *
 * Owns the decision which heads are unambiguous enough to be served at all.  The listener calls
 * it on bytes that it only peeked at, so a parse has no state between calls.  It copies the head
 * into the arena once, before anything points into it; it must never touch PostgreSQL, and it
 * must never "repair" a head: what two programs could read differently is refused.
 */
#include "http_head.h"

#define INITIAL_HEADERS 16

typedef struct KnownName
{
	Str			text;
	HttpName	name;
} KnownName;

#define MAX_NAME 19
#define SAME_LENGTH 3

/* By length: most names have one of their own. */
static const KnownName known_names[MAX_NAME + 1][SAME_LENGTH] = {
	[2] = {{STR_LIT("TE"), HTTP_TE}},
	[4] = {{STR_LIT("Host"), HTTP_HOST}},
	[6] = {{STR_LIT("Expect"), HTTP_EXPECT}},
	[7] = {{STR_LIT("Trailer"), HTTP_TRAILER}, {STR_LIT("Upgrade"), HTTP_UPGRADE}},
	[10] = {{STR_LIT("Connection"), HTTP_CONNECTION}, {STR_LIT("Keep-Alive"), HTTP_KEEP_ALIVE},
			{STR_LIT("Sequin-Key"), HTTP_SEQUIN_KEY}},
	[12] = {{STR_LIT("Content-Type"), HTTP_CONTENT_TYPE}},
	[13] = {{STR_LIT("Authorization"), HTTP_AUTHORIZATION}},
	[14] = {{STR_LIT("Content-Length"), HTTP_CONTENT_LENGTH}},
	[15] = {{STR_LIT("Accept-Encoding"), HTTP_ACCEPT_ENCODING}},
	[16] = {{STR_LIT("Proxy-Connection"), HTTP_PROXY_CONNECTION}},
	[17] = {{STR_LIT("Transfer-Encoding"), HTTP_TRANSFER_ENCODING}},
	[18] = {{STR_LIT("Proxy-Authenticate"), HTTP_PROXY_AUTHENTICATE}},
	[19] = {{STR_LIT("Proxy-Authorization"), HTTP_PROXY_AUTHORIZATION}},
};

/* Headers of which one request may carry only one: a second is where two readers part ways. */
#define UNIQUE_NAMES \
	(1u << HTTP_HOST | 1u << HTTP_CONTENT_LENGTH | 1u << HTTP_TRANSFER_ENCODING | 1u << HTTP_AUTHORIZATION | \
	 1u << HTTP_CONTENT_TYPE | 1u << HTTP_SEQUIN_KEY)

typedef struct Parser
{
	Arena	   *arena;
	HttpHead   *head;
	const char **error;
	int			capacity;		/* of head->headers */
	unsigned	seen;			/* bit per HttpName */
	bool		keep_alive;
} Parser;

/* Letters, digits and !#$%&'*+-.^_`|~ : RFC 9110 5.6.2. */
static const uint8_t token_chars[256] = {
	['0' ... '9'] = 1,['A' ... 'Z'] = 1,['a' ... 'z'] = 1,
	['!'] = 1,['#'] = 1,['$'] = 1,['%'] = 1,['&'] = 1,['\''] = 1,['*'] = 1,['+'] = 1,['-'] = 1,['.'] = 1,
	['^'] = 1,['_'] = 1,['`'] = 1,['|'] = 1,['~'] = 1
};

bool
http_is_token(Str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!token_chars[(unsigned char) s.p[i]])
			return false;
	return s.n > 0;
}

/* Eight bytes of which none can be a control character: none below 0x20, and no 0x7f. */
static inline bool
all_plain(const char *p)
{
	const uint64_t ones = 0x0101010101010101ULL;
	uint64_t	w,
				del;

	memcpy(&w, p, 8);
	del = w ^ (ones * 0x7f);
	return (((w - ones * 0x20) | (del - ones)) & (ones * 0x80)) == 0;
}

/* No control character at all. */
static bool
is_plain(const char *p, size_t n)
{
	if (n < 8)
	{
		for (size_t i = 0; i < n; i++)
			if ((unsigned char) p[i] < 0x20 || p[i] == 0x7f)
				return false;
		return true;
	}
	for (size_t i = 0; i + 8 < n; i += 8)
		if (!all_plain(p + i))
			return false;
	return all_plain(p + n - 8);	/* the last eight, of which some may have been seen already */
}

bool
http_is_value(Str s)
{
	if (is_plain(s.p, s.n))
		return true;
	for (size_t i = 0; i < s.n; i++)
	{
		unsigned char c = (unsigned char) s.p[i];

		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return false;
	}
	return true;
}

Str
http_head_get(const HttpHead *head, const char *name)
{
	for (int i = 0; i < head->nheaders; i++)
		if (str_iis(head->headers[i].name, name))
			return head->headers[i].value;
	return STR_NULL;
}

static HeadResult
bad(Parser *parser, const char *error)
{
	*parser->error = error;
	return HEAD_BAD;
}

Str
http_trim(Str s)
{
	while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t'))
		s.p++, s.n--;
	while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

bool
http_list_next(Str *list, Str *element)
{
	while (list->n > 0)
	{
		const char *comma = memchr(list->p, ',', list->n);
		size_t		n = comma != NULL ? (size_t) (comma - list->p) : list->n;

		*element = http_trim((Str) {list->p, n});
		n += comma != NULL;
		*list = (Str) {list->p + n, list->n - n};
		if (element->n > 0)
			return true;
	}
	return false;
}

static void
connection_options(Parser *parser, Str list)
{
	Str			option;

	while (http_list_next(&list, &option))
	{
		if (str_iis(option, "close"))
			parser->head->close = true;
		else if (str_iis(option, "keep-alive"))
			parser->keep_alive = true;
	}
}

static HeadResult
parse_length(Parser *parser, Str value)
{
	uint64_t	length = 0;

	if (value.n == 0 || value.n > 18)	/* 18 digits cannot overflow, and are over every limit */
		return bad(parser, "Content-Length is not a plain number");
	for (size_t i = 0; i < value.n; i++)
	{
		if (value.p[i] < '0' || value.p[i] > '9')
			return bad(parser, "Content-Length is not a plain number");
		length = length * 10 + (uint64_t) (value.p[i] - '0');
	}
	parser->head->has_length = true;
	parser->head->length = length;
	return HEAD_OK;
}

HttpName
http_name(Str name)
{
	const KnownName *known;

	if (name.n > MAX_NAME)
		return HTTP_OTHER;
	known = known_names[name.n];
	for (int i = 0; i < SAME_LENGTH && known[i].name != HTTP_OTHER; i++)
		/* the first letter, in either case, tells nearly always */
		if ((name.p[0] | 0x20) == (known[i].text.p[0] | 0x20) && str_ieq(name, known[i].text))
			return known[i].name;
	return HTTP_OTHER;
}

static HeadResult
check_unique(Parser *parser, HttpName name, Str text)
{
	unsigned	bit = 1u << name;
	const char *error;

	if ((parser->seen & bit & UNIQUE_NAMES) == 0)
	{
		parser->seen |= bit;
		return HEAD_OK;
	}
	for (int i = 0; i < SAME_LENGTH; i++)
		if (known_names[text.n][i].name == name)
			text = known_names[text.n][i].text;		/* as it is properly spelled */
	error = arena_printf(parser->arena, "more than one %.*s header", STR_FMT(text));
	return error ? bad(parser, error) : HEAD_NOMEM;
}

/* What a header means for this hop. */
static HeadResult
apply_header(Parser *parser, HttpName name, HttpHeader header)
{
	HttpHead   *head = parser->head;
	HeadResult	result = check_unique(parser, name, header.name);

	if (result != HEAD_OK)
		return result;
	switch (name)
	{
		case HTTP_CONTENT_LENGTH:
			return parse_length(parser, header.value);
		case HTTP_TRANSFER_ENCODING:
			if (!str_iis(header.value, "chunked"))
				return bad(parser, "Transfer-Encoding is not exactly chunked");
			head->chunked = true;
			break;
		case HTTP_CONNECTION:
			connection_options(parser, header.value);
			break;
		case HTTP_EXPECT:
			head->expect_continue = head->expect_continue || str_iis(header.value, "100-continue");
			break;
		default:
			break;
	}
	return HEAD_OK;
}

static HeadResult
push_header(Parser *parser, HttpName name, HttpHeader header)
{
	HttpHead   *head = parser->head;

	if (head->nheaders == HTTP_MAX_HEADERS)
		return HEAD_TOO_LARGE;
	if (head->nheaders == parser->capacity)
	{
		int			capacity = parser->capacity ? parser->capacity * 2 : INITIAL_HEADERS;
		HttpHeader *grown = arena_alloc(parser->arena, sizeof(HttpHeader) * (size_t) capacity);

		if (grown == NULL)
			return HEAD_NOMEM;
		if (head->nheaders > 0)
			memcpy(grown, head->headers, sizeof(HttpHeader) * (size_t) head->nheaders);
		head->headers = grown;
		parser->capacity = capacity;
	}
	head->headers[head->nheaders++] = header;
	return apply_header(parser, name, header);
}

static HeadResult
parse_header_line(Parser *parser, Str line)
{
	const char *colon = memchr(line.p, ':', line.n);
	HttpHeader	header;
	HttpName	name;

	if (line.p[0] == ' ' || line.p[0] == '\t')
		return bad(parser, "a folded header line");
	if (colon == NULL)
		return bad(parser, "a header line without a colon");
	header.name = (Str) {line.p, (size_t) (colon - line.p)};
	name = http_name(header.name);
	if (name == HTTP_OTHER && !http_is_token(header.name))
		return bad(parser, "a header name that is not a token");
	/* find_end let no control character but TAB into the head, so this is an http_is_value */
	header.value = http_trim((Str) {colon + 1, line.n - header.name.n - 1});
	return push_header(parser, name, header);
}

static HeadResult
parse_version(Parser *parser, Str version)
{
	if (str_is(version, "HTTP/1.1"))
		parser->head->minor_version = 1;
	else if (str_is(version, "HTTP/1.0"))
		parser->head->minor_version = 0;
	else
		return bad(parser, "an HTTP version other than 1.0 and 1.1");
	return HEAD_OK;
}

/* method SP origin-form SP version, with exactly those two spaces. */
static HeadResult
parse_request_line(Parser *parser, Str line)
{
	HttpHead   *head = parser->head;
	const char *end = line.p + line.n;
	const char *first = memchr(line.p, ' ', line.n);
	const char *second = first ? memchr(first + 1, ' ', (size_t) (end - first - 1)) : NULL;

	if (second == NULL)
		return bad(parser, "a request line that is not \"METHOD /target HTTP/1.1\"");
	head->method = (Str) {line.p, (size_t) (first - line.p)};
	head->target = (Str) {first + 1, (size_t) (second - first - 1)};
	if (!http_is_token(head->method))
		return bad(parser, "a method that is not a token");
	if (head->target.n == 0 || head->target.p[0] != '/')
		return bad(parser, "a request target that does not begin with a slash");
	/* a space would have ended it, and find_end let no other control character into the head */
	if (memchr(head->target.p, '\t', head->target.n) != NULL)
		return bad(parser, "a control character in the request target");
	return parse_version(parser, (Str) {second + 1, (size_t) (end - second - 1)});
}

static HeadResult
check_framing(Parser *parser)
{
	HttpHead   *head = parser->head;

	if (head->has_length && head->chunked)
		return bad(parser, "Content-Length beside Transfer-Encoding");
	if (head->chunked && head->minor_version == 0)
		return bad(parser, "Transfer-Encoding in HTTP/1.0");
	if (head->minor_version == 1 && (parser->seen & 1u << HTTP_HOST) == 0)
		return bad(parser, "no Host header");
	if (head->minor_version == 0 && !parser->keep_alive)
		head->close = true;
	return HEAD_OK;
}

/* The size of the whole lines at p, without an empty one, that find_end need not look at byte by byte. */
static size_t
plain_lines(const char *p, size_t n)
{
	size_t		start = 0;
	const char *cr;

	while ((cr = memchr(p + start, '\r', n - start)) != NULL)
	{
		size_t		end = (size_t) (cr - p);

		if (end == start || end + 1 == n || p[end + 1] != '\n' || !is_plain(p + start, end - start))
			break;
		start = end + 2;
	}
	return start;
}

/*
 * Looks for the end of the head without copying: HEAD_OK sets *size.  A bare LF, a CR not before
 * LF, or another control character is refused as soon as it is seen, so that garbage (a TLS
 * hello, say) gets its answer at once and not at a deadline.
 */
static HeadResult
find_end(Str bytes, size_t limit, size_t *size, const char **error)
{
	size_t		n = bytes.n < limit ? bytes.n : limit;
	size_t		line_start = plain_lines(bytes.p, n);

	for (size_t i = line_start; i < n; i++)
	{
		unsigned char c;

		while (n - i >= 8 && all_plain(bytes.p + i))
			i += 8;
		if (i == n)
			break;
		c = (unsigned char) bytes.p[i];
		if (c >= 0x20 ? c != 0x7f : c == '\t')
			continue;
		if (c == '\r' && i + 1 == bytes.n)
			return HEAD_INCOMPLETE;
		if (c != '\r' || bytes.p[i + 1] != '\n')
		{
			*error = c == '\n' ? "a line that ends in LF alone" : "a control character in the head";
			return HEAD_BAD;
		}
		if (i == line_start)	/* the empty line; the first line may not be it */
		{
			*size = i + 2;
			return *size <= limit ? HEAD_OK : HEAD_TOO_LARGE;
		}
		i++;
		line_start = i + 1;
	}
	return bytes.n > limit ? HEAD_TOO_LARGE : HEAD_INCOMPLETE;
}

static HeadResult
parse_lines(Parser *parser, Str rest)
{
	bool		first = true;

	for (;;)
	{
		const char *cr = memchr(rest.p, '\r', rest.n);
		Str			line = {rest.p, (size_t) (cr - rest.p)};
		HeadResult	result;

		if (line.n == 0)
			return first ? bad(parser, "an empty request line") : check_framing(parser);
		result = first ? parse_request_line(parser, line) : parse_header_line(parser, line);
		if (result != HEAD_OK)
			return result;
		first = false;
		rest.p += line.n + 2;
		rest.n -= line.n + 2;
	}
}

HeadResult
http_head_parse(Arena *arena, Str bytes, size_t limit, HttpHead *head, size_t *size, const char **error)
{
	Parser		parser = {.arena = arena, .head = head, .error = error};
	HeadResult	result = find_end(bytes, limit, size, error);
	Str			copy;

	memset(head, 0, sizeof(*head));
	if (result != HEAD_OK)
		return result;
	copy = arena_str(arena, bytes.p, *size);
	if (copy.p == NULL)
		return HEAD_NOMEM;
	return parse_lines(&parser, copy);
}
