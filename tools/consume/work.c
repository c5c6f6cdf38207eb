/* SPDX-License-Identifier: MIT */
/*
 * work.c - what becomes of one message: done and acknowledged, left to be tried again, or buried.
 *
 *              handle returns
 *   taken ------------------------> XACK                                      acknowledged
 *     |
 *     | it fails, panics, overflows
 *     +------ deliveries < attempts: left pending; taken over after claim_ns  failed
 *     +------ deliveries = attempts: XADD to the dead letters, then XACK      buried
 *
 * The group counts deliveries, so an attempt that ended with its process counts as well. A message
 * that has come more often than `attempts` killed, or was there when somebody killed, its last process, or
 * could not be buried then: it is buried without another try.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consume.h"

#define BURY_WORDS 64 /* fields and values of a message that its dead letter repeats, at most */

/* Moves a message to the dead letters if it is still pending: so there is one letter for each, whoever
 * else has it now. XACK comes last: redis does not undo it when XADD is refused. */
static const char bury_script[] =
    "if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1) == 0 then return 0 end "
    "redis.call('XADD', KEYS[2], '*', unpack(ARGV, 3)) "
    "return redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])";

/* How often the message has been delivered, this time included. 0: it is not ours any more; -1: unknown. */
static long deliveries(struct redis *r, const struct message *m)
{
    REDIS_REPLY reply = NULL;
    const redisReply *entry;

    if (!m->claimed)
        return 1;
    reply = redis_call(r, coir_now() + CALL_BUDGET, "XPENDING %s %s %s %s 1 %s", service.stream,
                       service.group, m->id, m->id, service.consumer);
    if (!reply || reply->type != REDIS_REPLY_ARRAY)
        return -1;
    if (reply->elements == 0)
        return 0;
    entry = reply->element[0];
    if (entry->type != REDIS_REPLY_ARRAY || entry->elements != 4 ||
        entry->element[3]->type != REDIS_REPLY_INTEGER)
        return -1;
    return (long)entry->element[3]->integer;
}

static void acknowledge(struct redis *r, const struct message *m)
{
    REDIS_REPLY reply = redis_call(r, coir_now() + CALL_BUDGET, "XACK %s %s %s", service.stream,
                                   service.group, m->id);

    if (!reply || reply->type != REDIS_REPLY_INTEGER)
        figure_add(&service.errors, 1); /* it comes again; its effect is there once */
    else if (reply->integer == 1)
        figure_add(&service.acked, 1);
    else
        figure_add(&service.stale, 1);
}

/* The words of a command, with their lengths. */
struct words {
    int count;
    const char *word[24 + BURY_WORDS];
    size_t bytes[24 + BURY_WORDS];
};

static void put(struct words *w, struct bytes b)
{
    w->word[w->count] = b.data;
    w->bytes[w->count++] = b.length;
}

static void put_text(struct words *w, const char *text)
{
    put(w, (struct bytes){text, strlen(text)});
}

static void put_pair(struct words *w, const char *field, const char *text)
{
    put_text(w, field);
    put_text(w, text);
}

static void bury(struct redis *r, const struct message *m, long attempts, const coir_failure *f)
{
    char tries[24], line[24], code[24];
    struct words w = {.count = 0};
    REDIS_REPLY reply = NULL;

    snprintf(tries, sizeof tries, "%ld", attempts);
    snprintf(line, sizeof line, "%d", f->line);
    snprintf(code, sizeof code, "%d", f->code);
    put_pair(&w, "EVAL", bury_script);
    put_text(&w, "2");
    put_pair(&w, service.stream, service.dead);
    put_pair(&w, service.group, m->id);
    put_pair(&w, "id", m->id);
    put_pair(&w, "attempts", tries);
    put_pair(&w, "kind", coir_kind_name(f->kind));
    put_pair(&w, "code", code);
    put_pair(&w, "message", f->message);
    put_pair(&w, "file", f->file ? f->file : "");
    put_pair(&w, "line", line);
    for (size_t i = 0; i < m->words && i < BURY_WORDS; i++)
        put(&w, message_word(m, i));
    reply = redis_call_words(r, coir_now() + CALL_BUDGET, w.count, w.word, w.bytes);
    if (!reply || reply->type != REDIS_REPLY_INTEGER) {
        figure_add(&service.errors, 1); /* it stays pending */
        fprintf(stderr, "coir-consume: dead letter of %s: %s\n", m->id, redis_error(r, reply));
    } else {
        figure_add(reply->integer ? &service.buried : &service.stale, 1);
    }
}

/* One attempt. */
static void attempt(struct redis *r, const struct message *m, long number)
{
    struct call call = {m, r};
    coir_failure failure;

    if (coir_try(handle, &call, &failure) == COIR_DONE) {
        acknowledge(r, m);
        return;
    }
    redis_close(r); /* it may have been left in the middle of an exchange */
    figure_add(&service.failed, 1);
    if (number >= service.attempts)
        bury(r, m, number, &failure);
}

static void settle(struct redis *r, const struct message *m)
{
    long number = deliveries(r, m);

    if (number < 0) {
        figure_add(&service.errors, 1); /* it stays pending */
    } else if (number == 0) {
        figure_add(&service.stale, 1);
    } else if (number > service.attempts) {
        bury(r, m, service.attempts,
             &(coir_failure){.kind = COIR_KIND_SHUTDOWN,
                             .message = "no attempts left; how the last one ended is not known"});
    } else {
        attempt(r, m, number);
    }
}

static void redis_end(void *redis)
{
    redis_close(redis);
}

void work(void *unused)
{
    struct redis r = service_redis();
    struct message *m;

    (void)unused;
    coir_job_name("work");
    if (coir_defer(redis_end, &r) != COIR_OK)
        return; /* not with fewer than COIR_DEFER_INLINE */
    while (coir_channel_recv(&service.messages, &m) == COIR_OK) {
        settle(&r, m);
        message_free(m);
    }
}
