/* SPDX-License-Identifier: MIT */
/*
 * containable.h - code that may be contained, and the end of any stack.
 *
 * It lies in a section of its own, so that its bounds are known to the linker and everything else,
 * a sanitizer's runtime in the same program too, stays foreign.
 */
#ifndef COIR_CONTAINABLE_H
#define COIR_CONTAINABLE_H

#include "base.h"
#include "run.h"

/* Instrumented code tells TSan of each entry and each return, and these functions may never return.
 * (no_sanitize("thread") leaves that in.) */
#if defined(COIR_TSAN)
#define CONTAINABLE __attribute__((noinline, section("containable"), disable_sanitizer_instrumentation))
#else
#define CONTAINABLE __attribute__((noinline, section("containable")))
#endif

extern const char __start_containable[], __stop_containable[]; /* the linker's */

/* Sanitizers look for these functions, and then leave the signals to us and what was before. */
#define NO_HANDLERS "handle_segv=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0:handle_abort=0:" \
    "use_sigaltstack=0"

COIR_API const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return NO_HANDLERS;
}

COIR_API const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return NO_HANDLERS;
}

/* Calls itself until something stops it: each, if there is one, is called at every level. */
static CONTAINABLE long recurse(volatile signed char *above, coir_fn *each, void *arg)
{
    volatile signed char frame[512];

    frame[0] = *above;
    if (frame[0] < 0)
        return 0; /* never */
    if (each)
        each(arg);
    return recurse(frame, each, arg) + frame[0]; /* the sum keeps it from being a tail call */
}

/* A job that overflows its stack. */
static CONTAINABLE __attribute__((unused)) void overflow(void *unused)
{
    volatile signed char start = 0;

    (void)unused;
    recurse(&start, NULL, NULL);
}

static inline void register_containable(void)
{
    CHECK_EQ(coir_contain_text(__start_containable, __stop_containable), COIR_OK);
}

static inline coir_options containing(unsigned workers)
{
    coir_options o = run_options(workers);

    o.faults = COIR_FAULTS_CONTAIN;
    return o;
}

#endif
