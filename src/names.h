/*
 * names.h - from the API's names to PostgreSQL identifiers (DESIGN.md section 3).  Pure C, UTF-8.
 *
 * Words split at anything but letters and digits and from lower to upper case; emoji and
 * punctuation go, letters beyond ASCII stay; lower case joined with '_'; a leading digit gets '_'
 * before it; over 63 bytes: the first 54 bytes (cut at a character), '_' and 8 hex digits of the
 * hash of the full snake name.
 */
#ifndef SEQUIN_NAMES_H
#define SEQUIN_NAMES_H

#include "arena.h"

/* "Product Inventory" -> "product_inventory", "HTTPServer" -> "http_server"; "" or only emoji -> "_". */
extern Str	name_snake(Arena *arena, Str api_name);

/*
 * The first of name, name_, name_2, name_3... for which taken() says false; each at most 63 bytes
 * (shortened as above before its suffix is added).  taken is called with NUL-terminated names.
 */
extern Str	name_unique(Arena *arena, Str name, bool (*taken) (void *cls, const char *name), void *cls);

#endif
