/*
 * check.c - may this request go up?  Well-formed, identifier, authentication, host and path, in
 * the contract's order.
 *
 * Only looks: at the request's head and at an immutable snapshot.  Runs inside libmicrohttpd's
 * callback too (to refuse before a body is uploaded), so it must never call anything that can
 * ereport.
 */
#include "exchange_internal.h"

#include "utils/timestamp.h"

static bool
refuse(Refusal *refusal, int status, const char *code, const char *message, const char *hint)
{
	*refusal = (Refusal) {status, code, message, hint};
	return false;
}

static bool
out_of_memory(Refusal *refusal)
{
	return refuse(refusal, 503, "not_ready", "the proxy is out of memory", "Try again later.");
}

/* The proxy key of a request: Sequin-Key, else a bearer token; STR_NULL where neither is there. */
static Str
presented_key(const HttpHead *head)
{
	Str			key = http_head_get(head, "Sequin-Key");
	Str			authorization = http_head_get(head, "Authorization");

	if (key.p != NULL)
		return key;
	if (authorization.n > 7 && str_iis((Str) {authorization.p, 7}, "Bearer "))
	{
		key = (Str) {authorization.p + 7, authorization.n - 7};
		while (key.n > 0 && *key.p == ' ')
			key = (Str) {key.p + 1, key.n - 1};
		return key;
	}
	return STR_NULL;
}

static bool
method_allowed(const CatalogKey *key, Str method)
{
	if (key->methods == NULL)
		return true;
	for (int i = 0; i < key->nmethods; i++)
		if (str_is(method, key->methods[i]))
			return true;
	return false;
}

static bool
check_key(Exchange *x, const CatalogKey **found, Refusal *refusal)
{
	const HttpHead *head = &x->request->head;
	Str			text = presented_key(head);
	const CatalogKey *key;

	if (text.p == NULL || text.n == 0)
		return refuse(refusal, 403, "missing_key", "the request has no proxy key",
					  "Send it as 'Authorization: Bearer sqk_...' or 'Sequin-Key: sqk_...'; sequin.create_key makes one.");
	StaticAssertStmt(sizeof(CatalogKeptKey) <= REQUEST_KEPT, "a connection has no room for its key");
	key = catalog_key(x->catalog, text, (CatalogKeptKey *) x->request->kept);
	if (key == NULL || key->sync != x->sync)
		return refuse(refusal, 403, "invalid_key", "the proxy key is not one of this sync",
					  "It may have been revoked; sequin.create_key makes a new one.");
	if (!TIMESTAMP_IS_NOEND(key->expires_at) && key->expires_at <= GetCurrentTimestamp())
		return refuse(refusal, 403, "expired_key", "the proxy key has expired", "sequin.create_key makes a new one.");
	if (!method_allowed(key, head->method))
		return refuse(refusal, 403, "method_not_allowed_for_key", "the proxy key is not for this method",
					  "Use a key whose methods include it.");
	*found = key;
	return true;
}

static bool
check_passthrough(Exchange *x, Refusal *refusal)
{
	x->authorization = http_head_get(&x->request->head, "Authorization");
	if (x->authorization.p == NULL || x->authorization.n == 0)
		return refuse(refusal, 403, "missing_key", "the request has no Authorization header",
					  "This sync passes the caller's own API token on: send 'Authorization: Bearer <API token>'.");
	return true;
}

static bool
check_route(Exchange *x, const CatalogKey *key, Refusal *refusal)
{
	x->view.method = x->request->head.method;
	x->view.host = x->target.host;
	x->view.path = x->target.path;
	x->view.query = x->target.query;
	memset(&x->route, 0, sizeof(x->route));
	x->sync->provider->route(&x->sync->view, &x->view, x->arena, &x->route);
	if (x->route.verdict == ROUTE_NOMEM)
		return out_of_memory(refusal);
	if (key != NULL && key->read_only && !x->route.read &&
		!str_is(x->view.method, "GET") && !str_is(x->view.method, "HEAD"))
		return refuse(refusal, 403, "read_only_key", "the proxy key may only read", "Use a key that was not made with read_only.");
	if (x->route.verdict == ROUTE_BAD_HOST)
		return refuse(refusal, 404, "bad_hostname", x->route.message, x->route.hint);
	if (x->route.verdict == ROUTE_UNSUPPORTED)
		return refuse(refusal, 404, "unsupported_path", x->route.message, x->route.hint);
	return true;
}

bool
exchange_check(Exchange *x, Catalog *catalog, Refusal *refusal)
{
	const CatalogKey *key = NULL;

	if (x->target.kind == TARGET_BAD)
		return refuse(refusal, 400, "bad_request", x->target.error, "Send the API's URL behind the API root.");
	if (x->target.kind != TARGET_API)
		return true;
	if (catalog == NULL)
		return refuse(refusal, 503, "not_ready", "the configuration could not be read yet", "See the server's log.");
	if (x->catalog != catalog)
	{
		catalog_unref(x->catalog);
		x->catalog = catalog_ref(catalog);
	}
	x->sync = catalog_sync_by_identifier(catalog, x->target.identifier);
	if (x->sync == NULL)
		return refuse(refusal, 404, "unknown_sync", "no sync has this identifier",
					  "SELECT sequin.api_root('<sync>') tells the right URL.");
	if (x->sync->auth == AUTH_PASSTHROUGH ? !check_passthrough(x, refusal) : !check_key(x, &key, refusal))
		return false;
	x->journal.key_label = key ? arena_cstr(x->arena, str_of(key->label)) : NULL;
	return check_route(x, key, refusal);
}
