/* SPDX-License-Identifier: MIT */
/*
 * ring.h - a worker's ready fibers, oldest first, stealable; overflow cannot fail. See ring.c.
 */
#ifndef COIR_RING_H
#define COIR_RING_H

#include "base.h"

#define RING_CAP 16384

/* What a queue needs of an element. */
struct link {
    struct link *next;
};

/* A first-in first-out list of links, for use under some lock. */
struct list {
    struct link *first, *last;
    size_t count;
};

static inline void list_push(struct list *l, struct link *e)
{
    e->next = NULL;
    if (l->last)
        l->last->next = e;
    else
        l->first = e;
    l->last = e;
    l->count++;
}

static inline struct link *list_take(struct list *l)
{
    struct link *e = l->first;

    if (!e)
        return NULL;
    l->first = e->next;
    if (!l->first)
        l->last = NULL;
    l->count--;
    return e;
}

/*
 *      slot:     next          kept            head         tail
 *                 |  the owner's |  taken away   |  anybody's  |
 *                 +--------------+               +-------------+
 *
 * The owner claims a few at once, as what is anybody's costs a CAS, and that waits for all stores before
 * it, of which a switch leaves many. What it has claimed can be wrested from it.
 */
struct ring {
    /* Moved by whoever takes what is anybody's. */
    _Alignas(COIR_CACHE_LINE) _Atomic int64_t head; /* next index to take or to claim */

    /* Written by the owner. */
    _Alignas(COIR_CACHE_LINE) _Atomic int64_t tail; /* next index to fill */
    _Atomic int64_t next; /* next index to take of those it has claimed */
    int64_t claimed;      /* kept, as it has written it */
    int64_t room;         /* a tail below it can be filled; 0: look */
    int64_t clear;        /* the tail with which nothing was left */
    int64_t claim_max;    /* at once; 1: nothing is kept, so there is nothing to wrest */

    /* Written by the owner when it claims, lowered by who wrests. */
    _Alignas(COIR_CACHE_LINE) _Atomic int64_t kept; /* [next, kept) is the owner's */

    _Alignas(COIR_CACHE_LINE) _Atomic(struct link *) slot[RING_CAP];

    /* Younger than all of the ring. */
    _Alignas(COIR_CACHE_LINE) struct lock lock; /* guards over; held by who wrests */
    struct list over;
    _Atomic size_t over_count; /* over.count, readable without the lock */
};

/* asymmetric: the fence given to ring_wrest is one that every thread passes. Else the owner claims one at a time. */
void ring_init(struct ring *r, bool asymmetric);

struct link *ring_steal(struct ring *r); /* anyone; NULL: nothing is anybody's */

/* Anyone: takes one that the owner has claimed, for it may be in a long job. NULL: nothing to be had.
 * fence(arg) passes a full fence: the caller's, and the owner's too if the ring is asymmetric. */
struct link *ring_wrest(struct ring *r, void (*fence)(const void *arg), const void *arg);

/* Owner: the parts of a push and a take that are seldom needed. */
void ring_push_slowly(struct ring *r, struct link *e);
struct link *ring_take_slowly(struct ring *r);

static inline _Atomic(struct link *) *ring_slot(struct ring *r, int64_t i)
{
    return &r->slot[i & (RING_CAP - 1)];
}

static inline void ring_fill(struct ring *r, int64_t t, struct link *e)
{
    atomic_store_explicit(ring_slot(r, t), e, memory_order_relaxed); /* carried by FILL */
    atomic_store_explicit(&r->tail, t + 1, memory_order_release);    /* FILL */
}

/* Owner: whether there is room for sure, at *t. */
static inline bool ring_has_room(struct ring *r, int64_t *t)
{
    *t = atomic_load_explicit(&r->tail, memory_order_relaxed); /* own write */
    return LIKELY(*t < r->room); /* R5 */
}

/* Owner. */
static inline void ring_push(struct ring *r, struct link *e)
{
    int64_t t;

    if (ring_has_room(r, &t))
        ring_fill(r, t, e);
    else
        ring_push_slowly(r, e);
}

/* Owner: takes the one in slot *i. False: it has claimed nothing, or somebody wrests that. */
static inline bool ring_take_claimed(struct ring *r, int64_t *i)
{
    *i = atomic_load_explicit(&r->next, memory_order_relaxed);     /* own write */
    atomic_store_explicit(&r->next, *i + 1, memory_order_relaxed); /* FORCE: before the fence */
    atomic_signal_fence(memory_order_seq_cst); /* FORCE: for the compiler; the other's fence is ours, too */
    if (LIKELY(*i < atomic_load_explicit(&r->kept, memory_order_relaxed))) /* FORCE: after the fence */
        return true;
    atomic_store_explicit(&r->next, *i, memory_order_relaxed); /* FORCE: has_claims will ask whose it is */
    return false;
}

/* Owner: what lies in the slot that it has just taken; in one further on it is a hint, for others may have taken that. */
static inline struct link *ring_at(struct ring *r, int64_t i)
{
    return atomic_load_explicit(ring_slot(r, i), memory_order_relaxed); /* own write */
}

/* Owner; NULL: empty. */
static inline struct link *ring_take(struct ring *r)
{
    int64_t i;

    return ring_take_claimed(r, &i) ? ring_at(r, i) : ring_take_slowly(r);
}

/* How many are claimed and not taken; a hint for all but the owner. */
static inline int64_t ring_kept(struct ring *r)
{
    int64_t next = atomic_load_explicit(&r->next, memory_order_relaxed); /* a hint; SLEEP fences */
    int64_t kept = atomic_load_explicit(&r->kept, memory_order_relaxed); /* a hint; SLEEP fences */

    return next < kept ? kept - next : 0;
}

/* Anyone: how many have ever been pushed, but for those of the list; a hint. */
static inline uint64_t ring_pushed(struct ring *r)
{
    return (uint64_t)atomic_load_explicit(&r->tail, memory_order_relaxed); /* a hint */
}

/* Anyone: whether there seemed to be nothing. Exact for the owner when it says true. */
static inline bool ring_empty(struct ring *r)
{
    int64_t h = atomic_load_explicit(&r->head, memory_order_relaxed);  /* a hint; SLEEP fences */
    int64_t t = atomic_load_explicit(&r->tail, memory_order_relaxed);  /* a hint; SLEEP fences */

    return h >= t && ring_kept(r) == 0 &&
           atomic_load_explicit(&r->over_count, memory_order_relaxed) == 0; /* a hint; SLEEP fences */
}

/* Owner: the rest of ring_is_clear. */
bool ring_is_clear_slowly(struct ring *r);

/* Owner, between its operations: whether there is nothing; by one compare while nothing has come. */
static ALWAYS_INLINE bool ring_is_clear(struct ring *r)
{
    return LIKELY(atomic_load_explicit(&r->tail, memory_order_relaxed) == r->clear) || /* own write; R6 */
           ring_is_clear_slowly(r);
}

/* Owner: whether the slots up to this one have been filled. */
static inline bool ring_reaches(struct ring *r, int64_t i)
{
    return i < atomic_load_explicit(&r->tail, memory_order_relaxed); /* own write */
}

/* Owner: how many are in the ring, at least. */
static inline int64_t ring_count(struct ring *r)
{
    int64_t h = atomic_load_explicit(&r->head, memory_order_relaxed); /* a hint */
    int64_t t = atomic_load_explicit(&r->tail, memory_order_relaxed); /* own write */

    return t - h + ring_kept(r);
}

#endif
