/* SPDX-License-Identifier: MIT */
/*
 * timer.c - a pairing heap of deadlines (Fredman et al., 1986), one per worker, under a lock.
 *
 * Why a pairing heap: nodes are intrusive, so arming cannot fail and allocates nothing; insertion
 * is O(1); most timers are canceled, which costs O(log n) amortized. A wheel would need slots
 * in advance, and rounds deadlines.
 *
 * Invariants
 *   T1  No child is earlier than its parent. A root has no sibling, and is its own back: whose back is NULL is in
 *       no heap.
 *   T2  fire runs under the lock, so timer_cancel, which takes it, returns after it.
 *   T3  earliest equals the root's deadline whenever the lock is free.
 */
#include "timer.h"

#define EXPIRE_BATCH 64 /* timers fired under one lock; bounds how long an arm can wait */

void timers_init(struct timers *h)
{
    *h = (struct timers){.earliest = COIR_NEVER};
}

static void make_root(struct timer *t)
{
    t->next = NULL;
    t->back = t;
}

/* The earlier of two roots takes the other as its first child. */
static struct timer *meld(struct timer *a, struct timer *b)
{
    struct timer *swap = a;

    if (!a || !b)
        return a ? a : b;
    if (b->deadline < a->deadline) {
        a = b;
        b = swap;
    }
    b->next = a->child;
    if (b->next)
        b->next->back = b;
    b->back = a;
    a->child = b;
    return a;
}

/* Melds a list of siblings into one root: in pairs from the left, then all from the right. */
static struct timer *meld_siblings(struct timer *list)
{
    struct timer *pairs = NULL, *root = NULL;

    while (list) {
        struct timer *a = list, *b = a->next, *both;

        list = b ? b->next : NULL;
        make_root(a);
        if (b)
            make_root(b);
        both = meld(a, b);
        both->next = pairs;
        pairs = both;
    }
    while (pairs) {
        struct timer *rest = pairs->next;

        pairs->next = NULL;
        root = meld(root, pairs);
        pairs = rest;
    }
    return root;
}

/* Lock held. */
static void publish_earliest(struct timers *h)
{
    int64_t earliest = h->root ? h->root->deadline : COIR_NEVER;

    atomic_store_explicit(&h->earliest, earliest, memory_order_relaxed); /* a hint; SLEEP fences */
}

/* Lock held. */
static void take_out(struct timers *h, struct timer *t)
{
    struct timer *below = meld_siblings(t->child);

    if (t == h->root) {
        h->root = below;
    } else {
        if (t->back->child == t)
            t->back->child = t->next;
        else
            t->back->next = t->next;
        if (t->next)
            t->next->back = t->back;
        h->root = meld(h->root, below);
    }
    t->back = NULL;
}

void timer_arm(struct timers *h, struct timer *t)
{
    t->child = NULL;
    lock_take(&h->lock);
    make_root(t);
    h->root = meld(h->root, t);
    publish_earliest(h);
    lock_drop(&h->lock);
}

void timer_cancel(struct timers *h, struct timer *t)
{
    lock_take(&h->lock);
    if (t->back) {
        take_out(h, t);
        publish_earliest(h);
    }
    lock_drop(&h->lock);
}

unsigned timers_expire(struct timers *h, int64_t now)
{
    unsigned fired = 0;

    if (timers_earliest(h) > now || !lock_try(&h->lock))
        return 0;
    while (fired < EXPIRE_BATCH && h->root && h->root->deadline <= now) {
        struct timer *t = h->root;

        take_out(h, t);
        t->fire(t);
        fired++;
    }
    publish_earliest(h);
    lock_drop(&h->lock);
    return fired;
}
