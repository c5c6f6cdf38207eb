/* SPDX-License-Identifier: MIT */
/*
 * event.c - a flag that is waited for: set lets everyone go on, until it is reset.
 *
 * Invariants (W1 to W4 are in waitq.c)
 *   E1  A word that is exactly SET has no waiter and no lock: a wait returns at once and touches the
 *       event no more, and nor does the set that wrote it (W2).
 *   E2  SET and WAITERS are never both set, whenever LOCK is free.
 *
 * Orderings
 *   WORD, TAKEN   set -> the return of every wait that it lets go on.
 */
#include "waitq.h"

#define WAITERS UINT64_C(2)
#define SET UINT64_C(4)

struct event {
    _Atomic uint64_t state; /* SET | WAITERS | LOCK */
    struct waitq queue;     /* LOCK */
};

_Static_assert(sizeof(struct event) == sizeof(coir_event), "coir.h reserves it");
_Static_assert(_Alignof(struct event) <= _Alignof(coir_event), "coir.h aligns enough");

static struct event *event_of(coir_event *e)
{
    return (struct event *)(void *)e;
}

/* Whether it is set, and the one who set it is done with it. LOCK on a set event is somebody's who sets it again, or
 * resets it: what he leaves it as is awaited. */
static bool look(struct event *e)
{
    uint64_t s;
    unsigned looks = 0;

    while ((s = atomic_load_explicit(&e->state, memory_order_acquire)) == (SET | WORD_LOCK)) /* WORD */
        lock_pause(&looks);
    return s == SET;
}

static uint64_t with_waiters(const struct event *e, uint64_t word)
{
    return waitq_empty(&e->queue) ? word & ~WAITERS : word | WAITERS;
}

static bool set_or_queue(struct event *e, struct waiter *w)
{
    uint64_t word = word_lock(&e->state);

    if (!(word & SET))
        waitq_append(&e->queue, w);
    word_unlock(&e->state, with_waiters(e, word));
    return word & SET;
}

static int wait_for(struct event *e, int64_t deadline)
{
    struct sleeper s;
    struct waiter w = {.sleeper = &s};
    int status = sleeper_begin(&s, "event", e);

    if (status != COIR_OK)
        return status;
    if (set_or_queue(e, &w)) {
        sleeper_abandon(&s);
        return COIR_OK;
    }
    status = sleeper_sleep(&s, deadline);
    if (status != COIR_OK) {
        uint64_t word = word_lock(&e->state);

        waitq_remove(&e->queue, &w);
        word_unlock(&e->state, with_waiters(e, word));
    }
    return status;
}

/* -------------------------------------------------------------------------------- public part */

void coir_event_init(coir_event *event)
{
    if (event)
        *event_of(event) = (struct event){.state = 0};
}

int coir_event_set(coir_event *event)
{
    struct event *e = event_of(event);
    struct waiter *all;

    if (!e)
        return COIR_EINVAL;
    word_lock(&e->state);
    all = waitq_take_all(&e->queue, COIR_OK);
    word_unlock(&e->state, SET);
    waiter_wake_all(all);
    return COIR_OK;
}

int coir_event_reset(coir_event *event)
{
    struct event *e = event_of(event);
    uint64_t word;

    if (!e)
        return COIR_EINVAL;
    word = word_lock(&e->state);
    word_unlock(&e->state, word & ~SET);
    return COIR_OK;
}

int coir_event_is_set(coir_event *event)
{
    return event && look(event_of(event));
}

int coir_event_wait_until(coir_event *event, int64_t deadline)
{
    if (!event)
        return COIR_EINVAL;
    return look(event_of(event)) ? COIR_OK : wait_for(event_of(event), deadline);
}

int coir_event_wait(coir_event *event)
{
    return coir_event_wait_until(event, COIR_NEVER);
}
