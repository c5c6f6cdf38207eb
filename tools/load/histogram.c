/* SPDX-License-Identifier: MIT */
/*
 * histogram.c - see histogram.h.
 *
 * A value below 2 * 128 is its own bucket. Above, the value is shifted right until its 8 leading
 * bits remain; the shift and the lower 7 of them name the bucket:
 *
 *     bucket = shift * 128 + (value >> shift)        value >> shift is in [128, 256)
 */
#include "histogram.h"

#include <math.h>

#define LINEAR (UINT64_C(1) << HISTOGRAM_BITS)

static unsigned shift_of(uint64_t value)
{
    unsigned width = 64 - (unsigned)__builtin_clzll(value | 1);

    return width > HISTOGRAM_BITS + 1 ? width - (HISTOGRAM_BITS + 1) : 0;
}

static uint64_t bucket_of(uint64_t value)
{
    unsigned shift = shift_of(value);

    return shift * LINEAR + (value >> shift);
}

/* Highest value that falls into a bucket. */
static uint64_t top_of(uint64_t bucket)
{
    uint64_t shift = bucket < 2 * LINEAR ? 0 : bucket / LINEAR - 1;

    return ((bucket - shift * LINEAR + 1) << shift) - 1;
}

void histogram_add(struct histogram *h, int64_t ns)
{
    if (ns < 0)
        ns = 0;
    if (ns > HISTOGRAM_MAX)
        ns = HISTOGRAM_MAX;
    if (ns > h->max)
        h->max = ns;
    h->bucket[bucket_of((uint64_t)ns)]++;
    h->count++;
}

void histogram_merge(struct histogram *h, const struct histogram *from)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        h->bucket[i] += from->bucket[i];
    h->count += from->count;
    if (from->max > h->max)
        h->max = from->max;
}

int64_t histogram_at(const struct histogram *h, double share)
{
    double wanted = ceil(share * (double)h->count);
    uint64_t seen = 0;

    for (uint64_t i = 0; i < HISTOGRAM_BUCKETS && h->count; i++) {
        seen += h->bucket[i];
        if (seen && (double)seen >= wanted)
            return (int64_t)top_of(i) < h->max ? (int64_t)top_of(i) : h->max;
    }
    return h->max;
}
