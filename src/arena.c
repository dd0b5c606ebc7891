/*
 * arena.c - bump allocation for the pure cores (see arena.h).
 *
 * Owns the malloc'd blocks behind an Arena.  Anybody may call it, also from libmicrohttpd and
 * libcurl callbacks; it must never touch PostgreSQL.
 */
#include "arena.h"

#include <stdio.h>
#include <stdlib.h>

#define ARENA_FIRST_BLOCK 8000		/* most small exchanges fit one block, two pages with malloc's header */
#define ARENA_MAX_BLOCK (256 * 1024)
#define ARENA_ALIGN 16

/* First blocks are kept for the next arenas; but not where a sanitizer is to see that nobody uses one that is freed. */
#ifdef __SANITIZE_ADDRESS__
#define ARENA_KEPT 0
#else
#define ARENA_KEPT 64
#endif

typedef struct Block
{
	struct Block *next;
	size_t		size;
	size_t		used;
	_Alignas(ARENA_ALIGN) char data[];
} Block;

static Block *kept;
static int	nkept;

struct Arena
{
	Block	   *block;
	size_t		next_size;
	size_t		used;
};

static Block *
block_create(size_t size, Block *next)
{
	Block	   *block = malloc(sizeof(Block) + size);

	if (block == NULL)
		return NULL;
	block->next = next;
	block->size = size;
	block->used = 0;
	return block;
}

static Block *
first_block(void)
{
	Block	   *block = kept;

	if (block == NULL)
		return block_create(ARENA_FIRST_BLOCK, NULL);
	kept = block->next;
	nkept--;
	block->next = NULL;
	return block;
}

static void
block_destroy(Block *block)
{
	if (block->size != ARENA_FIRST_BLOCK || nkept >= ARENA_KEPT)
	{
		free(block);
		return;
	}
	block->next = kept;
	kept = block;
	nkept++;
}

Arena *
arena_create(void)
{
	Block	   *block = first_block();
	Arena	   *arena;

	if (block == NULL)
		return NULL;
	/* the Arena itself lives in its first block */
	arena = (Arena *) block->data;
	block->used = (sizeof(Arena) + ARENA_ALIGN - 1) & ~(size_t) (ARENA_ALIGN - 1);
	arena->block = block;
	arena->next_size = ARENA_FIRST_BLOCK * 2;
	arena->used = 0;
	return arena;
}

void
arena_destroy(Arena *arena)
{
	Block	   *block = arena ? arena->block : NULL;

	while (block != NULL)
	{
		Block	   *next = block->next;

		block_destroy(block);
		block = next;
	}
}

static Block *
arena_grow(Arena *arena, size_t size)
{
	Block	   *block;

	if (size > arena->next_size / 2)
	{
		/* A large piece gets a block of its own, behind the current one, which stays in use. */
		block = block_create(size, arena->block->next);
		if (block != NULL)
			arena->block->next = block;
		return block;
	}
	block = block_create(arena->next_size, arena->block);
	if (block == NULL)
		return NULL;
	arena->block = block;
	if (arena->next_size < ARENA_MAX_BLOCK)
		arena->next_size *= 2;
	return block;
}

void *
arena_alloc(Arena *arena, size_t size)
{
	Block	   *block = arena->block;
	void	   *p;

	if (size > SIZE_MAX / 2)
		return NULL;
	size = (size + ARENA_ALIGN - 1) & ~(size_t) (ARENA_ALIGN - 1);
	if (block->size - block->used < size)
	{
		block = arena_grow(arena, size);
		if (block == NULL)
			return NULL;
	}
	p = block->data + block->used;
	block->used += size;
	arena->used += size;
	return p;
}

void *
arena_zalloc(Arena *arena, size_t size)
{
	void	   *p = arena_alloc(arena, size);

	if (p != NULL)
		memset(p, 0, size);
	return p;
}

size_t
arena_used(const Arena *arena)
{
	return arena->used;
}

Str
arena_str(Arena *arena, const char *p, size_t n)
{
	char	   *copy = n < SIZE_MAX ? arena_alloc(arena, n + 1) : NULL;

	if (copy == NULL)
		return STR_NULL;
	if (n > 0)
		memcpy(copy, p, n);
	copy[n] = '\0';
	return (Str) {copy, n};
}

Str
arena_copy(Arena *arena, Str s)
{
	return s.p ? arena_str(arena, s.p, s.n) : STR_NULL;
}

char *
arena_cstr(Arena *arena, Str s)
{
	return (char *) arena_str(arena, s.p, s.n).p;
}

char *
arena_printf(Arena *arena, const char *fmt,...)
{
	va_list		args;
	char		most[200];		/* what fits is formatted once */
	int			n;
	char	   *p;

	va_start(args, fmt);
	n = vsnprintf(most, sizeof(most), fmt, args);
	va_end(args);
	if (n < 0 || (p = arena_alloc(arena, (size_t) n + 1)) == NULL)
		return NULL;
	if ((size_t) n < sizeof(most))
		return memcpy(p, most, (size_t) n + 1);
	va_start(args, fmt);
	vsnprintf(p, (size_t) n + 1, fmt, args);
	va_end(args);
	return p;
}

static unsigned char
ascii_lower(unsigned char c)
{
	return c >= 'A' && c <= 'Z' ? (unsigned char) (c + 32) : c;
}

/* Eight bytes, each as ascii_lower would make it. */
static inline uint64_t
lower_eight(uint64_t w)
{
	const uint64_t ones = 0x0101010101010101ULL;
	uint64_t	low = w & (ones * 0x7f);
	/* the high bit of a byte tells: from 'A' on, but not beyond 'Z', and ASCII */
	uint64_t	upper = ((low + ones * (0x80 - 'A')) ^ (low + ones * (0x7f - 'Z'))) & ~w & (ones * 0x80);

	return w | upper >> 2;
}

/* Most names come as we spell them, and need no folding. */
static inline bool
eight_ieq(const char *a, const char *b)
{
	uint64_t	wa,
				wb;

	memcpy(&wa, a, 8);
	memcpy(&wb, b, 8);
	return wa == wb || lower_eight(wa) == lower_eight(wb);
}

bool
str_ieq(Str a, Str b)
{
	if (a.n != b.n)
		return false;
	/* shorter ones byte by byte */
	if (a.n < 8)
	{
		for (size_t i = 0; i < a.n; i++)
			if (ascii_lower((unsigned char) a.p[i]) != ascii_lower((unsigned char) b.p[i]))
				return false;
		return true;
	}
	for (size_t i = 0; i + 8 < a.n; i += 8)
		if (!eight_ieq(a.p + i, b.p + i))
			return false;
	/* the last eight, of which some may have been compared already */
	return eight_ieq(a.p + a.n - 8, b.p + b.n - 8);
}

bool
str_starts(Str a, const char *prefix)
{
	size_t		n = strlen(prefix);

	return a.n >= n && memcmp(a.p, prefix, n) == 0;
}

int
str_cmp(Str a, Str b)
{
	size_t		n = a.n < b.n ? a.n : b.n;
	int			c = n > 0 ? memcmp(a.p, b.p, n) : 0;

	return c != 0 ? c : (a.n > b.n) - (a.n < b.n);
}

char *
str_put_number(char *to, uint64_t number)
{
	char		digits[20];
	size_t		i = sizeof(digits);

	do
		digits[--i] = (char) ('0' + number % 10);
	while ((number /= 10) > 0);
	return str_put(to, (Str) {digits + i, sizeof(digits) - i});
}

uint32_t
str_hash(Str s)
{
	uint32_t	hash = 2166136261U;

	for (size_t i = 0; i < s.n; i++)
		hash = (hash ^ (unsigned char) s.p[i]) * 16777619U;
	return hash;
}

void
buf_init(Buf *buf, Arena *arena)
{
	*buf = (Buf) {.arena = arena};
}

static bool
buf_grow(Buf *buf, size_t more)
{
	size_t		cap = buf->cap ? buf->cap : 128;
	char	   *p;

	if (buf->failed)
		return false;
	while (cap - buf->n <= more)
	{
		if (cap > SIZE_MAX / 4)
		{
			buf->failed = true;
			return false;
		}
		cap *= 2;
	}
	p = arena_alloc(buf->arena, cap);
	if (p == NULL)
	{
		buf->failed = true;
		return false;
	}
	if (buf->n > 0)
		memcpy(p, buf->p, buf->n);
	buf->p = p;
	buf->cap = cap;
	return true;
}

static inline bool
buf_reserve(Buf *buf, size_t more)
{
	/* one byte is kept for the NUL */
	return (buf->cap - buf->n > more && !buf->failed) || buf_grow(buf, more);
}

void
buf_add(Buf *buf, const char *p, size_t n)
{
	if (n == 0 || !buf_reserve(buf, n))
		return;
	memcpy(buf->p + buf->n, p, n);
	buf->n += n;
}

void
buf_str(Buf *buf, Str s)
{
	buf_add(buf, s.p, s.n);
}

void
buf_cstr(Buf *buf, const char *cstr)
{
	buf_add(buf, cstr, strlen(cstr));
}

void
buf_char(Buf *buf, char c)
{
	buf_add(buf, &c, 1);
}

void
buf_printf(Buf *buf, const char *fmt,...)
{
	va_list		args;
	char		most[200];
	int			n;

	va_start(args, fmt);
	n = vsnprintf(most, sizeof(most), fmt, args);
	va_end(args);
	if (n < 0 || !buf_reserve(buf, (size_t) n))
		return;
	if ((size_t) n < sizeof(most))
	{
		buf_add(buf, most, (size_t) n);
		return;
	}
	va_start(args, fmt);
	vsnprintf(buf->p + buf->n, (size_t) n + 1, fmt, args);
	va_end(args);
	buf->n += (size_t) n;
}

void
buf_json_string(Buf *buf, Str s)
{
	size_t		plain = 0;

	buf_char(buf, '"');
	for (size_t i = 0; i < s.n; i++)
	{
		unsigned char c = (unsigned char) s.p[i];

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		buf_add(buf, s.p + plain, i - plain);
		plain = i + 1;
		if (c == '"' || c == '\\')
			buf_printf(buf, "\\%c", c);
		else if (c == '\n')
			buf_cstr(buf, "\\n");
		else
			buf_printf(buf, "\\u%04x", c);
	}
	buf_add(buf, s.p + plain, s.n - plain);
	buf_char(buf, '"');
}

Str
buf_finish(Buf *buf)
{
	if (!buf_reserve(buf, 0))
		return STR_NULL;
	buf->p[buf->n] = '\0';
	return (Str) {buf->p, buf->n};
}
