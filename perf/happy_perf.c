/* SPDX-License-Identifier: MIT */
/*
 * happy_perf.c - claims: a boundary costs who does not panic no more than C++ asks for a try (a call),
 * and a job costs the same whether its panic would unwind or abort. Rulers: that try, the abort policy,
 * and an empty call through a pointer.
 *
 * Contained or not, a job is the same instructions at the same addresses (tests/boundary_cost_test.py), so what the row
 * shows is how well this machine repeats itself. Both policies are measured in turn, each time in a runtime of its own,
 * for two runs of a process apart differ by a third: where memory lies, how fast the processor is just then.
 *
 * What coir_try does beside the call, it does on its way in: it links its record, so that locks, handlers
 * and failures inside it are its own.
 */
#include "kit.h"

#define BATCH 1000
#define SLICE 10 /* batches */

static void nothing(void *arg)
{
    __asm__ volatile("" : : "r"(arg));
}

/* A pointer that the compiler cannot look through: every way to call it is the same call. */
static coir_fn *volatile called = nothing;

/* ------------------------------------------------------------------------------ one after another */

static void tries(void *arg)
{
    struct bench *b = arg;
    int64_t start = coir_now();

    for (uint64_t i = 0; i < b->n; i++)
        if (coir_try(called, NULL, NULL) != COIR_DONE)
            b->error = "an empty function panicked";
    b->ns = coir_now() - start;
}

static void cxx_tries(void *arg)
{
    struct bench *b = arg;
    int64_t start = coir_now();

    for (uint64_t i = 0; i < b->n; i++)
        bench_catch(called, NULL);
    b->ns = coir_now() - start;
}

static void calls(void *arg)
{
    struct bench *b = arg;
    int64_t start = coir_now();

    for (uint64_t i = 0; i < b->n; i++)
        called(NULL);
    b->ns = coir_now() - start;
}

struct calm {
    coir_fn *run;
    enum coir_panic_policy panic;
};

static void stay_calm(struct bench *b, const void *arg)
{
    const struct calm *calm = arg;
    coir_options options = kit_options(1);

    options.panic = calm->panic;
    kit_run(b, &options, calm->run, b);
}

/* ----------------------------------------------------------------------------------------- in turn */

/* A batch warms up what is new, SLICE are measured. */
static void jobs(void *arg)
{
    struct bench *b = arg;
    int64_t start = 0;

    for (unsigned i = 0; i <= SLICE; i++) {
        coir_counter all = COIR_COUNTER_INIT;

        if (i == 1)
            start = coir_now();
        for (unsigned j = 0; j < BATCH; j++)
            if (coir_spawn(&all, nothing, NULL) != COIR_OK)
                b->error = "a spawn was refused";
        if (coir_wait(&all) != COIR_DONE)
            b->error = "a job failed";
    }
    b->ns = coir_now() - start;
}

static double slice(struct bench *b, enum coir_panic_policy panic)
{
    struct bench some = {0};

    stay_calm(&some, &(const struct calm){jobs, panic});
    if (some.error)
        b->error = some.error;
    b->ns += some.ns;
    b->done += SLICE * BATCH;
    return (double)some.ns / (SLICE * BATCH);
}

static double contained(struct bench *b, const void *arg)
{
    (void)arg;
    return slice(b, COIR_PANIC_UNWIND);
}

static double aborting(struct bench *b, const void *arg)
{
    (void)arg;
    return slice(b, COIR_PANIC_ABORT);
}

static void both_policies(struct bench *b, const void *arg)
{
    kit_in_turn(b, contained, aborting, arg);
}

#define CALM(...) stay_calm, &(const struct calm){__VA_ARGS__}, 0, BENCH_NS

static const struct bench_row rows[] = {
    {"happy/try", "coir_try of an empty function", CALM(tries, COIR_PANIC_UNWIND), "happy/cxx",
     BENCH_RATIO_AT_MOST, 1},
    {"happy/cxx", "ruler: C++ try of it", CALM(cxx_tries, COIR_PANIC_UNWIND), NULL, BENCH_NO_GOAL, 0},
    {"happy/call", "ruler: a call of it", CALM(calls, COIR_PANIC_UNWIND), NULL, BENCH_NO_GOAL, 0},
    {"happy/job", "spawn + run + join, contained or not", both_policies, NULL, 0, BENCH_NS_P50,
     BENCH_IN_TURN, BENCH_RATIO_AT_MOST, 1.02},
};

BENCH_SUITE(happy, rows);
