/*
 * target.c - URL policy: what a raw request target asks for (see target.h).
 *
 * Owns the grammar of the proxy's URLs.  The exchange calls target_parse once per request, the
 * providers call the decoding helpers on the pieces.  It must never normalise or decode what is
 * passed on to the API: a path goes up byte for byte, or is refused.
 */
#include "target.h"

#define DECODE_ROUNDS 4			/* how often a careless chain of servers may decode one path */

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* The byte of a %-escape at s.p[i], or -1 when there is no well-formed one. */
static int
escape_at(Str s, size_t i)
{
	int			high,
				low;

	if (i + 2 >= s.n || s.p[i] != '%')
		return -1;
	high = hex_digit(s.p[i + 1]);
	low = hex_digit(s.p[i + 2]);
	return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* Is one whole segment of path "." or ".."?  A backslash ends one, as it does for some servers. */
static bool
has_dot_segment(Str path)
{
	size_t		start = 0;

	for (size_t i = 0; i <= path.n; i++)
	{
		if (i < path.n && path.p[i] != '/' && path.p[i] != '\\')
			continue;
		if ((i - start == 1 || i - start == 2) && path.p[start] == '.' && path.p[i - 1] == '.')
			return true;
		start = i + 1;
	}
	return false;
}

/* One round of decoding in place, leaving malformed escapes alone.  False: there was nothing to decode. */
static bool
decode_round(char *p, size_t *n)
{
	Str			in = {p, *n};
	size_t		out = 0;

	for (size_t i = 0; i < in.n; i++)
	{
		int			byte = escape_at(in, i);

		p[out++] = byte >= 0 ? (char) byte : p[i];
		if (byte >= 0)
			i += 2;
	}
	*n = out;
	return out < in.n;
}

/* A dot behind a slash is rare, and without one no segment of a path without escapes is of dots. */
static bool
has_slash_dot(Str path)
{
	const char *end = path.p + path.n;
	const char *slash = path.p;

	while (slash < end && (slash = memchr(slash, '/', (size_t) (end - slash))) != NULL)
		if (++slash < end && *slash == '.')
			return true;
	return false;
}

/*
 * A dot segment as any server might see it: raw, between encoded slashes ("a%2F..%2Fb"), or
 * decoded more than once ("%252e%252e").
 */
static bool
hides_dot_segment(Arena *arena, Str path, bool *found)
{
	Str			copy;

	/* it begins with a slash, and check_bytes let no backslash into it */
	*found = has_slash_dot(path) && has_dot_segment(path);
	if (*found || memchr(path.p, '%', path.n) == NULL)
		return true;
	copy = arena_str(arena, path.p, path.n);
	if (copy.p == NULL)
		return false;
	for (int round = 0; round < DECODE_ROUNDS && !*found; round++)
	{
		if (!decode_round((char *) copy.p, &copy.n))
			break;
		*found = has_dot_segment(copy);
	}
	return true;
}

static bool
has_control(Str s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char) s.p[i] <= 0x20 || s.p[i] == 0x7f)
			return true;
	return false;
}

/* Eight bytes that check_bytes has nothing to say about: above 0x20, no DEL, no backslash, no '%'. */
static inline bool
eight_are_plain(const char *p)
{
	const uint64_t ones = 0x0101010101010101ULL;
	uint64_t	w,
				found;

	memcpy(&w, p, 8);
	/* a byte's high bit: it is below 0x21, or one of the three; a borrow only ever finds too much */
	found = (w - ones * 0x21) | ((w ^ (ones * 0x7f)) - ones) | ((w ^ (ones * '\\')) - ones) | ((w ^ (ones * '%')) - ones);
	return (found & (ones * 0x80)) == 0;
}

static const char *
check_bytes(Str path)
{
	for (size_t i = 0; i < path.n; i++)
	{
		unsigned char c;

		while (path.n - i >= 8 && eight_are_plain(path.p + i))
			i += 8;
		if (i == path.n)
			break;
		c = (unsigned char) path.p[i];
		if (c <= 0x20 || c == 0x7f)
			return "a control character in the path";
		if (c == '\\')
			return "a backslash in the path";
		if (c != '%')
			continue;
		switch (escape_at(path, i))
		{
			case -1:
				return "a malformed percent-escape in the path";
			case 0:
				return "%00 in the path";
			case '\\':
				return "a backslash in the path";
			default:
				if (escape_at(path, i) < 0x20 || escape_at(path, i) == 0x7f)
					return "a control character in the path";
		}
	}
	return NULL;
}

/* The text up to the next '/', which stays in *rest. */
static Str
take_segment(Str *rest)
{
	const char *slash = rest->n > 0 ? memchr(rest->p, '/', rest->n) : NULL;
	Str			segment = {rest->p, slash ? (size_t) (slash - rest->p) : rest->n};

	rest->p += segment.n;
	rest->n -= segment.n;
	return segment;
}

static bool
istarts(Str s, const char *prefix)
{
	size_t		n = strlen(prefix);

	return s.n >= n && str_iis((Str) {s.p, n}, prefix);
}

/* Skips "https:/" or "https://" (or http) in front of the host. */
static void
skip_scheme(Str *rest)
{
	size_t		n = istarts(*rest, "https:/") ? 7 : istarts(*rest, "http:/") ? 6 : 0;

	if (n > 0 && rest->n > n && rest->p[n] == '/')
		n++;
	rest->p += n;
	rest->n -= n;
}

static bool
lower_host(Arena *arena, Str raw, Str *host)
{
	char	   *copy;

	if (raw.n > 4 && memcmp(raw.p + raw.n - 4, ":443", 4) == 0)
		raw.n -= 4;
	*host = arena_str(arena, raw.p, raw.n);
	if (host->p == NULL)
		return false;
	copy = (char *) host->p;
	for (size_t i = 0; i < raw.n; i++)
		if (copy[i] >= 'A' && copy[i] <= 'Z')
			copy[i] = (char) (copy[i] + 32);
	return true;
}

static bool
parse_api(Arena *arena, Str rest, Target *target)
{
	target->kind = TARGET_API;
	target->identifier = take_segment(&rest);
	target->host = (Str) {"", 0};
	target->path = (Str) {rest.p, 0};
	if (rest.n <= 1)			/* the URL ends with the identifier */
		return true;
	rest.p++, rest.n--;
	skip_scheme(&rest);
	if (!lower_host(arena, take_segment(&rest), &target->host))
		return false;
	target->path = rest;
	return true;
}

static bool
target_bad(Target *target, const char *error)
{
	target->kind = TARGET_BAD;
	target->error = error;
	return true;
}

bool
target_parse(Arena *arena, Str raw, Target *target)
{
	const char *question = raw.n > 0 ? memchr(raw.p, '?', raw.n) : NULL;
	Str			path = {raw.p, question ? (size_t) (question - raw.p) : raw.n};
	const char *error;
	bool		dots;

	memset(target, 0, sizeof(*target));
	if (path.n == 0 || path.p[0] != '/')
		return target_bad(target, "a request target that does not begin with a slash");
	if (memchr(raw.p, '#', raw.n) != NULL)
		return target_bad(target, "a fragment in the request target");
	if (question != NULL)
		target->query = (Str) {question + 1, raw.n - path.n - 1};
	error = has_control(target->query) ? "a control character in the query" : check_bytes(path);
	if (error != NULL)
		return target_bad(target, error);
	if (!hides_dot_segment(arena, path, &dots))
		return false;
	if (dots)
		return target_bad(target, "a dot segment in the path");
	if (str_is(path, "/healthz") || str_is(path, "/metrics"))
	{
		target->kind = path.p[1] == 'h' ? TARGET_HEALTH : TARGET_METRICS;
		return true;
	}
	return parse_api(arena, (Str) {path.p + 1, path.n - 1}, target);
}

static bool
decode(Arena *arena, Str raw, bool plus_is_space, Str *decoded)
{
	char	   *out = arena_alloc(arena, raw.n + 1);
	size_t		n = 0;

	*decoded = STR_NULL;
	if (out == NULL)
		return false;
	for (size_t i = 0; i < raw.n; i++)
	{
		int			byte = (unsigned char) raw.p[i];

		if (byte == '%')
		{
			byte = escape_at(raw, i);
			if (byte < 0)
				return false;
			i += 2;
		}
		else if (byte == '+' && plus_is_space)
			byte = ' ';
		out[n++] = (char) byte;
	}
	out[n] = '\0';
	*decoded = (Str) {out, n};
	return true;
}

bool
target_decode(Arena *arena, Str raw, Str *decoded)
{
	/* the usual case is a copy */
	if (raw.n == 0 || memchr(raw.p, '%', raw.n) == NULL)
	{
		*decoded = arena_str(arena, raw.p, raw.n);
		return decoded->p != NULL;
	}
	return decode(arena, raw, false, decoded);
}

int
target_segments(Str path, Str *segments, int max, bool *trailing_slash)
{
	int			n = 0;

	*trailing_slash = false;
	if (path.n > 0 && path.p[0] == '/')
		path.p++, path.n--;
	while (path.n > 0)
	{
		Str			segment = take_segment(&path);

		if (n < max)
			segments[n] = segment;
		n++;
		if (path.n == 1)		/* only its slash is left */
			*trailing_slash = true;
		if (path.n > 0)
			path.p++, path.n--;
	}
	return n;
}

/* A malformed escape in a query is the API's business: such a piece stays as it is. */
static bool
decode_or_copy(Arena *arena, Str raw, Str *decoded)
{
	if (decode(arena, raw, true, decoded))
		return true;
	*decoded = arena_str(arena, raw.p, raw.n);
	return decoded->p != NULL;
}

bool
target_query_next(Arena *arena, Str *rest, Str *key, Str *value)
{
	while (rest->n > 0)
	{
		const char *amp = memchr(rest->p, '&', rest->n);
		Str			pair = {rest->p, amp ? (size_t) (amp - rest->p) : rest->n};
		const char *equals = pair.n > 0 ? memchr(pair.p, '=', pair.n) : NULL;
		size_t		used = pair.n + (amp ? 1 : 0);

		rest->p += used;
		rest->n -= used;
		if (pair.n == 0)
			continue;
		*key = (Str) {pair.p, equals ? (size_t) (equals - pair.p) : pair.n};
		*value = equals ? (Str) {equals + 1, pair.n - key->n - 1} : (Str) {pair.p + pair.n, 0};
		return decode_or_copy(arena, *key, key) && decode_or_copy(arena, *value, value);
	}
	return false;
}
