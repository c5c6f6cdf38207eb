/* SPDX-License-Identifier: MIT */
/*
 * boundary.h - running one call inside the boundary. See boundary.c.
 */
#ifndef COIR_BOUNDARY_H
#define COIR_BOUNDARY_H

#include "job.h"

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
 * of the stack is left, and releases their units. */
void job_run_children(struct fiber *self, struct counter *c);

/* The same for j's own local counter; then the wait's outcome, if nothing is owed and nobody else has had to do
 * with it, else -1. */
int job_join_own(struct fiber *self, struct job *j, struct counter *c);

/* Runs fn(arg) in a boundary of its own. COIR_DONE, COIR_FAILED or COIR_PANICKED; *failure is filled
 * for the last two. */
int job_try(coir_fn *fn, void *arg, coir_failure *failure);

/* The same for what a job leaves to be done at its end. */
int job_try_deferred(coir_fn *fn, void *arg, coir_failure *failure);

/* The same for a finalizer of a domain: a cancel does not reach the calls it blocks in. */
int job_try_masked(coir_fn *fn, void *arg, const char *domain);

/* Settles what j owns and ends all that it left in its frames, from another stack while these are dead and
 * whole. The caller is a fiber that runs no job; the handlers are j's. low: an address below j's frames. */
void job_end_apart(struct job *j, uintptr_t low);

/* Whether job_end_apart has something to do. */
static inline bool job_has_end(const struct job *j)
{
    return j->owned || j->held || j->defers || j->keeps;
}

#endif
