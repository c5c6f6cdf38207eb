/* SPDX-License-Identifier: MIT */
/*
 * hiccup.c - how late this machine lets a thread run that only wants to, during the load.
 *
 * A tail that the meter shows as well comes from the machine (other processes, the hypervisor,
 * power states) and not from the server under test. It is an open loop of requests that cost
 * nothing: one is due every TICK, and its latency is how late the sleeping thread wakes. So a gap
 * of 40 ms counts for all 40 that fell into it. It sleeps because a meter that spins takes a CPU
 * from those whom it watches.
 */
#include "load.h"

#define TICK (LOAD_SECOND / 1000)

void *hiccup_run(void *load)
{
    struct load *l = load;

    for (int64_t due = l->clock.start; due < l->clock.end; due += TICK) {
        if (!load_sleep_until(&l->clock, due))
            break;
        histogram_add(&l->hiccup, load_now() - due);
    }
    return NULL;
}
