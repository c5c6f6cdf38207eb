/* SPDX-License-Identifier: MIT */
/*
 * try_test.c - coir_try and coir_defer: boundaries of one's own, on fibers and plain threads,
 * and what runs when they end.
 */
#include "run.h"

#include <pthread.h>

/* Runs a case on fibers, and on this plain thread inside a boundary. */
static void on_all(coir_fn *fn)
{
    run_on(1, fn, NULL);
    run_on(2, fn, NULL);
    CHECK_EQ(coir_try(fn, NULL, NULL), COIR_DONE);
}

static void nop(void *unused)
{
    (void)unused;
}

static void raise_text(void *text)
{
    coir_panic("%s", (const char *)text);
}

static void count(void *n)
{
    run_count(n);
}

/* ---------------------------------------------------------------------------------- coir_try */

static void try_both(void *unused)
{
    static char text[] = "contained";
    coir_failure f = {.id = 7};
    int n = 0;

    (void)unused;
    CHECK_EQ(coir_try(count, &n, &f), COIR_DONE);
    CHECK_EQ(n, 1);
    CHECK_EQ(f.id, 7); /* filled on COIR_PANICKED only */
    CHECK_EQ(coir_try(raise_text, text, &f), COIR_PANICKED);
    CHECK_STR(f.message, "contained");
    CHECK_STR(f.file, __FILE__);
    CHECK_EQ(f.kind, COIR_KIND_PANIC);
    CHECK_EQ(f.worker >= 0, coir_current() != NULL);
    CHECK_EQ(f.job, coir_job_id());
    CHECK_EQ(coir_try(raise_text, text, NULL), COIR_PANICKED);
    CHECK_EQ(coir_try(NULL, text, &f), COIR_EINVAL);
}

static void a_try_contains_a_panic(void)
{
    on_all(try_both);
    try_both(NULL);
}

static void try_deeper(void *depth)
{
    int n = *(int *)depth - 1;
    coir_failure f;

    if (n > 0) {
        CHECK_EQ(coir_try(try_deeper, &n, &f), COIR_PANICKED);
        CHECK_EQ(f.message[0], 'a' + n - 1);
    }
    coir_panic("%c", 'a' + n);
}

static void nest_tries(void *unused)
{
    coir_failure f;
    int depth = 20;

    (void)unused;
    CHECK_EQ(coir_try(try_deeper, &depth, &f), COIR_PANICKED);
    CHECK_EQ(f.message[0], 'a' + 19);
}

static void tries_nest(void)
{
    on_all(nest_tries);
}

static void raise_after_yield(void *text)
{
    CHECK_EQ(coir_sleep_until(coir_now() + 10 * COIR_US), COIR_OK);
    coir_yield();
    raise_text(text);
}

static void try_blocking(void *unused)
{
    static char text[] = "after a sleep";
    coir_failure f;

    (void)unused;
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(coir_try(raise_after_yield, text, &f), COIR_PANICKED);
        CHECK_STR(f.message, text);
    }
}

static void try_blocking_many(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    CHECK_EQ(coir_spawn_many(&c, try_blocking, NULL, 0, 8), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void what_is_tried_may_block_and_move(void)
{
    run_on(2, try_blocking_many, NULL);
    try_blocking(NULL);
}

static void return_owing(void *n)
{
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_spawn(&c, count, n), COIR_OK);
}

static void spawn_and_raise(void *outer)
{
    static char text[] = "inner";
    coir_counter mine = COIR_COUNTER_INIT;
    int n = 0;

    CHECK_EQ(coir_spawn(outer, nop, NULL), COIR_OK);
    CHECK_EQ(coir_spawn(&mine, count, &n), COIR_OK);
    raise_text(text);
}

/* Only what the tried call's frames hold is settled; the counter out here goes on. */
static void try_owing(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_failure f;
    int n = 0;

    (void)unused;
    CHECK_EQ(coir_try(return_owing, &n, &f), COIR_PANICKED);
    CHECK_EQ(f.kind, COIR_KIND_OWED);
    CHECK_EQ(coir_try(spawn_and_raise, &c, &f), COIR_PANICKED);
    CHECK_STR(f.message, "inner");
    CHECK_EQ(coir_wait(&c), COIR_DONE); /* not canceled */
}

static void a_try_settles_its_own_frames_only(void)
{
    run_on(1, try_owing, NULL);
}

static void *try_on_thread(void *unused)
{
    for (int i = 0; i < MANY(2000); i++)
        try_both(unused);
    return unused;
}

static void plain_threads_panic_side_by_side(void)
{
    pthread_t thread[4];

    for (int i = 0; i < 4; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, try_on_thread, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
}

/* -------------------------------------------------------------------------------- coir_defer */

#define DEFERS 100

static int order[DEFERS], ordered;

static void note(void *index)
{
    order[ordered++] = *(int *)index;
}

static int indices[DEFERS];

static void defer_many(void *n)
{
    ordered = 0;
    for (int i = 0; i < *(int *)n; i++) {
        indices[i] = i;
        CHECK_EQ(coir_defer(note, &indices[i]), COIR_OK);
    }
    CHECK_EQ(ordered, 0);
}

static void defer_and_raise(void *n)
{
    static char text[] = "with handlers";

    defer_many(n);
    raise_text(text);
}

static void defer_counts(void *unused)
{
    static const int counts[] = {0, 1, COIR_DEFER_INLINE, COIR_DEFER_INLINE + 1, DEFERS};

    (void)unused;
    for (int k = 0; k < 10; k++) {
        int n = counts[k / 2], raise = k % 2;

        CHECK_EQ(coir_try(raise ? defer_and_raise : defer_many, &n, NULL),
                 raise ? COIR_PANICKED : COIR_DONE);
        CHECK_EQ(ordered, n);
        for (int i = 0; i < n; i++)
            CHECK_EQ(order[i], n - 1 - i);
    }
}

static void handlers_run_last_in_first_out_on_return_and_on_panic(void)
{
    on_all(defer_counts);
}

static void defer_in_job(void *n)
{
    CHECK_EQ(coir_defer(count, n), COIR_OK);
    coir_yield();
    CHECK_EQ(coir_try(nop, NULL, NULL), COIR_DONE); /* another boundary: not its handlers */
    CHECK_EQ(*(int *)n, 0);
}

static void wait_for_deferring(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    int n = 0;

    (void)unused;
    CHECK_EQ(coir_spawn(&c, defer_in_job, &n), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(n, 1); /* before the job's unit is released */
}

static void a_jobs_handlers_run_before_it_has_ended(void)
{
    run_on(1, wait_for_deferring, NULL);
    run_on(2, wait_for_deferring, NULL);
}

static char from_handler[] = "from a handler", from_job[] = "from the job";

static void defer_badly(void *n)
{
    CHECK_EQ(coir_defer(count, n), COIR_OK);
    CHECK_EQ(coir_defer(raise_text, from_handler), COIR_OK);
    CHECK_EQ(coir_defer(count, n), COIR_OK);
}

static void defer_badly_and_raise(void *n)
{
    defer_badly(n);
    raise_text(from_job);
}

static void handlers_panic(void *unused)
{
    coir_failure f;
    int n = 0;

    (void)unused;
    CHECK_EQ(coir_try(defer_badly, &n, &f), COIR_PANICKED);
    CHECK_STR(f.message, from_handler);
    CHECK_EQ(n, 2);
    CHECK_EQ(coir_try(defer_badly_and_raise, &n, &f), COIR_PANICKED);
    CHECK_STR(f.message, from_job); /* the first */
    CHECK_EQ(n, 4);
}

static void the_others_run_when_a_handler_panics(void)
{
    on_all(handlers_panic);
}

static void defer_again(void *n)
{
    run_count(n);
    CHECK_EQ(coir_defer(count, n), COIR_OK); /* of the handler's own boundary */
}

static void defer_in_handler(void *n)
{
    CHECK_EQ(coir_defer(defer_again, n), COIR_OK);
}

static void handlers_defer(void *unused)
{
    int n = 0;

    (void)unused;
    CHECK_EQ(coir_try(defer_in_handler, &n, NULL), COIR_DONE);
    CHECK_EQ(n, 2);
}

static void a_handler_may_defer(void)
{
    on_all(handlers_defer);
}

static void block_in_handler(void *n)
{
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_sleep_until(coir_now() + 10 * COIR_US), COIR_OK);
    CHECK_EQ(coir_spawn(&c, count, n), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void defer_blocking(void *n)
{
    CHECK_EQ(coir_defer(block_in_handler, n), COIR_OK);
    raise_text(from_job);
}

static void wait_for_blocking(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    int n = 0;

    (void)unused;
    CHECK_EQ(coir_spawn_many(&c, defer_blocking, &n, 0, 50), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    CHECK_EQ(n, 50);
}

static void a_handler_may_block(void)
{
    run_on(1, wait_for_blocking, NULL);
    run_on(2, wait_for_blocking, NULL);
}

static void defer_without_function(void *unused)
{
    CHECK_EQ(coir_defer(NULL, unused), COIR_EINVAL);
}

static void bad_input_gets_a_status(void)
{
    CHECK_EQ(coir_defer(nop, NULL), COIR_EPERM);
    on_all(defer_without_function);
}

CHECK_MAIN(CASE(a_try_contains_a_panic), CASE(tries_nest), CASE(what_is_tried_may_block_and_move),
           CASE(a_try_settles_its_own_frames_only), CASE(plain_threads_panic_side_by_side),
           CASE(handlers_run_last_in_first_out_on_return_and_on_panic),
           CASE(a_jobs_handlers_run_before_it_has_ended),
           CASE(the_others_run_when_a_handler_panics), CASE(a_handler_may_defer),
           CASE(a_handler_may_block), CASE(bad_input_gets_a_status))
