/* SPDX-License-Identifier: MIT */
/*
 * waitq.h - who waits at a primitive, in order, and how one of them is let go. See waitq.c.
 */
#ifndef COIR_WAITQ_H
#define COIR_WAITQ_H

#include "holder.h"
#include "sleeper.h"
#include "wait.h"

/* ---------------------------------------------------------------- the word of a primitive */

#define WORD_LOCK UINT64_C(1)

/* Takes the spin lock in bit 0; returns the word as it was without it. */
static inline uint64_t word_lock(_Atomic uint64_t *word)
{
    uint64_t s = atomic_load_explicit(word, memory_order_relaxed); /* rechecked by the CAS */
    unsigned looks = 0;

    for (;;) {
        if (s & WORD_LOCK) {
            lock_pause(&looks);
            s = atomic_load_explicit(word, memory_order_relaxed); /* rechecked by the CAS */
        } else if (atomic_compare_exchange_weak_explicit(word, &s, s | WORD_LOCK,
                                                         memory_order_acquire,
                                                         memory_order_relaxed)) { /* WORD */
            return s;
        }
    }
}

/* Sets the word and drops the lock: the last access to the primitive (W2). */
static inline void word_unlock(_Atomic uint64_t *word, uint64_t s)
{
    atomic_store_explicit(word, s & ~WORD_LOCK, memory_order_release); /* WORD */
}

/* Looks at a lock before its waiter sleeps: about what the sleep and its wake-up cost. One is enough
 * where every order of steps is tried (tests/explore). */
#ifndef SPIN_TURNS
#define SPIN_TURNS 24
#endif

/* ------------------------------------------------------------------------------ who waits */

struct waiter {
    struct waiter *next, *prev;
    struct sleeper *sleeper;
    bool listed;              /* the queue's lock */
    int status;               /* what the waker tells */
    const void *who;          /* mutex, rwlock: its identity (job_holder) */
    void *item;               /* the primitive's own: an element, a kind */
};

/* Waiters, the first to come first. Guarded by the lock in the primitive's word. */
struct waitq {
    struct waiter *first, *last;
};

static inline bool waitq_empty(const struct waitq *q)
{
    return !q->first;
}

void waitq_append(struct waitq *q, struct waiter *w);
void waitq_prepend(struct waitq *q, struct waiter *w);

/* Takes the waiter out if it is still in. */
void waitq_remove(struct waitq *q, struct waiter *w);

/* Takes the first waiter whose call has not been ended otherwise; it is the caller's to wake. NULL:
 * there is none. */
struct waiter *waitq_take(struct waitq *q);

/* The same, but only while the first in the queue has this item. */
struct waiter *waitq_take_item(struct waitq *q, const void *item);

/* Takes all of them, linked by next; each has been told the status. */
struct waiter *waitq_take_all(struct waitq *q, int status);

/* Lets a taken waiter go; the last use of its node. The primitive's lock is not held, and its memory
 * may go while this runs. */
void waiter_wake(struct waiter *w);
void waiter_wake_all(struct waiter *list);

/* Begins a blocking call; afterwards it must sleep or abandon. COIR_OK, COIR_ENOMEM. */
int sleeper_begin(struct sleeper *s, const char *what, const void *on);

/* The same, but no limit of its domain refuses it: who would begin again at once. */
int sleeper_begin_must(struct sleeper *s, const char *what, const void *on);

/* Ends what sleeper_begin began, without a sleep. */
void sleeper_abandon(struct sleeper *s);

/* Gives up before the sleep, though queues may hold it already. False: a waker was first. */
bool sleeper_retract(struct sleeper *s);

/* Sleeps until taken: COIR_OK. Else COIR_ETIMEDOUT or COIR_ECANCELED, and the caller takes its nodes
 * out of their queues. */
int sleeper_sleep(struct sleeper *s, int64_t deadline);

#endif
