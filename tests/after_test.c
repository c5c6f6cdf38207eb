/* SPDX-License-Identifier: MIT */
/*
 * after_test.c - coir_spawn_after: work starts after other work, not after a failure; while it is
 * pending it ends when it is canceled, when a panic owns it, and when the runtime closes.
 */
#include "run.h"

#include <pthread.h>

static int ran; /* jobs */

static void tick(void *unused)
{
    (void)unused;
    run_count(&ran);
}

/* What a job is spawned after: a unit by hand. */
static coir_counter gate;

static void shut_gate(void)
{
    coir_counter_init(&gate);
    coir_counter_add(&gate, 1);
}

/* ------------------------------------------------------------------------------- starts after */

static void spawn_pipeline(void *unused)
{
    coir_counter c[101] = {COIR_COUNTER_INIT};

    (void)unused;
    coir_counter_add(&c[0], 1);
    for (int i = 0; i < 100; i++)
        CHECK_EQ(coir_spawn_after(&c[i], &c[i + 1], tick, NULL), COIR_OK);
    coir_yield();
    CHECK_EQ(ran, 0);
    coir_counter_done(&c[0], COIR_DONE);
    CHECK_EQ(coir_wait(&c[100]), COIR_DONE);
    CHECK_EQ(ran, 100);
    for (int i = 1; i < 100; i++)
        CHECK_EQ(coir_wait(&c[i]), COIR_DONE);
}

static void a_job_runs_after_what_it_was_spawned_after(void)
{
    ran = 0;
    run_on(1, spawn_pipeline, NULL);
    ran = 0;
    run_on(2, spawn_pipeline, NULL);
}

/* It has ended without running. */
static void check_ended(coir_counter *done, enum coir_kind kind)
{
    coir_failure f;

    CHECK_EQ(coir_wait(done), COIR_CANCELED);
    CHECK_EQ(coir_counter_failure(done, &f), COIR_OK);
    CHECK_EQ(f.kind, kind);
    CHECK_EQ(f.outcome, COIR_CANCELED);
    CHECK_EQ(ran, 0);
}

static void spawn_after_failure(void *unused)
{
    coir_counter after = COIR_COUNTER_INIT, done = COIR_COUNTER_INIT, too_late = COIR_COUNTER_INIT;

    (void)unused;
    coir_counter_add(&after, 1);
    CHECK_EQ(coir_spawn_after(&after, &done, tick, NULL), COIR_OK);
    CHECK_EQ(coir_spawn_after(&after, NULL, tick, NULL), COIR_OK);
    CHECK_EQ(coir_wait_until(&done, 0), COIR_ETIMEDOUT);
    coir_counter_done(&after, COIR_FAILED);
    check_ended(&done, COIR_KIND_DEPENDENCY);
    CHECK_EQ(coir_spawn_after(&after, &too_late, tick, NULL), COIR_OK);
    check_ended(&too_late, COIR_KIND_DEPENDENCY);
    CHECK_EQ(coir_spawn_after(&after, &after, tick, NULL), COIR_EINVAL); /* it would wait for itself */
}

static void a_job_does_not_run_after_a_failure(void)
{
    ran = 0;
    run_on(1, spawn_after_failure, NULL);
    CHECK_EQ(ran, 0);
}

static void spawn_after_settled(void *unused)
{
    coir_counter after = COIR_COUNTER_INIT, done = COIR_COUNTER_INIT;

    (void)unused;
    CHECK_EQ(coir_spawn_after(&after, &done, tick, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&done), COIR_DONE);
    CHECK_EQ(ran, 1);
}

static void a_job_after_nothing_runs_at_once(void)
{
    ran = 0;
    run_on(1, spawn_after_settled, NULL);
}

/* A plain thread settles what the jobs wait for. */
static void *settle_gate(void *unused)
{
    coir_counter_done(&gate, COIR_DONE);
    return unused;
}

static void spawn_hundred_after(void *unused)
{
    coir_counter done = COIR_COUNTER_INIT;
    pthread_t thread;

    (void)unused;
    shut_gate();
    for (int i = 0; i < 100; i++)
        CHECK_EQ(coir_spawn_after(&gate, &done, tick, NULL), COIR_OK);
    CHECK_EQ(pthread_create(&thread, NULL, settle_gate, NULL), 0);
    CHECK_EQ(coir_wait(&done), COIR_DONE);
    CHECK_EQ(ran, 100);
    pthread_join(thread, NULL);
}

static void many_jobs_run_after_one_counter(void)
{
    ran = 0;
    run_on(2, spawn_hundred_after, NULL);
}

static void raise_plain(void *unused)
{
    (void)unused;
    coir_panic("plain");
}

/* Each link that ends settles the counter of the next. */
static void spawn_failing_chain(void *unused)
{
    static coir_counter link[1000];
    const int last = (int)(sizeof link / sizeof link[0]) - 1;

    shut_gate();
    for (int i = 0; i <= last; i++)
        coir_counter_init(&link[i]);
    CHECK_EQ(coir_spawn_after(&gate, &link[0], raise_plain, unused), COIR_OK);
    for (int i = 0; i < last; i++)
        CHECK_EQ(coir_spawn_after(&link[i], &link[i + 1], tick, unused), COIR_OK);
    coir_counter_done(&gate, COIR_DONE);
    check_ended(&link[last], COIR_KIND_DEPENDENCY);
    CHECK_EQ(coir_wait(&link[0]), COIR_PANICKED);
    for (int i = 1; i < last; i++)
        CHECK_EQ(coir_wait(&link[i]), COIR_CANCELED);
}

static void a_failure_runs_down_a_long_chain_on_a_small_stack(void)
{
    coir_options o = run_options(1);

    o.stack_bytes = 64 << 10;
    ran = 0;
    CHECK_EQ(coir_run(&o, spawn_failing_chain, NULL), COIR_DONE);
    o.workers = 2;
    CHECK_EQ(coir_run(&o, spawn_failing_chain, NULL), COIR_DONE);
}

/* ------------------------------------------------------------------------- ends while pending */

static void cancel_pending(void *unused)
{
    coir_counter done = COIR_COUNTER_INIT, other = COIR_COUNTER_INIT;

    shut_gate();
    CHECK_EQ(coir_spawn_after(&gate, &other, tick, unused), COIR_OK);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(coir_spawn_after(&gate, &done, tick, unused), COIR_OK);
    CHECK_EQ(coir_counter_cancel(&done), COIR_OK);
    check_ended(&done, COIR_KIND_SKIPPED);
    CHECK_EQ(coir_spawn_after(&gate, &done, tick, unused), COIR_OK); /* the request stays */
    check_ended(&done, COIR_KIND_SKIPPED);
    coir_counter_done(&gate, COIR_DONE);
    CHECK_EQ(coir_wait(&other), COIR_DONE);
    CHECK_EQ(ran, 1); /* it was not asked */
}

static void pending_work_is_canceled_with_its_counter(void)
{
    ran = 0;
    run_on(1, cancel_pending, NULL);
    ran = 0;
    run_on(2, cancel_pending, NULL);
}

static int waiting;

static void wait_for_pending(void *unused)
{
    coir_counter done = COIR_COUNTER_INIT;

    CHECK_EQ(coir_spawn_after(&gate, &done, tick, unused), COIR_OK);
    run_set(&waiting);
    check_ended(&done, COIR_KIND_SKIPPED);
}

static void a_canceled_wait_passes_the_request_on_to_pending_work(void)
{
    coir_runtime *rt = run_open(2);
    coir_counter c = COIR_COUNTER_INIT;

    ran = waiting = 0;
    shut_gate();
    CHECK_EQ(coir_submit(rt, &c, wait_for_pending, NULL), COIR_OK);
    run_until(&waiting);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    run_close(rt);
    coir_counter_done(&gate, COIR_DONE);
    CHECK_EQ(ran, 0);
}

static void raise_owning_pending(void *unused)
{
    coir_counter done = COIR_COUNTER_INIT;

    CHECK_EQ(coir_spawn_after(&gate, &done, tick, unused), COIR_OK);
    coir_panic("while work is pending");
}

static void a_panic_ends_the_pending_work_it_owns(void)
{
    for (unsigned workers = 1; workers <= 2; workers++) {
        coir_options o = run_options(workers);

        ran = 0;
        shut_gate();
        CHECK_EQ(coir_run(&o, raise_owning_pending, NULL), COIR_PANICKED);
        coir_counter_done(&gate, COIR_DONE);
        CHECK_EQ(ran, 0);
    }
}

static void leave_pending(void *done)
{
    CHECK_EQ(coir_spawn_after(&gate, done, tick, NULL), COIR_OK);
    CHECK_EQ(coir_spawn_after(&gate, NULL, tick, NULL), COIR_OK);
}

static void a_close_past_its_budget_drops_pending_work(void)
{
    coir_runtime *rt = run_open(2);
    coir_counter c = COIR_COUNTER_INIT, done = COIR_COUNTER_INIT;
    coir_receipt r;

    ran = 0;
    shut_gate();
    CHECK_EQ(coir_submit(rt, &c, leave_pending, &done), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    run_close_past(rt, COIR_MS, &r); /* nothing is in its way */
    check_ended(&done, COIR_KIND_SHUTDOWN);
    CHECK_EQ(r.ended[COIR_DONE], 1);
    CHECK_EQ(r.ended[COIR_CANCELED], 2);
    CHECK_EQ(r.dropped, 2);
    CHECK_EQ(r.running, 0);
    coir_counter_done(&gate, COIR_DONE);
    CHECK_EQ(ran, 0);
}

static void *fail_gate(void *unused)
{
    coir_counter_done(&gate, COIR_FAILED);
    return unused;
}

/* The thread that ends the last job is no worker, so it must itself tell the closer. */
static void a_close_notices_what_a_plain_thread_ended(void)
{
    for (int i = 0; i < MANY(200); i++) {
        coir_runtime *rt = run_open(1);
        coir_counter c = COIR_COUNTER_INIT, done = COIR_COUNTER_INIT;
        pthread_t thread;

        ran = 0;
        shut_gate();
        CHECK_EQ(coir_submit(rt, &c, leave_pending, &done), COIR_OK);
        CHECK_EQ(coir_wait(&c), COIR_DONE);
        CHECK_EQ(pthread_create(&thread, NULL, fail_gate, NULL), 0);
        run_close(rt);
        check_ended(&done, COIR_KIND_DEPENDENCY);
        pthread_join(thread, NULL);
    }
}

/* ---------------------------------------------------------------- after a counter of a frame that goes */

static struct {
    coir_counter other;
    coir_link link;
    int finishing, go_on; /* who lets go the waiters of the counter is held between two of them */
} slow;

static void hold_finisher(void *unused, int cause)
{
    (void)unused;
    if (cause != COIR_CANCEL_ASKED)
        return;
    run_set(&slow.finishing);
    while (!__atomic_load_n(&slow.go_on, __ATOMIC_ACQUIRE))
        sched_yield();
}

static void blocks_then_fails(void *unused)
{
    coir_event never = COIR_EVENT_INIT;

    (void)unused;
    CHECK_EQ(coir_event_wait(&never), COIR_ECANCELED);
    (void)coir_fail(COIR_EIO, "canceled");
}

static void raise_under_pending(void *unused)
{
    coir_counter after[8] = {COIR_COUNTER_INIT};

    CHECK_EQ(coir_spawn(&after[3], blocks_then_fails, unused), COIR_OK);
    coir_yield();
    CHECK_EQ(coir_spawn_after(&after[3], NULL, tick, unused), COIR_OK);
    CHECK_EQ(coir_link_counters(&slow.link, &after[3], &slow.other), COIR_OK);
    coir_panic("over what others wait for");
}

static int scribbled;

/* Its frame looks like counters that are locked. */
static void scribble(void *unused)
{
    volatile unsigned char frame[24 << 10];

    (void)unused;
    for (size_t i = 0; i < sizeof frame; i++)
        frame[i] = 0xff;
    run_count(&scribbled);
    run_until(&slow.go_on);
}

static void a_cancel_does_not_look_for_what_is_pending_in_frames_that_have_gone(void)
{
    coir_metrics m = {.size = sizeof m, .cancel_requested = hold_finisher};
    coir_counter c = COIR_COUNTER_INIT, others = COIR_COUNTER_INIT;
    coir_options o = run_options(2);
    coir_domain *d = NULL;
    coir_runtime *rt;

    ran = 0;
    o.metrics = &m;
    coir_counter_add(&slow.other, 1);
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    CHECK_EQ(coir_domain_open(rt, NULL, NULL, &d), COIR_OK);
    CHECK_EQ(coir_domain_submit(d, &c, raise_under_pending, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    run_until(&slow.finishing);
    for (int i = 0; i < 8; i++)
        CHECK_EQ(coir_submit(rt, &others, scribble, NULL), COIR_OK);
    while (__atomic_load_n(&scribbled, __ATOMIC_ACQUIRE) < 8)
        sched_yield();
    CHECK_EQ(coir_domain_cancel(d), COIR_OK); /* returns */
    run_set(&slow.go_on);
    CHECK_EQ(coir_wait(&others), COIR_DONE);
    coir_counter_done(&slow.other, COIR_DONE);
    CHECK_EQ(coir_unlink(&slow.link), COIR_OK);
    CHECK_EQ(coir_domain_close(d, -1, NULL), COIR_OK);
    run_close(rt);
    CHECK_EQ(ran, 0);
}

/* ---------------------------------------------------------------------------------- how many */

static void spawn_too_many(void *unused)
{
    coir_counter done = COIR_COUNTER_INIT, refused = COIR_COUNTER_INIT;

    (void)unused;
    for (int again = 0; again < 3; again++) {
        shut_gate();
        ran = 0;
        for (int i = 0; i < 4; i++)
            CHECK_EQ(coir_spawn_after(&gate, &done, tick, NULL), COIR_OK);
        CHECK_EQ(coir_spawn_after(&gate, &refused, tick, NULL), COIR_EAGAIN);
        CHECK_EQ(coir_wait(&refused), COIR_DONE); /* it owes nothing */
        coir_counter_done(&gate, COIR_DONE);
        CHECK_EQ(coir_wait(&done), COIR_DONE);
        CHECK_EQ(ran, 4);
    }
}

static void no_more_may_wait_than_may_be_queued(void)
{
    coir_options o = run_options(1);
    coir_domain *d = NULL;
    coir_counter c = COIR_COUNTER_INIT;
    coir_domain_stats s;
    coir_runtime *rt;

    o.jobs_max = 4;
    CHECK_EQ(coir_run(&o, spawn_too_many, NULL), COIR_DONE);
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    CHECK_EQ(coir_domain_open(rt, NULL, NULL, &d), COIR_OK);
    CHECK_EQ(coir_domain_submit(d, &c, spawn_too_many, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_domain_stats_read(d, &s), COIR_OK);
    CHECK(s.admitted == 13 && s.refused == 3 && s.in_flight == 0);
    CHECK_EQ(coir_domain_close(d, -1, NULL), COIR_OK);
    run_close(rt);
}

CHECK_MAIN(CASE(no_more_may_wait_than_may_be_queued), CASE(a_job_runs_after_what_it_was_spawned_after),
           CASE(a_job_does_not_run_after_a_failure), CASE(a_job_after_nothing_runs_at_once),
           CASE(many_jobs_run_after_one_counter),
           CASE(a_failure_runs_down_a_long_chain_on_a_small_stack),
           CASE(pending_work_is_canceled_with_its_counter),
           CASE(a_canceled_wait_passes_the_request_on_to_pending_work),
           CASE(a_panic_ends_the_pending_work_it_owns),
           CASE(a_cancel_does_not_look_for_what_is_pending_in_frames_that_have_gone),
           CASE(a_close_past_its_budget_drops_pending_work),
           CASE(a_close_notices_what_a_plain_thread_ended))
