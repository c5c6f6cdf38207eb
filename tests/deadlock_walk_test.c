/* SPDX-License-Identifier: MIT */
/*
 * deadlock_walk_test.c - looks for deadlocks beside fibers that move: what is seen of several moments is no deadlock.
 *
 * In each group a and n wait for each other; but n waits for one of two, and the other one is p's, who goes on. What p
 * does is seen as a circle by a walk that meets it while it holds the mutex and waits for c, and its helper later, when
 * that waits for the mutex and owes c.
 */
#include "run.h"

#include <stdatomic.h>

#define GROUPS 64
#define BYSTANDERS 1000 /* the walk takes longer */
#define CHECK_NS (COIR_SEC / (SLOW ? 4 : 1))
#define STEP_NS (100 * COIR_US)

static struct group {
    coir_counter a, p, n, c;
    coir_mutex mutex;
} group[GROUPS];

static _Atomic int over;

static void wait_for_n(void *arg)
{
    struct group *g = arg;

    CHECK_EQ(coir_wait(&g->n), COIR_DONE);
}

static void wait_for_a_or_p(void *arg)
{
    struct group *g = arg;
    coir_counter *either[2] = {&g->a, &g->p};
    size_t which;

    CHECK_EQ(coir_spawn(&g->a, wait_for_n, g), COIR_OK);
    CHECK_EQ(coir_wait_any(either, 2, COIR_NEVER, &which), COIR_DONE);
    CHECK_EQ(which, 1);
}

static void rest(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_sleep_until(coir_now() + STEP_NS), COIR_OK);
}

static void lock_and_unlock(void *arg)
{
    struct group *g = arg;

    CHECK_EQ(coir_mutex_lock(&g->mutex), COIR_OK);
    CHECK_EQ(coir_mutex_unlock(&g->mutex), COIR_OK);
}

static void await_c(struct group *g)
{
    coir_counter *c = &g->c;
    size_t which;

    CHECK_EQ(coir_wait_any(&c, 1, COIR_NEVER, &which), COIR_DONE); /* not in place */
    coir_counter_init(c);
}

static void go_on(void *arg)
{
    struct group *g = arg;

    while (!atomic_load(&over)) {
        CHECK_EQ(coir_mutex_lock(&g->mutex), COIR_OK);
        CHECK_EQ(coir_spawn(&g->c, rest, NULL), COIR_OK);
        await_c(g);
        CHECK_EQ(coir_spawn(&g->c, lock_and_unlock, g), COIR_OK);
        rest(NULL);
        CHECK_EQ(coir_mutex_unlock(&g->mutex), COIR_OK);
        await_c(g);
    }
}

static void stand_by(void *event)
{
    CHECK_EQ(coir_event_wait(event), COIR_OK);
}

static void what_is_seen_of_several_moments_is_no_deadlock(void)
{
    static coir_event done;
    coir_counter standing = COIR_COUNTER_INIT;
    coir_runtime *rt = run_open(2);
    int64_t end;
    coir_deadlock d;

    for (int i = 0; i < BYSTANDERS; i++)
        CHECK_EQ(coir_submit(rt, &standing, stand_by, &done), COIR_OK);
    for (int i = 0; i < GROUPS; i++) {
        CHECK_EQ(coir_submit(rt, &group[i].p, go_on, &group[i]), COIR_OK);
        CHECK_EQ(coir_submit(rt, &group[i].n, wait_for_a_or_p, &group[i]), COIR_OK);
    }
    for (end = coir_now() + CHECK_NS; coir_now() < end;)
        if (!CHECK_EQ(coir_deadlock_check(rt, &d), COIR_OK))
            break;
    atomic_store(&over, 1);
    for (int i = 0; i < GROUPS; i++)
        CHECK_EQ(coir_wait(&group[i].a), COIR_DONE);
    CHECK_EQ(coir_event_set(&done), COIR_OK);
    CHECK_EQ(coir_wait(&standing), COIR_DONE);
    run_close(rt);
}

CHECK_MAIN(CASE(what_is_seen_of_several_moments_is_no_deadlock))
