/* SPDX-License-Identifier: MIT */
/*
 * order_test.c - in which order work runs, and that no queue starves another. The bounds count
 * turns, not time: they are far above what the scheduler promises itself and far below for ever.
 */
#include "run.h"

#define TURNS 1000 /* more than any queue has to wait */

static int stop;      /* ends whatever runs for ever */
static int turns, late; /* of what runs for ever; those it had before the other was served */
static int64_t began, served; /* when it began, and when that was */

static void serve(void *unused)
{
    (void)unused;
    served = coir_now();
    late = __atomic_load_n(&turns, __ATOMIC_RELAXED) - late;
    run_set(&stop);
}

static void start_race(void)
{
    stop = turns = late = 0;
    began = coir_now();
}

static void check_race(void)
{
    CHECK(stop);
    CHECK(late < TURNS);
}

static void check_race_of_oldest(void)
{
    CHECK(stop);
    CHECK(late < 500 * TURNS);
    CHECK(served - began >= COIR_MS / 2);
}

/* Takes turns until stopped, or far too many. */
static int again(void)
{
    return !__atomic_load_n(&stop, __ATOMIC_ACQUIRE) && run_count(&turns) < 1000 * TURNS;
}

static void yield_for_ever(void *unused)
{
    (void)unused;
    while (again())
        coir_yield();
}

static void respawn_for_ever(void *unused)
{
    (void)unused;
    if (again())
        CHECK_EQ(coir_spawn(NULL, respawn_for_ever, NULL), COIR_OK);
}

/* ----------------------------------------------------------------------------- plain order */

static int order[8], ordered;

static void note(void *id)
{
    order[ordered++] = *(int *)id;
}

static int number[] = {0, 1, 2, 3, 4};

static void spawn_three(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    CHECK_EQ(coir_spawn_many(&c, note, &number[1], sizeof number[0], 3), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

#define OVERFULL 5000 /* more than a worker's deque holds */

static int first; /* to run; -1: none yet */

static void note_the_first(void *id)
{
    if (first < 0)
        first = (int)(intptr_t)id;
}

static void spawn_many_one_by_one(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    first = -1;
    for (intptr_t i = 0; i < OVERFULL; i++)
        CHECK_EQ(coir_spawn(&c, note_the_first, (void *)i), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(first, OVERFULL - 1);
}

static void the_oldest_leave_a_full_deque(void)
{
    run_on(1, spawn_many_one_by_one, NULL);
}

static void spawned_jobs_run_newest_first(void)
{
    ordered = 0;
    run_on(1, spawn_three, NULL);
    CHECK(ordered == 3 && order[0] == 3 && order[1] == 2 && order[2] == 1);
}

static void submit_three(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    for (int i = 1; i <= 3; i++)
        CHECK_EQ(coir_submit(coir_current(), &c, note, &number[i]), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void submitted_jobs_run_oldest_first(void)
{
    ordered = 0;
    run_on(1, submit_three, NULL);
    CHECK(ordered == 3 && order[0] == 1 && order[1] == 2 && order[2] == 3);
}

static coir_counter gate;

static void pass_gate(void *id)
{
    CHECK_EQ(coir_wait(&gate), COIR_DONE);
    note(id);
}

static void open_gate(void *unused)
{
    (void)unused;
    coir_counter_init(&gate);
    coir_counter_add(&gate, 1);
    for (int i = 1; i <= 3; i++) {
        CHECK_EQ(coir_spawn(NULL, pass_gate, &number[i]), COIR_OK);
        coir_yield(); /* it waits before the next starts */
    }
    coir_counter_done(&gate, COIR_DONE);
    coir_yield();
    CHECK_EQ(ordered, 3);
}

static void waiters_all_run_before_one_who_yields(void)
{
    ordered = 0;
    run_on(1, open_gate, NULL);
    CHECK_EQ(ordered, 3);
}

static void yield_behind_jobs(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_spawn_many(NULL, note, &number[1], sizeof number[0], 3), COIR_OK);
    coir_yield();
    CHECK_EQ(ordered, 3);
}

static void new_jobs_all_run_before_one_who_yields(void)
{
    ordered = 0;
    run_on(1, yield_behind_jobs, NULL);
    CHECK_EQ(ordered, 3);
}

static void note_and_yield(void *id)
{
    for (int i = 0; i < 2; i++) {
        note(id);
        coir_yield();
    }
}

static void yield_in_turns(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_spawn_many(NULL, note_and_yield, &number[1], sizeof number[0], 3), COIR_OK);
}

static void fibers_that_yield_take_turns(void)
{
    ordered = 0;
    run_on(1, yield_in_turns, NULL);
    CHECK_EQ(ordered, 6);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(order[i], order[i + 3]);
}

/* --------------------------------------------------------------------------------- fairness */

static void spawn_beside(coir_fn *for_ever, int n)
{
    for (int i = 0; i < n; i++)
        CHECK_EQ(coir_spawn(NULL, for_ever, NULL), COIR_OK);
    coir_yield(); /* they run */
    late = turns;
}

static void job_beside_yielders(void *unused)
{
    (void)unused;
    spawn_beside(yield_for_ever, 2);
    CHECK_EQ(coir_spawn(NULL, serve, NULL), COIR_OK);
}

static void yielding_for_ever_stops_no_new_job(void)
{
    start_race();
    run_on(1, job_beside_yielders, NULL);
    check_race();
}

static void serve_after_gate(void *unused)
{
    CHECK_EQ(coir_wait(&gate), COIR_DONE);
    serve(unused);
}

static void fiber_beside_spawners(void *unused)
{
    (void)unused;
    coir_counter_init(&gate);
    coir_counter_add(&gate, 1);
    CHECK_EQ(coir_spawn(NULL, serve_after_gate, NULL), COIR_OK);
    coir_yield();
    spawn_beside(respawn_for_ever, 2);
    coir_counter_done(&gate, COIR_DONE);
}

static void spawning_for_ever_stops_no_ready_fiber(void)
{
    start_race();
    run_on(1, fiber_beside_spawners, NULL);
    check_race();
}

static void tick(void *unused)
{
    (void)unused;
    run_count(&turns);
}

/* Children in place of a wait are turns as well. */
static void wait_beside_fiber(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    coir_counter_init(&gate);
    coir_counter_add(&gate, 1);
    CHECK_EQ(coir_spawn(NULL, serve_after_gate, NULL), COIR_OK);
    coir_yield();
    CHECK_EQ(coir_spawn_many(&c, tick, NULL, 0, 100 * TURNS), COIR_OK);
    coir_counter_done(&gate, COIR_DONE);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void waiting_for_many_children_stops_no_ready_fiber(void)
{
    start_race();
    run_on(1, wait_beside_fiber, NULL);
    check_race();
    CHECK_EQ(turns, 100 * TURNS);
}

/* Submits from this thread while the worker is busy with both kinds of work. */
static void submit_beside(coir_fn *one, coir_fn *other)
{
    coir_runtime *rt = run_open(1);
    coir_counter c = COIR_COUNTER_INIT;
    int submitted;

    start_race();
    CHECK_EQ(coir_submit(rt, &c, one, NULL), COIR_OK);
    CHECK_EQ(coir_submit(rt, &c, other, NULL), COIR_OK);
    while (__atomic_load_n(&turns, __ATOMIC_RELAXED) < TURNS)
        sched_yield();
    CHECK_EQ(coir_submit(rt, &c, serve, NULL), COIR_OK);
    submitted = __atomic_load_n(&turns, __ATOMIC_RELAXED); /* if this thread lost its processor: later */
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    run_close(rt);
    CHECK(stop && turns - submitted < 100 * TURNS);
}

static void nothing_stops_an_injected_job(void)
{
    submit_beside(yield_for_ever, yield_for_ever);
    submit_beside(respawn_for_ever, respawn_for_ever);
    submit_beside(yield_for_ever, respawn_for_ever);
}

/* The same from inside, where the turns can be counted exactly. */
static void inject_beside_both(void *unused)
{
    (void)unused;
    spawn_beside(yield_for_ever, 2);
    spawn_beside(respawn_for_ever, 2);
    CHECK_EQ(coir_submit(coir_current(), NULL, serve, NULL), COIR_OK);
}

static void an_injected_job_waits_a_few_turns_at_most(void)
{
    start_race();
    run_on(1, inject_beside_both, NULL);
    check_race();
}

static void spawn_oldest(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_spawn(NULL, serve, NULL), COIR_OK);
    CHECK_EQ(coir_spawn(NULL, respawn_for_ever, NULL), COIR_OK);
}

static void respawning_for_ever_stops_no_older_job(void)
{
    start_race();
    run_on(1, spawn_oldest, NULL);
    check_race_of_oldest();
}

static void respawn_owed(void *counter)
{
    if (again())
        CHECK_EQ(coir_spawn(counter, respawn_owed, counter), COIR_OK);
}

static void wait_above_oldest(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    CHECK_EQ(coir_spawn(NULL, serve, NULL), COIR_OK);
    CHECK_EQ(coir_spawn(&c, respawn_owed, &c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void children_in_place_for_ever_stop_no_older_job(void)
{
    start_race();
    run_on(1, wait_above_oldest, NULL);
    check_race_of_oldest();
}

static void sleep_then_serve(void *unused)
{
    CHECK_EQ(coir_sleep_until(coir_now() + COIR_MS), COIR_OK);
    serve(unused);
}

static void sleep_beside_both(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_spawn(NULL, sleep_then_serve, NULL), COIR_OK);
    coir_yield();
    spawn_beside(yield_for_ever, 2);
    spawn_beside(respawn_for_ever, 2);
}

static void a_timer_fires_beside_busy_work(void)
{
    start_race();
    run_on(1, sleep_beside_both, NULL);
    CHECK(stop);
    CHECK(turns < 1000 * TURNS);
}

/* ------------------------------------------------------------------- ready behind a long job */

#define BEHIND 40 /* more than a worker claims of its ready fibers at once */

static coir_counter way;
static int arrived, passed, other_busy, one_runs;

/* The first to pass does not let its worker go before all the others have passed. */
static void pass_and_stay(void *unused)
{
    (void)unused;
    run_count(&arrived);
    CHECK_EQ(coir_wait(&way), COIR_DONE);
    if (run_count(&passed) > 1)
        return;
    run_set(&one_runs);
    while (__atomic_load_n(&passed, __ATOMIC_ACQUIRE) < BEHIND)
        sched_yield();
}

static void hold_worker(void *unused)
{
    (void)unused;
    run_set(&other_busy);
    while (!__atomic_load_n(&one_runs, __ATOMIC_ACQUIRE))
        sched_yield();
}

/* All become ready on this worker while the other is held; it claims some of them, then is stuck. */
static void open_beside(void *all)
{
    while (__atomic_load_n(&arrived, __ATOMIC_ACQUIRE) < BEHIND)
        coir_yield();
    CHECK_EQ(coir_spawn(all, hold_worker, NULL), COIR_OK);
    while (!__atomic_load_n(&other_busy, __ATOMIC_ACQUIRE))
        sched_yield();
    coir_counter_done(&way, COIR_DONE);
}

static void ready_fibers_behind_a_long_job_run_elsewhere(void)
{
    const int64_t spins[] = {0, -1}; /* options.spin_ns: as it is, and not at all */

    for (size_t i = 0; i < sizeof spins / sizeof spins[0]; i++) {
        coir_options o = run_options(2);
        coir_counter all = COIR_COUNTER_INIT;
        coir_runtime *rt;

        o.spin_ns = spins[i];
        arrived = passed = other_busy = one_runs = 0;
        coir_counter_init(&way);
        coir_counter_add(&way, 1);
        CHECK_EQ(coir_open(&o, &rt), COIR_OK);
        for (int n = 0; n < BEHIND; n++)
            CHECK_EQ(coir_submit(rt, &all, pass_and_stay, NULL), COIR_OK);
        CHECK_EQ(coir_submit(rt, &all, open_beside, &all), COIR_OK);
        CHECK_EQ(coir_wait(&all), COIR_DONE);
        run_close(rt);
    }
}

/* An idle worker leaves rings that move fast alone, but not for ever. */
static coir_semaphore ping, pong;

static void answer_fast(void *unused)
{
    (void)unused;
    for (int i = 0; i < MANY(100000); i++) {
        CHECK_EQ(coir_semaphore_acquire(&ping), COIR_OK);
        CHECK_EQ(coir_semaphore_release(&pong, 1), COIR_OK);
    }
}

static void ask_fast_and_stay(void *unused)
{
    (void)unused;
    for (int i = 0; i < MANY(100000); i++) {
        CHECK_EQ(coir_semaphore_release(&ping, 1), COIR_OK);
        CHECK_EQ(coir_semaphore_acquire(&pong), COIR_OK);
    }
    coir_counter_done(&way, COIR_DONE);
    while (!__atomic_load_n(&passed, __ATOMIC_ACQUIRE))
        sched_yield();
}

static void pass(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_wait(&way), COIR_DONE);
    run_count(&passed);
}

static void one_behind_a_long_job_runs_elsewhere_after_fast_turns(void)
{
    const int64_t spins[] = {0, -1, COIR_NEVER}; /* options.spin_ns */

    for (size_t i = 0; i < sizeof spins / sizeof spins[0]; i++) {
        coir_options o = run_options(2);
        coir_counter all = COIR_COUNTER_INIT;
        coir_runtime *rt;

        o.spin_ns = spins[i];
        passed = 0;
        coir_counter_init(&way);
        coir_counter_add(&way, 1);
        CHECK_EQ(coir_open(&o, &rt), COIR_OK);
        CHECK_EQ(coir_submit(rt, &all, pass, NULL), COIR_OK);
        CHECK_EQ(coir_submit(rt, &all, answer_fast, NULL), COIR_OK);
        CHECK_EQ(coir_submit(rt, &all, ask_fast_and_stay, NULL), COIR_OK);
        CHECK_EQ(coir_wait(&all), COIR_DONE);
        run_close(rt);
    }
}

CHECK_MAIN(CASE(spawned_jobs_run_newest_first), CASE(the_oldest_leave_a_full_deque),
           CASE(submitted_jobs_run_oldest_first), CASE(waiters_all_run_before_one_who_yields),
           CASE(new_jobs_all_run_before_one_who_yields), CASE(fibers_that_yield_take_turns),
           CASE(yielding_for_ever_stops_no_new_job), CASE(spawning_for_ever_stops_no_ready_fiber),
           CASE(waiting_for_many_children_stops_no_ready_fiber), CASE(nothing_stops_an_injected_job),
           CASE(an_injected_job_waits_a_few_turns_at_most), CASE(respawning_for_ever_stops_no_older_job),
           CASE(children_in_place_for_ever_stop_no_older_job), CASE(a_timer_fires_beside_busy_work),
           CASE(ready_fibers_behind_a_long_job_run_elsewhere),
           CASE(one_behind_a_long_job_runs_elsewhere_after_fast_turns))
