/* SPDX-License-Identifier: MIT */
/*
 * metrics_test.c - options.metrics: each callback is called when and with what it says, what is NULL
 * is not, and one that misbehaves aborts by name.
 */
#include "child.h"

#include <pthread.h>

/* What the callbacks have counted. */
static struct seen {
    uint64_t spawned, completed[COIR_PANICKED + 1], never_ran;
    uint64_t canceled[COIR_CANCEL_CLOSE + 1];
    uint64_t drained, set, exceeded, panicked[COIR_LOCATIONS], ticks;
    int64_t longest, drain_ns, deadline;
    int drain_status;
} seen;

static void add(uint64_t *n, uint64_t by)
{
    __atomic_add_fetch(n, by, __ATOMIC_RELAXED);
}

static void on_spawned(void *arg, size_t jobs)
{
    CHECK(arg == &seen);
    add(&seen.spawned, jobs);
}

static void on_completed(void *arg, int outcome, int64_t ns)
{
    CHECK(arg == &seen);
    CHECK(ns >= 0 || (ns == -1 && outcome == COIR_CANCELED));
    add(&seen.completed[outcome], 1);
    add(&seen.never_ran, ns == -1);
    if (ns > __atomic_load_n(&seen.longest, __ATOMIC_RELAXED))
        __atomic_store_n(&seen.longest, ns, __ATOMIC_RELAXED);
}

static void on_cancel(void *arg, int cause)
{
    CHECK(arg == &seen);
    add(&seen.canceled[cause], 1);
}

static void on_drained(void *arg, int64_t ns, int status)
{
    CHECK(arg == &seen);
    seen.drain_ns = ns;
    seen.drain_status = status;
    seen.drained++;
}

static void on_set(void *arg, int64_t deadline)
{
    CHECK(arg == &seen);
    seen.deadline = deadline;
    add(&seen.set, 1);
}

static void on_exceeded(void *arg, int64_t deadline)
{
    CHECK(arg == &seen);
    CHECK_EQ(deadline, seen.deadline);
    add(&seen.exceeded, 1);
}

static void on_panicked(void *arg, const coir_failure *f)
{
    CHECK(arg == &seen);
    CHECK_STR(f->message, "plain");
    add(&seen.panicked[f->location], 1);
}

static void on_tick(void *arg, unsigned worker, size_t queued)
{
    CHECK(arg == &seen);
    CHECK(worker < 4 && queued <= 1 << 20);
    add(&seen.ticks, 1);
}

static const coir_metrics all = {
    .size = sizeof all,
    .arg = &seen,
    .spawned = on_spawned,
    .completed = on_completed,
    .cancel_requested = on_cancel,
    .drained = on_drained,
    .deadline_set = on_set,
    .deadline_exceeded = on_exceeded,
    .panicked = on_panicked,
    .tick = on_tick,
};

static void run_seen(unsigned workers, coir_fn *fn)
{
    coir_options o = run_options(workers);

    memset(&seen, 0, sizeof seen);
    o.metrics = &all;
    CHECK_EQ(coir_run(&o, fn, NULL), COIR_DONE);
    CHECK_EQ(seen.drained, 1);
    CHECK_EQ(seen.drain_status, COIR_OK);
    CHECK(seen.drain_ns >= 0);
}

/* ---------------------------------------------------------------------------- jobs and outcomes */

static void nop(void *unused)
{
    (void)unused;
}

static void raise_plain(void *unused)
{
    (void)unused;
    coir_panic("plain");
}

static void fail_plain(void *unused)
{
    (void)unused;
    coir_fail(1, "plain");
}

static void sleep_well(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_sleep_until(coir_now() + 20 * COIR_MS), COIR_OK);
}

static void spawn_all_kinds(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT, after = COIR_COUNTER_INIT, never = COIR_COUNTER_INIT;

    (void)unused;
    CHECK_EQ(coir_spawn_many(&c, nop, NULL, 0, 100), COIR_OK);
    CHECK_EQ(coir_spawn(&c, sleep_well, NULL), COIR_OK);
    CHECK_EQ(coir_spawn_after(&after, &c, nop, NULL), COIR_OK);
    CHECK_EQ(coir_submit(coir_current(), &c, fail_plain, NULL), COIR_OK);
    CHECK_EQ(coir_spawn(&c, raise_plain, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    CHECK_EQ(coir_counter_cancel(&never), COIR_OK);
    CHECK_EQ(coir_spawn_many(&never, nop, NULL, 0, 5), COIR_OK);
    CHECK_EQ(coir_wait(&never), COIR_CANCELED);
    CHECK_EQ(coir_spawn(NULL, NULL, NULL), COIR_EINVAL); /* not accepted */
    CHECK_EQ(coir_offload(raise_plain, NULL), COIR_PANICKED);
    /* A job is told before its waiter learns it, in place and parked alike. */
    CHECK_EQ(seen.completed[COIR_DONE], 102);
    CHECK_EQ(seen.completed[COIR_CANCELED], 5);
}

static void each_job_is_told_once_as_spawned_and_as_completed(void)
{
    for (unsigned workers = 1; workers <= 4; workers *= 2) {
        run_seen(workers, spawn_all_kinds);
        CHECK_EQ(seen.spawned, 110);
        CHECK_EQ(seen.completed[COIR_DONE], 103); /* the first job, too */
        CHECK_EQ(seen.completed[COIR_FAILED], 1);
        CHECK_EQ(seen.completed[COIR_CANCELED], 5);
        CHECK_EQ(seen.completed[COIR_PANICKED], 1);
        CHECK_EQ(seen.never_ran, 5);
        CHECK(seen.longest >= 20 * COIR_MS && seen.longest < 100 * COIR_SEC);
        CHECK_EQ(seen.panicked[COIR_AT_JOB], 1);
        CHECK_EQ(seen.panicked[COIR_AT_OFFLOAD], 1);
        CHECK(seen.ticks > 0);
    }
}

/* ---------------------------------------------------------------------------------- cancellation */

static void wait_for_ever(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    CHECK_EQ(coir_spawn(&c, sleep_well, NULL), COIR_OK);
    (void)!coir_wait(&c);
}

static void sleep_until_canceled(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_sleep_until(COIR_NEVER), COIR_ECANCELED);
}

static void wait_for_sleeper(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    CHECK_EQ(coir_spawn(&c, sleep_until_canceled, NULL), COIR_OK);
    coir_yield(); /* it starts on a stack of its own, so the cancel has to be passed on */
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void leave_sleeper(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    CHECK_EQ(coir_spawn(&c, sleep_until_canceled, NULL), COIR_OK);
    coir_yield();
    raise_plain(NULL);
}

static void cancel_each_way(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    CHECK_EQ(coir_spawn(&c, wait_for_sleeper, NULL), COIR_OK);
    for (int i = 0; i < 10; i++)
        coir_yield();
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_try(leave_sleeper, NULL, NULL), COIR_PANICKED);
}

static void each_cancel_is_told_with_its_cause(void)
{
    coir_options o = run_options(1);
    coir_counter c = COIR_COUNTER_INIT;
    coir_receipt receipt;
    coir_runtime *rt;
    int closes;

    run_seen(1, cancel_each_way);
    CHECK_EQ(seen.canceled[COIR_CANCEL_ASKED], 1);
    CHECK_EQ(seen.canceled[COIR_CANCEL_PASSED_ON], 1);
    CHECK_EQ(seen.canceled[COIR_CANCEL_OWNER], 1);
    CHECK_EQ(seen.canceled[COIR_CANCEL_CLOSE], 0);

    memset(&seen, 0, sizeof seen);
    o.metrics = &all;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    CHECK_EQ(coir_submit(rt, &c, sleep_until_canceled, NULL), COIR_OK);
    closes = run_close_past(rt, 0, &receipt);
    CHECK_EQ(coir_wait(&c) >= COIR_DONE, 1);
    CHECK_EQ(seen.canceled[COIR_CANCEL_CLOSE], closes);
    CHECK_EQ(seen.drained, closes);
}

/* Says that it runs, then computes until it is told to end. */
static void hold(void *flags)
{
    int *held = flags;

    run_set(&held[0]);
    while (!__atomic_load_n(&held[1], __ATOMIC_ACQUIRE))
        sched_yield();
}

static void a_close_that_gives_up_is_told_as_such(void)
{
    coir_options o = run_options(1);
    coir_runtime *rt;
    int held[2] = {0, 0};

    memset(&seen, 0, sizeof seen);
    o.metrics = &all;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    CHECK_EQ(coir_submit(rt, NULL, hold, held), COIR_OK);
    run_until(&held[0]);
    CHECK_EQ(coir_close(rt, 0, NULL), COIR_ETIMEDOUT);
    CHECK_EQ(seen.drain_status, COIR_ETIMEDOUT);
    CHECK(seen.drain_ns >= 50 * COIR_MS);
    run_set(&held[1]);
    CHECK_EQ(coir_close(rt, -1, NULL), COIR_OK);
    CHECK_EQ(seen.drained, 2);
    CHECK_EQ(seen.drain_status, COIR_OK);
}

/* ------------------------------------------------------------------------------------- deadlines */

static void wait_until_past(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    coir_counter_add(&c, 1);
    CHECK_EQ(coir_wait_until(&c, coir_now() + COIR_MS), COIR_ETIMEDOUT);
    CHECK_EQ(seen.set, 1);
    CHECK_EQ(seen.exceeded, 1);
    coir_counter_done(&c, COIR_DONE);
    CHECK_EQ(coir_wait_until(&c, coir_now() + COIR_SEC), COIR_DONE); /* does not block */
    CHECK_EQ(coir_spawn(&c, nop, NULL), COIR_OK);
    CHECK_EQ(coir_wait_until(&c, coir_now() + 1000 * COIR_SEC), COIR_DONE);
    CHECK_EQ(seen.set, 2);
    CHECK_EQ(coir_offload_until(nop, NULL, coir_now() + 1000 * COIR_SEC), COIR_DONE);
    CHECK_EQ(seen.set, 3);
    CHECK_EQ(coir_offload(nop, NULL), COIR_DONE);
    sleep_well(NULL); /* a time to wake up is no deadline */
    CHECK_EQ(seen.set, 3);
    CHECK_EQ(seen.exceeded, 1);
}

static void deadlines_are_told_when_set_and_when_they_pass(void)
{
    run_seen(1, wait_until_past);
}

/* --------------------------------------------------------------------------------- the table */

static void busy(void *unused)
{
    wait_for_ever(unused);
    wait_until_past(unused);
}

static void what_is_null_is_not_called(void)
{
    coir_metrics m = {.size = sizeof m};
    coir_options o = run_options(2);

    o.metrics = &m;
    CHECK_EQ(coir_run(&o, wait_for_ever, NULL), COIR_DONE);
    memset(&seen, 0, sizeof seen);
    m.arg = &seen;
    m.deadline_set = on_set;
    m.deadline_exceeded = on_exceeded;
    o.workers = 1;
    CHECK_EQ(coir_run(&o, busy, NULL), COIR_DONE);
    CHECK_EQ(seen.set, 3);
    CHECK_EQ(seen.spawned, 0);
}

static void old_and_new_tables_are_understood(void)
{
    struct {
        coir_metrics known;
        char unknown[16];
    } m = {.known = all};
    coir_options o = run_options(1);
    coir_runtime *rt;

    o.metrics = &m.known;
    m.known.size = offsetof(coir_metrics, completed);
    memset(&seen, 0, sizeof seen);
    CHECK_EQ(coir_run(&o, nop, NULL), COIR_DONE);
    CHECK_EQ(seen.spawned, 1);
    CHECK_EQ(seen.completed[COIR_DONE], 0); /* past the end of the older table */
    m.known.size = sizeof m;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    memset(&m, 0xff, sizeof m); /* it was borrowed for the call only */
    run_close(rt);
    CHECK_EQ(seen.spawned, 1);
    m.known = all;
    m.known.size = sizeof m;
    CHECK_EQ(coir_open(&o, &rt), COIR_EINVAL);
    m.known.size = 0;
    CHECK_EQ(coir_open(&o, &rt), COIR_EINVAL);
}

/* ------------------------------------------------------------------------ callbacks that misbehave */

static void raise_in_callback(void *unused, size_t jobs)
{
    (void)unused;
    coir_panic("told of %zu", jobs);
}

static void sleep_in_callback(void *unused, int outcome, int64_t ns)
{
    (void)unused;
    (void)outcome;
    (void)ns;
    if (coir_sleep_until(coir_now() + 1000 * COIR_SEC) == COIR_OK)
        _exit(0);
}

static void spawn_one(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    if (coir_spawn(&c, nop, NULL) != COIR_OK || coir_wait(&c) != COIR_DONE)
        _exit(0);
}

static void run_with(void *metrics)
{
    coir_options o = run_options(1);
    coir_runtime *rt;
    coir_counter c = COIR_COUNTER_INIT;

    o.metrics = metrics;
    if (coir_open(&o, &rt) != COIR_OK || coir_submit(rt, &c, spawn_one, NULL) != COIR_OK)
        _exit(0);
    (void)!coir_wait(&c);
    _exit(0);
}

static void a_callback_that_panics_or_suspends_aborts(void)
{
    coir_metrics m = {.size = sizeof m};

    m.spawned = raise_in_callback;
    CHILD_DIES(run_with, &m, SIGABRT, "fatal: panic in the metrics callback \"spawned\"", "told of 1");
    m.spawned = NULL;
    m.completed = sleep_in_callback;
    CHILD_DIES(run_with, &m, SIGABRT, "fatal: the metrics callback \"completed\" must not suspend");
}

CHECK_MAIN(CASE(each_job_is_told_once_as_spawned_and_as_completed),
           CASE(each_cancel_is_told_with_its_cause), CASE(a_close_that_gives_up_is_told_as_such),
           CASE(deadlines_are_told_when_set_and_when_they_pass), CASE(what_is_null_is_not_called),
           CASE(old_and_new_tables_are_understood), CASE(a_callback_that_panics_or_suspends_aborts))
