/* SPDX-License-Identifier: MIT */
/*
 * intensity.h - how often, and how soon, something that failed may be started again. See intensity.c.
 */
#ifndef COIR_INTENSITY_H
#define COIR_INTENSITY_H

#include "base.h"

/* Restarts in a moving window. */
struct intensity {
    uint32_t max;     /* restarts within the window; 0: none is allowed */
    uint32_t seconds; /* its length */
    uint64_t made;    /* restarts allowed so far */
    int64_t *second;  /* when the last max of them were; the n-th, from 0, at n % max */
};

/* Counts a restart at this time, nanoseconds of one clock that does not go back. False: it is one too
 * many, and was not counted. */
bool intensity_allows(struct intensity *w, int64_t now);

/* So many restarts would be allowed now. */
uint32_t intensity_left(const struct intensity *w, int64_t now);

/* How long to wait before the next try. */
struct backoff {
    int64_t first_ns; /* before the first try; 0: none ever */
    int64_t most_ns;  /* doubled up to this; first_ns: always the same */
    unsigned jitter;  /* percent: up to this share is taken off at random */
};

/* tries: made before, since things last went well. random: any number. */
int64_t backoff_delay(const struct backoff *b, unsigned tries, uint64_t random);

#endif
