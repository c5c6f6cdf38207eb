/* SPDX-License-Identifier: MIT */
/*
 * semaphore.c - explores core/semaphore.c: no more permits are out than there are, none is lost, and what
 * was done before a release is seen behind the acquire that gets its permit.
 */
#include <string.h>

#include "explore.h"
#include "wait.h"
#include "world.h"

static coir_semaphore semaphore;
static int guarded;      /* by the one permit, where there is one */
static int leave_at;     /* who makes it so many frees the semaphore; 0: nobody */

static int got[1 + EXPLORE_THREADS]; /* permits by thread */

static void setup_permits(uint32_t permits)
{
    world_reset(0);
    MUST(coir_semaphore_init(&semaphore, permits) == COIR_OK);
    memset(got, 0, sizeof got);
    guarded = leave_at = 0;
}

static void setup_one(void)
{
    setup_permits(1);
}

static void setup_none(void)
{
    setup_permits(0);
}

static void setup_gone(void)
{
    setup_permits(1);
    leave_at = 2;
}

static void use_once(void)
{
    bool last;

    MUST(coir_semaphore_acquire(&semaphore) == COIR_OK);
    last = ++guarded == leave_at;
    MUST(coir_semaphore_release(&semaphore, 1) == COIR_OK);
    if (last)
        explore_free(&semaphore, sizeof semaphore);
}

static void use_twice(void)
{
    use_once();
    use_once();
}

static void try_to_use(void)
{
    int status = coir_semaphore_try_acquire(&semaphore);

    MUST(status == COIR_OK || status == COIR_EBUSY);
    if (status != COIR_OK)
        return;
    guarded++;
    MUST(coir_semaphore_release(&semaphore, 1) == COIR_OK);
}

static void acquire(void)
{
    MUST(coir_semaphore_acquire(&semaphore) == COIR_OK);
    got[explore_thread()]++;
}

static void acquire_for_a_while(void)
{
    int status = coir_semaphore_acquire_until(&semaphore, coir_now() + 1);

    MUST(status == COIR_OK || status == COIR_ETIMEDOUT);
    got[explore_thread()] += status == COIR_OK;
}

static void release_one(void)
{
    MUST(coir_semaphore_release(&semaphore, 1) == COIR_OK);
}

static void release_two(void)
{
    MUST(coir_semaphore_release(&semaphore, 2) == COIR_OK);
}

/* Permits that can still be had. */
static int left(void)
{
    int n = 0;

    while (coir_semaphore_try_acquire(&semaphore) == COIR_OK)
        n++;
    return n;
}

static void check_one(void)
{
    MUST(guarded >= 2 && left() == 1);
}

static void check_two_given(void)
{
    MUST(got[1] + got[2] + got[3] + left() == 2);
}

static void check_one_given(void)
{
    MUST(got[1] + got[2] + got[3] + left() == 1);
}

/* -------------------------------------------------------------------------------------- fibers */

static void acquire_in_job(void *arg)
{
    (void)arg;
    acquire();
}

static void acquire_in_job_for_a_while(void *arg)
{
    (void)arg;
    acquire_for_a_while();
}

/* Nobody releases: it is canceled, or waits for ever. */
static void acquire_until_canceled(void *arg)
{
    (void)arg;
    MUST(coir_semaphore_acquire(&semaphore) == COIR_ECANCELED);
}

static struct counter canceled; /* of the job that waits */

static void setup_cancel(void)
{
    setup_none();
    world_reset(1);
    memset(&canceled, 0, sizeof canceled);
    world_add(1, acquire_until_canceled, NULL, &canceled);
}

static void cancel(void)
{
    wait_cancel(&canceled, COIR_CANCEL_ASKED);
}

static void setup_fiber(void)
{
    setup_none();
    world_reset(1);
    world_add(1, acquire_in_job_for_a_while, NULL, NULL);
}

static void setup_two_fibers(void)
{
    setup_none();
    world_reset(1);
    world_add(1, acquire_in_job, NULL, NULL);
    world_add(1, acquire_in_job, NULL, NULL);
}

static void check_fiber(void)
{
    world_check();
    check_one_given();
}

static void check_fibers(void)
{
    world_check();
    check_two_given();
}

EXPLORE_MAIN(
    {.name = "one_at_a_time", setup_one, {use_once, use_once, use_once}, check_one},
    {.name = "again_and_again", setup_one, {use_twice, use_once, try_to_use}, check_one},
    {.name = "the_last_may_free_it", setup_gone, {use_once, use_once}, NULL},
    {.name = "two_are_given_two", setup_none, {release_two, acquire, acquire}, check_two_given},
    {.name = "a_permit_outlives_a_deadline", setup_none, {release_one, acquire_for_a_while,
     acquire_for_a_while}, check_one_given, .less = 1},
    {.name = "a_fiber_gives_up", setup_fiber, {world_work_1, NULL, release_one}, check_fiber},
    {.name = "a_cancel_is_not_missed", setup_cancel, {world_work_1, NULL, cancel}, world_check},
    {.name = "two_fibers_at_once", setup_two_fibers, {world_work_1, NULL, release_two}, check_fibers})
