/* SPDX-License-Identifier: MIT */
/*
 * once_test.c - one call, whose end everybody sees, also when it is a panic.
 */
#include "run.h"
#include "threads.h"

static coir_once once;
static int calls, data;

static void set_up(void *yields)
{
    run_count(&calls);
    for (uintptr_t i = 0; i < (uintptr_t)yields; i++)
        coir_yield();
    data = 42; /* plain: the once orders it */
}

static void break_down(void *yields)
{
    set_up(yields);
    coir_panic("half set up");
}

static void never(void *unused)
{
    (void)unused;
    CHECK_NEVER("called again");
}

static void one_caller(void *unused)
{
    coir_once own = COIR_ONCE_INIT;

    (void)unused;
    calls = data = 0;
    CHECK_EQ(coir_once_call(&own, set_up, NULL), COIR_OK);
    CHECK_EQ(coir_once_call(&own, never, NULL), COIR_OK);
    CHECK_EQ(coir_once_call_until(&own, never, NULL, 0), COIR_OK);
    CHECK_EQ(calls, 1);
    CHECK_EQ(data, 42);
}

static void it_is_called_once(void)
{
    one_caller(NULL);
    run_on(1, one_caller, NULL);
}

/* It returns, but has said that it failed. */
static void fail_to(void *yields)
{
    set_up(yields);
    coir_fail(7, "half set up");
}

static void poison_by(coir_fn *fn)
{
    coir_once own = COIR_ONCE_INIT;

    CHECK_EQ(coir_once_call(&own, fn, NULL), COIR_EPOISONED);
    CHECK_EQ(coir_once_call(&own, never, NULL), COIR_EPOISONED);
    CHECK_EQ(coir_once_call_until(&own, never, NULL, 0), COIR_EPOISONED);
}

static void break_it(void *unused)
{
    (void)unused;
    poison_by(break_down);
}

static void fail_it(void *unused)
{
    (void)unused;
    poison_by(fail_to);
}

static void a_panic_poisons_it(void)
{
    break_it(NULL);
    run_on(1, break_it, NULL);
}

/* The failure is the once's: the job around it ends DONE. */
static void a_failure_poisons_it_too(void)
{
    fail_it(NULL);
    run_on(1, fail_it, NULL);
}

static void bad_input_is_refused(void)
{
    CHECK_EQ(coir_once_call(NULL, set_up, NULL), COIR_EINVAL);
    CHECK_EQ(coir_once_call(&once, NULL, NULL), COIR_EINVAL);
    CHECK_EQ(coir_once_call_until(NULL, NULL, NULL, 0), COIR_EINVAL);
}

static void call_inside(void *own)
{
    CHECK_EQ(coir_once_call(own, never, NULL), COIR_EDEADLK);
}

static void recurse(void *unused)
{
    coir_once own = COIR_ONCE_INIT;

    (void)unused;
    CHECK_EQ(coir_once_call(&own, call_inside, &own), COIR_OK);
}

static void a_call_from_inside_is_refused(void)
{
    recurse(NULL);
    run_on(1, recurse, NULL);
}

/* ------------------------------------------------------------------------------------- crowds */

static struct {
    coir_fn *fn;
    int expected;
} attempt;

static void come(void *yields)
{
    CHECK_EQ(coir_once_call(&once, attempt.fn, yields), attempt.expected);
    CHECK_EQ(data, 42);
}

static void *come_on_thread(void *yields)
{
    come(yields);
    return NULL;
}

static void crowd(coir_fn *fn, int expected)
{
    coir_runtime *rt = run_open(2);

    attempt.fn = fn;
    attempt.expected = expected;
    for (int i = 0; i < MANY(500); i++) {
        struct threads all = {.count = 0};
        coir_counter c = COIR_COUNTER_INIT;
        void *yields = (void *)(uintptr_t)(i % 4);

        once = (coir_once)COIR_ONCE_INIT;
        calls = data = 0;
        for (int k = 0; k < 4; k++)
            CHECK_EQ(coir_submit(rt, &c, come, yields), COIR_OK);
        threads_add(&all, come_on_thread, yields);
        threads_join(&all);
        CHECK_EQ(coir_wait(&c), COIR_DONE);
        CHECK_EQ(calls, 1);
    }
    run_close(rt);
}

static void everyone_sees_the_end_of_the_call(void)
{
    crowd(set_up, COIR_OK);
}

static void everyone_sees_the_panic(void)
{
    crowd(break_down, COIR_EPOISONED);
}

static int inside, go_on, status_seen;

static void dawdle(void *unused)
{
    (void)unused;
    run_set(&inside);
    run_until(&go_on);
}

static void call_slowly(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_once_call(&once, dawdle, NULL), COIR_OK);
}

static void wait_to_be_canceled(void *unused)
{
    (void)unused;
    run_count(&calls);
    status_seen = coir_once_call(&once, never, NULL);
}

static void give_up_waiting(void *unused)
{
    coir_counter slow = COIR_COUNTER_INIT, waiter = COIR_COUNTER_INIT;

    (void)unused;
    once = (coir_once)COIR_ONCE_INIT;
    inside = go_on = calls = 0;
    CHECK_EQ(coir_spawn(&slow, call_slowly, NULL), COIR_OK);
    run_until(&inside);
    CHECK_EQ(coir_once_call_until(&once, never, NULL, coir_now() + COIR_MS), COIR_ETIMEDOUT);
    CHECK_EQ(coir_spawn(&waiter, wait_to_be_canceled, NULL), COIR_OK);
    run_until(&calls);
    CHECK_EQ(coir_counter_cancel(&waiter), COIR_OK);
    CHECK_EQ(coir_wait(&waiter), COIR_DONE);
    CHECK_EQ(status_seen, COIR_ECANCELED);
    run_set(&go_on);
    CHECK_EQ(coir_wait(&slow), COIR_DONE);
    CHECK_EQ(coir_once_call(&once, never, NULL), COIR_OK);
}

static void everyone_sees_the_failure(void)
{
    crowd(fail_to, COIR_EPOISONED);
}

static void who_waits_may_give_up(void)
{
    run_on(1, give_up_waiting, NULL);
    run_on(2, give_up_waiting, NULL);
}

CHECK_MAIN(CASE(it_is_called_once), CASE(a_panic_poisons_it), CASE(a_failure_poisons_it_too),
           CASE(bad_input_is_refused), CASE(a_call_from_inside_is_refused), CASE(everyone_sees_the_end_of_the_call),
           CASE(everyone_sees_the_panic), CASE(everyone_sees_the_failure), CASE(who_waits_may_give_up))
