/* SPDX-License-Identifier: MIT */
/*
 * attack_contain_test.c - overflows where most is at stake: in jobs that hold all there is to hold, in
 * finalizers, in once-functions, in supervised children; and what a dump shows of one that is cleaned up after.
 */
#include "containable.h"
#include "domains.h"

static void contained(unsigned workers, coir_fn *fn, void *arg)
{
    coir_options o = containing(workers);

    register_containable();
    CHECK_EQ(coir_run(&o, fn, arg), COIR_DONE);
}

/* --------------------------------------------------------------------- a job that holds all there is */

struct laden {
    coir_domain *domain;
    coir_mutex mutex;
    coir_rwlock rwlock;
    coir_read *outer;         /* a hold of the job's, in memory that stays */
    coir_counter watched, other, told; /* tied to by its frames */
    int children, handled;
};

static void child_until_canceled(void *arg)
{
    struct laden *l = arg;

    CHECK_EQ(coir_sleep_until(COIR_NEVER), COIR_ECANCELED);
    run_count(&l->children);
}

/* The locks are the job's still, and it may park. */
static void unlocks_one(void *arg)
{
    struct laden *l = arg;

    CHECK_EQ(coir_mutex_unlock(&l->mutex), COIR_OK);
    CHECK(coir_sleep_until(coir_now() + COIR_US) != COIR_ENOMEM);
    CHECK_EQ(coir_domain_discharge(NULL, 500), COIR_OK);
    run_count(&l->handled);
}

static void take_all(struct laden *l, coir_read *local, coir_obligation *owed)
{
    CHECK_EQ(coir_mutex_lock(&l->mutex), COIR_OK);
    CHECK_EQ(coir_rwlock_read_lock(&l->rwlock, local), COIR_OK);
    CHECK_EQ(coir_rwlock_read_lock(&l->rwlock, l->outer), COIR_OK);
    CHECK_EQ(coir_obligation_take(NULL, "a reply", owed), COIR_OK);
    CHECK_EQ(coir_domain_charge(NULL, 500), COIR_OK);
    CHECK_EQ(coir_defer(unlocks_one, l), COIR_OK);
}

static CONTAINABLE void overflow_laden(void *arg)
{
    coir_counter children = COIR_COUNTER_INIT;
    coir_read local = {0};
    coir_obligation owed;
    coir_monitor m;
    coir_link link;
    struct laden *l = arg;

    take_all(arg, &local, &owed);
    CHECK_EQ(coir_link_counters(&link, &l->watched, &l->other), COIR_OK);
    CHECK_EQ(coir_monitor_counter(&m, &l->watched, &l->told), COIR_OK);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(coir_spawn(&children, child_until_canceled, arg), COIR_OK);
    coir_yield();
    overflow(NULL);
}

static void let_it_fall(void *arg)
{
    coir_domain_options o = domain_options("laden");
    coir_domain_receipt r;

    (void)arg;
    o.stacks_max = 8;
    o.memory_max = 1000;
    for (int i = 0; i < MANY(200); i++) {
        coir_read outer = {0}, again = {0};
        struct laden l = {.outer = &outer};
        coir_domain_stats s;

        l.domain = domain_open(coir_current(), NULL, &o);
        coir_counter_add(&l.watched, 1);
        coir_counter_add(&l.other, 1);
        CHECK_EQ(domain_run(l.domain, overflow_laden, &l, NULL), COIR_PANICKED);
        CHECK_EQ(coir_wait(&l.told), COIR_DONE);
        coir_counter_done(&l.watched, COIR_PANICKED);
        coir_counter_done(&l.other, COIR_DONE);
        CHECK(l.handled == 1 && l.children <= 3);
        CHECK_EQ(coir_mutex_lock(&l.mutex), COIR_EPOISONED);
        CHECK_EQ(coir_mutex_unlock(&l.mutex), COIR_OK);
        CHECK_EQ(coir_rwlock_write_try_lock(&l.rwlock), COIR_OK);
        CHECK_EQ(coir_rwlock_write_unlock(&l.rwlock), COIR_OK);
        CHECK_EQ(coir_rwlock_read_try_lock(&l.rwlock, &again), COIR_OK);
        CHECK_EQ(coir_rwlock_read_unlock(&l.rwlock, &again), COIR_OK);
        s = domain_stats(l.domain);
        CHECK(s.stacks == 0 && s.memory == 0 && s.denied == 0);
        CHECK_EQ(s.obligations_leaked, 1);
        domain_balances(l.domain);
        CHECK_EQ(coir_domain_close(l.domain, -1, &r), COIR_OK);
        CHECK_EQ(r.memory_leaked, 0);
    }
}

static void a_job_that_holds_all_there_is_lets_go_of_it(void)
{
    contained(1, let_it_fall, NULL);
    contained(3, let_it_fall, NULL);
}

/* -------------------------------------------------------------------------- finalizers, once-functions */

static void finalize_by_overflow(void *arg)
{
    coir_domain *d = domain_open(coir_current(), NULL, NULL);
    coir_domain_receipt r;
    int after = 0;

    (void)arg;
    CHECK_EQ(coir_domain_finalizer(d, job_count, &after), COIR_OK);
    CHECK_EQ(coir_domain_finalizer(d, overflow, NULL), COIR_OK);
    CHECK_EQ(coir_domain_close(d, -1, &r), COIR_OK);
    CHECK(r.finalizers == 2 && r.finalizer_panics == 1 && after == 1);
}

static void a_finalizer_that_overflows_does_not_keep_the_next_from_running(void)
{
    contained(2, finalize_by_overflow, NULL);
}

static void once_by_overflow(void *arg)
{
    coir_once once = COIR_ONCE_INIT;

    CHECK_EQ(coir_once_call(&once, overflow, NULL), COIR_EPOISONED);
    CHECK_EQ(coir_once_call(&once, job_count, arg), COIR_EPOISONED);
    CHECK_EQ(coir_try(overflow, NULL, NULL), COIR_PANICKED);
}

static void a_once_whose_function_overflows_is_poisoned(void)
{
    int n = 0;

    contained(2, once_by_overflow, &n);
    CHECK_EQ(n, 0);
}

/* --------------------------------------------------------------------------------- supervised children */

static int starts;

/* Containable: it is below the overflow. */
static CONTAINABLE void overflow_or_stay(void *unused)
{
    if (__atomic_add_fetch(&starts, 1, __ATOMIC_RELAXED) <= 5)
        overflow(unused);
    else
        (void)!coir_child_stop_wait();
}

static void a_child_that_overflows_is_started_again(void)
{
    coir_child_spec child = {.size = sizeof child, .name = "child", .fn = overflow_or_stay};
    coir_supervisor_options o = {.size = sizeof o, .max_restarts = 5, .max_seconds = 1000,
                                 .children = &child, .children_count = 1};
    coir_options ro = containing(2);
    coir_counter end = COIR_COUNTER_INIT;
    coir_supervisor *s;
    coir_runtime *rt;

    register_containable();
    CHECK_EQ(coir_open(&ro, &rt), COIR_OK);
    CHECK_EQ(coir_supervisor_open(rt, NULL, &o, &end, &s), COIR_OK);
    while (__atomic_load_n(&starts, __ATOMIC_RELAXED) < 6)
        sched_yield();
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&end), COIR_DONE);
    run_close(rt);
}

/* ------------------------------------------------------------------------------------------------ dump */

static void dump_here(void *file)
{
    CHECK_EQ(coir_dump(coir_current(), fileno(file)), COIR_OK);
}

static CONTAINABLE void overflow_and_dump(void *file)
{
    CHECK_EQ(coir_defer(dump_here, file), COIR_OK);
    overflow(NULL);
}

static void dump_meanwhile(void *file)
{
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_spawn(&c, overflow_and_dump, file), COIR_OK);
    CHECK_EQ(coir_wait_until(&c, COIR_NEVER - 1), COIR_PANICKED); /* not on this stack */
}

static void a_dump_lists_the_job_that_is_cleaned_up_after(void)
{
    FILE *file = tmpfile();
    char text[4096];

    contained(1, dump_meanwhile, file);
    rewind(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    CHECK(strstr(text, ": broken, job") != NULL);
    CHECK(strstr(text, "waits for clean-up after a fault") != NULL);
    fclose(file);
}

CHECK_MAIN(CASE(a_job_that_holds_all_there_is_lets_go_of_it),
           CASE(a_finalizer_that_overflows_does_not_keep_the_next_from_running),
           CASE(a_once_whose_function_overflows_is_poisoned),
           CASE(a_child_that_overflows_is_started_again),
           CASE(a_dump_lists_the_job_that_is_cleaned_up_after))
