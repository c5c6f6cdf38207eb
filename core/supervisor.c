/* SPDX-License-Identifier: MIT */
/*
 * supervisor.c - supervisors: opening one, its loop, its end.
 *
 * A supervisor is a job in a domain of its own, and each child a job in a domain below, so what the domains
 * promise holds: nothing of a child outlives it, nothing of the supervisor outlives its close, and a receipt
 * names what does not end. One job decides everything, one thing at a time: it starts and stops children
 * (supervised.c), as its strategy says (strategy.c), and serves requests (supervisor_request.c). Others tell it by
 * its mailbox, and look at what is shown under the tree's lock (supervisor_tree.c).
 *
 * It ends when it is asked to stop, or canceled, or gives up: then it stops its children first, and panics.
 * That is how its own supervisor learns of it, as of any child that panics; the root's end goes to whoever
 * opened it.
 *
 * The root's job owes its end to a counter of its own, and whoever settles that tells the caller's: so a
 * failed open owes nothing, and one job makes the first starts and goes on. (A second one would have to be queued when
 * the children run already, and can be dropped there: too late, canceled, its domain tripped.) It serves
 * the caller's counter as a pool's worker does a message's, so a cancel of that reaches it. The root belongs to its
 * domain, and is freed by its finalizer, whoever closes that. A supervisor below runs on its child's job, in the
 * child's domain, and is freed when all of that has ended.
 */
#include <stdio.h>

#include "drain.h"
#include "find.h"
#include "strategy.h"
#include "supervisor_request.h"
#include "supervisor_spec.h"
#include "wait.h"

static const struct child_ops ops;

/* --------------------------------------------------------------------------------- made and freed */

static void set_state(struct coir_supervisor *s, int state)
{
    int64_t now = coir_now();

    lock_take(&s->tree->lock);
    s->state = state;
    s->since = now;
    lock_drop(&s->tree->lock);
}

/* The job of a child that is stuck no more may be about to say that it has ended. */
static void await_mail(struct child *c)
{
    while (c->watch.settled && !mailbox_was_sent(&c->owner->mail, &c->mail))
        coir_yield();
}

static void free_supervisor(struct coir_supervisor *s)
{
    struct host *host = &s->rt->host;
    struct child *c;

    while ((c = s->first)) {
        await_mail(c);
        if (c->sub)
            ops.ended(c);
        child_unlink(c);
        mem_free(host, c);
    }
    mailbox_fini(&s->mail);
    mem_free(host, s);
}

static int make_children(struct coir_supervisor *s, const coir_supervisor_options *o)
{
    coir_child_spec spec;
    struct child *c;

    for (size_t i = 0; i < o->children_count; i++) {
        int status = spec_copy_child(spec_child(o, i), s->strategy, &spec);

        if (status != COIR_OK)
            return status; /* the caller has changed it since it was checked */
        c = child_make(s, &spec);
        if (!c)
            return COIR_ENOMEM;
        child_link(c);
    }
    return COIR_OK;
}

static unsigned restarts_of(const coir_supervisor_options *o)
{
    return o->max_restarts == COIR_RESTARTS_NONE ? 0 : o->max_restarts;
}

/* Of its jitter. */
static uint64_t first_random(const struct coir_supervisor *s)
{
    struct worker *w = worker_here();

    if (w && w->runtime->lab)
        return w->runtime->lab->draw(w, UINT64_MAX);
    return (uint64_t)(uintptr_t)s ^ (uint64_t)coir_now();
}

/* child: as which it is known above; NULL: the root. */
static int make(struct coir_runtime *rt, const coir_supervisor_options *o, struct child *child,
                struct coir_supervisor **out)
{
    unsigned max = restarts_of(o);
    struct coir_supervisor *s = mem_alloc(&rt->host, sizeof *s + max * sizeof(int64_t));
    int status;

    if (!s)
        return COIR_ENOMEM;
    s->rt = rt;
    s->child = child;
    s->tree = child ? child->owner->tree : &s->own_tree;
    s->ops = &ops;
    s->name = o->name;
    s->strategy = (int)o->strategy;
    s->intensity = (struct intensity){max, o->max_seconds, 0, (int64_t *)(void *)(s + 1)};
    s->backoff = (struct backoff){o->backoff_ns, o->backoff_max_ns, o->backoff_jitter};
    s->clock = child ? child->owner->clock : coir_now;
    s->random = first_random(s);
    s->since = coir_now();
    s->status = COIR_ECHILD; /* until it is known */
    timers_init(&s->due);
    status = make_children(s, o);
    if (status == COIR_OK)
        *out = s;
    else
        free_supervisor(s);
    return status;
}

/* ------------------------------------------------------------------------------------ its job */

static void take_mail(struct coir_supervisor *s)
{
    struct mail *m;

    while (!supervisor_must_stop(s) && (m = mailbox_take(&s->mail))) {
        if (m->kind == MAIL_REQUEST)
            request_serve(s, m);
        else
            strategy_ended(CONTAINER_OF(m, struct child, mail));
    }
}

static void serve(struct coir_supervisor *s)
{
    while (!supervisor_must_stop(s)) {
        int64_t due;

        take_mail(s);
        if (!supervisor_must_stop(s))
            strategy_start_due(s);
        due = strategy_next_due(s);
        if (due && !supervisor_must_stop(s) && mailbox_sleep(&s->mail, due, true) == COIR_ECANCELED)
            s->canceled = true;
    }
}

/* The last act of its last job, but for what it says of itself. */
static void end(struct coir_supervisor *s)
{
    set_state(s, COIR_CHILD_STOPPING);
    request_refuse_all(s);
    strategy_stop_all(s);
    set_state(s, s->stuck ? COIR_CHILD_STUCK : COIR_CHILD_ENDED);
}

static void say_not_started(struct coir_supervisor *s)
{
    struct child *c = s->failed;

    coir_fail(s->status, "supervisor %s: child %s did not start: %s", s->name, c->spec.name,
              c->last.id ? c->last.message : coir_status_text(s->status));
}

static void start(struct coir_supervisor *s)
{
    set_state(s, COIR_CHILD_STARTING);
    s->status = strategy_start_all(s, &s->failed);
    if (s->status == COIR_OK) {
        set_state(s, COIR_CHILD_RUNNING);
        return;
    }
    if (s->failed->state == COIR_CHILD_STUCK)
        strategy_give_up(s->failed, true);
    end(s);
    if (s->status != COIR_ECANCELED)
        say_not_started(s);
}

static void serve_and_end(struct coir_supervisor *s)
{
    serve(s);
    end(s);
}

static void give_up(struct coir_supervisor *s)
{
    if (s->why[0])
        coir_panic("%s", s->why);
}

/* ------------------------------------------------------------------------------ below another */

static int attach(struct child *c)
{
    struct coir_supervisor *s;
    coir_supervisor_options o;
    int status = spec_copy_supervisor(c->spec.supervisor, &o);

    if (status == COIR_OK)
        status = make(c->owner->rt, &o, c, &s);
    if (status != COIR_OK)
        return status;
    s->domain = c->domain;
    lock_take(&s->tree->lock);
    c->sub = s;
    lock_drop(&s->tree->lock);
    if (coir_event_is_set(&c->stop))
        supervisor_ask(s); /* child_ask has looked before */
    return COIR_OK;
}

static void supervise(struct child *c)
{
    int status = attach(c);

    if (status != COIR_OK) {
        coir_fail(status, "supervisor %s: %s", c->spec.name, coir_status_text(status));
        return;
    }
    start(c->sub);
    if (c->sub->status == COIR_OK) {
        coir_child_ready();
        serve_and_end(c->sub);
    }
    give_up(c->sub);
}

static void ended_child(struct child *c)
{
    struct coir_supervisor *s = c->sub;

    if (!s)
        return;
    lock_take(&c->owner->tree->lock);
    c->sub = NULL;
    lock_drop(&c->owner->tree->lock);
    free_supervisor(s);
}

static const struct child_ops ops = {.supervise = supervise, .ended = ended_child};

/* ---------------------------------------------------------------------------------------- open */

/* What becomes of an opening is for its caller alone, but for a child that did not start. */
static bool is_told(const struct coir_supervisor *s, int outcome)
{
    return outcome != COIR_DONE && (s->status == COIR_OK || s->status == COIR_ECHILD);
}

/* The root's job has ended, or was dropped. */
static void on_root_end(struct wait_node *node, int outcome)
{
    struct coir_supervisor *s = CONTAINER_OF(node, struct coir_supervisor, watch);
    struct worker *w = worker_here();
    coir_failure f;
    bool known = coir_counter_failure((coir_counter *)(void *)&s->job, &f) == COIR_OK;

    if (s->end && is_told(s, outcome))
        counter_fail(s->end, outcome, known ? &f : NULL);
    else if (s->end)
        counter_settle(s->end, 1);
    else if (outcome == COIR_PANICKED && w && w->runtime == s->rt)
        tally(&w->unobserved, 1);
    wait_node_release(node); /* the last use of the supervisor */
}

/* Whoever ends its job may be about to say so: neither the supervisor nor `end` may go before. */
static void await_end(struct coir_supervisor *s)
{
    unsigned turns = 0;

    while (s->watch.settled && !wait_node_released(&s->watch)) {
        coir_yield();
        spin_pause(&turns);
    }
}

static void root(void *arg)
{
    struct coir_supervisor *s = arg;

    coir_job_name(s->name);
    scope_recall(s->domain, NULL, *job_slot());
    job_serve(s->domain, s->end);
    start(s);
    if (s->status != COIR_OK)
        return;
    counter_settle(&s->opening, 1);
    serve_and_end(s);
    counter_settle(&s->over, 1);
    give_up(s);
}

/* The domain's finalizer: nothing runs in it any more. */
static void finalize(void *arg)
{
    struct coir_supervisor *s = arg;

    lock_take(&s->rt->domains_lock);
    s->domain->supervisor = NULL;
    lock_drop(&s->rt->domains_lock);
    await_end(s);
    free_supervisor(s);
}

/* A domain that the supervisor belongs to. On failure neither is left. */
static int settle_in(struct coir_supervisor *s, coir_domain *parent)
{
    coir_domain_options o = {.size = sizeof o, .name = s->name};
    int status = domain_open_with(s->rt, parent, &o, finalize, s, &s->domain);

    if (status != COIR_OK) {
        free_supervisor(s);
        return status;
    }
    lock_take(&s->rt->domains_lock);
    s->domain->supervisor = s;
    supervisor_ask_late(s);
    lock_drop(&s->rt->domains_lock);
    return COIR_OK;
}

/* Of an open whose job has ended, and so has not started all children: it says why, or has not run. */
static int status_of(struct coir_supervisor *s, int outcome)
{
    coir_failure f;

    if (outcome == COIR_EXPIRED)
        return COIR_ETIMEDOUT;
    if (outcome != COIR_CANCELED)
        return s->status;
    return coir_counter_failure((coir_counter *)(void *)&s->job, &f) == COIR_OK && f.kind == COIR_KIND_SHUTDOWN
               ? COIR_ESHUTDOWN
               : COIR_ECANCELED;
}

/* Until all children have started. A caller that is canceled has the supervisor stop. */
static int await_opening(struct coir_supervisor *s)
{
    coir_counter *const either[] = {(coir_counter *)(void *)&s->opening, (coir_counter *)(void *)&s->job};
    size_t which = 0;
    int outcome = coir_wait_any(either, 2, COIR_NEVER, &which);

    if (outcome >= 0)
        return which == 0 ? COIR_OK : status_of(s, outcome);
    supervisor_ask(s);
    wait_join(&s->job);
    return outcome;
}

static int close_failed(struct coir_supervisor *s, int status)
{
    await_end(s);
    return coir_domain_close(s->domain, 0, NULL) == COIR_ETIMEDOUT ? COIR_ETIMEDOUT : status;
}

/* The watch is told in either case. */
static int submit(struct coir_supervisor *s)
{
    int status;

    counter_owe(&s->over, 1);
    counter_owe(&s->opening, 1);
    if (s->end)
        counter_owe(s->end, 1);
    counter_owe(&s->job, 1); /* so that the watch is taken */
    s->watch.settled = on_root_end;
    counter_enlist(&s->job, &s->watch);
    status = domain_start_service(s->domain, &s->job, root, s, coir_deadline());
    counter_settle(&s->job, 1);
    return status;
}

/* The calling job's frames are not torn down under the supervisor, if `end` lies in them. */
static void adopt(struct counter *end, uintptr_t frame)
{
    struct job *j = *job_slot();

    if (end && j && counter_owner(end) != j)
        job_adopt(j, end, frame);
}

static int open_checked(struct coir_supervisor *s, coir_domain *parent, uintptr_t frame)
{
    int status = settle_in(s, parent);

    if (status != COIR_OK)
        return status;
    status = submit(s);
    if (status == COIR_OK)
        status = await_opening(s);
    if (status != COIR_OK)
        return close_failed(s, status);
    adopt(s->end, frame);
    return COIR_OK;
}

int coir_supervisor_open(coir_runtime *rt, coir_domain *domain, const coir_supervisor_options *options,
                         coir_counter *end, coir_supervisor **supervisor)
{
    coir_supervisor_options o;
    struct coir_supervisor *s;
    int status;

    if (!supervisor)
        return COIR_EINVAL;
    *supervisor = NULL;
    if (!rt || (domain && domain->rt != rt))
        return COIR_EINVAL;
    if (runtime_forked(rt))
        return COIR_EFORKED;
    status = spec_copy_supervisor(options, &o);
    if (status == COIR_OK && rt->options.panic == COIR_PANIC_ABORT)
        status = COIR_EPOLICY;
    if (status == COIR_OK)
        status = make(rt, &o, NULL, &s);
    if (status != COIR_OK)
        return status;
    s->end = counter_of(end);
    status = open_checked(s, domain, (uintptr_t)__builtin_frame_address(0));
    if (status == COIR_OK)
        *supervisor = s;
    return status;
}

/* --------------------------------------------------------------------------------------- close */

/* Until all children are stopped, or the job is gone, which it can be without having run. */
static int await_over(struct coir_supervisor *s)
{
    coir_counter *const either[] = {(coir_counter *)(void *)&s->over,
                                    (coir_counter *)(void *)&s->domain->jobs};

    return coir_wait_any(either, 2, COIR_NEVER, NULL);
}

/* While it is held nobody else frees the supervisor. */
static int close_held(struct coir_supervisor *s, struct coir_domain *d, int64_t budget_ns, coir_domain_receipt *receipt)
{
    int status = COIR_OK;

    supervisor_ask(s);
    if (budget_ns < 0) {
        status = await_over(s);
        budget_ns = status < 0 || s->stuck ? 0 : -1;
    }
    if (status != COIR_ENOMEM)
        status = domain_close_held(d, budget_ns, receipt);
    if (status != COIR_OK)
        domain_let_go(d);
    return status;
}

int coir_supervisor_close(coir_supervisor *s, int64_t budget_ns, coir_domain_receipt *receipt)
{
    struct coir_domain *d;

    if (!s)
        return COIR_EINVAL;
    if (runtime_forked(s->rt))
        return COIR_EFORKED;
    if (s->child)
        return COIR_EPERM;
    d = s->domain;
    if (domain_holds_caller(d))
        return COIR_EDEADLK;
    return domain_hold(d) ? close_held(s, d, budget_ns, receipt) : COIR_EBUSY;
}

/* A child may ask it to stop before the last one has started: nobody else can cancel the start. */
int coir_supervisor_run(const coir_options *options, const coir_supervisor_options *root)
{
    coir_counter end = COIR_COUNTER_INIT;
    coir_supervisor *s;
    coir_runtime *rt;
    int status = coir_open(options, &rt), outcome, closed;

    if (status != COIR_OK)
        return status;
    status = coir_supervisor_open(rt, NULL, root, &end, &s);
    outcome = status == COIR_OK ? coir_wait(&end) : status == COIR_ECANCELED ? COIR_DONE : status;
    status = status == COIR_OK ? coir_supervisor_close(s, -1, NULL) : COIR_OK;
    closed = coir_close(rt, 0, NULL);
    return status != COIR_OK ? status : closed != COIR_OK ? closed : outcome;
}
