/*
 * hubspot_answers.c - what HubSpot says to our own calls: whether its answer can be read, and its errors in words.
 *
 * Owns the text that ends in syncs.last_error when a discovery, a re-read or a page fails.  The API's own words
 * come with it, but never a token, a control character or more than 200 bytes of them.  Called by the
 * other hubspot*.c.  Pure.  It must never take an error or half an answer for an empty one.
 */
#include "hubspot.h"

#define WORDS_MAX 200
#define SECRET_MIN 32			/* the shortest run of mixed letters and digits that is taken for a token */

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_upper(char c)
{
	return c >= 'A' && c <= 'Z';
}

static bool
is_lower(char c)
{
	return c >= 'a' && c <= 'z';
}

/* A part of a word, by which tokens are told from text. */
static bool
in_word(char c)
{
	return is_digit(c) || is_upper(c) || is_lower(c) || (c != '\0' && strchr("_-.+/=~", c) != NULL);
}

/* Four dashes at the places where a UUID has them. */
static bool
is_uuid(Str s)
{
	return s.n >= 36 && s.p[8] == '-' && s.p[13] == '-' && s.p[18] == '-' && s.p[23] == '-';
}

/* Names of properties and scopes are long too, but in lower case. */
static bool
is_secret(Str word)
{
	bool		digit = false;
	bool		upper = false;
	bool		lower = false;

	if (str_starts(word, "pat-") || is_uuid(word))
		return true;
	for (size_t i = 0; i < word.n; i++)
	{
		digit |= is_digit(word.p[i]);
		upper |= is_upper(word.p[i]);
		lower |= is_lower(word.p[i]);
	}
	return word.n >= SECRET_MIN && digit && upper && lower;
}

static size_t
word_length(Str s)
{
	size_t		n = 0;

	while (n < s.n && in_word(s.p[n]))
		n++;
	return n;
}

/* The bytes of the character that s begins with; the JSON parser has seen that it is valid UTF-8. */
static size_t
char_length(Str s)
{
	size_t		n = 1;

	while (n < s.n && ((unsigned char) s.p[n] & 0xc0) == 0x80)
		n++;
	return n;
}

static bool
is_control(Str c)
{
	unsigned char first = (unsigned char) c.p[0];

	return first < 0x20 || first == 0x7f || (c.n == 2 && first == 0xc2 && (unsigned char) c.p[1] < 0xa0);
}

/* Adds what fits. */
static void
add_fitting(Buf *buf, Str s)
{
	while (s.n > 0)
	{
		size_t		n = char_length(s);

		if (buf->n + n > WORDS_MAX)
			return;
		buf_add(buf, s.p, n);
		s = (Str) {s.p + n, s.n - n};
	}
}

static void
add_words(Buf *buf, Str s)
{
	while (s.n > 0 && buf->n < WORDS_MAX)
	{
		size_t		word = word_length(s);
		size_t		n = word > 0 ? word : char_length(s);
		Str			piece = {s.p, n};

		if (word > 0 && is_secret(piece))
			piece = STR_LIT("***");
		else if (word == 0 && is_control(piece))
			piece = STR_LIT(" ");
		add_fitting(buf, piece);
		s = (Str) {s.p + n, s.n - n};
	}
}

/* Which scopes the credential lacks: what the user has to grant. */
static void
add_scopes(Buf *buf, const JsonDoc *doc)
{
	uint32_t	error = json_first(doc, json_get(doc, 0, "errors"));
	uint32_t	scopes = json_path(doc, error, "context.requiredGranularScopes");

	if (scopes == JSON_NONE)
		scopes = json_path(doc, error, "context.missingScopes");
	for (uint32_t it = json_first(doc, scopes); it != JSON_NONE; it = json_next(doc, scopes, it))
	{
		add_words(buf, STR_LIT(" "));
		add_words(buf, json_text(doc, it));
	}
}

const char *
hubspot_words(Arena *arena, Str body)
{
	JsonDoc		doc;
	size_t		at;
	const char *error;
	Str			copy = body.n > 0 ? arena_str(arena, body.p, body.n) : STR_NULL;
	Str			category;
	Str			message;
	Str			words;
	Buf			buf;

	if (copy.p == NULL || json_parse(arena, copy, &doc, &at, &error) != JSON_OK)
		return "";
	category = json_text_at(&doc, 0, "category");
	message = json_text_at(&doc, 0, "message");
	buf_init(&buf, arena);
	add_words(&buf, category);
	if (category.n > 0 && message.n > 0)
		add_words(&buf, STR_LIT(": "));
	add_words(&buf, message);
	add_scopes(&buf, &doc);
	words = buf_finish(&buf);
	return words.p != NULL ? words.p : "";
}

void
hubspot_fail_status(Conversation *conv, const char *what, int status, Str body)
{
	const char *words = hubspot_words(conv->arena, body);
	const char *gap = words[0] != '\0' ? " " : "";

	if (status == 401)
		conversation_fail(conv, false, "HubSpot refused the credential (401%s%s): give a valid one with sequin.alter_sync",
						  gap, words);
	else if (status == 0)
		conversation_fail(conv, true, "HubSpot did not answer (%s)", what);
	else if (status == 429 || status == 423 || status == 477 || status >= 500)
		conversation_fail(conv, true, "HubSpot answered %d%s%s (%s): tried again later", status, gap, words, what);
	else
		conversation_fail(conv, false, "HubSpot answered %d%s%s (%s)", status, gap, words, what);
}

bool
hubspot_answer(Conversation *conv, const char *what, Str body, JsonDoc *doc)
{
	Str			copy = arena_str(conv->arena, body.p, body.n);
	size_t		at;
	const char *text;
	JsonResult	result = copy.p != NULL ? json_parse(conv->arena, copy, doc, &at, &text) : JSON_NOMEM;

	if (result == JSON_NOMEM)
		conversation_fail(conv, true, "out of memory");
	else if (result == JSON_INVALID)
		conversation_fail(conv, true, "HubSpot's answer is not JSON (%s)", what);
	return result == JSON_OK;
}

uint32_t
hubspot_results(Conversation *conv, const char *what, const JsonDoc *doc)
{
	uint32_t	results = json_get(doc, 0, "results");

	if (json_type(doc, results) == JSON_ARRAY)
		return results;
	conversation_fail(conv, true, "HubSpot's answer has no results (%s)", what);
	return JSON_NONE;
}

bool
hubspot_next_page(Conversation *conv, const JsonDoc *doc, uint32_t object, Str *after)
{
	uint32_t	paging = json_get(doc, object, "paging");
	uint32_t	next = json_get(doc, paging, "next");

	*after = STR_NULL;
	if (json_type(doc, paging) == JSON_NULL || (json_type(doc, paging) == JSON_OBJECT && json_type(doc, next) == JSON_NULL))
		return true;
	*after = hubspot_id_at(doc, next, "after");
	if (after->p != NULL)
		return true;
	conversation_fail(conv, true, "HubSpot's answer does not tell how to go on (paging)");
	return false;
}

static bool
contains(Str s, const char *word)
{
	size_t		n = strlen(word);

	for (size_t i = 0; i + n <= s.n; i++)
		if (memcmp(s.p + i, word, n) == 0)
			return true;
	return false;
}

bool
hubspot_errors_harmless(Conversation *conv, const JsonDoc *doc)
{
	uint32_t	errors = json_get(doc, 0, "errors");

	for (uint32_t it = json_first(doc, errors); it != JSON_NONE; it = json_next(doc, errors, it))
	{
		Str			category = json_text_at(doc, it, "category");
		Str			sub = json_text_at(doc, it, "subCategory");

		if (contains(category, "NOT_FOUND") || contains(sub, "NO_ASSOCIATIONS"))
			continue;
		conversation_fail(conv, !str_is(category, "VALIDATION_ERROR"),
						  "HubSpot could not read all records again (category %.*s)",
						  (int) (category.n < 60 ? category.n : 60), category.p ? category.p : "");
		return false;
	}
	return true;
}
