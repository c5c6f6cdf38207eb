/* SPDX-License-Identifier: MIT */
/*
 * attack_cancel_test.c - cancels that lead to cancels: by links of what they drop, by the host's callbacks,
 * after a domain's job on a plain thread.
 */
#include <pthread.h>

#include "domains.h"

#define CHAIN 300

static void never(void *unused)
{
    (void)unused;
    CHECK_NEVER("it waits for a counter that is not settled before its own is canceled");
}

/* Each counter is owed work that waits for the gate, and linked to the next; the last, a job that blocks. */
struct chain {
    coir_counter gate, c[CHAIN];
    coir_link link[CHAIN - 1];
    struct blocked last;
};

static void cancel_the_first(void *arg)
{
    struct chain *k = arg;

    coir_counter_add(&k->gate, 1);
    for (int i = 0; i < CHAIN - 1; i++)
        CHECK_EQ(coir_spawn_after(&k->gate, &k->c[i], never, NULL), COIR_OK);
    CHECK_EQ(coir_spawn(&k->c[CHAIN - 1], job_block, &k->last), COIR_OK);
    run_until(&k->last.started);
    for (int i = 0; i < CHAIN - 1; i++)
        CHECK_EQ(coir_link_counters(&k->link[i], &k->c[i], &k->c[i + 1]), COIR_OK);
    CHECK_EQ(coir_counter_cancel(&k->c[0]), COIR_OK);
    for (int i = 0; i < CHAIN - 1; i++)
        CHECK_EQ(coir_wait(&k->c[i]), COIR_CANCELED);
    CHECK_EQ(coir_wait(&k->c[CHAIN - 1]), COIR_DONE);
    CHECK_EQ(k->last.status, COIR_ECANCELED);
    for (int i = 0; i < CHAIN - 1; i++)
        CHECK_EQ(coir_unlink(&k->link[i]), COIR_OK);
    coir_counter_done(&k->gate, COIR_DONE);
}

static void a_cancel_goes_on_by_the_links_of_work_that_it_drops(void)
{
    for (unsigned workers = 1; workers <= 3; workers++) {
        struct chain *k = calloc(1, sizeof *k);

        run_on(workers, cancel_the_first, k);
        free(k);
    }
}

/* Two threads cut into the same chain, from its two ends. */
static void *cancels(void *counter)
{
    CHECK_EQ(coir_counter_cancel(counter), COIR_OK);
    return NULL;
}

static void cancel_from_two_threads(void *arg)
{
    struct chain *k = arg;
    pthread_t thread[2];

    coir_counter_add(&k->gate, 1);
    for (int i = 0; i < CHAIN; i++)
        CHECK_EQ(coir_spawn_after(&k->gate, &k->c[i], never, NULL), COIR_OK);
    for (int i = 0; i < CHAIN - 1; i++)
        CHECK_EQ(coir_link_counters(&k->link[i], &k->c[i], &k->c[i + 1]), COIR_OK);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, cancels, &k->c[i * (CHAIN - 1)]), 0);
    for (int i = 0; i < CHAIN; i++)
        CHECK_EQ(coir_wait(&k->c[i]), COIR_CANCELED);
    for (int i = 0; i < CHAIN - 1; i++)
        CHECK_EQ(coir_unlink(&k->link[i]), COIR_OK);
    coir_counter_done(&k->gate, COIR_DONE);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
}

static void two_cancels_meet_in_a_chain(void)
{
    for (int i = 0; i < MANY(40); i++) {
        struct chain *k = calloc(1, sizeof *k);

        run_on(2, cancel_from_two_threads, k);
        free(k);
    }
}

/* ---------------------------------------------------------------------- by the host's callbacks */

static void cancel_another(void *other, int outcome, int64_t ns)
{
    (void)ns;
    if (outcome == COIR_CANCELED)
        CHECK_EQ(coir_counter_cancel(other), COIR_OK);
}

static void cancel_one(void *arg)
{
    struct chain *k = arg;

    coir_counter_add(&k->gate, 1);
    CHECK_EQ(coir_spawn_after(&k->gate, &k->c[0], never, NULL), COIR_OK);
    CHECK_EQ(coir_spawn(&k->c[1], job_block, &k->last), COIR_OK);
    run_until(&k->last.started);
    CHECK_EQ(coir_counter_cancel(&k->c[0]), COIR_OK);
    CHECK_EQ(coir_wait(&k->c[0]), COIR_CANCELED);
    CHECK_EQ(coir_wait(&k->c[1]), COIR_DONE);
    CHECK_EQ(k->last.status, COIR_ECANCELED);
    coir_counter_done(&k->gate, COIR_DONE);
}

static void a_callback_may_cancel_while_a_cancel_drops_work(void)
{
    struct chain *k = calloc(1, sizeof *k);
    coir_metrics m = {.size = sizeof m, .arg = &k->c[1], .completed = cancel_another};
    coir_options o = run_options(2);

    o.metrics = &m;
    CHECK_EQ(coir_run(&o, cancel_one, k), COIR_DONE);
    free(k);
}

/* --------------------------------------------------------------- after a job on a plain thread */

static void count_request(void *requests, int cause)
{
    (void)cause;
    run_count(requests);
}

struct linked {
    coir_counter job, other;
    coir_link link;
};

/* The link is there before the job's end: its unit is the last that is owed. */
static void link_and_panic(void *arg)
{
    struct linked *l = arg;

    CHECK_EQ(coir_link_counters(&l->link, &l->job, &l->other), COIR_OK);
    coir_panic("planned");
}

/* When its counter settles, the job has left its domain, and the runtime may be closed already. */
static void what_a_job_outside_leaves_behind_is_not_told_to_its_runtime(void)
{
    struct linked l = {.job = COIR_COUNTER_INIT};
    coir_counter held = COIR_COUNTER_INIT;
    int requests = 0;
    coir_metrics m = {.size = sizeof m, .arg = &requests, .cancel_requested = count_request};
    coir_domain_options limited = domain_options("full");
    coir_options o = run_options(1);
    struct hold hold = {0, 0};
    coir_runtime *rt;
    coir_domain *d;

    o.metrics = &m;
    limited.jobs_max = 1;
    limited.full = COIR_FULL_RUN;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    d = domain_open(rt, NULL, &limited);
    CHECK_EQ(coir_domain_submit(d, &held, job_hold, &hold), COIR_OK);
    run_until(&hold.started);
    coir_counter_add(&l.other, 1);
    CHECK_EQ(coir_domain_submit(d, &l.job, link_and_panic, &l), COIR_OK);
    CHECK_EQ(coir_wait(&l.job), COIR_PANICKED);
    CHECK_EQ(requests, 0);
    CHECK_EQ(coir_unlink(&l.link), COIR_OK);
    coir_counter_done(&l.other, COIR_DONE);
    run_set(&hold.go);
    CHECK_EQ(coir_wait(&held), COIR_DONE);
    domain_close(d);
    run_close(rt);
}

CHECK_MAIN(CASE(a_cancel_goes_on_by_the_links_of_work_that_it_drops), CASE(two_cancels_meet_in_a_chain),
           CASE(a_callback_may_cancel_while_a_cancel_drops_work),
           CASE(what_a_job_outside_leaves_behind_is_not_told_to_its_runtime))
