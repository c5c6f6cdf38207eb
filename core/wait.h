/* SPDX-License-Identifier: MIT */
/*
 * wait.h - fibers and threads that wait for counters and for time, and how waits are canceled.
 */
#ifndef COIR_WAIT_H
#define COIR_WAIT_H

#include "job.h"

/* What a fiber says it waits for (worker_park_begin); compared by address. */
extern const char wait_for_counter[]; /* on the counter */
extern const char wait_for_any[];     /* on its struct wait */
extern const char wait_for_frame[];   /* on a counter in a frame that goes; nothing else ends it */
extern const char wait_for_time[];

/* A waiter's node at one counter. */
struct watch;

/* What a fiber waits with, for counters. */
struct wait {
    struct counter *const *counter;
    size_t n;
    struct watch *watch;     /* n of them */
    const char *what;        /* as the fiber says; and on what */
    const void *on;
    int64_t deadline;
    bool must;               /* no limit of its domain refuses the wait: the waiter has spawned on it, or nothing else
                                ends it */
};

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
void wait_cancel(struct counter *c, enum coir_cancel cause);

/* Waits for c whatever happens; job_ops->join. */
void wait_join(struct counter *c);

/* As coir_wait_until, for a counter in no frame of the job; no limit of its domain refuses it: who would wait again at
 * once. */
int wait_must(struct counter *c, int64_t deadline);

/* Ends canceled work that waits for other work, and wakes every parked fiber whose job is canceled. Returns how
 * many. */
size_t wait_wake_canceled(struct coir_runtime *rt);

/* Ends the waits for counters that `owed` says yes to, as WAKE_CLOSE. Returns how many. */
size_t wait_wake_owed(struct coir_runtime *rt, bool (*owed)(const struct counter *c, void *arg), void *arg);

/* Ends every wait there is, or in a domain and below it, as WAKE_CLOSE. Returns how many. */
size_t wait_wake_all(struct coir_runtime *rt);
size_t wait_wake_domain(struct coir_domain *d);

#endif
