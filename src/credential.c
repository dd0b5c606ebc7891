/*
 * credential.c - a stored credential -> the secret (credential.h).
 *
 * Called through catalog_credential for every call to an API, so a file costs one stat when it has
 * not changed.  Owns a small process-wide cache of file contents.  Must never put a secret into an
 * error, nor block: a FIFO or device is refused, since this runs in the worker's event loop.
 */
#include "credential.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define CACHE_FILES 64			/* more syncs with files than this only cost a read per call */

typedef struct CachedFile
{
	char	   *path;			/* NULL: free */
	struct timespec mtime;
	ino_t		inode;
	off_t		size;
	char	   *content;		/* malloc'd, trimmed */
	size_t		length;
} CachedFile;

static CachedFile cache[CACHE_FILES];
static unsigned cache_next;

static bool
fail(Arena *arena, const char **error, const char *what, const char *name, const char *why)
{
	*error = arena_printf(arena, "credential %s \"%s\": %s", what, name, why);
	if (*error == NULL)
		*error = "out of memory";
	return false;
}

/* A secret goes into a header: visible ASCII only, or it could end the header and start another. */
static bool
is_header_safe(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] <= ' ' || p[i] > '~')
			return false;
	return n > 0;
}

/* A token, or an object for OAuth: that one is never sent as it is, and oauth.c judges it. */
static bool
is_usable(const char *p, size_t n)
{
	return (n > 0 && *p == '{' && memchr(p, '\0', n) == NULL) || is_header_safe(p, n);
}

static void
trim(const char **p, size_t *n)
{
	while (*n > 0 && strchr(" \t\r\n", (*p)[*n - 1]) != NULL)
		(*n)--;
	while (*n > 0 && strchr(" \t\r\n", **p) != NULL)
	{
		(*p)++;
		(*n)--;
	}
}

static CachedFile *
cache_find(const char *path, const struct stat *st)
{
	for (int i = 0; i < CACHE_FILES; i++)
	{
		CachedFile *f = &cache[i];

		if (f->path != NULL && strcmp(f->path, path) == 0)
			return f->inode == st->st_ino && f->size == st->st_size &&
				f->mtime.tv_sec == st->st_mtim.tv_sec && f->mtime.tv_nsec == st->st_mtim.tv_nsec ? f : NULL;
	}
	return NULL;
}

static CachedFile *
cache_slot(const char *path)
{
	for (int i = 0; i < CACHE_FILES; i++)
		if (cache[i].path != NULL && strcmp(cache[i].path, path) == 0)
			return &cache[i];
	return &cache[cache_next++ % CACHE_FILES];
}

/* Failing to remember is harmless: the next call reads the file again. */
static void
cache_store(const char *path, const struct stat *st, const char *content, size_t length)
{
	CachedFile *f = cache_slot(path);
	char	   *new_path = strdup(path);
	char	   *new_content = malloc(length + 1);

	if (new_path == NULL || new_content == NULL)
	{
		free(new_path);
		free(new_content);
		return;
	}
	memcpy(new_content, content, length);
	free(f->path);
	free(f->content);
	*f = (CachedFile) {new_path, st->st_mtim, st->st_ino, st->st_size, new_content, length};
}

/* Reads up to the limit and one byte more; -1 with errno. */
static ssize_t
read_whole(int fd, char *buffer, size_t size)
{
	size_t		used = 0;

	while (used < size)
	{
		ssize_t		n = read(fd, buffer + used, size - used);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		used += (size_t) n;
	}
	return (ssize_t) used;
}

static bool
take(Arena *arena, const char *p, size_t n, Str *secret, const char **error)
{
	*secret = arena_str(arena, p, n);
	if (secret->p == NULL)
		*error = "out of memory";
	return secret->p != NULL;
}

static bool
read_secret(Arena *arena, const char *path, int fd, const struct stat *st, Str *secret, const char **error)
{
	char	   *buffer = arena_alloc(arena, CREDENTIAL_MAX_FILE + 1);
	const char *p = buffer;
	ssize_t		got;
	size_t		n;

	if (buffer == NULL)
		return fail(arena, error, "file", path, "out of memory");
	got = read_whole(fd, buffer, CREDENTIAL_MAX_FILE + 1);
	if (got < 0)
		return fail(arena, error, "file", path, strerror(errno));
	if (got > CREDENTIAL_MAX_FILE)
		return fail(arena, error, "file", path, "larger than 64 KB");
	n = (size_t) got;
	trim(&p, &n);
	if (!is_usable(p, n))
		return fail(arena, error, "file", path, n == 0 ? "empty" : "holds something that is not one token");
	cache_store(path, st, p, n);
	return take(arena, p, n, secret, error);
}

static bool
resolve_file(Arena *arena, const char *path, Str *secret, const char **error)
{
	struct stat st;
	CachedFile *cached;
	int			fd;
	bool		ok;

	if (stat(path, &st) != 0)
		return fail(arena, error, "file", path, strerror(errno));
	cached = cache_find(path, &st);
	if (cached != NULL)
		return take(arena, cached->content, cached->length, secret, error);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return fail(arena, error, "file", path, strerror(errno));
	if (fstat(fd, &st) != 0)
		ok = fail(arena, error, "file", path, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		ok = fail(arena, error, "file", path, "not a regular file");
	else
		ok = read_secret(arena, path, fd, &st, secret, error);
	if (close(fd) != 0 && ok)
		ok = fail(arena, error, "file", path, strerror(errno));
	return ok;
}

static bool
resolve_env(Arena *arena, const char *name, Str *secret, const char **error)
{
	const char *p = getenv(name);
	size_t		n;

	if (p == NULL)
		return fail(arena, error, "environment variable", name, "not set in the server's environment");
	n = strlen(p);
	trim(&p, &n);
	if (!is_usable(p, n))
		return fail(arena, error, "environment variable", name, n == 0 ? "empty" : "holds something that is not one token");
	return take(arena, p, n, secret, error);
}

bool
credential_resolve(Arena *arena, const char *reference, Str *secret, const char **error)
{
	*secret = STR_NULL;
	if (strncmp(reference, "file:", 5) == 0)
		return resolve_file(arena, reference + 5, secret, error);
	if (strncmp(reference, "env:", 4) == 0)
		return resolve_env(arena, reference + 4, secret, error);
	if (!is_usable(reference, strlen(reference)))
	{
		*error = "the stored credential is empty or not one token";
		return false;
	}
	return take(arena, reference, strlen(reference), secret, error);
}

bool
credential_is_token(const char *reference)
{
	return strncmp(reference, "file:", 5) != 0 && strncmp(reference, "env:", 4) != 0 && reference[0] != '{' &&
		is_header_safe(reference, strlen(reference));
}
