/* SPDX-License-Identifier: MIT */
/*
 * drain.c - closing a domain: request, drain, cancel, finalize; and the receipt.
 *
 *   request   it and all below are marked as closing: no outsider gets in, those who wait for a place
 *             are turned away. Visitors leave; after that only its own jobs can add jobs.
 *   drain     its counter settles when the last job of the whole subtree has ended.
 *   cancel    the budget has passed: as coir_domain_cancel, half of CANCEL_BUDGET_NS; then the waits that
 *             a cancel does not end are interrupted, and what is still queued is ended, for the
 *             other half. Then whoever waits for the jobs that are left is told (stuck.c).
 *   finalize  from the leaves up: finalizers, obligations, the books go to the parent, the memory goes.
 *
 * One closer at a time: it claims the subtree by `busy`, under the tree's lock. After COIR_ETIMEDOUT the
 * claim is given up, but the domain stays closed to outsiders and canceled.
 */
#include "drain.h"

#include <string.h>

#include "boundary.h"
#include "charge.h"
#include "hostcall.h"
#include "obligation.h"
#include "spawn.h"
#include "stuck.h"
#include "wait.h"

#define CANCEL_BUDGET_NS (100 * COIR_MS)

/* ------------------------------------------------------------------------------------ request */

/* Tree locked. */
static bool any_busy(const struct coir_domain *d)
{
    bool busy = d->busy;

    for (const struct coir_domain *child = d->child; child && !busy; child = child->next)
        busy = any_busy(child);
    return busy;
}

/* Tree locked. */
static void claim_all(struct coir_domain *d, bool busy)
{
    d->busy = busy;
    atomic_store_explicit(&d->closing, true, memory_order_seq_cst); /* VISIT, domain.c */
    for (struct coir_domain *child = d->child; child; child = child->next)
        claim_all(child, busy);
}

/* False: somebody else is closing it, or a domain below or above. (From above: then it is busy.) */
static bool claim(struct coir_domain *d)
{
    bool free;

    lock_take(&d->rt->domains_lock);
    free = !any_busy(d);
    if (free)
        claim_all(d, true);
    lock_drop(&d->rt->domains_lock);
    return free;
}

static void give_up_claim(struct coir_domain *d)
{
    lock_take(&d->rt->domains_lock);
    claim_all(d, false);
    lock_drop(&d->rt->domains_lock);
}

/* Lets others run: visitors may be fibers of this very worker. */
static void pause_for_others(unsigned *turns)
{
    coir_yield();
    spin_pause(turns);
}

/* They have been turned away, or were on their way in. The claim keeps the tree as it is. */
static void await_visitors(struct coir_domain *d)
{
    unsigned turns = 0;

    while (atomic_load_explicit(&d->visitors, memory_order_seq_cst)) /* VISIT, domain.c */
        pause_for_others(&turns);
    for (struct coir_domain *child = d->child; child; child = child->next)
        await_visitors(child);
}

/* ------------------------------------------------------------------------------ drain, cancel */

/* COIR_OK when all jobs have ended, COIR_ETIMEDOUT, COIR_ECANCELED (the caller is), COIR_ENOMEM. */
static int drain(struct coir_domain *d, int64_t deadline)
{
    int status = coir_wait_until((coir_counter *)(void *)&d->jobs, deadline);

    return status >= 0 ? COIR_OK : status;
}

/* A caller that is canceled itself goes on; waits are not interrupted twice. */
static int drain_uninterrupted(struct coir_domain *d, int64_t deadline)
{
    int status;

    do
        status = drain(d, deadline);
    while (status == COIR_ECANCELED && coir_now() < deadline);
    return status == COIR_ECANCELED ? COIR_ETIMEDOUT : status;
}

static int cancel(struct coir_domain *d, coir_domain_receipt *receipt)
{
    int64_t end = coir_now() + CANCEL_BUDGET_NS;
    int status;

    hostcall_cancel_requested(d->rt, COIR_CANCEL_DOMAIN_CLOSE);
    receipt->canceled += domain_cancel(d);
    status = drain_uninterrupted(d, end - CANCEL_BUDGET_NS / 2);
    if (status != COIR_ETIMEDOUT)
        return status;
    receipt->canceled += wait_wake_domain(d);
    spawn_drop_canceled(d->rt);
    return drain_uninterrupted(d, end);
}

/* ----------------------------------------------------------------------------------- finalize */

static void run_finalizers(struct coir_domain *d, coir_domain_receipt *r)
{
    struct coir_runtime *before = runtime_adopt_thread(d->rt); /* its panics are this runtime's */
    struct finalizer *f;

    while ((f = d->finalizers)) { /* no jobs and no visitors any more: ours alone */
        d->finalizers = f->older;
        r->finalizers++;
        if (job_try_masked(f->fn, f->arg, d->name) == COIR_PANICKED) {
            r->finalizer_panics++;
            lock_take(&d->lock);
            d->books.finalizer_panics++;
            lock_drop(&d->lock);
        }
        mem_free(&d->rt->host, f);
    }
    runtime_adopt_thread(before);
}

static void unlink_domain(struct coir_domain *d)
{
    struct coir_domain **at = d->parent ? &d->parent->child : &d->rt->domains;

    while (*at != d)
        at = &(*at)->next;
    *at = d->next;
}

/* A domain without domains below it: its end. Its books go to the parent, or to *books. */
static void finish(struct coir_domain *d, coir_domain_receipt *r, struct domain_books *books)
{
    struct coir_runtime *rt = d->rt;
    char name[DOMAIN_NAME_BYTES];
    uint64_t leaked;

    run_finalizers(d, r);
    obligation_leak_domain(d);
    await_visitors(d); /* late ones that were told that it closes */
    leaked = charge_end(d);
    lock_take(&d->lock);
    d->books.memory_leaked += leaked;
    lock_drop(&d->lock);
    lock_take(&rt->domains_lock);
    *books = (struct domain_books){0};
    domain_sum(d, books);
    unlink_domain(d);
    if (d->parent)
        domain_fold(d->parent, books);
    lock_drop(&rt->domains_lock);
    lock_take(&d->lock); /* S4, scope.c: who gave the last place back has left */
    lock_drop(&d->lock);
    memcpy(name, d->name, sizeof name);
    mem_free(&rt->host, d);
    hostcall_domain_closed(rt, name);
}

static void finish_all(struct coir_domain *d, coir_domain_receipt *r)
{
    struct domain_books books;
    struct coir_domain *leaf;

    do {
        for (leaf = d; leaf->child; leaf = leaf->child)
            ;
        finish(leaf, r, &books);
    } while (leaf != d);
    memcpy(r->ended, books.ended, sizeof r->ended);
    r->obligations_leaked = books.leaked;
    r->memory_leaked = books.memory_leaked;
}

/* ----------------------------------------------------------------------------------- together */

/* A phase has ended: notes how long it took and begins the next. */
static void begin_phase(coir_domain_receipt *r, enum coir_phase phase, int64_t *begin)
{
    int64_t now = coir_now();

    r->phase_ns[r->phase] = now - *begin;
    r->phase = (int)phase;
    *begin = now;
}

/* It stays, with what has not ended. */
static void write_unfinished(struct coir_domain *d, coir_domain_receipt *r)
{
    struct domain_books b = {0};

    stuck_name(d, r);
    lock_take(&d->rt->domains_lock);
    domain_sum(d, &b);
    lock_drop(&d->rt->domains_lock);
    memcpy(r->ended, b.ended, sizeof r->ended);
    r->obligations_leaked = b.leaked;
    r->memory_leaked = b.memory_leaked;
    r->running = domain_in_flight(d);
}

static int close_claimed(struct coir_domain *d, int64_t deadline, coir_domain_receipt *r)
{
    int64_t request = coir_now(), begin = request;
    int status;

    d->rt->stop_supervisors(d->rt, d);
    domain_turn_away(d, COIR_ESHUTDOWN);
    await_visitors(d);
    status = drain(d, deadline);
    if (status == COIR_ETIMEDOUT || status == COIR_ECANCELED) {
        begin_phase(r, COIR_PHASE_CANCEL, &begin);
        status = cancel(d, r);
    }
    hostcall_domain_drained(d->rt, d->name, coir_now() - request, status);
    if (status == COIR_OK) {
        begin_phase(r, COIR_PHASE_FINALIZE, &begin);
        finish_all(d, r);
    } else {
        write_unfinished(d, r);
        give_up_claim(d);
    }
    r->phase_ns[r->phase] = coir_now() - begin;
    return status;
}

int coir_domain_close(coir_domain *d, int64_t drain_ns, coir_domain_receipt *receipt)
{
    coir_domain_receipt own;

    if (!d)
        return COIR_EINVAL;
    if (domain_holds_caller(d))
        return COIR_EDEADLK;
    if (!claim(d))
        return COIR_EBUSY;
    receipt = receipt ? receipt : &own;
    memset(receipt, 0, sizeof *receipt);
    return close_claimed(d, drain_ns < 0 ? COIR_NEVER : time_after(coir_now(), drain_ns), receipt);
}

int coir_domain_finalizer(coir_domain *d, coir_fn *fn, void *arg)
{
    struct finalizer *f;
    int status = COIR_OK;

    if (!d || !fn)
        return COIR_EINVAL;
    domain_visit(d);
    f = mem_alloc(&d->rt->host, sizeof *f);
    if (domain_is_closing(d)) {
        mem_free(&d->rt->host, f);
        status = COIR_ESHUTDOWN;
    } else if (!f) {
        status = COIR_ENOMEM;
    } else {
        f->fn = fn;
        f->arg = arg;
        lock_take(&d->lock);
        f->older = d->finalizers;
        d->finalizers = f;
        lock_drop(&d->lock);
    }
    domain_leave(d);
    return status;
}

/* A root of the runtime, claimed; NULL: none is left, or *busy. The runtime is draining: that was set
 * before the lock was taken, so whoever opens one either has linked it or sees the flag. */
static struct coir_domain *claim_root(struct coir_runtime *rt, bool *busy)
{
    struct coir_domain *d;

    *busy = false;
    lock_take(&rt->domains_lock);
    d = rt->domains;
    if (d && any_busy(d)) {
        *busy = true;
        d = NULL;
    }
    if (d)
        claim_all(d, true);
    lock_drop(&rt->domains_lock);
    return d;
}

bool drain_domains(struct coir_runtime *rt, int64_t deadline)
{
    coir_domain_receipt receipt;
    struct coir_domain *d;
    unsigned turns = 0;
    bool busy;

    while ((d = claim_root(rt, &busy)) || busy) {
        if (busy && coir_now() >= deadline)
            return false;
        if (busy) {
            pause_for_others(&turns);
            continue;
        }
        memset(&receipt, 0, sizeof receipt);
        if (close_claimed(d, deadline, &receipt) != COIR_OK)
            return false;
    }
    return true;
}
