// SRC: src/http_head.c src/header_policy.c src/arena.c
/*
 * fuzz_http_head.c - whatever the bytes: no crash, and what passes keeps the filter's promises.
 * clang -fsanitize=fuzzer,address,undefined; abort() is a finding.
 */
#include "../../src/header_policy.h"

#include <stdlib.h>

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(bool ok)
{
	if (!ok)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Arena	   *arena = arena_create();
	Str			bytes = {(const char *) data, size};
	HttpHead	head;
	HttpHeader *out;
	size_t		head_size = 0;
	const char *error = NULL;
	HeadResult	result = http_head_parse(arena, bytes, 4000, &head, &head_size, &error);

	require((result == HEAD_BAD) == (error != NULL));
	if (result == HEAD_OK)
	{
		require(head_size <= size && head_size <= 4000);
		require(memcmp(data + head_size - 4, "\r\n\r\n", 4) == 0);
		require(http_is_token(head.method) && head.target.p[0] == '/');
		require(!(head.chunked && head.has_length));
		for (int i = 0; i < head.nheaders; i++)
			require(http_is_token(head.headers[i].name) && http_is_value(head.headers[i].value));
		require(headers_up(arena, &head, STR_NULL, false, &out) <= head.nheaders);
		require(headers_down(arena, head.headers, head.nheaders, &out) <= head.nheaders);
		/* a prefix never passes: nothing is decided before the blank line */
		require(http_head_parse(arena, (Str) {bytes.p, head_size - 1}, 4000, &head, &head_size, &error) != HEAD_OK);
	}
	arena_destroy(arena);
	return 0;
}
