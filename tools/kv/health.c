/* SPDX-License-Identifier: MIT */
/*
 * health.c - whether the process does its work, and whether it should be sent requests.
 *
 * Live: each worker goes from job to job. One that is in the same job for --hang-ms is lost, since nothing can
 * stop code that never asks; only another process gets it back. /healthz says so, and systemd's watchdog
 * is not fed. If no worker is left, nobody answers or feeds, which comes to the same.
 *
 * Ready: live, not draining, and its memory and its books are to be trusted.
 */
#include "kv.h"

#include <inttypes.h>

#define IMBALANCE (COIR_SEC / 2)

bool health_live(struct buffer *why)
{
    coir_stats s;

    coir_stats_read(coir_current(), &s);
    if (s.stalled_ns < server.set.hang_ms * COIR_MS)
        return true;
    buffer_print(why, "hangs: a worker is in one job for %" PRId64 " ms\n", s.stalled_ns / COIR_MS);
    return false;
}

/* An imbalance that stays: a thread in the middle of a call may look like one, but not for so long. */
static bool books_are_wrong(coir_books *books)
{
    static _Atomic int64_t since; /* 0: they were right, or nobody could say */
    int64_t now = coir_now(), first = atomic_load_explicit(&since, memory_order_relaxed); /* its own */
    int status = coir_books_check(coir_current(), books);

    if (status == COIR_EAGAIN)
        return false; /* it was not quiet: what was known stays */
    first = status == COIR_OK ? 0 : first ? first : now;
    atomic_store_explicit(&since, first, memory_order_relaxed); /* its own */
    return first && now - first >= IMBALANCE;
}

bool health_ready(struct buffer *why)
{
    coir_books books;
    coir_stats s;

    if (!health_live(why))
        return false;
    coir_stats_read(coir_current(), &s);
    if (server_drains())
        buffer_print(why, "drains: it is about to end\n");
    else if (s.tainted > (uint64_t)server.set.tainted_max)
        buffer_print(why, "tainted: by %" PRIu64 " faults that may have harmed memory\n", s.tainted);
    else if (books_are_wrong(&books))
        buffer_print(why, "books: %s\n", books.what);
    return why->used == 0;
}
