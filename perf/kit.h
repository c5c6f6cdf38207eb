/* SPDX-License-Identifier: MIT */
/*
 * kit.h - what several benchmarks need: a runtime around a job, threads on processors of their
 * own, the median of samples. A thing that fails makes the row fail, never the program.
 */
#ifndef COIR_PERF_KIT_H
#define COIR_PERF_KIT_H

#include <stdbool.h>

#include "bench.h"
#include "coir.h"

#define NOINLINE __attribute__((noinline))

/* Options with this many workers and a log that says nothing. */
coir_options kit_options(unsigned workers);

/* coir_run; b->error unless the job ended well. */
void kit_run(struct bench *b, const coir_options *options, coir_fn *fn, void *arg);

/* Processors this process may run on. */
unsigned kit_cpus(void);

/* Binds the calling thread to the i-th of them; as options.worker_start, arg is i. */
void kit_pin(unsigned i);
void kit_pin_worker(unsigned worker, void *i);

/* The median of so many values, which are sorted. */
double kit_median(double *value, size_t count);

/*
 * For BENCH_IN_TURN: pairs of slices, of which the one is first as often as the other, until n units are done. The
 * processor may double its pace from one pair to the next, so the ruler is what makes the ratio that of the median pair. A
 * slice adds to b->ns and b->done, and returns ns per unit.
 */
typedef double kit_slice(struct bench *b, const void *arg);
void kit_in_turn(struct bench *b, kit_slice *row, kit_slice *ruler, const void *arg);

/* A call's own samples: `each` units per sample, so that n units give at most SAMPLES_MAX. */
#define SAMPLES_MAX 16384
struct samples {
    uint64_t each;
    size_t count;
    double ns[SAMPLES_MAX]; /* per unit */
};

/* NULL: no memory. free() it. */
struct samples *samples_new(uint64_t n, uint64_t each);

/* Calls unit(arg) n times and samples it; fills in b->ns, b->done and b->figure, the median. */
void samples_take(struct samples *s, struct bench *b, void (*unit)(void *arg), void *arg);

#endif
