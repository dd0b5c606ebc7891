/*
 * oauth_rows.h - sequin.oauth_token as the sync process writes it, each call a transaction of its own.
 *
 * oauth_refresh.c's business only; readers see the table through the catalog.
 */
#ifndef SEQUIN_OAUTH_ROWS_H
#define SEQUIN_OAUTH_ROWS_H

#include "catalog.h"
#include "txn.h"

typedef struct OauthRow
{
	const uint8_t *sync;		/* its key, 16 bytes, for it may be renamed while we ask, and gone */
	const uint8_t *source;		/* 32 bytes; what is stored of another credential is dropped */
	Str			access_token;
	Str			refresh_token;
	TimestampTz expires_at;
	TimestampTz refreshed_at;
	const char *error;
} OauthRow;

/* Nobody uses the token from this commit on.  Also the proof that we can write at all, before the old token is spent. */
extern bool oauth_row_hold(const OauthRow *row, TxnError *error);
/* A new token: durable, whatever synchronous_commit says. */
extern bool oauth_row_store(const OauthRow *row, TxnError *error);
/* Why there is none; expires_at (unless DT_NOBEGIN) puts a token that was held to use again. */
extern bool oauth_row_fail(const OauthRow *row, TxnError *error);
/* The credential is no OAuth client's any more. */
extern bool oauth_row_forget(const CatalogSync *sync, TxnError *error);

#endif
