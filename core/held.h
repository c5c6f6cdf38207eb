/* SPDX-License-Identifier: MIT */
/*
 * held.h - the locks that a job, or a plain thread, holds, so that none outlives its job; and the links and
 * monitors that lie in its frames.
 *
 * The list hangs on the boundary inside which the lock was taken: the job's record, or a
 * coir_try's. Its nodes lie in the locks, so holding costs four stores and not holding costs
 * none. Only the holder touches list and nodes.
 */
#ifndef COIR_HELD_H
#define COIR_HELD_H

#include "base.h"

enum leave {
    LEAVE_RAISED, /* a panic is about to unwind the holder; the lock is still held */
    LEAVE_ENDED   /* the boundary is reached and nobody has unlocked it: it must go from the list */
};

/* First in the object: of one that lies in a frame which has been left, only what is not below its node is
 * known to be whole (lowest_left in boundary.c). */
struct held;

struct held_kind {
    void (*leave)(struct held *h, enum leave how);
    const void *(*object)(const struct held *h); /* what is held, to compare with; NULL: it is no lock */
    const char *returned; /* what a job has done that returns over one */
    const void *(*owed_to)(const struct held *h); /* a counter that it owes a unit; NULL: none, ever */
    bool (*aborts)(const struct held *h); /* whether a panic of the holder ends the process; NULL: never */
};

/* Of a lock. */
#define HELD_LOCK "returned while it held a lock"

struct held {
    struct held *next;
    struct held **back;  /* what points to this node */
    const struct held_kind *kind;
};

static inline void held_push(struct held **list, struct held *h, const struct held_kind *kind)
{
    h->kind = kind;
    h->next = *list;
    h->back = list;
    if (h->next)
        h->next->back = &h->next;
    *list = h;
}

static inline void held_remove(struct held *h)
{
    *h->back = h->next;
    if (h->next)
        h->next->back = h->back;
}

/* What the calling thread holds outside of every boundary; its address is the thread's identity. */
struct held **held_by_thread(void);

/* Moves all of one list to the front of another. */
static inline void held_move(struct held **from, struct held **to)
{
    while (*from) {
        struct held *h = *from;

        held_remove(h);
        held_push(to, h, h->kind);
    }
}

#endif
