/* SPDX-License-Identifier: MIT */
/*
 * kit.c - runtimes, pinned threads and samples for benchmarks.
 */
#include "kit.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

static void say_nothing(enum coir_log_level level, const char *text, void *arg)
{
    (void)level;
    (void)text;
    (void)arg;
}

coir_options kit_options(unsigned workers)
{
    return (coir_options){.size = sizeof(coir_options), .workers = workers, .log = say_nothing};
}

void kit_run(struct bench *b, const coir_options *options, coir_fn *fn, void *arg)
{
    int outcome = coir_run(options, fn, arg);

    if (outcome != COIR_DONE && !b->error)
        b->error = coir_status_name(outcome);
}

/* ---------------------------------------------------------------------------------- processors */

/* What the process was started with: read before any thread is bound. */
static const cpu_set_t *allowed(void)
{
    static cpu_set_t set;

    if (CPU_COUNT(&set) == 0 && sched_getaffinity(0, sizeof set, &set) != 0)
        CPU_SET(0, &set);
    return &set;
}

unsigned kit_cpus(void)
{
    return (unsigned)CPU_COUNT(allowed());
}

void kit_pin(unsigned i)
{
    unsigned cpu = 0;
    cpu_set_t one;

    for (; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, allowed()) && i-- == 0)
            break;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    pthread_setaffinity_np(pthread_self(), sizeof one, &one);
}

void kit_pin_worker(unsigned worker, void *i)
{
    (void)worker;
    kit_pin((unsigned)(uintptr_t)i);
}

/* ------------------------------------------------------------------------------------- samples */

struct samples *samples_new(uint64_t n, uint64_t each)
{
    struct samples *s = malloc(sizeof *s);

    if (!s)
        return NULL;
    s->count = 0;
    s->each = each;
    if (n / s->each >= SAMPLES_MAX)
        s->each = n / SAMPLES_MAX + 1;
    return s;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double kit_median(double *value, size_t count)
{
    qsort(value, count, sizeof *value, by_value);
    return value[count / 2];
}

#define PAIRS_MAX 4096

void kit_in_turn(struct bench *b, kit_slice *row, kit_slice *ruler, const void *arg)
{
    static double found[PAIRS_MAX], ratio[PAIRS_MAX]; /* too large for the stack of a fiber */
    size_t count = 0;

    while (!b->error && count < PAIRS_MAX && (count < 2 || count % 2 || b->done < b->n)) {
        double other = count % 2 ? ruler(b, arg) : 0;

        found[count] = row(b, arg);
        if (count % 2 == 0)
            other = ruler(b, arg);
        ratio[count] = found[count] / other;
        count++;
    }
    if (b->error)
        return;
    b->figure = kit_median(found, count);
    b->ruler = b->figure / kit_median(ratio, count);
}

void samples_take(struct samples *s, struct bench *b, void (*unit)(void *arg), void *arg)
{
    int64_t start = coir_now(), from = start, to;

    do {
        for (uint64_t i = 0; i < s->each; i++)
            unit(arg);
        to = coir_now();
        s->ns[s->count++] = (double)(to - from) / (double)s->each;
        from = to;
    } while (s->count * s->each < b->n);
    b->ns = to - start;
    b->done = s->count * s->each;
    b->figure = kit_median(s->ns, s->count);
}
