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
 * After COIR_ETIMEDOUT the claim is given up, but the domain stays closed to outsiders and canceled. Claims are claim.c's.
 *
 * A supervisor that closes the domain of a child that has ended is no rival, though it may take long, in a finalizer:
 * it is asked, and canceled, as all jobs are, and when they have ended there is none. So such a domain is held
 * first, drained, and claimed then.
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
#define NAP_NS COIR_MS

/* ------------------------------------------------------------------------------------ request */

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

static void turn_away(struct coir_domain *d)
{
    d->rt->stop_supervisors(d->rt, d);
    domain_turn_away(d, COIR_ESHUTDOWN);
}

static void ask(struct coir_domain *first)
{
    for (struct coir_domain *d = first; d; d = d->also)
        turn_away(d);
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
    await_visitors(d); /* late ones that were told that it closes, or discharge what has leaked */
    obligation_free_slots(d);
    leaked = charge_end(d);
    lock_take(&d->lock);
    d->books.memory_leaked += leaked;
    lock_drop(&d->lock);
    claim_lock_tree(d);
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

    r->phase_ns[r->phase] += now - *begin;
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
        claim_give_up(d, hold);
    }
    return status;
}

static int drain_or_cancel(struct coir_domain *first, int64_t deadline, coir_domain_receipt *r, int64_t *begin)
{
    int status = drain(first, deadline);

    if (status == COIR_ETIMEDOUT || status == COIR_ECANCELED) {
        begin_phase(r, COIR_PHASE_CANCEL, begin);
        status = cancel(first, r);
    }
    return status;
}

/* Of several, the receipt has all that was canceled, told and named, and else the figures of the last. status: of their
 * drain; hold: who has not ended is still held. */
static int end_claimed(struct coir_domain *first, int status, bool hold, int64_t asked, int64_t begin,
                       coir_domain_receipt *r)
{
    struct coir_domain *next;
    int worst = COIR_OK;

    for (struct coir_domain *d = first; d; d = next) {
        int own;

        next = d->also; /* d may go */
        own = end(d, status, hold, asked, r, &begin);
        worst = own == COIR_OK ? worst : own;
    }
    r->phase_ns[r->phase] += coir_now() - begin;
    return worst;
}

static int close_claimed(struct coir_domain *first, int64_t deadline, bool hold, coir_domain_receipt *r)
{
    int64_t asked = coir_now(), begin = asked;
    int status = drain_or_cancel(first, deadline, r, &begin);

    return end_claimed(first, status, hold, asked, begin, r);
}

/* A short time passes. A caller that is canceled has none left; to wait again it may. */
static void nap(int64_t *deadline)
{
    struct counter never = {.state = 0};
    int status;

    counter_owe(&never, 1);
    status = wait_must(&never, time_after(coir_now(), NAP_NS));
    if (status == COIR_ECANCELED && coir_now() < *deadline)
        *deadline = coir_now();
    else if (status == COIR_ENOMEM)
        coir_yield();
}

/* It is held. Whoever closes one below does so in its own time, or ours is over. */
static int claim_in_time(struct coir_domain *d, int64_t *deadline)
{
    int status;

    while ((status = claim_domain(d, true)) == COIR_EBUSY && coir_now() < time_after(*deadline, CANCEL_BUDGET_NS))
        nap(deadline);
    return status;
}

/* It is held; all of it is closed to outsiders, and supervisors go on in it until it has drained. The status of that;
 * *claim: of the claim then. */
static int drain_held(struct coir_domain *d, int64_t *deadline, coir_domain_receipt *r, int *claim)
{
    int64_t begin = coir_now();
    int status;

    turn_away(d);
    status = drain_or_cancel(d, *deadline, r, &begin);
    r->phase_ns[r->phase] += coir_now() - begin;
    if (r->phase == COIR_PHASE_CANCEL)
        *deadline = begin;
    *claim = claim_in_time(d, deadline);
    return status;
}

/* They go on in a finalizer that nothing ends. */
static void leave_unclaimed(struct coir_domain *d, int status, int64_t asked, coir_domain_receipt *r)
{
    hostcall_domain_drained(d->rt, d->name, coir_now() - asked, status);
    claim_keep_still(d, true);
    write_unfinished(d, r);
    claim_keep_still(d, false);
}

/* claim: COIR_OK, or COIR_EAGAIN: it is held. */
static int close_alone(struct coir_domain *d, int claim, int64_t deadline, bool hold, coir_domain_receipt *receipt)
{
    int64_t asked = coir_now();
    coir_domain_receipt own;
    int status = COIR_OK;

    if (!receipt)
        receipt = &own;
    memset(receipt, 0, sizeof *receipt);
    d->also = NULL;
    if (claim == COIR_EAGAIN)
        status = drain_held(d, &deadline, receipt, &claim);
    if (claim == COIR_OK) {
        ask(d);
        return status == COIR_OK ? close_claimed(d, deadline, hold, receipt)
                                 : end_claimed(d, status, hold, asked, coir_now(), receipt);
    }
    if (status != COIR_OK)
        leave_unclaimed(d, status, asked, receipt);
    if (!hold)
        domain_let_go(d);
    return status != COIR_OK ? status : COIR_EBUSY; /* no supervisor is left when it has drained */
}

static int64_t deadline_after(int64_t ns)
{
    return ns < 0 ? COIR_NEVER : time_after(coir_now(), ns);
}

static bool may_begin(int claim)
{
    return claim == COIR_OK || claim == COIR_EAGAIN;
}

int domain_close_held(struct coir_domain *d, int64_t drain_ns, coir_domain_receipt *receipt)
{
    int64_t deadline = deadline_after(drain_ns);
    int claim = claim_in_time(d, &deadline);

    return may_begin(claim) ? close_alone(d, claim, deadline, true, receipt) : claim;
}

int coir_domain_close(coir_domain *d, int64_t drain_ns, coir_domain_receipt *receipt)
{
    int claim;

    if (!d)
        return COIR_EINVAL;
    if (runtime_forked(d->rt))
        return COIR_EFORKED;
    if (domain_holds_caller(d))
        return COIR_EDEADLK;
    domain_visit(d);
    claim = claim_domain(d, false);
    domain_leave(d);
    return may_begin(claim) ? close_alone(d, claim, deadline_after(drain_ns), false, receipt) : claim;
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
        if (!claim_if_free(d))
            continue;
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
