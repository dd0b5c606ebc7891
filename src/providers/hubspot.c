/*
 * hubspot.c - the HubSpot provider: ties the pieces of providers/hubspot_*.c to provider.h.
 *
 * Exchange, errand and sync call it through provider_hubspot; nobody else may.  Pure: no I/O, no
 * SPI, no global state.
 */
#include "hubspot.h"

static void
hubspot_feed(Conversation *conv, const Call *call, int status, Str body)
{
	if (conv->failed)
		return;					/* answers of calls that were under way when it failed */
	if (conv->discovering)
		hubspot_discover_feed(conv, call, status, body);
	else if (conv->page != NULL)
		hubspot_page_feed(conv, call, status, body);
	else
		hubspot_reread_feed(conv, call, status, body);
}

/* Whether token calls count in the account's limit is not documented: they do, to be safe. */
static const OauthEndpoint oauth = {
	.api = "HubSpot",.host = "api.hubapi.com",.path = "/oauth/v1/token",.needs_secret = true,.bucket = "default",
};

const Provider provider_hubspot = {
	.name = "hubspot",
	/* the lowest tier; HubSpot's pages give 5/s and 4/s for search: the safe one */
	.default_rate_limit = "100/10s, 250000/1d, search:4/1s",
	.created_column = "created_at",
	.has_updated_at = true,
	.oauth = &oauth,
	.route = hubspot_route,
	.decode = hubspot_decode,
	.discover = hubspot_discover,
	.reread = hubspot_reread,
	.reading = hubspot_reading,
	.page = hubspot_page,
	.feed = hubspot_feed,
	.limits = hubspot_limits,
};
