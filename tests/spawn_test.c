/* SPDX-License-Identifier: MIT */
/*
 * spawn_test.c - how work enters a runtime: every job runs exactly once, queues refuse in time,
 * work after other work. Order and fairness are in order_test.c.
 */
#include "run.h"

#include <pthread.h>

static const unsigned worker_counts[] = {1, 2, 8};

#define FOR_WORKERS(w)                                                                             \
    for (size_t w##_i = 0; w##_i < 3; w##_i++)                                                     \
        for (unsigned w = worker_counts[w##_i]; w; w = 0)

static void count(void *n)
{
    run_count(n);
}

/* --------------------------------------------------------------------------- exactly once */

#define JOBS 20000

static int ran[JOBS];

static void spawn_all(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    for (int i = 0; i < JOBS / 2; i++)
        CHECK_EQ(coir_spawn(&c, count, &ran[i]), COIR_OK);
    CHECK_EQ(coir_spawn_many(&c, count, &ran[JOBS / 2], sizeof ran[0], JOBS / 2), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    for (int i = 0; i < JOBS; i++)
        if (!CHECK_EQ(ran[i], 1))
            return;
}

static void every_job_runs_exactly_once(void)
{
    FOR_WORKERS(workers) {
        memset(ran, 0, sizeof ran);
        run_on(workers, spawn_all, NULL);
    }
}

static void spawn_a_million(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    int n = 0, jobs = MANY(1000000);

    (void)unused;
    for (int i = 0; i < jobs; i++)
        if (!CHECK_EQ(coir_spawn(&c, count, &n), COIR_OK))
            break;
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(n, jobs);
}

static void a_million_jobs_owe_one_counter(void)
{
    run_on(1, spawn_a_million, NULL);
    run_on(2, spawn_a_million, NULL);
}

static int stolen_by[2];

static void meet(void *arg)
{
    int me = *(int *)arg;

    run_set(&stolen_by[me]);
    while (!__atomic_load_n(&stolen_by[!me], __ATOMIC_ACQUIRE))
        sched_yield(); /* without coir_yield: only another worker can run the other */
}

static void let_two_meet(void *unused)
{
    static int index[2] = {0, 1};
    coir_counter c = COIR_COUNTER_INIT;
    coir_stats stats;

    (void)unused;
    CHECK_EQ(coir_spawn_many(&c, meet, index, sizeof index[0], 2), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_stats_read(coir_current(), &stats), COIR_OK);
    CHECK(stats.steals > 0);
}

static void an_idle_worker_steals(void)
{
    memset(stolen_by, 0, sizeof stolen_by);
    run_on(2, let_two_meet, NULL);
}

static void spawn_unowed(void *n)
{
    for (int i = 0; i < 1000; i++)
        CHECK_EQ(coir_spawn(NULL, count, n), COIR_OK);
}

static void a_counter_is_optional(void)
{
    FOR_WORKERS(workers) {
        int n = 0;

        run_on(workers, spawn_unowed, &n);
        CHECK_EQ(n, 1000);
    }
}

/* ---------------------------------------------------------------------------------- recursion */

#define DEPTH 10000

static void descend(void *depth)
{
    coir_counter c = COIR_COUNTER_INIT;
    int below = *(int *)depth - 1;

    if (below == 0)
        return;
    CHECK_EQ(coir_spawn(&c, descend, &below), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void descend_blocking(void *depth)
{
    coir_counter c = COIR_COUNTER_INIT;
    int below = *(int *)depth - 1;

    coir_yield();
    if (below == 0)
        return;
    CHECK_EQ(coir_spawn(&c, descend_blocking, &below), COIR_OK);
    CHECK_EQ(coir_wait_until(&c, coir_now() + 1000 * COIR_SEC), COIR_DONE);
}

static void a_tree_10000_deep_needs_no_large_stack(void)
{
    FOR_WORKERS(workers) {
        int depth = DEPTH;

        run_on(workers, descend, &depth);
        run_on(workers, descend_blocking, &depth);
    }
}

struct fib {
    int n;
    long result;
};

static void fib(void *arg)
{
    struct fib *f = arg, left = {f->n - 1, 0}, right = {f->n - 2, 0};
    coir_counter c = COIR_COUNTER_INIT;

    f->result = f->n;
    if (f->n < 2)
        return;
    CHECK_EQ(coir_spawn(&c, fib, &left), COIR_OK);
    fib(&right);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    f->result = left.result + right.result;
}

static void jobs_fork_and_join(void)
{
    FOR_WORKERS(workers) {
        struct fib f = {20, 0};

        run_on(workers, fib, &f);
        CHECK_EQ(f.result, 6765);
    }
}

/* ------------------------------------------------------------------------------------- limits */

#define JOBS_MAX 100

static void run_limited(coir_fn *fn, void *arg)
{
    coir_options o = run_options(1);

    o.jobs_max = JOBS_MAX;
    CHECK_EQ(coir_run(&o, fn, arg), COIR_DONE);
}

static void spawn_until_refused(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    int accepted = 0, n = 0, status;

    (void)unused;
    while ((status = coir_spawn(&c, count, &n)) == COIR_OK && accepted < 100000)
        accepted++;
    CHECK_EQ(status, COIR_EAGAIN);
    CHECK(accepted >= JOBS_MAX);
    CHECK(accepted < 10000);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(n, accepted);
    CHECK_EQ(coir_spawn(&c, count, &n), COIR_OK); /* there is room again */
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(n, accepted + 1);
}

static void a_full_queue_refuses_and_owes_nothing(void)
{
    run_limited(spawn_until_refused, NULL);
}

static void spawn_too_many(void *unused)
{
    static int n;
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    CHECK_EQ(coir_spawn_many(&c, count, &n, 0, 100000), COIR_EAGAIN);
    CHECK_EQ(coir_spawn_many(&c, count, &n, 0, SIZE_MAX), COIR_EAGAIN);
    CHECK_EQ(coir_wait_until(&c, 0), COIR_DONE); /* nothing is owed */
    coir_yield();
    CHECK_EQ(n, 0);
    CHECK_EQ(coir_spawn_many(&c, count, &n, 0, JOBS_MAX), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(n, JOBS_MAX);
}

static void spawn_many_takes_all_or_none(void)
{
    run_limited(spawn_too_many, NULL);
}

/* Spawns until the queue is full; the counter of the one refused goes with this frame. */
static __attribute__((noinline)) int fill_queue(int *n)
{
    coir_counter c = COIR_COUNTER_INIT;

    while (coir_spawn(NULL, count, n) == COIR_OK)
        ;
    return coir_spawn(&c, count, n);
}

static __attribute__((noinline)) void scribble_below(void)
{
    volatile char below[4096];

    for (size_t i = 0; i < sizeof below; i++)
        below[i] = (char)0xa5;
}

static void leave_refused(void *n)
{
    CHECK_EQ(fill_queue(n), COIR_EAGAIN);
    scribble_below();
}

static void the_counter_of_a_refused_spawn_may_leave_its_frame(void)
{
    int n = 0;

    run_limited(leave_refused, &n);
    CHECK(n >= JOBS_MAX);
}

static int hold, holding;

static void hold_worker(void *unused)
{
    (void)unused;
    run_set(&holding);
    while (!__atomic_load_n(&hold, __ATOMIC_ACQUIRE))
        sched_yield();
}

static void a_full_injector_refuses_and_owes_nothing(void)
{
    coir_options o = run_options(1);
    coir_counter c = COIR_COUNTER_INIT;
    coir_runtime *rt;
    int n = 0;

    o.jobs_max = JOBS_MAX;
    hold = holding = 0;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    CHECK_EQ(coir_submit(rt, NULL, hold_worker, NULL), COIR_OK);
    run_until(&holding);
    for (int i = 0; i < JOBS_MAX; i++)
        CHECK_EQ(coir_submit(rt, &c, count, &n), COIR_OK);
    CHECK_EQ(coir_submit(rt, &c, count, &n), COIR_EAGAIN);
    run_set(&hold);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(n, JOBS_MAX);
    run_close(rt);
}

/* ----------------------------------------------------------------------------- foreign threads */

#define THREADS 4

struct submitter {
    coir_runtime *rt;
    int *n;
    int jobs;
};

static void *submit_and_wait(void *arg)
{
    struct submitter *s = arg;
    coir_counter c = COIR_COUNTER_INIT;

    for (int i = 0; i < s->jobs; i++)
        while (coir_submit(s->rt, &c, count, s->n) == COIR_EAGAIN)
            sched_yield();
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    return NULL;
}

static void submit_from_threads(unsigned workers)
{
    coir_runtime *rt = run_open(workers);
    pthread_t thread[THREADS];
    int n = 0;
    struct submitter s = {rt, &n, MANY(20000)};

    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, submit_and_wait, &s), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    CHECK_EQ(n, THREADS * s.jobs);
    run_close(rt);
}

static void foreign_threads_submit_and_wait(void)
{
    FOR_WORKERS(workers)
        submit_from_threads(workers);
}

/* ------------------------------------------------------------------------------ two runtimes */

struct visit {
    coir_runtime *other;
    struct visit *back; /* submitted to where it came from, or NULL */
    int n;
};

static void visit(void *arg)
{
    struct visit *v = arg;
    coir_counter c = COIR_COUNTER_INIT;

    run_count(&v->n);
    CHECK(coir_current() != v->other);
    if (!v->back)
        return;
    CHECK_EQ(coir_submit(v->other, &c, visit, v->back), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void two_runtimes_wait_for_each_other(void)
{
    coir_runtime *a = run_open(1), *b = run_open(2);
    coir_counter c = COIR_COUNTER_INIT;
    struct visit home = {a, NULL, 0}, there = {a, &home, 0}, start = {b, &there, 0};
    int rounds = MANY(5000);

    home.other = b;
    for (int i = 0; i < rounds; i++)
        CHECK_EQ(coir_submit(a, &c, visit, &start), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(start.n, rounds);
    CHECK_EQ(there.n, rounds);
    CHECK_EQ(home.n, rounds);
    run_close(a);
    run_close(b);
}

/* -------------------------------------------------------------------------------- bad input */

static void spawn_badly(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    CHECK_EQ(coir_spawn(&c, NULL, NULL), COIR_EINVAL);
    CHECK_EQ(coir_spawn_many(&c, NULL, NULL, 0, 3), COIR_EINVAL);
    CHECK_EQ(coir_spawn_many(&c, count, NULL, 0, 0), COIR_OK);
    CHECK_EQ(coir_spawn_after(NULL, &c, count, NULL), COIR_EINVAL);
    CHECK_EQ(coir_spawn_after(&c, &c, NULL, NULL), COIR_EINVAL);
    CHECK_EQ(coir_submit(coir_current(), &c, NULL, NULL), COIR_EINVAL);
    CHECK_EQ(coir_submit(NULL, &c, count, NULL), COIR_EINVAL);
    CHECK_EQ(coir_wait_until(&c, 0), COIR_DONE);
}

static void bad_input_gets_a_status_and_owes_nothing(void)
{
    run_on(1, spawn_badly, NULL);
}

static void a_plain_thread_cannot_spawn(void)
{
    coir_counter c = COIR_COUNTER_INIT;
    int n = 0;

    CHECK_EQ(coir_spawn(&c, count, &n), COIR_EPERM);
    CHECK_EQ(coir_spawn_many(&c, count, &n, 0, 3), COIR_EPERM);
    CHECK_EQ(coir_spawn_after(&c, &c, count, &n), COIR_EPERM);
    CHECK_EQ(coir_job_name("x"), COIR_EPERM);
    CHECK_EQ(coir_job_id(), 0);
    CHECK_EQ(coir_canceled(), 0);
    CHECK(coir_current() == NULL);
    coir_yield();
    CHECK_EQ(coir_wait_until(&c, 0), COIR_DONE);
}

/* ----------------------------------------------------------------------------- who is it? */

static uint64_t ids[1000];

static void ask_id(void *id)
{
    *(uint64_t *)id = coir_job_id();
}

static int by_id(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static void collect_ids(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    uint64_t own = coir_job_id(), in_try = 0;

    (void)unused;
    CHECK_EQ(coir_try(ask_id, &in_try, NULL), COIR_DONE);
    CHECK_EQ(in_try, own);
    CHECK_EQ(coir_spawn_many(&c, ask_id, ids, sizeof ids[0], 1000), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_job_id(), own);
    CHECK_EQ(coir_job_name("collector"), COIR_OK);
    CHECK_EQ(coir_job_name(NULL), COIR_OK);
    qsort(ids, 1000, sizeof ids[0], by_id);
    for (int i = 0; i < 1000; i++)
        if (!CHECK(ids[i] != 0 && ids[i] != own && (i == 0 || ids[i] != ids[i - 1])))
            return;
}

static void each_job_has_an_id_of_its_own(void)
{
    FOR_WORKERS(workers)
        run_on(workers, collect_ids, NULL);
}

CHECK_MAIN(CASE(every_job_runs_exactly_once), CASE(a_million_jobs_owe_one_counter),
           CASE(an_idle_worker_steals), CASE(a_counter_is_optional),
           CASE(a_tree_10000_deep_needs_no_large_stack), CASE(jobs_fork_and_join),
           CASE(a_full_queue_refuses_and_owes_nothing), CASE(spawn_many_takes_all_or_none),
           CASE(the_counter_of_a_refused_spawn_may_leave_its_frame),
           CASE(a_full_injector_refuses_and_owes_nothing), CASE(foreign_threads_submit_and_wait),
           CASE(two_runtimes_wait_for_each_other), CASE(bad_input_gets_a_status_and_owes_nothing),
           CASE(a_plain_thread_cannot_spawn), CASE(each_job_has_an_id_of_its_own))
