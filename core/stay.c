/* SPDX-License-Identifier: MIT */
/*
 * stay.c - waits that end so soon that their fiber had better not park.
 *
 * Who wakes a fiber that has parked on another worker needs its node, its state, a queue, that queue's lock and the count
 * of sleepers: each a line that comes over from that worker and goes back, each known only when the one before it has
 * come. If that worker has nothing else to do, it is enough that the waiter itself looks at the counter: then one line
 * goes there and back, as in a ping-pong of bare atomics.
 *
 * Nothing is published, so nothing is to be taken back, and no order is needed but that of any look at a counter (SETTLE).
 * Not the units alone: while WAITERS is set what hangs on the counter is yet to be told, and the caller may free it (C6).
 * While it stays a fiber is RUNNING: whoever cancels it, or closes what it is in, finds it parked some microseconds later.
 */
#include "stay.h"

#include "find.h"
#include "lockcheck.h"
#include "worker.h"

/* Looks before a park, two microseconds or some more: an answer from next door has come by then. Timers and I/O of an idle
 * worker are late by as much. */
#ifndef STAY_LOOKS
#define STAY_LOOKS 128
#endif
#define STAY_NS (20 * COIR_US) /* a deadline further off than this is not missed meanwhile */

/* Who waits for many units would take the line from each who releases one. Each stay is a turn: every so many of them the worker is to look at timers, I/O and injected work first. */
int stay_for_counter(struct worker *w, struct counter *c, int64_t deadline)
{
    int outcome;

    if (worker_turn_is_due(w) || (deadline != COIR_NEVER && deadline < time_after(coir_now(), STAY_NS)))
        return -1;
    for (unsigned i = 0; (outcome = counter_look(c)) < 0; i++) {
        if (i == STAY_LOOKS || !counter_is_owed_one(c) || find_promising(w))
            break;
        arch_relax();
    }
    if (outcome >= 0)
        lockcheck_suspend(w, "counter"); /* it would have parked, had others been there */
    w->looks = 0; /* around: it has not been idle for long */
    return outcome;
}
