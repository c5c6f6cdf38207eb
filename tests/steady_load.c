/* SPDX-License-Identifier: MIT */
/*
 * steady_load.c - two workers kept busy with jobs that spawn, wait and yield; for steady_test.py, which
 * watches from outside.
 *
 * usage: steady_load [syscall|malloc|fault]    plants one violation of that kind every few ms
 *
 * Opens with options.prefault and runs for a second. Prints `ready`, counts the workers' allocations from then on,
 * and on the first byte of standard input (or its end) stops and prints `N allocations, N jobs`.
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "coir.h"

#define WORKERS 2
#define ROOTS 8    /* jobs that run all the time */
#define CHILDREN 4 /* jobs each of them spawns at once */
#define STACKS 200 /* prefaulted: more than there will be */
#define DEEP 12288 /* bytes of each: more than a job uses */
#define WARM_UP COIR_SEC
#define PLANT_EVERY (2 * COIR_MS)

static _Atomic int stop, counting;
static _Atomic long allocations, jobs;

/* ----------------------------------------------------------------------------- the interposer */

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t n, size_t bytes);
void *__libc_realloc(void *memory, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);
void __libc_free(void *memory);

static void count(void)
{
    if (counting && coir_current())
        allocations++;
}

void *malloc(size_t bytes)
{
    count();
    return __libc_malloc(bytes);
}

void *calloc(size_t n, size_t bytes)
{
    count();
    return __libc_calloc(n, bytes);
}

void *realloc(void *memory, size_t bytes)
{
    count();
    return __libc_realloc(memory, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    count();
    return __libc_memalign(alignment, bytes);
}

int posix_memalign(void **memory, size_t alignment, size_t bytes)
{
    count();
    *memory = __libc_memalign(alignment, bytes);
    return *memory ? 0 : ENOMEM;
}

void free(void *memory)
{
    if (memory)
        count();
    __libc_free(memory);
}

/* ----------------------------------------------------------------------------- violations */

static char *fresh; /* pages that nobody has touched */

static void plant_syscall(void)
{
    syscall(SYS_getppid);
}

static void plant_malloc(void)
{
    void *volatile memory = malloc(32);

    free(memory);
}

static void plant_fault(void)
{
    *(volatile char *)fresh = 1;
    fresh += 4096;
}

static const struct {
    const char *name;
    void (*plant)(void);
} violations[] = {{"syscall", plant_syscall}, {"malloc", plant_malloc}, {"fault", plant_fault}};

static void (*plant)(void); /* NULL: none */

/* ----------------------------------------------------------------------------- the load */

static void child(void *arg)
{
    coir_yield();
    if (arg) { /* one that waits, too */
        coir_counter c = COIR_COUNTER_INIT;

        if (coir_spawn(&c, child, NULL) != COIR_OK || coir_wait(&c) != COIR_DONE)
            abort();
    }
    jobs++;
}

static void root(void *number)
{
    int64_t planted = 0;

    while (!stop) {
        coir_counter c = COIR_COUNTER_INIT;

        for (int i = 0; i < CHILDREN; i++)
            if (coir_spawn(&c, child, i % 2 ? &c : NULL) != COIR_OK)
                abort();
        coir_yield();
        if (coir_wait(&c) != COIR_DONE)
            abort();
        if (plant && !number && counting && coir_now() - planted > PLANT_EVERY) {
            plant();
            planted = coir_now();
        }
    }
}

int main(int argc, char **argv)
{
    coir_options options = {.size = sizeof options, .workers = WORKERS, .prefault = STACKS, .prefault_bytes = DEEP};
    coir_counter roots = COIR_COUNTER_INIT;
    coir_runtime *rt;
    char byte;

    for (size_t i = 0; i < sizeof violations / sizeof *violations; i++)
        if (argc > 1 && strcmp(argv[1], violations[i].name) == 0)
            plant = violations[i].plant;
    if (argc > 2 || (argc == 2 && !plant)) {
        fprintf(stderr, "usage: steady_load [syscall|malloc|fault]\n");
        return 2;
    }
    fresh = mmap(NULL, 1 << 30, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fresh == MAP_FAILED || madvise(fresh, 1 << 30, MADV_NOHUGEPAGE) != 0 ||
        coir_open(&options, &rt) != COIR_OK)
        return 1;
    for (uintptr_t i = 0; i < ROOTS; i++)
        if (coir_submit(rt, &roots, root, (void *)i) != COIR_OK)
            abort();
    if (coir_sleep_until(coir_now() + WARM_UP) != COIR_OK)
        return 1;
    counting = 1;
    jobs = 0;
    puts("ready");
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) < 0 && errno == EINTR)
        ;
    counting = 0;
    printf("%ld allocations, %ld jobs\n", allocations, jobs);
    stop = 1;
    return coir_wait(&roots) != COIR_DONE || coir_close(rt, -1, NULL) != COIR_OK;
}
