/* SPDX-License-Identifier: MIT */
/*
 * socket_fair_test.c - I/O beside fibers that never rest, on both backends: what is prepared goes to the kernel, sends
 * with others', and whoever computes for long keeps none back.
 */
#include "sockets.h"

#include <stdatomic.h>

#define YIELDERS 4

static struct {
    struct pair p;
    int yielding, parked, received, returned;
} restless;

static void yield_until_received(void *unused)
{
    (void)unused;
    run_count(&restless.yielding);
    while (!__atomic_load_n(&restless.received, __ATOMIC_ACQUIRE))
        coir_yield();
}

static void receive_one(void *unused)
{
    char got;

    (void)unused;
    run_set(&restless.parked);
    CHECK_EQ(coir_socket_recv(restless.p.b, &got, 1), 1);
    run_set(&restless.received);
}

/* One of them is ready whenever another yields, so the worker never looks whether it has nothing better to do. */
static void receive_among_yielders(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    memset(&restless, 0, sizeof restless);
    restless.p = pair_open();
    for (int i = 0; i < YIELDERS; i++)
        CHECK_EQ(coir_spawn(&c, yield_until_received, NULL), COIR_OK);
    while (__atomic_load_n(&restless.yielding, __ATOMIC_ACQUIRE) < YIELDERS)
        coir_yield();
    CHECK_EQ(coir_spawn(&c, receive_one, NULL), COIR_OK);
    while (!__atomic_load_n(&restless.parked, __ATOMIC_ACQUIRE))
        coir_yield();
    CHECK_EQ(coir_socket_send(restless.p.a, "x", 1), 1);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    pair_close(restless.p);
}

static void fibers_that_only_yield_keep_no_operation_back(enum coir_io io)
{
    on(io, 1, receive_among_yielders, NULL);
    on(io, 2, receive_among_yielders, NULL);
}
ON_BOTH(fibers_that_only_yield_keep_no_operation_back)

#define SLICE_NS (200 * COIR_US)

static int slices, until_sent, until_returned;

/* Each takes its time, and looks whether the other end has got something. */
static void compute_until_returned(void *unused)
{
    char got;

    (void)unused;
    for (int i = 0; i < 100; i++)
        coir_yield(); /* short turns */
    restless.yielding++;
    while (!restless.received || !restless.returned) { /* all on one worker */
        int64_t end = coir_now() + SLICE_NS;

        while (coir_now() < end)
            ;
        slices++;
        if (recv(restless.p.b, &got, 1, MSG_DONTWAIT) == 1) {
            until_sent = slices;
            restless.received = 1;
        }
        coir_yield();
    }
}

/* At once, or when their turns have been long for a while. */
static void send_among_computers(void *later)
{
    coir_counter c = COIR_COUNTER_INIT;

    memset(&restless, 0, sizeof restless);
    restless.p = pair_open();
    for (int i = 0; i < YIELDERS; i++)
        CHECK_EQ(coir_spawn(&c, compute_until_returned, NULL), COIR_OK);
    while (restless.yielding < YIELDERS)
        coir_yield();
    for (slices = 0; later && slices < 130;)
        coir_yield();
    slices = 0;
    CHECK_EQ(coir_socket_send(restless.p.a, "x", 1), 1);
    until_returned = slices;
    restless.returned = 1;
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK(until_sent <= YIELDERS);
    CHECK(until_returned <= (later ? 0 : 3 * YIELDERS));
    pair_close(restless.p);
}

/* Not even until the worker's next look at I/O, which is after so many turns, however long these are. */
static void a_send_waits_for_few_turns_of_others(enum coir_io io)
{
    for (int i = 0; i < 4; i++) {
        on(io, 1, send_among_computers, NULL);
        on(io, 1, send_among_computers, &slices);
    }
}
ON_BOTH(a_send_waits_for_few_turns_of_others)

static int turns;

static void take_short_turns(void *unused)
{
    (void)unused;
    while (!restless.returned) { /* all on one worker */
        turns++;
        coir_yield();
    }
}

/* Where others' turns are short a send is prepared, and leaves the worker to them until there are more, or all wait. A
 * machine that takes the processor away makes turns long; so not each time, and under a sanitizer maybe never. */
static void send_among_the_brisk(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    int together = 0, swift = 0;
    char got;

    (void)unused;
    memset(&restless, 0, sizeof restless);
    restless.p = pair_open();
    for (int i = 0; i < YIELDERS; i++)
        CHECK_EQ(coir_spawn(&c, take_short_turns, NULL), COIR_OK);
    for (int i = 0; i < 10000 && !together; i++) {
        int64_t start = coir_now();
        int before;

        for (int k = 0; k < 100; k++)
            coir_yield();
        swift |= coir_now() - start < COIR_MS / 4;
        before = turns;
        CHECK_EQ(coir_socket_send(restless.p.a, "x", 1), 1);
        together = turns > before;
        CHECK_EQ(coir_socket_recv(restless.p.b, &got, 1), 1);
    }
    restless.returned = 1;
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK(together || !swift);
    pair_close(restless.p);
}

static void sends_go_together_where_turns_are_short(void)
{
    if (have(COIR_IO_URING))
        on(COIR_IO_URING, 1, send_among_the_brisk, NULL);
}

static _Atomic int heard;

/* One turn, to the end of which nothing but the other worker can bring the byte. */
static void compute_until_heard(void *unused)
{
    int64_t limit = in_ms(CHECK_SECONDS * 80);

    (void)unused;
    while (!atomic_load_explicit(&heard, memory_order_relaxed))
        CHECK(coir_now() < limit);
}

/* What a worker has prepared while turns were short is not kept until a long one has ended. */
static void receive_beside_a_long_turn(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    char got;

    (void)unused;
    atomic_store_explicit(&heard, 0, memory_order_relaxed);
    restless.p = pair_open();
    CHECK_EQ(send(restless.p.a, "x", 1, MSG_NOSIGNAL), 1);
    for (int i = 0; i < 200; i++)
        coir_yield();
    CHECK_EQ(coir_spawn(&c, compute_until_heard, NULL), COIR_OK); /* for the worker on which this parks now */
    CHECK_EQ(coir_socket_recv(restless.p.b, &got, 1), 1);
    atomic_store_explicit(&heard, 1, memory_order_relaxed);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    pair_close(restless.p);
}

static void a_long_turn_keeps_no_receive_back(enum coir_io io)
{
    for (int i = 0; i < 10; i++)
        on(io, 2, receive_beside_a_long_turn, NULL);
}
ON_BOTH(a_long_turn_keeps_no_receive_back)

CHECK_MAIN(CASE(sends_go_together_where_turns_are_short), CASES(fibers_that_only_yield_keep_no_operation_back),
           CASES(a_send_waits_for_few_turns_of_others), CASES(a_long_turn_keeps_no_receive_back))
