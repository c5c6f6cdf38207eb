/* SPDX-License-Identifier: MIT */
/*
 * local_test.c - a job's own values: its own wherever it runs, nobody else's, destroyed at its end.
 */
#include "scarce.h"

static int destroyed;

static void destroy(void *value)
{
    __atomic_add_fetch(&destroyed, *(int *)value, __ATOMIC_RELAXED);
}

static const coir_local first = COIR_LOCAL_INIT(destroy), second = COIR_LOCAL_INIT(destroy),
                        plain = COIR_LOCAL_INIT(NULL);

static int one = 1, ten = 10, hundred = 100;

static void *in_try;

static void look_in_try(void *unused)
{
    (void)unused;
    in_try = coir_local_get(&first);
    CHECK_EQ(coir_local_set(&second, &hundred), COIR_OK); /* its job's, not the boundary's */
}

static void use(void *unused)
{
    (void)unused;
    CHECK(coir_local_get(&first) == NULL);
    CHECK_EQ(coir_local_set(&first, NULL), COIR_OK);
    CHECK_EQ(coir_local_set(&first, &one), COIR_OK);
    CHECK_EQ(coir_local_set(&second, &ten), COIR_OK);
    CHECK_EQ(coir_local_set(&plain, &ten), COIR_OK);
    CHECK(coir_local_get(&first) == &one);
    CHECK(coir_local_get(&second) == &ten);
    CHECK_EQ(coir_try(look_in_try, NULL, NULL), COIR_DONE);
    CHECK(in_try == &one);
    CHECK(coir_local_get(&second) == &hundred);
    CHECK_EQ(destroyed, 0);
}

static void values_last_until_the_job_ends(void)
{
    destroyed = 0;
    run_on(1, use, NULL);
    CHECK_EQ(destroyed, 101); /* the one that was replaced is not destroyed */
}

static void set_and_unset(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_local_set(&first, &one), COIR_OK);
    CHECK_EQ(coir_local_set(&first, NULL), COIR_OK);
    CHECK(coir_local_get(&first) == NULL);
}

static void no_value_is_not_destroyed(void)
{
    destroyed = 0;
    run_on(1, set_and_unset, NULL);
    CHECK_EQ(destroyed, 0);
}

static void bad_input_is_refused(void)
{
    CHECK_EQ(coir_local_set(NULL, &one), COIR_EINVAL);
    CHECK_EQ(coir_local_set(&first, &one), COIR_EPERM); /* a plain thread */
    CHECK(coir_local_get(&first) == NULL);
    CHECK(coir_local_get(NULL) == NULL);
}

/* ----------------------------------------------------------------------------------- identity */

static void child_without(void *unused)
{
    (void)unused;
    CHECK(coir_local_get(&first) == NULL);
    CHECK_EQ(coir_local_set(&first, &ten), COIR_OK);
}

static void spawn_in_place(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    CHECK_EQ(coir_local_set(&first, &one), COIR_OK);
    CHECK_EQ(coir_spawn(&c, child_without, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE); /* on this stack */
    CHECK_EQ(destroyed, 10);
    CHECK(coir_local_get(&first) == &one);
}

static void a_child_in_place_has_its_own(void)
{
    destroyed = 0;
    run_on(1, spawn_in_place, NULL);
    CHECK_EQ(destroyed, 11);
}

static void move_about(void *value)
{
    CHECK_EQ(coir_local_set(&first, value), COIR_OK);
    for (int i = 0; i < 50; i++) {
        coir_yield();
        CHECK(coir_local_get(&first) == value);
    }
}

static void movers(void *unused)
{
    static int values[64];
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    for (int i = 0; i < 64; i++)
        values[i] = 1;
    CHECK_EQ(coir_spawn_many(&c, move_about, values, sizeof values[0], 64), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void values_follow_their_job(void)
{
    destroyed = 0;
    run_on(2, movers, NULL);
    CHECK_EQ(destroyed, 64);
}

/* ---------------------------------------------------------------------------------- endings */

static int end_of(coir_fn *fn, coir_failure *failure)
{
    coir_runtime *rt = run_open(1);
    coir_counter c = COIR_COUNTER_INIT;
    int outcome;

    CHECK_EQ(coir_submit(rt, &c, fn, NULL), COIR_OK);
    outcome = coir_wait(&c);
    (void)coir_counter_failure(&c, failure);
    run_close(rt);
    return outcome;
}

static void panic_with_values(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_local_set(&first, &one), COIR_OK);
    CHECK_EQ(coir_local_set(&second, &ten), COIR_OK);
    coir_panic("values are kept");
}

static void a_panic_destroys_them_too(void)
{
    coir_failure f;

    destroyed = 0;
    CHECK_EQ(end_of(panic_with_values, &f), COIR_PANICKED);
    CHECK_EQ(destroyed, 11);
    CHECK_STR(f.message, "values are kept");
}

static void break_down(void *unused)
{
    (void)unused;
    coir_panic("a destructor breaks");
}

static const coir_local fragile = COIR_LOCAL_INIT(break_down);

static void keep_fragile(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_local_set(&first, &one), COIR_OK);
    CHECK_EQ(coir_local_set(&fragile, &one), COIR_OK);
    CHECK_EQ(coir_local_set(&second, &ten), COIR_OK);
}

static void a_destructor_that_panics_makes_the_job_panic(void)
{
    coir_failure f;

    destroyed = 0;
    CHECK_EQ(end_of(keep_fragile, &f), COIR_PANICKED);
    CHECK_EQ(destroyed, 11); /* the others ran */
    CHECK_STR(f.message, "a destructor breaks");
}

static void set_again(void *value)
{
    destroy(value);
    CHECK_EQ(coir_local_set(&second, &ten), COIR_OK);
}

static const coir_local persistent = COIR_LOCAL_INIT(set_again);

static void use_deferred(void *unused)
{
    (void)unused;
    CHECK(coir_local_get(&first) == &one); /* handlers still see them */
}

static void keep_persistent(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_defer(use_deferred, NULL), COIR_OK);
    CHECK_EQ(coir_local_set(&first, &one), COIR_OK);
    CHECK_EQ(coir_local_set(&persistent, &hundred), COIR_OK);
}

static void what_a_destructor_sets_is_destroyed(void)
{
    coir_failure f;

    destroyed = 0;
    CHECK_EQ(end_of(keep_persistent, &f), COIR_DONE);
    CHECK_EQ(destroyed, 111);
}

/* ------------------------------------------------------------------------------------- memory */

static void set_without_memory(void *unused)
{
    (void)unused;
    scarce.refuse = 1;
    CHECK_EQ(coir_local_set(&first, &one), COIR_ENOMEM);
    CHECK(coir_local_get(&first) == NULL);
    scarce.refuse = 0;
    CHECK_EQ(coir_local_set(&first, &one), COIR_OK);
    scarce.refuse = 1;
    CHECK_EQ(coir_local_set(&first, &ten), COIR_OK); /* there already */
    scarce.refuse = 0;
}

static void want_of_memory_is_told(void)
{
    coir_options o = scarce_options(1);

    destroyed = scarce.live = 0;
    CHECK_EQ(coir_run(&o, set_without_memory, NULL), COIR_DONE);
    CHECK_EQ(destroyed, 10);
    CHECK_EQ(scarce.live, 0);
}

CHECK_MAIN(CASE(values_last_until_the_job_ends), CASE(no_value_is_not_destroyed),
           CASE(bad_input_is_refused), CASE(a_child_in_place_has_its_own),
           CASE(values_follow_their_job), CASE(a_panic_destroys_them_too),
           CASE(a_destructor_that_panics_makes_the_job_panic),
           CASE(what_a_destructor_sets_is_destroyed), CASE(want_of_memory_is_told))
