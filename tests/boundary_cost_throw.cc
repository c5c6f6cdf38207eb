/* SPDX-License-Identifier: MIT */
/*
 * boundary_cost_throw.cc - a C++ throw to its catch. See boundary_cost.h.
 */
#include "boundary_cost.h"

void cost_throw()
{
    throw 1;
}

void cost_catch(void (*fn)(void *arg), void *arg)
{
    try {
        fn(arg);
    } catch (int) {
    }
}
