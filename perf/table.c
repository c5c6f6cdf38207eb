/* SPDX-License-Identifier: MIT */
/*
 * table.c - the table that coir-perf prints: per row the median of its repetitions, how far they
 * spread, the ruler's median in the same run, the ratio, and what became of the goal.
 */
#include "table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coir.h"

enum verdict { NO_VERDICT, MET, MISSED };

static size_t met, missed;

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double middle(const double *sorted, size_t count)
{
    return (sorted[(count - 1) / 2] + sorted[count / 2]) / 2;
}

static double median(const struct table_result *r)
{
    return middle(r->run, r->count);
}

/* Distance of the quartiles, in percent of the median. */
static double spread(const struct table_result *r)
{
    double low = r->run[r->count / 4], high = r->run[r->count - 1 - r->count / 4];

    return median(r) > 0 ? 100 * (high - low) / median(r) : 0;
}

static void write_value(char *text, size_t bytes, double value, enum bench_unit unit)
{
    if (unit == BENCH_BYTES)
        snprintf(text, bytes, "%.0f B ", value);
    else if (value < 100)
        snprintf(text, bytes, "%.2f ns", value);
    else if (value < 10000)
        snprintf(text, bytes, "%.0f ns", value);
    else
        snprintf(text, bytes, "%.1f us", value / 1000);
}

static void write_goal(char *text, size_t bytes, const struct bench_row *row)
{
    const char *unit = row->unit == BENCH_BYTES ? "B" : "ns";

    switch (row->kind) {
    case BENCH_NO_GOAL:
        snprintf(text, bytes, "-");
        break;
    case BENCH_AT_MOST:
        snprintf(text, bytes, "<= %g %s", row->goal, unit);
        break;
    case BENCH_RATIO_AT_MOST:
        snprintf(text, bytes, "<= %g x ruler", row->goal);
        break;
    case BENCH_SPEEDUP:
        snprintf(text, bytes, ">= %g x rate", row->goal);
        break;
    }
}

static enum verdict judge(const struct bench_row *row, double value, double ruler)
{
    switch (row->kind) {
    case BENCH_AT_MOST:
        return value <= row->goal ? MET : MISSED;
    case BENCH_RATIO_AT_MOST:
        return ruler <= 0 ? NO_VERDICT : value <= row->goal * ruler ? MET : MISSED;
    case BENCH_SPEEDUP:
        return ruler <= 0 ? NO_VERDICT : ruler >= row->goal * value ? MET : MISSED;
    case BENCH_NO_GOAL:
        break;
    }
    return NO_VERDICT;
}

/* The ruler's median; 0: no ruler, or it has no result. r: the results of the suite. */
static double ruler_of(const struct bench_suite *s, const struct bench_row *row,
                       const struct table_result *r)
{
    const struct table_result *own = &r[row - s->row];

    if (row->ruler && strcmp(row->ruler, BENCH_IN_TURN) == 0)
        return middle(own->ruler, own->count);
    for (size_t i = 0; row->ruler && i < s->count; i++)
        if (strcmp(s->row[i].name, row->ruler) == 0 && r[i].count)
            return median(&r[i]);
    return 0;
}

static void print_row(const struct bench_row *row, const struct table_result *r, double ruler)
{
    static const char *const word[] = {"", "met", "MISSED"};
    double value = median(r);
    enum verdict verdict = judge(row, value, ruler);
    char own[32], other[32] = "-", ratio[32] = "-", goal[32];

    write_value(own, sizeof own, value, row->unit);
    write_goal(goal, sizeof goal, row);
    if (ruler > 0) {
        write_value(other, sizeof other, ruler, row->unit);
        snprintf(ratio, sizeof ratio, "%.2f",
                 row->kind == BENCH_SPEEDUP ? ruler / value : value / ruler);
    }
    printf("  %-46s %10s %5.0f%% %10s %7s   %-14s %s\n", row->label, own, spread(r), other, ratio,
           goal, word[verdict]);
    met += verdict == MET;
    missed += verdict == MISSED;
}

void table_begin(unsigned repetitions)
{
    double load[1] = {0};

    getloadavg(load, 1);
    printf("coir %s, %ld CPUs, load %.1f; medians of %u, the rows of a suite interleaved\n\n",
           coir_version(), sysconf(_SC_NPROCESSORS_ONLN), load[0], repetitions);
    printf("  %-46s %10s %6s %10s %7s   %-14s\n", "workload", "median", "iqr", "ruler", "ratio",
           "goal");
}

void table_suite(const struct bench_suite *suite, struct table_result *result)
{
    printf("%s\n", suite->name);
    for (size_t i = 0; i < suite->count; i++) {
        qsort(result[i].run, result[i].count, sizeof(double), by_value);
        qsort(result[i].ruler, result[i].count, sizeof(double), by_value);
    }
    for (size_t i = 0; i < suite->count; i++) {
        const struct bench_row *row = &suite->row[i];

        if (result[i].count)
            print_row(row, &result[i], ruler_of(suite, row, result));
        else
            printf("  %-46s not measured: %s\n", row->label, result[i].error);
    }
    fflush(stdout);
}

void table_end(void)
{
    printf("\n%zu goals met, %zu missed. A loaded machine misses goals; see iqr and load.\n", met,
           missed);
}
