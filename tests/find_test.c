/* SPDX-License-Identifier: MIT */
/*
 * find_test.c - core/find.c: what is taken together from the queue that all workers share.
 */
#include "run.h"

#include <stdatomic.h>

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

CHECK_MAIN(CASE(a_long_job_holds_up_few_of_those_that_came_with_it))
