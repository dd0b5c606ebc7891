/*
 * credential.h - from a stored credential (a token, file:/path, env:NAME) to the secret: a token, or the
 * JSON object of an OAuth client (oauth.h).
 *
 * Pure C (no postgres.h).  Never prints a secret: *error names the file or variable only.
 */
#ifndef SEQUIN_CREDENTIAL_H
#define SEQUIN_CREDENTIAL_H

#include "arena.h"

#define CREDENTIAL_MAX_FILE (64 * 1024)

/*
 * Copies the secret into the arena.  A file's content is kept and read again only when its inode,
 * size or mtime changed.  False: *error says what to fix (in the arena, or a constant).
 */
extern bool credential_resolve(Arena *arena, const char *reference, Str *secret, const char **error);
/* Is it a literal token itself: neither a reference nor OAuth's object, and fit for a header? */
extern bool credential_is_token(const char *reference);

#endif
