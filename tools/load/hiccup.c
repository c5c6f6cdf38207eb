/* SPDX-License-Identifier: MIT */
/*
 * hiccup.c - see hiccup.h.
 *
 * The meter is an open-loop load of requests that cost nothing: one is due every TICK, and its
 * latency is how late the spinning thread notices. So a gap of 4 ms counts for all 400 requests
 * that fell into it, and the percentiles can be read beside the server's.
 */
#include "hiccup.h"

#define TICK (LOAD_SECOND / 100000)
#define NAP (LOAD_SECOND / 20) /* how late a stop is noticed during the warm-up */

void *hiccup_run(void *hiccup)
{
    struct hiccup *h = hiccup;
    const struct load_clock *clock = h->clock;
    int64_t due = clock->start;
    int64_t now;

    while ((now = load_now()) < due && !load_stopped(clock))
        load_sleep_until(due - now < NAP ? due : now + NAP);
    while (due < clock->end && !load_stopped(clock))
        for (now = load_now(); due <= now && due < clock->end; due += TICK)
            histogram_add(&h->gaps, now - due);
    return NULL;
}
