/* SPDX-License-Identifier: MIT */
/*
 * mutex.c - mutual exclusion for jobs and threads, with poisoning.
 *
 * One word holds the owner's identity (16-byte aligned) and four flags. Free and without flags it is
 * zero, so locking is one CAS from zero and unlocking one CAS to zero.
 *
 * Barging, bounded. Handing a mutex over to a waiter that sleeps keeps it locked until that waiter
 * runs; everyone who comes meanwhile must sleep too, and so on (a convoy). So unlock frees the
 * mutex and wakes the first waiter, which competes. If it loses it returns to the head of the queue,
 * and the next unlock hands over. WOKEN says that one is on its way: no second one is woken, so there
 * is one loser at a time, and waiters stay in order.
 *
 * Invariants (W1 to W4 are in waitq.c)
 *   M1  WAITERS is set iff the queue is not empty, whenever LOCK is free. So a fast unlock, which is a
 *       CAS from the bare owner, leaves no waiter behind.
 *   M2  If the mutex is free and WAITERS is set, WOKEN is. Who was woken clears it: by taking the
 *       mutex (whose unlock then looks at the queue), by going back to the queue while another
 *       holds it, or, when it must give up, by waking the next in its place. So no wake-up is lost.
 *   M3  held and the owner are the holder's; a waiter that is handed the mutex finds itself owner.
 *
 * Orderings
 *   WORD   unlock (release) -> lock (acquire), also across flags: all is one word.
 *
 * Destruction: unlock's last access is the CAS or store that frees or hands over (W2).
 */
#include "mutex.h"

#include "report.h"

#define WAITERS UINT64_C(2)
#define POISONED UINT64_C(4)
#define WOKEN UINT64_C(8)
#define FLAGS UINT64_C(15)

/* A waiter's item, when the mutex was handed over to it or is to be. */
static char handed, to_be_handed;

static uint64_t identity(const void *who)
{
    return (uint64_t)(uintptr_t)who;
}

static uint64_t owner_of(uint64_t s)
{
    return s & ~FLAGS;
}

static uint64_t look(struct mutex *m)
{
    return atomic_load_explicit(&m->state, memory_order_relaxed); /* own bits, or rechecked */
}

static uint64_t with_waiters(const struct mutex *m, uint64_t s)
{
    return waitq_empty(&m->queue) ? s & ~WAITERS : s | WAITERS; /* M1 */
}

bool mutex_is_held(struct mutex *m)
{
    return owner_of(look(m)) == identity(job_holder().who);
}

/* ------------------------------------------------------------------------------- giving it up */

/* LOCK is held and nobody shall own the mutex any more: drops LOCK and lets the first waiter go on. */
static void pass_on(struct mutex *m, uint64_t s)
{
    struct waiter *w = s & WOKEN ? NULL : waitq_take(&m->queue);

    s &= FLAGS;
    if (w && w->item == &to_be_handed) {
        w->item = &handed;
        s |= identity(w->who);
    } else if (w) {
        s |= WOKEN;
    }
    word_unlock(&m->state, with_waiters(m, s));
    if (w)
        waiter_wake(w);
}

static COLD void unlock_slowly(struct mutex *m)
{
    pass_on(m, word_lock(&m->state));
}

/* ---------------------------------------------------------------------------------- poisoning */

static void poison(struct mutex *m)
{
    uint64_t s = word_lock(&m->state);

    word_unlock(&m->state, s | POISONED);
}

/* The holder leaves by a panic, or has returned: B4. */
static void on_leave(struct held *h, enum leave how)
{
    struct mutex *m = CONTAINER_OF(h, struct mutex, held);

    if (m->policy == COIR_MUTEX_ABORT)
        fatal("a job %s while it held mutex %p, whose policy is to abort",
              how == LEAVE_RAISED ? "panicked" : "ended", (void *)m);
    poison(m);
    if (how == LEAVE_RAISED)
        return;
    held_remove(h);
    pass_on(m, word_lock(&m->state));
}

static const void *mutex_held(const struct held *h)
{
    return CONTAINER_OF(h, const struct mutex, held);
}

static bool mutex_aborts(const struct held *h)
{
    return CONTAINER_OF(h, const struct mutex, held)->policy == COIR_MUTEX_ABORT;
}

static const struct held_kind holding = {on_leave, mutex_held, HELD_LOCK, NULL, mutex_aborts};

/* ----------------------------------------------------------------------------------- taking it */

static int taken(struct mutex *m, const struct holder *h)
{
    held_push(h->list, &m->held, &holding);
    return UNLIKELY(look(m) & POISONED) ? COIR_EPOISONED : COIR_OK;
}

/* Takes it if it is free, whatever the flags. */
static bool try_take(struct mutex *m, const struct holder *h)
{
    uint64_t s = look(m);
    unsigned turns = 0;

    while (!owner_of(s)) {
        if (s & WORD_LOCK) {
            lock_pause(&turns);
            s = look(m);
        } else if (atomic_compare_exchange_weak_explicit(&m->state, &s, s | identity(h->who),
                                                         memory_order_acquire,
                                                         memory_order_relaxed)) { /* WORD */
            return true;
        }
    }
    return false;
}

/* For a holder that runs on another processor and is about to unlock. */
static bool spin(struct mutex *m, const struct holder *h)
{
    struct worker *w = worker_here();

    if (w && w->runtime->worker_count == 1)
        return try_take(m, h);
    for (unsigned turns = 0; turns < SPIN_TURNS && !(look(m) & WAITERS); turns++) {
        if (try_take(m, h))
            return true;
        arch_relax();
    }
    return try_take(m, h);
}

/* The waiter has been woken and runs: takes the mutex, if it is free. */
static bool retake(struct mutex *m, const struct holder *h)
{
    uint64_t s = word_lock(&m->state);
    bool is_free = !owner_of(s);

    if (is_free)
        s = (s & ~WOKEN) | identity(h->who);
    word_unlock(&m->state, s);
    return is_free;
}

/* Takes the mutex if it has become free, else queues: the last look and the entry are one step. A
 * loser has been woken before, so that WOKEN is its own. */
static bool take_or_queue(struct mutex *m, struct waiter *w, bool loser)
{
    uint64_t s = word_lock(&m->state);
    bool is_free = !owner_of(s);

    if (loser)
        s &= ~WOKEN;
    if (is_free)
        s |= identity(w->who);
    else if (loser)
        waitq_prepend(&m->queue, w);
    else
        waitq_append(&m->queue, w);
    word_unlock(&m->state, with_waiters(m, s));
    return is_free;
}

/* It was woken, and now cannot even wait: whoever is next goes in its place (M2). */
static void yield_turn(struct mutex *m)
{
    uint64_t s = word_lock(&m->state) & ~WOKEN;

    if (owner_of(s))
        word_unlock(&m->state, s);
    else
        pass_on(m, s);
}

static void leave_queue(struct mutex *m, struct waiter *w)
{
    uint64_t s = word_lock(&m->state);

    waitq_remove(&m->queue, w);
    word_unlock(&m->state, with_waiters(m, s));
}

/* Waits until it owns the mutex: COIR_OK. */
static int wait_for(struct mutex *m, const struct holder *h, int64_t deadline)
{
    struct sleeper s;
    struct waiter w = {.sleeper = &s, .who = h->who};

    for (bool loser = false;; loser = true) {
        int status = sleeper_begin(&s, "mutex", m);

        if (status != COIR_OK) {
            if (loser)
                yield_turn(m);
            return status;
        }
        w.item = loser ? &to_be_handed : NULL;
        if (take_or_queue(m, &w, loser)) {
            sleeper_abandon(&s);
            return COIR_OK;
        }
        status = sleeper_sleep(&s, deadline);
        if (status != COIR_OK) {
            leave_queue(m, &w);
            return status;
        }
        if (w.item == &handed || retake(m, h))
            return COIR_OK;
    }
}

static COLD int lock_slowly(struct mutex *m, int64_t deadline)
{
    struct holder h = job_holder();
    const void *owner = (const void *)(uintptr_t)owner_of(look(m));
    int status;

    if (owner && job_waits_below(owner))
        return COIR_EDEADLK;
    if (spin(m, &h))
        return taken(m, &h);
    status = wait_for(m, &h, deadline);
    return status == COIR_OK ? taken(m, &h) : status;
}

/* -------------------------------------------------------------------------------- public part */

int coir_mutex_init(coir_mutex *mutex, int policy)
{
    if (!mutex || (policy != COIR_MUTEX_POISON && policy != COIR_MUTEX_ABORT))
        return COIR_EINVAL;
    *mutex_of(mutex) = (struct mutex){.policy = (uint32_t)policy};
    return COIR_OK;
}

static inline int lock(struct mutex *m, int64_t deadline)
{
    struct job *j = job_plain();
    uint64_t is_free = 0;

    if (!m)
        return COIR_EINVAL;
    if (LIKELY(j && atomic_compare_exchange_strong_explicit(&m->state, &is_free, identity(j),
                                                            memory_order_acquire,
                                                            memory_order_relaxed))) { /* WORD */
        held_push(&j->held, &m->held, &holding);
        return COIR_OK;
    }
    return lock_slowly(m, deadline);
}

int coir_mutex_lock_until(coir_mutex *mutex, int64_t deadline)
{
    return lock(mutex_of(mutex), deadline);
}

int coir_mutex_lock(coir_mutex *mutex)
{
    return lock(mutex_of(mutex), COIR_NEVER);
}

int coir_mutex_try_lock(coir_mutex *mutex)
{
    struct mutex *m = mutex_of(mutex);
    struct holder h;

    if (!m)
        return COIR_EINVAL;
    h = job_holder();
    if (try_take(m, &h))
        return taken(m, &h);
    return owner_of(look(m)) == identity(h.who) ? COIR_EDEADLK : COIR_EBUSY;
}

int coir_mutex_unlock(coir_mutex *mutex)
{
    struct mutex *m = mutex_of(mutex);
    struct job *j = job_plain();
    uint64_t owner, bare;

    if (!m)
        return COIR_EINVAL;
    bare = identity(j ? j : job_holder().who);
    owner = owner_of(look(m));
    if (UNLIKELY(owner != bare))
        return owner ? COIR_EPERM : COIR_EINVAL;
    held_remove(&m->held);
    if (UNLIKELY(!atomic_compare_exchange_strong_explicit(&m->state, &bare, 0, memory_order_release,
                                                          memory_order_relaxed))) /* WORD */
        unlock_slowly(m);
    return COIR_OK;
}

int coir_mutex_clear(coir_mutex *mutex, const char *reason)
{
    struct mutex *m = mutex_of(mutex);
    uint64_t s;

    if (!m || !reason || !*reason)
        return COIR_EINVAL;
    if (!mutex_is_held(m))
        return COIR_EPERM;
    s = word_lock(&m->state);
    word_unlock(&m->state, s & ~POISONED);
    if (!(s & POISONED))
        return COIR_ENOENT;
    report_cleared("mutex", m, reason);
    return COIR_OK;
}
