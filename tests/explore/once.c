/* SPDX-License-Identifier: MIT */
/*
 * once.c - explores core/once.c: called once, and whoever returns has seen it done.
 */
#include <string.h>

#include "explore.h"
#include "world.h"

static coir_once once;
static int called; /* by who calls; then everybody's to read */

static void setup(void)
{
    world_reset(0);
    memset(&once, 0, sizeof once);
    called = 0;
}

static void call(void *arg)
{
    (void)arg;
    called++;
}

static void call_once(void)
{
    MUST(coir_once_call(&once, call, NULL) == COIR_OK);
    MUST(called == 1);
}

static void call_twice(void)
{
    call_once();
    call_once();
}

static void call_for_a_while(void)
{
    int status = coir_once_call_until(&once, call, NULL, coir_now() + 1);

    MUST(status == COIR_OK || status == COIR_ETIMEDOUT);
    if (status == COIR_OK)
        MUST(called == 1);
}

static void check(void)
{
    MUST(called == 1);
    call_once();
}

/* -------------------------------------------------------------------------------------- fibers */

static void call_in_job(void *arg)
{
    (void)arg;
    call_once();
}

static void setup_fiber(void)
{
    setup();
    world_reset(1);
    world_add(1, call_in_job, NULL, NULL);
}

static void check_fiber(void)
{
    world_check();
    check();
}

EXPLORE_MAIN(
    {.name = "called_once", setup, {call_once, call_once, call_once}, check},
    {.name = "called_again", setup, {call_twice, call_twice}, check},
    {.name = "a_deadline_races_the_end", setup, {call_once, call_for_a_while, call_for_a_while}, check},
    {.name = "a_fiber_waits", setup_fiber, {world_work_1, NULL, call_once}, check_fiber})
