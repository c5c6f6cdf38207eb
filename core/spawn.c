/* SPDX-License-Identifier: MIT */
/*
 * spawn.c - how work enters: from a fiber, from outside, and units by hand; how what is queued ends without running.
 *
 * A unit is owed before the work is queued, and released at once if the queue refuses, so a counter
 * never settles too early and never stays owed for work that is not there.
 */
#include <stdio.h>

#include "batch.h"
#include "drop.h"
#include "find.h"
#include "hostcall.h"
#include "report.h"
#include "spawn.h"

/* The queue has refused: the units go, and with the last of them the counter is its job's no more. */
static COLD void give_up(struct job *j, struct counter *c, size_t n)
{
    if (job_owes_mine(j, c))
        counter_settle_mine(c, n);
    else
        counter_settle(c, n);
    if (counter_look(c) >= 0)
        job_disown(j, c);
}

/* The queue has refused what is owed and admitted. */
static COLD void take_back(struct job *j, const struct work *first, size_t n)
{
    if (first->owed)
        give_up(j, first->owed, n);
    if (first->scope)
        scope_revoke(first->scope, n);
}

/* What a job spawns runs in its scope. */
static NOINLINE int spawn(struct work *first, size_t stride, size_t n, uintptr_t frame)
{
    struct worker *w = worker_here();
    struct job *j = w ? w->current->job : NULL;
    int status = COIR_OK;

    if (!j)
        return status_outside();
    if (!first->fn)
        return COIR_EINVAL;
    if (UNLIKELY(n > DEQUE_CAP + w->runtime->inject.work_max)) /* nor may a counter owe so many for a moment */
        return COIR_EAGAIN;
    first->scope = j->scope;
    if (UNLIKELY(j->scope != NULL) && (status = scope_admit(j->scope, n)) != COIR_OK)
        return status;
    if (first->owed)
        job_owe(j, first->owed, n, frame);
    status = worker_push(w, first, stride, n);
    if (UNLIKELY(w->metered) && status == COIR_OK)
        hostcall_spawned(w->runtime, n);
    if (UNLIKELY(status != COIR_OK))
        take_back(j, first, n);
    return status;
}

static NOINLINE int spawn_one(struct counter *c, coir_fn *fn, void *arg)
{
    return spawn(&(struct work){fn, arg, c, NULL}, 0, 1, (uintptr_t)__builtin_frame_address(0));
}

static COLD int pushed_noticed(struct worker *w)
{
    park_notify(&w->runtime->park);
    return COIR_OK;
}

/* It is time to look at the deque's window. */
static NOINLINE int spawn_looking(struct counter *c, coir_fn *fn, void *arg)
{
    if (!deque_look_for_room(&worker_here()->deque))
        return spawn_one(c, fn, arg);
    return coir_spawn((coir_counter *)(void *)c, fn, arg);
}

/* The same as spawn for what is usual: no scope, no metrics, a counter of the job's own, room. Kept so simple that
 * it needs no registers of its callers. */
int coir_spawn(coir_counter *counter, coir_fn *fn, void *arg)
{
    struct counter *c = counter_of(counter);
    struct worker *w = worker_tls;
    struct job *j;
    uint32_t end;

    if (UNLIKELY(!w || !w->plain)) /* nor is it in a fork */
        return spawn_one(c, fn, arg);
    j = w->current->job;
    if (UNLIKELY(!j || !fn || j->scope))
        return spawn_one(c, fn, arg);
    if (UNLIKELY(!deque_has_room(&w->deque, &end)))
        return spawn_looking(c, fn, arg);
    if (LIKELY(c != NULL)) {
        if (UNLIKELY(counter_owner(c) != j)) {
            if (UNLIKELY((uintptr_t)c < (uintptr_t)__builtin_frame_address(0) || (uintptr_t)c >= (uintptr_t)j))
                return spawn_one(c, fn, arg);
            job_own(j, c);
        }
        if (!counter_is_local(c) || UNLIKELY(!counter_owe_mine(c, 1)))
            counter_owe(c, 1);
    }
    tally(&w->spawned, 1); /* BOOKS, runtime.c: before anybody can end it */
    deque_append(&w->deque, end, &(struct work){fn, arg, c, NULL});
    if (UNLIKELY(park_may_be_due(&w->runtime->park)))
        return pushed_noticed(w);
    return COIR_OK;
}

int coir_spawn_many(coir_counter *counter, coir_fn *fn, void *first, size_t stride, size_t n)
{
    struct work item = {fn, first, counter, NULL};

    if (n == 0)
        return fn ? COIR_OK : COIR_EINVAL;
    return spawn(&item, stride, n, (uintptr_t)__builtin_frame_address(0));
}

/* To the injector, from anywhere. VISIT: once the work is there only the sleeper is touched (inject.c), and the
 * runtime only by who has registered. */
static int submit(struct coir_runtime *rt, const struct work *item, uintptr_t frame)
{
    bool metered = rt->metered, visiting = UNLIKELY(metered) && runtime_visit(rt);
    struct parker *sleeper;
    int status;

    if (item->owed)
        job_owe(*job_slot(), item->owed, 1, frame);
    status = inject_submit(&rt->inject, item, 0, 1, &rt->park, &sleeper);
    if (UNLIKELY(sleeper != NULL))
        park_hand(sleeper);
    if (UNLIKELY(status != COIR_OK))
        take_back(*job_slot(), item, 1);
    else if (UNLIKELY(metered))
        hostcall_spawned(rt, 1);
    runtime_leave(rt, visiting);
    return status;
}

int coir_submit(coir_runtime *rt, coir_counter *counter, coir_fn *fn, void *arg)
{
    struct work item = {fn, arg, counter, NULL};

    if (!rt || !fn)
        return COIR_EINVAL;
    if (UNLIKELY(runtime_forked(rt)))
        return COIR_EFORKED;
    return submit(rt, &item, (uintptr_t)__builtin_frame_address(0));
}

int spawn_admitted(struct coir_runtime *rt, const struct work *item, uintptr_t frame)
{
    struct worker *w = worker_here();
    struct job *j = w ? w->current->job : NULL;
    int status;

    if (!j || w->runtime != rt)
        return submit(rt, item, frame);
    if (item->owed)
        job_owe(j, item->owed, 1, frame);
    status = worker_push(w, item, 0, 1);
    if (UNLIKELY(status != COIR_OK))
        take_back(j, item, 1);
    else if (UNLIKELY(rt->metered))
        hostcall_spawned(rt, 1);
    return status;
}

/* Exceptions that the caller is handling are hidden from the job, and the caller's floating-point control
 * words come back if it panics. */
void spawn_in_place(struct fiber *self, const struct work *item, uintptr_t frame)
{
    struct worker *w = worker_of(self);
    struct eh_globals eh = {0};
    uint64_t fp;

    arch_fp_save(&fp);
    if (item->owed)
        job_owe(self->job, item->owed, 1, frame);
    tally(&w->spawned, 1);
    hostcall_spawned(w->runtime, 1);
    if (w->carrier.eh) {
        eh = *w->carrier.eh;
        *w->carrier.eh = (struct eh_globals){0};
    }
    if (!job_run_in_place(self, item))
        arch_fp_set(fp);
    else if (item->owed)
        counter_settle(item->owed, 1);
    w = worker_of(self); /* the job may have parked, and this stack moved */
    if (w->carrier.eh)
        *w->carrier.eh = eh;
}

void spawn_outside(const struct work *item, uintptr_t frame)
{
    if (item->owed)
        job_owe(*job_slot(), item->owed, 1, frame);
    job_run_outside(item);
}

/* ------------------------------------------------------------------------------- queued work */

/* As much as there is now: a job that still runs may go on to spawn. */
void spawn_drop_queued(struct coir_runtime *rt)
{
    size_t n = atomic_load_explicit(&rt->inject.work_count, memory_order_relaxed); /* a bound */
    struct work item;

    while (n-- > 0 && inject_take(&rt->inject, &item, 1))
        job_drop(rt, &item, COIR_KIND_SHUTDOWN);
    for (unsigned i = 0; i < rt->worker_count; i++) {
        struct deque *d = &rt->worker[i]->deque;

        for (n = DEQUE_CAP; n-- > 0 && find_take_from(rt, d, &item);)
            job_drop(rt, &item, COIR_KIND_SHUTDOWN);
    }
}

static bool steal_from(void *worker, struct work *item)
{
    struct worker *w = worker;

    return find_take_from(w->runtime, &w->deque, item);
}

static bool is_wanted(const struct work *item)
{
    return !item->scope || !scope_canceled(item->scope);
}

/* One worker's jobs (NULL: the injector's), as much as there is now. */
static void sift(struct coir_runtime *rt, struct worker *from, size_t n)
{
    enum sift s = SIFT_KEPT;
    struct work item;

    while (n-- > 0 && s != SIFT_NONE) {
        s = inject_sift(&rt->inject, from ? steal_from : NULL, from, is_wanted, &item);
        if (s == SIFT_OUT)
            job_drop(rt, &item, COIR_KIND_SKIPPED);
    }
}

void spawn_drop_canceled(struct coir_runtime *rt)
{
    sift(rt, NULL, atomic_load_explicit(&rt->inject.work_count, memory_order_relaxed)); /* a bound */
    for (unsigned i = 0; i < rt->worker_count; i++)
        sift(rt, rt->worker[i], DEQUE_CAP);
    park_wake_all(&rt->park); /* what was a worker's own is now for all */
}

/* ------------------------------------------------------------------------------ units by hand */

void coir_counter_init(coir_counter *counter)
{
    if (!counter)
        return;
    job_disown(*job_slot(), counter_of(counter));
    coir_counter_init_local(counter); /* what is for failures only is not read before it is written */
    counter->opaque[0] = 0;
}

void coir_counter_add(coir_counter *counter, long n)
{
    coir_require(counter != NULL, "coir_counter_add: counter is NULL");
    coir_require(n >= 1, "coir_counter_add: n is %ld, it must be 1 or more", n);
    coir_require(counter_has_room(counter_of(counter), (uint64_t)n),
                 "coir_counter_add: n is %ld, and a counter is owed less than 2^24 by hand", n);
    counter_owe_by_hand(counter_of(counter), (uint64_t)n);
}

void coir_counter_done(coir_counter *counter, int outcome)
{
    struct counter *c = counter_of(counter);
    coir_failure f;

    coir_require(counter != NULL, "coir_counter_done: counter is NULL");
    coir_require(outcome >= COIR_DONE && outcome <= COIR_PANICKED,
                 "coir_counter_done: %d is no outcome", outcome);
    coir_require(counter_is_owed_by_hand(c), "coir_counter_done: nothing is owed by hand");
    if (outcome == COIR_DONE) {
        counter_settle_by_hand(c);
        return;
    }
    job_failure(*job_slot(), &f, outcome, COIR_KIND_DONE);
    snprintf(f.message, sizeof f.message, "released by coir_counter_done as %s",
             coir_status_name(outcome));
    report_keep(runtime_here(), &f, f.message, job_domain(*job_slot()));
    counter_note(c, outcome, &f);
    counter_settle_by_hand(c);
}

/* ------------------------------------------------------------------------------ asking a job */

coir_runtime *coir_current(void)
{
    struct worker *w = worker_here();

    if (!w)
        return NULL;
    if (UNLIKELY(!runtime_flag(&w->runtime->known)))
        atomic_store_explicit(&w->runtime->known, true, memory_order_relaxed); /* CLOSE */
    return w->runtime;
}

int coir_job_name(const char *name)
{
    struct worker *w = worker_here();
    struct job *j = w ? w->current->job : NULL;

    if (!j)
        return status_outside();
    j = job_proper(j);
    if (j->scope)
        lock_take(&j->scope->domain->lock); /* a receipt may be read from the list of its jobs */
    j->name = name;
    j->known = true;
    if (j->scope)
        lock_drop(&j->scope->domain->lock);
    return COIR_OK;
}

uint64_t coir_job_id(void)
{
    struct job *j = *job_slot();

    return j ? job_id(j) : 0;
}
