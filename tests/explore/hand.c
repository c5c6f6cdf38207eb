/* SPDX-License-Identifier: MIT */
/*
 * hand.c - explores units by hand in core/counter.c: their releases let go who waits, and a panic waits for the jobs
 * without them, which are owed again afterwards, not one too many or too few (C7).
 */
#include "waiter.h"

static void setup_by_hand(void)
{
    setup(0);
    counter_owe_by_hand(&c, 1);
}

static void setup_both(void)
{
    setup(1);
    counter_owe_by_hand(&c, 1);
}

static void release(int thread)
{
    work[thread] = 1;
    counter_settle_by_hand(&c);
}

static void release_1(void)
{
    release(1);
}

static void release_2(void)
{
    release(2);
}

/* A panic waits for the jobs, then a cleanup for the hand; the counter goes with that. */
static void set_apart_and_wait_for_both(void)
{
    bool apart = counter_set_apart(&c);

    MUST(wait_for_ever(3) == (apart ? COIR_CANCELED : COIR_DONE));
    MUST(work[1] == 1);
    if (apart)
        counter_put_back(&c);
    MUST(wait_for_ever(0) == (apart ? COIR_CANCELED : COIR_DONE));
    MUST(work[2] == 1);
    explore_free(&c, sizeof c);
}

/* The hand never comes. */
static void set_apart_only(void)
{
    MUST(counter_set_apart(&c));
}

static void wait_and_be_told(void)
{
    MUST(wait_for_ever(explore_thread()) == COIR_CANCELED);
    MUST(work[1] == 1);
}

static void check_told(void)
{
    MUST(counter_look(&c) == COIR_CANCELED);
}

EXPLORE_MAIN(
    {.name = "the_work_of_a_hand_is_seen", setup_by_hand, {release_1, NULL, wait_alone}},
    {.name = "a_hand_lets_all_go", setup_by_hand, {release_1, wait_among_others, wait_among_others}, check_settled},
    {.name = "jobs_are_waited_for_and_then_a_hand", setup_both, {finish_1, release_2, set_apart_and_wait_for_both}},
    {.name = "who_waits_is_told_without_the_hand", setup_both, {finish_1, wait_and_be_told, set_apart_only}, check_told})
