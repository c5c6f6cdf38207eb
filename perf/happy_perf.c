/* SPDX-License-Identifier: MIT */
/*
 * happy_perf.c - claims: a boundary costs who does not panic no more than C++ asks for a try (a call),
 * and a job costs the same whether its panic would unwind or abort. Rulers: that try, the abort policy,
 * and an empty call through a pointer.
 *
 * Contained or not a job is the same 113 instructions (callgrind): where they differ it is the machine that does.
 *
 * What coir_try does beside the call, it does on its way in: it links its record, so that locks, handlers
 * and failures inside it are its own.
 */
#include "kit.h"

#define BATCH 1000

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

static void jobs(void *arg)
{
    struct bench *b = arg;
    uint64_t batches = b->n / BATCH + 1;
    int64_t start = coir_now();

    for (uint64_t i = 0; i < batches; i++) {
        coir_counter all = COIR_COUNTER_INIT;

        for (unsigned j = 0; j < BATCH; j++)
            if (coir_spawn(&all, nothing, NULL) != COIR_OK)
                b->error = "a spawn was refused";
        if (coir_wait(&all) != COIR_DONE)
            b->error = "a job failed";
    }
    b->ns = coir_now() - start;
    b->done = batches * BATCH;
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

#define CALM(...) stay_calm, &(const struct calm){__VA_ARGS__}, 0, BENCH_NS

static const struct bench_row rows[] = {
    {"happy/try", "coir_try of an empty function", CALM(tries, COIR_PANIC_UNWIND), "happy/cxx",
     BENCH_RATIO_AT_MOST, 1},
    {"happy/cxx", "ruler: C++ try of it", CALM(cxx_tries, COIR_PANIC_UNWIND), NULL, BENCH_NO_GOAL, 0},
    {"happy/call", "ruler: a call of it", CALM(calls, COIR_PANIC_UNWIND), NULL, BENCH_NO_GOAL, 0},
    {"happy/job", "spawn + run + join, contained", CALM(jobs, COIR_PANIC_UNWIND), "happy/abort",
     BENCH_RATIO_AT_MOST, 1.02},
    {"happy/abort", "ruler: under COIR_PANIC_ABORT", CALM(jobs, COIR_PANIC_ABORT), NULL,
     BENCH_NO_GOAL, 0},
};

BENCH_SUITE(happy, rows);
