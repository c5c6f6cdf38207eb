/* SPDX-License-Identifier: MIT */
/*
 * spawn_perf.c - claims, per job that could block but does not: spawn + run + join of empty jobs in
 * batches of 1000 costs at most 7 ns on one worker and 25 ns on two; fib(32) by spawn + wait, no
 * cut-off, at most 10 and 5.2 ns per call of fib, by coir_fork2 at most 8 and 4.2; two foreign threads submit
 * at least 8 million jobs a second to two workers (125 ns). Counters are local where one job waits for its own.
 * Rulers: none; the packaged peers' figures are goals. The rows named bare are floors: bare.c.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "bare.h"
#include "kit.h"

#define BATCH 1000
#define FIB BARE_FIB
#define FIB_CALLS BARE_FIB_CALLS

struct shape {
    unsigned workers;
    bool many;     /* coir_spawn_many instead of coir_spawn */
    uint64_t jobs; /* of a counter; 0: BATCH */
    long (*fib)(long n);
};

struct spawning {
    struct bench *b;
    bool many;
    uint64_t jobs;
};

static void empty(void *arg)
{
    (void)arg;
}

/* ------------------------------------------------------------------------------------- batches */

static bool spawn_batch(coir_counter *counter, bool many, uint64_t jobs)
{
    if (many)
        return coir_spawn_many(counter, empty, NULL, 0, jobs) == COIR_OK;
    for (uint64_t i = 0; i < jobs; i++)
        if (coir_spawn(counter, empty, NULL) != COIR_OK)
            return false;
    return true;
}

static void batches(void *arg)
{
    struct spawning *s = arg;
    uint64_t count = (s->b->n + s->jobs - 1) / s->jobs;
    int64_t start = coir_now();

    for (uint64_t i = 0; i < count; i++) {
        coir_counter counter = COIR_COUNTER_LOCAL;

        if (!spawn_batch(&counter, s->many, s->jobs))
            s->b->error = "a spawn was refused";
        if (coir_wait(&counter) != COIR_DONE)
            s->b->error = "a job failed";
    }
    s->b->ns = coir_now() - start;
    s->b->done = count * s->jobs;
}

static void spawn_join(struct bench *b, const void *arg)
{
    const struct shape *shape = arg;
    struct spawning s = {b, shape->many, shape->jobs ? shape->jobs : BATCH};
    coir_options options = kit_options(shape->workers);

    kit_run(b, &options, batches, &s);
}

/* ----------------------------------------------------------------------------------- fork-join */

static long fib(long n);

static void fib_job(void *arg)
{
    long *n = arg;

    *n = fib(*n);
}

/* One spawn and one wait for two calls. A spawn that was refused would show in the sum. */
static long fib(long n)
{
    coir_counter counter;
    long left = n - 1, right;

    if (n < 2)
        return n;
    coir_counter_init_local(&counter);
    coir_spawn(&counter, fib_job, &left);
    right = fib(n - 2);
    return coir_wait(&counter) == COIR_DONE ? left + right : -1;
}

/* The same by coir_fork2, and each call is a task. */
struct task {
    long n, fib;
};

static void fib_task(void *arg)
{
    struct task *task = arg;

    if (task->n < 2) {
        task->fib = task->n;
    } else {
        struct task left = {.n = task->n - 1}, right = {.n = task->n - 2};
        int outcome = coir_fork2(fib_task, &left, fib_task, &right);

        task->fib = outcome == COIR_DONE ? left.fib + right.fib : -1;
    }
}

static long fib_by_fork(long n)
{
    struct task task = {.n = n};

    fib_task(&task);
    return task.fib;
}

struct forking {
    struct bench *b;
    long (*fib)(long n);
};

static void fork_join(void *arg)
{
    struct forking *f = arg;
    uint64_t count = (f->b->n + FIB_CALLS - 1) / FIB_CALLS;
    int64_t start = coir_now();

    for (uint64_t i = 0; i < count; i++)
        if (f->fib(FIB) != 2178309)
            f->b->error = "fib(32) came out wrong";
    f->b->ns = coir_now() - start;
    f->b->done = count * FIB_CALLS;
}

static void fibs(struct bench *b, const void *arg)
{
    const struct shape *shape = arg;
    struct forking f = {b, shape->fib};
    coir_options options = kit_options(shape->workers);

    kit_run(b, &options, fork_join, &f);
}

/* -------------------------------------------------------------------------------- from outside */

struct submitting {
    coir_runtime *runtime;
    coir_counter *counter;
    uint64_t jobs;
    _Atomic int *refused; /* a status other than COIR_EAGAIN */
};

static void *submitter(void *arg)
{
    struct submitting *s = arg;

    for (uint64_t i = 0; i < s->jobs; i++) {
        int status;

        while ((status = coir_submit(s->runtime, s->counter, empty, NULL)) == COIR_EAGAIN)
            sched_yield();
        if (status != COIR_OK)
            atomic_store(s->refused, status);
    }
    return NULL;
}

/* The counter is held meanwhile: foreign threads add to it. */
static void submit_from_two(struct bench *b, coir_runtime *runtime)
{
    coir_counter counter = COIR_COUNTER_INIT;
    _Atomic int refused = COIR_OK;
    struct submitting s = {runtime, &counter, b->n / 2 + 1, &refused};
    pthread_t thread[2];
    int64_t start = coir_now();
    int started = 0;

    while (started < 2 && pthread_create(&thread[started], NULL, submitter, &s) == 0)
        started++;
    for (int i = 0; i < started; i++)
        pthread_join(thread[i], NULL);
    if (coir_wait(&counter) != COIR_DONE || refused != COIR_OK || started < 2)
        b->error = "not all jobs could be submitted";
    b->ns = coir_now() - start;
    b->done = s.jobs * 2;
}

static void submits(struct bench *b, const void *arg)
{
    coir_options options = kit_options(((const struct shape *)arg)->workers);
    coir_runtime *runtime;
    int status = coir_open(&options, &runtime);

    if (status == COIR_OK) {
        submit_from_two(b, runtime);
        status = coir_close(runtime, -1, NULL);
    }
    if (status != COIR_OK)
        b->error = coir_status_name(status);
}

#define SHAPE(...) &(const struct shape){__VA_ARGS__}
#define ONE SHAPE(.workers = 1)
#define TWO SHAPE(.workers = 2)
#define ONE_MANY SHAPE(.workers = 1, .many = true)
#define TWO_MANY SHAPE(.workers = 2, .many = true)

#define BARE(fn, n, ...) fn, &(const struct bare_shape){__VA_ARGS__}, n, BENCH_NS, NULL, BENCH_NO_GOAL, 0
#define BARE_FIBS(by, n) BARE(bare_fibs, FIB_CALLS, .workers = n, .fib = by)

static const struct bench_row rows[] = {
    {"spawn/1", "spawn + run + join, 1 worker", spawn_join, ONE, 0, BENCH_NS, NULL,
     BENCH_AT_MOST, 7},
    {"spawn/2", "spawn + run + join, 2 workers", spawn_join, TWO, 0, BENCH_NS, NULL,
     BENCH_AT_MOST, 25},
    {"spawn/many/1", "spawn_many + run + join, 1 worker", spawn_join, ONE_MANY, 0, BENCH_NS, NULL,
     BENCH_AT_MOST, 7},
    {"spawn/many/2", "spawn_many + run + join, 2 workers", spawn_join, TWO_MANY, 0, BENCH_NS, NULL,
     BENCH_AT_MOST, 25},
    {"spawn/fib/1", "fib(32), per call, 1 worker", fibs, SHAPE(.workers = 1, .fib = fib), FIB_CALLS, BENCH_NS,
     NULL, BENCH_AT_MOST, 10},
    {"spawn/fib/2", "fib(32), per call, 2 workers", fibs, SHAPE(.workers = 2, .fib = fib), FIB_CALLS, BENCH_NS,
     NULL, BENCH_AT_MOST, 5.2},
    {"spawn/fork/1", "fib(32) by fork2, per call, 1 worker", fibs, SHAPE(.workers = 1, .fib = fib_by_fork),
     FIB_CALLS, BENCH_NS, NULL, BENCH_AT_MOST, 8},
    {"spawn/fork/2", "fib(32) by fork2, per call, 2 workers", fibs, SHAPE(.workers = 2, .fib = fib_by_fork),
     FIB_CALLS, BENCH_NS, NULL, BENCH_AT_MOST, 4.2},
    {"spawn/bare/1", "floor: bare push, pop and call", BARE(bare_batches, 0, .workers = 1)},
    {"spawn/bare/2", "floor: half of it", BARE(bare_batches, 0, .workers = 2)},
    {"spawn/bare/fib/1", "floor: fib(32) by bare push, pop and call", BARE_FIBS(bare_fib, 1)},
    {"spawn/bare/fib/2", "floor: half of it", BARE_FIBS(bare_fib, 2)},
    {"spawn/bare/fork/1", "floor: the same without a counter", BARE_FIBS(bare_fib_by_fork, 1)},
    {"spawn/bare/fork/2", "floor: half of it", BARE_FIBS(bare_fib_by_fork, 2)},
    {"spawn/submit", "submit, 2 foreign threads, 2 workers", submits, TWO, 0, BENCH_NS, NULL,
     BENCH_AT_MOST, 125},
};

BENCH_SUITE(spawn, rows);

/* -------------------------------------------------------------------------------- how it grows */

#define WORKERS(n)                                                                              \
    {"workers/" #n, "spawn + run + join, " #n " workers", spawn_join, SHAPE(.workers = n), 0,    \
     BENCH_NS, NULL, BENCH_NO_GOAL, 0}
#define FANOUT(n)                                                                                \
    {"fanout/" #n, "spawn + run + join, " #n " jobs of a counter, 1 worker", spawn_join,         \
     SHAPE(.workers = 1, .jobs = n), 0, BENCH_NS, NULL, BENCH_NO_GOAL, 0}

/* 64 workers are to do at least half as many jobs a second as 2. */
static const struct bench_row by_workers[] = {
    WORKERS(1), WORKERS(2), WORKERS(4), WORKERS(8), WORKERS(16), WORKERS(32),
    {"workers/64", "spawn + run + join, 64 workers", spawn_join, SHAPE(.workers = 64), 0, BENCH_NS,
     "workers/2", BENCH_RATIO_AT_MOST, 2},
};

static const struct bench_row by_jobs[] = {FANOUT(10),    FANOUT(100),    FANOUT(1000),
                                           FANOUT(10000), FANOUT(100000), FANOUT(1000000)};

BENCH_SUITE(workers, by_workers);
BENCH_SUITE(fanout, by_jobs);
