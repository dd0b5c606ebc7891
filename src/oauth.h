/*
 * oauth.h - OAuth's refresh-token grant as HubSpot and Airtable speak it: the credential that a user
 * gives, the request to the token endpoint, and its answer.
 *
 * Pure C (no postgres.h), no I/O.  What it makes lives in the caller's arena.  No message shows any
 * part of a secret, nor any words of the API but a plain error code.
 */
#ifndef SEQUIN_OAUTH_H
#define SEQUIN_OAUTH_H

#include "arena.h"

/* How an API's token endpoint wants to be asked; a constant of its provider. */
typedef struct OauthEndpoint
{
	const char *api;			/* "HubSpot", for messages */
	const char *host;
	const char *path;
	bool		basic;			/* a client with a secret authenticates by HTTP Basic, else in the form */
	bool		needs_secret;
	bool		ends_old;		/* a refresh ends the access token before it */
	const char *bucket;			/* rate-limit bucket that the call counts in; NULL: none */
} OauthEndpoint;

typedef struct OauthCredential
{
	Str			client_id;
	Str			client_secret;	/* STR_NULL: a public client */
	Str			refresh_token;
} OauthCredential;

/* Is this resolved credential one for OAuth (a JSON object), rather than a token? */
extern bool oauth_is(Str value);
/* False: *error (a constant) says what to fix. */
extern bool oauth_parse(Arena *arena, const OauthEndpoint *endpoint, Str value, OauthCredential *credential,
						const char **error);

typedef struct OauthRequest
{
	Str			body;			/* application/x-www-form-urlencoded */
	Str			authorization;	/* header value; STR_NULL: none must be sent */
} OauthRequest;

/* Asks for a new access token with refresh_token, the newest one.  False: out of memory. */
extern bool oauth_request(Arena *arena, const OauthEndpoint *endpoint, const OauthCredential *credential,
						  Str refresh_token, OauthRequest *request);

typedef enum OauthVerdict
{
	OAUTH_GRANTED,
	OAUTH_REFUSED,				/* asking again with the same credential is vain */
	OAUTH_CONFLICT,				/* a token was refreshed a moment ago: ask again soon */
	OAUTH_LATER					/* the endpoint has a trouble of its own */
} OauthVerdict;

#define OAUTH_DEFAULT_LIFE_S 1800	/* where the answer does not say */

typedef struct OauthAnswer
{
	OauthVerdict verdict;
	Str			access_token;	/* fit for a header */
	Str			refresh_token;	/* STR_NULL: the old one stays good */
	int64_t		life_s;			/* at least 1 */
	const char *error;			/* unless granted: for syncs.last_error, in the arena or a constant */
} OauthAnswer;

extern void oauth_answer(Arena *arena, const OauthEndpoint *endpoint, int status, Str body, OauthAnswer *answer);

#endif
