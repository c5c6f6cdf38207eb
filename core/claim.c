/* SPDX-License-Identifier: MIT */
/*
 * claim.c - the right to close a domain: who has it, and what others may do to the tree meanwhile.
 *
 * All of it is under the tree's lock. A claim makes a domain and all below it busy, and closes them to outsiders: the
 * tree below is the closer's. Who has more to end than a domain (a pool's messages, a supervisor's children) holds it
 * first: it alone is busy, so nobody closes it or one above, but it stays open and those below may go. What lies in
 * memory that a finalizer frees is touched by who holds the domain, by its jobs, and by visitors. Who wants to close is
 * a visitor until it has the domain or is refused; then it touches nothing more.
 *
 * A supervisor that closes the domain of a child that has ended (reaped) is no rival to who closes above, but the tree is
 * not his until it has: he holds his domain, and all of it is closed to outsiders. To look at the tree below all the
 * same he keeps it still: none of it goes meanwhile.
 */
#include "claim.h"

/* Tree locked. Whether somebody is closing a domain below. reaped: also what a supervisor ends. */
static bool any_busy_below(const struct coir_domain *d, bool reaped)
{
    bool busy = false;

    for (const struct coir_domain *child = d->child; child && !busy; child = child->next)
        busy = (reaped || !child->reaped) && (child->busy || any_busy_below(child, reaped));
    return busy;
}

/* Tree locked. */
static void shut(struct coir_domain *d)
{
    atomic_store_explicit(&d->closing, true, memory_order_seq_cst); /* VISIT, domain.c */
    for (struct coir_domain *child = d->child; child; child = child->next)
        shut(child);
}

/* Tree locked. */
static void set_busy(struct coir_domain *d, bool busy)
{
    d->busy = busy;
    for (struct coir_domain *child = d->child; child; child = child->next)
        set_busy(child, busy);
}

/* Tree locked. A child's is its supervisor's to close: that is the job around it, and says so first. */
static bool may_close(const struct coir_domain *d)
{
    const struct job *j = *job_slot();

    return !d->supervised || (d->reaped && j && j->scope && j->scope->domain == d->parent);
}

/* Tree locked. */
static int look(const struct coir_domain *d, bool held)
{
    if (!may_close(d))
        return COIR_EPERM;
    if ((d->busy && !held) || any_busy_below(d, false))
        return COIR_EBUSY;
    return any_busy_below(d, true) ? COIR_EAGAIN : COIR_OK;
}

int claim_domain(struct coir_domain *d, bool held)
{
    int status;

    lock_take(&d->rt->domains_lock);
    status = look(d, held);
    if (status == COIR_OK)
        set_busy(d, true);
    if (status == COIR_OK || status == COIR_EAGAIN) {
        d->busy = true;
        shut(d);
    }
    lock_drop(&d->rt->domains_lock);
    return status;
}

bool claim_if_free(struct coir_domain *d)
{
    if (d->busy || any_busy_below(d, true))
        return false;
    set_busy(d, true);
    shut(d);
    return true;
}

void claim_give_up(struct coir_domain *d, bool hold)
{
    struct coir_runtime *rt = d->rt; /* both may go with the lock */

    lock_take(&rt->domains_lock);
    set_busy(d, false);
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

void claim_keep_still(struct coir_domain *d, bool still)
{
    lock_take(&d->rt->domains_lock);
    d->still = still;
    lock_drop(&d->rt->domains_lock);
}

static bool is_kept_still(const struct coir_domain *d)
{
    while ((d = d->parent) && !d->still)
        ;
    return d;
}

void claim_lock_tree(struct coir_domain *d)
{
    struct lock *lock = &d->rt->domains_lock;
    unsigned turns = 0;

    for (lock_take(lock); is_kept_still(d); lock_take(lock)) {
        lock_drop(lock);
        spin_pause(&turns); /* who looks does not suspend */
    }
}
