/* SPDX-License-Identifier: MIT */
/*
 * planted.c - bugs on the stack of a fiber, for planted_test.py: the tool that is made for each must find it there,
 * after the fiber has parked and gone on. planted BUG; "none" has none.
 */
#include "run.h"

#include <limits.h>

#define NOINLINE __attribute__((noinline))

static volatile int sink;

/* Parks, so that what follows runs on a stack that has been left and entered again. */
static void park(void)
{
    CHECK_EQ(coir_sleep_until(coir_now() + COIR_US), COIR_OK);
}

static void use_after_scope(void *unused)
{
    volatile int *volatile out;

    (void)unused;
    {
        volatile int inner = 1;

        out = &inner;
        park();
    }
    sink = *out;
}

static NOINLINE void look(const int *n)
{
    __asm__ volatile("" ::"r"(n) : "memory"); /* it might have been written here */
    if (*n == 1)
        sink = 1;
}

static void uninitialised(void *unused)
{
    int n[16];

    (void)unused;
    park();
    look(&n[3]);
}

static void undefined(void *unused)
{
    volatile int most = INT_MAX;

    (void)unused;
    park();
    sink = most + 1;
}

static int started; /* jobs; both run at once, so on two workers */

static void write_beside(void *shared)
{
    park();
    __atomic_add_fetch(&started, 1, __ATOMIC_RELAXED); /* orders nothing */
    while (__atomic_load_n(&started, __ATOMIC_RELAXED) < 2)
        sched_yield();
    for (int i = 0; i < 1000; i++)
        ++*(volatile int *)shared;
}

static void race(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    int shared = 0;

    (void)unused;
    CHECK_EQ(coir_spawn(&c, write_beside, &shared), COIR_OK);
    CHECK_EQ(coir_spawn(&c, write_beside, &shared), COIR_OK);
    CHECK_EQ(coir_wait_until(&c, COIR_NEVER - 1), COIR_DONE);
}

static void panic(void *unused)
{
    (void)unused;
    park();
    coir_panic("planned");
}

static void block(void *n)
{
    park();
    run_count(n);
}

/* A little of what switches and unwinds. */
static void none(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;
    int n = 0;

    for (int i = 0; i < 20; i++)
        CHECK_EQ(coir_spawn(&c, i % 2 ? panic : block, &n), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    (void)unused;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        coir_fn *fn;
    } bugs[] = {{"use_after_scope", use_after_scope}, {"uninitialised", uninitialised}, {"undefined", undefined},
                {"race", race}, {"none", none}};
    const char *wanted = argc > 1 ? argv[1] : "none";
    coir_options o = run_options(2);

    o.stacks_max = 1000; /* memcheck has no room for a million */
    for (size_t i = 0; i < sizeof bugs / sizeof *bugs; i++)
        if (strcmp(bugs[i].name, wanted) == 0) {
            CHECK_EQ(coir_run(&o, bugs[i].fn, NULL), COIR_DONE);
            return check_failures != 0;
        }
    return 2;
}
