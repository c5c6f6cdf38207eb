/* SPDX-License-Identifier: MIT */
/*
 * worker.h - the loop that runs what it finds, and how a fiber suspends. See worker.c.
 */
#ifndef COIR_WORKER_H
#define COIR_WORKER_H

#include "state.h"

/* Gives a new worker the stack of its first loop. False: none to be had. */
bool worker_prepare(struct worker *w);

/* For worker_each_fiber, when no worker runs any more. */
void worker_forget_fiber(struct fiber *f, void *unused);

/* Thread entry: runs loops until runtime->stopping. */
void worker_main(struct worker *w);

/*
 * Parks the calling fiber in three steps:
 *   1 worker_park_begin makes it PARKING and returns the generation in *generation;
 *   2 the caller gives (fiber, generation) to whatever shall wake it, with fiber_wake;
 *   3 worker_park switches away, unless a notice has come already, and returns why it woke.
 * Between 2 and 3 the caller must not fail. After 3 it takes its nodes out of every list, before
 * its frame goes. False from step 1: there is no stack to go on with (COIR_ENOMEM).
 */
bool worker_park_begin(struct fiber *self, uint64_t *generation, const char *what, const void *on);
enum wake worker_park(struct fiber *self);

/* Makes the fiber runnable: queues a fiber that is READY. Any thread. */
void worker_ready(struct fiber *f);

/* fiber_wake, and worker_ready if that is due. */
static inline void worker_wake(struct fiber *f, uint64_t generation, enum wake reason)
{
    if (fiber_wake(f, generation, reason))
        worker_ready(f);
}

void worker_look_around(struct worker *w);

/* A turn of a caller that runs jobs by itself, but for a batch. True: it is time to look at timers, I/O and injected work, as the
 * loop does. */
static ALWAYS_INLINE bool worker_turn_is_due(struct worker *w)
{
    return UNLIKELY(worker_turn(w) >= w->poll_at);
}

/* The same, and looks. True: others wait for this worker, so the caller should let the loop have it. */
static ALWAYS_INLINE bool worker_others_wait(struct worker *w)
{
    if (worker_turn_is_due(w))
        worker_look_around(w);
    return w->look_outside || !ring_empty(&w->ring);
}

/* Puts the calling fiber behind everything that is runnable on its worker. */
void worker_yield(struct worker *w);

/*
 * The calling thread has left the stack of `self`, which it runs, because the job there cannot go on:
 * turns to a loop's stack, on which runtime->clean_up is called. Does not return. Then the fiber is
 * resumed at its new sp, where worker_return_broken must be the first call.
 */
void worker_leave_broken(struct fiber *self);
void worker_return_broken(struct worker *w);

/* Queues new work of this worker's current job. COIR_OK, COIR_EAGAIN, COIR_ENOMEM. */
int worker_push(struct worker *w, const struct work *first, size_t stride, size_t n);

/* Calls visit(f, arg) for every fiber of the runtime that ever existed. */
void worker_each_fiber(struct coir_runtime *rt, void (*visit)(struct fiber *f, void *arg), void *arg);

#endif
