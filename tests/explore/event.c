/* SPDX-License-Identifier: MIT */
/*
 * event.c - explores core/event.c: set lets all go on and shows them what came before, and who has waited
 * may free it (E1).
 */
#include <string.h>

#include "explore.h"
#include "world.h"

static coir_event event;
static int note;      /* written before it is set */

static void setup(void)
{
    world_reset(0);
    coir_event_init(&event);
    note = 0;
}

static void set(void)
{
    note = 1;
    MUST(coir_event_set(&event) == COIR_OK);
}


static void wait_and_read(void)
{
    MUST(coir_event_wait(&event) == COIR_OK);
    MUST(note == 1);
}

static void wait_and_free(void)
{
    wait_and_read();
    explore_free(&event, sizeof event);
}

static void look_and_free(void)
{
    if (!coir_event_is_set(&event))
        return;
    MUST(note == 1);
    explore_free(&event, sizeof event);
}

static void wait_for_a_while(void)
{
    int s = coir_event_wait_until(&event, coir_now() + 1);

    MUST(s == COIR_OK || s == COIR_ETIMEDOUT);
    if (s == COIR_OK)
        MUST(note == 1);
}

static void set_and_reset(void)
{
    set();
    MUST(coir_event_reset(&event) == COIR_OK);
}

static void setup_set(void)
{
    setup();
    set();
}

static void check_set(void)
{
    MUST(coir_event_is_set(&event));
}

/* -------------------------------------------------------------------------------------- fibers */

static void wait_in_job(void *arg)
{
    (void)arg;
    wait_and_read();
}

static void wait_in_job_for_a_while(void *arg)
{
    (void)arg;
    wait_for_a_while();
}

static void setup_fibers(void)
{
    setup();
    world_reset(1);
    world_add(1, wait_in_job, NULL, NULL);
    world_add(1, wait_in_job_for_a_while, NULL, NULL);
}

static void check_fibers(void)
{
    world_check();
    check_set();
}

EXPLORE_MAIN(
    {.name = "all_go_on", setup, {set, wait_and_read, wait_and_read}, check_set},
    {.name = "who_waited_may_free_it", setup, {set, wait_and_free}, NULL},
    {.name = "who_looked_may_free_it", setup, {set, look_and_free}, NULL},
    {.name = "set_again_it_stays_set", setup_set, {set, check_set}, check_set},
    {.name = "a_reset_races_a_deadline", setup, {set_and_reset, wait_for_a_while, wait_for_a_while},
     NULL, .less = 1},
    {.name = "two_fibers", setup_fibers, {world_work_1, NULL, set}, check_fibers, .less = 1})
