/* SPDX-License-Identifier: MIT */
/*
 * channel.h - what a coir_channel is, for the select, which waits at several. See channel.c.
 */
#ifndef COIR_CHANNEL_H
#define COIR_CHANNEL_H

#include "waitq.h"

struct channel {
    _Atomic uint64_t state;           /* how many were moved, CLOSED, LOCK, which guards all the rest */
    struct waitq senders, receivers;  /* the item of each is its element, in the caller's memory */
    char *ring;
    size_t element_bytes, capacity;
    size_t first, count;              /* elements in the ring */
    const struct host *host;          /* whose allocator the ring is from; NULL: malloc's */
    bool owns_ring;
};

_Static_assert(sizeof(struct channel) == sizeof(coir_channel), "coir.h reserves it");
_Static_assert(_Alignof(struct channel) <= _Alignof(coir_channel), "coir.h aligns enough");

static inline struct channel *channel_of(coir_channel *c)
{
    return (struct channel *)(void *)c;
}

/* Sends or receives if that needs no wait: COIR_OK, COIR_ECLOSED; else COIR_EAGAIN. */
int channel_try(struct channel *c, int op, void *item);

/* The same in one step with the entry in the queue: COIR_EAGAIN means that w is in it now. If the
 * operation is possible but a waker has taken the sleeper at another channel: COIR_EBUSY. */
int channel_try_or_queue(struct channel *c, int op, struct waiter *w);

/* Takes the waiter out if it is in the queue. */
void channel_leave(struct channel *c, int op, struct waiter *w);

#endif
