/* SPDX-License-Identifier: MIT */
/*
 * failure.c - what a runtime remembers of its failures, for those who ask later.
 */
#include <stdio.h>
#include <time.h>

#include "backtrace.h"
#include "job.h"
#include "line.h"

int coir_failure_find(coir_runtime *rt, uint64_t id, coir_failure *failure)
{
    struct record r;

    if (!rt || !failure)
        return COIR_EINVAL;
    if (runtime_forked(rt))
        return COIR_EFORKED;
    if (!records_find(&rt->records, id, &r))
        return COIR_ENOENT;
    *failure = r.failure;
    return COIR_OK;
}

int coir_failure_next(coir_runtime *rt, uint64_t *cursor, coir_failure *failure)
{
    struct record r;

    if (!rt || !cursor || !failure)
        return COIR_EINVAL;
    if (runtime_forked(rt))
        return COIR_EFORKED;
    if (!records_next(&rt->records, cursor, &r))
        return COIR_ENOENT;
    *failure = r.failure;
    return COIR_OK;
}

int coir_failure_text(coir_runtime *rt, uint64_t id, char *text, size_t bytes)
{
    struct record r;

    if (!rt || !text || !bytes)
        return COIR_EINVAL;
    if (runtime_forked(rt))
        return COIR_EFORKED;
    if (!records_find(&rt->records, id, &r))
        return COIR_ENOENT;
    snprintf(text, bytes, "%s", r.text);
    return COIR_OK;
}

int coir_failure_domain(coir_runtime *rt, uint64_t id, char *name, size_t bytes)
{
    struct record r;

    if (!rt || !name || !bytes)
        return COIR_EINVAL;
    if (runtime_forked(rt))
        return COIR_EFORKED;
    if (!records_find(&rt->records, id, &r))
        return COIR_ENOENT;
    snprintf(name, bytes, "%s", r.domain);
    return COIR_OK;
}

int coir_failure_frames(coir_runtime *rt, uint64_t id, void **pc, size_t n)
{
    struct record r;

    if (!rt || (!pc && n))
        return COIR_EINVAL;
    if (runtime_forked(rt))
        return COIR_EFORKED;
    if (!records_find(&rt->records, id, &r))
        return COIR_ENOENT;
    for (size_t i = 0; i < n && i < r.frames; i++)
        pc[i] = r.frame[i];
    return (int)r.frames;
}

/* ------------------------------------------------------------------------------- for people */

static void wall_text(int64_t wall, char *text, size_t bytes)
{
    time_t seconds = (time_t)(wall / COIR_SEC);
    struct tm tm;
    size_t n;

    gmtime_r(&seconds, &tm);
    n = strftime(text, bytes, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text + n, bytes - n, ".%06uZ", (unsigned)(wall % COIR_SEC / COIR_US));
}

static bool print_words(const struct record *r, int fd)
{
    const coir_failure *f = &r->failure;
    char when[48], place[256] = "";

    wall_text(f->wall, when, sizeof when);
    if (f->file)
        snprintf(place, sizeof place, " at %s:%d", f->file, f->line);
    return line_print(fd, "coir: failure %llu: %s in %s%s%s%s: %s", (unsigned long long)f->id,
                      coir_kind_name(f->kind), coir_location_name(f->location),
                      *r->domain ? " of domain " : "", r->domain, place, r->text) &&
           line_print(fd, "  code %d, outcome %s, job %llu of runtime %u on worker %d, resumed %u times, "
                      "at %s", f->code, coir_status_name(f->outcome), (unsigned long long)f->job,
                      f->runtime, f->worker, f->resumes, when);
}

int coir_failure_print(coir_runtime *rt, uint64_t id, int fd)
{
    struct record r;
    bool written;

    if (!rt)
        return COIR_EINVAL;
    if (runtime_forked(rt))
        return COIR_EFORKED;
    if (!records_find(&rt->records, id, &r))
        return COIR_ENOENT;
    written = print_words(&r, fd);
    for (unsigned i = 0; written && i < r.frames; i++)
        written = backtrace_print(i, r.frame[i], fd);
    return written ? COIR_OK : COIR_EIO;
}
