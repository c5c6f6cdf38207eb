/* SPDX-License-Identifier: MIT */
/*
 * link.c - links and monitors: what shall happen when a counter settles.
 *
 * Both are a node on a counter's list of waiters, in the caller's memory, so they allocate nothing, and cost
 * nothing until the counter settles. A node's call comes from whoever settles the counter.
 *
 *   link      two nodes. The first counter that settles as anything but DONE has the other canceled, unless
 *             that has settled too: a cancel is a flag in the word, and looks at every stack. Meanwhile a unit
 *             is owed to it, for it may lie in a frame that goes as soon as it settles.
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

/* One counter of a link. */
struct side {
    struct wait_node node;
    struct counter *of;
    struct side *other;
    struct lock lock;
    bool gone; /* lock; `of` settles, and may not be there any more */
};

/* Where it lies. */
struct tie {
    struct held held;
    struct job *in; /* the boundary in whose frames, or NULL: elsewhere, and held is not used */
};

struct pair {
    struct tie tie; /* first: see held.h */
    struct side a, b;
};

struct monitor {
    struct tie tie;
    struct wait_node node;
    struct counter *of, *told;
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

/* A unit, with which it stays; false: it has settled. */
static bool hold(struct side *s)
{
    bool held;

    lock_take(&s->lock);
    held = !s->gone && counter_owe_more(s->of);
    lock_drop(&s->lock);
    return held;
}

static void die_together(struct side *s, int outcome)
{
    struct counter *other = s->other->of;

    if (outcome == COIR_DONE || !hold(s->other))
        return;
    wait_cancel(other, COIR_CANCEL_ASKED);
    counter_settle(other, 1);
}

static void on_settled_link(struct wait_node *node, int outcome)
{
    struct side *s = CONTAINER_OF(node, struct side, node);

    if (outcome == SETTLING) {
        lock_take(&s->lock);
        s->gone = true;
        lock_drop(&s->lock);
    } else {
        die_together(s, outcome);
        wait_node_release(node); /* the last use */
    }
}

static void side_init(struct side *s, coir_counter *of, struct side *other)
{
    *s = (struct side){{.settled = on_settled_link, .foretold = true}, counter_of(of), other, {0}, false};
    job_share(s->of);
}

/* A counter that has settled already says so at once. */
static void watch(struct side *s)
{
    if (counter_enlist(s->of, &s->node))
        return;
    on_settled_link(&s->node, SETTLING);
    on_settled_link(&s->node, counter_look(s->of));
}

/* Its node is taken out of the counter's list; again: nothing. */
static void unwatch(struct side *s)
{
    counter_delist(s->of, &s->node);
    wait_node_release(&s->node);
}

static void unlink_pair(struct pair *l)
{
    untie(&l->tie);
    if (!l->a.of)
        return; /* it never was a link */
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

    if (l)
        *l = (struct pair){0};
    if (!l || !a || !b || a == b)
        return COIR_EINVAL;
    tie_to_frame(&l->tie, &linked, (uintptr_t)__builtin_frame_address(0));
    side_init(&l->a, a, &l->b);
    side_init(&l->b, b, &l->a);
    watch(&l->a);
    watch(&l->b);
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

/* While what is watched is there. */
static void pass_on(struct monitor *m, int outcome)
{
    coir_failure f;
    bool known = coir_counter_failure((const coir_counter *)(const void *)m->of, &f) == COIR_OK;

    counter_note(m->told, outcome, known ? &f : NULL);
}

static void tell(struct monitor *m)
{
    struct counter *told = m->told;

    wait_node_release(&m->node); /* the last use: who waits for `told` may free it */
    counter_settle(told, 1);
}

static void on_settled_monitor(struct wait_node *node, int outcome)
{
    struct monitor *m = CONTAINER_OF(node, struct monitor, node);

    if (outcome == SETTLING)
        pass_on(m, node->outcome);
    else
        tell(m);
}

/* COIR_ENOENT: it has told. */
static int end_monitor(struct monitor *m)
{
    untie(&m->tie);
    if (!m->of)
        return COIR_ENOENT; /* it never was a monitor */
    if (wait_node_released(&m->node) || !counter_try_delist(m->of, &m->node)) {
        counter_delist(m->of, &m->node); /* until it is being told */
        return COIR_ENOENT;
    }
    tell(m);
    return COIR_OK;
}

static void leave_monitor(struct held *h, enum leave how)
{
    if (how == LEAVE_ENDED)
        end_monitor(CONTAINER_OF(h, struct monitor, tie.held));
}

static const void *owed_to(const struct held *h)
{
    return CONTAINER_OF(h, const struct monitor, tie.held)->told;
}

static const struct held_kind monitoring = {leave_monitor, no_lock, "returned over a monitor in its frame",
                                            owed_to, NULL};

int coir_monitor_counter(coir_monitor *monitor, coir_counter *watched, coir_counter *told)
{
    struct monitor *m = monitor_of(monitor);

    if (m)
        *m = (struct monitor){0};
    if (!m || !watched || !told || watched == told)
        return COIR_EINVAL;
    tie_to_frame(&m->tie, &monitoring, (uintptr_t)__builtin_frame_address(0));
    m->node = (struct wait_node){.settled = on_settled_monitor, .foretold = true};
    m->of = counter_of(watched);
    m->told = counter_of(told);
    counter_owe(m->told, 1);
    job_share(m->of);
    if (!counter_enlist(m->of, &m->node)) {
        pass_on(m, counter_look(m->of));
        tell(m);
    }
    return COIR_OK;
}

int coir_monitor_end(coir_monitor *monitor)
{
    struct monitor *m = monitor_of(monitor);

    if (!m)
        return COIR_EINVAL;
    return is_anothers(&m->tie, (uintptr_t)__builtin_frame_address(0)) ? COIR_EPERM : end_monitor(m);
}
