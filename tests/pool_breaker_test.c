/* SPDX-License-Identifier: MIT */
/*
 * pool_breaker_test.c - core/retry.c, core/pool_queue.c: the breaker of a pool, what waits for its probe or is held
 * while that is out.
 */
#include "pools.h"

static int breaker_state(coir_pool *p)
{
    return pool_stats(p).breaker;
}

static void an_open_breaker_stops_calls_until_one_probe_succeeds(void)
{
    enum { N = 20 };
    static struct job_message job[N];
    struct job_message bad = {.fails = 9, .final = 1}, probe_fails = {.fails = 9, .final = 1};
    coir_counter c = COIR_COUNTER_INIT;
    coir_pool_options o = pool_options("breaker");
    coir_runtime *rt = run_open(2);
    coir_pool_stats s;
    coir_pool *p;

    memset(job, 0, sizeof job);
    o.workers = 2;
    o.failures_max = 2;
    o.failures_window_ns = 3600 * COIR_SEC;
    o.probe_ns = 20 * COIR_MS;
    p = pool_open(rt, &o);
    CHECK_EQ(pool_run(p, &bad), COIR_FAILED);
    CHECK_EQ(breaker_state(p), COIR_DOMAIN_OPEN);
    bad.m.attempts = 0;
    CHECK_EQ(pool_run(p, &bad), COIR_FAILED);
    CHECK_EQ(breaker_state(p), COIR_DOMAIN_TRIPPED);
    CHECK_EQ(pool_run(p, &probe_fails), COIR_FAILED); /* waited for the probe, was it, and failed */
    CHECK_EQ(probe_fails.handled, 1);
    CHECK_EQ(breaker_state(p), COIR_DOMAIN_TRIPPED);
    job[0].hold = 1; /* one of them is to probe, and takes its time */
    job[0].m.counter = &c;
    CHECK_EQ(coir_pool_submit(p, &job[0].m), COIR_OK);
    run_until(&job[0].started);
    CHECK_EQ(breaker_state(p), COIR_DOMAIN_HALF_OPEN);
    for (int i = 1; i < N; i++) {
        job[i].m.counter = &c;
        CHECK_EQ(coir_pool_submit(p, &job[i].m), COIR_OK);
    }
    for (int i = 0; i < 200; i++)
        coir_yield();
    for (int i = 1; i < N; i++)
        CHECK_EQ(__atomic_load_n(&job[i].handled, __ATOMIC_RELAXED), 0);
    run_set(&job[0].go);
    CHECK_EQ(coir_wait(&c), COIR_DONE); /* what was held goes on */
    s = pool_close(p);
    CHECK_EQ(s.breaker, COIR_DOMAIN_OPEN);
    CHECK_EQ(s.done, N);
    CHECK_EQ(s.trips, 1);
    run_close(rt);
}

static void messages_expire_while_the_breaker_is_open(void)
{
    struct job_message bad = {.fails = 9, .final = 1}, late = {.m = {0}};
    coir_pool_options o = pool_options("open");
    coir_runtime *rt = run_open(1);
    coir_pool *p;

    o.failures_max = 1;
    o.probe_ns = 3600 * COIR_SEC;
    p = pool_open(rt, &o);
    CHECK_EQ(pool_run(p, &bad), COIR_FAILED);
    late.m.deadline = coir_now() + COIR_MS;
    CHECK_EQ(pool_run(p, &late), COIR_EXPIRED);
    CHECK_EQ(late.handled, 0);
    pool_close(p);
    run_close(rt);
}

static void do_nothing(void *unused)
{
    (void)unused;
}

static void a_probe_that_never_comes_starves_nobody(void)
{
    struct job_message bad = {.fails = 9};
    coir_counter c = COIR_COUNTER_INIT;
    coir_pool_options o = pool_options("breaker");
    coir_runtime *rt = run_open(1);
    coir_pool *p;

    o.attempts_max = 2;
    o.failures_max = 1;
    o.probe_ns = COIR_NEVER;
    p = pool_open(rt, &o);
    CHECK_EQ(coir_pool_submit(p, &bad.m), COIR_OK);
    while (pool_stats(p).trips == 0)
        sched_yield();
    CHECK_EQ(coir_sleep_until(coir_now() + 5 * COIR_MS), COIR_OK); /* past its backoff */
    CHECK_EQ(coir_submit(rt, &c, do_nothing, NULL), COIR_OK);
    CHECK_EQ(coir_wait_until(&c, coir_now() + 5 * COIR_SEC), COIR_DONE);
    while (coir_pool_close(p, 0, NULL) == COIR_ETIMEDOUT)
        continue;
    CHECK(bad.handled == 1 && bad.m.end == COIR_MESSAGE_RETURNED);
    run_close(rt);
}

static void what_is_held_for_the_probe_expires_or_goes_with_it(void)
{
    struct job_message bad = {.fails = 9}, probe = {.m = {0}}, early = {.m = {0}}, late = {.m = {0}};
    coir_counter c = COIR_COUNTER_INIT;
    coir_pool_options o = pool_options("breaker");
    coir_runtime *rt = run_open(2);
    coir_pool *p;

    o.workers = 2;
    o.failures_max = 1;
    o.probe_ns = COIR_MS;
    p = pool_open(rt, &o);
    CHECK_EQ(pool_run(p, &bad), COIR_FAILED);
    pool_hold_one(p, &probe);
    early.m.deadline = coir_now() + 20 * COIR_MS;
    CHECK_EQ(pool_run(p, &early), COIR_EXPIRED);
    CHECK(coir_now() >= early.m.deadline && early.handled == 0);
    late.m.deadline = coir_now() + 3600 * COIR_SEC;
    late.m.counter = &c;
    CHECK_EQ(coir_pool_submit(p, &late.m), COIR_OK);
    CHECK_EQ(coir_sleep_until(coir_now() + 5 * COIR_MS), COIR_OK); /* to be held by then */
    run_set(&probe.go);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    pool_close(p);
    run_close(rt);
}

CHECK_MAIN(CASE(an_open_breaker_stops_calls_until_one_probe_succeeds), CASE(messages_expire_while_the_breaker_is_open),
           CASE(a_probe_that_never_comes_starves_nobody), CASE(what_is_held_for_the_probe_expires_or_goes_with_it))
