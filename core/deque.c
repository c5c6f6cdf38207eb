/* SPDX-License-Identifier: MIT */
/*
 * deque.c - work-stealing deque (Chase and Lev, 2005; orderings after Lê et al., PPoPP 2013).
 *
 * Owns: the ring of jobs that one worker has spawned and nobody has started.
 * Knows nothing about jobs or fibers: an item is four words.
 *
 * Bounded on purpose: a growing array brings the two hard faults of the paper's listing (a stale
 * array after a resize, and its publication). A full deque refuses, and the caller uses the
 * injector, which is where admission is limited.
 *
 * Invariants
 *   D1  top <= bottom + 1, and top never decreases. Indices are signed: pop may pass top by one.
 *   D2  Only the owner writes bottom and slots; only a successful CAS moves top.
 *   D3  Each pushed item is returned by exactly one pop or steal.
 *
 * Orderings
 *   PUB   push: release fence, store bottom (release) -> steal loads bottom (acquire).
 *         A thief that sees the index sees the item behind it. The fence is needed as well as
 *         the store: a thief may read the bottom that a later pop wrote.
 *   REUSE steal's CAS on top (seq_cst) -> push loads top (acquire).
 *         The owner overwrites a slot only after the thief has read it.
 *   LAST  seq_cst fence in pop <-> seq_cst fence in steal.
 *         For the last item, pop sees the thief's top or the thief sees pop's bottom; the CAS on
 *         top then picks one winner (D3). The CAS stays seq_cst: a weaker one passes the checkers
 *         of the C11 model and is wrong on hardware that delays the item's load past it.
 */
#include "deque.h"

static struct deque_slot *slot(struct deque *d, int64_t i)
{
    return &d->slot[i & (DEQUE_CAP - 1)];
}

static inline __attribute__((always_inline)) void put(struct deque_slot *s, const struct work *item)
{
    atomic_store_explicit(&s->fn, item->fn, memory_order_relaxed);     /* carried by PUB */
    atomic_store_explicit(&s->arg, item->arg, memory_order_relaxed);   /* carried by PUB */
    atomic_store_explicit(&s->owed, item->owed, memory_order_relaxed); /* carried by PUB */
    atomic_store_explicit(&s->scope, item->scope, memory_order_relaxed); /* carried by PUB */
}

static inline __attribute__((always_inline)) void get(struct deque_slot *s, struct work *item)
{
    item->fn = atomic_load_explicit(&s->fn, memory_order_relaxed);     /* carried by PUB */
    item->arg = atomic_load_explicit(&s->arg, memory_order_relaxed);   /* carried by PUB */
    item->owed = atomic_load_explicit(&s->owed, memory_order_relaxed); /* carried by PUB */
    item->scope = atomic_load_explicit(&s->scope, memory_order_relaxed); /* carried by PUB */
}

size_t deque_room(struct deque *d)
{
    int64_t b = atomic_load_explicit(&d->bottom, memory_order_relaxed); /* own write */

    d->top_seen = atomic_load_explicit(&d->top, memory_order_acquire); /* REUSE */
    return (size_t)(DEQUE_CAP - (b - d->top_seen));
}

unsigned deque_count(struct deque *d)
{
    int64_t b = atomic_load_explicit(&d->bottom, memory_order_relaxed); /* own write */
    int64_t t = atomic_load_explicit(&d->top, memory_order_relaxed);    /* only grows */

    return b > t ? (unsigned)(b - t) : 0;
}

bool deque_push(struct deque *d, const struct work *item)
{
    int64_t b = atomic_load_explicit(&d->bottom, memory_order_relaxed); /* own write */

    if (UNLIKELY(b - d->top_seen >= DEQUE_CAP)) {
        d->top_seen = atomic_load_explicit(&d->top, memory_order_acquire); /* REUSE */
        if (b - d->top_seen >= DEQUE_CAP)
            return false;
    }
    put(slot(d, b), item);
    fence_release();                                                /* PUB */
    atomic_store_explicit(&d->bottom, b + 1, memory_order_release); /* PUB */
    return true;
}

void deque_push_many(struct deque *d, const struct work *first, size_t stride, size_t n)
{
    int64_t b = atomic_load_explicit(&d->bottom, memory_order_relaxed); /* own write */
    struct work item = *first;

    for (size_t i = 0; i < n; i++) {
        put(slot(d, b + (int64_t)i), &item);
        item.arg = (void *)((uintptr_t)item.arg + stride); /* it may be NULL */
    }
    fence_release();                                                            /* PUB */
    atomic_store_explicit(&d->bottom, b + (int64_t)n, memory_order_release);    /* PUB */
}

/* The last item is contested: whoever moves top has it. */
static bool pop_last(struct deque *d, int64_t b, int64_t t)
{
    bool won = atomic_compare_exchange_strong_explicit(&d->top, &t, t + 1, memory_order_seq_cst,
                                                       memory_order_relaxed); /* LAST */

    atomic_store_explicit(&d->bottom, b + 1, memory_order_release); /* PUB: keeps its chain */
    return won;
}

bool deque_pop(struct deque *d, struct work *item)
{
    int64_t b = atomic_load_explicit(&d->bottom, memory_order_relaxed) - 1; /* own write */
    int64_t t = atomic_load_explicit(&d->top, memory_order_relaxed); /* only grows: a true "empty" */

    if (t > b)
        return false;
    fence_release();                                            /* PUB: keeps its chain */
    atomic_store_explicit(&d->bottom, b, memory_order_release); /* PUB: keeps its chain */
    fence_full();                                               /* LAST */
    t = atomic_load_explicit(&d->top, memory_order_relaxed);    /* LAST: after the fence */
    if (t < b) {
        get(slot(d, b), item);
        return true;
    }
    if (t == b) {
        get(slot(d, b), item);
        return pop_last(d, b, t);
    }
    atomic_store_explicit(&d->bottom, b + 1, memory_order_release); /* PUB: keeps its chain */
    return false;
}

bool deque_pop_owed(struct deque *d, const void *owed, const void *scope, struct work *item)
{
    int64_t b = atomic_load_explicit(&d->bottom, memory_order_relaxed) - 1; /* own write */
    struct deque_slot *s = slot(d, b);

    /* A slot below top is stale, but then the pop finds the deque empty. */
    if (atomic_load_explicit(&s->owed, memory_order_relaxed) != owed ||  /* own write */
        atomic_load_explicit(&s->scope, memory_order_relaxed) != scope) /* own write */
        return false;
    return deque_pop(d, item);
}

enum steal deque_steal(struct deque *d, struct work *item)
{
    int64_t t = atomic_load_explicit(&d->top, memory_order_acquire); /* orders a thief's own reads */
    int64_t b;

    fence_full();                                               /* LAST */
    b = atomic_load_explicit(&d->bottom, memory_order_acquire); /* PUB */
    if (t >= b)
        return STEAL_EMPTY;
    get(slot(d, t), item); /* before the CAS: after it the owner may reuse the slot */
    if (!atomic_compare_exchange_strong_explicit(&d->top, &t, t + 1, memory_order_seq_cst,
                                                 memory_order_relaxed)) /* LAST, REUSE */
        return STEAL_LOST;
    return STEAL_OK;
}
