/* SPDX-License-Identifier: MIT */
/*
 * domain.c - domains: opening one, starting jobs in it, waiting for a place, cancel.
 *
 * What a running job does to its domain is in scope.c, how one closes in drain.c, its figures in figures.c.
 *
 * Orderings
 *   VISIT  a call from outside counts itself as a visitor (seq_cst), then looks at closing (seq_cst);
 *          who closes sets closing (seq_cst), then waits until there are no visitors (seq_cst). So
 *          each caller sees that the domain closes, or its unit is seen by who drains. Leaving
 *          (release) is a visitor's last access unless it holds a unit.
 */
#include "domain.h"

#include <stdio.h>
#include <string.h>

#include "hostcall.h"
#include "options.h"
#include "spawn.h"
#include "stall_limit.h"
#include "wait.h"

#define WINDOW_DEFAULT_NS (10 * COIR_SEC)
#define PROBE_DEFAULT_NS COIR_SEC
#define LATE_DEFAULT_NS (10 * COIR_SEC)
#define DEPTH_MAX 128 /* some go down the tree by recursion, on a job's stack */

/* --------------------------------------------------------------------------------------- open */

/* A policy that can never act: who has set it relies on it. A domain without a limit is never full. */
static bool is_idle(const coir_domain_options *o)
{
    return (o->full != COIR_FULL_REFUSE && !o->jobs_max) || (o->faults_also && o->faults != COIR_FAULTS_CONTAIN);
}

static int copy_options(const coir_domain_options *given, coir_domain_options *o)
{
    int status = options_copy_sized(given, given ? given->size : 0, o, sizeof *o);

    if (status != COIR_OK)
        return status;
    if (o->full_wait_ns < 0 || o->deadline_ns < 0 || o->panics_window_ns < 0 || o->probe_ns < 0 ||
        o->probe_late_ns < 0 || o->stall_ns < 0 || (o->stall_ns && o->stall_ns < COIR_MS) ||
        o->panics_max > BREAKER_FAILURES_MAX || (unsigned)o->full > COIR_FULL_RUN ||
        (unsigned)o->faults > COIR_FAULTS_CONTAIN || o->faults_also > COIR_FAULTS_ALSO_ALL || o->share_stacks > 1 ||
        o->jobs_max > UINT64_C(1) << 40 || o->stacks_max > UINT64_C(1) << 40 ||
        o->memory_max > INT64_MAX)
        return COIR_ERANGE;
    return is_idle(o) ? COIR_EINVAL : COIR_OK;
}

/* Whether the runtime can give what is asked for. */
static int check_support(struct coir_runtime *rt, const coir_domain_options *o)
{
    if (rt->options.panic == COIR_PANIC_ABORT && (o->panics_max || o->faults == COIR_FAULTS_CONTAIN)) {
        host_log(&rt->host, COIR_LOG_ERROR, "a domain's %s needs panics to be contained, options.panic "
                 "forbids it", o->panics_max ? "panics_max" : "faults");
        return COIR_EPOLICY;
    }
    if (o->stall_ns && !rt->options.stall_ns) {
        host_log(&rt->host, COIR_LOG_ERROR, "a domain has stall_ns, but the runtime was opened without "
                 "options.stall_ns: nobody watches");
        return COIR_ENOTSUP;
    }
    if (o->faults == COIR_FAULTS_NONE)
        return COIR_OK;
    if (!rt->want_faults) {
        host_log(&rt->host, COIR_LOG_ERROR, "a domain asks for a policy for faults, but the runtime was "
                 "opened without options.faults");
        return COIR_ENOTSUP;
    }
    return rt->want_faults(rt, o->faults_also);
}

static unsigned contained(const struct coir_runtime *rt, const struct coir_domain *parent,
                          const coir_domain_options *o)
{
    if (o->faults == COIR_FAULTS_NONE)
        return parent ? parent->contained
                      : faults_contained(rt->options.faults, rt->options.faults_also);
    return faults_contained(o->faults, o->faults_also);
}

/* The default deadline is the shorter of its own and the parent's. */
static int64_t default_deadline(const struct coir_domain *parent, int64_t own)
{
    int64_t above = parent ? parent->deadline_ns : COIR_NEVER;

    return own && own < above ? own : above;
}

/* The same as those above if it shares stacks with them. Else no other domain of the process has it: a job of one
 * runtime may close a domain of another, whose finalizers then run on its stack. */
static uint64_t new_tenant(const struct coir_runtime *rt, const struct coir_domain *parent, const coir_domain_options *o)
{
    static _Atomic uint64_t given;

    if (rt->options.share_stacks)
        return TENANT_OUTSIDE;
    if (o->share_stacks)
        return parent ? parent->tenant : TENANT_OUTSIDE;
    return TENANT_DOMAIN + atomic_fetch_add_explicit(&given, 1, memory_order_relaxed); /* unique, no more */
}

static struct coir_domain *make(struct coir_runtime *rt, struct coir_domain *parent,
                                const coir_domain_options *o)
{
    struct coir_domain *d = mem_alloc(&rt->host, sizeof *d + o->panics_max * sizeof(int64_t));

    if (!d)
        return NULL;
    d->scope = (struct scope){.domain = d, .deadline = COIR_NEVER};
    d->rt = rt;
    d->parent = parent;
    d->depth = parent ? parent->depth + 1 : 0;
    d->judge = o->panics_max ? d : parent ? parent->judge : NULL;
    d->jobs_max = o->jobs_max;
    d->full = (int)o->full;
    d->full_wait_ns = o->full_wait_ns ? o->full_wait_ns : COIR_NEVER;
    d->deadline_ns = default_deadline(parent, o->deadline_ns);
    d->memory_max = o->memory_max;
    d->stacks_max = o->stacks_max;
    d->stacks_at = o->stacks_max ? d : parent ? parent->stacks_at : NULL;
    d->contained = contained(rt, parent, o);
    d->tenant = new_tenant(rt, parent, o);
    d->stall_ns = stall_limit(rt, parent, o->stall_ns);
    snprintf(d->name, sizeof d->name, "%s", o->name ? o->name : "domain");
    breaker_init(&d->breaker, o->panics_max,
                 o->panics_window_ns ? o->panics_window_ns : WINDOW_DEFAULT_NS,
                 o->probe_ns ? o->probe_ns : PROBE_DEFAULT_NS,
                 o->probe_late_ns ? o->probe_late_ns : LATE_DEFAULT_NS, (int64_t *)(void *)(d + 1));
    return d;
}

/* Into the tree, unless what it is to hang on is closing. */
static bool link_domain(struct coir_domain *d)
{
    struct coir_runtime *rt = d->rt;
    struct coir_domain **head = d->parent ? &d->parent->child : &rt->domains;
    bool open, sooner = false;

    lock_take(&rt->domains_lock);
    open = d->parent ? !domain_is_closing(d->parent) : !runtime_flag(&rt->draining);
    if (open) {
        d->next = *head;
        *head = d;
        sooner = stall_limit_enter(d);
    }
    lock_drop(&rt->domains_lock);
    if (sooner)
        rt->stall_sooner(rt);
    return open;
}

/* f: its first finalizer, or NULL. */
static int open_in(struct coir_runtime *rt, struct coir_domain *parent, const coir_domain_options *o,
                   struct finalizer *f, coir_domain **domain)
{
    struct coir_domain *d = make(rt, parent, o);
    char name[DOMAIN_NAME_BYTES];

    if (!d)
        return COIR_ENOMEM;
    d->finalizers = f;
    memcpy(name, d->name, sizeof name);
    if (!link_domain(d)) {
        mem_free(&rt->host, d);
        return COIR_ESHUTDOWN;
    }
    *domain = d;
    hostcall_domain_opened(rt, name); /* somebody may have closed it already */
    return COIR_OK;
}

/* What is asked for has been checked. */
static int open_as_visitor(struct coir_runtime *rt, struct coir_domain *parent, const coir_domain_options *o,
                           struct finalizer *f, coir_domain **domain)
{
    bool visiting = runtime_visit(rt); /* once it is in the tree, others may close it, and the runtime then */
    int status;

    if (parent)
        domain_visit(parent);
    status = open_in(rt, parent, o, f, domain);
    if (status != COIR_OK && f)
        mem_free(&rt->host, f);
    if (parent)
        domain_leave(parent);
    runtime_leave(rt, visiting);
    return status;
}

int domain_open_with(struct coir_runtime *rt, struct coir_domain *parent, const coir_domain_options *options,
                     coir_fn *finalizer, void *arg, struct coir_domain **domain)
{
    struct finalizer *f = NULL;
    coir_domain_options o;
    int status = parent && parent->depth == DEPTH_MAX - 1 ? COIR_ERANGE : copy_options(options, &o);

    if (status == COIR_OK)
        status = check_support(rt, &o);
    if (status != COIR_OK)
        return status;
    if (finalizer) {
        f = mem_alloc(&rt->host, sizeof *f);
        if (!f)
            return COIR_ENOMEM;
        *f = (struct finalizer){.fn = finalizer, .arg = arg};
    }
    return open_as_visitor(rt, parent, &o, f, domain);
}

int coir_domain_open(coir_runtime *rt, coir_domain *parent, const coir_domain_options *options,
                     coir_domain **domain)
{
    if (!domain)
        return COIR_EINVAL;
    *domain = NULL;
    if (!rt || (parent && parent->rt != rt))
        return COIR_EINVAL;
    if (runtime_forked(rt))
        return COIR_EFORKED;
    return domain_open_with(rt, parent, options, NULL, NULL, domain);
}

/* ------------------------------------------------------------------------- waiting for a place */

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* True: in line at `at`. False: let in at once, or turned away. S4, scope.c. */
static bool line_up(struct coir_domain *at, struct entrant *e)
{
    bool listed = false;

    lock_take(&at->lock);
    if (domain_is_closing(e->target) || runtime_flag(&at->rt->canceling)) /* or domain_turn_away_all */
        e->verdict = COIR_ESHUTDOWN;
    else if (scope_canceled(&e->target->scope))
        e->verdict = COIR_ECANCELED;
    else if ((listed = !domain_take_place(at)))
        domain_enlist(at, e);
    lock_drop(&at->lock);
    return listed;
}

/* The wait has ended by itself. True: too late, its turn had come. */
static bool step_out(struct coir_domain *at, struct entrant *e)
{
    bool listed;

    lock_take(&at->lock);
    listed = e->listed;
    if (listed)
        domain_delist(at, e);
    lock_drop(&at->lock);
    if (!listed)
        wait_join(&e->turn); /* whoever took it out is about to say so */
    return !listed;
}

/* Waits for a place at this level. */
static int await_place(struct coir_domain *at, struct coir_domain *target, int64_t job_deadline)
{
    struct entrant e = {.target = target};
    int64_t deadline = earlier(job_deadline, time_after(coir_now(), at->full_wait_ns));
    int status;

    counter_owe(&e.turn, 1);
    if (!line_up(at, &e))
        return e.verdict;
    status = coir_wait_until((coir_counter *)(void *)&e.turn, deadline);
    if (status >= 0 || step_out(at, &e))
        return e.verdict;
    return status == COIR_ETIMEDOUT && deadline < job_deadline ? COIR_EAGAIN : status;
}

/* Whether a job of d could run on the caller's stack. */
static bool can_run_here(const struct coir_domain *d)
{
    struct fiber *self = fiber_self();

    if (!self)
        return true;
    return self->runtime == d->rt && self->job &&
           (uintptr_t)__builtin_frame_address(0) >= self->half;
}

/* Takes a place at each level. *here: the job is to be run by the caller. here NULL: refused where there is none. */
static int enter(struct coir_domain *d, int64_t deadline, bool *here)
{
    for (struct coir_domain *at = d; at; at = at->parent) {
        int status = COIR_OK;

        if (LIKELY(domain_take_place(at)))
            continue;
        if (here && at->full == COIR_FULL_WAIT) {
            status = await_place(at, d, deadline);
        } else if (here && at->full == COIR_FULL_RUN && can_run_here(d)) {
            counter_owe(&at->jobs, 1); /* S3 */
            *here = true;
        } else {
            status = COIR_EAGAIN;
        }
        if (status != COIR_OK) {
            domain_give_back(d, at, 1);
            return status;
        }
    }
    return COIR_OK;
}

/* ------------------------------------------------------------------------------------- submit */

static int64_t job_deadline(const struct coir_domain *d, int64_t deadline)
{
    deadline = earlier(deadline, coir_deadline());
    if (d->deadline_ns != COIR_NEVER)
        deadline = earlier(deadline, time_after(coir_now(), d->deadline_ns));
    return deadline;
}

/* As a visitor: makes the scope of a job that has a place at each level. */
static int admit(struct coir_domain *d, int64_t deadline, struct scope **scope, bool *here)
{
    int status = COIR_OK;

    if (domain_is_closing(d))
        return COIR_ESHUTDOWN;
    if (scope_canceled(&d->scope))
        return COIR_ECANCELED;
    status = enter(d, deadline, here);
    if (status != COIR_OK) {
        if (status == COIR_EAGAIN || status == COIR_ETIMEDOUT)
            atomic_fetch_add_explicit(&d->refused, 1, memory_order_relaxed); /* a figure */
        return status;
    }
    *scope = scope_make(d, deadline);
    if (*scope)
        return COIR_OK;
    domain_give_back(d, NULL, 1);
    return COIR_ENOMEM;
}

static int submit(struct coir_domain *d, struct work *item, int64_t deadline, uintptr_t frame)
{
    struct scope *scope = NULL;
    bool here = false;
    int status;

    domain_visit(d);
    status = admit(d, job_deadline(d, deadline), &scope, &here);
    domain_leave(d);
    if (status != COIR_OK)
        return status;
    item->scope = scope;
    if (!here)
        return spawn_admitted(d->rt, item, frame);
    if (fiber_self())
        spawn_in_place(fiber_self(), item, frame);
    else
        spawn_outside(item, frame);
    return COIR_OK;
}

int coir_domain_submit_until(coir_domain *d, coir_counter *counter, coir_fn *fn, void *arg,
                             int64_t deadline)
{
    struct work item = {fn, arg, counter, NULL};

    if (!d || !fn)
        return COIR_EINVAL;
    if (runtime_forked(d->rt))
        return COIR_EFORKED;
    return submit(d, &item, deadline, (uintptr_t)__builtin_frame_address(0));
}

int coir_domain_submit(coir_domain *d, coir_counter *counter, coir_fn *fn, void *arg)
{
    return coir_domain_submit_until(d, counter, fn, arg, COIR_NEVER);
}

int domain_start_service(struct coir_domain *d, struct counter *owed, coir_fn *fn, void *arg, int64_t deadline)
{
    struct work item = {fn, arg, owed, NULL};
    struct scope *scope;
    int status;

    domain_visit(d);
    status = admit(d, deadline, &scope, NULL);
    domain_leave(d);
    if (status != COIR_OK)
        return status;
    item.scope = scope;
    return spawn_admitted(d->rt, &item, (uintptr_t)__builtin_frame_address(0));
}

/* ------------------------------------------------------------------------------------- asking */

static const struct scope *scope_here(void)
{
    const struct job *j = *job_slot();

    return j ? j->scope : NULL;
}

coir_domain *coir_domain_current(void)
{
    const struct scope *s = scope_here();

    return s ? s->domain : NULL;
}

int64_t coir_deadline(void)
{
    const struct scope *s = scope_here();

    return s ? s->deadline : COIR_NEVER;
}

bool domain_holds_caller(const struct coir_domain *d)
{
    for (const struct job *j = *job_slot(); j; j = j->outer)
        if (j->scope && domain_within(j->scope->domain, d))
            return true;
    return false;
}

/* ------------------------------------------------------------------------------------- cancel */

/* Those who wait for a place in d or below it, at this level, are turned away. */
static void turn_away(struct coir_domain *at, const struct coir_domain *d, int verdict)
{
    struct entrant *e, *next, *away = NULL;

    lock_take(&at->lock);
    for (e = at->first; e; e = next) {
        next = e->next;
        if (!domain_within(e->target, d))
            continue;
        domain_delist(at, e);
        e->verdict = verdict;
        e->next = away;
        away = e;
    }
    lock_drop(&at->lock);
    while ((e = away)) {
        away = e->next;
        counter_settle(&e->turn, 1); /* the last use */
    }
}

/* The same at every level below, which is where those who want to enter below may wait. */
static void turn_away_below(struct coir_domain *d, int verdict)
{
    for (struct coir_domain *at = d; at; at = domain_after(at, d))
        turn_away(at, d, verdict);
}

void domain_turn_away(struct coir_domain *d, int verdict)
{
    lock_take(&d->rt->domains_lock);
    turn_away_below(d, verdict);
    for (struct coir_domain *at = d->parent; at; at = at->parent)
        turn_away(at, d, verdict);
    lock_drop(&d->rt->domains_lock);
}

/* Who lines up later sees that the runtime cancels: the lock orders the two. */
void domain_turn_away_all(struct coir_runtime *rt, int verdict)
{
    lock_take(&rt->domains_lock);
    for (struct coir_domain *d = rt->domains; d; d = d->next)
        turn_away_below(d, verdict);
    lock_drop(&rt->domains_lock);
}

size_t domain_cancel(struct coir_domain *d)
{
    atomic_store_explicit(&d->canceled, true, memory_order_seq_cst); /* ASK, fiber.c */
    domain_turn_away(d, COIR_ECANCELED);
    return wait_wake_canceled(d->rt);
}

int coir_domain_cancel(coir_domain *d)
{
    if (!d)
        return COIR_EINVAL;
    if (runtime_forked(d->rt))
        return COIR_EFORKED;
    domain_visit(d);
    hostcall_cancel_requested(d->rt, COIR_CANCEL_DOMAIN);
    domain_cancel(d);
    domain_leave(d);
    return COIR_OK;
}
