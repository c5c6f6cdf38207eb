/* SPDX-License-Identifier: MIT */
/*
 * once.c - a function that is called once, whoever comes first; the others wait for its end.
 * One that panics or fails has not done what it was called for: the once is BROKEN for good.
 *
 * Invariants (W1 to W4 are in waitq.c)
 *   O1  From the end of the call on the word is DONE or BROKEN. Later callers only look at it; those
 *       that had seen it running may take LOCK once more.
 *   O2  It holds the identity of the one who calls meanwhile, so that a call from inside is known.
 *
 * Orderings
 *   WORD, TAKEN   the end of the function -> the return of every coir_once.
 */
#include "boundary.h"
#include "waitq.h"

#define DONE UINT64_C(2)
#define BROKEN UINT64_C(4)
#define FLAGS UINT64_C(15)

struct once {
    _Atomic uint64_t state; /* 0; who calls | LOCK; DONE or BROKEN */
    struct waitq queue;     /* LOCK */
};

_Static_assert(sizeof(struct once) == sizeof(coir_once), "coir.h reserves it");
_Static_assert(_Alignof(struct once) <= _Alignof(coir_once), "coir.h aligns enough");

/* How it ended, or 1: it has not. */
static int ended(uint64_t word)
{
    return word == DONE ? COIR_OK : word == BROKEN ? COIR_EPOISONED : 1;
}

/* One who calls meanwhile holds the once, for the wait-for graph. */
struct caller {
    struct held held;
    struct once *once;
};

static void on_leave(struct held *h, enum leave how)
{
    (void)how;
    fatal("once %p is left by a frame that is still calling its function",
          (void *)CONTAINER_OF(h, struct caller, held)->once); /* which has a boundary of its own */
}

static const void *called(const struct held *h)
{
    return CONTAINER_OF(h, const struct caller, held)->once;
}

static const struct held_kind calling = {on_leave, called, HELD_LOCK, NULL, NULL};

/* The caller is the first: calls, then tells those who wait. */
static int call(struct once *o, coir_fn *fn, void *arg)
{
    struct caller c = {.once = o};
    struct waiter *all;
    int status;

    held_push(job_holder().list, &c.held, &calling);
    status = job_try(fn, arg, NULL) == COIR_DONE ? COIR_OK : COIR_EPOISONED;
    held_remove(&c.held);
    word_lock(&o->state);
    all = waitq_take_all(&o->queue, status);
    word_unlock(&o->state, status == COIR_OK ? DONE : BROKEN);
    waiter_wake_all(all);
    return status;
}

/* Somebody calls. */
static int wait_for(struct once *o, int64_t deadline)
{
    struct sleeper s;
    struct waiter w = {.sleeper = &s};
    int status = sleeper_begin(&s, "once", o);
    uint64_t word;

    if (status != COIR_OK)
        return status;
    word = word_lock(&o->state);
    if (ended(word) == 1)
        waitq_append(&o->queue, &w);
    word_unlock(&o->state, word);
    if (ended(word) != 1) {
        sleeper_abandon(&s);
        return ended(word);
    }
    status = sleeper_sleep(&s, deadline);
    if (status == COIR_OK)
        return w.status;
    word = word_lock(&o->state);
    waitq_remove(&o->queue, &w);
    word_unlock(&o->state, word);
    return status;
}

/* -------------------------------------------------------------------------------- public part */

int coir_once_call_until(coir_once *once, coir_fn *fn, void *arg, int64_t deadline)
{
    struct once *o = (struct once *)(void *)once;
    const void *who, *caller;
    uint64_t word = 0;

    if (!o || !fn)
        return COIR_EINVAL;
    word = atomic_load_explicit(&o->state, memory_order_acquire); /* WORD */
    if (LIKELY(ended(word) != 1))
        return ended(word);
    who = job_holder().who;
    if (word == 0 && atomic_compare_exchange_strong_explicit(&o->state, &word,
                                                             (uint64_t)(uintptr_t)who,
                                                             memory_order_relaxed,
                                                             memory_order_relaxed)) /* nothing came before; LOCK */
        return call(o, fn, arg);
    caller = (const void *)(uintptr_t)(word & ~FLAGS);
    if (caller && (caller == who || job_waits_below(caller)))
        return COIR_EDEADLK;
    return wait_for(o, deadline);
}

int coir_once_call(coir_once *once, coir_fn *fn, void *arg)
{
    return coir_once_call_until(once, fn, arg, COIR_NEVER);
}
