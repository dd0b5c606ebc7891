/*
 * utility_hook.h - what some SQL statements mean to the workers (DROP DATABASE, DROP EXTENSION).
 */
#ifndef SEQUIN_UTILITY_HOOK_H
#define SEQUIN_UTILITY_HOOK_H

extern void utility_hook_install(void);		/* from _PG_init, when preloaded */

#endif
