/* SPDX-License-Identifier: MIT */
/*
 * cancel_test.c - coir_counter_cancel: what has not started is skipped, what blocks is told,
 * what is waited for is asked as well, and nobody else notices.
 */
#include "run.h"

#include <pthread.h>

static void count(void *n)
{
    run_count(n);
}

static void on_workers(coir_fn *fn)
{
    run_on(1, fn, NULL);
    run_on(2, fn, NULL);
}

/* Yields until n jobs have started to block. */
static int started;

static void until_started(int n)
{
    while (__atomic_load_n(&started, __ATOMIC_ACQUIRE) < n) {
        coir_yield();
        sched_yield();
    }
}

static void starts(void)
{
    __atomic_add_fetch(&started, 1, __ATOMIC_RELEASE);
}

/* ---------------------------------------------------------------------------- not started yet */

static void cancel_unstarted(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_failure f;
    int n = 0;

    (void)unused;
    CHECK_EQ(coir_spawn_many(&c, count, &n, 0, 100), COIR_OK);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_CANCELED);
    CHECK_EQ(n, 0);
    CHECK_EQ(coir_counter_failure(&c, &f), COIR_OK);
    CHECK_EQ(f.kind, COIR_KIND_SKIPPED);
    CHECK_EQ(f.outcome, COIR_CANCELED);
    CHECK(f.id != 0 && f.message[0]);
}

static void jobs_that_have_not_started_are_skipped(void)
{
    run_on(1, cancel_unstarted, NULL);
}

static void spawn_canceled(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    int n = 0;

    (void)unused;
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE); /* nothing was owed */
    CHECK_EQ(coir_spawn(&c, count, &n), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_CANCELED);
    CHECK_EQ(n, 0);
    coir_counter_init(&c);
    CHECK_EQ(coir_spawn(&c, count, &n), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(n, 1);
}

static void the_request_stays_until_init(void)
{
    on_workers(spawn_canceled);
}

static void cancel_twice(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    CHECK_EQ(coir_counter_cancel(NULL), COIR_EINVAL);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void canceling_what_is_settled_changes_nothing(void)
{
    on_workers(cancel_twice);
    cancel_twice(NULL);
}

/* -------------------------------------------------------------------------------- what blocks */

static coir_counter never; /* owed for ever */
static int told[4];

static void sleep_long(void *status)
{
    starts();
    *(int *)status = coir_sleep_until(COIR_NEVER);
}

static void wait_long(void *status)
{
    starts();
    *(int *)status = coir_wait(&never);
}

static void wait_deadline(void *status)
{
    starts();
    *(int *)status = coir_wait_until(&never, coir_now() + 1000 * COIR_SEC);
}

static void wait_any(void *status)
{
    coir_counter *one[] = {&never};

    starts();
    *(int *)status = coir_wait_any(one, 1, COIR_NEVER, NULL);
}

static void cancel_blocked(void *unused)
{
    static coir_fn *const blocks[4] = {sleep_long, wait_long, wait_deadline, wait_any};
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    started = 0;
    memset(told, 0, sizeof told);
    coir_counter_init(&never);
    coir_counter_add(&never, 1);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(coir_spawn(&c, blocks[i], &told[i]), COIR_OK);
    until_started(4);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE); /* they returned */
    for (int i = 0; i < 4; i++)
        CHECK_EQ(told[i], COIR_ECANCELED);
    coir_counter_done(&never, COIR_DONE);
}

static void jobs_that_block_are_told(void)
{
    on_workers(cancel_blocked);
}

static void a_plain_thread_cancels(void)
{
    coir_runtime *rt = run_open(2);
    coir_counter c = COIR_COUNTER_INIT;

    started = 0;
    for (int i = 0; i < 4; i++)
        CHECK_EQ(coir_submit(rt, &c, sleep_long, &told[i]), COIR_OK);
    until_started(4);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(told[i], COIR_ECANCELED);
    run_close(rt);
}

/* Owed work by hand, in this frame: no forwarding, for there is a deadline. It starts again when it was told. */
static void wait_twice(void *unused)
{
    (void)unused;
    starts();
    CHECK_EQ(coir_wait_until(&never, coir_now() + 1000 * COIR_SEC), COIR_ECANCELED);
    CHECK_EQ(coir_wait_until(&never, coir_now() + 2 * COIR_MS), COIR_ETIMEDOUT);
    starts();
    CHECK_EQ(coir_canceled(), 1);
    CHECK_EQ(coir_wait(&never), COIR_FAILED);
}

static void cancel_then_settle(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    started = 0;
    coir_counter_init(&never);
    coir_counter_add(&never, 1);
    CHECK_EQ(coir_spawn(&c, wait_twice, NULL), COIR_OK);
    until_started(1);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    until_started(2);
    coir_counter_done(&never, COIR_FAILED);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void the_second_wait_is_not_interrupted(void)
{
    on_workers(cancel_then_settle);
}

static void wait_in_handler(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_canceled(), 1);
    CHECK_EQ(coir_wait_until(&never, coir_now() + 2 * COIR_MS), COIR_ETIMEDOUT);
}

static void wait_then_handle(void *unused)
{
    CHECK_EQ(coir_defer(wait_in_handler, unused), COIR_OK);
    starts();
    CHECK_EQ(coir_wait_until(&never, coir_now() + 1000 * COIR_SEC), COIR_ECANCELED);
    CHECK_EQ(coir_try(wait_in_handler, unused, NULL), COIR_DONE);
}

static void cancel_then_handle(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    started = 0;
    coir_counter_init(&never);
    coir_counter_add(&never, 1);
    CHECK_EQ(coir_spawn(&c, wait_then_handle, unused), COIR_OK);
    until_started(1);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    coir_counter_done(&never, COIR_DONE);
}

static void a_job_is_told_once_with_its_handlers_and_boundaries(void)
{
    on_workers(cancel_then_handle);
}

/* --------------------------------------------------------------------------------- forwarding */

/* A tree of waits: each level waits for two of the next; the leaves sleep. */
static void wait_for_subtree(void *level)
{
    int below = *(int *)level - 1, outcome;
    coir_counter c = COIR_COUNTER_INIT;

    if (below == 0) {
        starts();
        CHECK_EQ(coir_sleep_until(COIR_NEVER), COIR_ECANCELED);
        return;
    }
    CHECK_EQ(coir_spawn(&c, wait_for_subtree, &below), COIR_OK);
    CHECK_EQ(coir_spawn(&c, wait_for_subtree, &below), COIR_OK);
    coir_yield(); /* they start elsewhere, not in place */
    outcome = coir_wait(&c);
    CHECK(outcome == COIR_DONE || outcome == COIR_CANCELED);
    CHECK_EQ(coir_canceled(), 1);
}

static void cancel_tree(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    int levels = 5;

    (void)unused;
    started = 0;
    CHECK_EQ(coir_spawn(&c, wait_for_subtree, &levels), COIR_OK);
    until_started(16);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_canceled(), 0);
}

static void a_wait_passes_the_request_on_to_childrens_children(void)
{
    on_workers(cancel_tree);
}

/* The children run in place of the wait: first one that sleeps, with the others behind it. */
static void wait_in_place(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    int slept[3] = {0, 0, 0}, count = 0;

    (void)unused;
    CHECK_EQ(coir_spawn_many(&c, sleep_long, slept, sizeof slept[0], 3), COIR_OK);
    CHECK(coir_wait(&c) >= COIR_DONE);
    for (int i = 0; i < 3; i++) {
        CHECK(slept[i] == COIR_ECANCELED || slept[i] == 0); /* told, or skipped before it started */
        count += slept[i] == COIR_ECANCELED;
    }
    CHECK(count >= 1);
}

static void cancel_in_place(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    started = 0;
    CHECK_EQ(coir_spawn(&c, wait_in_place, NULL), COIR_OK);
    until_started(1);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void children_in_place_of_a_canceled_wait_are_told(void)
{
    on_workers(cancel_in_place);
}

/* The counter is not in the waiter's frames, so others may wait for it too: the waiter decides. */
static void wait_for_static(void *unused)
{
    static coir_counter c;
    int slept[2] = {0, 0};

    (void)unused;
    coir_counter_init(&c);
    CHECK_EQ(coir_spawn_many(&c, sleep_long, slept, sizeof slept[0], 2), COIR_OK);
    coir_yield();
    CHECK_EQ(coir_wait(&c), COIR_ECANCELED);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(slept[0], COIR_ECANCELED);
    CHECK_EQ(slept[1], COIR_ECANCELED);
}

static void cancel_waiter_for_static(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    started = 0;
    CHECK_EQ(coir_spawn(&c, wait_for_static, NULL), COIR_OK);
    until_started(2);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void a_wait_for_a_counter_outside_the_frames_is_interrupted(void)
{
    on_workers(cancel_waiter_for_static);
}

/* ------------------------------------------------------------------------------ coir_canceled */

static void compute_until_asked(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_canceled(), 0);
    starts();
    while (!coir_canceled())
        coir_yield();
}

static void try_until_asked(void *unused)
{
    CHECK_EQ(coir_try(compute_until_asked, unused, NULL), COIR_DONE);
}

static void cancel_computing(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    started = 0;
    CHECK_EQ(coir_spawn(&c, compute_until_asked, NULL), COIR_OK);
    CHECK_EQ(coir_spawn(&c, try_until_asked, NULL), COIR_OK);
    until_started(2);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void jobs_that_compute_may_ask(void)
{
    on_workers(cancel_computing);
}

static void stand_aside(void *status)
{
    starts();
    *(int *)status = coir_sleep_until(coir_now() + 2 * COIR_MS);
    CHECK_EQ(coir_canceled(), 0);
}

static void cancel_one_of_two(void *unused)
{
    coir_counter one = COIR_COUNTER_INIT, other = COIR_COUNTER_INIT;
    int slept = 1, told_one = 0;

    (void)unused;
    started = 0;
    CHECK_EQ(coir_spawn(&other, stand_aside, &slept), COIR_OK);
    CHECK_EQ(coir_spawn(&one, sleep_long, &told_one), COIR_OK);
    until_started(2);
    CHECK_EQ(coir_counter_cancel(&one), COIR_OK);
    CHECK_EQ(coir_wait(&one), COIR_DONE);
    CHECK_EQ(told_one, COIR_ECANCELED);
    CHECK_EQ(coir_wait(&other), COIR_DONE);
    CHECK_EQ(slept, COIR_OK);
}

static void others_do_not_notice(void)
{
    on_workers(cancel_one_of_two);
}

/* ---------------------------------------------------------------------------------- the race */

static int slept_well, slept_badly;

static void sleep_briefly(void *ns)
{
    int status = coir_sleep_until(coir_now() + *(int *)ns);

    CHECK(status == COIR_OK || status == COIR_ECANCELED);
    run_count(status == COIR_OK ? &slept_well : &slept_badly);
}

static int nap[8] = {100, 1000, 5000, 10000, 20000, 40000, 80000, 1000000};

static int yields; /* before a cancel; on a busy machine each may last as long as all the naps */

static void *cancel_soon(void *arg)
{
    for (int i = 0; i < yields; i++)
        sched_yield();
    CHECK_EQ(coir_counter_cancel(arg), COIR_OK);
    return NULL;
}

static void race(coir_runtime *rt)
{
    slept_well = slept_badly = 0;
    for (int i = 0; check_round(i, MANY(500)) || !slept_well || !slept_badly; i++) { /* until both have won */
        coir_counter c = COIR_COUNTER_INIT;
        pthread_t thread;
        int outcome;

        yields = i * 7 % 50;
        for (int k = 0; k < 8; k++)
            CHECK_EQ(coir_submit(rt, &c, sleep_briefly, &nap[k]), COIR_OK);
        CHECK_EQ(pthread_create(&thread, NULL, cancel_soon, &c), 0);
        outcome = coir_wait(&c);
        CHECK(outcome == COIR_DONE || outcome == COIR_CANCELED);
        pthread_join(thread, NULL);
    }
}

static void a_cancel_races_deadlines(void)
{
    coir_runtime *rt = run_open(2);

    race(rt);
    run_close(rt);
}

static void nap_a_little(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_sleep_until(coir_now() + COIR_MS), COIR_OK);
}

static void sleep_to_the_end_of_time(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_sleep_until(COIR_NEVER - 1), COIR_ECANCELED);
}

/* The other worker reckons with this deadline when it falls asleep. */
static void the_latest_deadline_is_one_too(void)
{
    coir_counter sleepers = COIR_COUNTER_INIT, others = COIR_COUNTER_INIT;
    coir_runtime *rt = run_open(2);

    CHECK_EQ(coir_submit(rt, &sleepers, sleep_to_the_end_of_time, NULL), COIR_OK);
    for (int i = 0; i < 20; i++) {
        for (int n = 0; n < 4; n++)
            CHECK_EQ(coir_submit(rt, &others, nap_a_little, NULL), COIR_OK);
        CHECK_EQ(coir_wait(&others), COIR_DONE);
    }
    CHECK_EQ(coir_counter_cancel(&sleepers), COIR_OK);
    CHECK_EQ(coir_wait(&sleepers), COIR_DONE);
    run_close(rt);
}

CHECK_MAIN(CASE(the_latest_deadline_is_one_too), CASE(jobs_that_have_not_started_are_skipped),
           CASE(the_request_stays_until_init),
           CASE(canceling_what_is_settled_changes_nothing), CASE(jobs_that_block_are_told),
           CASE(a_plain_thread_cancels), CASE(the_second_wait_is_not_interrupted),
           CASE(a_job_is_told_once_with_its_handlers_and_boundaries),
           CASE(a_wait_passes_the_request_on_to_childrens_children),
           CASE(children_in_place_of_a_canceled_wait_are_told),
           CASE(a_wait_for_a_counter_outside_the_frames_is_interrupted),
           CASE(jobs_that_compute_may_ask), CASE(others_do_not_notice),
           CASE(a_cancel_races_deadlines))
