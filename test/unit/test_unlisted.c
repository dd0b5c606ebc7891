// SRC: src/unlisted.c src/arena.c
/*
 * test_unlisted.c - the memory of fields that no schema refresh brings.
 */
#include "unlisted.h"

#include <stdio.h>

static int	passed, failed;

static void
check(bool ok, const char *name)
{
	printf("%s - %s\n", ok ? "ok" : "not ok", name);
	*(ok ? &passed : &failed) += 1;
}

#define S(x) STR_LIT(x)

int
main(void)
{
	check(!unlisted_known(S("crm"), S("0-1"), S("hs_x"), 5), "a field that was never refreshed is not known");
	unlisted_remember(S("crm"), S("0-1"), S("hs_x"), 5);
	check(unlisted_known(S("crm"), S("0-1"), S("hs_x"), 6), "a remembered field is known");
	check(!unlisted_known(S("crm"), S("0-2"), S("hs_x"), 6), "another collection's field is another");
	check(!unlisted_known(S("crm2"), S("0-1"), S("hs_x"), 6), "another sync's field is another");
	check(!unlisted_known(S("crm"), S("0-1h"), S("s_x"), 6), "the parts do not run into each other");
	check(unlisted_known(S("crm"), S("0-1"), S("hs_x"), 5 + UNLISTED_TTL_US - 1), "it is known until its time is over");
	check(!unlisted_known(S("crm"), S("0-1"), S("hs_x"), 5 + UNLISTED_TTL_US), "then it is asked for again");
	for (int i = 0; i < 100000; i++)
	{
		char		name[16];

		snprintf(name, sizeof(name), "f%d", i);
		unlisted_remember(S("crm"), S("0-1"), str_of(name), 10);
	}
	check(unlisted_known(S("crm"), S("0-1"), S("f99999"), 11), "a full memory keeps the newest");
	printf("%d passed, %d failed\n", passed, failed);
	return failed != 0;
}
