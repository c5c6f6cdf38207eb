/* SPDX-License-Identifier: MIT */
/*
 * threads.h - plain threads and random numbers for tests that attack an invariant.
 */
#ifndef COIR_TEST_THREADS_H
#define COIR_TEST_THREADS_H

#include <pthread.h>
#include <stdint.h>

#include "check.h"

#define THREADS_MAX 64

/* Threads that are joined together. Zero it first. */
struct threads {
    pthread_t id[THREADS_MAX];
    int count;
};

static inline void threads_add(struct threads *t, void *(*run)(void *), void *arg)
{
    if (!CHECK(t->count < THREADS_MAX && pthread_create(&t->id[t->count], NULL, run, arg) == 0))
        abort(); /* the others would wait for it */
    t->count++;
}

static inline void threads_join(struct threads *t)
{
    while (t->count > 0)
        pthread_join(t->id[--t->count], NULL);
}

/* xorshift64 (Marsaglia, 2003); the seed is not zero. */
static inline uint64_t random_next(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

#endif
