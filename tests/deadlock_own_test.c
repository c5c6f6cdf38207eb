/* SPDX-License-Identifier: MIT */
/*
 * deadlock_own_test.c - a job that waits for its own end, or for that of a job below it on its stack, is
 * told so at once.
 */
#include "circles.h"

static coir_counter own, other;
static int self_any;

static void wait_for_own(void *status)
{
    *(int *)status = coir_wait(&own);
}

static void wait_for_own_in_time(void *status)
{
    *(int *)status = coir_wait_until(&own, coir_now() + 1000 * COIR_SEC);
}

static void wait_for_own_twice(void *status)
{
    coir_counter *const both[] = {&own, &own};

    *(int *)status = coir_wait_any(both, 2, COIR_NEVER, NULL);
}

static void wait_for_own_or_other(void *status)
{
    coir_counter *const both[] = {&own, &other};

    run_set(&self_any);
    *(int *)status = coir_wait_any(both, 2, COIR_NEVER, NULL);
}

static void a_job_that_waits_for_its_own_end_is_told_at_once(void)
{
    static coir_fn *const fn[] = {wait_for_own, wait_for_own_in_time, wait_for_own_twice};
    coir_runtime *rt = run_open(2);

    for (int i = 0; i < 3; i++) {
        int status = -1;

        coir_counter_init(&own);
        submit(rt, &own, fn[i], &status);
        CHECK_EQ(coir_wait(&own), COIR_DONE);
        CHECK_EQ(status, COIR_EDEADLK);
    }
    run_close(rt);
}

static void a_wait_for_oneself_or_another_goes_on(void)
{
    coir_runtime *rt = run_open(2);
    int status = -1;

    self_any = 0;
    coir_counter_init(&own);
    coir_counter_init(&other);
    coir_counter_add(&other, 1);
    submit(rt, &own, wait_for_own_or_other, &status);
    run_until(&self_any);
    coir_counter_done(&other, COIR_FAILED);
    CHECK_EQ(coir_wait(&own), COIR_DONE);
    CHECK_EQ(status, COIR_FAILED);
    run_close(rt);
}

/* The child runs on the stack of its parent, which cannot end before it. */
static void spawn_in_place(void *status)
{
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_spawn(&c, wait_for_own, status), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void a_child_in_place_that_waits_for_its_parent_is_told(void)
{
    coir_runtime *rt = run_open(1);
    int status = -1;

    coir_counter_init(&own);
    submit(rt, &own, spawn_in_place, &status);
    CHECK_EQ(coir_wait(&own), COIR_DONE);
    CHECK_EQ(status, COIR_EDEADLK);
    run_close(rt);
}

CHECK_MAIN(CASE(a_job_that_waits_for_its_own_end_is_told_at_once),
           CASE(a_wait_for_oneself_or_another_goes_on),
           CASE(a_child_in_place_that_waits_for_its_parent_is_told))
