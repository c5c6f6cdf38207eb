/* SPDX-License-Identifier: MIT */
/*
 * domain_deadline_test.c - the records that jobs with deadlines carry: used again, each job has its own, all freed.
 */
#include "domains.h"

#include <pthread.h>

/* Blocks that the runtime has taken and given back. */
struct blocks {
    int taken, freed;
};

static void *take(size_t bytes, void *blocks)
{
    run_count(&((struct blocks *)blocks)->taken);
    return malloc(bytes);
}

static void give(void *memory, void *blocks)
{
    if (memory)
        run_count(&((struct blocks *)blocks)->freed);
    free(memory);
}

static coir_options counting_options(unsigned workers, struct blocks *blocks)
{
    coir_options o = run_options(workers);

    o.alloc = take;
    o.free = give;
    o.alloc_arg = blocks;
    o.stacks_max = 200;
    return o;
}

/* A job with a deadline of its own, and a child of it that may end later. */
struct dated {
    int64_t deadline;
    int n; /* of them that have run */
};

static void has_its_deadline(void *arg)
{
    struct dated *t = arg;

    CHECK_EQ(coir_deadline(), t->deadline);
    __atomic_add_fetch(&t->n, 1, __ATOMIC_RELEASE); /* the last use: run_dated frees it */
}

static void spawns_another(void *arg)
{
    has_its_deadline(arg);
    CHECK_EQ(coir_spawn(NULL, has_its_deadline, arg), COIR_OK);
}

/* Submits n of them, waits for all, and frees what they were about. */
static void run_dated(coir_domain *d, int n)
{
    struct dated *t = calloc((size_t)n, sizeof *t);
    coir_counter c = COIR_COUNTER_INIT;

    for (int i = 0; i < n; i++) {
        t[i].deadline = coir_now() + (i + 1) * 1000 * COIR_SEC;
        CHECK_EQ(coir_domain_submit_until(d, &c, spawns_another, &t[i], t[i].deadline), COIR_OK);
    }
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    for (int i = 0; i < n; i++)
        while (__atomic_load_n(&t[i].n, __ATOMIC_ACQUIRE) < 2) {
            coir_yield();
            sched_yield();
        }
    free(t);
}

static void runs_rounds(void *arg)
{
    const struct blocks *blocks = arg;
    coir_domain *d = domain_open(coir_current(), NULL, NULL);
    int taken = 0;

    for (int round = 0; round < 10; round++) {
        run_dated(d, 100);
        if (round == 0)
            taken = blocks->taken;
    }
    CHECK_EQ(blocks->taken, taken);
    domain_close(d);
}

static void they_allocate_nothing_in_the_long_run(void)
{
    struct blocks blocks = {0, 0};
    coir_options o = counting_options(1, &blocks);

    CHECK_EQ(coir_run(&o, runs_rounds, &blocks), COIR_DONE);
    CHECK_EQ(blocks.taken, blocks.freed);
}

/* More at once than a worker keeps. */
static void runs_many(void *d)
{
    run_dated(d, 300);
}

static void *runs_many_from_outside(void *d)
{
    for (int i = 0; i < MANY(40); i++)
        run_dated(d, 300);
    return NULL;
}

/* Made by threads and workers, ended by any worker. */
static void they_do_not_mix_and_all_are_freed(void)
{
    struct blocks blocks = {0, 0};
    coir_options o = counting_options(2, &blocks);
    coir_counter c = COIR_COUNTER_INIT;
    coir_runtime *rt = NULL;
    coir_domain *d;
    pthread_t thread;

    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    d = domain_open(rt, NULL, NULL);
    CHECK_EQ(pthread_create(&thread, NULL, runs_many_from_outside, d), 0);
    for (int i = 0; i < MANY(40); i++)
        CHECK_EQ(coir_submit(rt, &c, runs_many, d), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    pthread_join(thread, NULL);
    CHECK_EQ(coir_domain_close(d, -1, NULL), COIR_OK); /* of the children the last may be about to end */
    run_close(rt);
    CHECK_EQ(blocks.taken, blocks.freed);
}

CHECK_MAIN(CASE(they_allocate_nothing_in_the_long_run), CASE(they_do_not_mix_and_all_are_freed))
