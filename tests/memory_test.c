/* SPDX-License-Identifier: MIT */
/*
 * memory_test.c - what parked fibers cost, that closing gives all of it back, that opening and
 * closing leaks nothing, that what was prefaulted stays, and that locked memory does as well.
 *
 * A million fibers with guards need a kernel with MADV_GUARD_INSTALL; elsewhere the test takes as
 * many as coir_stats says there can be. Sanitizers count less: their own memory is in the way.
 */
#include "run.h"

#include <dirent.h>
#include <malloc.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#define FIBERS 100000
#define MEASURED 0
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FIBERS 20000
#define MEASURED 0
#endif
#endif
#if !defined(FIBERS) && CHECK_SHARE > 1
#define FIBERS 100000
#define MEASURED 0
#endif
#ifndef FIBERS
#define FIBERS 1000000
#define MEASURED 1
#endif

/* A parked fiber: one page of its stack, and its share of a page table: a table maps 512 pages, and a stack of
 * 64 KiB takes 33 with its guard. */
#define BYTES_PROMISED (4096 + 4096 * 33 / 512 + 48)
#define BYTES_SLACK 100 /* upper tables, side tables, the queue's chunks */

/* ------------------------------------------------------------------------------------- figures */

/* A line of /proc/self/status, such as "VmRSS:", in its own unit. */
static long status_of(const char *name)
{
    FILE *f = fopen("/proc/self/status", "re");
    char line[256];
    long n = -1;

    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, name, strlen(name)) == 0)
            n = atol(line + strlen(name));
    if (f)
        fclose(f);
    CHECK(n >= 0);
    return n;
}

static long lines_in(const char *path)
{
    FILE *f = fopen(path, "re");
    long n = 0;

    if (!CHECK(f != NULL))
        return 0;
    for (int c; (c = getc(f)) != EOF;)
        n += c == '\n';
    fclose(f);
    return n;
}

static long entries_in(const char *path)
{
    DIR *dir = opendir(path);
    long n = 0;

    if (!CHECK(dir != NULL))
        return 0;
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

struct usage {
    long resident_kib, tables_kib, maps, descriptors, threads;
};

/* Threads of this process. One that has been joined may be on its way out still. */
static long threads_now(long expected)
{
    long n;

    while ((n = entries_in("/proc/self/task")) > expected && expected > 0 && MEASURED)
        sched_yield(); /* the harness's alarm bounds it */
    return n;
}

/* Without what malloc keeps for itself; with as many threads as expected, 0: not known. */
static struct usage usage_now(long threads)
{
    malloc_trim(0);
    return (struct usage){
        .resident_kib = status_of("VmRSS:"),
        .tables_kib = status_of("VmPTE:"),
        .maps = lines_in("/proc/self/maps"),
        .descriptors = entries_in("/proc/self/fd"),
        .threads = threads_now(threads),
    };
}

/* ------------------------------------------------------------------------------- parked fibers */

static coir_counter gate, arrived, all;
static long returned;

static void park_once(void *unused)
{
    (void)unused;
    coir_counter_done(&arrived, COIR_DONE);
    CHECK_EQ(coir_wait(&gate), COIR_DONE);
    __atomic_fetch_add(&returned, 1, __ATOMIC_RELAXED);
}

#define STEP 100000

/* With a time of its own: four GiB are touched for the first time, and how long that takes is the machine's
 * affair. This thread leaves the processor to the workers. */
static void until_parked(coir_runtime *rt, long n)
{
    coir_stats stats;

    check_begin(CHECK_SECONDS);
    while (coir_stats_read(rt, &stats), stats.parked < (uint64_t)n)
        CHECK_EQ(coir_sleep_until(coir_now() + COIR_MS), COIR_OK);
}

static void park(coir_runtime *rt, long n)
{
    coir_counter_init(&all);
    coir_counter_init(&gate);
    coir_counter_init(&arrived);
    coir_counter_add(&gate, 1);
    coir_counter_add(&arrived, n);
    for (long i = 0; i < n; i++)
        if (!CHECK_EQ(coir_submit(rt, &all, park_once, NULL), COIR_OK))
            return;
    for (long some = STEP; some < n; some += STEP)
        until_parked(rt, some);
    CHECK_EQ(coir_wait(&arrived), COIR_DONE);
    until_parked(rt, n);
}

static void check_cost(const struct usage *before, const struct usage *parked, long n)
{
    long resident = (parked->resident_kib - before->resident_kib) * 1024 / n;
    long tables = (parked->tables_kib - before->tables_kib) * 1024 / n;

    printf("%ld parked fibers: %ld maps, %ld bytes resident and %ld bytes of page tables each\n", n,
           parked->maps, resident, tables);
    if (MEASURED)
        CHECK(resident + tables <= BYTES_PROMISED + BYTES_SLACK);
}

static void check_all_came_back(const struct usage *before, const struct usage *after,
                                long resident_kib)
{
    CHECK_EQ(after->descriptors, before->descriptors);
    if (!MEASURED)
        return;
    CHECK_EQ(after->threads, before->threads);
    CHECK_EQ(after->maps, before->maps);
    CHECK(after->tables_kib - before->tables_kib < 1024);
    CHECK(after->resident_kib - before->resident_kib < resident_kib);
}

static void a_million_fibers_park_and_are_gone_after_close(void)
{
    coir_options options = run_options(1); /* two would wait for each other: first touches are one after another */
    struct usage before, parked, after;
    coir_stats stats;
    coir_runtime *rt;
    long n = FIBERS;

    mallopt(M_ARENA_MAX, 1); /* an arena that malloc makes for a worker would look like a leak */
    options.stacks_max = FIBERS + 1000;
    run_close(run_open(1)); /* leaves thread stacks in the C library's cache */
    before = usage_now(0);
    if (!CHECK_EQ(coir_open(&options, &rt), COIR_OK))
        return;
    coir_stats_read(rt, &stats);
    if ((long)stats.stacks_limit < n + 1000)
        n = (long)stats.stacks_limit - 1000;
    returned = 0;
    park(rt, n);
    parked = usage_now(0);
    check_cost(&before, &parked, n);
    check_begin(CHECK_SECONDS);
    coir_counter_done(&gate, COIR_DONE);
    CHECK_EQ(coir_wait(&all), COIR_DONE);
    CHECK_EQ(returned, n);
    check_begin(CHECK_SECONDS);
    run_close(rt);
    after = usage_now(before.threads);
    check_all_came_back(&before, &after, 4096);
}

/* -------------------------------------------------------------------------------- open and close */

static void spawn_one(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    coir_counter_add(&c, 1);
    CHECK_EQ(coir_wait_until(&c, coir_now() + 1000), COIR_ETIMEDOUT); /* parks: takes a stack */
    coir_counter_done(&c, COIR_DONE);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void open_and_close_leak_nothing(void)
{
    struct usage before = {0}, after;
    int rounds = MANY(1000), warm = rounds / 10;

    for (int i = 0; i < warm + rounds; i++) {
        if (i == warm)
            before = usage_now(0);
        run_on(2, spawn_one, NULL);
    }
    after = usage_now(before.threads);
    check_all_came_back(&before, &after, 512);
}

/* ------------------------------------------------------------------------------------- prefault */

static void until_asleep(coir_runtime *rt)
{
    coir_stats stats;

    do {
        sched_yield();
        coir_stats_read(rt, &stats);
    } while (stats.sleeps < stats.workers);
}

/* A worker that has nothing to do gives idle stacks back before it sleeps; not these. */
static void prefaulted_stacks_stay_resident_while_workers_idle(void)
{
    const long stacks = 5000, least_kib = stacks * 4 * 9 / 10;
    coir_options options = run_options(2);
    long before, idle;
    coir_runtime *rt;

    options.prefault = (size_t)stacks;
    before = status_of("VmRSS:");
    if (!CHECK_EQ(coir_open(&options, &rt), COIR_OK))
        return;
    CHECK(status_of("VmRSS:") - before >= least_kib);
    until_asleep(rt);
    idle = status_of("VmRSS:");
    CHECK(idle - before >= least_kib);
    run_close(rt);
}

/* What is locked takes no advice on guards. */
static void sleep_briefly(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_sleep_until(coir_now() + 20 * COIR_MS), COIR_OK);
}

static void fibers_park_in_memory_that_was_locked_after_open(void)
{
    coir_runtime *rt = run_open(1);
    coir_counter c = COIR_COUNTER_INIT;
    int locked = MEASURED && mlockall(MCL_CURRENT) == 0; /* RLIMIT_MEMLOCK may not let us, a shadow is too large */

    for (int i = 0; locked && i < 200; i++)
        CHECK_EQ(coir_submit(rt, &c, sleep_briefly, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    run_close(rt);
    munlockall();
}

CHECK_MAIN(CASE(a_million_fibers_park_and_are_gone_after_close),
           CASE(open_and_close_leak_nothing), CASE(fibers_park_in_memory_that_was_locked_after_open),
           CASE(prefaulted_stacks_stay_resident_while_workers_idle))
