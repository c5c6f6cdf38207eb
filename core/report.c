/* SPDX-License-Identifier: MIT */
/*
 * report.c - the log line of a panic, and the limit that keeps a storm of panics readable.
 *
 * Places are kept in a small table by hash; two places that share a slot share its budget, which
 * can only make the log shorter. What was held back is said with the next line of that place.
 */
#include "report.h"

#include <stdio.h>

#include "backtrace.h"

#define PLACES 64
#define LINES_PER_SECOND 10

/* A window of a second. All fields are hints to a limit, not books: a race costs a line more or less. */
struct place {
    _Atomic int64_t second;  /* coir_now() / COIR_SEC */
    _Atomic unsigned lines;  /* said in this window */
    _Atomic unsigned held;   /* held back since the last line */
};

static struct place place[PLACES];

/* Whether this place may speak now; *held: how many it was kept from saying. Workers that panic side
 * by side must not queue up for the sake of a log, so there is no lock. */
static bool may_speak(const coir_failure *f, unsigned *held)
{
    uintptr_t hash = ((uintptr_t)f->file >> 3) * 31 + (uintptr_t)f->line;
    struct place *p = &place[hash % PLACES];
    int64_t second = f->time / COIR_SEC;

    if (atomic_load_explicit(&p->second, memory_order_relaxed) != second) {    /* a hint */
        atomic_store_explicit(&p->second, second, memory_order_relaxed);       /* a hint */
        atomic_store_explicit(&p->lines, 0, memory_order_relaxed);             /* a hint */
    }
    if (atomic_load_explicit(&p->lines, memory_order_relaxed) < LINES_PER_SECOND && /* a hint */
        atomic_fetch_add_explicit(&p->lines, 1, memory_order_relaxed) < LINES_PER_SECOND) { /* exact */
        *held = atomic_exchange_explicit(&p->held, 0, memory_order_relaxed); /* each is told once */
        return true;
    }
    atomic_fetch_add_explicit(&p->held, 1, memory_order_relaxed); /* a figure */
    return false;
}

void report_keep(struct coir_runtime *rt, coir_failure *f, const char *text, const void *frame,
                 const char *domain)
{
    void *pc[COIR_BACKTRACE_MAX];
    unsigned n = 0;

    if (!rt)
        return;
    if (frame && rt->options.backtrace)
        n = backtrace_capture(pc, COIR_BACKTRACE_MAX, frame);
    f->backtrace = n ? f->id : 0;
    records_add(&rt->records, f, text, domain, pc, n);
}

void report_failure(struct coir_runtime *rt, const coir_failure *f, const char *text)
{
    char more[48] = "";
    unsigned held;

    if (rt && rt->options.quiet)
        return;
    if (!may_speak(f, &held)) {
        if (rt)
            atomic_fetch_add_explicit(&rt->records.held_back, 1, memory_order_relaxed); /* a figure */
        return;
    }
    if (held)
        snprintf(more, sizeof more, " (and %u more not shown)", held);
    if (rt)
        host_log(&rt->host, COIR_LOG_ERROR, "panic at %s:%d, job %llu on worker %d: %s%s",
                 f->file ? f->file : "?", f->line, (unsigned long long)f->job, f->worker, text, more);
    else
        fprintf(stderr, "coir: panic at %s:%d, in coir_try on a plain thread: %s%s\n",
                f->file ? f->file : "?", f->line, text, more);
}

void report_cleared(const char *kind, const void *lock, const char *reason)
{
    struct coir_runtime *rt = runtime_here();

    if (rt)
        host_log(&rt->host, COIR_LOG_WARNING, "%s %p is no longer poisoned: %s", kind, lock, reason);
    else
        fprintf(stderr, "coir: %s %p is no longer poisoned: %s\n", kind, lock, reason);
}
