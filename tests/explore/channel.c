/* SPDX-License-Identifier: MIT */
/*
 * channel.c - explores core/channel.c and select.c: each element is received once, whole and in order, and
 * whoever gave up has sent nothing (H2).
 */
#include "channel.h"

#include <string.h>

#include "explore.h"
#include "world.h"

#define ITEMS 3

static coir_channel channel, other;
static int ring[2], other_ring[1];
static int payload[ITEMS];               /* written before its number is sent */
static int sent[ITEMS], received[ITEMS]; /* how often; by who sends, by who receives */

static void setup_capacity(size_t capacity)
{
    world_reset(0);
    MUST(coir_channel_init(&channel, sizeof(int), capacity, ring) == COIR_OK);
    MUST(coir_channel_init(&other, sizeof(int), 1, other_ring) == COIR_OK);
    memset(payload, 0, sizeof payload);
    memset(sent, 0, sizeof sent);
    memset(received, 0, sizeof received);
}

static void setup_one(void)
{
    setup_capacity(1);
}

static void setup_two(void)
{
    setup_capacity(2);
}

static int send_until(coir_channel *to, int i, int64_t deadline)
{
    int status;

    payload[i] = i + 1;
    status = coir_channel_send_until(to, &i, deadline);
    sent[i] = status == COIR_OK;
    return status;
}

static void got(int i)
{
    MUST(i >= 0 && i < ITEMS && payload[i] == i + 1);
    payload[i] = i + 1; /* it is the receiver's now */
    received[i]++;
}

static int receive_until(int64_t deadline)
{
    int i, status = coir_channel_recv_until(&channel, &i, deadline);

    if (status == COIR_OK)
        got(i);
    return status;
}

static void send_0(void)
{
    MUST(send_until(&channel, 0, COIR_NEVER) == COIR_OK);
}

static void send_0_1(void)
{
    send_0();
    MUST(send_until(&channel, 1, COIR_NEVER) == COIR_OK);
}

static void send_0_1_2(void)
{
    send_0_1();
    MUST(send_until(&channel, 2, COIR_NEVER) == COIR_OK);
}

static void send_2(void)
{
    MUST(send_until(&channel, 2, COIR_NEVER) == COIR_OK);
}

static void send_1_for_a_while(void)
{
    int status = send_until(&channel, 1, coir_now() + 1);

    MUST(status == COIR_OK || status == COIR_ETIMEDOUT);
}

static void receive(void)
{
    MUST(receive_until(COIR_NEVER) == COIR_OK);
}

static void receive_twice(void)
{
    receive();
    receive();
}

static void receive_in_order(void)
{
    for (int n = 0; n < ITEMS; n++) {
        int i;

        MUST(coir_channel_recv(&channel, &i) == COIR_OK);
        MUST(i == n);
        got(i);
    }
}

static void receive_for_a_while(void)
{
    int status = receive_until(coir_now() + 1);

    MUST(status == COIR_OK || status == COIR_ETIMEDOUT);
}

static void check(void)
{
    int i;

    while (coir_channel_try_recv(&channel, &i) == COIR_OK)
        got(i);
    while (coir_channel_try_recv(&other, &i) == COIR_OK)
        got(i);
    for (i = 0; i < ITEMS; i++)
        MUST(received[i] == sent[i]);
    MUST(coir_channel_fini(&channel) == COIR_OK);
}

/* -------------------------------------------------------------------------------------- closing */

static void send_until_closed(void)
{
    int status = send_until(&channel, 0, COIR_NEVER);

    MUST(status == COIR_OK || status == COIR_ECLOSED);
    if (status == COIR_OK)
        status = send_until(&channel, 1, COIR_NEVER);
    MUST(status == COIR_OK || status == COIR_ECLOSED);
}

static void receive_until_closed(void)
{
    int status;

    while ((status = receive_until(COIR_NEVER)) == COIR_OK)
        ;
    MUST(status == COIR_ECLOSED);
}

static void close_it(void)
{
    MUST(coir_channel_close(&channel) == COIR_OK);
}

/* -------------------------------------------------------------------------------------- select */

static int select_until(int64_t deadline)
{
    int a, b, status;
    coir_case cases[] = {{.channel = &channel, .op = COIR_RECV, .element = &a},
                         {.channel = &other, .op = COIR_RECV, .element = &b}};
    size_t which;

    status = coir_select(cases, 2, deadline, &which);
    if (status == COIR_OK)
        got(which == 0 ? a : b);
    return status;
}

static void select_once(void)
{
    MUST(select_until(COIR_NEVER) == COIR_OK);
}

static void select_for_a_while(void)
{
    int status = select_until(coir_now() + 1);

    MUST(status == COIR_OK || status == COIR_ETIMEDOUT);
}

static void send_other_1(void)
{
    MUST(send_until(&other, 1, COIR_NEVER) == COIR_OK);
}

/* -------------------------------------------------------------------------------------- fibers */

static void receive_in_job(void *arg)
{
    (void)arg;
    receive();
}

static void send_in_job(void *arg)
{
    (void)arg;
    send_0();
}

static void select_in_job(void *arg)
{
    (void)arg;
    select_for_a_while();
}

static void setup_fiber(void)
{
    setup_one();
    world_reset(1);
    world_add(1, receive_in_job, NULL, NULL);
}

static void setup_two_fibers(void)
{
    setup_one();
    world_reset(2);
    world_add(1, receive_in_job, NULL, NULL);
    world_add(2, send_in_job, NULL, NULL);
}

static void setup_selecting(void)
{
    setup_one();
    world_reset(1);
    world_add(1, select_in_job, NULL, NULL);
}

static void check_fiber(void)
{
    world_check();
    check();
}

EXPLORE_MAIN(
    {.name = "each_is_received_once", setup_one, {send_0_1, send_2, receive_twice}, check, .less = 1},
    {.name = "two_receivers", setup_two, {send_0_1, receive, receive}, check, .less = 1},
    {.name = "in_order", setup_one, {send_0_1_2, receive_in_order}, check},
    {.name = "who_gave_up_has_sent_nothing", setup_one, {send_0, send_1_for_a_while, receive}, check},
    {.name = "who_gave_up_has_received_nothing", setup_one, {send_0, receive_for_a_while,
     receive_for_a_while}, check, .less = 1},
    {.name = "a_close_ends_all", setup_one, {send_until_closed, receive_until_closed, close_it}, check,
     .less = 1},
    {.name = "a_select_does_one", setup_one, {select_once, send_0, send_other_1}, check},
    {.name = "a_select_gives_up", setup_one, {select_for_a_while, send_0, send_other_1}, check},
    {.name = "a_fiber_receives", setup_fiber, {world_work_1, NULL, send_0}, check_fiber},
    {.name = "two_fibers", setup_two_fibers, {world_work_1, world_work_2}, check_fiber, .less = 1},
    {.name = "a_fiber_selects", setup_selecting, {world_work_1, NULL, send_0}, check_fiber})
