// SRC: src/credential.c src/arena.c  LIBS:
/*
 * test_credential.c - tokens, files and variables; what is refused, and that no error shows a secret.
 */
#include "credential.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int	passed;
static int	failed;
static Arena *arena;
static char dir[] = "/tmp/test_credential.XXXXXX";

static void
check(bool ok, const char *sentence)
{
	printf("%s - %s\n", ok ? "ok" : "not ok", sentence);
	if (ok)
		passed++;
	else
		failed++;
}

static const char *
path(const char *name)
{
	return arena_printf(arena, "%s/%s", dir, name);
}

static const char *
file(const char *name)
{
	return arena_printf(arena, "file:%s/%s", dir, name);
}

static void
write_file(const char *name, const char *content, size_t n)
{
	FILE	   *f = fopen(path(name), "w");

	if (f == NULL || fwrite(content, 1, n, f) != n || fclose(f) != 0)
		abort();
}

static bool
gives(const char *reference, const char *expected)
{
	Str			secret;
	const char *error = NULL;

	return credential_resolve(arena, reference, &secret, &error) && str_is(secret, expected);
}

/* Refused, with a reason that has `why` in it and not the secret. */
static bool
refused(const char *reference, const char *why)
{
	Str			secret;
	const char *error = NULL;

	return !credential_resolve(arena, reference, &secret, &error) && error != NULL && secret.p == NULL &&
		strstr(error, why) != NULL && strstr(error, "s3cret") == NULL;
}

static void
check_files(void)
{
	static char big[CREDENTIAL_MAX_FILE + 1];

	write_file("token", "s3cret\n", 7);
	check(gives(file("token"), "s3cret"), "a file's content is the secret, without its line end");
	check(gives(file("token"), "s3cret"), "and again from the cache");
	write_file("token", "s3cret-2\r\n", 10);
	check(gives(file("token"), "s3cret-2"), "a changed file is read again");
	write_file("token.new", "s3cret-3", 8);
	check(rename(path("token.new"), path("token")) == 0 && gives(file("token"), "s3cret-3"), "so is one that was replaced");
	write_file("two", "s3cret\nX-Evil: 1\n", 17);
	check(refused(file("two"), "not one token"), "two lines are refused: they could make another header");
	write_file("nul", "s3cret\0x", 8);
	check(refused(file("nul"), "not one token"), "a NUL is refused");
	write_file("empty", "\n", 1);
	check(refused(file("empty"), "empty"), "an empty file is refused");
	memset(big, 'x', sizeof(big));
	write_file("big", big, sizeof(big));
	check(refused(file("big"), "larger than 64 KB"), "a file over 64 KB is refused");
	write_file("big", big, sizeof(big) - 1);
	check(!refused(file("big"), "larger"), "one of 64 KB is read");
	check(refused(file("none"), "No such file"), "a missing file is named");
	check(unlink(path("token")) == 0 && refused(file("token"), "No such file"), "a removed file is not served from the cache");
}

static void
check_odd_files(void)
{
	check(refused(arena_printf(arena, "file:%s", dir), "not a regular file"), "a directory is refused");
	check(mkfifo(path("fifo"), 0600) == 0 && refused(file("fifo"), "not a regular file"), "a FIFO is refused without waiting for a writer");
	check(refused("file:/dev/zero", "not a regular file"), "a device is refused");
}

static void
check_cache_size(void)
{
	bool		all = true;

	for (int round = 0; round < 2; round++)
		for (int i = 0; i < 200; i++)
		{
			char	   *name = arena_printf(arena, "many%d", i);

			if (round == 0)
				write_file(name, name, strlen(name));
			all &= gives(file(name), name);
		}
	check(all, "more files than the cache holds are still right");
}

int
main(void)
{
	char		command[64];

	arena = arena_create();
	if (arena == NULL || mkdtemp(dir) == NULL)
		abort();
	check(gives("pat-s3cret", "pat-s3cret"), "a token is itself");
	check(refused("", "empty") && refused("Bearer s3cret", "not one token") && refused("s3cret\r\nX: y", "not one token"),
		  "a token with a blank or line end is refused");
	check(setenv("TEST_CREDENTIAL", " s3cret\n", 1) == 0 && gives("env:TEST_CREDENTIAL", "s3cret"), "a variable's value is the secret, trimmed");
	check(setenv("TEST_CREDENTIAL", "s3cret x", 1) == 0 && refused("env:TEST_CREDENTIAL", "not one token"), "one with a blank inside is refused");
	check(unsetenv("TEST_CREDENTIAL") == 0 && refused("env:TEST_CREDENTIAL", "TEST_CREDENTIAL"), "an unset variable is named");
	check(credential_is_token("pat-s3cret") && !credential_is_token("") && !credential_is_token("a b") && !credential_is_token("a\r\nb") &&
		  !credential_is_token("{\"a\":1}") && !credential_is_token("file:/x") && !credential_is_token("env:X"),
		  "a literal token is told from a reference, from OAuth's object and from what fits no header");
	check_files();
	check_odd_files();
	check_cache_size();
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	if (system(command) != 0)
		failed++;
	arena_destroy(arena);
	printf("%d passed, %d failed\n", passed, failed);
	return failed > 0;
}
