/* SPDX-License-Identifier: MIT */
/*
 * cancel_runtimes_test.c - a counter belongs to no runtime: a cancel reaches its jobs in every
 * runtime that is open, and touches nothing of one that has closed.
 */
#include "run.h"

#include <pthread.h>
#include <sys/mman.h>

static int started; /* jobs that are about to block */

static void sleep_long(void *status)
{
    __atomic_add_fetch(&started, 1, __ATOMIC_RELEASE);
    *(int *)status = coir_sleep_until(COIR_NEVER);
}

static void until_started(int n)
{
    while (__atomic_load_n(&started, __ATOMIC_ACQUIRE) < n)
        sched_yield();
}

/* ------------------------------------------------------------------------------- two are open */

static coir_runtime *first, *second;

static void open_two(void)
{
    first = run_open(1);
    second = run_open(1);
    started = 0;
}

static void close_two(void)
{
    run_close(first);
    run_close(second);
}

static void jobs_of_one_counter_are_told_in_both_runtimes(void)
{
    coir_counter c = COIR_COUNTER_INIT;
    int slept[2] = {0, 0};

    open_two();
    CHECK_EQ(coir_submit(first, &c, sleep_long, &slept[0]), COIR_OK);
    CHECK_EQ(coir_submit(second, &c, sleep_long, &slept[1]), COIR_OK);
    until_started(2);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(slept[0], COIR_ECANCELED);
    CHECK_EQ(slept[1], COIR_ECANCELED);
    close_two();
}

static void wait_for_job_of_second(void *status)
{
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_submit(second, &c, sleep_long, status), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_canceled(), 1);
}

static void a_wait_passes_the_request_on_to_the_other_runtime(void)
{
    coir_counter c = COIR_COUNTER_INIT;
    int slept = 0;

    open_two();
    CHECK_EQ(coir_submit(first, &c, wait_for_job_of_second, &slept), COIR_OK);
    until_started(1);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(slept, COIR_ECANCELED);
    close_two();
}

/* ------------------------------------------------------------------------------ one has closed */

/* Each block is a mapping of its own: who touches it after it was freed, faults. */
#define HEAD ((size_t)64)

static void *map_block(size_t bytes, void *unused)
{
    char *block = mmap(NULL, HEAD + bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                       -1, 0);

    (void)unused;
    if (block == MAP_FAILED)
        return NULL;
    *(size_t *)(void *)block = HEAD + bytes;
    return block + HEAD;
}

static void unmap_block(void *memory, void *unused)
{
    char *block = (char *)memory - HEAD;

    (void)unused;
    CHECK_EQ(munmap(block, *(size_t *)(void *)block), 0);
}

static coir_runtime *open_mapped(void)
{
    coir_options o = run_options(1);
    coir_runtime *rt = NULL;

    o.alloc = map_block;
    o.free = unmap_block;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    return rt;
}

static void nop(void *unused)
{
    (void)unused;
}

static void a_cancel_touches_nothing_of_a_closed_runtime(void)
{
    coir_runtime *rt = open_mapped();
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_submit(rt, &c, nop, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    run_close(rt);
    coir_counter_add(&c, 1);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    coir_counter_done(&c, COIR_DONE);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

struct canceler {
    coir_counter counter;
    int quit;
};

static void *cancel_often(void *arg)
{
    struct canceler *c = arg;

    while (!__atomic_load_n(&c->quit, __ATOMIC_ACQUIRE))
        CHECK_EQ(coir_counter_cancel(&c->counter), COIR_OK);
    return NULL;
}

static void a_cancel_races_a_close(void)
{
    struct canceler c = {.quit = 0};
    pthread_t thread;

    coir_counter_add(&c.counter, 1);
    CHECK_EQ(pthread_create(&thread, NULL, cancel_often, &c), 0);
    for (int i = 0; i < MANY(200); i++) {
        coir_runtime *rt = open_mapped();

        CHECK_EQ(coir_submit(rt, &c.counter, nop, NULL), COIR_OK);
        run_close(rt);
    }
    run_set(&c.quit);
    pthread_join(thread, NULL);
    coir_counter_done(&c.counter, COIR_DONE);
}

CHECK_MAIN(CASE(jobs_of_one_counter_are_told_in_both_runtimes),
           CASE(a_wait_passes_the_request_on_to_the_other_runtime),
           CASE(a_cancel_touches_nothing_of_a_closed_runtime), CASE(a_cancel_races_a_close))
