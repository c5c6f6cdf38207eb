/* SPDX-License-Identifier: MIT */
/*
 * wake_perf.c - claims, for waking a fiber on another worker and being woken back (median of round
 * trips): polling costs at most 2 raw ping-pongs by atomics between the same processors; parked, at
 * most 1.15 raw ping-pongs by futex. Rulers: those two, on threads bound like the workers.
 *
 * Each fiber has a runtime of its own with one worker on a processor of its own: within one runtime
 * the waker's own worker would run the fiber it woke, and nothing would cross.
 */
#include <pthread.h>
#include <stdlib.h>

#include "base.h"
#include "kit.h"

#define POLLED_EACH 16 /* round trips per sample: the clock costs a tenth of one */
#define PARKED_EACH 1

/* -------------------------------------------------------------------------------------- fibers */

/* ping is waited for by the answering side, pong by the asking one; each holds one unit, which the
 * other side releases and its waiter puts back before it answers. */
struct table {
    struct bench *b;
    struct samples *samples;
    coir_counter ping, pong;
    bool last; /* written before the last release of ping */
};

static void wait_and_rearm(coir_counter *c)
{
    if (coir_wait(c) != COIR_DONE)
        coir_panic("a wait was interrupted");
    coir_counter_add(c, 1);
}

static void round_trip(void *arg)
{
    struct table *t = arg;

    coir_counter_done(&t->ping, COIR_DONE);
    wait_and_rearm(&t->pong);
}

static void ask(void *arg)
{
    struct table *t = arg;

    round_trip(t); /* the answering side is there now */
    samples_take(t->samples, t->b, round_trip, t);
    t->last = true;
    coir_counter_done(&t->ping, COIR_DONE);
}

static void answer(void *arg)
{
    struct table *t = arg;

    for (;;) {
        wait_and_rearm(&t->ping);
        if (t->last)
            return;
        coir_counter_done(&t->pong, COIR_DONE);
    }
}

static int open_on(uintptr_t cpu, int64_t spin_ns, coir_runtime **runtime)
{
    coir_options options = kit_options(1);

    options.spin_ns = spin_ns;
    options.worker_start = kit_pin_worker;
    options.worker_start_arg = (void *)cpu;
    return coir_open(&options, runtime);
}

static const char *play(struct table *t, coir_runtime *asks, coir_runtime *answers)
{
    coir_counter both = COIR_COUNTER_INIT;

    coir_counter_add(&t->ping, 1);
    coir_counter_add(&t->pong, 1);
    if (coir_submit(answers, &both, answer, t) != COIR_OK ||
        coir_submit(asks, &both, ask, t) != COIR_OK)
        return "a submit was refused";
    return coir_wait(&both) == COIR_DONE ? NULL : "a side failed";
}

static void fibers(struct bench *b, int64_t spin_ns, uint64_t each)
{
    struct table t = {.b = b, .samples = samples_new(b->n, each)};
    coir_runtime *asks = NULL, *answers = NULL;

    b->error = "needs two processors and memory for two runtimes";
    if (kit_cpus() < 2 || !t.samples)
        goto free_samples;
    if (open_on(0, spin_ns, &asks) == COIR_OK && open_on(1, spin_ns, &answers) == COIR_OK)
        b->error = play(&t, asks, answers);
    if (asks && coir_close(asks, -1, NULL) != COIR_OK)
        b->error = "the asking runtime did not close";
    if (answers && coir_close(answers, -1, NULL) != COIR_OK)
        b->error = "the answering runtime did not close";
free_samples:
    free(t.samples);
}

static void polling(struct bench *b, const void *arg)
{
    (void)arg;
    fibers(b, COIR_NEVER, POLLED_EACH);
}

static void parked(struct bench *b, const void *arg)
{
    (void)arg;
    fibers(b, -1, PARKED_EACH);
}

/* ------------------------------------------------------------------------------- raw ping-pong */

/* A word counts what has been sent there. All on lines of their own. */
struct net {
    _Alignas(COIR_CACHE_LINE) _Atomic uint32_t ping;
    _Alignas(COIR_CACHE_LINE) _Atomic uint32_t pong;
    _Alignas(COIR_CACHE_LINE) struct bench *b;
    struct samples *samples;
    bool futex;
    uint32_t trips;
    _Atomic bool over;
};

static void hit(struct net *net, _Atomic uint32_t *word)
{
    atomic_fetch_add_explicit(word, 1, memory_order_release);
    if (net->futex)
        futex_wake(word, 1);
}

static void await(struct net *net, _Atomic uint32_t *word, uint32_t count)
{
    uint32_t seen;

    while ((seen = atomic_load_explicit(word, memory_order_acquire)) != count)
        if (net->futex)
            futex_wait(word, seen, COIR_NEVER);
}

static void raw_trip(void *arg)
{
    struct net *net = arg;

    net->trips++;
    hit(net, &net->ping);
    await(net, &net->pong, net->trips);
}

static void *raw_ask(void *arg)
{
    struct net *net = arg;

    kit_pin(0);
    raw_trip(net);
    samples_take(net->samples, net->b, raw_trip, net);
    atomic_store_explicit(&net->over, true, memory_order_release);
    hit(net, &net->ping);
    return NULL;
}

static void *raw_answer(void *arg)
{
    struct net *net = arg;

    kit_pin(1);
    for (uint32_t count = 1;; count++) {
        await(net, &net->ping, count);
        if (atomic_load_explicit(&net->over, memory_order_acquire))
            return NULL;
        hit(net, &net->pong);
    }
}

static void raw(struct bench *b, bool futex, uint64_t each)
{
    struct net net = {.b = b, .samples = samples_new(b->n, each), .futex = futex};
    pthread_t asks, answers;

    b->error = "needs two processors and two threads";
    if (kit_cpus() < 2 || !net.samples || pthread_create(&answers, NULL, raw_answer, &net) != 0)
        goto free_samples;
    if (pthread_create(&asks, NULL, raw_ask, &net) == 0) {
        pthread_join(asks, NULL);
        b->error = NULL;
    } else {
        atomic_store_explicit(&net.over, true, memory_order_release);
        hit(&net, &net.ping);
    }
    pthread_join(answers, NULL);
free_samples:
    free(net.samples);
}

static void raw_atomics(struct bench *b, const void *arg)
{
    (void)arg;
    raw(b, false, POLLED_EACH);
}

static void raw_futex(struct bench *b, const void *arg)
{
    (void)arg;
    raw(b, true, PARKED_EACH);
}

static const struct bench_row rows[] = {
    {"wake/polling", "wake there and back, polling", polling, NULL, 0, BENCH_NS_P50, "wake/atomics",
     BENCH_RATIO_AT_MOST, 2},
    {"wake/atomics", "ruler: raw atomics", raw_atomics, NULL, 0, BENCH_NS_P50, NULL,
     BENCH_NO_GOAL, 0},
    {"wake/parked", "wake there and back, parked", parked, NULL, 0, BENCH_NS_P50, "wake/futex",
     BENCH_RATIO_AT_MOST, 1.15},
    {"wake/futex", "ruler: raw futex", raw_futex, NULL, 0, BENCH_NS_P50, NULL, BENCH_NO_GOAL, 0},
};

BENCH_SUITE(wake, rows);
