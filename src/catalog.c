/*
 * catalog.c - the current snapshot of the configuration, and look-ups in it (catalog.h).
 *
 * Owns the process's newest Catalog.  The shared generation is read before the load's snapshot is
 * taken, so a change that commits meanwhile is loaded again at the next call: a request that
 * starts after a configuration change was committed always sees it.  A snapshot that is replaced
 * lives until its last exchange lets go of it.
 * Look-ups never ereport and never touch PostgreSQL's tables.
 */
#include "postgres.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "executor/spi.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "catalog_load.h"
#include "credential.h"
#include "mirror.h"
#include "reactor.h"
#include "shared.h"
#include "txn.h"

/* A stranger's lock must not stall a worker: what waits for the new configuration tries again. */
#define LOAD_LOCK_MS 10
#define LOAD_PAUSE_US (100 * 1000)

static Catalog *newest;
static Catalog *retired;		/* replaced in this turn */
static int64_t failed_at_us;

typedef struct Load
{
	MemoryContext cx;
	Catalog    *loaded;
} Load;

CatalogSync *
catalog_sync_by_key(const Catalog *catalog, const uint8_t key[16])
{
	for (int i = 0; i < catalog->nsyncs; i++)
		if (memcmp(catalog->syncs[i].key, key, sizeof(catalog->syncs[i].key)) == 0)
			return &catalog->syncs[i];
	return NULL;
}

CatalogSync *
catalog_same_sync(const Catalog *catalog, const CatalogSync *sync)
{
	return catalog_sync_by_key(catalog, sync->key);
}

/* Syncs that were dropped free their limiter records. */
static void
forget_dropped(const Catalog *before, const Catalog *now)
{
	for (int i = 0; before != NULL && i < before->nsyncs; i++)
		if (catalog_same_sync(now, &before->syncs[i]) == NULL)
			limiter_forget(before->syncs[i].key);
}

static void
load_body(void *arg)
{
	Load	   *load = arg;

	load->loaded = catalog_read(load->cx, true);
	forget_dropped(newest, load->loaded);
}

/* NULL: out of memory.  AllocSetContextCreate would ereport where nobody catches it. */
static MemoryContext
create_context(void)
{
	MemoryContext before = CurrentMemoryContext;
	MemoryContext volatile cx = NULL;

	PG_TRY();
	{
		cx = AllocSetContextCreate(TopMemoryContext, "sequin catalog", ALLOCSET_DEFAULT_SIZES);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(before);
		FlushErrorState();
	}
	PG_END_TRY();
	return cx;
}

static void
replace_newest(Catalog *catalog, uint64 generation)
{
	Catalog    *old = newest;

	catalog->generation = generation;
	newest = catalog;
	if (shared_my_slot >= 0)
		pg_atomic_write_u64(&shared->slots[shared_my_slot].generation, generation);
	if (old == NULL)
		return;
	old->next_retired = retired;
	retired = old;
}

void
catalog_begin_turn(void)
{
	while (retired != NULL)
	{
		Catalog    *old = retired;

		retired = old->next_retired;
		catalog_unref(old);
	}
}

static void
report_failure(const TxnError *error)
{
	static char last[sizeof(error->message)];

	/* it is tried again and again: say each reason once */
	if (strcmp(last, error->message) == 0)
		return;
	strlcpy(last, error->message, sizeof(last));
	ereport(LOG, errmsg("sequin_proxy: could not load the configuration: %s", error->message));
}

static void
reload(uint64 generation)
{
	Load		load = {0};
	TxnError	error;

	load.cx = create_context();
	if (load.cx == NULL)
		return;
	if (txn_run(load_body, &load, LOAD_LOCK_MS, &error))
	{
		failed_at_us = 0;
		replace_newest(load.loaded, generation);
	}
	else
	{
		failed_at_us = clock_us();
		report_failure(&error);
		MemoryContextDelete(load.cx);
	}
}

Catalog *
catalog_current(void)
{
	uint64		generation = pg_atomic_read_u64(&shared->generation);

	if ((newest == NULL || newest->generation != generation) &&
		(failed_at_us == 0 || clock_us() - failed_at_us >= LOAD_PAUSE_US))
		reload(generation);
	return newest;
}

Catalog *
catalog_peek(void)
{
	return newest;
}

Catalog *
catalog_ref(Catalog *catalog)
{
	Assert(catalog->refs > 0);
	catalog->refs++;
	return catalog;
}

void
catalog_unref(Catalog *catalog)
{
	if (catalog == NULL)
		return;
	Assert(catalog->refs > 0);
	if (--catalog->refs > 0)
		return;
	mirror_forget(catalog);
	MemoryContextDelete(catalog->cx);
}

Catalog *
catalog_load(void)
{
	return catalog_read(AllocSetContextCreate(CurrentMemoryContext, "sequin catalog", ALLOCSET_DEFAULT_SIZES), false);
}

/* The algorithm is looked up once: OpenSSL's one-shot call does that each time, at ten times the cost of the hash. */
static bool
sha256(Str text, uint8_t *hash)
{
	static EVP_MD *algorithm;
	static EVP_MD_CTX *cx;

	if (algorithm == NULL)
		algorithm = EVP_MD_fetch(NULL, "SHA256", NULL);
	if (cx == NULL)
		cx = EVP_MD_CTX_new();
	return algorithm != NULL && cx != NULL && EVP_DigestInit_ex(cx, algorithm, NULL) == 1 &&
		EVP_DigestUpdate(cx, text.p, text.n) == 1 && EVP_DigestFinal_ex(cx, hash, NULL) == 1;
}

const CatalogKey *
catalog_key(const Catalog *catalog, Str key_text, CatalogKeptKey *kept)
{
	const CatalogKey *key;
	uint8_t		hash[32];

	if (key_text.p == NULL || key_text.n == 0)
		return NULL;
	/* in constant time, though it only tells what the same connection has sent before */
	if (kept != NULL && kept->n == key_text.n && CRYPTO_memcmp(kept->text, key_text.p, key_text.n) == 0)
		return catalog_key_by_hash(catalog, kept->hash);
	/* the look-up compares hashes, so its timing tells nothing about keys */
	if (!sha256(key_text, hash))
		return NULL;
	key = catalog_key_by_hash(catalog, hash);
	if (key != NULL && kept != NULL && key_text.n <= sizeof(kept->text))
	{
		kept->n = (uint8_t) key_text.n;
		memcpy(kept->text, key_text.p, key_text.n);
		memcpy(kept->hash, hash, sizeof(hash));
	}
	return key;
}

static LimitRecord *
find_limit(const CatalogSync *sync, const char *bucket)
{
	for (int i = 0; i < sync->nlimits; i++)
		if (strcmp(limiter_bucket(sync->limits[i]), bucket) == 0)
			return sync->limits[i];
	return NULL;
}

LimitRecord *
catalog_limit(const CatalogSync *sync, const char *bucket)
{
	LimitRecord *record = bucket ? find_limit(sync, bucket) : NULL;

	return record ? record : find_limit(sync, "default");
}

void
catalog_token_hash(Str token, uint8_t *hash)
{
	if (!sha256(token, hash))
		memset(hash, 0, 32);	/* no memory: the hash of no token */
}

void
catalog_token_refused(const CatalogSync *sync, Str authorization)
{
	RefusedToken refused;

	if (!str_starts(authorization, "Bearer "))
		return;
	memcpy(refused.sync, sync->key, sizeof(refused.sync));
	catalog_token_hash((Str) {authorization.p + 7, authorization.n - 7}, refused.hash);
	shared_ask_token(&refused);
}

/* Sees at a glance that a literal token is one. */
static bool
may_be_oauth(const CatalogSync *sync)
{
	return sync->credential != NULL && sync->provider->oauth != NULL &&
		(sync->credential[0] == '{' || strncmp(sync->credential, "file:", 5) == 0 ||
		 strncmp(sync->credential, "env:", 4) == 0);
}

/* The resolved credential as OAuth's. */
static bool
parse_oauth(const CatalogSync *sync, Arena *arena, Str value, OauthCredential *credential, uint8_t *source,
			const char **error)
{
	if (!oauth_parse(arena, sync->provider->oauth, value, credential, error))
		return false;
	catalog_token_hash(credential->refresh_token, source);
	return true;
}

bool
catalog_oauth(const CatalogSync *sync, Arena *arena, OauthCredential *credential, uint8_t *source, const char **error)
{
	Str			value;

	*error = NULL;
	if (!may_be_oauth(sync) || !credential_resolve(arena, sync->credential, &value, error) || !oauth_is(value))
		return false;
	return parse_oauth(sync, arena, value, credential, source, error);
}

/* The stored access token while it is of this credential and good; NULL: there is none. */
static const char *
usable_token(const CatalogSync *sync, const uint8_t *source)
{
	const CatalogToken *token = sync->token;

	if (token == NULL || token->access_token == NULL || memcmp(token->source, source, sizeof(token->source)) != 0)
		return NULL;
	return token->expires_at > GetCurrentTimestamp() ? token->access_token : NULL;
}

bool
catalog_awaits_token(const CatalogSync *sync, Arena *arena)
{
	OauthCredential credential;
	uint8_t		source[32];
	const char *error;

	if (sync->bearer != NULL)
		return false;
	return catalog_oauth(sync, arena, &credential, source, &error) && usable_token(sync, source) == NULL;
}

static bool
access_token(const CatalogSync *sync, Arena *arena, Str value, Str *secret, const char **error)
{
	OauthCredential credential;
	uint8_t		source[32];
	const char *token;

	*secret = STR_NULL;
	*error = "this provider has no OAuth: set a token";
	if (sync->provider->oauth == NULL || !parse_oauth(sync, arena, value, &credential, source, error))
		return false;
	token = usable_token(sync, source);
	*error = sync->token && sync->token->error ? sync->token->error : "there is no access token yet";
	if (token == NULL)
		return false;
	*secret = str_of(token);	/* as long as the snapshot lives */
	return true;
}

bool
catalog_credential(const CatalogSync *sync, Arena *arena, Str *secret, const char **error)
{
	if (sync->credential != NULL)
	{
		if (!credential_resolve(arena, sync->credential, secret, error))
			return false;
		return !oauth_is(*secret) || access_token(sync, arena, *secret, secret, error);
	}
	*secret = STR_NULL;
	*error = arena_printf(arena, "no credential: set one with sequin.alter_sync('%s', credential => '...')", sync->view.name);
	if (*error == NULL)
		*error = "out of memory";
	return false;
}
