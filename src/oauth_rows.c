/*
 * oauth_rows.c - sequin.oauth_token as the sync process writes it (oauth_rows.h).
 *
 * Called from oauth_turn, outside any transaction.  Tokens are parameters: none is ever in a query's
 * text, nor in an error (no CHECK on the table either).
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "oauth_rows.h"

#define ROW_LOCK_MS 200			/* the loop must not wait for a stranger's lock */

static void
text_param(Str s, Datum *arg, char *null)
{
	*null = s.p ? ' ' : 'n';
	*arg = s.p ? PointerGetDatum(cstring_to_text_with_len(s.p, (int) s.n)) : (Datum) 0;
}

static void
time_param(TimestampTz t, Datum *arg, char *null)
{
	*null = t != DT_NOBEGIN ? ' ' : 'n';
	*arg = TimestampTzGetDatum(t);
}

/* $1 sync key, $2 source, $3 access token, $4 refresh token, $5 expires, $6 refreshed, $7 error. */
static void
write_row(const OauthRow *row, const char *query)
{
	Oid			types[] = {UUIDOID, BYTEAOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID};
	Datum		args[lengthof(types)];
	char		nulls[lengthof(types)] = {' ', ' '};
	bytea	   *source = palloc(VARHDRSZ + 32);

	SET_VARSIZE(source, VARHDRSZ + 32);
	memcpy(VARDATA(source), row->source, 32);
	args[0] = UUIDPGetDatum((pg_uuid_t *) row->sync);
	args[1] = PointerGetDatum(source);
	text_param(row->access_token, &args[2], &nulls[2]);
	text_param(row->refresh_token, &args[3], &nulls[3]);
	time_param(row->expires_at, &args[4], &nulls[4]);
	time_param(row->refreshed_at, &args[5], &nulls[5]);
	text_param(str_of(row->error), &args[6], &nulls[6]);
	if (SPI_execute_with_args(query, lengthof(types), types, args, nulls, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "sequin_proxy: could not write the state of a token");
}

#define KEEP_OF_SAME_SOURCE(column) \
	column " = CASE WHEN t.source_hash OPERATOR(pg_catalog.=) $2 THEN t." column " END"

static void
hold_body(void *arg)
{
	ForceSyncCommit();
	write_row(arg, "INSERT INTO sequin.oauth_token AS t (sync, source_hash, expires_at) "
			  "SELECT s.name, $2, $5 FROM sequin.sync s WHERE s.id OPERATOR(pg_catalog.=) $1 "
			  "ON CONFLICT (sync) DO UPDATE SET source_hash = $2, expires_at = $5, " KEEP_OF_SAME_SOURCE("access_token") ", "
			  KEEP_OF_SAME_SOURCE("refresh_token") ", " KEEP_OF_SAME_SOURCE("error"));
}

bool
oauth_row_hold(const OauthRow *row, TxnError *error)
{
	OauthRow	now = *row;

	now.expires_at = GetCurrentTimestamp();
	now.refreshed_at = DT_NOBEGIN;
	return txn_run(hold_body, &now, ROW_LOCK_MS, error) && !error->unconfirmed;
}

static void
key_query(const uint8_t *key, const char *query, int expected)
{
	Oid			types[] = {UUIDOID};
	Datum		args[] = {UUIDPGetDatum((pg_uuid_t *) key)};

	if (SPI_execute_with_args(query, 1, types, args, NULL, false, 0) != expected)
		elog(ERROR, "sequin_proxy: could not write the state of a token");
}

static void
store_body(void *arg)
{
	const OauthRow *row = arg;

	/* A rotated token that a crash takes is lost for ever. */
	ForceSyncCommit();
	write_row(row, "INSERT INTO sequin.oauth_token AS t (sync, source_hash, access_token, refresh_token, expires_at, refreshed_at) "
			  "SELECT s.name, $2, $3, $4, $5, $6 FROM sequin.sync s WHERE s.id OPERATOR(pg_catalog.=) $1 "
			  "ON CONFLICT (sync) DO UPDATE SET source_hash = $2, access_token = $3, refresh_token = $4, expires_at = $5, "
			  "  refreshed_at = $6, error = NULL");
	/* A sync that could not be discovered for want of a token is tried again at once. */
	key_query(row->sync, "UPDATE sequin.sync_state t SET next_attempt_at = pg_catalog.now(), attempts = 0 "
			  "FROM sequin.sync s WHERE s.id OPERATOR(pg_catalog.=) $1 AND t.sync OPERATOR(pg_catalog.=) s.name "
			  "  AND t.state OPERATOR(pg_catalog.=) 'error' AND t.next_attempt_at OPERATOR(pg_catalog.>) pg_catalog.now()",
			  SPI_OK_UPDATE);
}

bool
oauth_row_store(const OauthRow *row, TxnError *error)
{
	return txn_run(store_body, (void *) row, ROW_LOCK_MS, error) && !error->unconfirmed;
}

static void
fail_body(void *arg)
{
	write_row(arg, "INSERT INTO sequin.oauth_token AS t (sync, source_hash, error) "
			  "SELECT s.name, $2, $7 FROM sequin.sync s WHERE s.id OPERATOR(pg_catalog.=) $1 "
			  "ON CONFLICT (sync) DO UPDATE SET source_hash = $2, error = $7, expires_at = COALESCE($5, t.expires_at), "
			  KEEP_OF_SAME_SOURCE("access_token") ", " KEEP_OF_SAME_SOURCE("refresh_token"));
}

bool
oauth_row_fail(const OauthRow *row, TxnError *error)
{
	return txn_run(fail_body, (void *) row, ROW_LOCK_MS, error);
}

static void
forget_body(void *arg)
{
	key_query(((const CatalogSync *) arg)->key, "DELETE FROM sequin.oauth_token t USING sequin.sync s "
			  "WHERE s.id OPERATOR(pg_catalog.=) $1 AND t.sync OPERATOR(pg_catalog.=) s.name", SPI_OK_DELETE);
}

bool
oauth_row_forget(const CatalogSync *sync, TxnError *error)
{
	return txn_run(forget_body, (void *) sync, ROW_LOCK_MS, error);
}
