/* SPDX-License-Identifier: MIT */
/*
 * wait_test.c - counters and all ways to wait for them: outcomes, deadlines, several waiters, several
 * counters, nesting, sleeping. What attacks the moment after the wait is in wait_race_test.c.
 */
#include "run.h"

#include <pthread.h>

static void nop(void *unused)
{
    (void)unused;
}

static void count(void *n)
{
    run_count(n);
}

/* Runs a case on a fiber of one and of two workers, and on this plain thread. */
static void on_all(coir_fn *fn)
{
    run_on(1, fn, NULL);
    run_on(2, fn, NULL);
    fn(NULL);
}

/* ----------------------------------------------------------------------------- units by hand */

static void settle_by_hand(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_failure f;

    (void)unused;
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    coir_counter_add(&c, 2);
    CHECK_EQ(coir_wait_until(&c, 0), COIR_ETIMEDOUT);
    coir_counter_done(&c, COIR_DONE);
    CHECK_EQ(coir_wait_until(&c, 0), COIR_ETIMEDOUT);
    coir_counter_done(&c, COIR_DONE);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_counter_failure(&c, &f), COIR_ENOENT);
}

static void units_are_added_and_released_by_hand(void)
{
    on_all(settle_by_hand);
}

static void keep_worst(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_failure f;
    int64_t before = coir_now();

    (void)unused;
    coir_counter_add(&c, 6);
    coir_counter_done(&c, COIR_DONE);
    coir_counter_done(&c, COIR_EXPIRED);
    coir_counter_done(&c, COIR_FAILED);
    coir_counter_done(&c, COIR_PANICKED);
    coir_counter_done(&c, COIR_CANCELED);
    coir_counter_done(&c, COIR_DONE);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    CHECK_EQ(coir_counter_failure(&c, &f), COIR_OK);
    CHECK_EQ(f.outcome, COIR_EXPIRED); /* the first, not the worst */
    CHECK_EQ(f.kind, COIR_KIND_DONE);
    CHECK(f.id != 0 && f.time >= before && f.time <= coir_now());
    CHECK_EQ(f.job, coir_job_id());
    CHECK_EQ(f.worker >= 0, coir_current() != NULL);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED); /* it stays */
    coir_counter_init(&c);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_counter_failure(&c, &f), COIR_ENOENT);
}

static void the_worst_outcome_and_the_first_failure_stay(void)
{
    on_all(keep_worst);
}

static void wait_badly(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT, *none = NULL, *one = &c;
    coir_failure f;
    size_t which = 7;

    (void)unused;
    CHECK_EQ(coir_wait(NULL), COIR_EINVAL);
    CHECK_EQ(coir_wait_until(NULL, 0), COIR_EINVAL);
    CHECK_EQ(coir_wait_any(NULL, 1, 0, &which), COIR_EINVAL);
    CHECK_EQ(coir_wait_any(&none, 1, 0, &which), COIR_EINVAL);
    CHECK_EQ(coir_wait_any(&one, 0, 0, &which), COIR_EINVAL);
    CHECK_EQ(coir_wait_any(&one, COIR_WAIT_ANY_MAX + 1, 0, &which), COIR_EINVAL);
    CHECK_EQ(which, 7);
    CHECK_EQ(coir_counter_failure(NULL, &f), COIR_EINVAL);
    CHECK_EQ(coir_counter_failure(&c, NULL), COIR_EINVAL);
    CHECK_EQ(coir_counter_cancel(NULL), COIR_EINVAL);
    coir_counter_init(NULL);
}

static void bad_input_gets_a_status(void)
{
    on_all(wait_badly);
}

/* -------------------------------------------------------------------------------- deadlines */

static coir_counter gate;

static void *settle_soon(void *unused)
{
    CHECK_EQ(coir_sleep_until(coir_now() + 2 * COIR_MS), COIR_OK);
    coir_counter_done(&gate, COIR_FAILED);
    return unused;
}

static void time_out(void *unused)
{
    pthread_t thread;
    int64_t deadline = coir_now() + COIR_MS;

    (void)unused;
    coir_counter_init(&gate);
    coir_counter_add(&gate, 1);
    CHECK_EQ(coir_wait_until(&gate, deadline), COIR_ETIMEDOUT);
    CHECK(coir_now() >= deadline);
    CHECK_EQ(pthread_create(&thread, NULL, settle_soon, NULL), 0);
    CHECK_EQ(coir_wait_until(&gate, coir_now() + 1000 * COIR_SEC), COIR_FAILED);
    pthread_join(thread, NULL);
}

static void a_wait_that_timed_out_is_waited_again(void)
{
    on_all(time_out);
}

static void be_late(void *unused)
{
    const int64_t past[] = {INT64_MIN, -1, 0, 1, coir_now()};
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    for (int i = 0; i < 5; i++)
        CHECK_EQ(coir_wait_until(&c, past[i]), COIR_DONE);
    coir_counter_add(&c, 1);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(coir_wait_until(&c, past[i]), COIR_ETIMEDOUT);
    coir_counter_done(&c, COIR_DONE);
    CHECK_EQ(coir_wait_until(&c, INT64_MIN), COIR_DONE);
}

static void a_past_deadline_ends_the_wait_at_once(void)
{
    on_all(be_late);
}

static void sleep_a_little(void *unused)
{
    int64_t until = coir_now() + 2 * COIR_MS;

    (void)unused;
    CHECK_EQ(coir_sleep_until(until), COIR_OK);
    CHECK(coir_now() >= until);
    CHECK_EQ(coir_sleep_until(until), COIR_OK);
    CHECK_EQ(coir_sleep_until(INT64_MIN), COIR_OK);
}

static void a_sleep_lasts_until_its_deadline(void)
{
    on_all(sleep_a_little);
}

struct nap {
    int64_t until, began;
    int *awake;
    int rank;
};

static void nap(void *arg)
{
    struct nap *n = arg;

    n->began = coir_now();
    CHECK_EQ(coir_sleep_until(n->until), COIR_OK);
    CHECK(coir_now() >= n->until);
    n->rank = run_count(n->awake);
}

/* Whether all were asleep before the first was to wake. */
static int wake_after(int64_t ns)
{
    coir_counter c = COIR_COUNTER_INIT;
    struct nap naps[20];
    int awake = 0, in_time = 1;
    int64_t start = coir_now() + ns;

    for (int i = 0; i < 20; i++)
        naps[i] = (struct nap){.until = start + (i * 7 % 20) * COIR_MS / 4, .awake = &awake};
    CHECK_EQ(coir_spawn_many(&c, nap, naps, sizeof naps[0], 20), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    for (int i = 0; i < 20; i++)
        in_time = in_time && naps[i].began < start;
    for (int i = 0; i < 20 && in_time; i++)
        CHECK_EQ(naps[i].rank, i * 7 % 20 + 1);
    return in_time;
}

static void wake_in_order(void *unused)
{
    (void)unused;
    for (int64_t ns = 20 * COIR_MS; !wake_after(ns); ns *= 2)
        ; /* the machine is busy */
}

static void sleepers_wake_in_the_order_of_their_deadlines(void)
{
    run_on(1, wake_in_order, NULL);
}

/* ----------------------------------------------------------------------------- many waiters */

#define WAITERS 100

static int passed;

static void pass(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_wait(&gate), COIR_EXPIRED);
    run_count(&passed);
}

static void *pass_thread(void *unused)
{
    pass(unused);
    return unused;
}

static void wait_together(unsigned workers)
{
    coir_runtime *rt = run_open(workers);
    coir_counter c = COIR_COUNTER_INIT;
    pthread_t thread[3];

    passed = 0;
    coir_counter_init(&gate);
    coir_counter_add(&gate, 1);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, pass_thread, NULL), 0);
    for (int i = 0; i < WAITERS; i++)
        CHECK_EQ(coir_submit(rt, &c, pass, NULL), COIR_OK);
    CHECK_EQ(coir_wait_until(&c, coir_now() + 5 * COIR_MS), COIR_ETIMEDOUT);
    CHECK_EQ(passed, 0);
    coir_counter_done(&gate, COIR_EXPIRED);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    for (int i = 0; i < 3; i++)
        pthread_join(thread[i], NULL);
    CHECK_EQ(passed, WAITERS + 3);
    run_close(rt);
}

static void many_wait_for_one_counter(void)
{
    wait_together(1);
    wait_together(2);
}

/* ---------------------------------------------------------------------------- many counters */

static coir_counter several[COIR_WAIT_ANY_MAX], *all_of_them[COIR_WAIT_ANY_MAX];

static void renew_several(void)
{
    for (int i = 0; i < COIR_WAIT_ANY_MAX; i++) {
        coir_counter_init(&several[i]);
        coir_counter_add(&several[i], 1);
        all_of_them[i] = &several[i];
    }
}

static void *settle_one(void *index)
{
    CHECK_EQ(coir_sleep_until(coir_now() + COIR_MS), COIR_OK);
    coir_counter_done(&several[*(int *)index], COIR_FAILED);
    return NULL;
}

static void wait_for_any(void *unused)
{
    pthread_t thread;
    size_t which = 99;

    (void)unused;
    renew_several();
    CHECK_EQ(coir_wait_any(all_of_them, COIR_WAIT_ANY_MAX, coir_now() + COIR_MS, &which),
             COIR_ETIMEDOUT);
    for (int i = COIR_WAIT_ANY_MAX - 1; i > 0; i -= 21) {
        CHECK_EQ(pthread_create(&thread, NULL, settle_one, &i), 0);
        CHECK_EQ(coir_wait_any(all_of_them, COIR_WAIT_ANY_MAX, COIR_NEVER, &which), COIR_FAILED);
        CHECK_EQ(which, i);
        pthread_join(thread, NULL);
        CHECK_EQ(coir_wait_any(all_of_them, COIR_WAIT_ANY_MAX, 0, NULL), COIR_FAILED);
        coir_counter_init(&several[i]);
        coir_counter_add(&several[i], 1);
    }
    for (int i = 0; i < COIR_WAIT_ANY_MAX; i++)
        coir_counter_done(&several[i], COIR_DONE);
    CHECK_EQ(coir_wait_any(all_of_them, COIR_WAIT_ANY_MAX, COIR_NEVER, &which), COIR_DONE);
    CHECK_EQ(which, 0);
}

static void one_waits_for_many_counters(void)
{
    on_all(wait_for_any);
}

static void wait_twice_for_one(void *unused)
{
    pthread_t thread;
    int zero = 0;
    coir_counter *twice[] = {&several[0], &several[0]};
    size_t which = 9;

    (void)unused;
    renew_several();
    CHECK_EQ(pthread_create(&thread, NULL, settle_one, &zero), 0);
    CHECK_EQ(coir_wait_any(twice, 2, COIR_NEVER, &which), COIR_FAILED);
    CHECK_EQ(which, 0);
    pthread_join(thread, NULL);
}

static void one_counter_may_stand_for_two(void)
{
    on_all(wait_twice_for_one);
}

static void wait_at(void *gate)
{
    CHECK_EQ(coir_wait(gate), COIR_DONE);
}

static void any_of_children(void *unused)
{
    coir_counter a = COIR_COUNTER_INIT, b = COIR_COUNTER_INIT, *both[] = {&a, &b};
    coir_counter gate = COIR_COUNTER_INIT;
    struct nap soon = {.until = coir_now() + COIR_MS, .awake = &passed};
    size_t which = 9;

    (void)unused;
    coir_counter_add(&gate, 1);
    CHECK_EQ(coir_spawn(&a, wait_at, &gate), COIR_OK);
    CHECK_EQ(coir_spawn(&b, nap, &soon), COIR_OK);
    CHECK_EQ(coir_wait_any(both, 2, COIR_NEVER, &which), COIR_DONE);
    CHECK_EQ(which, 1);
    coir_counter_done(&gate, COIR_DONE);
    CHECK_EQ(coir_wait(&a), COIR_DONE);
    CHECK_EQ(coir_wait(&b), COIR_DONE);
}

static void a_fiber_waits_for_any_of_its_children(void)
{
    run_on(1, any_of_children, NULL);
    run_on(2, any_of_children, NULL);
}

/* ------------------------------------------------------------------------------------ reuse */

static void reuse(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    int n = 0, rounds = MANY(20000);

    (void)unused;
    for (int i = 0; i < rounds; i++) {
        CHECK_EQ(coir_spawn(&c, count, &n), COIR_OK);
        CHECK_EQ(coir_wait(&c), COIR_DONE);
        if (i % 2)
            coir_counter_init(&c);
    }
    CHECK_EQ(n, rounds);
}

static void a_counter_is_used_again_after_the_wait(void)
{
    run_on(1, reuse, NULL);
    run_on(2, reuse, NULL);
}

static void wait_for_parents(void *parents)
{
    CHECK_EQ(coir_wait(parents), COIR_DONE);
}

/* It knows from its child that c has settled, and waits for c no more. */
static void reuse_unwaited(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT, other = COIR_COUNTER_INIT;

    (void)unused;
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(coir_spawn(&c, nop, NULL), COIR_OK);
        CHECK_EQ(coir_spawn(&other, wait_for_parents, &c), COIR_OK);
        CHECK_EQ(coir_wait(&other), COIR_DONE);
        coir_counter_init(&c);
    }
}

static void a_counter_that_another_waited_for_is_made_new(void)
{
    run_on(1, reuse_unwaited, NULL);
    run_on(2, reuse_unwaited, NULL);
}

/* ---------------------------------------------------------------------------------- nesting */

struct nest {
    int depth;
    int64_t deadline;
};

static void nest(void *arg)
{
    struct nest *n = arg, below = {n->depth - 1, n->deadline};
    coir_counter c = COIR_COUNTER_INIT;

    if (n->depth == 0) {
        CHECK_EQ(coir_sleep_until(coir_now() + COIR_MS), COIR_OK);
        return;
    }
    CHECK_EQ(coir_spawn(&c, nest, &below), COIR_OK);
    CHECK_EQ(coir_wait_until(&c, n->deadline), COIR_DONE);
}

static void waits_nest(void)
{
    struct nest in_place = {300, COIR_NEVER}, parked = {300, coir_now() + 1000 * COIR_SEC};

    for (unsigned workers = 1; workers <= 2; workers++) {
        run_on(workers, nest, &in_place);
        run_on(workers, nest, &parked);
    }
}

static void block_in_turns(void *n)
{
    CHECK_EQ(coir_sleep_until(coir_now() + COIR_US), COIR_OK);
    coir_yield();
    CHECK_EQ(coir_wait(&gate), COIR_DONE);
    run_count(n);
}

/* The first child starts in place of the wait and blocks on this very stack. */
static void wait_above_blocked(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    struct nap soon = {.until = coir_now() + COIR_MS, .awake = &passed};
    int n = 0;

    (void)unused;
    coir_counter_init(&gate);
    CHECK_EQ(coir_spawn(&gate, nap, &soon), COIR_OK);
    for (int i = 0; i < 50; i++)
        CHECK_EQ(coir_spawn(&c, block_in_turns, &n), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(n, 50);
    CHECK_EQ(coir_wait(&gate), COIR_DONE);
}

static void children_may_block_under_their_waiter(void)
{
    run_on(1, wait_above_blocked, NULL);
    run_on(2, wait_above_blocked, NULL);
}

static void a_plain_thread_waits_for_jobs(void)
{
    coir_runtime *rt = run_open(2);
    coir_counter c; /* all zero is valid */
    int n = 0;

    memset(&c, 0, sizeof c);
    for (int i = 0; i < 1000; i++)
        CHECK_EQ(coir_submit(rt, &c, count, &n), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(n, 1000);
    run_close(rt);
}

CHECK_MAIN(CASE(units_are_added_and_released_by_hand),
           CASE(the_worst_outcome_and_the_first_failure_stay), CASE(bad_input_gets_a_status),
           CASE(a_wait_that_timed_out_is_waited_again),
           CASE(a_past_deadline_ends_the_wait_at_once), CASE(a_sleep_lasts_until_its_deadline),
           CASE(sleepers_wake_in_the_order_of_their_deadlines), CASE(many_wait_for_one_counter),
           CASE(one_waits_for_many_counters), CASE(one_counter_may_stand_for_two),
           CASE(a_fiber_waits_for_any_of_its_children),
           CASE(a_counter_is_used_again_after_the_wait),
           CASE(a_counter_that_another_waited_for_is_made_new), CASE(waits_nest),
           CASE(children_may_block_under_their_waiter), CASE(a_plain_thread_waits_for_jobs))
