/* SPDX-License-Identifier: MIT */
/*
 * deque.c - work-stealing deque whose owner passes no fence.
 *
 * Owns: the ring of jobs that one worker has spawned and nobody has started.
 * Knows nothing about jobs or fibers: an item is four words.
 *
 * A deque in which any item may be stolen at any time (Chase and Lev, 2005) costs its owner a full fence at
 * each pop, which is more than an empty job. So the owner lends: one word, the window, says what anybody may
 * take, and the rest is its own. A thief that finds nothing lent asks, in the same word, which the owner
 * reads at each push and pop; it answers by lending half. An owner that does neither, because it is in a
 * long job, is not waited for: the thief has all threads pass a fence (membarrier) and opens the window
 * itself. (van Dijk and van de Pol, 2014, split a deque so, but wait for the owner.)
 * What has come from elsewhere, and may be long, it lends as a whole, for it will not be there to answer.
 *
 * Bounded on purpose: a full deque refuses, and its owner moves the oldest to the injector, which is where admission
 * is limited. A growing array would bring a stale array after a resize, and its publication.
 *
 * Invariants
 *   D1  The window never has the same value twice: for one top it goes from nothing lent to ASKED, if somebody asks, to some
 *       lent, and on to more; to have fewer the owner raises top by DEQUE_LAP, which leaves the slots the same.
 *       So a CAS that succeeds has found what was read before it, several items included. (Top has 48
 *       bits: to be fooled a thief would have to sleep through 2^36 takings back.)
 *   D2  Only the owner writes bottom and slots; top and what is lent change by a CAS on the window.
 *   D3  Each pushed item is returned by exactly one pop or steal: one that is lent to who moves the window
 *       past it, one that is not to the owner.
 *   D4  bottom - top is the number of items, or -1 in a pop that finds none; and for the moment in which the
 *       owner has raised top by DEQUE_LAP and not yet bottom, it is less by that.
 *
 *   D5  full - bottom is at most what was free when the owner last looked at the window, and pushes stop there; so
 *       they need no look of their own. Top only grows meanwhile, and a lap moves both.
 *   D6  If the window is `seen` the owner has everything from `floor` on to itself, and floor is not past bottom. By D1
 *       that is one compare. Nobody has asked in it.
 *
 * Orderings
 *   PUB   what makes an item visible: push stores bottom (release) -> deque_open loads it (acquire); the
 *         CAS that lends (release) -> steal loads the window (acquire). A pop's store of bottom is a
 *         release, too: a thief may read that one. Not those that follow a look at the window: who reads them
 *         in deque_open either has met that window, and so its CAS, or will fail at its own.
 *   REUSE steal's CAS (release) -> a push that looks loads the window (acquire); those up to full come after it.
 *         The owner overwrites a slot only after the thief has read it. (The explorer does not let a load move
 *         behind a later store, so it would not miss this one.)
 *   FORCE pop: lower bottom, fence, read the window. Who opens it: read ASKED, fence, read bottom.
 *         One fence comes first. If the owner's: the opener sees the bottom that was lowered, and leaves
 *         the item alone. If the opener's: the owner sees ASKED, and takes its item by a CAS on the window,
 *         which fails if the other has opened it. Membarrier on the opener's side stands for both fences.
 */
#include "deque.h"

#define SEEN_NONE UINT64_MAX /* no window: asked for, and more lent than is there */
#define LOOK_EVERY 16        /* pushes; a push answers only then */

/* The window with its top raised. */
static uint64_t raised(uint64_t window, uint32_t by, uint32_t lent)
{
    return ((window >> 16) + by) << 16 | lent;
}

void deque_init(struct deque *d, bool asymmetric)
{
    d->asymmetric = asymmetric;
    d->lends_all = false;
    d->full = d->floor = 0;
    d->seen = SEEN_NONE;
}

/* The window is so, and no thief can have items from floor on. An owner that passes a fence, or is asked, must look
 * each time. */
static void remember(struct deque *d, uint64_t window)
{
    d->floor = deque_top_of(window) + deque_lent_of(window);
    d->seen = d->asymmetric && !(window & DEQUE_ASKED) ? window : SEEN_NONE;
}

static bool move_window(struct deque *d, uint64_t *from, uint64_t to)
{
    return atomic_compare_exchange_strong_explicit(&d->window, from, to, memory_order_release,
                                                   memory_order_relaxed); /* PUB, REUSE */
}

unsigned deque_count(struct deque *d)
{
    uint64_t window = atomic_load_explicit(&d->window, memory_order_relaxed); /* a hint; SLEEP fences */
    uint32_t b = atomic_load_explicit(&d->bottom, memory_order_relaxed);      /* a hint; SLEEP fences */
    int32_t n = (int32_t)(b - deque_top_of(window));

    if (n < -1)
        n += DEQUE_LAP; /* D4 */
    return n > 0 ? (unsigned)n : 0;
}

size_t deque_room(struct deque *d)
{
    uint32_t b = atomic_load_explicit(&d->bottom, memory_order_relaxed);      /* own write */
    uint64_t window = atomic_load_explicit(&d->window, memory_order_acquire); /* REUSE: before the push */

    return DEQUE_CAP - (b - deque_top_of(window));
}

void deque_push_many(struct deque *d, const struct work *first, size_t stride, size_t n)
{
    uint32_t b = atomic_load_explicit(&d->bottom, memory_order_relaxed); /* own write */
    struct work item = *first;

    for (size_t i = 0; i < n; i++) {
        deque_put(deque_slot(d, b + (uint32_t)i), &item);
        item.arg = (void *)((uintptr_t)item.arg + stride); /* it may be NULL */
    }
    atomic_store_explicit(&d->bottom, b + (uint32_t)n, memory_order_release); /* PUB */
    d->full = b + (uint32_t)n;
    deque_answer(d);
}

NOINLINE bool deque_look_for_room(struct deque *d)
{
    uint32_t b = atomic_load_explicit(&d->bottom, memory_order_relaxed);      /* own write */
    uint64_t window = atomic_load_explicit(&d->window, memory_order_acquire); /* REUSE: before the slots are written */
    uint32_t n = b - deque_top_of(window), room = DEQUE_CAP - n;

    if (window & DEQUE_ASKED && n >= DEQUE_LEND_AT)
        deque_answer(d);
    d->full = b + (room < LOOK_EVERY ? room : LOOK_EVERY);
    return room > 0;
}

COLD void deque_answer(struct deque *d)
{
    uint64_t window = atomic_load_explicit(&d->window, memory_order_relaxed); /* checked by the CAS */
    uint32_t n = atomic_load_explicit(&d->bottom, memory_order_relaxed) - deque_top_of(window); /* own */

    if (window & DEQUE_ASKED && n > 1)
        move_window(d, &window, raised(window, 0, n / 2));
}

void deque_lend_all(struct deque *d)
{
    uint64_t window = atomic_load_explicit(&d->window, memory_order_relaxed); /* checked by the CAS */
    uint32_t b = atomic_load_explicit(&d->bottom, memory_order_relaxed);      /* own write */

    d->lends_all = true;
    while (b != deque_top_of(window) && !move_window(d, &window, raised(window, 0, b - deque_top_of(window))))
        ;
}

/* Raises top by DEQUE_LAP, so that `lent` are lent and no more. */
static bool take_back(struct deque *d, uint64_t *window, uint32_t b, uint32_t lent)
{
    if (!move_window(d, window, raised(*window, DEQUE_LAP, lent)))
        return false;
    atomic_store_explicit(&d->bottom, b + DEQUE_LAP, memory_order_relaxed); /* PUB: the CAS carries it */
    d->full = b + DEQUE_LAP;
    return true;
}

/* Item b is below the window's end, or nothing is there. Of the items before it half stay lent, or all, or are if
 * somebody has asked. */
static bool pop_lent(struct deque *d, uint32_t b, uint64_t *window)
{
    for (;;) {
        int32_t before = (int32_t)(b - deque_top_of(*window)); /* items older than this */
        uint32_t lent = ((uint32_t)before + 1) / 2;

        d->lends_all &= deque_lent_of(*window) != 0 && !(*window & DEQUE_ASKED); /* else that has gone */
        if (d->lends_all)
            lent = (uint32_t)before;
        if (before < 0) {
            atomic_store_explicit(&d->bottom, b + 1, memory_order_relaxed); /* PUB: nothing is there to be seen */
            return false;
        }
        if (before >= (int32_t)deque_lent_of(*window))
            return true; /* a thief has moved on: it is the owner's alone */
        if (*window & DEQUE_ASKED && before > 0) {
            if (move_window(d, window, raised(*window, 0, lent)))
                return true;
        } else if (take_back(d, window, b, *window & DEQUE_ASKED ? 0 : lent)) {
            return true;
        }
    }
}

COLD bool deque_pop_lowered(struct deque *d)
{
    uint32_t b = atomic_load_explicit(&d->bottom, memory_order_relaxed); /* own write */
    uint64_t window;
    bool popped;

    if (!d->asymmetric)
        fence_full(); /* FORCE */
    window = atomic_load_explicit(&d->window, memory_order_relaxed); /* FORCE: after the fence; checked by the CAS */
    popped = pop_lent(d, b, &window);
    remember(d, atomic_load_explicit(&d->window, memory_order_relaxed)); /* D6; one that came later knows bottom */
    return popped;
}

COLD bool deque_pop_slowly(struct deque *d) /* bottom is at the floor: what is before it is lent, if anything */
{
    uint32_t b = atomic_load_explicit(&d->bottom, memory_order_relaxed); /* own write */

    if (deque_is_empty(d))
        return false;
    atomic_store_explicit(&d->bottom, b - 1, memory_order_release); /* PUB: the floor of ASKED is 2^15 pushes off, not lent */
    return deque_pop_lowered(d);
}

size_t deque_pop_oldest(struct deque *d, struct work *items, size_t max)
{
    uint32_t b = atomic_load_explicit(&d->bottom, memory_order_relaxed);      /* own write */
    uint64_t window = atomic_load_explicit(&d->window, memory_order_relaxed); /* checked by the CAS */
    uint32_t t, n, lent;

    do {
        t = deque_top_of(window);
        n = b - t < max ? b - t : (uint32_t)max;
        lent = window & DEQUE_ASKED ? 0 : deque_lent_of(window);
        for (uint32_t i = 0; i < n; i++)
            deque_get(deque_slot(d, t + i), &items[i]);
    } while (n && !move_window(d, &window, raised(window, n, lent > n ? lent - n : 0)));
    return n;
}

enum steal deque_steal(struct deque *d, struct work *items, size_t max, size_t *n, uint64_t *asked)
{
    uint64_t window = atomic_load_explicit(&d->window, memory_order_acquire); /* PUB */
    uint32_t t = deque_top_of(window), lent = deque_lent_of(window), half;

    if (lent == 0) {
        if (deque_empty(d))
            return STEAL_EMPTY;
        *asked = window | DEQUE_ASKED;
        return move_window(d, &window, *asked) ? STEAL_ASKED : STEAL_LOST;
    }
    if (lent & DEQUE_ASKED) {
        *asked = window;
        return deque_empty(d) ? STEAL_EMPTY : STEAL_ASKED;
    }
    half = (lent + 1) / 2 < max ? (lent + 1) / 2 : (uint32_t)max;
    for (uint32_t i = 0; i < half; i++)
        deque_get(deque_slot(d, t + i), &items[i]); /* before the CAS: after it the owner may reuse them */
    *n = half;
    return move_window(d, &window, raised(window, half, lent - half)) ? STEAL_OK : STEAL_LOST;
}

void deque_open(struct deque *d, uint64_t asked)
{
    uint32_t b = atomic_load_explicit(&d->bottom, memory_order_acquire); /* PUB; FORCE: after the fence */
    int32_t n = (int32_t)(b - deque_top_of(asked));

    if (n > 0)
        move_window(d, &asked, raised(asked, 0, ((uint32_t)n + 1) / 2));
}
