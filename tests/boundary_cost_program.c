/* SPDX-License-Identifier: MIT */
/*
 * boundary_cost_program.c - does one thing N times, for tests/boundary_cost_test.py, which counts
 * instructions: two runs that differ in N alone differ by that thing's.
 *
 * usage: boundary_cost_program WHAT N [FRAMES | abort]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boundary.h"
#include "boundary_cost.h"

#define BATCH 1000 /* jobs of a counter; all have room in a deque */

/* --------------------------------------------------------------------------- calls of all kinds */

static NOINLINE void empty(void *arg)
{
    __asm__ volatile("" : : "r"(arg));
}

typedef void *call_fn(coir_fn *fn, void *arg);

/* What a compiler makes of a call from a function that must come back: the boundary without its tables. */
static void *plain_call(coir_fn *fn, void *arg)
{
    fn(arg);
    return NULL;
}

static void *try_call(coir_fn *fn, void *arg)
{
    coir_require(coir_try(fn, arg, NULL) == COIR_DONE, "an empty function failed");
    return NULL;
}

static void repeat_directly(coir_fn *volatile fn, long n)
{
    for (long i = 0; i < n; i++)
        fn(NULL);
}

static void repeat(call_fn *volatile through, long n)
{
    for (long i = 0; i < n; i++)
        coir_require(!through(empty, NULL), "an empty function panicked");
}

static void pass_checkpoints(long n)
{
    for (long i = 0; i < n; i++)
        coir_require(coir_checkpoint() == COIR_OK, "nobody asked");
}

/* ---------------------------------------------------------------------------------------- jobs */

/* What job_run does apart from the boundary: it looks whether the job is still wanted, calls, books. */
static inline __attribute__((always_inline)) void call_job(struct fiber *self, const struct work *item)
{
    struct worker *w = worker_of(self);
    struct counter *c = item->owed;

    coir_require(!item->scope && !runtime_flag(&w->runtime->canceling) && !counter_canceled(c),
                 "the job is not wanted");
    item->fn(item->arg);
    tally(&worker_of(self)->ended[COIR_DONE], 1);
}

/* In the place of job_run. */
static void run_without_boundary(struct fiber *self, const struct work *first)
{
    struct work item = *first;
    uint64_t done = 0;

    do {
        call_job(self, &item);
        done++;
    } while (!worker_others_wait(worker_of(self)) &&
             deque_pop_like(&worker_of(self)->deque, &item));
    counter_settle(item.owed, done);
}

/* The loop runs them: a wait with a deadline runs none itself. */
static void spawn_and_join(long n)
{
    for (long i = 0; i < n; i += BATCH) {
        coir_counter c = COIR_COUNTER_INIT;

        for (int k = 0; k < BATCH; k++)
            coir_require(coir_spawn(&c, empty, NULL) == COIR_OK, "a spawn was refused");
        coir_require(coir_wait_until(&c, coir_now() + 1000 * COIR_SEC) == COIR_DONE, "a job failed");
    }
}

/* Who waits runs them. */
static void spawn_and_help(long n)
{
    for (long i = 0; i < n; i += BATCH) {
        coir_counter c = COIR_COUNTER_INIT;

        for (int k = 0; k < BATCH; k++)
            coir_require(coir_spawn(&c, empty, NULL) == COIR_OK, "a spawn was refused");
        coir_require(coir_wait(&c) == COIR_DONE, "a job failed");
    }
}

static void jobs(long n, bool bare)
{
    struct coir_runtime *rt = worker_self()->runtime;
    void (*run)(struct fiber *self, const struct work *item) = rt->run;

    if (bare)
        rt->run = run_without_boundary;
    spawn_and_join(n);
    rt->run = run;
}

/* -------------------------------------------------------------------------------------- panics */

static NOINLINE void panic_here(void)
{
    coir_panic("the bottom is reached");
}

struct descent {
    long frames;
    void (*bottom)(void);
};

/* The empty asm keeps the call from becoming a jump. */
static NOINLINE void go_down(long frames, void (*bottom)(void))
{
    if (frames > 1)
        go_down(frames - 1, bottom);
    else
        bottom();
    __asm__ volatile("");
}

static void descend(void *arg)
{
    const struct descent *d = arg;

    go_down(d->frames, d->bottom);
}

static void fall(long n, struct descent d)
{
    for (long i = 0; i < n; i++)
        if (d.bottom == panic_here)
            coir_require(coir_try(descend, &d, NULL) == COIR_PANICKED, "not contained");
        else
            cost_catch(descend, &d);
}

/* ---------------------------------------------------------------------------------------- main */

struct order {
    const char *what;
    long n, frames;
};

static void obey(void *arg)
{
    const struct order *o = arg;

    if (!strcmp(o->what, "direct"))
        repeat_directly(empty, o->n);
    else if (!strcmp(o->what, "call"))
        repeat(plain_call, o->n);
    else if (!strcmp(o->what, "boundary"))
        repeat(arch_boundary, o->n);
    else if (!strcmp(o->what, "try"))
        repeat(try_call, o->n);
    else if (!strcmp(o->what, "checkpoint"))
        pass_checkpoints(o->n);
    else if (!strcmp(o->what, "job"))
        jobs(o->n, false);
    else if (!strcmp(o->what, "bare-job"))
        jobs(o->n, true);
    else if (!strcmp(o->what, "helped-job"))
        spawn_and_help(o->n);
    else if (!strcmp(o->what, "panic") || !strcmp(o->what, "traced"))
        fall(o->n, (struct descent){o->frames, panic_here});
    else if (!strcmp(o->what, "throw"))
        fall(o->n, (struct descent){o->frames, cost_throw});
    else
        coir_panic("what is \"%s\"?", o->what);
}

/* quiet: a run that passes from one second to the next would be allowed ten lines more, which it would count. */
int main(int argc, char **argv)
{
    coir_options options = {.size = sizeof options, .workers = 1, .quiet = 1, .stacks_max = 64, .records = 64};
    struct order o = {argc > 1 ? argv[1] : "", argc > 2 ? atol(argv[2]) : 0, argc > 3 ? atol(argv[3]) : 1};
    int outcome;

    options.backtrace = !strcmp(o.what, "traced");
    if (argc > 3 && !strcmp(argv[3], "abort"))
        options.panic = COIR_PANIC_ABORT;
    outcome = coir_run(&options, obey, &o);

    if (outcome != COIR_DONE)
        fprintf(stderr, "%s: %s\n", argv[0], coir_status_name(outcome));
    return outcome != COIR_DONE;
}
