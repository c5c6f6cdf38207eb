/* SPDX-License-Identifier: MIT */
/*
 * bare.h - the floors of jobs: loops of one thread, see bare.c.
 */
#ifndef COIR_PERF_BARE_H
#define COIR_PERF_BARE_H

#include "bench.h"

/* Of workers, who share nothing and never wait: one does it all, and its time is divided by their number. */
struct bare_shape {
    unsigned workers;
    long (*fib)(long n);
};

#define BARE_FIB 32
#define BARE_FIB_CALLS 7049155 /* of fib, to compute fib(BARE_FIB) */

void bare_batches(struct bench *b, const void *shape); /* 1000 pushed, all popped and called */
void bare_fibs(struct bench *b, const void *shape);
long bare_fib(long n);         /* one half pushed with a counter, the other called */
long bare_fib_by_fork(long n); /* likewise, without a counter */

#endif
