/* SPDX-License-Identifier: MIT */
/*
 * yield_test.c - coir_yield looks outside every few turns, whoever yields and wherever: alone or among many, deep
 * in its stack, in a runtime with metrics. Turns are counted, not time.
 */
#include "run.h"

#define LOOK_TURNS 61           /* POLL_TURNS */
#define BOUND (LOOK_TURNS + 5)  /* yields after which somebody is served, and one of each fiber */
#define FOR_EVER 1000000

static int turns, served; /* turns when somebody was served; 0: not yet */
static unsigned fibers;
static const coir_metrics no_metrics = {.size = sizeof no_metrics};

static void serve(void *unused)
{
    (void)unused;
    served = turns;
}

static void take_turns(void)
{
    while (!served && ++turns < FOR_EVER)
        coir_yield();
}

static void yielder(void *unused)
{
    (void)unused;
    take_turns();
}

/* More than half of a stack of 64 KiB. */
static void deep_yielder(void *unused)
{
    volatile char below[40000];

    (void)unused;
    below[0] = 1;
    take_turns();
    CHECK_EQ(below[0], 1);
}

static void submit_beside(void *yields)
{
    turns = served = 0;
    for (unsigned i = 0; i < fibers; i++)
        CHECK_EQ(coir_spawn(NULL, ((coir_fn **)yields)[0], NULL), COIR_OK);
    coir_yield(); /* they run, and this waits behind them */
    turns = 0;
    CHECK_EQ(coir_submit(coir_current(), NULL, serve, NULL), COIR_OK);
}

static void check_submitted(unsigned n, coir_fn *yields, const coir_metrics *metrics)
{
    coir_options o = run_options(1);

    o.metrics = metrics;
    fibers = n;
    CHECK_EQ(coir_run(&o, submit_beside, &yields), COIR_DONE);
    CHECK(served && served < BOUND + (int)n);
}

static void an_injected_job_waits_for_few_yields(void)
{
    check_submitted(1, yielder, NULL);
    check_submitted(2, yielder, NULL);
    check_submitted(100, yielder, NULL);
}

static void wherever_they_are_made(void)
{
    check_submitted(1, deep_yielder, NULL);
    check_submitted(2, deep_yielder, NULL);
    check_submitted(1, yielder, &no_metrics);
    check_submitted(100, yielder, &no_metrics);
}

static int64_t deadline;
static int late, was_late; /* yields that ended after it; when the sleeper went on */

static void sleep_then_serve(void *unused)
{
    deadline = coir_now() + 2 * COIR_MS;
    CHECK_EQ(coir_sleep_until(deadline), COIR_OK);
    was_late = late;
    serve(unused);
}

static void yield_by_the_clock(void *unused)
{
    (void)unused;
    for (late = 0; !served && late < FOR_EVER; late += coir_now() > deadline)
        coir_yield();
}

/* They have yielded for long before anybody wanted to know the time. */
static void sleep_beside(void *unused)
{
    turns = served = 0;
    while (++turns < 10000)
        coir_yield();
    CHECK_EQ(coir_spawn(NULL, sleep_then_serve, unused), COIR_OK);
    for (unsigned i = 0; i < fibers; i++)
        CHECK_EQ(coir_spawn(NULL, yield_by_the_clock, NULL), COIR_OK);
}

static void a_timer_waits_for_few_yields(void)
{
    for (fibers = 1; fibers <= 100; fibers *= 10) {
        run_on(1, sleep_beside, NULL);
        CHECK(served && was_late < BOUND + (int)fibers);
    }
}

static void yield_often(void *unused)
{
    (void)unused;
    for (int i = 0; i < 10000; i++)
        coir_yield();
}

static void count_switches(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_stats before, after;

    (void)unused;
    CHECK_EQ(coir_stats_read(coir_current(), &before), COIR_OK);
    CHECK_EQ(coir_spawn_many(&c, yield_often, NULL, 0, 10), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_stats_read(coir_current(), &after), COIR_OK);
    CHECK(after.switches - before.switches >= 10 * 10000 - 10000); /* the last one yields to nobody */
    CHECK(after.switches - before.switches <= 10 * 10000 + 2 * 10000 / LOOK_TURNS * 10);
}

static void each_switch_counts(void)
{
    run_on(1, count_switches, NULL);
}

CHECK_MAIN(CASE(an_injected_job_waits_for_few_yields), CASE(wherever_they_are_made), CASE(a_timer_waits_for_few_yields),
           CASE(each_switch_counts))
