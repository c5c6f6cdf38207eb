/* SPDX-License-Identifier: MIT */
/*
 * memory_perf.c - claims: a parked, guarded fiber costs at most 4,400 bytes, resident and page
 * tables, with 100,000 of them; a job that blocks gets its stack from the cache, parks, is woken
 * and ends within 150 ns. Rulers: for that lease, a stack taken, made ready, switched to and from twice and given
 * back; for a fiber on memory that was never touched, a raw guard and first touch of as many stacks; for open and
 * close, two bare threads.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "kit.h"
#include "worker.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

#define PARKED 100000
#define FRESH 10000
#define LEASES 32    /* fibers leased at once */
#define SPAWN_MAX 256 /* jobs queued at once: queues must not grow while memory is measured */

/* ---------------------------------------------------------------------------- fibers that park */

/* One worker: plain fields. */
struct crowd {
    struct bench *b;
    coir_counter gate; /* held until all may go */
    coir_counter all;
    uint64_t arrived;
};

static void blocker(void *arg)
{
    struct crowd *c = arg;

    c->arrived++;
    if (coir_wait(&c->gate) != COIR_DONE)
        c->b->error = "a wait was interrupted";
}

/* Until n fibers are parked at the gate. */
static void gather(struct crowd *c, uint64_t n)
{
    uint64_t spawned = 0;

    c->arrived = 0;
    coir_counter_init(&c->all);
    coir_counter_init(&c->gate);
    coir_counter_add(&c->gate, 1);
    while (spawned < n) {
        uint64_t more = n - spawned < SPAWN_MAX ? n - spawned : SPAWN_MAX;

        if (coir_spawn_many(&c->all, blocker, c, 0, more) != COIR_OK) {
            c->b->error = "a spawn was refused";
            return;
        }
        spawned += more;
        while (c->arrived < spawned)
            coir_yield();
    }
}

static void scatter(struct crowd *c)
{
    coir_counter_done(&c->gate, COIR_DONE);
    if (coir_wait(&c->all) != COIR_DONE)
        c->b->error = "a job failed";
}

/* --------------------------------------------------------------------------------------- bytes */

/* Resident memory and page tables, bytes; 0: not to be had. */
static double memory_in_use(void)
{
    FILE *f = fopen("/proc/self/status", "re");
    unsigned long rss = 0, pte = 0;
    char line[256];

    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "VmRSS: %lu kB", &rss) != 1)
            sscanf(line, "VmPTE: %lu kB", &pte);
    }
    if (f)
        fclose(f);
    return (double)(rss + pte) * 1024;
}

static void park_and_weigh(void *arg)
{
    struct crowd *c = arg;
    double before = memory_in_use();
    int64_t start = coir_now();

    gather(c, c->b->n);
    c->b->ns = coir_now() - start;
    c->b->figure = (memory_in_use() - before) / (double)c->b->n;
    if (before <= 0)
        c->b->error = "/proc/self/status cannot be read";
    scatter(c);
}

static void weigh(struct bench *b, const void *arg)
{
    struct crowd c = {.b = b};
    coir_options options = kit_options(1);

    (void)arg;
    kit_run(b, &options, park_and_weigh, &c);
}

/* ---------------------------------------------------------------------------------------- cold */

static void raw_guards(struct bench *b, const void *arg)
{
    const size_t guard = 65536, stride = guard + 65536, bytes = b->n * stride;
    char *arena = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int64_t start = coir_now();

    (void)arg;
    if (arena == MAP_FAILED) {
        b->error = "no address space";
        return;
    }
    madvise(arena, bytes, MADV_NOHUGEPAGE);
    for (char *s = arena; s < arena + bytes; s += stride) {
        if (madvise(s, guard, MADV_GUARD_INSTALL) != 0 && mprotect(s, guard, PROT_NONE) != 0)
            b->error = "a guard was refused";
        s[stride - 1] = 1;
    }
    b->ns = coir_now() - start;
    munmap(arena, bytes);
}

/* -------------------------------------------------------------------------------------- leases */

static void lease_rounds(void *arg)
{
    struct crowd *c = arg;
    uint64_t rounds = c->b->n / LEASES + 1;
    int64_t start;

    gather(c, LEASES); /* warms the cache */
    scatter(c);
    start = coir_now();
    for (uint64_t i = 0; i < rounds; i++) {
        gather(c, LEASES);
        scatter(c);
    }
    c->b->ns = coir_now() - start;
    c->b->done = rounds * LEASES;
}

static void lease(struct bench *b, const void *arg)
{
    struct crowd c = {.b = b};
    coir_options options = kit_options(1);

    (void)arg;
    kit_run(b, &options, lease_rounds, &c);
}

/*
 * The floor: stacks of the cache, made ready, and registers. Each lease is there and away, and there again and away.
 * All stacks switch at one place, as those of a runtime do: returns that come from several are mispredicted.
 */
struct bare {
    void *(*change)(void **save, void *load, void *pass);
    struct worker *w;
    struct fiber home, *fiber[LEASES];
    unsigned step; /* of 2 * LEASES in a round: the first half begin leases, the second end them */
};

static void bare_entry(void *passed, void *self);

/* Where the round goes on; NULL: it is over, or there is no stack. */
static inline struct fiber *next_lease(struct bare *bare)
{
    unsigned step = bare->step++;
    struct stacks *stacks = &bare->w->runtime->stacks;
    struct stack *s;

    if (step > LEASES)
        stack_give(stacks, &bare->w->stacks, &bare->fiber[step - LEASES - 1]->stack);
    if (step >= LEASES)
        return step < 2 * LEASES ? bare->fiber[step - LEASES] : NULL;
    s = stack_take(stacks, &bare->w->stacks);
    if (!s)
        return NULL;
    bare->fiber[step] = CONTAINER_OF(s, struct fiber, stack);
    fiber_prepare(bare->fiber[step], NULL, bare_entry);
    return bare->fiber[step];
}

static NOINLINE void bare_ride(struct bare *bare, struct fiber *self)
{
    struct fiber *to;

    while ((to = self == &bare->home ? next_lease(bare) : &bare->home) != NULL)
        bare = bare->change(&self->sp, to->sp, bare);
}

static void bare_entry(void *passed, void *self)
{
    bare_ride(passed, self);
}

static void bare_round(struct bench *b, struct bare *bare)
{
    bare->step = 0;
    bare_ride(bare, &bare->home);
    if (bare->step <= 2 * LEASES)
        b->error = "no stack";
}

static void bare_rounds(void *arg)
{
    struct bench *b = arg;
    struct bare bare = {.change = worker_here()->carrier.change, .w = worker_here()};
    uint64_t rounds = b->n / LEASES + 1;
    int64_t start;

    bare_round(b, &bare); /* warms the cache */
    start = coir_now();
    for (uint64_t i = 0; i < rounds && !b->error; i++)
        bare_round(b, &bare);
    b->ns = coir_now() - start;
    b->done = rounds * LEASES;
}

static void bare_lease(struct bench *b, const void *arg)
{
    coir_options options = kit_options(1);

    (void)arg;
    kit_run(b, &options, bare_rounds, b);
}

/* ------------------------------------------------------------------------------ open and close */

static void open_close(struct bench *b, const void *arg)
{
    coir_options options = kit_options(2);
    int64_t start = coir_now();

    (void)arg;
    for (uint64_t i = 0; i < b->n && !b->error; i++) {
        coir_runtime *runtime;
        int status = coir_open(&options, &runtime);

        if (status == COIR_OK)
            status = coir_close(runtime, -1, NULL);
        if (status != COIR_OK)
            b->error = coir_status_name(status);
    }
    b->ns = coir_now() - start;
}

static void *end_at_once(void *arg)
{
    return arg;
}

/* What no runtime of two threads can be below. */
static void bare_threads(struct bench *b, const void *arg)
{
    int64_t start = coir_now();

    (void)arg;
    for (uint64_t i = 0; i < b->n && !b->error; i++) {
        pthread_t thread[2];
        int made = 0;

        while (made < 2 && pthread_create(&thread[made], NULL, end_at_once, NULL) == 0)
            made++;
        if (made < 2)
            b->error = "a thread was refused";
        while (made > 0)
            pthread_join(thread[--made], NULL);
    }
    b->ns = coir_now() - start;
}

static const struct bench_row rows[] = {
    {"memory/parked", "parked fiber, 100,000 of them", weigh, NULL, PARKED, BENCH_BYTES, NULL,
     BENCH_AT_MOST, 4400},
    {"memory/cold", "fiber on new memory: spawn, park", weigh, NULL, FRESH, BENCH_NS,
     "memory/touch", BENCH_NO_GOAL, 0},
    {"memory/touch", "ruler: raw guard and first touch", raw_guards, NULL, FRESH, BENCH_NS, NULL,
     BENCH_NO_GOAL, 0},
    {"memory/lease", "fiber from the cache: spawn, park, wake, end", lease, NULL, 0, BENCH_NS,
     "memory/bare", BENCH_AT_MOST, 150},
    {"memory/bare", "ruler: take, four switches, give", bare_lease, NULL, 0, BENCH_NS, NULL,
     BENCH_NO_GOAL, 0},
    {"memory/open", "open and close of a runtime, 2 workers", open_close, NULL, 0, BENCH_NS,
     "memory/threads", BENCH_NO_GOAL, 0},
    {"memory/threads", "ruler: two bare threads, started and joined", bare_threads, NULL, 0, BENCH_NS,
     NULL, BENCH_NO_GOAL, 0},
};

BENCH_SUITE(memory, rows);
