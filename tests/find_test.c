/* SPDX-License-Identifier: MIT */
/*
 * find_test.c - core/find.c: what is taken together from the queue that all workers share, and what waits behind a long job
 * while nobody is idle.
 */
#include "run.h"

#include <stdatomic.h>
#include <stdbool.h>

#define SHORTS 30 /* one batch could have them all */
#define NEWER 1000
#define BEHIND 2 /* of so short a queue a worker takes one job besides the long one */

static _Atomic int held, go, shorts, newer;
static coir_runtime *runtime;
static coir_counter all;

static void hold(void *unused)
{
    (void)unused;
    atomic_fetch_add(&held, 1);
    while (!atomic_load(&go))
        sched_yield();
}

static void end_short(void *unused)
{
    (void)unused;
    atomic_fetch_add(&shorts, 1);
}

/* Keeps the shared queue from becoming empty, so that nobody has a reason to steal. */
static void renew(void *unused)
{
    if (atomic_fetch_add(&newer, 1) < NEWER)
        CHECK_EQ(coir_submit(runtime, &all, renew, unused), COIR_OK);
}

static void be_long(void *ended)
{
    while (atomic_load(&newer) < NEWER)
        sched_yield();
    *(int *)ended = atomic_load(&shorts);
}

/* Both workers are held until all is in the queue; then the long job keeps whoever takes it. */
static void a_long_job_holds_up_few_of_those_that_came_with_it(void)
{
    int ended = -1;

    runtime = run_open(2);
    coir_counter_init(&all);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(coir_submit(runtime, &all, hold, NULL), COIR_OK);
    while (atomic_load(&held) < 2)
        sched_yield();
    CHECK_EQ(coir_submit(runtime, &all, be_long, &ended), COIR_OK);
    for (int i = 0; i < SHORTS; i++)
        CHECK_EQ(coir_submit(runtime, &all, end_short, NULL), COIR_OK);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(coir_submit(runtime, &all, renew, NULL), COIR_OK);
    atomic_store(&go, 1);
    CHECK_EQ(coir_wait(&all), COIR_DONE);
    run_close(runtime);
    CHECK(ended >= SHORTS - BEHIND);
}

/* ------------------------------------------------------------------- behind a long job, nobody is idle */

#define FIBERS 3
#define PATIENCE (20 * COIR_SEC)

static _Atomic int busy, parked, resumed, over;
static coir_counter gate;

/* Always leaves its worker something to do. */
static void keep_busy(void *unused)
{
    atomic_store(&busy, 1);
    if (!atomic_load(&over))
        CHECK_EQ(coir_spawn(&all, keep_busy, unused), COIR_OK);
}

static void wait_at_gate(void *unused)
{
    (void)unused;
    atomic_fetch_add(&parked, 1);
    CHECK_EQ(coir_wait(&gate), COIR_DONE);
    atomic_fetch_add(&resumed, 1);
}

/* Leaves jobs and fibers behind itself, and does not let its worker go until others have run them all. */
static void hold_up(void *unused)
{
    int64_t until = coir_now() + PATIENCE;

    while (!atomic_load(&busy))
        sched_yield();
    coir_counter_done(&gate, COIR_DONE);
    for (int i = 0; i < SHORTS; i++)
        CHECK_EQ(coir_spawn(&all, end_short, unused), COIR_OK);
    while ((atomic_load(&shorts) < SHORTS || atomic_load(&resumed) < FIBERS) && coir_now() < until)
        sched_yield();
    CHECK_EQ(atomic_load(&shorts), SHORTS);
    CHECK_EQ(atomic_load(&resumed), FIBERS);
    atomic_store(&over, 1);
}

static void busy_workers_take_what_waits_behind_a_long_job(void)
{
    runtime = run_open(2);
    atomic_store(&shorts, 0);
    coir_counter_init(&all);
    coir_counter_init(&gate);
    coir_counter_add(&gate, 1);
    for (int i = 0; i < FIBERS; i++)
        CHECK_EQ(coir_submit(runtime, &all, wait_at_gate, NULL), COIR_OK);
    while (atomic_load(&parked) < FIBERS)
        sched_yield();
    CHECK_EQ(coir_submit(runtime, &all, hold_up, NULL), COIR_OK);
    CHECK_EQ(coir_submit(runtime, &all, keep_busy, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&all), COIR_DONE);
    run_close(runtime);
}

/* ------------------------------------------- behind a long job, in what was injected before the rest */

#define CAME_TOGETHER 200 /* a worker takes several of so many */
#define ROUNDS 16

static _Atomic int first, stop_renewing;

static void take_a_while(void *unused)
{
    int64_t until = coir_now() + 20 * COIR_US;

    (void)unused;
    while (coir_now() < until)
        ;
}

static void renew_for_ever(void *unused)
{
    take_a_while(unused);
    if (!atomic_load(&stop_renewing))
        CHECK_EQ(coir_submit(runtime, &all, renew_for_ever, unused), COIR_OK);
}

static void be_first(void *unused)
{
    take_a_while(unused);
    atomic_fetch_add(&first, 1);
}

/* Does not end before those that came with it have, or for so long that who looks at held up workers would come. */
static void wait_for_the_others(void *others_first)
{
    int64_t until = coir_now() + 30 * COIR_MS;

    while (atomic_load(&first) < CAME_TOGETHER && coir_now() < until)
        sched_yield();
    *(bool *)others_first = atomic_load(&first) == CAME_TOGETHER;
    atomic_store(&stop_renewing, 1);
}

/* One long job among many, and newer ones all the while. */
static bool others_come_first(void)
{
    coir_counter came = COIR_COUNTER_INIT;
    bool others_first = false;

    atomic_store(&first, 0);
    atomic_store(&stop_renewing, 0);
    for (int i = 0; i <= CAME_TOGETHER; i++)
        CHECK_EQ(i == CAME_TOGETHER / 3 ? coir_submit(runtime, &came, wait_for_the_others, &others_first)
                                        : coir_submit(runtime, &came, be_first, NULL), COIR_OK);
    for (int i = 0; i < 64; i++)
        CHECK_EQ(coir_submit(runtime, &all, renew_for_ever, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&came), COIR_DONE);
    CHECK_EQ(coir_wait(&all), COIR_DONE);
    return others_first;
}

/* A worker that has lost its processor may be late: not each time. */
static void what_a_long_job_holds_up_goes_before_what_came_later(void)
{
    int good = 0;

    runtime = run_open(2);
    coir_counter_init(&all);
    for (int i = 0; i < ROUNDS; i++)
        good += others_come_first();
    run_close(runtime);
    if (!CHECK(good > ROUNDS * 2 / 3))
        fprintf(stderr, "    %d of %d times\n", good, ROUNDS);
}

CHECK_MAIN(CASE(a_long_job_holds_up_few_of_those_that_came_with_it), CASE(busy_workers_take_what_waits_behind_a_long_job),
           CASE(what_a_long_job_holds_up_goes_before_what_came_later))
