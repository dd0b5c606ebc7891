/*
 * arena.h - bump allocation for the pure cores, and the Str slice.
 *
 * An Arena owns every byte that one exchange (or one errand) parses, decodes or builds outside
 * PostgreSQL's memory contexts.  It is made of malloc'd blocks, freed all at once; nothing in it
 * is freed singly.  Any module may use it; it never touches PostgreSQL, so it is safe inside
 * libmicrohttpd and libcurl callbacks.  Every allocating call returns NULL (or a Str whose p is
 * NULL) when memory is out: callers must check and report "out of memory" upwards.
 */
#ifndef SEQUIN_ARENA_H
#define SEQUIN_ARENA_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A slice: not NUL-terminated unless said so; p == NULL means "absent", n == 0 with p != NULL "empty". */
typedef struct Str
{
	const char *p;
	size_t		n;
} Str;

#define STR_NULL ((Str) {NULL, 0})
#define STR_LIT(s) ((Str) {(s), sizeof(s) - 1})
#define STR_FMT(s) (int) (s).n, (s).p	/* for "%.*s" */

typedef struct Arena Arena;

extern Arena *arena_create(void);			/* NULL when out of memory */
extern void arena_destroy(Arena *arena);	/* NULL is allowed */
extern void *arena_alloc(Arena *arena, size_t size);	/* 16-byte aligned, not zeroed */
extern void *arena_zalloc(Arena *arena, size_t size);	/* zeroed */
extern size_t arena_used(const Arena *arena);			/* bytes handed out */

/* Copies; the result is always NUL-terminated (the NUL is not counted in n). */
extern Str	arena_str(Arena *arena, const char *p, size_t n);
extern Str	arena_copy(Arena *arena, Str s);	/* STR_NULL stays STR_NULL */
extern char *arena_cstr(Arena *arena, Str s);
extern char *arena_printf(Arena *arena, const char *fmt,...) __attribute__((format(printf, 2, 3)));

extern bool str_ieq(Str a, Str b);			/* ASCII case-insensitive */
extern bool str_starts(Str a, const char *prefix);
extern int	str_cmp(Str a, Str b);			/* memcmp order, shorter first on a tie */

/* Inline: headers, paths and names are compared hundreds of times per request, mostly to find another length. */
static inline Str
str_of(const char *cstr)					/* NULL -> STR_NULL */
{
	return cstr ? (Str) {cstr, strlen(cstr)} : STR_NULL;
}

static inline bool
str_eq(Str a, Str b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool
str_is(Str a, const char *cstr)
{
	return str_eq(a, str_of(cstr));
}

static inline bool
str_iis(Str a, const char *cstr)
{
	Str			b = str_of(cstr);

	return a.n == b.n && str_ieq(a, b);
}

/* Writes at `to`, where there must be room (20 bytes for a number); returns what follows. */
static inline char *
str_put(char *to, Str s)
{
	if (s.n > 0)
		memcpy(to, s.p, s.n);
	return to + s.n;
}

extern char *str_put_number(char *to, uint64_t number);
extern uint32_t str_hash(Str s);			/* FNV-1a, 32 bits; names of tables and columns are made of it */

/* A growing byte buffer in an arena.  failed stays true once memory ran out. */
typedef struct Buf
{
	Arena	   *arena;
	char	   *p;
	size_t		n;
	size_t		cap;
	bool		failed;
} Buf;

extern void buf_init(Buf *buf, Arena *arena);
extern void buf_add(Buf *buf, const char *p, size_t n);
extern void buf_str(Buf *buf, Str s);
extern void buf_cstr(Buf *buf, const char *cstr);
extern void buf_char(Buf *buf, char c);
extern void buf_printf(Buf *buf, const char *fmt,...) __attribute__((format(printf, 2, 3)));
extern void buf_json_string(Buf *buf, Str s);	/* quoted and escaped; bytes are passed through as UTF-8 */
extern Str	buf_finish(Buf *buf);				/* NUL-terminated; STR_NULL when failed */

#endif
