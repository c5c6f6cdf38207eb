/* SPDX-License-Identifier: MIT */
/*
 * park.c - an event count with a list of sleepers.
 *
 * SLEEP. A publisher of work and a worker about to sleep must not miss each other.
 *
 *   publisher                          worker
 *   1 publish the work                 1 announce: sleeping += 1 (and searching -= 1)
 *   2 fence                            2 fence
 *   3 read counts; wake one            3 look at every queue once more, then sleep
 *
 * One fence comes first. If the publisher's: the worker's look sees the work. If the worker's: the
 * publisher sees a sleeper, and sees no searcher that has already given up looking. Either way
 * the work is seen. A publisher that meets a searcher leaves the waking to it: the searcher has not
 * announced yet, so its own look (3) comes after the publisher's fence.
 *
 * The worker's fence is membarrier(PRIVATE_EXPEDITED) where the kernel has it: it makes every
 * running thread of the process pass a full fence, so the publisher, which is the hot side, needs
 * only keep its program order. Sleeping costs microseconds anyway; a fence per spawn would cost
 * more than the spawn.
 *
 * ALONE. The last worker to announce needs no fence. Another one is counted out after it was counted in, so when it
 * publishes again it sees that count. And who is no worker publishes in the injector, under whose lock the last one
 * looks: before that look, and is seen, or after it, and sees the announcement. So a server sleeps without a
 * membarrier where one worker does all there is to do.
 *
 * TOKEN. A waker takes a sleeper off the list under the lock, counts it as searching, and exchanges
 * its word for WOKEN (release); the sleeper reads it (acquire). The exchange tells the waker how the
 * sleeper sleeps: on the word, or AWAY, which the sleeper sets by CAS (relaxed: a kick goes by the kernel and needs
 * nothing that was written before). A sleeper that leaves by itself
 * does so under the lock, so it knows whether a token is on its way, and then waits for it.
 *
 * SEARCH. At most one searcher wakes others: a worker that ends its search with work in hand, as the
 * last one, wakes the next if there is more (worker.c). A publisher that has just left the waking to it
 * published before it read the count; so the worker ends its search, passes the same fence as one that
 * goes to sleep, and then looks. The fence is paid only if somebody sleeps.
 *
 * WATCH. Of more workers than processors p.limit are awake, and what is published beyond that waits for one that watches:
 * it sleeps with a deadline, and looks again. Who stops to watch says so (counts) before it next announces that it sleeps.
 *
 *   publisher                          who watches
 *   1 publish the work                 1 counts: not watched any more
 *   2 fence                            2 announce, fence (SLEEP)
 *   3 read counts: watched, so go on   3 look at every queue once more, then sleep, or watch again
 *
 * If the publisher's fence comes first, the look sees the work. If the other's: what the publisher has read as watched
 * began later, so it ends later. Who watches sleeps soundly only if that look sees nothing. If it finds something to do
 * instead it searches first: its publishers relied on it, so it passes on what is left (SEARCH). That needs no
 * fence while another one watches: whoever left the waking to the searcher read counts before the search ended, and that
 * watch was begun then or later, or not ended; either way it ends, and looks, after the publisher's fence.
 * Nobody watches: nothing waits, and who is woken as one too many is the next that does (idle.c).
 */
#include "park.h"

#include <errno.h>
#include <linux/membarrier.h>

#define ONE_SLEEPING (UINT64_C(1) << 32)
#define ONE_SEARCHING UINT64_C(1)

static long membarrier(int command)
{
    return syscall(SYS_membarrier, command, 0, 0);
}

void park_init(struct park *p, unsigned workers)
{
    p->workers = workers;
    park_set_limit(p, UINT_MAX / 2);
#ifndef COIR_TSAN /* TSan sees no membarrier */
    p->asymmetric = membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0 &&
                    membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0;
#endif
}

/* Publishers rely on it, so it may not begin to be refused once the runtime is open; a kernel with many
 * processors may want for the memory to name them in, for a while. */
void park_fence_all(const struct park *p)
{
    unsigned turns = 0;

    if (!p->asymmetric) {
        fence_full(); /* SLEEP, SEARCH */
        return;
    }
    while (membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) != 0) {
        if (errno != ENOMEM)
            fatal("membarrier is refused since the runtime was opened (a seccomp filter?)");
        spin_pause(&turns);
    }
}

void park_search_begin(struct park *p)
{
    atomic_fetch_add_explicit(&p->counts, ONE_SEARCHING, memory_order_relaxed); /* only throttles */
}

bool park_search_end(struct park *p)
{
    uint64_t was = atomic_fetch_sub_explicit(&p->counts, ONE_SEARCHING,
                                             memory_order_relaxed); /* SEARCH: before the fence */

    if (park_searching(was) != 1 || !park_sleeping(was) || park_may_wait(p, was))
        return false;
    park_fence_all(p); /* SEARCH */
    return true;
}

bool park_watch_begin(struct park *p)
{
    return !(atomic_fetch_or_explicit(&p->counts, PARK_WATCHED, memory_order_acquire) & PARK_WATCHED); /* WATCH */
}

void park_watch_end(struct park *p)
{
    atomic_fetch_sub_explicit(&p->counts, PARK_WATCHED, memory_order_release); /* WATCH: before the next fence */
}

static void list_sleeper(struct park *p, struct parker *self)
{
    self->prev = NULL;
    self->next = p->sleepers;
    if (self->next)
        self->next->prev = self;
    p->sleepers = self;
    self->listed = true;
}

static void unlist_sleeper(struct park *p, struct parker *self)
{
    if (self->prev)
        self->prev->next = self->next;
    else
        p->sleepers = self->next;
    if (self->next)
        self->next->prev = self->prev;
    self->listed = false;
}

bool park_announce(struct park *p, struct parker *self, bool searching)
{
    uint64_t was;

    atomic_store_explicit(&self->word, PARKER_ASLEEP, memory_order_relaxed); /* before the lock */
    lock_take(&p->lock);
    list_sleeper(p, self);
    lock_drop(&p->lock);
    was = atomic_fetch_add_explicit(&p->counts, ONE_SLEEPING - (searching ? ONE_SEARCHING : 0),
                                    memory_order_relaxed); /* SLEEP: before the fence; ALONE: one word for all */
    if (park_sleeping(was) + 1 == p->workers)
        return true; /* ALONE */
    park_fence_all(p); /* SLEEP */
    return false;
}

/* Waits for the token of a waker that has taken us off the list. */
static void take_token(struct parker *self)
{
    unsigned turns = 0;

    while (!parker_woken(self))
        spin_pause(&turns);
}

bool park_retract(struct park *p, struct parker *self)
{
    bool listed;

    lock_take(&p->lock);
    listed = self->listed;
    if (listed) {
        unlist_sleeper(p, self);
        atomic_fetch_sub_explicit(&p->counts, ONE_SLEEPING, memory_order_relaxed); /* only throttles */
    }
    lock_drop(&p->lock);
    if (!listed)
        take_token(self);
    atomic_store_explicit(&self->word, PARKER_AWAKE, memory_order_relaxed); /* own again */
    return !listed;
}

bool park_sleep(struct park *p, struct parker *self, int64_t deadline)
{
    while (!parker_woken(self)) {
        futex_wait(&self->word, PARKER_ASLEEP, deadline);
        if (deadline != COIR_NEVER && coir_now() >= deadline)
            break;
    }
    return park_retract(p, self);
}

/* Lock held. */
static struct parker *pop_sleeper(struct park *p)
{
    struct parker *s = p->sleepers;

    if (s) {
        unlist_sleeper(p, s);
        atomic_fetch_sub_explicit(&p->counts, ONE_SLEEPING - ONE_SEARCHING,
                                  memory_order_relaxed); /* counted before it runs: throttles others */
    }
    return s;
}

/* Nothing of the sleeper is touched after the exchange, for it may be on its way out of the runtime,
 * unless it is AWAY: then it waits for its kick. */
void park_hand(struct parker *s)
{
    if (atomic_exchange_explicit(&s->word, PARKER_WOKEN, memory_order_release) == PARKER_AWAY) /* TOKEN */
        s->kick(s);
    else
        futex_wake(&s->word, 1);
}

struct parker *park_pick(struct park *p)
{
    struct parker *s = NULL;

    lock_take(&p->lock);
    if (!park_searching(atomic_load_explicit(&p->counts, memory_order_relaxed))) /* under lock */
        s = pop_sleeper(p);
    lock_drop(&p->lock);
    return s;
}

void park_wake_one(struct park *p)
{
    struct parker *s = park_pick(p);

    if (s)
        park_hand(s);
}

/* Those that are listed now: who lists itself afterwards looks once more, and sees what they are woken for.
 * All are taken at once: one by one, as many as were counted, would take newcomers and leave a sleeper. */
void park_wake_all(struct park *p)
{
    struct parker *all = NULL, *s;

    lock_take(&p->lock);
    while ((s = pop_sleeper(p))) {
        s->next = all; /* not listed any more: it waits for its token */
        all = s;
    }
    lock_drop(&p->lock);
    while ((s = all)) {
        all = s->next;
        park_hand(s);
    }
}
