/* SPDX-License-Identifier: MIT */
/*
 * deaths_cxx_test.cc - deaths that only C++ brings about. What terminate_test.cc shows of the report of
 * a noexcept frame is not repeated here.
 */
#include "deaths.h"

namespace {

void raise_plain() { coir_panic("on its way"); }

void without_throw() noexcept { raise_plain(); }

void raise_in_noexcept(void *) { without_throw(); }

void empty_specification() throw() { raise_plain(); }

void raise_under_empty_specification(void *) { empty_specification(); }

void raise_through_catch(void *)
{
    try {
        raise_plain();
    } catch (...) {
        throw;
    }
}

void raise_through_second_catch(void *)
{
    try {
        throw 1;
    } catch (int) {
        raise_through_catch(nullptr);
    }
}

void raise_through_second_catch_in_try(void *)
{
    try {
        throw 1;
    } catch (int) {
        (void)!coir_try(raise_through_catch, nullptr, nullptr);
    }
}

struct bomb {
    ~bomb() { coir_panic("in a destructor"); } /* destructors are noexcept */
};

void leave_bomb(void *) { bomb b; }

void throw_over_bomb(void *)
{
    bomb b;

    throw 1;
}

/* What a catch of a panic raises instead of it, and then a cleanup. */
struct late_bomb {
    ~late_bomb() { coir_require(coir_now() < 0, "in a destructor"); } /* no compiler knows that it never returns */
};

void throw_over_bomb_instead(void *)
{
    try {
        raise_plain();
    } catch (...) {
        late_bomb b;

        throw 1;
    }
}

void raise_over_bomb_instead(void *)
{
    try {
        raise_plain();
    } catch (...) {
        late_bomb b;

        coir_panic("instead");
    }
}

/* A cleanup handles what it throws itself, not the panic that runs it. */
struct handler {
    ~handler()
    {
        try {
            throw 1;
        } catch (...) {
            coir_panic("in a destructor");
        }
    }
};

void raise_over_handler(void *)
{
    handler h;

    raise_plain();
}

void throw_int() { throw 2; }

void throw_in_noexcept(void *)
{
    []() noexcept { throw_int(); }();
}

/* -------------------------------------------------------------------------------- options */

struct tells {
    ~tells() { fprintf(stderr, "unwound\n"); }
};

struct special {};

void throw_over_tells(void *)
{
    tells t;

    throw special();
}

void run_with(const coir_options &o, coir_fn *fn)
{
    if (coir_run(&o, fn, nullptr) >= COIR_DONE)
        _exit(0);
}

void throw_under_abort(void *)
{
    coir_options o = run_options(1);

    o.panic = COIR_PANIC_ABORT;
    run_with(o, throw_over_tells);
}

void throw_in_hook(const coir_failure *, void *) { throw special(); }

void raise_with_throwing_hook(void *)
{
    coir_options o = run_options(1);

    o.panic_hook = throw_in_hook;
    run_with(o, [](void *) { raise_plain(); });
}

/* -------------------------------------------------------------------------------------- the table */

#define HERE "tests/deaths_cxx_test.cc:"
#define NOEXCEPT "fatal: a noexcept frame is in the way of a panic: "
#define CALLED "fatal: std::terminate was called while a panic unwinds: "
#define FRAME "; in deaths_cxx_test+0x"

#define DEATHS(X)                                                                                  \
    X(a_noexcept_frame_in_the_way, SIGABRT, ANYWHERE, raise_in_noexcept, NOEXCEPT, HERE,           \
      "on its way", FRAME)                                                                         \
    X(an_empty_exception_specification_in_the_way, SIGABRT, ANYWHERE,                              \
      raise_under_empty_specification, NOEXCEPT, HERE, "on its way", FRAME)                        \
    X(a_panic_in_a_destructor, SIGABRT, ANYWHERE, leave_bomb, NOEXCEPT, HERE, "in a destructor", FRAME) \
    X(a_panic_in_a_destructor_that_an_exception_runs, SIGABRT, ANYWHERE, throw_over_bomb,          \
      "fatal: panic while an earlier one unwinds", HERE, "in a destructor")                        \
    X(a_panic_in_a_destructor_that_what_a_catch_threw_runs, SIGABRT, ANYWHERE, throw_over_bomb_instead, \
      "fatal: panic while an earlier one unwinds", HERE, "in a destructor")                        \
    X(a_panic_in_a_destructor_that_a_panic_of_a_catch_runs, SIGABRT, ANYWHERE, raise_over_bomb_instead, \
      "fatal: panic while an earlier one unwinds", HERE, "in a destructor")                        \
    X(a_panic_in_a_destructor_that_handles_its_own, SIGABRT, ANYWHERE, raise_over_handler,         \
      "fatal: panic while an earlier one unwinds", HERE, "in a destructor")                        \
    X(a_catch_all_that_a_panic_comes_to_inside_another, SIGABRT, ANYWHERE, raise_through_second_catch, \
      CALLED, HERE, "on its way", FRAME)                                                           \
    X(the_same_in_a_coir_try, SIGABRT, ANYWHERE, raise_through_second_catch_in_try, CALLED, HERE,  \
      "on its way", FRAME)                                                                         \
    X(an_exception_in_a_noexcept_frame, SIGABRT, ANYWHERE, throw_in_noexcept,                      \
      "terminate called after throwing an instance of 'int'")                                      \
    X(an_exception_under_options_panic, SIGABRT, BARE, throw_under_abort,                          \
      "fatal: a panic aborts (options.panic): ?:0: C++ exception of type", "special")              \
    X(an_exception_out_of_the_panic_hook, SIGABRT, BARE, raise_with_throwing_hook,                 \
      "fatal: an exception left the panic hook", "special")

} // namespace

DEATH_MAIN("what C++ ends", DEATHS)
