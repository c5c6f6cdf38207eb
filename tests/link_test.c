/* SPDX-License-Identifier: MIT */
/*
 * link_test.c - core/link.c: who dies together does, who is told is told, once, and nobody else notices.
 */
#include "domains.h"

struct pair {
    coir_counter a, b, told;
    struct hold hold;
    struct blocked blocked;
};

static void waits_then_panics(void *arg)
{
    job_hold(arg);
    coir_panic("planned");
}

static void one_that_breaks_takes_the_other_along(void)
{
    coir_runtime *rt = run_open(2);
    struct pair p = {0};
    coir_link link;

    CHECK_EQ(coir_submit(rt, &p.a, waits_then_panics, &p.hold), COIR_OK);
    CHECK_EQ(coir_submit(rt, &p.b, job_block, &p.blocked), COIR_OK);
    CHECK_EQ(coir_link_counters(&link, &p.a, &p.b), COIR_OK);
    run_until(&p.blocked.started);
    run_set(&p.hold.go);
    CHECK_EQ(coir_wait(&p.b), COIR_DONE);
    CHECK_EQ(p.blocked.status, COIR_ECANCELED);
    CHECK_EQ(coir_wait(&p.a), COIR_PANICKED);
    CHECK_EQ(coir_unlink(&link), COIR_OK);
    run_close(rt);
}

static void one_that_ends_well_does_not(void)
{
    coir_runtime *rt = run_open(2);
    struct pair p = {0};
    coir_link link;
    int n = 0;

    CHECK_EQ(coir_submit(rt, &p.a, job_count, &n), COIR_OK);
    CHECK_EQ(coir_submit(rt, &p.b, job_hold, &p.hold), COIR_OK);
    CHECK_EQ(coir_link_counters(&link, &p.a, &p.b), COIR_OK);
    CHECK_EQ(coir_wait(&p.a), COIR_DONE);
    CHECK_EQ(coir_unlink(&link), COIR_OK);
    CHECK_EQ(coir_submit(rt, &p.b, job_count, &n), COIR_OK); /* a canceled counter would skip it */
    run_set(&p.hold.go);
    CHECK_EQ(coir_wait(&p.b), COIR_DONE);
    CHECK_EQ(n, 2);
    run_close(rt);
}

static void a_link_to_one_that_has_broken_already_cancels_at_once(void)
{
    coir_runtime *rt = run_open(2);
    struct pair p = {0};
    coir_link link;

    CHECK_EQ(coir_submit(rt, &p.a, job_panic, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&p.a), COIR_PANICKED);
    CHECK_EQ(coir_submit(rt, &p.b, job_block, &p.blocked), COIR_OK);
    CHECK_EQ(coir_link_counters(&link, &p.a, &p.b), COIR_OK);
    CHECK(coir_wait(&p.b) >= 0); /* it never ends by itself */
    CHECK_EQ(coir_unlink(&link), COIR_OK);
    run_close(rt);
}

static void an_ended_link_cancels_nobody(void)
{
    coir_runtime *rt = run_open(2);
    struct pair p = {0};
    coir_link link;

    CHECK_EQ(coir_submit(rt, &p.a, waits_then_panics, &p.hold), COIR_OK);
    coir_counter_add(&p.b, 1);
    CHECK_EQ(coir_link_counters(&link, &p.a, &p.b), COIR_OK);
    CHECK_EQ(coir_unlink(&link), COIR_OK);
    run_set(&p.hold.go);
    CHECK_EQ(coir_wait(&p.a), COIR_PANICKED);
    CHECK_EQ(coir_submit(rt, &p.b, job_hold, &p.hold), COIR_OK);
    coir_counter_done(&p.b, COIR_DONE);
    CHECK_EQ(coir_wait(&p.b), COIR_DONE);
    run_close(rt);
}

static void a_monitor_tells_the_outcome_and_the_failure(void)
{
    coir_runtime *rt = run_open(2);
    struct pair p = {0};
    coir_monitor m[2];
    coir_failure f;

    CHECK_EQ(coir_submit(rt, &p.a, waits_then_panics, &p.hold), COIR_OK);
    CHECK_EQ(coir_submit(rt, &p.b, job_hold, &p.hold), COIR_OK);
    CHECK_EQ(coir_monitor_counter(&m[0], &p.a, &p.told), COIR_OK);
    CHECK_EQ(coir_monitor_counter(&m[1], &p.b, &p.told), COIR_OK);
    CHECK_EQ(coir_wait_until(&p.told, coir_now() + COIR_MS), COIR_ETIMEDOUT);
    run_set(&p.hold.go);
    CHECK_EQ(coir_wait(&p.told), COIR_PANICKED);
    CHECK_EQ(coir_counter_failure(&p.told, &f), COIR_OK);
    CHECK_STR(f.message, "planned");
    CHECK_EQ(coir_monitor_end(&m[0]), COIR_ENOENT);
    CHECK_EQ(coir_wait(&p.a), COIR_PANICKED);
    CHECK_EQ(coir_wait(&p.b), COIR_DONE);
    /* One that has settled already tells at once. */
    coir_counter_init(&p.told);
    CHECK_EQ(coir_monitor_counter(&m[0], &p.a, &p.told), COIR_OK);
    CHECK_EQ(coir_wait(&p.told), COIR_PANICKED);
    run_close(rt);
}

static void an_ended_monitor_has_told_nothing_bad(void)
{
    coir_counter a = COIR_COUNTER_INIT, told = COIR_COUNTER_INIT;
    coir_monitor m;

    coir_counter_add(&a, 1);
    CHECK_EQ(coir_monitor_counter(&m, &a, &told), COIR_OK);
    CHECK_EQ(coir_monitor_end(&m), COIR_OK);
    CHECK_EQ(coir_wait(&told), COIR_DONE);
    CHECK_EQ(coir_monitor_end(&m), COIR_ENOENT);
    coir_counter_done(&a, COIR_PANICKED);
    CHECK_EQ(coir_wait(&told), COIR_DONE);
}

/* Ends of both sides, the unlink and a waiter that frees race; a sanitizer sees what is touched too late. */
static void ends_and_unlinks_race(void)
{
    coir_runtime *rt = run_open(2);

    for (int i = 0; i < MANY(4000); i++) {
        struct pair *p = malloc(sizeof *p);
        coir_monitor m;
        coir_link link;
        int n = 0;

        memset(p, 0, sizeof *p);
        CHECK_EQ(coir_submit(rt, &p->a, i % 3 ? job_count : job_panic, &n), COIR_OK);
        CHECK_EQ(coir_submit(rt, &p->b, i % 2 ? job_count : job_panic, &n), COIR_OK);
        CHECK_EQ(coir_monitor_counter(&m, &p->a, &p->told), COIR_OK);
        CHECK_EQ(coir_link_counters(&link, &p->a, &p->b), COIR_OK);
        if (i % 5 == 0) {
            int status = coir_monitor_end(&m);

            CHECK(status == COIR_OK || status == COIR_ENOENT);
        }
        CHECK(coir_wait(&p->told) >= 0);
        if (i % 4 == 0)
            CHECK(coir_wait(&p->a) >= 0);
        CHECK_EQ(coir_unlink(&link), COIR_OK);
        CHECK(coir_wait(&p->a) >= 0);
        CHECK(coir_wait(&p->b) >= 0);
        free(p);
    }
    run_close(rt);
}

static void bad_arguments_are_refused(void)
{
    coir_counter a = COIR_COUNTER_INIT, b = COIR_COUNTER_INIT;
    coir_monitor m = {{0}};
    coir_link l = {{0}};

    /* What never was one is ended for nothing. */
    CHECK_EQ(coir_unlink(&l), COIR_OK);
    CHECK_EQ(coir_monitor_end(&m), COIR_ENOENT);
    memset(&l, 0x55, sizeof l);
    memset(&m, 0x55, sizeof m);
    CHECK_EQ(coir_link_counters(NULL, &a, &b), COIR_EINVAL);
    CHECK_EQ(coir_link_counters(&l, NULL, &b), COIR_EINVAL);
    CHECK_EQ(coir_link_counters(&l, &a, NULL), COIR_EINVAL);
    CHECK_EQ(coir_link_counters(&l, &a, &a), COIR_EINVAL);
    CHECK_EQ(coir_unlink(&l), COIR_OK);
    CHECK_EQ(coir_unlink(NULL), COIR_EINVAL);
    CHECK_EQ(coir_monitor_counter(NULL, &a, &b), COIR_EINVAL);
    CHECK_EQ(coir_monitor_counter(&m, NULL, &b), COIR_EINVAL);
    CHECK_EQ(coir_monitor_counter(&m, &a, NULL), COIR_EINVAL);
    CHECK_EQ(coir_monitor_counter(&m, &a, &a), COIR_EINVAL);
    CHECK_EQ(coir_monitor_end(&m), COIR_ENOENT);
    CHECK_EQ(coir_monitor_end(NULL), COIR_EINVAL);
}

CHECK_MAIN(CASE(one_that_breaks_takes_the_other_along), CASE(one_that_ends_well_does_not),
           CASE(a_link_to_one_that_has_broken_already_cancels_at_once), CASE(an_ended_link_cancels_nobody),
           CASE(a_monitor_tells_the_outcome_and_the_failure), CASE(an_ended_monitor_has_told_nothing_bad),
           CASE(ends_and_unlinks_race), CASE(bad_arguments_are_refused))
