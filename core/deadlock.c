/* SPDX-License-Identifier: MIT */
/*
 * deadlock.c - who can never go on.
 *
 * Stuck is the largest set of nodes each of which waits for objects that someone in the set owes (for
 * one of several: each of them is owed by someone in the set). A counter settles only when all of its
 * units have gone, so one ower that is stuck is enough, whoever owes the others. It is found by taking
 * out: first the open nodes, then each that waits for an object that no stuck node owes any more.
 *
 * Why a second walk makes it true. The first looks at one fiber at a time. But a parked fiber owes and
 * awaits the same as long as its wait lasts, and each wait has a generation of its own. Who is found again in the wait
 * it was in was parked between the two walks; the others are taken out, and what follows from that. So all who
 * are left were parked at one and the same time, and will be for ever. To look again at the fibers of a cycle alone is not
 * enough: one that waits for one of several is stuck by all of them, and a cycle goes by one.
 *
 * Nothing is said about a wait that a job of another runtime or a plain thread may end, except when
 * nothing in this runtime can run at all, which takes a second walk, too, over all that is parked: then waits
 * for what no job here owes are counted as such.
 */
#include "deadlock.h"

#include <stdio.h>
#include <string.h>

#include "books.h"

struct search {
    struct graph graph;
    coir_deadlock *report;
    struct deadlock_names *names; /* or NULL */
    bool fail;
    uint32_t walks; /* begun */
};

/* ------------------------------------------------------------------------------------ the stuck */

/* Whether each object that the node waits for is owed by somebody stuck. */
static bool still_stuck(const struct graph *g, const struct graph_node *n)
{
    for (uint32_t e = n->edge; e < n->edge + n->edges; e++) {
        const struct graph_edge *edge = graph_edge_at(g, e);

        if (!edge->owes && graph_object_at(g, edge->object)->stuck == 0)
            return false;
    }
    return true;
}

/* All who wait for the object may go on, as far as it is concerned: they are put on the list. */
static void free_waiters(struct graph *g, const struct graph_object *o, uint32_t *list)
{
    for (uint32_t e = o->awaited; e; e = graph_edge_at(g, e)->next) {
        struct graph_node *n = graph_node_at(g, graph_edge_at(g, e)->node);

        if (!n->stuck)
            continue;
        n->stuck = false;
        n->next = *list;
        *list = graph_edge_at(g, e)->node;
    }
}

/* Takes out all that follows from the nodes on the list, which are stuck no more. */
static void take_out(struct graph *g, uint32_t list)
{
    while (list) {
        const struct graph_node *n = graph_node_at(g, list);

        list = n->next;
        for (uint32_t e = n->edge; e < n->edge + n->edges; e++) {
            struct graph_object *o = graph_object_at(g, graph_edge_at(g, e)->object);

            if (graph_edge_at(g, e)->owes && --o->stuck == 0)
                free_waiters(g, o, &list);
        }
    }
}

static void find_stuck(struct graph *g)
{
    uint32_t list = 0;

    for (uint32_t i = 1; i < g->nodes.count; i++) {
        struct graph_node *n = graph_node_at(g, i);

        n->stuck = n->waits && !n->open;
        for (uint32_t e = n->edge; n->stuck && e < n->edge + n->edges; e++)
            graph_object_at(g, graph_edge_at(g, e)->object)->stuck += graph_edge_at(g, e)->owes;
    }
    for (uint32_t i = 1; i < g->nodes.count; i++) {
        struct graph_node *n = graph_node_at(g, i);

        if (n->stuck && !still_stuck(g, n)) {
            n->stuck = false;
            n->next = list;
            list = i;
        }
    }
    take_out(g, list);
}

/* ----------------------------------------------------------------------------- telling of a wait */

/* Holds the fiber of a node if it is still in the same wait; give_back afterwards. */
static bool hold(const struct graph_node *n)
{
    uint64_t generation;

    if (!fiber_claim_parked(n->fiber, &generation))
        return false;
    if (generation == n->generation)
        return true;
    if (!fiber_publish(n->fiber))
        worker_ready(n->fiber);
    return false;
}

static void give_back(const struct graph_node *n)
{
    if (!fiber_publish(n->fiber))
        worker_ready(n->fiber);
}

static struct job *innermost(struct fiber *f)
{
    struct job *j = f->job;

    while (j && j->is_try && j->outer)
        j = j->outer;
    return j;
}

/* The fiber is held. */
static void tell(struct search *s, const struct graph_node *n, unsigned cycle)
{
    coir_deadlock *report = s->report;
    struct job *j = innermost(n->fiber);
    unsigned i = report->count;
    coir_job_info *told;

    if (i == COIR_DEADLOCK_MAX || !j)
        return;
    told = &report->waits[i].job;
    report->waits[i].cycle = cycle;
    report->count++;
    graph_job_info(n->fiber, j, true, told);
    if (!s->names || !told->name)
        return;
    snprintf(s->names->text[i], sizeof s->names->text[i], "%s", told->name);
    told->name = s->names->text[i];
}

/* Whether the fiber of a node is still in the same wait, and for the same. */
static bool stands_still(const struct graph *g, const struct graph_node *n)
{
    bool same;

    if (!hold(n))
        return false;
    same = graph_still_awaits(g, n);
    give_back(n);
    return same;
}

/* The second walk: takes out who is in another wait, and all that follows. */
static void keep_who_stands(struct graph *g)
{
    uint32_t list = 0;

    for (uint32_t i = 1; i < g->nodes.count; i++) {
        struct graph_node *n = graph_node_at(g, i);

        if (!n->stuck || !n->fiber || stands_still(g, n))
            continue;
        n->stuck = false;
        n->next = list;
        list = i;
    }
    take_out(g, list);
}

/* --------------------------------------------------------------------------------------- cycles */

/* Somebody stuck who owes what a stuck node waits for first. */
static uint32_t waits_for_whom(const struct graph *g, const struct graph_node *n)
{
    uint32_t e = n->edge;

    while (graph_edge_at(g, e)->owes)
        e++;
    e = graph_object_at(g, graph_edge_at(g, e)->object)->owed;
    while (!graph_node_at(g, graph_edge_at(g, e)->node)->stuck)
        e = graph_edge_at(g, e)->next;
    return graph_edge_at(g, e)->node;
}

/* The one of a cycle that parked last of those that can be failed, or 0. */
static uint32_t newest_of(const struct graph *g, uint32_t first)
{
    uint32_t i = first, newest = 0;

    do {
        const struct graph_node *n = graph_node_at(g, i);

        if (n->fiber && n->fails && (!newest || n->since > graph_node_at(g, newest)->since))
            newest = i;
        i = n->next;
    } while (i != first);
    return newest;
}

static void tell_cycle(struct search *s, uint32_t first)
{
    struct graph *g = &s->graph;
    uint32_t i = first;

    s->report->cycles++;
    do {
        const struct graph_node *n = graph_node_at(g, i);

        if (n->fiber && hold(n)) {
            tell(s, n, (unsigned)s->report->cycles);
            give_back(n);
        }
        i = n->next;
    } while (i != first);
}

static void fail(struct search *s, const struct graph_node *n)
{
    if (!hold(n))
        return;
    fiber_wake(n->fiber, n->generation, WAKE_DEADLOCK);
    s->report->failed++;
    give_back(n);
}

/* From a stuck node on, to where the walk meets itself (a cycle) or an earlier one. */
static void walk(struct search *s, uint32_t from)
{
    struct graph *g = &s->graph;
    uint32_t mark = ++s->walks, i = from, newest;

    while (!graph_node_at(g, i)->walk) {
        graph_node_at(g, i)->walk = mark;
        i = graph_node_at(g, i)->next = waits_for_whom(g, graph_node_at(g, i));
    }
    if (graph_node_at(g, i)->walk != mark)
        return;
    tell_cycle(s, i);
    newest = newest_of(g, i);
    if (s->fail && newest)
        fail(s, graph_node_at(g, newest));
}

static void find_cycles(struct search *s)
{
    struct graph *g = &s->graph;

    find_stuck(g);
    keep_who_stands(g);
    for (uint32_t i = 1; i < g->nodes.count; i++)
        if (graph_node_at(g, i)->stuck && !graph_node_at(g, i)->walk)
            walk(s, i);
    for (uint32_t i = 1; s->report->cycles && i < g->nodes.count; i++)
        s->report->stuck += graph_node_at(g, i)->stuck;
}

/* ------------------------------------------------------------------------- nobody who could signal */

static bool waits_for_nobody(const struct graph *g, const struct graph_node *n)
{
    for (uint32_t e = n->edge; e < n->edge + n->edges; e++) {
        const struct graph_edge *edge = graph_edge_at(g, e);

        if (!edge->owes && graph_object_at(g, edge->object)->owed)
            return false;
    }
    return n->fiber && n->waits && !n->open;
}

/* Nothing can run if every job that has not ended is on a stack that waits for others, or for ever. */
static bool nothing_runs(const struct graph *g)
{
    uint64_t ended[COIR_PANICKED + 1];

    return g->open == 0 && g->jobs > 0 && books_unfinished(g->rt, ended) == g->jobs &&
           atomic_load_explicit(&g->rt->visitors, memory_order_acquire) == 0; /* VISIT */
}

/* The second walk, as for a cycle: then all were parked at one moment. */
static bool all_stand(const struct graph *g)
{
    for (uint32_t i = 1; i < g->nodes.count; i++)
        if (graph_node_at(g, i)->fiber && !stands_still(g, graph_node_at(g, i)))
            return false;
    return true;
}

static void find_unowed(struct search *s)
{
    struct graph *g = &s->graph;

    if (!nothing_runs(g) || !all_stand(g) || !nothing_runs(g))
        return;
    for (uint32_t i = 1; i < g->nodes.count; i++) {
        const struct graph_node *n = graph_node_at(g, i);

        if (!waits_for_nobody(g, n) || !hold(n))
            continue;
        s->report->unowed++;
        tell(s, n, 0);
        give_back(n);
    }
}

/* ---------------------------------------------------------------------------------------- check */

int deadlock_check(struct coir_runtime *rt, bool fail, coir_deadlock *report, struct deadlock_names *names)
{
    struct search s = {.report = report, .names = names, .fail = fail};
    bool starved;

    memset(report, 0, sizeof *report);
    graph_init(&s.graph, rt);
    graph_add_parked(&s.graph);
    starved = s.graph.starved;
    if (!starved) {
        find_cycles(&s);
        find_unowed(&s);
    }
    graph_fini(&s.graph);
    return starved ? COIR_ENOMEM : report->cycles ? COIR_EDEADLK : COIR_OK;
}

int coir_deadlock_check(coir_runtime *rt, coir_deadlock *report)
{
    coir_deadlock own;

    if (!rt)
        return COIR_EINVAL;
    return runtime_forked(rt) ? COIR_EFORKED : deadlock_check(rt, false, report ? report : &own, NULL);
}
