/* SPDX-License-Identifier: MIT */
/*
 * consume.h - what the parts of coir-consume know of each other: the service, a message, its handler.
 */
#ifndef CONSUME_H
#define CONSUME_H

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "coir.h"
#include "redis.h"

#define CALL_BUDGET (5 * COIR_SEC) /* of one exchange with redis */

/* The one service of the process. Set before the first job starts, but for the figures. */
extern struct service {
    const char *address, *stream, *group, *consumer, *dead;
    uint16_t port;
    unsigned in_flight; /* messages taken and not yet settled; as many workers */
    long attempts;      /* deliveries after which a message that fails is buried */
    int64_t claim_ns;   /* a message that nobody has settled for so long is another's to take */
    coir_semaphore room;   /* permits: how many more messages may be taken */
    coir_event stop;       /* nothing more is to be taken */
    coir_channel messages; /* struct message *, never full: each in it has a permit */

    /* Figures. */
    _Atomic uint64_t taken;   /* messages that came, for the first time or again */
    _Atomic uint64_t claimed; /* of those: abandoned by whoever had them before */
    _Atomic uint64_t acked, repeated, failed, buried; /* see the receipt, main.c */
    _Atomic uint64_t stale;   /* settled by another meanwhile, or taken over */
    _Atomic uint64_t errors;  /* calls to redis that had no good reply */
} service;

static inline void figure_add(_Atomic uint64_t *figure, uint64_t n)
{
    atomic_fetch_add_explicit(figure, n, memory_order_relaxed); /* statistics */
}

static inline uint64_t figure(_Atomic uint64_t *figure)
{
    return atomic_load_explicit(figure, memory_order_relaxed); /* statistics */
}

static inline struct redis service_redis(void)
{
    return (struct redis){.address = service.address, .port = service.port, .socket = -1};
}

/* An entry of the stream: its fields and values, in turn. */
struct message {
    redisReply *batch; /* what it came with; shared, see fetch.c */
    _Atomic unsigned *batch_users;
    const char *id;
    size_t words; /* fields and values */
    redisReply **word;
    bool claimed; /* it was somebody else's, so it has been tried before */
};

/* A view of bytes of a message. Any byte may occur. */
struct bytes {
    const char *data;
    size_t length;
};

static inline bool bytes_are(struct bytes b, const char *text)
{
    return b.length == strlen(text) && memcmp(b.data, text, b.length) == 0;
}

/* The word at i: a field if i is even, the value of the one before it if odd. */
static inline struct bytes message_word(const struct message *m, size_t i)
{
    return (struct bytes){m->word[i]->str, (size_t)m->word[i]->len};
}

/* The value of a field; empty if it has none. */
struct bytes message_field(const struct message *m, const char *field);

/* Ends it and gives its permit back. */
void message_free(struct message *m);

/* Makes the group, from the beginning of the stream; it may be there already. False: it is not; said on stderr. */
bool fetch_open(void);

/* Jobs. fetch_new, fetch_abandoned: until the stop. work: until the channel is closed. */
void fetch_new(void *unused);
void fetch_abandoned(void *unused);
void work(void *unused);

/* What a message is for. */
struct call {
    const struct message *message;
    struct redis *redis; /* for its effect */
};

/* A coir_fn: handles one message. It may fail (coir_fail), panic, overflow; the message is tried again. */
void handle(void *call);

#endif
