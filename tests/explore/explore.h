/* SPDX-License-Identifier: MIT */
/*
 * explore.h - how a scenario is written.
 *
 *     static void setup(void) { ... }          alone, before each execution; resets everything
 *     static void owner(void) { ... }          one of up to three threads
 *     static void check(void) { ... }          alone, when all threads have ended
 *
 *     EXPLORE_MAIN({.name = "what_holds", setup, {owner, thief}, check}, ...)
 *
 * A scenario is run again and again, once for each schedule, so it must do the same things given
 * the same schedule. Scenario and core are both instrumented: plain variables that two threads touch
 * without an order between them are a finding, and so is a touch of freed memory, a step that never
 * comes (deadlock, lost wake-up) and a failed MUST.
 *
 * Threads work on static objects. Atomic objects among them are set up by plain assignment, before
 * their first use in an execution, or by atomic stores.
 */
#ifndef EXPLORE_H
#define EXPLORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXPLORE_THREADS 3

struct scenario {
    const char *name;
    void (*setup)(void);
    void (*thread[EXPLORE_THREADS])(void);
    void (*check)(void);      /* or NULL */
    bool no_membarrier;       /* the kernel refuses it */
    bool figures;             /* base.h's tally is a step like any other */
    unsigned less;            /* it is large: so many preemptions fewer than the others get */
    const char *fails;        /* why it must fail: a known fault of core/, with which this goes */
};

/* What must hold whenever it is reached. */
#define MUST(condition) ((condition) ? (void)0 : explore_broken(__FILE__, __LINE__, #condition))
void explore_broken(const char *file, int line, const char *text) __attribute__((noreturn));

/* Which thread runs: 1 to 3, or 0 in setup and check. */
int explore_thread(void);

/* The memory has gone: who touches it from now on, or has touched it and nothing orders that
 * before this call, is found out. */
void explore_free(const volatile void *memory, size_t bytes);

/* The frames that the caller's calls have had are gone, as explore_free has it; done for each thread at
 * its end. */
void explore_leave_frames(void);

int explore_main(const struct scenario *scenarios, int count, int argc, char **argv);

#define EXPLORE_MAIN(...)                                                                      \
    int main(int argc, char **argv)                                                            \
    {                                                                                          \
        static const struct scenario scenarios[] = {__VA_ARGS__};                              \
        return explore_main(scenarios, sizeof scenarios / sizeof scenarios[0], argc, argv);    \
    }

#endif
