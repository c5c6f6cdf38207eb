/* SPDX-License-Identifier: MIT */
/*
 * link.c - links and monitors: what shall happen when a counter settles.
 *
 * Both are a node on a counter's list of waiters, in the caller's memory, so they allocate nothing, and cost
 * nothing until the counter settles. A node's call comes from whoever settles the counter.
 *
 *   link      two nodes. The first counter that settles as anything but DONE has the other canceled, unless
 *             that has settled too: a cancel is a flag in the word, and looks at every stack.
 *   monitor   one node. It passes outcome and failure on to another counter, on which a unit was taken.
 *
 * A link's node is released (NODE, counter.c) after the cancel, and who unlinks takes both nodes out or waits
 * for that: so neither counter is touched once coir_unlink has returned.
 *
 * One that lies in a frame of a job hangs on that job's boundary as a lock does that it holds (held.h), or a
 * panic would leave its nodes in the counters' lists. It ends with its frame, before a cleanup of another can
 * use that memory; if a panic waits for what a monitor tells, before that wait.
 */
#include "wait.h"

struct end {
    struct wait_node node;
    struct counter *of;      /* the counter it waits at */
    struct counter *other;   /* link: to cancel. Monitor: to tell */
};

/* Where it lies. */
struct tie {
    struct held held;
    struct job *in; /* the boundary in whose frames, or NULL: elsewhere, and held is not used */
};

struct pair {
    struct tie tie; /* first: see held.h */
    struct end a, b;
};

struct monitor {
    struct tie tie;
    struct end end;
};

_Static_assert(sizeof(struct pair) <= sizeof(coir_link), "coir.h reserves it");
_Static_assert(sizeof(struct monitor) <= sizeof(coir_monitor), "coir.h reserves it");
_Static_assert(offsetof(struct pair, tie.held) == 0 && offsetof(struct monitor, tie.held) == 0, "held.h");

static struct pair *pair_of(coir_link *l)
{
    return (struct pair *)(void *)l;
}

static struct monitor *monitor_of(coir_monitor *m)
{
    return (struct monitor *)(void *)m;
}

/* ---------------------------------------------------------------------------- in a job's frame */

static struct job *job_whose_frame(const struct tie *t, uintptr_t frame)
{
    return job_around(*job_slot(), (uintptr_t)t, frame);
}

static void tie_to_frame(struct tie *t, const struct held_kind *kind, uintptr_t frame)
{
    t->in = job_whose_frame(t, frame);
    if (t->in)
        held_push(&t->in->held, &t->held, kind);
}

static void untie(struct tie *t)
{
    if (t->in)
        held_remove(&t->held);
    t->in = NULL;
}

/* The list is the job's own. */
static bool is_anothers(const struct tie *t, uintptr_t frame)
{
    return t->in && t->in != job_whose_frame(t, frame);
}

static const void *no_lock(const struct held *h)
{
    (void)h;
    return NULL;
}

/* --------------------------------------------------------------------------------------- link */

static void die_together(struct end *e, int outcome)
{
    if (outcome != COIR_DONE && counter_look(e->other) < 0)
        wait_cancel(e->other, COIR_CANCEL_ASKED);
}

static void on_settled_link(struct wait_node *node, int outcome)
{
    struct end *e = CONTAINER_OF(node, struct end, node);

    die_together(e, outcome);
    wait_node_release(node); /* the last use */
}

/* A counter that has settled already says so at once. */
static void watch(struct end *e, struct counter *of, struct counter *other)
{
    *e = (struct end){{.settled = on_settled_link}, of, other};
    job_share(of);
    if (counter_enlist(of, &e->node))
        return;
    die_together(e, counter_look(of));
    wait_node_release(&e->node);
}

/* Its end is taken out of the counter's list; again: nothing. */
static void unwatch(struct end *e)
{
    counter_delist(e->of, &e->node);
    wait_node_release(&e->node);
}

static void unlink_pair(struct pair *l)
{
    untie(&l->tie);
    unwatch(&l->a);
    unwatch(&l->b);
}

static void leave_link(struct held *h, enum leave how)
{
    if (how == LEAVE_ENDED)
        unlink_pair(CONTAINER_OF(h, struct pair, tie.held));
}

static const struct held_kind linked = {leave_link, no_lock, "returned over a link in its frame", NULL, NULL};

int coir_link_counters(coir_link *link, coir_counter *a, coir_counter *b)
{
    struct pair *l = pair_of(link);

    if (!l || !a || !b || a == b)
        return COIR_EINVAL;
    tie_to_frame(&l->tie, &linked, (uintptr_t)__builtin_frame_address(0));
    watch(&l->a, counter_of(a), counter_of(b));
    watch(&l->b, counter_of(b), counter_of(a));
    return COIR_OK;
}

int coir_unlink(coir_link *link)
{
    struct pair *l = pair_of(link);

    if (!l)
        return COIR_EINVAL;
    if (is_anothers(&l->tie, (uintptr_t)__builtin_frame_address(0)))
        return COIR_EPERM;
    unlink_pair(l);
    return COIR_OK;
}

/* ------------------------------------------------------------------------------------ monitor */

static void tell(struct end *e, int outcome)
{
    struct counter *told = e->other;
    coir_failure f;
    bool known = coir_counter_failure((const coir_counter *)(const void *)e->of, &f) == COIR_OK;

    wait_node_release(&e->node); /* the last use: who waits for `told` may free it */
    if (outcome == COIR_DONE)
        counter_settle(told, 1);
    else
        counter_fail(told, outcome, known ? &f : NULL);
}

static void on_settled_monitor(struct wait_node *node, int outcome)
{
    tell(CONTAINER_OF(node, struct end, node), outcome);
}

/* COIR_ENOENT: it has told. */
static int end_monitor(struct monitor *m)
{
    struct end *e = &m->end;

    untie(&m->tie);
    if (wait_node_released(&e->node) || !counter_try_delist(e->of, &e->node)) {
        counter_delist(e->of, &e->node); /* until it is being told */
        return COIR_ENOENT;
    }
    wait_node_release(&e->node);
    counter_settle(e->other, 1);
    return COIR_OK;
}

static void leave_monitor(struct held *h, enum leave how)
{
    if (how == LEAVE_ENDED)
        end_monitor(CONTAINER_OF(h, struct monitor, tie.held));
}

static const void *owed_to(const struct held *h)
{
    return CONTAINER_OF(h, const struct monitor, tie.held)->end.other;
}

static const struct held_kind monitoring = {leave_monitor, no_lock, "returned over a monitor in its frame",
                                            owed_to, NULL};

int coir_monitor_counter(coir_monitor *monitor, coir_counter *watched, coir_counter *told)
{
    struct monitor *m = monitor_of(monitor);

    if (!m || !watched || !told || watched == told)
        return COIR_EINVAL;
    tie_to_frame(&m->tie, &monitoring, (uintptr_t)__builtin_frame_address(0));
    m->end = (struct end){{.settled = on_settled_monitor}, counter_of(watched), counter_of(told)};
    counter_owe(m->end.other, 1);
    job_share(m->end.of);
    if (!counter_enlist(m->end.of, &m->end.node))
        tell(&m->end, counter_look(m->end.of));
    return COIR_OK;
}

int coir_monitor_end(coir_monitor *monitor)
{
    struct monitor *m = monitor_of(monitor);

    if (!m)
        return COIR_EINVAL;
    return is_anothers(&m->tie, (uintptr_t)__builtin_frame_address(0)) ? COIR_EPERM : end_monitor(m);
}
