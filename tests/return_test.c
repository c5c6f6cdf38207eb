/* SPDX-License-Identifier: MIT */
/*
 * return_test.c - a job that returns over what lies in its frames: locks and holds that it holds, links, counters
 * that are owed. The boundary finds and settles them where they lie, though the frames have been left, so
 * nothing of the runtime may run on that memory before.
 */
#include "run.h"

static coir_rwlock rwlock = COIR_RWLOCK_INIT;

/* Nobody is in. */
static void check_free(void)
{
    CHECK_EQ(coir_rwlock_write_try_lock(&rwlock), COIR_OK);
    CHECK_EQ(coir_rwlock_write_unlock(&rwlock), COIR_OK);
}

/* ------------------------------------------------------------------- what the job leaves in its frame */

/* Memory of the caller's frame, `depth` bytes below its top, so far from where the boundary goes on. What is
 * all zero is ready to be used. */
#define LEFT_AT(depth, type, count)                                                                \
    ((void)touch(__builtin_alloca((depth) + 1), (depth) + 1),                                      \
     (type *)touch(__builtin_alloca_with_align((count) * sizeof(type), 512), (count) * sizeof(type)))

static void *touch(void *memory, size_t bytes)
{
    return memset(memory, 0, bytes);
}

static void hold_to_read(void *depth)
{
    coir_read *hold = LEFT_AT((uintptr_t)depth, coir_read, 2);

    for (int i = 0; i < 2; i++)
        CHECK_EQ(coir_rwlock_read_lock(&rwlock, &hold[i]), COIR_OK);
}

static void hold_mutexes(void *depth)
{
    coir_mutex *mutex = LEFT_AT((uintptr_t)depth, coir_mutex, 2);

    for (int i = 0; i < 2; i++)
        CHECK_EQ(coir_mutex_lock(&mutex[i]), COIR_OK);
}

static void hold_both(void *depth)
{
    coir_read hold = COIR_READ_INIT;
    coir_mutex *mutex = LEFT_AT((uintptr_t)depth, coir_mutex, 1);

    CHECK_EQ(coir_rwlock_read_lock(&rwlock, &hold), COIR_OK);
    CHECK_EQ(coir_mutex_lock(mutex), COIR_OK);
}

static coir_counter watched = COIR_COUNTER_INIT, other = COIR_COUNTER_INIT; /* never settle */

static void tie(void *depth)
{
    coir_link *link = LEFT_AT((uintptr_t)depth, coir_link, 2);

    for (int i = 0; i < 2; i++)
        CHECK_EQ(coir_link_counters(&link[i], &watched, &other), COIR_OK);
}

static void nop(void *unused)
{
    (void)unused;
}

static void owe(void *depth)
{
    coir_counter *c = LEFT_AT((uintptr_t)depth, coir_counter, 2);

    for (int i = 0; i < 2; i++)
        CHECK_EQ(coir_spawn(&c[i], nop, NULL), COIR_OK);
}

/* ------------------------------------------------------------------------------- what becomes of it */

static void returns_over(coir_fn *fn, size_t depth, int kind)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_failure f;

    CHECK_EQ(coir_spawn(&c, fn, (void *)depth), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    CHECK_EQ(coir_counter_failure(&c, &f), COIR_OK);
    CHECK_EQ(f.kind, kind);
    check_free();
}

/* Often: what tools put between two instructions goes deep into the stack only now and then. */
static void return_over(coir_fn *fn, int kind)
{
    for (int i = 0; i < 3000; i++)
        for (size_t depth = 0; depth <= 1536; depth += 96)
            returns_over(fn, depth, kind);
}

static void return_holding(void *unused)
{
    (void)unused;
    return_over(hold_to_read, COIR_KIND_HELD);
    return_over(hold_mutexes, COIR_KIND_HELD);
    return_over(hold_both, COIR_KIND_HELD);
    return_over(tie, COIR_KIND_HELD);
}

static void what_is_held_in_frames_that_return_is_found_whole(void)
{
    coir_counter_add(&watched, 1);
    coir_counter_add(&other, 1);
    run_on(1, return_holding, NULL);
    run_on(2, return_holding, NULL);
}

/* Nor can it be handed to the job around a coir_try. */
static void try_holding(void *unused)
{
    coir_fn *const fn[] = {hold_to_read, hold_mutexes, hold_both, tie};
    coir_failure f;

    (void)unused;
    for (int i = 0; i < MANY(300); i++)
        for (size_t depth = 0; depth <= 1536; depth += 96) {
            CHECK_EQ(coir_try(fn[i % 4], (void *)depth, &f), COIR_PANICKED);
            CHECK_EQ(f.kind, COIR_KIND_HELD);
            check_free();
        }
}

static void a_try_that_returns_over_its_own_lock_has_panicked(void)
{
    run_on(1, try_holding, NULL);
    try_holding(NULL); /* on a plain thread */
}

static void return_owing(void *unused)
{
    (void)unused;
    return_over(owe, COIR_KIND_OWED);
}

static void counters_owed_in_frames_that_return_are_found_whole(void)
{
    run_on(1, return_owing, NULL);
}

CHECK_MAIN(CASE(what_is_held_in_frames_that_return_is_found_whole),
           CASE(a_try_that_returns_over_its_own_lock_has_panicked),
           CASE(counters_owed_in_frames_that_return_are_found_whole))
