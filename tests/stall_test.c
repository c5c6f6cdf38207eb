/* SPDX-License-Identifier: MIT */
/*
 * stall_test.c - options.stall_ns: a job that does not suspend is named once, where it is, while it
 * runs, and what is queued behind it is stolen; coir_checkpoint interrupts those who ask.
 */
#include "base.h"
#include "run.h"

#include <pthread.h>
#include <signal.h>

#define STALL_NS (20 * COIR_MS * (SLOW ? 4 : 1))

static int held, released;

/* ------------------------------------------------------------------------------------- the log */

static int named;           /* lines that name a job */
static int frames_in_loop;  /* lines of a backtrace with an address in loop_here */
static int silent;          /* lines that say that the worker did not answer: it had no processor all the while */
static char line[512];      /* the last that named one */

static __attribute__((noinline)) void loop_here(void *unused)
{
    (void)unused;
    while (!__atomic_load_n(&released, __ATOMIC_ACQUIRE))
        ;
    __asm__ volatile("" ::: "memory"); /* no tail call, no empty end */
}

static void stall(void *name)
{
    CHECK_EQ(coir_job_name(name), COIR_OK);
    run_set(&held);
    loop_here(NULL);
    __asm__ volatile("" ::: "memory"); /* no tail call */
}

static void on_line(enum coir_log_level level, const char *text, void *arg)
{
    unsigned frame;
    void *pc;

    (void)arg;
    if (strncmp(text, "stall: worker", 13) == 0) {
        CHECK_EQ(level, COIR_LOG_WARNING);
        snprintf(line, sizeof line, "%s", text);
        run_count(&named);
    }
    silent += strstr(text, "no backtrace") != NULL;
    if (sscanf(text, "stall:   #%u %p", &frame, &pc) != 2)
        return;
    if ((uintptr_t)pc - (uintptr_t)loop_here < 200)
        run_count(&frames_in_loop);
}

static coir_runtime *open_watched(unsigned workers, int64_t stall_ns, int number)
{
    coir_options o = run_options(workers);
    coir_runtime *rt = NULL;

    named = frames_in_loop = silent = held = released = 0;
    o.stall_ns = stall_ns;
    o.stall_signal = number;
    o.log = on_line;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    return rt;
}

static void submit(coir_runtime *rt, coir_counter *owed, coir_fn *fn, void *arg)
{
    CHECK_EQ(coir_submit(rt, owed, fn, arg), COIR_OK);
}

static void until_named(void)
{
    while (!__atomic_load_n(&named, __ATOMIC_RELAXED))
        sched_yield();
}

/* Lets so many times the stall's length pass, on a plain thread. */
static void let_pass(int times)
{
    CHECK_EQ(coir_sleep_until(coir_now() + times * STALL_NS), COIR_OK);
}

/* -------------------------------------------------------------------------------------- stalls */

/* Whether it was seen where it is. */
static int job_is_named(int number)
{
    coir_runtime *rt = open_watched(1, STALL_NS, number);
    coir_stats s;

    submit(rt, NULL, stall, "stubborn");
    until_named();
    let_pass(5);
    CHECK_EQ(coir_stats_read(rt, &s), COIR_OK);
    CHECK_EQ(s.stalls, 1); /* once, however long it goes on */
    CHECK_EQ(s.ended[COIR_DONE], 0); /* while it runs */
    run_set(&released);
    run_close(rt);
    CHECK_EQ(named, 1);
    CHECK(strstr(line, "worker 0 ") != NULL);
    if (silent)
        return 0;
    CHECK(strstr(line, "stubborn") != NULL);
#ifndef COIR_TSAN /* it delivers signals inside its own code, which has no frame pointers */
    CHECK(frames_in_loop > 0);
#endif
    return 1;
}

static int64_t stalled_ns(coir_runtime *rt)
{
    coir_stats s;

    CHECK_EQ(coir_stats_read(rt, &s), COIR_OK);
    return s.stalled_ns;
}

static void a_stall_that_goes_on_is_a_figure_until_it_ends(void)
{
    coir_runtime *rt = open_watched(2, STALL_NS, 0);
    int64_t before;

    CHECK_EQ(stalled_ns(rt), 0);
    submit(rt, NULL, stall, "stubborn");
    while (!(before = stalled_ns(rt)))
        sched_yield();
    CHECK(before >= STALL_NS);
    while (stalled_ns(rt) < before + STALL_NS)
        sched_yield();
    run_set(&released);
    while (stalled_ns(rt))
        sched_yield();
    run_close(rt);
}

static void a_job_that_does_not_suspend_is_named_once_where_it_is(void)
{
    while (!job_is_named(0))
        ;
    while (!job_is_named(SIGRTMIN + 3))
        ;
}

static void each_stall_is_named(void)
{
    coir_runtime *rt = open_watched(1, STALL_NS, 0);

    for (int i = 1; i <= 3; i++) {
        coir_counter c = COIR_COUNTER_INIT;

        __atomic_store_n(&released, 0, __ATOMIC_RELEASE);
        submit(rt, &c, stall, NULL);
        while (__atomic_load_n(&named, __ATOMIC_RELAXED) < i)
            sched_yield();
        run_set(&released);
        CHECK_EQ(coir_wait(&c), COIR_DONE);
    }
    run_close(rt);
}

static void count(void *n)
{
    run_count(n);
}

static void spawn_and_stall(void *n)
{
    for (int i = 0; i < 100; i++)
        CHECK_EQ(coir_spawn(NULL, count, n), COIR_OK);
    stall("spawner");
}

static void what_is_queued_behind_a_stall_is_stolen(void)
{
    coir_runtime *rt = open_watched(2, STALL_NS, 0);
    int n = 0;

    submit(rt, NULL, spawn_and_stall, &n);
    while (__atomic_load_n(&n, __ATOMIC_RELAXED) < 100)
        sched_yield();
    until_named();
    run_set(&released);
    run_close(rt);
}

static void yield_often(void *unused)
{
    (void)unused;
    while (!__atomic_load_n(&released, __ATOMIC_ACQUIRE))
        coir_yield();
}

static int64_t patience; /* a limit that shall not be reached; ns */

/* A worker that gets no processor for so long is named as well: once more then, more patiently. Whoever is named for
 * what he does, is named each time. */
static void nobody_is_named(void (*run)(void))
{
    patience = 4 * STALL_NS;
    for (run(); named && patience < 64 * STALL_NS; run())
        patience *= 2;
    CHECK_EQ(named, 0);
}

static void wait_long(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_sleep_until(coir_now() + 3 * patience), COIR_OK);
}

static void spawn_long(void *unused)
{
    int64_t end = coir_now() + 3 * patience;

    while (coir_now() < end) {
        coir_counter c = COIR_COUNTER_INIT;
        int n = 0;

        (void)unused;
        CHECK_EQ(coir_spawn(&c, count, &n), COIR_OK);
        CHECK_EQ(coir_wait(&c), COIR_DONE);
    }
}

/* Whatever suspends, or runs other jobs in place, or is idle. */
static void suspend_all_the_time(void)
{
    coir_runtime *rt = open_watched(2, patience, 0);
    coir_counter c = COIR_COUNTER_INIT;

    submit(rt, NULL, yield_often, NULL);
    submit(rt, &c, wait_long, NULL);
    submit(rt, &c, spawn_long, NULL);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    run_set(&released);
    run_close(rt);
}

static void who_suspends_is_not_named(void)
{
    nobody_is_named(suspend_all_the_time);
}

/* A worker that polls is awake, and in no job. */
static void an_idle_worker_is_not_named(void)
{
    coir_options o = run_options(1);
    coir_runtime *rt;

    named = 0;
    o.stall_ns = STALL_NS;
    o.spin_ns = COIR_NEVER;
    o.log = on_line;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    let_pass(5);
    run_close(rt);
    CHECK_EQ(named, 0);
}

/* ---------------------------------------------------------------------------------- the signal */

static int others; /* signals that reached the host's handler */

static void host_handler(int number)
{
    (void)number;
    run_count(&others);
}

static int is_ours(int number)
{
    struct sigaction now;

    CHECK_EQ(sigaction(number, NULL, &now), 0);
    return now.sa_handler != host_handler;
}

static void the_hosts_handler_is_chained_and_comes_back(void)
{
    struct sigaction host = {.sa_handler = host_handler}, before;
    coir_runtime *rt, *second;

    others = 0;
    CHECK_EQ(sigaction(SIGURG, &host, &before), 0);
    run_on(1, count, &(int){0});
    CHECK(!is_ours(SIGURG)); /* nothing is installed unless asked for */
    rt = open_watched(1, STALL_NS, 0);
    second = open_watched(1, STALL_NS, 0);
    CHECK(is_ours(SIGURG));
    raise(SIGURG);
    CHECK_EQ(others, 1);
    run_close(rt);
    CHECK(is_ours(SIGURG));
    submit(second, NULL, stall, NULL);
    until_named();
    run_set(&released);
    run_close(second);
    CHECK(!is_ours(SIGURG));
    CHECK_EQ(others, 1);
    CHECK_EQ(sigaction(SIGURG, &before, NULL), 0);
}

static void the_default_action_on_top_is_not_kept(void)
{
    coir_runtime *rt = open_watched(1, STALL_NS, SIGUSR1);

    signal(SIGUSR1, SIG_DFL);
    run_close(rt);
    rt = open_watched(1, STALL_NS, SIGUSR1);
    submit(rt, NULL, stall, NULL);
    until_named();
    run_set(&released);
    run_close(rt);
}

static void a_signal_that_cannot_be_had_is_refused(void)
{
    coir_options o = run_options(1);
    coir_runtime *rt;

    o.stall_ns = STALL_NS;
    o.stall_signal = SIGKILL;
    CHECK_EQ(coir_open(&o, &rt), COIR_EINVAL);
    CHECK(rt == NULL);
}

/* --------------------------------------------------------------------------------- checkpoints */

static void loop_with_checkpoints(void *status)
{
    int now;

    run_set(&held);
    do
        now = coir_checkpoint();
    while (now == COIR_OK && !__atomic_load_n(&released, __ATOMIC_ACQUIRE));
    *(int *)status = now;
}

static void a_cancel_interrupts_a_loop_with_checkpoints(void)
{
    for (unsigned workers = 1; workers <= 2; workers++) {
        coir_runtime *rt = run_open(workers);
        coir_counter c = COIR_COUNTER_INIT;
        int status = -1;

        held = released = 0;
        submit(rt, &c, loop_with_checkpoints, &status);
        run_until(&held);
        CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
        CHECK_EQ(coir_wait(&c), COIR_DONE);
        CHECK_EQ(status, COIR_ECANCELED);
        run_close(rt);
    }
}

static void a_close_interrupts_it_too(void)
{
    coir_runtime *rt = run_open(1);
    int status = -1, closed;

    held = released = 0;
    submit(rt, NULL, loop_with_checkpoints, &status);
    run_until(&held);
    do
        closed = coir_close(rt, 0, NULL);
    while (closed == COIR_ETIMEDOUT);
    CHECK_EQ(closed, COIR_OK);
    CHECK_EQ(status, COIR_ECANCELED);
}

/* Two loops and one worker: the one that is not running when the cancel comes learns of it later. */
static void loop_and_yield(void *status)
{
    int now, turns = 0;

    run_count(&held);
    do {
        coir_yield();
        now = ++turns % 7 ? COIR_OK : coir_checkpoint();
    } while (now == COIR_OK && !__atomic_load_n(&released, __ATOMIC_ACQUIRE));
    *(int *)status = now;
}

static void a_cancel_reaches_a_loop_that_was_queued(void)
{
    for (int i = 0; i < MANY(200); i++) {
        coir_runtime *rt = run_open(1);
        coir_counter c[3] = {COIR_COUNTER_INIT, COIR_COUNTER_INIT, COIR_COUNTER_INIT};
        int status[3] = {-1, -1, -1};

        held = released = 0;
        for (int j = 0; j < 3; j++)
            submit(rt, &c[j], loop_and_yield, &status[j]);
        while (__atomic_load_n(&held, __ATOMIC_RELAXED) < 3)
            sched_yield();
        CHECK_EQ(coir_counter_cancel(&c[1]), COIR_OK);
        CHECK_EQ(coir_wait(&c[1]), COIR_DONE);
        CHECK_EQ(status[1], COIR_ECANCELED);
        run_set(&released);
        run_close(rt);
        CHECK(status[0] == COIR_OK && status[2] == COIR_OK); /* nobody else notices */
    }
}

/* The child takes the request; its parent, in the same loop below it, is told as well. */
static int parent_told;

static void child_of_loop(void *status)
{
    loop_with_checkpoints(status);
}

static void parent_of_loop(void *status)
{
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_spawn(&c, child_of_loop, status), COIR_OK);
    CHECK(coir_wait(&c) >= COIR_DONE);
    parent_told = coir_checkpoint();
    CHECK_EQ(coir_checkpoint(), parent_told); /* again and again */
}

static void those_who_wait_for_it_on_its_stack_are_told_too(void)
{
    coir_runtime *rt = run_open(1);
    coir_counter c = COIR_COUNTER_INIT;
    int status = -1;

    held = released = 0;
    submit(rt, &c, parent_of_loop, &status);
    run_until(&held);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK(coir_wait(&c) >= COIR_DONE);
    CHECK_EQ(status, COIR_ECANCELED);
    CHECK_EQ(parent_told, COIR_ECANCELED);
    run_close(rt);
}

static void release(void *unused)
{
    (void)unused;
    run_set(&released);
}

/* One worker: only if the loop yields can the other job run that ends it. It does so the first time that it
 * is asked, after half of the limit; a yield looks at injected work by itself only now and then. */
static void the_watcher_lets_others_run(void)
{
    coir_runtime *rt = open_watched(1, 10 * STALL_NS, 0);
    int64_t began = coir_now();
    int status = -1;

    submit(rt, NULL, loop_with_checkpoints, &status);
    run_until(&held);
    submit(rt, NULL, release, NULL);
    run_close(rt);
    CHECK_EQ(status, COIR_OK);
    CHECK(coir_now() - began < (SLOW ? 200 : 80) * STALL_NS);
}

static void pass_checkpoints(void)
{
    coir_runtime *rt = open_watched(1, patience, 0);
    int status = -1;

    submit(rt, NULL, loop_with_checkpoints, &status);
    run_until(&held);
    CHECK_EQ(coir_sleep_until(coir_now() + 3 * patience), COIR_OK);
    run_set(&released);
    run_close(rt);
}

static void a_loop_with_checkpoints_is_not_named(void)
{
    nobody_is_named(pass_checkpoints);
}

static void a_plain_thread_may_pass_a_checkpoint(void)
{
    CHECK_EQ(coir_checkpoint(), COIR_OK);
}

CHECK_MAIN(CASE(a_job_that_does_not_suspend_is_named_once_where_it_is),
           CASE(a_stall_that_goes_on_is_a_figure_until_it_ends), CASE(each_stall_is_named),
           CASE(what_is_queued_behind_a_stall_is_stolen), CASE(who_suspends_is_not_named),
           CASE(an_idle_worker_is_not_named), CASE(the_hosts_handler_is_chained_and_comes_back),
           CASE(the_default_action_on_top_is_not_kept), CASE(a_signal_that_cannot_be_had_is_refused),
           CASE(a_cancel_interrupts_a_loop_with_checkpoints), CASE(a_close_interrupts_it_too),
           CASE(a_cancel_reaches_a_loop_that_was_queued),
           CASE(those_who_wait_for_it_on_its_stack_are_told_too), CASE(the_watcher_lets_others_run),
           CASE(a_loop_with_checkpoints_is_not_named), CASE(a_plain_thread_may_pass_a_checkpoint))
