/* SPDX-License-Identifier: MIT */
/*
 * supervised.c - a supervised child: one start, one stop, and what it may ask itself.
 *
 * A start opens a domain below the supervisor's, and submits the child's job to it. Two things are told
 * to the supervisor's mailbox: that the child is ready (a flag and the bell), and that its job has ended (mail,
 * sent by whoever settles the job's counter). Both can come at any time after the submission, so
 * the supervisor waits for nothing else while it waits for one of them.
 *
 *            child_start            ready                 child_reap (its end)
 *     ENDED ------------> STARTING -------> RUNNING ------------------------------> ENDED
 *       ^                    |                 | child_stop
 *       |   ended, too late  |                 v
 *       +--------------------+------------- STOPPING ---------> STUCK   (cancel_ns have passed)
 *
 * WAITING, the state between an end and the next start, is for the row above (strategy.c).
 *
 * A stop is ask, drain, cancel, close; coir_domain_close would do all of it but for two things: a child has
 * more time when it is canceled, since giving up on it is final; and somebody may be closing a domain above,
 * who has the claim then. In that case the domain's memory is left to him: he cannot be done before the
 * supervisor's own job has ended.
 *
 * Orderings
 *   READY  coir_child_ready (release) -> the supervisor's look (acquire).
 *   ASKED  supervisor_ask (release) -> the supervisor's look (acquire).
 */
#include "supervised.h"

#include <stdio.h>
#include <string.h>

#include "job.h"
#include "wait.h"

/* After half a moment a cancel has ended what it can; then waits that heed none are interrupted. */
#define CANCEL_HEED_NS (50 * COIR_MS)

/* ----------------------------------------------------------------------------------- the tree */

void child_set_state(struct child *c, int state)
{
    int64_t now = coir_now();

    lock_take(&c->owner->tree->lock);
    c->state = state;
    c->since = now;
    lock_drop(&c->owner->tree->lock);
}

void child_note_failure(struct child *c, const coir_failure *f)
{
    lock_take(&c->owner->tree->lock);
    c->failures++;
    c->last = *f;
    lock_drop(&c->owner->tree->lock);
}

void child_link(struct child *c)
{
    struct coir_supervisor *s = c->owner;

    lock_take(&s->tree->lock);
    c->next = NULL;
    c->prev = s->last;
    if (s->last)
        s->last->next = c;
    else
        s->first = c;
    s->last = c;
    s->count++;
    lock_drop(&s->tree->lock);
}

struct child *child_after(const struct coir_supervisor *top, struct child *c, unsigned *depth)
{
    while (!c->next) {
        if (c->owner == top || !c->owner->child)
            return NULL;
        c = c->owner->child;
        --*depth;
    }
    return c->next;
}

void child_unlink(struct child *c)
{
    struct coir_supervisor *s = c->owner;

    lock_take(&s->tree->lock);
    for (struct cursor *k = s->tree->cursors; k; k = k->next)
        if (k->at == c)
            k->at = child_after(k->top, c, &k->depth);
    if (c->prev)
        c->prev->next = c->next;
    else
        s->first = c->next;
    if (c->next)
        c->next->prev = c->prev;
    else
        s->last = c->prev;
    s->count--;
    lock_drop(&s->tree->lock);
}

struct child *child_make(struct coir_supervisor *s, const coir_child_spec *spec)
{
    struct child *c = mem_alloc(&s->rt->host, sizeof *c);

    if (!c)
        return NULL;
    c->mail.kind = MAIL_CHILD_ENDED;
    c->owner = s;
    c->spec = *spec;
    c->id = ++s->ids;
    c->since = coir_now();
    return c;
}

/* ------------------------------------------------------------------------------------ waiting */

void supervisor_ask(struct coir_supervisor *s)
{
    atomic_store_explicit(&s->asked, true, memory_order_release); /* ASKED */
    mailbox_ring(&s->mail);
}

bool supervisor_must_stop(struct coir_supervisor *s)
{
    s->canceled |= coir_canceled();
    return s->stopping || s->canceled || domain_is_closing(s->domain) || /* about to be asked: starts would fail */
           atomic_load_explicit(&s->asked, memory_order_acquire); /* ASKED */
}

/* True when all jobs of the child's domain have ended; false at the deadline. A cancel of the supervisor
 * itself ends the wait only while it grants budgets. */
static bool drained(struct child *c, int64_t deadline, bool heed)
{
    struct coir_supervisor *s = c->owner;

    for (;;) {
        int status = wait_must(&c->domain->jobs, deadline);

        if (status >= 0)
            return true;
        if (status == COIR_ETIMEDOUT)
            return false;
        if (status == COIR_ENOMEM) { /* no stack to park on: others run here, and may give one back */
            coir_yield();
            if (coir_now() >= deadline)
                return false;
            continue;
        }
        s->canceled |= status == COIR_ECANCELED;
        if (heed)
            return false;
    }
}

/* -------------------------------------------------------------------------------------- start */

static void on_end(struct wait_node *node, int outcome)
{
    struct child *c = CONTAINER_OF(node, struct child, watch);

    c->outcome = outcome;
    mailbox_post(&c->owner->mail, &c->mail);
}

/* Nothing but this lies between a child's own function and its boundary: contain.c knows such a frame. */
static void child_main(void *arg)
{
    struct child *c = arg;

    coir_job_name(c->spec.name);
    scope_recall(c->domain, NULL, *job_slot());
    if (c->spec.supervisor) {
        c->owner->ops->supervise(c);
        return;
    }
    if (!c->spec.tells_ready)
        coir_child_ready();
    c->spec.fn(c->spec.arg);
}

/* Sends its job on its way. The mail will come in either case. */
static int submit(struct child *c)
{
    int status;

    c->done = (struct counter){.state = 0};
    coir_event_init(&c->stop);
    atomic_store_explicit(&c->ready, false, memory_order_relaxed); /* published with the job */
    c->mail.state = MAIL_UNSENT;
    c->asked = 0;
    c->watch = (struct wait_node){.settled = on_end};
    counter_owe(&c->done, 1); /* so that the watch is taken */
    counter_enlist(&c->done, &c->watch);
    status = domain_start_service(c->domain, &c->done, child_main, c, coir_deadline());
    counter_settle(&c->done, 1);
    return status;
}

/* Until it is ready, has ended, took too long, or is not wanted any more. */
static int await_ready(struct child *c)
{
    int64_t deadline = time_after(coir_now(), c->spec.start_ns);

    for (;;) {
        bool ended = mailbox_was_sent(&c->owner->mail, &c->mail); /* looked at first: it may be ready, then end */
        int status;

        if (atomic_load_explicit(&c->ready, memory_order_acquire)) /* READY */
            return COIR_OK;
        if (ended)
            return COIR_ECHILD;
        if (supervisor_must_stop(c->owner))
            return COIR_ECANCELED;
        status = mailbox_sleep(&c->owner->mail, deadline, false);
        c->owner->canceled |= status == COIR_ECANCELED;
        if (status == COIR_ETIMEDOUT)
            return COIR_ETIMEDOUT;
    }
}

/* Under the lock, for who draws a map: what is in the tree names a child that is there. */
static void set_supervised(struct coir_domain *d, struct child *c)
{
    lock_take(&d->rt->domains_lock);
    d->supervised = c;
    lock_drop(&d->rt->domains_lock);
}

/* Who wants to close a domain above waits, and is not told that this one is being closed. */
static void set_reaped(struct coir_domain *d, bool reaped)
{
    lock_take(&d->rt->domains_lock);
    d->reaped = reaped;
    lock_drop(&d->rt->domains_lock);
}

static void open_domain(struct child *c, int *status)
{
    coir_domain_options o = {.size = sizeof o, .name = c->spec.name};

    *status = coir_domain_open(c->owner->rt, c->owner->domain, &o, &c->domain);
    if (*status == COIR_OK)
        set_supervised(c->domain, c); /* before there is a job that could ask */
}

/* A failure that no job has left a record of. */
static void note_status(struct child *c, int status, const char *what)
{
    coir_failure f = {.kind = COIR_KIND_FAIL, .outcome = COIR_FAILED, .code = status, .worker = -1};

    record_new(&f);
    snprintf(f.message, sizeof f.message, "%s: %s", what, coir_status_text(status));
    child_note_failure(c, &f);
}

/* The start has failed: what there is of it goes. */
static int take_back(struct child *c, int status)
{
    if (status == COIR_ECHILD) {
        bool gone = child_reap(c);

        if (c->outcome == COIR_DONE)
            note_status(c, COIR_ECHILD, "it ended before it was ready");
        return gone ? COIR_ECHILD : COIR_ETIMEDOUT;
    }
    if (status == COIR_ETIMEDOUT)
        note_status(c, status, "it was not ready in time");
    if (!child_stop(c))
        return COIR_ETIMEDOUT;
    return status == COIR_ETIMEDOUT ? COIR_ECHILD : status;
}

int child_start(struct child *c)
{
    int status;

    lock_take(&c->owner->tree->lock);
    c->starts++;
    lock_drop(&c->owner->tree->lock);
    child_set_state(c, COIR_CHILD_STARTING);
    open_domain(c, &status);
    if (status == COIR_OK) {
        status = submit(c);
        if (status != COIR_OK) {
            note_status(c, status, "it could not be started");
            return child_stop(c) ? status : COIR_ETIMEDOUT;
        }
        status = await_ready(c);
        if (status != COIR_OK)
            return take_back(c, status);
        child_set_state(c, COIR_CHILD_RUNNING);
        return COIR_OK;
    }
    note_status(c, status, "it could not be started");
    child_set_state(c, COIR_CHILD_ENDED);
    return status;
}

/* --------------------------------------------------------------------------------------- stop */

void child_ask(struct child *c)
{
    struct coir_supervisor *sub;

    if (!c->domain || c->asked)
        return;
    c->asked = coir_now();
    child_set_state(c, COIR_CHILD_STOPPING);
    coir_event_set(&c->stop); /* before the look: one that attaches itself later looks at this */
    lock_take(&c->owner->tree->lock);
    sub = c->sub;
    lock_drop(&c->owner->tree->lock);
    if (sub)
        supervisor_ask(sub); /* it goes in `ended`, not before */
    c->owner->rt->stop_supervisors(c->owner->rt, c->domain); /* that its jobs have opened */
}

/* True when nothing of it is left; false: it is stuck. */
static bool cancel(struct child *c)
{
    int64_t end = time_after(coir_now(), c->spec.cancel_ns);
    int64_t heed = time_after(coir_now(), CANCEL_HEED_NS);

    domain_cancel(c->domain);
    if (drained(c, heed < end ? heed : end, false))
        return true;
    wait_wake_domain(c->domain);
    return drained(c, end, false);
}

/* Its jobs have ended. A thread from outside may have let in another before the close began (then there is no stack to
 * wait for it on, or it takes too long); nobody does so afterwards. */
static bool close_domain(struct child *c)
{
    int status;

    set_reaped(c->domain, true);
    while ((status = coir_domain_close(c->domain, 0, NULL)) != COIR_OK) {
        if (status != COIR_EBUSY) {
            if (cancel(c))
                continue;
            set_reaped(c->domain, false);
            return false;
        }
        if (domain_is_closing(c->owner->domain)) {
            set_supervised(c->domain, NULL);
            break; /* who closes that will close this one, too */
        }
        coir_yield(); /* a thread from outside closes a domain of its own, below */
    }
    c->domain = NULL;
    return true;
}

static void say_stuck(struct child *c)
{
    struct coir_supervisor *s = c->owner;

    child_set_state(c, COIR_CHILD_STUCK);
    host_log(&s->rt->host, COIR_LOG_ERROR, "supervisor %s: child %s does not end, though it is canceled",
             s->name, c->spec.name);
}

/* Ends what is there until `budget`, then by force. */
static bool end_all(struct child *c, int64_t budget)
{
    struct coir_supervisor *s = c->owner;

    if ((s->canceled || !drained(c, budget, true)) && !cancel(c)) {
        say_stuck(c);
        return false;
    }
    while (!mailbox_take_this(&s->mail, &c->mail))
        (void)!mailbox_sleep(&s->mail, COIR_NEVER, false); /* it is on its way */
    if (!close_domain(c)) {
        say_stuck(c);
        return false;
    }
    c->owner->ops->ended(c);
    child_set_state(c, COIR_CHILD_ENDED);
    return true;
}

bool child_stop(struct child *c)
{
    if (!c->domain)
        return true;
    if (c->state == COIR_CHILD_STUCK)
        return false;
    child_ask(c);
    return end_all(c, time_after(c->asked, c->spec.shutdown_ns));
}

bool child_reap(struct child *c)
{
    coir_failure f = {0};

    if (c->outcome != COIR_DONE) {
        coir_counter_failure((coir_counter *)(void *)&c->done, &f);
        child_note_failure(c, &f);
    }
    return end_all(c, 0);
}

/* ----------------------------------------------------------------------- from inside the child */

struct child *child_here(void)
{
    const struct job *j = *job_slot();
    struct coir_domain *d = j && j->scope ? j->scope->domain : NULL;

    while (d && !d->supervised)
        d = d->parent;
    return d ? d->supervised : NULL;
}

int coir_child_ready(void)
{
    struct child *c = child_here();

    if (!c)
        return status_outside();
    if (!atomic_exchange_explicit(&c->ready, true, memory_order_release)) /* READY */
        mailbox_ring(&c->owner->mail);
    return COIR_OK;
}

int coir_child_stopping(void)
{
    struct child *c = child_here();

    return c && coir_event_is_set(&c->stop);
}

int coir_child_stop_wait_until(int64_t deadline)
{
    struct child *c = child_here();

    return c ? coir_event_wait_until(&c->stop, deadline) : status_outside();
}

int coir_child_stop_wait(void)
{
    return coir_child_stop_wait_until(COIR_NEVER);
}

coir_supervisor *coir_supervisor_current(void)
{
    struct child *c = child_here();

    return c ? c->owner : NULL;
}
