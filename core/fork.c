/* SPDX-License-Identifier: MIT */
/*
 * fork.c - two calls of which one may run elsewhere.
 *
 * The second is a job like any other, on a local counter in this frame; so whatever ends the first early (a
 * panic, a fault) settles it as it settles all that a job owns. If nobody has taken it by the time the first has
 * returned, it runs in place, and no atomic operation was needed.
 */
#include "batch.h"
#include "wait.h"

/* As coir_counter_init_local, job_own and coir_spawn: nothing is written twice. False: what is unusual, or no room. */
static ALWAYS_INLINE bool lend(struct worker *w, struct job *j, struct counter *c, coir_fn *fn, void *arg)
{
    uint32_t end;

    if (UNLIKELY(j->scope || !w->plain || !deque_has_room(&w->deque, &end)))
        return false;
    counter_open_mine(c, 1);
    job_own(j, c);
    tally(&w->spawned, 1); /* BOOKS, runtime.c: before anybody can end it */
    deque_append(&w->deque, end, &(struct work){fn, arg, c, NULL});
    if (UNLIKELY(park_may_be_due(&w->runtime->park)))
        park_notify(&w->runtime->park);
    return true;
}

static COLD int lend_rarely(coir_counter *counter, coir_fn *fn, void *arg)
{
    coir_counter_init_local(counter);
    return coir_spawn(counter, fn, arg);
}

static COLD int cancel_and_join(struct counter *c)
{
    wait_cancel(c, COIR_CANCEL_OWNER);
    wait_join(c);
    job_disown(*job_slot(), c);
    return counter_look(c);
}

/* A wait that gives up, for want of a stack or to end a deadlock, must not leave the job behind. */
static COLD int join(coir_counter *counter)
{
    int outcome = coir_wait(counter);

    return outcome >= 0 ? outcome : cancel_and_join(counter_of(counter));
}

/* The first call, and whether it has returned. */
struct first {
    struct counter *second;
    bool returned;
};

/* An exception passes the first call, and the job may catch it further up: nobody else knows of this frame. A panic
 * has settled the counter before. */
static COLD void leave(struct counter *c)
{
    if (!counter_owner(c))
        return;
    job_share(c);
    cancel_and_join(c);
}

static ALWAYS_INLINE void end_first(struct first *f)
{
    if (UNLIKELY(!f->returned))
        leave(f->second);
}

static ALWAYS_INLINE void call_first(coir_fn *fn, void *arg, struct counter *second)
{
    struct first f __attribute__((cleanup(end_first))) = {second, false};

    fn(arg);
    f.returned = true;
}

NO_CANARY int coir_fork2(coir_fn *here, void *here_arg, coir_fn *there, void *there_arg)
{
    struct worker *w = worker_here();
    struct fiber *self = w ? w->current : NULL;
    coir_counter counter;
    int status = COIR_OK;

    if (UNLIKELY(!self || !self->job))
        return status_outside();
    if (UNLIKELY(!here || !there))
        return COIR_EINVAL;
    if (UNLIKELY(!lend(w, self->job, counter_of(&counter), there, there_arg)))
        status = lend_rarely(&counter, there, there_arg);
    if (UNLIKELY(status != COIR_OK))
        return status;
    call_first(here, here_arg, counter_of(&counter));
    status = job_join_own(self, self->job, counter_of(&counter));
    return LIKELY(status >= 0) ? status : join(&counter);
}
