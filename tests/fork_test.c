/* SPDX-License-Identifier: MIT */
/*
 * fork_test.c - coir_fork2: both calls are made once, one of them elsewhere if there is an elsewhere; whatever
 * ends the first, the second is not left behind.
 */
#include "run.h"

#include <stdatomic.h>

static void on_workers(coir_fn *fn)
{
    run_on(1, fn, NULL);
    run_on(2, fn, NULL);
    run_on(8, fn, NULL);
}

static void count(void *n)
{
    run_count(n);
}

static void nothing(void *unused)
{
    (void)unused;
}

static void fail(void *unused)
{
    (void)unused;
    coir_panic("as planned");
}

/* ----------------------------------------------------------------------------------- both calls */

static void fork_many(void *unused)
{
    int here = 0, there = 0, n = MANY(100000);

    (void)unused;
    for (int i = 0; i < n; i++)
        CHECK_EQ(coir_fork2(count, &here, count, &there), COIR_DONE);
    CHECK_EQ(here, n);
    CHECK_EQ(there, n);
}

static void both_are_called_once(void)
{
    on_workers(fork_many);
}

struct sum {
    long from, to, total; /* of [from, to) */
};

static void add_up(void *arg)
{
    struct sum *s = arg;
    struct sum low = {s->from, (s->from + s->to) / 2, 0}, high = {low.to, s->to, 0};

    if (s->to - s->from == 1) {
        s->total = s->from;
        return;
    }
    CHECK_EQ(coir_fork2(add_up, &low, add_up, &high), COIR_DONE);
    s->total = low.total + high.total;
}

static void add_up_many(void *unused)
{
    long n = MANY(1000000);
    struct sum s = {0, n, 0};

    (void)unused;
    add_up(&s);
    CHECK_EQ(s.total, n * (n - 1) / 2);
}

static void forks_nest(void)
{
    on_workers(add_up_many);
}

static void fork_deeper(void *depth)
{
    int *left = depth;

    if (--*left > 0)
        CHECK_EQ(coir_fork2(nothing, NULL, fork_deeper, left), COIR_DONE);
}

static void fork_10000_deep(void *unused)
{
    int left = 10000;

    (void)unused;
    fork_deeper(&left);
    CHECK_EQ(left, 0);
}

static void a_deep_chain_needs_no_deep_stack(void)
{
    run_on(1, fork_10000_deep, NULL);
    run_on(2, fork_10000_deep, NULL);
}

/* ------------------------------------------------------------------------------------ elsewhere */

static _Atomic int there_ran;

static void run_there(void *unused)
{
    (void)unused;
    atomic_store(&there_ran, 1);
}

/* Without a call of coir: its worker answers nobody who asks for work. */
static void spin_until_there_ran(void *unused)
{
    (void)unused;
    while (!atomic_load(&there_ran))
        sched_yield();
}

static void fork_and_spin(void *unused)
{
    (void)unused;
    for (int i = 0; i < MANY(2000); i++) {
        atomic_store(&there_ran, 0);
        CHECK_EQ(coir_fork2(spin_until_there_ran, NULL, run_there, NULL), COIR_DONE);
    }
}

static void the_second_runs_beside_a_first_that_does_not_suspend(void)
{
    run_on(2, fork_and_spin, NULL);
    run_on(4, fork_and_spin, NULL);
}

static void yield_often(void *n)
{
    for (int i = 0; i < 10; i++)
        coir_yield();
    run_count(n);
}

static void fork_yielding(void *unused)
{
    int n = 0;

    (void)unused;
    for (int i = 0; i < MANY(2000); i++)
        CHECK_EQ(coir_fork2(yield_often, &n, yield_often, &n), COIR_DONE);
    CHECK_EQ(n, 2 * MANY(2000));
}

static void both_may_block(void)
{
    on_workers(fork_yielding);
}

/* -------------------------------------------------------------------------------------- failures */

static void fork_a_panic(void *unused)
{
    int n = 0;

    (void)unused;
    CHECK_EQ(coir_fork2(count, &n, fail, NULL), COIR_PANICKED);
    CHECK_EQ(n, 1);
    CHECK_EQ(coir_fork2(count, &n, count, &n), COIR_DONE);
    CHECK_EQ(n, 3);
}

static void a_panic_of_the_second_is_its_outcome(void)
{
    on_workers(fork_a_panic);
}

struct sleeper {
    _Atomic int started, ended;
};

static void sleep_till_canceled(void *arg)
{
    struct sleeper *s = arg;

    atomic_store(&s->started, 1);
    CHECK_EQ(coir_sleep_until(COIR_NEVER), COIR_ECANCELED);
    atomic_store(&s->ended, 1);
}

static void panic_when_started(void *arg)
{
    struct sleeper *s = arg;

    while (!atomic_load(&s->started))
        coir_yield();
    coir_panic("with the other asleep");
}

static void check_ended(struct sleeper *s)
{
    CHECK_EQ(atomic_load(&s->ended), atomic_load(&s->started)); /* its frame is whole till then */
}

static void fork_and_panic(void *unused)
{
    struct sleeper s __attribute__((cleanup(check_ended))) = {0};

    (void)unused;
    (void)!coir_fork2(panic_when_started, &s, sleep_till_canceled, &s);
    CHECK_NEVER("the panic has passed");
}

static void panic_at_once(void *unused)
{
    struct sleeper s __attribute__((cleanup(check_ended))) = {0};

    (void)unused;
    (void)!coir_fork2(fail, NULL, sleep_till_canceled, &s);
    CHECK_NEVER("the panic has passed");
}

static void try_both(void *unused)
{
    coir_failure f;

    (void)unused;
    CHECK_EQ(coir_try(fork_and_panic, NULL, &f), COIR_PANICKED);
    CHECK_STR(f.message, "with the other asleep");
    CHECK_EQ(coir_try(panic_at_once, NULL, &f), COIR_PANICKED);
    CHECK_STR(f.message, "as planned");
}

static void a_panic_of_the_first_settles_the_second(void)
{
    on_workers(try_both);
}

static void fork_two_sleepers(void *arg)
{
    struct sleeper *s = arg;

    CHECK_EQ(coir_fork2(sleep_till_canceled, &s[0], sleep_till_canceled, &s[1]), COIR_DONE);
}

static void cancel_a_fork(void *unused)
{
    struct sleeper s[2] = {{0}};
    coir_counter c = COIR_COUNTER_LOCAL;

    (void)unused;
    CHECK_EQ(coir_spawn(&c, fork_two_sleepers, s), COIR_OK);
    while (!atomic_load(&s[0].started))
        coir_yield();
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(atomic_load(&s[0].ended), 1);
    CHECK_EQ(atomic_load(&s[1].ended), atomic_load(&s[1].started));
}

static void a_cancel_reaches_both(void)
{
    run_on(1, cancel_a_fork, NULL);
}

/* ------------------------------------------------------------------------------- what is refused */

static void fork_wrongly(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_fork2(NULL, NULL, nothing, NULL), COIR_EINVAL);
    CHECK_EQ(coir_fork2(nothing, NULL, NULL, NULL), COIR_EINVAL);
}

static void what_cannot_be_forked_calls_nothing(void)
{
    int n = 0;

    CHECK_EQ(coir_fork2(count, &n, count, &n), COIR_EPERM);
    CHECK_EQ(n, 0);
    run_on(1, fork_wrongly, NULL);
}

static void fork_in_a_domain(void *domain)
{
    int n = 0;

    CHECK_EQ(coir_fork2(count, &n, count, &n), COIR_DONE);
    CHECK_EQ(n, 2);
    CHECK_EQ(coir_domain_cancel(domain), COIR_OK);
    CHECK_EQ(coir_fork2(count, &n, count, &n), COIR_ECANCELED);
    CHECK_EQ(n, 2);
}

static void a_domain_may_refuse(void)
{
    coir_domain_options o = {.size = sizeof o, .name = "forks"};
    coir_runtime *rt = run_open(2);
    coir_domain *domain;

    CHECK_EQ(coir_domain_open(rt, NULL, &o, &domain), COIR_OK);
    CHECK_EQ(coir_domain_submit(domain, NULL, fork_in_a_domain, domain), COIR_OK);
    CHECK_EQ(coir_domain_close(domain, -1, NULL), COIR_OK);
    run_close(rt);
}

CHECK_MAIN(CASE(both_are_called_once),
           CASE(forks_nest),
           CASE(a_deep_chain_needs_no_deep_stack),
           CASE(the_second_runs_beside_a_first_that_does_not_suspend),
           CASE(both_may_block),
           CASE(a_panic_of_the_second_is_its_outcome),
           CASE(a_panic_of_the_first_settles_the_second),
           CASE(a_cancel_reaches_both),
           CASE(what_cannot_be_forked_calls_nothing),
           CASE(a_domain_may_refuse))
