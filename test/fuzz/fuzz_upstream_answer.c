// SRC: src/upstream_answer.c src/http_chunked.c src/http_head.c src/arena.c
/*
 * fuzz_upstream_answer.c - however an answer's bytes are cut, they are the same answer; nothing exceeds its bounds, and
 * what is kept of a head can be written to a caller.
 */
#include "fuzz_input.h"

#include "../../src/upstream_internal.h"

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct Outcome
{
	Answer		answer;
	size_t		taken;
	bool		whole;
} Outcome;

static Outcome
read_answer(const char *p, size_t size, size_t step, bool head)
{
	Outcome		o = {.answer = {.arena = arena_create(), .max_body = 1000, .no_body = head}};

	require(o.answer.arena != NULL);
	while (o.taken < size && o.answer.state != ANSWER_WHOLE && o.answer.fault == ANSWER_FINE)
	{
		size_t		n = size - o.taken < step ? size - o.taken : step;
		size_t		taken;
		char	   *exact = malloc(n);

		require(exact != NULL);
		memcpy(exact, p + o.taken, n);
		taken = answer_feed(&o.answer, exact, n);
		require(taken == n || o.answer.state == ANSWER_WHOLE || o.answer.fault != ANSWER_FINE);
		o.taken += taken;
		free(exact);
	}
	o.whole = answer_end(&o.answer);
	return o;
}

static void
check_outcome(const Outcome *o)
{
	const Answer *a = &o->answer;

	require(a->body_len <= 1000 && a->nheaders <= HTTP_MAX_HEADERS);
	require(!o->whole || (a->fault == ANSWER_FINE && a->status >= 200 && a->status <= 999));
	for (int i = 0; i < a->nheaders; i++)
		require(http_is_token(a->headers[i].name) && http_is_value(a->headers[i].value));
}

static void
check_same(const Outcome *x, const Outcome *y)
{
	const Answer *a = &x->answer;
	const Answer *b = &y->answer;

	require(a->fault == b->fault && x->whole == y->whole);
	if (!x->whole)
		return;
	require(x->taken == y->taken && a->status == b->status && a->close == b->close && a->nheaders == b->nheaders);
	require(a->body_len == b->body_len && (a->body_len == 0 || memcmp(a->body, b->body, a->body_len) == 0));
	for (int i = 0; i < a->nheaders; i++)
		require(str_eq(a->headers[i].name, b->headers[i].name) && str_eq(a->headers[i].value, b->headers[i].value));
}

static void
outcome_free(Outcome *o)
{
	arena_destroy(o->answer.arena);
	answer_free(&o->answer);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool		head = size > 0 && data[size - 1] == 'H';
	Outcome		whole = read_answer((const char *) data, size, size ? size : 1, head);

	check_outcome(&whole);
	for (size_t step = 1; step < 8; step++)
	{
		Outcome		cut = read_answer((const char *) data, size, step, head);

		check_same(&whole, &cut);
		outcome_free(&cut);
	}
	outcome_free(&whole);
	return 0;
}
