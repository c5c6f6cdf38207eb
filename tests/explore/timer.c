/* SPDX-License-Identifier: MIT */
/*
 * timer.c - explores core/timer.c: what is armed fires once, in time and in order, or is canceled and
 * then never touched again (T2).
 */
#include "timer.h"

#include <string.h>

#include "explore.h"

#define TIMERS 4

struct alarm_clock {
    struct timer timer; /* first */
    int fired;
};

static struct timers heap;
static struct alarm_clock alarm_clock[TIMERS];
static int canceled[TIMERS];     /* found armed by a cancel that came first; the canceler's */
static int64_t last;             /* deadline that fired last; the heap's lock */

static void ring(struct timer *t)
{
    struct alarm_clock *c = (struct alarm_clock *)(void *)t;

    MUST(!c->fired);
    c->fired = 1;
    MUST(t->deadline <= coir_now());
    last = t->deadline;
}

static void arm(int i, int64_t deadline)
{
    alarm_clock[i].timer.deadline = deadline;
    alarm_clock[i].timer.fire = ring;
    timer_arm(&heap, &alarm_clock[i].timer);
}

/* Due are those of deadlines up to 2. */
static void expire(void)
{
    timers_expire(&heap, 2);
}

static void reset(void)
{
    memset(&heap, 0, sizeof heap);
    memset(alarm_clock, 0, sizeof alarm_clock);
    memset(canceled, 0, sizeof canceled);
    last = 0;
    timers_init(&heap);
}

static void setup_one(void)
{
    reset();
    arm(0, 1);
}

static void setup_three(void)
{
    reset();
    arm(0, 2);
    arm(1, 1);
    arm(2, 3);
}

/* After the cancel the timer is the caller's again, fired or not. */
static void cancel(int i)
{
    timer_cancel(&heap, &alarm_clock[i].timer);
    canceled[i] = !alarm_clock[i].fired;
    explore_free(&alarm_clock[i], sizeof alarm_clock[i]);
}

static void cancel_0(void)
{
    cancel(0);
}

static void cancel_1(void)
{
    cancel(1);
}

static void cancel_2(void)
{
    cancel(2);
}

static void arm_3(void)
{
    arm(3, 2);
}

static void arm_and_cancel_3(void)
{
    arm(3, 1);
    cancel(3);
}

/* What is due and was left, because another was at it, fires now, in order. */
static void drain(void)
{
    int64_t before = 0;

    while (timers_earliest(&heap) != COIR_NEVER) {
        int64_t earliest = timers_earliest(&heap);

        MUST(heap.root && heap.root->deadline == earliest && earliest >= before);
        before = earliest;
        MUST(timers_expire(&heap, earliest) >= 1 && last == earliest);
    }
    MUST(!heap.root);
}

static void check_exactly_once(void)
{
    drain();
    for (int i = 0; i < TIMERS; i++)
        MUST(alarm_clock[i].fired + canceled[i] == (alarm_clock[i].timer.fire != NULL));
}

/* Whoever looks finds the earliest deadline, or one that was so a moment ago. */
static void look(void)
{
    int64_t t = timers_earliest(&heap);

    MUST(t == 1 || t == 2 || t == 3 || t == COIR_NEVER);
}

EXPLORE_MAIN(
    {.name = "a_canceled_timer_is_its_owners", setup_one, {cancel_0, expire, expire},
     check_exactly_once},
    {.name = "each_fires_once_or_is_canceled", setup_three, {cancel_1, expire, cancel_2},
     check_exactly_once},
    {.name = "two_at_it_fire_each_once", setup_three, {expire, expire, look}, check_exactly_once},
    {.name = "arming_races_expiry", setup_three, {arm_3, expire, cancel_2}, check_exactly_once},
    {.name = "a_short_life", setup_one, {arm_and_cancel_3, expire, cancel_0}, check_exactly_once})
