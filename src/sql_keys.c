/*
 * sql_keys.c - random identifiers and proxy keys, and the URL under which a sync is reached.
 *
 * Keys are made here and returned once; only sequin.proxy_key's SHA-256 stays (SQL computes it).
 * Must never log or put into an error what it made.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base62.h"
#include "settings.h"
#include "sql_function.h"

SQL_FUNCTION(sequin_random_text);
SQL_FUNCTION(sequin_root_url);

/* sequin._random_text(nbytes): so many random bytes in base 62. */
Datum
sequin_random_text(PG_FUNCTION_ARGS)
{
	int32		nbytes = PG_GETARG_INT32(0);
	uint8		bytes[BASE62_MAX_BYTES];
	char		text[2 * BASE62_MAX_BYTES];

	if (nbytes < 1 || nbytes > BASE62_MAX_BYTES)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("number of random bytes out of range"));
	if (!pg_strong_random(bytes, (size_t) nbytes))
		ereport(ERROR, errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random values"));
	base62_encode(bytes, (size_t) nbytes, text);
	PG_RETURN_TEXT_P(cstring_to_text(text));
}

/* The first of listen_addresses as a host of a URL; a wildcard is not a place to connect to. */
static char *
listen_host(void)
{
	const char *start = setting_listen_addresses + strspn(setting_listen_addresses, " \t,");
	char	   *host = pnstrdup(start, strcspn(start, " \t,"));

	if (*host == '\0' || strcmp(host, "*") == 0 || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0)
		return pstrdup("localhost");
	if (strchr(host, ':') != NULL)
		return psprintf("[%s]", host);
	return host;
}

/* sequin._root_url(identifier): public_url, or the listener's own address, and the identifier. */
Datum
sequin_root_url(PG_FUNCTION_ARGS)
{
	char	   *identifier = text_to_cstring(PG_GETARG_TEXT_PP(0));
	bool		tls;
	size_t		n;

	sql_require_preload();		/* without it there are no settings */
	tls = setting_tls_cert_file != NULL && *setting_tls_cert_file != '\0';
	n = setting_public_url ? strlen(setting_public_url) : 0;
	while (n > 0 && setting_public_url[n - 1] == '/')
		n--;
	if (n > 0)
		PG_RETURN_TEXT_P(cstring_to_text(psprintf("%.*s/%s", (int) n, setting_public_url, identifier)));
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%s://%s:%d/%s", tls ? "https" : "http", listen_host(),
											  setting_port, identifier)));
}
