/* SPDX-License-Identifier: MIT */
/*
 * bench.h - how a benchmark in C is written: a row says what is measured and against what, its
 * function does the work and takes the time itself. Usable from C++, for bench.cc.
 *
 * A function is given n and does at least n units of work; what it prepares outside of its own
 * two looks at the clock is not counted. Rows of a suite are measured in one run, interleaved, so
 * that a row and its ruler meet the same machine.
 */
#ifndef COIR_BENCH_H
#define COIR_BENCH_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One call of a benchmark. */
struct bench {
    uint64_t n;        /* given: units of work to do, at least */
    uint64_t done;     /* units done, if they are more than n; 0: n */
    int64_t ns;        /* the time they took, never 0 */
    double figure;     /* what the row shows, unless its unit is BENCH_NS */
    double p99, p999;  /* beside a figure that is a median: of the same samples; 0: not taken */
    double ruler, ruler_p99; /* likewise, of a ruler that is measured in turn with the row */
    const char *error; /* why there is no result, a static string; NULL: there is one */
};

typedef void bench_fn(struct bench *b, const void *arg);

enum bench_unit {
    BENCH_NS,     /* ns per unit of work: the mean of the call */
    BENCH_NS_P50, /* figure: the median of the call's own samples, ns */
    BENCH_BYTES   /* figure: bytes per unit of work */
};

enum bench_goal {
    BENCH_NO_GOAL,
    BENCH_AT_MOST,       /* the median is at most `goal` */
    BENCH_RATIO_AT_MOST, /* it is at most `goal` times the ruler's */
    BENCH_SPEEDUP        /* the ruler's is at least `goal` times this: units per second */
};

/* The row's own calls measure it: some of the one, some of the other, over and over, so both meet the same moments. */
#define BENCH_IN_TURN "in turn"

struct bench_row {
    const char *name;  /* SUITE/..., as Google Benchmark knows it */
    const char *label; /* what the table calls it */
    bench_fn *fn;
    const void *arg;   /* given to fn */
    uint64_t n;        /* units of each call; 0: as many as fill the time */
    enum bench_unit unit;
    const char *ruler; /* the row of this suite that it is compared with, BENCH_IN_TURN, or NULL */
    enum bench_goal kind;
    double goal;
};

struct bench_suite {
    const char *name;
    const struct bench_row *row;
    size_t count;
};

#define BENCH_SUITE(suite, rows) \
    const struct bench_suite suite = {#suite, rows, sizeof(rows) / sizeof *(rows)}

extern const struct bench_suite switching, yield, spawn, parallel, panic, wake, memory, domain, tail;
extern const struct bench_suite handoff, happy, timer, isolate;
extern const struct bench_suite workers, fanout, crowd, depth; /* how cost grows */

/* What C cannot do, for the ruler of panic_perf.c: throws; calls fn(arg) and catches. */
__attribute__((noreturn)) void bench_throw(void);
void bench_catch(void (*fn)(void *arg), void *arg);

#ifdef __cplusplus
}
#endif

#endif
