/* SPDX-License-Identifier: MIT */
/*
 * find.h - what a worker does next: its own queues, the injector, others' queues, timers, I/O.
 */
#ifndef COIR_FIND_H
#define COIR_FIND_H

#include "state.h"

/* What a turn of the loop does: one of the two. */
struct next {
    struct fiber *fiber; /* to resume */
    bool has_work;
    struct work work;    /* to run */
};

/* What decides in a runtime that is an experiment; called on its one worker. See lab.c. */
struct lab_ops {
    bool (*find)(struct worker *w, struct next *n);     /* in place of find_next */
    bool (*idle)(struct worker *w);                     /* nothing was found; true: look again at once */
    void (*run)(struct fiber *self, const struct work *item); /* in place of coir_runtime.run */
    uint64_t (*draw)(struct worker *w, uint64_t n);     /* 0 to n - 1, in place of any other chance */
};

/* A look every POLL_TURNS turns: whether it is time that the worker's oldest job has its turn. */
bool find_starved(struct worker *w);

/* Another worker that has not moved since this one looked at it last, behind whose job work waits; or NULL, and it looks at the
 * next one. No worker that is idle has come for that work, so all may be busy for as long as that job runs. */
struct worker *find_held_up(struct worker *w);

/* Whether the worker may look around for a while before it sleeps: a processor is there for each that is awake. */
static inline bool find_may_spin(struct worker *w)
{
    struct coir_runtime *rt = w->runtime;

    return rt->spin_ns && (rt->worker_count <= rt->cpus || park_awake(&rt->park) <= rt->cpus || rt->spin_ns == COIR_NEVER);
}

/* Finds something to do; false: there was nothing. */
bool find_next(struct worker *w, struct next *n);

/* find_ready where nothing is claimed, or that has been wrested. */
struct fiber *find_ready_slowly(struct worker *w);

static inline struct fiber *find_fiber_of(struct link *e)
{
    return CONTAINER_OF(e, struct fiber, stack.link);
}

/* Of a queue with more fibers than those that are cached yet, the next after slot i are fetched ahead: a switch would
 * wait for line after line of their stacks. */
static ALWAYS_INLINE void find_look_ahead(struct ring *r, int64_t i, int64_t cached)
{
    if (ring_reaches(r, i + FIBER_AHEAD_HEADER + cached)) {
        fiber_prefetch_header(find_fiber_of(ring_at(r, i + FIBER_AHEAD_HEADER)));
        fiber_prefetch_stack(find_fiber_of(ring_at(r, i + FIBER_AHEAD_STACK)));
    }
}

/* The oldest ready fiber of those that the worker has claimed. False: none. */
static ALWAYS_INLINE bool find_claimed(struct worker *w, int64_t cached, struct fiber **f)
{
    int64_t i;

    if (UNLIKELY(!ring_take_claimed(&w->ring, &i)))
        return false;
    find_look_ahead(&w->ring, i, cached);
    *f = find_fiber_of(ring_at(&w->ring, i));
    return true;
}

/* The oldest ready fiber of the worker's own queue, or NULL. */
static ALWAYS_INLINE struct fiber *find_ready(struct worker *w)
{
    struct fiber *f;

    return LIKELY(find_claimed(w, 0, &f)) ? f : find_ready_slowly(w);
}

/* The same if it is the fibers' turn; NULL: the jobs'. */
struct fiber *find_ready_beside_jobs(struct worker *w);

/* A ready fiber of another worker, even if that has claimed it, or NULL. Any thread. */
struct fiber *find_ready_of(struct worker *victim);

/* Any ready fiber, wherever it waits, or NULL. */
struct fiber *find_any_ready(struct worker *w);

/* What the time and the kernel have ended, looked for now: true if any fiber is ready for it. For who cannot wait for the loop. */
bool find_what_is_due(struct worker *w);

/* find_any_ready where no stack is left for a loop, which would look what the time and the kernel have ended: that
 * is done here, now and then. */
struct fiber *find_without_loop(struct worker *w);

/* Fires timers and readies completed I/O: the worker's own timers, or all. True: something was. */
bool find_events(struct worker *w, bool all);

/* Takes the oldest job of a deque, whoever owns it and whatever that worker does; false: none. */
bool find_take_from(struct coir_runtime *rt, struct deque *d, struct work *item);

/* Whether it is worth looking for work in earnest; for an idle worker that looks again and again. Jobs whose
 * owner has been asked for them count when it has not answered for a while. */
bool find_promising(struct worker *w);

/* Whether anything is runnable anywhere, by looking only. */
bool find_quietly(struct coir_runtime *rt);

#endif
