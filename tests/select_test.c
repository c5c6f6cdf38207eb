/* SPDX-License-Identifier: MIT */
/*
 * select_test.c - one of several operations, exactly: nothing is sent or received besides; the
 * choice is fair; who gives up has done nothing.
 */
#include "attack.h"

#include <pthread.h>
#include <stdatomic.h>

enum { CHANNELS = 4 };

static coir_channel channel[CHANNELS];

static void make(size_t capacity)
{
    for (int i = 0; i < CHANNELS; i++)
        CHECK_EQ(coir_channel_init(&channel[i], sizeof(int), capacity, NULL), COIR_OK);
}

static void end(void)
{
    for (int i = 0; i < CHANNELS; i++)
        CHECK_EQ(coir_channel_fini(&channel[i]), COIR_OK);
}

/* -------------------------------------------------------------------------------- one caller */

static void one_caller(void *unused)
{
    int in = 5, out = -1, other = -1;
    coir_case cases[] = {{&channel[0], &out, COIR_RECV}, {&channel[1], &other, COIR_RECV},
                         {&channel[2], &in, COIR_SEND}};
    size_t which = 99;

    (void)unused;
    make(1);
    CHECK_EQ(coir_select(cases, 2, 0, &which), COIR_ETIMEDOUT);
    CHECK_EQ(coir_select(cases, 2, coir_now() + COIR_MS, &which), COIR_ETIMEDOUT);
    CHECK_EQ(which, 99);
    CHECK_EQ(coir_select(cases, 3, 0, &which), COIR_OK);
    CHECK_EQ(which, 2);
    CHECK_EQ(coir_select(cases, 3, 0, &which), COIR_ETIMEDOUT); /* it is full now */
    CHECK_EQ(coir_channel_send(&channel[1], &in), COIR_OK);
    CHECK_EQ(coir_select(cases, 3, COIR_NEVER, NULL), COIR_OK);
    CHECK(out == -1 && other == 5);
    CHECK_EQ(coir_channel_close(&channel[0]), COIR_OK);
    CHECK_EQ(coir_select(cases, 3, COIR_NEVER, &which), COIR_ECLOSED);
    CHECK_EQ(which, 0);
    cases[0].channel = NULL; /* left out from now on */
    CHECK_EQ(coir_select(cases, 3, coir_now() + COIR_MS, &which), COIR_ETIMEDOUT);
    end();
}

static void the_possible_one_is_done(void)
{
    one_caller(NULL);
    run_on(1, one_caller, NULL);
}

static void bad_input_is_refused(void)
{
    coir_channel none = {{0}};
    int x = 0;
    coir_case good = {&channel[0], &x, COIR_RECV}, bad;

    make(1);
    CHECK_EQ(coir_select(NULL, 1, 0, NULL), COIR_EINVAL);
    CHECK_EQ(coir_select(&good, 0, 0, NULL), COIR_EINVAL);
    CHECK_EQ(coir_select(&good, COIR_SELECT_MAX + 1, 0, NULL), COIR_EINVAL);
    bad = (coir_case){&channel[0], NULL, COIR_RECV};
    CHECK_EQ(coir_select(&bad, 1, 0, NULL), COIR_EINVAL);
    bad = (coir_case){&channel[0], &x, 0};
    CHECK_EQ(coir_select(&bad, 1, 0, NULL), COIR_EINVAL);
    bad = (coir_case){&none, &x, COIR_RECV};
    CHECK_EQ(coir_select(&bad, 1, 0, NULL), COIR_EINVAL);
    bad = (coir_case){NULL, &x, COIR_RECV};
    CHECK_EQ(coir_select(&bad, 1, COIR_NEVER, NULL), COIR_EDEADLK);
    CHECK_EQ(coir_select(&bad, 1, 0, NULL), COIR_ETIMEDOUT);
    end();
}

/* A send and a receive on the same channel never meet each other. */
static void talk_to_oneself(void *unused)
{
    int in = 1, out = 0, ready = 0, full = 0;
    size_t which;

    (void)unused;
    make(1);
    for (int i = 0; i < 1000; i++) {
        coir_case both[] = {{&channel[0], &out, COIR_RECV}, {&channel[0], &in, COIR_SEND}};

        CHECK_EQ(coir_select(both, 2, COIR_NEVER, &which), COIR_OK);
        CHECK_EQ(which, full ? 0 : 1);
        full = !full;
        ready += which == 0;
    }
    CHECK_EQ(ready, 500);
    end();
}

static void both_sides_of_one_channel_may_be_offered(void)
{
    talk_to_oneself(NULL);
    run_on(1, talk_to_oneself, NULL);
}

static void the_choice_is_fair(void)
{
    int x = 0, chosen[CHANNELS] = {0};
    coir_case cases[CHANNELS];

    make(1);
    for (int i = 0; i < CHANNELS; i++) {
        cases[i] = (coir_case){&channel[i], &x, COIR_RECV};
        CHECK_EQ(coir_channel_send(&channel[i], &x), COIR_OK);
    }
    for (int i = 0; i < 4000; i++) {
        size_t which;

        CHECK_EQ(coir_select(cases, CHANNELS, COIR_NEVER, &which), COIR_OK);
        chosen[which]++;
        CHECK_EQ(coir_channel_send(&channel[which], &x), COIR_OK);
    }
    for (int i = 0; i < CHANNELS; i++)
        CHECK(chosen[i] > 700 && chosen[i] < 1300); /* 1,000 expected; 11 standard deviations */
    end();
}

/* ------------------------------------------------------------------------------------- attack */

static struct {
    int rounds;
    int sent[CHANNELS], received[CHANNELS]; /* atomic: sums of what went through */
    int given_up;                           /* atomic */
    int next;                               /* atomic: numbers */
} flow;

/* Offers everything at once. */
static void trade_once(uint64_t *random, int64_t deadline)
{
    int in = run_count(&flow.next), out[CHANNELS];
    coir_case cases[2 * CHANNELS];
    size_t which = 99, n = 2 + random_next(random) % (2 * CHANNELS - 1);
    int status;

    for (size_t i = 0; i < n; i++) {
        size_t at = random_next(random) % CHANNELS;

        cases[i] = random_next(random) % 2 ? (coir_case){&channel[at], &in, COIR_SEND}
                                           : (coir_case){&channel[at], &out[at], COIR_RECV};
    }
    status = coir_select(cases, n, deadline, &which);
    if (status == COIR_OK) {
        int at = (int)(cases[which].channel - channel);

        if (cases[which].op == COIR_SEND)
            __atomic_add_fetch(&flow.sent[at], in, __ATOMIC_RELAXED);
        else
            __atomic_add_fetch(&flow.received[at], out[at], __ATOMIC_RELAXED);
    } else {
        CHECK(status == COIR_ETIMEDOUT || status == COIR_ECANCELED);
        run_count(&flow.given_up);
    }
}

static void trade(void *seed)
{
    uint64_t random = attack_seed(seed);

    for (int i = 0; i < flow.rounds; i++)
        trade_once(&random, coir_now() + (int64_t)(random_next(&random) % 50000));
}

static void exactly_one_operation_is_done(void)
{
    int total = 0;

    memset(&flow, 0, sizeof flow);
    flow.rounds = MANY(2000);
    make(2);
    attack_run((struct attack){.fn = trade, .jobs = 8, .threads = 2, .crowd = 6});
    for (int i = 0; i < CHANNELS; i++) {
        int x, left = 0;

        while (coir_channel_try_recv(&channel[i], &x) == COIR_OK)
            left += x;
        CHECK_EQ((unsigned)flow.sent[i], (unsigned)flow.received[i] + (unsigned)left);
        total += flow.sent[i];
    }
    CHECK(total != 0);
    end();
}

/* ------------------------------------------------------------------------------------ waiting */

static int arrived, status_seen;
static size_t which_seen;

static void wait_at_all(void *unused)
{
    int out;
    coir_case cases[CHANNELS];

    (void)unused;
    for (int i = 0; i < CHANNELS; i++)
        cases[i] = (coir_case){&channel[i], &out, COIR_RECV};
    run_set(&arrived);
    status_seen = coir_select(cases, CHANNELS, COIR_NEVER, &which_seen);
}

static void start_waiter(coir_counter *c)
{
    arrived = 0;
    CHECK_EQ(coir_spawn(c, wait_at_all, NULL), COIR_OK);
    run_until(&arrived);
    coir_yield();
}

static void end_the_wait(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    int x = 1;

    (void)unused;
    make(1);
    for (int i = 0; i < CHANNELS; i++) {
        start_waiter(&c);
        CHECK_EQ(coir_channel_send(&channel[i], &x), COIR_OK);
        CHECK_EQ(coir_wait(&c), COIR_DONE);
        CHECK_EQ(status_seen, COIR_OK);
        CHECK_EQ(which_seen, i);
    }
    start_waiter(&c);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(status_seen, COIR_ECANCELED);
    coir_counter_init(&c);
    start_waiter(&c);
    CHECK_EQ(coir_channel_close(&channel[3]), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(status_seen, COIR_ECLOSED);
    CHECK_EQ(which_seen, 3);
    end();
}

static void any_of_them_ends_the_wait(void)
{
    run_on(1, end_the_wait, NULL);
    run_on(2, end_the_wait, NULL);
}

/* ------------------------------------------------------------------------- a channel that goes */

#define ROUNDS MANY(4000)

static struct {
    coir_channel *_Atomic channel; /* to be received from twice; NULL: its receiver has freed it */
    int delay;
} leaving;

/* The second is the select's, which lets it go: then nobody else uses the channel. */
static void receive_twice_and_free(coir_channel *c)
{
    int x;

    for (volatile int i = 0; i < leaving.delay; i++)
        ;
    CHECK_EQ(coir_channel_recv(c, &x), COIR_OK);
    CHECK_EQ(coir_channel_recv(c, &x), COIR_OK);
    CHECK_EQ(coir_channel_fini(c), COIR_OK);
    memset(c, 0xff, sizeof *c);
    atomic_store(&leaving.channel, NULL);
}

static void *receive_and_free_all(void *unused)
{
    for (int round = 0; round < ROUNDS; round++) {
        coir_channel *c;

        while (!(c = atomic_load(&leaving.channel)))
            ;
        receive_twice_and_free(c);
    }
    return unused;
}

/* It may become possible between the first look at all cases and when they are queued. */
static void send_by_select(coir_channel *c, int round)
{
    static int room[2]; /* what outlives it */
    int one = 1, out;
    coir_case cases[1 + 3 * CHANNELS] = {{c, &one, COIR_SEND}};
    size_t which;

    for (int i = 1; i < 1 + 3 * CHANNELS; i++)
        cases[i] = (coir_case){&channel[i % CHANNELS], &out, COIR_RECV};
    CHECK_EQ(coir_channel_init(c, sizeof one, 1, room), COIR_OK);
    CHECK_EQ(coir_channel_send(c, &one), COIR_OK);
    leaving.delay = round % 97 * 4;
    atomic_store(&leaving.channel, c);
    CHECK_EQ(coir_select(cases, 1 + 3 * CHANNELS, COIR_NEVER, &which), COIR_OK);
    while (atomic_load(&leaving.channel))
        ;
}

static void who_is_let_go_may_free_the_channel(void)
{
    static coir_channel c;
    pthread_t receiver;

    make(1);
    CHECK_EQ(pthread_create(&receiver, NULL, receive_and_free_all, NULL), 0);
    for (int round = 0; round < ROUNDS; round++)
        send_by_select(&c, round);
    CHECK_EQ(pthread_join(receiver, NULL), 0);
    end();
}

CHECK_MAIN(CASE(the_possible_one_is_done), CASE(bad_input_is_refused),
           CASE(both_sides_of_one_channel_may_be_offered), CASE(the_choice_is_fair),
           CASE(exactly_one_operation_is_done), CASE(any_of_them_ends_the_wait),
           CASE(who_is_let_go_may_free_the_channel))
