/* SPDX-License-Identifier: MIT */
/*
 * circles.h - jobs that wait for each other, for tests of deadlocks. Cycles are broken by a cancel, so that
 * runtimes close.
 */
#ifndef COIR_CIRCLES_H
#define COIR_CIRCLES_H

#include "run.h"

/* A job that waits for counters and says how that ended. */
struct waiter {
    coir_counter *on[3]; /* NULL ends them */
    int64_t deadline;    /* 0: never */
    int status;
};

static void wait_as_told(void *arg)
{
    struct waiter *w = arg;
    size_t n = 0;

    while (n < 3 && w->on[n])
        n++;
    w->status = n == 1 ? coir_wait_until(w->on[0], w->deadline ? w->deadline : COIR_NEVER)
                       : coir_wait_any(w->on, n, w->deadline ? w->deadline : COIR_NEVER, NULL);
}

/* Until so many fibers are parked, and none runs any more that could. */
static inline void until_parked(coir_runtime *rt, uint64_t n)
{
    coir_stats s;

    do {
        sched_yield();
        CHECK_EQ(coir_stats_read(rt, &s), COIR_OK);
    } while (s.parked < n);
}

static inline void submit(coir_runtime *rt, coir_counter *owed, coir_fn *fn, void *arg)
{
    CHECK_EQ(coir_submit(rt, owed, fn, arg), COIR_OK);
}

/* A waiter, when so many are parked: a waiter would run one that is queued on its own stack. */
static inline void submit_after(coir_runtime *rt, int parked, coir_counter *owed, struct waiter *w)
{
    until_parked(rt, (uint64_t)parked);
    submit(rt, owed, wait_as_told, w);
}

/* Job i owes c[i] its end and waits for c[i + 1]; the last for c[0]. */
static inline void make_ring(coir_runtime *rt, coir_counter *c, struct waiter *w, int n)
{
    memset(w, 0, (size_t)n * sizeof *w);
    for (int i = 0; i < n; i++)
        coir_counter_init(&c[i]);
    for (int i = 0; i < n; i++)
        coir_counter_add(&c[i], 1); /* so that none is found settled before its job is there */
    for (int i = 0; i < n; i++) {
        w[i].on[0] = &c[(i + 1) % n];
        submit_after(rt, i, &c[i], &w[i]);
    }
    for (int i = 0; i < n; i++)
        coir_counter_done(&c[i], COIR_DONE);
}

static inline void break_ring(coir_counter *c, int n)
{
    CHECK_EQ(coir_counter_cancel(&c[0]), COIR_OK);
    for (int i = 0; i < n; i++)
        CHECK(coir_wait(&c[i]) >= COIR_DONE);
}

/* Until the log has said so much (run_count). */
static inline void until_lines(const int *lines, int n)
{
    while (__atomic_load_n(lines, __ATOMIC_RELAXED) < n)
        sched_yield();
}

/* A job that keeps its worker, until it is released. */
static int held, released;

static inline void loop_for_ever(void *unused)
{
    (void)unused;
    run_set(&held);
    while (!__atomic_load_n(&released, __ATOMIC_ACQUIRE))
        sched_yield();
}

#endif
