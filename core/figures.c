/* SPDX-License-Identifier: MIT */
/*
 * figures.c - what has happened in a runtime, and in a domain and below it, in numbers.
 */
#include <string.h>

#include "books.h"
#include "domain.h"
#include "io.h"

static void add(struct domain_books *sum, const struct domain_books *b)
{
    for (int o = 0; o <= COIR_PANICKED; o++)
        sum->ended[o] += b->ended[o];
    sum->admitted += b->admitted;
    sum->refused += b->refused;
    sum->trips += b->trips;
    sum->skipped += b->skipped;
    sum->finalizer_panics += b->finalizer_panics;
    sum->taken += b->taken;
    sum->held += b->held;
    sum->leaked += b->leaked;
    sum->denied += b->denied;
    sum->memory_leaked += b->memory_leaked;
}

static void add_own(struct coir_domain *d, struct domain_books *sum)
{
    struct domain_books own;

    lock_take(&d->lock);
    own = d->books;
    lock_drop(&d->lock);
    own.admitted += tally_read(&d->admitted);
    own.refused += tally_read(&d->refused);
    own.denied += tally_read(&d->denied);
    own.trips += breaker_figures(&d->breaker).opened;
    add(sum, &own);
}

void domain_sum(struct coir_domain *d, struct domain_books *sum)
{
    for (struct coir_domain *at = d; at; at = domain_after(at, d))
        add_own(at, sum);
}

void domain_fold(struct coir_domain *into, const struct domain_books *b)
{
    lock_take(&into->lock);
    add(&into->books, b);
    lock_drop(&into->lock);
}

uint64_t domain_in_flight(struct coir_domain *d)
{
    return atomic_load_explicit(&d->jobs.state, memory_order_acquire) / COUNTER_ONE; /* SETTLE, counter.c */
}

int domain_state(struct coir_domain *d)
{
    enum breaker_state b = breaker_figures(&d->breaker).state;

    if (domain_is_closing(d))
        return COIR_DOMAIN_CLOSING;
    if (scope_canceled(&d->scope))
        return COIR_DOMAIN_CANCELED;
    return b == BREAKER_CLOSED ? COIR_DOMAIN_OPEN
           : b == BREAKER_OPEN ? COIR_DOMAIN_TRIPPED
                               : COIR_DOMAIN_HALF_OPEN;
}

int coir_domain_stats_read(coir_domain *d, coir_domain_stats *stats)
{
    struct domain_books b = {0};
    struct breaker_figures f;

    if (!d || !stats)
        return COIR_EINVAL;
    if (runtime_forked(d->rt))
        return COIR_EFORKED;
    domain_visit(d);
    lock_take(&d->rt->domains_lock);
    domain_sum(d, &b);
    lock_drop(&d->rt->domains_lock);
    f = breaker_figures(&d->breaker);
    *stats = (coir_domain_stats){
        .admitted = b.admitted,
        .skipped = b.skipped,
        .refused = b.refused,
        .in_flight = domain_in_flight(d),
        .trips = b.trips,
        .finalizer_panics = b.finalizer_panics,
        .obligations = b.taken,
        .obligations_held = b.held,
        .obligations_leaked = b.leaked,
        .tripped_by = f.opened_by,
        .memory = tally_read(&d->memory),
        .stacks = tally_read(&d->stacks),
        .denied = b.denied,
        .state = domain_state(d),
    };
    memcpy(stats->ended, b.ended, sizeof stats->ended);
    domain_leave(d);
    return COIR_OK;
}

static void add_workers(struct coir_runtime *rt, coir_stats *s)
{
    uint64_t parks = 0, unparks = 0;

    for (unsigned i = 0; i < rt->worker_count; i++) {
        struct worker *w = rt->worker[i];

        s->swallowed += tally_read(&w->swallowed);
        s->contained += tally_read(&w->contained);
        s->tainted += tally_read(&w->tainted);
        s->unobserved += tally_read(&w->unobserved);
        s->switches += tally_read(&w->switches);
        s->steals += tally_read(&w->steals);
        s->sleeps += tally_read(&w->sleeps);
        s->wipes += tally_read(&w->wipes);
        unparks += tally_read(&w->unparks);
        parks += tally_read(&w->parks);
    }
    s->parked = parks > unparks ? parks - unparks : 0;
    s->workers = rt->worker_count;
}

int coir_stats_read(coir_runtime *rt, coir_stats *s)
{
    int64_t stalled;

    if (!rt || !s)
        return COIR_EINVAL;
    if (runtime_forked(rt))
        return COIR_EFORKED;
    memset(s, 0, sizeof *s);
    books_ended(rt, s->ended);
    s->spawned = books_accepted(rt);
    add_workers(rt, s);
    s->stacks = atomic_load_explicit(&rt->stacks.created, memory_order_relaxed); /* a figure */
    s->stacks_limit = rt->stacks.limit;
    s->io = io_kind(rt);
    records_read(&rt->records, s);
    s->stalls = tally_read(&rt->stalls);
    stalled = atomic_load_explicit(&rt->stalled_since, memory_order_relaxed); /* a figure */
    s->stalled_ns = stalled ? coir_now() - stalled : 0;
    return COIR_OK;
}
