/* SPDX-License-Identifier: MIT */
/*
 * semaphore.c - permits that are counted.
 *
 * Permits are handed over: a release with a waiter gives the permit to the first of them, so it was
 * never free for others to take. That keeps the order, and costs no convoy, since the one who
 * releases needs no permit back before the other has run.
 *
 * Invariants (W1 to W4 are in waitq.c)
 *   S1  WAITERS is set iff the queue is not empty, whenever LOCK is free.
 *   S2  While somebody waits no permit is free. So a fast release, which is a CAS from a word
 *       without flags, passes nobody over.
 *
 * Orderings
 *   WORD, TAKEN   a release -> the acquire that gets its permit, and any that comes later.
 */
#include "waitq.h"

#define WAITERS UINT64_C(2)
#define ONE UINT64_C(4)

struct semaphore {
    _Atomic uint64_t state; /* free permits << 2 | WAITERS | LOCK */
    struct waitq queue;     /* LOCK */
};

_Static_assert(sizeof(struct semaphore) == sizeof(coir_semaphore), "coir.h reserves it");
_Static_assert(_Alignof(struct semaphore) <= _Alignof(coir_semaphore), "coir.h aligns enough");

static struct semaphore *semaphore_of(coir_semaphore *s)
{
    return (struct semaphore *)(void *)s;
}

static uint64_t with_waiters(const struct semaphore *s, uint64_t word)
{
    return waitq_empty(&s->queue) ? word & ~WAITERS : word | WAITERS; /* S1 */
}

/* Takes a free permit. */
static bool try_acquire(struct semaphore *s)
{
    uint64_t w = atomic_load_explicit(&s->state, memory_order_relaxed); /* rechecked by the CAS */
    unsigned turns = 0;

    for (;;) {
        if (w & WORD_LOCK) {
            lock_pause(&turns);
            w = atomic_load_explicit(&s->state, memory_order_relaxed); /* rechecked by the CAS */
        } else if (w < ONE) {
            return false;
        } else if (atomic_compare_exchange_weak_explicit(&s->state, &w, w - ONE,
                                                         memory_order_acquire,
                                                         memory_order_relaxed)) { /* WORD */
            return true;
        }
    }
}

/* The last look and the entry in the queue are one step. */
static bool acquire_or_queue(struct semaphore *s, struct waiter *w)
{
    uint64_t word = word_lock(&s->state);
    bool is_free = word >= ONE;

    if (is_free)
        word -= ONE;
    else
        waitq_append(&s->queue, w);
    word_unlock(&s->state, with_waiters(s, word));
    return is_free;
}

static int wait_for(struct semaphore *s, int64_t deadline)
{
    struct sleeper sleeper;
    struct waiter w = {.sleeper = &sleeper};
    int status = sleeper_begin(&sleeper, "semaphore", s);

    if (status != COIR_OK)
        return status;
    if (acquire_or_queue(s, &w)) {
        sleeper_abandon(&sleeper);
        return COIR_OK;
    }
    status = sleeper_sleep(&sleeper, deadline);
    if (status != COIR_OK) {
        uint64_t word = word_lock(&s->state);

        waitq_remove(&s->queue, &w);
        word_unlock(&s->state, with_waiters(s, word));
    }
    return status;
}

/* Gives permits to waiters as far as there are any; the rest becomes free. False: too many. */
static bool release_to_waiters(struct semaphore *s, uint64_t n)
{
    uint64_t word = word_lock(&s->state);
    struct waiter *first = NULL, **end = &first, *w;
    bool room = word / ONE + n <= COIR_SEMAPHORE_MAX;

    for (; room && n && (w = waitq_take(&s->queue)); n--) {
        w->next = NULL;
        *end = w;
        end = &w->next;
    }
    word_unlock(&s->state, with_waiters(s, room ? word + n * ONE : word));
    waiter_wake_all(first);
    return room;
}

/* -------------------------------------------------------------------------------- public part */

int coir_semaphore_init(coir_semaphore *semaphore, uint32_t permits)
{
    if (!semaphore)
        return COIR_EINVAL;
    if (permits > COIR_SEMAPHORE_MAX)
        return COIR_ERANGE;
    *semaphore_of(semaphore) = (struct semaphore){.state = permits * ONE};
    return COIR_OK;
}

int coir_semaphore_acquire_until(coir_semaphore *semaphore, int64_t deadline)
{
    struct semaphore *s = semaphore_of(semaphore);

    if (!s)
        return COIR_EINVAL;
    return try_acquire(s) ? COIR_OK : wait_for(s, deadline);
}

int coir_semaphore_acquire(coir_semaphore *semaphore)
{
    return coir_semaphore_acquire_until(semaphore, COIR_NEVER);
}

int coir_semaphore_try_acquire(coir_semaphore *semaphore)
{
    struct semaphore *s = semaphore_of(semaphore);

    if (!s)
        return COIR_EINVAL;
    return try_acquire(s) ? COIR_OK : COIR_EBUSY;
}

int coir_semaphore_release(coir_semaphore *semaphore, uint32_t n)
{
    struct semaphore *s = semaphore_of(semaphore);
    uint64_t w;

    if (!s)
        return COIR_EINVAL;
    w = atomic_load_explicit(&s->state, memory_order_relaxed); /* rechecked by the CAS */
    while (!(w & (WAITERS | WORD_LOCK)) && w / ONE + n <= COIR_SEMAPHORE_MAX)
        if (atomic_compare_exchange_weak_explicit(&s->state, &w, w + n * ONE, memory_order_release,
                                                  memory_order_relaxed)) /* WORD */
            return COIR_OK;
    return release_to_waiters(s, n) ? COIR_OK : COIR_ERANGE;
}
