/* SPDX-License-Identifier: MIT */
/*
 * stall_limit.h - the shortest time that any job of a runtime may go on without suspending. See stall_limit.c.
 */
#ifndef COIR_STALL_LIMIT_H
#define COIR_STALL_LIMIT_H

#include "scope.h"

/* What a domain's jobs may take: its own limit if it has one (asked is not 0), else what holds above it. */
int64_t stall_limit(const struct coir_runtime *rt, const struct coir_domain *parent, int64_t asked);

/* A domain has come into the tree, or has left it. rt->domains_lock is held. True: the watcher has to look
 * sooner from now on. */
bool stall_limit_enter(struct coir_domain *d);
void stall_limit_leave(struct coir_domain *d);

/* The shortest limit there is: the runtime's own, or an open domain's. */
static inline int64_t stall_limit_least(struct coir_runtime *rt)
{
    return atomic_load_explicit(&rt->stall_least, memory_order_relaxed); /* a hint when to look */
}

#endif
