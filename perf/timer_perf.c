/* SPDX-License-Identifier: MIT */
/*
 * timer_perf.c - claims: with a million timers armed, one more costs less than in Go to arm and to take out
 * again; a fiber that sleeps wakes as soon as a thread that sleeps. Ruler: clock_nanosleep in the
 * same thread, in turn.
 *
 * The timers are those of a runtime's heap (timer.h), without fibers that wait for them: a million of
 * these would be measured instead. A victim and its new deadline are drawn at random.
 */
#include <stdlib.h>
#include <time.h>

#include "kit.h"
#include "timer.h"

#define ARMED 1000000
#define SLEEP_NS 200000
#define PART 200 /* sleeps */
#define PARTS 20
#define SLEEPS (PARTS * PART)

static uint64_t draw(uint64_t *x) /* xorshift64 */
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    return *x ^= *x << 17;
}

static void fire(struct timer *t)
{
    (void)t;
}

/* A deadline within an hour, and an hour away. */
static void arm(struct timers *heap, struct timer *t, uint64_t *random)
{
    t->deadline = coir_now() + 3600 * COIR_SEC + (int64_t)(draw(random) % (3600u * (uint64_t)COIR_SEC));
    timer_arm(heap, t);
}

static void rearm(struct bench *b, const void *arg)
{
    struct timer *timer = calloc(ARMED, sizeof *timer);
    struct timers *heap = aligned_alloc(COIR_CACHE_LINE, sizeof *heap);
    uint64_t random = 88172645463325252u;
    int64_t start;

    (void)arg;
    if (!timer || !heap) {
        b->error = "no memory";
        goto out;
    }
    timers_init(heap);
    for (struct timer *t = timer; t < timer + ARMED; t++) {
        t->fire = fire;
        arm(heap, t, &random);
    }
    start = coir_now();
    for (uint64_t i = 0; i < b->n; i++) {
        struct timer *t = &timer[draw(&random) % ARMED];

        timer_cancel(heap, t);
        arm(heap, t, &random);
    }
    b->ns = coir_now() - start;
out:
    free(heap);
    free(timer);
}

/* -------------------------------------------------------------------------------------- lateness */

static void sleep_raw(int64_t deadline)
{
    struct timespec t = {deadline / COIR_SEC, deadline % COIR_SEC};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) != 0)
        ;
}

static void sleep_fiber(int64_t deadline)
{
    if (coir_sleep_until(deadline) != COIR_OK)
        coir_panic("the sleep was interrupted");
}

static double late_by(void (*sleep_until)(int64_t deadline))
{
    int64_t deadline = coir_now() + SLEEP_NS;

    sleep_until(deadline);
    return (double)(coir_now() - deadline);
}

/* The median of the parts' p99, which are as late as the second of PART: a hypervisor that is busy for a while spoils one. */
static double typical_p99(double *late)
{
    double p99[PARTS];

    for (int i = 0; i < PARTS; i++) {
        kit_median(late + i * PART, PART); /* sorts them */
        p99[i] = late[i * PART + PART * 99 / 100];
    }
    return kit_median(p99, PARTS);
}

/* A fiber's sleep and its thread's in turn: where the hypervisor is late for a while, it is so for both. */
static void sleep_in_turn(void *arg)
{
    static double fiber[SLEEPS], raw[SLEEPS];
    struct bench *b = arg;
    int64_t start = coir_now();

    for (int i = 0; i < SLEEPS; i++) {
        fiber[i] = late_by(sleep_fiber);
        raw[i] = late_by(sleep_raw);
    }
    b->ns = coir_now() - start;
    b->p99 = typical_p99(fiber);
    b->ruler_p99 = typical_p99(raw);
    b->figure = kit_median(fiber, SLEEPS);
    b->p999 = fiber[SLEEPS * 999 / 1000];
    b->ruler = kit_median(raw, SLEEPS);
}

static void sleeps(struct bench *b, const void *arg)
{
    coir_options options = kit_options(1);

    (void)arg;
    kit_run(b, &options, sleep_in_turn, b);
}

static const struct bench_row rows[] = {
    {"timer/rearm", "take out and arm one of 1,000,000 timers", rearm, NULL, 1000000, BENCH_NS, NULL,
     BENCH_NO_GOAL, 0},
    {"timer/late", "how late a sleep of 200 us ends", sleeps, NULL, SLEEPS, BENCH_NS_P50, BENCH_IN_TURN,
     BENCH_RATIO_AT_MOST, 1.15},
};

BENCH_SUITE(timer, rows);
