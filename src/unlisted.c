/*
 * unlisted.c - a small, bounded memory of fields that no schema refresh brings (unlisted.h).
 *
 * A table of 64-bit hashes with the time of the last refresh; a newer field takes the place of an
 * older one in the same slot.  A wrong hit (a collision of hashes) would leave a new field without
 * its column until the memory ends: at 64 bits that does not happen by chance.
 */
#include "unlisted.h"

#define UNLISTED_SLOTS 4096

typedef struct Entry
{
	uint64_t	hash;
	int64_t		at_us;			/* 0: free */
} Entry;

static Entry entries[UNLISTED_SLOTS];

/* FNV-1a; the parts are told apart by a byte that no name ends with. */
static uint64_t
hash_part(uint64_t hash, Str part)
{
	for (size_t i = 0; i < part.n; i++)
		hash = (hash ^ (unsigned char) part.p[i]) * UINT64_C(1099511628211);
	return (hash ^ 0xff) * UINT64_C(1099511628211);
}

static uint64_t
hash_of(Str sync, Str collection, Str field)
{
	return hash_part(hash_part(hash_part(UINT64_C(14695981039346656037), sync), collection), field);
}

void
unlisted_remember(Str sync, Str collection, Str field, int64_t now_us)
{
	uint64_t	hash = hash_of(sync, collection, field);

	entries[hash % UNLISTED_SLOTS] = (Entry) {hash, now_us};
}

bool
unlisted_known(Str sync, Str collection, Str field, int64_t now_us)
{
	uint64_t	hash = hash_of(sync, collection, field);
	const Entry *entry = &entries[hash % UNLISTED_SLOTS];

	return entry->at_us != 0 && entry->hash == hash && now_us - entry->at_us < UNLISTED_TTL_US;
}
