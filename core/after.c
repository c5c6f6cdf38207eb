/* SPDX-License-Identifier: MIT */
/*
 * after.c - work that waits for a counter, and is queued when that has settled as DONE, else dropped.
 *
 * Does not know how work enters otherwise (spawn.c). Owns the runtime's list of what is pending.
 */
#include "after.h"

#include "drop.h"
#include "find.h"
#include "hostcall.h"

/* Waits on a counter in place of a fiber; in the runtime's list of what is pending until it starts or
 * ends. Whoever takes it out of that list, under the lock, disposes of it. */
struct after {
    struct wait_node node;
    struct counter *after;
    struct work work;
    struct coir_runtime *rt;
    struct after *next, *prev; /* pending, or (next) in a list of its own */
    bool start;                /* what it waited for ended as DONE */
    bool visiting;             /* rt; from when it is in this list no more until it is in another, or has ended */
};

/* False: there is as much as may be queued. */
static bool list_pending(struct after *a)
{
    struct coir_runtime *rt = a->rt;
    bool room;

    lock_take(&rt->pending_lock);
    room = rt->pending_count < rt->options.jobs_max;
    if (room) {
        rt->pending_count++;
        a->next = rt->pending;
        if (a->next)
            a->next->prev = a;
        rt->pending = a;
    }
    lock_drop(&rt->pending_lock);
    return room;
}

/* Lock held. */
static void unlist_pending(struct after *a)
{
    if (a->prev)
        a->prev->next = a->next;
    else
        a->rt->pending = a->next;
    if (a->next)
        a->next->prev = a->prev;
    a->next = a->prev = NULL;
    a->rt->pending_count--;
    a->visiting = runtime_visit(a->rt);
}

static void queue_or_drop(struct after *a, enum coir_kind kind)
{
    struct coir_runtime *rt = a->rt;
    bool visiting = a->visiting, start = a->start;
    struct worker *w = visiting ? NULL : worker_here();
    struct work work = a->work;

    mem_free(&rt->host, a);
    if (start && ((w && deque_push(&w->deque, &work)) ||  /* else the injector, past its limit: */
                  inject_push_anyway(&rt->inject, &work))) /* it was admitted when it was spawned */
        park_notify(&rt->park);
    else
        job_drop(rt, &work, kind);
    runtime_leave(rt, visiting);
}

/* What it waited for has settled. Dropping a job may settle the counter of the next in a chain, so
 * those are queued here and taken by the outermost call: a chain costs no stack. */
static void start_after(struct after *a)
{
    static __thread struct after *chain;
    static __thread bool running;

    a->next = chain;
    chain = a;
    if (running)
        return;
    running = true;
    while ((a = chain)) {
        chain = a->next;
        queue_or_drop(a, a->start ? COIR_KIND_SKIPPED : COIR_KIND_DEPENDENCY);
    }
    running = false;
}

static void on_settled_after(struct wait_node *node, int outcome)
{
    struct after *a = CONTAINER_OF(node, struct after, node);

    if (outcome != SETTLING) {
        start_after(a);
        return;
    }
    a->start = node->outcome == COIR_DONE;
    lock_take(&a->rt->pending_lock);
    unlist_pending(a); /* nobody looks at that counter any more: it may go when it has settled */
    lock_drop(&a->rt->pending_lock);
}

static bool after_canceled(const struct after *a)
{
    struct counter *owed = a->work.owed;

    return (owed && counter_canceled(owed)) ||
           (a->work.scope && scope_canceled(a->work.scope)) ||
           atomic_load_explicit(&a->rt->canceling, memory_order_seq_cst); /* ASK, fiber.c */
}

void after_drop_canceled(struct coir_runtime *rt)
{
    struct after *dropped = NULL, *next;
    enum coir_kind kind = runtime_flag(&rt->canceling) ? COIR_KIND_SHUTDOWN : COIR_KIND_SKIPPED;

    lock_take(&rt->pending_lock);
    for (struct after *a = rt->pending; a; a = next) {
        next = a->next;
        if (!after_canceled(a) || !counter_try_delist(a->after, &a->node))
            continue; /* wanted, or its finisher is on the way */
        unlist_pending(a);
        a->next = dropped;
        dropped = a;
    }
    lock_drop(&rt->pending_lock);
    for (; dropped; dropped = next) {
        next = dropped->next;
        queue_or_drop(dropped, kind);
    }
}

void after_each(struct coir_runtime *rt, void (*visit)(struct counter *after, struct counter *done, void *arg),
                void *arg)
{
    lock_take(&rt->pending_lock);
    for (struct after *a = rt->pending; a; a = a->next)
        visit(a->after, a->work.owed, arg);
    lock_drop(&rt->pending_lock);
}

int coir_spawn_after(coir_counter *after, coir_counter *done, coir_fn *fn, void *arg)
{
    struct worker *w = worker_here();
    struct job *j = w ? w->current->job : NULL;
    struct counter *c = counter_of(after);
    struct after *a;
    int status;

    if (!j)
        return status_outside();
    if (!after || !fn || after == done)
        return COIR_EINVAL;
    a = mem_alloc(&w->runtime->host, sizeof *a);
    if (!a)
        return COIR_ENOMEM;
    if (j->scope && (status = scope_admit(j->scope, 1)) != COIR_OK) {
        mem_free(&w->runtime->host, a);
        return status;
    }
    *a = (struct after){
        {.settled = on_settled_after, .foretold = true}, c, {fn, arg, done, j->scope}, w->runtime,
        NULL, NULL, false, false};
    if (!list_pending(a)) {
        if (j->scope)
            scope_revoke(j->scope, 1);
        mem_free(&w->runtime->host, a);
        return COIR_EAGAIN;
    }
    if (done)
        job_owe(j, counter_of(done), 1, (uintptr_t)__builtin_frame_address(0));
    tally(&w->spawned, 1);
    hostcall_spawned(w->runtime, 1);
    job_share(c);
    if (!counter_enlist(c, &a->node)) {
        a->node.outcome = counter_look(c);
        on_settled_after(&a->node, SETTLING);
        start_after(a);
    } else if (atomic_load_explicit(&w->runtime->canceling, memory_order_seq_cst) || /* ASK, fiber.c */
               (j->scope && scope_canceled(j->scope)) ||
               (done && counter_canceled(counter_of(done)))) {
        after_drop_canceled(w->runtime); /* the cancel may have come before it was listed */
    }
    return COIR_OK;
}
