/*
 * exchange.h - the story of one proxied request: route, authenticate, classify, journal, pace,
 * forward, commit, answer.
 *
 * The engine runs all exchanges of one worker.  It gets whole Requests, gives Responses, and knows
 * nothing of libmicrohttpd: another entrance (SQL writes) can use it.  Handler functions are
 * called inside the reactor's dispatch and only note what came; all PostgreSQL work happens in
 * engine_turn.
 */
#ifndef SEQUIN_EXCHANGE_H
#define SEQUIN_EXCHANGE_H

#include "postgres.h"

#include "listener.h"
#include "loop.h"
#include "shared.h"

typedef struct Engine Engine;

extern Engine *engine_create(Loop *loop, WorkerStats *stats);	/* NULL: out of memory */
extern const ListenerHandler *engine_handler(Engine *engine);
extern void engine_set_listener(Engine *engine, Listener *listener);
/* Once per loop turn, outside any foreign frame: transactions, sends, answers.  Never ereports. */
extern void engine_turn(Engine *engine);
extern bool engine_idle(const Engine *engine);			/* nothing is on its way */
extern void engine_stop(Engine *engine);				/* shutdown: refuses what was not sent; the rest may finish */
extern void engine_cut(Engine *engine);					/* the drain's deadline: cuts what is at the API (503), defers what is accepted */

#endif
