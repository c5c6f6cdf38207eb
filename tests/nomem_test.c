/* SPDX-License-Identifier: MIT */
/*
 * nomem_test.c - threads and stacks that are not to be had: each call says so, nothing is lost, and what can
 * go on does. Other things that may be missing, one by one: faulty_test.c.
 */
#include "faulty.h"
#include "run.h"
#include "state.h"

static int starved(int status)
{
    return status == COIR_ENOMEM;
}

static void count(void *n)
{
    run_count(n);
}

static void block(void *n)
{
    int status = coir_sleep_until(coir_now() + 10 * COIR_US);

    CHECK(status == COIR_OK || starved(status));
    run_count(n);
}

/* ------------------------------------------------------------------------------ hooks, threads */

static coir_options hooked(unsigned workers)
{
    coir_options o = run_options(workers);

    o.alloc = faulty_alloc;
    o.free = faulty_free;
    return o;
}

static void park_many(void *n)
{
    coir_counter c = COIR_COUNTER_INIT;

    for (int i = 0; i < 1000; i++)
        CHECK_EQ(coir_spawn(&c, block, n), COIR_OK);
    CHECK_EQ(coir_wait_until(&c, coir_now() + 1000 * COIR_SEC), COIR_DONE);
}

static void stacks_come_from_the_hook(void)
{
    coir_options o = hooked(1);
    long mapped;
    int n = 0;

    CHECK_EQ(coir_run(&o, count, &n), COIR_DONE); /* what stays for the life of the process is there now */
    mapped = faulty_balance().mapped;
    CHECK_EQ(coir_run(&o, park_many, &n), COIR_DONE);
    CHECK_EQ(n, 1001);
    CHECK_EQ(faulty_balance().blocks, 0);
    CHECK_EQ(faulty_balance().mapped, mapped);
}

static void open_with_threads(int n, int status)
{
    coir_options o = hooked(7);
    int dummy;
    coir_runtime *rt = (coir_runtime *)(void *)&dummy;

    o.stall_ns = 1000 * COIR_SEC; /* the watcher is the eighth */
    faulty_arm(FAULTY_pthread_create, n + 1, 1);
    CHECK_EQ(coir_open(&o, &rt), status);
    faulty_disarm();
    if (status == COIR_OK)
        run_close(rt);
    else
        CHECK(rt == NULL);
    CHECK_EQ(faulty_balance().blocks, 0);
    CHECK_EQ(faulty_balance().threads, 0);
}

static void open_undoes_itself_when_a_thread_cannot_start(void)
{
    for (int n = 0; n < 8; n++)
        open_with_threads(n, COIR_EAGAIN);
    open_with_threads(8, COIR_OK);
}

/* The pool starts its threads when calls come, so here on the worker. */
static void offload_without_threads(void *unused)
{
    int n = 0;

    (void)unused;
    faulty_arm(FAULTY_pthread_create, 1, 0);
    CHECK_EQ(coir_offload(count, &n), COIR_EAGAIN);
    CHECK_EQ(n, 0);
    CHECK_EQ(coir_offload(count, &n), COIR_DONE);
    CHECK_EQ(coir_offload(count, &n), COIR_DONE); /* by the thread there is, perhaps */
    CHECK(faulty_used(FAULTY_pthread_create) >= 2);
    CHECK_EQ(n, 2);
    faulty_disarm();
}

static void a_call_that_no_thread_can_be_started_for_says_so(void)
{
    run_on(1, offload_without_threads, NULL);
}

/* ------------------------------------------------------------------------------------- stacks */

static void run_with_stacks(size_t stacks, coir_fn *fn, void *arg, int outcome)
{
    coir_options o = run_options(1);

    o.stacks_max = stacks;
    CHECK_EQ(coir_run(&o, fn, arg), outcome);
}

struct parking {
    int ended, refused;
};

static void sleep_or_not(void *arg)
{
    struct parking *p = arg;
    int status = coir_sleep_until(coir_now() + COIR_MS);

    CHECK(status == COIR_OK || starved(status));
    if (starved(status))
        run_count(&p->refused);
    run_count(&p->ended);
}

/* On a slow machine sleepers wake before all have started, so the last stack may be this one, too. */
static void sleep_on_few(void *arg)
{
    coir_counter c = COIR_COUNTER_INIT;
    int status;

    CHECK_EQ(coir_spawn_many(&c, sleep_or_not, arg, 0, 100), COIR_OK);
    while ((status = coir_wait(&c)) == COIR_ENOMEM)
        coir_yield();
    CHECK_EQ(status, COIR_DONE);
}

static void a_wait_without_a_stack_says_so_and_all_work_ends(void)
{
    for (size_t stacks = 1; stacks < 10; stacks++) {
        struct parking p = {0, 0};

        run_with_stacks(stacks, sleep_on_few, &p, COIR_DONE);
        CHECK_EQ(p.ended, 100);
        CHECK(p.refused > 0);
    }
}

static coir_counter gate;

static void pass_gate(void *n)
{
    CHECK_EQ(coir_wait(&gate), COIR_DONE);
    run_count(n);
}

/* It takes the last stack for its own wait while the two it has woken are ready. */
static void open_and_sleep(void *n)
{
    coir_counter_done(&gate, COIR_DONE);
    CHECK_EQ(coir_sleep_until(coir_now() + COIR_MS), COIR_OK);
    run_count(n);
}

static void spawn_gate(void *n)
{
    CHECK_EQ(coir_spawn(NULL, open_and_sleep, n), COIR_OK);
    CHECK_EQ(coir_spawn(NULL, pass_gate, n), COIR_OK);
    CHECK_EQ(coir_spawn(NULL, pass_gate, n), COIR_OK);
}

static void no_ready_fiber_is_lost_with_the_last_stack(void)
{
    int n = 0;

    coir_counter_init(&gate);
    coir_counter_add(&gate, 1);
    run_with_stacks(3, spawn_gate, &n, COIR_DONE);
    CHECK_EQ(n, 3);
}

static void raise_beside_child(void *n)
{
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_spawn(&c, count, n), COIR_OK);
    coir_panic("without a stack to wait on");
}

static void return_owing(void *n)
{
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_spawn(&c, count, n), COIR_OK);
}

static void a_panic_without_a_stack_settles_its_children(void)
{
    int n = 0;

    run_with_stacks(1, raise_beside_child, &n, COIR_PANICKED);
    run_with_stacks(1, return_owing, &n, COIR_PANICKED);
    CHECK_EQ(n, 0);
}

static void block_until_set(void *flag)
{
    run_until(flag);
}

/* When the call ends, a thread that is no worker makes the fiber ready. */
static void offload_or_not(void *flag)
{
    int status = coir_offload(block_until_set, flag);

    CHECK(status == COIR_DONE || starved(status));
}

static void raise_beside_offloads(void *flag)
{
    struct inject *q = &coir_current()->inject;
    coir_counter c = COIR_COUNTER_INIT;
    coir_stats s;

    CHECK_EQ(coir_spawn_many(&c, offload_or_not, flag, 0, 4), COIR_OK);
    coir_yield(); /* they park, as many as there are stacks for */
    CHECK_EQ(coir_stats_read(coir_current(), &s), COIR_OK);
    run_set(flag);
    while (atomic_load_explicit(&q->fiber_count, memory_order_relaxed) < s.parked)
        sched_yield();
    coir_panic("while they hold the other stacks");
}

static void a_panic_without_a_stack_goes_on_with_a_fiber_that_is_ready(void)
{
    for (size_t stacks = 1; stacks < 10; stacks++) {
        int flag = 0;

        run_with_stacks(stacks, raise_beside_offloads, &flag, COIR_PANICKED);
    }
}

/* Another job's: not canceled by the panic. */
static void release_later(void *owed)
{
    int status = coir_sleep_until(coir_now() + 2 * COIR_MS);

    CHECK(status == COIR_OK || starved(status));
    if (owed)
        coir_counter_done(owed, COIR_DONE);
}

/* Though it is canceled. */
static void outlast(void *unused)
{
    (void)unused;
    while (coir_wait(&gate) < 0)
        coir_yield();
}

static void raise_owed_by_a_sleeper(void *n)
{
    coir_counter c = COIR_COUNTER_INIT;

    coir_counter_init(&gate);
    coir_counter_add(&gate, 1);
    CHECK_EQ(coir_spawn(&c, count, n), COIR_OK);
    CHECK_EQ(coir_spawn(&c, outlast, NULL), COIR_OK);
    CHECK_EQ(coir_spawn(NULL, release_later, &gate), COIR_OK);
    coir_yield();
    CHECK_EQ(coir_spawn_many(NULL, release_later, NULL, 0, 8), COIR_OK);
    coir_yield(); /* they park, as many as there are stacks for */
    coir_panic("while they hold the other stacks");
}

static void a_panic_without_a_stack_sees_what_is_due(void)
{
    for (size_t stacks = 1; stacks < 10; stacks++) {
        int n = 0;

        run_with_stacks(stacks, raise_owed_by_a_sleeper, &n, COIR_PANICKED);
    }
}

static void yield_then_count(void *n)
{
    coir_yield();
    run_count(n);
}

/* A job that cannot start for want of a stack is no reason not to let fibers go first. */
static void yield_beside_unstarted(void *arg)
{
    coir_counter c = COIR_COUNTER_INIT;
    int *n = arg;

    CHECK_EQ(coir_spawn_many(&c, yield_then_count, n, 0, 10), COIR_OK);
    coir_yield();
    CHECK_EQ(coir_spawn(&c, count, n), COIR_OK);
    for (int i = 0; i < 1000 && *n < 11; i++)
        coir_yield();
    CHECK_EQ(*n, 11);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void a_yield_without_a_stack_goes_on_with_a_fiber_that_is_ready(void)
{
    for (size_t stacks = 1; stacks < 20; stacks++) {
        int n = 0;

        run_with_stacks(stacks, yield_beside_unstarted, &n, COIR_DONE);
    }
}

static void wait_for(void *gate)
{
    CHECK_EQ(coir_wait(gate), COIR_DONE);
}

/* The workers' own stacks are not counted: stacks_max is what may be parked. */
static void as_many_fibers_park_as_stacks_max_says(void)
{
    coir_options o = run_options(4);
    coir_counter gate = COIR_COUNTER_INIT, all = COIR_COUNTER_INIT;
    coir_runtime *rt;
    coir_stats s;

    o.stacks_max = 8;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    coir_counter_add(&gate, 1);
    for (int i = 0; i < 8; i++)
        CHECK_EQ(coir_submit(rt, &all, wait_for, &gate), COIR_OK);
    do
        CHECK_EQ(coir_stats_read(rt, &s), COIR_OK);
    while (s.parked < 8);
    coir_counter_done(&gate, COIR_DONE);
    CHECK_EQ(coir_wait(&all), COIR_DONE);
    CHECK_EQ(coir_close(rt, -1, NULL), COIR_OK);
}

CHECK_MAIN(CASE(stacks_come_from_the_hook), CASE(open_undoes_itself_when_a_thread_cannot_start),
           CASE(a_call_that_no_thread_can_be_started_for_says_so),
           CASE(a_wait_without_a_stack_says_so_and_all_work_ends),
           CASE(no_ready_fiber_is_lost_with_the_last_stack),
           CASE(a_panic_without_a_stack_settles_its_children),
           CASE(a_panic_without_a_stack_goes_on_with_a_fiber_that_is_ready),
           CASE(a_panic_without_a_stack_sees_what_is_due),
           CASE(a_yield_without_a_stack_goes_on_with_a_fiber_that_is_ready),
           CASE(as_many_fibers_park_as_stacks_max_says))
