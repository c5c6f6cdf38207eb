/* SPDX-License-Identifier: MIT */
/*
 * counter.h - the word that jobs owe: units, waiters, worst outcome, first failure. See counter.c.
 */
#ifndef COIR_COUNTER_H
#define COIR_COUNTER_H

#include "base.h"

struct job;

/* One waiter on one counter. Lives in the waiter's frame, which is not left before `released`, or in
 * a record that `settled` disposes of. */
struct wait_node {
    struct wait_node *next, *prev;
    /* Called once, when the counter has settled; nothing of the counter may be touched any more.
     * Must end its use of the node before it lets the waiter go. */
    void (*settled)(struct wait_node *node, int outcome);
    int outcome;
    bool foretold;         /* settled is called before that, too, with SETTLING: for what needs the counter */
    _Atomic bool listed;   /* written under the counter's LOCK; false, once it was true: it is not touched again */
    _Atomic bool released; /* settled has been called, and the node is the waiter's again */
};

/* In place of the outcome, which is in the node: the last unit has gone, and the counter is still whole. */
#define SETTLING (-1)

/* What a coir_counter is. All zero is a valid, settled counter. */
struct counter {
    _Atomic uint64_t state;    /* units by hand << 40 | units << 8 | APART | LOCAL | outcome << 3 | CANCEL | WAITERS | LOCK */
    struct wait_node *waiters; /* LOCK */

    /* Of the job in whose frames the counter lies, once it has spawned on it (job.c). */
    _Atomic(struct job *) owner;
    struct counter *next_owned;

    _Atomic uint32_t claimed; /* the failure record: 0 free, 1 being written, 2 valid */
    _Atomic uint32_t mine;    /* units owed beside those of state. LOCAL: its owner's to write and read. APART: LOCK */
    coir_failure failure;     /* of the first job that failed */
};

_Static_assert(sizeof(struct counter) <= sizeof(coir_counter), "coir.h reserves enough");
_Static_assert(_Alignof(struct counter) <= _Alignof(coir_counter), "coir.h aligns enough");
_Static_assert(offsetof(struct counter, failure) == 5 * sizeof(uint64_t), "coir_counter_init_local");
_Static_assert(sizeof(coir_counter) == 192, "one hot line and an inline cold record");

#define COUNTER_LOCK UINT64_C(1)
#define COUNTER_WAITERS UINT64_C(2)
#define COUNTER_CANCEL UINT64_C(4)
#define COUNTER_OUTCOME_SHIFT 3
#define COUNTER_OUTCOME (UINT64_C(7) << COUNTER_OUTCOME_SHIFT)
#define COUNTER_LOCAL UINT64_C(64)
#define COUNTER_APART UINT64_C(128)
#define COUNTER_ONE UINT64_C(256)
#define COUNTER_BY_HAND (COUNTER_ONE << 32) /* a job's units: fewer than that. As one number they are all units */
#define COUNTER_HANDS (UINT64_MAX / COUNTER_BY_HAND) /* fewer are owed by hand */

_Static_assert(COUNTER_LOCAL == COIR_COUNTER_LOCAL_BIT, "as coir.h initializes it");

static inline struct counter *counter_of(coir_counter *c)
{
    return (struct counter *)(void *)c;
}

/* Not while LOCK is set, C1: its holder has the word still to write, though while some other waiter has yet to
 * be let go nobody frees it. */
static inline bool counter_is_settled(uint64_t state)
{
    return state < COUNTER_ONE && !(state & (COUNTER_LOCAL | COUNTER_WAITERS | COUNTER_LOCK));
}

/* Whether a unit is owed, or may be (C5), so that a finisher is still to come. */
static inline bool counter_is_owed(uint64_t state)
{
    return state >= COUNTER_ONE || state & COUNTER_LOCAL;
}

static inline int counter_outcome_of(uint64_t state)
{
    return (int)((state & COUNTER_OUTCOME) >> COUNTER_OUTCOME_SHIFT);
}

/* The outcome if nothing is owed, else -1. */
static inline int counter_look(struct counter *c)
{
    uint64_t s = atomic_load_explicit(&c->state, memory_order_acquire); /* SETTLE */

    return counter_is_settled(s) ? counter_outcome_of(s) : -1;
}

/* Whether it can be owed n more by hand; C5 says nothing of a local one, where n has to be less than that. */
static inline bool counter_has_room(struct counter *c, uint64_t n)
{
    uint64_t s = atomic_load_explicit(&c->state, memory_order_relaxed); /* a guard against nonsense, no more */

    return n < COUNTER_HANDS - (s & COUNTER_LOCAL ? 0 : s / COUNTER_BY_HAND);
}

/* Whether a unit is owed by hand, or may be. */
static inline bool counter_is_owed_by_hand(struct counter *c)
{
    uint64_t s = atomic_load_explicit(&c->state, memory_order_relaxed); /* as above, if the caller has none */

    return s >= COUNTER_BY_HAND || s & (COUNTER_LOCAL | COUNTER_APART);
}

/* Whether the last unit is owed; a hint. */
static inline bool counter_is_owed_one(struct counter *c)
{
    uint64_t s = atomic_load_explicit(&c->state, memory_order_relaxed); /* a hint */

    return (s / COUNTER_ONE == 1 || s / COUNTER_ONE == COUNTER_BY_HAND / COUNTER_ONE) && !(s & COUNTER_LOCAL);
}

static inline void counter_owe(struct counter *c, uint64_t n)
{
    /* The unit is published to whoever will release it by other means: a queue. */
    atomic_fetch_add_explicit(&c->state, n * COUNTER_ONE, memory_order_relaxed);
}

static inline void counter_owe_by_hand(struct counter *c, uint64_t n)
{
    atomic_fetch_add_explicit(&c->state, n * COUNTER_BY_HAND, memory_order_relaxed); /* as counter_owe */
}

/* One unit more, so that it does not settle meanwhile; false: none is owed any more. */
bool counter_owe_more(struct counter *c);

/* Releases n units, all of them DONE. */
void counter_settle(struct counter *c, uint64_t n);

/* Releases a unit that is owed by hand. */
void counter_settle_by_hand(struct counter *c);

/* Owner, of one that is not local: units by hand do not count until they are put back, so that it settles when the jobs
 * have ended, as CANCELED at best. False: there were none, and nothing has changed. */
bool counter_set_apart(struct counter *c);

/* It has settled since: what has not been released by hand meanwhile is owed again. */
void counter_put_back(struct counter *c);

/* Whether its owner owes by counter_owe_mine. Only the owner ends that (counter_share). */
static inline bool counter_is_local(struct counter *c)
{
    return atomic_load_explicit(&c->state, memory_order_relaxed) & COUNTER_LOCAL; /* own write */
}

/* A new local counter of which n are owed; whose it is, job_own says. */
static ALWAYS_INLINE void counter_open_mine(struct counter *c, uint32_t n)
{
    atomic_store_explicit(&c->state, COUNTER_LOCAL, memory_order_relaxed); /* nobody else knows it yet */
    c->waiters = NULL;
    atomic_store_explicit(&c->claimed, 0, memory_order_relaxed); /* as above */
    atomic_store_explicit(&c->mine, n, memory_order_relaxed);    /* as above */
}

/* Owner of a local counter: n more are owed. False: that is too many for a local one. */
static inline bool counter_owe_mine(struct counter *c, uint64_t n)
{
    uint32_t sum;

    if (UNLIKELY(__builtin_add_overflow(atomic_load_explicit(&c->mine, memory_order_relaxed), /* own write */
                                        n, &sum)))
        return false;
    atomic_store_explicit(&c->mine, sum, memory_order_relaxed); /* read by the owner alone */
    return true;
}

/* Owner of a local counter: n of what it owes by counter_owe_mine, or somebody else by counter_owe, are done. */
static inline void counter_settle_mine(struct counter *c, uint64_t n)
{
    uint32_t mine = atomic_load_explicit(&c->mine, memory_order_relaxed); /* own write */

    if (LIKELY(n <= mine && counter_is_local(c)))
        atomic_store_explicit(&c->mine, mine - (uint32_t)n, memory_order_relaxed); /* as above */
    else
        counter_settle(c, n);
}

/* Owner of a local counter: n units are done. COIR_DONE if these were the last, nobody else has had to do with
 * it and nothing has happened to it; else -1. */
static ALWAYS_INLINE int counter_end_mine(struct counter *c, uint64_t n)
{
    if (LIKELY(n == atomic_load_explicit(&c->mine, memory_order_relaxed) &&                    /* own write */
               atomic_load_explicit(&c->state, memory_order_acquire) == COUNTER_LOCAL)) { /* SETTLE */
        atomic_store_explicit(&c->mine, 0, memory_order_relaxed); /* read by the owner alone */
        return COIR_DONE;
    }
    if (n)
        counter_settle_mine(c, n);
    return -1;
}

static inline bool counter_canceled(struct counter *c)
{
    return atomic_load_explicit(&c->state, memory_order_seq_cst) & COUNTER_CANCEL; /* ASK, fiber.c */
}

/* The job that owns it (job.c). Only that job's answer is exact; others learn that it is not theirs. */
/* Inlined for sure: see ON_LEFT_FRAMES in left.h. */
static inline __attribute__((always_inline)) struct job *counter_owner(struct counter *c)
{
    return atomic_load_explicit(&c->owner, memory_order_relaxed); /* own write, or a mere "no" */
}

static inline void counter_set_owner(struct counter *c, struct job *j)
{
    atomic_store_explicit(&c->owner, j, memory_order_relaxed); /* read back by the writer */
}

/* Owner: what it owes is told to all, and the counter is like any other from now on. (To make it local again
 * when it has settled would take the outcome from those who come late to look for it.) */
void counter_share(struct counter *c);

/* Keeps the worst outcome and the first record (NULL: none), for one who owes it a unit. */
void counter_note(struct counter *c, int outcome, const coir_failure *failure);

/* Releases one unit with an outcome worse than DONE. failure NULL: no record. */
void counter_fail(struct counter *c, int outcome, const coir_failure *failure);

/* Sets the cancel request. */
void counter_cancel(struct counter *c);

/* Adds a waiter; false: the counter has settled, the node was not used. */
bool counter_enlist(struct counter *c, struct wait_node *node);

/* Takes the waiter out if no finisher has it, or is about to. */
bool counter_try_delist(struct counter *c, struct wait_node *node);

/* Takes the waiter out, or waits until it has been released. Afterwards node->released tells which. */
void counter_delist(struct counter *c, struct wait_node *node);

static inline bool wait_node_released(struct wait_node *node)
{
    return atomic_load_explicit(&node->released, memory_order_acquire); /* NODE */
}

/* A waiter's counter: the outcome if it has settled, else -1. An enlisted node tells (the counter may
 * be gone); NULL: it was not enlisted. */
static inline int wait_node_look(struct counter *c, struct wait_node *node)
{
    if (!node)
        return counter_look(c);
    return wait_node_released(node) ? node->outcome : -1;
}

static inline void wait_node_release(struct wait_node *node)
{
    atomic_store_explicit(&node->released, true, memory_order_release); /* NODE */
}

#endif
