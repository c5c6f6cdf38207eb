/* SPDX-License-Identifier: MIT */
/*
 * domain_full_test.c - a domain at its limit: refuses, makes wait, or runs in the caller; no place is
 * lost or given twice.
 */
#include "domains.h"
#include "threads.h"

static coir_domain_options limited(size_t jobs_max, enum coir_full full)
{
    coir_domain_options o = domain_options("full");

    o.jobs_max = jobs_max;
    o.full = full;
    return o;
}

/* ------------------------------------------------------------------------------------- refuse */

static void the_limit_counts_queued_and_running_jobs_of_the_subtree(void)
{
    coir_runtime *rt = run_open(2);
    coir_domain_options o = limited(3, COIR_FULL_REFUSE);
    coir_domain *d = domain_open(rt, NULL, &o), *child = domain_open(rt, d, NULL);
    struct hold h = {0, 0};
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_domain_submit(d, &c, job_hold, &h), COIR_OK);
    CHECK_EQ(coir_domain_submit(child, &c, job_hold, &h), COIR_OK);
    CHECK_EQ(coir_domain_submit(child, &c, job_hold, &h), COIR_OK);
    CHECK_EQ(coir_domain_submit(child, &c, job_hold, &h), COIR_EAGAIN);
    CHECK_EQ(coir_domain_submit(d, &c, job_hold, &h), COIR_EAGAIN);
    CHECK_EQ(domain_stats(d).in_flight, 3);
    CHECK_EQ(domain_stats(child).in_flight, 2); /* the place below was given back */
    CHECK_EQ(domain_stats(d).refused, 2);
    run_set(&h.go);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(domain_run(child, job_hold, &h, NULL), COIR_DONE);
    domain_balances(child);
    domain_close(d);
    run_close(rt);
}

static void spawns_past_the_limit(void *arg)
{
    coir_counter c = COIR_COUNTER_INIT;
    int n = 0;

    (void)arg;
    CHECK_EQ(coir_spawn_many(&c, job_count, &n, 0, 3), COIR_EAGAIN); /* all or none */
    CHECK_EQ(coir_spawn_many(&c, job_count, &n, 0, 2), COIR_OK);
    CHECK_EQ(coir_spawn(&c, job_count, &n), COIR_EAGAIN);
    CHECK_EQ(coir_spawn_after(&c, NULL, job_count, &n), COIR_EAGAIN);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(n, 2);
}

static void a_spawn_inside_a_full_domain_is_refused_whatever_it_does_else(void)
{
    for (int full = COIR_FULL_REFUSE; full <= COIR_FULL_RUN; full++) {
        coir_runtime *rt = run_open(1);
        coir_domain_options o = limited(3, (enum coir_full)full);
        coir_domain *d = domain_open(rt, NULL, &o);

        CHECK_EQ(domain_run(d, spawns_past_the_limit, NULL, NULL), COIR_DONE);
        CHECK_EQ(domain_stats(d).refused, 5);
        domain_close(d);
        run_close(rt);
    }
}

static void a_limit_of_zero_is_none(void)
{
    coir_runtime *rt = run_open(2);
    coir_domain_options o = limited(0, COIR_FULL_REFUSE);
    coir_domain *d = domain_open(rt, NULL, &o);
    coir_counter c = COIR_COUNTER_INIT;
    int n = 0;

    for (int i = 0; i < 5000; i++)
        CHECK_EQ(coir_domain_submit(d, &c, job_count, &n), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(n, 5000);
    domain_close(d);
    run_close(rt);
}

/* The runtime's own limit: the domain's place is given back. */
static void hits_jobs_max(void *arg)
{
    coir_domain *d = arg;
    coir_counter c = COIR_COUNTER_INIT;
    int n = 0, accepted = 0, status;

    while ((status = coir_domain_submit_until(d, &c, job_count, &n, coir_now() + 1000 * COIR_SEC)) ==
           COIR_OK)
        accepted++;
    CHECK_EQ(status, COIR_EAGAIN);
    CHECK_EQ(domain_stats(d).in_flight, accepted);
    CHECK_EQ(domain_stats(d).refused, 1);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(n, accepted);
}

static void what_the_queue_refuses_is_not_admitted(void)
{
    coir_options options = run_options(1);
    coir_runtime *rt;
    coir_domain *d;
    coir_counter c = COIR_COUNTER_INIT;

    options.jobs_max = 100;
    CHECK_EQ(coir_open(&options, &rt), COIR_OK);
    d = domain_open(rt, NULL, NULL);
    CHECK_EQ(coir_submit(rt, &c, hits_jobs_max, d), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    domain_close(d);
    run_close(rt);
}

/* --------------------------------------------------------------------------------------- wait */

struct entry {
    coir_domain *domain;
    coir_fn *fn;
    void *arg;
    coir_counter *counter;
    int64_t deadline;
    int begun, status;
};

static void enters(void *arg)
{
    struct entry *e = arg;

    run_set(&e->begun);
    e->status = coir_domain_submit_until(e->domain, e->counter, e->fn, e->arg, e->deadline);
}

static void *enters_on_a_thread(void *arg)
{
    enters(arg);
    return NULL;
}

static void waiters_get_the_places_that_become_free(void)
{
    coir_runtime *rt = run_open(2);
    coir_domain_options o = limited(1, COIR_FULL_WAIT);
    coir_domain *d = domain_open(rt, NULL, &o);
    struct hold h = {0, 0};
    coir_counter c = COIR_COUNTER_INIT, fibers = COIR_COUNTER_INIT;
    int n = 0;
    struct entry e[8];
    struct threads t = {0};

    CHECK_EQ(coir_domain_submit(d, &c, job_hold, &h), COIR_OK);
    run_until(&h.started);
    for (int i = 0; i < 8; i++)
        e[i] = (struct entry){d, job_count, &n, &c, COIR_NEVER, 0, 1};
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(coir_submit(rt, &fibers, enters, &e[i]), COIR_OK);
        threads_add(&t, enters_on_a_thread, &e[4 + i]);
    }
    for (int i = 0; i < 8; i++)
        run_until(&e[i].begun);
    CHECK_EQ(n, 0);
    run_set(&h.go);
    CHECK_EQ(coir_wait(&fibers), COIR_DONE);
    threads_join(&t);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(n, 8);
    for (int i = 0; i < 8; i++)
        CHECK_EQ(e[i].status, COIR_OK);
    domain_close(d);
    run_close(rt);
}

static void who_waits_in_vain_is_told_why(void)
{
    coir_runtime *rt = run_open(2);
    coir_domain_options o = limited(1, COIR_FULL_WAIT);
    coir_domain *d, *patient = domain_open(rt, NULL, &o);
    struct hold h = {0, 0};
    coir_counter c = COIR_COUNTER_INIT;

    o.full_wait_ns = COIR_MS;
    d = domain_open(rt, NULL, &o);
    CHECK_EQ(coir_domain_submit(d, &c, job_hold, &h), COIR_OK);
    CHECK_EQ(coir_domain_submit(patient, &c, job_hold, &h), COIR_OK);
    CHECK_EQ(coir_domain_submit(d, &c, job_hold, &h), COIR_EAGAIN);
    CHECK_EQ(coir_domain_submit_until(d, &c, job_hold, &h, coir_now()), COIR_ETIMEDOUT);
    CHECK_EQ(coir_domain_submit_until(d, &c, job_hold, &h, -1), COIR_ETIMEDOUT);
    CHECK_EQ(coir_domain_submit_until(patient, &c, job_hold, &h, coir_now() + COIR_MS),
             COIR_ETIMEDOUT);
    CHECK_EQ(domain_stats(d).refused, 3);
    CHECK_EQ(domain_stats(d).in_flight, 1);
    run_set(&h.go);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    domain_close(d);
    domain_close(patient);
    run_close(rt);
}

/* One waits at the parent for a place in the child: both a cancel of the child and a close find it. */
static void turned_away(int closed)
{
    coir_runtime *rt = run_open(2);
    coir_domain_options o = limited(1, COIR_FULL_WAIT);
    coir_domain *d = domain_open(rt, NULL, &o), *child = domain_open(rt, d, NULL);
    struct hold h = {0, 0};
    coir_counter c = COIR_COUNTER_INIT, fiber = COIR_COUNTER_INIT;
    struct entry e[2] = {{child, job_count, NULL, &c, COIR_NEVER, 0, 1},
                         {child, job_count, NULL, &c, COIR_NEVER, 0, 1}};
    struct threads t = {0};

    CHECK_EQ(coir_domain_submit(d, &c, job_hold, &h), COIR_OK);
    CHECK_EQ(coir_submit(rt, &fiber, enters, &e[0]), COIR_OK);
    threads_add(&t, enters_on_a_thread, &e[1]);
    while (domain_stats(child).in_flight < 2) /* they hold their places in the child */
        sched_yield();
    if (closed)
        CHECK_EQ(coir_domain_close(child, -1, NULL), COIR_OK);
    else
        CHECK_EQ(coir_domain_cancel(child), COIR_OK);
    threads_join(&t);
    CHECK_EQ(coir_wait(&fiber), COIR_DONE);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(e[i].status, closed ? COIR_ESHUTDOWN : COIR_ECANCELED);
    run_set(&h.go);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    domain_close(d);
    run_close(rt);
}

static void a_cancel_turns_away_who_waits(void)
{
    turned_away(0);
}

static void a_close_turns_away_who_waits(void)
{
    turned_away(1);
}

/* The caller is canceled, the domain is not. */
static void a_canceled_caller_stops_waiting(void)
{
    coir_runtime *rt = run_open(2);
    coir_domain_options o = limited(1, COIR_FULL_WAIT);
    coir_domain *d = domain_open(rt, NULL, &o);
    struct hold h = {0, 0};
    coir_counter c = COIR_COUNTER_INIT, fiber = COIR_COUNTER_INIT;
    struct entry e = {d, job_count, NULL, &c, COIR_NEVER, 0, 1};

    CHECK_EQ(coir_domain_submit(d, &c, job_hold, &h), COIR_OK);
    CHECK_EQ(coir_submit(rt, &fiber, enters, &e), COIR_OK);
    run_until(&e.begun);
    CHECK_EQ(coir_counter_cancel(&fiber), COIR_OK);
    CHECK_EQ(coir_wait(&fiber), COIR_DONE);
    CHECK_EQ(e.status, COIR_ECANCELED);
    run_set(&h.go);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(domain_stats(d).admitted, 1);
    domain_close(d);
    run_close(rt);
}

/* S3, S4: threads and fibers crowd at a door for two; deadlines come and go. */
static int inside, ran;

static void stays_a_moment(void *arg)
{
    (void)arg;
    CHECK(__atomic_add_fetch(&inside, 1, __ATOMIC_RELAXED) <= 2);
    coir_yield();
    __atomic_sub_fetch(&inside, 1, __ATOMIC_RELAXED);
    run_count(&ran);
}

struct crowd {
    coir_domain *domain;
    coir_counter *counter;
    int *accepted;
};

static void pushes_in(void *arg)
{
    struct crowd *w = arg;
    uint64_t seed = (uint64_t)(uintptr_t)&seed | 1;

    for (int i = 0; i < MANY(4000); i++) {
        int64_t deadline = random_next(&seed) % 4 ? COIR_NEVER
                                                  : coir_now() + (int64_t)(random_next(&seed) % 50000);
        int status = coir_domain_submit_until(w->domain, w->counter, stays_a_moment, NULL, deadline);

        if (CHECK(status == COIR_OK || status == COIR_ETIMEDOUT) && status == COIR_OK)
            run_count(w->accepted);
    }
}

static void *pushes_in_on_a_thread(void *arg)
{
    pushes_in(arg);
    return NULL;
}

static void no_place_is_lost_in_a_crowd(void)
{
    coir_runtime *rt = run_open(2);
    coir_domain_options o = limited(2, COIR_FULL_WAIT);
    coir_domain *d = domain_open(rt, NULL, &o);
    coir_counter c = COIR_COUNTER_INIT, fibers = COIR_COUNTER_INIT;
    int accepted = 0;
    struct crowd w = {d, &c, &accepted};
    struct threads t = {0};
    coir_domain_stats s;

    inside = ran = 0;
    coir_counter_add(&c, 1); /* threads add to it while nobody owes */
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(coir_submit(rt, &fibers, pushes_in, &w), COIR_OK);
        threads_add(&t, pushes_in_on_a_thread, &w);
    }
    threads_join(&t);
    CHECK_EQ(coir_wait(&fibers), COIR_DONE);
    coir_counter_done(&c, COIR_DONE);
    CHECK(coir_wait(&c) <= COIR_EXPIRED);
    s = domain_stats(d);
    CHECK_EQ(s.admitted, accepted);
    CHECK_EQ(s.ended[COIR_DONE], ran);
    CHECK_EQ(s.ended[COIR_DONE] + s.ended[COIR_EXPIRED], accepted);
    domain_close(d);
    run_close(rt);
}

/* ---------------------------------------------------------------------------------------- run */

struct place {
    coir_domain *domain;
    char *frame; /* of who submits */
    int ran, inside;
};

static void runs_in_place(void *arg)
{
    struct place *p = arg;

    CHECK(coir_domain_current() == p->domain);
    /* On its stack; with moves between them, on another thread. */
    CHECK((uintptr_t)(p->frame - (char *)__builtin_frame_address(0)) < 16 << 10);
    CHECK_EQ(domain_stats(p->domain).in_flight, 2); /* past its limit of one: S3 */
    p->ran++;
}

static void caller_runs(void *arg)
{
    struct place *p = arg;
    coir_counter c = COIR_COUNTER_INIT;
    coir_domain *mine = coir_domain_current();
    coir_failure f;
    int ran = p->ran;

    p->frame = __builtin_frame_address(0);
    CHECK_EQ(coir_domain_submit(p->domain, &c, runs_in_place, p), COIR_OK);
    CHECK_EQ(p->ran, ran + 1); /* already */
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_domain_submit(p->domain, &c, job_panic, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    CHECK_EQ(coir_counter_failure(&c, &f), COIR_OK);
    CHECK_STR(f.message, "planned");
    coir_counter_init(&c);
    CHECK_EQ(coir_domain_submit_until(p->domain, &c, job_count, &p->ran, 0), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_EXPIRED);
    CHECK_EQ(p->ran, ran + 1);
    CHECK(coir_domain_current() == mine);
}

static void past_its_limit_the_caller_runs_the_job(void)
{
    coir_runtime *rt = run_open(2);
    coir_domain_options o = limited(1, COIR_FULL_RUN);
    coir_domain *d = domain_open(rt, NULL, &o), *other = domain_open(rt, NULL, NULL);
    struct hold h = {0, 0};
    struct place p = {d, NULL, 0, 0};
    coir_counter c = COIR_COUNTER_INIT, callers = COIR_COUNTER_INIT;

    CHECK_EQ(coir_domain_submit(d, &c, job_hold, &h), COIR_OK);
    run_until(&h.started);
    caller_runs(&p);
    CHECK_EQ(coir_try(caller_runs, &p, NULL), COIR_DONE);
    CHECK_EQ(coir_submit(rt, &callers, caller_runs, &p), COIR_OK);
    CHECK_EQ(coir_wait(&callers), COIR_DONE);
    CHECK_EQ(coir_domain_submit(other, &callers, caller_runs, &p), COIR_OK);
    CHECK_EQ(coir_wait(&callers), COIR_DONE);
    CHECK_EQ(p.ran, 4);
    CHECK_EQ(domain_stats(d).ended[COIR_PANICKED], 4);
    CHECK_EQ(domain_stats(d).ended[COIR_EXPIRED], 4);
    run_set(&h.go);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    domain_close(d);
    domain_close(other);
    run_close(rt);
}

/* The job blocks in the caller, who moves with it. */
static void yields_in_place(void *arg)
{
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_spawn(&c, job_count, arg), COIR_EAGAIN); /* its own domain is full */
    CHECK_EQ(coir_sleep_until(coir_now() + COIR_MS), COIR_OK);
    run_count(arg);
}

static void submits_a_job_that_blocks(void *arg)
{
    int n = 0;

    CHECK_EQ(coir_domain_submit(arg, NULL, yields_in_place, &n), COIR_OK);
    CHECK_EQ(n, 1);
}

/* Each runs the next in place: at some depth the stack says no. */
static void goes_deeper(void *arg)
{
    int *depth = arg, status;

    ++*depth;
    status = coir_domain_submit(coir_domain_current(), NULL, goes_deeper, arg);
    CHECK(status == COIR_OK || status == COIR_EAGAIN);
    CHECK(*depth < 10000);
}

static void jobs_in_place_may_block_and_do_not_overflow(void)
{
    coir_runtime *rt = run_open(2), *stranger = run_open(1);
    coir_domain_options o = limited(1, COIR_FULL_RUN);
    coir_domain *d = domain_open(rt, NULL, &o);
    struct hold h = {0, 0};
    coir_counter c = COIR_COUNTER_INIT, callers = COIR_COUNTER_INIT;
    struct entry e = {d, job_count, NULL, NULL, COIR_NEVER, 0, 1};
    int depth = 0;

    CHECK_EQ(coir_domain_submit(d, &c, job_hold, &h), COIR_OK);
    run_until(&h.started);
    CHECK_EQ(coir_submit(rt, &callers, submits_a_job_that_blocks, d), COIR_OK);
    CHECK_EQ(coir_wait(&callers), COIR_DONE);
    CHECK_EQ(coir_submit(stranger, &callers, enters, &e), COIR_OK);
    CHECK_EQ(coir_wait(&callers), COIR_DONE);
    CHECK_EQ(e.status, COIR_EAGAIN); /* a fiber of another runtime */
    run_set(&h.go);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(domain_run(d, goes_deeper, &depth, NULL), COIR_DONE);
    CHECK(depth > 3);
    domain_close(d);
    run_close(rt);
    run_close(stranger);
}

static void notes_cancel(void *arg)
{
    CHECK(!coir_canceled());
    CHECK_EQ(coir_domain_cancel(coir_domain_current()), COIR_OK);
    CHECK(coir_canceled());
    run_count(arg);
}

static void a_job_on_a_plain_thread_learns_of_a_cancel(void)
{
    coir_runtime *rt = run_open(1);
    coir_domain_options o = limited(1, COIR_FULL_RUN);
    coir_domain *d = domain_open(rt, NULL, &o);
    struct hold h = {0, 0};
    coir_counter c = COIR_COUNTER_INIT;
    int n = 0;

    CHECK_EQ(coir_domain_submit(d, &c, job_hold, &h), COIR_OK);
    run_until(&h.started);
    CHECK_EQ(coir_domain_submit(d, &c, notes_cancel, &n), COIR_OK);
    CHECK_EQ(n, 1);
    CHECK(!coir_canceled());
    run_set(&h.go);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    domain_close(d);
    run_close(rt);
}

CHECK_MAIN(CASE(the_limit_counts_queued_and_running_jobs_of_the_subtree),
           CASE(a_spawn_inside_a_full_domain_is_refused_whatever_it_does_else),
           CASE(a_limit_of_zero_is_none), CASE(what_the_queue_refuses_is_not_admitted),
           CASE(waiters_get_the_places_that_become_free), CASE(who_waits_in_vain_is_told_why),
           CASE(a_cancel_turns_away_who_waits), CASE(a_close_turns_away_who_waits),
           CASE(a_canceled_caller_stops_waiting), CASE(no_place_is_lost_in_a_crowd),
           CASE(past_its_limit_the_caller_runs_the_job),
           CASE(a_job_on_a_plain_thread_learns_of_a_cancel),
           CASE(jobs_in_place_may_block_and_do_not_overflow))
