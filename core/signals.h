/* SPDX-License-Identifier: MIT */
/*
 * signals.h - signals as values that fibers wait for. See signals.c.
 */
#ifndef COIR_SIGNALS_H
#define COIR_SIGNALS_H

#include "errand.h"

/* The runtime's workers have ended: what only it had asked for is as it was before. */
void signals_close(struct coir_runtime *rt);
void signals_forget_all(void); /* as runtime_forget_all: what was caught is ignored */

#endif
