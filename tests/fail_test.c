/* SPDX-License-Identifier: MIT */
/*
 * fail_test.c - coir_fail: the outcome FAILED with its code, through jobs, tries, handlers and
 * cleanups, and what outranks it.
 */
#include "run.h"

#include <errno.h>
#include <string.h>

#define CLEANUP(f) __attribute__((cleanup(f), unused))

static void on_all(coir_fn *fn)
{
    run_on(1, fn, NULL);
    run_on(2, fn, NULL);
    CHECK_EQ(coir_try(fn, NULL, NULL), COIR_DONE);
}

static int failed_at;

static int fail_deep(const char *what)
{
    failed_at = __LINE__ + 1;
    return coir_fail(-EIO, "cannot read %s", what);
}

static void fail_plain(void *unused)
{
    (void)unused;
    CHECK_EQ(fail_deep("it"), -EIO); /* it comes back, so that the caller can pass it on */
}

/* --------------------------------------------------------------------------------- the outcome */

static void check_record(const coir_failure *f)
{
    CHECK_EQ(f->code, -EIO);
    CHECK_EQ(f->kind, COIR_KIND_FAIL);
    CHECK_EQ(f->outcome, COIR_FAILED);
    CHECK_STR(f->message, "cannot read it");
    CHECK_STR(f->file, __FILE__);
    CHECK_EQ(f->line, failed_at);
    CHECK(f->id != 0);
}

static void wait_for_failed(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_failure f;

    (void)unused;
    CHECK_EQ(coir_spawn(&c, fail_plain, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_FAILED);
    CHECK_EQ(coir_counter_failure(&c, &f), COIR_OK);
    check_record(&f);
    CHECK_EQ(f.location, COIR_AT_JOB);
}

static void a_job_that_fails_ends_failed_with_its_code(void)
{
    run_on(1, wait_for_failed, NULL);
    run_on(2, wait_for_failed, NULL);
}

static void try_failing(void *unused)
{
    coir_failure f = {.id = 0};

    (void)unused;
    CHECK_EQ(coir_try(fail_plain, NULL, &f), COIR_FAILED);
    check_record(&f);
    CHECK_EQ(coir_try(fail_plain, NULL, NULL), COIR_FAILED);
}

/* on_all's own boundary must end DONE: what failed inside has been dealt with. */
static void a_try_keeps_the_failure_to_itself(void)
{
    on_all(try_failing);
    try_failing(NULL);
}

static void fail_thrice(void *unused)
{
    (void)unused;
    fail_plain(NULL);
    CHECK_EQ(coir_fail(1, "second"), 1);
    CHECK_EQ(coir_fail(INT32_MIN, "third"), INT32_MIN);
}

static void try_thrice(void *unused)
{
    coir_failure f;

    (void)unused;
    CHECK_EQ(coir_try(fail_thrice, NULL, &f), COIR_FAILED);
    check_record(&f);
}

static void the_first_of_a_boundary_counts(void)
{
    on_all(try_thrice);
}

static void fail_with_zero(void *unused)
{
    (void)unused;
    coir_fail(0, "nothing");
    CHECK_NEVER("misuse panics");
}

static void misuse(void *unused)
{
    coir_failure f;

    (void)unused;
    CHECK_EQ(coir_try(fail_with_zero, NULL, &f), COIR_PANICKED);
    CHECK(strstr(f.message, "coir_fail: the code is 0") != NULL);
}

static void bad_use_is_told(void)
{
    CHECK_EQ(coir_fail(5, "outside"), COIR_EPERM);
    on_all(misuse);
}

static void run_returns_failed(void)
{
    coir_options o = run_options(1);

    CHECK_EQ(coir_run(&o, fail_plain, NULL), COIR_FAILED);
}

/* -------------------------------------------------------------------------- what outranks what */

static const int all_outcomes[] = {COIR_DONE, COIR_FAILED, COIR_EXPIRED, COIR_CANCELED, COIR_PANICKED};

static void end_as(void *outcome)
{
    switch (*(const int *)outcome) {
    case COIR_DONE: break;
    case COIR_FAILED: fail_plain(NULL); break;
    default: coir_panic("ends so");
    }
}

/* Ends as the first one does, and its counter is given the second by hand. */
static int worst_of(int a, int b)
{
    coir_counter c = COIR_COUNTER_INIT;

    coir_counter_add(&c, 1);
    CHECK_EQ(coir_spawn(&c, end_as, &a), COIR_OK);
    coir_counter_done(&c, b);
    return coir_wait(&c);
}

static void compare_outcomes(void *unused)
{
    static const int spawned[] = {COIR_DONE, COIR_FAILED, COIR_PANICKED};

    (void)unused;
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 5; k++)
            CHECK_EQ(worst_of(spawned[i], all_outcomes[k]),
                     spawned[i] > all_outcomes[k] ? spawned[i] : all_outcomes[k]);
}

static void a_counter_keeps_the_worst(void)
{
    run_on(1, compare_outcomes, NULL);
    run_on(2, compare_outcomes, NULL);
}

/* Waits for what it is given, passes the outcome on as a failure of its own. */
static void fail_if_child_fails(void *depth)
{
    coir_counter c = COIR_COUNTER_INIT;
    int below = *(int *)depth - 1, outcome;

    if (below < 0) {
        fail_plain(NULL);
        return;
    }
    CHECK_EQ(coir_spawn(&c, fail_if_child_fails, &below), COIR_OK);
    outcome = coir_wait(&c);
    if (outcome != COIR_DONE)
        coir_fail(outcome, "level %d", below + 1);
}

static void nest_failures(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_failure f;
    int depth = 20;

    (void)unused;
    CHECK_EQ(coir_spawn(&c, fail_if_child_fails, &depth), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_FAILED);
    CHECK_EQ(coir_counter_failure(&c, &f), COIR_OK);
    CHECK_EQ(f.code, COIR_FAILED);
    CHECK_STR(f.message, "level 20");
}

static void failures_pass_through_nested_counters(void)
{
    run_on(1, nest_failures, NULL);
    run_on(2, nest_failures, NULL);
}

static void fail_then_panic(void *unused)
{
    fail_plain(unused);
    coir_panic("after failing");
}

static void fail_in_cleanup(int *unused)
{
    (void)unused;
    CHECK_EQ(coir_fail(9, "while unwinding"), 9);
}

static void panic_then_fail(void *unused)
{
    int n CLEANUP(fail_in_cleanup) = 0;

    (void)unused;
    coir_panic("before failing");
}

static void fail_in_cleanup_of_return(void *unused)
{
    int n CLEANUP(fail_in_cleanup) = 0;

    (void)unused;
}

static void mix_with_panics(void *unused)
{
    coir_failure f;

    (void)unused;
    CHECK_EQ(coir_try(fail_then_panic, NULL, &f), COIR_PANICKED);
    CHECK_STR(f.message, "after failing");
    CHECK_EQ(f.code, 0);
    CHECK_EQ(coir_try(panic_then_fail, NULL, &f), COIR_PANICKED);
    CHECK_STR(f.message, "before failing");
    CHECK_EQ(coir_try(fail_in_cleanup_of_return, NULL, &f), COIR_FAILED);
    CHECK_EQ(f.code, 9);
}

static void a_panic_outranks_it_before_and_after(void)
{
    on_all(mix_with_panics);
}

/* ------------------------------------------------------------------------- settling all the same */

/* Until it is canceled; or skipped, if it has not started by then. */
static void stay(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_sleep_until(COIR_NEVER), COIR_ECANCELED);
}

static void fail_owing(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_spawn(&c, stay, NULL), COIR_OK);
    fail_plain(unused);
}

static void fail_in_handler(void *unused)
{
    fail_plain(unused);
}

static void count(void *n)
{
    run_count(n);
}

static void defer_failing(void *n)
{
    CHECK_EQ(coir_defer(count, n), COIR_OK);
    CHECK_EQ(coir_defer(fail_in_handler, NULL), COIR_OK);
    CHECK_EQ(coir_defer(count, n), COIR_OK);
}

static void raise_in_handler(void *unused)
{
    (void)unused;
    coir_panic("in a handler");
}

static void fail_and_defer_raising(void *unused)
{
    CHECK_EQ(coir_defer(raise_in_handler, NULL), COIR_OK);
    fail_plain(unused);
}

static void settle(void *unused)
{
    coir_failure f;
    int n = 0;

    (void)unused;
    CHECK_EQ(coir_try(defer_failing, &n, &f), COIR_FAILED);
    CHECK_EQ(n, 2);
    CHECK_EQ(f.location, COIR_AT_DEFER);
    CHECK_EQ(coir_try(fail_and_defer_raising, NULL, &f), COIR_PANICKED);
    CHECK_STR(f.message, "in a handler"); /* the worst */
    if (coir_current()) {
        CHECK_EQ(coir_try(fail_owing, NULL, &f), COIR_PANICKED);
        CHECK_EQ(f.kind, COIR_KIND_OWED);
    }
}

static void handlers_and_children_are_settled_as_on_any_return(void)
{
    on_all(settle);
}

static void fail_often(void *unused)
{
    (void)unused;
    for (int i = 0; i < 100; i++)
        coir_fail(i + 1, "again");
    coir_yield();
}

static void count_outcomes(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_stats s;

    (void)unused;
    CHECK_EQ(coir_spawn_many(&c, fail_often, NULL, 0, 50), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_FAILED);
    CHECK_EQ(coir_stats_read(coir_current(), &s), COIR_OK);
    CHECK_EQ(s.ended[COIR_FAILED], 50);
    CHECK_EQ(s.ended[COIR_PANICKED], 0);
    CHECK_EQ(s.panics, 0);
    CHECK_EQ(s.failures_of[COIR_KIND_FAIL], 5000);
    CHECK_EQ(s.failures_at[COIR_AT_JOB], 5000);
    CHECK_EQ(s.panics_at[COIR_AT_JOB], 0);
}

static void failed_jobs_are_counted_as_such(void)
{
    run_on(1, count_outcomes, NULL);
    run_on(2, count_outcomes, NULL);
}

#define LEVELS 6 /* jobs on one stack, each in place of the wait of the one before */

/* The job of level n fails with n, or panics at the last, and each waits for the next when it has failed. */
static void fail_level(void *level)
{
    intptr_t n = (intptr_t)level;
    coir_counter c = COIR_COUNTER_LOCAL;
    coir_failure f;

    if (n == LEVELS)
        coir_panic("level %d", (int)n);
    if (n > 0)
        CHECK_EQ(coir_fail((int)n, "level %d", (int)n), (int)n);
    CHECK_EQ(coir_spawn(&c, fail_level, (void *)(n + 1)), COIR_OK);
    CHECK_EQ(coir_wait(&c), n + 1 < LEVELS ? COIR_FAILED : COIR_PANICKED);
    CHECK_EQ(coir_counter_failure(&c, &f), COIR_OK);
    CHECK_EQ(f.code, n + 1 < LEVELS ? (int)n + 1 : 0);
    CHECK_EQ(f.message[strlen("level ")], '1' + (char)n);
}

/* A second one at each level, which finds what the first has left. */
static void fail_levels_twice(void *unused)
{
    (void)unused;
    fail_level(0);
    fail_level(0);
}

static void each_job_of_a_stack_keeps_its_own_record(void)
{
    run_on(1, fail_levels_twice, NULL);
    run_on(2, fail_levels_twice, NULL);
}

static void offload_failing(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_offload(fail_plain, NULL), COIR_FAILED);
}

static void an_offloaded_call_may_fail(void)
{
    run_on(1, offload_failing, NULL);
}

CHECK_MAIN(CASE(a_job_that_fails_ends_failed_with_its_code),
           CASE(a_try_keeps_the_failure_to_itself), CASE(the_first_of_a_boundary_counts),
           CASE(bad_use_is_told), CASE(run_returns_failed), CASE(a_counter_keeps_the_worst),
           CASE(failures_pass_through_nested_counters), CASE(a_panic_outranks_it_before_and_after),
           CASE(handlers_and_children_are_settled_as_on_any_return),
           CASE(each_job_of_a_stack_keeps_its_own_record), CASE(failed_jobs_are_counted_as_such), CASE(an_offloaded_call_may_fail))
