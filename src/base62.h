/*
 * base62.h - random bytes as letters and digits, for proxy keys and sync identifiers.  Pure C.
 */
#ifndef SEQUIN_BASE62_H
#define SEQUIN_BASE62_H

#include <stddef.h>
#include <stdint.h>

#define BASE62_MAX_BYTES 64

/* Characters that hold any n bytes: 16 -> 22, 32 -> 43. */
extern size_t base62_length(size_t nbytes);

/*
 * The bytes as one big-endian number in base 62 (0-9 A-Z a-z), left-padded with '0' to
 * base62_length characters and NUL-terminated.  nbytes <= BASE62_MAX_BYTES.
 */
extern void base62_encode(const uint8_t *bytes, size_t nbytes, char *out);

#endif
