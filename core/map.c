/* SPDX-License-Identifier: MIT */
/*
 * map.c - the failure domains of a runtime: a copy of the tree of domains with what supervises them.
 *
 * The tree is copied under its lock, so that it is one that has existed; who prints it takes his time. Room is
 * made before the lock is taken, twice as much each time that it was not enough.
 *
 * A supervisor's children are found by their domains, which are in the tree, and by the supervisor's own list,
 * since one that is not running has no domain. Nodes are put in front of their siblings: the tree has
 * the newest domain first, people want it last.
 *
 * What jobs hold locked can be known of those that are parked: each is held for a moment, as a cancel does. This
 * comes after the tree, so a job may be met whose domain is not in the copy; then it is not counted.
 *
 * Locks: the tree of domains, then a tree of supervisors, or a pool, or a breaker.
 */
#include "map.h"

#include <stdio.h>
#include <string.h>

#include "books.h"
#include "domain.h"
#include "pool_queue.h"
#include "supervised.h"

#define FIRST_ROOM 64

/* ------------------------------------------------------------------------------------- nodes */

/* NULL: no room, but it is counted. */
static struct map_node *add(struct map *m, enum map_kind kind, uint32_t up, const char *name)
{
    uint32_t i = m->count++;
    struct map_node *n;

    if (i >= m->room)
        return NULL;
    n = &m->node[i];
    *n = (struct map_node){.kind = kind, .up = up, .first = MAP_NONE, .next = MAP_NONE, .judge = MAP_NONE,
                           .full_wait_ns = COIR_NEVER, .deadline_ns = COIR_NEVER, .stall_ns = COIR_NEVER,
                           .strategy = -1};
    snprintf(n->name, sizeof n->name, "%s", name);
    if (up == MAP_NONE)
        return n;
    n->depth = m->node[up].depth + 1;
    n->next = m->node[up].first;
    m->node[up].first = i;
    return n;
}

static uint32_t index_of(const struct map *m, const struct map_node *n)
{
    return (uint32_t)(n - m->node);
}

static struct map_budget budget(uint64_t used, uint64_t of, int64_t window_ns)
{
    return (struct map_budget){used < of ? of - used : 0, of, window_ns};
}

static struct map_budget failures_of(struct breaker *b)
{
    return (struct map_budget){breaker_left(b, coir_now()), b->failures_max, b->window_ns};
}

/* ------------------------------------------------------------------- what is known of each kind */

/* What its jobs may do, and what they have done. */
static void show_domain(struct map_node *n, struct coir_domain *d)
{
    n->has_domain = true;
    n->domain = d;
    n->state = domain_state(d);
    n->jobs = domain_in_flight(d);
    n->places = budget(n->jobs, d->jobs_max, 0);
    n->memory = budget(tally_read(&d->memory), d->memory_max, 0);
    n->stacks = budget(tally_read(&d->stacks), d->stacks_max, 0);
    n->failures = failures_of(&d->breaker);
    n->probe_ns = d->breaker.probe_ns;
    n->full = d->full;
    n->full_wait_ns = d->full_wait_ns;
    n->deadline_ns = d->deadline_ns;
    n->stall_ns = d->stall_ns ? d->stall_ns : COIR_NEVER;
    n->contained = d->contained;
}

static void show_pool(struct map_node *n, struct coir_pool *p)
{
    coir_pool_stats s;

    coir_pool_stats_read(p, &s);
    n->kind = MAP_POOL;
    if (s.breaker != COIR_DOMAIN_OPEN && n->state == COIR_DOMAIN_OPEN)
        n->state = s.breaker;
    n->places = budget(s.pending, p->queue_max, 0);
    n->failures = failures_of(&p->retry.breaker);
    n->probe_ns = p->retry.breaker.probe_ns;
    n->full = p->full;
    n->full_wait_ns = p->full_wait_ns;
    n->deadline_ns = p->deadline_ns;
    n->workers = p->workers;
    n->attempts_max = p->retry.attempts_max;
    n->backoff_ns = p->retry.backoff_ns;
    n->backoff_max_ns = p->retry.backoff_max_ns;
    n->quarantine = p->retry.quarantine != NULL;
    n->pending = s.pending;
    n->dead = s.dead + s.quarantined;
}

/* Its tree locked, as below. */
static void show_supervisor(struct map_node *n, const struct coir_supervisor *s)
{
    n->strategy = s->strategy;
    n->restarts = s->restarts;
    n->failures = (struct map_budget){intensity_left(&s->intensity, s->clock()), s->intensity.max,
                                      s->intensity.seconds * COIR_SEC};
    n->backoff_ns = s->backoff.first_ns;
    n->backoff_max_ns = s->backoff.most_ns;
}

static void show_child(struct map_node *n, const struct child *c)
{
    n->kind = MAP_CHILD;
    n->state = c->state;
    n->restart = (int)c->spec.restart;
    n->starts = c->starts;
    n->failed = c->failures;
    n->last = c->last;
    if (c->sub)
        show_supervisor(n, c->sub);
    else if (c->spec.supervisor)
        n->strategy = (int)c->spec.supervisor->strategy; /* it does not run now */
}

/* ------------------------------------------------------------------------------------ the tree */

static void add_below(struct map *m, struct coir_domain *d, uint32_t up, uint32_t judge);
static void add_children(struct map *m, struct coir_supervisor *s, uint32_t up, uint32_t judge);

static void add_supervisor(struct map *m, struct map_node *n, struct coir_supervisor *s)
{
    lock_take(&s->tree->lock);
    n->kind = MAP_SUPERVISOR;
    n->state = s->state;
    show_supervisor(n, s);
    add_children(m, s, index_of(m, n), n->judge);
    lock_drop(&s->tree->lock);
}

/* What it is. Not inlined: add_domain, which calls itself, is to need little stack for each level.
 * c: the child whose it is, its tree locked; NULL: nobody's. */
static NOINLINE struct map_node *add_itself(struct map *m, struct coir_domain *d, const struct child *c, uint32_t up,
                                            uint32_t judge)
{
    struct map_node *n = add(m, MAP_DOMAIN, up, d->name);

    if (!n)
        return NULL;
    show_domain(n, d);
    n->judge = n->failures.of ? index_of(m, n) : judge;
    if (d->pool)
        show_pool(n, d->pool);
    if (c)
        show_child(n, c);
    return n;
}

/* A domain, and all below it. c: as above. */
static void add_domain(struct map *m, struct coir_domain *d, const struct child *c, uint32_t up, uint32_t judge)
{
    struct map_node *n = add_itself(m, d, c, up, judge);

    if (!n)
        return;
    if (c && c->sub)
        add_children(m, c->sub, index_of(m, n), n->judge);
    else if (d->supervisor)
        add_supervisor(m, n, d->supervisor);
    else
        add_below(m, d, index_of(m, n), n->judge);
}

static void add_below(struct map *m, struct coir_domain *d, uint32_t up, uint32_t judge)
{
    for (struct coir_domain *child = d->child; child; child = child->next)
        add_domain(m, child, NULL, up, judge);
}

static void add_idle_child(struct map *m, const struct child *c, uint32_t up)
{
    struct map_node *n = add(m, MAP_CHILD, up, c->spec.name);

    if (n)
        show_child(n, c);
}

/* Its tree locked. The last first, for they are put in front. */
static void add_children(struct map *m, struct coir_supervisor *s, uint32_t up, uint32_t judge)
{
    for (struct child *c = s->first; c; c = c->next)
        c->shown = NULL;
    for (struct coir_domain *d = s->domain->child; d; d = d->next)
        if (d->supervised && d->supervised->owner == s)
            d->supervised->shown = d;
        else
            add_domain(m, d, NULL, up, judge); /* one that a finalizer is left in, or a user has opened */
    for (struct child *c = s->last; c; c = c->prev)
        if (c->shown)
            add_domain(m, c->shown, c, up, judge);
        else
            add_idle_child(m, c, up);
}

static void add_runtime(struct map *m)
{
    struct coir_runtime *rt = m->rt;
    struct map_node *n = add(m, MAP_RUNTIME, MAP_NONE, rt->name);
    uint64_t ended[COIR_PANICKED + 1];

    n->has_domain = true;
    n->state = runtime_flag(&rt->draining) ? COIR_DOMAIN_CLOSING : COIR_DOMAIN_OPEN;
    n->jobs = books_unfinished(rt, ended);
    n->stacks = budget(m->stats.parked, m->stats.stacks_limit, 0);
    n->contained = faults_contained(rt->options.faults, rt->options.faults_also);
    n->stall_ns = rt->options.stall_ns ? rt->options.stall_ns : COIR_NEVER;
    lock_take(&rt->domains_lock);
    for (struct coir_domain *d = rt->domains; d; d = d->next)
        add_domain(m, d, NULL, 0, MAP_NONE);
    lock_drop(&rt->domains_lock);
}

/* --------------------------------------------------------------------------------------- locks */

static struct map_node *node_of(struct map *m, const struct job *j)
{
    const void *domain = j->scope ? j->scope->domain : NULL;

    for (uint32_t i = 0; i < m->count; i++)
        if (m->node[i].has_domain && m->node[i].domain == domain)
            return &m->node[i];
    return NULL;
}

static void add_locks(struct map *m, const struct job *j)
{
    struct map_node *n = j->held ? node_of(m, j) : NULL;

    for (const struct held *h = j->held; n && h; h = h->next) {
        n->locks += h->kind->object(h) != NULL;
        n->aborting += h->kind->aborts && h->kind->aborts(h);
    }
}

static void look_if_parked(struct fiber *f, void *m)
{
    uint64_t generation;

    if (!fiber_claim_parked(f, &generation))
        return;
    for (const struct job *j = f->job; j; j = j->outer)
        add_locks(m, j);
    if (!fiber_publish(f))
        worker_ready(f);
}

/* ------------------------------------------------------------------------------------- the copy */

int map_take(struct coir_runtime *rt, struct map *m)
{
    if (!rt)
        return COIR_EINVAL;
    if (runtime_forked(rt))
        return COIR_EFORKED;
    *m = (struct map){.rt = rt, .room = FIRST_ROOM};
    coir_stats_read(rt, &m->stats);
    for (;;) {
        m->node = mem_alloc(&rt->host, m->room * sizeof *m->node);
        if (!m->node)
            return COIR_ENOMEM;
        m->count = 0;
        add_runtime(m);
        if (m->count <= m->room)
            break;
        mem_free(&rt->host, m->node);
        m->room = 2 * (m->count > m->room ? m->count : m->room);
    }
    worker_each_fiber(rt, look_if_parked, m);
    return COIR_OK;
}

void map_free(struct map *m)
{
    if (m->node)
        mem_free(&m->rt->host, m->node);
}

uint32_t map_after(const struct map *m, uint32_t n)
{
    if (m->node[n].first != MAP_NONE)
        return m->node[n].first;
    while (n != MAP_NONE && m->node[n].next == MAP_NONE)
        n = m->node[n].up;
    return n == MAP_NONE ? MAP_NONE : m->node[n].next;
}
