/* SPDX-License-Identifier: MIT */
/*
 * job.c - runs one call inside the boundary and settles everything it owes, however it ends.
 *
 * Owns: the record of a running job, its deferred handlers, the counters that lie in its frames.
 * Does not know how a panic is raised (panic.c) or how a wait parks (wait.c).
 *
 * Invariants
 *   B1  Each piece of work releases exactly one unit: by job_run on return, panic or foreign
 *       exception, or by job_drop if it never ran.
 *   B2  No frame is torn down while jobs owe a counter in it that its job spawned on: a panic
 *       settles them before it unwinds (panic.c), a return is checked here.
 *   B3  The job's record lies in the frame that called the boundary, above all frames of the job.
 */
#include "job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "foreign.h"
#include "report.h"

static __thread struct job *thread_job; /* innermost coir_try of a plain thread */

NOINLINE struct job **job_slot(void)
{
    struct worker *w = worker_here();

    return w ? &w->current->job : &thread_job;
}

_Atomic(const struct job_ops *) job_ops;

/* ------------------------------------------------------------------------------- asking a job */

struct job *job_proper(struct job *j)
{
    while (j->is_try && j->outer)
        j = j->outer;
    return j;
}

uint64_t job_id(struct job *j)
{
    j = job_proper(j);
    if (!j->id && !j->is_try) {
        struct worker *w = worker_here();

        j->id = ++w->job_ids << 8 | w->index;
    }
    return j->id;
}

bool job_canceled(struct coir_runtime *rt, const struct job *j)
{
    for (; j; j = j->outer) {
        if (j->masked)
            return false;
        if ((j->owed_to && counter_canceled(j->owed_to)) || (j->scope && scope_canceled(j->scope)))
            return true;
    }
    return atomic_load_explicit(&rt->canceling, memory_order_seq_cst); /* ASK, fiber.c */
}

/* Unique in the process; taken in blocks, so that workers do not share a line for it. */
static NOINLINE uint64_t failure_id(void)
{
    static _Atomic uint64_t blocks;
    static __thread uint64_t next, end;

    if (next == end) {
        next = atomic_fetch_add_explicit(&blocks, 256, memory_order_relaxed) + 1; /* unique, no more */
        end = next + 256;
    }
    return next++;
}

void job_failure(struct job *j, coir_failure *f, int outcome, enum coir_kind kind)
{
    struct worker *w = worker_here();

    *f = (coir_failure){
        .id = failure_id(),
        .job = j ? job_id(j) : 0,
        .time = coir_now(),
        .kind = (int)kind,
        .outcome = outcome,
        .worker = w ? (int)w->index : -1,
    };
}

/* ---------------------------------------------------------------- counters in the job's frames */

/* The job in whose frames an address lies; frame is an address below them all. A coir_try shares
 * the stack with the job around it. */
static struct job *job_around(struct job *j, uintptr_t address, uintptr_t frame)
{
    for (; j; j = j->is_try ? j->outer : NULL) {
        if (address >= frame && address < (uintptr_t)j)
            return j;
        frame = (uintptr_t)j;
    }
    return NULL;
}

void job_adopt(struct job *j, struct counter *c, uintptr_t frame)
{
    struct job *owner = job_around(j, (uintptr_t)c, frame);

    if (!owner || counter_owner(c) == owner)
        return;
    counter_set_owner(c, owner);
    c->next_owned = owner->owned;
    owner->owned = c;
}

bool job_owns(const struct job *j, struct counter *c)
{
    for (; j; j = j->is_try ? j->outer : NULL)
        if (counter_owner(c) == j)
            return true;
    return false;
}

/* By address only: the counter may be memory that was never written (coir_counter_init). */
void job_disown(struct job *j, struct counter *c)
{
    for (; j; j = j->is_try ? j->outer : NULL)
        for (struct counter **at = &j->owned; *at; at = &(*at)->next_owned)
            if (*at == c) {
                *at = c->next_owned;
                counter_set_owner(c, NULL);
                c->next_owned = NULL;
                return;
            }
}

static __attribute__((noreturn, cold)) void lost_counter(void)
{
    fatal("a counter left its frame while jobs were spawned on it and before a wait ended it");
}

static const struct job_ops *ops(void)
{
    return atomic_load_explicit(&job_ops, memory_order_relaxed); /* constant since the first open */
}

void job_settle_owned(struct job *j, uintptr_t frame)
{
    struct counter *c;

    for (c = j->owned; c; c = c->next_owned) {
        if ((uintptr_t)c < frame || (uintptr_t)c >= (uintptr_t)j || counter_owner(c) != j)
            lost_counter();
        if (counter_look(c) < 0)
            ops()->cancel(c);
    }
    while ((c = j->owned)) {
        ops()->join(c);
        job_disown(j, c);
    }
}

/* The lowest counter the job still owns. Inlined into a caller that makes no call before it has
 * moved its stack pointer below: the counters lie in frames that have been left. */
static inline __attribute__((always_inline)) uintptr_t lowest_owned(const struct job *j)
{
    uintptr_t lowest = (uintptr_t)j;

    for (struct counter *c = j->owned; c; c = c->next_owned) {
        if (counter_owner(c) != j)
            lost_counter();
        lowest = (uintptr_t)c < lowest ? (uintptr_t)c : lowest;
    }
    return lowest;
}

/* ----------------------------------------------------------------------------- how a job ends */

/* Runs the deferred handlers, last in, first out. One that panics makes the job panic. */
static COLD int run_deferred(struct job *j, int outcome)
{
    struct coir_runtime *rt = runtime_here();

    while (j->defer_count || j->more) {
        struct defer_block *b = j->more;
        struct defer d = b ? b->handler[--b->count] : j->handler[--j->defer_count];
        coir_failure f;

        if (b && !b->count) {
            j->more = b->older;
            if (rt)
                mem_free(&rt->host, b);
            else
                free(b);
        }
        if (job_try(d.fn, d.arg, &f) == COIR_DONE)
            continue;
        if (outcome == COIR_DONE)
            j->failure = f;
        outcome = COIR_PANICKED;
    }
    return outcome;
}

/* The job returned while jobs owe a counter of frames that are gone. */
static COLD int returned_owing(struct job *j, uintptr_t frame)
{
    bool owed = false;

    for (struct counter *c = j->owned; c; c = c->next_owned)
        owed |= counter_look(c) < 0;
    job_settle_owned(j, frame);
    if (!owed)
        return COIR_DONE;
    job_failure(j, &j->failure, COIR_PANICKED, COIR_KIND_OWED);
    snprintf(j->failure.message, sizeof j->failure.message,
             "returned while jobs it spawned still owed a counter in its frame");
    report_failure(runtime_here(), &j->failure);
    return COIR_PANICKED;
}

static struct eh_globals *exceptions_here(void)
{
    struct worker *w = worker_here();

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

/* An exception has landed at the boundary. */
static COLD int caught(struct job *j, void *exception)
{
    struct worker *w = worker_here();

    if (!j->outer && w)
        arch_fp_set(w->fp); /* nobody below on this stack had set others */
    if (exception == &j->exception) {
        j->raising = false; /* its record was written when it was raised */
        reset_exceptions(j);
        return COIR_PANICKED;
    }
    job_failure(j, &j->failure, COIR_PANICKED, COIR_KIND_FOREIGN);
    foreign_end(exception, j->failure.message, sizeof j->failure.message);
    reset_exceptions(j);
    if (worker_here()) /* ending it may have run destructors that suspend */
        tally(&worker_here()->panics, 1);
    report_failure(runtime_here(), &j->failure);
    return COIR_PANICKED;
}

/* Everything that most jobs do not need: a panic that landed, owed counters, deferred handlers. */
static COLD int end_slowly(struct job *j, void *exception, uintptr_t frame)
{
    int outcome = COIR_DONE;

    if (exception)
        outcome = caught(j, exception);
    if (j->owned) {
        int owing = returned_owing(j, frame);

        outcome = owing > outcome ? owing : outcome;
    }
    return run_deferred(j, outcome);
}

/* Calls the job in its boundary. Kept apart from the settling so that its frame is the job's. */
static inline __attribute__((always_inline)) int call(struct job *j, struct job **slot)
{
    void *exception;
    int outcome = COIR_DONE;

    *slot = j;
    exception = arch_boundary(j->fn, j->arg);
    if (UNLIKELY(exception || j->owned || j->defer_count)) {
        uintptr_t low = lowest_owned(j), here = (uintptr_t)__builtin_frame_address(0);

        if (UNLIKELY(low < here)) { /* steps below them: their memory must stay what it is */
            void *gap = __builtin_alloca(here - low);

            __asm__ volatile("" : : "r"(gap) : "memory"); /* not to be optimized away */
        }
        outcome = end_slowly(j, exception, low);
    }
    *slot = j->outer;
    return outcome;
}

/* Sets what must be set; the rest is written by failures before they read it. */
static inline void open_job(struct job *j, coir_fn *fn, void *arg, struct counter *owed_to,
                            struct scope *scope, struct job *outer, bool is_try)
{
    j->fn = fn;
    j->arg = arg;
    j->owed_to = owed_to;
    j->scope = scope;
    j->outer = outer;
    j->owned = NULL;
    j->name = NULL;
    j->id = 0;
    j->defer_count = 0;
    j->is_try = is_try;
    j->raising = false;
    j->told = false;
    j->masked = false;
    j->more = NULL;
}

/* A job of a domain starts: it can be named from now on. */
static NOINLINE void enter_scope(struct job *j)
{
    job_id(j); /* now, for others may read it */
    j->obliged = false;
    j->obligations = NULL;
    scope_enter(j->scope, &j->member);
}

/* It has ended; what it has not discharged is lost. The last access to the domain. */
static NOINLINE void leave_scope(struct job *j, int outcome)
{
    if (j->obliged)
        ops()->leak(j);
    scope_leave(j->scope, &j->member, j, outcome, outcome == COIR_PANICKED ? j->failure.id : 0);
}

static COLD void release_failed(struct worker *w, struct counter *c, int outcome, coir_failure *f)
{
    if (c)
        counter_fail(c, outcome, f);
    else
        tally(&w->unobserved, 1);
}

/* Books of the runtime: a piece of work has ended without having run. */
static void note_dropped(struct coir_runtime *rt, int outcome, bool shutdown)
{
    struct worker *w = worker_here();

    if (w && w->runtime == rt) {
        tally(&w->ended[outcome], 1);
        tally(&w->dropped, shutdown);
    } else {
        atomic_fetch_add_explicit(&rt->ended_outside, 1, memory_order_relaxed); /* BOOKS, runtime.c */
        atomic_fetch_add_explicit(&rt->dropped_outside, shutdown, memory_order_relaxed); /* a figure */
        fence_full(); /* BOOKS: no worker may notice */
        if (runtime_flag(&rt->draining))
            rt->idle(rt);
    }
}

void job_drop(struct coir_runtime *rt, const struct work *item, enum coir_kind kind)
{
    coir_failure f;

    job_failure(NULL, &f, COIR_CANCELED, kind);
    snprintf(f.message, sizeof f.message, "%s",
             kind == COIR_KIND_SHUTDOWN     ? "the runtime closed before it started"
             : kind == COIR_KIND_DEPENDENCY ? "a job it was to run after did not end as COIR_DONE"
                                            : "canceled before it started");
    note_dropped(rt, COIR_CANCELED, kind == COIR_KIND_SHUTDOWN);
    if (item->scope)
        scope_drop(item->scope, SCOPE_CANCELED);
    if (item->owed)
        counter_fail(item->owed, COIR_CANCELED, &f);
}

/* What its domain's verdict means for the one who waits for it. */
static void write_verdict(struct scope *s, enum scope_verdict why, struct coir_domain *by,
                          coir_failure *f)
{
    job_failure(NULL, f, why == SCOPE_EXPIRED ? COIR_EXPIRED : COIR_CANCELED,
                why == SCOPE_EXPIRED ? COIR_KIND_EXPIRED : COIR_KIND_SKIPPED);
    if (why == SCOPE_TRIPPED)
        snprintf(f->message, sizeof f->message, "failure %llu has tripped domain %s",
                 (unsigned long long)breaker_figures(&by->breaker).opened_by, by->name);
    else
        snprintf(f->message, sizeof f->message, "%s in domain %s",
                 why == SCOPE_EXPIRED ? "too late to start" : "canceled before it started",
                 s->domain->name);
}

/* Whether its domain will not have the work run now; then it has ended. rt: whose books tell, or NULL.
 * who: stands for the job until it leaves the scope. */
static NOINLINE bool turned_away(struct coir_runtime *rt, const struct work *item, struct job *who)
{
    struct coir_domain *by = NULL;
    enum scope_verdict why = scope_judge(item->scope, who, &by);
    coir_failure f;

    if (why == SCOPE_RUN)
        return false;
    write_verdict(item->scope, why, by, &f);
    if (rt)
        note_dropped(rt, f.outcome, false);
    scope_drop(item->scope, why);
    if (item->owed)
        counter_fail(item->owed, f.outcome, &f);
    return true;
}

/* Whether the work is to be dropped instead of run, its domain apart. */
static bool unwanted(struct worker *w, const struct work *item)
{
    struct counter *c = item->owed;

    if (UNLIKELY(atomic_load_explicit(&w->runtime->canceling, memory_order_relaxed))) { /* CLOSE */
        job_drop(w->runtime, item, COIR_KIND_SHUTDOWN);
        return true;
    }
    if (c && UNLIKELY(atomic_load_explicit(&c->state, memory_order_relaxed) & /* a request, no order */
                      COUNTER_CANCEL)) {
        job_drop(w->runtime, item, COIR_KIND_SKIPPED);
        return true;
    }
    return false;
}

/* Runs the work; releases its unit unless it ended DONE. True: DONE. scope: the item's, which the
 * callers know to be NULL, or not. */
static inline __attribute__((always_inline)) bool run_in(struct fiber *self, const struct work *item,
                                                         struct counter *owed, struct scope *scope)
{
    struct worker *w = worker_of(self);
    struct job j;
    int outcome;

    if (unwanted(w, item) || (scope && turned_away(w->runtime, item, &j)))
        return false;
    open_job(&j, item->fn, item->arg, owed, scope, self->job, false);
    if (scope)
        enter_scope(&j);
    outcome = call(&j, &self->job);
    if (scope)
        leave_scope(&j, outcome);
    w = worker_of(self); /* it may have moved */
    tally(&w->ended[outcome], 1);
    if (LIKELY(outcome == COIR_DONE))
        return true;
    release_failed(w, owed, outcome, &j.failure);
    return false;
}

/* A copy of its own, so that jobs outside every domain pay one branch. */
static NOINLINE bool run_scoped(struct fiber *self, const struct work *item)
{
    return run_in(self, item, item->owed, item->scope);
}

static inline __attribute__((always_inline)) bool run(struct fiber *self, const struct work *item,
                                                      struct counter *owed)
{
    return UNLIKELY(item->scope != NULL) ? run_scoped(self, item) : run_in(self, item, owed, NULL);
}

/* Jobs of one counter that follow each other release their units together: the counter cannot settle
 * before the last of them anyway, and its line is the one that workers fight for. */
void job_run(struct fiber *self, const struct work *item)
{
    struct counter *owed = item->owed;
    uint64_t done = run(self, item, owed);
    struct work next;

    while (owed && !worker_others_wait(worker_of(self)) &&
           deque_pop_owed(&worker_of(self)->deque, owed, item->scope, &next))
        done += run(self, &next, owed);
    if (owed && done)
        counter_settle(owed, done);
}

bool job_run_in_place(struct fiber *self, const struct work *item)
{
    return run(self, item, item->owed);
}

/* Opens j as a boundary on what runs here. Returns where its innermost job is kept: that belongs to
 * the fiber, or to this thread, so it stays. */
static struct job **open_try(struct job *j, coir_fn *fn, void *arg)
{
    struct job **slot = job_slot();
    const struct eh_globals *eh = exceptions_here();

    open_job(j, fn, arg, NULL, *slot ? (*slot)->scope : NULL, *slot, true);
    if (eh)
        j->eh = *eh;
    return slot;
}

int job_try(coir_fn *fn, void *arg, coir_failure *failure)
{
    struct job j;
    struct job **slot = open_try(&j, fn, arg);
    int outcome = call(&j, slot);

    if (outcome != COIR_DONE && failure)
        *failure = j.failure;
    return outcome;
}

int job_try_masked(coir_fn *fn, void *arg)
{
    struct job j;
    struct job **slot = open_try(&j, fn, arg);

    j.masked = true;
    return call(&j, slot);
}

void job_run_outside(const struct work *item)
{
    struct job j;
    struct job **slot;
    int outcome;

    if (turned_away(NULL, item, &j))
        return;
    slot = open_try(&j, item->fn, item->arg);
    j.scope = item->scope;
    enter_scope(&j);
    outcome = call(&j, slot);
    leave_scope(&j, outcome);
    if (item->owed && outcome == COIR_DONE)
        counter_settle(item->owed, 1);
    else if (item->owed)
        counter_fail(item->owed, outcome, &j.failure);
}
