/* SPDX-License-Identifier: MIT */
/*
 * contain_test.c - options.faults = CONTAIN: a stack overflow ends its job, and nothing else.
 *
 * What may be contained lies in a section of its own, so that its bounds are known to the linker and
 * everything else, a sanitizer's runtime in the same program too, stays foreign.
 */
#include "base.h"
#include "run.h"

#define CONTAINABLE __attribute__((noinline, section("containable")))
extern const char __start_containable[], __stop_containable[];

/* Sanitizers look for these functions, and then leave the signals to us. */
#define NO_HANDLERS "handle_segv=0:handle_sigbus=0:handle_abort=0:use_sigaltstack=0"

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

/* Instrumented code tells TSan of each entry and each return, and these functions never return. */
#ifdef COIR_TSAN
#define SKIPPED CONTAINABLE __attribute__((no_sanitize("thread")))
#else
#define SKIPPED CONTAINABLE
#endif

static SKIPPED long recurse(volatile signed char *above)
{
    volatile signed char frame[512];

    frame[0] = *above;
    if (frame[0] < 0)
        return 0; /* never */
    return recurse(frame) + frame[0]; /* the sum keeps it from being a tail call */
}

static SKIPPED void overflow(void *unused)
{
    volatile signed char start = 0;

    (void)unused;
    recurse(&start);
}

static coir_options containing(unsigned workers)
{
    coir_options o = run_options(workers);

    o.faults = COIR_FAULTS_CONTAIN;
    return o;
}

static void run_contained(unsigned workers, coir_fn *fn, void *arg)
{
    coir_options o = containing(workers);

    CHECK_EQ(coir_contain_text(__start_containable, __stop_containable), COIR_OK);
    CHECK_EQ(coir_run(&o, fn, arg), COIR_DONE);
}

static void first(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_failure f;

    (void)unused;
    CHECK_EQ(coir_spawn(&c, overflow, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    CHECK_EQ(coir_counter_failure(&c, &f), COIR_OK);
    CHECK_EQ(f.kind, COIR_KIND_STACK_OVERFLOW);
    fprintf(stderr, "%s\n", f.message);
}

static void an_overflow_ends_its_job(void)
{
    run_contained(1, first, NULL);
    run_contained(2, first, NULL);
}

CHECK_MAIN(CASE(an_overflow_ends_its_job))
