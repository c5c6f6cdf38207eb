/* SPDX-License-Identifier: MIT */
/*
 * fetch.c - takes messages from the group: new ones, and those that others have abandoned.
 *
 * A message is taken only when a worker is, or will be, free for it: the stream is the queue, and
 * what waits there is nobody's to lose. So a process that dies holds at most in_flight of them, and after
 * claim_ns they are another's. A message that failed here is left pending, too: its next attempt
 * is this same way, for whichever process comes first, and claim_ns is the pause before it.
 *
 * The entries of one reply are not copied: each message holds a share of the reply.
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consume.h"

#define BATCH 16                     /* messages asked for at once */
#define BLOCK_MS 1000                /* how long the server waits for a new one */
#define PAUSE_MIN (50 * COIR_MS)   /* after an error, doubled each time */
#define PAUSE_MAX (2 * COIR_SEC)

struct bytes message_field(const struct message *m, const char *field)
{
    for (size_t i = 0; i + 1 < m->words; i += 2)
        if (bytes_are(message_word(m, i), field))
            return message_word(m, i + 1);
    return (struct bytes){"", 0};
}

void message_free(struct message *m)
{
    if (atomic_fetch_sub_explicit(m->batch_users, 1, memory_order_acq_rel) == 1) { /* the last one */
        freeReplyObject(m->batch);
        free(m->batch_users);
    }
    free(m);
    coir_semaphore_release(&service.room, 1);
}

static void redis_end(struct redis *r)
{
    redis_close(r);
}

#define REDIS __attribute__((cleanup(redis_end))) struct redis

/* ---------------------------------------------------------------------------------------- group */

bool fetch_open(void)
{
    REDIS r = service_redis();
    REDIS_REPLY reply = redis_call(&r, coir_now() + CALL_BUDGET, "XGROUP CREATE %s %s 0 MKSTREAM",
                                   service.stream, service.group);
    bool open = reply && (reply->type != REDIS_REPLY_ERROR || strncmp(reply->str, "BUSYGROUP", 9) == 0);

    if (!open)
        warnx("redis at %s:%u: %s", service.address, service.port, redis_error(&r, reply));
    return open;
}

/* ------------------------------------------------------------------------------------ permits */

/* Not canceled: a reply that is on its way may hold messages. */
static bool is_stopping(void)
{
    return coir_event_is_set(&service.stop) || coir_canceled();
}

static void give_back(unsigned n)
{
    if (n)
        coir_semaphore_release(&service.room, n);
}

/* Takes 1 to BATCH permits; 0: it stops, which may be while it waits for one. */
static unsigned take_room(void)
{
    unsigned n = 1;

    if (is_stopping() || coir_semaphore_acquire(&service.room) != COIR_OK)
        return 0;
    while (n < BATCH && coir_semaphore_try_acquire(&service.room) == COIR_OK)
        n++;
    if (!is_stopping())
        return n;
    give_back(n);
    return 0;
}

/* ------------------------------------------------------------------------------------ entries */

static bool is_entry(const redisReply *e)
{
    if (e->type != REDIS_REPLY_ARRAY || e->elements != 2)
        return false;
    if (e->element[0]->type != REDIS_REPLY_STRING || e->element[1]->type != REDIS_REPLY_ARRAY)
        return false;
    for (size_t i = 0; i < e->element[1]->elements; i++)
        if (e->element[1]->element[i]->type != REDIS_REPLY_STRING)
            return false;
    return true;
}

static bool dispatch(redisReply *batch, _Atomic unsigned *users, const redisReply *entry, bool claimed)
{
    struct message *m = is_entry(entry) ? malloc(sizeof *m) : NULL;

    if (!m)
        return false; /* it stays pending, and is claimed when there is memory */
    *m = (struct message){.batch = batch,
                          .batch_users = users,
                          .id = entry->element[0]->str,
                          .words = entry->element[1]->elements,
                          .word = entry->element[1]->element,
                          .claimed = claimed};
    atomic_fetch_add_explicit(users, 1, memory_order_relaxed); /* the caller holds a share */
    if (coir_channel_try_send(&service.messages, &m) == COIR_OK)
        return true;
    atomic_fetch_sub_explicit(users, 1, memory_order_relaxed); /* as above: it is not the last */
    free(m);
    return false;
}

/* Hands out the entries, each with one of `room` permits; ends the batch if none was. Returns how many
 * permits are left. */
static unsigned dispatch_all(redisReply *batch, const redisReply *entries, unsigned room, bool claimed)
{
    _Atomic unsigned *users = malloc(sizeof *users);

    if (users) {
        atomic_init(users, 1); /* this one */
        for (size_t i = 0; i < entries->elements && room; i++)
            room -= dispatch(batch, users, entries->element[i], claimed);
    }
    if (!users || atomic_fetch_sub_explicit(users, 1, memory_order_acq_rel) == 1) { /* none was sent */
        freeReplyObject(batch);
        free(users);
    }
    return room;
}

static bool is_array(const redisReply *r, size_t elements)
{
    return r && r->type == REDIS_REPLY_ARRAY && r->elements >= elements;
}

/* Returns early at the stop. */
static void pause_for(int64_t ns)
{
    if (coir_event_wait_until(&service.stop, coir_now() + ns) == COIR_ENOMEM)
        coir_yield(); /* no stack left to wait on */
}

/* Says why there is nothing. Then a pause. Returns the next one. A group that has gone, with its stream or the
 * whole database, is made anew. */
static int64_t pause_after(const struct redis *r, const redisReply *reply, int64_t pause)
{
    figure_add(&service.errors, 1);
    fprintf(stderr, "coir-consume: redis: %s\n", redis_error(r, reply));
    if (reply && reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, "NOGROUP", 7) == 0)
        (void)fetch_open(); /* or after the next error */
    pause_for(pause);
    return pause * 2 < PAUSE_MAX ? pause * 2 : PAUSE_MAX;
}

/* --------------------------------------------------------------------------------------- jobs */

/* Reads new messages once. Returns the reply, for the caller to tell of: NULL, or another than messages. */
static redisReply *read_new(struct redis *r, unsigned *room)
{
    redisReply *reply = redis_call(r, coir_now() + BLOCK_MS * COIR_MS + CALL_BUDGET,
                                   "XREADGROUP GROUP %s %s COUNT %u BLOCK %d STREAMS %s >",
                                   service.group, service.consumer, *room, BLOCK_MS, service.stream);

    if (is_array(reply, 1) && is_array(reply->element[0], 2) &&
        is_array(reply->element[0]->element[1], 0)) {
        unsigned left = dispatch_all(reply, reply->element[0]->element[1], *room, false);

        figure_add(&service.taken, *room - left);
        *room = left;
        return NULL;
    }
    return reply;
}

void fetch_new(void *unused)
{
    REDIS r = service_redis();
    int64_t pause = PAUSE_MIN;
    unsigned room;

    (void)unused;
    coir_job_name("fetch new");
    while ((room = take_room()) != 0) {
        REDIS_REPLY reply = read_new(&r, &room);

        give_back(room);
        if (reply ? reply->type != REDIS_REPLY_NIL : !r.reader) { /* nil: none has come */
            pause = pause_after(&r, reply, pause);
        } else {
            pause = PAUSE_MIN;
        }
    }
}

/* Takes over what others have left for claim_ns, from *cursor on. */
static redisReply *read_abandoned(struct redis *r, unsigned *room, char cursor[32])
{
    redisReply *reply = redis_call(r, coir_now() + CALL_BUDGET, "XAUTOCLAIM %s %s %s %lld %s COUNT %u",
                                   service.stream, service.group, service.consumer,
                                   (long long)(service.claim_ns / COIR_MS), cursor, *room);

    if (is_array(reply, 2) && reply->element[0]->type == REDIS_REPLY_STRING &&
        is_array(reply->element[1], 0)) {
        unsigned left;

        snprintf(cursor, 32, "%s", reply->element[0]->str);
        left = dispatch_all(reply, reply->element[1], *room, true);
        figure_add(&service.taken, *room - left);
        figure_add(&service.claimed, *room - left);
        *room = left;
        return NULL;
    }
    return reply;
}

void fetch_abandoned(void *unused)
{
    REDIS r = service_redis();
    char cursor[32] = "0-0";
    int64_t pause = PAUSE_MIN;
    unsigned room;

    (void)unused;
    coir_job_name("fetch abandoned");
    while ((room = take_room()) != 0) {
        REDIS_REPLY reply = read_abandoned(&r, &room, cursor);

        give_back(room);
        if (reply || !r.reader) {
            pause = pause_after(&r, reply, pause);
        } else {
            pause = PAUSE_MIN;
            if (strcmp(cursor, "0-0") == 0) /* all of them have been looked at */
                pause_for(service.claim_ns / 4);
        }
    }
}
