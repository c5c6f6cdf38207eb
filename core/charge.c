/* SPDX-License-Identifier: MIT */
/*
 * charge.c - memory that a domain's jobs account for, against the limits of the domain and those above.
 *
 * Why by explicit calls: malloc belongs to the program, and a C library cannot know whose block a free
 * gives back. What a program does know is what a request may cost: its buffers, its rows, its
 * cache entries. So it charges those before it takes them, and is refused in time.
 *
 * Invariants
 *   M1  memory == charged + memory of the domains below, when nothing moves.
 *   M2  memory <= memory_max: bytes are taken from the bottom up, and given back where a level refuses.
 *   M3  A domain gives back what was charged to it itself, and no more; so nobody's account becomes
 *       negative, whatever calls are made.
 */
#include "charge.h"

/* M2. */
static bool take(struct coir_domain *d, uint64_t bytes)
{
    uint64_t max = d->memory_max ? d->memory_max : INT64_MAX;
    uint64_t have = atomic_load_explicit(&d->memory, memory_order_relaxed); /* rechecked by the CAS */

    do
        if (have > max || bytes > max - have)
            return false;
    while (!atomic_compare_exchange_weak_explicit(&d->memory, &have, have + bytes, memory_order_relaxed,
                                                  memory_order_relaxed)); /* exact; orders nothing */
    return true;
}

static void give(struct coir_domain *d, const struct coir_domain *end, uint64_t bytes)
{
    for (; d != end; d = d->parent)
        atomic_fetch_sub_explicit(&d->memory, bytes, memory_order_relaxed); /* as take */
}

static int charge(struct coir_domain *d, uint64_t bytes)
{
    if (domain_is_closing(d) && !domain_holds_caller(d))
        return COIR_ESHUTDOWN;
    for (struct coir_domain *at = d; at; at = at->parent)
        if (!take(at, bytes)) {
            give(d, at, bytes);
            atomic_fetch_add_explicit(&d->denied, 1, memory_order_relaxed); /* a figure */
            return COIR_ENOMEM;
        }
    atomic_fetch_add_explicit(&d->charged, bytes, memory_order_relaxed); /* M3; as take */
    return COIR_OK;
}

/* M3. */
static int discharge(struct coir_domain *d, uint64_t bytes)
{
    uint64_t have = atomic_load_explicit(&d->charged, memory_order_relaxed); /* rechecked by the CAS */

    do
        if (bytes > have)
            return COIR_ERANGE;
    while (!atomic_compare_exchange_weak_explicit(&d->charged, &have, have - bytes, memory_order_relaxed,
                                                  memory_order_relaxed)); /* as take */
    give(d, NULL, bytes);
    return COIR_OK;
}

static int call(coir_domain *domain, size_t bytes, int (*what)(struct coir_domain *d, uint64_t bytes))
{
    struct coir_domain *d = domain ? domain : coir_domain_current();
    int status;

    if (!d)
        return status_outside();
    if (runtime_forked(d->rt))
        return COIR_EFORKED;
    domain_visit(d);
    status = what(d, bytes);
    domain_leave(d);
    return status;
}

int coir_domain_charge(coir_domain *domain, size_t bytes)
{
    return call(domain, bytes, charge);
}

int coir_domain_discharge(coir_domain *domain, size_t bytes)
{
    return call(domain, bytes, discharge);
}

uint64_t charge_end(struct coir_domain *d)
{
    uint64_t bytes = tally_read(&d->charged);

    if (!bytes)
        return 0;
    give(d, NULL, bytes);
    host_log(&d->rt->host, COIR_LOG_ERROR, "domain %s closes with %llu bytes charged to it", d->name,
             (unsigned long long)bytes);
    return bytes;
}
