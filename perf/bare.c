/* SPDX-License-Identifier: MIT */
/*
 * bare.c - what any design of jobs must do, and nothing else: an item {fn, arg, counter, scope} is put on a bounded
 * stack, taken from it, called through its pointer, and counted down.
 *
 * One thread, plain loads and stores, all inline. No record of a job, no boundary, no failure that its waiter would be
 * told of, nobody who is woken, and no thief could take part: a runtime that did this could not be coir, nor run
 * on two processors. Memory is as between two calls of a user, who may look at anything: after each push and each
 * pop what they have written is there.
 */
#include "bare.h"

#include <stdbool.h>

#include "coir.h"

#define BATCH 1000
#define SLOTS 1024

struct item {
    coir_fn *fn;
    void *arg;
    uint64_t *counter;
    void *scope;
};

static struct item slot[SLOTS];
static struct item *top = slot; /* the first that is free */

#define AS_IN_MEMORY() __asm__ volatile("" : : : "memory")

static inline bool push(coir_fn *fn, void *arg, uint64_t *counter)
{
    if (top == slot + SLOTS)
        return false;
    *top++ = (struct item){fn, arg, counter, NULL};
    AS_IN_MEMORY();
    return true;
}

static inline struct item pop(void)
{
    struct item i = *--top;

    AS_IN_MEMORY();
    return i;
}

/* ------------------------------------------------------------------------------------- batches */

static void empty(void *arg)
{
    (void)arg;
}

static void finish(uint64_t *counter)
{
    while (*counter) {
        struct item i = pop();

        i.fn(i.arg);
        --*i.counter;
    }
}

void bare_batches(struct bench *b, const void *shape)
{
    const struct bare_shape *of = shape;
    uint64_t count = (b->n / of->workers + BATCH - 1) / BATCH;
    int64_t start = coir_now();

    for (uint64_t i = 0; i < count; i++) {
        uint64_t counter = 0;

        for (int j = 0; j < BATCH; j++) {
            counter++;
            if (!push(empty, NULL, &counter))
                b->error = "a push was refused";
        }
        finish(&counter);
    }
    b->ns = coir_now() - start;
    b->done = count * BATCH * of->workers;
}

/* ----------------------------------------------------------------------------------- fork-join */

static void fib_job(void *arg)
{
    long *n = arg;

    *n = bare_fib(*n);
}

long bare_fib(long n)
{
    uint64_t counter = 1;
    long left = n - 1, right;

    if (n < 2)
        return n;
    if (!push(fib_job, &left, &counter))
        return -1;
    right = bare_fib(n - 2);
    finish(&counter);
    return left + right;
}

struct task {
    long n, fib;
};

static void fib_task(void *arg)
{
    struct task *task = arg;

    if (task->n < 2) {
        task->fib = task->n;
    } else {
        struct task left = {.n = task->n - 1}, right = {.n = task->n - 2};
        bool pushed = push(fib_task, &right, NULL);
        struct item i;

        fib_task(&left);
        i = pop();
        i.fn(i.arg);
        task->fib = pushed ? left.fib + right.fib : -1;
    }
}

long bare_fib_by_fork(long n)
{
    struct task task = {.n = n};

    fib_task(&task);
    return task.fib;
}

void bare_fibs(struct bench *b, const void *shape)
{
    const struct bare_shape *of = shape;
    uint64_t count = (b->n + BARE_FIB_CALLS - 1) / BARE_FIB_CALLS;
    int64_t start = coir_now();

    for (uint64_t i = 0; i < count; i++)
        if (of->fib(BARE_FIB) != 2178309)
            b->error = "fib(32) came out wrong";
    b->ns = coir_now() - start;
    b->done = count * BARE_FIB_CALLS * of->workers;
}
