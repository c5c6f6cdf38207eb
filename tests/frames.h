/* SPDX-License-Identifier: MIT */
/*
 * frames.h - what tests of panics and exceptions in C++ share: what is thrown, a frame that tells when it has gone, figures.
 */
#ifndef COIR_TEST_FRAMES_H
#define COIR_TEST_FRAMES_H

#include "run.h"

namespace {

struct poison {
    int value;
};

int destroyed;

struct guard {
    ~guard() { destroyed++; }
};

void on_workers(coir_fn *fn)
{
    run_on(1, fn, nullptr);
    run_on(2, fn, nullptr);
}

uint64_t swallowed()
{
    coir_stats s;

    CHECK_EQ(coir_stats_read(coir_current(), &s), COIR_OK);
    return s.swallowed;
}

} // namespace

#endif
