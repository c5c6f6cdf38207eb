/* SPDX-License-Identifier: MIT */
/*
 * storm_test.c - a million contained panics of all kinds over all workers, while jobs are stolen,
 * canceled, expired and skipped. Afterwards nothing is missing and nothing is left: every counter told
 * what it had to, the runtime's books, the metrics and the model agree, and no stack, fiber or byte
 * has gone.
 *
 *   storm_test [--seed N] [--panics N | --seconds N] [CASE...]
 *
 * A seed gives the same jobs, though not the same schedule; it is printed with a failure. The jobs are
 * in storm_kinds.c, storm_faults.c and storm_cxx.cc.
 *
 * With --seconds it goes on for so long (tools/soak): a round takes a second, all is checked after each one, and
 * every few seconds a line says how it goes.
 *
 * The storm comes in rounds, each of which comes to rest, so what is left can be told from what is in
 * use. At 30 % all that fills up once is full (the store of records, caches, glibc's arenas); from there
 * to the end resident size may grow by 512 KiB, less than one byte for each panic. Stacks are made at open,
 * more than can be in use at once, and touched whole: their number is exact and their size constant.
 */
#include "storm.h"

#include <stdbool.h>

#if defined(__SANITIZE_ADDRESS__)
#define PANICS 100000
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define PANICS 50000
#endif
#endif
#ifndef PANICS
#define PANICS (SLOW ? 20000 : 1000000)
#endif

#define ROUNDS 10
#define FIRST 3 /* of them: what fills up once is full */
#define CONDUCTORS 5 /* fibers, and one thread */
#define TELL 5 /* rounds of a soak between its lines */
#define BATCH 16
#define STACKS 512

static uint64_t seed = 1;
static long panics_wanted = PANICS;
static long seconds; /* 0: no soak */

/* ------------------------------------------------------------------------------------ one batch */

struct conductor {
    coir_runtime *rt;
    coir_domain *top;
    uint64_t seed;
    long goal;     /* panics, of all; or */
    int64_t until; /* a time, not 0 */
    int on_thread;
};

/* Jobs that one counter is owed, and what may happen to them meanwhile. */
struct batch {
    struct conductor *by;
    coir_domain *domain; /* NULL: none */
    coir_counter c, helper;
    struct storm_job job[BATCH];
    int accepted[BATCH];
    int yields;   /* before the cancel */
    int may_skip; /* a cancel, or a tripped domain, may keep jobs from running */
};

static int any_kind(uint64_t r)
{
    int at = (int)(r % 1024), k = 0;

    while ((at -= storm_kinds[k].weight) >= 0)
        k++;
    return k;
}

static void put_job(struct batch *b, int i, int kind)
{
    struct storm_job *j = &b->job[i];
    coir_fn *fn = storm_kinds[kind].fn;
    int status;

    *j = (struct storm_job){.kind = kind, .seed = random_next(&b->by->seed)};
    if (b->domain)
        status = coir_domain_submit(b->domain, &b->c, fn, j);
    else if (b->by->on_thread)
        status = coir_submit(b->by->rt, &b->c, fn, j);
    else
        status = coir_spawn(&b->c, fn, j);
    CHECK(status == COIR_OK || (b->domain && (status == COIR_EAGAIN || status == COIR_ECANCELED)));
    b->accepted[i] = status == COIR_OK;
    storm_add(&storm_books.accepted, b->accepted[i]);
}

/* A job's jobs: another worker steals some, and others run in place when the counter is waited for. */
static void spawns_batch(void *batch)
{
    struct batch *b = batch;

    storm_began(COIR_DONE);
    for (int i = BATCH / 2; i < BATCH; i++)
        put_job(b, i, any_kind(random_next(&b->by->seed)));
}

static void cancels(void *batch)
{
    struct batch *b = batch;

    storm_began(COIR_DONE);
    while (b->yields-- > 0)
        coir_yield();
    storm_add(&storm_books.canceled, 1);
    if (b->domain)
        CHECK_EQ(coir_domain_cancel(b->domain), COIR_OK);
    else
        CHECK_EQ(coir_counter_cancel(&b->c), COIR_OK);
}

static void help(struct batch *b, coir_fn *fn)
{
    CHECK_EQ(coir_submit(b->by->rt, &b->helper, fn, b), COIR_OK);
    storm_add(&storm_books.accepted, 1);
}

static int worse(int a, int b)
{
    return a > b ? a : b;
}

/* What the counter told is what its jobs have come to. */
static void check_batch(struct batch *b, int outcome)
{
    int expected = COIR_DONE, skipped = 0;
    coir_failure f;

    for (int i = 0; i < BATCH; i++) {
        if (!b->accepted[i])
            continue;
        skipped += !b->job[i].ran;
        expected = worse(expected, b->job[i].ran ? storm_kinds[b->job[i].kind].outcome : COIR_CANCELED);
    }
    CHECK_EQ(outcome, expected);
    CHECK(!skipped || b->may_skip);
    CHECK_EQ(coir_counter_failure(&b->c, &f), expected == COIR_DONE ? COIR_ENOENT : COIR_OK);
    if (expected != COIR_DONE)
        CHECK(f.id != 0 && f.outcome > COIR_DONE && f.outcome <= expected);
}

static void plain_batch(struct batch *b, uint64_t r)
{
    int direct = r % 2 ? BATCH : BATCH / 2;

    b->may_skip = r / 2 % 4 == 0;
    if (b->may_skip)
        help(b, cancels);
    for (int i = 0; i < direct; i++)
        put_job(b, i, any_kind(random_next(&b->by->seed)));
    if (direct < BATCH) { /* it draws from the conductor's seed, which waits for it */
        help(b, spawns_batch);
        CHECK_EQ(coir_wait(&b->helper), COIR_DONE);
    }
    check_batch(b, coir_wait(&b->c));
    CHECK_EQ(coir_wait(&b->helper), COIR_DONE);
}

/* ------------------------------------------------------------------------------------ in a domain */

static void panicking_finalizer(void *unused)
{
    (void)unused;
    storm_add(&storm_books.finalizers, 1);
    coir_panic("a finalizer");
}

/* Never runs: its deadline has passed already. */
static void put_late(struct batch *b, coir_counter *late, struct storm_job *j)
{
    int status;

    *j = (struct storm_job){.kind = STORM_plain};
    status = coir_domain_submit_until(b->domain, late, storm_plain, j, 1);
    CHECK(status == COIR_OK || status == COIR_EAGAIN || status == COIR_ECANCELED ||
          status == COIR_ETIMEDOUT);
    storm_add(&storm_books.accepted, status == COIR_OK);
}

static void check_late(coir_counter *late, const struct storm_job *j)
{
    int outcome = coir_wait(late);

    CHECK_EQ(j->ran, 0);
    CHECK(outcome == COIR_EXPIRED || outcome == COIR_CANCELED || outcome == COIR_DONE);
    storm_add(&storm_books.expired, outcome == COIR_EXPIRED);
}

static coir_domain *any_domain(struct conductor *by)
{
    uint64_t r = random_next(&by->seed);
    coir_domain_options o = {.size = sizeof o, .name = "storm"};
    coir_domain *d = NULL;

    o.jobs_max = r % 3 ? 0 : r / 4 % 8 + 1;
    o.full = by->on_thread || !o.jobs_max ? COIR_FULL_REFUSE : (enum coir_full)(r / 64 % 3);
    o.panics_max = r / 256 % 4 ? 0 : (unsigned)(r / 1024 % 8);
    o.probe_ns = 20 * COIR_US;
    CHECK_EQ(coir_domain_open(by->rt, by->top, &o, &d), COIR_OK);
    if (!d)
        abort(); /* nothing below makes sense */
    return d;
}

static void close_domain(coir_domain *d, int64_t drain_ns)
{
    coir_domain_receipt r;
    int status;

    do
        status = coir_domain_close(d, drain_ns, &r);
    while (status == COIR_ETIMEDOUT);
    CHECK_EQ(status, COIR_OK);
    CHECK_EQ(r.running, 0);
}

static void domain_batch(struct batch *b, uint64_t r)
{
    coir_counter late = COIR_COUNTER_INIT;
    struct storm_job too_late;
    bool early = r / 4 % 4 == 0;

    b->domain = any_domain(b->by);
    b->may_skip = 1;
    if (r % 4 == 0)
        CHECK_EQ(coir_domain_finalizer(b->domain, panicking_finalizer, NULL), COIR_OK);
    put_late(b, &late, &too_late);
    for (int i = 0; i < BATCH; i++)
        put_job(b, i, any_kind(random_next(&b->by->seed)));
    if (r / 16 % 4 == 0) { /* it must have ended before the domain goes */
        help(b, cancels);
        CHECK_EQ(coir_wait(&b->helper), COIR_DONE);
    }
    if (early)
        close_domain(b->domain, (int64_t)(r / 64 % 50) * COIR_US);
    check_batch(b, coir_wait(&b->c));
    check_late(&late, &too_late);
    if (!early)
        close_domain(b->domain, -1);
}

/* ------------------------------------------------------------------------------------ the storm */

static void one_batch(struct conductor *by)
{
    uint64_t r = random_next(&by->seed);
    struct batch b = {.by = by, .yields = (int)(r >> 60) % 4};

    if (r % 8 == 0)
        domain_batch(&b, r / 8);
    else
        plain_batch(&b, r / 8);
}

static void conduct(void *conductor)
{
    struct conductor *by = conductor;

    while (by->until ? coir_now() < by->until : storm_raised() < by->goal)
        one_batch(by);
}

static void conducts(void *conductor)
{
    storm_began(COIR_DONE);
    conduct(conductor);
}

static void *conduct_on_a_thread(void *conductor)
{
    conduct(conductor);
    return NULL;
}

static void one_round(coir_runtime *rt, coir_domain *top, int round)
{
    int64_t until = seconds ? coir_now() + COIR_SEC : 0;
    struct conductor by[CONDUCTORS + 1];
    coir_counter c = COIR_COUNTER_INIT;
    struct threads t = {0};

    for (int i = 0; i <= CONDUCTORS; i++) {
        by[i] = (struct conductor){rt, top, (seed * 1000 + (uint64_t)(round * 10 + i)) * 7919 + 13,
                                   panics_wanted / ROUNDS * (round + 1), until, i == CONDUCTORS};
        if (by[i].on_thread)
            threads_add(&t, conduct_on_a_thread, &by[i]);
        else if (CHECK_EQ(coir_submit(rt, &c, conducts, &by[i]), COIR_OK))
            storm_add(&storm_books.accepted, 1);
    }
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    threads_join(&t);
}

static coir_options options(const coir_metrics *metrics)
{
    coir_options o = run_options(STORM_WORKERS);

    o.faults = COIR_FAULTS_CONTAIN;
    o.faults_also = COIR_FAULT_SEGV | COIR_FAULT_ABORT;
    o.metrics = metrics;
    o.alloc = storm_alloc;
    o.free = storm_free;
    o.prefault = STORM_MEASURED ? STACKS : 0;
    o.prefault_bytes = STORM_MEASURED ? 65536 : 0;
    return o;
}

/* A round, and what is left of it. */
static void round_and_rest(coir_runtime *rt, coir_domain *top, int round, struct storm_rest *first,
                           struct storm_rest *last)
{
    check_begin(CHECK_SECONDS); /* for each round: a busy machine is no hang */
    one_round(rt, top, round);
    *last = storm_at_rest(rt);
    if (round < FIRST)
        *first = *last;
}

/* Until the time has passed or something does not add up. */
static void soak(coir_runtime *rt, coir_domain *top, struct storm_rest *first, struct storm_rest *last)
{
    int64_t began = coir_now();

    for (int round = 0; coir_now() - began < seconds * COIR_SEC && !check_failures; round++) {
        round_and_rest(rt, top, round, first, last);
        if (round >= FIRST)
            storm_check(rt, top, first, last);
        if (round % TELL == TELL - 1)
            storm_tell(last, coir_now() - began);
    }
}

static void nothing_is_left_after_a_million_panics(void)
{
    const coir_metrics metrics = storm_metrics();
    coir_options o = options(&metrics);
    struct storm_rest first = {0}, last = {0};
    int64_t began = coir_now();
    coir_domain *top = NULL;
    coir_runtime *rt;

    storm_register();
    storm_tie();
    if (!CHECK_EQ(coir_open(&o, &rt), COIR_OK) ||
        !CHECK_EQ(coir_domain_open(rt, NULL, NULL, &top), COIR_OK))
        return;
    for (int round = 0; !seconds && round < ROUNDS; round++)
        round_and_rest(rt, top, round, &first, &last);
    if (seconds)
        soak(rt, top, &first, &last);
    storm_check(rt, top, &first, &last);
    close_domain(top, -1);
    storm_print(&first, &last, coir_now() - began, seed);
    run_close(rt);
    storm_check_closed();
    storm_untie();
}

/* Takes the value of an option out of the arguments; what was given, or otherwise. */
static long option(const char *name, long otherwise, int *argc, char **argv)
{
    for (int i = 1; i + 1 < *argc; i++)
        if (strcmp(argv[i], name) == 0) {
            otherwise = atol(argv[i + 1]);
            memmove(&argv[i], &argv[i + 2], (size_t)(*argc - i - 1) * sizeof *argv); /* NULL, too */
            *argc -= 2;
        }
    return otherwise;
}

int main(int argc, char **argv)
{
    static const struct check_case cases[] = {CASE(nothing_is_left_after_a_million_panics)};
    int failed;

    seed = (uint64_t)option("--seed", 1, &argc, argv);
    panics_wanted = option("--panics", PANICS, &argc, argv);
    seconds = option("--seconds", 0, &argc, argv);
    failed = check_main(cases, 1, argc, argv);
    if (failed)
        fprintf(stderr, "again: %s --seed %llu\n", argv[0], (unsigned long long)seed);
    return failed;
}
