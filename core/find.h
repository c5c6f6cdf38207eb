/* SPDX-License-Identifier: MIT */
/*
 * find.h - what a worker does next: its own queues, the injector, others' queues, timers, I/O.
 */
#ifndef COIR_FIND_H
#define COIR_FIND_H

#include "state.h"

#define POLL_TURNS 61    /* prime, so that it beats with no regular pattern of work */

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

/* Finds something to do; false: there was nothing. */
bool find_next(struct worker *w, struct next *n);

/* The oldest ready fiber of the worker's own queue, or NULL. */
struct fiber *find_ready(struct worker *w);

/* A ready fiber of another worker, even if that has claimed it, or NULL. Any thread. */
struct fiber *find_ready_of(struct worker *victim);

/* Any ready fiber, wherever it waits, or NULL. */
struct fiber *find_any_ready(struct worker *w);

/* The same where no stack is left for a loop, which would look what the time and the kernel have ended: that
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
