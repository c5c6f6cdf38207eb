/* SPDX-License-Identifier: MIT */
/*
 * timer.h - deadlines in order: a heap whose nodes live in the waiters' frames. See timer.c.
 */
#ifndef COIR_TIMER_H
#define COIR_TIMER_H

#include "base.h"

/* One deadline. Lives in a frame that is not left before timer_cancel. */
struct timer {
    struct timer *child;           /* first child */
    struct timer *next;            /* next sibling */
    struct timer *back;            /* previous sibling, the parent of a first child, itself of a root; NULL: not armed */
    int64_t deadline;
    void (*fire)(struct timer *t); /* called under the heap's lock: short, and takes no timer */
};

struct timers {
    _Alignas(COIR_CACHE_LINE) struct lock lock; /* guards the heap and its nodes */
    struct timer *root;                         /* the earliest */
    _Atomic int64_t earliest;                   /* its deadline, or COIR_NEVER; readable by anyone */
};

void timers_init(struct timers *h);
void timer_arm(struct timers *h, struct timer *t); /* deadline and fire are set */

/* Takes the timer out. After the return fire is not running and will not run. */
void timer_cancel(struct timers *h, struct timer *t);

/* Fires what is due; returns how many. Anyone; gives up when someone else is at it. */
unsigned timers_expire(struct timers *h, int64_t now);

static inline int64_t timers_earliest(struct timers *h)
{
    return atomic_load_explicit(&h->earliest, memory_order_relaxed); /* a hint; SLEEP fences */
}

#endif
