/* SPDX-License-Identifier: MIT */
/*
 * tail_perf.c - claims: jobs of 1 us that arrive from one foreign thread, at random and at 50 % of
 * what one server could do, are done by one worker within 1.3 us of their time, 99 of 100 within 6;
 * at 80 %, within 3.5 and 18. Rulers: the ideal server, simulated on the same arrivals (M/D/1); and
 * this machine's own, one thread that waits for each job's time and does it.
 *
 * Open loop: a job is due at its time whatever the worker does, and its sojourn counts from then.
 * The bare thread has no queue and no hand-over: what its tail has, the hypervisor has put there.
 */
#include <sched.h>
#include <stdlib.h>

#include "kit.h"
#include "work.h"

static void do_one(void *arg)
{
    work_do(arg);
}

static void report(struct bench *b, struct work_job *job)
{
    struct work_tail t = work_measure(job);

    b->figure = t.p50;
    b->p99 = t.p99;
    b->p999 = t.p999;
    free(job);
}

static void feed(struct bench *b, coir_runtime *runtime, struct work_job *job)
{
    coir_counter all = COIR_COUNTER_INIT;
    int64_t start = coir_now();

    for (int i = 0; i < WORK_JOBS; i++) {
        work_until_due(&job[i]);
        while (coir_submit(runtime, &all, do_one, &job[i]) == COIR_EAGAIN)
            sched_yield();
    }
    if (coir_wait(&all) != COIR_DONE)
        b->error = "a job failed";
    b->ns = coir_now() - start;
}

static void open_loop(struct bench *b, const void *arg)
{
    coir_options options = kit_options(1);
    coir_runtime *runtime;
    struct work_job *job;
    int status = coir_open(&options, &runtime);

    if (status != COIR_OK) {
        b->error = coir_status_name(status);
        return;
    }
    job = work_schedule(*(const long *)arg);
    if (job)
        feed(b, runtime, job);
    status = coir_close(runtime, -1, NULL);
    if (!job || status != COIR_OK)
        b->error = job ? coir_status_name(status) : "no memory";
    else
        report(b, job);
}

/* -------------------------------------------------------------------------------------- rulers */

static void bare(struct bench *b, const void *arg)
{
    struct work_job *job = work_schedule(*(const long *)arg);
    int64_t start = coir_now();

    if (!job) {
        b->error = "no memory";
        return;
    }
    for (int i = 0; i < WORK_JOBS; i++) {
        work_until_due(&job[i]);
        work_do(&job[i]);
    }
    b->ns = coir_now() - start;
    report(b, job);
}

static void ideal(struct bench *b, const void *arg)
{
    struct work_job *job = work_schedule(*(const long *)arg);
    int64_t start = coir_now(), free_at = 0;

    if (!job) {
        b->error = "no memory";
        return;
    }
    for (int i = 0; i < WORK_JOBS; i++) {
        free_at = (free_at > job[i].due ? free_at : job[i].due) + WORK_JOB_NS;
        job[i].sojourn = free_at - job[i].due;
    }
    b->ns = coir_now() - start;
    report(b, job);
}

#define LOAD(percent) &(const long){percent}, WORK_JOBS, BENCH_NS_P50

static const struct bench_row rows[] = {
    {"tail/50", "1 us jobs at 50 %, sojourn p50", open_loop, LOAD(50), "tail/50/ideal",
     BENCH_AT_MOST, 1300},
    {"tail/50/ideal", "ruler: ideal server, simulated", ideal, LOAD(50), NULL, BENCH_NO_GOAL, 0},
    {"tail/50/bare", "ruler: one bare thread", bare, LOAD(50), NULL, BENCH_NO_GOAL, 0},
    {"tail/80", "1 us jobs at 80 %, sojourn p50", open_loop, LOAD(80), "tail/80/ideal",
     BENCH_AT_MOST, 3500},
    {"tail/80/ideal", "ruler: ideal server, simulated", ideal, LOAD(80), NULL, BENCH_NO_GOAL, 0},
    {"tail/80/bare", "ruler: one bare thread", bare, LOAD(80), NULL, BENCH_NO_GOAL, 0},
};

BENCH_SUITE(tail, rows);
