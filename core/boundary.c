/* SPDX-License-Identifier: MIT */
/*
 * boundary.c - runs one call inside the boundary and settles everything it owes, however it ends.
 *
 * Owns: deferred handlers, what a job leaves behind in its frames.
 * Does not know how a panic is raised (panic.c) or how a wait parks (wait.c).
 *
 * Invariants
 *   B1  Each piece of work releases exactly one unit: by job_run on return, panic or foreign
 *       exception, or by drop.c if it never ran.
 *   B2  No frame is torn down while jobs owe a counter in it that its job spawned on: a panic
 *       settles them before it unwinds (panic.c), a return is checked here.
 *   B3  The job's record lies in the frame that called the boundary, above all frames of the job.
 *   B4  A lock that is held at the end is released, poisoned if it may guard half a change.
 */
#include "boundary.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drop.h"
#include "foreign.h"
#include "hostcall.h"
#include "left.h"
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
            j->failure = f;
            outcome = ended;
        }
    }
    return outcome;
}

/* It has called coir_fail. A panic that was swallowed since has written over the record. */
static int failed(struct job *j)
{
    if (j->failure.kind != COIR_KIND_FAIL) {
        job_failure(j, &j->failure, COIR_FAILED, COIR_KIND_FAIL);
        j->failure.code = j->code;
        snprintf(j->failure.message, sizeof j->failure.message,
                 "failed, and then a panic of it was swallowed");
    }
    return COIR_FAILED;
}

/* It has returned, and no frame is left to unwind; but what it left behind is a panic. */
static int panicked_at_return(struct job *j, enum coir_kind kind, const char *text)
{
    job_failure(j, &j->failure, COIR_PANICKED, kind);
    snprintf(j->failure.message, sizeof j->failure.message, "%s", text);
    job_panicked(j, j->failure.message, NULL);
    j->raising = false;
    return COIR_PANICKED;
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
    return panicked_at_return(j, COIR_KIND_OWED,
                              "returned while jobs it spawned still owed a counter in its frame");
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
 * leaves by its return goes to the boundary around it, unless its memory goes with its frames. */
static COLD int end_holding(struct job *j, int outcome, uintptr_t frame)
{
    if (job_is_inner(j) && outcome < COIR_PANICKED && !holds_in_frames(j, frame)) {
        held_move(&j->held, j->outer ? &j->outer->held : held_by_thread());
        return outcome;
    }
    if (outcome < COIR_PANICKED)
        panicked_at_return(j, COIR_KIND_HELD, j->held->kind->returned);
    while (j->held)
        j->held->kind->leave(j->held, LEAVE_ENDED);
    return COIR_PANICKED;
}

static struct eh_globals *exceptions_here(void)
{
    const struct worker *w = worker_tls; /* a fork's is empty: NULL */

    return w ? w->carrier.eh : thread_exceptions();
}

/* The C++ runtime's books as they were when the call began: frames that were unwound while they
 * rethrew have left counts behind. */
static void reset_exceptions(const struct job *j)
{
    struct eh_globals *eh = exceptions_here();

    if (eh)
        *eh = j->is_try ? j->eh : (struct eh_globals){0};
}

/* An exception has landed at the boundary; its record was written before it unwound anything. */
static COLD int caught(struct job *j, void *exception)
{
    struct worker *w = worker_here();

    if (!j->outer && w)
        arch_fp_set(w->fp); /* nobody below on this stack had set others */
    if (exception == &j->exception)
        terminate_ended(j);
    else
        foreign_end(exception); /* still raising: its destructor must not panic */
    j->raising = false;
    reset_exceptions(j);
    return COIR_PANICKED;
}

/* What the job left in its frames: handlers, values of its own, locks. The handlers may have spawned on
 * counters there, as the job itself. */
static int end_frames(struct job *j, int outcome, uintptr_t frame)
{
    outcome = run_deferred(j, outcome);
    if (j->keeps)
        outcome = job_ops_set()->end_locals(j, outcome);
    if (j->owned && outcome == COIR_PANICKED)
        job_settle_owned(j, frame); /* its record says why */
    else if (j->owned && returned_owing(j, frame) == COIR_PANICKED)
        outcome = COIR_PANICKED;
    return j->held ? end_holding(j, outcome, frame) : outcome;
}

/* Everything that most jobs do not need: a panic that landed, a coir_fail, owed counters, handlers. */
static COLD int end_slowly(struct job *j, void *exception, uintptr_t frame)
{
    int outcome = COIR_DONE;

    if (exception)
        outcome = caught(j, exception);
    else if (j->failed)
        outcome = failed(j);
    if (j->owned) {
        int owing = returned_owing(j, frame);

        outcome = owing > outcome ? owing : outcome;
    }
    return end_frames(j, outcome, frame);
}

/* Whether the end is more than a return. An exception has landed only if the job is raising: whoever
 * raises one says so before a frame goes (panic.c). */
static inline __attribute__((always_inline)) bool ends_slowly(const struct job *j)
{
    return ((uintptr_t)j->held | (uintptr_t)j->owned | j->ends_slowly) != 0;
}

/* Calls the job in its boundary. Kept apart from the settling so that its frame is the job's. */
static ON_LEFT_FRAMES int call(struct job *j, struct job **slot)
{
    void *exception;
    int outcome = COIR_DONE;

    *slot = j;
    exception = arch_boundary(j->fn, j->arg);
    ASSERT(!exception || j->raising);
    if (UNLIKELY(ends_slowly(j))) {
        uintptr_t low = lowest_left(j, exception), here = (uintptr_t)__builtin_frame_address(0);

        if (UNLIKELY(low < here)) { /* steps below them: their memory must stay what it is */
            void *gap = __builtin_alloca(here - low);

            __asm__ volatile("" : : "r"(gap) : "memory"); /* not to be optimized away */
        }
        outcome = end_slowly(j, exception, low);
    }
    *slot = j->outer;
    return outcome;
}

/* Sets what must be set; the rest is written before its flag is. */
static ALWAYS_INLINE void open_job(struct job *j, struct work item, struct job *outer)
{
    j->fn = item.fn;
    j->arg = item.arg;
    j->owed_to = item.owed;
    j->scope = item.scope;
    j->outer = outer;
    memset((char *)j + offsetof(struct job, held), 0,
           offsetof(struct job, locals) - offsetof(struct job, held));
}

/* A boundary inside a job, or on a plain thread, that calls fn(arg). */
static inline void open_inner(struct job *j, coir_fn *fn, void *arg, struct job *outer)
{
    open_job(j, (struct work){fn, arg, NULL, outer ? outer->scope : NULL}, outer);
    j->is_try = true;
}

void job_end_apart(struct job *j, uintptr_t low)
{
    struct job **slot = job_slot(); /* stays: it belongs to the fiber */
    struct job bridge;

    open_inner(&bridge, NULL, NULL, j);
    bridge.apart = true;
    bridge.raised_at = low;
    *slot = &bridge;
    job_settle_owned(j, low);
    end_frames(j, COIR_PANICKED, low);
    *slot = NULL;
}

/* A job of a domain starts: it can be named from now on. */
static NOINLINE void enter_scope(struct job *j)
{
    job_id(j); /* now, for others may read it */
    j->obligations = NULL;
    j->stall_ns = j->scope->domain->stall_ns;
    scope_enter(j->scope, &j->member);
}

/* It has ended; what it has not discharged is lost. The last access to the domain. */
static NOINLINE void leave_scope(struct job *j, int outcome)
{
    if (j->obliged)
        job_ops_set()->leak(j);
    scope_leave(j->scope, &j->member, j, outcome, outcome == COIR_PANICKED ? j->failure.id : 0);
}

static COLD void release_failed(struct worker *w, struct counter *c, int outcome, coir_failure *f)
{
    if (c)
        counter_fail(c, outcome, f);
    else
        tally(&w->unobserved, 1);
}

/* Whether the work is to be dropped instead of run, its domain apart. */
static ALWAYS_INLINE bool is_unwanted(struct worker *w, struct counter *c)
{
    return UNLIKELY(atomic_load_explicit(&w->runtime->canceling, memory_order_relaxed)) || /* CLOSE */
           (c && UNLIKELY(atomic_load_explicit(&c->state, memory_order_relaxed) & /* a request, no order */
                          COUNTER_CANCEL));
}

static COLD bool drop(struct worker *w, coir_fn *fn, void *arg, struct counter *owed, struct scope *scope)
{
    job_drop(w->runtime, &(struct work){fn, arg, owed, scope},
             atomic_load_explicit(&w->runtime->canceling, memory_order_relaxed) ? COIR_KIND_SHUTDOWN /* CLOSE */
                                                                                : COIR_KIND_SKIPPED);
    return false;
}

/* Runs the work; releases its unit unless it ended DONE. True: DONE. scoped: whether it has a scope.
 * The work comes by value: words that were just stored one by one would be loaded as vectors, and wait. */
static ALWAYS_INLINE bool run_in(struct fiber *self, struct work item, bool scoped, bool metered)
{
    struct worker *w = worker_of(self);
    int64_t began;
    struct job j;
    int outcome;

    if (is_unwanted(w, item.owed))
        return drop(w, item.fn, item.arg, item.owed, item.scope);
    if (scoped && drop_turned_away(w->runtime, &item, &j))
        return false;
    if (metered)
        began = coir_now();
    open_job(&j, item, self->job);
    j.born = fiber_generation(self);
    if (scoped)
        enter_scope(&j);
    outcome = call(&j, &self->job);
    if (UNLIKELY(!worker_of(self)->current))
        fatal("a job that has forked returned in the new process: it must exec or _exit there");
    if (scoped)
        leave_scope(&j, outcome);
    w = worker_of(self); /* it may have moved */
    tally_release(&w->ended[outcome], 1); /* BOOKS */
    if (metered)
        hostcall_completed(w->runtime, outcome, coir_now() - began);
    if (LIKELY(outcome == COIR_DONE))
        return true;
    release_failed(w, j.owed_to, outcome, &j.failure);
    return false;
}

/* Copies of their own, so that jobs outside every domain pay one branch, and a runtime without metrics does not
 * even ask. */
static NOINLINE bool run_scoped(struct fiber *self, struct work item)
{
    return run_in(self, item, true, false);
}

static COLD bool run_metered(struct fiber *self, struct work item)
{
    return run_in(self, item, item.scope != NULL, true);
}

static ALWAYS_INLINE bool run(struct fiber *self, struct work item)
{
    return UNLIKELY(item.scope != NULL) ? run_scoped(self, item) : run_in(self, item, false, false);
}

/* The next of the same counter and scope, unless others wait. */
static ALWAYS_INLINE bool next_like(struct fiber *self, struct work *item)
{
    struct worker *w = worker_of(self);

    return !worker_others_wait(w) && deque_pop_like(&w->deque, item);
}

/* Jobs of one counter that follow each other release their units together: the counter cannot settle
 * before the last of them anyway, and its line is the one that workers fight for. */
void job_run(struct fiber *self, const struct work *first)
{
    struct work item = {first->fn, first->arg, first->owed, first->scope};
    uint64_t done = 0;

    do
        done += run(self, item);
    while (item.owed && next_like(self, &item));
    if (item.owed && done)
        counter_settle(item.owed, done);
}

void job_run_metered(struct fiber *self, const struct work *item)
{
    if (run_metered(self, *item) && item->owed)
        counter_settle(item->owed, 1);
}

static ALWAYS_INLINE bool stack_is_low(const struct fiber *self)
{
    return (uintptr_t)__builtin_frame_address(0) - (uintptr_t)self->bottom < self->bytes / 2;
}

/* Runs c's jobs that this worker has queued last; returns how many units are left to release. Exceptions that
 * the waiter is handling are hidden from them, and its floating-point control words come back if one of
 * them panics. */
static ALWAYS_INLINE uint64_t run_children(struct fiber *self, struct counter *c, struct scope *scope)
{
    struct work item = {.owed = c, .scope = scope};
    struct worker *w = worker_of(self);
    struct eh_globals eh = {0};
    uint64_t done = 0, fp;

    if (stack_is_low(self) || !deque_pop_like(&w->deque, &item))
        return 0;
    fp = arch_fp_get();
    if (w->carrier.eh) {
        eh = *w->carrier.eh;
        *w->carrier.eh = (struct eh_globals){0};
    }
    do
        if (LIKELY(!worker_of(self)->metered) ? run(self, item) : run_metered(self, item))
            done++;
        else
            arch_fp_set(fp);
    while (next_like(self, &item));
    w = worker_of(self); /* a child may have parked, and this stack moved */
    if (w->carrier.eh)
        *w->carrier.eh = eh;
    return done;
}

void job_run_children(struct fiber *self, struct counter *c)
{
    uint64_t done = run_children(self, c, self->job ? self->job->scope : NULL);

    if (done)
        counter_settle(c, done);
}

int job_join_own(struct fiber *self, struct job *j, struct counter *c)
{
    uint64_t done = run_children(self, c, j->scope);
    int outcome = counter_end_mine(c, done);

    if (LIKELY(outcome >= 0))
        job_disown(j, c);
    return outcome;
}

bool job_run_in_place(struct fiber *self, const struct work *item)
{
    return LIKELY(!worker_of(self)->metered) ? run(self, *item) : run_metered(self, *item);
}

/* Opens j as a boundary on what runs here. Returns where its innermost job is kept: that belongs to
 * the fiber, or to this thread, so it stays. */
static struct job **open_try(struct job *j, coir_fn *fn, void *arg)
{
    struct job **slot = job_slot();
    const struct eh_globals *eh = exceptions_here();

    open_inner(j, fn, arg, *slot);
    if (eh)
        j->eh = *eh;
    return slot;
}

static int try_call(coir_fn *fn, void *arg, coir_failure *failure, bool is_defer)
{
    struct job j;
    struct job **slot = open_try(&j, fn, arg);
    int outcome;

    j.is_defer = is_defer;
    outcome = call(&j, slot);
    if (outcome != COIR_DONE && failure)
        *failure = j.failure;
    return outcome;
}

int job_try(coir_fn *fn, void *arg, coir_failure *failure)
{
    return try_call(fn, arg, failure, false);
}

int job_try_deferred(coir_fn *fn, void *arg, coir_failure *failure)
{
    return try_call(fn, arg, failure, true);
}

int job_try_masked(coir_fn *fn, void *arg, const char *domain)
{
    struct job j;
    struct job **slot = open_try(&j, fn, arg);

    j.is_defer = j.masked = true;
    j.name = domain;
    return call(&j, slot);
}

/* What fails in it is the runtime's to keep and to report. But that may be gone once the domain is left, so the
 * thread works for it no more when the counter settles, which may have more to do. */
void job_run_outside(const struct work *item)
{
    struct scope *scope = item->scope;
    struct coir_runtime *before;
    struct job j;
    struct job **slot;
    int outcome;

    if (drop_turned_away(NULL, item, &j))
        return;
    before = runtime_adopt_thread(scope->domain->rt);
    slot = open_try(&j, item->fn, item->arg);
    j.outside = true;
    j.scope = scope;
    j.owed_to = item->owed;
    enter_scope(&j);
    outcome = call(&j, slot);
    leave_scope(&j, outcome);
    runtime_adopt_thread(before);
    if (item->owed && outcome == COIR_DONE)
        counter_settle(item->owed, 1);
    else if (item->owed)
        counter_fail(item->owed, outcome, &j.failure);
}
