/* SPDX-License-Identifier: MIT */
/*
 * closers_test.c - closes that meet: of a runtime, a domain, a pool and a supervisor above and below each other.
 * One of them has what it closes, the others are told so, and nobody's memory goes while another call is in it.
 */
#include "domains.h"
#include "pools.h"
#include "threads.h"

#define LONG_ENOUGH (30 * COIR_MS) /* for another thread to make a mistake in */

/* ------------------------------------------------------------------- the runtime, and who is in it */

static __thread int is_guest; /* the host's callbacks take their time on this thread */
static int guest_inside, runtime_closed;

/* The last that a call does in its runtime. */
static void linger(void *unused, const char *name)
{
    (void)unused, (void)name;
    if (!is_guest)
        return;
    run_set(&guest_inside);
    until_time(coir_now() + LONG_ENOUGH);
    CHECK(!__atomic_load_n(&runtime_closed, __ATOMIC_ACQUIRE));
}

static coir_runtime *open_with_guests(void)
{
    coir_metrics m = {.size = sizeof m, .domain_opened = linger, .domain_closed = linger};
    coir_options o = run_options(1);
    coir_runtime *rt;

    guest_inside = runtime_closed = 0;
    o.metrics = &m;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    return rt;
}

static void close_beside(coir_runtime *rt, void *(*call)(void *), void *arg)
{
    struct threads t = {0};

    threads_add(&t, call, arg);
    run_until(&guest_inside);
    CHECK_EQ(coir_close(rt, -1, NULL), COIR_OK);
    run_set(&runtime_closed);
    threads_join(&t);
}

static void *closes_domain(void *d)
{
    is_guest = 1;
    CHECK_EQ(coir_domain_close(d, -1, NULL), COIR_OK);
    return NULL;
}

static void a_runtime_waits_for_a_thread_that_closes_a_domain_of_it(void)
{
    coir_runtime *rt = open_with_guests();

    close_beside(rt, closes_domain, domain_open(rt, NULL, NULL));
}

static void *opens_domain(void *rt)
{
    is_guest = 1;
    domain_open(rt, NULL, NULL);
    return NULL;
}

static void a_runtime_waits_for_a_thread_that_opens_a_domain_of_it(void)
{
    coir_runtime *rt = open_with_guests();

    close_beside(rt, opens_domain, rt);
}

/* --------------------------------------------------------------------------------- pools, opened */

static coir_domain *parent;
static struct threads closers;
static int parent_closed, parent_asked;

static void *closes_parent(void *unused)
{
    run_set(&parent_asked);
    domain_close_after(parent, 0, NULL);
    run_set(&parent_closed);
    return unused;
}

/* The pool's only worker has been submitted; the closer cancels it. */
static void close_parent_now(void *unused, size_t jobs)
{
    (void)unused, (void)jobs;
    if (!is_guest)
        return;
    threads_add(&closers, closes_parent, NULL);
    run_until(&parent_asked);
    until_time(coir_now() + LONG_ENOUGH);
    CHECK(!__atomic_load_n(&parent_closed, __ATOMIC_ACQUIRE));
}

static void a_domain_waits_for_who_opens_a_pool_in_it(void)
{
    coir_metrics m = {.size = sizeof m, .spawned = close_parent_now};
    coir_options o = run_options(1);
    coir_pool_options pool = pool_options("opened");
    coir_runtime *rt;
    coir_pool *p;

    parent_closed = parent_asked = 0;
    o.metrics = &m;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    pool.parent = parent = domain_open(rt, NULL, NULL);
    is_guest = 1;
    CHECK(coir_pool_open(rt, &pool, &p) != COIR_OK);
    is_guest = 0;
    CHECK(!p);
    threads_join(&closers);
    CHECK(parent_closed);
    run_close(rt);
}

/* --------------------------------------------------------------------------------- pools, closed */

static void *closes_parent_in_time(void *unused)
{
    CHECK_EQ(coir_domain_close(parent, LONG_ENOUGH, NULL), COIR_ETIMEDOUT);
    return unused;
}

static void until_closing(coir_domain *d)
{
    static int unused;

    while (coir_domain_finalizer(d, job_count, &unused) == COIR_OK)
        sched_yield();
}

static void a_pool_below_a_domain_that_is_being_closed_stays_whole(void)
{
    coir_pool_options o = pool_options("below");
    coir_runtime *rt = run_open(2);
    struct hold stuck = {0, 0};
    coir_pool_receipt refused, zero, r;
    struct threads t = {0};
    coir_pool *p;

    memset(&refused, 0, sizeof refused);
    memset(&zero, 0, sizeof zero);
    o.parent = parent = domain_open(rt, NULL, NULL);
    p = pool_open(rt, &o);
    CHECK_EQ(coir_domain_submit(parent, NULL, job_hold, &stuck), COIR_OK);
    run_until(&stuck.started);
    threads_add(&t, closes_parent_in_time, NULL);
    until_closing(parent);
    CHECK_EQ(coir_pool_close(p, -1, &refused), COIR_EBUSY);
    threads_join(&t);
    CHECK_EQ(coir_pool_close(p, -1, &r), COIR_OK); /* that close gave up: this one may */
    run_set(&stuck.go);
    domain_close_after(parent, COIR_SEC, NULL);
    CHECK(memcmp(&refused, &zero, sizeof zero) == 0); /* its call had returned */
    run_close(rt);
}

static void *closes_pool(void *p)
{
    CHECK_EQ(coir_pool_close(p, -1, NULL), COIR_OK);
    return NULL;
}

/* Its handler opens a domain below, and has all that a handler has. */
static void open_below(coir_message *m)
{
    coir_domain *d;

    pool_do(m);
    CHECK_EQ(coir_domain_open(coir_current(), coir_domain_current(), NULL, &d), COIR_OK);
    CHECK_EQ(coir_domain_close(d, -1, NULL), COIR_OK);
}

static void while_a_pool_drains_it_is_the_closers_and_open_to_its_handlers(void)
{
    struct job_message job = {.hold = 1}, late = {.m = {0}};
    coir_pool_options o = pool_options("drains");
    coir_runtime *rt = run_open(2);
    struct threads t = {0};
    coir_pool *p;

    o.handle = open_below;
    o.queue_max = 1;
    o.parent = parent = domain_open(rt, NULL, NULL);
    p = pool_open(rt, &o);
    CHECK_EQ(coir_pool_submit(p, &job.m), COIR_OK);
    run_until(&job.started);
    threads_add(&t, closes_pool, p);
    while (coir_pool_submit(p, &late.m) == COIR_EAGAIN)
        sched_yield(); /* until the closer has begun */
    CHECK_EQ(coir_pool_close(p, -1, NULL), COIR_EBUSY);
    CHECK_EQ(coir_domain_close(coir_pool_domain(p), 0, NULL), COIR_EBUSY);
    CHECK_EQ(coir_domain_close(parent, 0, NULL), COIR_EBUSY);
    run_set(&job.go);
    threads_join(&t);
    domain_close(parent);
    run_close(rt);
}

/* ----------------------------------------------------------------------------------- supervisors */

static struct hold child_hold;

static void child(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_child_stop_wait(), COIR_OK);
    job_hold(&child_hold);
}

static coir_supervisor *open_supervisor(coir_runtime *rt)
{
    coir_child_spec spec = {.size = sizeof spec, .name = "child", .fn = child, .shutdown_ns = 3600 * COIR_SEC};
    coir_supervisor_options o = {.size = sizeof o, .max_restarts = 1, .max_seconds = 1, .children = &spec,
                                 .children_count = 1};
    coir_supervisor *s = NULL;

    child_hold = (struct hold){0, 0};
    parent = domain_open(rt, NULL, NULL);
    CHECK_EQ(coir_supervisor_open(rt, parent, &o, NULL, &s), COIR_OK);
    return s;
}

static void *closes_supervisor(void *s)
{
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    return NULL;
}

static void a_supervisor_is_whose_close_came_first(void)
{
    coir_runtime *rt = run_open(2);
    coir_supervisor *s = open_supervisor(rt);
    struct threads t = {0};

    threads_add(&t, closes_supervisor, s);
    run_until(&child_hold.started);
    CHECK_EQ(coir_domain_close(parent, 0, NULL), COIR_EBUSY);
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_EBUSY);
    run_set(&child_hold.go);
    threads_join(&t);
    domain_close(parent);
    run_close(rt);
}

static void *closes_parent_at_leisure(void *unused)
{
    CHECK_EQ(coir_domain_close(parent, -1, NULL), COIR_OK);
    return unused;
}

static void or_that_of_the_domain_above(void)
{
    coir_runtime *rt = run_open(2);
    coir_supervisor *s = open_supervisor(rt);
    struct threads t = {0};

    threads_add(&t, closes_parent_at_leisure, NULL);
    run_until(&child_hold.started);
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_EBUSY);
    CHECK_EQ(coir_supervisor_close(s, 0, NULL), COIR_EBUSY);
    run_set(&child_hold.go);
    threads_join(&t);
    run_close(rt);
}

CHECK_MAIN(CASE(a_runtime_waits_for_a_thread_that_closes_a_domain_of_it),
           CASE(a_runtime_waits_for_a_thread_that_opens_a_domain_of_it),
           CASE(a_domain_waits_for_who_opens_a_pool_in_it),
           CASE(a_pool_below_a_domain_that_is_being_closed_stays_whole),
           CASE(while_a_pool_drains_it_is_the_closers_and_open_to_its_handlers),
           CASE(a_supervisor_is_whose_close_came_first), CASE(or_that_of_the_domain_above))
