/* SPDX-License-Identifier: MIT */
/*
 * cond.c - a condition of what a mutex guards: gives the mutex up, waits to be told, takes it again.
 *
 * A canceled wait does not take the mutex again, nor one that is part of a deadlock (options.deadlock). A
 * job that panics while it holds the mutex waits for its canceled children; were one of them bound to take
 * that mutex before it may end, neither would.
 *
 * Invariants (W1 to W4 are in waitq.c)
 *   N1  The waiter is in the queue before it unlocks. So a signal given under the mutex, or by one
 *       who has locked it since, finds it.
 *   N2  A signal is spent on a waiter that returns COIR_OK, COIR_EPOISONED or COIR_ETIMEDOUT, that
 *       is with the mutex held; one that must leave without it passes the signal on.
 *
 * Orderings
 *   The mutex orders what it guards. TAKEN orders what was done before a signal without the mutex.
 */
#include "mutex.h"

struct cond {
    _Atomic uint64_t state; /* LOCK */
    struct waitq queue;     /* LOCK */
};

_Static_assert(sizeof(struct cond) == sizeof(coir_cond), "coir.h reserves it");
_Static_assert(_Alignof(struct cond) <= _Alignof(coir_cond), "coir.h aligns enough");

static struct cond *cond_of(coir_cond *c)
{
    return (struct cond *)(void *)c;
}

static void signal_one(struct cond *c)
{
    struct waiter *w;
    uint64_t word = word_lock(&c->state);

    w = waitq_take(&c->queue);
    word_unlock(&c->state, word);
    if (w)
        waiter_wake(w);
}

static void enter(struct cond *c, struct waiter *w)
{
    uint64_t word = word_lock(&c->state);

    waitq_append(&c->queue, w);
    word_unlock(&c->state, word);
}

static void leave(struct cond *c, struct waiter *w)
{
    uint64_t word = word_lock(&c->state);

    waitq_remove(&c->queue, w);
    word_unlock(&c->state, word);
}

/* Takes the mutex again, for the boundary that has held it: the wait may be in a coir_try further in. Want of a stack
 * passes, but perhaps not before a canceled caller has ended: the mutex's holder may be the one that has it. */
static int relock(coir_mutex *mutex, struct held **list)
{
    struct held *h = &mutex_of(mutex)->held;
    int status;

    while ((status = coir_mutex_lock(mutex)) == COIR_ENOMEM) {
        if (coir_canceled())
            return COIR_ECANCELED;
        coir_yield();
    }
    if ((status == COIR_OK || status == COIR_EPOISONED) && h->back != list) {
        held_remove(h);
        held_push(list, h, h->kind);
    }
    return status;
}

/* The wait proper: with the mutex before and, unless canceled, after. */
static int wait_on(struct cond *c, coir_mutex *mutex, struct sleeper *s, int64_t deadline)
{
    struct held **list = job_list_with(&mutex_of(mutex)->held);
    struct waiter w = {.sleeper = s};
    int status, locked;

    enter(c, &w); /* N1 */
    (void)coir_mutex_unlock(mutex); /* it is held: checked */
    status = sleeper_sleep(s, deadline);
    if (status != COIR_OK)
        leave(c, &w);
    if (status == COIR_ECANCELED)
        return status;
    locked = relock(mutex, list);
    if ((locked == COIR_ECANCELED || locked == COIR_EDEADLK) && status == COIR_OK)
        signal_one(c); /* N2 */
    return locked == COIR_OK ? status : locked;
}

/* -------------------------------------------------------------------------------- public part */

void coir_cond_init(coir_cond *cond)
{
    if (cond)
        *cond_of(cond) = (struct cond){.state = 0};
}

int coir_cond_wait_until(coir_cond *cond, coir_mutex *mutex, int64_t deadline)
{
    struct sleeper s;
    int status;

    if (!cond || !mutex)
        return COIR_EINVAL;
    if (!mutex_is_held(mutex_of(mutex)))
        return COIR_EPERM;
    status = sleeper_begin(&s, "condition", cond);
    return status == COIR_OK ? wait_on(cond_of(cond), mutex, &s, deadline) : status;
}

int coir_cond_wait(coir_cond *cond, coir_mutex *mutex)
{
    return coir_cond_wait_until(cond, mutex, COIR_NEVER);
}

int coir_cond_signal(coir_cond *cond)
{
    if (!cond)
        return COIR_EINVAL;
    signal_one(cond_of(cond));
    return COIR_OK;
}

int coir_cond_broadcast(coir_cond *cond)
{
    struct cond *c = cond_of(cond);
    struct waiter *all;
    uint64_t word;

    if (!c)
        return COIR_EINVAL;
    word = word_lock(&c->state);
    all = waitq_take_all(&c->queue, COIR_OK);
    word_unlock(&c->state, word);
    waiter_wake_all(all);
    return COIR_OK;
}
