/* SPDX-License-Identifier: MIT */
/*
 * counter_local_test.c - COIR_COUNTER_LOCAL: whatever is done with such a counter, it ends as any other does.
 * Its protocol (C5) is explored in tests/explore/counter.c.
 */
#include "run.h"

#include <pthread.h>

static void on_workers(coir_fn *fn)
{
    run_on(1, fn, NULL);
    run_on(2, fn, NULL);
    run_on(8, fn, NULL);
}

static void count(void *n)
{
    run_count(n);
}

static void set(void *flag)
{
    run_set(flag);
}

static void fail(void *unused)
{
    (void)unused;
    coir_panic("as planned");
}

static void yield_and_count(void *n)
{
    coir_yield();
    run_count(n);
}

/* ------------------------------------------------------------------------------------- its owner */

static void spawn_again_and_again(void *unused)
{
    coir_counter c;
    int n = 0, rounds = MANY(20000), all[10] = {0};

    (void)unused;
    coir_counter_init_local(&c);
    for (int i = 0; i < rounds; i++) {
        for (int k = 0; k < i % 4; k++)
            CHECK_EQ(coir_spawn(&c, k == 2 ? yield_and_count : count, &n), COIR_OK);
        if (i % 8 == 0)
            CHECK_EQ(coir_spawn_many(&c, count, all, sizeof all[0], 10), COIR_OK);
        CHECK_EQ(coir_wait(&c), COIR_DONE);
    }
    CHECK_EQ(n, rounds / 4 * 6);
    for (int k = 0; k < 10; k++)
        CHECK_EQ(all[k], rounds / 8);
}

static void it_is_used_again_after_each_wait(void)
{
    on_workers(spawn_again_and_again);
}

/* Owed by the owner and released by others, and the other way round. */
static void add_and_release(void *unused)
{
    coir_counter c = COIR_COUNTER_LOCAL;
    int n = 0;

    (void)unused;
    CHECK_EQ(coir_wait(&c), COIR_DONE); /* nothing is owed */
    CHECK_EQ(coir_spawn(&c, count, &n), COIR_OK);
    coir_counter_add(&c, 2);
    coir_counter_done(&c, COIR_DONE);
    CHECK_EQ(coir_wait_until(&c, coir_now() + COIR_MS), COIR_ETIMEDOUT);
    coir_counter_done(&c, COIR_FAILED);
    CHECK_EQ(coir_wait(&c), COIR_FAILED);
    CHECK_EQ(n, 1);
}

static void units_by_hand_count(void)
{
    on_workers(add_and_release);
}

/* The worker is not given away meanwhile. */
static void hold_on_until(const int *flag)
{
    while (!__atomic_load_n(flag, __ATOMIC_ACQUIRE))
        sched_yield();
}

/* Its unit is one of the owner's; who has run it releases it in the word, which owes as much by hand. */
static void release_after_a_thief(void *unused)
{
    coir_counter c = COIR_COUNTER_LOCAL, next = COIR_COUNTER_INIT;
    int n = 0, done = 0;

    (void)unused;
    coir_counter_add(&c, 1);
    CHECK_EQ(coir_spawn(&c, count, &n), COIR_OK);
    CHECK_EQ(coir_spawn(&next, set, &done), COIR_OK); /* by the same thief, afterwards */
    hold_on_until(&done);
    coir_counter_done(&c, COIR_DONE);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_wait(&next), COIR_DONE);
    CHECK_EQ(n, 1);
}

static void a_unit_by_hand_is_released_after_a_thief_has_released_another(void)
{
    run_on(2, release_after_a_thief, NULL);
}

struct sibling {
    coir_counter *c;
    int *n;
    int left;
};

static void spawn_a_sibling(void *arg)
{
    struct sibling *s = arg;

    run_count(s->n);
    if (s->left-- > 0)
        CHECK_EQ(coir_spawn(s->c, spawn_a_sibling, s), COIR_OK);
}

static void let_children_spawn(void *unused)
{
    coir_counter c = COIR_COUNTER_LOCAL;
    int n = 0;
    struct sibling s[20];

    (void)unused;
    for (int i = 0; i < 20; i++) {
        s[i] = (struct sibling){&c, &n, 50};
        CHECK_EQ(coir_spawn(&c, spawn_a_sibling, &s[i]), COIR_OK);
    }
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(n, 20 * 51);
}

static void its_jobs_may_owe_it_more(void)
{
    for (int i = 0; i < MANY(20); i++)
        on_workers(let_children_spawn);
}

static void spawn_within(void *arg)
{
    struct sibling *s = arg;

    CHECK_EQ(coir_spawn(s->c, count, s->n), COIR_OK);
    CHECK_EQ(coir_wait(s->c), COIR_DONE);
    CHECK_EQ(coir_spawn(s->c, count, s->n), COIR_OK);
}

static void spawn_in_a_try(void *unused)
{
    coir_counter c = COIR_COUNTER_LOCAL;
    int n = 0;
    struct sibling s = {&c, &n, 0};

    (void)unused;
    CHECK_EQ(coir_try(spawn_within, &s, NULL), COIR_DONE);
    CHECK_EQ(coir_spawn(&c, count, &n), COIR_OK);
    CHECK_EQ(coir_try(spawn_within, &s, NULL), COIR_DONE);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(n, 5);
}

static void a_try_of_its_owner_is_its_owner(void)
{
    on_workers(spawn_in_a_try);
}

static struct {
    coir_counter gate;
    int helps, works, moved;
} move;

static void help(void *unused)
{
    (void)unused;
    run_set(&move.helps);
    hold_on_until(&move.works);
    coir_counter_done(&move.gate, COIR_DONE);
}

static void work(void *unused)
{
    int64_t end;

    (void)unused;
    run_set(&move.works);
    hold_on_until(&move.moved);
    for (end = coir_now() + COIR_SEC / 1000; coir_now() < end;)
        sched_yield();
}

static void wait_above(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_wait(&move.gate), COIR_DONE);
    run_set(&move.moved);
}

/* A child parks above its waiter. Their worker goes on with the other child, so the one that wakes them goes on with
 * them. */
static void move_in_the_middle(void *unused)
{
    coir_counter helper = COIR_COUNTER_INIT, children = COIR_COUNTER_LOCAL;

    (void)unused;
    memset(&move, 0, sizeof move);
    coir_counter_add(&move.gate, 1);
    CHECK_EQ(coir_spawn(&helper, help, NULL), COIR_OK);
    hold_on_until(&move.helps);
    CHECK_EQ(coir_spawn(&children, work, NULL), COIR_OK);
    CHECK_EQ(coir_spawn(&children, wait_above, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&children), COIR_DONE);
    CHECK_EQ(coir_wait(&helper), COIR_DONE);
}

static void a_waiter_that_a_child_has_moved_waits_for_the_others(void)
{
    for (int i = 0; i < MANY(100); i++)
        run_on(2, move_in_the_middle, NULL);
}

/* --------------------------------------------------------------------------------------- failures */

static void spawn_a_panic(void *unused)
{
    coir_counter c = COIR_COUNTER_LOCAL;
    coir_failure f;
    int n = 0;

    (void)unused;
    CHECK_EQ(coir_spawn(&c, count, &n), COIR_OK);
    CHECK_EQ(coir_spawn(&c, fail, NULL), COIR_OK);
    CHECK_EQ(coir_spawn(&c, count, &n), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    CHECK_EQ(coir_counter_failure(&c, &f), COIR_OK);
    CHECK_STR(f.message, "as planned");
    CHECK_EQ(coir_spawn(&c, count, &n), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED); /* the outcome stays */
    CHECK_EQ(n, 3);
}

static void a_panic_is_its_outcome(void)
{
    on_workers(spawn_a_panic);
}

static void sleep_till_canceled(void *n)
{
    CHECK_EQ(coir_sleep_until(COIR_NEVER), COIR_ECANCELED);
    run_count(n);
}

static void leave_it_owed(void *n)
{
    coir_counter c = COIR_COUNTER_LOCAL;

    CHECK_EQ(coir_spawn(&c, sleep_till_canceled, n), COIR_OK);
    coir_yield();
}

static void panic_over_it(void *n)
{
    coir_counter c = COIR_COUNTER_LOCAL;

    CHECK_EQ(coir_spawn(&c, sleep_till_canceled, n), COIR_OK);
    coir_panic("over it");
}

static void leave_and_panic(void *unused)
{
    coir_failure f;
    int n = 0;

    (void)unused;
    CHECK_EQ(coir_try(leave_it_owed, &n, &f), COIR_PANICKED);
    CHECK_EQ(f.kind, COIR_KIND_OWED);
    CHECK_EQ(coir_try(panic_over_it, &n, &f), COIR_PANICKED);
    CHECK_STR(f.message, "over it");
}

static void it_is_settled_before_its_frame_goes(void)
{
    for (int i = 0; i < MANY(20); i++)
        on_workers(leave_and_panic);
}

static void cancel_it(void *unused)
{
    coir_counter c = COIR_COUNTER_LOCAL;
    int n = 0, not_started = 0;

    (void)unused;
    CHECK_EQ(coir_spawn(&c, sleep_till_canceled, &n), COIR_OK);
    coir_yield();
    CHECK_EQ(coir_spawn(&c, count, &not_started), COIR_OK);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_CANCELED);
    CHECK_EQ(n, 1);
    CHECK_EQ(not_started, 0);
}

static void a_cancel_ends_its_jobs(void)
{
    run_on(1, cancel_it, NULL);
}

/* --------------------------------------------------------------------------------------- others */

struct meeting {
    coir_counter *c;
    int waits, over;
};

static void wait_for_it(void *arg)
{
    struct meeting *m = arg;

    run_set(&m->waits);
    CHECK_EQ(coir_wait(m->c), COIR_DONE);
    run_count(&m->over);
}

static void let_another_wait(void *unused)
{
    coir_counter c = COIR_COUNTER_LOCAL, waiter = COIR_COUNTER_INIT;
    struct meeting m = {&c, 0, 0};
    int n = 0;

    (void)unused;
    CHECK_EQ(coir_spawn(&c, yield_and_count, &n), COIR_OK);
    CHECK_EQ(coir_spawn(&waiter, wait_for_it, &m), COIR_OK);
    run_until(&m.waits);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_wait(&waiter), COIR_DONE);
    CHECK_EQ(n, 1);
    CHECK_EQ(m.over, 1);
}

static void another_is_let_go_when_its_owner_has_waited(void)
{
    for (int i = 0; i < MANY(200); i++)
        on_workers(let_another_wait);
}

static void hang_others_on_it(void *unused)
{
    coir_counter c = COIR_COUNTER_LOCAL, after = COIR_COUNTER_INIT, other = COIR_COUNTER_LOCAL;
    coir_counter *both[] = {&other, &c};
    int n = 0;
    size_t which;

    (void)unused;
    coir_counter_add(&other, 1);
    CHECK_EQ(coir_spawn_after(&c, &after, count, &n), COIR_OK); /* nothing is owed */
    CHECK_EQ(coir_wait(&after), COIR_DONE);
    CHECK_EQ(coir_spawn(&c, yield_and_count, &n), COIR_OK);
    CHECK_EQ(coir_spawn_after(&c, &after, count, &n), COIR_OK);
    CHECK_EQ(coir_wait_any(both, 2, COIR_NEVER, &which), COIR_DONE);
    CHECK_EQ(which, 1);
    CHECK_EQ(coir_wait(&after), COIR_DONE);
    CHECK_EQ(n, 3);
    coir_counter_done(&other, COIR_DONE);
    CHECK_EQ(coir_wait(&other), COIR_DONE);
}

static void other_work_may_wait_for_it(void)
{
    on_workers(hang_others_on_it);
}

/* In nobody's frames: it is a counter like any other, for plain threads, too. */
static void no_jobs_own_it_is_an_ordinary_one(void)
{
    static coir_counter c = COIR_COUNTER_LOCAL;
    coir_runtime *rt = run_open(2);
    int n = 0;

    CHECK_EQ(coir_wait(&c), COIR_DONE);
    for (int i = 0; i < 1000; i++)
        CHECK_EQ(coir_submit(rt, &c, yield_and_count, &n), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(n, 1000);
    run_close(rt);
}

CHECK_MAIN(CASE(it_is_used_again_after_each_wait),
           CASE(units_by_hand_count),
           CASE(a_unit_by_hand_is_released_after_a_thief_has_released_another),
           CASE(its_jobs_may_owe_it_more),
           CASE(a_try_of_its_owner_is_its_owner),
           CASE(a_panic_is_its_outcome),
           CASE(it_is_settled_before_its_frame_goes),
           CASE(a_cancel_ends_its_jobs),
           CASE(a_waiter_that_a_child_has_moved_waits_for_the_others),
           CASE(another_is_let_go_when_its_owner_has_waited),
           CASE(other_work_may_wait_for_it),
           CASE(no_jobs_own_it_is_an_ordinary_one))
