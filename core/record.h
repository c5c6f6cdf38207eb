/* SPDX-License-Identifier: MIT */
/*
 * record.h - the failures a runtime remembers: the last options.records, found by id. See record.c.
 */
#ifndef COIR_RECORD_H
#define COIR_RECORD_H

#include "limit.h"
#include "mem.h"

#define RECORD_BLOCK 64 /* records that are allocated together */
#define RECORD_DOMAIN_BYTES 32

/* One failure as it is kept. */
struct record {
    coir_failure failure;
    unsigned frames;            /* of its backtrace */
    char domain[RECORD_DOMAIN_BYTES]; /* name; "": none */
    char text[COIR_TEXT_BYTES]; /* the message at full length */
    void *frame[COIR_BACKTRACE_MAX];
};

struct records {
    const struct host *host;
    uint64_t capacity; /* 1 to COIR_RECORDS */

    struct lock lock; /* guards block, added and what they lead to, and log */
    struct record *block[COIR_RECORDS / RECORD_BLOCK]; /* NULL: never needed so far */
    uint64_t added;   /* ever; the next goes to slot added % capacity */
    struct limit log; /* panics that the log was told */

    /* Figures; written under the lock. */
    _Atomic uint64_t lost; /* not kept: no memory */
    _Atomic uint64_t held_back; /* panics that the log was not told: over its limit */
    _Atomic uint64_t at[COIR_LOCATIONS], of[COIR_KINDS], panics_at[COIR_LOCATIONS];
};

void records_init(struct records *s, const struct host *host, size_t capacity);
void records_fini(struct records *s);

/* A fresh failure: an id of its own, and the time. */
void record_new(coir_failure *f);

/* Counts a failure and keeps a copy; without memory for it, counts it as lost. text: the whole message;
 * domain: a name, or "". untold: NULL, or the log is asked about; then true if the log is to be told now, and
 * *untold as limit_allows. */
bool records_add(struct records *s, const coir_failure *f, const char *text, const char *domain,
                 unsigned *untold);

/* Adds the n frames of its backtrace to the record of this id, if it is still kept. */
void records_trace(struct records *s, uint64_t id, void *const *pc, unsigned n);

/* Counts a failure under its location and kind without keeping it. */
void records_count(struct records *s, const coir_failure *f);

/* Copies out the record of this id; false: it is not kept. */
bool records_find(struct records *s, uint64_t id, struct record *out);

/* Copies out the first record at or after *cursor and moves it behind; false: there is none. */
bool records_next(struct records *s, uint64_t *cursor, struct record *out);

/* Fills in the figures of failures. */
void records_read(struct records *s, coir_stats *stats);

#endif
