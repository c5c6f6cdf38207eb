/* SPDX-License-Identifier: MIT */
/*
 * pool_back_test.c - core/retry.c, core/pool_submit.c: a message that is handled by who submits it, but whose pool ends before
 * that has begun.
 */
#include "pool_queue.h"
#include "pools.h"

static int destroyed;

static void destroy(void *value)
{
    (void)value;
    run_count(&destroyed);
}

static const coir_local key = COIR_LOCAL_INIT(destroy);

static struct {
    coir_pool *pool;
    struct job_message outer, inner;
    bool armed, kept;
} given_back;

/* Before the job that handles `inner` here. */
static void end_pool_first(void *unused, size_t n)
{
    (void)unused;
    if (!given_back.armed || n != 1 || !coir_current())
        return;
    given_back.armed = false;
    CHECK_EQ(coir_domain_cancel(coir_pool_domain(given_back.pool)), COIR_OK);
    while (!(atomic_load(&given_back.pool->state) & POOL_ENDING))
        sched_yield();
}

static void submit_inside(coir_message *m)
{
    coir_obligation own;

    if (m != &given_back.outer.m)
        return;
    CHECK_EQ(coir_local_set(&key, m), COIR_OK);
    CHECK_EQ(coir_obligation_take(coir_pool_domain(given_back.pool), "own", &own), COIR_OK);
    given_back.armed = true;
    CHECK_EQ(coir_pool_submit(given_back.pool, &given_back.inner.m), COIR_OK);
    CHECK_EQ(given_back.inner.m.end, COIR_MESSAGE_RETURNED);
    given_back.kept = coir_local_get(&key) == m && destroyed == 0;
    CHECK_EQ(coir_obligation_discharge(own), COIR_OK);
}

static void leave_nothing(coir_message *m)
{
    (void)m;
}

static void a_message_given_back_takes_nothing_from_who_submits_it(void)
{
    coir_metrics metrics = {.size = sizeof metrics, .spawned = end_pool_first};
    coir_pool_options o = pool_options("given back");
    coir_options options = run_options(3);
    coir_runtime *rt = NULL;

    options.metrics = &metrics;
    o.handle = submit_inside;
    o.dead = o.ended = leave_nothing;
    o.workers = 2;
    o.queue_max = 1;
    o.full = COIR_FULL_RUN;
    CHECK_EQ(coir_open(&options, &rt), COIR_OK);
    given_back.pool = pool_open(rt, &o);
    pool_run(given_back.pool, &given_back.outer);
    CHECK(given_back.kept);
    CHECK_EQ(destroyed, 1);
    CHECK_EQ(coir_pool_close(given_back.pool, -1, NULL), COIR_OK);
    run_close(rt);
}

CHECK_MAIN(CASE(a_message_given_back_takes_nothing_from_who_submits_it))
