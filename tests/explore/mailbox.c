/* SPDX-License-Identifier: MIT */
/*
 * mailbox.c - explores core/mailbox.c: each message is taken once, none sleeps through (the bell), and who
 * has seen the last may free the mailbox.
 */
#include "mailbox.h"

#include <string.h>

#include "explore.h"
#include "world.h"

static struct mailbox box;
static struct mail mail[2];
static int written[2]; /* by a message's sender before it sends */
static int taken[2];   /* by the receiver */
static bool asked;     /* the sender was told yes */
static bool back;      /* the message was taken back */

static void setup(void)
{
    world_reset(0);
    memset(&box, 0, sizeof box);
    memset(mail, 0, sizeof mail);
    memset(written, 0, sizeof written);
    memset(taken, 0, sizeof taken);
    asked = back = false;
}

static void post(int i)
{
    written[i] = 1;
    mailbox_post(&box, &mail[i]);
}

static void post_0(void)
{
    post(0);
}

static void post_1(void)
{
    post(1);
}

static bool take(void)
{
    struct mail *m = mailbox_take(&box);

    if (!m)
        return false;
    MUST(written[m - mail] == 1);
    taken[m - mail]++;
    return true;
}

/* Takes n, sleeping in between; then the mailbox goes. */
static void receive(int n)
{
    while (n > 0)
        if (take())
            n--;
        else
            MUST(mailbox_sleep(&box, COIR_NEVER, true) == COIR_OK);
    mailbox_fini(&box);
    explore_free(&box, sizeof box);
}

static void receive_one(void)
{
    receive(1);
}

static void receive_two(void)
{
    receive(2);
}

static void receive_for_a_while(void)
{
    int64_t deadline = coir_now() + 1;
    int status = COIR_OK;

    while (!take() && status == COIR_OK)
        status = mailbox_sleep(&box, deadline, true);
    MUST(status == COIR_OK || status == COIR_ETIMEDOUT);
}

static _Atomic int flag;

static void ring(void)
{
    atomic_store_explicit(&flag, 1, memory_order_relaxed);
    mailbox_ring(&box);
}

static void sleep_until_flag(void)
{
    while (!atomic_load_explicit(&flag, memory_order_relaxed))
        MUST(mailbox_sleep(&box, COIR_NEVER, false) == COIR_OK);
}

/* Woken once by the only bell there is, it may go. */
static void sleep_and_leave(void)
{
    do
        MUST(mailbox_sleep(&box, COIR_NEVER, false) == COIR_OK);
    while (!atomic_load_explicit(&flag, memory_order_relaxed));
    mailbox_fini(&box);
    explore_free(&box, sizeof box);
}

static void ask_0(void)
{
    written[0] = 1;
    asked = mailbox_ask(&box, &mail[0]);
}

static void take_and_close(void)
{
    take();
    mailbox_close(&box);
    while (take())
        ;
}

static void check_asked(void)
{
    MUST(asked == taken[0]);
}

static void post_and_withdraw(void)
{
    post(0);
    back = mailbox_withdraw(&box, &mail[0]);
    MUST(back == !mailbox_was_sent(&box, &mail[0]));
}

static void take_once(void)
{
    take();
}

static void take_this(void)
{
    if (mailbox_take_this(&box, &mail[0]))
        MUST(written[0] == 1);
}

static void check_withdrawn(void)
{
    MUST(!(back && taken[0]));
    MUST(back || taken[0] || take());
}

static void receive_in_job(void *arg)
{
    (void)arg;
    receive(1);
}

static void setup_fiber(void)
{
    setup();
    world_reset(1);
    world_add(1, receive_in_job, NULL, NULL);
}

EXPLORE_MAIN(
    {.name = "no_message_sleeps", setup, {receive_two, post_0, post_1}, NULL, .less = 1},
    {.name = "a_deadline_races_a_message", setup, {receive_for_a_while, post_0}, NULL},
    {.name = "a_bell_is_heard", setup, {sleep_until_flag, ring}, NULL},
    {.name = "who_was_woken_may_free_it", setup, {sleep_and_leave, ring}, NULL},
    {.name = "a_close_refuses", setup, {take_and_close, ask_0}, check_asked},
    {.name = "taken_or_withdrawn", setup, {take_once, post_and_withdraw}, check_withdrawn},
    {.name = "taken_out_of_turn", setup, {take_this, post_0}, NULL},
    {.name = "a_thread_receives_and_leaves", setup, {receive_one, post_0}, NULL},
    {.name = "a_fiber_receives", setup_fiber, {world_work_1, NULL, post_0}, world_check})
