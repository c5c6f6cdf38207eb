/* SPDX-License-Identifier: MIT */
/*
 * contain_cxx_test.cc - contained overflows and C++: destructors do not run, exceptions in flight or
 * being handled stay with those they belong to.
 */
#include "child.h"

#include <exception>
#include <stdexcept>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNSANITIZED __attribute__((noinline, disable_sanitizer_instrumentation))
#endif
#endif
#ifndef UNSANITIZED
#define UNSANITIZED __attribute__((noinline))
#endif

/* What a skipped frame was handling is nobody's any more. */
#define NO_HANDLERS \
    "handle_segv=0:handle_sigbus=0:handle_abort=0:use_sigaltstack=0:detect_leaks=0"

extern "C" COIR_API const char *__asan_default_options() { return NO_HANDLERS; }
extern "C" COIR_API const char *__tsan_default_options() { return NO_HANDLERS; }

namespace {

UNSANITIZED long recurse(volatile signed char *above)
{
    volatile signed char frame[512];

    frame[0] = *above;
    if (frame[0] < 0)
        return 0;
    return recurse(frame) + frame[0];
}

UNSANITIZED void overflow(void *)
{
    volatile signed char start = 0;

    recurse(&start);
}

void run_contained(coir_fn *fn)
{
    coir_options o = run_options(1);

    o.faults = COIR_FAULTS_CONTAIN;
    CHECK_EQ(coir_contain_object(reinterpret_cast<const void *>(overflow)), COIR_OK);
    CHECK_EQ(coir_run(&o, fn, nullptr), COIR_DONE);
}

/* Runs it in place: there is one worker. */
int outcome_of(coir_fn *fn)
{
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_spawn(&c, fn, nullptr), COIR_OK);
    return coir_wait(&c);
}

int destroyed;

struct guard {
    ~guard() { destroyed++; }
};

void overflow_under_guard(void *)
{
    guard g;

    overflow(nullptr);
}

void overflow_in_catch(void *)
{
    try {
        throw std::runtime_error("first");
    } catch (const std::exception &) {
        overflow(nullptr);
    }
}

void throw_one(void *) { throw 1; }

void nothing_is_in_flight()
{
    CHECK_EQ(std::uncaught_exceptions(), 0);
    CHECK(std::current_exception() == nullptr);
}

void no_destructors(void *)
{
    destroyed = 0;
    CHECK_EQ(outcome_of(overflow_under_guard), COIR_PANICKED);
    CHECK_EQ(coir_try(overflow_under_guard, nullptr, nullptr), COIR_PANICKED);
    CHECK_EQ(destroyed, 0);
    nothing_is_in_flight();
}

void destructors_of_skipped_frames_do_not_run()
{
    run_contained(no_destructors);
}

void catch_and_overflow(void *)
{
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(outcome_of(overflow_in_catch), COIR_PANICKED);
        nothing_is_in_flight();
        CHECK_EQ(outcome_of(throw_one), COIR_PANICKED);
        nothing_is_in_flight();
    }
}

void an_exception_that_the_job_was_handling_is_forgotten()
{
    run_contained(catch_and_overflow);
}

void handle_and_wait(void *)
{
    for (int i = 0; i < 10; i++) {
        int mine = 0;

        try {
            try {
                throw 42 + i;
            } catch (int) {
                CHECK_EQ(outcome_of(overflow_in_catch), COIR_PANICKED);
                CHECK_EQ(coir_try(overflow_in_catch, nullptr, nullptr), COIR_PANICKED);
                throw;
            }
        } catch (int n) {
            mine = n;
        }
        CHECK_EQ(mine, 42 + i);
        nothing_is_in_flight();
    }
}

void an_exception_that_the_waiter_handles_stays_its_own()
{
    run_contained(handle_and_wait);
}

struct bottomless {
    ~bottomless() { overflow(nullptr); }
};

void throw_over_bottomless(void *)
{
    bottomless b;

    throw 1;
}

void catch_over_bottomless(void *)
{
    try {
        throw_over_bottomless(nullptr);
    } catch (int) {
    }
}

void unwind_into_overflow(void *)
{
    run_contained(throw_over_bottomless);
}

void unwind_into_overflow_before_the_catch(void *)
{
    run_contained(catch_over_bottomless);
}

void an_overflow_while_an_exception_unwinds_aborts()
{
    CHILD_DIES(unwind_into_overflow, nullptr, SIGABRT,
               "; not contained: it came while a panic unwinds");
    CHILD_DIES(unwind_into_overflow_before_the_catch, nullptr, SIGABRT,
               "; not contained: it came while a C++ exception unwinds");
}

}

CHECK_MAIN(CASE(destructors_of_skipped_frames_do_not_run),
           CASE(an_exception_that_the_job_was_handling_is_forgotten),
           CASE(an_exception_that_the_waiter_handles_stays_its_own),
           CASE(an_overflow_while_an_exception_unwinds_aborts))
