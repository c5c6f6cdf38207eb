/* SPDX-License-Identifier: MIT */
/*
 * deque.h - a worker's new jobs: pushed and popped by their owner, newest first; stolen by others,
 * oldest first. See deque.c for the protocol and its orderings.
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

/*
 *      slot:     top           top + lent        bottom
 *                 |  anybody's  |  the owner's     |
 *                 +-------------+------------------+
 *
 * The owner pushes and pops at the bottom and looks at the window, which says what is anybody's, in
 * passing: at each pop, and at a push now and then. It opens the window when it is asked to.
 */
struct deque {
    /* Written by thieves, and by the owner to open it or to take back what it has lent. */
    _Alignas(COIR_CACHE_LINE) _Atomic uint64_t window; /* top << 16 | items lent from there, or ASKED */

    /* Written by the owner. */
    _Alignas(COIR_CACHE_LINE) _Atomic uint32_t bottom; /* next index to push; indices wrap around */
    uint32_t full;   /* a push looks at the window when bottom is there; D5 */
    uint32_t floor;  /* a pop fends for itself when bottom is there */
    bool lends_all;  /* the owner takes back no more than it pops */
    uint64_t seen;   /* the window for which floor holds, or none */
    bool asymmetric; /* thieves have the owner pass a fence when they need one; else it always does */
    _Alignas(COIR_CACHE_LINE) struct deque_slot slot[DEQUE_CAP]; /* valid in [top, bottom) */
};

_Static_assert((DEQUE_CAP & (DEQUE_CAP - 1)) == 0, "mask needs a power of two");
_Static_assert(offsetof(struct deque, bottom) == COIR_CACHE_LINE, "the window shares no line");

#define DEQUE_ASKED 0x8000u /* nothing is lent, and somebody wants something */
#define DEQUE_LAP (2 * DEQUE_CAP) /* a multiple, so that slots stay; twice, for D4 */
#define DEQUE_LEND_AT 16             /* a push that looks answers when so many are there; a pop always */

static inline uint32_t deque_top_of(uint64_t window)
{
    return (uint32_t)(window >> 16);
}

/* Items from top that are not the owner's alone. ASKED: more than there can be. */
static inline uint32_t deque_lent_of(uint64_t window)
{
    return window & 0xffff;
}

static inline struct deque_slot *deque_slot(struct deque *d, uint32_t i)
{
    return &d->slot[i & (DEQUE_CAP - 1)];
}

static ALWAYS_INLINE void deque_put(struct deque_slot *s, const struct work *item)
{
    atomic_store_explicit(&s->fn, item->fn, memory_order_relaxed);       /* carried by PUB */
    atomic_store_explicit(&s->arg, item->arg, memory_order_relaxed);     /* carried by PUB */
    atomic_store_explicit(&s->owed, item->owed, memory_order_relaxed);   /* carried by PUB */
    atomic_store_explicit(&s->scope, item->scope, memory_order_relaxed); /* carried by PUB */
}

static ALWAYS_INLINE void deque_get(struct deque_slot *s, struct work *item)
{
    item->fn = atomic_load_explicit(&s->fn, memory_order_relaxed);       /* carried by PUB */
    item->arg = atomic_load_explicit(&s->arg, memory_order_relaxed);     /* carried by PUB */
    item->owed = atomic_load_explicit(&s->owed, memory_order_relaxed);   /* carried by PUB */
    item->scope = atomic_load_explicit(&s->scope, memory_order_relaxed); /* carried by PUB */
}

/* asymmetric: callers of deque_open have every thread pass a fence before. */
void deque_init(struct deque *d, bool asymmetric);

/* Owner: lends half, if somebody has asked. */
void deque_answer(struct deque *d);

/* Owner: lends all that is there, and while some of that is lent takes back what it pops only, by a CAS each. */
void deque_lend_all(struct deque *d);

/* Owner: the rest of a pop that may meet the window: before and after bottom has been lowered. False: empty. */
bool deque_pop_slowly(struct deque *d);
bool deque_pop_lowered(struct deque *d);

/* Owner: the rest of deque_has_room: looks at the window, and answers who has asked. False: there is none. */
bool deque_look_for_room(struct deque *d);

/* Owner: whether there is room for one more, at *b, without a look. */
static ALWAYS_INLINE bool deque_has_room(struct deque *d, uint32_t *b)
{
    *b = atomic_load_explicit(&d->bottom, memory_order_relaxed); /* own write */
    return LIKELY(*b != d->full);
}

/* Owner, where there is room. */
static ALWAYS_INLINE void deque_append(struct deque *d, uint32_t b, const struct work *item)
{
    deque_put(deque_slot(d, b), item);
    atomic_store_explicit(&d->bottom, b + 1, memory_order_release); /* PUB */
}

/* Owner; false: full. */
static inline bool deque_push(struct deque *d, const struct work *item)
{
    uint32_t b;

    if (!deque_has_room(d, &b) && !deque_look_for_room(d))
        return false;
    deque_append(d, b, item);
    return true;
}

/* Owner: makes the newest item, before b, its own; false: empty. */
static ALWAYS_INLINE bool deque_lower(struct deque *d, uint32_t b)
{
    if (UNLIKELY(b == d->floor))
        return deque_pop_slowly(d);
    atomic_store_explicit(&d->bottom, b - 1, memory_order_release); /* PUB: keeps its chain */
    atomic_signal_fence(memory_order_seq_cst); /* FORCE: for the compiler; the thief's fence is the owner's, too */
    return LIKELY(atomic_load_explicit(&d->window, memory_order_relaxed) == d->seen) || /* FORCE: after the fence */
           deque_pop_lowered(d);
}

/* Owner; false: empty. */
static ALWAYS_INLINE bool deque_pop(struct deque *d, struct work *item)
{
    uint32_t b = atomic_load_explicit(&d->bottom, memory_order_relaxed); /* own write */

    if (!deque_lower(d, b))
        return false;
    deque_get(deque_slot(d, b - 1), item);
    return true;
}

/* Owner: whether its newest item owes this, if it has one: a slot below top is stale. */
static inline bool deque_ends_in(struct deque *d, const void *owed)
{
    uint32_t b = atomic_load_explicit(&d->bottom, memory_order_relaxed) - 1; /* own write */

    return atomic_load_explicit(&deque_slot(d, b)->owed, memory_order_relaxed) == owed; /* own write */
}

/* Owner: pops the newest item if its owed and scope words are those of *item. */
static ALWAYS_INLINE bool deque_pop_like(struct deque *d, struct work *item)
{
    uint32_t b = atomic_load_explicit(&d->bottom, memory_order_relaxed); /* own write */
    struct deque_slot *s = deque_slot(d, b - 1);

    /* A slot below top is stale, but then the pop finds the deque empty. */
    if (UNLIKELY(atomic_load_explicit(&s->owed, memory_order_relaxed) != item->owed) ||   /* own write */
        UNLIKELY(atomic_load_explicit(&s->scope, memory_order_relaxed) != item->scope) || /* own write */
        UNLIKELY(!deque_lower(d, b)))
        return false;
    item->fn = atomic_load_explicit(&s->fn, memory_order_relaxed);   /* own write */
    item->arg = atomic_load_explicit(&s->arg, memory_order_relaxed); /* own write */
    return true;
}

/* Owner: pops the oldest items, up to max; returns how many. */
size_t deque_pop_oldest(struct deque *d, struct work *items, size_t max);

/* Owner: pushes n items fn(arg + i * stride), which deque_room has found room for, in one step. */
void deque_push_many(struct deque *d, const struct work *first, size_t stride, size_t n);

/* Owner: items a push is sure to find room for. */
size_t deque_room(struct deque *d);

enum steal {
    STEAL_OK,
    STEAL_EMPTY,
    STEAL_LOST, /* a race, worth trying again */
    STEAL_ASKED /* nothing is lent; the owner has been asked to, and will when it next pushes or pops */
};

/* Anyone: takes the oldest items, up to max and at most half of what is lent; *n: how many. ASKED: *asked is
 * for deque_open. */
enum steal deque_steal(struct deque *d, struct work *items, size_t max, size_t *n, uint64_t *asked);

/* Anyone: opens the window of an owner that does not answer. Between the steal that returned `asked` and
 * this call every thread has passed a full fence (the caller alone, if the deque is not asymmetric). */
void deque_open(struct deque *d, uint64_t asked);

/* Items that are there: thieves can only have made it fewer for the owner; a hint for others. */
unsigned deque_count(struct deque *d);

/* Anyone: whether there seemed to be nothing. Exact for the owner when it says true. */
static inline bool deque_empty(struct deque *d)
{
    uint64_t window = atomic_load_explicit(&d->window, memory_order_relaxed); /* a hint; SLEEP fences */
    uint32_t b = atomic_load_explicit(&d->bottom, memory_order_relaxed);      /* a hint; SLEEP fences */
    uint32_t n = b - deque_top_of(window);

    return n + 1 <= 1 || n == (uint32_t)-DEQUE_LAP; /* D4 */
}

/* The same for the owner, between its operations. */
static inline bool deque_is_empty(struct deque *d)
{
    uint64_t window = atomic_load_explicit(&d->window, memory_order_relaxed); /* a hint; SLEEP fences */

    return deque_top_of(window) == atomic_load_explicit(&d->bottom, memory_order_relaxed); /* own write */
}

/* Anyone: whether a steal may find something; a hint that touches no line that the owner writes unless
 * it has not been asked yet. */
static inline bool deque_lends(struct deque *d)
{
    uint64_t window = atomic_load_explicit(&d->window, memory_order_relaxed); /* a hint */

    return deque_lent_of(window) ? !(window & DEQUE_ASKED) : !deque_empty(d);
}

/* What somebody has seen of another's deque. */
struct deque_view {
    uint64_t window;
    uint32_t bottom;
};

/* Anyone. What bottom is matters, and moves a line from its owner, where something is lent. */
static inline void deque_see(struct deque *d, struct deque_view *v)
{
    uint32_t lent;

    v->window = atomic_load_explicit(&d->window, memory_order_relaxed); /* a hint */
    lent = deque_lent_of(v->window);
    if (lent && lent < DEQUE_ASKED)
        v->bottom = atomic_load_explicit(&d->bottom, memory_order_relaxed); /* a hint */
    else
        v->window = DEQUE_ASKED;
}

/* Anyone: whether something was lent then, and neither the owner nor a thief has come since. A hint. */
static inline bool deque_has_stayed(struct deque *d, const struct deque_view *v)
{
    return !(v->window & DEQUE_ASKED) && v->window == atomic_load_explicit(&d->window, memory_order_relaxed) && /* a hint */
           v->bottom == atomic_load_explicit(&d->bottom, memory_order_relaxed); /* a hint */
}

#endif
