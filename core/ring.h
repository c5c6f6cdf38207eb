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

struct ring {
    /* Moved by whoever takes. */
    _Alignas(COIR_CACHE_LINE) _Atomic int64_t head; /* next index to take */

    /* Written by the owner. */
    _Alignas(COIR_CACHE_LINE) _Atomic int64_t tail; /* next index to fill */
    _Atomic(struct link *) slot[RING_CAP];          /* valid in [head, tail) */

    /* Younger than all of the ring. */
    _Alignas(COIR_CACHE_LINE) struct lock lock; /* guards over */
    struct list over;
    _Atomic size_t over_count; /* over.count, readable without the lock */
};

void ring_push(struct ring *r, struct link *e); /* owner */
struct link *ring_take(struct ring *r);         /* owner; NULL: empty */
struct link *ring_steal(struct ring *r);        /* anyone; NULL: nothing to be had */

/* Anyone: whether there seemed to be nothing. Exact for the owner when it says true. */
static inline bool ring_empty(struct ring *r)
{
    int64_t h = atomic_load_explicit(&r->head, memory_order_relaxed);  /* a hint; SLEEP fences */
    int64_t t = atomic_load_explicit(&r->tail, memory_order_relaxed);  /* a hint; SLEEP fences */

    return h >= t &&
           atomic_load_explicit(&r->over_count, memory_order_relaxed) == 0; /* a hint; SLEEP fences */
}

/* Owner: the element that will be taken after `ahead` others, or NULL; a hint for prefetching. */
static inline struct link *ring_peek(struct ring *r, int64_t ahead)
{
    int64_t i = atomic_load_explicit(&r->head, memory_order_relaxed) + ahead; /* a hint */

    if (i >= atomic_load_explicit(&r->tail, memory_order_relaxed)) /* own write */
        return NULL;
    return atomic_load_explicit(&r->slot[i & (RING_CAP - 1)], memory_order_relaxed); /* a hint */
}

/* Owner: whether there is more than it can run itself at once. */
static inline bool ring_several(struct ring *r)
{
    int64_t h = atomic_load_explicit(&r->head, memory_order_relaxed); /* a hint */
    int64_t t = atomic_load_explicit(&r->tail, memory_order_relaxed); /* own write */

    return t - h > 1;
}

#endif
