/* SPDX-License-Identifier: MIT */
/*
 * stall_limit.c - the shortest stall limit that is open, which says how often the watcher looks (stall.c).
 *
 * Domains that come and go mostly have the limit of others beside them, so those that share the shortest
 * are counted, and the tree is searched only when the last of these leaves.
 *
 * Invariant
 *   L1  stall_least is the least of the runtime's own limit and those of all open domains, of which
 *       stall_least_of have it, whenever domains_lock is free. Both are written under that lock.
 */
#include "stall_limit.h"

int64_t stall_limit(const struct coir_runtime *rt, const struct coir_domain *parent, int64_t asked)
{
    if (asked)
        return asked;
    return parent ? parent->stall_ns : rt->options.stall_ns;
}

static void set_least(struct coir_runtime *rt, int64_t ns)
{
    atomic_store_explicit(&rt->stall_least, ns, memory_order_relaxed); /* a hint when to look */
}

bool stall_limit_enter(struct coir_domain *d)
{
    int64_t least = stall_limit_least(d->rt);

    if (d->stall_ns == least)
        d->rt->stall_least_of++;
    if (d->stall_ns >= least)
        return false;
    set_least(d->rt, d->stall_ns);
    d->rt->stall_least_of = 1;
    return true;
}

static void enter_all(struct coir_domain *first)
{
    for (struct coir_domain *d = first; d; d = d->next) {
        stall_limit_enter(d);
        enter_all(d->child);
    }
}

void stall_limit_leave(struct coir_domain *d)
{
    struct coir_runtime *rt = d->rt;

    if (d->stall_ns != stall_limit_least(rt) || --rt->stall_least_of > 0 ||
        d->stall_ns == rt->options.stall_ns)
        return;
    set_least(rt, rt->options.stall_ns);
    enter_all(rt->domains);
}
