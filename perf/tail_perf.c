/* SPDX-License-Identifier: MIT */
/*
 * tail_perf.c - claims: jobs of 1 us that arrive from one foreign thread, at random and at 50 % of
 * what one server could do, are done by one worker within 1.3 us of their time, 99 of 100 within 6;
 * at 80 %, within 3.5 and 18. The same with one job of 1 ms in a hundred, and with two workers, for
 * which the peers' figures are the goals. Rulers: the ideal servers, simulated on the same arrivals
 * (M/D/1; M/G/1 where jobs differ; first come, first served); and this machine's own, bare threads: one
 * hands in by counting up one word, the others do what it has counted.
 *
 * Open loop: a job is due at its time whatever the worker does, and its sojourn counts from then.
 * Workers poll, as those of Boost.Fiber do here; one worker is bound to the second processor.
 * Bare threads have no queue, and nobody to wake: what their tail has, the machine has put there.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "kit.h"
#include "work.h"

static void do_one(void *arg)
{
    work_do(arg);
}

static void report(struct bench *b, struct work_stream *s)
{
    struct work_tail t = work_close(s);

    b->figure = t.p50;
    b->p99 = t.p99;
    b->p999 = t.p999;
}

struct feeding {
    struct bench *b;
    const struct work_stream *stream;
    coir_runtime *runtime;
};

/* One worker has the second processor, who hands in the first. */
static void *feed(void *arg)
{
    const struct feeding *f = arg;
    const struct work_stream *s = f->stream;
    coir_counter all = COIR_COUNTER_INIT;

    if (s->servers == 1)
        kit_pin(0);
    work_begin(s);
    for (struct work_job *job = s->job; job < s->job + s->jobs; job++) {
        work_await(s, job);
        while (coir_submit(f->runtime, &all, do_one, job) == COIR_EAGAIN)
            sched_yield();
    }
    if (coir_wait(&all) != COIR_DONE)
        f->b->error = "a job failed";
    return NULL;
}

static void open_loop(struct bench *b, struct work_stream *s)
{
    coir_options options = kit_options((unsigned)s->servers);
    struct feeding f = {b, s, NULL};
    pthread_t feeder;
    int status;

    options.spin_ns = COIR_NEVER;
    if (s->servers == 1) {
        options.worker_start = kit_pin_worker;
        options.worker_start_arg = (void *)1;
    }
    status = coir_open(&options, &f.runtime);
    if (status == COIR_OK) {
        if (pthread_create(&feeder, NULL, feed, &f) == 0)
            pthread_join(feeder, NULL);
        else
            b->error = "needs a thread";
        status = coir_close(f.runtime, -1, NULL);
    }
    if (status != COIR_OK)
        b->error = coir_status_name(status);
}

/* -------------------------------------------------------------------------------------- rulers */

struct bare {
    const struct work_stream *stream;
    _Atomic int handed; /* jobs handed in so far */
    _Atomic int next;   /* index of the next job that nobody has */
};

static void *serve_bare(void *arg)
{
    struct bare *bare = arg;
    const struct work_stream *s = bare->stream;
    int i;

    if (s->servers == 1)
        kit_pin(1);
    while ((i = atomic_fetch_add(&bare->next, 1)) < s->jobs) {
        while (atomic_load_explicit(&bare->handed, memory_order_acquire) <= i)
            ;
        work_do(&s->job[i]);
    }
    return NULL;
}

static void *feed_bare(void *arg)
{
    struct bare *bare = arg;
    const struct work_stream *s = bare->stream;

    if (s->servers == 1)
        kit_pin(0);
    work_begin(s);
    for (int i = 0; i < s->jobs; i++) {
        work_await(s, &s->job[i]);
        atomic_store_explicit(&bare->handed, i + 1, memory_order_release);
    }
    return NULL;
}

static void bare(struct bench *b, struct work_stream *s)
{
    struct bare bare = {s, 0, 0};
    pthread_t thread[3];
    int started = 0, wanted = s->servers + 1;

    kit_cpus(); /* before any thread is bound */
    while (started < wanted &&
           pthread_create(&thread[started], NULL, started < s->servers ? serve_bare : feed_bare,
                          &bare) == 0)
        started++;
    if (started < wanted) {
        b->error = "needs three threads";
        atomic_store(&bare.next, s->jobs);
        atomic_store(&bare.handed, s->jobs);
    }
    while (started)
        pthread_join(thread[--started], NULL);
}

/* Each job goes to the server that is free first. */
static void ideal(struct bench *b, struct work_stream *s)
{
    int64_t free_at[2] = {0, s->servers > 1 ? 0 : INT64_MAX};

    (void)b;
    for (struct work_job *job = s->job; job < s->job + s->jobs; job++) {
        int64_t *server = &free_at[free_at[1] < free_at[0]];

        *server = (*server > job->handed ? *server : job->handed) + job->ns;
        job->sojourn = *server - job->due;
    }
}

/* ---------------------------------------------------------------------------------------- rows */

struct trial {
    struct work_load load;
    void (*serve)(struct bench *b, struct work_stream *s);
};

static void try_out(struct bench *b, const void *arg)
{
    const struct trial *trial = arg;
    struct work_stream s = work_open(trial->load);
    int64_t start = coir_now();

    if (!s.job) {
        b->error = "no memory";
        return;
    }
    trial->serve(b, &s);
    b->ns = coir_now() - start + 1; /* the ideal's may be 0 */
    report(b, &s);
}

#define TRIAL(serve, jobs, ...) try_out, &(const struct trial){{__VA_ARGS__}, serve}, jobs, BENCH_NS_P50
#define LOAD(name, label, kind, goal, jobs, ...)                                                 \
    {name, label ", sojourn p50", TRIAL(open_loop, jobs, __VA_ARGS__), name "/ideal", kind, goal}, \
    {name "/ideal", "ruler: ideal, simulated", TRIAL(ideal, jobs, __VA_ARGS__), NULL,              \
     BENCH_NO_GOAL, 0},                                                                            \
    {name "/bare", "ruler: bare threads", TRIAL(bare, jobs, __VA_ARGS__), NULL, BENCH_NO_GOAL, 0}

static const struct bench_row rows[] = {
    LOAD("tail/50", "1 us jobs at 50 %", BENCH_AT_MOST, 1300, WORK_JOBS, 50, 1, 0),
    LOAD("tail/80", "1 us jobs at 80 %", BENCH_AT_MOST, 3500, WORK_JOBS, 80, 1, 0),
    LOAD("tail/2/50", "1 us, 2 workers at 50 %", BENCH_NO_GOAL, 0, WORK_JOBS, 50, 2, 0),
    LOAD("tail/2/80", "1 us, 2 workers at 80 %", BENCH_NO_GOAL, 0, WORK_JOBS, 80, 2, 0),
    LOAD("tail/mixed/50", "mixed jobs at 50 %", BENCH_NO_GOAL, 0, WORK_MIXED_JOBS, 50, 1, 1),
    LOAD("tail/mixed/80", "mixed jobs at 80 %", BENCH_NO_GOAL, 0, WORK_MIXED_JOBS, 80, 1, 1),
    LOAD("tail/mixed/2/50", "mixed, 2 workers at 50 %", BENCH_NO_GOAL, 0, WORK_MIXED_JOBS, 50, 2, 1),
    LOAD("tail/mixed/2/80", "mixed, 2 workers at 80 %", BENCH_NO_GOAL, 0, WORK_MIXED_JOBS, 80, 2, 1),
};

BENCH_SUITE(tail, rows);
