/* SPDX-License-Identifier: MIT */
/*
 * report.c - a failure is kept by its runtime, and a panic told to the log.
 */
#include "report.h"

#include "life.h"

#include <stdio.h>

static bool hushed; /* see report_hush */

void report_hush(void)
{
    hushed = true;
}

/* Panics on plain threads: they have no runtime whose records count what the log was told. */
static bool outside_may_tell(const coir_failure *f, unsigned *untold)
{
    static struct outside {
        struct lock lock;
        struct limit log; /* guarded by it */
    } instead;
    static _Atomic(void *) at;
    struct outside *o = life_memory(&at, sizeof *o, &instead);
    bool may;

    lock_take(&o->lock);
    may = limit_allows(&o->log, f, untold);
    lock_drop(&o->lock);
    return may;
}

int report_keep(struct coir_runtime *rt, const coir_failure *f, const char *text, const char *domain)
{
    bool panicked = f->outcome == COIR_PANICKED, tell;
    unsigned untold = 0;

    if (rt)
        tell = records_add(&rt->records, f, text, domain, panicked && !rt->options.quiet ? &untold : NULL);
    else
        tell = panicked && !hushed && outside_may_tell(f, &untold);
    return tell ? (int)untold : REPORT_NOT;
}

void report_failure(struct coir_runtime *rt, const coir_failure *f, const char *text, int untold)
{
    char more[48] = "", place[256];

    if (untold == REPORT_NOT)
        return;
    if (untold)
        snprintf(more, sizeof more, " (and %d more not shown)", untold);
    if (f->file)
        snprintf(place, sizeof place, "at %s:%d", f->file, f->line);
    else
        snprintf(place, sizeof place, "(%s)", coir_kind_name(f->kind));
    if (rt)
        host_log(&rt->host, COIR_LOG_ERROR, "panic %s, job %llu on worker %d: %s%s", place,
                 (unsigned long long)f->job, f->worker, text, more);
    else
        fprintf(stderr, "coir: panic %s, in coir_try on a plain thread: %s%s\n", place, text, more);
}

void report_cleared(const char *kind, const void *lock, const char *reason)
{
    struct coir_runtime *rt = runtime_here();

    if (rt)
        host_log(&rt->host, COIR_LOG_WARNING, "%s %p is no longer poisoned: %s", kind, lock, reason);
    else
        fprintf(stderr, "coir: %s %p is no longer poisoned: %s\n", kind, lock, reason);
}
