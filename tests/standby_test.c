/* SPDX-License-Identifier: MIT */
/*
 * standby_test.c - core/worker.c: where all stacks are parked for what only queued work can end, that work runs, whatever
 * has the last stack: who yields, or who has nothing to do but to wait.
 */
#include "pools.h"
#include "supervisors.h"

static struct scene {
    coir_runtime *rt;
    coir_counter gate, jobs;
    int parked, refused, opened;
} scene;

static void wait_for_gate(void *unused)
{
    int status;

    (void)unused;
    run_count(&scene.parked);
    status = coir_wait(&scene.gate);
    if (status == COIR_ENOMEM)
        run_count(&scene.refused);
    CHECK(status == COIR_DONE || status == COIR_ENOMEM);
}

static void open_gate(void *unused)
{
    (void)unused;
    coir_counter_done(&scene.gate, COIR_DONE);
    run_set(&scene.opened);
}

/* More than there are stacks; the last of them is queued behind all of these. */
static void fill(void *unused)
{
    (void)unused;
    for (int i = 0; i < 40 && !__atomic_load_n(&scene.refused, __ATOMIC_RELAXED); i++) {
        CHECK_EQ(coir_submit(scene.rt, &scene.jobs, wait_for_gate, NULL), COIR_OK);
        coir_yield();
        coir_yield();
    }
    CHECK_EQ(coir_submit(scene.rt, &scene.jobs, open_gate, NULL), COIR_OK);
}

static void open_scene(unsigned workers, size_t stacks)
{
    coir_options o = run_options(workers);

    o.stacks_max = stacks;
    scene = (struct scene){.gate = COIR_COUNTER_INIT, .jobs = COIR_COUNTER_INIT};
    CHECK_EQ(coir_open(&o, &scene.rt), COIR_OK);
    coir_counter_add(&scene.gate, 1);
}

static void await_jobs(void)
{
    CHECK_EQ(coir_wait(&scene.jobs), COIR_DONE);
    CHECK(__atomic_load_n(&scene.opened, __ATOMIC_RELAXED));
}

static void handle(coir_message *m)
{
    if (m->key)
        fill(NULL);
}

static void fill_from_a_pool(unsigned workers, size_t stacks)
{
    struct job_message first = {.m.key = 1}, second = {.m = {0}};
    coir_pool_options o = pool_options("fills");
    coir_pool *p;

    open_scene(workers, stacks);
    o.handle = handle;
    p = pool_open(scene.rt, &o);
    CHECK_EQ(pool_run(p, &first), COIR_DONE);
    CHECK_EQ(pool_run(p, &second), COIR_DONE); /* it has slept meanwhile, or not */
    await_jobs();
    pool_close(p);
    run_close(scene.rt);
}

static void an_idle_worker_of_a_pool_does(void)
{
    for (size_t stacks = 4; stacks < 20; stacks++)
        fill_from_a_pool(1 + stacks % 2, stacks);
}

static void leave_a_finalizer(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_domain_finalizer(coir_domain_current(), fill, NULL), COIR_OK);
}

static void an_idle_supervisor_does(void)
{
    coir_child_spec spec = {.size = sizeof spec, .name = "fills", .fn = leave_a_finalizer, .restart = COIR_TEMPORARY};
    coir_supervisor_options o = supervisor_options(COIR_ONE_FOR_ONE, &spec, 1);

    for (size_t stacks = 4; stacks < 20; stacks++) {
        coir_supervisor *s;

        open_scene(1, stacks);
        s = supervisor_open(scene.rt, &o, NULL);
        run_until(&scene.opened); /* or the case takes too long */
        await_jobs();
        CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
        run_close(scene.rt);
    }
}

static void fill_and_yield(void *unused)
{
    fill(unused);
    while (!__atomic_load_n(&scene.opened, __ATOMIC_ACQUIRE))
        coir_yield();
}

static void who_yields_does(void)
{
    for (size_t stacks = 1; stacks < 20; stacks++) {
        coir_counter c = COIR_COUNTER_INIT;

        open_scene(1, stacks);
        CHECK_EQ(coir_submit(scene.rt, &c, fill_and_yield, NULL), COIR_OK);
        CHECK_EQ(coir_wait(&c), COIR_DONE);
        await_jobs();
        run_close(scene.rt);
    }
}

CHECK_MAIN(CASE(an_idle_worker_of_a_pool_does), CASE(an_idle_supervisor_does), CASE(who_yields_does))
