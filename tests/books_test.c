/* SPDX-License-Identifier: MIT */
/*
 * books_test.c - coir_books_check: balanced books are called so in every state of a runtime, cooked ones are not,
 * and under load there is no false alarm.
 */
#include "domain.h"
#include "run.h"

#include <pthread.h>

static coir_event gate;

static void waits(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_event_wait(&gate), COIR_OK);
}

static void nothing(void *unused)
{
    (void)unused;
}

/* Until there is a verdict. */
static int check_books(coir_runtime *rt, coir_books *b)
{
    int status;

    while ((status = coir_books_check(rt, b)) == COIR_EAGAIN)
        sched_yield();
    return status;
}

/* ----------------------------------------------------------------------------------- what balances */

static void they_balance_before_anything_has_happened(void)
{
    coir_runtime *rt = run_open(2);
    coir_books b;

    CHECK_EQ(check_books(rt, &b), COIR_OK);
    CHECK_EQ(b.accepted + b.ended + b.queued + b.started, 0);
    CHECK_EQ(b.stacks, b.stacks_used + b.stacks_kept);
    CHECK(b.stacks_used >= 2); /* the workers' loops */
    CHECK_EQ(check_books(rt, NULL), COIR_OK);
    CHECK_EQ(coir_books_check(NULL, &b), COIR_EINVAL);
    run_close(rt);
}

/* On the worker itself: one that waits in place for a child, one that waits for another, one queued. */
static void looks(void *arg)
{
    coir_counter waiting = COIR_COUNTER_INIT, pending = COIR_COUNTER_INIT;
    coir_books *b = arg;

    CHECK_EQ(coir_spawn(&waiting, waits, NULL), COIR_OK);
    CHECK_EQ(coir_spawn_after(&waiting, &pending, nothing, NULL), COIR_OK);
    coir_yield();
    CHECK_EQ(coir_spawn(&waiting, nothing, NULL), COIR_OK);
    CHECK_EQ(check_books(coir_current(), b), COIR_OK);
    CHECK_EQ(coir_event_set(&gate), COIR_OK);
    CHECK_EQ(coir_wait(&pending), COIR_DONE);
    CHECK_EQ(coir_wait(&waiting), COIR_DONE);
}

static void what_waits_and_what_is_queued_is_found(void)
{
    coir_runtime *rt = run_open(1);
    coir_counter c = COIR_COUNTER_INIT;
    coir_books b;

    coir_event_init(&gate);
    CHECK_EQ(coir_submit(rt, &c, looks, &b), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(b.accepted, 4);
    CHECK_EQ(b.started, 2); /* the one that looks, and the one at the gate */
    CHECK_EQ(b.queued, 2);
    CHECK_EQ(check_books(rt, &b), COIR_OK);
    CHECK_EQ(b.ended, 4);
    run_close(rt);
}

static void a_thousand_that_are_parked_are_found_from_outside(void)
{
    coir_runtime *rt = run_open(2);
    coir_counter c = COIR_COUNTER_INIT;
    coir_domain *d;
    coir_books b;

    coir_event_init(&gate);
    CHECK_EQ(coir_domain_open(rt, NULL, NULL, &d), COIR_OK);
    for (int i = 0; i < 1000; i++)
        CHECK_EQ(coir_domain_submit(d, &c, waits, NULL), COIR_OK);
    do
        CHECK_EQ(check_books(rt, &b), COIR_OK);
    while (b.started < 1000);
    CHECK(b.stacks_used >= 1000);
    CHECK_EQ(coir_event_set(&gate), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_domain_close(d, -1, NULL), COIR_OK);
    CHECK_EQ(check_books(rt, &b), COIR_OK);
    CHECK_EQ(b.started, 0);
    run_close(rt);
}

/* --------------------------------------------------------------------------------- what does not */

static void cooked(coir_runtime *rt, _Atomic uint64_t *figure, uint64_t by, const char *what)
{
    coir_books b;

    atomic_fetch_add_explicit(figure, by, memory_order_relaxed);
    CHECK_EQ(check_books(rt, &b), COIR_EIMBALANCE);
    CHECK(strstr(b.what, what) == b.what);
    atomic_fetch_sub_explicit(figure, by, memory_order_relaxed);
    CHECK_EQ(check_books(rt, &b), COIR_OK);
    CHECK_EQ(b.what[0], '\0');
}

static void each_figure_that_is_wrong_is_found(void)
{
    coir_runtime *rt = run_open(2);
    coir_counter c = COIR_COUNTER_INIT;
    coir_domain *d;

    coir_event_init(&gate);
    CHECK_EQ(coir_domain_open(rt, NULL, NULL, &d), COIR_OK);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(coir_domain_submit(d, &c, waits, NULL), COIR_OK);
    cooked(rt, &rt->worker[0]->spawned, 1, "jobs: 11 accepted, 0 ended,");
    cooked(rt, &rt->worker[1]->ended[COIR_PANICKED], 1, "jobs: 10 accepted, 1 ended,");
    cooked(rt, &rt->ended_outside, 3, "jobs: 10 accepted, 3 ended,");
    cooked(rt, &d->admitted, 1, "domain domain: 11 jobs admitted, 0 ended, 10 in flight");
    lock_take(&rt->stacks.lock);
    rt->stacks.cold_count++;
    lock_drop(&rt->stacks.lock);
    CHECK_EQ(check_books(rt, NULL), COIR_EIMBALANCE); /* a stack that is in two places, or in none */
    lock_take(&rt->stacks.lock);
    rt->stacks.cold_count--;
    lock_drop(&rt->stacks.lock);
    CHECK_EQ(coir_event_set(&gate), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_domain_close(d, -1, NULL), COIR_OK);
    run_close(rt);
}

/* ------------------------------------------------------------------------------------- under load */

static int done;

static void computes(void *unused)
{
    (void)unused;
    while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE))
        ;
}

static void a_runtime_that_is_not_quiet_is_not_judged(void)
{
    coir_runtime *rt = run_open(2);
    coir_counter c = COIR_COUNTER_INIT;
    coir_books b;

    done = 0;
    CHECK_EQ(coir_submit(rt, &c, computes, NULL), COIR_OK);
    atomic_fetch_add_explicit(&rt->worker[0]->spawned, 1, memory_order_relaxed);
    for (int i = 0; i < 100; i++)
        CHECK_EQ(coir_books_check(rt, &b), COIR_EAGAIN);
    CHECK_EQ(b.what[0], '\0');
    atomic_fetch_sub_explicit(&rt->worker[0]->spawned, 1, memory_order_relaxed);
    run_set(&done);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    run_close(rt);
}

static void panics(void *unused)
{
    (void)unused;
    coir_panic("planned");
}

static void mixes(void *domain)
{
    coir_counter c = COIR_COUNTER_INIT, later = COIR_COUNTER_INIT;
    coir_obligation owed;

    CHECK_EQ(coir_obligation_take(domain, "a reply", &owed), COIR_OK);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(coir_spawn(&c, i % 2 ? nothing : panics, NULL), COIR_OK);
    CHECK_EQ(coir_spawn_after(&c, &later, nothing, NULL), COIR_OK);
    CHECK_EQ(coir_sleep_until(coir_now() + 50 * COIR_US), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    CHECK_EQ(coir_wait(&later), COIR_CANCELED);
    CHECK_EQ(coir_obligation_discharge(owed), COIR_OK);
}

struct load {
    coir_runtime *rt;
    coir_domain *domain;
};

/* Keeps some hundred jobs going, from outside. */
static void *submits(void *arg)
{
    struct load *l = arg;
    coir_counter c = COIR_COUNTER_INIT;

    while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE)) {
        for (int i = 0; i < 20; i++)
            CHECK_EQ(coir_domain_submit(l->domain, &c, mixes, l->domain), COIR_OK);
        CHECK_EQ(coir_wait(&c), COIR_DONE);
        coir_counter_init(&c);
    }
    return NULL;
}

static int busy, verdicts, alarms; /* what was answered: jobs are under way; they balance; they do not */

static void ask(coir_runtime *rt)
{
    coir_books b;
    int status = coir_books_check(rt, &b);

    if (status == COIR_EIMBALANCE)
        fprintf(stderr, "%s\n", b.what);
    run_count(status == COIR_EIMBALANCE ? &alarms : status == COIR_OK ? &verdicts : &busy);
}

/* Whether there was a load, and each answer; however long that takes on this machine. */
static int has_seen_enough(coir_runtime *rt)
{
    coir_stats s;

    CHECK_EQ(coir_stats_read(rt, &s), COIR_OK);
    return s.ended[COIR_DONE] > 1000 && __atomic_load_n(&verdicts, __ATOMIC_RELAXED) && __atomic_load_n(&busy, __ATOMIC_RELAXED);
}

static void asks(void *rt)
{
    while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE)) {
        ask(rt);
        CHECK_EQ(coir_sleep_until(coir_now() + 100 * COIR_US), COIR_OK);
    }
}

static void under_load_there_is_no_false_alarm(void)
{
    coir_options o = run_options(2);
    struct load l;
    pthread_t thread[2];
    coir_counter c = COIR_COUNTER_INIT;
    coir_books b;
    int64_t end;

    done = busy = verdicts = alarms = 0;
    o.quiet = 1;
    o.spin_ns = -1;
    CHECK_EQ(coir_open(&o, &l.rt), COIR_OK);
    CHECK_EQ(coir_domain_open(l.rt, NULL, NULL, &l.domain), COIR_OK);
    CHECK_EQ(coir_submit(l.rt, &c, asks, l.rt), COIR_OK);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, submits, &l), 0);
    end = coir_now() + COIR_SEC;
    while (coir_now() < end || !has_seen_enough(l.rt))
        ask(l.rt);
    run_set(&done);
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(check_books(l.rt, &b), COIR_OK);
    CHECK_EQ(alarms, 0);
    printf("%llu jobs ended; asked %d times, answered %d times\n", (unsigned long long)b.ended, verdicts + busy, verdicts);
    CHECK_EQ(coir_domain_close(l.domain, -1, NULL), COIR_OK);
    run_close(l.rt);
}

CHECK_MAIN(CASE(they_balance_before_anything_has_happened), CASE(what_waits_and_what_is_queued_is_found),
           CASE(a_thousand_that_are_parked_are_found_from_outside), CASE(each_figure_that_is_wrong_is_found),
           CASE(a_runtime_that_is_not_quiet_is_not_judged), CASE(under_load_there_is_no_false_alarm))
