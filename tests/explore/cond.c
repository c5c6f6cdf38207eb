/* SPDX-License-Identifier: MIT */
/*
 * cond.c - explores core/cond.c: no signal that is given under the mutex is missed (N1), none is lost with
 * one who gave up (N2).
 */
#include <string.h>

#include "explore.h"
#include "mutex.h"
#include "world.h"

static coir_cond cond;
static coir_mutex mutex;
static int items, taken; /* the mutex */

static void setup(void)
{
    world_reset(0);
    coir_cond_init(&cond);
    memset(&mutex, 0, sizeof mutex);
    items = taken = 0;
}

static void lock(void)
{
    MUST(coir_mutex_lock(&mutex) == COIR_OK);
}

static void unlock(void)
{
    MUST(coir_mutex_unlock(&mutex) == COIR_OK);
}

static void take(void)
{
    lock();
    while (!items)
        MUST(coir_cond_wait(&cond, &mutex) == COIR_OK);
    items--;
    taken++;
    unlock();
}

static void take_for_a_while(void)
{
    int64_t deadline = coir_now() + 1;

    lock();
    while (!items && coir_cond_wait_until(&cond, &mutex, deadline) == COIR_OK)
        ;
    if (items) {
        items--;
        taken++;
    }
    unlock();
}

static void give(void)
{
    lock();
    items++;
    MUST(coir_cond_signal(&cond) == COIR_OK);
    unlock();
}

static void give_and_signal_later(void)
{
    lock();
    items++;
    unlock();
    MUST(coir_cond_signal(&cond) == COIR_OK);
}

static void give_two(void)
{
    lock();
    items += 2;
    MUST(coir_cond_broadcast(&cond) == COIR_OK);
    unlock();
}

static void check_none_left(void)
{
    MUST(items == 0);
}

static void check_two(void)
{
    MUST(items + taken == 2);
}

static void take_in_job(void *arg)
{
    (void)arg;
    take();
}

static void setup_fiber(void)
{
    setup();
    world_reset(1);
    world_add(1, take_in_job, NULL, NULL);
}

static void check_fiber(void)
{
    world_check();
    check_none_left();
}

EXPLORE_MAIN(
    {.name = "a_signal_under_the_mutex", setup, {take, give}, check_none_left},
    {.name = "a_signal_after_it", setup, {take, give_and_signal_later}, check_none_left},
    {.name = "all_are_told", setup, {take, take, give_two}, check_none_left, .less = 1},
    {.name = "a_deadline_races_the_signal", setup, {take_for_a_while, give_two}, check_two},
    {.name = "two_signals_two_waiters", setup, {take, give, give}, NULL, .less = 1},
    {.name = "a_fiber_waits", setup_fiber, {world_work_1, NULL, give}, check_fiber})
