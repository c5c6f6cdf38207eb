/* SPDX-License-Identifier: MIT */
/*
 * catch_cxx_test.cc - what a C++ catch of a panic raises instead of it. A catch that only passes it on, or
 * ends it, is in panic_cxx_test.cc; what ends the process, in deaths_cxx_test.cc.
 */
#include "frames.h"

#include <exception>
#include <stdexcept>

namespace {

void throw_standard()
{
    guard g;

    throw std::runtime_error("instead");
}

void raise_plain() { coir_panic("plain"); }

void raise_another() { coir_panic("another"); }

/* --------------------------------------------------------------------- it goes on to the boundary */

void throw_instead(void *)
{
    guard g;

    try {
        raise_plain();
    } catch (...) {
        guard h;

        throw std::runtime_error("instead");
    }
}

void raise_instead(void *)
{
    guard g;

    try {
        raise_plain();
    } catch (...) {
        guard h;

        raise_another();
    }
}

/* Both while another exception is handled beside it. */
void throw_out_of_inner_catch(void *)
{
    try {
        raise_plain();
    } catch (...) {
        try {
            throw_standard();
        } catch (const std::exception &) {
            guard h;

            throw;
        }
    }
}

void raise_out_of_inner_catch(void *)
{
    try {
        raise_plain();
    } catch (...) {
        try {
            throw_standard();
        } catch (const std::exception &) {
            try {
                throw poison{8};
            } catch (const poison &) {
                raise_another();
            }
        }
    }
}

struct instead {
    coir_fn *fn;
    int kind, destroyed;
    const char *message;
};

const instead raised_instead[] = {
    {throw_instead, COIR_KIND_FOREIGN, 2, "C++ exception of type std::runtime_error"},
    {raise_instead, COIR_KIND_PANIC, 2, "another"},
    {throw_out_of_inner_catch, COIR_KIND_FOREIGN, 2, "C++ exception of type std::runtime_error"},
    {raise_out_of_inner_catch, COIR_KIND_PANIC, 1, "another"},
};

/* The record is the new one's, the old one is counted, and what is left of C++'s books is as before. */
void raise_instead_often(void *)
{
    coir_stats before, after;
    coir_failure f;

    for (const instead &way : raised_instead)
        for (int i = 0; i < 3; i++) {
            destroyed = 0;
            CHECK_EQ(coir_stats_read(coir_current(), &before), COIR_OK);
            CHECK_EQ(coir_try(way.fn, nullptr, &f), COIR_PANICKED);
            CHECK_EQ(coir_stats_read(coir_current(), &after), COIR_OK);
            CHECK_EQ(f.kind, way.kind);
            CHECK_EQ(f.location, COIR_AT_JOB);
            CHECK_STR(f.message, way.message);
            CHECK_EQ(destroyed, way.destroyed);
            CHECK_EQ(after.panics, before.panics + 2);
            CHECK_EQ(after.swallowed, before.swallowed + 1);
            CHECK_EQ(std::uncaught_exceptions(), 0);
            CHECK(!std::current_exception());
        }
}

void what_a_catch_raises_instead_of_a_panic_takes_its_place()
{
    on_workers(raise_instead_often);
    for (const instead &way : raised_instead)
        CHECK_EQ(coir_try(way.fn, nullptr, nullptr), COIR_PANICKED);
}

void wait_for_what_is_raised_instead(void *)
{
    for (const instead &way : raised_instead) {
        coir_counter c = COIR_COUNTER_INIT;
        coir_failure f;

        CHECK_EQ(coir_spawn(&c, way.fn, nullptr), COIR_OK);
        CHECK_EQ(coir_wait(&c), COIR_PANICKED);
        CHECK_EQ(coir_counter_failure(&c, &f), COIR_OK);
        CHECK_STR(f.message, way.message);
    }
}

void who_waits_gets_the_record_of_what_came_instead() { on_workers(wait_for_what_is_raised_instead); }

/* -------------------------------------------------------------------------- it is caught, too */

void raise_and_swallow()
{
    try {
        raise_plain();
    } catch (...) {
    }
}

/* A panic in the catch of one, itself caught there, rethrown, or caught further up. */
void raise_and_swallow_in_catch(void *)
{
    try {
        raise_plain();
    } catch (...) {
        try {
            raise_another();
        } catch (...) {
            guard g;
        }
        raise_and_swallow();
    }
}

void raise_and_swallow_above(void *)
{
    try {
        try {
            raise_instead(nullptr);
        } catch (...) {
            throw;
        }
    } catch (...) {
        coir_fail(5, "instead");
    }
}

void end_in_catches(void *)
{
    uint64_t before = swallowed();
    coir_failure f;

    destroyed = 0;
    CHECK_EQ(coir_try(raise_and_swallow_in_catch, nullptr, nullptr), COIR_DONE);
    CHECK_EQ(destroyed, 1);
    CHECK_EQ(swallowed(), before + 3);
    CHECK_EQ(std::uncaught_exceptions(), 0);
    CHECK_EQ(coir_try(raise_and_swallow_above, nullptr, &f), COIR_FAILED);
    CHECK_EQ(f.code, 5);
    CHECK_EQ(swallowed(), before + 5);
}

void a_panic_in_the_catch_of_one_may_be_caught_as_any() { on_workers(end_in_catches); }

/* ------------------------------------------------------------ it is rethrown inside a boundary of its own */

void rethrow(void *) { throw; }

void rethrow_and_catch(void *)
{
    try {
        throw;
    } catch (...) {
    }
}

void rethrow_inside(void *again)
{
    uint64_t before = swallowed();
    coir_failure f;

    try {
        raise_plain();
    } catch (...) {
        CHECK_EQ(coir_try(rethrow, nullptr, &f), COIR_PANICKED);
        CHECK_EQ(f.kind, COIR_KIND_PANIC);
        CHECK_STR(f.message, "plain");
        CHECK_EQ(swallowed(), before);
        if (again)
            throw;
    }
}

void rethrow_and_catch_inside(void *)
{
    try {
        raise_plain();
    } catch (...) {
        CHECK_EQ(coir_try(rethrow_and_catch, nullptr, nullptr), COIR_DONE);
    }
}

/* Whichever boundary it comes to fails of it; it lives until its catch has ended. */
void rethrow_in_tries(void *)
{
    uint64_t before = swallowed();
    coir_failure f;
    int again = 1;

    CHECK_EQ(coir_try(rethrow_inside, &again, &f), COIR_PANICKED);
    CHECK_STR(f.message, "plain");
    CHECK_EQ(swallowed(), before);
    CHECK_EQ(coir_try(rethrow_inside, nullptr, nullptr), COIR_DONE);
    CHECK_EQ(swallowed(), before + 1);
    CHECK_EQ(coir_try(rethrow_and_catch_inside, nullptr, nullptr), COIR_DONE);
    CHECK_EQ(swallowed(), before + 2);
}

void one_that_is_rethrown_inside_another_boundary_ends_both() { on_workers(rethrow_in_tries); }

/* ------------------------------------------------------------------------- what is owed to its frames */

void touch(void *cell)
{
    int *mine = static_cast<int *>(cell);

    CHECK_EQ(coir_sleep_until(COIR_NEVER), COIR_ECANCELED);
    CHECK_EQ(*mine, 1);
    coir_yield();
    *mine = 2;
}

struct touched {
    int cell = 1;
    ~touched() { destroyed += cell == 2; }
};

void raise_instead_beside_child(void *)
{
    try {
        raise_plain();
    } catch (...) {
        touched t;
        coir_counter c = COIR_COUNTER_INIT;

        CHECK_EQ(coir_spawn(&c, touch, &t.cell), COIR_OK);
        coir_yield();
        raise_another();
    }
}

void wait_for_raiser_instead(void *)
{
    destroyed = 0;
    CHECK_EQ(coir_try(raise_instead_beside_child, nullptr, nullptr), COIR_PANICKED);
    CHECK_EQ(destroyed, 1);
}

void children_of_a_catch_end_before_what_it_raises_takes_its_frame() { run_on(1, wait_for_raiser_instead, nullptr); }

} // namespace

CHECK_MAIN(CASE(what_a_catch_raises_instead_of_a_panic_takes_its_place),
           CASE(who_waits_gets_the_record_of_what_came_instead),
           CASE(a_panic_in_the_catch_of_one_may_be_caught_as_any),
           CASE(one_that_is_rethrown_inside_another_boundary_ends_both),
           CASE(children_of_a_catch_end_before_what_it_raises_takes_its_frame))
