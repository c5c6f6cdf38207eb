/* SPDX-License-Identifier: MIT */
/*
 * rwlock.c - many readers or one writer, in the order they came.
 *
 * The lock is handed over: to the writer that has waited longest, or to all readers that wait
 * before the next writer. Readers that come while anybody waits wait too, so a writer waits for
 * those before it only, and a reader for one writer and the readers and writers before it.
 * Barging, as at the mutex, would let readers that come and go keep a writer out for ever.
 *
 * Invariants (W1 to W4 are in waitq.c)
 *   R1  WAITERS is set iff the queue is not empty, whenever LOCK is free.
 *   R2  A free lock has no waiters. With readers inside, the first in the queue is a writer, or one
 *       that has given up and has not left yet; when it leaves it lets those behind it in.
 *   R3  held is the writer's; a reader's node is in the coir_read that it brings.
 *
 * Orderings
 *   WORD   a writer's unlock (release) -> all later locks (acquire). A reader's unlock (release) ->
 *          the next writer's lock (acquire): the readers' unlocks form one release sequence.
 */
#include "waitq.h"

#include "report.h"

#define WAITERS UINT64_C(2)
#define POISONED UINT64_C(4)
#define READERS UINT64_C(8) /* then the bits above are a count, else the writer's identity */
#define FLAGS UINT64_C(15)
#define ONE_READER UINT64_C(16)

struct rwlock {
    struct held held;    /* the writer's */
    _Atomic uint64_t state;
    struct waitq queue;  /* LOCK */
    uint32_t policy;     /* enum coir_mutex_policy */
};

struct read_hold {
    struct held held;
    struct rwlock *lock; /* NULL: not in use */
    const void *who;
};

_Static_assert(sizeof(struct rwlock) == sizeof(coir_rwlock), "coir.h reserves it");
_Static_assert(offsetof(struct rwlock, held) == 0 && offsetof(struct read_hold, held) == 0, "held.h");
_Static_assert(_Alignof(struct rwlock) <= _Alignof(coir_rwlock), "coir.h aligns enough");
_Static_assert(sizeof(struct read_hold) == sizeof(coir_read), "coir.h reserves it");
_Static_assert(_Alignof(struct read_hold) <= _Alignof(coir_read), "coir.h aligns enough");

/* A waiter's item. */
static char reader, writer;

static struct rwlock *rwlock_of(coir_rwlock *l)
{
    return (struct rwlock *)(void *)l;
}

static uint64_t look(struct rwlock *l)
{
    return atomic_load_explicit(&l->state, memory_order_relaxed); /* own bits, or rechecked */
}

/* The writer's identity, or 0. */
static uint64_t writer_of(uint64_t s)
{
    return s & READERS ? 0 : s & ~FLAGS;
}

static bool is_free(uint64_t s)
{
    return !(s & READERS) && !(s & ~FLAGS);
}

/* One more reader, one more writer; one less. */
static uint64_t with_reader(uint64_t s)
{
    return (s | READERS) + ONE_READER;
}

static uint64_t without_reader(uint64_t s)
{
    s -= ONE_READER;
    return s < ONE_READER ? s & ~READERS : s;
}

static uint64_t with_writer(uint64_t s, const void *who)
{
    return s | (uint64_t)(uintptr_t)who;
}

/* ------------------------------------------------------------------------------- handing over */

/* LOCK is held: lets in whoever may come in now, in order, and drops it. */
static void settle(struct rwlock *l, uint64_t s)
{
    struct waiter *first = NULL, **end = &first, *w;

    while (!writer_of(s) && !waitq_empty(&l->queue)) {
        bool reads = l->queue.first->item == &reader;

        if (!reads && !is_free(s))
            break;
        w = waitq_take_item(&l->queue, reads ? &reader : &writer);
        if (!w)
            continue; /* it had given up */
        s = reads ? with_reader(s) : with_writer(s, w->who);
        w->next = NULL;
        *end = w;
        end = &w->next;
    }
    word_unlock(&l->state, waitq_empty(&l->queue) ? s & ~WAITERS : s | WAITERS); /* R1 */
    waiter_wake_all(first);
}

static void end_writing(struct rwlock *l)
{
    uint64_t s = look(l);

    while (!(s & (WAITERS | WORD_LOCK)))
        if (atomic_compare_exchange_weak_explicit(&l->state, &s, s & POISONED, memory_order_release,
                                                  memory_order_relaxed)) /* WORD */
            return;
    settle(l, word_lock(&l->state) & FLAGS);
}

static void end_reading(struct rwlock *l)
{
    uint64_t s = look(l);

    while (!(s & (WAITERS | WORD_LOCK)))
        if (atomic_compare_exchange_weak_explicit(&l->state, &s, without_reader(s),
                                                  memory_order_release,
                                                  memory_order_relaxed)) /* WORD */
            return;
    settle(l, without_reader(word_lock(&l->state)));
}

/* -------------------------------------------------------------------- holders that leave (B4) */

static void on_writer_leave(struct held *h, enum leave how)
{
    struct rwlock *l = CONTAINER_OF(h, struct rwlock, held);
    uint64_t s;

    if (l->policy == COIR_MUTEX_ABORT)
        fatal("a job %s while it wrote under rwlock %p, whose policy is to abort",
              how == LEAVE_RAISED ? "panicked" : "ended", (void *)l);
    s = word_lock(&l->state);
    word_unlock(&l->state, s | POISONED);
    if (how == LEAVE_RAISED)
        return;
    held_remove(h);
    end_writing(l);
}

/* A reader leaves nothing half changed. */
static void on_reader_leave(struct held *h, enum leave how)
{
    struct read_hold *r = CONTAINER_OF(h, struct read_hold, held);
    struct rwlock *l = r->lock;

    if (how == LEAVE_RAISED)
        return;
    held_remove(h);
    r->lock = NULL;
    end_reading(l);
}

static const void *written(const struct held *h)
{
    return CONTAINER_OF(h, const struct rwlock, held);
}

static const void *read_under(const struct held *h)
{
    return CONTAINER_OF(h, const struct read_hold, held)->lock;
}

static bool writer_aborts(const struct held *h)
{
    return CONTAINER_OF(h, const struct rwlock, held)->policy == COIR_MUTEX_ABORT;
}

static const struct held_kind writing = {on_writer_leave, written, HELD_LOCK, NULL, writer_aborts};
static const struct held_kind reading = {on_reader_leave, read_under, HELD_LOCK, NULL, NULL};

/* ------------------------------------------------------------------------------------ coming in */

/* What a lock asks for: to read with a hold, or (NULL) to write. */
struct request {
    struct holder holder;
    struct read_hold *hold;
};

/* The word with the request granted, or 0: it must wait. */
static uint64_t granted(uint64_t s, const struct request *r)
{
    if (r->hold)
        return writer_of(s) ? 0 : with_reader(s);
    return is_free(s) ? with_writer(s, r->holder.who) : 0;
}

/* Comes in if nobody waits and nobody is in the way. */
static bool try_enter(struct rwlock *l, const struct request *r)
{
    uint64_t s = look(l), to;
    unsigned turns = 0;

    while (!(s & WAITERS)) {
        if (s & WORD_LOCK) {
            lock_pause(&turns);
            s = look(l);
        } else if (!(to = granted(s, r))) {
            return false;
        } else if (atomic_compare_exchange_weak_explicit(&l->state, &s, to, memory_order_acquire,
                                                         memory_order_relaxed)) { /* WORD */
            return true;
        }
    }
    return false;
}

static bool spin(struct rwlock *l, const struct request *r)
{
    struct worker *w = worker_here();
    unsigned turns = w && w->runtime->worker_count == 1 ? 1 : SPIN_TURNS;

    for (; turns > 0 && !(look(l) & WAITERS); turns--) {
        if (try_enter(l, r))
            return true;
        arch_relax();
    }
    return false;
}

/* The last look and the entry in the queue are one step. */
static bool enter_or_queue(struct rwlock *l, const struct request *r, struct waiter *w)
{
    uint64_t s = word_lock(&l->state), to = s & WAITERS ? 0 : granted(s, r);

    if (!to) {
        waitq_append(&l->queue, w);
        s |= WAITERS;
    }
    word_unlock(&l->state, to ? to : s);
    return to;
}

/* For the wait-for graph. A writer waits for all who hold the lock; a reader for the writer inside, or
 * else for the one who is first in the queue, ahead of it (R2): that one's call. */
static const void *reader_awaits(struct sleeper *s, const void *lock)
{
    struct rwlock *l = (struct rwlock *)(uintptr_t)lock;
    uint64_t word = word_lock(&l->state);
    const struct waiter *first = l->queue.first;
    const void *whom = NULL;

    if (sleeper_waits(s) && writer_of(word))
        whom = lock;
    else if (sleeper_waits(s) && first && first->item == &writer)
        whom = first->sleeper;
    word_unlock(&l->state, word);
    return whom;
}

static int wait_for(struct rwlock *l, const struct request *r, int64_t deadline)
{
    struct sleeper s;
    struct waiter w = {.sleeper = &s, .who = r->holder.who, .item = r->hold ? &reader : &writer};
    int status = sleeper_begin(&s, r->hold ? "rwlock to read" : "rwlock to write", l);

    if (status != COIR_OK)
        return status;
    s.awaits = r->hold ? reader_awaits : NULL;
    s.awaited = !r->hold;
    if (enter_or_queue(l, r, &w)) {
        sleeper_abandon(&s);
        return COIR_OK;
    }
    status = sleeper_sleep(&s, deadline);
    if (status != COIR_OK) {
        uint64_t word = word_lock(&l->state);

        waitq_remove(&l->queue, &w);
        settle(l, word); /* R2 */
    }
    return status;
}

/* It is in: the holder's books. */
static int entered(struct rwlock *l, const struct request *r)
{
    if (r->hold) {
        r->hold->lock = l;
        r->hold->who = r->holder.who;
        held_push(r->holder.list, &r->hold->held, &reading);
    } else {
        held_push(r->holder.list, &l->held, &writing);
    }
    return look(l) & POISONED ? COIR_EPOISONED : COIR_OK;
}

static int lock(struct rwlock *l, struct read_hold *hold, int64_t deadline)
{
    struct request r = {job_holder(), hold};
    int status;

    if (LIKELY(try_enter(l, &r)))
        return entered(l, &r);
    if (job_holds(l)) /* then so does one who cannot go on before this wait ends */
        return COIR_EDEADLK;
    if (spin(l, &r))
        return entered(l, &r);
    status = wait_for(l, &r, deadline);
    return status == COIR_OK ? entered(l, &r) : status;
}

static int try_lock(struct rwlock *l, struct read_hold *hold)
{
    struct request r = {job_holder(), hold};

    if (try_enter(l, &r))
        return entered(l, &r);
    return job_holds(l) ? COIR_EDEADLK : COIR_EBUSY;
}

/* -------------------------------------------------------------------------------- public part */

int coir_rwlock_init(coir_rwlock *rwlock, int policy)
{
    if (!rwlock || (policy != COIR_MUTEX_POISON && policy != COIR_MUTEX_ABORT))
        return COIR_EINVAL;
    *rwlock_of(rwlock) = (struct rwlock){.policy = (uint32_t)policy};
    return COIR_OK;
}

static struct read_hold *hold_of(coir_read *hold)
{
    return (struct read_hold *)(void *)hold;
}

int coir_rwlock_read_lock_until(coir_rwlock *rwlock, coir_read *hold, int64_t deadline)
{
    if (!rwlock || !hold)
        return COIR_EINVAL;
    return hold_of(hold)->lock ? COIR_EBUSY : lock(rwlock_of(rwlock), hold_of(hold), deadline);
}

int coir_rwlock_read_lock(coir_rwlock *rwlock, coir_read *hold)
{
    return coir_rwlock_read_lock_until(rwlock, hold, COIR_NEVER);
}

int coir_rwlock_read_try_lock(coir_rwlock *rwlock, coir_read *hold)
{
    if (!rwlock || !hold)
        return COIR_EINVAL;
    return hold_of(hold)->lock ? COIR_EBUSY : try_lock(rwlock_of(rwlock), hold_of(hold));
}

int coir_rwlock_read_unlock(coir_rwlock *rwlock, coir_read *hold)
{
    struct read_hold *r = hold_of(hold);

    if (!rwlock || !r || r->lock != rwlock_of(rwlock))
        return COIR_EINVAL;
    if (r->who != job_holder().who)
        return COIR_EPERM;
    held_remove(&r->held);
    r->lock = NULL;
    end_reading(rwlock_of(rwlock));
    return COIR_OK;
}

int coir_rwlock_write_lock_until(coir_rwlock *rwlock, int64_t deadline)
{
    return rwlock ? lock(rwlock_of(rwlock), NULL, deadline) : COIR_EINVAL;
}

int coir_rwlock_write_lock(coir_rwlock *rwlock)
{
    return coir_rwlock_write_lock_until(rwlock, COIR_NEVER);
}

int coir_rwlock_write_try_lock(coir_rwlock *rwlock)
{
    return rwlock ? try_lock(rwlock_of(rwlock), NULL) : COIR_EINVAL;
}

/* COIR_OK if the caller writes under it. */
static int check_writer(struct rwlock *l)
{
    uint64_t s = look(l);

    if (writer_of(s) == (uint64_t)(uintptr_t)job_holder().who)
        return COIR_OK;
    return is_free(s) ? COIR_EINVAL : COIR_EPERM;
}

int coir_rwlock_write_unlock(coir_rwlock *rwlock)
{
    struct rwlock *l = rwlock_of(rwlock);
    int status = l ? check_writer(l) : COIR_EINVAL;

    if (status != COIR_OK)
        return status;
    held_remove(&l->held);
    end_writing(l);
    return COIR_OK;
}

int coir_rwlock_clear(coir_rwlock *rwlock, const char *reason)
{
    struct rwlock *l = rwlock_of(rwlock);
    uint64_t s;

    if (!l || !reason || !*reason)
        return COIR_EINVAL;
    if (check_writer(l) != COIR_OK)
        return COIR_EPERM;
    s = word_lock(&l->state);
    word_unlock(&l->state, s & ~POISONED);
    if (!(s & POISONED))
        return COIR_ENOENT;
    report_cleared("rwlock", l, reason);
    return COIR_OK;
}
