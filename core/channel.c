/* SPDX-License-Identifier: MIT */
/*
 * channel.c - a bounded queue of elements of one size, between jobs and threads.
 *
 * An element is copied under the channel's lock, once: into the ring, out of it, or (to a receiver
 * that waits) straight from the sender's memory into the receiver's. It belongs to the ring or to
 * one receiver at any time, and never to a job that may panic, so no panic loses or doubles one.
 *
 * Invariants (W1 to W4 are in waitq.c)
 *   H1  A receiver waits only while the ring is empty, a sender only while it is full, and neither
 *       once the channel is closed. So whether an operation has to wait is told by the count alone.
 *   H2  An element leaves a waiting sender's memory in the step that takes the sender: one that has
 *       given up (deadline, cancel) has sent nothing, one that was taken has sent.
 *   H3  Elements are received in the order in which they came into the ring, and senders that wait
 *       come in, in the order they came.
 *
 * Orderings
 *   WORD, TAKEN   send -> the receive of that element; close -> the return of COIR_ECLOSED.
 */
#include "channel.h"

#include <stdlib.h>
#include <string.h>

#define CLOSED UINT64_C(2)
#define MOVED UINT64_C(4) /* the unit of the rest of the word: elements moved since somebody got the lock by waiting */

static NOINLINE uint64_t lock_slowly(struct channel *c, uint64_t s)
{
    struct lock_wait wait = lock_wait_begin(s / MOVED);

    for (;;) {
        lock_wait_pause(&wait, s & WORD_LOCK);
        s = atomic_load_explicit(&c->state, memory_order_relaxed); /* rechecked by the CAS */
        if (lock_wait_is_over(&wait, s / MOVED) && !(s & WORD_LOCK) &&
            atomic_compare_exchange_strong_explicit(&c->state, &s, (s & CLOSED) | WORD_LOCK, memory_order_acquire,
                                                    memory_order_relaxed)) /* WORD */
            return s & CLOSED;
    }
}

/* Returns the word as it was without LOCK. */
static ALWAYS_INLINE uint64_t lock(struct channel *c)
{
    uint64_t s = atomic_load_explicit(&c->state, memory_order_relaxed); /* rechecked by the CAS */

    if (LIKELY(!(s & WORD_LOCK) && atomic_compare_exchange_strong_explicit(&c->state, &s, s | WORD_LOCK,
                                                                           memory_order_acquire,
                                                                           memory_order_relaxed))) /* WORD */
        return s;
    return lock_slowly(c, s);
}

/* All below: LOCK is held. */

/* An index of the ring. Not by a division, which takes a tenth of an operation. */
static size_t wrapped(const struct channel *c, size_t i)
{
    return i < c->capacity ? i : i - c->capacity;
}

static char *slot(struct channel *c, size_t i)
{
    return c->ring + wrapped(c, c->first + i) * c->element_bytes;
}

/* What is the size of a pointer mostly is one, and needs no call. */
static void copy(const struct channel *c, void *to, const void *from)
{
    if (LIKELY(c->element_bytes == sizeof(void *)))
        memcpy(to, from, sizeof(void *));
    else
        memcpy(to, from, c->element_bytes);
}

static void push(struct channel *c, const void *item)
{
    copy(c, slot(c, c->count), item);
    c->count++;
}

static void pop(struct channel *c, void *item)
{
    copy(c, item, slot(c, 0));
    c->first = wrapped(c, c->first + 1);
    c->count--;
}

/* Whether the operation need not wait (H1). */
static bool possible(const struct channel *c, uint64_t word, int op)
{
    return (word & CLOSED) || (op == COIR_SEND ? c->count < c->capacity : c->count > 0);
}

/* Returns whom to wake, or NULL. */
static struct waiter *send(struct channel *c, const void *item)
{
    struct waiter *w = waitq_take(&c->receivers);

    if (w)
        copy(c, w->item, item); /* the ring is empty: H1 */
    else
        push(c, item);
    return w;
}

static struct waiter *receive(struct channel *c, void *item)
{
    struct waiter *w;

    pop(c, item);
    w = waitq_take(&c->senders);
    if (w)
        push(c, w->item); /* H2 */
    return w;
}

/* Does what is possible, drops the lock, and wakes whom that lets go. */
static int perform(struct channel *c, uint64_t word, int op, void *item)
{
    struct waiter *wake;

    if ((word & CLOSED) && (op == COIR_SEND || !c->count)) {
        word_unlock(&c->state, word);
        return COIR_ECLOSED;
    }
    wake = op == COIR_SEND ? send(c, item) : receive(c, item);
    if (wake)
        wake->status = COIR_OK;
    word_unlock(&c->state, word + MOVED);
    if (wake)
        waiter_wake(wake);
    return COIR_OK;
}

/* The same for an element that goes into the ring, or comes out of it, and lets nobody go. False: it is not as simple. */
static ALWAYS_INLINE bool perform_simply(struct channel *c, uint64_t word, int op, void *item)
{
    if (op == COIR_SEND) {
        if (UNLIKELY((word & CLOSED) || c->count == c->capacity || c->receivers.first))
            return false;
        push(c, item);
    } else {
        if (UNLIKELY(!c->count || c->senders.first))
            return false;
        pop(c, item);
    }
    word_unlock(&c->state, word + MOVED);
    return true;
}

static struct waitq *queue_of(struct channel *c, int op)
{
    return op == COIR_SEND ? &c->senders : &c->receivers;
}

/* ------------------------------------------------------------------------- for channel and select */

static int try_slowly(struct channel *c, uint64_t word, int op, void *item)
{
    if (possible(c, word, op))
        return perform(c, word, op, item);
    word_unlock(&c->state, word);
    return COIR_EAGAIN;
}

int channel_try(struct channel *c, int op, void *item)
{
    return try_slowly(c, lock(c), op, item);
}

int channel_try_or_queue(struct channel *c, int op, struct waiter *w)
{
    uint64_t word = lock(c);
    int status = COIR_EAGAIN;

    if (!possible(c, word, op))
        waitq_append(queue_of(c, op), w);
    else if (!sleeper_retract(w->sleeper))
        status = COIR_EBUSY;
    else
        return perform(c, word, op, w->item);
    word_unlock(&c->state, word);
    return status;
}

void channel_leave(struct channel *c, int op, struct waiter *w)
{
    uint64_t word = lock(c);

    waitq_remove(queue_of(c, op), w);
    word_unlock(&c->state, word);
}

/* -------------------------------------------------------------------------------- public part */

/* The channel has been full, or empty. */
static int wait_and_transfer(struct channel *c, int op, void *item, int64_t deadline)
{
    struct sleeper s;
    struct waiter w = {.sleeper = &s, .item = item};
    int status = sleeper_begin(&s, op == COIR_SEND ? "channel to send" : "channel to receive", c);

    if (status != COIR_OK)
        return status;
    status = channel_try_or_queue(c, op, &w);
    if (status != COIR_EAGAIN) {
        sleeper_abandon(&s);
        return status;
    }
    status = sleeper_sleep(&s, deadline);
    if (status == COIR_OK)
        return w.status;
    channel_leave(c, op, &w);
    return status;
}

/* LOCK is held. */
static NOINLINE int transfer_slowly(struct channel *c, uint64_t word, int op, void *item, int64_t deadline)
{
    int status = try_slowly(c, word, op, item);

    return status == COIR_EAGAIN ? wait_and_transfer(c, op, item, deadline) : status;
}

static ALWAYS_INLINE int transfer(coir_channel *channel, int op, void *item, int64_t deadline)
{
    struct channel *c = channel_of(channel);
    uint64_t word;

    if (UNLIKELY(!c || !item || !c->capacity))
        return COIR_EINVAL;
    word = lock(c);
    if (LIKELY(perform_simply(c, word, op, item)))
        return COIR_OK;
    return transfer_slowly(c, word, op, item, deadline);
}

static int try_transfer(coir_channel *channel, int op, void *item)
{
    struct channel *c = channel_of(channel);

    return c && item && c->capacity ? channel_try(c, op, item) : COIR_EINVAL;
}

/* What is asked of send is to read the element only. */
static void *unconst(const void *item)
{
    return (void *)(uintptr_t)item;
}

int coir_channel_send_until(coir_channel *channel, const void *element, int64_t deadline)
{
    return transfer(channel, COIR_SEND, unconst(element), deadline);
}

int coir_channel_send(coir_channel *channel, const void *element)
{
    return transfer(channel, COIR_SEND, unconst(element), COIR_NEVER);
}

int coir_channel_try_send(coir_channel *channel, const void *element)
{
    return try_transfer(channel, COIR_SEND, unconst(element));
}

int coir_channel_recv_until(coir_channel *channel, void *element, int64_t deadline)
{
    return transfer(channel, COIR_RECV, element, deadline);
}

int coir_channel_recv(coir_channel *channel, void *element)
{
    return transfer(channel, COIR_RECV, element, COIR_NEVER);
}

int coir_channel_try_recv(coir_channel *channel, void *element)
{
    return try_transfer(channel, COIR_RECV, element);
}

int coir_channel_close(coir_channel *channel)
{
    struct channel *c = channel_of(channel);
    struct waiter *senders, *receivers;
    uint64_t word;

    if (!c || !c->capacity)
        return COIR_EINVAL;
    word = lock(c);
    senders = waitq_take_all(&c->senders, COIR_ECLOSED);
    receivers = waitq_take_all(&c->receivers, COIR_ECLOSED); /* then the ring is empty: H1 */
    word_unlock(&c->state, word | CLOSED);
    waiter_wake_all(senders);
    waiter_wake_all(receivers);
    return word & CLOSED ? COIR_ECLOSED : COIR_OK;
}

static int allocate_ring(struct channel *c)
{
    struct coir_runtime *rt = runtime_here();
    size_t bytes = c->element_bytes * c->capacity;

    c->host = rt ? &rt->host : NULL;
    c->ring = c->host ? mem_alloc(c->host, bytes) : malloc(bytes);
    c->owns_ring = true;
    return c->ring ? COIR_OK : COIR_ENOMEM;
}

int coir_channel_init(coir_channel *channel, size_t element_bytes, size_t capacity, void *ring)
{
    struct channel made = {.ring = ring, .element_bytes = element_bytes, .capacity = capacity};
    size_t bytes;

    if (!channel || !element_bytes)
        return COIR_EINVAL;
    if (!capacity || __builtin_mul_overflow(element_bytes, capacity, &bytes) || bytes > PTRDIFF_MAX)
        return COIR_ERANGE;
    if (!ring && allocate_ring(&made) != COIR_OK) {
        made = (struct channel){.capacity = 0};
        memcpy(channel, &made, sizeof made);
        return COIR_ENOMEM;
    }
    memcpy(channel, &made, sizeof made);
    return COIR_OK;
}

int coir_channel_fini(coir_channel *channel)
{
    struct channel *c = channel_of(channel);
    bool busy;

    if (!c)
        return COIR_EINVAL;
    busy = c->senders.first || c->receivers.first;
    if (busy)
        return COIR_EBUSY;
    if (c->owns_ring && c->host)
        mem_free(c->host, c->ring);
    else if (c->owns_ring)
        free(c->ring);
    *c = (struct channel){.capacity = 0};
    return COIR_OK;
}
