/* SPDX-License-Identifier: MIT */
/*
 * frames_test.c - locks and holds that lie in the frames which a panic takes: they are let go while
 * these are whole. A cleanup further up runs on the memory of frames that have gone.
 */
#include "run.h"

#define DEEP 8192

static coir_rwlock rwlock = COIR_RWLOCK_INIT;

/* Writes over all that has gone below the frame whose cleanup it is. */
static __attribute__((noinline)) void scribble(int *cell)
{
    volatile unsigned char stack[DEEP];

    for (size_t i = 0; i < sizeof stack; i++)
        stack[i] = (unsigned char)(0x5a + *cell);
}

static __attribute__((noinline)) void hold_and_panic(void *unused)
{
    coir_read hold[2] = {COIR_READ_INIT, COIR_READ_INIT};
    coir_mutex mutex = COIR_MUTEX_INIT;

    (void)unused;
    for (int i = 0; i < 2; i++)
        CHECK_EQ(coir_rwlock_read_lock(&rwlock, &hold[i]), COIR_OK);
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK);
    CHECK_EQ(coir_rwlock_read_unlock(&rwlock, &hold[1]), COIR_OK);
    coir_panic("holding");
}

static __attribute__((noinline)) void below_a_cleanup(void *fn)
{
    __attribute__((cleanup(scribble), unused)) int cell = 1;

    (*(coir_fn **)fn)(NULL);
}

static coir_fn *panicking[] = {hold_and_panic};

static void job_below_a_cleanup(void *unused)
{
    (void)unused;
    below_a_cleanup(panicking);
}

/* Nobody is in. */
static void check_free(void)
{
    CHECK_EQ(coir_rwlock_write_try_lock(&rwlock), COIR_OK);
    CHECK_EQ(coir_rwlock_write_unlock(&rwlock), COIR_OK);
}

static void jobs_below_a_cleanup(void *unused)
{
    (void)unused;
    for (int i = 0; i < MANY(1000); i++) {
        coir_counter c = COIR_COUNTER_INIT;

        CHECK_EQ(coir_spawn(&c, job_below_a_cleanup, NULL), COIR_OK);
        CHECK_EQ(coir_wait(&c), COIR_PANICKED);
        check_free();
        CHECK_EQ(coir_try(below_a_cleanup, panicking, NULL), COIR_PANICKED);
        check_free();
    }
}

static void what_is_held_in_frames_is_let_go_before_cleanups_use_their_memory(void)
{
    run_on(1, jobs_below_a_cleanup, NULL);
    run_on(2, jobs_below_a_cleanup, NULL);
    CHECK_EQ(coir_try(below_a_cleanup, panicking, NULL), COIR_PANICKED);
    check_free();
}

/* ----------------------------------------------------------- in the frame of the cleanup itself */

static void unlocks(coir_mutex *mutex)
{
    CHECK_EQ(coir_mutex_unlock(mutex), COIR_OK);
}

static void reads_no_more(coir_read *hold)
{
    CHECK_EQ(coir_rwlock_read_unlock(&rwlock, hold), COIR_OK);
}

static __attribute__((noinline)) void guarded_panic(void *unused)
{
    __attribute__((cleanup(unlocks))) coir_mutex mutex = COIR_MUTEX_INIT;
    __attribute__((cleanup(reads_no_more))) coir_read hold = COIR_READ_INIT;

    (void)unused;
    CHECK_EQ(coir_rwlock_read_lock(&rwlock, &hold), COIR_OK);
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK);
    coir_panic("guarded");
}

static void guards(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_try(guarded_panic, NULL, NULL), COIR_PANICKED);
    check_free();
}

static void a_cleanup_of_their_own_frame_finds_them_held(void)
{
    run_on(1, guards, NULL);
    guards(NULL);
}

/* ---------------------------------------------------------------- not in the frames that go */

static coir_mutex outer_mutex = COIR_MUTEX_INIT;

static void lock_given(void *hold)
{
    CHECK_EQ(coir_rwlock_read_lock(&rwlock, hold), COIR_OK);
    CHECK_EQ(coir_mutex_lock(&outer_mutex), COIR_OK);
    coir_panic("with a hold that lies further up");
}

static void holds_further_up(void *unused)
{
    coir_read hold = COIR_READ_INIT;

    (void)unused;
    CHECK_EQ(coir_try(lock_given, &hold, NULL), COIR_PANICKED);
    check_free();
    CHECK_EQ(coir_rwlock_read_unlock(&rwlock, &hold), COIR_EINVAL); /* let go, and still ours to ask */
    CHECK_EQ(coir_mutex_lock(&outer_mutex), COIR_EPOISONED);
    CHECK_EQ(coir_mutex_clear(&outer_mutex, "it guards nothing"), COIR_OK);
    CHECK_EQ(coir_mutex_unlock(&outer_mutex), COIR_OK);
}

static void what_lies_elsewhere_is_let_go_at_the_boundary(void)
{
    run_on(1, holds_further_up, NULL);
    holds_further_up(NULL);
}

CHECK_MAIN(CASE(what_is_held_in_frames_is_let_go_before_cleanups_use_their_memory),
           CASE(a_cleanup_of_their_own_frame_finds_them_held),
           CASE(what_lies_elsewhere_is_let_go_at_the_boundary))
