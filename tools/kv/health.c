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

bool health_live(struct buffer *why)
{
    coir_stats s;

    coir_stats_read(coir_current(), &s);
    if (s.stalled_ns < server.set.hang_ms * COIR_MS)
        return true;
    buffer_print(why, "hangs: a worker is in one job for %" PRId64 " ms\n", s.stalled_ns / COIR_MS);
    return false;
}

bool health_ready(struct buffer *why)
{
    coir_stats s;

    if (!health_live(why))
        return false;
    coir_stats_read(coir_current(), &s);
    if (server_drains())
        buffer_print(why, "drains: it is about to end\n");
    else if (s.tainted > (uint64_t)server.set.tainted_max)
        buffer_print(why, "tainted: by %" PRIu64 " faults that may have harmed memory\n", s.tainted);
    return why->used == 0;
}
