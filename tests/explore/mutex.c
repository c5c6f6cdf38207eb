/* SPDX-License-Identifier: MIT */
/*
 * mutex.c - explores core/mutex.c: one at a time, nobody waits for ever (M2), nobody touches it after
 * whoever is next may have freed it (W2).
 */
#include "mutex.h"

#include <string.h>

#include "explore.h"
#include "world.h"

static coir_mutex mutex;
static int guarded; /* by the mutex */
static int leave_at; /* who makes it so many frees the mutex; 0: nobody */
static int got[1 + EXPLORE_THREADS]; /* status of each thread's last call */

static void setup(void)
{
    world_reset(0);
    memset(&mutex, 0, sizeof mutex);
    memset(got, 0, sizeof got);
    guarded = leave_at = 0;
}

/* The critical section, and the end of it. */
static void use(void)
{
    bool last = ++guarded == leave_at;

    MUST(coir_mutex_unlock(&mutex) == COIR_OK);
    if (last)
        explore_free(&mutex, sizeof mutex);
}

static void lock_once(void)
{
    MUST(coir_mutex_lock(&mutex) == COIR_OK);
    use();
}

static void lock_twice(void)
{
    lock_once();
    lock_once();
}

static void try_once(void)
{
    int status = coir_mutex_try_lock(&mutex);

    MUST(status == COIR_OK || status == COIR_EBUSY);
    if (status == COIR_OK)
        use();
}

static void lock_for_a_while(void)
{
    int status = coir_mutex_lock_until(&mutex, coir_now() + 1);

    MUST(status == COIR_OK || status == COIR_ETIMEDOUT);
    got[explore_thread()] = status;
    if (status == COIR_OK)
        use();
}

static void check_free(void)
{
    const struct mutex *m = mutex_of(&mutex);

    MUST(atomic_load_explicit(&((struct mutex *)(uintptr_t)m)->state, memory_order_relaxed) == 0);
    MUST(waitq_empty(&m->queue));
}

static void check_2(void)
{
    check_free();
    MUST(guarded == 2);
}

static void check_3(void)
{
    check_free();
    MUST(guarded == 3);
}

static void check_4(void)
{
    check_free();
    MUST(guarded == 4);
}

static void check_some(void)
{
    check_free();
    MUST(guarded >= 1);
}

static void check_deadlines(void)
{
    check_free();
    MUST(guarded == 1 + (got[2] == COIR_OK) + (got[3] == COIR_OK));
}

static void setup_gone(void)
{
    setup();
    leave_at = 2;
}

/* ---------------------------------------------------------------------------------- poisoning */

/* As a boundary does for a job that has returned with the lock. */
static void leave_locked(void)
{
    struct held *h;

    MUST(coir_mutex_lock(&mutex) >= 0);
    guarded++;
    h = *held_by_thread();
    h->kind->leave(h, LEAVE_ENDED);
    MUST(!*held_by_thread());
}

static void lock_and_look(void)
{
    int status = coir_mutex_lock(&mutex);

    MUST(status == (guarded ? COIR_EPOISONED : COIR_OK));
    guarded += 2;
    MUST(coir_mutex_unlock(&mutex) == COIR_OK);
}

static void check_poisoned(void)
{
    MUST(coir_mutex_lock(&mutex) == COIR_EPOISONED);
    MUST(guarded == 3);
}

/* -------------------------------------------------------------------------------------- fibers */

static void lock_in_job(void *arg)
{
    (void)arg;
    lock_once();
}

static void lock_in_job_for_a_while(void *arg)
{
    (void)arg;
    lock_for_a_while();
}

static void setup_fiber(void)
{
    setup();
    world_reset(1);
    world_add(1, lock_in_job, NULL, NULL);
}

static void setup_deadline(void)
{
    setup();
    world_reset(1);
    world_add(1, lock_in_job_for_a_while, NULL, NULL);
}

static void setup_two_fibers(void)
{
    setup();
    world_reset(2);
    world_add(1, lock_in_job, NULL, NULL);
    world_add(2, lock_in_job, NULL, NULL);
}

static void check_fiber(void)
{
    world_check();
    check_2();
}

static void check_fiber_deadline(void)
{
    world_check();
    check_free();
    MUST(guarded == 1 + (got[1] == COIR_OK));
}

EXPLORE_MAIN(
    {.name = "one_at_a_time", setup, {lock_once, lock_once, lock_once}, check_3},
    {.name = "who_loses_the_race_is_next", setup, {lock_twice, lock_twice}, check_4},
    {.name = "a_barger_waits_like_others", setup, {lock_twice, lock_once, try_once}, check_some, .less = 1},
    {.name = "the_last_may_free_it", setup_gone, {lock_once, lock_once}, NULL},
    {.name = "a_deadline_passes_on_its_turn", setup, {lock_once, lock_for_a_while, lock_for_a_while},
     check_deadlines, .less = 1},
    {.name = "who_ends_with_it_poisons_it", setup, {leave_locked, lock_and_look}, check_poisoned},
    {.name = "a_fiber_waits_for_a_thread", setup_fiber, {world_work_1, NULL, lock_once}, check_fiber},
    {.name = "a_fiber_gives_up", setup_deadline, {world_work_1, NULL, lock_once}, check_fiber_deadline},
    {.name = "two_fibers", setup_two_fibers, {world_work_1, world_work_2}, check_fiber, .less = 1})
