/* SPDX-License-Identifier: MIT */
/*
 * histogram.h - counts of durations, in buckets whose width grows with the value.
 *
 * The idea is HdrHistogram's: each power of two is cut into equally wide buckets, so every value
 * from 0 ns to 39 hours, longer than any run, is known to within 1 %, in a fixed 42 KiB.
 */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BITS 7   /* 128 buckets per power of two: 0.8 % */
#define HISTOGRAM_WIDTH 47 /* bits of the longest duration */
#define HISTOGRAM_MAX ((INT64_C(1) << HISTOGRAM_WIDTH) - 1) /* ns; longer ones count as this */
#define HISTOGRAM_POWERS (HISTOGRAM_WIDTH - HISTOGRAM_BITS)
#define HISTOGRAM_BUCKETS ((HISTOGRAM_POWERS + 1) << HISTOGRAM_BITS)

struct histogram {
    uint64_t count; /* the sum of all buckets */
    int64_t max;    /* exact, not rounded to a bucket */
    uint64_t bucket[HISTOGRAM_BUCKETS];
};

/* Counts one duration. A negative one counts as 0. */
void histogram_add(struct histogram *h, int64_t ns);

/* Adds all that `from` has counted. */
void histogram_merge(struct histogram *h, const struct histogram *from);

/*
 * The duration that `share` (0 to 1) of all counted ones do not exceed: exact or up to 1 % above
 * it, never above max. 0 when nothing was counted.
 */
int64_t histogram_at(const struct histogram *h, double share);

#endif
