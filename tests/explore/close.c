/* SPDX-License-Identifier: MIT */
/*
 * close.c - explores how core/runtime.c closes: the books balance only when all jobs have ended (BOOKS),
 * whoever has woken one is gone from the runtime before its memory is (VISIT), and the closer does not wait
 * for ever. In some scenarios the figures of books.c are steps like any other.
 */
#include "wait.h"

#include <string.h>

#include "books.h"
#include "explore.h"
#include "find.h"
#include "world.h"

static coir_counter public;
static int closed;             /* by the closer, who is the last */
static int finished;           /* by the job that waits */
static _Atomic bool ran;       /* a job that was submitted */
static _Atomic unsigned gone;  /* workers that have ended */

/* ------------------------------------------------------------- rows that close has nothing to do with */

bool drain_domains(struct coir_runtime *rt, int64_t deadline, coir_receipt *receipt)
{
    (void)rt;
    (void)deadline;
    (void)receipt;
    return true;
}

#define NOTHING(name)                        \
    void name(struct coir_runtime *rt);      \
    void name(struct coir_runtime *rt)       \
    {                                        \
        (void)rt;                            \
    }

NOTHING(stall_stop)
NOTHING(stall_close)
NOTHING(signals_close)
NOTHING(offload_close)
NOTHING(io_close)
NOTHING(fault_close)

void stacks_fini(struct stacks *s)
{
    (void)s;
}

void records_fini(struct records *s)
{
    (void)s;
}

void hostcall_drained(struct coir_runtime *rt, int64_t ns, int status)
{
    (void)rt;
    (void)ns;
    (void)status;
}

/* All workers are joined by their count: one is as good as the other. */
int pthread_join(pthread_t thread, void **result)
{
    unsigned turns = 0;

    (void)thread;
    (void)result;
    while (atomic_load_explicit(&gone, memory_order_acquire) < world.worker_count)
        spin_pause(&turns);
    return 0;
}

static void stop_nobody(struct coir_runtime *rt, struct coir_domain *d)
{
    (void)rt;
    (void)d;
}

/* As runtime.c's, which is its own. */
static void wake_closer(struct coir_runtime *rt)
{
    atomic_fetch_add_explicit(&rt->books, 1, memory_order_release);
    futex_wake(&rt->books, 1);
}

/* ------------------------------------------------------------------------------------ jobs, threads */

static void run(void *arg)
{
    (void)arg;
    MUST(!closed);
}

/* The last job. */
static void wait(void *arg)
{
    MUST(coir_wait(&public) == COIR_DONE);
    run(arg);
    finished = 1;
}

static void run_and_tell(void *arg)
{
    run(arg);
    atomic_store_explicit(&ran, true, memory_order_relaxed);
}

/* Its child may be stolen, and end while it waits. */
static void spawn_and_wait(void *arg)
{
    struct work child = {run, NULL, &public, NULL};

    counter_owe(counter_of(&public), 1);
    MUST(worker_push(worker_of(fiber_self()), &child, 0, 1) == COIR_OK);
    wait(arg);
}

static void work_1(void)
{
    world_work_1();
    atomic_fetch_add_explicit(&gone, 1, memory_order_release);
}

static void work_2(void)
{
    world_work_2();
    atomic_fetch_add_explicit(&gone, 1, memory_order_release);
}

static void close_it(void)
{
    MUST(coir_close(&world, -1, NULL) == COIR_OK);
    closed = 1;
    explore_free(&world, sizeof world); /* the rest of it */
}

/* As spawn.c does it: the job may have run, and the runtime be closing, before this is over. */
static void submit(void)
{
    struct work work = {run_and_tell, NULL, NULL, NULL};
    struct parker *sleeper;

    MUST(inject_submit(&world.inject, &work, 0, 1, &world.park, &sleeper) == COIR_OK);
    if (sleeper)
        park_hand(sleeper);
}

static void close_when_it_ran(void)
{
    unsigned turns = 0;

    while (!atomic_load_explicit(&ran, memory_order_relaxed))
        spin_pause(&turns);
    close_it();
}

static void settle(void)
{
    counter_settle(counter_of(&public), 1);
}

/* The steps of a job that spawns and runs on, of a thief, and of a closer's look, alone. */
static void spawn_and_run_on(void)
{
    struct work child = {run, NULL, NULL, NULL};

    MUST(worker_push(world.worker[0], &child, 0, 1) == COIR_OK);
}

static void steal_and_end(void)
{
    struct work child;

    if (find_take_from(&world, &world.worker[0]->deque, &child))
        tally_release(&world.worker[1]->ended[COIR_DONE], 1);
}

static void look_at_books(void)
{
    uint64_t ended[COIR_PANICKED + 1];

    fence_full();
    MUST(books_unfinished(&world, ended) > 0);
}

static void setup_books(void)
{
    world_reset(2);
    tally(&world.worker[0]->spawned, 1); /* the job that spawns */
}

static void setup_closer(unsigned workers)
{
    world_reset(workers);
    world.stop_supervisors = stop_nobody;
    world.idle = wake_closer;
    for (unsigned i = 0; i < workers; i++)
        world.worker[i]->has_thread = true;
    memset(&public, 0, sizeof public);
    closed = finished = 0;
    atomic_store_explicit(&ran, false, memory_order_relaxed);
    world_keep_open();
}

static void setup(unsigned workers, coir_fn *fn)
{
    setup_closer(workers);
    world_add(1, fn, NULL, NULL);
    world_keep_open();
}

static void setup_one(void)
{
    setup(1, run);
}

static void setup_spawn(void)
{
    setup(2, spawn_and_wait);
}

static void setup_visit(void)
{
    setup(1, wait);
    counter_owe(counter_of(&public), 1);
}

static void setup_submit(void)
{
    setup_closer(1);
}

static void check_finished(void)
{
    MUST(finished);
}

EXPLORE_MAIN(
    {.name = "the_last_job_wakes_the_closer", setup_one, {work_1, NULL, close_it}, NULL, .figures = true},
    {.name = "whoever_runs_is_in_the_books", setup_books, {spawn_and_run_on, steal_and_end, look_at_books}, NULL,
     .figures = true},
    {.name = "a_close_waits_for_a_stolen_child", setup_spawn, {work_1, work_2, close_it}, check_finished,
     .figures = true, .less = 2},
    {.name = "who_wakes_the_last_job_leaves_in_time", setup_visit, {work_1, settle, close_it}, check_finished,
     .figures = true, .less = 1},
    {.name = "who_submits_the_last_job_leaves_in_time", setup_submit, {work_1, submit, close_when_it_ran}, NULL,
     .less = 1})
