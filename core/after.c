/* SPDX-License-Identifier: MIT */
/*
 * after.c - work that waits for a counter, and is queued when that has settled as DONE, else dropped.
 *
 * Does not know how work enters otherwise (spawn.c). Owns each runtime's list of what is pending.
 *
 * Frames do not go with a counter that pending work waits for: that is dropped (after_end_awaited). A panic looks for such
 * counters by their addresses, before any frame goes; a return, for which nobody looks, is told by the boundary's count of
 * what its own job has spawned.
 *
 *   AWAITED  who takes work out of the list lowers the boundary's count (release), and knows it no more -> the
 *            boundary finds 0 (acquire), and its record may go.
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
    struct job *around;        /* the boundary in whose frames that counter lies, or NULL */
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
    uint64_t count;
    bool room;

    lock_take(&rt->pending_lock);
    count = atomic_load_explicit(&rt->pending_count, memory_order_relaxed); /* the lock orders it */
    room = count < rt->options.jobs_max;
    if (room) {
        atomic_store_explicit(&rt->pending_count, count + 1, memory_order_relaxed); /* as above */
        if (count == 0)
            atomic_fetch_add_explicit(&runtimes_pending, 1, memory_order_relaxed); /* job_end_awaited */
        a->next = rt->pending;
        if (a->next)
            a->next->prev = a;
        rt->pending = a;
        if (a->around)
            atomic_fetch_add_explicit(&a->around->awaited, 1, memory_order_relaxed); /* the lock orders it */
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
    if (atomic_fetch_sub_explicit(&a->rt->pending_count, 1, memory_order_relaxed) == 1)  /* the lock orders it */
        atomic_fetch_sub_explicit(&runtimes_pending, 1, memory_order_relaxed); /* what it was added for is over */
    if (a->around)
        atomic_fetch_sub_explicit(&a->around->awaited, 1, memory_order_release); /* AWAITED: its last use */
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

static void drop_all(struct after *a, enum coir_kind kind)
{
    struct after *next;

    for (; a; a = next) {
        next = a->next;
        queue_or_drop(a, kind);
    }
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
    drop_all(dropped, kind);
}

/* Whether its counter goes with these frames of j; from: as for after_end_awaited. */
static bool goes_with(const struct after *a, const struct job *j, uintptr_t from)
{
    uintptr_t at = (uintptr_t)a->after;

    return from ? at >= from && at < (uintptr_t)j : a->around == j;
}

/* Frames that go, and what has waited for counters there. */
struct going {
    const struct job *j;
    uintptr_t from;       /* as for after_end_awaited */
    struct after *taken;  /* out of the lists */
    struct counter *late; /* such a counter, whose finisher has that work; or NULL */
};

static void take_awaited(struct coir_runtime *rt, void *arg)
{
    struct going *g = arg;
    struct after *next;

    if (atomic_load_explicit(&rt->pending_count, memory_order_relaxed) == 0) /* job_end_awaited */
        return;
    lock_take(&rt->pending_lock);
    for (struct after *a = rt->pending; a; a = next) {
        next = a->next;
        if (!goes_with(a, g->j, g->from))
            continue;
        if (!counter_try_delist(a->after, &a->node)) {
            g->late = a->after;
            continue;
        }
        unlist_pending(a);
        a->next = g->taken;
        g->taken = a;
    }
    lock_drop(&rt->pending_lock);
}

/* What is owed there by jobs has been waited for; what is owed by hand alone never may be, and nobody shall look at
 * that counter again. The work may be any runtime's: its jobs may have been given the counter. */
bool after_end_awaited(struct job *j, uintptr_t from)
{
    struct going g;
    bool any = false;

    if (life_is_over())
        return false;
    do {
        g = (struct going){j, from, NULL, NULL};
        runtime_each_open(take_awaited, &g);
        any |= g.taken || g.late;
        drop_all(g.taken, COIR_KIND_DEPENDENCY);
        if (g.late)
            job_ops_set()->join(g.late);
    } while (g.late);
    return any;
}

void after_each(struct coir_runtime *rt, void (*visit)(struct counter *after, struct counter *done, void *arg),
                void *arg)
{
    lock_take(&rt->pending_lock);
    for (struct after *a = rt->pending; a; a = a->next)
        visit(a->after, a->work.owed, arg);
    lock_drop(&rt->pending_lock);
}

/* If a boundary's frames have the counter, they do not go before the work does. */
static void note_awaited(struct after *a, uintptr_t frame)
{
    struct job *around = job_around(*job_slot(), (uintptr_t)a->after, frame);

    a->around = around;
    if (!around)
        return;
    job_keep(around);
    if (!job_is_awaited(around))
        around->awaited_from = UINTPTR_MAX;
    if (around->awaited_from > (uintptr_t)a->after)
        around->awaited_from = (uintptr_t)a->after;
}

/* Admitted and in the runtime's list, but not yet in the counter's; *made: COIR_OK. */
static int make_pending(struct coir_runtime *rt, struct counter *after, const struct work *work, uintptr_t frame,
                        struct after **made)
{
    struct after *a = mem_alloc(&rt->host, sizeof *a);
    int status;

    if (!a)
        return COIR_ENOMEM;
    status = work->scope ? scope_admit(work->scope, 1) : COIR_OK;
    if (status == COIR_OK) {
        *a = (struct after){{.settled = on_settled_after, .foretold = true}, after, NULL, *work, rt, NULL, NULL, false,
                            false};
        note_awaited(a, frame);
        *made = a;
        if (list_pending(a))
            return COIR_OK;
        status = COIR_EAGAIN;
        if (work->scope)
            scope_revoke(work->scope, 1);
    }
    mem_free(&rt->host, a);
    return status;
}

int coir_spawn_after(coir_counter *after, coir_counter *done, coir_fn *fn, void *arg)
{
    struct worker *w = worker_here();
    struct job *j = w ? w->current->job : NULL;
    struct counter *c = counter_of(after);
    uintptr_t frame = (uintptr_t)__builtin_frame_address(0);
    struct after *a;
    int status;

    if (!j)
        return status_outside();
    if (!after || !fn || after == done)
        return COIR_EINVAL;
    status = make_pending(w->runtime, c, &(struct work){fn, arg, done, j->scope}, frame, &a);
    if (status != COIR_OK)
        return status;
    if (done)
        job_owe(j, counter_of(done), 1, frame);
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
