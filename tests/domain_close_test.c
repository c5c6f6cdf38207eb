/* SPDX-License-Identifier: MIT */
/*
 * domain_close_test.c - closing a domain: who is still let in, what is canceled, what runs at the end,
 * what the receipt says; and all the ways not to close one.
 */
#include "domains.h"
#include "threads.h"

/* -------------------------------------------------------------------------------- closing well */

static void an_idle_domain_closes_at_once(void)
{
    coir_runtime *rt = run_open(2);
    coir_domain *d = domain_open(rt, NULL, NULL);
    coir_domain_receipt r;
    int n = 0;

    for (int i = 0; i < 10; i++)
        CHECK_EQ(domain_run(d, job_count, &n, NULL), COIR_DONE);
    CHECK_EQ(domain_run(d, job_panic, NULL, NULL), COIR_PANICKED);
    memset(&r, 0xff, sizeof r);
    CHECK_EQ(coir_domain_close(d, 0, &r), COIR_OK);
    CHECK_EQ(r.ended[COIR_DONE], 10);
    CHECK_EQ(r.ended[COIR_PANICKED], 1);
    CHECK_EQ(r.canceled + r.running + r.finalizers + r.stuck_count, 0);
    CHECK_EQ(r.phase, COIR_PHASE_FINALIZE);
    CHECK_EQ(r.phase_ns[COIR_PHASE_CANCEL], 0);
    run_close(rt);
}

/* A chain of jobs that goes on while the domain drains: they may spawn, outsiders may not submit. */
struct chain {
    coir_domain *domain;
    int left, outside; /* links to go; what an outsider was told */
    int closing;
};

static void link_of_chain(void *arg)
{
    struct chain *k = arg;

    if (k->left == 500)
        while (domain_stats(k->domain).state != COIR_DOMAIN_CLOSING)
            coir_yield();
    if (k->left == 300)
        k->outside = coir_domain_submit(k->domain, NULL, job_count, NULL);
    if (--k->left > 0)
        CHECK_EQ(coir_spawn(NULL, link_of_chain, k), COIR_OK);
}

static void a_draining_domain_lets_its_own_jobs_go_on(void)
{
    coir_runtime *rt = run_open(2);
    coir_domain *d = domain_open(rt, NULL, NULL);
    struct chain k = {d, 1000, 0, 0};
    coir_domain_receipt r;

    CHECK_EQ(coir_domain_submit(d, NULL, link_of_chain, &k), COIR_OK);
    CHECK_EQ(coir_domain_close(d, -1, &r), COIR_OK);
    CHECK_EQ(k.left, 0);
    CHECK_EQ(k.outside, COIR_ESHUTDOWN);
    CHECK_EQ(r.ended[COIR_DONE], 1000);
    run_close(rt);
}

struct closing {
    coir_domain *domain;
    int64_t drain_ns;
    int status;
    coir_domain_receipt receipt;
};

static void closes(void *arg)
{
    struct closing *k = arg;

    k->status = coir_domain_close(k->domain, k->drain_ns, &k->receipt);
}

static void a_fiber_outside_may_close_it(void)
{
    coir_runtime *rt = run_open(1);
    struct closing k = {domain_open(rt, NULL, NULL), -1, 1, {}};
    coir_counter c = COIR_COUNTER_INIT, done = COIR_COUNTER_INIT;
    int n = 0;

    for (int i = 0; i < 100; i++)
        CHECK_EQ(coir_domain_submit(k.domain, &c, job_count, &n), COIR_OK);
    CHECK_EQ(coir_submit(rt, &done, closes, &k), COIR_OK);
    CHECK_EQ(coir_wait(&done), COIR_DONE);
    CHECK_EQ(k.status, COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(n, 100);
    run_close(rt);
}

/* ---------------------------------------------------------------------------------- the budget */

static void past_the_budget_blocked_jobs_are_canceled(void)
{
    coir_runtime *rt = run_open(2);
    coir_domain *d = domain_open(rt, NULL, NULL), *child = domain_open(rt, d, NULL);
    struct blocked b[4] = {{0, 0}};
    int64_t begin = coir_now();
    uint64_t canceled;

    for (int i = 0; i < 4; i++)
        CHECK_EQ(coir_domain_submit(i % 2 ? d : child, NULL, job_block, &b[i]), COIR_OK);
    for (int i = 0; i < 4; i++)
        run_until(&b[i].started);
    domain_close_after(d, COIR_MS, &canceled);
    CHECK(coir_now() - begin >= COIR_MS);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(b[i].status, COIR_ECANCELED);
    CHECK(canceled <= 4); /* one that had not parked yet saw it by itself */
    run_close(rt);
}

/* Asked once to stop, it waits again: only the end of the close ends that. */
static void waits_twice(void *arg)
{
    coir_counter *never = arg;

    CHECK_EQ(coir_wait(never), COIR_ECANCELED);
    CHECK_EQ(coir_wait(never), COIR_ECANCELED);
}

static void a_wait_that_a_cancel_does_not_end_is_interrupted_last(void)
{
    static coir_counter never;
    coir_runtime *rt = run_open(2);
    coir_domain *d = domain_open(rt, NULL, NULL);

    coir_counter_add(&never, 1);
    CHECK_EQ(coir_domain_submit(d, NULL, waits_twice, &never), COIR_OK);
    domain_close_after(d, 0, NULL);
    coir_counter_done(&never, COIR_DONE);
    run_close(rt);
}

static void holds_under_a_name(void *arg)
{
    CHECK_EQ(coir_job_name("the one that stays"), COIR_OK);
    job_hold(arg);
}

/* Waits for its own job, cancel or not; that job runs on the other worker. */
static void waits_for_its_own(void *arg)
{
    struct hold *h = arg;
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_domain_submit(coir_domain_current(), &c, job_hold, h), COIR_OK);
    run_until(&h->started);
    while (coir_wait(&c) < 0)
        ;
}

static void jobs_that_do_not_end_are_named(void)
{
    coir_runtime *rt = run_open(2);
    coir_domain *d = domain_open(rt, NULL, NULL);
    struct hold h = {0, 0};
    coir_counter c = COIR_COUNTER_INIT;
    coir_domain_receipt r;
    int n = 0;

    CHECK_EQ(coir_domain_submit(d, &c, holds_under_a_name, &h), COIR_OK);
    run_until(&h.started);
    CHECK_EQ(coir_domain_close(d, 0, &r), COIR_ETIMEDOUT);
    CHECK_EQ(r.phase, COIR_PHASE_CANCEL);
    CHECK_EQ(r.running, 1);
    CHECK_EQ(r.stuck_count, 1);
    CHECK(r.stuck[0].job != 0);
    CHECK(r.stuck[0].fn == holds_under_a_name);
    CHECK_STR(r.stuck[0].name, "the one that stays");
    CHECK(r.stuck[0].owed_to == &c);
    /* The handle is valid: it can be looked at, and closed once more. */
    CHECK_EQ(domain_stats(d).state, COIR_DOMAIN_CLOSING);
    CHECK_EQ(coir_domain_submit(d, NULL, job_count, &n), COIR_ESHUTDOWN);
    CHECK_EQ(coir_domain_finalizer(d, job_count, &n), COIR_ESHUTDOWN);
    CHECK_EQ(coir_domain_close(d, 0, NULL), COIR_ETIMEDOUT);
    run_set(&h.go);
    CHECK_EQ(coir_domain_close(d, -1, &r), COIR_OK);
    CHECK_EQ(r.ended[COIR_DONE], 1);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    run_close(rt);
}

/* What is said of the one that waits. */
static const struct coir_stuck *close_in_vain(coir_domain *d)
{
    static coir_domain_receipt r;

    CHECK_EQ(coir_domain_close(d, 0, &r), COIR_ETIMEDOUT);
    CHECK_EQ(r.running, 2);
    CHECK_EQ(r.stuck_count, 2);
    for (unsigned k = 0; k < r.stuck_count; k++)
        if (r.stuck[k].fn == waits_for_its_own)
            return &r.stuck[k];
    return NULL;
}

static void what_a_parked_job_waits_for_is_named(void)
{
    coir_runtime *rt = run_open(2);
    coir_domain *d = domain_open(rt, NULL, NULL);
    struct hold h = {0, 0};
    const struct coir_stuck *waiting;

    CHECK_EQ(coir_domain_submit(d, NULL, waits_for_its_own, &h), COIR_OK);
    run_until(&h.started);
    do
        waiting = close_in_vain(d);
    while (waiting && !waiting->waits_for); /* on its way */
    if (CHECK(waiting != NULL)) {
        CHECK_STR(waiting->waits_for, "counter");
        CHECK(waiting->waits_on != NULL);
    }
    run_set(&h.go);
    CHECK_EQ(coir_domain_close(d, -1, NULL), COIR_OK);
    run_close(rt);
}

static void a_canceled_closer_cancels_and_goes_on(void)
{
    coir_runtime *rt = run_open(2);
    struct closing k = {domain_open(rt, NULL, NULL), -1, 1, {}};
    struct blocked b = {0, 0};
    coir_counter done = COIR_COUNTER_INIT;

    CHECK_EQ(coir_domain_submit(k.domain, NULL, job_block, &b), COIR_OK);
    run_until(&b.started);
    CHECK_EQ(coir_submit(rt, &done, closes, &k), COIR_OK);
    while (domain_stats(k.domain).state != COIR_DOMAIN_CLOSING)
        sched_yield();
    CHECK_EQ(coir_counter_cancel(&done), COIR_OK);
    CHECK_EQ(coir_wait(&done), COIR_DONE);
    if (k.status == COIR_ETIMEDOUT) /* the machine is busy */
        domain_close_after(k.domain, 0, NULL);
    else
        CHECK_EQ(k.status, COIR_OK);
    CHECK_EQ(b.status, COIR_ECANCELED);
    run_close(rt);
}

/* --------------------------------------------------------------------------------- finalizers */

struct order {
    int n, seen[8];
};

struct mark {
    struct order *order;
    int value;
};

static void notes(void *arg)
{
    struct mark *m = arg;

    m->order->seen[m->order->n++] = m->value;
}

static void notes_and_panics(void *arg)
{
    notes(arg);
    coir_panic("in a finalizer");
}

static void finalizers_run_last_in_first_out_whatever_they_do(void)
{
    coir_runtime *rt = run_open(2);
    coir_domain *d = domain_open(rt, NULL, NULL), *child = domain_open(rt, d, NULL);
    struct order order = {0, {0}};
    struct mark m[5] = {{&order, 0}, {&order, 1}, {&order, 2}, {&order, 3}, {&order, 4}};
    coir_domain_receipt r;

    CHECK_EQ(coir_domain_finalizer(d, notes, &m[0]), COIR_OK);
    CHECK_EQ(coir_domain_finalizer(child, notes, &m[3]), COIR_OK);
    CHECK_EQ(coir_domain_finalizer(d, notes_and_panics, &m[1]), COIR_OK);
    CHECK_EQ(coir_domain_finalizer(d, notes, &m[2]), COIR_OK);
    CHECK_EQ(coir_domain_finalizer(child, notes_and_panics, &m[4]), COIR_OK);
    CHECK_EQ(order.n, 0);
    CHECK_EQ(coir_domain_close(d, -1, &r), COIR_OK);
    CHECK_EQ(order.n, 5);
    CHECK_EQ(order.seen[0], 4); /* the one below first */
    CHECK_EQ(order.seen[1], 3);
    CHECK_EQ(order.seen[2], 2);
    CHECK_EQ(order.seen[3], 1);
    CHECK_EQ(order.seen[4], 0);
    CHECK_EQ(r.finalizers, 5);
    CHECK_EQ(r.finalizer_panics, 2);
    run_close(rt);
}

/* The closer is canceled while its finalizer blocks: the finalizer does not notice. */
struct slow {
    int started, slept, canceled;
    int go;
};

static void blocks_a_while(void *arg)
{
    struct slow *s = arg;

    run_set(&s->started);
    run_until(&s->go);
    s->canceled = coir_canceled();
    s->slept = coir_sleep_until(coir_now() + COIR_MS);
}

static void a_cancel_does_not_reach_finalizers(void)
{
    coir_runtime *rt = run_open(2);
    struct closing k = {domain_open(rt, NULL, NULL), -1, 1, {}};
    struct slow s = {0, 1, 1, 0};
    coir_counter done = COIR_COUNTER_INIT;

    CHECK_EQ(coir_domain_finalizer(k.domain, blocks_a_while, &s), COIR_OK);
    CHECK_EQ(coir_submit(rt, &done, closes, &k), COIR_OK);
    run_until(&s.started);
    CHECK_EQ(coir_counter_cancel(&done), COIR_OK);
    run_set(&s.go);
    CHECK_EQ(coir_wait(&done), COIR_DONE);
    CHECK_EQ(s.canceled, 0);
    CHECK_EQ(s.slept, COIR_OK);
    run_close(rt);
}

/* ----------------------------------------------------------------------------- how not to close */

static void closes_its_own(void *arg)
{
    coir_domain *d = arg;

    CHECK_EQ(coir_domain_close(d, 0, NULL), COIR_EDEADLK);
}

static void closes_inside_a_try(void *arg)
{
    CHECK_EQ(coir_try(closes_its_own, arg, NULL), COIR_DONE);
}

static void closing_from_inside_is_refused(void)
{
    coir_runtime *rt = run_open(1);
    coir_domain *d = domain_open(rt, NULL, NULL), *child = domain_open(rt, d, NULL);

    CHECK_EQ(domain_run(d, closes_its_own, d, NULL), COIR_DONE);
    CHECK_EQ(domain_run(child, closes_inside_a_try, d, NULL), COIR_DONE);
    CHECK_EQ(domain_stats(d).state, COIR_DOMAIN_OPEN);
    domain_close(d);
    run_close(rt);
}

static void closes_again(void *arg)
{
    CHECK_EQ(coir_domain_close(arg, 0, NULL), COIR_EBUSY);
}

static void *closes_on_a_thread(void *arg)
{
    closes(arg);
    return NULL;
}

static void one_closes_at_a_time_above_and_below_too(void)
{
    coir_runtime *rt = run_open(2);
    coir_domain *top = domain_open(rt, NULL, NULL), *middle = domain_open(rt, top, NULL),
                *low = domain_open(rt, middle, NULL), *none = NULL;
    struct closing k = {middle, -1, 1, {}};
    struct hold h = {0, 0};
    struct threads t = {0};

    CHECK_EQ(coir_domain_finalizer(middle, closes_again, middle), COIR_OK);
    CHECK_EQ(coir_domain_submit(low, NULL, job_hold, &h), COIR_OK);
    run_until(&h.started);
    threads_add(&t, closes_on_a_thread, &k);
    while (domain_stats(low).state != COIR_DOMAIN_CLOSING)
        sched_yield();
    closes_again(middle);
    closes_again(low);
    closes_again(top); /* the parent before the child */
    CHECK_EQ(domain_stats(top).state, COIR_DOMAIN_OPEN);
    CHECK_EQ(coir_domain_open(rt, low, NULL, &none), COIR_ESHUTDOWN);
    run_set(&h.go);
    threads_join(&t);
    CHECK_EQ(k.status, COIR_OK);
    domain_close(top);
    run_close(rt);
}

/* ------------------------------------------------------------------------ closing the runtime */

static void the_runtime_closes_what_is_open(void)
{
    coir_runtime *rt = run_open(2);
    coir_domain *d = domain_open(rt, NULL, NULL), *child = domain_open(rt, d, NULL);
    struct order order = {0, {0}};
    struct mark m[2] = {{&order, 0}, {&order, 1}};
    struct blocked b = {0, 0};

    domain_open(rt, NULL, NULL);
    CHECK_EQ(coir_domain_finalizer(d, notes, &m[0]), COIR_OK);
    CHECK_EQ(coir_domain_finalizer(child, notes, &m[1]), COIR_OK);
    CHECK_EQ(coir_domain_submit(child, NULL, job_block, &b), COIR_OK);
    run_until(&b.started);
    while (coir_close(rt, COIR_MS, NULL) == COIR_ETIMEDOUT)
        ; /* the machine is busy */
    CHECK_EQ(b.status, COIR_ECANCELED);
    CHECK_EQ(order.n, 2);
    CHECK_EQ(order.seen[0], 1);
}

/* A job that goes past the limit, on the thread that called: the runtime's own books do not hold it. */
struct outside {
    coir_domain *domain;
    struct hold hold;
};

static void *submits_in_place(void *arg)
{
    struct outside *o = arg;

    CHECK_EQ(coir_domain_submit(o->domain, NULL, job_hold, &o->hold), COIR_OK);
    return NULL;
}

static void the_runtime_waits_for_jobs_on_plain_threads(void)
{
    coir_runtime *rt = run_open(1);
    coir_domain_options options = domain_options("outside");
    struct outside o = {NULL, {0, 0}};
    struct hold first = {0, 0};
    struct threads t = {0};

    options.jobs_max = 1;
    options.full = COIR_FULL_RUN;
    o.domain = domain_open(rt, NULL, &options);
    CHECK_EQ(coir_domain_submit(o.domain, NULL, job_hold, &first), COIR_OK);
    threads_add(&t, submits_in_place, &o);
    run_until(&o.hold.started);
    run_set(&first.go);
    CHECK_EQ(coir_close(rt, COIR_MS, NULL), COIR_ETIMEDOUT);
    run_set(&o.hold.go);
    CHECK_EQ(coir_close(rt, -1, NULL), COIR_OK);
    threads_join(&t);
}

static void a_closing_runtime_opens_no_domain(void)
{
    coir_runtime *rt = run_open(1);
    coir_counter c = COIR_COUNTER_INIT;
    struct hold h = {0, 0};
    coir_domain *d;

    CHECK_EQ(coir_submit(rt, &c, job_hold, &h), COIR_OK);
    run_until(&h.started);
    CHECK_EQ(coir_close(rt, 0, NULL), COIR_ETIMEDOUT);
    CHECK_EQ(coir_domain_open(rt, NULL, NULL, &d), COIR_ESHUTDOWN);
    run_set(&h.go);
    CHECK_EQ(coir_close(rt, -1, NULL), COIR_OK);
}

CHECK_MAIN(CASE(an_idle_domain_closes_at_once), CASE(a_draining_domain_lets_its_own_jobs_go_on),
           CASE(a_fiber_outside_may_close_it), CASE(past_the_budget_blocked_jobs_are_canceled),
           CASE(a_wait_that_a_cancel_does_not_end_is_interrupted_last),
           CASE(jobs_that_do_not_end_are_named), CASE(what_a_parked_job_waits_for_is_named),
           CASE(a_canceled_closer_cancels_and_goes_on),
           CASE(finalizers_run_last_in_first_out_whatever_they_do),
           CASE(a_cancel_does_not_reach_finalizers), CASE(closing_from_inside_is_refused),
           CASE(one_closes_at_a_time_above_and_below_too), CASE(the_runtime_closes_what_is_open),
           CASE(the_runtime_waits_for_jobs_on_plain_threads),
           CASE(a_closing_runtime_opens_no_domain))
