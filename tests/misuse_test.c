/* SPDX-License-Identifier: MIT */
/*
 * misuse_test.c - calls that make no sense, or come too late, get a status that says so and do no harm:
 * deadlines before time began, nothing of something, domains that close under those who use them.
 * What is refused by one call alone is in the test of its unit, under bad_input.
 */
#include "domains.h"
#include "threads.h"

static const int64_t past[] = {INT64_MIN, INT64_MIN + 1, -COIR_SEC, -1, 0, 1};

enum { PAST = sizeof past / sizeof past[0] };

static void nop(void *unused)
{
    (void)unused;
}

/* ---------------------------------------------------------------------------------- deadlines */

/* What happens at once needs no time. */
static void need_no_wait(void *unused)
{
    coir_event set = COIR_EVENT_INIT;
    coir_semaphore one;
    coir_mutex m = COIR_MUTEX_INIT;

    (void)unused;
    CHECK_EQ(coir_event_set(&set), COIR_OK);
    for (int i = 0; i < PAST; i++) {
        CHECK_EQ(coir_semaphore_init(&one, 1), COIR_OK);
        CHECK_EQ(coir_semaphore_acquire_until(&one, past[i]), COIR_OK);
        CHECK_EQ(coir_event_wait_until(&set, past[i]), COIR_OK);
        CHECK_EQ(coir_mutex_lock_until(&m, past[i]), COIR_OK);
        CHECK_EQ(coir_mutex_unlock(&m), COIR_OK);
        CHECK_EQ(coir_sleep_until(past[i]), COIR_OK);
    }
}

static void what_needs_no_wait_heeds_no_deadline(void)
{
    need_no_wait(NULL);
    run_on(2, need_no_wait, NULL);
}

static void wait_for_any(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_counter *const one[] = {&c};

    (void)unused;
    coir_counter_add(&c, 1);
    for (int i = 0; i < PAST; i++)
        CHECK_EQ(coir_wait_any(one, 1, past[i], NULL), COIR_ETIMEDOUT);
    coir_counter_done(&c, COIR_DONE);
    CHECK_EQ(coir_wait_any(one, 1, past[0], NULL), COIR_DONE);
}

/* A thread may be free at once, or not: the status says whether it was called. */
static void offload_late(int64_t deadline)
{
    int called = 0, status = coir_offload_until(job_count, &called, deadline);

    CHECK_EQ(status, called ? COIR_DONE : COIR_ETIMEDOUT);
}

static void wait_outside(void *unused)
{
    int listener = coir_socket_listen(NULL, 0, 0);
    char byte;

    (void)unused;
    if (!CHECK(listener >= 0))
        return;
    int near = coir_socket_connect("127.0.0.1", (uint16_t)coir_socket_port(listener));
    int far = coir_socket_accept(listener);

    for (int i = 0; i < PAST; i++) {
        CHECK_EQ(coir_socket_accept_until(listener, past[i]), COIR_ETIMEDOUT);
        CHECK_EQ(coir_socket_recv_until(near, &byte, 1, past[i]), COIR_ETIMEDOUT);
        CHECK_EQ(coir_signal_wait_until(COIR_SIGNAL(SIGUSR2), past[i]), COIR_ETIMEDOUT);
        offload_late(past[i]);
    }
    CHECK_EQ(coir_socket_close(near), COIR_OK);
    CHECK_EQ(coir_socket_close(far), COIR_OK);
    CHECK_EQ(coir_socket_close(listener), COIR_OK);
}

static void a_deadline_in_the_past_ends_every_other_wait_at_once(void)
{
    wait_for_any(NULL);
    run_on(1, wait_for_any, NULL);
    run_on(1, wait_outside, NULL);
}

static void a_job_whose_deadline_has_passed_is_not_run(void)
{
    coir_runtime *rt = run_open(2);
    coir_domain *d = domain_open(rt, NULL, NULL);
    int n = 0;

    for (int i = 0; i < PAST; i++) {
        coir_counter c = COIR_COUNTER_INIT;
        coir_failure f;

        CHECK_EQ(coir_domain_submit_until(d, &c, job_count, &n, past[i]), COIR_OK);
        CHECK_EQ(coir_wait(&c), COIR_EXPIRED);
        CHECK_EQ(coir_counter_failure(&c, &f), COIR_OK);
        CHECK_EQ(f.kind, COIR_KIND_EXPIRED);
    }
    CHECK_EQ(n, 0);
    domain_close(d);
    run_close(rt);
}

/* -------------------------------------------------------------------------------- nothing of it */

static void ask_for_nothing(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_counter *const one[] = {&c};
    coir_semaphore s;
    coir_case empty = {0};

    (void)unused;
    CHECK_EQ(coir_spawn_many(&c, nop, NULL, 0, 0), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_wait_any(one, 0, COIR_NEVER, NULL), COIR_EINVAL);
    CHECK_EQ(coir_select(&empty, 0, COIR_NEVER, NULL), COIR_EINVAL);
    CHECK_EQ(coir_select(&empty, 1, COIR_NEVER, NULL), COIR_EDEADLK);
    CHECK_EQ(coir_semaphore_init(&s, 0), COIR_OK);
    CHECK_EQ(coir_semaphore_try_acquire(&s), COIR_EBUSY);
    CHECK_EQ(coir_signal_wait(0), COIR_EINVAL);
}

static void none_is_a_number_or_refused(void)
{
    run_on(1, ask_for_nothing, NULL);
}

/* Zero of an option is its default, zero of a budget is no time at all. */
static void a_budget_of_zero_is_none(void)
{
    coir_runtime *rt = run_open(1);
    coir_domain *d = domain_open(rt, NULL, NULL);
    struct blocked b = {0, 0};
    coir_counter c = COIR_COUNTER_INIT;
    coir_receipt receipt;
    int status;

    CHECK_EQ(coir_domain_submit(d, &c, job_block, &b), COIR_OK);
    run_until(&b.started);
    domain_close_after(d, 0, NULL);
    CHECK_EQ(b.status, COIR_ECANCELED);
    CHECK_EQ(coir_wait(&c), COIR_DONE);

    b.started = 0;
    CHECK_EQ(coir_submit(rt, &c, job_block, &b), COIR_OK);
    run_until(&b.started);
    do
        status = coir_close(rt, 0, &receipt);
    while (status == COIR_ETIMEDOUT); /* a machine that is busy with other things */
    CHECK_EQ(status, COIR_OK);
    CHECK_EQ(b.status, COIR_ECANCELED);
    CHECK_EQ(receipt.running, 0);
}

/* --------------------------------------------------------------------- a domain that closes meanwhile */

struct crowd {
    coir_domain *domain;
    coir_counter ended; /* of all that was accepted */
    int accepted, started, inside, outside, ran;
};

static void count_run(void *arg)
{
    run_count(&((struct crowd *)arg)->ran);
}

/* From outside: until it is told that the domain closes. */
static void *submit_until_told(void *arg)
{
    struct crowd *w = arg;
    int status;

    while ((status = coir_domain_submit(w->domain, &w->ended, count_run, w)) == COIR_OK || status == COIR_EAGAIN)
        if (status == COIR_OK)
            run_count(&w->accepted);
        else
            sched_yield(); /* the queue is full: who closes waits for a processor */
    CHECK_EQ(status, COIR_ESHUTDOWN); /* closing comes before canceling, and stays */
    run_count(&w->outside);
    return NULL;
}

/* From inside: its own jobs may spawn until the budget has passed. */
static void spawn_until_told(void *arg)
{
    struct crowd *w = arg;
    int status;

    run_count(&w->started);
    while ((status = coir_spawn(&w->ended, count_run, w)) == COIR_OK) {
        run_count(&w->accepted);
        coir_yield();
    }
    CHECK_EQ(status, COIR_ECANCELED);
    run_count(&w->inside);
}

/* Nothing is lost: what was accepted has ended, run or skipped; what was refused owes nothing. */
static void close_among(coir_runtime *rt)
{
    struct crowd w = {.domain = domain_open(rt, NULL, NULL)};
    struct hold keeper = {0, 0};
    struct threads outside = {.count = 0};
    coir_counter settled = COIR_COUNTER_INIT;
    coir_domain_receipt r;
    uint64_t sum = 0;

    CHECK_EQ(coir_domain_submit(w.domain, &settled, job_hold, &keeper), COIR_OK); /* none but the last close */
    for (int i = 0; i < 2; i++) {                                                 /* ends the handle */
        CHECK_EQ(coir_domain_submit(w.domain, &settled, spawn_until_told, &w), COIR_OK);
        threads_add(&outside, submit_until_told, &w);
    }
    run_until(&keeper.started);
    while (__atomic_load_n(&w.started, __ATOMIC_RELAXED) < 2)
        sched_yield();
    CHECK_EQ(coir_domain_close(w.domain, COIR_MS, NULL), COIR_ETIMEDOUT);
    threads_join(&outside);
    run_set(&keeper.go);
    CHECK_EQ(coir_wait(&settled), COIR_DONE);
    do /* of the last that were accepted the end may take its time */
        CHECK(coir_domain_close(w.domain, COIR_SEC, &r) == COIR_OK || r.running > 0);
    while (r.running > 0);
    CHECK(coir_wait(&w.ended) >= COIR_DONE);
    for (int o = 0; o <= COIR_PANICKED; o++)
        sum += r.ended[o];
    CHECK_EQ(w.inside, 2);
    CHECK_EQ(w.outside, 2);
    CHECK_EQ(sum, (uint64_t)w.accepted + 3);
    CHECK_EQ(r.ended[COIR_DONE], (uint64_t)w.ran + 3);
}

static void a_domain_may_close_while_jobs_are_submitted_and_spawned(void)
{
    coir_runtime *rt = run_open(3);

    for (int i = 0; i < MANY(40); i++)
        close_among(rt);
    run_close(rt);
}

CHECK_MAIN(CASE(what_needs_no_wait_heeds_no_deadline),
           CASE(a_deadline_in_the_past_ends_every_other_wait_at_once),
           CASE(a_job_whose_deadline_has_passed_is_not_run), CASE(none_is_a_number_or_refused),
           CASE(a_budget_of_zero_is_none),
           CASE(a_domain_may_close_while_jobs_are_submitted_and_spawned))
