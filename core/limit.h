/* SPDX-License-Identifier: MIT */
/*
 * limit.h - keeps a storm of failures readable: at most ten lines a second for each place. See limit.c.
 */
#ifndef COIR_LIMIT_H
#define COIR_LIMIT_H

#include "base.h"

#define LIMIT_PLACES 64
#define LIMIT_LINES 10 /* a second */

struct limit_place {
    int64_t second;  /* coir_now() / COIR_SEC, when a line was asked for last */
    unsigned lines;  /* said in it */
    unsigned untold; /* held back since the last line */
};

struct limit {
    struct limit_place place[LIMIT_PLACES];
};

/* Whether a line about this failure may be said now, and then *untold: how many of its place have been
 * held back since the last one. The caller holds whatever guards l. */
bool limit_allows(struct limit *l, const coir_failure *f, unsigned *untold);

#endif
