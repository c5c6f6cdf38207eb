/* SPDX-License-Identifier: MIT */
/*
 * inject.h - the runtime's shared queue: work from foreign threads, work that did not fit into a
 * deque, and fibers made ready by foreign threads. First in, first out. See inject.c.
 */
#ifndef COIR_INJECT_H
#define COIR_INJECT_H

#include "deque.h"
#include "mem.h"
#include "park.h"
#include "ring.h"

struct chunk;

struct inject {
    /* What each push and take writes: one line, which moves with its lock. */
    _Alignas(COIR_CACHE_LINE) struct lock lock; /* guards all below */
    bool closed;                 /* work from outside is refused */
    _Atomic size_t work_count;   /* readable without the lock, to skip an empty queue */
    _Atomic size_t fiber_count;  /* the same */
    struct chunk *first, *last;  /* work, in chunks */
    uint32_t begin, end;         /* items of the first before begin are gone, of the last from end on free */
    uint64_t accepted;           /* work from outside, ever */
    size_t work_max;             /* admission limit */

    _Alignas(COIR_CACHE_LINE) struct list fibers; /* intrusive: cannot fail */
    struct chunk *spare;         /* empty chunks kept for later */
    size_t spare_count;
    const struct host *host;
};

_Static_assert(offsetof(struct inject, fibers) == COIR_CACHE_LINE, "one line");

void inject_init(struct inject *q, const struct host *host, size_t work_max);
void inject_fini(struct inject *q); /* must be empty */

/* Appends n items fn(first + i * stride), all or none. COIR_OK, COIR_EAGAIN, COIR_ENOMEM. */
int inject_push(struct inject *q, const struct work *first, size_t stride, size_t n);

/* The same from outside: refused with COIR_ESHUTDOWN after inject_close. *sleeper: whom to wake, or NULL; nothing
 * else of the runtime is there for sure when this returns COIR_OK (VISIT). */
int inject_submit(struct inject *q, const struct work *first, size_t stride, size_t n, struct park *park,
                  struct parker **sleeper);

/* Moves the oldest items of the caller's own, full deque here, up to a chunk of them. COIR_OK: the deque has room now;
 * COIR_EAGAIN, COIR_ENOMEM. */
int inject_relieve(struct inject *q, struct deque *d);

/* Appends one item past the limit: it was admitted before. False: no memory. */
bool inject_push_anyway(struct inject *q, const struct work *item);

/* Takes up to max of the oldest items; returns how many. */
size_t inject_take(struct inject *q, struct work *items, size_t max);

enum sift { SIFT_NONE, SIFT_KEPT, SIFT_OUT }; /* NONE: nothing there, or no memory */

/* Takes one item, by `steal` or (NULL) the oldest from here. One that is wanted goes to the end of this
 * queue, another to *out. None is lost for want of memory: room is made before. */
enum sift inject_sift(struct inject *q, bool (*steal)(void *from, struct work *item), void *from,
                      bool (*wanted)(const struct work *item), struct work *out);

void inject_push_fiber(struct inject *q, struct link *e);
struct link *inject_take_fiber(struct inject *q); /* NULL: none */

/* Refuses work from outside from now on (or again accepts it). */
void inject_close(struct inject *q, bool closed);
uint64_t inject_accepted(struct inject *q);

/* Items of work in it. A hint. */
static inline size_t inject_count(const struct inject *q)
{
    return atomic_load_explicit(&q->work_count, memory_order_relaxed); /* a hint */
}

static inline bool inject_empty(struct inject *q)
{
    return atomic_load_explicit(&q->work_count, memory_order_relaxed) == 0 && /* a hint; SLEEP fences */
           atomic_load_explicit(&q->fiber_count, memory_order_relaxed) == 0;  /* a hint; SLEEP fences */
}

/* The same under the lock: who pushes afterwards sees what the caller did before. ALONE in park.c. */
bool inject_empty_surely(struct inject *q);

#endif
