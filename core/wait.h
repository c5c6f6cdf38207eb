/* SPDX-License-Identifier: MIT */
/*
 * wait.h - fibers and threads that wait for counters and for time, and how waits are canceled.
 */
#ifndef COIR_WAIT_H
#define COIR_WAIT_H

#include "job.h"

/* A deadline that wakes a parked fiber. */
struct alarm {
    struct timer timer;
    struct timers *heap; /* the one it was armed in; NULL: COIR_NEVER, not armed */
    struct fiber *fiber;
    uint64_t generation;
};

void alarm_arm(struct alarm *a, struct fiber *self, uint64_t generation, int64_t deadline);
void alarm_cancel(struct alarm *a);

/* Between worker_park_begin and worker_park: a cancel that came before is not missed (ASK). */
static inline void notice_cancel(struct fiber *self, uint64_t generation)
{
    if (UNLIKELY(job_canceled(self->runtime, self->job)))
        fiber_wake(self, generation, WAKE_CANCEL);
}

/* Asks the jobs of c to stop and wakes those that block; job_ops->cancel. */
void wait_cancel(struct counter *c);

/* Waits for c whatever happens; job_ops->join. */
void wait_join(struct counter *c);

/* Ends canceled work that waits for other work, and wakes every parked fiber whose job is canceled. Returns how many. */
size_t wait_wake_canceled(struct coir_runtime *rt);

/* Ends every wait there is, or in a domain and below it, as WAKE_CLOSE. Returns how many. */
size_t wait_wake_all(struct coir_runtime *rt);
size_t wait_wake_domain(struct coir_domain *d);

#endif
