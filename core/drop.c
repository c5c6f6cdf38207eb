/* SPDX-License-Identifier: MIT */
/*
 * drop.c - work that ends without having run: its record, its unit, its place in the books.
 */
#include "drop.h"

#include <stdio.h>

#include "hostcall.h"

/* Books of the runtime: a piece of work has ended without having run. */
static void note_dropped(struct coir_runtime *rt, int outcome, bool shutdown)
{
    struct worker *w = worker_here();

    if (w && w->runtime == rt) {
        tally_release(&w->ended[outcome], 1); /* BOOKS */
        tally(&w->dropped, shutdown);
    } else {
        atomic_fetch_add_explicit(&rt->ended_outside, 1, memory_order_release); /* BOOKS, books.c */
        atomic_fetch_add_explicit(&rt->dropped_outside, shutdown, memory_order_relaxed); /* a figure */
        fence_full(); /* BOOKS: no worker may notice */
        if (runtime_flag(&rt->draining))
            rt->idle(rt);
    }
}

/* The record of work that has ended without having run, counted. */
static void not_run(struct coir_runtime *rt, coir_failure *f, int outcome, enum coir_kind kind)
{
    job_failure(NULL, f, outcome, kind);
    f->location = COIR_AT_SCHEDULER;
    f->runtime = rt->number;
    records_count(&rt->records, f);
}

void job_drop(struct coir_runtime *rt, const struct work *item, enum coir_kind kind)
{
    coir_failure f;

    not_run(rt, &f, COIR_CANCELED, kind);
    snprintf(f.message, sizeof f.message, "%s",
             kind == COIR_KIND_SHUTDOWN     ? "the runtime closed before it started"
             : kind == COIR_KIND_DEPENDENCY ? "a job it was to run after did not end as COIR_DONE"
                                            : "canceled before it started");
    hostcall_completed(rt, COIR_CANCELED, -1);
    note_dropped(rt, COIR_CANCELED, kind == COIR_KIND_SHUTDOWN);
    if (item->scope)
        scope_drop(item->scope, SCOPE_CANCELED);
    if (item->owed)
        counter_fail(item->owed, COIR_CANCELED, &f);
}

/* What its domain's verdict means for the one who waits for it. */
static void write_verdict(const struct scope *s, enum scope_verdict why, struct coir_domain *by,
                          coir_failure *f)
{
    const struct coir_domain *own = s->domain;

    not_run(own->rt, f, why == SCOPE_EXPIRED ? COIR_EXPIRED : COIR_CANCELED,
            why == SCOPE_EXPIRED ? COIR_KIND_EXPIRED : COIR_KIND_SKIPPED);
    if (why == SCOPE_TRIPPED)
        snprintf(f->message, sizeof f->message, "failure %llu has tripped domain %s",
                 (unsigned long long)breaker_figures(&by->breaker).opened_by, by->name);
    else
        snprintf(f->message, sizeof f->message, "%s in domain %s",
                 why == SCOPE_EXPIRED ? "too late to start" : "canceled before it started", own->name);
}

NOINLINE bool drop_turned_away(struct coir_runtime *rt, const struct work *item, struct job *who)
{
    struct coir_domain *by = NULL;
    enum scope_verdict why = scope_judge(item->scope, who, &by);
    coir_failure f;

    if (why == SCOPE_RUN)
        return false;
    write_verdict(item->scope, why, by, &f);
    if (rt) {
        hostcall_completed(rt, f.outcome, -1);
        note_dropped(rt, f.outcome, false);
    }
    scope_drop(item->scope, why);
    if (item->owed)
        counter_fail(item->owed, f.outcome, &f);
    return true;
}
