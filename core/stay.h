/* SPDX-License-Identifier: MIT */
/*
 * stay.h - a fiber that waits, on a worker with nothing else to do, looks for a while where it is. See stay.c.
 */
#ifndef COIR_STAY_H
#define COIR_STAY_H

#include "counter.h"
#include "state.h"

/* Whether the worker of the caller, who would park, could do nothing but look for work then. Without a spare the caller
 * must not suspend, or is told so (worker_park_begin). */
static ALWAYS_INLINE bool stay_is_due(struct worker *w)
{
    return deque_is_empty(&w->deque) && ring_empty(&w->ring) && w->runtime->spin_ns && w->spare && !w->look_outside &&
           !w->io_urgent;
}

/* Looks for the end of a counter, from which the caller's watch is not yet hung. The outcome; -1: park. */
int stay_for_counter(struct worker *w, struct counter *c, int64_t deadline);

#endif
