/* SPDX-License-Identifier: MIT */
/*
 * stall.h - a thread that watches a runtime: jobs that do not suspend, jobs that wait in a circle.
 * See stall.c.
 */
#ifndef COIR_STALL_H
#define COIR_STALL_H

#include "state.h"

/* Before the workers start; nothing if options ask for nothing. COIR_OK or a status. */
int stall_open(struct coir_runtime *rt);

/* Each worker's thread, at its start. */
void stall_thread_open(struct worker *w);

/* When the workers run: begins to watch them. COIR_OK or a status. */
int stall_start(struct coir_runtime *rt);

/* Before the workers stop, and after. Harmless if nothing was opened or started. */
void stall_stop(struct coir_runtime *rt);
void stall_close(struct coir_runtime *rt);

#endif
