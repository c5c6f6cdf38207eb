/* SPDX-License-Identifier: MIT */
/*
 * domain_test.c - what a job has of its domain: membership, deadlines, cancels, figures.
 */
#include "domains.h"

#include <pthread.h>

/* ------------------------------------------------------------------------------------ options */

static void refuses(coir_runtime *rt, coir_domain *parent, const coir_domain_options *o, int status)
{
    int dummy;
    coir_domain *d = (coir_domain *)(void *)&dummy;

    CHECK_EQ(coir_domain_open(rt, parent, o, &d), status);
    CHECK(d == NULL);
}

static void bad_options_are_named(void)
{
    coir_runtime *rt = run_open(1), *stranger = run_open(1);
    coir_domain_options o = domain_options("bad");
    struct {
        coir_domain_options known;
        uint64_t more;
    } newer = {domain_options("newer"), 0};
    coir_domain *d;

    CHECK_EQ(coir_domain_open(rt, NULL, NULL, NULL), COIR_EINVAL);
    refuses(NULL, NULL, NULL, COIR_EINVAL);
    o.size = 4;
    refuses(rt, NULL, &o, COIR_EINVAL);
    o = domain_options("bad");
    o.deadline_ns = -1;
    refuses(rt, NULL, &o, COIR_ERANGE);
    o = domain_options("bad");
    o.full_wait_ns = -1;
    refuses(rt, NULL, &o, COIR_ERANGE);
    o = domain_options("bad");
    o.panics_window_ns = -1;
    refuses(rt, NULL, &o, COIR_ERANGE);
    o = domain_options("bad");
    o.probe_ns = -1;
    refuses(rt, NULL, &o, COIR_ERANGE);
    o = domain_options("bad");
    o.panics_max = 1025;
    refuses(rt, NULL, &o, COIR_ERANGE);
    o = domain_options("bad");
    o.full = (enum coir_full)3;
    refuses(rt, NULL, &o, COIR_ERANGE);
    o = domain_options("bad");
    o.full = COIR_FULL_WAIT; /* for a domain that is never full */
    refuses(rt, NULL, &o, COIR_EINVAL);

    d = domain_open(rt, NULL, NULL);
    refuses(stranger, d, NULL, COIR_EINVAL); /* a parent of another runtime */
    domain_close(d);
    newer.known.size = sizeof newer;
    domain_close(domain_open(rt, NULL, &newer.known));
    newer.more = 1;
    refuses(rt, NULL, &newer.known, COIR_EINVAL);
    run_close(rt);
    run_close(stranger);
}

static void null_is_told_from_a_domain(void)
{
    coir_domain_stats s;
    coir_runtime *rt = run_open(1);
    coir_domain *d = domain_open(rt, NULL, NULL);

    CHECK_EQ(coir_domain_submit(NULL, NULL, job_count, NULL), COIR_EINVAL);
    CHECK_EQ(coir_domain_submit(d, NULL, NULL, NULL), COIR_EINVAL);
    CHECK_EQ(coir_domain_submit_until(d, NULL, NULL, NULL, COIR_NEVER), COIR_EINVAL);
    CHECK_EQ(coir_domain_cancel(NULL), COIR_EINVAL);
    CHECK_EQ(coir_domain_close(NULL, -1, NULL), COIR_EINVAL);
    CHECK_EQ(coir_domain_stats_read(NULL, &s), COIR_EINVAL);
    CHECK_EQ(coir_domain_stats_read(d, NULL), COIR_EINVAL);
    CHECK_EQ(coir_domain_finalizer(d, NULL, NULL), COIR_EINVAL);
    CHECK(coir_domain_current() == NULL);
    CHECK_EQ(coir_deadline(), COIR_NEVER);
    domain_close(d);
    run_close(rt);
}

/* --------------------------------------------------------------------------------- membership */

struct member {
    coir_domain *domain;
    int seen;
};

static void is_here(void *arg)
{
    struct member *m = arg;

    CHECK(coir_domain_current() == m->domain);
    run_count(&m->seen);
}

static void spawns_all_kinds(void *arg)
{
    coir_counter c = COIR_COUNTER_INIT, after = COIR_COUNTER_INIT;

    is_here(arg);
    CHECK_EQ(coir_spawn(&c, is_here, arg), COIR_OK);
    CHECK_EQ(coir_spawn_many(&c, is_here, arg, 0, 100), COIR_OK);
    CHECK_EQ(coir_spawn_after(&c, &after, is_here, arg), COIR_OK);
    CHECK_EQ(coir_try(is_here, arg, NULL), COIR_DONE);
    CHECK_EQ(coir_wait(&after), COIR_DONE);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void what_a_job_spawns_is_in_its_domain(void)
{
    coir_runtime *rt = run_open(2);
    coir_domain *parent = domain_open(rt, NULL, NULL), *d = domain_open(rt, parent, NULL);
    struct member m = {d, 0}, none = {NULL, 0};
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(domain_run(d, spawns_all_kinds, &m, NULL), COIR_DONE);
    CHECK_EQ(m.seen, 104);
    CHECK_EQ(domain_stats(d).admitted, 103); /* coir_try is no job of its own */
    CHECK_EQ(domain_stats(parent).ended[COIR_DONE], 103);
    CHECK_EQ(coir_submit(rt, &c, spawns_all_kinds, &none), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(domain_stats(parent).admitted, 103);
    domain_close(d);
    CHECK_EQ(domain_stats(parent).ended[COIR_DONE], 103); /* its books went to the parent */
    domain_close(parent);
    run_close(rt);
}

/* A waiter runs only jobs of its own domain in place: the other's cancel must not reach it, nor its own
 * limits the other. */
static void is_elsewhere(void *arg)
{
    CHECK(coir_domain_current() == arg);
    CHECK(!coir_canceled());
}

static void waits_for_another_domain(void *arg)
{
    static coir_counter c; /* in nobody's frame: a wait does not pass a cancel on */

    for (int i = 0; i < 100; i++)
        CHECK_EQ(coir_domain_submit(arg, &c, is_elsewhere, arg), COIR_OK);
    CHECK_EQ(coir_domain_cancel(coir_domain_current()), COIR_OK);
    CHECK(coir_canceled());
    while (coir_wait(&c) == COIR_ECANCELED)
        ;
}

static void a_canceled_waiter_does_not_cancel_another_domain(void)
{
    coir_runtime *rt = run_open(1);
    coir_domain *waiters = domain_open(rt, NULL, NULL), *others = domain_open(rt, NULL, NULL);

    CHECK_EQ(domain_run(waiters, waits_for_another_domain, others, NULL), COIR_DONE);
    CHECK_EQ(coir_domain_close(others, -1, NULL), COIR_OK);
    CHECK_EQ(coir_domain_close(waiters, -1, NULL), COIR_OK);
    run_close(rt);
}

/* ---------------------------------------------------------------------------------- deadlines */

static void late_jobs_end_expired_and_are_not_run(void)
{
    coir_runtime *rt = run_open(2);
    coir_domain *d = domain_open(rt, NULL, NULL);
    const int64_t late[] = {-5, 0, 1, coir_now() - 1, INT64_MIN};
    coir_counter c = COIR_COUNTER_INIT;
    coir_failure f;
    int n = 0;

    for (unsigned i = 0; i < sizeof late / sizeof *late; i++)
        CHECK_EQ(coir_domain_submit_until(d, &c, job_count, &n, late[i]), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_EXPIRED);
    CHECK_EQ(n, 0);
    CHECK_EQ(coir_counter_failure(&c, &f), COIR_OK);
    CHECK_EQ(f.kind, COIR_KIND_EXPIRED);
    CHECK_EQ(f.outcome, COIR_EXPIRED);
    CHECK_EQ(domain_stats(d).ended[COIR_EXPIRED], 5);
    domain_close(d);
    run_close(rt);
}

struct deadlines {
    coir_domain *d;
    int64_t least, most; /* what coir_deadline must be within */
    int n;
};

static void deadline_is_within(void *arg)
{
    struct deadlines *t = arg;

    CHECK(coir_deadline() >= t->least && coir_deadline() <= t->most);
    run_count(&t->n);
}

static void inherits(void *arg)
{
    struct deadlines *t = arg;
    coir_counter c = COIR_COUNTER_INIT;

    deadline_is_within(arg);
    CHECK_EQ(coir_spawn(&c, deadline_is_within, arg), COIR_OK);
    CHECK_EQ(coir_domain_submit(t->d, &c, deadline_is_within, arg), COIR_OK);
    CHECK_EQ(coir_domain_submit_until(t->d, &c, deadline_is_within, arg, t->most + COIR_SEC), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void deadlines_are_inherited_the_earliest_counts(void)
{
    coir_runtime *rt = run_open(2);
    coir_domain_options o = domain_options("hour");
    coir_domain *plain = domain_open(rt, NULL, NULL), *parent, *child;
    int64_t now = coir_now();
    struct deadlines t = {plain, now + 100 * COIR_SEC, now + 100 * COIR_SEC, 0};
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_domain_submit_until(plain, &c, inherits, &t, now + 100 * COIR_SEC), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(t.n, 4);

    o.deadline_ns = 3600 * COIR_SEC;
    parent = domain_open(rt, NULL, &o);
    o.deadline_ns = 7200 * COIR_SEC; /* a later default than the parent's is the parent's */
    child = domain_open(rt, parent, &o);
    t = (struct deadlines){child, coir_now() + 3599 * COIR_SEC, coir_now() + 3700 * COIR_SEC, 0};
    CHECK_EQ(domain_run(child, inherits, &t, NULL), COIR_DONE);
    CHECK_EQ(t.n, 4);
    t = (struct deadlines){child, now + 200 * COIR_SEC, now + 200 * COIR_SEC, 0};
    CHECK_EQ(coir_domain_submit_until(child, &c, inherits, &t, now + 200 * COIR_SEC), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    domain_close(child);
    domain_close(parent);
    domain_close(plain);
    run_close(rt);
}

static void queued_too_long(void *arg)
{
    coir_domain *d = arg;
    coir_counter c = COIR_COUNTER_INIT;
    int64_t deadline = coir_now() + COIR_MS;
    int n = 0;

    CHECK_EQ(coir_domain_submit_until(d, &c, job_count, &n, deadline), COIR_OK);
    until_time(deadline); /* the only worker is kept */
    CHECK_EQ(coir_wait(&c), COIR_EXPIRED);
    CHECK_EQ(n, 0);
}

static void a_deadline_is_looked_at_when_the_job_is_taken(void)
{
    coir_runtime *rt = run_open(1);
    coir_domain *d = domain_open(rt, NULL, NULL);

    CHECK_EQ(domain_run(d, queued_too_long, d, NULL), COIR_DONE);
    domain_close(d);
    run_close(rt);
}

/* ------------------------------------------------------------------------------------ cancels */

static void a_cancel_reaches_the_subtree_and_nobody_else(void)
{
    coir_runtime *rt = run_open(2);
    coir_domain *top = domain_open(rt, NULL, NULL), *parent = domain_open(rt, top, NULL),
                *child = domain_open(rt, parent, NULL), *sibling = domain_open(rt, top, NULL);
    struct blocked in = {0, 0}, below = {0, 0};
    struct hold beside = {0, 0};
    coir_counter c = COIR_COUNTER_INIT, other = COIR_COUNTER_INIT;

    CHECK_EQ(coir_domain_submit(parent, &c, job_block, &in), COIR_OK);
    CHECK_EQ(coir_domain_submit(child, &c, job_block, &below), COIR_OK);
    CHECK_EQ(coir_domain_submit(sibling, &other, job_hold, &beside), COIR_OK);
    run_until(&in.started);
    run_until(&below.started);
    run_until(&beside.started);
    CHECK_EQ(coir_domain_cancel(parent), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(in.status, COIR_ECANCELED);
    CHECK_EQ(below.status, COIR_ECANCELED);
    CHECK_EQ(domain_stats(child).state, COIR_DOMAIN_CANCELED);
    CHECK_EQ(domain_stats(sibling).state, COIR_DOMAIN_OPEN);
    CHECK_EQ(coir_domain_submit(child, &c, job_block, &below), COIR_ECANCELED);
    CHECK_EQ(domain_run(sibling, job_count, &beside.started, NULL), COIR_DONE);
    run_set(&beside.go);
    CHECK_EQ(coir_wait(&other), COIR_DONE);
    domain_close(top); /* with all below it */
    run_close(rt);
}

static void cancels_itself(void *arg)
{
    coir_counter c = COIR_COUNTER_INIT, never = COIR_COUNTER_INIT, after = COIR_COUNTER_INIT;
    coir_failure f;
    int n = 0;

    coir_counter_add(&never, 1);
    CHECK_EQ(coir_spawn_many(&c, job_count, &n, 0, 50), COIR_OK);
    CHECK_EQ(coir_spawn_after(&never, &after, job_count, &n), COIR_OK);
    CHECK_EQ(coir_domain_cancel(arg), COIR_OK);
    CHECK_EQ(coir_spawn(&c, job_count, &n), COIR_ECANCELED);
    CHECK_EQ(coir_spawn_after(&never, &after, job_count, &n), COIR_ECANCELED);
    CHECK_EQ(coir_wait(&c), COIR_CANCELED);
    CHECK_EQ(coir_wait(&after), COIR_CANCELED);
    CHECK_EQ(coir_counter_failure(&c, &f), COIR_OK);
    CHECK_EQ(f.kind, COIR_KIND_SKIPPED);
    CHECK(strstr(f.message, "in domain region") != NULL);
    CHECK_EQ(n, 0);
    coir_counter_done(&never, COIR_DONE);
}

static void canceled_jobs_that_have_not_started_are_skipped(void)
{
    coir_runtime *rt = run_open(1);
    coir_domain_options o = domain_options("region");
    coir_domain *d = domain_open(rt, NULL, &o);

    CHECK_EQ(domain_run(d, cancels_itself, d, NULL), COIR_DONE);
    CHECK_EQ(domain_stats(d).ended[COIR_CANCELED], 51);
    domain_close(d);
    run_close(rt);
}

static coir_counter never, afterwards; /* in nobody's frame: waits do not pass a cancel on */

static int about_to;

static void spawns_after_never(void *n)
{
    int status;

    run_set(&about_to);
    status = coir_spawn_after(&never, &afterwards, job_count, n);
    CHECK(status == COIR_OK || status == COIR_ECANCELED);
}

/* The cancel comes before, while, or after the work is listed. */
static void canceled_work_that_waits_for_other_work_ends(void)
{
    coir_runtime *rt = run_open(2);
    int n = 0;

    for (int i = 0; i < MANY(10000); i++) {
        coir_domain *d = domain_open(rt, NULL, NULL);
        coir_counter c = COIR_COUNTER_INIT;

        coir_counter_init(&never);
        coir_counter_init(&afterwards);
        coir_counter_add(&never, 1);
        __atomic_store_n(&about_to, 0, __ATOMIC_RELAXED);
        CHECK_EQ(coir_domain_submit(d, &c, spawns_after_never, &n), COIR_OK);
        if (i % 2 == 0)
            CHECK(coir_wait(&c) == COIR_DONE);
        for (int turns = 0; !__atomic_load_n(&about_to, __ATOMIC_ACQUIRE); turns++)
            if (turns > 1000)
                sched_yield();
        for (volatile int spin = i % 257; spin > 0; spin--)
            ;
        CHECK_EQ(coir_domain_cancel(d), COIR_OK);
        CHECK(coir_wait(&c) == COIR_DONE || i % 2);
        CHECK(coir_wait(&afterwards) == COIR_CANCELED || i % 2);
        coir_counter_done(&never, COIR_DONE);
        domain_close(d);
    }
    CHECK_EQ(n, 0);
    run_close(rt);
}

/* ------------------------------------------------------------------------------------- finalizers */

/* A cancel of the closer's domain does not reach what a finalizer calls inside a boundary of its own. */
struct inner {
    coir_domain *parent, *closed;
    int in_try, in_defer;
};

static void sleeps(void *slept)
{
    *(int *)slept = coir_sleep_until(coir_now() + COIR_MS);
}

static void sleeps_inside(void *arg)
{
    struct inner *i = arg;

    CHECK_EQ(coir_defer(sleeps, &i->in_defer), COIR_OK);
    CHECK_EQ(coir_try(sleeps, &i->in_try, NULL), COIR_DONE);
}

static void closes_when_canceled(void *arg)
{
    struct inner *i = arg;

    CHECK_EQ(coir_domain_cancel(i->parent), COIR_OK);
    CHECK_EQ(coir_domain_close(i->closed, -1, NULL), COIR_OK);
}

static void a_cancel_does_not_reach_boundaries_in_a_finalizer(void)
{
    coir_runtime *rt = run_open(1);
    coir_counter done = COIR_COUNTER_INIT;
    struct inner i = {domain_open(rt, NULL, NULL), NULL, 1, 1};

    i.closed = domain_open(rt, NULL, NULL);
    CHECK_EQ(coir_domain_finalizer(i.closed, sleeps_inside, &i), COIR_OK);
    CHECK_EQ(coir_domain_submit(i.parent, &done, closes_when_canceled, &i), COIR_OK);
    CHECK_EQ(coir_wait(&done), COIR_DONE);
    CHECK_EQ(i.in_try, COIR_OK);
    CHECK_EQ(i.in_defer, COIR_OK);
    CHECK_EQ(coir_domain_close(i.parent, -1, NULL), COIR_OK);
    run_close(rt);
}

CHECK_MAIN(CASE(a_cancel_does_not_reach_boundaries_in_a_finalizer),
           CASE(bad_options_are_named), CASE(null_is_told_from_a_domain),
           CASE(what_a_job_spawns_is_in_its_domain),
           CASE(a_canceled_waiter_does_not_cancel_another_domain),
           CASE(late_jobs_end_expired_and_are_not_run),
           CASE(deadlines_are_inherited_the_earliest_counts),
           CASE(a_deadline_is_looked_at_when_the_job_is_taken),
           CASE(a_cancel_reaches_the_subtree_and_nobody_else),
           CASE(canceled_jobs_that_have_not_started_are_skipped),
           CASE(canceled_work_that_waits_for_other_work_ends))
