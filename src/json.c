/*
 * json.c - the strict single-pass JSON parser (see json.h).
 *
 * Owns the grammar (RFC 8259), UTF-8 validity and the unescaping of strings.  Any module may call
 * it, also from libmicrohttpd and libcurl callbacks.  It must never touch PostgreSQL, never
 * recurse, and never write to the input.  The hot loop is plain_run: it looks at eight bytes at once.
 */
#include "json.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "plain_run takes the lowest byte of a word for its first"
#endif

#define ONES 0x0101010101010101ULL
#define HIGHS 0x8080808080808080ULL

typedef struct Parser
{
	Arena	   *arena;
	const char *p;
	const char *end;
	JsonNode   *nodes;
	uint32_t	count;
	uint32_t	cap;
	uint32_t	depth;
	bool		nomem;
	const char *error,
			   *error_at;
	uint32_t	stack[JSON_MAX_DEPTH];	/* the open containers */
} Parser;

static bool
fail(Parser *parser, const char *at, const char *error)
{
	parser->error = error;
	parser->error_at = at;
	return false;
}

static bool
nodes_grow(Parser *parser)
{
	uint32_t	cap = parser->cap > UINT32_MAX / 4 ? UINT32_MAX - 1 : parser->cap * 2;
	JsonNode   *nodes = NULL;

	if (cap > parser->cap)
		nodes = arena_alloc(parser->arena, sizeof(JsonNode) * (size_t) cap);
	if (nodes == NULL)
	{
		parser->nomem = true;
		return false;
	}
	memcpy(nodes, parser->nodes, sizeof(JsonNode) * (size_t) parser->count);
	parser->nodes = nodes;
	parser->cap = cap;
	return true;
}

/* Appends a value that is complete: containers correct theirs when they close. */
static inline bool
node_add(Parser *parser, JsonType type, Str text, const char *raw, const char *raw_end)
{
	JsonNode   *node;

	if (parser->count == parser->cap && !nodes_grow(parser))
		return false;
	node = &parser->nodes[parser->count++];
	node->type = type;
	node->next = parser->count;
	node->count = 0;
	node->text = text;
	node->raw = (Str) {raw, (size_t) (raw_end - raw)};
	return true;
}

static inline const char *
skip_space(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
		p++;
	return p;
}

/*
 * Which of eight bytes are a quote, a backslash, a control character or beyond ASCII: their high bits.  Of the bits
 * that are set the lowest is right; a borrow can only have marked bytes above it.
 */
static inline uint64_t
special_bytes(uint64_t w)
{
	uint64_t	quote = w ^ (ONES * '"');
	uint64_t	slash = w ^ (ONES * '\\');

	return (w | (w - ONES * 0x20) | (quote - ONES) | (slash - ONES)) & HIGHS;
}

/* Steps over string bytes that stand for themselves. */
static inline const char *
plain_run(const char *p, const char *end)
{
	while (end - p >= 8)
	{
		uint64_t	w;
		uint64_t	special;

		memcpy(&w, p, 8);
		special = special_bytes(w);
		if (special != 0)
			return p + (__builtin_ctzll(special) >> 3);
		p += 8;
	}
	while (p < end)
	{
		unsigned char c = (unsigned char) *p;

		if (c < 0x20 || c >= 0x80 || c == '"' || c == '\\')
			break;
		p++;
	}
	return p;
}

/* The length of the UTF-8 character at p (its first byte is >= 0x80), or 0 when it is not one. */
static inline size_t
utf8_length(const char *s, const char *end)
{
	const unsigned char *p = (const unsigned char *) s;
	size_t		left = (size_t) (end - s);
	/* The second byte's range keeps out overlong forms, surrogates and what is beyond U+10FFFF. */
	unsigned	lo = p[0] == 0xE0 ? 0xA0 : p[0] == 0xF0 ? 0x90 : 0x80;
	unsigned	hi = p[0] == 0xED ? 0x9F : p[0] == 0xF4 ? 0x8F : 0xBF;
	size_t		n = p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;

	if (p[0] < 0xC2 || p[0] > 0xF4)
		return 0;
	if (left < n || p[1] < lo || p[1] > hi)
		return 0;
	for (size_t i = 2; i < n; i++)
		if ((p[i] & 0xC0) != 0x80)
			return 0;
	return n;
}

/* Four hex digits at p, or -1.  p may be near the end. */
static int
hex4(const char *p, const char *end)
{
	int			code = 0;

	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++)
	{
		int			lower = p[i] | 0x20;

		if (p[i] >= '0' && p[i] <= '9')
			code = code * 16 + p[i] - '0';
		else if (lower >= 'a' && lower <= 'f')
			code = code * 16 + lower - 'a' + 10;
		else
			return -1;
	}
	return code;
}

static char *
utf8_put(char *out, int code)
{
	int			n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;

	if (n == 1)
		*out = (char) code;
	else
		*out = (char) ((0xF00 >> n) | (code >> (6 * (n - 1))));
	for (int i = 1; i < n; i++)
		out[i] = (char) (0x80 | ((code >> (6 * (n - 1 - i))) & 0x3F));
	return out + n;
}

/* \uXXXX at *p (which stands on the backslash), with its partner when it is a surrogate. */
static bool
unescape_unicode(Parser *parser, const char **p, const char *end, char **out)
{
	const char *at = *p;
	int			code = hex4(at + 2, end);

	if (code < 0)
		return fail(parser, at, "\\u is not followed by four hexadecimal digits");
	at += 6;
	if (code >= 0xD800 && code <= 0xDFFF)
	{
		int			low = -1;

		if (code < 0xDC00 && end - at >= 6 && at[0] == '\\' && at[1] == 'u')
			low = hex4(at + 2, end);
		if (low < 0xDC00 || low > 0xDFFF)
			return fail(parser, *p, "unpaired surrogate");
		code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
		at += 6;
	}
	*out = utf8_put(*out, code);
	*p = at;
	return true;
}

static char
simple_escape(char c)
{
	static const char spelled[] = "\"\\/bfnrt";
	static const char meant[] = "\"\\/\b\f\n\r\t";
	const char *at = memchr(spelled, c, sizeof(spelled) - 1);

	return at ? meant[at - spelled] : '\0';
}

/* Unescapes what stands between a string's quotes; the result is never longer than its spelling. */
static bool
unescape(Parser *parser, const char *p, const char *end, Str *text)
{
	char	   *copy = arena_alloc(parser->arena, (size_t) (end - p) + 1);
	char	   *out = copy;

	if (copy == NULL)
	{
		parser->nomem = true;
		return false;
	}
	while (p < end)
	{
		const char *slash = memchr(p, '\\', (size_t) (end - p));
		size_t		n = (size_t) ((slash ? slash : end) - p);
		char		c;

		memcpy(out, p, n);
		out += n;
		p += n;
		if (slash == NULL)
			break;
		if (p[1] == 'u')
		{
			if (!unescape_unicode(parser, &p, end, &out))
				return false;
			continue;
		}
		c = simple_escape(p[1]);
		if (c == '\0')
			return fail(parser, p, "unknown escape");
		*out++ = c;
		p += 2;
	}
	*out = '\0';
	*text = (Str) {copy, (size_t) (out - copy)};
	return true;
}

/* A string, the parser standing on its opening quote. */
static bool
parse_string(Parser *parser)
{
	const char *raw = parser->p;
	const char *p = raw + 1;
	const char *end = parser->end;
	bool		escaped = false;
	Str			text;

	for (;;)
	{
		size_t		n;

		p = plain_run(p, end);
		if (p == end)
			return fail(parser, p, "unterminated string");
		if (*p == '"')
			break;
		if (*p == '\\')
		{
			if (end - p < 2)
				return fail(parser, p, "unterminated string");
			escaped = true;
			/* Only these two bytes can't be looked at again: a bad escape is found by unescape(). */
			if (p[1] == '"' || p[1] == '\\')
				p++;
			p++;
			continue;
		}
		if ((unsigned char) *p < 0x20)
			return fail(parser, p, "control character in a string");
		n = utf8_length(p, end);
		if (n == 0)
			return fail(parser, p, "invalid UTF-8");
		p += n;
	}
	text = (Str) {raw + 1, (size_t) (p - raw - 1)};
	if (escaped && !unescape(parser, text.p, p, &text))
		return false;
	parser->p = p + 1;
	return node_add(parser, JSON_STRING, text, raw, p + 1);
}

static inline const char *
skip_digits(const char *p, const char *end)
{
	while (p < end && *p >= '0' && *p <= '9')
		p++;
	return p;
}

static bool
parse_number(Parser *parser)
{
	const char *raw = parser->p;
	const char *end = parser->end;
	const char *p = raw + (*raw == '-');
	const char *digits = p;

	p = skip_digits(p, end);
	if (p == digits)
		return fail(parser, p, "digit expected");
	if (*digits == '0' && p - digits > 1)
		return fail(parser, digits, "number with a leading zero");
	if (p < end && *p == '.')
	{
		digits = p + 1;
		p = skip_digits(digits, end);
		if (p == digits)
			return fail(parser, p, "digit expected");
	}
	if (p < end && (*p == 'e' || *p == 'E'))
	{
		digits = p + 1;
		if (digits < end && (*digits == '+' || *digits == '-'))
			digits++;
		p = skip_digits(digits, end);
		if (p == digits)
			return fail(parser, p, "digit expected");
	}
	parser->p = p;
	return node_add(parser, JSON_NUMBER, (Str) {raw, (size_t) (p - raw)}, raw, p);
}

static bool
parse_word(Parser *parser, const char *word, size_t n, JsonType type)
{
	const char *raw = parser->p;

	if ((size_t) (parser->end - raw) < n || memcmp(raw, word, n) != 0)
		return fail(parser, raw, "value expected");
	parser->p = raw + n;
	return node_add(parser, type, (Str) {raw, n}, raw, raw + n);
}

static bool
parse_scalar(Parser *parser)
{
	switch (*parser->p)
	{
		case '"':
			return parse_string(parser);
		case 't':
			return parse_word(parser, "true", 4, JSON_TRUE);
		case 'f':
			return parse_word(parser, "false", 5, JSON_FALSE);
		case 'n':
			return parse_word(parser, "null", 4, JSON_NULL);
		case '-':
		case '0' ... '9':
			return parse_number(parser);
		default:
			return fail(parser, parser->p, "value expected");
	}
}

static bool
container_open(Parser *parser, JsonType type)
{
	const char *raw = parser->p;

	if (parser->depth == JSON_MAX_DEPTH)
		return fail(parser, raw, "nested too deeply");
	parser->stack[parser->depth++] = parser->count;
	parser->p = skip_space(raw + 1, parser->end);
	return node_add(parser, type, STR_NULL, raw, raw);
}

/* The parser stands on the closing bracket. */
static void
container_close(Parser *parser)
{
	JsonNode   *node = &parser->nodes[parser->stack[--parser->depth]];

	parser->p++;
	node->next = parser->count;
	node->raw.n = (size_t) (parser->p - node->raw.p);
	node->text = node->raw;
}

/* "key":, after which the parser stands before the value. */
static bool
parse_key(Parser *parser)
{
	if (parser->p == parser->end || *parser->p != '"')
		return fail(parser, parser->p, "key expected");
	if (!parse_string(parser))
		return false;
	parser->p = skip_space(parser->p, parser->end);
	if (parser->p == parser->end || *parser->p != ':')
		return fail(parser, parser->p, "':' expected");
	parser->p = skip_space(parser->p + 1, parser->end);
	return true;
}

/*
 * Closes what ends after a value, up to where the next value begins.  *more tells whether there
 * is one.
 */
static bool
after_value(Parser *parser, bool *more)
{
	*more = true;
	while (parser->depth > 0)
	{
		JsonNode   *open = &parser->nodes[parser->stack[parser->depth - 1]];
		bool		object = open->type == JSON_OBJECT;

		open->count++;
		parser->p = skip_space(parser->p, parser->end);
		if (parser->p == parser->end)
			return fail(parser, parser->p, "unexpected end");
		if (*parser->p == ',')
		{
			parser->p = skip_space(parser->p + 1, parser->end);
			return !object || parse_key(parser);
		}
		if (*parser->p != (object ? '}' : ']'))
			return fail(parser, parser->p, object ? "',' or '}' expected" : "',' or ']' expected");
		container_close(parser);
	}
	*more = false;
	return true;
}

/* One value, or the opening of a container up to its first value. *whole: a value is complete. */
static bool
parse_value(Parser *parser, bool *whole)
{
	bool		object;

	if (parser->p == parser->end)
		return fail(parser, parser->p, "unexpected end");
	object = *parser->p == '{';
	*whole = true;
	if (!object && *parser->p != '[')
		return parse_scalar(parser);
	if (!container_open(parser, object ? JSON_OBJECT : JSON_ARRAY))
		return false;
	if (parser->p < parser->end && *parser->p == (object ? '}' : ']'))
	{
		container_close(parser);
		return true;
	}
	*whole = false;
	return !object || parse_key(parser);
}

static bool
parse_document(Parser *parser)
{
	bool		more = true;

	parser->p = skip_space(parser->p, parser->end);
	while (more)
	{
		bool		whole;

		if (!parse_value(parser, &whole))
			return false;
		if (whole && !after_value(parser, &more))
			return false;
	}
	parser->p = skip_space(parser->p, parser->end);
	if (parser->p != parser->end)
		return fail(parser, parser->p, "something follows the value");
	return true;
}

JsonResult
json_parse(Arena *arena, Str input, JsonDoc *doc, size_t *error_at, const char **error_text)
{
	Parser		parser;

	*doc = (JsonDoc) {NULL, 0};
	*error_at = 0;
	*error_text = NULL;
	if (input.n >= UINT32_MAX)
	{
		*error_text = "too large";
		return JSON_INVALID;
	}
	parser.arena = arena;
	input = input.p ? input : STR_LIT("");
	parser.p = input.p;
	parser.end = input.p + input.n;
	parser.count = parser.depth = parser.nomem = 0;
	/* What API answers have is about a value or key in 12 bytes; doubling does the rest. */
	parser.cap = (uint32_t) (input.n / 16 + 8);
	parser.nodes = arena_alloc(arena, sizeof(JsonNode) * (size_t) parser.cap);
	if (parser.nodes == NULL)
		return JSON_NOMEM;
	if (!parse_document(&parser))
	{
		if (parser.nomem)
			return JSON_NOMEM;
		*error_at = (size_t) (parser.error_at - input.p);
		*error_text = parser.error;
		return JSON_INVALID;
	}
	doc->nodes = parser.nodes;
	doc->count = parser.count;
	return JSON_OK;
}

static bool
has_type(const JsonDoc *doc, uint32_t node, JsonType type)
{
	return node < doc->count && doc->nodes[node].type == type;
}

uint32_t
json_get_str(const JsonDoc *doc, uint32_t object, Str key)
{
	uint32_t	found = JSON_NONE;

	if (!has_type(doc, object, JSON_OBJECT))
		return JSON_NONE;
	for (uint32_t it = json_first(doc, object); it != JSON_NONE; it = json_next(doc, object, it))
		if (str_eq(doc->nodes[it - 1].text, key))
			found = it;
	return found;
}

uint32_t
json_get(const JsonDoc *doc, uint32_t object, const char *key)
{
	return json_get_str(doc, object, str_of(key));
}

uint32_t
json_path(const JsonDoc *doc, uint32_t node, const char *dotted)
{
	for (;;)
	{
		const char *dot = strchr(dotted, '.');

		node = json_get_str(doc, node, dot ? (Str) {dotted, (size_t) (dot - dotted)} : str_of(dotted));
		if (dot == NULL || node == JSON_NONE)
			return node;
		dotted = dot + 1;
	}
}

JsonType
json_type(const JsonDoc *doc, uint32_t node)
{
	return node < doc->count ? doc->nodes[node].type : JSON_NULL;
}

Str
json_text(const JsonDoc *doc, uint32_t node)
{
	if (has_type(doc, node, JSON_STRING) || has_type(doc, node, JSON_NUMBER))
		return doc->nodes[node].text;
	return STR_NULL;
}

Str
json_text_at(const JsonDoc *doc, uint32_t object, const char *key)
{
	return json_text(doc, json_get(doc, object, key));
}

bool
json_is_true(const JsonDoc *doc, uint32_t node)
{
	return has_type(doc, node, JSON_TRUE);
}

uint32_t
json_first(const JsonDoc *doc, uint32_t container)
{
	if (container >= doc->count || doc->nodes[container].count == 0)
		return JSON_NONE;
	return container + (doc->nodes[container].type == JSON_OBJECT ? 2 : 1);
}

uint32_t
json_next(const JsonDoc *doc, uint32_t container, uint32_t item)
{
	uint32_t	next = doc->nodes[item].next;

	if (next == doc->nodes[container].next)
		return JSON_NONE;
	return next + (doc->nodes[container].type == JSON_OBJECT ? 1 : 0);
}

Str
json_key(const JsonDoc *doc, uint32_t item)
{
	return doc->nodes[item - 1].text;
}
