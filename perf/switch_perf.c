/* SPDX-License-Identifier: MIT */
/*
 * switch_perf.c - claim: a switch through the runtime's one switch site (fiber_switch) costs at
 * most 3.0 ns between two fibers that keep their floating-point control words and 1.5 ns between
 * two that share them; 4.5 and 3.0 ns among 10,000; 40 ns among 100,000. Ruler: an empty call through a pointer.
 *
 * The fibers stand in a circle and each switches to the next, the thread's own stack among them.
 * Who is next is known to the carrier, as it is to a worker: were it read from the stack that is
 * switched to, each switch would wait for the cache misses of the one before. All run the same
 * loop, as fibers in coir_wait do, so that returns are predicted as they are there.
 * The rows named touch are what the memory of so many stacks costs whoever walks round it.
 *
 * The row named queue is what a yield cannot do without: who runs is put behind all others, who is first is taken, and
 * thieves might come any time. The circle is the queue; there is no runtime, no call and no look at anything else.
 *
 * The rows named arch_switch leave out what fiber_switch does beside the assembly: C++ exception
 * globals (this program has a C++ runtime), the carrier.
 */
#include <stdlib.h>
#include <string.h>

#include "fiber.h"
#include "kit.h"
#include "ring.h"

struct rider;
typedef void ride_fn(struct rider *r, uint64_t turns);

struct rider {
    _Alignas(COIR_CACHE_LINE) struct carrier carrier; /* first, as in a worker: a switch hands it on */
    struct fiber **at;      /* in [first, end): the fiber that runs */
    struct fiber **first, **end;
    ride_fn *ride;
    struct ring *queue;
    struct fiber *current;  /* of those who ride by the queue; all others are in it */
};

struct circle {
    size_t contexts;
    bool share_fp;
    ride_fn *ride;
};

/* ----------------------------------------------------------------- three ways round the circle */

static inline struct fiber *next(struct rider *r)
{
    if (++r->at == r->end)
        r->at = r->first;
    return *r->at;
}

/* As the scheduler does with its queue (find.c): of a long circle the next are fetched ahead. */
static inline void look_ahead(struct rider *r)
{
    if (r->end - r->at > FIBER_AHEAD_HEADER) {
        fiber_prefetch_header(r->at[FIBER_AHEAD_HEADER]);
        fiber_prefetch_stack(r->at[FIBER_AHEAD_STACK]);
    }
}

static NOINLINE void ride_runtime(struct rider *r, uint64_t turns)
{
    while (turns--) {
        struct fiber *self = *r->at;

        look_ahead(r);
        r = (void *)fiber_switch(&r->carrier, self, next(r));
    }
}

static NOINLINE void ride_arch(struct rider *r, uint64_t turns)
{
    while (turns--) {
        struct fiber *self = *r->at;

        r = r->carrier.change(&self->sp, next(r)->sp, r);
    }
}

/* Nobody touches the stack that was left any more. */
static inline void enqueue_left(struct rider *r)
{
    ring_push(r->queue, &r->carrier.left->stack.link);
}

static NOINLINE void ride_queue(struct rider *r, uint64_t turns)
{
    while (turns--) {
        struct fiber *self = r->current, *to = CONTAINER_OF(ring_take(r->queue), struct fiber, stack.link);

        r->current = to;
        r = (void *)fiber_switch(&r->carrier, self, to);
        enqueue_left(r);
    }
}

/* Switches nowhere: one word of each fiber's memory is read and written, all addresses known ahead. */
static NOINLINE void ride_touch(struct rider *r, uint64_t turns)
{
    while (turns--)
        for (struct fiber **f = r->first; f < r->end; f++)
            ++*(volatile int64_t *)&(*f)->waits_since;
}

static void entry(void *passed, void *arg)
{
    struct rider *r = passed;

    if (r->ride == ride_runtime)
        fiber_arrive(arg, passed);
    if (r->ride == ride_queue)
        enqueue_left(r);
    r->ride(r, UINT64_MAX);
    abort(); /* nobody rides that long */
}

/* ------------------------------------------------------------------------------- the measuring */

#define WARM_TURNS 32 /* a hypervisor takes so long to settle on 400 MB that are new to it */

static void fill_queue(struct rider *r)
{
    static struct ring queue;

    memset((void *)&queue, 0, sizeof queue);
    ring_init(&queue, true);
    r->queue = &queue;
    r->current = *r->first;
    for (struct fiber **f = r->first + 1; f < r->end; f++)
        ring_push(r->queue, &(*f)->stack.link);
}

/* The first of the circle is the thread's own stack. False: no stack. */
static bool gather(struct rider *r, struct stacks *stacks, struct fiber *home)
{
    struct stack_cache none = {{NULL, NULL, 0}};

    *r->first = home;
    for (struct fiber **f = r->first + 1; f < r->end; f++) {
        struct stack *s = stack_take(stacks, &none);

        if (!s)
            return false;
        *f = CONTAINER_OF(s, struct fiber, stack);
        fiber_prepare(*f, NULL, entry);
    }
    return true;
}

static void ride(struct bench *b, struct rider *r)
{
    uint64_t contexts = (uint64_t)(r->end - r->first), turns = b->n / contexts + 1;
    int64_t start;

    if (r->ride == ride_queue)
        fill_queue(r);
    r->ride(r, WARM_TURNS);
    start = coir_now();
    r->ride(r, turns);
    b->ns = coir_now() - start;
    b->done = turns * contexts;
}

static void go_round(struct bench *b, const void *arg)
{
    const struct circle *circle = arg;
    coir_options options = kit_options(1);
    struct fiber **fiber = calloc(circle->contexts, sizeof *fiber);
    struct rider r = {
        .at = fiber, .first = fiber, .end = fiber + circle->contexts, .ride = circle->ride};
    struct stacks stacks = {0};
    struct fiber home;
    struct host host;

    options.stack_bytes = 65536;
    options.stacks_max = circle->contexts;
    host_init(&host, &options);
    b->error = "no memory";
    if (!fiber || stacks_init(&stacks, &host, &options, sizeof(struct fiber)) != COIR_OK)
        goto free_fibers;
    fiber_adopt_thread(&home, &r.carrier, circle->share_fp);
    if (gather(&r, &stacks, &home)) {
        ride(b, &r);
        b->error = NULL;
    }
    stacks_fini(&stacks);
free_fibers:
    free(fiber);
}

/* ----------------------------------------------------------------------------------- the ruler */

static NOINLINE void nothing(void)
{
    __asm__ volatile("");
}

static void call(struct bench *b, const void *arg)
{
    void (*volatile pointer)(void) = nothing;
    int64_t start = coir_now();

    (void)arg;
    for (uint64_t i = 0; i < b->n; i++)
        pointer();
    b->ns = coir_now() - start;
}

#define CALL "switching/call"
#define CIRCLE(...) go_round, &(const struct circle){__VA_ARGS__}, 0, BENCH_NS, CALL
#define MANY(ride) \
    go_round, &(const struct circle){100000, false, ride}, 3000000, BENCH_NS, CALL

static const struct bench_row rows[] = {
    {"switching/2", "2 fibers, own control words", CIRCLE(2, false, ride_runtime),
     BENCH_AT_MOST, 3.0},
    {"switching/2/shared", "2 fibers, shared control words", CIRCLE(2, true, ride_runtime),
     BENCH_AT_MOST, 1.5},
    {"switching/1000", "1000 fibers, own control words", CIRCLE(1000, false, ride_runtime), BENCH_NO_GOAL, 0},
    {"switching/queue/1000", "floor of a yield: a queue of 1000 and the switch", CIRCLE(1000, false, ride_queue),
     BENCH_NO_GOAL, 0},
    {"switching/10000", "10,000 fibers, own control words", CIRCLE(10000, false, ride_runtime),
     BENCH_AT_MOST, 4.5},
    {"switching/10000/shared", "10,000 fibers, shared control words",
     CIRCLE(10000, true, ride_runtime), BENCH_AT_MOST, 3.0},
    {"switching/100000", "100,000 fibers, own control words", MANY(ride_runtime), BENCH_AT_MOST, 40},
    {"switching/arch/2", "arch_switch alone, 2 stacks", CIRCLE(2, false, ride_arch),
     BENCH_NO_GOAL, 0},
    {"switching/arch/2/shared", "arch_switch_shared alone, 2 stacks",
     CIRCLE(2, true, ride_arch), BENCH_NO_GOAL, 0},
    {"switching/arch/10000", "arch_switch alone, 10,000 stacks", CIRCLE(10000, false, ride_arch),
     BENCH_NO_GOAL, 0},
    {"switching/touch/10000", "floor: a word of each of 10,000 stacks",
     CIRCLE(10000, false, ride_touch), BENCH_NO_GOAL, 0},
    {"switching/touch/100000", "floor: a word of each of 100,000 stacks",
     MANY(ride_touch), BENCH_NO_GOAL, 0},
    {CALL, "ruler: empty call through a pointer", call, NULL, 0, BENCH_NS, NULL, BENCH_NO_GOAL, 0},
};

BENCH_SUITE(switching, rows);
