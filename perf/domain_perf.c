/* SPDX-License-Identifier: MIT */
/*
 * domain_perf.c - claims: while one domain fails 500 times a second, the p99 of a job in a sibling
 * domain that takes 50 us, from its submission to its end, is at most 1.2 of what it is when those jobs
 * do not fail (on one worker, so a failure that comes first is waited for: what it costs is its own
 * time); a job of a domain costs at most 5 of one outside, one with a deadline at most 10.
 * Rulers: the same run without failures; the same loop with coir_spawn.
 */
#include <stdlib.h>

#include "kit.h"

#define BATCH 100
#define FAILURE_NS (2 * COIR_MS) /* 500 a second */
#define REQUEST_NS (500 * COIR_US) /* from one to the next, on average */
#define SERVICE_NS (50 * COIR_US)
#define FRAMES 10                /* a failing job unwinds */
#define PERCENTILE 99

static void open_one(coir_domain **domain)
{
    int status = coir_domain_open(coir_current(), NULL, NULL, domain);

    if (status != COIR_OK)
        coir_panic("no domain: %s", coir_status_name(status));
}

static void close_one(struct bench *b, coir_domain *domain)
{
    if (coir_domain_close(domain, -1, NULL) != COIR_OK)
        b->error = "a domain did not close";
}

/* --------------------------------------------------------------------------------- isolation */

struct siblings {
    struct bench *b;
    coir_domain *failing, *calm;
    bool fails;
    bool last; /* the failures are to end; one worker */
};

static NOINLINE void go_down(unsigned frames, bool fails)
{
    if (frames > 1)
        go_down(frames - 1, fails);
    else if (fails)
        coir_panic("planned");
    __asm__ volatile("");
}

static void fail_or_not(void *arg)
{
    go_down(FRAMES, arg != NULL);
}

/* Keeps its beat whatever the machine does: a late one is made up for. */
static void failures(void *arg)
{
    struct siblings *s = arg;
    int64_t next = coir_now();

    while (!s->last) {
        coir_counter c = COIR_COUNTER_INIT;

        if (coir_domain_submit(s->failing, &c, fail_or_not, s->fails ? s : NULL) != COIR_OK)
            s->b->error = "a job was refused";
        if (coir_wait(&c) != (s->fails ? COIR_PANICKED : COIR_DONE))
            s->b->error = "a job did not end as planned";
        next += FAILURE_NS;
        if (coir_sleep_until(next) != COIR_OK)
            s->b->error = "a sleep was interrupted";
    }
}

/* A request's worth of work. */
static void serve(void *arg)
{
    int64_t end = coir_now() + SERVICE_NS;

    while (coir_now() < end)
        ;
    (void)arg;
}

/* Requests come at random: a beat of their own would meet every failure, or none. */
static int64_t next_gap(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX generator */
    return (int64_t)(*seed >> 33) % (2 * REQUEST_NS);
}

static double one_request(struct siblings *s)
{
    coir_counter c = COIR_COUNTER_INIT;
    int64_t start = coir_now();

    if (coir_domain_submit(s->calm, &c, serve, NULL) != COIR_OK)
        s->b->error = "a job was refused";
    if (coir_wait(&c) != COIR_DONE)
        s->b->error = "a job failed";
    return (double)(coir_now() - start);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void measure(struct siblings *s)
{
    struct bench *b = s->b;
    double *ns = malloc(b->n * sizeof *ns);
    int64_t start = coir_now(), next = start;
    uint64_t seed = 1;

    if (!ns) {
        b->error = "no memory";
        return;
    }
    for (uint64_t i = 0; i < b->n; i++) {
        ns[i] = one_request(s);
        next += next_gap(&seed);
        if (coir_sleep_until(next) != COIR_OK)
            b->error = "a sleep was interrupted";
    }
    b->ns = coir_now() - start;
    qsort(ns, b->n, sizeof *ns, by_value);
    b->figure = ns[b->n * PERCENTILE / 100];
    free(ns);
}

static void beside(void *arg)
{
    struct siblings *s = arg;
    coir_counter c = COIR_COUNTER_INIT;

    open_one(&s->failing);
    open_one(&s->calm);
    if (coir_spawn(&c, failures, s) != COIR_OK)
        coir_panic("no job");
    measure(s);
    s->last = true;
    if (coir_wait(&c) != COIR_DONE)
        s->b->error = "the failures did not end";
    close_one(s->b, s->failing);
    close_one(s->b, s->calm);
}

static void isolation(struct bench *b, const void *arg)
{
    struct siblings s = {.b = b, .fails = arg != NULL};
    coir_options options = kit_options(1);

    kit_run(b, &options, beside, &s);
}

/* -------------------------------------------------------------------------------------- cost */

enum way { SPAWNED, SUBMITTED, WITH_DEADLINE };

struct costing {
    struct bench *b;
    enum way way;
    coir_domain *domain;
};

static void empty(void *arg)
{
    (void)arg;
}

static int start_one(const struct costing *k, coir_counter *c)
{
    return k->way == SPAWNED     ? coir_spawn(c, empty, NULL)
           : k->way == SUBMITTED ? coir_domain_submit(k->domain, c, empty, NULL)
                                 : coir_domain_submit_until(k->domain, c, empty, NULL,
                                                            coir_now() + COIR_SEC);
}

static void batches(void *arg)
{
    struct costing *k = arg;
    uint64_t count = (k->b->n + BATCH - 1) / BATCH;
    int64_t start;

    open_one(&k->domain);
    start = coir_now();
    for (uint64_t i = 0; i < count; i++) {
        coir_counter c = COIR_COUNTER_INIT;

        for (int n = 0; n < BATCH; n++)
            if (start_one(k, &c) != COIR_OK)
                k->b->error = "a job was refused";
        if (coir_wait(&c) != COIR_DONE)
            k->b->error = "a job failed";
    }
    k->b->ns = coir_now() - start;
    k->b->done = count * BATCH;
    close_one(k->b, k->domain);
}

static void cost(struct bench *b, const void *arg)
{
    struct costing k = {.b = b, .way = *(const enum way *)arg};
    coir_options options = kit_options(1);

    kit_run(b, &options, batches, &k);
}

#define WAY(which) &(const enum way){which}
#define FAILS "fails"
#define REQUESTS 2000 /* a second */

static const struct bench_row rows[] = {
    {"domain/calm", "p99 of a job, its sibling does not fail", isolation, NULL, REQUESTS, BENCH_NS_P50,
     NULL, BENCH_NO_GOAL, 0},
    {"domain/beside", "p99 of a job, its sibling fails 500/s", isolation, FAILS, REQUESTS, BENCH_NS_P50,
     "domain/calm", BENCH_RATIO_AT_MOST, 1.2},
    {"domain/none", "spawn + run + join, no domain", cost, WAY(SPAWNED), 0, BENCH_NS, NULL,
     BENCH_NO_GOAL, 0},
    {"domain/submit", "submit + run + join, in a domain", cost, WAY(SUBMITTED), 0, BENCH_NS,
     "domain/none", BENCH_RATIO_AT_MOST, 5},
    {"domain/deadline", "the same, with a deadline", cost, WAY(WITH_DEADLINE), 0, BENCH_NS,
     "domain/none", BENCH_RATIO_AT_MOST, 10},
};

BENCH_SUITE(domain, rows);
