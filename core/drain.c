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
 * coir_close takes all roots through these steps together, so they are a list (`also`); a domain that is
 * closed alone is a list of one. One closer at a time: it claims the subtree by `busy`, under the tree's lock.
 * After COIR_ETIMEDOUT the claim is given up, but the domain stays closed to outsiders and canceled. A supervisor that
 * closes the domain of a child that has ended is no rival: others wait until it has.
 *
 * Who has more to end than a domain (a pool's messages, a supervisor's children) holds it first: it alone is busy,
 * so nobody closes it or one above, but it stays open and those below may go. What lies in memory that a finalizer
 * frees is touched by who holds the domain, by its jobs, and by visitors. Who wants to close is a visitor until it
 * has the domain or is refused; then it touches nothing more.
 *
 * A domain in the tree keeps its runtime: coir_close ends when all roots are its own to end. Who takes one out goes
 * on with the runtime's allocator and metrics, so it is a visitor of the runtime from before it does until after
 * its last access: the tree's lock orders the two (VISIT, state.h).
 */
#include "drain.h"

#include <string.h>

#include "boundary.h"
#include "charge.h"
#include "hostcall.h"
#include "obligation.h"
#include "spawn.h"
#include "stall_limit.h"
#include "stuck.h"
#include "wait.h"

#define CANCEL_BUDGET_NS (100 * COIR_MS)

/* ------------------------------------------------------------------------------------ request */

/* Tree locked. Whether somebody is closing a domain below. reaped: also what a supervisor ends; that has drained, so
 * its close waits for nobody. */
static bool any_busy_below(const struct coir_domain *d, bool reaped)
{
    bool busy = false;

    for (const struct coir_domain *child = d->child; child && !busy; child = child->next)
        busy = (reaped || !child->reaped) && (child->busy || any_busy_below(child, reaped));
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

/* Tree locked. A child's is its supervisor's to close: that is the job around it, and says so first. */
static bool may_close(const struct coir_domain *d)
{
    const struct job *j = *job_slot();

    return !d->supervised || (d->reaped && j && j->scope && j->scope->domain == d->parent);
}

/* COIR_OK; COIR_EPERM; COIR_EBUSY: somebody else is closing it (or one above: then it is busy), or one below; COIR_EAGAIN: a
 * supervisor alone is, which is soon over. held: it is busy for the caller. */
static int claim(struct coir_domain *d, bool held)
{
    int status = COIR_OK;

    lock_take(&d->rt->domains_lock);
    if (!may_close(d))
        status = COIR_EPERM;
    else if ((d->busy && !held) || any_busy_below(d, false))
        status = COIR_EBUSY;
    else if (any_busy_below(d, true))
        status = COIR_EAGAIN;
    else
        claim_all(d, true);
    lock_drop(&d->rt->domains_lock);
    return status;
}

/* hold: d itself is kept. */
static void give_up_claim(struct coir_domain *d, bool hold)
{
    struct coir_runtime *rt = d->rt; /* both may go with the lock */

    lock_take(&rt->domains_lock);
    claim_all(d, false);
    d->busy = hold;
    lock_drop(&rt->domains_lock);
}

bool domain_hold(struct coir_domain *d)
{
    bool free;

    domain_visit(d);
    lock_take(&d->rt->domains_lock);
    free = !d->busy;
    d->busy = true;
    lock_drop(&d->rt->domains_lock);
    domain_leave(d);
    return free;
}

void domain_let_go(struct coir_domain *d)
{
    struct coir_runtime *rt = d->rt;

    lock_take(&rt->domains_lock);
    d->busy = false;
    lock_drop(&rt->domains_lock);
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

static void ask(struct coir_domain *first)
{
    for (struct coir_domain *d = first; d; d = d->also) {
        d->rt->stop_supervisors(d->rt, d);
        domain_turn_away(d, COIR_ESHUTDOWN);
    }
    for (struct coir_domain *d = first; d; d = d->also)
        await_visitors(d);
}

/* ------------------------------------------------------------------------------ drain, cancel */

/* COIR_OK when all jobs have ended, COIR_ETIMEDOUT, COIR_ECANCELED (the caller is), COIR_ENOMEM. */
static int drain_one(struct coir_domain *d, int64_t deadline)
{
    int status = coir_wait_until((coir_counter *)(void *)&d->jobs, deadline);

    return status >= 0 ? COIR_OK : status;
}

/* The same for all of them: that of the first which has not ended. */
static int drain(struct coir_domain *first, int64_t deadline)
{
    int status = COIR_OK;

    for (struct coir_domain *d = first; d && status == COIR_OK; d = d->also)
        status = drain_one(d, deadline);
    return status;
}

/* A caller that is canceled itself goes on; waits are not interrupted twice. */
static int drain_uninterrupted(struct coir_domain *first, int64_t deadline)
{
    int status;

    do
        status = drain(first, deadline);
    while (status == COIR_ECANCELED && coir_now() < deadline);
    return status == COIR_ECANCELED ? COIR_ETIMEDOUT : status;
}

/* Those that have not ended, all within one budget. */
static int cancel(struct coir_domain *first, coir_domain_receipt *receipt)
{
    int64_t end = coir_now() + CANCEL_BUDGET_NS;
    int status;

    for (struct coir_domain *d = first; d; d = d->also) {
        if (!domain_in_flight(d))
            continue;
        hostcall_cancel_requested(d->rt, COIR_CANCEL_DOMAIN_CLOSE);
        receipt->canceled += domain_cancel(d);
    }
    status = drain_uninterrupted(first, end - CANCEL_BUDGET_NS / 2);
    if (status != COIR_ETIMEDOUT)
        return status;
    for (struct coir_domain *d = first; d; d = d->also)
        receipt->canceled += wait_wake_domain(d);
    spawn_drop_canceled(first->rt);
    return drain_uninterrupted(first, end);
}

/* ----------------------------------------------------------------------------------- finalize */

static void run_finalizers(struct coir_domain *d, coir_domain_receipt *r)
{
    struct coir_runtime *before = runtime_adopt_thread(d->rt); /* its panics are this runtime's */
    struct finalizer *f;

    while ((f = d->finalizers)) { /* no jobs and no visitors any more: ours alone */
        d->finalizers = f->older;
        r->finalizers++;
        if (job_try_masked(f->fn, f->arg, d) == COIR_PANICKED) {
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
    stall_limit_leave(d);
}

/* Not inlined: after a finalizer that has suspended this may be another thread (worker_here). */
static NOINLINE bool visit(struct coir_runtime *rt)
{
    return runtime_visit(rt);
}

/* A domain without domains below it: its end. Its books go to the parent, or to *books. */
static void finish(struct coir_domain *d, coir_domain_receipt *r, struct domain_books *books)
{
    struct coir_runtime *rt = d->rt;
    char name[DOMAIN_NAME_BYTES];
    uint64_t leaked;
    bool visiting;

    run_finalizers(d, r);
    obligation_leak_domain(d);
    await_visitors(d); /* late ones that were told that it closes */
    leaked = charge_end(d);
    lock_take(&d->lock);
    d->books.memory_leaked += leaked;
    lock_drop(&d->lock);
    lock_take(&rt->domains_lock);
    visiting = visit(rt); /* the domain has kept it open */
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
    runtime_leave(rt, visiting);
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

/* Ends one that has drained; it stays if it has not. status: of the drain of all; hold: as give_up_claim. */
static int end(struct coir_domain *d, int status, bool hold, int64_t asked, coir_domain_receipt *r, int64_t *begin)
{
    if (status != COIR_OK && drain_one(d, 0) == COIR_OK)
        status = COIR_OK; /* it was others that have not */
    hostcall_domain_drained(d->rt, d->name, coir_now() - asked, status);
    if (status == COIR_OK) {
        if (r->phase != COIR_PHASE_FINALIZE)
            begin_phase(r, COIR_PHASE_FINALIZE, begin);
        finish_all(d, r);
    } else {
        write_unfinished(d, r);
        give_up_claim(d, hold);
    }
    return status;
}

/* Of several, the receipt has all that was canceled, told and named, and else the figures of the last. hold: who has
 * not ended is still held. */
static int close_claimed(struct coir_domain *first, int64_t deadline, bool hold, coir_domain_receipt *r)
{
    int64_t asked = coir_now(), begin = asked;
    int status = drain(first, deadline), worst = COIR_OK;
    struct coir_domain *next;

    if (status == COIR_ETIMEDOUT || status == COIR_ECANCELED) {
        begin_phase(r, COIR_PHASE_CANCEL, &begin);
        status = cancel(first, r);
    }
    for (struct coir_domain *d = first; d; d = next) {
        int own;

        next = d->also; /* d may go */
        own = end(d, status, hold, asked, r, &begin);
        worst = own == COIR_OK ? worst : own;
    }
    r->phase_ns[r->phase] = coir_now() - begin;
    return worst;
}

/* It is claimed. */
static int close_alone(struct coir_domain *d, int64_t deadline, bool hold, coir_domain_receipt *receipt)
{
    coir_domain_receipt own;

    if (!receipt)
        receipt = &own;
    memset(receipt, 0, sizeof *receipt);
    d->also = NULL;
    ask(d);
    return close_claimed(d, deadline, hold, receipt);
}

static int64_t deadline_after(int64_t ns)
{
    return ns < 0 ? COIR_NEVER : time_after(coir_now(), ns);
}

/* Whoever closes one below does so in its own time, or ours is over. */
int domain_close_held(struct coir_domain *d, int64_t drain_ns, coir_domain_receipt *receipt)
{
    int64_t deadline = deadline_after(drain_ns);
    unsigned turns = 0;
    int status;

    while ((status = claim(d, true)) != COIR_OK) {
        if (status == COIR_EBUSY && coir_now() >= time_after(deadline, CANCEL_BUDGET_NS))
            return status;
        pause_for_others(&turns);
    }
    return close_alone(d, deadline, true, receipt);
}

int coir_domain_close(coir_domain *d, int64_t drain_ns, coir_domain_receipt *receipt)
{
    unsigned turns = 0;
    int status;

    if (!d)
        return COIR_EINVAL;
    if (runtime_forked(d->rt))
        return COIR_EFORKED;
    if (domain_holds_caller(d))
        return COIR_EDEADLK;
    domain_visit(d);
    while ((status = claim(d, false)) == COIR_EAGAIN)
        pause_for_others(&turns);
    domain_leave(d);
    return status == COIR_OK ? close_alone(d, deadline_after(drain_ns), false, receipt) : status;
}

int coir_domain_finalizer(coir_domain *d, coir_fn *fn, void *arg)
{
    struct finalizer *f;
    int status = COIR_OK;

    if (!d || !fn)
        return COIR_EINVAL;
    if (runtime_forked(d->rt))
        return COIR_EFORKED;
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

/* Claims the roots that nobody else is closing, puts them into the list and asks them to end. False: there are
 * others. The runtime is draining: that was set before the lock is taken, so whoever opens a root either has
 * linked it or sees the flag. */
static bool claim_roots(struct coir_runtime *rt, struct coir_domain **first, size_t *claimed)
{
    size_t roots = 0, before = *claimed;

    lock_take(&rt->domains_lock);
    for (struct coir_domain *d = rt->domains; d; d = d->next) {
        roots++;
        if (d->busy || any_busy_below(d, true))
            continue;
        claim_all(d, true);
        d->also = *first;
        *first = d;
        ++*claimed;
    }
    lock_drop(&rt->domains_lock);
    if (*claimed > before)
        ask(*first);
    return *claimed == roots;
}

/* What the runtime's receipt has to say of its domains: jobs that plain threads run are in no other books. */
static void add_to_receipt(const coir_domain_receipt *sum, coir_receipt *receipt)
{
    receipt->canceled += sum->canceled;
    receipt->told += sum->told;
    for (unsigned i = 0; i < sum->stuck_count && receipt->left_count < COIR_LEFT_MAX; i++) {
        const coir_stuck *s = &sum->stuck[i];

        receipt->left[receipt->left_count++] =
            (coir_job_info){.job = s->job, .fn = s->fn, .worker = -1};
    }
}

/* All at once: one that does not end keeps no other from it, and all share the budget. */
bool drain_domains(struct coir_runtime *rt, int64_t deadline, coir_receipt *receipt)
{
    struct coir_domain *first = NULL;
    coir_domain_receipt sum = {0};
    size_t claimed = 0;
    unsigned turns = 0;
    bool all;

    while (!(all = claim_roots(rt, &first, &claimed)) && coir_now() < deadline)
        pause_for_others(&turns);
    if (first && close_claimed(first, deadline, false, &sum) != COIR_OK)
        all = false;
    add_to_receipt(&sum, receipt);
    return all;
}
