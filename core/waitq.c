/* SPDX-License-Identifier: MIT */
/*
 * waitq.c - waiting at a primitive: in order, in the waiter's frame, on a fiber or a plain thread.
 *
 * Owns: the queue, and the one decision between a waker, a deadline, a cancel and (in a select) a
 * waker at another queue. Does not know what is waited for.
 *
 * Each primitive is one atomic word with a spin lock in bit 0, and queues that the lock guards.
 *
 * Invariants
 *   W1  While LOCK is set only its holder writes the word. So it is dropped by a plain store, and a
 *       fast path is a CAS from a value without LOCK.
 *   W2  That store is the last access of a waker to the primitive; it wakes afterwards, from the
 *       waiter's node alone. So who is let go, or who comes later and finds the word as the
 *       waker left it, may free the primitive at once.
 *   W3  A sleeper is let go once: the CAS from WAITS decides between wakers, and between them and
 *       the sleeper that gives up. What was given to a taken sleeper (a permit, an element, a
 *       mutex) was given: its call returns COIR_OK, whatever woke the fiber.
 *   W4  No node outlives its frame: a sleeper that gave up takes its nodes out under the lock, one
 *       that was taken waits for RELEASED.
 *
 * Orderings
 *   WORD   unlock (release) -> lock or a fast path's CAS (acquire): all that the lock guards, and
 *          all that the primitive promises to order.
 *   TAKEN  waker's store of RELEASED (release) -> sleeper's load (acquire): what the waker has
 *          written to the node and to where it points.
 *
 * Why not hand the fiber's own wake-up over as the decision, as counters do: a counter that has
 * settled stays so, and a waiter that was late finds it settled. A permit has one taker.
 */
#include "waitq.h"

/* ------------------------------------------------------------------------------- the queue */

void waitq_append(struct waitq *q, struct waiter *w)
{
    w->next = NULL;
    w->prev = q->last;
    if (q->last)
        q->last->next = w;
    else
        q->first = w;
    q->last = w;
    w->listed = true;
}

void waitq_prepend(struct waitq *q, struct waiter *w)
{
    w->prev = NULL;
    w->next = q->first;
    if (q->first)
        q->first->prev = w;
    else
        q->last = w;
    q->first = w;
    w->listed = true;
}

void waitq_remove(struct waitq *q, struct waiter *w)
{
    if (!w->listed)
        return;
    if (w->prev)
        w->prev->next = w->next;
    else
        q->first = w->next;
    if (w->next)
        w->next->prev = w->prev;
    else
        q->last = w->prev;
    w->listed = false;
}

static bool claim(struct sleeper *s, enum sleeper_state as)
{
    uint32_t waits = SLEEPER_WAITS;

    return atomic_compare_exchange_strong_explicit(&s->state, &waits, as, memory_order_relaxed,
                                                   memory_order_relaxed); /* W3; carried by TAKEN */
}

/* Takes the first out. Who has ended otherwise is out as well then: NULL. */
static struct waiter *take_first(struct waitq *q)
{
    struct waiter *w = q->first;

    waitq_remove(q, w);
    if (!claim(w->sleeper, SLEEPER_TAKEN))
        return NULL;
    w->sleeper->taken = w;
    return w;
}

struct waiter *waitq_take(struct waitq *q)
{
    struct waiter *w = NULL;

    while (!w && q->first)
        w = take_first(q);
    return w;
}

struct waiter *waitq_take_item(struct waitq *q, const void *item)
{
    struct waiter *w = NULL;

    while (!w && q->first && q->first->item == item)
        w = take_first(q);
    return w;
}

struct waiter *waitq_take_all(struct waitq *q, int status)
{
    struct waiter *first = NULL, **end = &first, *w;

    while ((w = waitq_take(q))) {
        w->status = status;
        w->next = NULL;
        *end = w;
        end = &w->next;
    }
    return first;
}

/* ----------------------------------------------------------------------------------- wakers */

static void release(struct sleeper *s)
{
    atomic_store_explicit(&s->state, SLEEPER_RELEASED, memory_order_release); /* TAKEN */
}

void waiter_wake(struct waiter *w)
{
    struct sleeper *s = w->sleeper;
    struct fiber *f = s->fiber;
    uint64_t generation = s->generation;
    struct coir_runtime *rt;
    bool visiting;

    if (!f) {
        release(s); /* the last use; the kernel looks at the address only */
        futex_wake(&s->state, 1);
        return;
    }
    rt = f->runtime;
    visiting = runtime_visit_to_wake(rt);
    release(s); /* the last use */
    worker_wake(f, generation, WAKE_EVENT);
    runtime_leave(rt, visiting);
}

void waiter_wake_all(struct waiter *list)
{
    while (list) {
        struct waiter *next = list->next;

        waiter_wake(list);
        list = next;
    }
}

/* --------------------------------------------------------------------------------- sleepers */

static ALWAYS_INLINE int begin(struct sleeper *s, const char *what, const void *on, bool must)
{
    *s = (struct sleeper){.fiber = fiber_self()};
    atomic_store_explicit(&s->state, SLEEPER_WAITS, memory_order_relaxed); /* published by WORD */
    if (!s->fiber)
        return life_is_over() ? COIR_EFORKED : COIR_OK;
    if (!job_park_begin(s->fiber, &s->generation, what, on, must))
        return COIR_ENOMEM;
    s->fiber->sleeper = s;
    return COIR_OK;
}

int sleeper_begin(struct sleeper *s, const char *what, const void *on)
{
    return begin(s, what, on, false);
}

int sleeper_begin_must(struct sleeper *s, const char *what, const void *on)
{
    return begin(s, what, on, true);
}

void sleeper_abandon(struct sleeper *s)
{
    if (!s->fiber)
        return;
    fiber_wake(s->fiber, s->generation, WAKE_EVENT);
    job_park(s->fiber);
    s->fiber->sleeper = NULL;
}

bool sleeper_retract(struct sleeper *s)
{
    return claim(s, SLEEPER_GONE);
}

static int fiber_sleep(struct sleeper *s, int64_t deadline)
{
    struct alarm alarm;
    enum wake reason;

    alarm_arm(&alarm, s->fiber, s->generation, deadline);
    notice_cancel(s->fiber, s->generation);
    reason = job_park(s->fiber);
    s->fiber->sleeper = NULL;
    alarm_cancel(&alarm);
    return reason == WAKE_EVENT      ? COIR_OK
           : reason == WAKE_TIMEOUT  ? COIR_ETIMEDOUT
           : reason == WAKE_DEADLOCK ? COIR_EDEADLK
                                     : COIR_ECANCELED;
}

static int thread_sleep(struct sleeper *s, int64_t deadline)
{
    for (;;) {
        uint32_t seen = atomic_load_explicit(&s->state, memory_order_relaxed); /* looked at again: TAKEN */

        if (seen == SLEEPER_RELEASED)
            return COIR_OK;
        if (deadline != COIR_NEVER && coir_now() >= deadline)
            return COIR_ETIMEDOUT;
        futex_wait(&s->state, seen, deadline);
    }
}

int sleeper_sleep(struct sleeper *s, int64_t deadline)
{
    int status = COIR_ETIMEDOUT;
    unsigned turns = 0;

    if (deadline != COIR_NEVER && deadline <= coir_now())
        sleeper_abandon(s); /* a deadline that has passed need not go round by the timers */
    else
        status = s->fiber ? fiber_sleep(s, deadline) : thread_sleep(s, deadline);
    if (status != COIR_OK && claim(s, SLEEPER_GONE))
        return status;
    while (atomic_load_explicit(&s->state, memory_order_acquire) != SLEEPER_RELEASED) /* TAKEN */
        spin_pause(&turns);
    return COIR_OK;
}
