/* SPDX-License-Identifier: MIT */
/*
 * storm_books.c - what the storm must come to: the model's books, the runtime's figures and what it told its
 * callbacks agree, and nothing is in use that was not before.
 *
 * Resident size may grow by 512 KiB from the first to the last rest, less than one byte for each panic
 * between them. The number of stacks, made at open, is exact.
 */
#include "storm.h"

#include <malloc.h>
#include <sched.h>

#define RESIDENT_KIB 512
#define BLOCKS 512 /* of coir's memory: chunks of queues, and records of deadlines, that are kept */

struct storm_books storm_books;

const struct storm_kind storm_kinds[STORM_KIND_COUNT] = {
#define STORM_ROW(id, name, outcome, weight) {name, storm_##id, outcome, weight},
    STORM_KINDS(STORM_ROW)
};

/* ----------------------------------------------------------------- what the runtime itself tells */

static struct told {
    long spawned, completed[COIR_PANICKED + 1], panicked;
    long blocks, bytes; /* allocated now */
} told;

static void on_spawned(void *unused, size_t jobs)
{
    (void)unused;
    storm_add(&told.spawned, (long)jobs);
}

static void on_completed(void *unused, int outcome, int64_t ns)
{
    (void)unused;
    CHECK(ns >= -1);
    storm_add(&told.completed[outcome], 1);
}

static void on_panicked(void *unused, const coir_failure *f)
{
    (void)unused;
    CHECK(f->id && f->outcome == COIR_PANICKED);
    storm_add(&told.panicked, 1);
}

void *storm_alloc(size_t bytes, void *unused)
{
    void *memory = malloc(bytes);

    (void)unused;
    storm_add(&told.blocks, memory != NULL);
    storm_add(&told.bytes, memory ? (long)malloc_usable_size(memory) : 0);
    return memory;
}

void storm_free(void *memory, void *unused)
{
    (void)unused;
    if (!memory)
        return;
    storm_add(&told.blocks, -1);
    storm_add(&told.bytes, -(long)malloc_usable_size(memory));
    free(memory);
}

coir_metrics storm_metrics(void)
{
    return (coir_metrics){.size = sizeof(coir_metrics), .spawned = on_spawned,
                          .completed = on_completed, .panicked = on_panicked};
}

long storm_raised(void)
{
    long sum = 0;

    for (int k = 0; k < STORM_KIND_COUNT; k++)
        sum += __atomic_load_n(&storm_books.raised[k], __ATOMIC_RELAXED);
    return sum;
}

/* -------------------------------------------------------------------------------------- at rest */

static long resident_kib(void)
{
    FILE *f = fopen("/proc/self/statm", "re");
    long pages = 0;

    CHECK(f && fscanf(f, "%*d %ld", &pages) == 1);
    if (f)
        fclose(f);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static uint64_t ended(const coir_stats *s)
{
    uint64_t sum = 0;

    for (int o = 0; o <= COIR_PANICKED; o++)
        sum += s->ended[o];
    return sum;
}

/* Counters settle before the fiber that ran the last job has gone back. */
struct storm_rest storm_at_rest(coir_runtime *rt)
{
    struct storm_rest r;

    do {
        sched_yield(); /* the harness's alarm bounds it */
        CHECK_EQ(coir_stats_read(rt, &r.stats), COIR_OK);
    } while (r.stats.parked || ended(&r.stats) < r.stats.spawned);
    r.resident_kib = resident_kib();
    r.blocks = __atomic_load_n(&told.blocks, __ATOMIC_RELAXED);
    r.bytes = __atomic_load_n(&told.bytes, __ATOMIC_RELAXED);
    return r;
}

static void check_nothing_is_left(const struct storm_rest *first, const struct storm_rest *last)
{
    CHECK_EQ(last->stats.parked, 0);
    CHECK(last->blocks <= first->blocks + BLOCKS);
    if (!STORM_MEASURED)
        return;
    CHECK_EQ(last->stats.stacks, first->stats.stacks);
    CHECK(last->resident_kib <= first->resident_kib + RESIDENT_KIB);
}

/* ------------------------------------------------------------------------------------- the books */

/* The runtime's figures, what it told the callbacks, and the model's. */
static void check_jobs(const coir_stats *s)
{
    const struct storm_books *b = &storm_books;

    CHECK_EQ(s->spawned, b->accepted);
    CHECK_EQ(ended(s), b->accepted);
    CHECK_EQ(told.spawned, b->accepted);
    for (int o = 0; o <= COIR_PANICKED; o++)
        CHECK_EQ(told.completed[o], s->ended[o]);
    CHECK_EQ(s->ended[COIR_DONE], b->ran[COIR_DONE]);
    CHECK_EQ(s->ended[COIR_FAILED], b->ran[COIR_FAILED]);
    CHECK_EQ(s->ended[COIR_EXPIRED], b->expired);
    CHECK_EQ(s->ended[COIR_PANICKED], b->ran[COIR_PANICKED]);
    CHECK_EQ(s->unobserved, b->unobserved);
    CHECK_EQ(b->due, b->done);
    CHECK_EQ(b->sent, b->received);
}

static void check_panics(const coir_stats *s)
{
    const struct storm_books *b = &storm_books;
    long raised = storm_raised() + b->finalizers;
    uint64_t at = 0;

    for (int l = 0; l < COIR_LOCATIONS; l++)
        at += s->panics_at[l];
    CHECK_EQ(at, raised);
    CHECK_EQ(s->panics, raised);
    CHECK_EQ(told.panicked, raised);
    CHECK_EQ(s->panics_at[COIR_AT_OFFLOAD], b->raised[STORM_offloads]);
    CHECK_EQ(s->swallowed, b->swallowed);
    CHECK_EQ(s->failures_of[COIR_KIND_FOREIGN], b->raised[STORM_throws]);
    CHECK_EQ(s->failures_of[COIR_KIND_STACK_OVERFLOW],
             b->raised[STORM_overflows] + b->raised[STORM_overflow_owner]);
    CHECK_EQ(s->failures_of[COIR_KIND_FAULT], b->raised[STORM_wild] + b->raised[STORM_aborts]);
    CHECK_EQ(s->failures_of[COIR_KIND_OWED], 0);
    CHECK_EQ(s->failures_of[COIR_KIND_HELD], 0);
    CHECK_EQ(s->failures_of[COIR_KIND_FAIL], b->ran[COIR_FAILED]);
    CHECK_EQ(s->contained, s->failures_of[COIR_KIND_STACK_OVERFLOW] + s->failures_of[COIR_KIND_FAULT]);
    CHECK_EQ(s->tainted, s->failures_of[COIR_KIND_FAULT]);
    CHECK_EQ(s->records, (uint64_t)raised + s->failures_of[COIR_KIND_FAIL] +
                              s->failures_of[COIR_KIND_LEAK]);
    CHECK_EQ(s->records_lost, 0);
}

/* However many there were, only the newest are kept. */
static void check_records(coir_runtime *rt)
{
    uint64_t cursor = 0, last = 0;
    coir_failure f;
    long n = 0;

    for (; coir_failure_next(rt, &cursor, &f) == COIR_OK; n++) {
        CHECK(f.id && f.id != last);
        last = f.id;
    }
    CHECK_EQ(n, COIR_RECORDS);
}

static void check_domain(coir_domain *top)
{
    coir_domain_stats s;
    uint64_t sum = 0;

    CHECK_EQ(coir_domain_stats_read(top, &s), COIR_OK);
    for (int o = 0; o <= COIR_PANICKED; o++)
        sum += s.ended[o];
    CHECK_EQ(s.in_flight, 0);
    CHECK_EQ(s.admitted, sum);
    CHECK_EQ(s.ended[COIR_EXPIRED], storm_books.expired);
    CHECK_EQ(s.finalizer_panics, storm_books.finalizers);
    CHECK_EQ(s.obligations, storm_books.taken);
    CHECK_EQ(s.obligations_held, 0);
    CHECK_EQ(s.obligations_leaked, storm_books.leaked);
    CHECK(s.skipped && s.trips && s.refused && s.ended[COIR_EXPIRED]); /* it had it all */
}

static void check_it_was_a_storm(const coir_stats *s)
{
    for (int k = 0; k < STORM_KIND_COUNT; k++)
        CHECK(storm_books.raised[k] > 0 || k == STORM_fails);
    CHECK(s->steals > 0 && s->ended[COIR_CANCELED] > 0 && storm_books.moved > 0);
}

/* --------------------------------------------------------------------------------- what is printed */

static void print_kinds(uint64_t seed)
{
    for (int k = 0; k < STORM_KIND_COUNT; k++)
        if (storm_books.raised[k])
            printf("%10ld panics %s\n", storm_books.raised[k], storm_kinds[k].name);
    printf("%10ld panics in domain finalizers\n", storm_books.finalizers);
    printf("%10ld panics, all contained, on %d workers; seed %llu\n",
           storm_raised() + storm_books.finalizers, STORM_WORKERS, (unsigned long long)seed);
}

static void print_rest(const struct storm_rest *first, const struct storm_rest *last, int64_t ns)
{
    const coir_stats *s = &last->stats;

    printf("%10llu jobs: %llu done, %llu failed, %llu expired, %llu canceled, %llu panicked\n",
           (unsigned long long)s->spawned, (unsigned long long)s->ended[COIR_DONE],
           (unsigned long long)s->ended[COIR_FAILED], (unsigned long long)s->ended[COIR_EXPIRED],
           (unsigned long long)s->ended[COIR_CANCELED], (unsigned long long)s->ended[COIR_PANICKED]);
    printf("%10llu steals, %ld jobs panicked on another worker than they began on, %ld cancels\n",
           (unsigned long long)s->steals, storm_books.moved, storm_books.canceled);
    printf("%10ld KiB resident at 30 %%, %ld KiB at 100 %%\n", first->resident_kib, last->resident_kib);
    printf("%10llu stacks at 30 %%, %llu at 100 %%; %llu fibers parked\n",
           (unsigned long long)first->stats.stacks, (unsigned long long)s->stacks,
           (unsigned long long)s->parked);
    printf("%10ld bytes in %ld blocks at 30 %%, %ld in %ld at 100 %%\n", first->bytes, first->blocks,
           last->bytes, last->blocks);
    printf("%10.0f panics a second\n", (double)storm_raised() / ((double)ns / 1e9));
}

void storm_tell(const struct storm_rest *now, int64_t ns)
{
    const coir_stats *s = &now->stats;

    printf("%5lld s: %llu jobs = %llu done + %llu failed + %llu expired + %llu canceled, skipped or dropped + "
           "%llu panicked; %llu stacks, %ld blocks, %ld KiB\n", (long long)(ns / COIR_SEC),
           (unsigned long long)s->spawned, (unsigned long long)s->ended[COIR_DONE],
           (unsigned long long)s->ended[COIR_FAILED], (unsigned long long)s->ended[COIR_EXPIRED],
           (unsigned long long)s->ended[COIR_CANCELED], (unsigned long long)s->ended[COIR_PANICKED],
           (unsigned long long)s->stacks, now->blocks, now->resident_kib);
    fflush(stdout);
}

void storm_check(coir_runtime *rt, coir_domain *top, const struct storm_rest *first,
                 const struct storm_rest *last)
{
    check_nothing_is_left(first, last);
    check_jobs(&last->stats);
    check_panics(&last->stats);
    check_records(rt);
    check_domain(top);
    check_it_was_a_storm(&last->stats);
}

void storm_check_closed(void)
{
    CHECK_EQ(told.blocks, 0);
    CHECK_EQ(told.bytes, 0);
}

void storm_print(const struct storm_rest *first, const struct storm_rest *last, int64_t ns, uint64_t seed)
{
    print_kinds(seed);
    print_rest(first, last, ns);
}
