/* SPDX-License-Identifier: MIT */
/*
 * pool_submit.c - giving a message to a pool: what happens when it is full, and attempts made by callers.
 *
 * An attempt that a caller makes is a job of the pool's domain, run in place: what a close, a cancel and a receipt
 * do for workers they do for it, and a handler is known as one wherever it runs.
 *
 * Orderings
 *   VISIT  as in domain.c: a visitor counts itself (seq_cst), then looks at the flags under the lock; who
 *          frees the pool has set them before, and waits until there are no visitors. Leaving (release)
 *          is a visitor's last access.
 */
#include "pool_queue.h"
#include "spawn.h"

/* ------------------------------------------------------------------------ when the pool is full */

static int wait_for_place(struct coir_pool *p, coir_message *m, int64_t deadline)
{
    struct sleeper s;
    struct waiter w = {.sleeper = &s, .item = m}, *idle = NULL;
    int status = sleeper_begin(&s, "pool", p);
    uint64_t word;

    if (status != COIR_OK)
        return status;
    word = word_lock(&p->state);
    status = pool_try_admit(p, word, m, &idle);
    if (status == COIR_EAGAIN)
        waitq_append(&p->submitters, &w);
    word_unlock(&p->state, word);
    if (idle)
        waiter_wake(idle);
    if (status != COIR_EAGAIN) {
        sleeper_abandon(&s);
        return status;
    }
    status = sleeper_sleep(&s, deadline);
    if (status == COIR_OK)
        return w.status;
    word = word_lock(&p->state);
    waitq_remove(&p->submitters, &w);
    word_unlock(&p->state, word);
    return status;
}

static int64_t after(int64_t now, int64_t ns)
{
    return ns > COIR_NEVER - now ? COIR_NEVER : now + ns;
}

static int wait_within(struct coir_pool *p, coir_message *m, int64_t deadline)
{
    int64_t limit = after(coir_now(), p->full_wait_ns);
    int status = wait_for_place(p, m, limit < deadline ? limit : deadline);

    return status == COIR_ETIMEDOUT && limit < deadline ? COIR_EAGAIN : status;
}

/* A job of the pool could run on the caller's stack. */
static bool can_run_here(const struct coir_pool *p)
{
    struct fiber *self = fiber_self();

    if (!self)
        return true;
    return self->runtime == p->rt && self->job &&
           (uintptr_t)__builtin_frame_address(0) >= self->half;
}

/* Whether the domain that the workers are in takes nothing more; they may not have noticed yet. */
static int domain_refusal(struct coir_pool *p)
{
    if (domain_is_closing(p->domain))
        return COIR_ESHUTDOWN;
    return scope_canceled(&p->domain->scope) ? COIR_ECANCELED : COIR_OK;
}

/* A place in the pool's domain, for the job that makes the attempt. */
static int enter_domain(struct coir_pool *p)
{
    int status;

    domain_visit(p->domain);
    status = domain_refusal(p);
    if (status == COIR_OK)
        status = scope_admit(&p->domain->scope, 1);
    domain_leave(p->domain);
    return status;
}

/* Beyond the pool's own limit. */
static int admit_here(struct coir_pool *p, coir_message *m)
{
    int status = enter_domain(p);
    uint64_t word;

    if (status != COIR_OK)
        return status;
    word = word_lock(&p->state);
    status = pool_refusal(word);
    if (status == COIR_OK)
        pool_prepare(p, m, PLACE_NONE);
    word_unlock(&p->state, word);
    if (status != COIR_OK)
        scope_revoke(&p->domain->scope, 1);
    return status;
}

static int admit_when_full(struct coir_pool *p, coir_message *m, int64_t deadline, bool *here)
{
    if (p->full == COIR_FULL_WAIT)
        return wait_within(p, m, deadline);
    *here = p->full == COIR_FULL_RUN && can_run_here(p);
    return *here ? admit_here(p, m) : COIR_EAGAIN;
}

static int admit(struct coir_pool *p, coir_message *m, int64_t deadline, bool *here)
{
    struct waiter *idle = NULL;
    uint64_t word = word_lock(&p->state);
    int status = pool_try_admit(p, word, m, &idle);

    word_unlock(&p->state, word);
    if (idle)
        waiter_wake(idle);
    if (status == COIR_EAGAIN)
        status = admit_when_full(p, m, deadline, here);
    if (status == COIR_EAGAIN || status == COIR_ETIMEDOUT) {
        word = word_lock(&p->state);
        p->refused++;
        word_unlock(&p->state, word);
    }
    return status;
}

/* ------------------------------------------------------------------------------- in the caller */

void pool_probe_nothing(struct coir_pool *p)
{
    scope_recall(p->domain, NULL, *job_slot());
}

struct handling {
    struct coir_pool *pool;
    coir_message *message;
    bool begun;
};

static void handle(void *arg)
{
    struct handling *h = arg;

    pool_handle(h->pool, h->message);
}

static void handle_in_job(void *arg)
{
    struct handling *h = arg;

    h->begun = true;
    retry_serve();
    pool_probe_nothing(h->pool);
    if (job_try(handle, h, &h->message->failure) != COIR_DONE) { /* the host's log, not the handler */
        job_serve(h->pool->domain, NULL);
        pool_end(h->pool, h->message, COIR_MESSAGE_DEAD);
    }
}

static void handle_here(struct coir_pool *p, coir_message *m, uintptr_t frame)
{
    struct handling h = {.pool = p, .message = m};
    struct work item = {handle_in_job, &h, NULL, &p->domain->scope};

    if (fiber_self())
        spawn_in_place(fiber_self(), &item, frame);
    else
        spawn_outside(&item, frame);
    if (!h.begun) /* its domain was canceled meanwhile, or one above has tripped */
        pool_put_back(p, m, 0);
}

/* ------------------------------------------------------------------------------------- submit */

/* As the owner of what a job spawns: a panic of its frames waits for the message first. */
static void owe(coir_message *m, uintptr_t frame)
{
    struct counter *c = (struct counter *)(void *)m->counter;
    struct job *j = *job_slot();

    if (!c)
        return;
    if (j && counter_owner(c) != j)
        job_adopt(j, c, frame);
    counter_owe(c, 1);
}

static void take_back(coir_message *m)
{
    struct counter *c = (struct counter *)(void *)m->counter;

    m->end = COIR_MESSAGE_NEW;
    if (!c)
        return;
    counter_settle(c, 1);
    if (*job_slot() && counter_look(c) >= 0)
        job_disown(*job_slot(), c);
}

static int64_t message_deadline(const struct coir_pool *p, const coir_message *m)
{
    if (m->deadline)
        return m->deadline;
    return p->deadline_ns == COIR_NEVER ? COIR_NEVER : after(coir_now(), p->deadline_ns);
}

static int submit(struct coir_pool *p, coir_message *m, int64_t deadline, uintptr_t frame)
{
    bool here = false;
    int status;

    if (m->end == COIR_MESSAGE_PENDING)
        return COIR_EBUSY;
    *parcel_of(m) = (struct parcel){.pool = p, .deadline = message_deadline(p, m)};
    m->end = COIR_MESSAGE_NEW;
    m->final = 0;
    m->context = p->context;
    m->failure = (coir_failure){0};
    owe(m, frame);
    status = domain_refusal(p);
    if (status == COIR_OK)
        status = admit(p, m, deadline, &here);
    if (status != COIR_OK)
        take_back(m);
    else if (here)
        handle_here(p, m, frame);
    return status;
}

int coir_pool_submit_until(coir_pool *pool, coir_message *message, int64_t deadline)
{
    int status;

    if (!pool || !message)
        return COIR_EINVAL;
    if (runtime_forked(pool->rt))
        return COIR_EFORKED;
    pool_visit(pool);
    status = submit(pool, message, deadline, (uintptr_t)__builtin_frame_address(0));
    pool_leave(pool);
    return status;
}

int coir_pool_submit(coir_pool *pool, coir_message *message)
{
    return coir_pool_submit_until(pool, message, COIR_NEVER);
}
