/* SPDX-License-Identifier: MIT */
/*
 * ring.c - ready fibers of one worker: a bounded ring that anyone may take from, and a locked list
 * for what does not fit.
 *
 * Why first in, first out: a server's fibers are peers, and the newest-first order that suits
 * fork-join makes the oldest request wait for all later ones.
 *
 * Why claims: taken one by one, each yield of 1000 fibers waited 9 ns for its CAS, of 10,000 45. They
 * are for few, and at most for half, so that thieves find something that is anybody's.
 *
 * Invariants
 *   R1  kept <= head <= tail <= next + RING_CAP. Only the owner moves tail, only a successful CAS head.
 *   R2  While the list holds anything, new elements go to the list: order is kept. Only what is wrested
 *       is younger than what is left.
 *   R3  Each pushed element is taken exactly once.
 *   R4  kept grows by the owner's claims only, and then past every value it had. It is lowered by one at a
 *       time, under the lock, and never while next >= kept.
 *   R5  room is 0, or the list is empty and room <= next + RING_CAP: next only grows (but for a take that is taken
 *       back), and only the owner adds to the list.
 *   R6  While tail is clear nothing is there. The owner has found it so, and had taken all that it had claimed; else
 *       what somebody lowers kept for may come back, if a take has raised next for it and then put it back. Only the
 *       owner adds, and to the list only when no room is left, so that tail has moved.
 *
 * Orderings
 *   FILL  push stores tail (release) -> steal loads tail (acquire): the slot and the fiber behind it. A claim
 *         stores kept (release) -> wrest loads kept (acquire): the same, and the new next.
 *   FREE  steal's CAS on head (release) -> the claim's CAS, or has_room (acquire), before next goes past
 *         the slot and push fills it again: it has been read. For what was wrested the lock carries it: the owner
 *         takes it when it finds kept lowered. (The explorer does not let a load move behind a later store, so it
 *         would not miss FREE.)
 *   FORCE take: raise next, fence, read kept. Wrest: lower kept, fence, read next. One fence comes first.
 *         If the owner's: the other sees next raised, and gives the element back. If the other's: the
 *         owner sees kept lowered, puts next back, and asks under the lock whose it is: kept was given back by then, or
 *         the element has gone. (Frigo et al., 1998, call it THE.) The fence is always the other's, who has all threads
 *         pass it. Where none does that for him nothing is kept, and so there is nothing to wrest.
 */
#include "ring.h"

#define CLAIM_MAX 16
#define REFILL 64 /* elements moved from the list to the ring at once; bounds the time under lock */

void ring_init(struct ring *r, bool asymmetric)
{
    r->claim_max = asymmetric ? CLAIM_MAX : 1; /* FORCE */
}

/* The list's own count, copied out for those who look without the lock (which is held here). */
static void publish_count(struct ring *r)
{
    atomic_store_explicit(&r->over_count, r->over.count, memory_order_relaxed); /* a hint */
}

/* -------------------------------------------------------------------------------------- the owner */

/* Waits for who may be wresting what it had claimed. */
static bool has_claims(struct ring *r)
{
    if (atomic_load_explicit(&r->kept, memory_order_relaxed) != r->claimed) { /* lowered: under lock */
        lock_take(&r->lock);
        r->claimed = atomic_load_explicit(&r->kept, memory_order_relaxed); /* under lock */
        lock_drop(&r->lock);
    }
    return atomic_load_explicit(&r->next, memory_order_relaxed) < r->claimed; /* own write */
}

/* Room in the ring itself: without claims `next` may have stayed behind. */
static bool has_room(struct ring *r, int64_t t)
{
    if (!has_claims(r))
        atomic_store_explicit(&r->next, atomic_load_explicit(&r->head, memory_order_acquire), /* FREE */
                              memory_order_relaxed); /* no claim, nobody wrests */
    return t - atomic_load_explicit(&r->next, memory_order_relaxed) < RING_CAP; /* own write */
}

static bool append(struct ring *r, struct link *e)
{
    int64_t t = atomic_load_explicit(&r->tail, memory_order_relaxed); /* own write */

    if (!has_room(r, t))
        return false;
    ring_fill(r, t, e);
    return true;
}

NOINLINE void ring_push_slowly(struct ring *r, struct link *e)
{
    if (atomic_load_explicit(&r->over_count, memory_order_relaxed) == 0 && append(r, e)) { /* own write */
        r->room = atomic_load_explicit(&r->next, memory_order_relaxed) + RING_CAP; /* own write; R5 */
        return;
    }
    r->room = 0;
    lock_take(&r->lock);
    list_push(&r->over, e);
    publish_count(r);
    lock_drop(&r->lock);
}

/* What is being wrested is not there, and may come back: R6. */
NOINLINE bool ring_is_clear_slowly(struct ring *r)
{
    if (!ring_empty(r))
        return false;
    if (atomic_load_explicit(&r->next, memory_order_relaxed) >= r->claimed) /* own write */
        r->clear = atomic_load_explicit(&r->tail, memory_order_relaxed);    /* own write */
    return true;
}

/* The oldest of the list; some more go into the ring while the lock is held. Nothing is claimed, so
 * has_claims does not want the lock. */
static NOINLINE struct link *refill(struct ring *r)
{
    struct link *e;

    if (atomic_load_explicit(&r->over_count, memory_order_relaxed) == 0) /* a hint */
        return NULL;
    lock_take(&r->lock);
    e = list_take(&r->over);
    for (int i = 0; i < REFILL && r->over.first && append(r, r->over.first); i++)
        list_take(&r->over);
    publish_count(r);
    lock_drop(&r->lock);
    return e;
}

/* The first of the claim is taken at once. */
static struct link *claim(struct ring *r)
{
    int64_t h = atomic_load_explicit(&r->head, memory_order_relaxed); /* checked by the CAS */
    int64_t t = atomic_load_explicit(&r->tail, memory_order_relaxed), n; /* own write */

    do {
        if (h >= t)
            return refill(r);
        n = (t - h + 1) / 2;
        n = n < r->claim_max ? n : r->claim_max;
    } while (!atomic_compare_exchange_weak_explicit(&r->head, &h, h + n, memory_order_acquire,
                                                    memory_order_relaxed)); /* FREE */
    atomic_store_explicit(&r->next, h + 1, memory_order_relaxed); /* FILL: before kept */
    r->claimed = h + n;
    atomic_store_explicit(&r->kept, h + n, memory_order_release); /* FILL */
    return atomic_load_explicit(ring_slot(r, h), memory_order_relaxed); /* own write */
}

static NOINLINE struct link *take_disputed(struct ring *r)
{
    return has_claims(r) ? ring_take(r) : claim(r);
}

/* Saves no registers: each line of its stack that it touches will have left the cache of who yields among many. */
NOINLINE struct link *ring_take_slowly(struct ring *r)
{
    if (UNLIKELY(atomic_load_explicit(&r->kept, memory_order_relaxed) != r->claimed) || /* as has_claims */
        UNLIKELY(atomic_load_explicit(&r->next, memory_order_relaxed) < r->claimed)) /* own write */
        return take_disputed(r);
    return claim(r);
}

/* ---------------------------------------------------------------------------------------- others */

static struct link *steal_from_list(struct ring *r)
{
    struct link *e;

    if (atomic_load_explicit(&r->over_count, memory_order_relaxed) == 0) /* a hint */
        return NULL;
    lock_take(&r->lock);
    e = list_take(&r->over);
    publish_count(r);
    lock_drop(&r->lock);
    return e;
}

struct link *ring_steal(struct ring *r)
{
    int64_t h = atomic_load_explicit(&r->head, memory_order_relaxed); /* checked by the CAS */

    while (h < atomic_load_explicit(&r->tail, memory_order_acquire)) { /* FILL */
        struct link *e = atomic_load_explicit(ring_slot(r, h), memory_order_relaxed); /* after FILL */

        if (atomic_compare_exchange_weak_explicit(&r->head, &h, h + 1, memory_order_release,
                                                  memory_order_relaxed)) /* FREE */
            return e;
    }
    return steal_from_list(r);
}

/* Lock held. Lowers kept to i, unless the owner gets there first. */
static bool wrest(struct ring *r, int64_t i, void (*fence)(const void *arg), const void *arg)
{
    int64_t was = i + 1, lowered = i;

    if (!atomic_compare_exchange_strong_explicit(&r->kept, &was, i, memory_order_relaxed,
                                                 memory_order_relaxed)) /* FORCE: before the fence */
        return false;
    fence(arg);                                                         /* FORCE */
    if (atomic_load_explicit(&r->next, memory_order_relaxed) <= i) /* FORCE: after the fence */
        return true;
    atomic_compare_exchange_strong_explicit(&r->kept, &lowered, i + 1, memory_order_relaxed,
                                            memory_order_relaxed); /* lost: it has claimed more (R4) */
    return false;
}

struct link *ring_wrest(struct ring *r, void (*fence)(const void *arg), const void *arg)
{
    struct link *e = NULL;
    int64_t kept;

    lock_take(&r->lock);
    kept = atomic_load_explicit(&r->kept, memory_order_acquire);          /* FILL */
    if (atomic_load_explicit(&r->next, memory_order_relaxed) < kept) { /* FILL: after kept */
        e = atomic_load_explicit(ring_slot(r, kept - 1), memory_order_relaxed); /* after FILL */
        if (!wrest(r, kept - 1, fence, arg))
            e = NULL;
    }
    lock_drop(&r->lock);
    return e;
}
