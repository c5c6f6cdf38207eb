/* SPDX-License-Identifier: MIT */
/*
 * left.h - what still lies in the frames that a job has left: counters that it owns or others wait for, locks that it holds.
 */
#ifndef COIR_LEFT_H
#define COIR_LEFT_H

#include "job.h"

#define THREAD_FRAMES (UINT64_C(64) << 10)

/* What reads frames that have been left must make no call, which would run on them. ThreadSanitizer makes one
 * of each read, so there it is a function of its own that is not instrumented. */
#if defined(COIR_TSAN) && defined(__clang__)
#define ON_LEFT_FRAMES NOINLINE __attribute__((disable_sanitizer_instrumentation))
#elif defined(COIR_TSAN)
#define ON_LEFT_FRAMES NOINLINE __attribute__((no_sanitize("thread")))
#else
#define ON_LEFT_FRAMES ALWAYS_INLINE
#endif

/* Where the frames that the job has left can begin. How large a plain thread's stack is (self: NULL) nobody
 * knows here; to keep some memory below it that is no frame costs nothing. */
static ALWAYS_INLINE uintptr_t lowest_frame(const struct fiber *self, const struct job *j, bool raised)
{
    if (raised)
        return j->raised_at;
    return self ? (uintptr_t)self->bottom : (uintptr_t)j - THREAD_FRAMES;
}

/* The lowest counter the job still owns, or that work waits for, or lock it holds, in frames that have been left. Inlined
 * into a caller that makes no call before it has moved its stack pointer below them. */
static ALWAYS_INLINE uintptr_t lowest_left(const struct fiber *self, const struct job *j, bool raised)
{
    uintptr_t lowest = (uintptr_t)j, floor = lowest_frame(self, j, raised);

    if (job_is_awaited(j) && j->awaited_from < lowest)
        lowest = j->awaited_from;
    for (struct held *h = j->held; h; h = h->next)
        if ((uintptr_t)h >= floor && (uintptr_t)h < lowest)
            lowest = (uintptr_t)h;

    for (struct counter *c = j->owned; c; c = c->next_owned) {
        if (counter_owner(c) != j)
            job_lost_counter();
        lowest = (uintptr_t)c < lowest ? (uintptr_t)c : lowest;
    }
    return lowest;
}

#endif
