/* SPDX-License-Identifier: MIT */
/*
 * handle.c - what a message does here, as an example: it writes `value` under `key` of the hash
 * STREAM:effects. Replace this file with your own work; nothing else knows what messages mean.
 *
 * A message may come more than once, so its effect must not happen twice: `key` is its idempotency
 * key, and HSETNX writes once only. Where the effect is elsewhere, keep the key there, in the same
 * transaction.
 *
 * The field `do` makes it break, to see what becomes of it: panic, fail, overflow, segfault.
 */
#include <string.h>

#include "consume.h"

static const char effect_script[] =
    "if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 1 then return 1 end "
    "redis.call('INCR', KEYS[2]) "
    "return 0";

static volatile int *volatile nowhere; /* NULL */

static void effect(const struct message *m, struct redis *r)
{
    struct bytes key = message_field(m, "key"), value = message_field(m, "value");
    REDIS_REPLY reply = NULL;

    if (key.length == 0)
        key = (struct bytes){m->id, strlen(m->id)};
    reply = redis_call(r, coir_now() + CALL_BUDGET, "EVAL %s 2 %s:effects %s:repeated %b %b", effect_script,
                       service.stream, service.stream, key.data, key.length, value.data, value.length);
    if (!reply || reply->type != REDIS_REPLY_INTEGER)
        coir_fail(COIR_EIO, "%s", redis_error(r, reply));
    else if (reply->integer == 0)
        figure_add(&service.repeated, 1);
}

static __attribute__((noinline)) int overflow(const volatile char *frame, int depth)
{
    volatile char next[4096];

    next[0] = frame[0];
    return depth ? overflow(next, depth - 1) + next[0] : 0;
}

void handle(void *arg)
{
    const struct call *call = arg;
    struct bytes what = message_field(call->message, "do");

    if (bytes_are(what, "panic"))
        coir_panic("message %s panics", call->message->id);
    if (bytes_are(what, "fail"))
        coir_fail(COIR_EINVAL, "message %s is not understood", call->message->id);
    else if (bytes_are(what, "overflow"))
        overflow((volatile char[1]){0}, 1 << 20);
    else if (bytes_are(what, "segfault"))
        *nowhere = 1;
    else
        effect(call->message, call->redis);
}
