/* SPDX-License-Identifier: MIT */
/*
 * storm_cxx.cc - jobs of the storm in C++: exceptions, and panics through frames with destructors.
 */
#include "storm.h"

#include <exception>
#include <stdexcept>
#include <string>

namespace {

struct guard {
    guard() { storm_owes(1); }
    ~guard() { storm_paid(nullptr); }
};

[[noreturn]] void raise_through(const storm_job *j)
{
    guard g;

    storm_raises(j);
    coir_panic("through C++ frames");
}

} // namespace

void storm_throws(void *job)
{
    storm_job *j = storm_begin(job);
    guard g;

    storm_raises(j);
    if (j->seed % 2)
        throw std::runtime_error("out of luck, and a text that needs memory of its own");
    throw 7;
}

void storm_through(void *job)
{
    storm_job *j = storm_begin(job);
    std::string text(100, 'x');

    try {
        raise_through(j);
    } catch (const std::exception &) {
        CHECK_NEVER("a panic is no std::exception");
    } catch (...) {
        coir_yield(); /* on whatever worker it goes on: it is still being handled */
        CHECK(text.size() == 100);
        throw;
    }
}

void storm_swallows(void *job)
{
    storm_job *j = storm_begin(job);

    try {
        raise_through(j);
    } catch (...) {
        storm_add(&storm_books.swallowed, 1);
    }
    CHECK_EQ(std::uncaught_exceptions(), 0);
}
