/* SPDX-License-Identifier: MIT */
/*
 * fork.c - two calls of which one may run elsewhere.
 *
 * The second is a job like any other, on a local counter in this frame; so whatever ends the first early (a
 * panic, a fault) settles it as it settles all that a job owns. If nobody has taken it by the time the first has
 * returned, it runs in place, and no atomic operation was needed.
 */
#include "boundary.h"
#include "wait.h"

/* As coir_spawn, for a counter that is the job's and new. False: what is unusual, or no room. */
static ALWAYS_INLINE bool lend(struct worker *w, struct job *j, struct counter *c, coir_fn *fn, void *arg)
{
    struct deque_end end;

    if (UNLIKELY(j->scope || w->metered || !deque_has_room(&w->deque, &end)))
        return false;
    job_own(j, c);
    counter_owe_mine(c, 1);
    tally(&w->spawned, 1); /* BOOKS, runtime.c: before anybody can end it */
    if (UNLIKELY(deque_append(&w->deque, &end, &(struct work){fn, arg, c, NULL})))
        deque_answer(&w->deque);
    park_notify(&w->runtime->park);
    return true;
}

/* A wait that gives up, for want of a stack or to end a deadlock, must not leave the job behind. */
static COLD int join(coir_counter *counter)
{
    struct counter *c = counter_of(counter);
    int outcome = coir_wait(counter);

    if (outcome >= 0)
        return outcome;
    wait_cancel(c, COIR_CANCEL_OWNER);
    wait_join(c);
    job_disown(*job_slot(), c);
    return counter_look(c);
}

int coir_fork2(coir_fn *here, void *here_arg, coir_fn *there, void *there_arg)
{
    struct worker *w = worker_here();
    struct fiber *self = w ? w->current : NULL;
    coir_counter counter;
    int status = COIR_OK;

    if (UNLIKELY(!self || !self->job))
        return status_outside();
    if (UNLIKELY(!here || !there))
        return COIR_EINVAL;
    coir_counter_init_local(&counter);
    if (UNLIKELY(!lend(w, self->job, counter_of(&counter), there, there_arg)))
        status = coir_spawn(&counter, there, there_arg);
    if (UNLIKELY(status != COIR_OK))
        return status;
    here(here_arg);
    status = job_join_own(self, self->job, counter_of(&counter));
    return LIKELY(status >= 0) ? status : join(&counter);
}
