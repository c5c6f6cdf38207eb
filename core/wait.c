/* SPDX-License-Identifier: MIT */
/*
 * wait.c - waiting: in place and parked; deadlines and cancels. Plain threads: thread.c.
 *
 * What a waiter may run on its own stack: only jobs that have not started, of the very counter it
 * waits for, of its own domain, from its own deque, and only in a wait without deadline, while half of
 * the stack is left. Anything else on a waiter's stack can end up waiting for the waiter below it (other
 * runtimes had to learn that). Their units are released together, in one step, when it stops.
 *
 * A wait on several things (counters, a deadline, a cancel) hands out one generation; the first to
 * wake it wins (fiber.h). All its nodes are out of every list before the frame is left.
 */
#include "wait.h"

#include "batch.h"
#include "drop.h"
#include "find.h"
#include "hostcall.h"
#include "stay.h"
#include "thread.h"

const char wait_for_counter[] = "counter";
const char wait_for_any[] = "one of several counters";
const char wait_for_frame[] = "counter of a frame that goes";
const char wait_for_time[] = "sleep";

/* ---------------------------------------------------------------------------------- deadlines */

static void on_alarm(struct timer *t)
{
    struct alarm *a = CONTAINER_OF(t, struct alarm, timer);

    worker_wake(a->fiber, a->generation, WAKE_TIMEOUT);
}

void alarm_arm(struct alarm *a, struct fiber *self, uint64_t generation, int64_t deadline)
{
    a->heap = NULL;
    if (deadline == COIR_NEVER)
        return;
    a->heap = &worker_of(self)->timers;
    a->fiber = self;
    a->generation = generation;
    a->timer.deadline = deadline;
    self->waits_until = deadline;
    a->timer.fire = on_alarm;
    timer_arm(a->heap, &a->timer);
}

void alarm_cancel(struct alarm *a)
{
    if (a->heap)
        timer_cancel(a->heap, &a->timer);
}

/* ------------------------------------------------------------------------------------- parked */

struct watch {
    struct wait_node node;
    struct fiber *fiber;
    uint64_t generation;
    struct coir_runtime *runtime; /* the fiber's: at hand, for another processor may have the fiber's lines */
};

static void on_settled_fiber(struct wait_node *node, int outcome)
{
    struct watch *n = CONTAINER_OF(node, struct watch, node);
    struct fiber *f = n->fiber;
    struct coir_runtime *rt = n->runtime;
    uint64_t generation = n->generation;
    bool visiting = runtime_visit_to_wake(rt);

    (void)outcome;
    wait_node_release(node); /* the last use: a waiter whose deadline passed may go now */
    worker_wake(f, generation, WAKE_EVENT);
    runtime_leave(rt, visiting);
}

/* A wait is written out in its callers: each call less between a job and the switch is a return less that is
 * mispredicted, as other fibers have run meanwhile, and a wait for one counter needs no loops. */

/* The lowest counter found settled: its outcome, and its index in *which. -1: none. The first
 * `enlisted` have a watch, which tells; such a counter may be gone. */
static ALWAYS_INLINE int first_settled(struct counter *const *c, struct watch *watch, size_t n, size_t enlisted,
                                       size_t *which)
{
    for (*which = 0; *which < n; ++*which) {
        int outcome = wait_node_look(c[*which], *which < enlisted ? &watch[*which].node : NULL);

        if (outcome >= 0)
            return outcome;
    }
    return -1;
}

/* Parks once on all of the counters. Returns an outcome and *which; or -1 and why in *reason; or
 * COIR_ENOMEM. heed: a cancel ends the wait. */
static ALWAYS_INLINE int park_on(struct fiber *self, const struct wait *wait, bool heed, size_t *which,
                                 enum wake *reason)
{
    struct alarm alarm;
    uint64_t generation;
    size_t enlisted = 0;

    if (!job_park_begin(self, &generation, wait->what, wait->on, wait->must))
        return COIR_ENOMEM;
    for (; enlisted < wait->n; enlisted++) {
        struct watch *w = &wait->watch[enlisted];

        *w = (struct watch){{.settled = on_settled_fiber}, self, generation, self->runtime};
        if (!counter_enlist(wait->counter[enlisted], &w->node)) {
            fiber_wake(self, generation, WAKE_EVENT);
            break;
        }
    }
    alarm_arm(&alarm, self, generation, wait->deadline);
    if (heed)
        notice_cancel(self, generation);
    *reason = job_park(self);
    alarm_cancel(&alarm);
    for (size_t i = 0; i < enlisted; i++)
        counter_delist(wait->counter[i], &wait->watch[i].node);
    return first_settled(wait->counter, wait->watch, wait->n, enlisted, which);
}

/* Whether each of the counters is owed the end of a job on this very stack: the wait could not end. */
static ALWAYS_INLINE bool waits_for_itself(const struct fiber *self, const struct wait *wait)
{
    for (size_t i = 0; i < wait->n; i++) {
        const struct job *j = self->job;

        while (j && !job_owes(j, wait->counter[i]))
            j = j->outer;
        if (!j)
            return false;
    }
    return true;
}

/* A fiber waits. forward: the counter is of the job's own frames and there is no deadline, so its
 * jobs are canceled with it and waited for. */
static ALWAYS_INLINE int fiber_wait(struct fiber *self, const struct wait *wait, bool forward, size_t *which)
{
    struct job *j = job_proper(self->job);
    enum wake reason = WAKE_NONE;
    bool heed = forward || !j->told;

    if (waits_for_itself(self, wait))
        return COIR_EDEADLK;
    if (wait->n == 1 && stay_is_due(worker_of(self))) {
        int outcome = stay_for_counter(worker_of(self), wait->counter[0], wait->deadline);

        *which = 0;
        if (outcome >= 0)
            return outcome;
    }
    if (wait->deadline != COIR_NEVER)
        hostcall_deadline_set(self->runtime, wait->deadline);
    for (;;) {
        int outcome = park_on(self, wait, heed, which, &reason);

        if (outcome != -1)
            return outcome;
        if (reason == WAKE_TIMEOUT) {
            hostcall_deadline_exceeded(self->runtime, wait->deadline);
            return COIR_ETIMEDOUT;
        }
        if (reason == WAKE_DEADLOCK)
            return COIR_EDEADLK;
        if (reason == WAKE_CANCEL && forward) {
            heed = forward = false;
            wait_cancel(wait->counter[0], COIR_CANCEL_PASSED_ON);
        } else if (reason == WAKE_CLOSE || (reason == WAKE_CANCEL && heed)) {
            j->told |= job_canceled(self->runtime, j); /* not by a runtime that it waits for */
            return COIR_ECANCELED;
        }
    }
}

/* Ends or passes on one piece of work that this worker holds. False: no memory to pass it on. */
static bool drop_or_inject(struct coir_runtime *rt, const struct work *item)
{
    struct counter *owed = item->owed;

    if (!owed || !counter_canceled(owed))
        return inject_push_anyway(&rt->inject, item);
    job_drop(rt, item, COIR_KIND_SKIPPED);
    return true;
}

/* Canceled work is ended. What else this worker has queued goes where others find it. */
static void drop_canceled(struct worker *w)
{
    struct inject *q = &w->runtime->inject;
    size_t n = deque_count(&w->deque) +
               atomic_load_explicit(&q->work_count, memory_order_relaxed); /* a hint */
    struct work item;

    while (deque_pop(&w->deque, &item))
        if (!drop_or_inject(w->runtime, &item)) {
            deque_push(&w->deque, &item);
            return;
        }
    while (n-- > 0 && inject_take(q, &item, 1))
        if (!drop_or_inject(w->runtime, &item))
            deque_push(&w->deque, &item);
}

/* There is no stack to park on, so no loop can run here: what needs none is done without one. What was due may lend its
 * stack to the next attempt. */
static void do_without_loop(struct worker *w)
{
    drop_canceled(w);
    park_notify(&w->runtime->park); /* SLEEP: who looked while work was in neither queue may sleep */
    find_what_is_due(w);
}

void wait_join(struct counter *c)
{
    struct fiber *self = fiber_self();
    struct watch watch;
    struct wait wait = {&c, 1, &watch, wait_for_frame, c, COIR_NEVER, true};
    enum wake reason;
    unsigned turns = 0;
    size_t which;

    while (counter_look(c) < 0) {
        coir_counter *public = (coir_counter *)(void *)c;

        if (!self && coir_wait_until(public, COIR_NEVER) == COIR_EFORKED)
            fatal("a job ends in a forked process while others owe it theirs");
        else if (self && park_on(self, &wait, false, &which, &reason) == COIR_ENOMEM) {
            do_without_loop(worker_of(self));
            spin_pause(&turns); /* others finish the jobs that run */
        }
    }
}

/* ------------------------------------------------------------------------------------ cancels */

/* Looks at one fiber; its stack may be read while it is held in PARKING. */
struct wake_visit {
    enum wake reason;
    const struct coir_domain *only; /* CLOSE: of this domain and below; NULL: all */
    size_t woken;
};

static bool is_meant(const struct wake_visit *v, const struct fiber *f)
{
    const struct job *j = f->job;

    if (v->reason != WAKE_CLOSE)
        return job_canceled(f->runtime, j);
    return !v->only || (j && j->scope && domain_within(j->scope->domain, v->only));
}

static void wake_one(struct fiber *f, void *arg)
{
    struct wake_visit *v = arg;
    uint64_t generation;

    if (!fiber_claim_parked(f, &generation))
        return;
    if (is_meant(v, f)) {
        fiber_wake(f, generation, v->reason);
        v->woken++;
    }
    if (!fiber_publish(f))
        worker_ready(f);
}

size_t wait_wake_canceled(struct coir_runtime *rt)
{
    struct wake_visit v = {.reason = WAKE_CANCEL};

    rt->drop_pending(rt);
    for (unsigned i = 0; i < rt->worker_count; i++)
        worker_ask(rt->worker[i], ASK_LOOK);
    worker_each_fiber(rt, wake_one, &v);
    return v.woken;
}

struct owed_visit {
    bool (*owed)(const struct counter *c, void *arg);
    void *arg;
    size_t woken;
};

static bool waits_for_owed(const struct fiber *f, const struct owed_visit *v)
{
    if (f->waits_for == wait_for_any) {
        const struct wait *w = f->waits_on;

        for (size_t i = 0; i < w->n; i++)
            if (v->owed(w->counter[i], v->arg))
                return true;
    }
    return f->waits_for == wait_for_counter && v->owed(f->waits_on, v->arg);
}

static void wake_owed(struct fiber *f, void *arg)
{
    struct owed_visit *v = arg;
    uint64_t generation;

    if (!fiber_claim_parked(f, &generation))
        return;
    if (waits_for_owed(f, v)) {
        fiber_wake(f, generation, WAKE_CLOSE);
        v->woken++;
    }
    if (!fiber_publish(f))
        worker_ready(f);
}

size_t wait_wake_owed(struct coir_runtime *rt, bool (*owed)(const struct counter *c, void *arg), void *arg)
{
    struct owed_visit v = {owed, arg, 0};

    worker_each_fiber(rt, wake_owed, &v);
    return v.woken;
}

size_t wait_wake_all(struct coir_runtime *rt)
{
    struct wake_visit v = {.reason = WAKE_CLOSE};

    worker_each_fiber(rt, wake_one, &v);
    return v.woken;
}

size_t wait_wake_domain(struct coir_domain *d)
{
    struct wake_visit v = {.reason = WAKE_CLOSE, .only = d};

    worker_each_fiber(d->rt, wake_one, &v);
    return v.woken;
}

static void wake_canceled(struct coir_runtime *rt, void *unused)
{
    (void)unused;
    wait_wake_canceled(rt);
}

/* Which runtimes have jobs of it nobody knows: all are asked, and none can close meanwhile. The work that
 * this drops may settle counters whose links, or callbacks of the host's, cancel others: such a call, from
 * within, has the walk repeated. */
static void wake_canceled_everywhere(void)
{
    static __thread bool walking, again;

    again = true;
    if (walking)
        return;
    walking = true;
    while (again) {
        again = false;
        runtime_each_open(wake_canceled, NULL);
    }
    walking = false;
}

void wait_cancel(struct counter *c, enum coir_cancel cause)
{
    struct coir_runtime *rt = runtime_here();

    if (rt)
        hostcall_cancel_requested(rt, cause);
    counter_cancel(c);
    if (!life_is_over())
        wake_canceled_everywhere();
}

/* -------------------------------------------------------------------------------- public part */

/* A wait for a counter that may have to do with others. self: the caller, NULL: a plain thread. */
static NOINLINE int wait_shared(struct counter *c, int64_t deadline, struct fiber *self)
{
    bool owned = counter_owner(c) && job_owns(*job_slot(), c);
    struct watch watch;
    struct wait wait = {&c, 1, &watch, wait_for_counter, c, deadline, owned};
    size_t which;
    int outcome;

    job_share(c);
    outcome = counter_look(c);
    if (outcome < 0 && self && deadline == COIR_NEVER && deque_ends_in(&worker_of(self)->deque, c)) {
        job_run_children(self, c);
        outcome = counter_look(c);
    }
    if (outcome < 0)
        outcome = self ? fiber_wait(self, &wait, owned && deadline == COIR_NEVER, &which)
                       : thread_wait(&(struct counter *){c}, 1, deadline, &which);
    if (outcome >= 0 && owned)
        job_disown(*job_slot(), c);
    return outcome;
}

int coir_wait_until(coir_counter *counter, int64_t deadline)
{
    struct counter *c = counter_of(counter);

    return c ? wait_shared(c, deadline, fiber_self()) : COIR_EINVAL;
}

int coir_wait(coir_counter *counter)
{
    struct counter *c = counter_of(counter);
    struct fiber *self = fiber_here(); /* not its worker: a child may park, and this stack move */
    struct job *j = self ? self->job : NULL;
    int outcome = c && job_owes_mine(j, c) ? job_join_own(self, j, c) : -1;

    if (LIKELY(outcome >= 0))
        return outcome;
    return c ? wait_shared(c, COIR_NEVER, self) : COIR_EINVAL;
}

static bool owns_any(struct counter *const *c, size_t n)
{
    const struct job *j = *job_slot();

    while (n > 0 && !job_owns(j, c[n - 1]))
        n--;
    return n > 0;
}

static int wait_any(struct counter *const *c, size_t n, int64_t deadline, bool must, size_t *which)
{
    struct fiber *self = fiber_self();
    struct watch watch[COIR_WAIT_ANY_MAX];
    struct wait wait = {c, n, watch, wait_for_any, &wait, deadline, must || owns_any(c, n)};
    int outcome;

    if (n == 1) {
        wait.what = wait_for_counter;
        wait.on = c[0];
    }
    for (size_t i = 0; i < n; i++)
        job_share(c[i]);
    outcome = first_settled(c, NULL, n, 0, which);
    if (outcome >= 0)
        return outcome;
    return self ? fiber_wait(self, &wait, false, which) : thread_wait(c, n, deadline, which);
}

int wait_must(struct counter *c, int64_t deadline)
{
    size_t which;

    return wait_any(&c, 1, deadline, true, &which);
}

int coir_wait_any(coir_counter *const *counters, size_t n, int64_t deadline, size_t *which)
{
    struct counter *c[COIR_WAIT_ANY_MAX];
    size_t index;
    int outcome;

    if (!counters || n < 1 || n > COIR_WAIT_ANY_MAX)
        return COIR_EINVAL;
    for (size_t i = 0; i < n; i++)
        if (!(c[i] = counter_of(counters[i])))
            return COIR_EINVAL;
    outcome = wait_any(c, n, deadline, false, &index);
    if (outcome >= 0) {
        if (job_owns(*job_slot(), c[index]))
            job_disown(*job_slot(), c[index]);
        if (which)
            *which = index;
    }
    return outcome;
}

int coir_counter_cancel(coir_counter *counter)
{
    struct counter *c = counter_of(counter);

    if (!c)
        return COIR_EINVAL;
    if (life_is_over())
        return COIR_EFORKED;
    if (counter_look(c) < 0)
        wait_cancel(c, COIR_CANCEL_ASKED);
    else
        counter_cancel(c);
    return COIR_OK;
}

int coir_canceled(void)
{
    struct fiber *self = fiber_self();
    const struct job *j = *job_slot();

    if (self)
        return j && job_canceled(self->runtime, j);
    return j && j->scope && job_canceled(j->scope->domain->rt, j); /* COIR_FULL_RUN */
}
