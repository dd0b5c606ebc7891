/*
 * catalog.h - sequin.* tables -> an immutable snapshot, swapped when the generation moves.
 *
 * Owned by each process by itself.  An exchange takes the current snapshot when it starts and
 * keeps it (catalog_ref) until it is answered or moves to a newer one.
 */
#ifndef SEQUIN_CATALOG_H
#define SEQUIN_CATALOG_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/hsearch.h"

#include "limiter.h"
#include "provider.h"

typedef enum SyncAuth
{
	AUTH_KEY,
	AUTH_PASSTHROUGH
} SyncAuth;

/* What a sync's OAuth credential has brought so far: a row of sequin.oauth_token. */
typedef struct CatalogToken
{
	uint8_t		source[32];		/* SHA-256 of the credential's refresh token that it began with */
	const char *access_token;	/* NULL: none */
	const char *refresh_token;	/* the newest; NULL: the credential's own */
	TimestampTz expires_at;
	TimestampTz refreshed_at;
	const char *error;			/* why there is no newer one; NULL: nothing is wrong */
} CatalogToken;

typedef struct CatalogSync
{
	struct Catalog *catalog;	/* whose it is */
	SyncView	view;			/* what providers may see; view.name is the sync's name */
	const Provider *provider;
	uint8_t		key[16];		/* uuid */
	const char *identifier;
	const char *target_schema;
	Oid			owner;
	SyncAuth	auth;
	const char *credential;		/* literal, "file:..." or "env:..."; NULL: none */
	const char *bearer;			/* "Bearer <credential>" where that is a literal token; else NULL: to be resolved at use */
	CatalogToken *token;		/* NULL: none yet, or the credential is a token itself */
	const char *upstream_url;	/* NULL: the provider's hosts */
	bool		paused;
	bool		ready;			/* discovered, tables exist */
	bool		proxy_only;		/* config's "sync" is false: tables hold what comes through the proxy, and are not read */
	int64		poll_us;		/* config's intervals; 0: the default */
	int64		sweep_us;
	int64		schema_us;
	Schema		schema;			/* as mirrored; view.schema points here */
	LimitRecord *limits[RATE_MAX_BUCKETS];
	int			nlimits;
	double		sync_reserve;	/* of the limits, for the sync process: limiter.h */
} CatalogSync;

typedef struct CatalogKey
{
	uint8_t		hash[32];		/* SHA-256 of the key's text */
	CatalogSync *sync;
	const char *label;
	const char **methods;		/* upper case; NULL: all */
	int			nmethods;
	bool		read_only;
	TimestampTz expires_at;		/* DT_NOEND: never */
} CatalogKey;

typedef struct Catalog
{
	uint64		generation;
	int			refs;
	MemoryContext cx;
	CatalogSync *syncs;
	int			nsyncs;
	HTAB	   *by_identifier;
	HTAB	   *by_key_hash;
	bool		installed;		/* the extension exists in this database */
	struct Catalog *next_retired;
} Catalog;

/*
 * The newest snapshot: reloads (in a transaction of its own) when the shared generation moved.
 * When a reload fails (somebody may hold a lock) the last good one stays, and it is tried again a
 * moment later; its generation tells that it is not the newest.  NULL only before the first
 * success.  Never ereports, never waits long.
 */
extern Catalog *catalog_current(void);
/*
 * At the beginning of a turn of the loop: snapshots that were replaced in the last one go, unless somebody has a reference.
 * Within a turn, what any catalog_current() has returned can be used without one.
 */
extern void catalog_begin_turn(void);
/* The snapshot that the last catalog_current() returned, without looking: safe anywhere; NULL before the first. */
extern Catalog *catalog_peek(void);
extern Catalog *catalog_ref(Catalog *catalog);
extern void catalog_unref(Catalog *catalog);	/* NULL is allowed */

/* For backends (sequin.decode): loads inside the running transaction; may ereport; lives in CurrentMemoryContext. */
extern Catalog *catalog_load(void);

extern CatalogSync *catalog_sync_by_identifier(const Catalog *catalog, Str identifier);
extern CatalogSync *catalog_sync_by_name(const Catalog *catalog, const char *name);
extern CatalogSync *catalog_same_sync(const Catalog *catalog, const CatalogSync *sync);	/* by its key, for it may be renamed; NULL: dropped */
extern CatalogSync *catalog_sync_by_key(const Catalog *catalog, const uint8_t key[16]);	/* by its uuid; NULL: dropped */
/* What a client sends again with every request of its connection need not be hashed again.  Zero it first and last. */
typedef struct CatalogKeptKey
{
	uint8_t		n;				/* of text; 0: none */
	char		text[63];		/* of a key that was found */
	uint8_t		hash[32];
} CatalogKeptKey;

/* NULL: there is no such key in this snapshot.  kept: NULL, or the connection's. */
extern const CatalogKey *catalog_key(const Catalog *catalog, Str key_text, CatalogKeptKey *kept);
extern LimitRecord *catalog_limit(const CatalogSync *sync, const char *bucket);	/* falls back to "default"; NULL: unlimited */

/*
 * The secret itself, file: and env: resolved and cached by mtime; of an OAuth credential its access
 * token.  False with a reason for last_error (no secret in it).
 */
extern bool catalog_credential(const CatalogSync *sync, Arena *arena, Str *secret, const char **error);
/* Is it an OAuth credential that has no access token just now?  The sync process is about to bring one: wait. */
extern bool catalog_awaits_token(const CatalogSync *sync, Arena *arena);

/*
 * For who refreshes: the OAuth credential itself, with source[32] of it.  False: it is none (*error
 * NULL), or not to be read.
 */
extern bool catalog_oauth(const CatalogSync *sync, Arena *arena, OauthCredential *credential, uint8_t *source,
						  const char **error);
/* The API answered 401 to this Authorization ("Bearer ..."): asks the sync process for a newer token. */
extern void catalog_token_refused(const CatalogSync *sync, Str authorization);
extern void catalog_token_hash(Str token, uint8_t *hash);	/* SHA-256, 32 bytes */

#endif
