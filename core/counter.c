/* SPDX-License-Identifier: MIT */
/*
 * counter.c - one word between jobs and those who wait for them.
 *
 * Why a counter and not a future: a future is an allocation per job and has one owner of the
 * result; a counter is a word in the caller's frame, and a thousand jobs can owe it.
 *
 * Invariants
 *   C1  The word is settled when no unit is owed and neither WAITERS nor LOCK is set. Then nobody
 *       but the counter's owner touches it: a wait may return and the memory go.
 *   C2  WAITERS is set, by the CAS that takes LOCK, only while a unit is owed. So the release of the
 *       last unit either leaves a settled word and is the last access, or sees WAITERS.
 *   C3  Who releases the last unit with WAITERS set is the finisher. Until it has taken LOCK,
 *       detached the list and stored the settled word, no waiter leaves: one that wants to
 *       (deadline) finds no unit owed and waits to be released.
 *   C4  A failure record is written once, before its job's unit is released.
 *   C5  While LOCAL is set the units that are owed are those of the word and those of `mine`; the word alone
 *       may be below zero and says nothing. `mine` is plain: only its owner's stack touches it. (One word with
 *       plain stores by the owner loses what others release.) So nobody is the finisher before the
 *       owner has told the word what it owes, with which LOCAL goes; it does so before it parks or ends.
 *   C6  Who is foretold has the counter, whoever frees it as soon as it settles: WAITERS, which the finisher
 *       keeps without LOCK meanwhile, leaves the word unsettled, and as no unit is owed the list only grows (C3).
 *   C7  While APART is set the units by hand are those of `mine`, under LOCK. Who releases one looks before, so that
 *       the release is one step, and its last access, in either place: after a step too much it would have to come back.
 *
 * Orderings
 *   SETTLE  a release of a unit (release) -> the load that finds the word settled (acquire), or the
 *           finisher's LOCK. The releases form one release sequence, so all jobs' work is seen, not only the last's.
 *   LOCK    drop (release) -> take (acquire): list and nodes.
 *   NODE    the finisher's store of released (release) -> the waiter's load (acquire): the outcome
 *           in the node, and that the finisher is done with it.
 *   RECORD  the store of claimed == 2 (release) -> its load (acquire): the failure record.
 */
#include "counter.h"

/* Takes LOCK, setting `also` with it. False without it if the word has settled and also is set. */
static bool lock(struct counter *c, uint64_t also)
{
    uint64_t s = atomic_load_explicit(&c->state, memory_order_acquire); /* SETTLE */
    unsigned turns = 0;

    for (;;) {
        if (also && counter_is_settled(s))
            return false;
        if (s & COUNTER_LOCK) {
            spin_pause(&turns);
            s = atomic_load_explicit(&c->state, memory_order_acquire); /* SETTLE */
        } else if (atomic_compare_exchange_weak_explicit(&c->state, &s, s | COUNTER_LOCK | also,
                                                         memory_order_acquire,
                                                         memory_order_acquire)) { /* LOCK */
            return true;
        }
    }
}

static void unlock(struct counter *c, uint64_t also)
{
    atomic_fetch_and_explicit(&c->state, ~(COUNTER_LOCK | also), memory_order_release); /* LOCK */
}

static void set_listed(struct wait_node *node, bool listed)
{
    atomic_store_explicit(&node->listed, listed, memory_order_relaxed); /* carried by LOCK and SETTLE */
}

static bool is_listed(struct wait_node *node)
{
    return atomic_load_explicit(&node->listed, memory_order_relaxed); /* a "no" is final */
}

/* LOCK. Takes what has come since `seen`; whether one of them is to be foretold. */
static bool claim(struct wait_node *node, const struct wait_node *seen)
{
    bool foretold = false;

    for (; node != seen; node = node->next) {
        set_listed(node, false);
        foretold |= node->foretold;
    }
    return foretold;
}

static void foretell(struct wait_node *node, const struct wait_node *seen, int outcome)
{
    for (; node != seen; node = node->next)
        if (node->foretold) {
            node->outcome = outcome;
            node->settled(node, SETTLING);
        }
}

/* The last unit has gone and there are waiters: lets them go. */
static NOINLINE void finish(struct counter *c)
{
    struct wait_node *node, *next, *seen = NULL;
    int outcome;

    lock(c, 0);
    outcome = counter_outcome_of(atomic_load_explicit(&c->state, memory_order_relaxed)); /* LOCK */
    while (UNLIKELY(claim(node = c->waiters, seen))) {
        unlock(c, 0); /* C6 */
        foretell(node, seen, outcome);
        seen = node;
        lock(c, 0);
    }
    c->waiters = NULL;
    unlock(c, COUNTER_WAITERS); /* C1: the last access */

    for (; node; node = next) {
        next = node->next;
        node->outcome = outcome;
        node->settled(node, outcome);
    }
}

bool counter_owe_more(struct counter *c)
{
    uint64_t s = atomic_load_explicit(&c->state, memory_order_relaxed); /* rechecked by the CAS */

    do
        if (!counter_is_owed(s))
            return false;
    while (!atomic_compare_exchange_weak_explicit(&c->state, &s, s + COUNTER_ONE, memory_order_relaxed,
                                                  memory_order_relaxed)); /* as counter_owe */
    return true;
}

void counter_settle(struct counter *c, uint64_t n)
{
    uint64_t was = atomic_fetch_sub_explicit(&c->state, n * COUNTER_ONE,
                                             memory_order_release); /* SETTLE */

    ASSERT(was & COUNTER_LOCAL || was >= n * COUNTER_ONE);
    if (UNLIKELY(was & COUNTER_WAITERS) && was < (n + 1) * COUNTER_ONE && !(was & COUNTER_LOCAL)) /* C5 */
        finish(c);
}

/* C7. False: they are in the word again. */
static bool settle_apart(struct counter *c)
{
    uint32_t apart;

    lock(c, 0);
    apart = atomic_load_explicit(&c->mine, memory_order_relaxed); /* LOCK */
    if (apart)
        atomic_store_explicit(&c->mine, apart - 1, memory_order_relaxed); /* LOCK */
    unlock(c, 0);
    return apart != 0;
}

void counter_settle_by_hand(struct counter *c)
{
    uint64_t s = atomic_load_explicit(&c->state, memory_order_relaxed); /* rechecked by the CAS */

    do
        if (UNLIKELY(s & COUNTER_APART) && s < COUNTER_BY_HAND && settle_apart(c)) /* what was added since goes first */
            return;
    while (!atomic_compare_exchange_weak_explicit(&c->state, &s, s - COUNTER_BY_HAND, memory_order_release,
                                                  memory_order_relaxed)); /* SETTLE */
    if (UNLIKELY(s & COUNTER_WAITERS) && s < COUNTER_BY_HAND + COUNTER_ONE && !(s & COUNTER_LOCAL)) /* C5 */
        finish(c);
}

bool counter_set_apart(struct counter *c)
{
    uint64_t s = atomic_load_explicit(&c->state, memory_order_relaxed), to; /* rechecked by the CAS */

    if (s < COUNTER_BY_HAND)
        return false;
    counter_note(c, COIR_CANCELED, NULL);
    lock(c, 0);
    s = atomic_load_explicit(&c->state, memory_order_relaxed); /* rechecked by the CAS */
    do
        to = s % COUNTER_BY_HAND | COUNTER_APART;
    while (!atomic_compare_exchange_weak_explicit(&c->state, &s, to, memory_order_relaxed,
                                                  memory_order_relaxed)); /* LOCK is still to be dropped */
    atomic_store_explicit(&c->mine, (uint32_t)(s / COUNTER_BY_HAND), memory_order_relaxed); /* LOCK */
    unlock(c, 0);
    if (UNLIKELY(to & COUNTER_WAITERS) && to < COUNTER_ONE)
        finish(c);
    return true;
}

void counter_put_back(struct counter *c)
{
    uint64_t apart;

    lock(c, 0);
    apart = atomic_load_explicit(&c->mine, memory_order_relaxed); /* LOCK */
    atomic_store_explicit(&c->mine, 0, memory_order_relaxed);     /* LOCK */
    atomic_fetch_add_explicit(&c->state, apart * COUNTER_BY_HAND - COUNTER_APART, memory_order_relaxed); /* LOCK */
    unlock(c, 0);
}

void counter_share(struct counter *c)
{
    uint64_t mine = atomic_load_explicit(&c->mine, memory_order_relaxed);  /* own write */
    uint64_t s = atomic_load_explicit(&c->state, memory_order_relaxed), to; /* rechecked by the CAS */

    atomic_store_explicit(&c->mine, 0, memory_order_relaxed); /* read by the owner alone */
    do {
        if (!(s & COUNTER_LOCAL)) /* another waiter was first; who settles it since then finishes it */
            return;
        to = (s + mine * COUNTER_ONE) & ~COUNTER_LOCAL;
    } while (!atomic_compare_exchange_weak_explicit(&c->state, &s, to, memory_order_release,
                                                    memory_order_relaxed)); /* SETTLE: what it has run itself */
    if (UNLIKELY(to & COUNTER_WAITERS) && to < COUNTER_ONE)
        finish(c);
}

void counter_note(struct counter *c, int outcome, const coir_failure *failure)
{
    uint64_t s = atomic_load_explicit(&c->state, memory_order_relaxed); /* rechecked by the CAS */
    uint32_t free = 0;

    if (failure && atomic_compare_exchange_strong_explicit(&c->claimed, &free, 1, memory_order_relaxed,
                                                           memory_order_relaxed)) { /* one writer */
        c->failure = *failure;
        atomic_store_explicit(&c->claimed, 2, memory_order_release); /* RECORD */
    }
    while (counter_outcome_of(s) < outcome) {
        uint64_t worse = (s & ~COUNTER_OUTCOME) | (uint64_t)outcome << COUNTER_OUTCOME_SHIFT;

        if (atomic_compare_exchange_weak_explicit(&c->state, &s, worse, memory_order_relaxed,
                                                  memory_order_relaxed)) /* carried by SETTLE */
            break;
    }
}

void counter_fail(struct counter *c, int outcome, const coir_failure *failure)
{
    counter_note(c, outcome, failure);
    counter_settle(c, 1);
}

void counter_cancel(struct counter *c)
{
    atomic_fetch_or_explicit(&c->state, COUNTER_CANCEL, memory_order_seq_cst); /* ASK, fiber.c */
}

bool counter_enlist(struct counter *c, struct wait_node *node)
{
    if (!lock(c, COUNTER_WAITERS)) /* C2 */
        return false;
    node->prev = NULL;
    node->next = c->waiters;
    if (node->next)
        node->next->prev = node;
    c->waiters = node;
    set_listed(node, true);
    unlock(c, 0);
    return true;
}

static void unlink_node(struct counter *c, struct wait_node *node)
{
    if (node->prev)
        node->prev->next = node->next;
    else
        c->waiters = node->next;
    if (node->next)
        node->next->prev = node->prev;
    set_listed(node, false);
}

/* Drops LOCK. WAITERS goes with the last waiter, but only while a unit is owed: else the release of
 * the last unit has seen it, and that finisher must still find an unsettled word (C3). */
static void unlock_delisted(struct counter *c)
{
    uint64_t s = atomic_load_explicit(&c->state, memory_order_relaxed); /* rechecked by the CAS */
    uint64_t gone;

    do
        gone = COUNTER_LOCK | (!c->waiters && counter_is_owed(s) ? COUNTER_WAITERS : 0);
    while (!atomic_compare_exchange_weak_explicit(&c->state, &s, s & ~gone, memory_order_release,
                                                  memory_order_relaxed)); /* LOCK */
}

bool counter_try_delist(struct counter *c, struct wait_node *node)
{
    bool mine;

    if (!is_listed(node))
        return false; /* a finisher has it, and the counter may be gone */
    lock(c, 0);
    /* LOCK; C3: to leave under the finisher would do no harm, but tell of a deadline where all is settled. */
    mine = is_listed(node) && counter_is_owed(atomic_load_explicit(&c->state, memory_order_relaxed));
    if (mine)
        unlink_node(c, node);
    unlock_delisted(c);
    return mine;
}

void counter_delist(struct counter *c, struct wait_node *node)
{
    unsigned turns = 0;

    if (wait_node_released(node))
        return; /* the counter may be gone */
    if (counter_try_delist(c, node))
        return;
    while (!wait_node_released(node)) /* C3: a finisher is on its way, or has the node */
        spin_pause(&turns);
}

/* -------------------------------------------------------------------------------- public part */

int coir_counter_failure(const coir_counter *counter, coir_failure *failure)
{
    struct counter *c = counter_of((coir_counter *)(uintptr_t)counter);

    if (!c || !failure)
        return COIR_EINVAL;
    if (atomic_load_explicit(&c->claimed, memory_order_acquire) != 2) /* RECORD */
        return COIR_ENOENT;
    *failure = c->failure;
    return COIR_OK;
}
