/* SPDX-License-Identifier: MIT */
/*
 * pool_queue.c - the messages of a pool.
 *
 *             submit            take           done, dead, expired, quarantined
 *      (new) --------> QUEUE ----------> taken --------------------------------> ended
 *                      ^ ^ ^               | |
 *                      | | |      put off  | | hold
 *                      | | +--- DELAYED <--+ |
 *                      | |       timer       |
 *                      | +-------- HELD <----+          (ENDING: all but taken -> ended, RETURNED)
 *                      |    probe back, timer
 *                      +--- a submitter's, when a place is free
 *
 * Knows what may wait for what. How submitters wait is in pool_submit.c. Everything is linked through the messages, so
 * nothing here can fail for want of memory.
 *
 * Invariants (W1 to W4 are in waitq.c)
 *   P1  submitted == ended_as[...] + pending, and in_pool counts the pending and those whose callbacks
 *       run; it is queue_max at most, but for those that callers handle.
 *   P2  A submitter waits only while there is no place: who gives one back gives it to the first that waits.
 *   P3  A worker is idle only while the queue is empty: each message that is queued wakes one.
 *   P4  A message is ended by who has taken it, or by who takes all at ENDING. After `ended` is called, or
 *       its counter settles, it is not touched.
 *   P5  A message whose counter is canceled waits neither for a retry nor for a probe: who cancels looks at all pools
 *       then, and who makes one wait looks for a cancel under the same lock. It is queued, for a worker to end.
 *
 * A retry is a timer in the heap of the worker that put it off, and so is the deadline of what is held. Its fire runs
 * under the heap's lock and takes the pool's, so nobody takes a heap's lock while holding the pool's: hence ARMING and
 * FIRED. What is queued before its time still has its timer, which finds it gone; who takes it disarms that before all
 * else.
 */
#include "pool_queue.h"

#include "after.h"

/* ------------------------------------------------------------------------------------- lists */

/* All of this section: lock held. */

static void append(struct parcels *l, struct parcel *e)
{
    e->next = NULL;
    e->prev = l->last;
    if (e->prev)
        e->prev->next = e;
    else
        l->first = e;
    l->last = e;
}

static void take_out(struct parcels *l, struct parcel *e)
{
    if (e->prev)
        e->prev->next = e->next;
    else
        l->first = e->next;
    if (e->next)
        e->next->prev = e->prev;
    else
        l->last = e->prev;
}

/* Queues it; returns an idle worker to wake, or NULL. P3. */
static struct waiter *queue(struct coir_pool *p, struct parcel *e)
{
    e->place = PLACE_QUEUE;
    append(&p->queue, e);
    return waitq_take(&p->idle);
}

static void wake(struct waiter *w)
{
    if (w)
        waiter_wake(w);
}

/* A job that is asked to stop before it starts ends so; a message, between its attempts. */
static bool is_canceled(const coir_message *m)
{
    return m->counter && counter_canceled((struct counter *)(void *)m->counter);
}

static void disarm(struct parcel *e)
{
    if (e->heap)
        timer_cancel(e->heap, &e->timer);
    e->heap = NULL;
}

/* ------------------------------------------------------------------------------------ places */

void pool_prepare(struct coir_pool *p, coir_message *m, enum place place)
{
    struct parcel *e = parcel_of(m);

    m->end = COIR_MESSAGE_PENDING;
    e->place = place;
    e->due = 0;
    p->in_pool++;
    p->submitted++;
}

int pool_refusal(uint64_t word)
{
    return word & POOL_CANCELED ? COIR_ECANCELED : word & POOL_CLOSING ? COIR_ESHUTDOWN : COIR_OK;
}

int pool_try_admit(struct coir_pool *p, uint64_t word, coir_message *m, struct waiter **idle)
{
    int status = pool_refusal(word);

    if (status != COIR_OK)
        return status;
    if (p->in_pool >= p->queue_max)
        return COIR_EAGAIN;
    pool_prepare(p, m, PLACE_QUEUE);
    *idle = queue(p, parcel_of(m));
    return COIR_OK;
}

/* A place is free: the first who waits has it. Lock held. P2. */
static struct waiter *admit_waiter(struct coir_pool *p, struct waiter **idle)
{
    struct waiter *w;

    if (p->in_pool >= p->queue_max || scope_canceled(&p->domain->scope)) /* then a worker is about to tell them */
        return NULL;
    w = waitq_take(&p->submitters);
    if (!w)
        return NULL;
    pool_prepare(p, w->item, PLACE_QUEUE);
    *idle = queue(p, parcel_of(w->item));
    w->status = COIR_OK;
    return w;
}

/* -------------------------------------------------------------------------------------- take */

/* NULL: none. Lock held. */
static coir_message *pop(struct coir_pool *p)
{
    struct parcel *e = p->queue.first;

    if (!e)
        return NULL;
    take_out(&p->queue, e);
    e->place = PLACE_NONE;
    return message_of(e);
}

/* The next message, or sleeps until there may be one. False: the worker is canceled. */
static bool take_or_sleep(struct coir_pool *p, coir_message **m)
{
    struct sleeper s;
    struct waiter w = {.sleeper = &s};
    bool stay;
    uint64_t word;
    int status;

    if (sleeper_begin_must(&s, "pool's messages", p) != COIR_OK) { /* no stack to go on with: some will end */
        coir_yield();
        return true;
    }
    word = word_lock(&p->state);
    *m = pop(p);
    stay = *m || (word & POOL_ENDING);
    if (!stay)
        waitq_append(&p->idle, &w);
    word_unlock(&p->state, word);
    if (stay) {
        sleeper_abandon(&s);
        return true;
    }
    status = sleeper_sleep(&s, COIR_NEVER);
    if (status == COIR_OK)
        return true;
    word = word_lock(&p->state);
    waitq_remove(&p->idle, &w);
    word_unlock(&p->state, word);
    return status != COIR_ECANCELED;
}

coir_message *pool_take(struct coir_pool *p)
{
    coir_message *m = NULL;
    uint64_t word;

    for (;;) {
        if (coir_canceled())
            pool_stop(p, POOL_CLOSING | POOL_ENDING | POOL_CANCELED);
        word = word_lock(&p->state);
        m = pop(p);
        word_unlock(&p->state, word);
        if (m || (word & POOL_ENDING))
            return m;
        if (!take_or_sleep(p, &m))
            pool_stop(p, POOL_CLOSING | POOL_ENDING | POOL_CANCELED);
        if (m)
            return m;
    }
}

/* ------------------------------------------------------------------------------------- later */

/* Under the heap's lock. */
static void fire(struct timer *t)
{
    struct parcel *e = CONTAINER_OF(t, struct parcel, timer);
    struct coir_pool *p = e->pool;
    struct waiter *idle = NULL;
    uint64_t word = word_lock(&p->state);

    if (e->place == PLACE_ARMING) {
        e->place = PLACE_FIRED;
    } else if (e->place == PLACE_DELAYED || e->place == PLACE_HELD) {
        take_out(e->place == PLACE_HELD ? &p->held : &p->delayed, e);
        idle = queue(p, e);
    }
    word_unlock(&p->state, word);
    wake(idle);
}

/* Lock held. False: the pool ends, and takes no messages back. to: DELAYED or HELD; if the probe is back by now,
 * whoever made it may have looked already. */
static bool list_later(struct coir_pool *p, uint64_t word, struct parcel *e, enum place to, struct waiter **idle)
{
    bool now = e->place == PLACE_FIRED || is_canceled(message_of(e)) || /* P5 */
               (to == PLACE_HELD && !retry_is_probing(&p->retry));

    e->place = PLACE_NONE;
    if (word & POOL_ENDING)
        return false;
    if (now) {
        *idle = queue(p, e);
    } else {
        e->place = to;
        append(to == PLACE_HELD ? &p->held : &p->delayed, e);
    }
    return true;
}

static void arm(struct parcel *e, int64_t due)
{
    e->heap = &worker_self()->timers;
    e->timer = (struct timer){.deadline = due, .fire = fire};
    timer_arm(e->heap, &e->timer);
}

/* Until `due`; what is held, also until the probe is back. */
static void put_off(struct coir_pool *p, coir_message *m, int64_t due, enum place to)
{
    struct parcel *e = parcel_of(m);
    struct waiter *idle = NULL;
    uint64_t word;
    bool listed;

    e->place = PLACE_ARMING; /* the heap's lock orders it for fire */
    e->due = 0;
    if (due != COIR_NEVER)
        arm(e, due);
    word = word_lock(&p->state);
    listed = list_later(p, word, e, to, &idle);
    word_unlock(&p->state, word);
    wake(idle);
    if (listed)
        return;
    disarm(e);
    pool_end(p, m, COIR_MESSAGE_RETURNED);
}

/* A plain thread has no timers: the worker that takes it puts it off. */
void pool_put_back(struct coir_pool *p, coir_message *m, int64_t due)
{
    struct waiter *idle = NULL;
    uint64_t word = word_lock(&p->state);
    bool ending = word & POOL_ENDING;

    parcel_of(m)->due = due;
    if (!ending)
        idle = queue(p, parcel_of(m));
    word_unlock(&p->state, word);
    wake(idle);
    if (ending)
        pool_end(p, m, COIR_MESSAGE_RETURNED);
}

/* An attempt has been made: what the breaker has held may be let go. */
void pool_release_held(struct coir_pool *p)
{
    uint64_t word = word_lock(&p->state);
    struct waiter *idle = NULL, **end = &idle;
    struct parcel *e;

    while ((e = p->held.first) && !retry_is_probing(&p->retry)) {
        take_out(&p->held, e);
        *end = queue(p, e);
        if (*end)
            end = &(*end)->next;
    }
    *end = NULL;
    word_unlock(&p->state, word);
    waiter_wake_all(idle);
}

/* Lock held. Appends the workers to wake at `end`; returns where the next goes. */
static struct waiter **queue_canceled(struct coir_pool *p, struct parcels *from, struct waiter **end)
{
    struct parcel *next;

    for (struct parcel *e = from->first; e; e = next) {
        next = e->next;
        if (!is_canceled(message_of(e)))
            continue;
        take_out(from, e);
        *end = queue(p, e);
        if (*end)
            end = &(*end)->next;
    }
    return end;
}

void pool_drop_pending(struct coir_runtime *rt)
{
    after_drop_canceled(rt);
    lock_take(&rt->domains_lock);
    for (struct coir_pool *p = rt->pools; p; p = p->next) {
        struct waiter *idle = NULL;
        uint64_t word = word_lock(&p->state);

        *queue_canceled(p, &p->held, queue_canceled(p, &p->delayed, &idle)) = NULL;
        word_unlock(&p->state, word);
        waiter_wake_all(idle);
    }
    lock_drop(&rt->domains_lock);
}

/* --------------------------------------------------------------------------------------- end */

static void call_back(struct coir_pool *p, coir_message_fn *fn, coir_message *m)
{
    uint64_t word;

    if (retry_call_back(&p->retry, fn, m, p->domain) == COIR_DONE)
        return;
    word = word_lock(&p->state);
    p->callback_panics++;
    word_unlock(&p->state, word);
}

static void settle(struct counter *c, int outcome, const coir_failure *f)
{
    if (c && outcome == COIR_DONE)
        counter_settle(c, 1);
    else if (c)
        counter_fail(c, outcome, f);
}

/* Its place goes to who waits for one, or the pool may be empty. */
static void give_place_back(struct coir_pool *p)
{
    struct waiter *idle = NULL, *submitter, *closers = NULL;
    uint64_t word = word_lock(&p->state);

    p->in_pool--;
    submitter = admit_waiter(p, &idle);
    if (!p->in_pool)
        closers = waitq_take_all(&p->closers, COIR_OK);
    word_unlock(&p->state, word);
    wake(idle);
    wake(submitter);
    waiter_wake_all(closers);
}

void pool_end(struct coir_pool *p, coir_message *m, enum coir_message_end end)
{
    struct counter *counter = (struct counter *)(void *)m->counter;
    coir_failure failure;
    uint64_t word;
    int outcome;

    m->end = (int)end;
    outcome = retry_outcome(m, &failure);
    word = word_lock(&p->state);
    p->ended_as[end]++;
    word_unlock(&p->state, word);
    if (end == COIR_MESSAGE_DEAD || end == COIR_MESSAGE_QUARANTINED)
        call_back(p, p->dead, m);
    if (p->ended)
        call_back(p, p->ended, m);
    settle(counter, outcome, &failure); /* the last use of the message: P4 */
    give_place_back(p);
}

void pool_handle(struct coir_pool *p, coir_message *m)
{
    struct parcel *e = parcel_of(m);
    enum verdict verdict;
    int64_t due = e->due;

    disarm(e);
    if (is_canceled(m)) {
        pool_end(p, m, COIR_MESSAGE_RETURNED);
        return;
    }
    if (due) { /* a plain thread has made the first attempt */
        put_off(p, m, due, PLACE_DELAYED);
        return;
    }
    job_serve(p->domain, (struct counter *)(void *)m->counter);
    verdict = retry_attempt(&p->retry, m, e->deadline, &due);
    job_serve(p->domain, NULL);
    switch (verdict) {
    case VERDICT_DONE:
        pool_end(p, m, COIR_MESSAGE_DONE);
        break;
    case VERDICT_DEAD:
        pool_end(p, m, COIR_MESSAGE_DEAD);
        break;
    case VERDICT_EXPIRED:
        pool_end(p, m, COIR_MESSAGE_EXPIRED);
        break;
    case VERDICT_QUARANTINED:
        pool_end(p, m, COIR_MESSAGE_QUARANTINED);
        break;
    case VERDICT_AGAIN:
        if (worker_here())
            put_off(p, m, due, PLACE_DELAYED);
        else
            pool_put_back(p, m, due);
        break;
    case VERDICT_HOLD:
        if (worker_here())
            put_off(p, m, due, PLACE_HELD);
        else
            pool_put_back(p, m, 0); /* the worker that takes it asks again */
        break;
    }
    pool_release_held(p);
}

/* ------------------------------------------------------------------------------------- close */

/* Lock held. */
static void move_all(struct parcels *from, struct parcels *to)
{
    struct parcel *e;

    while ((e = from->first)) {
        take_out(from, e);
        e->place = PLACE_NONE;
        append(to, e);
    }
}

/* A fire that is under way finds its message taken, and is over when it is disarmed. */
static void give_back(struct coir_pool *p, struct parcels *all)
{
    struct parcel *next;

    for (struct parcel *e = all->first; e; e = next) {
        next = e->next;
        disarm(e);
        pool_end(p, message_of(e), COIR_MESSAGE_RETURNED);
    }
}

void pool_stop(struct coir_pool *p, uint64_t flags)
{
    struct waiter *submitters, *idle = NULL;
    struct parcels all = {0};
    uint64_t word = word_lock(&p->state) | flags;

    submitters = waitq_take_all(&p->submitters, pool_refusal(word));
    if (word & POOL_ENDING) {
        move_all(&p->queue, &all);
        move_all(&p->held, &all);
        move_all(&p->delayed, &all);
        idle = waitq_take_all(&p->idle, COIR_OK);
    }
    word_unlock(&p->state, word);
    waiter_wake_all(submitters);
    waiter_wake_all(idle);
    give_back(p, &all);
}
