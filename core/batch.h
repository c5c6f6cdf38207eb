/* SPDX-License-Identifier: MIT */
/*
 * batch.h - running pieces of work, each inside its boundary, and releasing their units. See batch.c.
 */
#ifndef COIR_BATCH_H
#define COIR_BATCH_H

#include "boundary.h"

/* Runs one piece of work on the caller's stack and releases its unit, then those that follow it in the
 * deque and owe the same counter; runtime->run. */
void job_run(struct fiber *self, const struct work *first);

/* One piece alone, with metrics.completed; runtime->run of a metered runtime. */
void job_run_metered(struct fiber *self, const struct work *item);

/* One piece alone, but a unit that ended DONE is left for the caller to release; true: it is. */
bool job_run_in_place(struct fiber *self, const struct work *item);

/* The same on a plain thread, for a domain whose work runs in the caller. */
void job_run_outside(const struct work *item);

/* The caller waits for c: runs those of its jobs that this worker has queued last, in place, while at least half
 * of the stack is left, and releases their units. In an experiment (lab.c) it runs none. */
void job_run_children(struct fiber *self, struct counter *c);

/* The same for j's own local counter; then the wait's outcome, if nothing is owed and nobody else has had to do
 * with it, else -1. */
int job_join_own(struct fiber *self, struct job *j, struct counter *c);

#endif
