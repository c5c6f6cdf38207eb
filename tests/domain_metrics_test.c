/* SPDX-License-Identifier: MIT */
/*
 * domain_metrics_test.c - the callbacks of options.metrics that tell of domains: open, drain, close, cancel,
 * trips, deadlines, obligations; and those of checkpoints and stalls.
 */
#include "domains.h"

static struct seen {
    uint64_t opened, closed, drained, gave_up, tripped, failure;
    uint64_t taken, discharged, leaked, set, exceeded, warned, checks, stuck;
    uint64_t canceled[COIR_CANCEL_DOMAIN_CLOSE + 1];
    int64_t longest, stuck_ns;
    coir_fn *stuck_fn;
    int stuck_told;
} seen;

static void add(uint64_t *n)
{
    __atomic_add_fetch(n, 1, __ATOMIC_RELAXED);
}

static void on_opened(void *arg, const char *domain)
{
    CHECK(arg == &seen);
    CHECK(strcmp(domain, "told") == 0 || strcmp(domain, "below") == 0);
    add(&seen.opened);
}

static void on_closed(void *arg, const char *domain)
{
    CHECK(arg == &seen);
    CHECK(strcmp(domain, "told") == 0 || strcmp(domain, "below") == 0);
    add(&seen.closed);
}

static void on_drained(void *arg, const char *domain, int64_t ns, int status)
{
    CHECK(arg == &seen);
    CHECK_STR(domain, "told"); /* one for each close, not for what lies below */
    CHECK(ns >= 0 && (status == COIR_OK || ns >= 50 * COIR_MS));
    add(status == COIR_OK ? &seen.drained : &seen.gave_up);
}

static void on_tripped(void *arg, const char *domain, uint64_t failure)
{
    CHECK(arg == &seen);
    CHECK_STR(domain, "told");
    seen.failure = failure;
    add(&seen.tripped);
}

static void on_taken(void *arg, const char *what)
{
    CHECK(arg == &seen);
    CHECK_STR(what, "permit");
    add(&seen.taken);
}

static void on_discharged(void *arg, const char *what)
{
    CHECK(arg == &seen);
    CHECK_STR(what, "permit");
    add(&seen.discharged);
}

static void on_leaked(void *arg, const char *what)
{
    CHECK(arg == &seen);
    CHECK_STR(what, "permit");
    add(&seen.leaked);
}

static void on_set(void *arg, int64_t deadline)
{
    CHECK(arg == &seen && deadline != COIR_NEVER);
    add(&seen.set);
}

static void on_exceeded(void *arg, int64_t deadline)
{
    CHECK(arg == &seen && deadline <= coir_now());
    add(&seen.exceeded);
}

static void on_warned(void *arg, int64_t deadline)
{
    CHECK(arg == &seen && deadline != COIR_NEVER);
    add(&seen.warned);
}

static void on_cancel(void *arg, int cause)
{
    CHECK(arg == &seen);
    add(&seen.canceled[cause]);
}

static void on_checkpoint(void *arg, unsigned worker, int64_t ns)
{
    CHECK(arg == &seen && worker == 0 && ns >= 0);
    add(&seen.checks);
    seen.longest = ns > seen.longest ? ns : seen.longest;
}

static void on_stuck(void *arg, const coir_job_info *job, int64_t ns)
{
    CHECK(arg == &seen);
    CHECK_EQ(job->worker, 0);
    add(&seen.stuck);
    seen.stuck_fn = job->fn;
    seen.stuck_ns = ns;
    run_set(&seen.stuck_told);
}

static const coir_metrics all = {
    .size = sizeof all,
    .arg = &seen,
    .domain_opened = on_opened,
    .domain_closed = on_closed,
    .domain_drained = on_drained,
    .domain_tripped = on_tripped,
    .obligation_taken = on_taken,
    .obligation_discharged = on_discharged,
    .obligation_leaked = on_leaked,
    .deadline_set = on_set,
    .deadline_exceeded = on_exceeded,
    .deadline_warned = on_warned,
    .cancel_requested = on_cancel,
    .checkpoint = on_checkpoint,
    .stuck = on_stuck,
};

static coir_runtime *open_seen(unsigned workers, int64_t stall_ns)
{
    coir_options o = run_options(workers);
    coir_runtime *rt = NULL;

    memset(&seen, 0, sizeof seen);
    o.metrics = &all;
    o.stall_ns = stall_ns;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    return rt;
}

static coir_domain *open_told(coir_runtime *rt)
{
    coir_domain_options o = domain_options("told");

    return domain_open(rt, NULL, &o);
}

/* ------------------------------------------------------------------------------- open and close */

static void opening_draining_and_closing_are_told(void)
{
    coir_runtime *rt = open_seen(1, 0);
    coir_domain_options o = domain_options("below");
    coir_domain *d = open_told(rt), *none;
    struct hold h = {0, 0};

    domain_open(rt, d, &o);
    CHECK_EQ(seen.opened, 2);
    CHECK_EQ(coir_domain_submit(d, NULL, job_hold, &h), COIR_OK);
    run_until(&h.started);
    CHECK_EQ(coir_domain_close(d, 0, NULL), COIR_ETIMEDOUT);
    CHECK_EQ(coir_domain_open(rt, d, &o, &none), COIR_ESHUTDOWN);
    CHECK_EQ(seen.opened, 2);
    CHECK_EQ(seen.closed, 0);
    CHECK_EQ(seen.gave_up, 1);
    run_set(&h.go);
    CHECK_EQ(coir_domain_close(d, -1, NULL), COIR_OK);
    CHECK_EQ(seen.closed, 2);
    CHECK_EQ(seen.drained, 1);
    open_told(rt);
    run_close(rt); /* closes it, too */
    CHECK_EQ(seen.closed, 3);
    CHECK_EQ(seen.drained, 2);
    CHECK_EQ(seen.gave_up, 1);
}

static void each_cancel_of_a_domain_is_told_with_its_cause(void)
{
    coir_runtime *rt = open_seen(2, 0);
    coir_domain *d = open_told(rt);
    struct blocked b = {0, 0};

    CHECK_EQ(coir_domain_submit(d, NULL, job_block, &b), COIR_OK);
    run_until(&b.started);
    CHECK_EQ(coir_domain_cancel(d), COIR_OK);
    CHECK_EQ(coir_domain_close(d, -1, NULL), COIR_OK);
    CHECK_EQ(seen.canceled[COIR_CANCEL_DOMAIN], 1);
    CHECK_EQ(seen.canceled[COIR_CANCEL_DOMAIN_CLOSE], 0);
    d = open_told(rt);
    b.started = 0;
    CHECK_EQ(coir_domain_submit(d, NULL, job_block, &b), COIR_OK);
    run_until(&b.started);
    domain_close_after(d, 0, NULL);
    CHECK(seen.canceled[COIR_CANCEL_DOMAIN_CLOSE] >= 1); /* a busy machine: again */
    CHECK_EQ(seen.canceled[COIR_CANCEL_DOMAIN], 1);
    CHECK_EQ(seen.canceled[COIR_CANCEL_CLOSE], 0);
    run_close(rt);
}

static void a_trip_is_told_with_its_failure(void)
{
    coir_runtime *rt = open_seen(1, 0);
    coir_domain_options o = domain_options("told");
    coir_domain *d;
    coir_failure f;

    o.panics_max = 2;
    o.panics_window_ns = o.probe_ns = 1000 * COIR_SEC;
    d = domain_open(rt, NULL, &o);
    CHECK_EQ(domain_run(d, job_panic, NULL, NULL), COIR_PANICKED);
    CHECK_EQ(seen.tripped, 0);
    CHECK_EQ(domain_run(d, job_panic, NULL, &f), COIR_PANICKED);
    CHECK_EQ(domain_run(d, job_panic, NULL, NULL), COIR_CANCELED);
    CHECK_EQ(seen.tripped, 1);
    CHECK_EQ(seen.failure, f.id);
    domain_close(d);
    run_close(rt);
}

/* --------------------------------------------------------------------------------- obligations */

static void keeps_one_and_leaks_one(void *arg)
{
    coir_obligation kept, leaked;

    (void)arg;
    CHECK_EQ(coir_obligation_take(NULL, "permit", &kept), COIR_OK);
    CHECK_EQ(coir_obligation_take(NULL, "permit", &leaked), COIR_OK);
    CHECK_EQ(coir_obligation_discharge(kept), COIR_OK);
    CHECK_EQ(coir_obligation_discharge(kept), COIR_ENOENT); /* told once */
}

static void what_becomes_of_obligations_is_told(void)
{
    coir_runtime *rt = open_seen(1, 0);
    coir_domain *d = open_told(rt);
    coir_obligation o;

    CHECK_EQ(domain_run(d, keeps_one_and_leaks_one, NULL, NULL), COIR_DONE);
    CHECK_EQ(seen.taken, 2);
    CHECK_EQ(seen.discharged, 1);
    CHECK_EQ(seen.leaked, 1);
    CHECK_EQ(coir_obligation_take(d, "permit", &o), COIR_OK);
    domain_close(d);
    CHECK_EQ(seen.taken, 3);
    CHECK_EQ(seen.discharged, 1);
    CHECK_EQ(seen.leaked, 2);
    run_close(rt);
}

/* ----------------------------------------------------------------------------------- deadlines */

/* Keeps the only worker busy until most of the other's time has passed. */
static void holds_until(void *time)
{
    until_time(*(int64_t *)time);
}

static int start_late(coir_domain *d, int *n)
{
    coir_counter c = COIR_COUNTER_INIT, late = COIR_COUNTER_INIT;
    int64_t now = coir_now(), time = now + 80 * COIR_MS;

    CHECK_EQ(coir_domain_submit(d, &c, holds_until, &time), COIR_OK);
    CHECK_EQ(coir_domain_submit_until(d, &late, job_count, n, now + 100 * COIR_MS), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    return coir_wait(&late);
}

static void deadlines_of_jobs_are_told(void)
{
    coir_runtime *rt = open_seen(1, 0);
    coir_domain *d = open_told(rt);
    coir_counter c = COIR_COUNTER_INIT;
    uint64_t rounds = 1;
    int n = 0;

    CHECK_EQ(coir_domain_submit_until(d, &c, job_count, &n, coir_now() + 1000 * COIR_SEC), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(seen.set, 1);
    CHECK_EQ(seen.warned + seen.exceeded, 0);
    CHECK_EQ(coir_domain_submit_until(d, &c, job_count, &n, coir_now() - 1), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_EXPIRED);
    CHECK_EQ(seen.set, 2);
    CHECK_EQ(seen.exceeded, 1);
    CHECK_EQ(seen.warned, 0);
    while (start_late(d, &n) != COIR_DONE)
        rounds++; /* the machine is busy: too late altogether */
    CHECK_EQ(seen.set, 2 + rounds);
    CHECK_EQ(seen.exceeded, rounds);
    CHECK_EQ(seen.warned, 1);
    domain_close(d);
    run_close(rt);
}

/* -------------------------------------------------------------------------- checkpoints, stalls */

static void checks(void *unused)
{
    (void)unused;
    for (int i = 0; i < 10; i++)
        CHECK_EQ(coir_checkpoint(), COIR_OK);
    until_time(coir_now() + 5 * COIR_MS);
    CHECK_EQ(coir_checkpoint(), COIR_OK);
    CHECK_EQ(seen.checks, 10);
    CHECK(seen.longest >= 5 * COIR_MS);
    seen.longest = 0;
    CHECK_EQ(coir_sleep_until(coir_now() + 20 * COIR_MS), COIR_OK);
    CHECK_EQ(coir_checkpoint(), COIR_OK); /* it has suspended since */
    CHECK_EQ(seen.checks, 10);
    CHECK_EQ(coir_checkpoint(), COIR_OK);
    CHECK_EQ(seen.checks, 11);
}

static void checks_once(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_checkpoint(), COIR_OK);
}

static void intervals_between_checkpoints_of_one_job_are_told(void)
{
    coir_runtime *rt = open_seen(1, 0);
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_submit(rt, &c, checks, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(coir_submit(rt, &c, checks_once, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(seen.checks, 11); /* others' are not theirs */
    run_close(rt);
}

static void computes(void *unused)
{
    (void)unused;
    while (!__atomic_load_n(&seen.stuck_told, __ATOMIC_ACQUIRE))
        sched_yield();
}

static void a_job_that_does_not_suspend_is_told(void)
{
    coir_runtime *rt = open_seen(1, 20 * COIR_MS);
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_submit(rt, &c, computes, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    run_close(rt);
    CHECK_EQ(seen.stuck, 1);
    CHECK(seen.stuck_fn == computes);
    CHECK(seen.stuck_ns >= 20 * COIR_MS);
}

CHECK_MAIN(CASE(opening_draining_and_closing_are_told), CASE(each_cancel_of_a_domain_is_told_with_its_cause),
           CASE(a_trip_is_told_with_its_failure), CASE(what_becomes_of_obligations_is_told),
           CASE(deadlines_of_jobs_are_told), CASE(intervals_between_checkpoints_of_one_job_are_told),
           CASE(a_job_that_does_not_suspend_is_told))
