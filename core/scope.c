/* SPDX-License-Identifier: MIT */
/*
 * scope.c - how work enters and leaves a domain.
 *
 * Owns: places (the limit), the list of running jobs, the books, and what a job learns of its domain
 * before it starts. Does not know what a job is, nor how a domain is opened or closed.
 *
 * Work carries one word for all this. A job outside every domain carries NULL there and pays a load and
 * a branch. A job with no deadline carries the scope inside its domain; one with a deadline carries
 * a record, shared by what it spawns. The worker that ends the last of them keeps the record for the next such job that
 * is submitted there; to allocate and free each was a fifth of such a job.
 *
 * Invariants
 *   S1  A job holds one unit of domain->jobs in its domain and in each one above, from its admission
 *       to its end. So a domain is drained when its counter has settled, and a job may use every domain
 *       above it without further care.
 *   S2  Units are taken from the bottom up and never given back while waiting further up. All who
 *       wait hold places only below, so no two wait for each other.
 *   S3  units <= jobs_max for all but COIR_FULL_RUN, which goes past it by the callers that run jobs.
 *   S4  A domain with COIR_FULL_WAIT gives places back under its lock: to who waits first, else to
 *       the counter. An entrant enlists under the lock after it found no place: none is missed.
 *
 * The books are written before the units go, and the units before the counter of the job's owner:
 * whoever has waited for the jobs finds the figures complete.
 *
 * Why a lock per job and not more atomics: the receipt of a close names the jobs that do not end, so
 * running jobs are in a list. The books lie under the same lock, so it costs less than it saves.
 */
#include "scope.h"

#include "hostcall.h"

#define SCOPES_KEPT 128 /* by each worker */

/* ------------------------------------------------------------------------------------- places */

/* Takes n units unless there would be more than max; 0: no limit. */
static bool owe_within(struct counter *c, uint64_t n, uint64_t max)
{
    uint64_t s = atomic_load_explicit(&c->state, memory_order_relaxed); /* rechecked by the CAS */

    if (!max) {
        counter_owe(c, n);
        return true;
    }
    do
        if (s / COUNTER_ONE + n > max)
            return false;
    while (!atomic_compare_exchange_weak_explicit(&c->state, &s, s + n * COUNTER_ONE,
                                                  memory_order_relaxed,
                                                  memory_order_relaxed)); /* as counter_owe */
    return true;
}

bool domain_take_place(struct coir_domain *d)
{
    return owe_within(&d->jobs, 1, d->jobs_max);
}

void domain_enlist(struct coir_domain *d, struct entrant *e)
{
    e->next = NULL;
    e->prev = d->last;
    if (d->last)
        d->last->next = e;
    else
        d->first = e;
    d->last = e;
    e->listed = true;
}

void domain_delist(struct coir_domain *d, struct entrant *e)
{
    if (e->prev)
        e->prev->next = e->next;
    else
        d->first = e->next;
    if (e->next)
        e->next->prev = e->prev;
    else
        d->last = e->prev;
    e->listed = false;
}

/* S4. */
static void hand_over(struct coir_domain *d, uint64_t n)
{
    struct entrant *e, *let_in = NULL;

    lock_take(&d->lock);
    for (; n && (e = d->first); n--) {
        domain_delist(d, e);
        e->verdict = COIR_OK;
        e->next = let_in;
        let_in = e;
    }
    if (n)
        counter_settle(&d->jobs, n);
    lock_drop(&d->lock); /* who closes the domain takes the lock before it frees it */
    while ((e = let_in)) {
        let_in = e->next;
        counter_settle(&e->turn, 1); /* the last use */
    }
}

void domain_give_back(struct coir_domain *d, const struct coir_domain *end, uint64_t n)
{
    while (d != end) {
        struct coir_domain *parent = d->parent; /* d may be gone when it has its unit */

        if (d->full == COIR_FULL_WAIT && d->jobs_max)
            hand_over(d, n);
        else
            counter_settle(&d->jobs, n);
        d = parent;
    }
}

int scope_admit(struct scope *s, uint64_t n)
{
    struct coir_domain *d = s->domain;

    if (UNLIKELY(scope_canceled(s)))
        return COIR_ECANCELED;
    for (struct coir_domain *at = d; at; at = at->parent)
        if (UNLIKELY(!owe_within(&at->jobs, n, at->jobs_max))) {
            domain_give_back(d, at, n);
            atomic_fetch_add_explicit(&d->refused, n, memory_order_relaxed); /* a figure */
            return COIR_EAGAIN;
        }
    if (s != &d->scope)
        atomic_fetch_add_explicit(&s->carriers, n, memory_order_relaxed); /* the caller carries it */
    atomic_fetch_add_explicit(&d->admitted, n, memory_order_relaxed); /* a figure */
    return COIR_OK;
}

/* ------------------------------------------------------------------- records of deadlines */

/* The caller, if it is a worker of this runtime: others share no list. */
static struct worker *keeper(const struct coir_runtime *rt)
{
    struct worker *w = worker_here();

    return w && w->runtime == rt ? w : NULL;
}

static NOINLINE struct scope *take_record(struct coir_runtime *rt)
{
    struct worker *w = keeper(rt);
    struct scope *s = w ? w->scopes : NULL;

    if (!s)
        return mem_alloc(&rt->host, sizeof *s);
    w->scopes = s->next;
    w->scope_count--;
    return s;
}

static NOINLINE void give_record(struct scope *s)
{
    struct coir_runtime *rt = s->domain->rt;
    struct worker *w = keeper(rt);

    if (!w || w->scope_count == SCOPES_KEPT) {
        mem_free(&rt->host, s);
        return;
    }
    s->next = w->scopes;
    w->scopes = s;
    w->scope_count++;
}

void scope_free_kept(struct worker *w)
{
    for (struct scope *s = w->scopes, *next; s; s = next) {
        next = s->next;
        mem_free(&w->runtime->host, s);
    }
}

/* Fewer carriers of the record. Who carries it alone can be joined by nobody. */
static void let_go(struct scope *s, uint64_t n)
{
    if (s != &s->domain->scope &&
        (atomic_load_explicit(&s->carriers, memory_order_acquire) == n || /* LAST */
         atomic_fetch_sub_explicit(&s->carriers, n, memory_order_acq_rel) == n)) /* LAST: is the last use */
        give_record(s);
}

void scope_revoke(struct scope *s, uint64_t n)
{
    struct coir_domain *d = s->domain;

    atomic_fetch_sub_explicit(&d->admitted, n, memory_order_relaxed); /* a figure */
    atomic_fetch_add_explicit(&d->refused, n, memory_order_relaxed);  /* a figure */
    let_go(s, n);
    domain_give_back(d, NULL, n);
}

/* The last quarter of the time begins. Nobody else would look. */
static int64_t warn_time(const struct coir_runtime *rt, int64_t deadline)
{
    return rt->metered ? deadline - (deadline - coir_now()) / 4 : COIR_NEVER;
}

struct scope *scope_make(struct coir_domain *d, int64_t deadline)
{
    struct scope *s = &d->scope;

    if (deadline != COIR_NEVER) {
        s = take_record(d->rt);
        if (!s)
            return NULL;
        s->domain = d;
        s->deadline = deadline;
        s->warn_at = warn_time(d->rt, deadline);
        hostcall_deadline_set(d->rt, deadline);
        atomic_store_explicit(&s->carriers, 1, memory_order_relaxed); /* nobody else knows it yet */
    }
    atomic_fetch_add_explicit(&d->admitted, 1, memory_order_relaxed); /* a figure */
    return s;
}

/* ------------------------------------------------------------------------------------- stacks */

/* The next level above that limits stacks. */
static struct coir_domain *stacks_above(const struct coir_domain *d)
{
    return d->parent ? d->parent->stacks_at : NULL;
}

static bool take_stack(struct coir_domain *d, bool must)
{
    uint64_t n = atomic_load_explicit(&d->stacks, memory_order_relaxed); /* rechecked by the CAS */

    do
        if (n >= d->stacks_max && !must)
            return false;
    while (!atomic_compare_exchange_weak_explicit(&d->stacks, &n, n + 1, memory_order_relaxed,
                                                  memory_order_relaxed)); /* exact; orders nothing */
    return true;
}

static void give_stacks(struct coir_domain *d, const struct coir_domain *end)
{
    for (; d != end; d = stacks_above(d))
        atomic_fetch_sub_explicit(&d->stacks, 1, memory_order_relaxed); /* as take_stack */
}

bool scope_take_stack(struct scope *s, bool must)
{
    struct coir_domain *first = s->domain->stacks_at;

    for (struct coir_domain *d = first; d; d = stacks_above(d))
        if (UNLIKELY(!take_stack(d, must))) {
            give_stacks(first, d);
            atomic_fetch_add_explicit(&s->domain->denied, 1, memory_order_relaxed); /* a figure */
            return false;
        }
    return true;
}

void scope_give_stack(struct scope *s)
{
    give_stacks(s->domain->stacks_at, NULL);
}

/* ------------------------------------------------------------------------------ start and end */

void scope_recall(struct coir_domain *d, const struct coir_domain *end, const void *who)
{
    for (; d != end; d = d->parent)
        breaker_recall(&d->breaker, who);
}

/* Whether the deadline has passed; one that is near is told. */
static bool is_late(const struct scope *s)
{
    struct coir_runtime *rt = s->domain->rt;
    int64_t now = coir_now();

    if (now >= s->deadline)
        hostcall_deadline_exceeded(rt, s->deadline);
    else if (UNLIKELY(now >= s->warn_at))
        hostcall_deadline_warned(rt, s->deadline);
    return now >= s->deadline;
}

enum scope_verdict scope_judge(struct scope *s, const void *who, struct coir_domain **by)
{
    struct coir_domain *d = s->domain;

    if (UNLIKELY(scope_canceled(s)))
        return SCOPE_CANCELED;
    if (s->deadline != COIR_NEVER && is_late(s))
        return SCOPE_EXPIRED;
    for (struct coir_domain *at = d; at; at = at->parent)
        if (UNLIKELY(!breaker_is_closed(&at->breaker)) &&
            !breaker_pass(&at->breaker, who, coir_now())) {
            scope_recall(d, at, who);
            *by = at;
            return SCOPE_TRIPPED;
        }
    return SCOPE_RUN;
}

void scope_enter(struct scope *s, struct member *m)
{
    struct coir_domain *d = s->domain;

    lock_take(&d->lock);
    m->prev = NULL;
    m->next = d->members;
    if (m->next)
        m->next->prev = m;
    d->members = m;
    lock_drop(&d->lock);
}

/* Tells the breakers above how it went. */
static void tell_breakers(struct coir_domain *d, const void *who, bool panicked, uint64_t record)
{
    for (struct coir_domain *at = d; at; at = at->parent) {
        if (UNLIKELY(!breaker_is_closed(&at->breaker)) &&
            breaker_probed(&at->breaker, who, panicked, record, coir_now()))
            continue;
        if (UNLIKELY(panicked) && at == d->judge && breaker_count(&at->breaker, record, coir_now()))
            hostcall_domain_tripped(at->rt, at->name, record);
    }
}

void scope_leave(struct scope *s, struct member *m, const void *who, int outcome, uint64_t record)
{
    struct coir_domain *d = s->domain;

    tell_breakers(d, who, outcome == COIR_PANICKED, record);
    lock_take(&d->lock);
    if (m->prev)
        m->prev->next = m->next;
    else
        d->members = m->next;
    if (m->next)
        m->next->prev = m->prev;
    d->books.ended[outcome]++;
    lock_drop(&d->lock);
    let_go(s, 1);
    domain_give_back(d, NULL, 1);
}

void scope_drop(struct scope *s, enum scope_verdict why)
{
    struct coir_domain *d = s->domain;

    lock_take(&d->lock);
    d->books.ended[why == SCOPE_EXPIRED ? COIR_EXPIRED : COIR_CANCELED]++;
    d->books.skipped += why == SCOPE_TRIPPED;
    lock_drop(&d->lock);
    let_go(s, 1);
    domain_give_back(d, NULL, 1);
}
