/*
 * names.c - from the API's names to PostgreSQL identifiers (see names.h; DESIGN.md section 3).
 *
 * Owns the rules for words, case and length.  Called by providers (table names) and by schema
 * evolution (columns).  The rules are part of the contract: users' queries hold these names, so
 * a change here renames columns.  It must never touch PostgreSQL nor depend on the locale:
 * libunistring's tables decide what a letter is and what its lower case is.
 */
#include "names.h"

#include <stdio.h>
#include <unicase.h>
#include <unictype.h>
#include <unistr.h>

#define NAME_MAX_BYTES 63		/* NAMEDATALEN - 1 */
#define HASH_BYTES 9			/* '_' and 8 hexadecimal digits */

typedef enum CharKind
{
	CHAR_BREAK,					/* ends a word */
	CHAR_UPPER,
	CHAR_LOWER,
	CHAR_OTHER,					/* a letter without case */
	CHAR_DIGIT,
	CHAR_MARK					/* an accent: belongs to the letter before it */
} CharKind;

static bool
is_variation_selector(ucs4_t c)
{
	return (c >= 0xFE00 && c <= 0xFE0F) || (c >= 0xE0100 && c <= 0xE01EF);
}

static CharKind
char_kind(ucs4_t c)
{
	if (uc_is_general_category_withtable(c, UC_CATEGORY_MASK_Nd))
		return CHAR_DIGIT;
	if (uc_is_general_category_withtable(c, UC_CATEGORY_MASK_Ll))
		return CHAR_LOWER;
	if (uc_is_general_category_withtable(c, UC_CATEGORY_MASK_Lu | UC_CATEGORY_MASK_Lt))
		return CHAR_UPPER;
	if (uc_is_general_category_withtable(c, UC_CATEGORY_MASK_L))
		return CHAR_OTHER;
	/* What encloses (a keycap) or selects an emoji's colours is part of the emoji. */
	if (uc_is_general_category_withtable(c, UC_CATEGORY_MASK_Mn | UC_CATEGORY_MASK_Mc) && !is_variation_selector(c))
		return CHAR_MARK;
	return CHAR_BREAK;
}

/* The next character of s; a byte that is not UTF-8 comes as U+FFFD, which ends a word. */
static size_t
next_char(Str s, ucs4_t *c, CharKind *kind)
{
	int			n = u8_mbtouc(c, (const uint8_t *) s.p, s.n);

	*kind = char_kind(*c);
	return n > 0 ? (size_t) n : 1;
}

static CharKind
kind_after_marks(Str s)
{
	while (s.n > 0)
	{
		ucs4_t		c;
		CharKind	kind;
		size_t		n = next_char(s, &c, &kind);

		if (kind != CHAR_MARK)
			return kind;
		s.p += n;
		s.n -= n;
	}
	return CHAR_BREAK;
}

/* Does a word begin at a letter of this kind?  last: the kind before it, rest: what follows it. */
static bool
word_begins(CharKind last, CharKind kind, Str rest)
{
	if (kind != CHAR_UPPER)
		return false;
	if (last == CHAR_LOWER)
		return true;			/* first|Name */
	return last == CHAR_UPPER && kind_after_marks(rest) == CHAR_LOWER;	/* HTTP|Server */
}

static void
put_char(Buf *buf, ucs4_t c)
{
	uint8_t		bytes[6];
	int			n = u8_uctomb(bytes, c, sizeof(bytes));

	if (n > 0)
		buf_add(buf, (const char *) bytes, (size_t) n);
}

static bool
is_continuation(char c)
{
	return ((unsigned char) c & 0xC0) == 0x80;
}

/* name itself when it has at most `max` bytes, else its beginning and its hash in so many. */
static Str
shorten(Arena *arena, Str name, size_t max)
{
	size_t		keep = max - HASH_BYTES;

	if (name.n <= max)
		return arena_str(arena, name.p, name.n);
	while (keep > 0 && is_continuation(name.p[keep]))
		keep--;
	return str_of(arena_printf(arena, "%.*s_%08x", (int) keep, name.p, str_hash(name)));
}

Str
name_snake(Arena *arena, Str api_name)
{
	Str			rest = api_name;
	CharKind	last = CHAR_BREAK;
	Buf			buf;
	Str			name;

	buf_init(&buf, arena);
	while (rest.n > 0)
	{
		ucs4_t		c;
		CharKind	kind;
		size_t		n = next_char(rest, &c, &kind);

		rest.p += n;
		rest.n -= n;
		if (kind == CHAR_MARK)
		{
			/* An accent on nothing is punctuation; it does not change what kind the letter is. */
			if (last != CHAR_BREAK && last != CHAR_DIGIT)
				put_char(&buf, c);
			continue;
		}
		if (kind != CHAR_BREAK)
		{
			bool		begins = last == CHAR_BREAK || word_begins(last, kind, rest);

			if ((buf.n > 0 && begins) || (buf.n == 0 && kind == CHAR_DIGIT))
				buf_char(&buf, '_');
			put_char(&buf, uc_tolower(c));
		}
		last = kind;
	}
	if (buf.n == 0)
		buf_char(&buf, '_');
	name = buf_finish(&buf);
	return name.p ? shorten(arena, name, NAME_MAX_BYTES) : STR_NULL;
}

static Str
with_suffix(Arena *arena, Str name, const char *suffix)
{
	Str			base = shorten(arena, name, NAME_MAX_BYTES - strlen(suffix));

	return base.p ? str_of(arena_printf(arena, "%s%s", base.p, suffix)) : STR_NULL;
}

Str
name_unique(Arena *arena, Str name, bool (*taken) (void *cls, const char *name), void *cls)
{
	Str			candidate = with_suffix(arena, name, "");

	for (unsigned i = 1; candidate.p != NULL && taken(cls, candidate.p); i++)
	{
		char		suffix[16] = "_";

		if (i > 1)
			snprintf(suffix, sizeof(suffix), "_%u", i);
		candidate = with_suffix(arena, name, suffix);
	}
	return candidate;
}
