/* SPDX-License-Identifier: MIT */
/*
 * gdb_program.c - fibers in every situation that tests/gdb_test.py looks at: parked in a wait and in
 * a sleep at the end of a known chain of calls, and running. Stops in the debugger at breakpoint_here.
 *
 * usage: gdb_program [unguarded]
 *   unguarded   the guards of the stacks are gone by then: gdb's generate-core-file stops at them
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "coir.h"

#define NOINLINE __attribute__((noinline))
#define STAY() __asm__ volatile("" : : : "memory") /* after a call: it is no tail call */

enum { SLEEPERS = 3 };

static coir_counter sleepers = COIR_COUNTER_INIT;
static coir_counter others = COIR_COUNTER_INIT;

void breakpoint_here(int depth);

NOINLINE void breakpoint_here(int depth)
{
    (void)depth;
    STAY();
}

/* ------------------------------------------------------------------------- stacks of our own */

#ifndef MADV_GUARD_REMOVE
#define MADV_GUARD_REMOVE 103
#endif
#define PAGE ((size_t)4096)

static struct {
    char *start;
    size_t bytes;
} stacks; /* the largest block that the runtime was given */

static void *allocate(size_t bytes, void *unused)
{
    char *block = aligned_alloc(PAGE, (bytes + PAGE - 1) / PAGE * PAGE);

    (void)unused;
    if (block && bytes > stacks.bytes) {
        stacks.start = block;
        stacks.bytes = bytes;
    }
    return block;
}

static void release(void *block, void *unused)
{
    (void)unused;
    free(block);
}

/* Kernels that do not know the advice have guards of another kind, which gdb can cope with. */
static void remove_guards(void)
{
    if (stacks.start)
        (void)madvise(stacks.start, stacks.bytes / PAGE * PAGE, MADV_GUARD_REMOVE);
}

/* ---------------------------------------------------------------------------------- the jobs */

static NOINLINE void sleep_inner(int64_t deadline)
{
    if (coir_sleep_until(deadline) != COIR_ECANCELED)
        coir_panic("nobody canceled the sleep");
    STAY();
}

static NOINLINE void sleep_job(void *unused)
{
    (void)unused;
    sleep_inner(COIR_NEVER);
    STAY();
}

static NOINLINE void wait_inner(coir_counter *c)
{
    if (coir_wait(c) > COIR_CANCELED)
        coir_panic("a sleeper failed");
    STAY();
}

static NOINLINE void wait_job(void *unused)
{
    (void)unused;
    (void)coir_job_name("the waiter");
    wait_inner(&sleepers);
    STAY();
}

static NOINLINE void run_inner(int depth)
{
    if (depth > 0)
        run_inner(depth - 1);
    else
        breakpoint_here(depth);
    STAY();
}

static void until_parked(coir_runtime *runtime, uint64_t fibers)
{
    coir_stats stats;

    do {
        if (coir_sleep_until(coir_now() + COIR_MS) != COIR_OK ||
            coir_stats_read(runtime, &stats) != COIR_OK)
            coir_panic("nothing to look at");
    } while (stats.parked < fibers);
}

/* Runs when the others are parked, and has been parked itself, so its stack was switched to. A waiter
 * that came before the sleepers have begun would run one of them in place, and be one fiber with it. */
static NOINLINE void run_job(void *waiters)
{
    coir_runtime *runtime = coir_current();

    until_parked(runtime, SLEEPERS);
    if (coir_spawn(waiters, wait_job, NULL) != COIR_OK)
        coir_panic("no waiter");
    until_parked(runtime, SLEEPERS + 1);
    remove_guards();
    run_inner(2);
    if (coir_counter_cancel(&sleepers) != COIR_OK)
        coir_panic("the sleepers cannot be canceled");
    STAY();
}

/* -------------------------------------------------------------------------------------- main */

static void check(int status)
{
    if (status == COIR_OK)
        return;
    fprintf(stderr, "gdb_program: %s\n", coir_status_text(status));
    exit(1);
}

int main(int argc, char **argv)
{
    coir_options options = {.size = sizeof options, .workers = 2, .stacks_max = 1000};
    coir_runtime *runtime;

    if (argc > 1 && strcmp(argv[1], "unguarded") == 0) {
        options.alloc = allocate;
        options.free = release;
    }
    check(coir_open(&options, &runtime));
    for (int i = 0; i < SLEEPERS; i++)
        check(coir_submit(runtime, &sleepers, sleep_job, NULL));
    check(coir_submit(runtime, &others, run_job, &others));
    check(coir_wait(&others));
    check(coir_close(runtime, -1, NULL));
    return 0;
}
