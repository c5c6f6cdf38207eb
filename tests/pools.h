/* SPDX-License-Identifier: MIT */
/*
 * pools.h - what tests of pools share: messages that do as they are told, and books that must balance.
 */
#ifndef COIR_TEST_POOLS_H
#define COIR_TEST_POOLS_H

#include "retry.h"
#include "run.h"

/* A message that fails its first attempts. */
struct job_message {
    coir_message m; /* first */
    int panics, fails; /* so many attempts do */
    int final;      /* and say that it is */
    int hold;       /* each attempt waits for `go` */
    int block;      /* each attempt blocks until it is canceled, and then fails */
    int started, go;
    int handled, dead, ended; /* calls */
    int on_plain_thread;      /* attempts */
};

static inline void pool_do(coir_message *m)
{
    struct job_message *j = (struct job_message *)(void *)m;
    int n = run_count(&j->handled);

    j->on_plain_thread += coir_current() == NULL;
    run_set(&j->started);
    if (j->hold)
        run_until(&j->go);
    if (j->block && coir_sleep_until(coir_now() + 3600 * COIR_SEC) != COIR_OK) {
        coir_fail(COIR_ECANCELED, "interrupted");
        return;
    }
    m->final = (uint32_t)j->final;
    if (n <= j->panics)
        coir_panic("planned panic");
    if (n <= j->fails)
        coir_fail(7, "planned failure");
}

static inline void pool_dead(coir_message *m)
{
    run_count(&((struct job_message *)(void *)m)->dead);
}

static inline void pool_ended(coir_message *m)
{
    run_count(&((struct job_message *)(void *)m)->ended);
}

static inline void panic_job(void *unused)
{
    (void)unused;
    coir_panic("planned");
}

static inline coir_pool_options pool_options(const char *name)
{
    coir_pool_options o = {0};

    o.size = sizeof o;
    o.name = name;
    o.handle = pool_do;
    o.dead = pool_dead;
    o.ended = pool_ended;
    o.queue_max = 100;
    o.attempts_max = 1;
    o.backoff_ns = 10 * COIR_US;
    return o;
}

static inline coir_pool *pool_open(coir_runtime *rt, const coir_pool_options *o)
{
    coir_pool *p = NULL;

    CHECK_EQ(coir_pool_open(rt, o, &p), COIR_OK);
    if (!p)
        abort(); /* nothing below makes sense */
    return p;
}

static inline coir_pool_stats pool_stats(coir_pool *p)
{
    coir_pool_stats s;

    memset(&s, 0, sizeof s);
    CHECK_EQ(coir_pool_stats_read(p, &s), COIR_OK);
    return s;
}

static inline void pool_adds_up(const coir_pool_stats *s)
{
    CHECK_EQ(s->submitted, s->done + s->dead + s->expired + s->quarantined + s->returned + s->pending);
}

/* Closes it when all is done. */
static inline coir_pool_stats pool_close(coir_pool *p)
{
    coir_pool_receipt r;

    CHECK_EQ(coir_pool_close(p, -1, &r), COIR_OK);
    CHECK_EQ(r.pool.pending, 0);
    CHECK_EQ(r.pool.returned, 0);
    pool_adds_up(&r.pool);
    return r.pool;
}

/* One message, to its end; its outcome. */
static inline int pool_run_failure(coir_pool *p, struct job_message *j, coir_failure *f)
{
    coir_counter c = COIR_COUNTER_INIT;
    int outcome;

    j->m.counter = &c;
    CHECK_EQ(coir_pool_submit(p, &j->m), COIR_OK);
    outcome = coir_wait(&c);
    if (f)
        CHECK_EQ(coir_counter_failure(&c, f), outcome == COIR_DONE ? COIR_ENOENT : COIR_OK);
    j->m.counter = NULL;
    return outcome;
}

static inline int pool_run(coir_pool *p, struct job_message *j)
{
    return pool_run_failure(p, j, NULL);
}

static inline coir_quarantine *quarantine_of(coir_runtime *rt, unsigned strikes, int64_t expiry_ns)
{
    coir_quarantine_options o = {.size = sizeof o, .strikes_max = strikes, .expiry_ns = expiry_ns};
    coir_quarantine *q = NULL;

    CHECK_EQ(coir_quarantine_open(rt, &o, &q), COIR_OK);
    return q;
}

/* A worker is busy with it until run_set(&j->go). */
static inline void pool_hold_one(coir_pool *p, struct job_message *j)
{
    j->hold = 1;
    CHECK_EQ(coir_pool_submit(p, &j->m), COIR_OK);
    run_until(&j->started);
}

#endif
