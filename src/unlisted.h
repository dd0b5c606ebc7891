/*
 * unlisted.h - fields that an API's answers name and its schema does not list.
 *
 * HubSpot sends some properties that GET /properties never shows.  Without a memory of them each
 * write would ask for the schema again.  Worker-local, bounded, forgets after a while (the field
 * may be listed by then).  Pure C; never allocates.
 */
#ifndef SEQUIN_UNLISTED_H
#define SEQUIN_UNLISTED_H

#include "arena.h"

#define UNLISTED_TTL_US (INT64_C(600) * 1000 * 1000)

/* A refresh at now_us did not bring this field. */
extern void unlisted_remember(Str sync, Str collection, Str field, int64_t now_us);
extern bool unlisted_known(Str sync, Str collection, Str field, int64_t now_us);

#endif
