/* SPDX-License-Identifier: MIT */
/*
 * boundary.h - running one call inside the boundary. See boundary.c.
 */
#ifndef COIR_BOUNDARY_H
#define COIR_BOUNDARY_H

#include <string.h>

#include "left.h"

/* Runs fn(arg) in a boundary of its own. COIR_DONE, COIR_FAILED or COIR_PANICKED; *failure is filled
 * for the last two. */
int job_try(coir_fn *fn, void *arg, coir_failure *failure);

/* The same for what is a piece of work by itself: locks that it leaves locked are its panic, as a job's. */
int job_try_whole(coir_fn *fn, void *arg, coir_failure *failure);

/* The same for what a job leaves to be done at its end. */
int job_try_deferred(coir_fn *fn, void *arg, coir_failure *failure);

/* The same for a finalizer of a domain, whose jobs' stacks are no secret to it: a cancel does not reach the calls it
 * blocks in. */
int job_try_masked(coir_fn *fn, void *arg, const struct coir_domain *d);

/* The same for a callback of its pool, which is no clean-up but a piece of work, as job_try_whole's. */
int job_try_callback(coir_fn *fn, void *arg, const struct coir_domain *d);

/* Settles what j owns and ends all that it left in its frames, from another stack while these are dead and
 * whole. The caller is a fiber that runs no job; the handlers are j's. low: an address below j's frames. */
void job_end_apart(struct job *j, uintptr_t low);

/* Whether job_end_apart has something to do. */
static inline bool job_has_end(const struct job *j)
{
    return j->owned || j->held || j->defers || j->keeps;
}

/* ---------------------------------------------------------------- its parts, for who runs jobs */

/* W1, wipe.c: before code of the tenant is called on this stack. */
static ALWAYS_INLINE void job_let_in(struct fiber *self, uint64_t tenant)
{
    if (LIKELY(self->tenant == tenant))
        return;
    tally(&worker_of(self)->wipes, self->tenant != TENANT_NONE);
    wipe_for(&self->runtime->stacks, self->stack.low, &self->tenant, tenant);
}

/* Everything that most jobs do not need: a panic that landed, a coir_fail, owed counters, handlers. */
int job_end_slowly(struct job *j, void *exception, uintptr_t frame);

/* Whether the end is more than a return. An exception has landed only if the job is raising: whoever
 * raises one says so before a frame goes (panic.c). */
static ALWAYS_INLINE bool job_ends_slowly(const struct job *j)
{
    return ((uintptr_t)j->held | (uintptr_t)j->owned | j->ends_slowly) != 0;
}

/* Whether anything of the record is not what it was when it was opened. */
static ALWAYS_INLINE bool job_is_touched(const struct job *j)
{
    return ((uintptr_t)j->held | (uintptr_t)j->owned | j->touched) != 0;
}

#define JOB_UNTOUCHED (-1) /* DONE, and the record is as it was opened */

/* Calls the job in its boundary. self is asked for before: the job may end on another thread, and what it has left
 * must be read without a call. Kept apart from the settling so that its frame is the job's. */
static ON_LEFT_FRAMES int job_call(const struct fiber *self, struct job *j)
{
    void *exception = arch_boundary(j->fn, j->arg);
    int outcome = COIR_DONE;

    ASSERT(!exception || j->raising);
    if (LIKELY(!job_is_touched(j)))
        return JOB_UNTOUCHED;
    atomic_signal_fence(memory_order_seq_cst); /* the words are read again, not kept in registers until now */
    if (job_ends_slowly(j)) {
        uintptr_t low = lowest_left(self, j, exception), here = (uintptr_t)__builtin_frame_address(0);
        char gap[low < here ? here - low : 1]; /* steps below them: their memory must stay what it is. Given back
                                                  at the end of this block, for the next job has the same frame */

        __asm__ volatile("" : : "r"(gap) : "memory"); /* not to be optimized away */
        outcome = job_end_slowly(j, exception, low);
    }
    return outcome;
}

/* The same with j as the innermost job meanwhile. */
static ALWAYS_INLINE int job_call_in(const struct fiber *self, struct job *j, struct job **slot)
{
    int outcome;

    *slot = j;
    outcome = job_call(self, j);
    *slot = j->outer;
    return LIKELY(outcome == JOB_UNTOUCHED) ? COIR_DONE : outcome;
}

static ALWAYS_INLINE void job_clear(struct job *j)
{
    memset((char *)j + offsetof(struct job, held), 0,
           offsetof(struct job, wreck) - offsetof(struct job, held));
}

/* Sets what must be set, but for the call; the rest is written before its flag is. */
static ALWAYS_INLINE void job_open(struct job *j, struct wreck *wreck, struct counter *owed_to, struct scope *scope,
                                   struct job *outer)
{
    j->wreck = wreck;
    j->owed_to = owed_to;
    j->scope = scope;
    j->outer = outer;
    job_clear(j);
}

static ALWAYS_INLINE void job_set_call(struct job *j, coir_fn *fn, void *arg)
{
    j->fn = fn;
    j->arg = arg;
}

/* As job_open, with a wreck of its own. */
static ALWAYS_INLINE void job_open_full(struct full_job *full, struct counter *owed_to, struct scope *scope,
                                        struct job *outer)
{
    job_open(&full->job, &full->wreck, owed_to, scope, outer);
}

/* A boundary inside a job, or on a plain thread, that calls fn(arg). */
static inline void job_open_inner(struct full_job *full, coir_fn *fn, void *arg, struct job *outer)
{
    struct job *j = &full->job;

    job_open_full(full, NULL, outer ? outer->scope : NULL, outer);
    job_set_call(j, fn, arg);
    j->is_try = true;
}

/* Opens a boundary on what runs here: self, or NULL on a plain thread. Returns where its innermost job is
 * kept: that belongs to the fiber, or to this thread, so it stays. */
static inline struct job **job_open_try(struct fiber *self, struct full_job *full, coir_fn *fn, void *arg)
{
    struct job **slot = self ? &self->job : job_slot();
    const struct eh_globals *eh = self ? worker_of(self)->carrier.eh : thread_exceptions();

    job_open_inner(full, fn, arg, *slot);
    if (eh)
        full->job.eh = *eh;
    return slot;
}

#endif
