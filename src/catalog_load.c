/*
 * catalog_load.c - sequin.* tables -> one Catalog (catalog_load.h).
 *
 * A handful of queries, each ordered as the rows before it, so that the whole is linear in rows.
 * Runs inside a transaction and may ereport; what it built so far then goes with its memory
 * context.  Rows that make no sense alone (a provider that is gone, a role that was dropped) are
 * left out or made "not ready", so that one sync never takes the others down.
 */
#include "postgres.h"

#include "commands/extension.h"
#include "executor/spi.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "catalog_load.h"
#include "credential.h"

#define IDENTIFIER_KEY 64		/* a hash key's size; identifiers are 22 characters */

typedef struct IdentifierEntry
{
	char		identifier[IDENTIFIER_KEY];
	CatalogSync *sync;
} IdentifierEntry;

typedef struct KeyEntry
{
	uint8_t		hash[32];
	CatalogKey	key;
} KeyEntry;

static const char sync_query[] =
	"SELECT s.name::text, s.id, s.provider::text, s.identifier::text, s.target_schema::text, r.oid, s.auth = 'passthrough',"
	" c.value, s.upstream_url::text, s.paused, coalesce(st.ready_at IS NOT NULL AND st.state <> 'discovering', false), s.config->>'base_id', s.tables,"
	" CASE WHEN s.config ? 'poll_interval' THEN sequin._interval_us(s.config->>'poll_interval') END,"
	" CASE WHEN s.config ? 'sweep_interval' THEN sequin._interval_us(s.config->>'sweep_interval') END,"
	" CASE WHEN s.config ? 'schema_interval' THEN sequin._interval_us(s.config->>'schema_interval') END,"
	/* checked when it was set; a value that got past that must not take the catalog down */
	" CASE WHEN jsonb_typeof(s.config->'sync_reserve') = 'number'"
	"  THEN greatest(0, least(0.9, (s.config->>'sync_reserve')::numeric))::float8 ELSE 0 END,"
	" coalesce(s.config->'sync' = 'false', false),"
	" o.source_hash, o.access_token, o.refresh_token, o.expires_at, o.refreshed_at, o.error"
	" FROM sequin.sync s"
	" LEFT JOIN pg_catalog.pg_roles r ON r.rolname = s.owner"
	" LEFT JOIN sequin.credential c ON c.sync = s.name"
	" LEFT JOIN sequin.oauth_token o ON o.sync = s.name"
	" LEFT JOIN sequin.sync_state st ON st.sync = s.name"
	" ORDER BY s.name COLLATE \"C\"";

static const char key_query[] =
	"SELECT hash, sync::text, label, methods, read_only, expires_at FROM sequin.proxy_key ORDER BY sync COLLATE \"C\"";

static void
read_view(CatalogSync *sync, MemoryContext cx, uint64 row)
{
	sync->view.name = catalog_text(cx, row, 1);
	sync->view.base_id = catalog_text(cx, row, 12);
	sync->view.tables = catalog_texts(cx, row, 13, &sync->view.ntables);
	sync->view.schema = NULL;	/* catalog_schema.c sets it once there is something in it */
}

static int64
read_interval(uint64 row, int column)
{
	bool		isnull;
	Datum		us = catalog_datum(row, column, &isnull);

	return isnull ? 0 : DatumGetInt64(us);
}

/* A point in time of that column; NULL: long ago. */
static TimestampTz
read_time(uint64 row, int column)
{
	bool		isnull;
	Datum		value = catalog_datum(row, column, &isnull);

	return isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
}

static CatalogToken *
read_token(MemoryContext cx, uint64 row)
{
	bool		isnull;
	Datum		source = catalog_datum(row, 19, &isnull);
	bytea	   *hash = isnull ? NULL : DatumGetByteaPP(source);
	CatalogToken *token;

	if (hash == NULL || VARSIZE_ANY_EXHDR(hash) != sizeof(token->source))
		return NULL;
	token = MemoryContextAllocZero(cx, sizeof(*token));
	memcpy(token->source, VARDATA_ANY(hash), sizeof(token->source));
	token->access_token = catalog_text(cx, row, 20);
	token->refresh_token = catalog_text(cx, row, 21);
	token->expires_at = read_time(row, 22);
	token->refreshed_at = read_time(row, 23);
	token->error = catalog_text(cx, row, 24);
	return token;
}

static const char *
literal_bearer(MemoryContext cx, const char *credential)
{
	size_t		size = credential ? strlen(credential) + sizeof("Bearer ") : 0;
	char	   *bearer;

	if (credential == NULL || !credential_is_token(credential))
		return NULL;
	bearer = MemoryContextAlloc(cx, size);
	snprintf(bearer, size, "Bearer %s", credential);
	return bearer;
}

/* False: a provider that this library does not have. */
static bool
read_sync(CatalogSync *sync, MemoryContext cx, uint64 row)
{
	bool		isnull;
	char	   *provider = catalog_text(cx, row, 3);

	sync->provider = provider_find(provider);
	if (sync->provider == NULL)
		return false;
	read_view(sync, cx, row);
	memcpy(sync->key, DatumGetUUIDP(catalog_datum(row, 2, &isnull))->data, sizeof(sync->key));
	sync->identifier = catalog_text(cx, row, 4);
	sync->target_schema = catalog_text(cx, row, 5);
	sync->owner = DatumGetObjectId(catalog_datum(row, 6, &isnull));
	if (isnull)
		sync->owner = InvalidOid;
	sync->auth = catalog_bool(row, 7) ? AUTH_PASSTHROUGH : AUTH_KEY;
	sync->credential = catalog_text(cx, row, 8);
	sync->bearer = literal_bearer(cx, sync->credential);
	sync->token = read_token(cx, row);
	sync->upstream_url = catalog_text(cx, row, 9);
	sync->paused = catalog_bool(row, 10);
	sync->sync_reserve = DatumGetFloat8(catalog_datum(row, 17, &isnull));
	sync->proxy_only = catalog_bool(row, 18);
	sync->ready = catalog_bool(row, 11) && OidIsValid(sync->owner);
	sync->poll_us = read_interval(row, 14);
	sync->sweep_us = read_interval(row, 15);
	sync->schema_us = read_interval(row, 16);
	return true;
}

static void
read_syncs(Catalog *catalog)
{
	uint64		rows = catalog_query(sync_query);

	catalog->syncs = MemoryContextAllocZero(catalog->cx, sizeof(CatalogSync) * Max(rows, 1));
	for (uint64 i = 0; i < rows; i++)
		if (read_sync(&catalog->syncs[catalog->nsyncs], catalog->cx, i))
			catalog->syncs[catalog->nsyncs++].catalog = catalog;
}

static HTAB *
make_hash(MemoryContext cx, const char *name, Size key_size, Size entry_size, int flags)
{
	HASHCTL		info = {0};

	info.keysize = key_size;
	info.entrysize = entry_size;
	info.hcxt = cx;
	return hash_create(name, 64, &info, HASH_ELEM | HASH_CONTEXT | flags);
}

static void
index_identifiers(Catalog *catalog)
{
	catalog->by_identifier = make_hash(catalog->cx, "sequin identifiers", IDENTIFIER_KEY, sizeof(IdentifierEntry), HASH_STRINGS);
	for (int i = 0; i < catalog->nsyncs; i++)
	{
		CatalogSync *sync = &catalog->syncs[i];
		IdentifierEntry *entry;
		bool		found;

		if (strlen(sync->identifier) >= IDENTIFIER_KEY)
			continue;			/* a constraint says otherwise */
		entry = hash_search(catalog->by_identifier, sync->identifier, HASH_ENTER, &found);
		entry->sync = sync;
	}
}

static void
add_key(Catalog *catalog, CatalogSync *sync, uint64 row)
{
	bool		isnull;
	bool		found;
	bytea	   *hash = DatumGetByteaPP(catalog_datum(row, 1, &isnull));
	Datum		expires = catalog_datum(row, 6, &isnull);
	KeyEntry   *entry;

	if (VARSIZE_ANY_EXHDR(hash) != sizeof(entry->hash))
		return;					/* no key has such a hash */
	entry = hash_search(catalog->by_key_hash, VARDATA_ANY(hash), HASH_ENTER, &found);
	memcpy(entry->key.hash, entry->hash, sizeof(entry->hash));
	entry->key.sync = sync;
	entry->key.label = catalog_text(catalog->cx, row, 3);
	entry->key.methods = catalog_texts(catalog->cx, row, 4, &entry->key.nmethods);
	entry->key.read_only = catalog_bool(row, 5);
	entry->key.expires_at = isnull ? DT_NOEND : DatumGetTimestampTz(expires);
}

static void
read_keys(Catalog *catalog)
{
	uint64		rows = catalog_query(key_query);

	catalog->by_key_hash = make_hash(catalog->cx, "sequin keys", 32, sizeof(KeyEntry), HASH_BLOBS);
	for (uint64 i = 0; i < rows; i++)
	{
		char	   *name = catalog_text(CurrentMemoryContext, i, 2);
		CatalogSync *sync = catalog_sync_by_name(catalog, name);

		if (sync != NULL)
			add_key(catalog, sync, i);
		pfree(name);
	}
}

static void
read_tables(Catalog *catalog, bool with_limits)
{
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	read_syncs(catalog);
	catalog_read_schemas(catalog);
	if (with_limits)
		catalog_read_limits(catalog);
	read_keys(catalog);
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
}

Catalog *
catalog_read(MemoryContext cx, bool with_limits)
{
	Catalog    *catalog = MemoryContextAllocZero(cx, sizeof(Catalog));

	catalog->cx = cx;
	catalog->refs = 1;
	catalog->installed = OidIsValid(get_extension_oid("sequin_proxy", true));
	if (catalog->installed)
		read_tables(catalog, with_limits);
	else
		catalog->by_key_hash = make_hash(cx, "sequin keys", 32, sizeof(KeyEntry), HASH_BLOBS);
	index_identifiers(catalog);
	return catalog;
}

CatalogSync *
catalog_sync_by_identifier(const Catalog *catalog, Str identifier)
{
	char		key[IDENTIFIER_KEY] = {0};
	IdentifierEntry *entry;

	if (identifier.n == 0 || identifier.n >= sizeof(key) || memchr(identifier.p, '\0', identifier.n) != NULL)
		return NULL;
	memcpy(key, identifier.p, identifier.n);
	entry = hash_search(catalog->by_identifier, key, HASH_FIND, NULL);
	return entry ? entry->sync : NULL;
}

/* Binary search: syncs are in byte order of their names. */
CatalogSync *
catalog_sync_by_name(const Catalog *catalog, const char *name)
{
	int			low = 0;
	int			high = catalog->nsyncs - 1;

	while (low <= high)
	{
		int			middle = (low + high) / 2;
		int			order = strcmp(name, catalog->syncs[middle].view.name);

		if (order == 0)
			return &catalog->syncs[middle];
		if (order < 0)
			high = middle - 1;
		else
			low = middle + 1;
	}
	return NULL;
}

const CatalogKey *
catalog_key_by_hash(const Catalog *catalog, const uint8_t hash[32])
{
	KeyEntry   *entry = hash_search(catalog->by_key_hash, hash, HASH_FIND, NULL);

	return entry ? &entry->key : NULL;
}
