/* SPDX-License-Identifier: MIT */
/*
 * balance.c - whether the books of a runtime agree with what is there.
 *
 * The books say how many jobs have not ended; the queues and stacks hold them. Under load the two cannot be
 * read at one moment, and stopping the workers for it would be a stall of our own making. So they are compared
 * when it is quiet: every other worker sleeps, no thread is on a visit, and nothing has moved between
 * the first look and the last. What does not agree then is looked at again, a few times: a plain thread
 * may have been stopped in the middle of a submit. A runtime that is never quiet is not judged.
 *
 * QUIET. A worker that goes to sleep announces it (park.c, seq_cst) after its last job -> whoever reads the count
 * of sleepers (acquire) sees what it has counted and where it has left its stacks. One that wakes up meanwhile
 * changes that count, or has slept once more: then what was read is thrown away.
 */
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "books.h"
#include "domain.h"
#include "peek.h"
#include "after.h"

#define LOOKS 16 /* at a runtime that moves, or does not balance */

/* Every figure that moves when something does; the sum of those that only grow. */
struct moment {
    uint64_t moved, park;
};

static struct moment now(struct coir_runtime *rt)
{
    struct moment m = {inject_accepted(&rt->inject) + tally_read(&rt->ended_outside), 0};

    for (unsigned i = 0; i < rt->worker_count; i++) {
        struct worker *w = rt->worker[i];

        m.moved += worker_turns(w) + tally_read(&w->switches) + tally_read(&w->sleeps) +
                   tally_read(&w->unparks);
    }
    m.park = atomic_load_explicit(&rt->park.counts, memory_order_acquire) & ~PARK_WATCHED; /* QUIET; who watches sleeps */
    return m;
}

static bool is_quiet(struct coir_runtime *rt, const struct moment *m)
{
    struct worker *w = worker_here();
    unsigned others = rt->worker_count - (w && w->runtime == rt);

    return m->park == (uint64_t)others << 32 && /* they sleep, and none has been woken to search */
           atomic_load_explicit(&rt->visitors, memory_order_acquire) == 0 && /* VISIT */
           !runtime_flag(&rt->draining);
}

/* ------------------------------------------------------------------------------- what is there */

static void count_fiber(struct fiber *f, void *arg)
{
    coir_books *b = arg;

    b->started += peek_jobs(f);
    b->stacks++;
    b->stacks_used += !fiber_is(f, FIBER_IDLE);
}

static void count_pending(struct counter *after, struct counter *done, void *arg)
{
    coir_books *b = arg;

    (void)after;
    (void)done;
    b->queued++;
}

static void count(struct coir_runtime *rt, coir_books *b)
{
    uint64_t by_outcome[COIR_PANICKED + 1];

    *b = (coir_books){.ended = books_ended(rt, by_outcome), .accepted = books_accepted(rt)};
    after_each(rt, count_pending, b);
    b->queued += atomic_load_explicit(&rt->inject.work_count, memory_order_relaxed); /* nothing moves */
    worker_each_fiber(rt, count_fiber, b);
    lock_take(&rt->stacks.lock);
    b->stacks_kept = rt->stacks.depot.count + rt->stacks.cold_count;
    lock_drop(&rt->stacks.lock);
    for (unsigned i = 0; i < rt->worker_count; i++) {
        b->queued += deque_count(&rt->worker[i]->deque);
        b->stacks_kept += peek_kept(rt->worker[i]);
    }
}

/* ------------------------------------------------------------------------------- the verdict */

/* A domain's unit is owed before a job is counted, and released after its end is: so in between there may be
 * one too many, never one too few. */
static bool domain_is_short(struct coir_domain *d, coir_books *b)
{
    struct domain_books sum = {0};
    uint64_t ended = 0, in_flight;

    domain_sum(d, &sum);
    in_flight = domain_in_flight(d);
    for (int o = 0; o <= COIR_PANICKED; o++)
        ended += sum.ended[o];
    if (sum.admitted <= ended + in_flight && sum.held <= sum.taken)
        return false;
    snprintf(b->what, sizeof b->what,
             "domain %s: %llu jobs admitted, %llu ended, %llu in flight; %llu obligations taken, %llu held",
             d->name, (unsigned long long)sum.admitted, (unsigned long long)ended,
             (unsigned long long)in_flight, (unsigned long long)sum.taken, (unsigned long long)sum.held);
    return true;
}

static bool domains_are_short(struct coir_runtime *rt, coir_books *b)
{
    bool is_short = false;

    lock_take(&rt->domains_lock);
    for (struct coir_domain *d = rt->domains; d && !is_short; d = d->next)
        is_short = domain_is_short(d, b);
    lock_drop(&rt->domains_lock);
    return is_short;
}

/* Says what does not agree. */
static bool agrees(struct coir_runtime *rt, coir_books *b)
{
    if (b->accepted != b->ended + b->queued + b->started)
        snprintf(b->what, sizeof b->what, "jobs: %llu accepted, %llu ended, %llu queued, %llu started",
                 (unsigned long long)b->accepted, (unsigned long long)b->ended,
                 (unsigned long long)b->queued, (unsigned long long)b->started);
    else if (b->stacks != b->stacks_used + b->stacks_kept)
        snprintf(b->what, sizeof b->what, "stacks: %llu, %llu in use, %llu kept for later",
                 (unsigned long long)b->stacks, (unsigned long long)b->stacks_used,
                 (unsigned long long)b->stacks_kept);
    else
        return !domains_are_short(rt, b);
    return false;
}

/* One look: COIR_EAGAIN if something has moved. */
static int look(struct coir_runtime *rt, coir_books *b)
{
    struct moment before = now(rt), after;
    bool balances;

    if (!is_quiet(rt, &before))
        return COIR_EAGAIN;
    count(rt, b);
    balances = agrees(rt, b);
    atomic_thread_fence(memory_order_acquire); /* QUIET: all was read before the last look */
    after = now(rt);
    if (before.moved != after.moved || !is_quiet(rt, &after))
        return COIR_EAGAIN;
    return balances ? COIR_OK : COIR_EIMBALANCE;
}

int coir_books_check(coir_runtime *rt, coir_books *books)
{
    coir_books own;
    int status = COIR_EAGAIN;

    if (!rt)
        return COIR_EINVAL;
    if (runtime_forked(rt))
        return COIR_EFORKED;
    books = books ? books : &own;
    memset(books, 0, sizeof *books);
    for (int i = 0; i < LOOKS && status != COIR_OK; i++) {
        if (i > 0)
            sched_yield(); /* to a thread that may be in the middle of something */
        status = look(rt, books);
    }
    if (status != COIR_EIMBALANCE)
        books->what[0] = '\0';
    return status;
}
