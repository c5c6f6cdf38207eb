/* SPDX-License-Identifier: MIT */
/*
 * deque.h - a worker's new jobs: pushed and popped by their owner, newest first; stolen by others,
 * oldest first. See deque.c for the orderings.
 */
#ifndef COIR_DEQUE_H
#define COIR_DEQUE_H

#include "base.h"

#define DEQUE_CAP 2048

/* A call to make, who is owed its end, and in whose scope it runs (scope.h; NULL: the runtime's own).
 * Four opaque words as far as the queues care. */
struct work {
    coir_fn *fn;
    void *arg;
    void *owed;
    void *scope;
};

/* A slot holds its words one by one: a thief may read it while the owner writes the next round,
 * and then loses the CAS that would have made the torn words its own. */
struct deque_slot {
    _Atomic(coir_fn *) fn;
    _Atomic(void *) arg;
    _Atomic(void *) owed;
    _Atomic(void *) scope;
};

_Static_assert(COIR_CACHE_LINE % sizeof(struct deque_slot) == 0, "no slot straddles a line");

struct deque {
    /* Written by thieves, and by the owner for the last item. */
    _Alignas(COIR_CACHE_LINE) _Atomic int64_t top; /* next index to steal */

    /* Written by the owner. */
    _Alignas(COIR_CACHE_LINE) _Atomic int64_t bottom; /* next index to push */
    int64_t top_seen; /* owner's: a value top has reached, so a push need not read top */
    _Alignas(COIR_CACHE_LINE) struct deque_slot slot[DEQUE_CAP]; /* valid in [top, bottom) */
};

_Static_assert((DEQUE_CAP & (DEQUE_CAP - 1)) == 0, "mask needs a power of two");
_Static_assert(offsetof(struct deque, bottom) == COIR_CACHE_LINE, "top shares no line");

enum steal { STEAL_OK, STEAL_EMPTY, STEAL_LOST }; /* LOST: a race, worth trying again */

bool deque_push(struct deque *d, const struct work *item); /* owner; false: full */
bool deque_pop(struct deque *d, struct work *item);        /* owner; false: empty */

/* Owner: pushes n items fn(arg + i * stride), which deque_room has found room for, in one step. */
void deque_push_many(struct deque *d, const struct work *first, size_t stride, size_t n);
enum steal deque_steal(struct deque *d, struct work *item); /* anyone */

/* Owner: pops the newest item if its owed and scope words are these. */
bool deque_pop_owed(struct deque *d, const void *owed, const void *scope, struct work *item);

/* Owner: items a push is sure to find room for. */
size_t deque_room(struct deque *d);

/* Items that are there: thieves can only have made it fewer for the owner; a hint for others. */
unsigned deque_count(struct deque *d);

/* Anyone: whether there seemed to be nothing. Exact for the owner when it says true. */
static inline bool deque_empty(struct deque *d)
{
    int64_t t = atomic_load_explicit(&d->top, memory_order_relaxed);    /* a hint; SLEEP fences */
    int64_t b = atomic_load_explicit(&d->bottom, memory_order_relaxed); /* a hint; SLEEP fences */

    return t >= b;
}

#endif
