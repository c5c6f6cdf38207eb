/* SPDX-License-Identifier: MIT */
/*
 * stay_test.c - a wait that another worker is about to end does not leave its stack, and whoever waits so keeps nobody
 * else waiting. That the counter's memory may go right afterwards is wait_race_test.c's.
 */
#include "run.h"

#include <sched.h>
#include <stdbool.h>
#include <unistd.h>

#define TRIPS MANY(20000)
#define TRIES 20

/* Each side holds a unit that the other releases; its waiter puts it back before it answers. */
struct table {
    coir_counter ping, pong;
    int trips;
    bool last;   /* written before the last release of ping */
    bool apart;  /* each side keeps to a processor of its own */
    int slept, called;
    int64_t due; /* when the sleep ends; 0: not known yet */
    int late;    /* trips since then */
};

static void wait_and_rearm(coir_counter *c)
{
    CHECK_EQ(coir_wait(c), COIR_DONE);
    coir_counter_add(c, 1);
}

static void round_trip(struct table *t, bool last)
{
    t->last = last;
    coir_counter_done(&t->ping, COIR_DONE);
    if (!last)
        wait_and_rearm(&t->pong);
}

/* Binds the worker to the n-th processor of those that the process may use. */
static void keep_to(int n)
{
    cpu_set_t all, one;
    size_t cpu = 0;

    CHECK_EQ(sched_getaffinity(getpid(), sizeof all, &all), 0);
    for (; n || !CPU_ISSET(cpu, &all); cpu++)
        n -= CPU_ISSET(cpu, &all);
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    CHECK_EQ(sched_setaffinity(0, sizeof one, &one), 0);
}

static void answer(void *arg)
{
    struct table *t = arg;

    if (t->apart)
        keep_to(1);
    for (;;) {
        wait_and_rearm(&t->ping);
        if (t->last)
            return;
        coir_counter_done(&t->pong, COIR_DONE);
    }
}

static void ask(void *arg)
{
    struct table *t = arg;

    if (t->apart)
        keep_to(0);
    for (int i = 0; i < t->trips; i++)
        round_trip(t, false);
    round_trip(t, true);
}

static coir_runtime *open_polling(void)
{
    coir_options o = run_options(1);
    coir_runtime *rt = NULL;

    o.spin_ns = COIR_NEVER;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    return rt;
}

/* Plays on two runtimes; `also` runs on the one that asks. Returns how often that one switched. */
static uint64_t play(struct table *t, coir_fn *asks, coir_fn *also)
{
    coir_counter both = COIR_COUNTER_INIT;
    coir_runtime *here = open_polling(), *there = open_polling();
    coir_stats stats;

    coir_counter_add(&t->ping, 1);
    coir_counter_add(&t->pong, 1);
    CHECK_EQ(coir_submit(here, &both, also, t), COIR_OK);
    CHECK_EQ(coir_submit(there, &both, answer, t), COIR_OK);
    CHECK_EQ(coir_submit(here, &both, asks, t), COIR_OK);
    CHECK_EQ(coir_wait(&both), COIR_DONE);
    CHECK_EQ(coir_stats_read(here, &stats), COIR_OK);
    run_close(here);
    run_close(there);
    return stats.switches;
}

static void nothing(void *unused)
{
    (void)unused;
}

static unsigned processors(void)
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof set, &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

/* A wait that parks is two switches. While others have the processor of either, some do park. */
static void a_wait_that_ends_soon_does_not_park(void)
{
    uint64_t switches = UINT64_MAX;

    if (processors() < 2)
        return;
    for (int i = 0; i < TRIES && switches > (uint64_t)TRIPS; i++) {
        struct table t = {.trips = TRIPS, .apart = true};
        uint64_t n = play(&t, ask, nothing);

        switches = n < switches ? n : switches;
    }
    CHECK(switches <= (uint64_t)TRIPS);
}

/* ------------------------------------------------------------------------------- what else there is */

static void call(void *arg)
{
    run_set(&((struct table *)arg)->called);
}

static void sleep_and_submit(void *arg)
{
    struct table *t = arg;

    t->due = coir_now() + COIR_MS;
    CHECK_EQ(coir_sleep_until(t->due), COIR_OK);
    CHECK_EQ(coir_submit(coir_current(), NULL, call, t), COIR_OK);
    run_set(&t->slept);
}

static void ask_until_all_have_run(void *arg)
{
    struct table *t = arg;

    while (!__atomic_load_n(&t->slept, __ATOMIC_ACQUIRE) || !__atomic_load_n(&t->called, __ATOMIC_ACQUIRE)) {
        round_trip(t, false);
        t->late += t->due && coir_now() > t->due;
    }
    round_trip(t, true);
}

/* A worker looks outside every 61 turns, and a trip is one at least. */
static void timers_and_jobs_of_who_stays_come_to_their_turn(void)
{
    struct table t = {0};

    play(&t, ask_until_all_have_run, sleep_and_submit);
    CHECK(t.slept && t.called);
    CHECK(t.late < 1000);
}

/* -------------------------------------------------------------------------------------- deadlines */

static void wait_until(void *arg)
{
    coir_counter *c = arg;
    int64_t begin = coir_now();

    CHECK_EQ(coir_wait_until(c, 0), COIR_ETIMEDOUT);
    CHECK_EQ(coir_wait_until(c, begin + 1), COIR_ETIMEDOUT);
    CHECK_EQ(coir_wait_until(c, begin + COIR_MS), COIR_ETIMEDOUT);
    CHECK(coir_now() >= begin + COIR_MS);
    coir_counter_done(c, COIR_DONE);
    CHECK_EQ(coir_wait_until(c, 0), COIR_DONE);
}

static void who_stays_comes_back_at_its_deadline(void)
{
    coir_counter c = COIR_COUNTER_INIT;

    coir_counter_add(&c, 1);
    run_on(1, wait_until, &c);
}

CHECK_MAIN(CASE(a_wait_that_ends_soon_does_not_park), CASE(timers_and_jobs_of_who_stays_come_to_their_turn),
           CASE(who_stays_comes_back_at_its_deadline))
