/* SPDX-License-Identifier: MIT */
/*
 * lock_test.c - the spin lock of core/base.h: one holds it, who waits has its turn, and a run is let go on first.
 */
#include "base.h"
#include "threads.h"

#define TURNS 20000

static struct lock lock;
static uint64_t plain;        /* guarded by it */
static _Atomic bool enough;

static void *add(void *unused)
{
    for (int i = 0; i < TURNS; i++) {
        lock_take(&lock);
        plain++;
        lock_drop(&lock);
    }
    return unused;
}

static void one_thread_at_a_time_holds_it(void)
{
    struct threads t = {0};

    plain = 0;
    for (int i = 0; i < 4; i++)
        threads_add(&t, add, NULL);
    threads_join(&t);
    CHECK_EQ(plain, 4 * TURNS);
    CHECK(lock_try(&lock));
    CHECK(!lock_try(&lock));
    lock_drop(&lock);
}

static void *take_again_and_again(void *unused)
{
    while (!atomic_load(&enough)) {
        lock_take(&lock);
        lock_drop(&lock);
    }
    return unused;
}

static void who_waits_has_its_turn_beside_runs_without_end(void)
{
    struct threads t = {0};

    atomic_store(&enough, false);
    for (int i = 0; i < 2; i++)
        threads_add(&t, take_again_and_again, NULL);
    for (int i = 0; i < 200; i++) {
        lock_take(&lock);
        lock_drop(&lock);
        sched_yield();
    }
    atomic_store(&enough, true);
    threads_join(&t);
}

static void a_run_is_let_go_on_until_it_has_had_its_turns(void)
{
    struct lock_wait w = lock_wait_begin(1);
    uint64_t turns = 1;

    while ((turns += LOCK_FAST) < LOCK_RUN)
        CHECK(!lock_wait_is_over(&w, turns));
    CHECK(lock_wait_is_over(&w, turns));
    CHECK_EQ(w.looks, 0); /* by now each look counts */
}

static void who_is_in_no_run_is_not_waited_for(void)
{
    struct lock_wait w = lock_wait_begin(10);

    CHECK(lock_wait_is_over(&w, 10));
    CHECK(lock_wait_is_over(&w, 10 + LOCK_FAST - 1));
    CHECK(!lock_wait_is_over(&w, 10 + 2 * LOCK_FAST));
    CHECK(lock_wait_is_over(&w, 10 + 2 * LOCK_FAST));
}

static void a_third_one_that_has_come_first_is_in_its_run(void)
{
    struct lock_wait w = lock_wait_begin(LOCK_RUN + 1);

    CHECK_EQ(w.looks, 0);
    CHECK(!lock_wait_is_over(&w, 1));
    CHECK(lock_wait_is_over(&w, 1));
}

static void who_gets_it_by_waiting_begins_anew(void)
{
    struct lock l = {2 * LOCK_RUN};

    lock_take(&l);
    lock_drop(&l);
    CHECK_EQ(l.word, 2 * LOCK_RUN + 2);
    lock_take_slowly(&l);
    lock_drop(&l);
    CHECK_EQ(l.word, 2);
}

CHECK_MAIN(CASE(one_thread_at_a_time_holds_it),
           CASE(who_waits_has_its_turn_beside_runs_without_end),
           CASE(a_run_is_let_go_on_until_it_has_had_its_turns),
           CASE(who_is_in_no_run_is_not_waited_for),
           CASE(a_third_one_that_has_come_first_is_in_its_run),
           CASE(who_gets_it_by_waiting_begins_anew))
