/*
 * provider.c - the table of providers, and the queue of a conversation.
 *
 * Pure C; see provider.h.  A new API adds its row to provider_all.
 */
#include "provider.h"

#include <stdio.h>

const Provider *const provider_all[] = {
	&provider_hubspot,
	&provider_airtable,
	NULL,
};

const Provider *
provider_find(const char *name)
{
	for (int i = 0; provider_all[i] != NULL; i++)
		if (strcmp(provider_all[i]->name, name) == 0)
			return provider_all[i];
	return NULL;
}

bool
conversation_call(Conversation *conv, Call call)
{
	if (conv->ncalls == conv->cap)
	{
		int			cap = conv->cap ? conv->cap * 2 : 8;
		Call	   *calls = arena_alloc(conv->arena, sizeof(Call) * (size_t) cap);

		if (calls == NULL)
		{
			conversation_fail(conv, true, "out of memory");
			return false;
		}
		if (conv->ncalls > 0)
			memcpy(calls, conv->calls, sizeof(Call) * (size_t) conv->ncalls);
		conv->calls = calls;
		conv->cap = cap;
	}
	conv->calls[conv->ncalls++] = call;
	return true;
}

bool
conversation_take(Conversation *conv, Call *call)
{
	if (conv->failed || conv->taken == conv->ncalls)
		return false;
	*call = conv->calls[conv->taken++];
	return true;
}

void
conversation_fail(Conversation *conv, bool retriable, const char *fmt,...)
{
	char		text[512];
	va_list		args;
	char	   *copy;

	if (conv->failed)
		return;					/* the first failure is the cause */
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	copy = arena_cstr(conv->arena, str_of(text));
	conv->failed = true;
	conv->retriable = retriable;
	conv->error = copy ? copy : "out of memory";
}

void
conversation_note(Conversation *conv, const char *fmt,...)
{
	char		text[512];
	va_list		args;
	const char *joined;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	joined = conv->notes.p ? arena_printf(conv->arena, "%s; %s", conv->notes.p, text)
		: arena_printf(conv->arena, "%s", text);
	if (joined != NULL)
		conv->notes = str_of(joined);
}
