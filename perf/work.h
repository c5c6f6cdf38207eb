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
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static inline int64_t work_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---------------------------------------------------------------------------------- open loop */

#define WORK_JOB_NS 1000           /* a job: so long, by the clock, from its start */
#define WORK_LONG_NS 1000000       /* one in a hundred of a mixed load */
#define WORK_LONG_EVERY 100
#define WORK_JOBS 60000            /* of a run */
#define WORK_MIXED_JOBS 15000
#define WORK_LEAD_NS 2000000       /* before the first is due */
#define WORK_HAND_IN_NS 50000      /* see work_job.handed */

/* A Poisson stream of jobs at `percent` of what so many servers could do that cost nothing. */
struct work_load {
    long percent;
    int servers; /* 1 or 2 */
    int mixed;   /* jobs of 1 us, one in a hundred of 1 ms */
};

/* Times in ns of work_now(). */
struct work_job {
    int64_t due;     /* when it should start */
    int64_t handed;  /* when it is handed in: with two servers there is no processor left on which
                        somebody could spin, so a thread that sleeps wakes every 50 us and hands in what
                        has become due; else: due */
    int64_t ns;      /* what it takes */
    int64_t sojourn; /* from due to its end, ns */
};

struct work_stream {
    struct work_job *job; /* the caller frees it; NULL: no memory */
    int jobs, warm;       /* the first `warm` are not counted */
    int servers;
};

static inline uint64_t work_random(uint64_t *x) /* xorshift64 */
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    return *x ^= *x << 17;
}

/* The same jobs at the same distances for all. */
static inline struct work_stream work_open(struct work_load load)
{
    struct work_stream s = {NULL, load.mixed ? WORK_MIXED_JOBS : WORK_JOBS, 0, load.servers};
    double mean = load.mixed ? WORK_JOB_NS + (WORK_LONG_NS - WORK_JOB_NS) / WORK_LONG_EVERY : WORK_JOB_NS;
    double gap = mean * 100 / (double)(load.percent * load.servers);
    double at = (double)(work_now() + WORK_LEAD_NS);
    uint64_t x = 88172645463325252u;

    s.warm = s.jobs / 10;
    s.job = (struct work_job *)calloc((size_t)s.jobs, sizeof *s.job);
    for (int i = 0; s.job && i < s.jobs; i++) {
        struct work_job *job = &s.job[i];

        at -= gap * log(((double)(work_random(&x) >> 11) + 0.5) * 0x1p-53);
        job->due = job->handed = (int64_t)at;
        job->ns = load.mixed && work_random(&x) % WORK_LONG_EVERY == 0 ? WORK_LONG_NS : WORK_JOB_NS;
        if (load.servers > 1)
            job->handed += WORK_HAND_IN_NS - job->due % WORK_HAND_IN_NS;
    }
    return s;
}

/*
 * Called by who hands in, after the servers were started, since threads inherit it. With two servers the
 * caller sleeps beside threads that never do, and is to run as soon as it wakes: its sleep ends in time,
 * and a short slice lets it go ahead of who runs (Linux 6.12; else it may come 3 ms late).
 */
static inline void work_begin(const struct work_stream *s)
{
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t slice, deadline, period;
    } a = {sizeof a, 0, 0, getpriority(PRIO_PROCESS, 0), 0, 100000, 0, 0};

    if (s->servers == 1)
        return;
    prctl(PR_SET_TIMERSLACK, 1UL);
    syscall(SYS_sched_setattr, 0, &a, 0); /* where it is refused, all are late alike */
}

/* Until the job is handed in. */
static inline void work_await(const struct work_stream *s, const struct work_job *job)
{
    struct timespec t = {job->handed / 1000000000, job->handed % 1000000000};

    while (work_now() < job->handed)
        if (s->servers > 1)
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static inline void work_do(struct work_job *job)
{
    int64_t end = work_now() + job->ns, now;

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

/* Of the jobs that count. Frees them. */
static inline struct work_tail work_close(struct work_stream *s)
{
    struct work_job *counted = s->job + s->warm;
    size_t n = (size_t)(s->jobs - s->warm);
    struct work_tail t;

    qsort(counted, n, sizeof *counted, work_by_sojourn);
    t.p50 = (double)counted[n / 2].sojourn;
    t.p99 = (double)counted[n * 99 / 100].sojourn;
    t.p999 = (double)counted[n * 999 / 1000].sojourn;
    free(s->job);
    return t;
}

/* --------------------------------------------------------------------------------- many items */

#define WORK_ITEMS 10000000
#define WORK_PASSES 6 /* over them: the median is what a run has found */

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
