/* SPDX-License-Identifier: MIT */
/*
 * sleeper.h - one blocking call at a primitive, as wakers (waitq.c) and the wait-for graph see it.
 */
#ifndef COIR_SLEEPER_H
#define COIR_SLEEPER_H

#include "fiber.h"

enum sleeper_state {
    SLEEPER_WAITS,    /* anyone may take it */
    SLEEPER_TAKEN,    /* a waker took it from a queue, and still uses its node */
    SLEEPER_RELEASED, /* that waker is done with it */
    SLEEPER_GONE      /* it has given up by itself: no waker may take it */
};

struct waiter;

/* Lives in the call's frame, with a node for each queue it waits in. While it sleeps its fiber points to
 * it (fiber->sleeper). */
struct sleeper {
    struct fiber *fiber;      /* NULL: a plain thread */
    uint64_t generation;      /* of the fiber's wait */
    _Atomic uint32_t state;   /* enum sleeper_state; a thread's futex */
    struct waiter *taken;     /* by which of its nodes; valid once RELEASED */

    /* For the graph. What must be given up before this call can go on, where that is not the very object
     * `on` that it waits at (which is then NULL here): an object that somebody holds, or the call (struct
     * sleeper) of one who is served earlier. Returns NULL: it is being let go. Its fiber is held meanwhile. */
    const void *(*awaits)(struct sleeper *s, const void *on);
    bool awaited;             /* others may wait for this call to be served first */
};

/* Whether nobody has let it go yet. Steady while the lock of the queues it is in is held. */
static inline bool sleeper_waits(const struct sleeper *s)
{
    uint32_t state = atomic_load_explicit((_Atomic uint32_t *)(uintptr_t)&s->state,
                                          memory_order_relaxed); /* W3; the queue's lock orders */

    return state == SLEEPER_WAITS;
}

#endif
