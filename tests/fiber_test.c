/* SPDX-License-Identifier: MIT */
/*
 * fiber_test.c - core/fiber.h's states: who may wake a fiber, when, and that only the first does. No
 * stack is needed to ask.
 */
#include "fiber.h"
#include "run.h"
#include "threads.h"

static struct fiber fiber;

/* As it runs for the n-th time. */
static void runs(uint64_t generation)
{
    atomic_store_explicit(&fiber.state, fiber_word(generation, WAKE_NONE, FIBER_RUNNING),
                          memory_order_relaxed);
}

static void one_wake_resumes_it_and_a_later_one_does_nothing(void)
{
    uint64_t first, second;

    runs(7);
    first = fiber_park_begin(&fiber);
    CHECK_EQ(first, 7);
    CHECK(fiber_publish(&fiber));
    CHECK(fiber_wake(&fiber, first, WAKE_EVENT));
    CHECK(!fiber_wake(&fiber, first, WAKE_TIMEOUT)); /* READY: a queue holds it */
    CHECK_EQ(fiber_resume(&fiber), WAKE_EVENT);
    CHECK(!fiber_wake(&fiber, first, WAKE_TIMEOUT)); /* it runs */
    second = fiber_park_begin(&fiber);
    CHECK(second != first);
    CHECK(fiber_publish(&fiber));
    CHECK(!fiber_wake(&fiber, first, WAKE_CANCEL)); /* of a wait that is over */
    CHECK(fiber_is(&fiber, FIBER_PARKED));
    CHECK(fiber_wake(&fiber, second, WAKE_CANCEL));
    CHECK_EQ(fiber_resume(&fiber), WAKE_CANCEL);
}

static void what_has_ended_or_waits_for_nothing_cannot_be_woken(void)
{
    const enum fiber_state states[] = {FIBER_IDLE, FIBER_READY, FIBER_RUNNING, FIBER_NOTIFIED,
                                       FIBER_BROKEN};

    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        uint64_t word = fiber_word(9, WAKE_NONE, states[i]);

        atomic_store_explicit(&fiber.state, word, memory_order_relaxed);
        for (uint64_t generation = 8; generation <= 10; generation++)
            CHECK(!fiber_wake(&fiber, generation, WAKE_EVENT));
        CHECK_EQ(atomic_load_explicit(&fiber.state, memory_order_relaxed), word);
    }
}

static void a_wake_before_the_stack_was_left_is_found_by_who_publishes(void)
{
    runs(1);
    CHECK_EQ(fiber_park_begin(&fiber), 1);
    CHECK(!fiber_wake(&fiber, 1, WAKE_EVENT)); /* a notice: not the waker's to queue */
    CHECK(!fiber_wake(&fiber, 1, WAKE_TIMEOUT));
    CHECK(!fiber_publish(&fiber)); /* but the publisher's */
    CHECK(fiber_is(&fiber, FIBER_READY));
    CHECK_EQ(fiber_resume(&fiber), WAKE_EVENT);
}

/* ------------------------------------------------------------------------------- many wakers */

static int woken, round_now, arrived;

static void *wake_each_round(void *reason)
{
    for (int i = 1; i <= MANY(20000); i++) {
        while (__atomic_load_n(&round_now, __ATOMIC_ACQUIRE) < i)
            sched_yield();
        if (fiber_wake(&fiber, (uint64_t)i, (enum wake)(uintptr_t)reason))
            run_count(&woken);
        __atomic_add_fetch(&arrived, 1, __ATOMIC_ACQ_REL);
    }
    return NULL;
}

static void the_first_of_several_wakers_wins(void)
{
    struct threads wakers = {.count = 0};

    woken = round_now = arrived = 0;
    threads_add(&wakers, wake_each_round, (void *)(uintptr_t)WAKE_EVENT);
    threads_add(&wakers, wake_each_round, (void *)(uintptr_t)WAKE_TIMEOUT);
    for (int i = 1; check_round(i, MANY(20000) + 1); i++) {
        int before = woken;

        runs((uint64_t)i);
        fiber_park_begin(&fiber);
        __atomic_store_n(&round_now, i, __ATOMIC_RELEASE);
        int published = fiber_publish(&fiber);

        while (__atomic_load_n(&arrived, __ATOMIC_ACQUIRE) < 2 * i)
            sched_yield();
        if (!CHECK_EQ(woken - before, published) || !CHECK(fiber_is(&fiber, FIBER_READY)))
            break;
    }
    __atomic_store_n(&round_now, MANY(20000), __ATOMIC_RELEASE);
    threads_join(&wakers);
}

CHECK_MAIN(CASE(one_wake_resumes_it_and_a_later_one_does_nothing),
           CASE(what_has_ended_or_waits_for_nothing_cannot_be_woken),
           CASE(a_wake_before_the_stack_was_left_is_found_by_who_publishes),
           CASE(the_first_of_several_wakers_wins))
