// SRC: src/target.c src/arena.c
/*
 * fuzz_target.c - whatever the target: no crash, and an API path that passes is a byte-for-byte
 * tail of it without a dot segment, even after decoding.
 */
#include "../../src/target.h"

#include <stdlib.h>

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(bool ok)
{
	if (!ok)
		abort();
}

static void
require_no_dots(Str path)
{
	Str			segments[64];
	bool		trailing;
	int			n = target_segments(path, segments, 64, &trailing);

	for (int i = 0; i < n && i < 64; i++)
		require(!str_is(segments[i], ".") && !str_is(segments[i], ".."));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Arena	   *arena = arena_create();
	Str			raw = {(const char *) data, size};
	Target		target;
	Str			key,
				value;

	require(target_parse(arena, raw, &target));
	require((target.kind == TARGET_BAD) == (target.error != NULL));
	if (target.kind == TARGET_API)
	{
		Str			decoded;
		Str			rest = target.query;

		require(target.path.n == 0 || (target.path.p >= raw.p && target.path.p + target.path.n <= raw.p + raw.n));
		require(target_decode(arena, target.path, &decoded));
		require(memchr(decoded.p, '\0', decoded.n) == NULL && memchr(decoded.p, '\\', decoded.n) == NULL);
		require_no_dots(target.path);
		require_no_dots(decoded);
		while (target_query_next(arena, &rest, &key, &value))
			require(key.p != NULL && value.p != NULL);
	}
	arena_destroy(arena);
	return 0;
}
