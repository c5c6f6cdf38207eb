/* SPDX-License-Identifier: MIT */
/*
 * park.h - sleeping and waking of workers without lost or needless wake-ups. See park.c.
 */
#ifndef COIR_PARK_H
#define COIR_PARK_H

#include "base.h"

/* One worker's place to sleep. */
struct parker {
    _Atomic uint32_t word;       /* enum parker_state; a futex */
    struct parker *next, *prev;  /* in the list of sleepers */
    bool listed;                 /* park->lock held */
    void (*kick)(struct parker *p); /* ends a sleep that is AWAY; set by the I/O row */
};

enum parker_state {
    PARKER_AWAKE,  /* its worker is not in the list of sleepers */
    PARKER_ASLEEP, /* announced: asleep on the futex, or about to be */
    PARKER_AWAY,   /* announced: asleep where only kick reaches it, or about to be */
    PARKER_WOKEN   /* taken from the list by a waker, who counted it as searching */
};

struct park {
    /* Sleeping and searching workers in one word, so that a notifier needs one load. */
    _Alignas(COIR_CACHE_LINE) _Atomic uint64_t counts; /* sleeping << 32 | PARK_WATCHED | searching */
    _Atomic unsigned limit; /* of workers awake; beyond it sleepers are left to who watches (WATCH) */
    bool asymmetric;  /* membarrier works: sleepers pay for the fence, notifiers do not */
    unsigned workers; /* that may sleep */

    _Alignas(COIR_CACHE_LINE) struct lock lock; /* guards the list */
    struct parker *sleepers;                    /* the latest first: its cache is the warmest */
};

#define PARK_WATCHED (UINT64_C(1) << 31) /* in counts: a worker watches */

/* So many may be awake: no limit. */
void park_init(struct park *p, unsigned workers);

/* The fence of the side that pays: all threads have passed one when it returns, or, if not asymmetric,
 * the caller has. */
void park_fence_all(const struct park *p);

/* WATCH. A worker begins to watch, unless another one does, which must then sleep with a deadline; and ends it, before
 * it looks at the queues. */
bool park_watch_begin(struct park *p);
void park_watch_end(struct park *p);

/* Publisher of work: wakes one sleeper unless someone is searching already. */
static inline void park_notify(struct park *p);

/* A worker without work looks around. end says whether it was the last one looking while others sleep:
 * then it must look once more, and wake one if there is more to do. */
void park_search_begin(struct park *p);
bool park_search_end(struct park *p);

/* Worker: announces that it will sleep. Afterwards it must look at every queue once more, and
 * then either retract or sleep. A worker that searches stops to. True: it is the last one, and no fence was
 * passed; it must look at the injector under its lock (ALONE). */
bool park_announce(struct park *p, struct parker *self, bool searching);

/* Worker: takes the announcement back. True: it had been woken meanwhile and counts as searching. */
bool park_retract(struct park *p, struct parker *self);

/* Worker: sleeps until woken or the deadline, then retracts. Result as park_retract. */
bool park_sleep(struct park *p, struct parker *self, int64_t deadline);

/* Whether the announced worker has been woken; for those who sleep by other means. */
static inline bool parker_woken(struct parker *self)
{
    return atomic_load_explicit(&self->word, memory_order_acquire) == PARKER_WOKEN; /* TOKEN */
}

/* The announced worker, before it sleeps where the futex does not reach it: its waker, if there is to
 * be one, will kick it, exactly once, and it must wait for that kick. False: woken already, no kick. */
static inline bool parker_go_away(struct parker *self)
{
    uint32_t asleep = PARKER_ASLEEP;

    return atomic_compare_exchange_strong_explicit(&self->word, &asleep, PARKER_AWAY, memory_order_relaxed,
                                                   memory_order_relaxed); /* TOKEN: read again by retract */
}

/* Publisher: whether park_notify has something to do; with asymmetric fences, after the publishing store. */
static inline bool park_is_due(struct park *p);

void park_wake_one(struct park *p);
void park_wake_all(struct park *p);

/* park_wake_one in two steps: takes a sleeper off the list unless someone is searching already (NULL: none), and
 * wakes it. In between it cannot leave the runtime. */
struct parker *park_pick(struct park *p);
void park_hand(struct parker *s);

static inline unsigned park_sleeping(uint64_t counts)
{
    return (unsigned)(counts >> 32);
}

static inline unsigned park_searching(uint64_t counts)
{
    return (unsigned)(counts & (PARK_WATCHED - 1));
}

static inline void park_set_limit(struct park *p, unsigned limit)
{
    atomic_store_explicit(&p->limit, limit, memory_order_relaxed); /* throttles: any that was will do */
}

static inline unsigned park_limit(struct park *p)
{
    return atomic_load_explicit(&p->limit, memory_order_relaxed); /* throttles */
}

/* Whether so many workers are awake as may be, but for `less` of them. */
static inline bool park_fills(struct park *p, uint64_t counts, unsigned less)
{
    return p->workers - park_sleeping(counts) >= park_limit(p) + less;
}

static inline unsigned park_awake(struct park *p)
{
    return p->workers - park_sleeping(atomic_load_explicit(&p->counts, memory_order_relaxed)); /* throttles */
}

static inline bool park_is_full(struct park *p, unsigned less)
{
    return park_fills(p, atomic_load_explicit(&p->counts, memory_order_relaxed), less); /* throttles */
}

/* Whether what was published may wait for who watches. */
static inline bool park_may_wait(struct park *p, uint64_t counts)
{
    return UNLIKELY(counts & PARK_WATCHED) && park_fills(p, counts, 0);
}

static inline bool park_is_due(struct park *p)
{
    uint64_t counts;

    if (!p->asymmetric)
        fence_full(); /* SLEEP */
    else
        atomic_signal_fence(memory_order_seq_cst); /* SLEEP: for the compiler; the sleeper's membarrier is the fence */
    counts = atomic_load_explicit(&p->counts, memory_order_relaxed); /* SLEEP: after the fence */
    return park_sleeping(counts) && !park_searching(counts) && !park_may_wait(p, counts);
}

/* Whether park_notify may have something to do, where fences are asymmetric, which the caller knows. */
static ALWAYS_INLINE bool park_may_be_due(struct park *p)
{
    atomic_signal_fence(memory_order_seq_cst); /* SLEEP: for the compiler; the sleeper's membarrier is the fence */
    return UNLIKELY(park_sleeping(atomic_load_explicit(&p->counts, memory_order_relaxed))); /* SLEEP: after the fence */
}

static inline void park_notify(struct park *p)
{
    if (UNLIKELY(park_is_due(p)))
        park_wake_one(p);
}

#endif
