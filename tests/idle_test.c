/* SPDX-License-Identifier: MIT */
/*
 * idle_test.c - core/idle.c: of more workers than processors so many are awake as the processors have work for (WATCH).
 */
#include "run.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/resource.h>

#define WORKERS 64
#define SHORTS 20      /* jobs beside long ones */
#define BLOCKED_MS 20
#define REST_MS 10
#define BRIEF_US 100
#define BRIEF_JOBS (WORKERS * 50)

#ifdef CHECK_STRESS
#define TORMENTED 1 /* signals keep workers awake */
#else
#define TORMENTED 0
#endif

static int processors(void)
{
    cpu_set_t set;

    return CHECK_EQ(sched_getaffinity(0, sizeof set, &set), 0) ? CPU_COUNT(&set) : 1;
}

static int64_t used(void)
{
    struct rusage u;

    CHECK_EQ(getrusage(RUSAGE_SELF, &u), 0);
    return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * COIR_SEC + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * COIR_US;
}

/* So long, or as much longer as the machine is slower or more crowded. */
static int64_t crowded(int64_t ns)
{
    return ns * check_crowd() * (SLOW ? 10 : 1);
}

/* ----------------------------------------------------------------------------- behind long jobs */

static _Atomic int started, over;
static _Atomic int64_t began; /* the short job */

static void stay_long(void *unused)
{
    (void)unused;
    atomic_fetch_add(&started, 1);
    while (!atomic_load(&over))
        ;
}

static void note(void *unused)
{
    (void)unused;
    atomic_store(&began, coir_now());
}

static void fill(coir_runtime *rt, coir_counter *c, coir_fn *fn, int jobs)
{
    atomic_store(&started, 0);
    atomic_store(&over, 0);
    for (int i = 0; i < jobs; i++)
        CHECK_EQ(coir_submit(rt, c, fn, NULL), COIR_OK);
    while (atomic_load(&started) < jobs)
        sched_yield();
}

static void a_short_job_starts_while_all_processors_are_in_long_ones(void)
{
    coir_runtime *rt = run_open(WORKERS);
    coir_counter c = COIR_COUNTER_INIT;
    int64_t least = COIR_NEVER;

    fill(rt, &c, stay_long, processors());
    for (int i = 0; i < SHORTS; i++) {
        coir_counter s = COIR_COUNTER_INIT;
        int64_t then = coir_now(), took;

        CHECK_EQ(coir_submit(rt, &s, note, NULL), COIR_OK);
        CHECK_EQ(coir_wait(&s), COIR_DONE);
        took = atomic_load(&began) - then;
        least = took < least ? took : least;
        CHECK(took < crowded(500 * COIR_MS));
    }
    CHECK(least < crowded(5 * COIR_MS));
    atomic_store(&over, 1);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    run_close(rt);
}

/* Nobody else would ever take it. */
static void wait_in_vain(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    for (int i = 0; i < SHORTS; i++) {
        atomic_store(&began, 0);
        CHECK_EQ(coir_spawn(&c, note, NULL), COIR_OK);
        while (!atomic_load(&began))
            ;
    }
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    atomic_store(&over, 1);
}

static void a_job_runs_elsewhere_if_its_worker_is_stuck(void)
{
    coir_runtime *rt = run_open(WORKERS);
    coir_counter c = COIR_COUNTER_INIT;

    fill(rt, &c, stay_long, processors() - 1);
    CHECK_EQ(coir_submit(rt, &c, wait_in_vain, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    run_close(rt);
}

static void yield_long(void *unused)
{
    (void)unused;
    atomic_fetch_add(&started, 1);
    while (!atomic_load(&over))
        coir_yield();
}

static void block(int64_t ns)
{
    int64_t end = coir_now() + ns;
    struct timespec t = {end / COIR_SEC, end % COIR_SEC};
    int status;

    do
        status = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
    while (status == EINTR);
    CHECK_EQ(status, 0);
}

/* Those that move keep the processors busy, and never come to what waits elsewhere. */
static void wait_beside(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    int64_t then, worst = 0;

    (void)unused;
    for (int i = 0; i < SHORTS; i++) {
        block(REST_MS * COIR_MS); /* those who sleep do so for long */
        atomic_store(&began, 0);
        then = coir_now();
        CHECK_EQ(coir_spawn(&c, note, NULL), COIR_OK);
        while (!atomic_load(&began))
            block(BRIEF_US * COIR_US);
        worst = atomic_load(&began) - then > worst ? atomic_load(&began) - then : worst;
    }
    CHECK(worst < crowded(50 * COIR_MS));
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    atomic_store(&over, 1);
}

/* On one processor, which one job keeps busy. */
static void a_job_behind_one_that_blocks_runs_though_another_keeps_the_processor_busy(void)
{
    cpu_set_t before, one;

    CHECK_EQ(sched_getaffinity(0, sizeof before, &before), 0);
    CPU_ZERO(&one);
    CPU_SET((unsigned)sched_getcpu(), &one);
    CHECK_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    for (int i = 0; i < 3; i++) {
        coir_runtime *rt = run_open(WORKERS);
        coir_counter c = COIR_COUNTER_INIT;

        block(2 * REST_MS * COIR_MS);
        fill(rt, &c, yield_long, 1);
        CHECK_EQ(coir_submit(rt, &c, wait_beside, NULL), COIR_OK);
        CHECK_EQ(coir_wait(&c), COIR_DONE);
        run_close(rt);
    }
    CHECK_EQ(sched_setaffinity(0, sizeof before, &before), 0);
}

/* ------------------------------------------------------------------------------ jobs that block */

static void block_long(void *unused)
{
    (void)unused;
    block(BLOCKED_MS * COIR_MS);
}

static void block_briefly(void *unused)
{
    (void)unused;
    block(BRIEF_US * COIR_US);
}

static int64_t time_jobs(coir_runtime *rt, coir_fn *fn, int jobs)
{
    coir_counter c = COIR_COUNTER_INIT;
    int64_t then = coir_now();

    for (int i = 0; i < jobs; i++)
        CHECK_EQ(coir_submit(rt, &c, fn, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    return coir_now() - then;
}

static void jobs_that_block_do_so_side_by_side(void)
{
    coir_runtime *rt = run_open(WORKERS);

    CHECK(time_jobs(rt, block_long, WORKERS) < crowded(4 * BLOCKED_MS * COIR_MS));
    CHECK(time_jobs(rt, block_briefly, BRIEF_JOBS) < crowded(BRIEF_JOBS * BRIEF_US / 8 * COIR_US));
    run_close(rt);
}

/* ------------------------------------------------------------------------------------- at rest */

static void nothing(void *unused)
{
    (void)unused;
}

static void workers_without_work_use_no_processor(void)
{
    coir_runtime *rt = run_open(WORKERS);
    int64_t then;

    time_jobs(rt, block_briefly, BRIEF_JOBS);
    time_jobs(rt, nothing, 10000);
    block(100 * COIR_MS);
    then = used();
    block(200 * COIR_MS);
    CHECK(TORMENTED || used() - then < crowded(10 * COIR_MS));
    run_close(rt);
}

CHECK_MAIN(CASE(a_short_job_starts_while_all_processors_are_in_long_ones),
           CASE(a_job_runs_elsewhere_if_its_worker_is_stuck),
           CASE(a_job_behind_one_that_blocks_runs_though_another_keeps_the_processor_busy),
           CASE(jobs_that_block_do_so_side_by_side),
           CASE(workers_without_work_use_no_processor))
