/* SPDX-License-Identifier: MIT */
/*
 * run.h - what tests of a whole runtime share: opening one, running a first job, waiting
 * briefly.
 */
#ifndef COIR_RUN_H
#define COIR_RUN_H

#include "check.h"
#include "coir.h"

#include <sched.h>

/* Sanitizers and emulators make all slow: fewer repetitions, and races that one side may lose. */
#define SLOW (CHECK_SECONDS > 60)
#ifndef CHECK_SHARE
#define CHECK_SHARE 1 /* of the repetitions a variant makes one in so many */
#endif
#define MANY(n) ((n) / (SLOW ? 20 : CHECK_SHARE))

/* Panics are what many tests are about; their lines would hide what matters. */
static inline void run_quietly(enum coir_log_level level, const char *text, void *arg)
{
    (void)level;
    (void)text;
    (void)arg;
}

static inline coir_options run_options(unsigned workers)
{
    coir_options o = {};

    o.size = sizeof o;
    o.workers = workers;
    o.log = run_quietly;
    return o;
}

/* Runs fn(arg) as the first job of a runtime of its own, which must end well. */
static inline void run_on(unsigned workers, coir_fn *fn, void *arg)
{
    coir_options o = run_options(workers);

    CHECK_EQ(coir_run(&o, fn, arg), COIR_DONE);
}

static inline coir_runtime *run_open(unsigned workers)
{
    coir_options o = run_options(workers);
    coir_runtime *rt = NULL;

    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    return rt;
}

/* Closes and checks that everything ended. */
static inline void run_close(coir_runtime *rt)
{
    coir_receipt receipt;

    CHECK_EQ(coir_close(rt, -1, &receipt), COIR_OK);
    CHECK_EQ(receipt.running, 0);
}

/* Closes with a budget that may pass; again where the machine is too busy for what is canceled to end in the time that a
 * close gives it. The receipt has what all have canceled and dropped. How many there were. */
static inline int run_close_past(coir_runtime *rt, int64_t budget, coir_receipt *r)
{
    uint64_t canceled = 0, dropped = 0;
    int status, closes = 0;

    do {
        status = coir_close(rt, budget, r);
        canceled += r->canceled;
        dropped += r->dropped;
        closes++;
    } while (status == COIR_ETIMEDOUT);
    CHECK_EQ(status, COIR_OK);
    r->canceled = canceled;
    r->dropped = dropped;
    return closes;
}

/* Waits, on a fiber or a thread, until the flag is set by something else; the alarm bounds it. */
static inline void run_until(const int *flag)
{
    while (!__atomic_load_n(flag, __ATOMIC_ACQUIRE)) {
        coir_yield();
        sched_yield();
    }
}

static inline void run_set(int *flag)
{
    __atomic_store_n(flag, 1, __ATOMIC_RELEASE);
}

static inline int run_count(int *n)
{
    return __atomic_add_fetch(n, 1, __ATOMIC_RELAXED);
}

#endif
