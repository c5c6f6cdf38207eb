/* SPDX-License-Identifier: MIT */
/*
 * supervisor_request.c - what others ask of a supervisor that runs: to add or remove a child, to stop.
 *
 * A supervisor's children are its own job's to change. So a caller sends a message, a node in its own frame,
 * and waits for the answer. One that is canceled takes the message back, if it still can.
 */
#include "supervisor_request.h"

#include <string.h>

#include "strategy.h"
#include "supervisor_spec.h"
#include "wait.h"

struct request {
    struct mail mail;
    const coir_child_spec *spec; /* to add; NULL: to remove */
    uint64_t id;           /* of the child */
    int status;            /* the answer */
    struct counter done;   /* owed it */
};

/* --------------------------------------------------------------------------------- the supervisor */

static bool name_is_known(const struct coir_supervisor *s, const char *name)
{
    for (const struct child *c = s->first; c; c = c->next)
        if (strcmp(c->spec.name, name) == 0)
            return true;
    return false;
}

static int add(struct coir_supervisor *s, const coir_child_spec *spec, uint64_t *id)
{
    struct child *c;
    int status;

    if (s->strategy != COIR_DYNAMIC && name_is_known(s, spec->name))
        return COIR_EBUSY;
    c = child_make(s, spec);
    if (!c)
        return COIR_ENOMEM;
    *id = c->id;
    child_link(c);
    status = child_start(c);
    if (status == COIR_OK)
        return COIR_OK;
    if (c->state == COIR_CHILD_STUCK) {
        strategy_give_up(c, true);
        return COIR_ETIMEDOUT;
    }
    strategy_forget(c);
    return status == COIR_ECANCELED ? COIR_ESHUTDOWN : status; /* the supervisor is to stop */
}

static int remove_child(struct coir_supervisor *s, uint64_t id)
{
    struct child *c = s->first;

    while (c && c->id != id)
        c = c->next;
    if (!c)
        return COIR_ENOENT;
    if (!child_stop(c)) {
        strategy_give_up(c, true);
        return COIR_ETIMEDOUT;
    }
    strategy_forget(c);
    return COIR_OK;
}

static void answer(struct request *r, int status)
{
    r->status = status;
    counter_settle(&r->done, 1); /* the last use */
}

void request_serve(struct coir_supervisor *s, struct mail *m)
{
    struct request *r = CONTAINER_OF(m, struct request, mail);

    answer(r, r->spec ? add(s, r->spec, &r->id) : remove_child(s, r->id));
}

void request_refuse_all(struct coir_supervisor *s)
{
    struct mail *m;

    mailbox_close(&s->mail);
    while ((m = mailbox_take(&s->mail)))
        if (m->kind == MAIL_REQUEST)
            answer(CONTAINER_OF(m, struct request, mail), COIR_ESHUTDOWN);
}

/* ------------------------------------------------------------------------------------ the caller */

/* Whether the supervisor waits for the caller: a child that it starts, or has been asked to remove; or
 * the caller is a finalizer, which runs on the supervisor's own job. */
static bool would_deadlock(const struct coir_supervisor *s, uint64_t removed)
{
    const struct job *j = *job_slot();
    const struct coir_domain *d = j && j->scope ? j->scope->domain : NULL;

    if (d == s->domain && fiber_self())
        return true;
    for (; d; d = d->parent) {
        struct child *c = d->supervised;

        if (c && c->owner == s)
            return c->id == removed ||
                   !atomic_load_explicit(&c->ready, memory_order_relaxed); /* only this child changes it */
    }
    return false;
}

static int call(struct coir_supervisor *s, struct request *r)
{
    int status;

    if (would_deadlock(s, r->id))
        return COIR_EDEADLK;
    r->mail.kind = MAIL_REQUEST;
    counter_owe(&r->done, 1);
    if (!mailbox_ask(&s->mail, &r->mail))
        return COIR_ESHUTDOWN;
    status = coir_wait((coir_counter *)(void *)&r->done);
    if (status >= 0)
        return r->status;
    if (mailbox_withdraw(&s->mail, &r->mail))
        return status;
    wait_join(&r->done); /* it is being done */
    return r->status;
}

int coir_supervisor_add(coir_supervisor *s, const coir_child_spec *spec, uint64_t *child)
{
    coir_child_spec filled;
    struct request r = {.spec = &filled};
    int status;

    if (!s || !spec)
        return COIR_EINVAL;
    if (runtime_forked(s->rt))
        return COIR_EFORKED;
    status = spec_copy_child(spec, s->strategy, &filled);
    if (status != COIR_OK)
        return status;
    status = call(s, &r);
    if (status == COIR_OK && child)
        *child = r.id;
    return status;
}

int coir_supervisor_remove(coir_supervisor *s, uint64_t child)
{
    struct request r = {.id = child};

    if (!s || !child)
        return COIR_EINVAL;
    if (runtime_forked(s->rt))
        return COIR_EFORKED;
    return call(s, &r);
}

/* --------------------------------------------------------------------------------------- stop */

int coir_supervisor_stop(coir_supervisor *s)
{
    if (!s)
        return COIR_EINVAL;
    if (runtime_forked(s->rt))
        return COIR_EFORKED;
    supervisor_ask(s);
    return COIR_OK;
}

/* Domains locked. Those below a supervisor are its own to stop: a child is asked when its turn has come. */
static void ask_below(struct coir_domain *d)
{
    if (d->supervisor) {
        supervisor_ask(d->supervisor);
        return;
    }
    for (struct coir_domain *child = d->child; child; child = child->next)
        if (!child->supervised)
            ask_below(child);
}

void supervisor_ask_late(struct coir_supervisor *s)
{
    const struct coir_domain *d = s->domain;

    while (d && !d->supervised)
        d = d->parent;
    if (runtime_flag(&s->rt->draining) || (d && coir_event_is_set(&d->supervised->stop)))
        supervisor_ask(s);
}

void supervisor_ask_all(struct coir_runtime *rt, struct coir_domain *d)
{
    lock_take(&rt->domains_lock);
    if (d)
        ask_below(d);
    for (struct coir_domain *root = d ? NULL : rt->domains; root; root = root->next)
        ask_below(root);
    lock_drop(&rt->domains_lock);
}
