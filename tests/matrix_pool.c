/* SPDX-License-Identifier: MIT */
/*
 * matrix_pool.c - rows of the propagation matrix: messages of a pool. The waiter is who waits for the message.
 */
#include "matrix.h"
#include "pools.h"

/* A message whose handler panics so many times, of a pool that tries it three times; and one after it. */
static void message_panics(struct scene *s, int times)
{
    struct job_message bad = {.panics = times}, good = {.m = {0}};
    coir_pool_options o = pool_options("matrix");
    coir_counter c = COIR_COUNTER_INIT;
    coir_pool *p;

    o.attempts_max = 3;
    p = pool_open(s->rt, &o);
    bad.m.counter = &c;
    CHECK_EQ(coir_pool_submit(p, &bad.m), COIR_OK);
    waiter_waits(s, &c);
    peer_saw(s, "%u attempts", bad.m.attempts);
    peer_saw(s, "%d dead letters", bad.dead);
    peer_saw(s, "next message %s", outcome_name(pool_run(p, &good)));
    pool_close(p);
}

void message_panics_once(struct scene *s)
{
    message_panics(s, 1);
}

void message_panics_each_time(struct scene *s)
{
    message_panics(s, 9);
}
