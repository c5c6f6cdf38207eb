/* SPDX-License-Identifier: MIT */
/*
 * domains.h - what tests of domains share: opening, closing, figures, jobs that panic, block or spin.
 */
#ifndef COIR_TEST_DOMAINS_H
#define COIR_TEST_DOMAINS_H

#include "run.h"

static inline coir_domain_options domain_options(const char *name)
{
    coir_domain_options o = {};

    o.size = sizeof o;
    o.name = name;
    return o;
}

/* NULL options: none. */
static inline coir_domain *domain_open(coir_runtime *rt, coir_domain *parent,
                                       const coir_domain_options *o)
{
    coir_domain *d = NULL;

    CHECK_EQ(coir_domain_open(rt, parent, o, &d), COIR_OK);
    if (!d)
        abort(); /* nothing below makes sense */
    return d;
}

static inline coir_domain_stats domain_stats(coir_domain *d)
{
    coir_domain_stats s;

    CHECK_EQ(coir_domain_stats_read(d, &s), COIR_OK);
    return s;
}

/* Nothing moves in it, and its books balance. */
static inline void domain_balances(coir_domain *d)
{
    coir_domain_stats s = domain_stats(d);
    uint64_t sum = 0;

    for (int o = 0; o <= COIR_PANICKED; o++)
        sum += s.ended[o];
    CHECK_EQ(s.in_flight, 0);
    CHECK_EQ(s.admitted, sum);
}

static inline void domain_close(coir_domain *d)
{
    domain_balances(d);
    CHECK_EQ(coir_domain_close(d, -1, NULL), COIR_OK);
}

/* Closes with a budget that is to pass. What is canceled then ends in time, but for a machine that is
 * busy with other things: then again. canceled: waits interrupted, all told; NULL: not wanted. */
static inline void domain_close_after(coir_domain *d, int64_t drain_ns, uint64_t *canceled)
{
    coir_domain_receipt r;
    uint64_t sum = 0;
    int status;

    do {
        status = coir_domain_close(d, drain_ns, &r);
        sum += r.canceled;
    } while (status == COIR_ETIMEDOUT);
    CHECK_EQ(status, COIR_OK);
    CHECK_EQ(r.running, 0);
    if (canceled)
        *canceled = sum;
}

static inline void job_count(void *n)
{
    run_count((int *)n);
}

static inline void job_panic(void *unused)
{
    (void)unused;
    coir_panic("planned");
}

/* Holds its place until it is let go. */
struct hold {
    int started, go;
};

static inline void job_hold(void *arg)
{
    struct hold *h = (struct hold *)arg;

    run_set(&h->started);
    run_until(&h->go);
}

/* Blocks until it is canceled. */
struct blocked {
    int started, status;
};

static inline void job_block(void *arg)
{
    struct blocked *b = (struct blocked *)arg;

    run_set(&b->started);
    b->status = coir_sleep_until(coir_now() + 3600 * COIR_SEC);
}

/* One job that is done before the return; its outcome. */
static inline int domain_run(coir_domain *d, coir_fn *fn, void *arg, coir_failure *f)
{
    coir_counter c = COIR_COUNTER_INIT;
    int outcome;

    CHECK_EQ(coir_domain_submit(d, &c, fn, arg), COIR_OK);
    outcome = coir_wait(&c);
    if (f)
        *f = (coir_failure){};
    if (f && outcome != COIR_DONE)
        CHECK_EQ(coir_counter_failure(&c, f), COIR_OK);
    return outcome;
}

/* Nothing but the log is told when the time has come; a bound on how long that may take is the alarm. */
static inline void until_time(int64_t deadline)
{
    while (coir_now() < deadline)
        sched_yield();
}

#endif
