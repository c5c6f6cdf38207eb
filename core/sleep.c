/* SPDX-License-Identifier: MIT */
/*
 * sleep.c - letting time pass, or others go first.
 */
#include <sched.h>
#include <time.h>

#include "wait.h"

static int thread_sleep(int64_t deadline)
{
    struct timespec ts = {.tv_sec = deadline / COIR_SEC, .tv_nsec = deadline % COIR_SEC};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) != 0)
        ; /* a signal: the deadline stays */
    return COIR_OK;
}

int coir_sleep_until(int64_t deadline)
{
    struct fiber *self = fiber_self();
    struct alarm alarm;
    uint64_t generation;
    enum wake reason;

    if (deadline <= coir_now())
        return COIR_OK;
    if (!self)
        return thread_sleep(deadline);
    if (!job_park_begin(self, &generation, wait_for_time, NULL, false))
        return COIR_ENOMEM;
    alarm_arm(&alarm, self, generation, deadline);
    notice_cancel(self, generation);
    reason = job_park(self);
    alarm_cancel(&alarm);
    return reason == WAKE_TIMEOUT ? COIR_OK : COIR_ECANCELED;
}

void coir_yield(void)
{
    struct worker *w = worker_here(); /* read once, before it suspends */

    if (w && w->current)
        worker_yield(w);
    else
        sched_yield();
}
