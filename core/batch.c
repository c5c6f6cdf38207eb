/* SPDX-License-Identifier: MIT */
/*
 * batch.c - runs pieces of work, each inside its boundary, and releases their units.
 *
 * Does not know how a job ends (boundary.c) or who comes next when others wait (find.c).
 *
 * Jobs of one counter that follow each other in the deque are a batch. They release their units together: the counter
 * cannot settle before the last of them anyway, and its line is the one that workers fight for. And they run in one
 * record, for most of what must be set when a job starts is what the one before has left there.
 *
 * What is counted for each job at once is its end (BOOKS): a job of the batch that parks would else keep the ends of
 * those before it from everybody who looks meanwhile.
 *
 * Invariants
 *   J1  Each piece of work releases exactly one unit: here on return, panic or foreign exception, with its batch
 *       if it ended DONE, or by drop.c if it never ran.
 *   J2  A job finds the record as if it had been opened for it: what differs between two jobs of a batch is written
 *       for each, and the rest again if the last one has touched any of it (job_is_touched).
 *   J3  Between two jobs of a batch nothing is called but with the job below as the innermost.
 *   J4  A batch begins only while nobody has its fiber's wreck (wreck.h); a job of it that takes it gives it back at
 *       its end.
 */
#include "batch.h"

#include "drop.h"
#include "hostcall.h"

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
    scope_leave(j->scope, &j->member, j, outcome, outcome == COIR_PANICKED ? j->wreck->failure.id : 0);
}

static COLD void release_failed(struct worker *w, struct counter *c, int outcome, coir_failure *f)
{
    if (c)
        counter_fail(c, outcome, f);
    else
        tally(&w->unobserved, 1);
}

/* Whether work that is owed to c is to be dropped instead of run, its domain apart. */
static ALWAYS_INLINE bool is_unwanted(struct coir_runtime *rt, struct counter *c)
{
    return UNLIKELY(atomic_load_explicit(&rt->canceling, memory_order_relaxed)) || /* CLOSE */
           UNLIKELY(atomic_load_explicit(&c->state, memory_order_relaxed) & /* a request, no order */
                    COUNTER_CANCEL);
}

/* The counter that it is owed to, or one that is never canceled. */
static ALWAYS_INLINE struct counter *owed_or_none(struct counter *c)
{
    static struct counter none;

    return c ? c : &none;
}

static COLD void drop(struct coir_runtime *rt, struct work item)
{
    job_drop(rt, &item,
             atomic_load_explicit(&rt->canceling, memory_order_relaxed) ? COIR_KIND_SHUTDOWN /* CLOSE */
                                                                        : COIR_KIND_SKIPPED);
}

/* A worker is empty in a fork. */
static ALWAYS_INLINE void look_whether_forked(struct fiber *self)
{
    if (UNLIKELY(!worker_of(self)->current))
        fatal("a job that has forked returned in the new process: it must exec or _exit there");
}

/* Runs the work; releases its unit unless it ended DONE. True: DONE. scoped: whether it has a scope.
 * The work comes by value: words that were just stored one by one would be loaded as vectors, and wait. */
static ALWAYS_INLINE bool run_in(struct fiber *self, struct work item, bool scoped, bool metered)
{
    struct full_job full;
    struct job *j = &full.job;
    int64_t began;
    int outcome;

    if (is_unwanted(self->runtime, owed_or_none(item.owed))) {
        drop(self->runtime, item);
        return false;
    }
    if (scoped && drop_turned_away(self->runtime, &item, j))
        return false;
    if (metered)
        began = coir_now();
    job_open_full(&full, item.owed, item.scope, self->job);
    job_set_call(j, item.fn, item.arg);
    j->born = fiber_word_now(self);
    if (scoped)
        enter_scope(j);
    outcome = job_call_in(self, j, &self->job);
    look_whether_forked(self);
    if (scoped)
        leave_scope(j, outcome);
    tally_release(&worker_of(self)->ended[outcome], 1); /* BOOKS; it may have moved */
    if (metered)
        hostcall_completed(self->runtime, outcome, coir_now() - began);
    if (LIKELY(outcome == COIR_DONE))
        return true;
    release_failed(worker_of(self), j->owed_to, outcome, &full.wreck.failure);
    return false;
}

static COLD bool run_metered(struct fiber *self, struct work item)
{
    return run_in(self, item, item.scope != NULL, true);
}

/* A copy of its own, so that a runtime without metrics does not even ask. */
static ALWAYS_INLINE bool run_one(struct fiber *self, struct work item)
{
    return UNLIKELY(worker_of(self)->metered) ? run_metered(self, item) : run_in(self, item, item.scope != NULL, false);
}

/* One after the other, each in a record of its own. Returns how many units are left to release. fp: the control words
 * of a waiter below, which it gets back from a job that does not end DONE; or NULL. */
static NOINLINE uint64_t run_each(struct fiber *self, struct work item, const uint64_t *fp)
{
    uint64_t done = 0;

    do
        if (run_one(self, item))
            done++;
        else if (fp)
            arch_fp_set(*fp);
    while (!worker_others_wait(worker_of(self)) && deque_pop_like(&worker_of(self)->deque, &item));
    return done;
}

/* The job has not left its record as it was; the next one finds it so. True: its unit is left. */
static COLD bool end_touched(struct fiber *self, int outcome)
{
    struct job *j = self->job;

    look_whether_forked(self);
    self->job = j->outer; /* J3 */
    tally_release(&worker_of(self)->ended[outcome], 1); /* BOOKS */
    if (outcome != COIR_DONE)
        release_failed(worker_of(self), j->owed_to, outcome, &j->wreck->failure);
    if (j->wreck->job == j)
        j->wreck->job = NULL;
    job_clear(j);
    self->job = j;
    return outcome == COIR_DONE;
}

static COLD void drop_between(struct fiber *self, struct work item)
{
    struct job *j = self->job;

    self->job = j->outer; /* J3 */
    drop(self->runtime, item);
    self->job = j;
}

/* Time to look around. A worker that is empty, in a fork, always comes here. */
static COLD void look_between(struct fiber *self)
{
    struct job *j = self->job;

    look_whether_forked(self);
    self->job = j->outer; /* J3 */
    worker_look_around(worker_of(self));
    self->job = j;
}

/* The next of the same counter and scope, unless others wait. ended: how many have, on w. */
static ALWAYS_INLINE bool next_like(struct worker *w, struct fiber *self, uint64_t ended, struct work *item)
{
    if (UNLIKELY(ended >= w->batch_poll_at))
        look_between(self);
    return LIKELY(!w->look_outside) && LIKELY(ring_is_clear(&w->ring)) && LIKELY(deque_pop_like(&w->deque, item));
}

/* The same in one record: the usual, without domain and metrics. c: what they owe, or a counter that is never
 * canceled. */
static ALWAYS_INLINE uint64_t run_batch(struct fiber *self, struct work item, struct counter *c, const uint64_t *fp)
{
    struct job j, **slot = &self->job;
    struct worker *w;
    uint64_t done = 0, ended;

    ASSERT(!self->wreck.job); /* J4 */
    job_open(&j, &self->wreck, item.owed, NULL, *slot);
    *slot = &j;
    do {
        int outcome;

        if (is_unwanted(self->runtime, c)) {
            drop_between(self, item);
            w = worker_of(self);
            ended = tally_read(&w->ended[COIR_DONE]);
            continue;
        }
        job_set_call(&j, item.fn, item.arg);
        j.born = fiber_word_now(self);
        outcome = job_call(self, &j);
        w = worker_of(self); /* it may have moved */
        if (LIKELY(outcome == JOB_UNTOUCHED)) {
            ended = tally_release(&w->ended[COIR_DONE], 1); /* BOOKS */
            done++;
            continue;
        }
        if (end_touched(self, outcome))
            done++;
        else if (fp)
            arch_fp_set(*fp);
        ended = tally_read(&w->ended[COIR_DONE]);
    } while (LIKELY(next_like(w, self, ended, &item)));
    *slot = j.outer;
    return done;
}

NO_CANARY void job_run(struct fiber *self, const struct work *first)
{
    struct work item = {first->fn, first->arg, first->owed, first->scope};
    uint64_t done;

    job_let_in(self, scope_tenant(item.scope));
    done = UNLIKELY(item.scope != NULL) ? run_each(self, item, NULL) : run_batch(self, item, owed_or_none(item.owed), NULL);
    if (item.owed && done)
        counter_settle(item.owed, done);
}

void job_run_metered(struct fiber *self, const struct work *item)
{
    job_let_in(self, scope_tenant(item->scope));
    if (run_metered(self, *item) && item->owed)
        counter_settle(item->owed, 1);
}

/* For a waiter that handles exceptions: they are hidden from those it runs. */
static COLD uint64_t run_each_hidden(struct fiber *self, struct work item, const uint64_t *fp)
{
    struct eh_globals *eh = worker_of(self)->carrier.eh, hidden = *eh;
    uint64_t done;

    *eh = (struct eh_globals){0};
    done = run_each(self, item, fp);
    *worker_of(self)->carrier.eh = hidden; /* a child may have parked, and this stack moved */
    return done;
}

/* Runs c's jobs that this worker has queued last; returns how many units are left to release. The waiter's
 * floating-point control words come back if one of them panics. */
static ALWAYS_INLINE uint64_t run_children(struct fiber *self, struct counter *c, struct scope *scope)
{
    struct work item = {.owed = c, .scope = scope};
    struct worker *w = worker_of(self);
    uint64_t fp;

    if ((uintptr_t)__builtin_frame_address(0) < self->in_place || !deque_pop_like(&w->deque, &item))
        return 0;
    arch_fp_save(&fp);
    if (UNLIKELY(eh_globals_used(w->carrier.eh)))
        return run_each_hidden(self, item, &fp);
    return UNLIKELY(scope || w->metered || self->wreck.job) ? run_each(self, item, &fp) : run_batch(self, item, c, &fp);
}

void job_run_children(struct fiber *self, struct counter *c)
{
    uint64_t done = run_children(self, c, self->job ? self->job->scope : NULL);

    if (done)
        counter_settle(c, done);
}

NO_CANARY int job_join_own(struct fiber *self, struct job *j, struct counter *c)
{
    uint64_t done = run_children(self, c, j->scope);
    int outcome = counter_end_mine(c, done);

    if (LIKELY(outcome >= 0))
        job_disown(j, c);
    return outcome;
}

bool job_run_in_place(struct fiber *self, const struct work *item)
{
    uint64_t tenant = self->tenant;
    bool done;

    job_let_in(self, scope_tenant(item->scope));
    done = run_one(self, *item);
    job_let_in(self, tenant);
    return done;
}

/* What fails in it is the runtime's to keep and to report. But that may be gone once the domain is left, so the
 * thread works for it no more when the counter settles, which may have more to do. */
void job_run_outside(const struct work *item)
{
    struct fiber *self = fiber_self(); /* NULL, or another runtime's */
    struct scope *scope = item->scope;
    struct coir_runtime *before;
    struct full_job full;
    struct job *j = &full.job;
    struct job **slot;
    int outcome;

    if (drop_turned_away(NULL, item, j))
        return;
    before = runtime_adopt_thread(scope->domain->rt);
    slot = job_open_try(self, &full, item->fn, item->arg);
    j->outside = true;
    j->scope = scope;
    j->owed_to = item->owed;
    enter_scope(j);
    outcome = job_call_in(self, j, slot);
    leave_scope(j, outcome);
    runtime_adopt_thread(before);
    if (item->owed && outcome == COIR_DONE)
        counter_settle(item->owed, 1);
    else if (item->owed)
        counter_fail(item->owed, outcome, &full.wreck.failure);
}
