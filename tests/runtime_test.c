/* SPDX-License-Identifier: MIT */
/*
 * runtime_test.c - open and close: budgets, receipts whose sums add up, jobs that sleep, wait or
 * never end, and nothing left behind. Options are in options_test.c, lack of memory in
 * nomem_test.c.
 */
#include "run.h"

#include <dirent.h>
#include <pthread.h>

static void nop(void *unused)
{
    (void)unused;
}

static void count(void *n)
{
    run_count(n);
}

static void raise_plain(void *unused)
{
    (void)unused;
    coir_panic("plain");
}

static uint64_t sum(const coir_receipt *r)
{
    uint64_t n = 0;

    for (int o = COIR_DONE; o <= COIR_PANICKED; o++)
        n += r->ended[o];
    return n;
}

/* Everything that was accepted has ended or is still running. */
static void check_sums(const coir_receipt *r, uint64_t accepted)
{
    CHECK_EQ(sum(r) + r->running, accepted);
    CHECK(r->dropped <= r->ended[COIR_CANCELED]);
    CHECK(r->drain_ns >= 0);
}

static void submit_n(coir_runtime *rt, coir_counter *c, coir_fn *fn, void *arg, int n)
{
    for (int i = 0; i < n; i++)
        CHECK_EQ(coir_submit(rt, c, fn, arg), COIR_OK);
}

/* ------------------------------------------------------------------------------------- budgets */

static void sleep_a_little(void *n)
{
    CHECK_EQ(coir_sleep_until(coir_now() + 2 * COIR_MS), COIR_OK);
    run_count(n);
}

static void close_drains(int64_t budget)
{
    coir_runtime *rt = run_open(2);
    coir_receipt r;
    int n = 0;

    submit_n(rt, NULL, sleep_a_little, &n, 100);
    submit_n(rt, NULL, raise_plain, NULL, 10);
    CHECK_EQ(coir_close(rt, budget, &r), COIR_OK);
    CHECK_EQ(n, 100);
    CHECK_EQ(r.ended[COIR_DONE], 100);
    CHECK_EQ(r.ended[COIR_PANICKED], 10);
    CHECK_EQ(r.canceled, 0);
    CHECK_EQ(r.dropped, 0);
    check_sums(&r, 110);
}

static void a_close_lets_all_work_end(void)
{
    close_drains(-1);
    close_drains(INT64_MIN);
    close_drains(1000 * COIR_SEC);
    close_drains(COIR_NEVER);
}

static int held, released;

static void hold_worker(void *unused)
{
    (void)unused;
    run_set(&held);
    while (!__atomic_load_n(&released, __ATOMIC_ACQUIRE))
        sched_yield();
}

static void *release_soon(void *unused)
{
    CHECK_EQ(coir_sleep_until(coir_now() + 20 * COIR_MS), COIR_OK);
    run_set(&released);
    return unused;
}

/* The one worker is busy past the budget, so the jobs behind it are dropped when it is free. */
static void a_close_past_its_budget_drops_queued_jobs(void)
{
    coir_runtime *rt = run_open(1);
    coir_counter c = COIR_COUNTER_INIT;
    coir_failure f;
    coir_receipt r;
    pthread_t thread;
    int n = 0;

    held = released = 0;
    submit_n(rt, NULL, hold_worker, NULL, 1);
    run_until(&held);
    submit_n(rt, &c, count, &n, 50);
    CHECK_EQ(pthread_create(&thread, NULL, release_soon, NULL), 0);
    run_close_past(rt, 0, &r);
    CHECK_EQ(coir_wait(&c), COIR_CANCELED);
    CHECK_EQ(coir_counter_failure(&c, &f), COIR_OK);
    CHECK_EQ(f.kind, COIR_KIND_SHUTDOWN);
    CHECK_EQ(n, 0);
    CHECK_EQ(r.ended[COIR_CANCELED], 50);
    CHECK_EQ(r.dropped, 50);
    check_sums(&r, 51);
    pthread_join(thread, NULL);
}

static coir_counter never;
static int sleeping, slept[3];

static void sleep_long(void *status)
{
    run_count(&sleeping);
    *(int *)status = coir_sleep_until(COIR_NEVER);
}

static void wait_long(void *status)
{
    run_count(&sleeping);
    *(int *)status = coir_wait(&never);
}

/* A wait in the job's own frame is forwarded, and its child is told too. */
static void wait_for_child(void *status)
{
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_spawn(&c, sleep_long, status), COIR_OK);
    coir_yield();
    CHECK(coir_wait(&c) >= COIR_DONE);
}

static void a_close_past_its_budget_interrupts_waits(void)
{
    coir_runtime *rt = run_open(2);
    coir_receipt r;

    sleeping = 0;
    memset(slept, 0, sizeof slept);
    coir_counter_init(&never);
    coir_counter_add(&never, 1);
    submit_n(rt, NULL, sleep_long, &slept[0], 1);
    submit_n(rt, NULL, wait_long, &slept[1], 1);
    submit_n(rt, NULL, wait_for_child, &slept[2], 1);
    while (__atomic_load_n(&sleeping, __ATOMIC_RELAXED) < 3)
        sched_yield();
    run_close_past(rt, COIR_MS, &r);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(slept[i], COIR_ECANCELED);
    CHECK(r.drain_ns >= COIR_MS);
    check_sums(&r, 4);
    coir_counter_done(&never, COIR_DONE);
}

static void a_job_that_does_not_end_leaves_the_handle_valid(void)
{
    coir_runtime *rt = run_open(2);
    coir_receipt r;
    coir_stats s;
    int n = 0;

    held = released = 0;
    submit_n(rt, NULL, hold_worker, NULL, 1);
    run_until(&held);
    CHECK_EQ(coir_close(rt, 0, &r), COIR_ETIMEDOUT);
    CHECK_EQ(r.running, 1);
    check_sums(&r, 1);
    CHECK_EQ(coir_submit(rt, NULL, count, &n), COIR_ESHUTDOWN);
    CHECK_EQ(coir_stats_read(rt, &s), COIR_OK);
    CHECK_EQ(coir_close(rt, 0, NULL), COIR_ETIMEDOUT);
    run_set(&released);
    CHECK_EQ(coir_close(rt, -1, &r), COIR_OK);
    CHECK_EQ(r.ended[COIR_DONE], 1);
    check_sums(&r, 1);
    CHECK_EQ(n, 0);
}

static int64_t time_to_close_idle(unsigned workers)
{
    coir_options o = run_options(workers);
    coir_runtime *rt;
    coir_stats s;
    int64_t begin;

    o.spin_ns = -1;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    do {
        sched_yield();
        CHECK_EQ(coir_stats_read(rt, &s), COIR_OK);
    } while (s.sleeps < workers);
    begin = coir_now();
    run_close(rt);
    return coir_now() - begin;
}

/* A sleeper that nobody wakes looks in by itself after 10 ms for each worker: 640 ms. */
static void a_close_wakes_many_idle_workers_at_once(void)
{
    const int64_t bound = 200 * COIR_MS * (SLOW ? 10 : 1);
    int64_t five = COIR_NEVER;

    for (int tries = 0; tries < 5 && five > bound; tries++) { /* this machine may be busy */
        five = 0;
        for (int i = 0; i < 5; i++)
            five += time_to_close_idle(64);
    }
    CHECK(five <= bound);
}

/* ---------------------------------------------------------------------------------- who closes */

static void close_own(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_close(coir_current(), 0, NULL), COIR_EPERM);
}

static void close_other(void *other)
{
    CHECK_EQ(coir_close(other, 0, NULL), COIR_EPERM);
}

static void a_worker_of_any_runtime_cannot_close(void)
{
    coir_runtime *rt = run_open(1);

    run_on(1, close_own, NULL);
    run_on(1, close_other, rt);
    run_close(rt);
    CHECK_EQ(coir_close(NULL, 0, NULL), COIR_EINVAL);
}

static void *close_drained(void *rt)
{
    CHECK_EQ(coir_close(rt, -1, NULL), COIR_OK);
    return NULL;
}

static void only_one_thread_closes(void)
{
    coir_runtime *rt = run_open(1);
    pthread_t thread;
    coir_receipt refused, zero;
    int n = 0;

    memset(&refused, 0xff, sizeof refused);
    memset(&zero, 0, sizeof zero);
    held = released = 0;
    submit_n(rt, NULL, hold_worker, NULL, 1);
    run_until(&held);
    CHECK_EQ(pthread_create(&thread, NULL, close_drained, rt), 0);
    while (coir_submit(rt, NULL, count, &n) == COIR_OK)
        sched_yield(); /* until the other has begun */
    CHECK_EQ(coir_close(rt, 0, &refused), COIR_EBUSY);
    CHECK(memcmp(&refused, &zero, sizeof zero) == 0);
    run_set(&released);
    pthread_join(thread, NULL);
}

/* --------------------------------------------------------------------------------------- books */

static int unfinished; /* work of the current runtime that has begun and not ended */

static void spawn_and_linger(void *unused)
{
    __atomic_add_fetch(&unfinished, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(coir_spawn(NULL, nop, unused), COIR_OK);
        if (i % 5 == 0)
            sched_yield();
    }
    __atomic_sub_fetch(&unfinished, 1, __ATOMIC_RELAXED);
}

/* runtime.c, BOOKS: a close must not take jobs that end early for the one that spawns them. */
static void a_close_waits_for_all_that_was_accepted(void)
{
    for (int i = 0; check_round(i, MANY(1000)); i++) {
        coir_runtime *rt = run_open(2);
        coir_receipt r;

        submit_n(rt, NULL, spawn_and_linger, NULL, 2);
        CHECK_EQ(coir_close(rt, -1, &r), COIR_OK);
        CHECK_EQ(unfinished, 0);
        CHECK_EQ(r.ended[COIR_DONE], 42);
    }
}

struct waker {
    coir_counter gate;
    int go, quit;
};

static void pass_gate(void *gate)
{
    CHECK_EQ(coir_wait(gate), COIR_DONE);
}

static void *open_gates(void *arg)
{
    struct waker *w = arg;

    while (!__atomic_load_n(&w->quit, __ATOMIC_ACQUIRE)) {
        if (__atomic_exchange_n(&w->go, 0, __ATOMIC_ACQUIRE))
            coir_counter_done(&w->gate, COIR_DONE);
        sched_yield();
    }
    return NULL;
}

/* The thread that wakes the last fiber may still be about its business when the runtime goes. */
static void a_close_may_follow_a_foreign_wake_up_at_once(void)
{
    struct waker w = {.go = 0};
    pthread_t thread;

    CHECK_EQ(pthread_create(&thread, NULL, open_gates, &w), 0);
    for (int i = 0; check_round(i, MANY(1000)); i++) {
        coir_runtime *rt = run_open(1);

        coir_counter_init(&w.gate);
        coir_counter_add(&w.gate, 1);
        submit_n(rt, NULL, pass_gate, &w.gate, 1);
        __atomic_store_n(&w.go, 1, __ATOMIC_RELEASE);
        run_close(rt);
    }
    run_set(&w.quit);
    pthread_join(thread, NULL);
}

/* --------------------------------------------------------------------------------------- leaks */

static int entries(const char *path)
{
    DIR *d = opendir(path);
    int n = 0;

    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

static int mappings(void)
{
    FILE *f = fopen("/proc/self/maps", "re");
    int n = 0, c;

    while (f && (c = fgetc(f)) != EOF)
        n += c == '\n';
    if (f)
        fclose(f);
    return n;
}

static void open_and_close(int times)
{
    for (int i = 0; i < times; i++) {
        coir_runtime *rt = run_open(1 + (unsigned)i % 2);
        int n = 0;

        submit_n(rt, NULL, count, &n, 5);
        run_close(rt);
        CHECK_EQ(n, 5);
    }
}

static void a_thousand_runtimes_leave_nothing_behind(void)
{
    int files, threads, maps;

    open_and_close(10);
    files = entries("/proc/self/fd");
    threads = entries("/proc/self/task");
    maps = mappings();
    open_and_close(MANY(1000));
    CHECK_EQ(entries("/proc/self/fd"), files);
    CHECK_EQ(entries("/proc/self/task"), threads);
    CHECK(mappings() <= maps + 16); /* malloc's arenas may grow */
}

/* Calls of read() and write() that this process has made; 0: this kernel does not count them. */
static unsigned long long calls_of(const char *what)
{
    unsigned long long n = 0;
    FILE *f = fopen("/proc/self/io", "re");
    char line[64];

    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, what, strlen(what)) == 0)
            n = strtoull(line + strlen(what), NULL, 10);
    if (f)
        fclose(f);
    return n;
}

/* What the kernel says of quotas and limits costs more than a thread; and a thread names itself by no file. */
static void who_opens_often_reads_and_writes_no_file_for_it(void)
{
    unsigned long long reads, writes, own, most;
    int64_t start = coir_now();

    open_and_close(1);
    calls_of("syscw:");
    reads = calls_of("syscr:");
    own = calls_of("syscr:") - reads; /* to read the figure */
    writes = calls_of("syscw:");
    reads = calls_of("syscr:");
    open_and_close(20);
    most = 20 * (1 + (unsigned long long)((coir_now() - start) / COIR_SEC)); /* they are believed for a second */
    CHECK(calls_of("syscr:") - reads - own < most);
    CHECK(calls_of("syscw:") - writes < most);
}

/* ------------------------------------------------------------------------------------- figures */

static void park_one(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_wait(&never), COIR_DONE);
}

static void figures_are_exact_when_idle(void)
{
    coir_runtime *rt = run_open(2);
    coir_counter c = COIR_COUNTER_INIT;
    coir_stats s;
    int n = 0;

    CHECK_EQ(coir_stats_read(NULL, &s), COIR_EINVAL);
    CHECK_EQ(coir_stats_read(rt, NULL), COIR_EINVAL);
    coir_counter_init(&never);
    coir_counter_add(&never, 1);
    submit_n(rt, &c, count, &n, 100);
    submit_n(rt, &c, raise_plain, NULL, 5);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    coir_counter_init(&c);
    submit_n(rt, &c, park_one, NULL, 7);
    do
        CHECK_EQ(coir_stats_read(rt, &s), COIR_OK);
    while (s.parked < 7);
    coir_counter_done(&never, COIR_DONE);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    do /* a unit is released a moment before its job is booked */
        CHECK_EQ(coir_stats_read(rt, &s), COIR_OK);
    while (s.ended[COIR_DONE] < 107);
    CHECK_EQ(s.spawned, 112);
    CHECK_EQ(s.ended[COIR_PANICKED], 5);
    CHECK_EQ(s.panics, 5);
    CHECK_EQ(s.parked, 0);
    CHECK_EQ(s.workers, 2);
    CHECK(s.stacks >= 2 && s.stacks <= s.stacks_limit);
    CHECK(s.io == COIR_IO_URING || s.io == COIR_IO_EPOLL);
    run_close(rt);
}

CHECK_MAIN(CASE(a_close_lets_all_work_end), CASE(a_close_past_its_budget_drops_queued_jobs),
           CASE(a_close_past_its_budget_interrupts_waits),
           CASE(a_job_that_does_not_end_leaves_the_handle_valid),
           CASE(a_close_wakes_many_idle_workers_at_once),
           CASE(a_worker_of_any_runtime_cannot_close), CASE(only_one_thread_closes),
           CASE(a_close_waits_for_all_that_was_accepted),
           CASE(a_close_may_follow_a_foreign_wake_up_at_once),
           CASE(a_thousand_runtimes_leave_nothing_behind),
           CASE(who_opens_often_reads_and_writes_no_file_for_it), CASE(figures_are_exact_when_idle))
