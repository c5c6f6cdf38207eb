/* SPDX-License-Identifier: MIT */
/*
 * ring.c - ready fibers of one worker: a bounded ring that anyone may take from, and a locked list
 * for what does not fit.
 *
 * Why first in, first out: a server's fibers are peers, and the newest-first order that suits
 * fork-join makes the oldest request wait for all later ones.
 *
 * Invariants
 *   R1  head <= tail <= head + RING_CAP. Only the owner moves tail, only a successful CAS head.
 *   R2  While the list holds anything, new elements go to the list: order is kept.
 *   R3  Each pushed element is taken exactly once.
 *
 * Orderings
 *   FILL  push stores tail (release) -> take loads tail (acquire): the slot and the fiber behind it.
 *   FREE  take's CAS on head (release) -> push loads head (acquire): the slot has been read.
 */
#include "ring.h"

#define REFILL 64 /* elements moved from the list to the ring at once; bounds the time under lock */

static _Atomic(struct link *) *slot(struct ring *r, int64_t i)
{
    return &r->slot[i & (RING_CAP - 1)];
}

/* Owner: appends to the ring itself; false when it is full. */
static bool append(struct ring *r, struct link *e)
{
    int64_t t = atomic_load_explicit(&r->tail, memory_order_relaxed); /* own write */

    if (t - atomic_load_explicit(&r->head, memory_order_acquire) >= RING_CAP) /* FREE */
        return false;
    atomic_store_explicit(slot(r, t), e, memory_order_relaxed);   /* carried by FILL */
    atomic_store_explicit(&r->tail, t + 1, memory_order_release); /* FILL */
    return true;
}

/* The list's own count, copied out for those who look without the lock (which is held here). */
static void publish_count(struct ring *r)
{
    atomic_store_explicit(&r->over_count, r->over.count, memory_order_relaxed); /* a hint */
}

void ring_push(struct ring *r, struct link *e)
{
    /* Only the owner adds to the list, so a zero it reads is true. */
    if (LIKELY(atomic_load_explicit(&r->over_count, memory_order_relaxed) == 0 && /* own write */
               append(r, e)))
        return;
    lock_take(&r->lock);
    list_push(&r->over, e);
    publish_count(r);
    lock_drop(&r->lock);
}

static struct link *take_from_ring(struct ring *r)
{
    int64_t h = atomic_load_explicit(&r->head, memory_order_relaxed); /* checked by the CAS */

    while (h < atomic_load_explicit(&r->tail, memory_order_acquire)) { /* FILL */
        struct link *e = atomic_load_explicit(slot(r, h), memory_order_relaxed); /* after FILL */

        if (atomic_compare_exchange_weak_explicit(&r->head, &h, h + 1, memory_order_acq_rel,
                                                  memory_order_relaxed)) /* FREE */
            return e;
    }
    return NULL;
}

/* Takes the oldest of the list; the owner moves some more into the ring while it has the lock. */
static struct link *take_from_list(struct ring *r, bool owner)
{
    struct link *e;

    if (atomic_load_explicit(&r->over_count, memory_order_relaxed) == 0) /* a hint */
        return NULL;
    lock_take(&r->lock);
    e = list_take(&r->over);
    for (int i = 0; owner && i < REFILL && r->over.first && append(r, r->over.first); i++)
        list_take(&r->over);
    publish_count(r);
    lock_drop(&r->lock);
    return e;
}

struct link *ring_take(struct ring *r)
{
    struct link *e = take_from_ring(r);

    return LIKELY(e) ? e : take_from_list(r, true);
}

struct link *ring_steal(struct ring *r)
{
    struct link *e = take_from_ring(r);

    return e ? e : take_from_list(r, false);
}
