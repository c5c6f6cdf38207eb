/* SPDX-License-Identifier: MIT */
/*
 * deadlock_test.c - coir_deadlock_check: counters waited for in a circle, or for nobody, and what is no
 * deadlock. Other primitives are in deadlock_locks_test.c and deadlock_signal_test.c, the policies in
 * deadlock_policy_test.c, waits for oneself in deadlock_own_test.c.
 */
#include "circles.h"
#include "scarce.h"

#include <pthread.h>
#include <stdbool.h>

#define RING 500

/* ---------------------------------------------------------------------------------- in a circle */

static void check_ring(unsigned workers, int n)
{
    static coir_counter c[RING];
    static struct waiter w[RING];
    coir_runtime *rt = run_open(workers);
    coir_deadlock d;

    make_ring(rt, c, w, n);
    until_parked(rt, (uint64_t)n);
    CHECK_EQ(coir_deadlock_check(rt, &d), COIR_EDEADLK);
    CHECK_EQ(d.cycles, 1);
    CHECK_EQ(d.stuck, n);
    CHECK_EQ(d.unowed, 0);
    CHECK_EQ(d.failed, 0);
    CHECK_EQ(d.count, n < COIR_DEADLOCK_MAX ? n : COIR_DEADLOCK_MAX);
    for (unsigned i = 0; i < d.count; i++) {
        CHECK_EQ(d.waits[i].cycle, 1);
        CHECK_STR(d.waits[i].job.waits_for, "counter");
        CHECK(d.waits[i].job.fn == wait_as_told);
        CHECK_EQ(d.waits[i].job.worker, -1);
        CHECK(d.waits[i].job.job != d.waits[(i + 1) % d.count].job.job);
    }
    for (unsigned i = 1; i < d.count; i++) /* each waits for the next */
        CHECK(d.waits[i].job.waits_on ==
              &c[((coir_counter *)(uintptr_t)d.waits[i - 1].job.waits_on - c + 1) % n]);
    break_ring(c, n);
    run_close(rt);
}

static void jobs_that_wait_for_each_other_are_found(void)
{
    check_ring(1, 2);
    check_ring(2, 3);
    check_ring(2, RING);
}

/* A cycle of two, one who waits for it, and a worker that is busy all the time. */
static void a_part_is_found_while_the_rest_runs(void)
{
    coir_runtime *rt = run_open(2);
    coir_counter c[2], behind = COIR_COUNTER_INIT;
    struct waiter w[2], late = {.on = {&c[0]}};
    coir_deadlock d;

    held = released = 0;
    submit(rt, NULL, loop_for_ever, NULL);
    run_until(&held);
    make_ring(rt, c, w, 2);
    submit(rt, &behind, wait_as_told, &late);
    until_parked(rt, 3);
    CHECK_EQ(coir_deadlock_check(rt, &d), COIR_EDEADLK);
    CHECK_EQ(d.cycles, 1);
    CHECK_EQ(d.stuck, 3);
    CHECK_EQ(d.count, 2);
    break_ring(c, 2);
    CHECK_EQ(coir_wait(&behind), COIR_DONE);
    run_set(&released);
    run_close(rt);
}

static void units_by_hand_do_not_hide_a_cycle(void)
{
    coir_runtime *rt = run_open(1);
    coir_counter c[2];
    struct waiter w[2];

    make_ring(rt, c, w, 2);
    until_parked(rt, 2);
    coir_counter_add(&c[0], 1); /* whoever releases it, the job's own unit stays */
    CHECK_EQ(coir_deadlock_check(rt, NULL), COIR_EDEADLK);
    coir_counter_done(&c[0], COIR_DONE);
    break_ring(c, 2);
    run_close(rt);
}

static coir_counter job_end, after_end;

static void nop(void *unused)
{
    (void)unused;
}

static void after_itself(void *status)
{
    CHECK_EQ(coir_spawn_after(&job_end, &after_end, nop, NULL), COIR_OK);
    *(int *)status = coir_wait(&after_end); /* which starts when this job has ended */
}

static void work_after_a_job_is_part_of_the_circle(void)
{
    coir_runtime *rt = run_open(1);
    coir_deadlock d;
    int status = -1;

    coir_counter_init(&job_end);
    coir_counter_init(&after_end);
    submit(rt, &job_end, after_itself, &status);
    until_parked(rt, 1);
    CHECK_EQ(coir_deadlock_check(rt, &d), COIR_EDEADLK);
    CHECK_EQ(d.cycles, 1);
    CHECK_EQ(d.stuck, 2);
    CHECK_EQ(d.count, 1);
    CHECK_EQ(coir_counter_cancel(&job_end), COIR_OK);
    CHECK_EQ(coir_wait(&job_end), COIR_DONE);
    CHECK_EQ(status, COIR_ECANCELED);
    CHECK(coir_wait(&after_end) >= COIR_DONE);
    run_close(rt);
}

/* w[0] waits for either of two who wait for it. */
static void a_wait_for_any_is_stuck_if_all_of_them_are(bool third)
{
    coir_runtime *rt = run_open(1);
    coir_counter c[3] = {COIR_COUNTER_INIT, COIR_COUNTER_INIT, COIR_COUNTER_INIT};
    coir_counter hand = COIR_COUNTER_INIT;
    struct waiter w[3] = {{.on = {&c[1], &c[2], third ? &hand : NULL}},
                          {.on = {&c[0]}},
                          {.on = {&c[0]}}};
    coir_deadlock d;

    coir_counter_add(&hand, 1);
    for (int i = 0; i < 3; i++)
        coir_counter_add(&c[i], 1);
    for (int i = 0; i < 3; i++)
        submit_after(rt, i, &c[i], &w[i]);
    for (int i = 0; i < 3; i++)
        coir_counter_done(&c[i], COIR_DONE);
    until_parked(rt, 3);
    CHECK_EQ(coir_deadlock_check(rt, &d), third ? COIR_OK : COIR_EDEADLK);
    CHECK_EQ(d.stuck, third ? 0 : 3);
    coir_counter_done(&hand, COIR_DONE);
    break_ring(c, 3);
    run_close(rt);
}

static void a_wait_for_one_of_several_needs_all_of_them_stuck(void)
{
    a_wait_for_any_is_stuck_if_all_of_them_are(false);
    a_wait_for_any_is_stuck_if_all_of_them_are(true);
}

/* ------------------------------------------------------------------------- what is no deadlock */

static void a_deadline_in_the_circle_ends_it(void)
{
    coir_runtime *rt = run_open(1);
    coir_counter c[2];
    struct waiter w[2];
    coir_deadlock d;

    memset(w, 0, sizeof w);
    for (int i = 0; i < 2; i++) {
        coir_counter_init(&c[i]);
        coir_counter_add(&c[i], 1);
    }
    w[0].on[0] = &c[1];
    w[1].on[0] = &c[0];
    w[1].deadline = coir_now() + 1000 * COIR_SEC;
    for (int i = 0; i < 2; i++)
        submit_after(rt, i, &c[i], &w[i]);
    for (int i = 0; i < 2; i++)
        coir_counter_done(&c[i], COIR_DONE);
    until_parked(rt, 2);
    CHECK_EQ(coir_deadlock_check(rt, &d), COIR_OK);
    CHECK_EQ(d.cycles + d.stuck + d.unowed + d.count, 0);
    break_ring(c, 2);
    run_close(rt);
}

static void tree(void *depth)
{
    coir_counter c = COIR_COUNTER_INIT;
    intptr_t d = (intptr_t)depth;

    if (d == 0)
        return;
    CHECK_EQ(coir_spawn(&c, tree, (void *)(d - 1)), COIR_OK);
    CHECK_EQ(coir_spawn(&c, tree, (void *)(d - 1)), COIR_OK);
    if (d & 1)
        coir_yield();
    CHECK_EQ(coir_wait_until(&c, d % 3 ? COIR_NEVER : coir_now() + 1000 * COIR_SEC), COIR_DONE);
}

/* The two walks and the generation: waits come and go while the graph is read. */
static void work_that_goes_on_is_never_called_stuck(void)
{
    coir_runtime *rt = run_open(2);

    for (int i = 0; i < MANY(100); i++) {
        coir_counter c = COIR_COUNTER_INIT;

        submit(rt, &c, tree, (void *)(intptr_t)9);
        while (coir_wait_until(&c, 0) == COIR_ETIMEDOUT)
            CHECK_EQ(coir_deadlock_check(rt, NULL), COIR_OK);
        CHECK_EQ(coir_wait(&c), COIR_DONE);
    }
    run_close(rt);
}

struct checker {
    coir_runtime *rt;
    int quit;
    int checks;
};

static void *check_on_and_on(void *arg)
{
    struct checker *k = arg;

    while (!__atomic_load_n(&k->quit, __ATOMIC_ACQUIRE)) {
        CHECK_EQ(coir_deadlock_check(k->rt, NULL), COIR_OK);
        run_count(&k->checks);
    }
    return NULL;
}

static void sleep_shortly(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_sleep_until(coir_now() + 30 * COIR_US), COIR_OK);
}

/* In turns, a job of c[0] waits for c[1] and a job of c[1] for c[0]; never both. Many fibers park
 * between them, so that a look at all begins in one round and ends in another: the second walk must
 * find that the waits it has seen first are over, though the same stacks are parked again. */
static void a_circle_of_waits_that_follow_each_other_is_none(void)
{
    coir_runtime *rt = run_open(1);
    coir_counter hand = COIR_COUNTER_INIT, c[2];
    coir_counter low = COIR_COUNTER_INIT;
    struct waiter crowd = {.on = {&hand}}, first = {.on = {&low}}, w;
    struct checker k = {.rt = rt};
    pthread_t thread;

    coir_counter_add(&hand, 1);
    coir_counter_add(&low, 1);
    for (int i = 0; i < 4; i++) /* stacks that are looked at before the crowd, and free then */
        submit(rt, NULL, wait_as_told, &first);
    until_parked(rt, 4);
    for (int i = 0; i < 1000; i++)
        submit(rt, NULL, wait_as_told, &crowd);
    until_parked(rt, 1004);
    coir_counter_done(&low, COIR_DONE);
    CHECK_EQ(pthread_create(&thread, NULL, check_on_and_on, &k), 0);
    for (int i = 0; i < MANY(2000) || !__atomic_load_n(&k.checks, __ATOMIC_RELAXED); i++) {
        coir_counter_init(&c[0]);
        coir_counter_init(&c[1]);
        w = (struct waiter){.on = {&c[!(i & 1)]}};
        submit(rt, &c[!(i & 1)], sleep_shortly, NULL);
        submit(rt, &c[i & 1], wait_as_told, &w);
        CHECK_EQ(coir_wait(&c[i & 1]), COIR_DONE);
        CHECK_EQ(coir_wait(&c[!(i & 1)]), COIR_DONE);
    }
    run_set(&k.quit);
    pthread_join(thread, NULL);
    coir_counter_done(&hand, COIR_DONE);
    run_close(rt);
}

/* ------------------------------------------------------------------------------------ for nobody */

static void a_wait_that_no_job_can_end_is_told_if_nothing_runs(void)
{
    coir_runtime *rt = run_open(2);
    coir_counter hand = COIR_COUNTER_INIT, c = COIR_COUNTER_INIT;
    struct waiter w = {.on = {&hand}}, behind = {.on = {&c}};
    coir_deadlock d;

    coir_counter_add(&hand, 1);
    submit(rt, &c, wait_as_told, &w);
    submit(rt, NULL, wait_as_told, &behind);
    until_parked(rt, 2);
    CHECK_EQ(coir_deadlock_check(rt, &d), COIR_OK);
    CHECK_EQ(d.unowed, 1);
    CHECK_EQ(d.count, 1);
    CHECK_EQ(d.waits[0].cycle, 0);
    CHECK(d.waits[0].job.waits_on == &hand);
    held = released = 0;
    submit(rt, NULL, loop_for_ever, NULL);
    run_until(&held);
    CHECK_EQ(coir_deadlock_check(rt, &d), COIR_OK);
    CHECK_EQ(d.unowed, 0); /* the job that runs may signal */
    run_set(&released);
    coir_counter_done(&hand, COIR_DONE);
    run_close(rt);
}

static void sleep_long(void *status)
{
    *(int *)status = coir_sleep_until(coir_now() + 1000 * COIR_SEC);
}

static void a_timer_may_signal(void)
{
    coir_runtime *rt = run_open(1);
    coir_counter hand = COIR_COUNTER_INIT, c = COIR_COUNTER_INIT;
    struct waiter w = {.on = {&hand}};
    coir_deadlock d;
    int status = 0;

    coir_counter_add(&hand, 1);
    submit(rt, NULL, wait_as_told, &w);
    submit(rt, &c, sleep_long, &status);
    until_parked(rt, 2);
    CHECK_EQ(coir_deadlock_check(rt, &d), COIR_OK);
    CHECK_EQ(d.unowed, 0);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    coir_counter_done(&hand, COIR_DONE);
    run_close(rt);
}

/* --------------------------------------------------------------------------------- bad input */

static void check_on_fiber(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_deadlock_check(coir_current(), NULL), COIR_OK);
}

static void a_check_may_be_made_anywhere_and_may_lack_memory(void)
{
    coir_options o = scarce_options(1);
    coir_counter c[2];
    struct waiter w[2];
    coir_runtime *rt;

    CHECK_EQ(coir_deadlock_check(NULL, NULL), COIR_EINVAL);
    run_on(1, check_on_fiber, NULL);
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    make_ring(rt, c, w, 2);
    until_parked(rt, 2);
    run_set(&scarce.refuse);
    CHECK_EQ(coir_deadlock_check(rt, NULL), COIR_ENOMEM);
    __atomic_store_n(&scarce.refuse, 0, __ATOMIC_RELEASE);
    CHECK_EQ(coir_deadlock_check(rt, NULL), COIR_EDEADLK);
    break_ring(c, 2);
    run_close(rt);
}

CHECK_MAIN(CASE(jobs_that_wait_for_each_other_are_found), CASE(a_part_is_found_while_the_rest_runs),
           CASE(units_by_hand_do_not_hide_a_cycle), CASE(work_after_a_job_is_part_of_the_circle),
           CASE(a_wait_for_one_of_several_needs_all_of_them_stuck),
           CASE(a_deadline_in_the_circle_ends_it), CASE(work_that_goes_on_is_never_called_stuck),
           CASE(a_circle_of_waits_that_follow_each_other_is_none),
           CASE(a_wait_that_no_job_can_end_is_told_if_nothing_runs), CASE(a_timer_may_signal),
           CASE(a_check_may_be_made_anywhere_and_may_lack_memory))
