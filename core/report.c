/* SPDX-License-Identifier: MIT */
/*
 * report.c - the log line of a panic, and the limit that keeps a storm of panics readable.
 *
 * Places are kept in a small table by hash; two places that share a slot share its budget, which
 * can only make the log shorter. What was held back is said with the next line of that place.
 */
#include "report.h"

#include <stdio.h>

#define PLACES 64
#define LINES_PER_SECOND 10

struct place {
    int64_t second;  /* window: coir_now() / COIR_SEC */
    unsigned lines;  /* said in this window */
    unsigned held;   /* held back since the last line */
};

static struct lock lock; /* guards the table; panics are rare, and this is past the counter's work */
static struct place place[PLACES];

/* Whether this place may speak now; *held: how many it was kept from saying. */
static bool may_speak(const coir_failure *f, unsigned *held)
{
    uintptr_t hash = ((uintptr_t)f->file >> 3) * 31 + (uintptr_t)f->line;
    struct place *p = &place[hash % PLACES];
    int64_t second = f->time / COIR_SEC;
    bool may;

    lock_take(&lock);
    if (p->second != second) {
        p->second = second;
        p->lines = 0;
    }
    may = p->lines < LINES_PER_SECOND;
    p->lines += may;
    *held = p->held;
    p->held = may ? 0 : p->held + 1;
    lock_drop(&lock);
    return may;
}

void report_failure(struct coir_runtime *rt, const coir_failure *f)
{
    char more[48] = "";
    unsigned held;

    if (!may_speak(f, &held))
        return;
    if (held)
        snprintf(more, sizeof more, " (and %u more not shown)", held);
    if (rt)
        host_log(&rt->host, COIR_LOG_ERROR, "panic at %s:%d, job %llu on worker %d: %s%s",
                 f->file ? f->file : "?", f->line, (unsigned long long)f->job, f->worker, f->message,
                 more);
    else
        fprintf(stderr, "coir: panic at %s:%d, in coir_try on a plain thread: %s%s\n",
                f->file ? f->file : "?", f->line, f->message, more);
}
