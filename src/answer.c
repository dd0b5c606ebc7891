/*
 * answer.c - what the caller gets: the API's own response, or an error of the proxy's that cannot
 * be mistaken for one (Sequin-Error, JSON with "source": "sequin_proxy").
 *
 * Builds Responses in the request's arena.  Never ereports; runs in libmicrohttpd callbacks too.
 */
#include "exchange_internal.h"

#include <stdlib.h>

#include "fault_point.h"
#include "header_policy.h"

static void
add_header(Response *response, Str name, Str value)
{
	response->headers[response->nheaders++] = (HttpHeader) {name, value};
}

/* The error's JSON, malloc'd as a Response wants it. */
static Str
error_body(Arena *arena, const char *request_id, const char *code, const char *message, const char *hint, bool sent)
{
	Buf			buf;
	Str			text;
	char	   *copy;

	buf_init(&buf, arena);
	buf_printf(&buf, "{\"error\":{\"source\":\"sequin_proxy\",\"code\":\"%s\",\"message\":", code);
	buf_json_string(&buf, str_of(message ? message : ""));
	buf_cstr(&buf, ",\"hint\":");
	buf_json_string(&buf, str_of(hint ? hint : ""));
	buf_printf(&buf, ",\"request_id\":\"%s\",\"sent_upstream\":%s}}\n", request_id, sent ? "true" : "false");
	text = buf_finish(&buf);
	copy = text.p ? malloc(text.n) : NULL;
	if (copy == NULL)
		return STR_NULL;
	memcpy(copy, text.p, text.n);
	return (Str) {copy, text.n};
}

static void
make_error(Arena *arena, const char *request_id, int status, const char *code, const char *message,
		   const char *hint, bool sent, Response *response)
{
	Str			body = error_body(arena, request_id, code, message, hint, sent);

	memset(response, 0, sizeof(*response));
	response->status = status;
	response->body = (char *) body.p;
	response->body_len = body.n;
	response->headers = arena_alloc(arena, sizeof(HttpHeader) * 3);
	if (response->headers == NULL)
		return;					/* a bare status is better than nothing */
	add_header(response, STR_LIT("Content-Type"), STR_LIT("application/json"));
	add_header(response, STR_LIT("Sequin-Error"), arena_str(arena, code, strlen(code)));
	add_header(response, STR_LIT("Sequin-Request-Id"), arena_str(arena, request_id, strlen(request_id)));
}

void
answer_make_error(void *cls, Arena *arena, const char *request_id, int status, const char *code,
				  const char *message, const char *hint, Response *response)
{
	Engine	   *engine = cls;

	engine->stats->status_class[0]++;
	make_error(arena, request_id, status, code, message, hint, false, response);
}

/* Hands the response to the listener and lets go of what only the exchange needed. */
static void
respond(Exchange *x, Response *response)
{
	Engine	   *engine = x->engine;

	exchange_set_state(x, EXCHANGE_DONE);
	engine->stats->requests++;
	engine->stats->total_us += engine->now_us - x->request->received_at_us;
	engine->flush = true;
	FAULT_POINT("answer");
	listener_respond(engine->listener, x->request, response);
}

void
answer_error(Exchange *x, int status, const char *code, const char *message, const char *hint, bool sent)
{
	Response	response;

	x->engine->stats->status_class[0]++;
	make_error(x->arena, x->request->id, status, code, message, hint, sent, &response);
	respond(x, &response);
}

void
answer_refusal(Exchange *x, const Refusal *refusal)
{
	answer_error(x, refusal->status, refusal->code, refusal->message, refusal->hint, false);
}

void
answer_page(Exchange *x, int status, const char *type, Str body)
{
	Response	response = {.status = status};

	response.headers = arena_alloc(x->arena, sizeof(HttpHeader) * 2);
	response.body = malloc(body.n ? body.n : 1);
	if (response.body != NULL)
	{
		memcpy(response.body, body.p, body.n);
		response.body_len = body.n;
	}
	if (response.headers != NULL)
	{
		add_header(&response, STR_LIT("Content-Type"), str_of(type));
		add_header(&response, STR_LIT("Sequin-Request-Id"), str_of(x->request->id));
	}
	respond(x, &response);
}

static void
note_declared_length(Exchange *x, Response *response)
{
	if (!str_is(x->view.method, "HEAD"))
		return;
	for (int i = 0; i < x->result.nheaders; i++)
	{
		const HttpHeader *h = &x->result.headers[i];
		const char *text;

		if (!str_iis(h->name, "Content-Length"))
			continue;
		response->has_declared_length = true;
		text = arena_cstr(x->arena, h->value);
		response->declared_length = text ? strtoull(text, NULL, 10) : 0;
	}
}

void
answer_upstream(Exchange *x, const char *commit)
{
	Response	response = {.status = x->result.status};
	HttpHeader *down;
	int			n = headers_down(x->arena, x->result.headers, x->result.nheaders, &down);

	response.headers = n >= 0 ? arena_alloc(x->arena, sizeof(HttpHeader) * (size_t) (n + 2)) : NULL;
	if (response.headers == NULL)
	{
		free(x->result.body);
		x->result.body = NULL;
		answer_error(x, 502, "upstream_protocol_error", "the proxy is out of memory for the API's answer",
					 "The API was asked; read the record before you try again.", true);
		return;
	}
	if (n > 0)
		memcpy(response.headers, down, sizeof(HttpHeader) * (size_t) n);
	response.nheaders = n;
	add_header(&response, STR_LIT("Sequin-Request-Id"), str_of(x->request->id));
	add_header(&response, STR_LIT("Sequin-Commit"), str_of(commit));
	note_declared_length(x, &response);
	response.body = x->result.body;
	response.body_len = x->result.body_len;
	x->result.body = NULL;		/* the listener's now */
	x->engine->stats->status_class[x->result.status / 100 <= 5 ? x->result.status / 100 : 5]++;
	if (strcmp(commit, "committed") == 0)
		x->engine->stats->commits++;
	else if (strcmp(commit, "deferred") == 0)
		x->engine->stats->deferred++;
	respond(x, &response);
}

void
answer_upstream_failure(Exchange *x)
{
	const UpstreamResult *r = &x->result;
	const char *asked = r->sent ? "The request may have taken effect: read the record before you try again." :
		"Nothing was sent: it is safe to try again.";
	const char *why = r->error[0] ? r->error : "no answer";

	switch (r->outcome)
	{
		case UPSTREAM_TIMEOUT:
			answer_error(x, 504, "upstream_timeout", "the API gave no whole answer within sequin_proxy.upstream_timeout", asked, true);
			break;
		case UPSTREAM_TOO_LARGE:
			answer_error(x, 502, "upstream_response_too_large", "the API's answer is over sequin_proxy.max_response_body", asked, true);
			break;
		case UPSTREAM_CANCELLED:
			answer_error(x, 503, "shutting_down", "the server is stopping", asked, r->sent);
			break;
		case UPSTREAM_BROKEN:
			if (r->sent)
			{
				answer_error(x, 502, "upstream_protocol_error", arena_printf(x->arena, "the API's connection broke before a whole answer: %s", why), asked, true);
				break;
			}
			/* fall through */
		default:
			answer_error(x, 502, "upstream_unreachable", arena_printf(x->arena, "the API could not be reached: %s", why), asked, false);
	}
}
