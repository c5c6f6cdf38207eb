/* SPDX-License-Identifier: MIT */
/*
 * io_uring_ring.h - what a worker's ring is: fields, and looks at them. Locks and invariants are in io_uring.c.
 */
#ifndef COIR_IO_URING_RING_H
#define COIR_IO_URING_RING_H

#include <liburing.h>

#include "io.h"

struct ring_state {
    /* Submission. */
    _Alignas(COIR_CACHE_LINE) struct lock sq;
    _Atomic unsigned queued;      /* prepared, not submitted; written under sq, a hint for others */
    _Atomic int64_t queued_since; /* when it became more than 0; same */
    _Atomic uint64_t armed;       /* operations ever prepared; written by the owner */

    /* Completion. */
    _Alignas(COIR_CACHE_LINE) struct lock cq;
    _Atomic uint64_t completed;   /* operations ever completed; written under cq */

    /* Sleeping. */
    _Atomic bool asleep;          /* a completion will wake the owner; written by it, a hint */
    int kick_fd;
    uint64_t kick_value;          /* the kernel writes it */
    bool kick_armed;              /* owner's */

    struct io_uring uring;
};

static inline unsigned ring_queued(struct ring_state *r)
{
    return atomic_load_explicit(&r->queued, memory_order_relaxed); /* a hint; exact under sq */
}

/* sq held. */
static inline unsigned ring_count_queued(struct ring_state *r)
{
    unsigned n = io_uring_sq_ready(&r->uring);

    atomic_store_explicit(&r->queued, n, memory_order_relaxed); /* a hint */
    return n;
}

/* The kernel may take what is prepared when anybody enters it next. An owner that goes to sleep enters without sq, and may find
 * what others have prepared meanwhile: hence the release, which liburing leaves out of its own (io_uring_submit, which finds
 * nothing left to publish). It relies on liburing 2.3 or later, where the indices stay as they are. sq held. */
static inline void ring_publish(struct ring_state *r)
{
    struct io_uring_sq *sq = &r->uring.sq;

    sq->sqe_head = sq->sqe_tail;
    io_uring_smp_store_release(sq->ktail, sq->sqe_tail);
}

static inline bool ring_flags_say(struct ring_state *r, unsigned any)
{
    return IO_URING_READ_ONCE(*r->uring.sq.kflags) & any;
}

/* Whether there is something to reap; anyone, a hint. What the kernel has yet to do about it (TASKRUN) it does when the owner
 * enters it: own says that the caller will. */
static inline bool ring_has_completions(struct ring_state *r, bool own)
{
    struct io_uring_cq *cq = &r->uring.cq;

    return io_uring_smp_load_acquire(cq->ktail) != io_uring_smp_load_acquire(cq->khead) ||
           ring_flags_say(r, own ? IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN : IORING_SQ_CQ_OVERFLOW);
}

#endif
