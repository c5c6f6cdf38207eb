/* SPDX-License-Identifier: MIT */
/*
 * handoff_perf.c - claims: a mutex that is always contended and a channel that is always full or empty
 * change hands for less than those of Boost.Fiber and Go do. The peers' figures are the goals.
 *
 * Mutex: each fiber yields while it holds it, so whoever comes meanwhile has to park, and each unlock
 * hands over. Channel: one sender and one receiver with room for one element, so each element costs a
 * park; on two workers four of each and room for 128. Workers of these rows are not bound.
 */
#include "kit.h"

struct crowd {
    unsigned workers;
    unsigned pairs;    /* of fibers */
    unsigned capacity; /* of the channel; 0: a mutex */
};

struct handing {
    struct bench *b;
    const struct crowd *crowd;
    uint64_t turns; /* of each fiber, or elements of each sender */
    coir_mutex mutex;
    coir_channel channel;
};

/* ----------------------------------------------------------------------------------------- mutex */

static void contend(void *arg)
{
    struct handing *h = arg;

    for (uint64_t i = 0; i < h->turns; i++) {
        if (coir_mutex_lock(&h->mutex) != COIR_OK)
            coir_panic("a lock was refused");
        coir_yield();
        coir_mutex_unlock(&h->mutex);
    }
}

static void mutexes(void *arg)
{
    struct handing *h = arg;
    coir_counter all = COIR_COUNTER_INIT;
    int64_t start = coir_now();

    if (coir_spawn_many(&all, contend, h, 0, h->crowd->pairs * 2) != COIR_OK)
        h->b->error = "a spawn was refused";
    if (coir_wait(&all) != COIR_DONE)
        h->b->error = "a fiber failed";
    h->b->ns = coir_now() - start;
    h->b->done = h->turns * h->crowd->pairs * 2;
}

/* --------------------------------------------------------------------------------------- channel */

static void send_all(void *arg)
{
    struct handing *h = arg;

    for (uint64_t i = 0; i < h->turns; i++)
        if (coir_channel_send(&h->channel, &i) != COIR_OK)
            coir_panic("a send was refused");
}

static void receive_all(void *arg)
{
    struct handing *h = arg;
    uint64_t element;

    for (uint64_t i = 0; i < h->turns; i++)
        if (coir_channel_recv(&h->channel, &element) != COIR_OK)
            coir_panic("a receive was refused");
}

static void channels(void *arg)
{
    struct handing *h = arg;
    coir_counter all = COIR_COUNTER_INIT;
    int64_t start;

    if (coir_channel_init(&h->channel, sizeof(uint64_t), h->crowd->capacity, NULL) != COIR_OK) {
        h->b->error = "no memory";
        return;
    }
    start = coir_now();
    if (coir_spawn_many(&all, send_all, h, 0, h->crowd->pairs) != COIR_OK ||
        coir_spawn_many(&all, receive_all, h, 0, h->crowd->pairs) != COIR_OK)
        h->b->error = "a spawn was refused";
    if (coir_wait(&all) != COIR_DONE)
        h->b->error = "a fiber failed";
    h->b->ns = coir_now() - start;
    h->b->done = h->turns * h->crowd->pairs;
    if (coir_channel_fini(&h->channel) != COIR_OK)
        h->b->error = "somebody waits at the channel";
}

static void hand_over(struct bench *b, const void *arg)
{
    const struct crowd *crowd = arg;
    struct handing h = {.b = b, .crowd = crowd, .mutex = COIR_MUTEX_INIT};
    coir_options options = kit_options(crowd->workers);

    h.turns = b->n / crowd->pairs + 1;
    kit_run(b, &options, crowd->capacity ? channels : mutexes, &h);
}

#define CROWD(...) hand_over, &(const struct crowd){__VA_ARGS__}, 0, BENCH_NS, NULL, BENCH_NO_GOAL, 0

static const struct bench_row rows[] = {
    {"handoff/mutex/1", "mutex handed over, 2 fibers, 1 worker", CROWD(1, 1, 0)},
    {"handoff/mutex/2", "mutex handed over, 8 fibers, 2 workers", CROWD(2, 4, 0)},
    {"handoff/channel/1", "channel of 1, an element, 1 worker", CROWD(1, 1, 1)},
    {"handoff/channel/2", "channel of 128, an element, 2 workers", CROWD(2, 4, 128)},
};

BENCH_SUITE(handoff, rows);
