/*
 * target.h - URL policy: what a raw request target asks for.  Pure C; decodes nothing it passes on.
 *
 * {identifier}/[https:/[/]]{host}[:port]/{path}?{query}, or one of the proxy's own pages.
 * A dot segment in any encoding ("..", "%2e", ".%2E", also with ;params? no: only whole segments),
 * "%00", a malformed %-escape that hides one, a control character or a backslash (raw or %5c) in the path is bad.
 */
#ifndef SEQUIN_TARGET_H
#define SEQUIN_TARGET_H

#include "arena.h"

typedef enum TargetKind
{
	TARGET_API,					/* identifier, host, path, query are set */
	TARGET_HEALTH,				/* /healthz */
	TARGET_METRICS,				/* /metrics */
	TARGET_BAD					/* error is set: 400 bad_request */
} TargetKind;

typedef struct Target
{
	TargetKind	kind;
	const char *error;
	Str			identifier;		/* first segment, raw; may be empty or wrong: the caller looks it up */
	Str			host;			/* lower case, without ":443"; empty when the URL ends before it */
	Str			path;			/* from its '/', byte for byte; empty when there is none */
	Str			query;			/* without '?'; STR_NULL when there is none */
} Target;

/* Slices point into raw, but host, which is in the arena.  False: out of memory. */
extern bool target_parse(Arena *arena, Str raw, Target *target);

/* %XX and nothing else ('+' stays); false for a malformed escape or no memory. */
extern bool target_decode(Arena *arena, Str raw, Str *decoded);

/*
 * Splits a raw path ("/a/b%2Fc/") at '/' into raw segments; returns how many (at most max are
 * stored), with *trailing_slash told apart from an empty last segment.  "/a//b" has an empty one.
 */
extern int	target_segments(Str path, Str *segments, int max, bool *trailing_slash);

/* Next "key=value" of a query or form; both decoded into the arena, '+' as space.  *rest shrinks; false at the end. */
extern bool target_query_next(Arena *arena, Str *rest, Str *key, Str *value);

#endif
