/* SPDX-License-Identifier: MIT */
/*
 * errand.c - parking until somebody else is done, come what may.
 *
 * Owns: the end of an errand and the order in which doer and fiber let go of its record, which lies
 * in the fiber's frame. Knows nothing of what is done.
 *
 * A fiber that wants to go (deadline, cancel, close) cannot just leave: the kernel may still write
 * into its buffer. It revokes the errand and parks again, now for nothing but the end. An errand
 * that is done before the revoke reaches it is done: its result counts, so no byte is lost.
 *
 * Orderings
 *   BEGIN  the fiber stores the first generation (release) -> the doer loads it (acquire). Only the
 *          kernel lies between some begins and ends. It orders as much, but no checker knows that, nor the
 *          memory model: that is what the pair is for.
 *   OVER   the doer exchanges waiter for ERRAND_OVER (release), its last access, and learns which
 *          park to wake -> the fiber loads it (acquire), after its CAS to the next generation has failed,
 *          too. The CAS (release) -> the exchange (acquire): the park that is woken has begun. All are
 *          operations on one word, so one comes first: either the doer wakes the park that waits now,
 *          or the fiber sees that it need not park.
 */
#include "errand.h"

#include "hostcall.h"

void errand_end(struct errand *e)
{
    struct fiber *f = e->fiber;
    uint64_t generation = atomic_exchange_explicit(&e->waiter, ERRAND_OVER,
                                                   memory_order_acq_rel); /* OVER */

    worker_wake(f, generation, WAKE_EVENT);
}

/* There is no stack to go on with: a turn of the worker's I/O, which may end the errand or ready a
 * fiber whose stack will do. */
static COLD void turn_here(struct fiber *self, unsigned *turns)
{
    const struct io_ops *io = self->runtime->io;

    io->flush(worker_of(self));
    io->poll(worker_of(self));
    spin_pause(turns);
}

/* Parks until it is over; neither deadline nor cancel ends this. */
static void wait_out(struct fiber *self, struct errand *e, uint64_t generation, const char *what)
{
    unsigned turns = 0;

    while (!errand_is_over(e)) {
        uint64_t before = generation;

        if (!job_park_begin(self, &generation, what, e, true)) {
            turn_here(self, &turns);
            continue;
        }
        if (!atomic_compare_exchange_strong_explicit(&e->waiter, &before, generation,
                                                     memory_order_release,
                                                     memory_order_relaxed)) /* OVER: looked at again */
            fiber_wake(self, generation, WAKE_EVENT);
        job_park(self);
    }
}

int errand_run(struct fiber *self, struct errand *e, const char *what, int64_t deadline)
{
    struct alarm alarm;
    uint64_t generation;
    enum wake reason;

    hostcall_deadline_set(self->runtime, deadline);
    if (!job_park_begin(self, &generation, what, e, false))
        return COIR_ENOMEM;
    e->fiber = self;
    atomic_store_explicit(&e->waiter, generation, memory_order_release); /* BEGIN */
    e->begin(e);
    alarm_arm(&alarm, self, generation, deadline);
    notice_cancel(self, generation);
    reason = job_park(self);
    alarm_cancel(&alarm);
    if (errand_is_over(e))
        return COIR_OK;
    e->revoke(e);
    wait_out(self, e, generation, what);
    if (reason != WAKE_TIMEOUT)
        return COIR_ECANCELED;
    hostcall_deadline_exceeded(self->runtime, deadline);
    return COIR_ETIMEDOUT;
}
