/* SPDX-License-Identifier: MIT */
/*
 * pool_queue.h - the messages of a pool: places, the queue, those that wait for a retry or a probe, how
 * each ends. See pool_queue.c.
 */
#ifndef COIR_POOL_QUEUE_H
#define COIR_POOL_QUEUE_H

#include "retry.h"
#include "timer.h"
#include "waitq.h"

/* Flags of pool->state, beside WORD_LOCK. */
#define POOL_CLOSING UINT64_C(2)  /* nothing is admitted */
#define POOL_ENDING UINT64_C(4)   /* nothing is tried again, workers end */
#define POOL_CANCELED UINT64_C(8) /* its domain is canceled */

/* Where a message is; decides who may touch it. Written under the lock. */
enum place {
    PLACE_NONE,   /* handled, or on its way: who has taken it */
    PLACE_QUEUE,
    PLACE_HELD,   /* until the breaker's probe is back, or its timer fires */
    PLACE_ARMING, /* its timer has been armed, it is not listed yet */
    PLACE_FIRED,  /* and the timer was faster */
    PLACE_DELAYED /* until its timer fires */
};

/* What is in coir_message.opaque. */
struct parcel {
    struct parcel *next, *prev;
    struct coir_pool *pool;
    struct timer timer;
    struct timers *heap;  /* that the timer is in, or was; NULL: in none */
    int64_t deadline;     /* COIR_NEVER: none */
    int64_t due;          /* not to be handled before; 0: at once */
    enum place place;
};

struct parcels {
    struct parcel *first, *last;
};

struct pool_worker {
    struct coir_pool *pool;
    struct counter started; /* owed until it runs */
    struct counter job;     /* owed until it has ended, or was dropped */
    coir_message *message;  /* that it handles */
};

struct coir_pool {
    /* Constant once it is open. */
    struct retry retry;
    struct coir_runtime *rt;
    struct coir_domain *domain;
    coir_message_fn *dead, *ended;
    void *context;
    uint64_t queue_max;
    struct coir_pool *next; /* of the runtime's; rt->domains_lock */
    int full;              /* enum coir_full */
    int64_t full_wait_ns;  /* COIR_NEVER: no limit */
    int64_t deadline_ns;   /* COIR_NEVER: none */
    char name[32];

    /* The word is the lock of all below. */
    _Alignas(COIR_CACHE_LINE) _Atomic uint64_t state; /* POOL_ flags | WORD_LOCK */
    struct waitq idle, submitters, closers;
    struct parcels queue, held, delayed;
    uint64_t in_pool;      /* places taken: admitted, and not ended with all callbacks */
    uint64_t submitted, ended_as[COIR_MESSAGE_RETURNED + 1], refused, callback_panics, restarts;

    _Atomic unsigned visitors; /* calls from outside that may still touch it, the one that opens it included */
    coir_pool_receipt *receipt; /* of who holds its domain, filled before it goes; NULL: nobody's */
    unsigned workers;
    struct pool_worker worker[];
};

static inline struct parcel *parcel_of(coir_message *m)
{
    return (struct parcel *)(void *)m->opaque;
}

static inline coir_message *message_of(struct parcel *e)
{
    return CONTAINER_OF(e, coir_message, opaque);
}

/* VISIT (pool_submit.c): a call from outside. */
static inline void pool_visit(struct coir_pool *p)
{
    atomic_fetch_add_explicit(&p->visitors, 1, memory_order_seq_cst); /* VISIT */
}

static inline void pool_leave(struct coir_pool *p)
{
    atomic_fetch_sub_explicit(&p->visitors, 1, memory_order_release); /* VISIT: the last access */
}

/* Why nothing is admitted; COIR_OK: it is. */
int pool_refusal(uint64_t word);

/* Both: lock held. The message is the pool's from now on. */
void pool_prepare(struct coir_pool *p, coir_message *m, enum place place);

/* Queues the message if there is a place; *idle: a worker to wake, or NULL. COIR_EAGAIN: no place. */
int pool_try_admit(struct coir_pool *p, uint64_t word, coir_message *m, struct waiter **idle);

/* The next message, for a worker; waits for it. NULL: the worker is to end. */
coir_message *pool_take(struct coir_pool *p);

/* Handles a message that was taken: an attempt, and what follows. The calling job is the pool's. */
void pool_handle(struct coir_pool *p, coir_message *m);

/* Queues a message that was taken. due: not to be handled before; 0: at once. */
void pool_put_back(struct coir_pool *p, coir_message *m, int64_t due);

/* The calling job, whose attempts are the pool's affair, probes no breaker of a domain: whoever comes next does. */
void pool_probe_nothing(struct coir_pool *p);

/* Ends a message that was taken. */
void pool_end(struct coir_pool *p, coir_message *m, enum coir_message_end end);

/* An attempt has been made: what the breaker has held may be let go. */
void pool_release_held(struct coir_pool *p);

/* runtime->drop_pending: after's, and in all pools what is canceled while it waits for a retry or a probe is queued. */
void pool_drop_pending(struct coir_runtime *rt);

/* Sets flags; with CLOSING those who wait for a place are told so, with ENDING all that is not being
 * handled is given back, and idle workers end. */
void pool_stop(struct coir_pool *p, uint64_t flags);

#endif
