// SRC: src/header_policy.c src/http_head.c src/arena.c
/* test_header_policy.c - which headers cross the proxy in each direction. */
#include "../../src/header_policy.h"

#include <stdio.h>

static int	passed;
static int	failed;

static void
check(bool ok, const char *name)
{
	printf("%s - %s\n", ok ? "ok" : "not ok", name);
	ok ? passed++ : failed++;
}

static char *
join(Arena *arena, const HttpHeader *headers, int n)
{
	Buf			buf;

	buf_init(&buf, arena);
	for (int i = 0; i < n; i++)
	{
		buf_str(&buf, headers[i].name);
		buf_char(&buf, '=');
		buf_str(&buf, headers[i].value);
		buf_char(&buf, '|');
	}
	return (char *) buf_finish(&buf).p;
}

static HttpHeader *
split(Arena *arena, const char *text, int *n)
{
	HttpHeader *headers = arena_alloc(arena, sizeof(HttpHeader) * 64);

	*n = 0;
	while (*text)
	{
		const char *equals = strchr(text, '=');
		const char *bar = strchr(text, '|');

		headers[(*n)++] = (HttpHeader) {{text, (size_t) (equals - text)}, {equals + 1, (size_t) (bar - equals - 1)}};
		text = bar + 1;
	}
	return headers;
}

static void
check_up(const char *in, bool keep_authorization, bool strip_encoding, const char *want, const char *name)
{
	Arena	   *arena = arena_create();
	HttpHead	head = {0};
	HttpHeader *out;
	int			n;
	char	   *got;

	head.headers = split(arena, in, &head.nheaders);
	n = headers_up(arena, &head, keep_authorization ? STR_NULL : STR_LIT("Bearer pat"), strip_encoding, &out);
	got = join(arena, out, n);
	check(strcmp(got, want) == 0, name);
	if (strcmp(got, want) != 0)
		printf("# got %s\n", got);
	arena_destroy(arena);
}

static void
check_down(const char *in, const char *want, const char *name)
{
	Arena	   *arena = arena_create();
	HttpHeader *out;
	int			nin;
	HttpHeader *headers = split(arena, in, &nin);
	int			n = headers_down(arena, headers, nin, &out);

	check(strcmp(join(arena, out, n), want) == 0, name);
	arena_destroy(arena);
}

int
main(void)
{
	check_up("X-A=1|accept=*/*|x-a=2|Content-Type=application/json|Cookie=a|", false, false,
			 "X-A=1|accept=*/*|x-a=2|Content-Type=application/json|Cookie=a|",
			 "end-to-end headers go up in order, spelled as they came, duplicates included");
	check_up("Host=x|Content-Length=3|Expect=100-continue|Sequin-Key=sqk|HOST=y|A=b|", true, false, "A=b|",
			 "Host, framing, Expect and the proxy's key stay here");
	check_up("Connection=close|Keep-Alive=1|Proxy-Connection=a|Proxy-Authenticate=b|proxy-authorization=c|TE=trailers|"
			 "Trailer=X|Transfer-Encoding=chunked|Upgrade=h2c|A=b|", true, false, "A=b|",
			 "hop-by-hop headers stay here");
	check_up("Connection=close, X-Hop ,x-HOP2|x-hop=1|X-Hop2=2|X-Hop3=3|Connection=x-hop4|x-hop4=1|", false, false,
			 "X-Hop3=3|", "what any Connection header names stays here");
	check_up("B=a|authorization=Bearer a|A=b|", false, false, "B=a|authorization=Bearer pat|A=b|", "the credential takes the key's place");
	check_up("Sequin-Key=sqk|A=b|", false, false, "Authorization=Bearer pat|A=b|", "the credential takes Sequin-Key's place");
	check_up("Sequin-Key=sqk|A=b|Authorization=Basic x|", false, false, "A=b|Authorization=Bearer pat|", "there is one credential");
	check_up("Connection=authorization|Authorization=Bearer a|", false, false, "Authorization=Bearer pat|",
			 "Connection cannot take the credential away");
	check_up("Authorization=Bearer a|A=b|", true, false, "Authorization=Bearer a|A=b|",
			 "Authorization passes in passthrough mode");
	check_up("Accept-Encoding=gzip|A=b|", false, true, "A=b|", "a write asks for no encoding");
	check_up("Accept-Encoding=gzip|A=b|", false, false, "Accept-Encoding=gzip|A=b|", "a read may ask for an encoding");
	check_up("", false, false, "", "no headers are no headers");
	check_up("Connection=,,|X=1|", false, false, "X=1|", "an empty Connection list names nothing");
	check_up("Sequin-Trace=1|A=b|", false, false, "Sequin-Trace=1|A=b|", "a caller's other Sequin header is the API's");

	check_down("Content-Type=a|Set-Cookie=1|Set-Cookie=2|ETag=|Date=d|", "Content-Type=a|Set-Cookie=1|Set-Cookie=2|ETag=|Date=d|",
			   "end-to-end headers come down in order, empty ones and duplicates included");
	check_down("Content-Length=1|Transfer-Encoding=chunked|Connection=X-Q|x-q=1|Keep-Alive=1|A=b|", "A=b|",
			   "framing and hop-by-hop headers stay above");
	check_up("Connection=keep-alive|Keep-Alive=5|A=b|", false, false, "A=b|", "keep-alive names no header that would go up");
	check_up("Connection=keep-alive, A|Connection=Keep-Alive|A=b|B=c|", false, false, "B=c|", "what stands beside keep-alive is named");
	check_down("Connection=keep-alive|Connection=X-Q|keep-alive=1|X-Q=1|A=b|", "A=b|", "one Connection header of several names another");
	check_down("Sequin-Commit=committed|sequin-error=x|SEQUIN-Request-Id=1|Sequin=1|A=b|", "Sequin=1|A=b|",
			   "an API cannot speak with our headers");
	check_down("Content-Encoding=gzip|Trailers=x|", "Content-Encoding=gzip|Trailers=x|",
			   "Content-Encoding is end-to-end");
	printf("%d passed, %d failed\n", passed, failed);
	return failed > 0;
}
