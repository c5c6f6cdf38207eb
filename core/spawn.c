/* SPDX-License-Identifier: MIT */
/*
 * spawn.c - how work enters: from a fiber, from outside, after other work, and units by hand.
 *
 * A unit is owed before the work is queued, and released at once if the queue refuses, so a counter
 * never settles too early and never stays owed for work that is not there.
 */
#include <stdio.h>

#include "job.h"

/* Remembers c as a counter this job has spawned on; one compare when it does so already. */
static inline void owe(struct job *j, struct counter *c, struct coir_runtime *rt, size_t n,
                       uintptr_t frame)
{
    if (!c)
        return;
    if (UNLIKELY(!j || counter_owner(c) != j ||
                 atomic_load_explicit(&c->runtime, memory_order_relaxed) != rt)) /* own write */
        job_adopt(j, c, rt, frame);
    counter_owe(c, n);
}

/* The queue has refused: the units go, and with the last of them the counter is its job's no more. */
static COLD void give_up(struct job *j, struct counter *c, size_t n)
{
    counter_settle(c, n);
    if (counter_look(c) >= 0)
        job_disown(j, c);
}

static int spawn(coir_counter *counter, const struct work *first, size_t stride, size_t n,
                 uintptr_t frame)
{
    struct worker *w = worker_here();
    struct job *j = w ? w->current->job : NULL;
    int status;

    if (!j)
        return COIR_EPERM;
    if (!first->fn)
        return COIR_EINVAL;
    owe(j, first->owed, w->runtime, n, frame);
    status = worker_push(w, first, stride, n);
    if (UNLIKELY(status != COIR_OK) && counter)
        give_up(j, first->owed, n);
    return status;
}

int coir_spawn(coir_counter *counter, coir_fn *fn, void *arg)
{
    struct work item = {fn, arg, counter};

    return spawn(counter, &item, 0, 1, (uintptr_t)__builtin_frame_address(0));
}

int coir_spawn_many(coir_counter *counter, coir_fn *fn, void *first, size_t stride, size_t n)
{
    struct work item = {fn, first, counter};

    if (n == 0)
        return fn ? COIR_OK : COIR_EINVAL;
    return spawn(counter, &item, stride, n, (uintptr_t)__builtin_frame_address(0));
}

int coir_submit(coir_runtime *rt, coir_counter *counter, coir_fn *fn, void *arg)
{
    struct work item = {fn, arg, counter};
    bool visiting;
    int status;

    if (!rt || !fn)
        return COIR_EINVAL;
    visiting = runtime_visit(rt);
    owe(*job_slot(), item.owed, rt, 1, (uintptr_t)__builtin_frame_address(0));
    status = inject_push(&rt->inject, &item, 0, 1, true);
    if (status == COIR_OK)
        park_notify(&rt->park);
    else if (counter)
        give_up(*job_slot(), item.owed, 1);
    runtime_leave(rt, visiting);
    return status;
}

/* ------------------------------------------------------------------------- work after other work */

/* Waits on a counter in place of a fiber. */
struct after {
    struct wait_node node;
    struct work work;
    struct coir_runtime *rt;
};

/* The counter before it has settled: queues the work, or ends it. */
static void start_after(struct after *a, int outcome)
{
    struct coir_runtime *rt = a->rt;
    struct work work = a->work;
    bool visiting = runtime_visit(rt);
    struct worker *w = visiting ? NULL : worker_here();

    mem_free(&rt->host, a);
    if (outcome != COIR_DONE) {
        job_drop(rt, &work, COIR_KIND_DEPENDENCY);
    } else if ((w && deque_push(&w->deque, &work)) || /* else the injector, past its limit: */
               inject_push_anyway(&rt->inject, &work)) {  /* it was admitted when it was spawned */
        park_notify(&rt->park);
    } else {
        job_drop(rt, &work, COIR_KIND_SKIPPED);
    }
    runtime_leave(rt, visiting);
}

static void on_settled_after(struct wait_node *node, int outcome)
{
    start_after(CONTAINER_OF(node, struct after, node), outcome);
}

int coir_spawn_after(coir_counter *after, coir_counter *done, coir_fn *fn, void *arg)
{
    struct worker *w = worker_here();
    struct job *j = w ? w->current->job : NULL;
    struct after *a;

    if (!j)
        return COIR_EPERM;
    if (!after || !fn)
        return COIR_EINVAL;
    a = mem_alloc(&w->runtime->host, sizeof *a);
    if (!a)
        return COIR_ENOMEM;
    *a = (struct after){{.settled = on_settled_after}, {fn, arg, done}, w->runtime};
    owe(j, counter_of(done), w->runtime, 1, (uintptr_t)__builtin_frame_address(0));
    tally(&w->spawned, 1);
    if (!counter_enlist(counter_of(after), &a->node))
        start_after(a, counter_look(counter_of(after)));
    return COIR_OK;
}

/* ------------------------------------------------------------------------------ units by hand */

void coir_counter_init(coir_counter *counter)
{
    static const coir_counter fresh = COIR_COUNTER_INIT;

    if (!counter)
        return;
    job_disown(*job_slot(), counter_of(counter));
    *counter = fresh;
}

void coir_counter_add(coir_counter *counter, long n)
{
    coir_require(counter != NULL, "coir_counter_add: counter is NULL");
    coir_require(n >= 1, "coir_counter_add: n is %ld, it must be 1 or more", n);
    counter_owe(counter_of(counter), (uint64_t)n);
}

void coir_counter_done(coir_counter *counter, int outcome)
{
    struct counter *c = counter_of(counter);
    coir_failure f;

    coir_require(counter != NULL, "coir_counter_done: counter is NULL");
    coir_require(outcome >= COIR_DONE && outcome <= COIR_PANICKED,
                 "coir_counter_done: %d is no outcome", outcome);
    coir_require(atomic_load_explicit(&c->state, memory_order_relaxed) >= COUNTER_ONE, /* our unit */
                 "coir_counter_done: nothing is owed");
    if (outcome == COIR_DONE) {
        counter_settle(c, 1);
        return;
    }
    job_failure(*job_slot(), &f, outcome, COIR_KIND_DONE);
    snprintf(f.message, sizeof f.message, "released by coir_counter_done as %s",
             coir_status_name(outcome));
    counter_fail(c, outcome, &f);
}

/* ------------------------------------------------------------------------------ asking a job */

coir_runtime *coir_current(void)
{
    struct worker *w = worker_here();

    return w ? w->runtime : NULL;
}

int coir_job_name(const char *name)
{
    struct worker *w = worker_here();
    struct job *j = w ? w->current->job : NULL;

    if (!j)
        return COIR_EPERM;
    while (j->is_try && j->outer)
        j = j->outer;
    j->name = name;
    return COIR_OK;
}

uint64_t coir_job_id(void)
{
    struct job *j = *job_slot();

    return j ? job_id(j) : 0;
}
