/* SPDX-License-Identifier: MIT */
/*
 * semaphore_test.c - permits are neither lost nor made, whoever gives up; first come, first served.
 */
#include "attack.h"

static coir_semaphore semaphore;

static void one_caller(void *unused)
{
    coir_semaphore s = COIR_SEMAPHORE_INIT;

    (void)unused;
    CHECK_EQ(coir_semaphore_try_acquire(&s), COIR_EBUSY);
    CHECK_EQ(coir_semaphore_acquire_until(&s, 0), COIR_ETIMEDOUT);
    CHECK_EQ(coir_semaphore_acquire_until(&s, coir_now() + COIR_MS), COIR_ETIMEDOUT);
    CHECK_EQ(coir_semaphore_release(&s, 2), COIR_OK);
    CHECK_EQ(coir_semaphore_acquire(&s), COIR_OK);
    CHECK_EQ(coir_semaphore_acquire_until(&s, 0), COIR_OK);
    CHECK_EQ(coir_semaphore_try_acquire(&s), COIR_EBUSY);
    CHECK_EQ(coir_semaphore_release(&s, 0), COIR_OK);
    CHECK_EQ(coir_semaphore_try_acquire(&s), COIR_EBUSY);
}

static void permits_are_counted(void)
{
    one_caller(NULL);
    run_on(1, one_caller, NULL);
}

static void bad_input_is_refused(void)
{
    coir_semaphore s;

    CHECK_EQ(coir_semaphore_init(NULL, 0), COIR_EINVAL);
    CHECK_EQ(coir_semaphore_init(&s, COIR_SEMAPHORE_MAX + 1), COIR_ERANGE);
    CHECK_EQ(coir_semaphore_init(&s, COIR_SEMAPHORE_MAX), COIR_OK);
    CHECK_EQ(coir_semaphore_release(&s, 1), COIR_ERANGE);
    CHECK_EQ(coir_semaphore_acquire(&s), COIR_OK);
    CHECK_EQ(coir_semaphore_release(&s, 2), COIR_ERANGE);
    CHECK_EQ(coir_semaphore_release(&s, UINT32_MAX), COIR_ERANGE);
    CHECK_EQ(coir_semaphore_release(&s, 1), COIR_OK);
    CHECK_EQ(coir_semaphore_acquire(NULL), COIR_EINVAL);
    CHECK_EQ(coir_semaphore_acquire_until(NULL, 0), COIR_EINVAL);
    CHECK_EQ(coir_semaphore_try_acquire(NULL), COIR_EINVAL);
    CHECK_EQ(coir_semaphore_release(NULL, 1), COIR_EINVAL);
}

/* ------------------------------------------------------------------------------------- attack */

enum { PERMITS = 3 };

static struct {
    int rounds, inside;
    int canceled, timed_out, acquired; /* atomic */
} work;

static void use(uint64_t *random)
{
    CHECK(__atomic_add_fetch(&work.inside, 1, __ATOMIC_RELAXED) <= PERMITS);
    if (random_next(random) % 4 == 0)
        coir_yield();
    __atomic_sub_fetch(&work.inside, 1, __ATOMIC_RELAXED);
    run_count(&work.acquired);
    CHECK_EQ(coir_semaphore_release(&semaphore, 1), COIR_OK);
}

static void acquire_often(void *seed)
{
    uint64_t random = attack_seed(seed);

    for (int i = 0; i < work.rounds; i++) {
        int64_t ns = (int64_t)(random_next(&random) % 20000);
        int status = random_next(&random) % 2
                         ? coir_semaphore_acquire(&semaphore)
                         : coir_semaphore_acquire_until(&semaphore, coir_now() + ns);

        if (status == COIR_OK)
            use(&random);
        else
            run_count(status == COIR_ETIMEDOUT ? &work.timed_out : &work.canceled);
        CHECK(status == COIR_OK || status == COIR_ETIMEDOUT || status == COIR_ECANCELED);
    }
}

static void permits_are_neither_lost_nor_made(void)
{
    memset(&work, 0, sizeof work);
    work.rounds = MANY(2000);
    CHECK_EQ(coir_semaphore_init(&semaphore, PERMITS), COIR_OK);
    attack_run((struct attack){.fn = acquire_often, .jobs = 10, .threads = 4, .crowd = 6});
    CHECK(work.acquired > 0 && (SLOW || work.timed_out > 0));
    for (int i = 0; i < PERMITS; i++)
        CHECK_EQ(coir_semaphore_try_acquire(&semaphore), COIR_OK);
    CHECK_EQ(coir_semaphore_try_acquire(&semaphore), COIR_EBUSY);
}

/* -------------------------------------------------------------------------------------- order */

static int entered, served;

static void take_in_order(void *number)
{
    run_count(&entered);
    CHECK_EQ(coir_semaphore_acquire(&semaphore), COIR_OK);
    CHECK_EQ(served++, (int)(uintptr_t)number);
}

static void serve(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    entered = served = 0;
    CHECK_EQ(coir_semaphore_init(&semaphore, 0), COIR_OK);
    for (uintptr_t i = 0; i < 10; i++) {
        CHECK_EQ(coir_spawn(&c, take_in_order, (void *)i), COIR_OK);
        while (__atomic_load_n(&entered, __ATOMIC_RELAXED) <= (int)i)
            coir_yield();
    }
    CHECK_EQ(coir_semaphore_release(&semaphore, 4), COIR_OK);
    CHECK_EQ(coir_semaphore_try_acquire(&semaphore), COIR_EBUSY); /* handed over already */
    CHECK_EQ(coir_semaphore_release(&semaphore, 7), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_semaphore_try_acquire(&semaphore), COIR_OK); /* the eleventh */
    CHECK_EQ(coir_semaphore_try_acquire(&semaphore), COIR_EBUSY);
}

static void who_came_first_is_served_first(void)
{
    run_on(1, serve, NULL);
}

/* -------------------------------------------------------------------------------- destruction */

static void release_it(void *s)
{
    CHECK_EQ(coir_semaphore_release(s, 1), COIR_OK);
}

static int acquire_it(void *s)
{
    return coir_semaphore_acquire(s);
}

static void it_may_go_with_its_last_permit(void)
{
    last_use_run((struct last_use){release_it, acquire_it, sizeof(coir_semaphore)});
}

CHECK_MAIN(CASE(permits_are_counted), CASE(bad_input_is_refused),
           CASE(permits_are_neither_lost_nor_made), CASE(who_came_first_is_served_first),
           CASE(it_may_go_with_its_last_permit))
