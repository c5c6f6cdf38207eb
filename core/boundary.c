/* SPDX-License-Identifier: MIT */
/*
 * boundary.c - runs one call inside the boundary and settles everything it owes, however it ends.
 *
 * Owns: deferred handlers, what a job leaves behind in its frames.
 * Does not know how a panic is raised (panic.c) or how a wait parks (wait.c).
 *
 * Invariants
 *   B1  No frame is torn down while jobs owe a counter in it that its job spawned on: a panic
 *       settles them before it unwinds (panic.c), a return is checked here.
 *   B2  The job's record lies in the frame that called the boundary, above all frames of the job.
 *   B3  A lock that is held at the end is released, poisoned if it may guard half a change.
 */
#include "boundary.h"

#include <stdlib.h>

#include "foreign.h"
#include "terminate.h"

/* ----------------------------------------------------------------------------- how a job ends */

static int try_call(coir_fn *fn, void *arg, coir_failure *failure, bool is_defer);

/* Runs the deferred handlers, last in, first out. One that fails or panics makes the job do so. */
static COLD int run_deferred(struct job *j, int outcome)
{
    struct coir_runtime *rt = runtime_here();

    while (j->defers && (j->defer_count || j->more)) {
        struct defer_block *b = j->more;
        struct defer d = b ? b->handler[--b->count] : j->handler[--j->defer_count];
        coir_failure f;
        int ended;

        if (b && !b->count) {
            j->more = b->older;
            if (rt)
                mem_free(&rt->host, b);
            else
                free(b);
        }
        ended = try_call(d.fn, d.arg, &f, true);
        if (ended > outcome) { /* the first of the worst */
            job_wreck(j)->failure = f;
            outcome = ended;
        }
    }
    return outcome;
}

/* The job returned while jobs owe a counter of frames that are gone. */
static COLD int returned_owing(struct job *j, uintptr_t frame)
{
    bool owed = false;

    for (struct counter *c = j->owned; c; c = c->next_owned) {
        if (counter_is_local(c))
            counter_share(c);
        owed |= counter_look(c) < 0;
    }
    job_settle_owned(j, frame);
    if (!owed)
        return COIR_DONE;
    return job_panicked_at_return(j, COIR_KIND_OWED,
                                  "returned while jobs it spawned, or a hand, still owed a counter in its frame");
}

/* Whether a lock that is held lies in frames that have been left, from `frame` on. */
static bool holds_in_frames(const struct job *j, uintptr_t frame)
{
    const struct held *h = j->held;

    while (h && ((uintptr_t)h < frame || (uintptr_t)h >= (uintptr_t)j))
        h = h->next;
    return h != NULL;
}

/* Locks are still held at the end, or links lie in its frames, which nobody else could unlock. What a coir_try
 * leaves by its return goes to the boundary around it, unless that has no use for it or its memory goes with its frames. */
static COLD int end_holding(struct job *j, int outcome, uintptr_t frame)
{
    if (job_is_inner(j) && !j->whole && outcome < COIR_PANICKED && !holds_in_frames(j, frame)) {
        held_move(&j->held, j->outer ? &j->outer->held : held_by_thread());
        return outcome;
    }
    if (outcome < COIR_PANICKED)
        job_panicked_at_return(j, COIR_KIND_HELD, j->held->kind->returned);
    while (j->held)
        j->held->kind->leave(j->held, LEAVE_ENDED);
    return COIR_PANICKED;
}

/* The C++ runtime's books as they were when the call began: frames that were unwound while they
 * rethrew have left counts behind. Not inlined: its caller may have moved to another thread, and the compiler may
 * have kept the address of the first one's. */
static NOINLINE void reset_exceptions(const struct job *j)
{
    struct eh_globals *eh = exceptions_here();

    if (eh)
        *eh = j->is_try ? j->eh : (struct eh_globals){0};
}

static bool is_panic(const struct _Unwind_Exception *e)
{
    return e->exception_class == JOB_EXCEPTION_CLASS;
}

/* An exception has landed at the boundary; its record was written before it unwound anything. */
static COLD int caught(struct job *j, void *exception)
{
    struct worker *w = worker_here();

    if (!j->outer && w)
        arch_fp_set(w->fp); /* nobody below on this stack had set others */
    job_keep_trace(j);
    if (exception == &j->wreck->exception)
        terminate_ended(j);
    else if (!is_panic(exception)) /* of an outer boundary, whose catch will end it */
        foreign_end(exception); /* still raising: its destructor must not panic */
    j->raising = false;
    reset_exceptions(j);
    return COIR_PANICKED;
}

/* Work waits for counters of its frames, which have been left and are whole. */
static int end_awaited(struct job *j, int outcome)
{
    if (!job_is_awaited(j) || !job_ops_set()->end_awaited(j, 0) || outcome == COIR_PANICKED)
        return outcome;
    return job_panicked_at_return(j, COIR_KIND_OWED, "returned while work waited for a counter in its frame");
}

/* What the job left in its frames: handlers, values of its own, locks. The handlers may have spawned on
 * counters there, as the job itself. */
static int end_frames(struct job *j, int outcome, uintptr_t frame)
{
    outcome = run_deferred(j, outcome);
    if (j->keeps)
        outcome = job_ops_set()->end_locals(j, outcome);
    outcome = end_awaited(j, outcome);
    if (j->owned && outcome == COIR_PANICKED)
        job_settle_owned(j, frame); /* its record says why */
    else if (j->owned && returned_owing(j, frame) == COIR_PANICKED)
        outcome = COIR_PANICKED;
    return j->held ? end_holding(j, outcome, frame) : outcome;
}

COLD int job_end_slowly(struct job *j, void *exception, uintptr_t frame)
{
    int outcome = COIR_DONE;

    if (exception)
        outcome = caught(j, exception);
    else if (j->failed)
        outcome = job_failed(j);
    if (j->owned) {
        int owing = returned_owing(j, frame);

        outcome = owing > outcome ? owing : outcome;
    }
    outcome = end_awaited(j, outcome); /* handlers may wait for it */
    return end_frames(j, outcome, frame);
}

void job_end_apart(struct job *j, uintptr_t low)
{
    struct job **slot = job_slot(); /* stays: it belongs to the fiber */
    struct full_job bridge;

    job_let_in(worker_here()->current, scope_tenant(j->scope));
    job_open_inner(&bridge, NULL, NULL, j);
    bridge.job.apart = true;
    bridge.job.raised_at = low;
    *slot = &bridge.job;
    job_settle_owned(j, low);
    job_end_awaited(j, low);
    end_frames(j, COIR_PANICKED, low);
    *slot = NULL;
}

static ALWAYS_INLINE int try_as(coir_fn *fn, void *arg, coir_failure *failure, bool is_defer, bool whole)
{
    struct fiber *self = fiber_here();
    struct full_job j;
    struct job **slot = job_open_try(self, &j, fn, arg);
    int outcome;

    j.job.is_defer = is_defer;
    if (whole)
        j.job.whole = true;
    outcome = job_call_in(self, &j.job, slot);
    if (outcome != COIR_DONE && failure)
        *failure = j.wreck.failure;
    return outcome;
}

static NO_CANARY int try_call(coir_fn *fn, void *arg, coir_failure *failure, bool is_defer)
{
    return try_as(fn, arg, failure, is_defer, false);
}

int job_try(coir_fn *fn, void *arg, coir_failure *failure)
{
    return try_call(fn, arg, failure, false);
}

int job_try_whole(coir_fn *fn, void *arg, coir_failure *failure)
{
    return try_as(fn, arg, failure, false, true);
}

int job_try_deferred(coir_fn *fn, void *arg, coir_failure *failure)
{
    return try_call(fn, arg, failure, true);
}

static ALWAYS_INLINE int try_masked(coir_fn *fn, void *arg, const struct coir_domain *d, bool is_defer)
{
    struct fiber *self = fiber_self();
    uint64_t tenant = self ? self->tenant : d->tenant;
    struct job **slot;
    struct full_job j;
    int outcome;

    if (self)
        job_let_in(self, d->tenant);
    slot = job_open_try(self, &j, fn, arg);
    j.job.masked = true;
    j.job.is_defer = is_defer;
    j.job.whole = !is_defer;
    j.job.name = d->name;
    outcome = job_call_in(self, &j.job, slot);
    if (self)
        job_let_in(self, tenant);
    return outcome;
}

int job_try_masked(coir_fn *fn, void *arg, const struct coir_domain *d)
{
    return try_masked(fn, arg, d, true);
}

int job_try_callback(coir_fn *fn, void *arg, const struct coir_domain *d)
{
    return try_masked(fn, arg, d, false);
}
