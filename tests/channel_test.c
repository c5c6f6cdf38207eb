/* SPDX-License-Identifier: MIT */
/*
 * channel_test.c - every element that was sent is received once, whoever gives up, panics or closes.
 */
#include "scarce.h"
#include "threads.h"

#include <stdbool.h>

/* -------------------------------------------------------------------------------- one caller */

static void one_caller(void *ring)
{
    coir_channel c;
    int in, out = -1;

    CHECK_EQ(coir_channel_init(&c, sizeof(int), 3, ring), COIR_OK);
    CHECK_EQ(coir_channel_try_recv(&c, &out), COIR_EAGAIN);
    CHECK_EQ(coir_channel_recv_until(&c, &out, 0), COIR_ETIMEDOUT);
    CHECK_EQ(coir_channel_recv_until(&c, &out, coir_now() + COIR_MS), COIR_ETIMEDOUT);
    CHECK_EQ(out, -1);
    for (int round = 0; round < 5; round++) {
        for (in = 0; in < 3; in++)
            CHECK_EQ(in ? coir_channel_send(&c, &in) : coir_channel_try_send(&c, &in), COIR_OK);
        CHECK_EQ(coir_channel_try_send(&c, &in), COIR_EAGAIN);
        CHECK_EQ(coir_channel_send_until(&c, &in, coir_now() + COIR_US), COIR_ETIMEDOUT);
        for (in = 0; in < 3; in++) {
            CHECK_EQ(in ? coir_channel_recv(&c, &out) : coir_channel_try_recv(&c, &out), COIR_OK);
            CHECK_EQ(out, in);
        }
        CHECK_EQ(coir_channel_send(&c, &in), COIR_OK); /* the ring turns */
        CHECK_EQ(coir_channel_recv(&c, &out), COIR_OK);
    }
    CHECK_EQ(coir_channel_send(&c, &in), COIR_OK);
    CHECK_EQ(coir_channel_close(&c), COIR_OK);
    CHECK_EQ(coir_channel_close(&c), COIR_ECLOSED);
    CHECK_EQ(coir_channel_send(&c, &in), COIR_ECLOSED);
    CHECK_EQ(coir_channel_try_send(&c, &in), COIR_ECLOSED);
    CHECK_EQ(coir_channel_recv(&c, &out), COIR_OK); /* what is in it comes out first */
    CHECK_EQ(out, 3);
    CHECK_EQ(coir_channel_recv(&c, &out), COIR_ECLOSED);
    CHECK_EQ(coir_channel_try_recv(&c, &out), COIR_ECLOSED);
    CHECK_EQ(coir_channel_fini(&c), COIR_OK);
}

static void elements_come_out_in_order(void)
{
    int ring[3];

    one_caller(NULL);
    one_caller(ring);
    run_on(1, one_caller, NULL);
    run_on(1, one_caller, ring);
}

static void bad_input_is_refused(void)
{
    coir_channel c, none = {{0}};
    int x = 0;

    CHECK_EQ(coir_channel_init(NULL, 4, 4, NULL), COIR_EINVAL);
    CHECK_EQ(coir_channel_init(&c, 0, 4, NULL), COIR_EINVAL);
    CHECK_EQ(coir_channel_init(&c, 4, 0, NULL), COIR_ERANGE);
    CHECK_EQ(coir_channel_init(&c, SIZE_MAX / 2, 3, NULL), COIR_ERANGE);
    CHECK_EQ(coir_channel_init(&c, SIZE_MAX / 2 + 1, 1, NULL), COIR_ERANGE);
    CHECK_EQ(coir_channel_send(&none, &x), COIR_EINVAL);
    CHECK_EQ(coir_channel_recv(&none, &x), COIR_EINVAL);
    CHECK_EQ(coir_channel_try_send(&none, &x), COIR_EINVAL);
    CHECK_EQ(coir_channel_try_recv(&none, &x), COIR_EINVAL);
    CHECK_EQ(coir_channel_close(&none), COIR_EINVAL);
    CHECK_EQ(coir_channel_init(&c, 4, 4, NULL), COIR_OK);
    CHECK_EQ(coir_channel_send(NULL, &x), COIR_EINVAL);
    CHECK_EQ(coir_channel_send(&c, NULL), COIR_EINVAL);
    CHECK_EQ(coir_channel_send_until(&c, NULL, 0), COIR_EINVAL);
    CHECK_EQ(coir_channel_recv(&c, NULL), COIR_EINVAL);
    CHECK_EQ(coir_channel_recv_until(NULL, &x, 0), COIR_EINVAL);
    CHECK_EQ(coir_channel_try_send(&c, NULL), COIR_EINVAL);
    CHECK_EQ(coir_channel_try_recv(NULL, &x), COIR_EINVAL);
    CHECK_EQ(coir_channel_close(NULL), COIR_EINVAL);
    CHECK_EQ(coir_channel_fini(NULL), COIR_EINVAL);
    CHECK_EQ(coir_channel_fini(&c), COIR_OK);
}

static void make_without_memory(void *unused)
{
    coir_channel c;
    int x = 0, before = scarce.live;

    (void)unused;
    scarce.refuse = 1;
    CHECK_EQ(coir_channel_init(&c, sizeof x, 4, NULL), COIR_ENOMEM);
    CHECK_EQ(coir_channel_send(&c, &x), COIR_EINVAL); /* it was not made */
    scarce.refuse = 0;
    CHECK_EQ(coir_channel_init(&c, sizeof x, 4, NULL), COIR_OK);
    CHECK_EQ(scarce.live, before + 1); /* from the runtime's allocator */
    CHECK_EQ(coir_channel_fini(&c), COIR_OK);
    CHECK_EQ(scarce.live, before);
}

static void want_of_memory_is_told(void)
{
    coir_options o = scarce_options(1);

    CHECK_EQ(coir_run(&o, make_without_memory, NULL), COIR_DONE);
}

/* ------------------------------------------------------------------------------------- attack */

/* An element that shows whether it came whole: the copy of one word could not be torn. */
struct element {
    uint64_t number, twice[3];
};

static struct element element_of(uint64_t number)
{
    return (struct element){number, {2 * number, 2 * number, 2 * number}};
}

static struct {
    coir_channel channel;
    unsigned char *sent, *received;   /* by number */
    uint64_t next;                    /* atomic: numbers given out */
    uint64_t limit;
    int given_up, panicked;           /* atomic */
    int rounds;
} flow;

static void may_panic(uint64_t *random)
{
    if (random_next(random) % 64 == 0) {
        run_count(&flow.panicked);
        coir_panic("a peer breaks");
    }
}

static int64_t deadline_of(uint64_t *random)
{
    int64_t ns = (int64_t)(random_next(random) % 20000);

    return random_next(random) % 2 ? COIR_NEVER : coir_now() + ns;
}

static void gave_up(int status)
{
    CHECK(status == COIR_ETIMEDOUT || status == COIR_ECANCELED);
    run_count(&flow.given_up);
}

/* Sends numbers of its own; marks those that were sent. */
static void send_some(void *seed)
{
    uint64_t random = (uintptr_t)seed * 0x9e3779b97f4a7c15u + 1;

    for (int i = 0; i < flow.rounds; i++) {
        uint64_t n = __atomic_fetch_add(&flow.next, 1, __ATOMIC_RELAXED);
        struct element e = element_of(n);
        int status;

        if (n >= flow.limit)
            return;
        status = coir_channel_send_until(&flow.channel, &e, deadline_of(&random));
        memset(&e, 0xff, sizeof e); /* it was borrowed for the call */
        if (status == COIR_OK)
            flow.sent[n] = 1;
        else if (status == COIR_ECLOSED)
            return;
        else
            gave_up(status);
        if (coir_current())
            may_panic(&random);
    }
}

static bool receive_one(uint64_t *random)
{
    struct element e;
    int status = coir_channel_recv_until(&flow.channel, &e, deadline_of(random));

    if (status == COIR_OK) {
        CHECK(e.number < flow.limit && e.twice[0] == 2 * e.number && e.twice[1] == e.twice[0] &&
              e.twice[2] == e.twice[0]);
        if (e.number < flow.limit)
            __atomic_fetch_add(&flow.received[e.number], 1, __ATOMIC_RELAXED);
    } else if (status != COIR_ECLOSED) {
        gave_up(status);
    }
    return status != COIR_ECLOSED && status != COIR_ECANCELED;
}

static void receive_until_closed(void *seed)
{
    uint64_t random = (uintptr_t)seed * 0x9e3779b97f4a7c15u + 1;

    while (receive_one(&random))
        ;
}

static void receive_some(void *seed)
{
    uint64_t random = (uintptr_t)seed * 0x9e3779b97f4a7c15u + 1;

    for (int i = 0; i < flow.rounds && receive_one(&random); i++)
        may_panic(&random);
}

static void *send_on_thread(void *seed)
{
    send_some(seed);
    return NULL;
}

static void *receive_on_thread(void *seed)
{
    receive_until_closed(seed);
    return NULL;
}

/* Senders and receivers that are canceled, or panic, in the midst of it. */
static void break_some(void *unused)
{
    (void)unused;
    for (int i = 0; i < MANY(100); i++) {
        coir_counter c = COIR_COUNTER_INIT;

        for (uintptr_t k = 0; k < 6; k++)
            CHECK_EQ(coir_spawn(&c, k % 2 ? send_some : receive_some, (void *)(k + (uintptr_t)i * 7)),
                     COIR_OK);
        for (int k = 0; k < i % 8; k++)
            coir_yield();
        CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
        CHECK(coir_wait(&c) >= 0);
    }
}

static void set_up_flow(size_t capacity)
{
    memset(&flow, 0, sizeof flow);
    flow.rounds = MANY(2000);
    flow.limit = 1000000;
    flow.sent = calloc(flow.limit, 1);
    flow.received = calloc(flow.limit, 1);
    CHECK_EQ(coir_channel_init(&flow.channel, sizeof(struct element), capacity, NULL), COIR_OK);
}

static void check_flow(void)
{
    uint64_t count = 0;

    for (uint64_t n = 0; n < flow.limit; n++) {
        if (!CHECK_EQ(flow.received[n], flow.sent[n]))
            break;
        count += flow.sent[n];
    }
    CHECK(count > 0);
    CHECK_EQ(coir_channel_fini(&flow.channel), COIR_OK);
    free(flow.sent);
    free(flow.received);
}

static void flow_through(size_t capacity)
{
    struct threads senders = {.count = 0}, receivers = {.count = 0};
    coir_runtime *rt = run_open(2);
    coir_counter sent = COIR_COUNTER_INIT, received = COIR_COUNTER_INIT;

    set_up_flow(capacity);
    threads_add(&receivers, receive_on_thread, (void *)50);
    for (uintptr_t i = 0; i < 3; i++) {
        CHECK_EQ(coir_submit(rt, &sent, send_some, (void *)(i + 1)), COIR_OK);
        CHECK_EQ(coir_submit(rt, &received, receive_until_closed, (void *)(i + 10)), COIR_OK);
    }
    CHECK_EQ(coir_submit(rt, &sent, break_some, NULL), COIR_OK);
    threads_add(&senders, send_on_thread, (void *)60);
    threads_join(&senders);
    CHECK(coir_wait(&sent) >= 0);
    CHECK_EQ(coir_channel_close(&flow.channel), COIR_OK);
    CHECK_EQ(coir_wait(&received), COIR_DONE);
    threads_join(&receivers);
    run_close(rt);
    CHECK(SLOW || (flow.given_up > 0 && flow.panicked > 0));
    check_flow();
}

static void nothing_is_lost_or_doubled(void)
{
    flow_through(1);
    flow_through(8);
}

/* -------------------------------------------------------------------------------------- close */

static coir_channel channel;
static int arrived, statuses[8];

static void send_when_full(void *i)
{
    int x = 7;

    run_count(&arrived);
    statuses[(uintptr_t)i] = coir_channel_send(&channel, &x);
}

static void receive_when_empty(void *i)
{
    int x;

    run_count(&arrived);
    statuses[(uintptr_t)i] = coir_channel_recv(&channel, &x);
}

static void await_arrived(int n)
{
    while (__atomic_load_n(&arrived, __ATOMIC_RELAXED) < n)
        coir_yield();
    coir_yield();
}

static void close_on(coir_fn *fn, int fill)
{
    coir_counter c = COIR_COUNTER_INIT;
    int x = 1;

    arrived = 0;
    memset(statuses, 0, sizeof statuses);
    CHECK_EQ(coir_channel_init(&channel, sizeof x, 1, NULL), COIR_OK);
    if (fill)
        CHECK_EQ(coir_channel_send(&channel, &x), COIR_OK);
    for (uintptr_t i = 0; i < 4; i++)
        CHECK_EQ(coir_spawn(&c, fn, (void *)i), COIR_OK);
    await_arrived(4);
    CHECK_EQ(coir_channel_fini(&channel), COIR_EBUSY);
    CHECK_EQ(coir_channel_close(&channel), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(statuses[i], COIR_ECLOSED);
    x = 0;
    CHECK_EQ(coir_channel_recv(&channel, &x), fill ? COIR_OK : COIR_ECLOSED);
    CHECK_EQ(x, fill);
    CHECK_EQ(coir_channel_fini(&channel), COIR_OK);
}

static void close_on_all(void *unused)
{
    (void)unused;
    close_on(send_when_full, 1);
    close_on(receive_when_empty, 0);
}

static void a_close_is_told_to_all_who_wait(void)
{
    run_on(1, close_on_all, NULL);
}

/* --------------------------------------------------------------------------- order and cancel */

static void send_number(void *i)
{
    int x = (int)(uintptr_t)i;

    run_count(&arrived);
    CHECK_EQ(coir_channel_send(&channel, &x), COIR_OK);
}

static void senders_queue_up(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    int x = 0;

    (void)unused;
    arrived = 0;
    CHECK_EQ(coir_channel_init(&channel, sizeof x, 2, NULL), COIR_OK);
    for (uintptr_t i = 0; i < 8; i++) {
        CHECK_EQ(coir_spawn(&c, send_number, (void *)i), COIR_OK);
        await_arrived((int)i + 1);
    }
    for (int i = 0; i < 8; i++) {
        CHECK_EQ(coir_channel_recv(&channel, &x), COIR_OK);
        CHECK_EQ(x, i);
    }
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_channel_fini(&channel), COIR_OK);
}

static void who_waits_is_served_in_order(void)
{
    run_on(1, senders_queue_up, NULL);
}

static void cancel_both_sides(void *unused)
{
    coir_fn *const sides[] = {send_when_full, receive_when_empty};
    int x = 3;

    (void)unused;
    for (int side = 0; side < 2; side++) {
        coir_counter c = COIR_COUNTER_INIT;

        arrived = 0;
        CHECK_EQ(coir_channel_init(&channel, sizeof x, 1, NULL), COIR_OK);
        if (side == 0)
            CHECK_EQ(coir_channel_send(&channel, &x), COIR_OK);
        CHECK_EQ(coir_spawn(&c, sides[side], NULL), COIR_OK);
        await_arrived(1);
        CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
        CHECK_EQ(coir_wait(&c), COIR_DONE);
        CHECK_EQ(statuses[0], COIR_ECANCELED);
        if (side == 0)
            CHECK_EQ(coir_channel_recv(&channel, &x), COIR_OK);
        CHECK_EQ(x, 3);
        CHECK_EQ(coir_channel_try_recv(&channel, &x), COIR_EAGAIN); /* the canceled has sent nothing */
        CHECK_EQ(coir_channel_fini(&channel), COIR_OK);
    }
}

static void a_canceled_waiter_is_told(void)
{
    run_on(1, cancel_both_sides, NULL);
    run_on(2, cancel_both_sides, NULL);
}

CHECK_MAIN(CASE(elements_come_out_in_order), CASE(bad_input_is_refused),
           CASE(want_of_memory_is_told), CASE(nothing_is_lost_or_doubled),
           CASE(a_close_is_told_to_all_who_wait), CASE(who_waits_is_served_in_order),
           CASE(a_canceled_waiter_is_told))
