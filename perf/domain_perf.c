/* SPDX-License-Identifier: MIT */
/*
 * domain_perf.c - claims: while one domain fails 500 times a second, the p99 of a job in a sibling
 * domain that takes 50 us, from its submission to its end, is at most 1.2 of what it is when those jobs
 * do not fail (on one worker, so a failure that comes first is waited for: what it costs is its own
 * time); a job of a domain costs at most 5 of one outside, one with a deadline at most 10. What it costs that
 * stacks are wiped between domains is shown at its worst, jobs of two domains that take turns, and as a server
 * meets it that opens a domain for each request.
 * Rulers: the same run without failures; the same loop with coir_spawn; the same with options.share_stacks.
 */
#include <stdlib.h>

#include "kit.h"

#define BATCH 100
#define JOBS_OF_REQUEST 4
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

enum way { SPAWNED, SUBMITTED, WITH_DEADLINE, IN_TURN, REQUESTS_OF_THEIR_OWN };

struct costing {
    struct bench *b;
    enum way way;
    coir_domain *domain, *other;
};

static void empty(void *arg)
{
    (void)arg;
}

static int start_one(const struct costing *k, coir_counter *c, int n)
{
    switch (k->way) {
    case SPAWNED: return coir_spawn(c, empty, NULL);
    case WITH_DEADLINE: return coir_domain_submit_until(k->domain, c, empty, NULL, coir_now() + COIR_SEC);
    case IN_TURN: return coir_domain_submit(n % 2 ? k->domain : k->other, c, empty, NULL);
    default: return coir_domain_submit(k->domain, c, empty, NULL);
    }
}

static void batches(void *arg)
{
    struct costing *k = arg;
    uint64_t count = (k->b->n + BATCH - 1) / BATCH;
    int64_t start;

    open_one(&k->domain);
    open_one(&k->other);
    start = coir_now();
    for (uint64_t i = 0; i < count; i++) {
        coir_counter c = COIR_COUNTER_INIT;

        for (int n = 0; n < BATCH; n++)
            if (start_one(k, &c, n) != COIR_OK)
                k->b->error = "a job was refused";
        if (coir_wait(&c) != COIR_DONE)
            k->b->error = "a job failed";
    }
    k->b->ns = coir_now() - start;
    k->b->done = count * BATCH;
    close_one(k->b, k->domain);
    close_one(k->b, k->other);
}

/* Each is a domain that some jobs run in. */
static void requests(void *arg)
{
    struct costing *k = arg;
    int64_t start = coir_now();

    for (uint64_t i = 0; i < k->b->n; i++) {
        coir_counter c = COIR_COUNTER_INIT;

        open_one(&k->domain);
        for (int n = 0; n < JOBS_OF_REQUEST; n++)
            if (start_one(k, &c, n) != COIR_OK)
                k->b->error = "a job was refused";
        if (coir_wait(&c) != COIR_DONE)
            k->b->error = "a job failed";
        close_one(k->b, k->domain);
    }
    k->b->ns = coir_now() - start;
}

struct kind {
    enum way way;
    unsigned share_stacks;
};

static void cost(struct bench *b, const void *arg)
{
    const struct kind *kind = arg;
    struct costing k = {.b = b, .way = kind->way};
    coir_options options = kit_options(1);

    options.share_stacks = kind->share_stacks;
    kit_run(b, &options, kind->way == REQUESTS_OF_THEIR_OWN ? requests : batches, &k);
}

#define WAY(way) &(const struct kind){way, 0}
#define SHARED(way) &(const struct kind){way, 1}
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
    {"domain/turns_shared", "domain/submit, two domains in turn, share_stacks", cost, SHARED(IN_TURN), 0, BENCH_NS,
     NULL, BENCH_NO_GOAL, 0},
    {"domain/turns", "the same, each wipes what the other left", cost, WAY(IN_TURN), 0, BENCH_NS,
     "domain/turns_shared", BENCH_NO_GOAL, 0},
    {"domain/request_shared", "open a domain, 4 jobs, close; share_stacks", cost, SHARED(REQUESTS_OF_THEIR_OWN), 0,
     BENCH_NS, NULL, BENCH_NO_GOAL, 0},
    {"domain/request", "the same, wiped", cost, WAY(REQUESTS_OF_THEIR_OWN), 0, BENCH_NS, "domain/request_shared",
     BENCH_NO_GOAL, 0},
};

BENCH_SUITE(domain, rows);
