/* SPDX-License-Identifier: MIT */
/*
 * receipt_test.c - coir_close against jobs that do not end: it is bounded, names them, tells all who
 * wait for them, resolves every other counter, and its books balance.
 */
#include "counter.h"
#include "run.h"

#include <pthread.h>

#define PATIENCE (5 * COIR_SEC) /* far above what a close takes, far below for ever */

static void count(void *n)
{
    run_count(n);
}

static void submit_n(coir_runtime *rt, coir_counter *c, coir_fn *fn, void *arg, int n)
{
    for (int i = 0; i < n; i++)
        CHECK_EQ(coir_submit(rt, c, fn, arg), COIR_OK);
}

/* Ended and running are together all that was accepted; each that is left is named, up to the limit. */
static void check_books(const coir_receipt *r, uint64_t accepted)
{
    uint64_t sum = r->running;

    for (int o = COIR_DONE; o <= COIR_PANICKED; o++)
        sum += r->ended[o];
    CHECK_EQ(sum, accepted);
    CHECK_EQ(r->left_count, r->running < COIR_LEFT_MAX ? r->running : COIR_LEFT_MAX);
}

static void close_times_out(coir_runtime *rt, coir_receipt *r)
{
    int64_t begin = coir_now();

    CHECK_EQ(coir_close(rt, 0, r), COIR_ETIMEDOUT);
    CHECK(coir_now() - begin < PATIENCE);
}

/* The entry of a job that runs fn; it must be there. */
static const coir_job_info *entry(const coir_receipt *r, coir_fn *fn)
{
    static const coir_job_info none;

    for (unsigned i = 0; i < r->left_count; i++)
        if (r->left[i].fn == fn)
            return &r->left[i];
    CHECK_NEVER("the job is not in the receipt");
    return &none;
}

/* ---------------------------------------------------------------------- a job that never returns */

static int held, released;

static void loop_for_ever(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_job_name("looper"), COIR_OK);
    run_set(&held);
    while (!__atomic_load_n(&released, __ATOMIC_ACQUIRE))
        sched_yield();
}

static void hold(coir_runtime *rt, coir_counter *c)
{
    held = released = 0;
    submit_n(rt, c, loop_for_ever, NULL, 1);
    run_until(&held);
}

static void a_job_that_loops_is_named_with_its_worker(void)
{
    coir_runtime *rt = run_open(2);
    coir_counter c = COIR_COUNTER_INIT;
    const coir_job_info *job;
    coir_receipt r;

    hold(rt, &c);
    close_times_out(rt, &r);
    check_books(&r, 1);
    CHECK_EQ(r.running, 1);
    CHECK_EQ(r.owed, 1);
    job = entry(&r, loop_for_ever);
    CHECK_STR(job->name, "looper");
    CHECK(job->worker == 0 || job->worker == 1);
    CHECK(job->waits_for == NULL && job->waits_on == NULL);
    run_set(&released);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_close(rt, -1, &r), COIR_OK);
    check_books(&r, 1);
    CHECK_EQ(r.owed, 0);
}

static void queued_jobs_end_though_no_worker_comes_for_them(void)
{
    coir_runtime *rt = run_open(1);
    coir_counter c = COIR_COUNTER_INIT;
    coir_receipt r;
    int n = 0;

    hold(rt, NULL);
    submit_n(rt, &c, count, &n, 10000);
    close_times_out(rt, &r);
    CHECK_EQ(coir_wait(&c), COIR_CANCELED); /* they are settled, while the loop goes on */
    check_books(&r, 10001);
    CHECK_EQ(r.dropped, 10000);
    CHECK_EQ(r.running, 1);
    CHECK_EQ(n, 0);
    run_set(&released);
    CHECK_EQ(coir_close(rt, -1, &r), COIR_OK);
    check_books(&r, 10001);
    CHECK_EQ(r.dropped, 0); /* by this close */
}

static void spawn_and_loop(void *arg)
{
    for (int i = 0; i < 1000; i++)
        CHECK_EQ(coir_spawn(arg, count, &(int){0}), COIR_OK);
    loop_for_ever(NULL);
}

/* The same from the worker's own deque, which its owner will not look at. */
static void spawned_jobs_end_though_their_worker_is_stuck(void)
{
    coir_runtime *rt = run_open(1);
    coir_counter c = COIR_COUNTER_INIT;
    coir_receipt r;

    held = released = 0;
    submit_n(rt, NULL, spawn_and_loop, &c, 1);
    run_until(&held);
    close_times_out(rt, &r);
    CHECK_EQ(coir_wait(&c), COIR_CANCELED);
    check_books(&r, 1001);
    CHECK_EQ(r.dropped, 1000);
    run_set(&released);
    CHECK_EQ(coir_close(rt, -1, NULL), COIR_OK);
}

static coir_counter chain[1001];

static void spawn_chain(void *unused)
{
    CHECK_EQ(coir_spawn(&chain[0], loop_for_ever, unused), COIR_OK);
    for (int i = 0; i < 1000; i++)
        CHECK_EQ(coir_spawn_after(&chain[i], &chain[i + 1], loop_for_ever, unused), COIR_OK);
}

static void work_after_a_job_that_loops_ends_canceled(void)
{
    coir_runtime *rt = run_open(1);
    coir_receipt r;

    held = released = 0;
    memset(chain, 0, sizeof chain);
    submit_n(rt, NULL, spawn_chain, NULL, 1);
    run_until(&held);
    close_times_out(rt, &r);
    CHECK_EQ(coir_wait(&chain[1000]), COIR_CANCELED);
    check_books(&r, 1002);
    CHECK_EQ(r.running, 1);
    CHECK_EQ(r.owed, 1); /* chain[0] */
    run_set(&released);
    CHECK_EQ(coir_close(rt, -1, &r), COIR_OK);
    check_books(&r, 1002);
}

static void closes_go_on_until_the_job_ends(void)
{
    coir_runtime *rt = run_open(1);
    coir_receipt r;

    hold(rt, NULL);
    for (int i = 0; i < 3; i++) {
        close_times_out(rt, &r);
        check_books(&r, 1);
        CHECK_EQ(r.running, 1);
    }
    run_set(&released);
    CHECK_EQ(coir_close(rt, -1, &r), COIR_OK);
    check_books(&r, 1);
    CHECK_EQ(r.ended[COIR_DONE], 1);
}

/* ------------------------------------------------------------------------ jobs that wait again */

static coir_counter never;
static int waiting;

static void ignore_cancel(void *unused)
{
    int status;

    (void)unused;
    CHECK_EQ(coir_job_name("stubborn"), COIR_OK);
    run_count(&waiting);
    do
        status = coir_wait(&never);
    while (status == COIR_ECANCELED);
    CHECK_EQ(status, COIR_DONE);
}

static void a_job_that_waits_again_is_named_with_what_it_waits_for(void)
{
    coir_runtime *rt = run_open(2);
    coir_counter c = COIR_COUNTER_INIT;
    const coir_job_info *job;
    coir_receipt r;

    waiting = 0;
    coir_counter_init(&never);
    coir_counter_add(&never, 1);
    submit_n(rt, &c, ignore_cancel, NULL, 40);
    while (__atomic_load_n(&waiting, __ATOMIC_RELAXED) < 40)
        sched_yield();
    do { /* a worker that is kept from running has its job wait again later */
        close_times_out(rt, &r);
        check_books(&r, 40);
        job = entry(&r, ignore_cancel);
    } while (job->worker != -1 || strcmp(job->waits_for, "worker") == 0);
    CHECK_EQ(r.running, 40);
    CHECK_EQ(r.left_count, COIR_LEFT_MAX);
    CHECK_EQ(r.owed, 1);
    CHECK(r.canceled >= 40);
    CHECK_STR(job->name, "stubborn");
    CHECK_EQ(job->worker, -1);
    CHECK_STR(job->waits_for, "counter");
    CHECK(job->waits_on == &never);
    CHECK(job->job != 0 && job->job != r.left[1].job);
    coir_counter_done(&never, COIR_DONE);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_close(rt, -1, &r), COIR_OK);
    check_books(&r, 40);
}

static void parent_of_looper(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_spawn(&c, loop_for_ever, unused), COIR_OK);
    while (coir_wait(&c) == COIR_ECANCELED) /* its frame must not go before */
        ;
}

/* With one worker the child runs in place, on its parent's stack: both are running. */
static void jobs_of_one_stack_are_all_named(void)
{
    coir_runtime *rt = run_open(1);
    const coir_job_info *job;
    coir_receipt r;

    held = released = 0;
    submit_n(rt, NULL, parent_of_looper, NULL, 1);
    run_until(&held);
    close_times_out(rt, &r);
    check_books(&r, 2);
    job = entry(&r, parent_of_looper);
    CHECK_STR(job->waits_for, "counter");
    CHECK(job->waits_on != NULL);
    CHECK(entry(&r, loop_for_ever)->waits_for == NULL);
    run_set(&released);
    CHECK_EQ(coir_close(rt, -1, NULL), COIR_OK);
}

/* A fiber that is ready while its only worker is stuck. */
static void yield_once(void *go)
{
    run_set(go);
    coir_yield();
}

static void yield_then_loop(void *go)
{
    CHECK_EQ(coir_spawn(NULL, yield_once, go), COIR_OK);
    while (!__atomic_load_n((int *)go, __ATOMIC_ACQUIRE))
        coir_yield();
    loop_for_ever(NULL);
}

static void a_fiber_that_waits_for_a_worker_is_named(void)
{
    coir_runtime *rt = run_open(1);
    coir_receipt r;
    int go = 0;

    held = released = 0;
    submit_n(rt, NULL, yield_then_loop, &go, 1);
    run_until(&held);
    close_times_out(rt, &r);
    check_books(&r, 2);
    CHECK_STR(entry(&r, yield_once)->waits_for, "worker");
    run_set(&released);
    CHECK_EQ(coir_close(rt, -1, &r), COIR_OK);
    check_books(&r, 2);
}

/* ----------------------------------------------------------------------- those who wait elsewhere */

struct thread_wait {
    coir_counter *counter, *other; /* other NULL: coir_wait */
    int first, second;
    int told; /* first has been returned */
};

static int wait_on(struct thread_wait *w)
{
    coir_counter *const both[] = {w->other, w->counter};
    size_t which;

    return w->other ? coir_wait_any(both, 2, COIR_NEVER, &which) : coir_wait(w->counter);
}

static void *wait_twice(void *arg)
{
    struct thread_wait *w = arg;

    w->first = wait_on(w);
    run_set(&w->told);
    w->second = wait_on(w);
    return NULL;
}

static void until_waited_for(coir_counter *c)
{
    while (!(atomic_load_explicit(&counter_of(c)->state, memory_order_relaxed) & COUNTER_WAITERS))
        sched_yield();
}

/* The close may come before the thread sleeps, so it is repeated until the thread was told. */
static void close_until_told(coir_runtime *rt, uint64_t n)
{
    coir_receipt r;
    uint64_t told = 0;

    for (int i = 0; told < n && i < 20; i++) {
        close_times_out(rt, &r);
        told += r.told;
    }
    CHECK_EQ(told, n);
}

static void thread_is_told(bool any)
{
    coir_runtime *rt = run_open(1);
    coir_counter c = COIR_COUNTER_INIT, other = COIR_COUNTER_INIT;
    struct thread_wait w = {&c, any ? &other : NULL, -1, -1, 0};
    pthread_t thread;

    coir_counter_add(&other, 1);
    hold(rt, &c);
    CHECK_EQ(pthread_create(&thread, NULL, wait_twice, &w), 0);
    until_waited_for(&c);
    close_until_told(rt, 1);
    run_until(&w.told); /* before the real end */
    run_set(&released);
    pthread_join(thread, NULL);
    CHECK_EQ(w.first, COIR_ECANCELED);
    CHECK_EQ(w.second, COIR_DONE);
    coir_counter_done(&other, COIR_DONE);
    run_close(rt);
}

static void a_plain_thread_is_told_and_its_second_wait_finds_the_end(void)
{
    thread_is_told(false);
    thread_is_told(true);
}

static void *wait_once(void *arg)
{
    struct thread_wait *w = arg;

    w->first = wait_on(w);
    return NULL;
}

static void a_thread_that_waits_for_something_else_goes_on_waiting(void)
{
    coir_runtime *rt = run_open(1);
    coir_counter other = COIR_COUNTER_INIT;
    struct thread_wait w = {&other, NULL, -1, -1, 0};
    pthread_t thread;
    coir_receipt r;

    coir_counter_add(&other, 1);
    hold(rt, NULL);
    CHECK_EQ(pthread_create(&thread, NULL, wait_once, &w), 0);
    until_waited_for(&other);
    close_times_out(rt, &r);
    CHECK_EQ(r.told, 0);
    coir_counter_done(&other, COIR_DONE);
    pthread_join(thread, NULL);
    CHECK_EQ(w.first, COIR_DONE);
    run_set(&released);
    run_close(rt);
}

static void wait_as_fiber(void *arg)
{
    wait_twice(arg);
}

static void a_fiber_of_another_runtime_is_told(void)
{
    coir_runtime *rt = run_open(1), *other = run_open(1);
    coir_counter c = COIR_COUNTER_INIT, done = COIR_COUNTER_INIT;
    struct thread_wait w = {&c, NULL, -1, -1, 0};

    hold(rt, &c);
    submit_n(other, &done, wait_as_fiber, &w, 1);
    until_waited_for(&c);
    close_until_told(rt, 1);
    run_until(&w.told); /* before the real end */
    run_set(&released);
    CHECK_EQ(coir_wait(&done), COIR_DONE);
    CHECK_EQ(w.first, COIR_ECANCELED);
    CHECK_EQ(w.second, COIR_DONE);
    run_close(other);
    run_close(rt);
}

CHECK_MAIN(CASE(a_job_that_loops_is_named_with_its_worker),
           CASE(queued_jobs_end_though_no_worker_comes_for_them),
           CASE(spawned_jobs_end_though_their_worker_is_stuck),
           CASE(work_after_a_job_that_loops_ends_canceled), CASE(closes_go_on_until_the_job_ends),
           CASE(a_job_that_waits_again_is_named_with_what_it_waits_for),
           CASE(jobs_of_one_stack_are_all_named), CASE(a_fiber_that_waits_for_a_worker_is_named),
           CASE(a_plain_thread_is_told_and_its_second_wait_finds_the_end),
           CASE(a_thread_that_waits_for_something_else_goes_on_waiting),
           CASE(a_fiber_of_another_runtime_is_told))
