/* SPDX-License-Identifier: MIT */
/*
 * breaker.h - a circuit breaker: too many failures in a window open it, a probe closes it. See breaker.c.
 */
#ifndef COIR_BREAKER_H
#define COIR_BREAKER_H

#include "base.h"

#define BREAKER_FAILURES_MAX 1024

enum breaker_state {
    BREAKER_CLOSED,   /* all may pass */
    BREAKER_OPEN,     /* nobody may, until probe_at */
    BREAKER_HALF_OPEN /* one is out to probe, nobody else may */
};

struct breaker {
    _Atomic int state;          /* enum breaker_state; written under the lock */
    unsigned failures_max;      /* so many within the window open it; 0: never */
    int64_t window_ns;
    int64_t probe_ns;           /* from the opening to the first probe */
    int64_t late_ns;            /* how long a probe may take */

    struct lock lock;           /* guards all below */
    unsigned newest, count;     /* of the ring below: the next to write, how many are valid */
    int64_t backoff_ns;         /* from the last opening to its probe */
    int64_t probe_at;
    int64_t late_at;            /* HALF_OPEN only: the probe has failed unless it is back by then */
    const void *probe;          /* who is out to probe, HALF_OPEN only */
    uint64_t opened_by;         /* record of the failure that opened it last; 0: it never was */
    uint64_t opened;            /* times it went from closed to open */
    int64_t *failed_at;         /* ring of failures_max times */
};

/* times: room for failures_max of them, kept by the caller. */
void breaker_init(struct breaker *b, unsigned failures_max, int64_t window_ns, int64_t probe_ns,
                  int64_t late_ns, int64_t *times);

/* A hint, and exact once the failure that opened it is known to have been counted. */
static inline bool breaker_is_closed(struct breaker *b)
{
    return atomic_load_explicit(&b->state, memory_order_relaxed) == BREAKER_CLOSED; /* a hint */
}

/* Whether `who` may pass; if the breaker was open, as its probe: then it must call one of the next two. */
bool breaker_pass(struct breaker *b, const void *who, int64_t now);

/* The probe did not go out after all. Nothing, if `who` is not the probe. */
void breaker_recall(struct breaker *b, const void *who);

/* The probe is back: closes the breaker, or opens it for twice as long. False: `who` is not the probe. */
bool breaker_probed(struct breaker *b, const void *who, bool failed, uint64_t record, int64_t now);

/* Counts a failure of somebody who is not the probe. True: it opens the breaker. */
bool breaker_count(struct breaker *b, uint64_t record, int64_t now);

struct breaker_figures {
    enum breaker_state state;
    uint64_t opened_by, opened;
};
struct breaker_figures breaker_figures(struct breaker *b);

/* So many failures more, and it opens; 0: it is not closed, or never opens. */
unsigned breaker_left(struct breaker *b, int64_t now);

#endif
