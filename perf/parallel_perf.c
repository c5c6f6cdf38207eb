/* SPDX-License-Identifier: MIT */
/*
 * parallel_perf.c - claim: 10,000,000 small items, handed to two workers in chunks by
 * coir_spawn_many, take at most 1.05 of an ideal split. Ruler: that split, two threads that do one half
 * each, in turn with the chunks and over the same memory: by where that lies a pass takes a fifth more or less. Both have
 * their workers, or threads, bound to a processor each and are timed from when both are there: else a busy machine
 * runs them one after the other now and then, and that was what the row told.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "kit.h"
#include "work.h"

#define CHUNKS 64

/* The items' results; touched once, so that no page fault is measured. False: no memory. */
static uint32_t *items(void)
{
    static uint32_t *out;

    if (!out && (out = malloc(WORK_ITEMS * sizeof *out)))
        work_items(out, 0, WORK_ITEMS);
    return out;
}

struct part {
    uint32_t *out;
    size_t from, to;
};

static void do_part(void *arg)
{
    const struct part *part = arg;

    work_items(part->out, part->from, part->to);
}

/* --------------------------------------------------------------------------------------- chunks */

static void meet(_Atomic unsigned *arrived)
{
    atomic_fetch_add(arrived, 1);
    while (atomic_load(arrived) < 2)
        sched_yield();
}

static void arrive(void *arrived)
{
    meet(arrived);
}

/* Both workers run. */
static void gather(struct bench *b)
{
    _Atomic unsigned arrived = 0;
    coir_counter second = COIR_COUNTER_INIT;

    if (coir_spawn(&second, arrive, &arrived) != COIR_OK)
        b->error = "a spawn was refused";
    else
        meet(&arrived);
    if (coir_wait(&second) != COIR_DONE)
        b->error = "a job failed";
}

static void hand_out(void *arg)
{
    static struct part part[CHUNKS];
    struct bench *b = arg;
    coir_counter all = COIR_COUNTER_INIT;
    int64_t start;

    gather(b);
    start = coir_now();
    for (size_t i = 0; i < CHUNKS; i++)
        part[i] = (struct part){items(), WORK_ITEMS / CHUNKS * i,
                                i + 1 < CHUNKS ? WORK_ITEMS / CHUNKS * (i + 1) : WORK_ITEMS};
    if (coir_spawn_many(&all, do_part, part, sizeof *part, CHUNKS) != COIR_OK)
        b->error = "a spawn was refused";
    if (coir_wait(&all) != COIR_DONE)
        b->error = "a job failed";
    b->ns = coir_now() - start;
}

static void pin_each(unsigned worker, void *unused)
{
    (void)unused;
    kit_pin(worker);
}

static void chunks(struct bench *b)
{
    coir_options options = kit_options(2);

    options.worker_start = pin_each;
    kit_run(b, &options, hand_out, b);
}

/* -------------------------------------------------------------------------------- the ideal split */

struct half {
    struct part part;
    unsigned cpu;
    _Atomic unsigned *arrived;
    int64_t start, end;
};

static void *do_half(void *arg)
{
    struct half *h = arg;

    kit_pin(h->cpu);
    meet(h->arrived);
    h->start = coir_now();
    do_part(&h->part);
    h->end = coir_now();
    return NULL;
}

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static void split(struct bench *b)
{
    _Atomic unsigned arrived = 0;
    struct half first = {{items(), 0, WORK_ITEMS / 2}, 0, &arrived, 0, 0};
    struct half second = {{items(), WORK_ITEMS / 2, WORK_ITEMS}, 1, &arrived, 0, 0};
    pthread_t one, two;

    b->error = "needs two processors and two threads";
    if (kit_cpus() < 2 || pthread_create(&one, NULL, do_half, &first) != 0)
        return;
    if (pthread_create(&two, NULL, do_half, &second) == 0) {
        pthread_join(two, NULL);
        b->error = NULL;
    } else {
        atomic_fetch_add(&arrived, 1);
    }
    pthread_join(one, NULL);
    b->ns = later(first.end, second.end) - later(first.start, second.start);
}

/* --------------------------------------------------------------------------------------- in turn */

static double pass(struct bench *b, void (*run)(struct bench *b))
{
    struct bench one = {0};

    run(&one);
    if (one.error)
        b->error = one.error;
    b->ns += one.ns;
    b->done += WORK_ITEMS;
    return (double)one.ns / WORK_ITEMS;
}

static double pass_chunks(struct bench *b, const void *arg)
{
    (void)arg;
    return pass(b, chunks);
}

static double pass_split(struct bench *b, const void *arg)
{
    (void)arg;
    return pass(b, split);
}

static void both(struct bench *b, const void *arg)
{
    if (!items())
        b->error = "no memory";
    else
        kit_in_turn(b, pass_chunks, pass_split, arg);
}

#define BOTH 2 * WORK_PASSES * (uint64_t)WORK_ITEMS

static const struct bench_row rows[] = {
    {"parallel/for", "10,000,000 items in chunks, 2 workers, per item", both, NULL, BOTH, BENCH_NS_P50, BENCH_IN_TURN,
     BENCH_RATIO_AT_MOST, 1.05},
};

BENCH_SUITE(parallel, rows);
