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
 */
#include "wait.h"

struct end {
    struct wait_node node;
    struct counter *of;      /* the counter it waits at */
    struct counter *other;   /* link: to cancel. Monitor: to tell */
};

struct pair {
    struct end a, b;
};

struct monitor {
    struct end end;
};

_Static_assert(sizeof(struct pair) <= sizeof(coir_link), "coir.h reserves it");
_Static_assert(sizeof(struct monitor) <= sizeof(coir_monitor), "coir.h reserves it");

static struct pair *pair_of(coir_link *l)
{
    return (struct pair *)(void *)l;
}

static struct monitor *monitor_of(coir_monitor *m)
{
    return (struct monitor *)(void *)m;
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
    if (counter_enlist(of, &e->node))
        return;
    die_together(e, counter_look(of));
    wait_node_release(&e->node);
}

int coir_link_counters(coir_link *link, coir_counter *a, coir_counter *b)
{
    struct pair *l = pair_of(link);

    if (!l || !a || !b || a == b)
        return COIR_EINVAL;
    watch(&l->a, counter_of(a), counter_of(b));
    watch(&l->b, counter_of(b), counter_of(a));
    return COIR_OK;
}

int coir_unlink(coir_link *link)
{
    struct pair *l = pair_of(link);

    if (!l)
        return COIR_EINVAL;
    counter_delist(l->a.of, &l->a.node);
    counter_delist(l->b.of, &l->b.node);
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

int coir_monitor_counter(coir_monitor *monitor, coir_counter *watched, coir_counter *told)
{
    struct monitor *m = monitor_of(monitor);

    if (!m || !watched || !told || watched == told)
        return COIR_EINVAL;
    m->end = (struct end){{.settled = on_settled_monitor}, counter_of(watched), counter_of(told)};
    counter_owe(m->end.other, 1);
    if (!counter_enlist(m->end.of, &m->end.node))
        tell(&m->end, counter_look(m->end.of));
    return COIR_OK;
}

int coir_monitor_end(coir_monitor *monitor)
{
    struct monitor *m = monitor_of(monitor);

    if (!m)
        return COIR_EINVAL;
    if (wait_node_released(&m->end.node) || !counter_try_delist(m->end.of, &m->end.node)) {
        counter_delist(m->end.of, &m->end.node); /* until it is being told */
        return COIR_ENOENT;
    }
    wait_node_release(&m->end.node);
    counter_settle(m->end.other, 1);
    return COIR_OK;
}
