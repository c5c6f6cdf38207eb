/* SPDX-License-Identifier: MIT */
/*
 * counter.c - explores core/counter.c: who waits sees all the work and the worst outcome (SETTLE), and
 * nobody touches counter or node once the wait has returned (C1, C3, NODE).
 *
 * Waiters wait as wait.c's plain threads do, and free counter and node as soon as they may.
 */
#include "waiter.h"

static void setup_one(void)
{
    setup(1);
}

static void setup_two(void)
{
    setup(2);
}

/* ---------------------------------------------------------------------------------------- finishers */

static void finish_2(void)
{
    finish(2);
}

static const coir_failure failure[1 + EXPLORE_THREADS] = {
    {0}, {.line = 1}, {.line = 2}, {.line = 3}};

static void fail_1(void)
{
    work[1] = 1;
    counter_fail(&c, COIR_FAILED, &failure[1]);
}

static void panic_2(void)
{
    work[2] = 1;
    counter_fail(&c, COIR_PANICKED, &failure[2]);
}

/* A unit that spawns another before it ends. */
static void owe_and_finish_twice(void)
{
    counter_owe(&c, 1);
    finish(1);
    counter_settle(&c, 1);
}

/* ------------------------------------------------------------------------------------------ waiters */

static void wait_for_both(void)
{
    MUST(wait_for_ever(3) == COIR_DONE);
    MUST(work[1] == 1 && work[2] == 1);
    explore_free(&c, sizeof c);
}

/* Looks without waiting: what is settled may go at once. */
static void look_once(void)
{
    if (counter_look(&c) < 0)
        return;
    MUST(work[1] == 1 && work[2] == 1);
    explore_free(&c, sizeof c);
}

/* The deadline may pass: then the node goes, and the counter is waited for again. */
static void wait_a_while(int thread)
{
    int outcome = wait_once(&watch[thread], coir_now() + 1);

    explore_free(&watch[thread], sizeof watch[thread]);
    if (outcome < 0)
        outcome = wait_for_ever(0);
    MUST(outcome == COIR_DONE);
    MUST(work[1] == 1);
}

static void wait_a_while_alone(void)
{
    wait_a_while(3);
    explore_free(&c, sizeof c);
}

/* Leaves for good when the deadline has passed; the counter stays with the other waiter. */
static void give_up_2(void)
{
    if (wait_once(&watch[2], coir_now() + 1) >= 0)
        MUST(work[1] == 1);
    explore_free(&watch[2], sizeof watch[2]);
}

static void wait_for_the_worst(void)
{
    coir_failure record;

    MUST(wait_for_ever(3) == COIR_PANICKED);
    MUST(work[1] == 1 && work[2] == 1);
    MUST(coir_counter_failure((const coir_counter *)(void *)&c, &record) == COIR_OK);
    MUST(record.line == 1 || record.line == 2);
    explore_free(&c, sizeof c);
}

/* The record may be looked at before the end: nothing yet, or all of one. */
static void look_at_the_record(void)
{
    coir_failure record;

    if (coir_counter_failure((const coir_counter *)(void *)&c, &record) == COIR_OK)
        MUST(record.line == 1 || record.line == 2);
}

/* Takes the node back if it can, else waits to be released. */
static void take_back(void)
{
    struct watch *w = &watch[3];
    unsigned turns = 0;

    w->node.settled = on_settled;
    if (counter_enlist(&c, &w->node) && !counter_try_delist(&c, &w->node)) {
        while (!wait_node_released(&w->node))
            spin_pause(&turns);
        MUST(w->node.outcome == COIR_DONE && work[1] == 1);
    }
    explore_free(&watch[3], sizeof watch[3]);
}

/* Who is refused a place in the list knows that all is done. */
static void enlist_and_wait(void)
{
    struct watch *w = &watch[3];
    unsigned turns = 0;

    w->node.settled = on_settled;
    if (counter_enlist(&c, &w->node))
        while (!wait_node_released(&w->node))
            spin_pause(&turns);
    MUST(work[1] == 1);
}

static void enlist_and_see_both(void)
{
    enlist_and_wait();
    MUST(work[2] == 1);
}

static void enlist_or_go(void)
{
    enlist_and_see_both();
    explore_free(&c, sizeof c);
}

static void cancel_2(void)
{
    counter_cancel(&c);
}

/* ------------------------------------------------------------------------- told before it settles */

/* What is pending until the counter settles, or somebody drops it (spawn.c). */
static struct pending {
    struct wait_node node;
    struct lock lock;
    bool is, claimed; /* lock */
} pending[2];
static _Atomic int frame_gone;

static void on_settled_pending(struct wait_node *node, int outcome)
{
    struct pending *p = CONTAINER_OF(node, struct pending, node);

    if (outcome != SETTLING) {
        MUST(p->claimed && node->outcome == COIR_DONE && work[1] == 1);
        wait_node_release(node);
        return;
    }
    lock_take(&p->lock);
    MUST(p->is && !p->claimed && counter_look(&c) < 0);
    p->is = false;
    p->claimed = true;
    lock_drop(&p->lock);
}

static void setup_pending(void)
{
    setup(1);
    atomic_store_explicit(&frame_gone, 0, memory_order_relaxed);
    for (int i = 0; i < 2; i++)
        pending[i] = (struct pending){.node = {.settled = on_settled_pending, .foretold = true}, .is = true};
    MUST(counter_enlist(&c, &pending[0].node));
}

static void drop_pending_2(void)
{
    lock_take(&pending[0].lock);
    if (pending[0].is && counter_try_delist(&c, &pending[0].node))
        pending[0].is = false;
    lock_drop(&pending[0].lock);
}

static void enlist_another_2(void)
{
    (void)counter_enlist(&c, &pending[1].node);
}

/* The counter has gone with its frame; the node is still to be taken out, or released. */
static void wait_and_say_it_is_gone(void)
{
    wait_alone();
    atomic_store_explicit(&frame_gone, 1, memory_order_release);
}

static void take_out_pending_then_2(void)
{
    unsigned turns = 0;

    while (!atomic_load_explicit(&frame_gone, memory_order_acquire))
        spin_pause(&turns);
    counter_delist(&c, &pending[0].node);
    MUST(wait_node_released(&pending[0].node));
}

/* What a link cancels (link.c): its node says whether the counter is there, a unit keeps it. */
static void hold_pending_2(void)
{
    bool held;

    lock_take(&pending[0].lock);
    held = pending[0].is && counter_owe_more(&c);
    lock_drop(&pending[0].lock);
    if (held)
        counter_settle(&c, 1);
}

/* ------------------------------------------------------------------------------------ a local counter */

/* Its owner owes one unit by a plain store, and others by the word. */
static void setup_local(void)
{
    setup(0);
    atomic_store_explicit(&c.state, COUNTER_LOCAL, memory_order_relaxed);
    MUST(counter_owe_mine(&c, 1));
}

static void setup_local_two(void)
{
    setup_local();
    MUST(counter_owe_mine(&c, 1));
}

/* A unit of the owner's spawns another before it ends. */
static void finish_after_owing_2(void)
{
    counter_owe(&c, 1);
    finish(2);
    counter_settle(&c, 1);
}

/* The owner runs one more itself, then waits for the rest; the counter goes with the wait. */
static void owe_run_and_wait(void)
{
    MUST(counter_owe_mine(&c, 1));
    if (counter_end_mine(&c, 1) < 0) {
        counter_share(&c);
        MUST(wait_for_ever(3) == COIR_DONE);
    }
    MUST(work[1] == 1);
    explore_free(&c, sizeof c);
}

/* Nobody but the owner has anything to do with it, until somebody takes its last unit. */
static void run_all_or_share(void)
{
    MUST(counter_owe_mine(&c, 1));
    MUST(counter_end_mine(&c, 1) < 0);
    if (counter_end_mine(&c, 1) < 0)
        MUST(!"it was the owner's alone");
    explore_free(&c, sizeof c);
}

/* A child in place hands on a unit that somebody else releases before the owner looks. */
static _Atomic int handed;

static void finish_what_is_handed_1(void)
{
    if (atomic_load_explicit(&handed, memory_order_acquire))
        finish(1);
}

static void hand_on_and_look(void)
{
    counter_owe(&c, 1);
    atomic_store_explicit(&handed, 1, memory_order_release);
    if (counter_end_mine(&c, 1) == COIR_DONE)
        MUST(work[1] == 1);
}

static void share_and_wait(void)
{
    counter_share(&c);
    MUST(wait_for_ever(3) == COIR_DONE);
    MUST(work[1] == 1);
}

static void share_and_see_the_worst(void)
{
    counter_share(&c);
    MUST(wait_for_ever(3) == COIR_FAILED);
    MUST(work[1] == 1);
    explore_free(&c, sizeof c);
}

/* It has run one itself, and its share may be what settles the counter. */
static void run_one_and_share(void)
{
    work[2] = 1;
    MUST(counter_end_mine(&c, 1) < 0);
    counter_share(&c);
}

/* The owner lets go who waits, if the last unit has gone before. */
static void share_only(void)
{
    counter_share(&c);
}

/* Who gives up need not wait until the owner says what it owes: that may be long after. */
static _Atomic int gone;

static void give_up_and_say_so(void)
{
    give_up_2();
    atomic_store_explicit(&gone, 1, memory_order_release);
}

static void share_after_that(void)
{
    unsigned turns = 0;

    while (!atomic_load_explicit(&gone, memory_order_acquire))
        spin_pause(&turns);
    counter_share(&c);
}

/* Nobody's: whoever waits shares it, and the last who goes takes the memory along. */
static _Atomic int left_to_go;

static void setup_nobodys(void)
{
    setup(0);
    atomic_store_explicit(&c.state, COUNTER_LOCAL, memory_order_relaxed);
    counter_owe(&c, 1);
    atomic_store_explicit(&left_to_go, 2, memory_order_relaxed);
}

static void share_and_wait_with_another(void)
{
    if (counter_is_local(&c))
        counter_share(&c);
    wait_among_others();
    if (atomic_fetch_sub_explicit(&left_to_go, 1, memory_order_acq_rel) == 1)
        explore_free(&c, sizeof c);
}

static void check_canceled(void)
{
    check_settled();
    MUST(counter_canceled(&c));
}

EXPLORE_MAIN(
    {.name = "its_memory_may_go_after_the_wait", setup_one, {finish_1, NULL, wait_alone}},
    {.name = "a_wait_sees_the_work_of_all", setup_two, {finish_1, finish_2, wait_for_both}},
    {.name = "a_look_sees_the_work_of_all", setup_two, {finish_1, finish_2, look_once}},
    {.name = "a_unit_may_owe_more", setup_one, {owe_and_finish_twice, NULL, wait_alone}},
    {.name = "all_waiters_are_let_go", setup_one, {finish_1, wait_among_others, wait_among_others}, check_settled},
    {.name = "a_deadline_races_the_finisher", setup_one, {finish_1, NULL, wait_a_while_alone}},
    {.name = "one_gives_up_and_one_waits", setup_one, {finish_1, give_up_2, wait_among_others}, check_settled, .less = 1},
    {.name = "a_node_is_taken_back_or_released", setup_one, {finish_1, NULL, take_back}, check_settled},
    {.name = "a_refusal_to_enlist_has_seen_all", setup_two, {finish_1, finish_2, enlist_or_go}},
    {.name = "a_refusal_after_a_lock_has_seen_all", setup_one,
     {finish_1, wait_among_others, enlist_and_wait}, check_settled},
    {.name = "the_worst_outcome_counts", setup_two, {fail_1, panic_2, wait_for_the_worst}},
    {.name = "a_record_is_whole_or_absent", setup_two, {fail_1, panic_2, look_at_the_record}},
    {.name = "a_cancel_changes_nothing_else", setup_one, {finish_1, cancel_2, wait_among_others}, check_canceled},
    {.name = "who_drops_what_is_pending_finds_the_counter", setup_pending, {finish_1, drop_pending_2, wait_alone}},
    {.name = "who_holds_a_counter_has_it", setup_pending, {finish_1, hold_pending_2, wait_alone}},
    {.name = "who_comes_late_is_foretold_too", setup_pending,
     {finish_1, enlist_another_2, wait_among_others}, check_settled},
    {.name = "a_counter_that_has_gone_is_not_looked_at", setup_pending,
     {finish_1, take_out_pending_then_2, wait_and_say_it_is_gone}},
    {.name = "a_local_one_is_its_owners", setup_local, {NULL, NULL, run_all_or_share}},
    {.name = "a_local_one_ends_when_its_owner_says_so", setup_local, {finish_1, NULL, owe_run_and_wait}},
    {.name = "others_owe_and_release_a_local_one", setup_local_two,
     {finish_1, finish_after_owing_2, share_and_wait}, check_settled},
    {.name = "what_others_did_for_a_local_one_is_seen", setup_local, {finish_what_is_handed_1, NULL, hand_on_and_look}},
    {.name = "a_local_ones_outcome_is_seen", setup_local, {fail_1, NULL, share_and_see_the_worst}},
    {.name = "another_waits_for_a_local_one", setup_local, {finish_1, wait_among_others, share_only}, check_settled},
    {.name = "another_sees_what_the_owner_has_run", setup_local_two,
     {finish_1, enlist_and_see_both, run_one_and_share}, check_settled},
    {.name = "another_gives_up_on_a_local_one", setup_local, {finish_1, give_up_2, share_and_wait},
     check_settled, .less = 1},
    {.name = "two_share_what_is_nobodys", setup_nobodys, {finish_1, share_and_wait_with_another, share_and_wait_with_another}},
    {.name = "another_gives_up_before_its_owner_shares", setup_local,
     {finish_1, give_up_and_say_so, share_after_that}, check_settled})
