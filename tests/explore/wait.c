/* SPDX-License-Identifier: MIT */
/*
 * wait.c - explores how a fiber suspends and is resumed: core/worker.c, find.c, fiber.c, wait.c, thread.c and
 * all below them, with workers that sleep, steal and go home.
 */
#include "wait.h"

#include <string.h>

#include "batch.h"
#include "explore.h"
#include "idle.h"
#include "thread.h"
#include "world.h"

static coir_counter public[2];
static struct counter canceled; /* of the job that waits */
static int written[2];          /* before its counter is settled */
static int outcome;             /* of the wait that may end early */
static _Atomic bool told;       /* there is an outcome */
static int shifts;              /* of jobs that yield to each other */

static struct counter *counter(int i)
{
    return counter_of(&public[i]);
}

static void setup(unsigned workers)
{
    memset(public, 0, sizeof public);
    memset(&canceled, 0, sizeof canceled);
    memset(written, 0, sizeof written);
    outcome = shifts = 0;
    if (workers)
        world_reset(workers);
}

/* ------------------------------------------------------------------------------------------ jobs */

static void write_0(void *arg)
{
    (void)arg;
    written[0] = 1;
}

static void wait_and_read(void *arg)
{
    (void)arg;
    MUST(coir_wait(&public[0]) == COIR_DONE);
    MUST(written[0] == 1);
}

/* Its worker has a spare, as after its first park: without one no fiber stays. */
static void prepare_to_stay(void)
{
    MUST(worker_prepare(worker_of(fiber_self())));
}

/* After it no finisher is to come. Another waiter on its way out may hold LOCK once more. */
static void stay_and_look(void *arg)
{
    prepare_to_stay();
    wait_and_read(arg);
    MUST((atomic_load_explicit(&counter(0)->state, memory_order_acquire) & ~COUNTER_LOCK) == 0);
}

/* The counter goes with the wait, though something else hangs on it (C6). */
static void stay_and_free(void *arg)
{
    prepare_to_stay();
    wait_and_read(arg);
    explore_free(&public[0], sizeof public[0]);
}

/* With a deadline, and then without: what is owed is waited for. */
static void wait_for_a_while(void *arg)
{
    (void)arg;
    outcome = coir_wait_until(&public[0], coir_now() + 1);
    MUST(outcome == COIR_DONE || outcome == COIR_ETIMEDOUT);
    wait_and_read(NULL);
}

static void wait_until_canceled(void *arg)
{
    (void)arg;
    outcome = coir_wait(&public[0]);
    MUST(outcome == COIR_DONE || outcome == COIR_ECANCELED);
    atomic_store_explicit(&told, true, memory_order_relaxed);
    wait_and_read(NULL);
}

static void stay_until_canceled(void *arg)
{
    prepare_to_stay();
    wait_until_canceled(arg);
}

/* There may be no stack to go on with. */
static void wait_if_possible(void *arg)
{
    int status = coir_wait(&public[0]);

    (void)arg;
    MUST(status == COIR_ENOMEM || status == COIR_DONE);
}

static void wait_for_either(void *arg)
{
    coir_counter *both[] = {&public[0], &public[1]};
    size_t which;

    (void)arg;
    MUST(coir_wait_any(both, 2, COIR_NEVER, &which) == COIR_DONE);
    MUST(written[which] == 1);
}

/* Its own child, most likely in place. */
static void spawn_and_wait(void *arg)
{
    struct fiber *self = fiber_self();
    struct work child = {write_0, NULL, counter(0), NULL};

    (void)arg;
    counter_owe(counter(0), 1);
    MUST(worker_push(worker_of(self), &child, 0, 1) == COIR_OK);
    wait_and_read(NULL);
}

/* Runs until it is told to stop; what it looks at last is the word that tells. */
static void run_until_told(void *arg)
{
    struct worker *w = worker_of(fiber_self());
    unsigned turns = 0;

    (void)arg;
    if (atomic_load_explicit(&canceled.state, memory_order_relaxed) & COUNTER_CANCEL)
        return; /* as boundary.c looks before a job starts */
    while (coir_checkpoint() == COIR_OK)
        if (!atomic_load_explicit(&w->asked, memory_order_relaxed))
            spin_pause(&turns);
}

/* Not canceled: what it hears is not meant for it. */
static void ask_once(void *arg)
{
    (void)arg;
    MUST(coir_checkpoint() == COIR_OK);
}

static void yield_once(void *arg)
{
    (void)arg;
    shifts++;
    worker_yield(worker_self());
    shifts++;
}

/* From the second on it takes the short way, of a worker that has nothing but fibers that yield. */
static void yield_thrice(void *arg)
{
    (void)arg;
    for (int i = 0; i < 3; i++)
        worker_yield(worker_self());
}

/* ---------------------------------------------------------------------------------------- threads */

static void settle(int i)
{
    written[i] = 1;
    counter_settle(counter(i), 1);
}

static void settle_0(void)
{
    settle(0);
}

static void settle_1(void)
{
    settle(1);
}

/* The job that it wakes is followed by one from the injector: there is no deque's fence before it. */
static void settle_and_submit(void)
{
    struct work work = {run_until_told, NULL, &canceled, NULL};
    struct parker *sleeper;

    MUST(inject_submit(&world.inject, &work, 0, 1, &world.park, &sleeper) == COIR_OK);
    if (sleeper)
        park_hand(sleeper);
    settle(0);
}

static void cancel(void)
{
    wait_cancel(&canceled, COIR_CANCEL_ASKED);
}

/* Settles only when the cancel has been heard. */
static void cancel_and_settle(void)
{
    unsigned turns = 0;

    cancel();
    while (!atomic_load_explicit(&told, memory_order_relaxed))
        spin_pause(&turns);
    settle(0);
}

static void thread_waits(void)
{
    wait_and_read(NULL);
}

static bool is_counter_0(const struct counter *c, void *arg)
{
    (void)arg;
    return c == counter(0);
}

/* As a runtime that closes with jobs that run: the wait is ended, and then so is what it was for. */
static void end_wait_and_settle(void)
{
    unsigned turns = 0;

    if (thread_wake(is_counter_0, NULL))
        while (!atomic_load_explicit(&told, memory_order_relaxed))
            spin_pause(&turns);
    settle(0);
}

static void thread_waits_until_told(void)
{
    wait_until_canceled(NULL);
}

static void thread_waits_for_a_while(void)
{
    outcome = coir_wait_until(&public[0], coir_now() + 1);
    MUST(outcome == COIR_DONE || outcome == COIR_ETIMEDOUT);
    if (outcome == COIR_DONE)
        MUST(written[0] == 1);
}

static void thread_waits_for_any(void)
{
    wait_for_either(NULL);
}

/* ----------------------------------------------------------------------------------- set up and check */

/* One job, and a unit that is not a job's. */
static void setup_outside(coir_fn *fn)
{
    setup(1);
    counter_owe(counter(0), 1);
    world_add(1, fn, NULL, &canceled);
}

static void setup_wait(void)
{
    setup_outside(wait_and_read);
}

/* Its fiber looks twice where it is (stay.c), its worker once before it sleeps. */
static void setup_staying(coir_fn *fn)
{
    setup_outside(fn);
    world.spin_ns = -1;
}

static void setup_stay(void)
{
    setup_staying(stay_and_look);
}

/* As work that is to run after it, or a link. */
static void on_settled_pending(struct wait_node *node, int settled)
{
    if (settled == SETTLING)
        MUST(counter_look(counter(0)) < 0);
    else
        wait_node_release(node);
}

static void setup_stay_foretold(void)
{
    static struct wait_node pending;

    setup_staying(stay_and_free);
    pending = (struct wait_node){.settled = on_settled_pending, .foretold = true};
    MUST(counter_enlist(counter(0), &pending));
}

static void setup_stay_canceled(void)
{
    setup_staying(stay_until_canceled);
}

static void setup_deadline(void)
{
    setup_outside(wait_for_a_while);
}

static void setup_cancel(void)
{
    setup_outside(wait_until_canceled);
}

static void setup_any(void)
{
    setup_outside(wait_for_either);
    counter_owe(counter(1), 1);
}

static void setup_two(void)
{
    setup(2);
    world_add(2, write_0, NULL, counter(0));
    world_add(1, wait_and_read, NULL, NULL);
}

static void setup_spawn(void)
{
    setup(2);
    world_add(1, spawn_and_wait, NULL, NULL);
    world_expect(1);
}

static void setup_told(void)
{
    setup(1);
    world_add(1, run_until_told, NULL, &canceled);
    world_add(1, ask_once, NULL, NULL); /* the newest first */
}

/* Parked before it asks: after it was resumed there is no fence. */
static void wait_and_ask_once(void *arg)
{
    wait_and_read(arg);
    ask_once(arg);
}

static void setup_told_injected(void)
{
    setup(1);
    counter_owe(counter(0), 1);
    counter_owe(&canceled, 1);
    world_add(1, wait_and_ask_once, NULL, NULL);
    world_expect(1);
}

static void setup_told_early(void)
{
    setup(1);
    world_add(1, run_until_told, NULL, &canceled);
}

static void setup_yield(void)
{
    setup(1);
    world_add(1, yield_once, NULL, NULL);
    world_add(1, yield_once, NULL, NULL);
}

static void setup_yield_two(void)
{
    setup(2);
    world_add(1, write_0, NULL, NULL);
    world_add(1, yield_once, NULL, NULL); /* the newest first */
}

static void setup_yield_often(void)
{
    setup(2);
    world_add(1, yield_thrice, NULL, NULL);
    world_add(1, yield_thrice, NULL, NULL);
}

static void setup_scarce(void)
{
    setup(0);
    world_reset_scarce(1, 2);
    counter_owe(counter(0), 1);
    world_add(1, wait_if_possible, NULL, NULL);
    world_add(1, wait_if_possible, NULL, NULL);
}

static void setup_threads(void)
{
    world_reset(0);
    setup(0);
    counter_owe(counter(0), 1);
    counter_owe(counter(1), 1);
}

static void check_turns(void)
{
    world_check();
    MUST(shifts == 4);
}

static void check_canceled(void)
{
    world_check();
    MUST(outcome == COIR_ECANCELED);
}

/* ------------------------------------------------------------------ more workers than may be awake */

static _Atomic uint32_t passed_on; /* a job ran on the other worker */

static void pass_on(void *arg)
{
    (void)arg;
    atomic_store_explicit(&passed_on, 1, memory_order_relaxed);
}

/* The first job makes the other worker watch, and most often runs here. Only the other one can run the second. */
static void push_and_stay_stuck(void *arg)
{
    struct fiber *self = fiber_self();
    struct work first = {write_0, NULL, NULL, NULL}, second = {pass_on, NULL, NULL, NULL};
    unsigned turns = 0;

    (void)arg;
    MUST(worker_push(worker_of(self), &first, 0, 1) == COIR_OK);
    if (deque_pop(&worker_of(self)->deque, &first))
        MUST(job_run_in_place(self, &first));
    MUST(worker_push(worker_of(self), &second, 0, 1) == COIR_OK);
    while (!atomic_load_explicit(&passed_on, memory_order_relaxed))
        spin_pause(&turns);
}

static void setup_watch(void)
{
    setup(2);
    idle_open(&world, 1);
    atomic_store_explicit(&passed_on, 0, memory_order_relaxed);
    world_add(1, push_and_stay_stuck, NULL, NULL);
    world_expect(2);
}

EXPLORE_MAIN(
    {.name = "who_watches_finds_what_is_behind_a_long_job", setup_watch, {world_work_1, world_work_2}, world_check, .less = 1},
    {.name = "a_thread_wakes_a_fiber", setup_wait, {world_work_1, NULL, settle_0}, world_check},
    {.name = "a_fiber_stays", setup_stay, {world_work_1, NULL, settle_0}, world_check},
    {.name = "a_fiber_stays_while_a_thread_waits", setup_stay, {world_work_1, thread_waits, settle_0}, world_check,
     .less = 1},
    {.name = "a_counter_goes_with_who_stays", setup_stay_foretold, {world_work_1, NULL, settle_0}, world_check},
    {.name = "a_fiber_that_stays_is_canceled", setup_stay_canceled, {world_work_1, NULL, cancel_and_settle}, check_canceled,
     .less = 1},
    {.name = "a_job_wakes_a_fiber", setup_two, {world_work_1, world_work_2}, world_check, .less = 1},
    {.name = "a_deadline_races_the_end", setup_deadline, {world_work_1, NULL, settle_0}, world_check},
    {.name = "a_cancel_is_not_missed", setup_cancel, {world_work_1, NULL, cancel_and_settle},
     check_canceled, .less = 1},
    {.name = "a_cancel_races_the_end", setup_cancel, {world_work_1, cancel, settle_0}, world_check,
     .less = 1},
    {.name = "one_of_two", setup_any, {world_work_1, settle_0, settle_1}, world_check, .less = 1},
    {.name = "a_child_in_place_or_stolen", setup_spawn, {world_work_1, world_work_2}, world_check,
     .less = 1},
    {.name = "a_job_that_runs_is_told", setup_told, {world_work_1, NULL, cancel}, world_check},
    {.name = "a_job_from_the_injector_is_told", setup_told_injected, {world_work_1, settle_and_submit, cancel}, world_check,
     .less = 1},
    {.name = "a_job_that_starts_is_told", setup_told_early, {world_work_1, NULL, cancel}, world_check},
    {.name = "two_jobs_yield", setup_yield, {world_work_1}, check_turns},
    {.name = "a_job_that_yields_is_stolen", setup_yield_two, {world_work_1, world_work_2}, world_check,
     .less = 1},
    {.name = "jobs_that_yield_often_are_stolen", setup_yield_often, {world_work_1, world_work_2}, world_check,
     .less = 1},
    {.name = "a_ready_fiber_is_the_spare", setup_scarce, {world_work_1, NULL, settle_0}, world_check},
    {.name = "a_thread_waits", setup_threads, {settle_0, thread_waits, thread_waits}, NULL},
    {.name = "a_thread_is_told_to_give_up", setup_threads, {end_wait_and_settle, thread_waits_until_told}, NULL},
    {.name = "a_thread_gives_up", setup_threads, {settle_0, thread_waits_for_a_while}, NULL},
    {.name = "a_thread_waits_for_any", setup_threads, {thread_waits_for_any, settle_0, settle_1}, NULL})
