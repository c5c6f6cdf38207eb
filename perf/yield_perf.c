/* SPDX-License-Identifier: MIT */
/*
 * yield_perf.c - claim: a scheduled coir_yield of 1000 fibers on one worker costs at most 8 ns:
 * through the ready queue that other workers may steal from, and the switch. Ruler: none; the
 * switch by such a queue, without a runtime, is in switch_perf.c.
 *
 * Timed from when the last fiber has arrived until the last one ends; fibers that arrived earlier
 * yield meanwhile, so nothing is timed on a stack that was never touched.
 */
#include "kit.h"

struct crowd {
    unsigned fibers;
    unsigned share_fp;
};

/* All on one worker: plain fields, read again after each yield. */
struct yielding {
    struct bench *b;
    const struct crowd *crowd;
    uint64_t rounds;
    unsigned arrived, ended;
    int64_t start;
};

static void yielder(void *arg)
{
    struct yielding *y = arg;

    if (++y->arrived == y->crowd->fibers)
        y->start = coir_now();
    while (y->arrived < y->crowd->fibers)
        coir_yield();
    for (uint64_t i = 0; i < y->rounds; i++)
        coir_yield();
    if (++y->ended == y->crowd->fibers)
        y->b->ns = coir_now() - y->start;
}

static void first_job(void *arg)
{
    struct yielding *y = arg;
    coir_counter all = COIR_COUNTER_INIT;

    if (coir_spawn_many(&all, yielder, y, 0, y->crowd->fibers) != COIR_OK ||
        coir_wait(&all) != COIR_DONE)
        y->b->error = "the fibers did not run";
}

static void yields(struct bench *b, const void *arg)
{
    const struct crowd *crowd = arg;
    struct yielding y = {.b = b, .crowd = crowd, .rounds = b->n / crowd->fibers};
    coir_options options = kit_options(1);

    options.share_fp = crowd->share_fp;
    b->done = y.rounds * crowd->fibers;
    kit_run(b, &options, first_job, &y);
}

#define CROWD(...) yields, &(const struct crowd){__VA_ARGS__}, 1000000, BENCH_NS, NULL

static const struct bench_row rows[] = {
    {"yield/2", "coir_yield, 2 fibers", CROWD(2, 0), BENCH_NO_GOAL, 0},
    {"yield/2/shared", "coir_yield, 2 fibers, shared control words", CROWD(2, 1), BENCH_NO_GOAL, 0},
    {"yield/1000", "coir_yield, 1000 fibers x 1000", CROWD(1000, 0), BENCH_AT_MOST, 8},
    {"yield/10000", "coir_yield, 10,000 fibers x 100", CROWD(10000, 0), BENCH_NO_GOAL, 0},
    {"yield/10000/shared", "coir_yield, 10,000 fibers, shared", CROWD(10000, 1), BENCH_NO_GOAL, 0},
};

BENCH_SUITE(yield, rows);

#define FIBERS(n) {"crowd/" #n, "coir_yield, " #n " fibers", CROWD(n, 0), BENCH_NO_GOAL, 0}

static const struct bench_row growing[] = {FIBERS(10),    FIBERS(100),    FIBERS(1000),
                                           FIBERS(10000), FIBERS(100000), FIBERS(1000000)};

BENCH_SUITE(crowd, growing);
