/* SPDX-License-Identifier: MIT */
/*
 * work.h - work that coir and its peers are given alike: the jobs of the tail rows with the times at
 * which they are due, and the items of parallel_for. Nothing of coir in it; usable from C++.
 */
#ifndef COIR_PERF_WORK_H
#define COIR_PERF_WORK_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

static inline int64_t work_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---------------------------------------------------------------------------------- open loop */

#define WORK_JOB_NS 1000  /* a job: so long, by the clock, from its start */
#define WORK_JOBS 60000   /* of a run */
#define WORK_WARM 6000    /* the first of them are not counted */
#define WORK_LEAD_NS 2000000 /* before the first is due */

struct work_job {
    int64_t due;     /* when it should start, ns of work_now */
    int64_t sojourn; /* from then to its end, ns */
};

/* A Poisson stream at `percent` of what one server could do that costs nothing; the same for all.
 * The caller frees it. NULL: no memory. */
static inline struct work_job *work_schedule(long percent)
{
    struct work_job *job = (struct work_job *)calloc(WORK_JOBS, sizeof *job);
    double at = (double)(work_now() + WORK_LEAD_NS), gap = WORK_JOB_NS * 100.0 / (double)percent;
    uint64_t x = 88172645463325252u; /* xorshift64 */

    for (int i = 0; job && i < WORK_JOBS; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        at -= gap * log(((double)(x >> 11) + 0.5) * 0x1p-53);
        job[i].due = (int64_t)at;
    }
    return job;
}

static inline void work_until_due(const struct work_job *job)
{
    while (work_now() < job->due)
        ;
}

static inline void work_do(struct work_job *job)
{
    int64_t end = work_now() + WORK_JOB_NS, now;

    while ((now = work_now()) < end)
        ;
    job->sojourn = now - job->due;
}

struct work_tail {
    double p50, p99, p999;
};

static inline int work_by_sojourn(const void *a, const void *b)
{
    int64_t x = ((const struct work_job *)a)->sojourn, y = ((const struct work_job *)b)->sojourn;

    return (x > y) - (x < y);
}

static inline struct work_tail work_measure(struct work_job *job)
{
    struct work_job *counted = job + WORK_WARM;
    size_t n = WORK_JOBS - WORK_WARM;
    struct work_tail t;

    qsort(counted, n, sizeof *counted, work_by_sojourn);
    t.p50 = (double)counted[n / 2].sojourn;
    t.p99 = (double)counted[n * 99 / 100].sojourn;
    t.p999 = (double)counted[n * 999 / 1000].sojourn;
    return t;
}

/* --------------------------------------------------------------------------------- many items */

#define WORK_ITEMS 10000000

/* Items [from, to): each some arithmetic and one word written. */
static __attribute__((noinline, unused)) void work_items(uint32_t *out, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        uint32_t x = (uint32_t)i;

        x = (x ^ x >> 16) * 0x7feb352du;
        x = (x ^ x >> 15) * 0x846ca68bu;
        out[i] = x ^ x >> 16;
    }
}

#endif
