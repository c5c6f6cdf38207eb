/* SPDX-License-Identifier: MIT */
/*
 * record.c - a bounded store of failure records, and their figures.
 *
 * Why a lock: a record is most of a kilobyte that readers want whole, and a failure costs
 * microseconds anyway; nothing that succeeds comes here. Memory is taken block by block as failures
 * come, at most once for each slot, so a runtime without failures has none and one with many stops
 * asking.
 */
#include "record.h"

#include <stdio.h>
#include <string.h>

void records_init(struct records *s, const struct host *host, size_t capacity)
{
    s->host = host;
    s->capacity = capacity;
}

void records_fini(struct records *s)
{
    for (size_t i = 0; i < COIR_RECORDS / RECORD_BLOCK; i++)
        mem_free(s->host, s->block[i]);
}

/* ------------------------------------------------------------------------------- a new record */

/* To the kernel's tick: for people. Exact is the monotonic time beside it. */
static int64_t wall_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME_COARSE, &ts);
    return (int64_t)ts.tv_sec * COIR_SEC + ts.tv_nsec;
}

/* Unique in the process; taken in blocks, so that workers do not share a line for it. */
static NOINLINE uint64_t failure_id(void)
{
    static _Atomic uint64_t blocks;
    static __thread uint64_t next, end;

    if (next == end) {
        next = atomic_fetch_add_explicit(&blocks, 256, memory_order_relaxed) + 1; /* unique, no more */
        end = next + 256;
    }
    return next++;
}

void record_new(coir_failure *f)
{
    *f = (coir_failure){.id = failure_id(), .time = coir_now(), .wall = wall_now()};
}

/* ---------------------------------------------------------------------------------- adding */

static struct record **block_of(struct records *s, uint64_t n)
{
    return &s->block[n % s->capacity / RECORD_BLOCK];
}

static struct record *slot_of(struct records *s, uint64_t n)
{
    return &(*block_of(s, n))[n % s->capacity % RECORD_BLOCK];
}

/* Lock held, and held again on return: the host's allocator is not called under it. False: no memory. */
static bool grow(struct records *s)
{
    struct record *fresh, **block;

    lock_drop(&s->lock);
    fresh = mem_alloc(s->host, RECORD_BLOCK * sizeof *fresh);
    lock_take(&s->lock);
    block = block_of(s, s->added); /* others may have added meanwhile */
    if (!*block) {
        *block = fresh;
        return fresh != NULL;
    }
    lock_drop(&s->lock);
    mem_free(s->host, fresh);
    lock_take(&s->lock);
    return true;
}

/* Lock held. */
static void count(struct records *s, const coir_failure *f)
{
    tally(&s->at[f->location], 1);
    tally(&s->of[f->kind], 1);
    if (f->outcome == COIR_PANICKED)
        tally(&s->panics_at[f->location], 1);
}

void records_count(struct records *s, const coir_failure *f)
{
    lock_take(&s->lock);
    count(s, f);
    lock_drop(&s->lock);
}

/* The store is larger than a cache, and every line of it a miss: those that the next failure will write are
 * sent for now. Lock held. */
static void fetch_next(struct records *s)
{
    const char *next = *block_of(s, s->added) ? (const char *)slot_of(s, s->added) : NULL;

    for (size_t i = 0; next && i < offsetof(struct record, text) + COIR_MESSAGE_BYTES; i += COIR_CACHE_LINE)
        __builtin_prefetch(next + i, 1);
}

/* Writes what there is and no more. */
static void fill(struct record *r, const coir_failure *f, const char *text, const char *domain)
{
    size_t length = strnlen(text, sizeof r->text - 1);

    r->failure = *f;
    memcpy(r->text, text, length);
    r->text[length] = '\0';
    r->domain[0] = '\0';
    if (*domain)
        snprintf(r->domain, sizeof r->domain, "%s", domain);
    r->frames = 0;
}

/* Lock held. */
static bool may_tell(struct records *s, const coir_failure *f, unsigned *untold)
{
    bool may = untold && limit_allows(&s->log, f, untold);

    if (untold && !may)
        tally(&s->held_back, 1);
    return may;
}

bool records_add(struct records *s, const coir_failure *f, const char *text, const char *domain,
                 unsigned *untold)
{
    bool room = true, tell;

    lock_take(&s->lock);
    count(s, f);
    tell = may_tell(s, f, untold);
    while (room && !*block_of(s, s->added))
        room = grow(s);
    if (room) {
        fill(slot_of(s, s->added), f, text, domain);
        s->added++;
        fetch_next(s);
    } else {
        tally(&s->lost, 1);
    }
    lock_drop(&s->lock);
    return tell;
}

/* --------------------------------------------------------------------------------- finding */

/* The oldest that is still there. */
static uint64_t oldest(const struct records *s)
{
    return s->added > s->capacity ? s->added - s->capacity : 0;
}

/* Lock held. NULL: it is not kept. */
static struct record *find(struct records *s, uint64_t id)
{
    for (uint64_t n = s->added; n-- > oldest(s);)
        if (slot_of(s, n)->failure.id == id)
            return slot_of(s, n);
    return NULL;
}

bool records_find(struct records *s, uint64_t id, struct record *out)
{
    const struct record *r;

    lock_take(&s->lock);
    r = find(s, id);
    if (r)
        *out = *r;
    lock_drop(&s->lock);
    return r != NULL;
}

void records_trace(struct records *s, uint64_t id, void *const *pc, unsigned n)
{
    struct record *r;

    lock_take(&s->lock);
    r = find(s, id);
    if (r) {
        r->failure.backtrace = id;
        r->frames = n;
        for (unsigned i = 0; i < n; i++)
            r->frame[i] = pc[i];
    }
    lock_drop(&s->lock);
}

bool records_next(struct records *s, uint64_t *cursor, struct record *out)
{
    bool found;

    lock_take(&s->lock);
    if (*cursor < oldest(s))
        *cursor = oldest(s);
    found = *cursor < s->added;
    if (found) {
        *out = *slot_of(s, *cursor);
        ++*cursor;
    }
    lock_drop(&s->lock);
    return found;
}

/* --------------------------------------------------------------------------------- figures */

static void read_all(const _Atomic uint64_t *from, uint64_t *to, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = tally_read(&from[i]);
}

void records_read(struct records *s, coir_stats *stats)
{
    read_all(s->at, stats->failures_at, COIR_LOCATIONS);
    read_all(s->of, stats->failures_of, COIR_KINDS);
    read_all(s->panics_at, stats->panics_at, COIR_LOCATIONS);
    for (int l = 0; l < COIR_LOCATIONS; l++)
        stats->panics += stats->panics_at[l];
    stats->held_back = tally_read(&s->held_back);
    stats->records_lost = tally_read(&s->lost);
    lock_take(&s->lock);
    stats->records = s->added;
    lock_drop(&s->lock);
}
