/* SPDX-License-Identifier: MIT */
/*
 * redis.h - one connection to redis, used by one fiber at a time: hiredis speaks the protocol, coir's
 * sockets carry it, so that a call parks its fiber and not its worker.
 */
#ifndef CONSUME_REDIS_H
#define CONSUME_REDIS_H

#include <hiredis/hiredis.h>

#include "coir.h"

struct redis {
    const char *address;
    uint16_t port;
    int socket;          /* -1: not connected */
    redisReader *reader; /* NULL: not connected */
    char error[160];     /* of the last call that returned NULL */
};

/* A reply that is freed when its block is left, by a panic too. */
#define REDIS_REPLY __attribute__((cleanup(redis_reply_free))) redisReply *

static inline void redis_reply_free(redisReply **reply)
{
    if (*reply)
        freeReplyObject(*reply);
}

/*
 * Sends a command (format as redisCommand of hiredis) and waits for its reply, until the deadline;
 * connects first if need be. NULL: no reply; error says why, and the connection is closed. A reply
 * of the type REDIS_REPLY_ERROR is returned as any other. Suspends.
 */
redisReply *redis_call(struct redis *r, int64_t deadline, const char *format, ...);

/* The same of ready words. */
redisReply *redis_call_words(struct redis *r, int64_t deadline, int count, const char **word,
                             const size_t *bytes);

void redis_close(struct redis *r);

/* What went wrong with the last call: the server's words, or the connection's. */
const char *redis_error(const struct redis *r, const redisReply *reply);

#endif
