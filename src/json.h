/*
 * json.h - a strict, single-pass JSON parser (RFC 8259) into a flat array of nodes ("tape").
 *
 * Pure C.  Owns nothing: nodes and unescaped strings live in the caller's arena, everything else
 * points into the caller's bytes, which must outlive the document.  Strict means: valid UTF-8
 * only, surrogate pairs complete, number grammar exact, no trailing garbage, control characters
 * in strings refused, at most JSON_MAX_DEPTH levels.  U+0000 (the escape) is accepted, since it
 * is legal JSON; users of the value decide.  Never recurses, so depth cannot exhaust the stack.
 */
#ifndef SEQUIN_JSON_H
#define SEQUIN_JSON_H

#include "arena.h"

#define JSON_MAX_DEPTH 512
#define JSON_NONE UINT32_MAX		/* "no such node" */

typedef enum JsonType
{
	JSON_NULL,
	JSON_FALSE,
	JSON_TRUE,
	JSON_NUMBER,
	JSON_STRING,
	JSON_ARRAY,
	JSON_OBJECT
} JsonType;

/*
 * One value.  An object's children follow it as key (JSON_STRING), value, key, value...;
 * an array's as value, value...  next is the index just past this value and its children.
 */
typedef struct JsonNode
{
	JsonType	type;
	uint32_t	next;
	uint32_t	count;			/* members of an object, elements of an array */
	Str			text;			/* string: unescaped content; number: its literal; others: the raw slice */
	Str			raw;			/* the slice of the input that spells this value, quotes included */
} JsonNode;

typedef struct JsonDoc
{
	JsonNode   *nodes;			/* nodes[0] is the root */
	uint32_t	count;
} JsonDoc;

typedef enum JsonResult
{
	JSON_OK,
	JSON_INVALID,				/* *error_at and *error_text say where and what */
	JSON_NOMEM
} JsonResult;

extern JsonResult json_parse(Arena *arena, Str input, JsonDoc *doc, size_t *error_at, const char **error_text);

/* Look-ups; each returns JSON_NONE where there is none.  With duplicate keys the last wins (as jsonb). */
extern uint32_t json_get(const JsonDoc *doc, uint32_t object, const char *key);
extern uint32_t json_get_str(const JsonDoc *doc, uint32_t object, Str key);
extern uint32_t json_path(const JsonDoc *doc, uint32_t node, const char *dotted);	/* "paging.next.after" */

extern JsonType json_type(const JsonDoc *doc, uint32_t node);		/* JSON_NULL for JSON_NONE */
extern Str	json_text(const JsonDoc *doc, uint32_t node);			/* string content; number literal; else STR_NULL */
extern Str	json_text_at(const JsonDoc *doc, uint32_t object, const char *key);
extern bool json_is_true(const JsonDoc *doc, uint32_t node);

/*
 * Iteration:  for (it = json_first(doc, node); it != JSON_NONE; it = json_next(doc, node, it))
 * yields the values of an array, or the values of an object's members (its key is nodes[it - 1]).
 */
extern uint32_t json_first(const JsonDoc *doc, uint32_t container);
extern uint32_t json_next(const JsonDoc *doc, uint32_t container, uint32_t item);
extern Str	json_key(const JsonDoc *doc, uint32_t item);

#endif
