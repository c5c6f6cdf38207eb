/* SPDX-License-Identifier: MIT */
/*
 * abort_cxx_test.cc - a noexcept frame in the way of a panic ends the process, as C++ promises
 * it, after the panic has been reported.
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

void dies(coir_fn *fn, const char *word)
{
    const char *const words[] = {word, "std::terminate was called", nullptr};

    child_dies(in_job, &fn, SIGABRT, words);
}

void a_noexcept_frame_in_the_way_aborts()
{
    dies(raise_in_noexcept, "in a noexcept frame");
    dies(throw_over_bomb, "in a destructor");
}

} // namespace

CHECK_MAIN(CASE(a_noexcept_frame_in_the_way_aborts))
