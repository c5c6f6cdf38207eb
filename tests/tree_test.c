/* SPDX-License-Identifier: MIT */
/*
 * tree_test.c - random programs of jobs end as foreseen (trees.h), on one worker and on several, told to metrics, with
 * faults among their ends, and in experiments, where a seed that fails does so always. SEED in the environment: that one.
 */
#include "containable.h"
#include "trees.h"

#include <inttypes.h>

#define DEPTH 5
#define SEEDS (MANY(2000) + 10)

static uint32_t first_seed(void)
{
    const char *text = getenv("SEED");

    return text ? (uint32_t)strtoul(text, NULL, 0) : 1;
}

static uint32_t seeds(uint32_t n)
{
    return getenv("SEED") ? 1 : n;
}

/* Whether all of it came to an end, and as foreseen. */
static void check_tree(uint32_t seed, int outcome)
{
    bool well = CHECK_EQ(outcome, trees_outcome(seed)) & CHECK_EQ(trees.unlike, 0) & CHECK_EQ(trees.inside, 0);

    if (!well)
        printf("SEED=%" PRIu32 "\n", seed);
    trees.unlike = trees.inside = 0;
}

static void grow_all(const coir_options *o)
{
    coir_runtime *rt = NULL;
    uint32_t first = first_seed(), end = first + seeds(SEEDS);
    coir_stats s;

    if (!CHECK_EQ(coir_open(o, &rt), COIR_OK))
        return;
    trees.begun = 0;
    for (uint32_t seed = first; check_round(seed - first, end - first); seed++) {
        coir_counter c = COIR_COUNTER_INIT;

        CHECK_EQ(coir_submit(rt, &c, trees_grow, trees_of(seed, DEPTH)), COIR_OK);
        check_tree(seed, coir_wait(&c));
    }
    CHECK_EQ(coir_stats_read(rt, &s), COIR_OK);
    CHECK(s.spawned && trees.begun);
    run_close(rt);
}

/* ---------------------------------------------------------------------------------------- cases */

static void trees_end_as_foreseen_on_one_worker(void)
{
    coir_options o = run_options(1);

    grow_all(&o);
}

static void trees_end_as_foreseen_on_several(void)
{
    coir_options two = run_options(2), four = run_options(4);

    grow_all(&two);
    grow_all(&four);
}

static CONTAINABLE void touch_nothing(void *unused)
{
    (void)unused;
    *(volatile int *)(uintptr_t)4096 = 1;
}

static void faults_end_jobs_as_panics_do(void)
{
    coir_options o = containing(2);
    o.faults_also = COIR_FAULT_SEGV;

    register_containable();
    trees.fault = touch_nothing;
    grow_all(&o);
    trees.fault = overflow;
    grow_all(&o);
    trees.fault = NULL;
}

/* -------------------------------------------------------------------------------------- metrics */

static struct told {
    uint64_t spawned, completed, panicked;
} told;

static void on_spawned(void *unused, size_t jobs)
{
    (void)unused;
    __atomic_add_fetch(&told.spawned, jobs, __ATOMIC_RELAXED);
}

static void on_completed(void *unused, int outcome, int64_t ns)
{
    (void)unused;
    (void)outcome;
    (void)ns;
    __atomic_add_fetch(&told.completed, 1, __ATOMIC_RELAXED);
}

static void on_panicked(void *unused, const coir_failure *failure)
{
    (void)unused;
    CHECK(failure->id);
    __atomic_add_fetch(&told.panicked, 1, __ATOMIC_RELAXED);
}

static void metrics_hear_of_each_job(void)
{
    static const coir_metrics m = {
        .size = sizeof m, .spawned = on_spawned, .completed = on_completed, .panicked = on_panicked};
    coir_options o = run_options(2);

    o.metrics = &m;
    told = (struct told){0};
    grow_all(&o);
    CHECK(told.spawned && told.panicked);
    CHECK_EQ(told.completed, told.spawned);
}

/* ---------------------------------------------------------------------------------- experiments */

static void experiments_end_as_foreseen(void)
{
    coir_options o = run_options(1);
    uint32_t first = first_seed(), end = first + seeds(MANY(400) + 10);

    for (uint32_t seed = first; check_round(seed - first, end - first); seed++) {
        coir_lab lab = {.size = sizeof lab, .seed = seed, .delay_ppm = 100000};
        coir_lab_report once, again;

        check_tree(seed, coir_lab_run(&lab, &o, trees_grow, trees_of(seed, DEPTH), &once));
        check_tree(seed, coir_lab_run(&lab, &o, trees_grow, trees_of(seed, DEPTH), &again));
        CHECK_EQ(once.digest, again.digest);
    }
}

/* What ends is not foreseen then, but that it does. */
static void mishaps_leave_nothing_behind(void)
{
    coir_options o = run_options(1);
    uint32_t first = first_seed(), end = first + seeds(MANY(400) + 10);

    for (uint32_t seed = first; check_round(seed - first, end - first); seed++) {
        coir_lab lab = {
            .size = sizeof lab, .seed = seed, .panic_ppm = 50000, .nomem_ppm = 50000, .delay_ppm = 50000};
        coir_lab_report once, again;
        int outcome = coir_lab_run(&lab, &o, trees_grow, trees_of(seed, DEPTH), &once);

        if (!CHECK_EQ(trees.inside, 0))
            printf("SEED=%" PRIu32 "\n", seed);
        CHECK_EQ(coir_lab_run(&lab, &o, trees_grow, trees_of(seed, DEPTH), &again), outcome);
        CHECK_EQ(once.digest, again.digest);
        trees.unlike = trees.inside = 0;
    }
}

CHECK_MAIN(CASE(trees_end_as_foreseen_on_one_worker), CASE(trees_end_as_foreseen_on_several),
           CASE(faults_end_jobs_as_panics_do), CASE(metrics_hear_of_each_job), CASE(experiments_end_as_foreseen),
           CASE(mishaps_leave_nothing_behind))
