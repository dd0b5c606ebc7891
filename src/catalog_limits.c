/*
 * catalog_limits.c - a sync's rate limits: sequin.rate_limit's rows, or its provider's default,
 * given to the shared limiter.
 *
 * Rows replace the default; but when they say nothing of the bucket "default", the provider's
 * windows for it stay, since a sync without any limit would soon be refused by its API.
 * Called by the catalog's loader in workers only; may ereport.
 */
#include "postgres.h"

#include "executor/spi.h"

#include "catalog_load.h"
#include "limit_memory.h"

#define MAX_SPECS (RATE_MAX_BUCKETS * RATE_MAX_WINDOWS)

typedef struct Specs
{
	RateSpec	items[MAX_SPECS];
	int			count;
} Specs;

static const char limit_query[] =
	"SELECT sync::text, bucket::text, max_requests, (extract(epoch FROM period) * 1000000)::bigint"
	" FROM sequin.rate_limit ORDER BY sync COLLATE \"C\", bucket COLLATE \"C\", period";

/* Is there room for one more window of this bucket?  (The triggers see to it; a restore may not.) */
static bool
has_room(const Specs *specs, const char *bucket)
{
	const char *seen[RATE_MAX_BUCKETS];
	int			nseen = 0;
	int			windows = 0;

	for (int i = 0; i < specs->count; i++)
	{
		bool		known = false;

		windows += strcmp(specs->items[i].bucket, bucket) == 0;
		for (int j = 0; j < nseen; j++)
			known |= strcmp(seen[j], specs->items[i].bucket) == 0;
		if (!known && nseen < RATE_MAX_BUCKETS)
			seen[nseen++] = specs->items[i].bucket;
	}
	return specs->count < MAX_SPECS && windows < RATE_MAX_WINDOWS && (windows > 0 || nseen < RATE_MAX_BUCKETS);
}

static void
add_spec(Specs *specs, const char *bucket, int64 limit, int64 period_us)
{
	RateSpec   *spec;

	if (limit < 1 || period_us < 1 || strlen(bucket) >= RATE_BUCKET_NAME || !has_room(specs, bucket))
		return;
	spec = &specs->items[specs->count++];
	memset(spec, 0, sizeof(*spec));
	strlcpy(spec->bucket, bucket, sizeof(spec->bucket));
	spec->limit = limit;
	spec->period_us = period_us;
}

/* The provider's published windows: all of them, or those of "default" only. */
static void
add_published(Specs *specs, const Provider *provider, bool only_default)
{
	RateSpec	published[MAX_SPECS];
	char		error[200];
	int			count = rate_parse(provider->default_rate_limit, published, MAX_SPECS, error, sizeof(error));

	if (count < 0)
		elog(ERROR, "default rate limit of %s: %s", provider->name, error);
	for (int i = 0; i < count; i++)
		if (!only_default || strcmp(published[i].bucket, "default") == 0)
			add_spec(specs, published[i].bucket, published[i].limit, published[i].period_us);
}

static void
complete(Specs *specs, const Provider *provider)
{
	bool		only_default = specs->count > 0;

	for (int i = 0; i < specs->count; i++)
		if (strcmp(specs->items[i].bucket, "default") == 0)
			return;
	add_published(specs, provider, only_default);
}

/* Takes this sync's rows from the ordered result, and skips those of syncs that are not in the catalog. */
static void
take_rows(Specs *specs, const char *name, uint64 rows, uint64 *next)
{
	for (; *next < rows; (*next)++)
	{
		int			order = catalog_compare(*next, 1, name);
		bool		isnull;

		if (order > 0)
			return;
		if (order == 0)
		{
			char	   *bucket = catalog_text(CurrentMemoryContext, *next, 2);

			add_spec(specs, bucket, DatumGetInt64(catalog_datum(*next, 3, &isnull)),
					 DatumGetInt64(catalog_datum(*next, 4, &isnull)));
			pfree(bucket);
		}
	}
}

void
catalog_read_limits(Catalog *catalog)
{
	uint64		rows = catalog_query(limit_query);
	uint64		next = 0;

	for (int i = 0; i < catalog->nsyncs; i++)
	{
		CatalogSync *sync = &catalog->syncs[i];
		Specs		specs = {0};

		take_rows(&specs, sync->view.name, rows, &next);
		complete(&specs, sync->provider);
		sync->nlimits = limiter_configure(sync->key, sync->view.name, specs.items, specs.count, sync->sync_reserve,
										  sync->limits);
	}
	if (limiter_wants_memory())
		limit_memory_tell();
	limiter_configured();
}
