/* SPDX-License-Identifier: MIT */
/*
 * asan_user.c - a program as users write them, in what C and C++ have in common, for install_test.sh to build with
 * -fsanitize=address against the library as it is installed. asan_user right: there is nothing to report, and it says
 * "fine"; overruns: writes past an array on a fiber's stack; leaks: ends in the middle of jobs, some of which hold
 * memory that is nobody's fault, one of which has lost LOST bytes.
 */
#include <coir.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __cplusplus
#include <stdexcept>
#endif

#define ROUNDS 40
#define DEPTH 10
#define WIDTH 24
#define LOST 12345

static __attribute__((noinline)) void fill(char *p, size_t n)
{
    memset(p, 1, n);
    __asm__ volatile("" : : "r"(p) : "memory");
}

/* A frame of which parts are poisoned where it has been, lower than most. */
static __attribute__((noinline)) void spread(void)
{
    char large[4000];

    fill(large, sizeof large);
}

/* What a frame does on its way out needs a stack, too. */
static __attribute__((noinline)) void clean(char *p)
{
    char mine[100];

    fill(mine, sizeof mine);
    fill(p, 1);
    spread();
}

#ifdef __cplusplus
struct kept {
    char bytes[40];
    ~kept() { clean(bytes); }
};
#define KEPT kept
#else
struct kept {
    char bytes[40];
};
static void clean_kept(struct kept *k)
{
    clean(k->bytes);
}
#define KEPT __attribute__((cleanup(clean_kept))) struct kept
#endif

typedef void end_fn(void);

static void panic(void)
{
    coir_panic("deep");
}

static void deeper(int n, end_fn *end)
{
    char wide[200];

    fill(wide, sizeof wide);
    for (int i = 0; i < 2; i++) {
        KEPT k;

        fill(k.bytes, sizeof k.bytes);
        if (n == 0)
            end();
        if (n % 3 == 1)
            coir_yield();
        if (i == n % 2)
            deeper(n - 1, end);
    }
    fill(wide, sizeof wide);
}

static void panics(void *arg)
{
    (void)arg;
    coir_yield();
    deeper(DEPTH, panic);
}

static void tries(void *arg)
{
    char before[60], after[60];

    fill(before, sizeof before);
    if (coir_try(panics, arg, NULL) != COIR_PANICKED)
        puts("coir_try: no panic");
    spread();
    fill(after, sizeof after);
    fill(before, sizeof before);
}

#ifdef __cplusplus
static void throw_it()
{
    throw std::runtime_error("deep");
}

static void throws(void *)
{
    coir_yield();
    deeper(DEPTH, throw_it);
}

static void catches(void *arg)
{
    char before[60];

    fill(before, sizeof before);
    try {
        throws(arg);
    } catch (const std::exception &e) {
        coir_yield(); /* what C++ is handling goes with the fiber */
        spread();
        if (strcmp(e.what(), "deep") != 0)
            puts("another exception");
    }
    fill(before, sizeof before);
}
#endif

static void is_calm(void *arg)
{
    (void)arg;
    for (int i = 0; i < 3; i++) {
        spread();
        coir_yield();
    }
}

static void wide(void *arg)
{
    static coir_fn *const all[] = {panics, is_calm, tries,
#ifdef __cplusplus
                                   throws, catches,
#endif
    };
    coir_counter c = COIR_COUNTER_INIT;
    char mine[300];

    (void)arg;
    for (unsigned i = 0; i < WIDTH; i++)
        coir_spawn(&c, all[i % (sizeof all / sizeof *all)], NULL);
    fill(mine, sizeof mine);
    if (coir_wait(&c) != COIR_PANICKED)
        puts("no panic");
    fill(mine, sizeof mine);
}

static void is_right(void *arg)
{
    (void)arg;
    for (int i = 0; i < ROUNDS; i++) {
        coir_counter c = COIR_COUNTER_INIT;

        for (int n = 0; n < 3; n++)
            coir_spawn(&c, wide, NULL);
        if (coir_wait(&c) != COIR_DONE)
            puts("a job that should not has failed");
        spread();
    }
    puts("fine");
}

/* One byte too many. */
static void overrun(void *arg)
{
    char planted[60];

    (void)arg;
    coir_yield();
    fill(planted, sizeof planted + 1);
}

static void overruns(void *arg)
{
    coir_counter c = COIR_COUNTER_INIT;

    is_right(arg);
    coir_spawn(&c, is_calm, NULL);
    coir_spawn(&c, overrun, NULL);
    if (coir_wait(&c) != COIR_DONE)
        puts("a job that should not has failed");
}

/* Parked when the process ends, or not begun: nobody else knows of the memory. */
static void holds(void *arg)
{
    char *volatile mine = (char *)malloc(100);

    if (coir_sleep_until(COIR_NEVER) == COIR_OK)
        puts("it is late");
    free(mine);
    free(arg);
}

/* A function of its own, whose frame others write over: what is left there is not to be taken for a use. */
static __attribute__((noinline)) void lose(void)
{
    char *volatile lost = (char *)malloc(LOST);

    lost = NULL;
    (void)lost;
}

static void leaks(void *arg)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)arg;
    lose();
    spread();
    for (int i = 0; i < WIDTH; i++)
        coir_spawn(&c, holds, malloc(100));
    for (int i = 0; i < WIDTH; i++)
        coir_yield();
    coir_spawn(&c, holds, malloc(100));
    exit(0);
}

int main(int argc, char **argv)
{
    const char *way = argc == 2 ? argv[1] : "";
    coir_fn *first = strcmp(way, "overruns") == 0 ? overruns : strcmp(way, "leaks") == 0 ? leaks : is_right;
    coir_options o;

    memset(&o, 0, sizeof o);
    o.size = sizeof o;
    o.workers = 3;
    o.quiet = 1;
    return coir_run(&o, first, NULL);
}
