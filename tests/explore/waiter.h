/* SPDX-License-Identifier: MIT */
/*
 * waiter.h - one counter, who releases units of it, and who waits for it as wait.c's plain threads do: what the
 * explorers of counter.c share.
 */
#ifndef COIR_WAITER_H
#define COIR_WAITER_H

#include <string.h>

#include "counter.h"
#include "explore.h"

static struct counter c;
static int work[1 + EXPLORE_THREADS]; /* by thread: done before its unit is released */

/* What a waiter has on its stack. */
struct watch {
    struct wait_node node;
    _Atomic uint32_t word;
};
static struct watch watch[1 + EXPLORE_THREADS];

static void setup(uint64_t units)
{
    memset(&c, 0, sizeof c);
    memset(work, 0, sizeof work);
    memset(watch, 0, sizeof watch);
    counter_owe(&c, units);
}

static void finish(int thread)
{
    work[thread] = 1;
    counter_settle(&c, 1);
}

static void finish_1(void)
{
    finish(1);
}

static void on_settled(struct wait_node *node, int outcome)
{
    struct watch *w = CONTAINER_OF(node, struct watch, node);

    (void)outcome;
    atomic_fetch_add_explicit(&w->word, 1, memory_order_release);
    futex_wake(&w->word, 1);
    wait_node_release(node);
}

/* Blocks once, till the deadline at most: the outcome, or -1. */
static int wait_once(struct watch *w, int64_t deadline)
{
    int outcome = counter_look(&c);

    if (outcome >= 0)
        return outcome;
    w->node.settled = on_settled;
    if (!counter_enlist(&c, &w->node))
        return counter_look(&c);
    while (!atomic_load_explicit(&w->word, memory_order_acquire)) {
        if (coir_now() >= deadline)
            break;
        futex_wait(&w->word, 0, deadline);
    }
    counter_delist(&c, &w->node);
    return wait_node_released(&w->node) ? w->node.outcome : -1;
}

/* A counter may look unsettled for a moment while another waiter leaves it. */
static int wait_for_ever(int thread)
{
    unsigned turns = 0;
    int outcome;

    while ((outcome = wait_once(&watch[thread], COIR_NEVER)) < 0)
        spin_pause(&turns);
    explore_free(&watch[thread], sizeof watch[thread]);
    return outcome;
}

/* One of several: looks at the counter no more after the wait. */
static void wait_among_others(void)
{
    MUST(wait_for_ever(explore_thread()) == COIR_DONE);
    MUST(work[1] == 1);
}

/* The only waiter: the counter goes with the wait. */
static void wait_alone(void)
{
    wait_among_others();
    explore_free(&c, sizeof c);
}

static void check_settled(void)
{
    MUST(counter_look(&c) >= 0);
    MUST(!c.waiters);
}

#endif
