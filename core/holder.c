/* SPDX-License-Identifier: MIT */
/*
 * holder.c - who the caller is to a lock: its job, wherever that runs; or a plain thread.
 *
 * A coir_try is its job's, so locks taken outside may be unlocked inside; what it leaves by its return
 * goes to the boundary around it (boundary.c). A child that runs in place is another job.
 */
#include "holder.h"

/* Where a boundary, or (NULL) the thread outside of all, keeps what it holds. */
static struct held **list_of(struct job *j)
{
    return j ? &j->held : held_by_thread();
}

NOINLINE struct holder job_holder(void)
{
    struct job *j = *job_slot();
    struct holder h = {held_by_thread(), list_of(j)};

    while (j && j->is_try)
        j = j->outer;
    if (j)
        h.who = j;
    return h;
}

struct held **job_list_with(const struct held *lock)
{
    for (struct job *j = *job_slot(); j; j = j->outer)
        for (const struct held *h = j->held; h; h = h->next)
            if (h == lock)
                return &j->held;
    return held_by_thread();
}

bool job_holds(const void *object)
{
    struct job *j = *job_slot();

    for (;; j = j->outer) {
        for (const struct held *h = *list_of(j); h; h = h->next)
            if (h->kind->object(h) == object)
                return true;
        if (!j)
            return false;
    }
}

bool job_waits_below(const void *who)
{
    for (const struct job *j = *job_slot(); j; j = j->outer)
        if (j == who)
            return true;
    return !worker_here() && who == held_by_thread();
}
