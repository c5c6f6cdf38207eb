/* SPDX-License-Identifier: MIT */
/*
 * pool_test.c - core/pool*.c, core/retry.c: attempts, backoff, dead letters, full pools and
 * quarantine. The breaker: pool_breaker_test.c; what handlers do: pool_handler_test.c; closing and canceling:
 * pool_end_test.c.
 */
#include "pools.h"

/* -------------------------------------------------------------------------------- attempts */

static void each_message_is_handled_once(void)
{
    enum { N = 500 };
    static struct job_message job[N];
    coir_counter all = COIR_COUNTER_INIT;
    coir_pool_options o = pool_options("each");
    coir_runtime *rt = run_open(2);
    coir_pool *p;

    memset(job, 0, sizeof job);
    o.workers = 3;
    o.queue_max = N;
    p = pool_open(rt, &o);
    for (int i = 0; i < N; i++) {
        job[i].m.counter = &all;
        CHECK_EQ(coir_pool_submit(p, &job[i].m), COIR_OK);
    }
    CHECK_EQ(coir_wait(&all), COIR_DONE);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(job[i].handled, 1);
        CHECK_EQ(job[i].ended, 1);
        CHECK_EQ(job[i].dead, 0);
        CHECK_EQ(job[i].m.end, COIR_MESSAGE_DONE);
    }
    CHECK_EQ(pool_close(p).done, N);
    run_close(rt);
}

static void a_message_has_as_many_attempts_as_it_needs_up_to_the_limit(void)
{
    coir_pool_options o = pool_options("count");
    coir_runtime *rt = run_open(2);
    coir_pool_stats s;
    coir_pool *p;

    o.attempts_max = 4;
    p = pool_open(rt, &o);
    for (int failing = 0; failing <= 6; failing++)
        for (int panics = 0; panics <= 1; panics++) {
            struct job_message job = {.panics = panics ? failing : 0, .fails = panics ? 0 : failing};
            int worst = failing < 4 ? COIR_DONE : panics ? COIR_PANICKED : COIR_FAILED;

            CHECK_EQ(pool_run(p, &job), worst);
            CHECK_EQ(job.handled, failing < 4 ? failing + 1 : 4);
            CHECK_EQ(job.m.attempts, job.handled);
            CHECK_EQ(job.dead, failing >= 4);
            CHECK_EQ(job.ended, 1);
            CHECK_EQ(job.m.end, failing < 4 ? COIR_MESSAGE_DONE : COIR_MESSAGE_DEAD);
            CHECK_EQ(job.m.failure.id != 0, failing > 0);
            if (failing)
                CHECK_STR(job.m.failure.message, panics ? "planned panic" : "planned failure");
        }
    s = pool_close(p);
    CHECK_EQ(s.submitted, 14);
    CHECK_EQ(s.attempts, 2 * (1 + 2 + 3 + 4 + 4 + 4 + 4));
    CHECK_EQ(s.retries, s.attempts - 14);
    CHECK_EQ(s.dead, 6);
    run_close(rt);
}

static void a_final_failure_is_not_tried_again_and_old_attempts_count(void)
{
    struct job_message hopeless = {.fails = 9, .final = 1}, old = {.fails = 9}, spent = {.fails = 0};
    coir_pool_options o = pool_options("final");
    coir_runtime *rt = run_open(1);
    coir_pool *p;

    o.attempts_max = 5;
    p = pool_open(rt, &o);
    CHECK_EQ(pool_run(p, &hopeless), COIR_FAILED);
    CHECK_EQ(hopeless.handled, 1);
    old.m.attempts = 3; /* it comes back from elsewhere */
    CHECK_EQ(pool_run(p, &old), COIR_FAILED);
    CHECK_EQ(old.handled, 2);
    spent.m.attempts = 5;
    CHECK_EQ(pool_run(p, &spent), COIR_FAILED);
    CHECK_EQ(spent.handled, 0);
    CHECK_EQ(spent.dead, 1);
    CHECK_EQ(pool_close(p).dead, 3);
    run_close(rt);
}

static void retries_wait_for_half_their_backoff_at_least(void)
{
    struct job_message job = {.fails = 3};
    coir_pool_options o = pool_options("backoff");
    coir_runtime *rt = run_open(1);
    int64_t begin = coir_now();
    coir_pool *p;

    o.attempts_max = 4;
    o.backoff_ns = 4 * COIR_MS;
    o.backoff_max_ns = 10 * COIR_MS;
    p = pool_open(rt, &o);
    CHECK_EQ(pool_run(p, &job), COIR_DONE);
    CHECK(coir_now() - begin >= (2 + 4 + 5) * COIR_MS);
    pool_close(p);
    run_close(rt);
}

static void the_backoff_doubles_is_capped_and_jitters(void)
{
    struct retry r = {.backoff_ns = 1000, .backoff_max_ns = 5000};
    int different = 0;

    for (unsigned n = 1; n < 80; n++) {
        int64_t range = n == 1 ? 1000 : n == 2 ? 2000 : n == 3 ? 4000 : 5000, before = 0;

        for (int i = 0; i < 100; i++) {
            int64_t pause = retry_backoff(&r, n);

            CHECK(pause >= range / 2 && pause <= range);
            different += before && pause != before;
            before = pause;
        }
    }
    CHECK(different > 7000);
    r = (struct retry){.backoff_ns = INT64_MAX, .backoff_max_ns = INT64_MAX};
    CHECK(retry_backoff(&r, 70) >= INT64_MAX / 2);
}

static void a_message_too_late_expires(void)
{
    struct job_message late = {.m.deadline = 1}, between = {.fails = 9};
    coir_pool_options o = pool_options("late");
    coir_runtime *rt = run_open(1);
    coir_failure f;
    coir_pool *p;

    o.attempts_max = 5;
    o.backoff_ns = o.backoff_max_ns = 3600 * COIR_SEC;
    o.deadline_ns = 600 * COIR_SEC; /* the retry would come after it: no need to wait */
    p = pool_open(rt, &o);
    CHECK_EQ(pool_run_failure(p, &late, &f), COIR_EXPIRED);
    CHECK_EQ(f.kind, COIR_KIND_EXPIRED);
    CHECK_EQ(late.handled, 0);
    CHECK_EQ(pool_run(p, &between), COIR_EXPIRED);
    CHECK_EQ(between.handled, 1);
    CHECK_EQ(between.dead, 0);
    CHECK_EQ(between.m.end, COIR_MESSAGE_EXPIRED);
    CHECK_EQ(pool_close(p).expired, 2);
    run_close(rt);
}

/* ------------------------------------------------------------------------------------ full */

static void a_full_pool_refuses(void)
{
    struct job_message held = {.m = {0}}, next = {.m = {0}}, last = {.m = {0}};
    coir_pool_options o = pool_options("refuse");
    coir_runtime *rt = run_open(1);
    coir_counter c = COIR_COUNTER_INIT;
    coir_pool *p;

    o.queue_max = 2;
    p = pool_open(rt, &o);
    pool_hold_one(p, &held);
    next.m.counter = &c;
    CHECK_EQ(coir_pool_submit(p, &next.m), COIR_OK);
    CHECK_EQ(coir_pool_submit(p, &next.m), COIR_EBUSY);
    CHECK_EQ(coir_pool_submit(p, &held.m), COIR_EBUSY);
    CHECK_EQ(coir_pool_submit(p, &last.m), COIR_EAGAIN);
    CHECK_EQ(last.m.end, COIR_MESSAGE_NEW);
    run_set(&held.go);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(pool_run(p, &last), COIR_DONE);
    CHECK_EQ(pool_close(p).refused, 1);
    run_close(rt);
}

struct submitting {
    coir_pool *pool;
    struct job_message job;
    int64_t deadline;
    int started, status;
};

static void submit_one(void *arg)
{
    struct submitting *s = arg;

    run_set(&s->started);
    __atomic_store_n(&s->status, coir_pool_submit_until(s->pool, &s->job.m, s->deadline), __ATOMIC_RELEASE);
}

static void a_full_pool_lets_wait_in_order_until_the_deadline(void)
{
    static struct submitting s[3];
    struct job_message held = {.m = {0}}, late = {.m = {0}};
    coir_pool_options o = pool_options("wait");
    coir_runtime *rt = run_open(2);
    coir_counter c = COIR_COUNTER_INIT;
    coir_pool *p;

    memset(s, 0, sizeof s);
    o.queue_max = 1;
    o.full = COIR_FULL_WAIT;
    p = pool_open(rt, &o);
    pool_hold_one(p, &held);
    CHECK_EQ(coir_pool_submit_until(p, &late.m, coir_now() + COIR_MS), COIR_ETIMEDOUT);
    for (int i = 0; i < 3; i++) {
        s[i].pool = p;
        s[i].deadline = i == 1 ? coir_now() + COIR_MS : COIR_NEVER;
        CHECK_EQ(coir_submit(rt, &c, submit_one, &s[i]), COIR_OK);
    }
    run_until(&s[0].started);
    while (!__atomic_load_n(&s[1].status, __ATOMIC_ACQUIRE))
        sched_yield();
    CHECK_EQ(s[1].status, COIR_ETIMEDOUT);
    run_set(&held.go);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK(s[0].status == COIR_OK && s[2].status == COIR_OK);
    CHECK_EQ(pool_close(p).done, 3);
    CHECK(s[0].job.handled == 1 && s[1].job.handled == 0 && s[2].job.handled == 1);
    run_close(rt);
}

static void who_waits_for_a_place_can_be_canceled(void)
{
    struct job_message held = {.m = {0}};
    struct submitting s = {.deadline = COIR_NEVER};
    coir_pool_options o = pool_options("cancel");
    coir_counter c = COIR_COUNTER_INIT;
    coir_runtime *rt = run_open(2);
    coir_pool *p;

    o.queue_max = 1;
    o.full = COIR_FULL_WAIT;
    s.pool = p = pool_open(rt, &o);
    pool_hold_one(p, &held);
    CHECK_EQ(coir_submit(rt, &c, submit_one, &s), COIR_OK);
    run_until(&s.started);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK(s.status == COIR_ECANCELED && s.job.m.end == COIR_MESSAGE_NEW);
    run_set(&held.go);
    CHECK_EQ(pool_close(p).submitted, 1);
    CHECK_EQ(s.job.handled, 0);
    run_close(rt);
}

static void a_bounded_wait_ends_with_eagain(void)
{
    struct job_message held = {.m = {0}}, late = {.m = {0}};
    coir_pool_options o = pool_options("bounded");
    coir_runtime *rt = run_open(1);
    coir_pool *p;

    o.queue_max = 1;
    o.full = COIR_FULL_WAIT;
    o.full_wait_ns = COIR_MS;
    p = pool_open(rt, &o);
    pool_hold_one(p, &held);
    CHECK_EQ(coir_pool_submit(p, &late.m), COIR_EAGAIN);
    run_set(&held.go);
    CHECK_EQ(pool_close(p).refused, 1);
    run_close(rt);
}

static void a_full_pool_makes_the_caller_work(void)
{
    struct job_message held = {.m = {0}}, mine = {.fails = 2}, bad = {.panics = 9};
    struct submitting s = {.deadline = COIR_NEVER};
    coir_counter c = COIR_COUNTER_INIT, d = COIR_COUNTER_INIT;
    coir_pool_options o = pool_options("caller");
    coir_runtime *rt = run_open(2);
    coir_pool *p;

    o.queue_max = 1;
    o.attempts_max = 3;
    o.full = COIR_FULL_RUN;
    p = pool_open(rt, &o);
    pool_hold_one(p, &held);
    mine.m.counter = bad.m.counter = &c;
    CHECK_EQ(coir_pool_submit(p, &mine.m), COIR_OK); /* the first attempt: here */
    CHECK_EQ(mine.handled, 1);
    CHECK_EQ(mine.on_plain_thread, 1);
    CHECK_EQ(coir_pool_submit(p, &bad.m), COIR_OK);
    CHECK_EQ(bad.handled, 1);
    s.pool = p;
    CHECK_EQ(coir_submit(rt, &d, submit_one, &s), COIR_OK);
    CHECK_EQ(coir_wait(&d), COIR_DONE);
    CHECK_EQ(s.status, COIR_OK);
    CHECK_EQ(s.job.handled, 1); /* on that fiber: the worker is busy */
    run_set(&held.go);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    CHECK_EQ(mine.handled, 3);
    CHECK_EQ(bad.handled, 3);
    CHECK_EQ(bad.dead, 1);
    CHECK_EQ(pool_close(p).done, 3);
    run_close(rt);
}

/* ------------------------------------------------------------------------------ quarantine */

static void the_same_poison_is_quarantined_and_others_are_not(void)
{
    coir_pool_options o = pool_options("poison");
    coir_runtime *rt = run_open(2);
    coir_quarantine *q = quarantine_of(rt, 5, 0);
    struct job_message good = {.m.key = 8};
    coir_quarantined e;
    uint64_t cursor = 0;
    coir_failure f;
    coir_pool *p;

    o.attempts_max = 2;
    o.quarantine = q;
    o.type = "mail";
    p = pool_open(rt, &o);
    CHECK_EQ(coir_quarantine_close(q), COIR_EBUSY);
    for (int i = 0; i < 3; i++) { /* 2, 2, and the fifth panic ends the third with attempts left */
        struct job_message bad = {.m.key = 7, .panics = 99};

        CHECK_EQ(pool_run(p, &bad), COIR_PANICKED);
        CHECK_EQ(bad.handled, i < 2 ? 2 : 1);
        CHECK_EQ(bad.m.end, COIR_MESSAGE_DEAD);
        CHECK_EQ(bad.dead, 1);
    }
    for (int i = 0; i < 3; i++) {
        struct job_message bad = {.m.key = 7, .panics = 99};

        CHECK_EQ(pool_run_failure(p, &bad, &f), COIR_CANCELED);
        CHECK_EQ(f.kind, COIR_KIND_SKIPPED);
        CHECK_EQ(bad.handled, 0);
        CHECK_EQ(bad.dead, 1);
        CHECK_EQ(bad.m.end, COIR_MESSAGE_QUARANTINED);
    }
    CHECK_EQ(pool_run(p, &good), COIR_DONE);
    CHECK_EQ(coir_quarantine_next(q, &cursor, &e), COIR_OK);
    CHECK(e.key == 7 && e.type == coir_quarantine_type("mail") && e.strikes == 5 && e.quarantined);
    CHECK_EQ(e.kind, COIR_KIND_PANIC);
    CHECK(e.line > 0);
    CHECK_EQ(coir_quarantine_next(q, &cursor, &e), COIR_ENOENT);
    CHECK_EQ(pool_close(p).quarantined, 3);
    CHECK_EQ(coir_quarantine_close(q), COIR_OK);
    run_close(rt);
}

/* Of names that differ where they are cut, too. */
static void pools_with_long_names_do_not_share_their_poison(void)
{
    coir_pool_options o = pool_options("accounting/settlement/europe/charge");
    coir_runtime *rt = run_open(1);
    struct job_message bad = {.m.key = 7, .panics = 1}, good = {.m.key = 7};
    coir_pool *p;

    o.attempts_max = 1;
    o.quarantine = quarantine_of(rt, 1, 0);
    p = pool_open(rt, &o);
    CHECK_EQ(pool_run(p, &bad), COIR_PANICKED);
    pool_close(p);
    o.name = "accounting/settlement/europe/refund";
    p = pool_open(rt, &o);
    CHECK_EQ(pool_run(p, &good), COIR_DONE);
    pool_close(p);
    CHECK_EQ(coir_quarantine_release(o.quarantine, "accounting/settlement/europe/charge", 7), COIR_OK);
    CHECK_EQ(coir_quarantine_close(o.quarantine), COIR_OK);
    run_close(rt);
}

static void a_probe_after_the_expiry_readmits(void)
{
    struct job_message bad = {.m.key = 7, .panics = 1}, again = {.m.key = 7};
    coir_pool_options o = pool_options("probe");
    coir_runtime *rt = run_open(1);
    coir_quarantine *q = quarantine_of(rt, 1, COIR_MS);
    int outcome;
    coir_pool *p;

    o.quarantine = q;
    p = pool_open(rt, &o);
    CHECK_EQ(pool_run(p, &bad), COIR_PANICKED);
    do
        outcome = pool_run(p, &again);
    while (outcome == COIR_CANCELED); /* until the expiry has passed */
    CHECK_EQ(outcome, COIR_DONE);
    CHECK_EQ(again.handled, 1);
    again.m.attempts = 0;
    CHECK_EQ(pool_run(p, &again), COIR_DONE);
    pool_close(p);
    CHECK_EQ(coir_quarantine_close(q), COIR_OK);
    run_close(rt);
}

CHECK_MAIN(CASE(each_message_is_handled_once),
           CASE(a_message_has_as_many_attempts_as_it_needs_up_to_the_limit),
           CASE(a_final_failure_is_not_tried_again_and_old_attempts_count),
           CASE(retries_wait_for_half_their_backoff_at_least),
           CASE(the_backoff_doubles_is_capped_and_jitters), CASE(a_message_too_late_expires),
           CASE(a_full_pool_refuses), CASE(a_full_pool_lets_wait_in_order_until_the_deadline),
           CASE(who_waits_for_a_place_can_be_canceled), CASE(a_bounded_wait_ends_with_eagain), CASE(a_full_pool_makes_the_caller_work),
           CASE(the_same_poison_is_quarantined_and_others_are_not),
           CASE(pools_with_long_names_do_not_share_their_poison),
           CASE(a_probe_after_the_expiry_readmits))
