/* SPDX-License-Identifier: MIT */
/*
 * domain_stuck_test.c - a domain is closed while jobs of it do not end: whoever waits for them is told,
 * nobody else is, and what is only queued ends.
 */
#include "counter.h"
#include "domains.h"
#include "threads.h"

/* Never suspends: nothing gets past it on its worker. */
static void job_spin(void *arg)
{
    struct hold *h = arg;

    run_set(&h->started);
    while (!__atomic_load_n(&h->go, __ATOMIC_ACQUIRE))
        sched_yield();
}

struct waiter {
    coir_counter *counter, *other; /* other not NULL: coir_wait_any of both */
    int told, last;                /* COIR_ECANCELED has come; what came in the end */
};

static void waits(void *arg)
{
    struct waiter *w = arg;
    coir_counter *const both[] = {w->other, w->counter};
    size_t which;

    do {
        w->last = w->other ? coir_wait_any(both, 2, COIR_NEVER, &which) : coir_wait(w->counter);
        if (w->last == COIR_ECANCELED)
            run_set(&w->told);
    } while (w->last == COIR_ECANCELED);
}

static void *waits_on_a_thread(void *arg)
{
    waits(arg);
    return NULL;
}

static void until_waited_for(coir_counter *c)
{
    while (!(atomic_load_explicit(&counter_of(c)->state, memory_order_relaxed) & COUNTER_WAITERS))
        sched_yield();
}

/* Some may not sleep yet when the close comes, so it is repeated. Returns how many it has told. */
static uint64_t close_until_told(coir_domain *d, const struct waiter *w, unsigned n)
{
    coir_domain_receipt r;
    uint64_t told = 0;

    for (unsigned i = 0; i < n;) {
        CHECK_EQ(coir_domain_close(d, 0, &r), COIR_ETIMEDOUT);
        told += r.told;
        while (i < n && __atomic_load_n(&w[i].told, __ATOMIC_ACQUIRE))
            i++;
    }
    return told;
}

static void whoever_waits_for_a_stuck_job_is_told(void)
{
    coir_runtime *rt = run_open(2), *elsewhere = run_open(1);
    coir_domain *d = domain_open(rt, NULL, NULL), *child = domain_open(rt, d, NULL);
    coir_counter c = COIR_COUNTER_INIT, other = COIR_COUNTER_INIT, done = COIR_COUNTER_INIT;
    struct waiter w[6];
    struct hold h = {0, 0};
    struct threads t = {0};

    for (int i = 0; i < 6; i++)
        w[i] = (struct waiter){&c, i % 2 ? &other : NULL, 0, 1};
    coir_counter_add(&other, 1);
    CHECK_EQ(coir_domain_submit(child, &c, job_spin, &h), COIR_OK);
    run_until(&h.started);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(coir_submit(rt, &done, waits, &w[i]), COIR_OK);
        CHECK_EQ(coir_submit(elsewhere, &done, waits, &w[2 + i]), COIR_OK);
        threads_add(&t, waits_on_a_thread, &w[4 + i]);
    }
    until_waited_for(&c);
    CHECK(close_until_told(d, w, 6) >= 6);
    run_set(&h.go);
    threads_join(&t);
    CHECK_EQ(coir_wait(&done), COIR_DONE);
    for (int i = 0; i < 6; i++)
        CHECK_EQ(w[i].last, COIR_DONE); /* the real end */
    coir_counter_done(&other, COIR_DONE);
    CHECK_EQ(coir_domain_close(d, -1, NULL), COIR_OK);
    run_close(elsewhere);
    run_close(rt);
}

static void who_waits_for_something_else_is_not(void)
{
    coir_runtime *rt = run_open(2);
    coir_domain *d = domain_open(rt, NULL, NULL), *sibling = domain_open(rt, NULL, NULL);
    coir_counter stuck = COIR_COUNTER_INIT, beside = COIR_COUNTER_INIT, done = COIR_COUNTER_INIT;
    struct hold h = {0, 0};
    struct waiter w[2] = {{&beside, NULL, 0, 1}, {&beside, NULL, 0, 1}};
    struct threads t = {0};
    coir_domain_receipt r;

    coir_counter_add(&beside, 1);
    CHECK_EQ(coir_domain_submit(d, &stuck, job_spin, &h), COIR_OK);
    run_until(&h.started);
    CHECK_EQ(coir_domain_submit(sibling, &done, waits, &w[0]), COIR_OK);
    threads_add(&t, waits_on_a_thread, &w[1]);
    until_waited_for(&beside);
    CHECK_EQ(coir_domain_close(d, 0, &r), COIR_ETIMEDOUT);
    CHECK_EQ(r.told, 0);
    coir_counter_done(&beside, COIR_DONE);
    threads_join(&t);
    CHECK_EQ(coir_wait(&done), COIR_DONE);
    CHECK_EQ(w[0].told + w[1].told, 0);
    run_set(&h.go);
    CHECK_EQ(coir_domain_close(d, -1, NULL), COIR_OK);
    run_close(rt);
}

/* On the only worker: it spawns, and does not come for what it has queued. */
struct crowd {
    struct hold hold;
    coir_domain *beside;
    coir_counter own, strangers; /* whom the queued jobs owe */
    int ran;
};

static void spawns_and_spins(void *arg)
{
    struct crowd *k = arg;

    for (int i = 0; i < 100; i++) {
        CHECK_EQ(coir_spawn(&k->own, job_count, &k->ran), COIR_OK);
        CHECK_EQ(coir_domain_submit(k->beside, &k->strangers, job_count, &k->ran), COIR_OK);
    }
    job_spin(&k->hold);
}

static void what_is_queued_behind_a_stuck_job_ends(void)
{
    coir_runtime *rt = run_open(1);
    coir_domain *d = domain_open(rt, NULL, NULL);
    struct crowd k = {.beside = domain_open(rt, NULL, NULL)};
    coir_domain_receipt r;

    CHECK_EQ(coir_domain_submit(d, NULL, spawns_and_spins, &k), COIR_OK);
    run_until(&k.hold.started);
    for (int i = 0; i < 300; i++) { /* more than a chunk of the injector */
        CHECK_EQ(coir_domain_submit(d, &k.own, job_count, &k.ran), COIR_OK);
        CHECK_EQ(coir_submit(rt, &k.strangers, job_count, &k.ran), COIR_OK);
    }
    CHECK_EQ(coir_domain_close(d, 0, &r), COIR_ETIMEDOUT);
    CHECK_EQ(r.running, 1);
    CHECK_EQ(r.ended[COIR_CANCELED], 400);
    CHECK_EQ(coir_wait(&k.own), COIR_CANCELED); /* while the worker is stuck */
    CHECK_EQ(k.ran, 0);
    run_set(&k.hold.go);
    CHECK_EQ(coir_wait(&k.strangers), COIR_DONE);
    CHECK_EQ(k.ran, 400); /* of others, each once */
    CHECK_EQ(coir_domain_close(d, -1, NULL), COIR_OK);
    run_close(rt);
}

/* A job that runs in its caller, on a plain thread. */
struct outside {
    coir_domain *domain;
    coir_counter *counter;
    struct hold hold;
};

static void *submits_in_place(void *arg)
{
    struct outside *o = arg;

    CHECK_EQ(coir_domain_submit(o->domain, o->counter, job_hold, &o->hold), COIR_OK);
    return NULL;
}

static void a_job_on_a_plain_thread_is_owed_too(void)
{
    coir_runtime *rt = run_open(1);
    coir_domain_options options = domain_options("outside");
    coir_counter c = COIR_COUNTER_INIT;
    struct waiter w = {&c, NULL, 0, 1};
    struct outside o = {NULL, &c, {0, 0}};
    struct hold first = {0, 0};
    struct threads t = {0};
    coir_domain_receipt r;

    options.jobs_max = 1;
    options.full = COIR_FULL_RUN;
    o.domain = domain_open(rt, NULL, &options);
    CHECK_EQ(coir_domain_submit(o.domain, NULL, job_hold, &first), COIR_OK);
    threads_add(&t, submits_in_place, &o);
    run_until(&o.hold.started);
    run_set(&first.go);
    threads_add(&t, waits_on_a_thread, &w);
    until_waited_for(&c);
    CHECK(close_until_told(o.domain, &w, 1) >= 1);
    CHECK_EQ(coir_domain_close(o.domain, 0, &r), COIR_ETIMEDOUT);
    CHECK_EQ(r.stuck_count, 1);
    CHECK(r.stuck[0].owed_to == &c);
    run_set(&o.hold.go);
    threads_join(&t);
    CHECK_EQ(w.last, COIR_DONE);
    CHECK_EQ(coir_domain_close(o.domain, -1, NULL), COIR_OK);
    run_close(rt);
}

/* A thread waits for a place that the stuck job holds. */
struct entrant {
    coir_domain *domain;
    int waits, told, status;
};

static void *enters(void *arg)
{
    struct entrant *e = arg;

    run_set(&e->waits);
    e->status = coir_domain_submit(e->domain, NULL, job_count, NULL);
    run_set(&e->told);
    return NULL;
}

static void a_close_of_the_runtime_turns_away_who_waits_for_a_place(void)
{
    coir_domain_options o = domain_options("full");
    coir_runtime *rt = run_open(1);
    struct entrant e[2] = {{NULL, 0, 0, 1}, {NULL, 0, 0, 1}};
    struct hold h = {0, 0};
    struct threads t = {0};

    o.jobs_max = 1;
    o.full = COIR_FULL_WAIT;
    e[0].domain = domain_open(rt, NULL, &o);
    e[1].domain = domain_open(rt, e[0].domain, NULL); /* waits at the level above */
    CHECK_EQ(coir_domain_submit(e[0].domain, NULL, job_spin, &h), COIR_OK);
    run_until(&h.started);
    for (int i = 0; i < 2; i++)
        threads_add(&t, enters, &e[i]);
    run_until(&e[0].waits);
    run_until(&e[1].waits);
    CHECK_EQ(coir_close(rt, 0, NULL), COIR_ETIMEDOUT);
    for (int i = 0; i < 2; i++) {
        run_until(&e[i].told); /* while the job is stuck, though they may line up only now */
        CHECK_EQ(e[i].status, COIR_ESHUTDOWN);
    }
    enters(&e[1]); /* who comes later does not wait either */
    CHECK_EQ(e[1].status, COIR_ESHUTDOWN);
    run_set(&h.go);
    threads_join(&t);
    run_close(rt);
}

/* Counters that settle and go, in frames that are used again, while a close looks for who waits. */
struct churn {
    coir_runtime *rt;
    coir_domain *domain;
    int stop, wrong;
};

static void one_round(void *arg)
{
    struct churn *k = arg;
    coir_counter c = COIR_COUNTER_INIT;
    int n = 0;

    CHECK_EQ(coir_spawn_many(&c, job_count, &n, 0, 4), COIR_OK);
    if (coir_wait(&c) == COIR_ECANCELED) { /* nobody has canceled these */
        __atomic_store_n(&k->wrong, 1, __ATOMIC_RELAXED);
        while (coir_wait(&c) < 0)
            ;
    }
}

static void *churns(void *arg)
{
    struct churn *k = arg;
    coir_counter c = COIR_COUNTER_INIT;

    while (!__atomic_load_n(&k->stop, __ATOMIC_ACQUIRE)) {
        CHECK_EQ(coir_submit(k->rt, &c, one_round, k), COIR_OK);
        CHECK_EQ(coir_wait(&c), COIR_DONE);
    }
    return NULL;
}

static void nobody_is_told_in_error(void)
{
    coir_runtime *rt = run_open(3);
    struct churn k = {rt, NULL, 0, 0};
    struct threads t = {0};

    for (int i = 0; i < 3; i++)
        threads_add(&t, churns, &k);
    for (int i = 0; i < 3; i++) {
        struct hold h = {0, 0};
        coir_counter c = COIR_COUNTER_INIT;

        k.domain = domain_open(rt, NULL, NULL);
        CHECK_EQ(coir_domain_submit(k.domain, &c, job_hold, &h), COIR_OK);
        run_until(&h.started);
        CHECK_EQ(coir_domain_close(k.domain, 0, NULL), COIR_ETIMEDOUT);
        run_set(&h.go);
        CHECK_EQ(coir_wait(&c), COIR_DONE);
        CHECK_EQ(coir_domain_close(k.domain, -1, NULL), COIR_OK);
    }
    run_set(&k.stop);
    threads_join(&t);
    CHECK_EQ(k.wrong, 0);
    run_close(rt);
}

CHECK_MAIN(CASE(whoever_waits_for_a_stuck_job_is_told), CASE(who_waits_for_something_else_is_not),
           CASE(what_is_queued_behind_a_stuck_job_ends), CASE(a_job_on_a_plain_thread_is_owed_too),
           CASE(a_close_of_the_runtime_turns_away_who_waits_for_a_place), CASE(nobody_is_told_in_error))
