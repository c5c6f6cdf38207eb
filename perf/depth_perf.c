/* SPDX-License-Identifier: MIT */
/*
 * depth_perf.c - how the cost of a level grows with the depth of recursion: each job spawns one and waits
 * for it. One worker, stacks of 64 KiB: a wait runs its own jobs in place while half of the stack is left,
 * and goes on on another stack then.
 *
 * A first descent is not timed: it makes the stacks.
 */
#include "kit.h"

struct descent {
    struct bench *b;
    uint64_t depth;
};

static void go_down(void *arg)
{
    uint64_t levels = (uint64_t)(uintptr_t)arg;
    coir_counter below = COIR_COUNTER_INIT;

    if (levels <= 1)
        return;
    if (coir_spawn(&below, go_down, (void *)(uintptr_t)(levels - 1)) != COIR_OK ||
        coir_wait(&below) != COIR_DONE)
        coir_panic("a level failed");
}

static void descend(void *arg)
{
    const struct descent *d = arg;
    uint64_t times = d->b->n / d->depth + 1;
    int64_t start;

    go_down((void *)(uintptr_t)d->depth);
    start = coir_now();
    for (uint64_t i = 0; i < times; i++)
        go_down((void *)(uintptr_t)d->depth);
    d->b->ns = coir_now() - start;
    d->b->done = times * d->depth;
}

static void depths(struct bench *b, const void *arg)
{
    struct descent d = {b, *(const uint64_t *)arg};
    coir_options options = kit_options(1);

    kit_run(b, &options, descend, &d);
}

#define DEPTH(n) \
    {"depth/" #n, "a level of recursion, " #n " deep", depths, &(const uint64_t){n}, 0, BENCH_NS, \
     NULL, BENCH_NO_GOAL, 0}

static const struct bench_row rows[] = {DEPTH(10), DEPTH(100), DEPTH(1000), DEPTH(10000), DEPTH(100000)};

BENCH_SUITE(depth, rows);
