/* SPDX-License-Identifier: MIT */
/*
 * inject.c - the shared queue, under one lock.
 *
 * Why a lock: everything here is off the path of a worker that has work of its own; takers take in
 * batches; and with a lock the limit on queued work is exact.
 *
 * Invariants
 *   J1  work_count is the number of items in the chunks; inject_push keeps it within work_max.
 *   J2  A push of n items is all or nothing: the chunks are found before the first is written.
 *   J3  At most SPARE_MAX empty chunks are kept; the rest goes back to the host.
 */
#include "inject.h"

#define CHUNK_ITEMS 127 /* a chunk is a page */
#define SPARE_MAX 16

struct chunk {
    struct chunk *next;
    uint32_t begin, end; /* items in [begin, end) are queued */
    struct work item[CHUNK_ITEMS];
};

_Static_assert(sizeof(struct chunk) <= 4096, "a chunk is a page");

void inject_init(struct inject *q, const struct host *host, size_t work_max)
{
    q->host = host;
    q->work_max = work_max;
}

static void free_chain(struct inject *q, struct chunk *c)
{
    while (c) {
        struct chunk *next = c->next;

        mem_free(q->host, c);
        c = next;
    }
}

void inject_fini(struct inject *q)
{
    ASSERT(inject_empty(q));
    free_chain(q, q->first);
    free_chain(q, q->spare);
}

/* Lock held. J3. */
static void free_spares(struct inject *q)
{
    while (q->spare_count > SPARE_MAX) {
        struct chunk *c = q->spare;

        q->spare = c->next;
        q->spare_count--;
        mem_free(q->host, c);
    }
}

/* Lock held. Makes sure that `count` empty chunks are at hand. */
static bool reserve(struct inject *q, size_t count)
{
    while (q->spare_count < count) {
        struct chunk *c = mem_alloc(q->host, sizeof *c);

        if (!c) {
            free_spares(q);
            return false;
        }
        c->next = q->spare;
        q->spare = c;
        q->spare_count++;
    }
    return true;
}

/* Lock held, chunk reserved. */
static struct chunk *add_chunk(struct inject *q)
{
    struct chunk *c = q->spare;

    q->spare = c->next;
    q->spare_count--;
    c->next = NULL;
    c->begin = c->end = 0;
    if (q->last)
        q->last->next = c;
    else
        q->first = c;
    q->last = c;
    return c;
}

/* Lock held. */
static int admit(struct inject *q, size_t n, bool outside)
{
    size_t count = atomic_load_explicit(&q->work_count, memory_order_relaxed); /* under lock */

    if (outside && q->closed)
        return COIR_ESHUTDOWN;
    return count < q->work_max && n <= q->work_max - count ? COIR_OK : COIR_EAGAIN;
}

/* Lock held. */
static int append(struct inject *q, struct work item, size_t stride, size_t n)
{
    size_t count = atomic_load_explicit(&q->work_count, memory_order_relaxed); /* under lock */
    size_t room = q->last ? CHUNK_ITEMS - q->last->end : 0;

    if (n > room && !reserve(q, (n - room + CHUNK_ITEMS - 1) / CHUNK_ITEMS))
        return COIR_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        struct chunk *c = q->last;

        if (!c || c->end == CHUNK_ITEMS)
            c = add_chunk(q);
        c->item[c->end++] = item;
        item.arg = (void *)((uintptr_t)item.arg + stride); /* it may be NULL */
    }
    atomic_store_explicit(&q->work_count, count + n, memory_order_relaxed); /* under lock */
    return COIR_OK;
}

int inject_push(struct inject *q, const struct work *first, size_t stride, size_t n, bool outside)
{
    int status;

    lock_take(&q->lock);
    status = admit(q, n, outside);
    if (status == COIR_OK)
        status = append(q, *first, stride, n);
    if (status == COIR_OK && outside)
        q->accepted += n;
    lock_drop(&q->lock);
    return status;
}

bool inject_push_anyway(struct inject *q, const struct work *item)
{
    bool pushed;

    lock_take(&q->lock);
    pushed = append(q, *item, 0, 1) == COIR_OK;
    lock_drop(&q->lock);
    return pushed;
}

/* Lock held. The first chunk is used up. */
static void retire(struct inject *q)
{
    struct chunk *c = q->first;

    q->first = c->next;
    if (!q->first)
        q->last = NULL;
    c->next = q->spare;
    q->spare = c;
    q->spare_count++;
    free_spares(q);
}

/* Lock held. */
static size_t take(struct inject *q, struct work *items, size_t max)
{
    size_t n = 0, count;

    while (n < max && q->first) {
        struct chunk *c = q->first;

        while (n < max && c->begin < c->end)
            items[n++] = c->item[c->begin++];
        if (c->begin == c->end)
            retire(q);
    }
    count = atomic_load_explicit(&q->work_count, memory_order_relaxed);     /* under lock */
    atomic_store_explicit(&q->work_count, count - n, memory_order_relaxed); /* under lock */
    return n;
}

size_t inject_take(struct inject *q, struct work *items, size_t max)
{
    size_t n;

    if (atomic_load_explicit(&q->work_count, memory_order_relaxed) == 0) /* a hint */
        return 0;
    lock_take(&q->lock);
    n = take(q, items, max);
    lock_drop(&q->lock);
    return n;
}

enum sift inject_sift(struct inject *q, bool (*steal)(void *from, struct work *item), void *from,
                      bool (*wanted)(const struct work *item), struct work *out)
{
    enum sift s = SIFT_NONE;

    lock_take(&q->lock);
    if (reserve(q, 1) && (steal ? steal(from, out) : take(q, out, 1) == 1)) {
        s = wanted(out) ? SIFT_KEPT : SIFT_OUT;
        if (s == SIFT_KEPT)
            append(q, *out, 0, 1); /* there is room: it was made before the item was taken */
    }
    lock_drop(&q->lock);
    return s;
}

/* Lock held. */
static void publish_fibers(struct inject *q)
{
    atomic_store_explicit(&q->fiber_count, q->fibers.count, memory_order_relaxed); /* a hint */
}

void inject_push_fiber(struct inject *q, struct link *e)
{
    lock_take(&q->lock);
    list_push(&q->fibers, e);
    publish_fibers(q);
    lock_drop(&q->lock);
}

struct link *inject_take_fiber(struct inject *q)
{
    struct link *e;

    if (atomic_load_explicit(&q->fiber_count, memory_order_relaxed) == 0) /* a hint */
        return NULL;
    lock_take(&q->lock);
    e = list_take(&q->fibers);
    publish_fibers(q);
    lock_drop(&q->lock);
    return e;
}

void inject_close(struct inject *q, bool closed)
{
    lock_take(&q->lock);
    q->closed = closed;
    lock_drop(&q->lock);
}

uint64_t inject_accepted(struct inject *q)
{
    uint64_t n;

    lock_take(&q->lock);
    n = q->accepted;
    lock_drop(&q->lock);
    return n;
}
