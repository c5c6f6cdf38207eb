/* SPDX-License-Identifier: MIT */
/*
 * attack.h - what tests of primitives attack them with: crowds of jobs and threads of which some are
 * canceled, memory that goes the moment it may, and an allocator that refuses.
 */
#ifndef COIR_ATTACK_H
#define COIR_ATTACK_H

#include "run.h"
#include "threads.h"

/* A function that uses a primitive at random for a while; its argument is a seed. */
struct attack {
    coir_fn *fn;
    unsigned jobs, threads;
    unsigned crowd; /* jobs that are canceled together, at a random moment of their waits */
};

static inline uint64_t attack_seed(const void *seed)
{
    return (uintptr_t)seed * 0x9e3779b97f4a7c15u + 1;
}

static inline void attack_cancel(void *arg)
{
    const struct attack *a = arg;

    for (unsigned i = 0; check_round(i, MANY(60)); i++) {
        coir_counter c = COIR_COUNTER_INIT;

        for (uintptr_t k = 0; k < a->crowd; k++)
            CHECK_EQ(coir_spawn(&c, a->fn, (void *)(k + i + 1000)), COIR_OK);
        for (unsigned k = 0; k < i % 8; k++)
            coir_yield();
        CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
        CHECK(coir_wait(&c) >= 0);
    }
}

struct attack_thread {
    coir_fn *fn;
    void *seed;
};

static inline void *attack_on_thread(void *arg)
{
    struct attack_thread *t = arg;

    t->fn(t->seed);
    return NULL;
}

/* Runs it all at once, to its end. */
static inline void attack_run(struct attack a)
{
    struct attack_thread thread[THREADS_MAX];
    struct threads all = {.count = 0};
    coir_runtime *rt = run_open(3);
    coir_counter c = COIR_COUNTER_INIT;

    for (uintptr_t i = 0; i < a.jobs; i++)
        CHECK_EQ(coir_submit(rt, &c, a.fn, (void *)(i + 1)), COIR_OK);
    CHECK_EQ(coir_submit(rt, &c, attack_cancel, &a), COIR_OK);
    for (uintptr_t i = 0; i < a.threads; i++) {
        thread[i] = (struct attack_thread){a.fn, (void *)(i + 100)};
        threads_add(&all, attack_on_thread, &thread[i]);
    }
    threads_join(&all);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    run_close(rt);
}

/* ----------------------------------------------------------------- memory that goes when it may */

/* A primitive that is a local variable of the one who waits at it: whoever lets go may touch it no more. */
struct last_use {
    coir_fn *let_go;           /* in another job */
    int (*wait)(void *object); /* COIR_OK */
    size_t bytes;              /* of the object, up to 64; zero is its initial state */
};

enum { SCRIBBLE = 0x5a };

static inline void last_use_on(coir_runtime *rt, const struct last_use *u)
{
    for (int i = 0; check_round(i, MANY(20000)); i++) {
        _Alignas(16) unsigned char object[64] = {0};
        coir_counter c = COIR_COUNTER_INIT;

        CHECK_EQ(coir_submit(rt, &c, u->let_go, object), COIR_OK);
        for (int k = 0; k < i % 64; k++)
            coir_now();
        CHECK_EQ(u->wait(object), COIR_OK);
        memset(object, SCRIBBLE, u->bytes);
        CHECK_EQ(coir_wait(&c), COIR_DONE);
        for (size_t b = 0; b < u->bytes; b++)
            if (!CHECK_EQ(object[b], SCRIBBLE))
                return;
    }
}

static inline void last_use_in_a_fiber(void *u)
{
    last_use_on(coir_current(), u);
}

/* By a fiber and by a plain thread. */
static inline void last_use_run(struct last_use u)
{
    coir_runtime *rt = run_open(1);

    run_on(2, last_use_in_a_fiber, &u);
    last_use_on(rt, &u);
    run_close(rt);
}

#endif
