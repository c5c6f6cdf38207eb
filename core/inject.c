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
 *   J4  Once there is a chunk there is a last one, if need be an empty one. So a queue that is emptied again
 *       and again fills the same lines.
 *
 * VISIT. Work that is in the queue may run at once, and be the last of a runtime that then closes. But nobody
 * takes it before the lock is dropped. So who submits chooses the sleeper that it wakes while it holds the lock,
 * and touches nothing else afterwards; the sleeper cannot leave before it has its token (park.c).
 */
#include "inject.h"

#define CHUNK_ITEMS 127 /* a chunk is a page */
#define SPARE_MAX 16

struct chunk {
    struct chunk *next;
    struct work item[CHUNK_ITEMS];
};

_Static_assert(sizeof(struct chunk) <= 4096, "a chunk is a page");

void inject_init(struct inject *q, const struct host *host, size_t work_max)
{
    q->host = host;
    q->work_max = work_max;
    q->end = CHUNK_ITEMS; /* no chunk: none has room */
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
    while (q->spare_count >= SPARE_MAX) { /* the last one may be empty, too */
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
static void add_chunk(struct inject *q)
{
    struct chunk *c = q->spare;

    q->spare = c->next;
    q->spare_count--;
    c->next = NULL;
    if (q->last)
        q->last->next = c;
    else
        q->first = c;
    q->last = c;
    q->end = 0;
}

/* Lock held. */
static int admit(struct inject *q, size_t n, bool outside)
{
    size_t count = atomic_load_explicit(&q->work_count, memory_order_relaxed); /* under lock */

    if (outside && q->closed)
        return COIR_ESHUTDOWN;
    return count < q->work_max && n <= q->work_max - count ? COIR_OK : COIR_EAGAIN;
}

/* Lock held. Word by word: to copy what was just stored in parts at once would wait for the stores. */
static int append(struct inject *q, const struct work *first, size_t stride, size_t n)
{
    size_t count = atomic_load_explicit(&q->work_count, memory_order_relaxed); /* under lock */
    size_t room = CHUNK_ITEMS - q->end;
    uintptr_t arg = (uintptr_t)first->arg; /* it may be NULL */

    if (n > room && !reserve(q, (n - room + CHUNK_ITEMS - 1) / CHUNK_ITEMS))
        return COIR_ENOMEM;
    for (size_t i = 0; i < n; i++, arg += stride) {
        struct work *item;

        if (q->end == CHUNK_ITEMS)
            add_chunk(q);
        item = &q->last->item[q->end++];
        item->fn = first->fn;
        item->arg = (void *)arg;
        item->owed = first->owed;
        item->scope = first->scope;
    }
    atomic_store_explicit(&q->work_count, count + n, memory_order_relaxed); /* under lock */
    return COIR_OK;
}

int inject_push(struct inject *q, const struct work *first, size_t stride, size_t n)
{
    int status;

    lock_take(&q->lock);
    status = admit(q, n, false);
    if (status == COIR_OK)
        status = append(q, first, stride, n);
    lock_drop(&q->lock);
    return status;
}

int inject_submit(struct inject *q, const struct work *first, size_t stride, size_t n, struct park *park,
                  struct parker **sleeper)
{
    int status;

    *sleeper = NULL;
    lock_take(&q->lock);
    status = admit(q, n, true);
    if (status == COIR_OK)
        status = append(q, first, stride, n);
    if (status == COIR_OK) {
        q->accepted += n;
        if (UNLIKELY(park_is_due(park)))
            *sleeper = park_pick(park);
    }
    lock_drop(&q->lock); /* VISIT: the last access */
    return status;
}

/* Lock held, with room in the last chunk and below the limit. The oldest of a deque, until one of the three ends. */
static size_t take_over(struct inject *q, struct deque *d, size_t below_limit)
{
    size_t room = CHUNK_ITEMS - q->end;
    size_t n = deque_pop_oldest(d, &q->last->item[q->end], room < below_limit ? room : below_limit);

    q->end += (uint32_t)n;
    return n;
}

int inject_relieve(struct inject *q, struct deque *d)
{
    size_t count;
    int status;

    lock_take(&q->lock);
    count = atomic_load_explicit(&q->work_count, memory_order_relaxed); /* under lock */
    status = admit(q, 1, false);
    if (status == COIR_OK && q->end == CHUNK_ITEMS) {
        if (reserve(q, 1))
            add_chunk(q);
        else
            status = COIR_ENOMEM;
    }
    if (status == COIR_OK)
        count += take_over(q, d, q->work_max - count);
    atomic_store_explicit(&q->work_count, count, memory_order_relaxed); /* under lock */
    lock_drop(&q->lock);
    return status;
}

bool inject_push_anyway(struct inject *q, const struct work *item)
{
    bool pushed;

    lock_take(&q->lock);
    pushed = append(q, item, 0, 1) == COIR_OK;
    lock_drop(&q->lock);
    return pushed;
}

/* Lock held. The first chunk is used up. J4. */
static void retire(struct inject *q)
{
    struct chunk *c = q->first;

    q->begin = 0;
    if (c == q->last) {
        q->end = 0;
        return;
    }
    q->first = c->next;
    c->next = q->spare;
    q->spare = c;
    q->spare_count++;
    free_spares(q);
}

/* Lock held. */
static size_t take(struct inject *q, struct work *items, size_t max)
{
    size_t count = atomic_load_explicit(&q->work_count, memory_order_relaxed); /* under lock */
    size_t n = count < max ? count : max;

    for (size_t i = 0; i < n; i++) {
        items[i] = q->first->item[q->begin++];
        if (q->begin == (q->first == q->last ? q->end : CHUNK_ITEMS))
            retire(q);
    }
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
            append(q, out, 0, 1); /* there is room: it was made before the item was taken */
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

bool inject_empty_surely(struct inject *q)
{
    bool empty;

    lock_take(&q->lock);
    empty = inject_empty(q);
    lock_drop(&q->lock);
    return empty;
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
