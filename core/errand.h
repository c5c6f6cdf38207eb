/* SPDX-License-Identifier: MIT */
/*
 * errand.h - what somebody else does for a parked fiber: the kernel, or a thread that may block.
 * See errand.c.
 */
#ifndef COIR_ERRAND_H
#define COIR_ERRAND_H

#include "wait.h"

/* One errand. Lives in the fiber's frame, inside a larger record that says what to do. */
struct errand {
    struct fiber *fiber;
    _Atomic uint64_t waiter; /* generation of the park to wake, or ERRAND_OVER */

    /* Hands the errand over. May end it at once. Must not fail otherwise, nor suspend. */
    void (*begin)(struct errand *e);
    /* Ends it soon: at once if nobody has begun with it, else when its doer lets go of it. */
    void (*revoke)(struct errand *e);
};

#define ERRAND_OVER UINT64_MAX

/*
 * Runs an errand of the calling fiber: begins it and parks until it is over. The deadline or a
 * cancel of the job revokes it, and it is waited for all the same: the doer owns the fiber's frame
 * till then.
 *
 * COIR_OK: it was never revoked. COIR_ETIMEDOUT or COIR_ECANCELED: it was, for that reason; whether
 * it was done before that is for the record to say. COIR_ENOMEM: no stack to park on, not begun.
 */
int errand_run(struct fiber *self, struct errand *e, const char *what, int64_t deadline);

/* Doer: the errand is over, its record filled. The record may be gone when this returns. */
void errand_end(struct errand *e);

/* Doer, before its first look at a record that reached it by way of the kernel. */
static inline void errand_receive(struct errand *e)
{
    (void)atomic_load_explicit(&e->waiter, memory_order_acquire); /* BEGIN: for checkers, as errand.c says */
}

static inline bool errand_is_over(struct errand *e)
{
    return atomic_load_explicit(&e->waiter, memory_order_acquire) == ERRAND_OVER; /* OVER */
}

#endif
