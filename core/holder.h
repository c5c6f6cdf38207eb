/* SPDX-License-Identifier: MIT */
/*
 * holder.h - who the caller is to a lock. See holder.c.
 */
#ifndef COIR_HOLDER_H
#define COIR_HOLDER_H

#include "job.h"

/* Who takes a lock: the innermost job that is not a coir_try, or the plain thread; 16-byte aligned. */
struct holder {
    const void *who;
    struct held **list; /* where its innermost boundary keeps what it holds */
};
struct holder job_holder(void);

_Static_assert(_Alignof(struct job) >= 16, "four bits of an identity are free for flags");

/* The same where that is most quickly told: a job on a fiber, outside of any coir_try; else NULL. */
static inline struct job *job_plain(void)
{
    struct worker *w = worker_here();
    struct job *j = w ? w->current->job : NULL;

    return LIKELY(j && !j->is_try) ? j : NULL;
}

/* Where a lock that the caller holds is kept: by the boundary inside which it was taken. */
struct held **job_list_with(const struct held *lock);

/* Whether the caller, or a job below it on its stack, holds the object. */
bool job_holds(const void *object);

/* Whether `who` is a job below the calling one on this stack, which cannot go on before it. */
bool job_waits_below(const void *who);

#endif
