/* SPDX-License-Identifier: MIT */
/*
 * abort_cxx_test.cc - what C++ frames make of a panic that cannot go on: a noexcept frame in the way
 * ends the process, as C++ promises it, after the panic has been reported; a panic in a destructor
 * that an exception runs is a double panic.
 */
#include "child.h"

#include <exception>

namespace {

void log_to_stderr(enum coir_log_level, const char *text, void *) { fprintf(stderr, "%s\n", text); }

void raise_plain() { coir_panic("in a noexcept frame"); }

void guarded() noexcept { raise_plain(); }

void raise_in_noexcept(void *) { guarded(); }

struct bomb {
    ~bomb() { coir_panic("in a destructor"); } /* destructors are noexcept */
};

void throw_over_bomb(void *)
{
    bomb b;

    throw 1;
}

[[noreturn]] void on_terminate()
{
    fprintf(stderr, "std::terminate was called\n");
    abort();
}

void in_job(void *arg)
{
    coir_options o = run_options(1);

    std::set_terminate(on_terminate);
    o.log = log_to_stderr;
    if (coir_run(&o, *static_cast<coir_fn **>(arg), nullptr) >= COIR_DONE)
        _exit(0);
}

void dies(coir_fn *fn, const char *word, const char *cause)
{
    const char *const words[] = {word, cause, nullptr};

    child_dies(in_job, &fn, SIGABRT, words);
}

void throw_int() { throw 2; }

void throw_in_noexcept(void *)
{
    []() noexcept { throw_int(); }();
}

void a_noexcept_frame_in_the_way_aborts()
{
    dies(raise_in_noexcept, "panic at tests/abort_cxx_test.cc", "std::terminate was called");
    dies(raise_in_noexcept, "fatal: a noexcept frame is in the way of a panic: tests/abort_cxx_test.cc",
         "std::terminate was called");
    dies(throw_in_noexcept, "std::terminate was called", "std::terminate was called");
}

void a_panic_in_a_destructor_that_an_exception_runs_aborts()
{
    dies(throw_over_bomb, "in a destructor", "fatal: panic while an earlier one unwinds");
}

/* -------------------------------------------------------------------------------- options.panic */

void abort_in_job(void *arg)
{
    coir_options o = run_options(1);

    o.panic = COIR_PANIC_ABORT;
    if (coir_run(&o, *static_cast<coir_fn **>(arg), nullptr) >= COIR_DONE)
        _exit(0);
}

struct tells {
    ~tells() { fprintf(stderr, "unwound\n"); }
};

struct special {};

void throw_over_tells(void *)
{
    tells t;

    throw special();
}

void under_abort_an_exception_ends_the_process_before_it_unwinds()
{
    coir_fn *fn = throw_over_tells;
    child c;

    child_run(&c, abort_in_job, &fn);
    CHECK(WIFSIGNALED(c.status) && WTERMSIG(c.status) == SIGABRT);
    CHECK(strstr(c.text, "fatal: a panic aborts (options.panic): ?:0: C++ exception of type") != nullptr);
    CHECK(strstr(c.text, "special") != nullptr);
    CHECK(strstr(c.text, "unwound") == nullptr);
}

void throw_in_hook(const coir_failure *, void *) { throw special(); }

void open_with_throwing_hook(void *)
{
    coir_options o = run_options(1);

    o.panic_hook = throw_in_hook;
    if (coir_run(&o, [](void *) { raise_plain(); }, nullptr) >= COIR_DONE)
        _exit(0);
}

void an_exception_that_leaves_the_hook_aborts()
{
    const char *const words[] = {"fatal: an exception left the panic hook", "special", nullptr};

    child_dies(open_with_throwing_hook, nullptr, SIGABRT, words);
}

} // namespace

CHECK_MAIN(CASE(a_noexcept_frame_in_the_way_aborts),
           CASE(a_panic_in_a_destructor_that_an_exception_runs_aborts),
           CASE(under_abort_an_exception_ends_the_process_before_it_unwinds),
           CASE(an_exception_that_leaves_the_hook_aborts))
