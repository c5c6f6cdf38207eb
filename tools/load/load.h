/* SPDX-License-Identifier: MIT */
/*
 * load.h - what the files of coir-load share: options, the run's clock, and the tally.
 *
 * coir-load does not use coir: a ruler must not depend on what it measures.
 */
#ifndef LOAD_H
#define LOAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "histogram.h"

#define LOAD_SECOND INT64_C(1000000000) /* nanoseconds */

enum load_command { LOAD_PING, LOAD_GET, LOAD_SET, LOAD_INCR, LOAD_MSET, LOAD_ECHO, LOAD_COMMANDS };

extern const char *const load_command_name[LOAD_COMMANDS];

/* What the command line asks for. */
struct load_options {
    const char *host;
    uint64_t port;
    uint64_t rate;        /* requests per second in total; 0: closed loop */
    uint64_t connections; /* measured ones, in total */
    uint64_t pipeline;    /* requests that may be unanswered on one connection */
    uint64_t threads;
    uint64_t keys;        /* keys are drawn evenly from this many */
    uint64_t value_bytes;
    uint64_t poison;      /* poisoned requests per second; 0: none */
    int64_t measured;     /* nanoseconds */
    int64_t warmup;       /* nanoseconds before them whose requests are sent and not counted */
    uint64_t mix[LOAD_COMMANDS]; /* weights */
    uint64_t mix_total;          /* their sum, never 0 */
    const char *poison_command;  /* words separated by blanks */
    const char *json;            /* file; NULL: none */
    bool quiet;                  /* no progress lines */
    bool no_hiccup;
};

/* The clock of a run: begin <= start <= end, all in nanoseconds of load_now(). */
struct load_clock {
    int64_t begin;    /* first request */
    int64_t start;    /* end of the warm-up */
    int64_t end;      /* no request is due from here on */
    atomic_bool stop; /* interrupted: end now */
};

/*
 * What one thread counts. Requests of the warm-up are in none of them.
 *
 * sent == answered + unanswered, and poison_sent == poison_contained + poison_unanswered, when
 * the thread has ended. Error replies are among the answered.
 */
enum load_count {
    COUNT_SENT,
    COUNT_ANSWERED,
    COUNT_ERROR_REPLIES,
    COUNT_UNANSWERED, /* in flight when their connection was lost or given up */
    COUNT_UNSENT,     /* due, but no connection had room before the end */
    COUNT_ERRORS,     /* replies that are not RESP or not what the command answers */
    COUNT_LOST,       /* connections closed by the peer, or silent at the end */
    COUNT_POISON_SENT,
    COUNT_POISON_CONTAINED,  /* answered by an error, or closed, and nothing else */
    COUNT_POISON_UNANSWERED, /* neither within BLOCKED_PATIENCE, or not an error */
    COUNT_ALL
};

/* Written by its thread, read by the progress line meanwhile: relaxed, they carry no data. */
struct load_tally {
    _Atomic uint64_t count[COUNT_ALL];
};

/* What a run found: all tallies and histograms together. */
struct load_result {
    struct load_tally tally;
    struct histogram latency; /* from the intended send time to the reply */
    struct histogram lag;     /* from the intended send time to the sending */
    struct histogram hiccup;
    int64_t elapsed; /* nanoseconds measured */
};

/* Prints "coir-load: ..." on standard error and ends the process with status 1. */
_Noreturn __attribute__((format(printf, 1, 2))) void load_fail(const char *format, ...);

static inline int64_t load_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * LOAD_SECOND + t.tv_nsec;
}

static inline struct timespec load_timespec(int64_t ns)
{
    return (struct timespec){ns / LOAD_SECOND, ns % LOAD_SECOND};
}

/* Sleeps until a time of load_now(); a signal may cut it short. */
static inline void load_sleep_until(int64_t when)
{
    struct timespec t = load_timespec(when);

    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

/* When the n-th of `rate` requests per second is due. Exact up to 18 billion requests. */
static inline int64_t load_due(const struct load_clock *clock, uint64_t n, uint64_t rate)
{
    return clock->begin + (int64_t)(n * (uint64_t)LOAD_SECOND / rate);
}

static inline bool load_stopped(const struct load_clock *clock)
{
    return atomic_load_explicit(&clock->stop, memory_order_relaxed); /* a hint, carries no data */
}

static inline uint64_t load_counted(const struct load_tally *tally, enum load_count which)
{
    return atomic_load_explicit(&tally->count[which], memory_order_relaxed); /* a figure */
}

/* Adds to a tally that only the calling thread writes. */
static inline void load_count(struct load_tally *tally, enum load_count which, uint64_t n)
{
    uint64_t sum = load_counted(tally, which) + n;

    atomic_store_explicit(&tally->count[which], sum, memory_order_relaxed); /* a figure */
}

#endif
