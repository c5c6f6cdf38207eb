/* SPDX-License-Identifier: MIT */
/*
 * event_test.c - set lets everyone go, who waits and who comes; the event may go at once.
 */
#include "attack.h"

static void one_caller(void *unused)
{
    coir_event e = COIR_EVENT_INIT;

    (void)unused;
    CHECK_EQ(coir_event_is_set(&e), 0);
    CHECK_EQ(coir_event_wait_until(&e, 0), COIR_ETIMEDOUT);
    CHECK_EQ(coir_event_wait_until(&e, coir_now() + COIR_MS), COIR_ETIMEDOUT);
    CHECK_EQ(coir_event_set(&e), COIR_OK);
    CHECK_EQ(coir_event_set(&e), COIR_OK);
    CHECK_EQ(coir_event_is_set(&e), 1);
    CHECK_EQ(coir_event_wait(&e), COIR_OK);
    CHECK_EQ(coir_event_wait_until(&e, 0), COIR_OK);
    CHECK_EQ(coir_event_reset(&e), COIR_OK);
    CHECK_EQ(coir_event_is_set(&e), 0);
    CHECK_EQ(coir_event_wait_until(&e, 0), COIR_ETIMEDOUT);
}

static void an_event_is_set_until_it_is_reset(void)
{
    one_caller(NULL);
    run_on(1, one_caller, NULL);
}

static void *set_again(void *events)
{
    coir_event *e = events;

    for (int i = 0; i < MANY(200000); i++)
        CHECK_EQ(coir_event_set(e), COIR_OK);
    CHECK_EQ(coir_event_set(e + 1), COIR_OK);
    return NULL;
}

static void who_sets_it_again_hides_it_from_nobody(void)
{
    coir_event e[2] = {COIR_EVENT_INIT, COIR_EVENT_INIT}; /* looked at, and the end */
    struct threads all = {.count = 0};
    int hidden = 0;

    CHECK_EQ(coir_event_set(&e[0]), COIR_OK);
    threads_add(&all, set_again, e);
    while (!coir_event_is_set(&e[1]))
        hidden += !coir_event_is_set(&e[0]);
    threads_join(&all);
    CHECK_EQ(hidden, 0);
}

static void bad_input_is_refused(void)
{
    coir_event_init(NULL);
    CHECK_EQ(coir_event_set(NULL), COIR_EINVAL);
    CHECK_EQ(coir_event_reset(NULL), COIR_EINVAL);
    CHECK_EQ(coir_event_is_set(NULL), 0);
    CHECK_EQ(coir_event_wait(NULL), COIR_EINVAL);
    CHECK_EQ(coir_event_wait_until(NULL, 0), COIR_EINVAL);
}

/* ------------------------------------------------------------------------------------- crowds */

static struct {
    coir_event event;
    int data, timed_out, woken; /* data is plain: the event orders it */
} gate;

static void pass(void *deadline)
{
    int status = coir_event_wait_until(&gate.event, *(int64_t *)deadline);

    if (status == COIR_OK) {
        CHECK_EQ(gate.data, 42);
        run_count(&gate.woken);
    } else if (CHECK_EQ(status, COIR_ETIMEDOUT)) {
        run_count(&gate.timed_out);
    }
}

static void *pass_on_thread(void *deadline)
{
    pass(deadline);
    return NULL;
}

static void everyone_who_waits_is_let_go(void)
{
    static int64_t never = COIR_NEVER;
    coir_runtime *rt = run_open(2);
    int rounds = 0;

    memset(&gate, 0, sizeof gate);
    for (int i = 0; check_round(i, MANY(500)); i++, rounds++) {
        struct threads all = {.count = 0};
        coir_counter c = COIR_COUNTER_INIT;
        int64_t soon = coir_now() + i % 20 * 10000;

        gate.data = 0;
        coir_event_init(&gate.event);
        for (int k = 0; k < 4; k++)
            CHECK_EQ(coir_submit(rt, &c, pass, k % 2 ? &soon : &never), COIR_OK);
        threads_add(&all, pass_on_thread, i % 2 ? &soon : &never);
        for (int k = 0; k < i % 50; k++)
            sched_yield();
        gate.data = 42;
        CHECK_EQ(coir_event_set(&gate.event), COIR_OK);
        CHECK_EQ(coir_wait(&c), COIR_DONE);
        threads_join(&all);
    }
    run_close(rt);
    CHECK_EQ(gate.woken + gate.timed_out, rounds * 5);
    CHECK(gate.woken >= rounds * 2);
}

static int status_seen, arrived;

static void wait_for_ever(void *event)
{
    run_set(&arrived);
    status_seen = coir_event_wait(event);
}

static void cancel_a_waiter(void *unused)
{
    coir_event e = COIR_EVENT_INIT;
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    arrived = 0;
    CHECK_EQ(coir_spawn(&c, wait_for_ever, &e), COIR_OK);
    run_until(&arrived);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(status_seen, COIR_ECANCELED);
}

static void a_canceled_waiter_is_told(void)
{
    run_on(1, cancel_a_waiter, NULL);
    run_on(2, cancel_a_waiter, NULL);
}

static void a_closing_runtime_ends_the_wait(void)
{
    coir_event e = COIR_EVENT_INIT;
    coir_runtime *rt = run_open(1);
    coir_receipt receipt;

    arrived = 0;
    CHECK_EQ(coir_submit(rt, NULL, wait_for_ever, &e), COIR_OK);
    run_until(&arrived);
    run_close_past(rt, 0, &receipt);
    CHECK_EQ(status_seen, COIR_ECANCELED);
}

/* -------------------------------------------------------------------------------- destruction */

static void set_it(void *e)
{
    CHECK_EQ(coir_event_set(e), COIR_OK);
}

static int wait_for_it(void *e)
{
    return coir_event_wait(e);
}

static void it_may_go_when_the_wait_returns(void)
{
    last_use_run((struct last_use){set_it, wait_for_it, sizeof(coir_event)});
}

CHECK_MAIN(CASE(an_event_is_set_until_it_is_reset), CASE(bad_input_is_refused),
           CASE(who_sets_it_again_hides_it_from_nobody),
           CASE(everyone_who_waits_is_let_go), CASE(a_canceled_waiter_is_told),
           CASE(a_closing_runtime_ends_the_wait), CASE(it_may_go_when_the_wait_returns))
