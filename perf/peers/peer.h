/* SPDX-License-Identifier: MIT */
/*
 * peer.h - the frame of a peer's driver in C or C++: rows, command line, clock, samples, processors.
 * Nothing of coir in it. A driver is one file: its rows in a table, and PEER_MAIN(rows).
 *
 *   DRIVER --row NAME [--ms MS | --n N]     runs a row; prints a line `row value` for each figure
 *   DRIVER --rows                           prints the names of its rows
 *
 * A row does at least n units of work and stores their time, as those of coir-perf do; without --n
 * they are doubled until they fill MS milliseconds. A row named NAME/# stands for any number in that
 * place, and gets it. Values are ns per unit, unless the row stores a figure of its own.
 */
#ifndef COIR_PEER_H
#define COIR_PEER_H

#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NOINLINE __attribute__((noinline))

struct peer {
    uint64_t n;        /* given: units of work to do, at least */
    long size;         /* given: the number at # */
    uint64_t done;     /* units done, if they are more than n; 0: n */
    int64_t ns;        /* the time they took */
    double figure;     /* what the row shows; 0: ns / done */
    double p99, p999;  /* of the same samples, with tails; 0: not taken */
};

struct peer_row {
    const char *name;
    void (*run)(struct peer *p);
    uint64_t n;   /* units of each call; 0: as many as fill the time */
    uint64_t max; /* never more; 0: no limit */
};

__attribute__((noreturn)) static inline void peer_fail(const char *why)
{
    fprintf(stderr, "%s\n", why);
    exit(1);
}

static inline int64_t peer_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Binds the calling thread to the i-th processor that the process was started on. */
static inline void peer_pin(unsigned i)
{
    static cpu_set_t allowed; /* read before any thread is bound: see peer_main */
    unsigned cpu = 0;
    cpu_set_t one;

    if (CPU_COUNT(&allowed) == 0 && sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        peer_fail("sched_getaffinity failed");
    if (i >= (unsigned)CPU_COUNT(&allowed))
        return;
    for (; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &allowed) && i-- == 0)
            break;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    pthread_setaffinity_np(pthread_self(), sizeof one, &one);
}

/* Resident memory and page tables, bytes. */
static inline double peer_memory(void)
{
    FILE *f = fopen("/proc/self/status", "re");
    unsigned long rss = 0, pte = 0;
    char line[256];

    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmRSS: %lu kB", &rss) != 1)
            sscanf(line, "VmPTE: %lu kB", &pte);
    if (f)
        fclose(f);
    return (double)(rss + pte) * 1024;
}

/* ------------------------------------------------------------------------------------- samples */

static inline int peer_by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

/* The median of n samples, which are sorted. */
static inline double peer_median(int64_t *sample, uint64_t n)
{
    qsort(sample, n, sizeof *sample, peer_by_value);
    return (double)sample[n / 2];
}

/* --------------------------------------------------------------------------------------- tails */

/* For drivers that include work.h: rows of run(p, load) for every load; what they have found. */
#define PEER_TAILS(run)                                                                        \
    {"tail/#", [](struct peer *p) { run(p, {p->size, 1, 0}); }, WORK_JOBS, 0},                   \
    {"tail/2/#", [](struct peer *p) { run(p, {p->size, 2, 0}); }, WORK_JOBS, 0},                 \
    {"tail/mixed/#", [](struct peer *p) { run(p, {p->size, 1, 1}); }, WORK_MIXED_JOBS, 0},       \
    {"tail/mixed/2/#", [](struct peer *p) { run(p, {p->size, 2, 1}); }, WORK_MIXED_JOBS, 0}

#ifdef COIR_PERF_WORK_H
static inline void peer_tail(struct peer *p, struct work_tail t)
{
    p->figure = t.p50;
    p->p99 = t.p99;
    p->p999 = t.p999;
}
#endif

/* -------------------------------------------------------------------------------- command line */

static inline const struct peer_row *peer_find(const struct peer_row *row, size_t count,
                                               const char *name, long *size)
{
    for (size_t i = 0; i < count; i++) {
        const char *hash = strchr(row[i].name, '#');
        size_t before = hash ? (size_t)(hash - row[i].name) : 0;
        char *after;

        if (!hash && strcmp(row[i].name, name) == 0)
            return &row[i];
        if (!hash || strncmp(row[i].name, name, before) != 0)
            continue;
        *size = strtol(name + before, &after, 10);
        if (after > name + before && *size > 0 && strcmp(after, hash + 1) == 0)
            return &row[i];
    }
    return NULL;
}

/* More and more units, until they fill the time. */
static inline struct peer peer_measure(const struct peer_row *row, long size, uint64_t n, int64_t ns)
{
    struct peer p;

    for (uint64_t units = n ? n : 1;;) {
        memset(&p, 0, sizeof p);
        p.n = units;
        p.size = size;
        row->run(&p);
        if (!p.done)
            p.done = p.n;
        if (n || p.ns >= ns || units == row->max)
            return p;
        units = p.ns < ns / 10 ? units * 8 : units * 2;
        if (row->max && units > row->max)
            units = row->max;
    }
}

static inline int peer_main(int argc, char **argv, const struct peer_row *row, size_t count)
{
    const char *name = NULL;
    const struct peer_row *found;
    struct peer p;
    long size = 0, ms = 100;
    uint64_t n = 0;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--rows") == 0) {
            for (size_t j = 0; j < count; j++)
                puts(row[j].name);
            return 0;
        }
        if (strcmp(argv[i], "--row") == 0 && i + 1 < argc)
            name = argv[++i];
        else if (strcmp(argv[i], "--ms") == 0 && i + 1 < argc)
            ms = strtol(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--n") == 0 && i + 1 < argc)
            n = strtoull(argv[++i], NULL, 10);
        else
            return fprintf(stderr, "%s: %s is not an option; see peer.h\n", argv[0], argv[i]), 2;
    }
    found = name ? peer_find(row, count, name, &size) : NULL;
    if (!found)
        return fprintf(stderr, "%s: no such row; see --rows\n", argv[0]), 2;
    p = peer_measure(found, size, n ? n : found->n, ms * 1000000);
    printf("%s %.6g\n", name, p.figure > 0 ? p.figure : (double)p.ns / (double)p.done);
    if (p.p99 > 0)
        printf("%s/p99 %.6g\n%s/p999 %.6g\n", name, p.p99, name, p.p999);
    return 0;
}

/* Threads of a peer's runtime end with the process. */
#define PEER_MAIN(rows)                                                         \
    int main(int argc, char **argv)                                             \
    {                                                                           \
        int status = peer_main(argc, argv, rows, sizeof(rows) / sizeof *(rows)); \
                                                                                \
        fflush(stdout);                                                         \
        _Exit(status);                                                          \
    }

#endif
