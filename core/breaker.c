/* SPDX-License-Identifier: MIT */
/*
 * breaker.c - a circuit breaker (Nygard, "Release It!", 2007).
 *
 *            failures_max within window_ns            probe_at has come
 *     CLOSED -----------------------------> OPEN -----------------------> HALF_OPEN
 *        ^                                  ^  ^                           |  |  |
 *        |                                  |  +---- recalled: at once ----+  |  |
 *        |                                  +- failed, or late: backoff x 2 --+  |
 *        +-------------------------------------------- passed -------------------+
 *
 * Knows times and names of failures only; what is let through is the caller's affair.
 *
 * The window is exact: the last failures_max times are kept, and the breaker opens when the oldest of
 * them is not older than the window. (Two buckets of counts need no memory, but open up to a window
 * too late or too early, and a threshold nobody can compute is one nobody can test.)
 *
 * A probe that does not come back must not keep everybody else out for ever: when it is late it has
 * failed. That is noticed by the next who asks, for nobody else needs to know.
 *
 * Failures that are counted while it is not closed change nothing: they belong to what was let through
 * before. Closing forgets what was counted.
 */
#include "breaker.h"

#define BACKOFF_MAX 64 /* probe intervals */

static enum breaker_state state(struct breaker *b)
{
    return (enum breaker_state)atomic_load_explicit(&b->state, memory_order_relaxed); /* under lock */
}

static void set_state(struct breaker *b, enum breaker_state to)
{
    atomic_store_explicit(&b->state, (int)to, memory_order_relaxed); /* under lock; others: a hint */
}

void breaker_init(struct breaker *b, unsigned failures_max, int64_t window_ns, int64_t probe_ns,
                  int64_t late_ns, int64_t *times)
{
    b->failures_max = failures_max;
    b->window_ns = window_ns;
    b->probe_ns = probe_ns;
    b->late_ns = late_ns;
    b->failed_at = times;
}

/* Lock held. */
static void open_for(struct breaker *b, int64_t backoff_ns, uint64_t record, int64_t now)
{
    b->backoff_ns = backoff_ns;
    b->probe_at = time_after(now, backoff_ns);
    b->opened_by = record;
    b->probe = NULL;
    set_state(b, BREAKER_OPEN);
}

static int64_t next_backoff(const struct breaker *b)
{
    bool more = b->backoff_ns / (BACKOFF_MAX / 2) <= b->probe_ns;

    return more ? time_after(b->backoff_ns, b->backoff_ns) : b->backoff_ns;
}

/* Lock held. A probe that is late has failed; what it does from now on is nobody's business. */
static void give_up_probe(struct breaker *b, int64_t now)
{
    if (state(b) == BREAKER_HALF_OPEN && now >= b->late_at)
        open_for(b, next_backoff(b), b->opened_by, b->late_at);
}

bool breaker_pass(struct breaker *b, const void *who, int64_t now)
{
    bool pass;

    lock_take(&b->lock);
    give_up_probe(b, now);
    pass = state(b) == BREAKER_CLOSED;
    if (state(b) == BREAKER_OPEN && now >= b->probe_at) {
        b->probe = who;
        b->late_at = time_after(now, b->late_ns);
        set_state(b, BREAKER_HALF_OPEN);
        pass = true;
    }
    lock_drop(&b->lock);
    return pass;
}

/* Lock held. */
static bool is_probe(struct breaker *b, const void *who)
{
    return state(b) == BREAKER_HALF_OPEN && b->probe == who;
}

void breaker_recall(struct breaker *b, const void *who)
{
    lock_take(&b->lock);
    if (is_probe(b, who)) {
        b->probe = NULL;
        set_state(b, BREAKER_OPEN); /* probe_at has passed: the next one probes */
    }
    lock_drop(&b->lock);
}

bool breaker_probed(struct breaker *b, const void *who, bool failed, uint64_t record, int64_t now)
{
    bool mine;

    lock_take(&b->lock);
    mine = is_probe(b, who);
    if (mine && failed) {
        open_for(b, next_backoff(b), record, now);
    } else if (mine) {
        b->count = 0;
        b->probe = NULL;
        set_state(b, BREAKER_CLOSED);
    }
    lock_drop(&b->lock);
    return mine;
}

/* Lock held. Whether the last failures_max were within the window. */
static bool too_many(const struct breaker *b, int64_t now)
{
    /* The ring is full, so what is written next is the oldest. */
    return b->count == b->failures_max && now - b->failed_at[b->newest] <= b->window_ns;
}

bool breaker_count(struct breaker *b, uint64_t record, int64_t now)
{
    bool opens = false;

    if (!b->failures_max)
        return false;
    lock_take(&b->lock);
    if (state(b) == BREAKER_CLOSED) {
        b->failed_at[b->newest] = now;
        b->newest = (b->newest + 1) % b->failures_max;
        b->count += b->count < b->failures_max;
        opens = too_many(b, now);
    }
    if (opens) {
        b->opened++;
        open_for(b, b->probe_ns, record, now);
    }
    lock_drop(&b->lock);
    return opens;
}

struct breaker_figures breaker_figures(struct breaker *b)
{
    struct breaker_figures f;

    lock_take(&b->lock);
    f = (struct breaker_figures){state(b), b->opened_by, b->opened};
    lock_drop(&b->lock);
    return f;
}

unsigned breaker_left(struct breaker *b, int64_t now)
{
    unsigned within = 0;

    lock_take(&b->lock);
    if (state(b) != BREAKER_CLOSED)
        within = b->failures_max;
    while (within < b->count &&
           now - b->failed_at[(b->newest + b->failures_max - 1 - within) % b->failures_max] <= b->window_ns)
        within++;
    lock_drop(&b->lock);
    return b->failures_max - within;
}
