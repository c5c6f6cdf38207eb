/* SPDX-License-Identifier: MIT */
/*
 * perf_walk_program.c - burns processor time in a named handler, on fibers that have been parked and
 * resumed, for tests/perf_walk_test.py.
 *
 * usage: perf_walk_program [SECONDS]
 */
#include <stdio.h>
#include <stdlib.h>

#include "coir.h"

#define NOINLINE __attribute__((noinline))
#define STAY() __asm__ volatile("" : : : "memory") /* after a call: it is no tail call */

enum { HANDLERS = 4 };

static int64_t until; /* coir_now() when the handlers end */

/* volatile: gcc gives a leaf without memory of its own no frame, and its caller would be missing. */
static NOINLINE void burn(void)
{
    for (volatile int i = 0; i < 5000; i++)
        ;
}

static NOINLINE void handler_inner(void)
{
    burn();
    STAY();
}

/* Parks before each round, so that it runs on a stack that was switched to, on either worker. */
static NOINLINE void handler(void *unused)
{
    (void)unused;
    while (coir_now() < until) {
        if (coir_sleep_until(coir_now() + 100 * COIR_US) != COIR_OK)
            coir_panic("the sleep was interrupted");
        for (int i = 0; i < 20; i++)
            handler_inner();
    }
}

static void serve(void *unused)
{
    coir_counter handlers = COIR_COUNTER_INIT;

    (void)unused;
    coir_require(coir_spawn_many(&handlers, handler, NULL, 0, HANDLERS) == COIR_OK, "no handlers");
    coir_require(coir_wait(&handlers) == COIR_DONE, "a handler failed");
}

int main(int argc, char **argv)
{
    coir_options options = {.size = sizeof options, .workers = 2};
    int outcome;

    until = coir_now() + (argc > 1 ? atoi(argv[1]) : 1) * COIR_SEC;
    outcome = coir_run(&options, serve, NULL);
    if (outcome != COIR_DONE)
        fprintf(stderr, "perf_walk_program: %s\n", coir_status_text(outcome));
    return outcome != COIR_DONE;
}
