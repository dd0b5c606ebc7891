/*
 * metrics.h - the proxy's own two pages: /healthz and /metrics.
 */
#ifndef SEQUIN_METRICS_H
#define SEQUIN_METRICS_H

#include "exchange_internal.h"

extern void metrics_answer(Exchange *x);	/* x->target.kind says which page */

#endif
