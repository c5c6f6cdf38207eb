/* SPDX-License-Identifier: MIT */
/*
 * graph.c - collects who waits for what and who owes what, when somebody asks.
 *
 * The good path keeps no graph: a parked fiber says what it waits for (fiber->waits_for, waits_on), the
 * jobs on its stack say whom they owe (job->owed_to) and what they hold (job->held), and that is
 * written anyway. To ask is to
 * walk over all stacks, holding one parked fiber at a time (PARKED -> PARKING, as a cancel does) so
 * that its stack may be read; so the picture is not of one moment. deadlock.c says what still follows.
 *
 * A node is a stack: its jobs wait together for what the innermost waits for, and none ends before.
 */
#include "graph.h"

#include <string.h>

#include "find.h"
#include "peek.h"
#include "sleeper.h"
#include "after.h"
#include "text.h"
#include "wait.h"

#define FIRST_ROOM 256

/* ------------------------------------------------------------------------------------- arrays */

void graph_init(struct graph *g, struct coir_runtime *rt)
{
    *g = (struct graph){.rt = rt};
}

void graph_fini(struct graph *g)
{
    const struct host *h = &g->rt->host;

    mem_free(h, g->nodes.items);
    mem_free(h, g->edges.items);
    mem_free(h, g->objects.items);
    mem_free(h, g->bucket);
}

/* Index of a new item, zeroed; 0: no memory. */
static uint32_t append(struct graph *g, struct graph_array *a, size_t bytes)
{
    if (a->count == a->room) {
        uint32_t room = a->room ? a->room * 2 : FIRST_ROOM;
        void *items = a->room > UINT32_MAX / 2 ? NULL : mem_alloc(&g->rt->host, room * bytes);

        if (!items) {
            g->starved = true;
            return 0;
        }
        if (a->items)
            memcpy(items, a->items, a->count * bytes);
        mem_free(&g->rt->host, a->items);
        a->items = items;
        a->room = room;
    }
    a->count += a->count == 0; /* 0 is "none" */
    return a->count++;
}

/* ------------------------------------------------------------------------------------ objects */

static uint32_t *bucket_of(const struct graph *g, const void *address)
{
    uint64_t hash = (uint64_t)(uintptr_t)address * UINT64_C(0x9e3779b97f4a7c15);
    uint32_t i = (uint32_t)(hash >> 32) & (g->buckets - 1);

    while (g->bucket[i] && graph_object_at(g, g->bucket[i])->address != address)
        i = (i + 1) & (g->buckets - 1);
    return &g->bucket[i];
}

/* At most half of the buckets are used. */
static bool grow_buckets(struct graph *g)
{
    uint32_t buckets = g->buckets ? g->buckets * 2 : 2 * FIRST_ROOM;
    uint32_t *bucket = g->buckets > UINT32_MAX / 2 ? NULL
                                                   : mem_alloc(&g->rt->host, buckets * sizeof *bucket);

    if (!bucket) {
        g->starved = true;
        return false;
    }
    mem_free(&g->rt->host, g->bucket);
    g->bucket = bucket;
    g->buckets = buckets;
    for (uint32_t i = 1; i < g->objects.count; i++)
        *bucket_of(g, graph_object_at(g, i)->address) = i;
    return true;
}

/* The object of this address, new if need be; 0: no memory. */
static uint32_t object_of(struct graph *g, const void *address)
{
    uint32_t *at, i;

    if (g->objects.count >= g->buckets / 2 && !grow_buckets(g))
        return 0;
    at = bucket_of(g, address);
    if (!*at && (i = append(g, &g->objects, sizeof(struct graph_object)))) {
        graph_object_at(g, i)->address = address;
        *at = i;
    }
    return *at;
}

bool graph_owes(const struct graph *g, const void *object)
{
    uint32_t i = g->buckets ? *bucket_of(g, object) : 0;

    return i && graph_object_at(g, i)->owed;
}

uint64_t graph_owed(const struct graph *g)
{
    uint64_t n = 0;

    for (uint32_t i = 1; i < g->objects.count; i++)
        n += graph_object_at(g, i)->owed != 0;
    return n;
}

/* --------------------------------------------------------------------------- nodes and edges */

static uint32_t add_node(struct graph *g)
{
    uint32_t n = append(g, &g->nodes, sizeof(struct graph_node));

    if (n)
        graph_node_at(g, n)->edge = g->edges.count ? g->edges.count : 1;
    return n;
}

static void add_edge(struct graph *g, uint32_t node, const void *address, bool owes)
{
    uint32_t o = address && node ? object_of(g, address) : 0;
    uint32_t e = o ? append(g, &g->edges, sizeof(struct graph_edge)) : 0;
    uint32_t *first;

    if (!e)
        return;
    first = owes ? &graph_object_at(g, o)->owed : &graph_object_at(g, o)->awaited;
    *graph_edge_at(g, e) = (struct graph_edge){node, o, *first, owes};
    *first = e;
    graph_node_at(g, node)->edges++;
    graph_node_at(g, node)->waits |= !owes;
}

/* What must be given up before a call at a primitive can go on; NULL: it is being let go. */
static const void *awaited_by(const struct fiber *f)
{
    struct sleeper *s = f->sleeper;

    return s->awaits ? s->awaits(s, f->waits_on) : f->waits_on;
}

bool graph_still_awaits(const struct graph *g, const struct graph_node *n)
{
    const void *whom = n->fiber->sleeper ? awaited_by(n->fiber) : NULL;

    for (uint32_t e = n->edge; n->fiber->sleeper && e < n->edge + n->edges; e++) {
        const struct graph_edge *edge = graph_edge_at(g, e);

        if (!edge->owes && graph_object_at(g, edge->object)->address != whom)
            return false;
    }
    return true;
}

/* A call at a primitive: for what others hold, or for a signal, which nobody owes. */
static void add_sleeper(struct graph *g, uint32_t node, const struct fiber *f)
{
    const void *whom = awaited_by(f);

    graph_node_at(g, node)->open = !whom;
    graph_node_at(g, node)->fails = true;
    add_edge(g, node, whom, false);
    if (f->sleeper->awaited)
        add_edge(g, node, f->sleeper, true);
}

/* What the fiber waits for. One that sleeps for ever is neither stuck nor open: a cancel will come. */
static void add_waits(struct graph *g, uint32_t node, const struct fiber *f)
{
    struct graph_node *n = graph_node_at(g, node);
    const char *what = f->waits_for;

    if (!what || f->waits_until != COIR_NEVER) {
        n->open = true;
    } else if (what == wait_for_any) {
        const struct wait *w = f->waits_on;

        n->fails = true;
        for (size_t i = 0; i < w->n; i++)
            add_edge(g, node, w->counter[i], false);
    } else if (what == wait_for_counter || what == wait_for_frame) {
        n->fails = what == wait_for_counter;
        add_edge(g, node, f->waits_on, false);
    } else if (f->sleeper) {
        add_sleeper(g, node, f);
    } else {
        n->open = what != wait_for_time;
    }
}

/* What the jobs of a stack owe: their ends, and what they hold. */
static void add_jobs(struct graph *g, uint32_t node, const struct fiber *f)
{
    for (const struct job *j = f->job; j; j = j->outer) {
        for (const struct held *h = j->held; h; h = h->next)
            add_edge(g, node, h->kind->object(h), true);
        if (j->is_try)
            continue;
        g->jobs++;
        add_edge(g, node, j->owed_to, true);
        if (j->serving)
            add_edge(g, node, j->serves, true);
    }
}

/* f is held. */
static void add_fiber(struct graph *g, struct fiber *f, uint64_t generation, bool parked)
{
    uint32_t node = add_node(g);

    if (!node)
        return;
    graph_node_at(g, node)->fiber = f;
    graph_node_at(g, node)->generation = generation;
    graph_node_at(g, node)->since = f->waits_since;
    add_jobs(g, node, f);
    if (parked)
        add_waits(g, node, f);
    else
        graph_node_at(g, node)->open = true;
    g->open += graph_node_at(g, node)->open;
}

/* ------------------------------------------------------------------------------------- walks */

static void add_if_parked(struct fiber *f, void *arg)
{
    uint64_t generation;

    if (!fiber_claim_parked(f, &generation))
        return;
    add_fiber(arg, f, generation, true);
    if (!fiber_publish(f))
        worker_ready(f);
}

/* Work that waits for other work waits for one counter and owes another, as a job would. */
static void add_pending(struct counter *after, struct counter *done, void *arg)
{
    struct graph *g = arg;
    uint32_t node = add_node(g);

    if (!node)
        return;
    g->jobs++;
    add_edge(g, node, done, true);
    add_edge(g, node, after, false);
}

void graph_add_parked(struct graph *g)
{
    worker_each_fiber(g->rt, add_if_parked, g);
    after_each(g->rt, add_pending, g);
}

/* ------------------------------------------------------------------- all that has not ended */

struct all {
    struct graph *g;
    void (*show)(const coir_job_info *job, void *arg);
    void *arg;
};

/* Where the program called what the parked fiber waits in: up the frame records that coir's own code
 * keeps, inside the stack. */
__attribute__((no_sanitize("address"))) static const void *place_of(const struct fiber *f)
{
    const struct arch_frame *top = f->sp;
    uintptr_t low = (uintptr_t)top, high = (uintptr_t)f->bottom + f->bytes;
    uintptr_t pc = (uintptr_t)top->pc, frame = (uintptr_t)top->fp;

    while (text_is_ours(pc)) {
        const struct arch_record *r = (const struct arch_record *)frame;

        if (frame < low || frame > high - sizeof *r || frame % sizeof(void *) != 0)
            return NULL;
        pc = (uintptr_t)r->pc;
        frame = (uintptr_t)r->link;
        low = (uintptr_t)(r + 1);
    }
    return (const void *)pc;
}

void graph_job_info(struct fiber *f, struct job *j, bool parked, coir_job_info *info)
{
    *info = (coir_job_info){job_id_held(f->runtime, j), j->name, j->fn, -1,
                            parked ? f->waits_for : "worker", parked ? f->waits_on : NULL,
                            parked ? f->waits_since : 0, parked ? place_of(f) : NULL};
}

static void show_held(struct all *all, struct fiber *f, bool parked)
{
    const struct job *inner = NULL;
    coir_job_info info;

    for (struct job *j = f->job; j; j = j->outer) {
        if (j->is_try)
            continue;
        graph_job_info(f, j, parked, &info);
        if (inner) { /* it waits for the one that runs in its place */
            info.waits_for = wait_for_counter;
            info.waits_on = inner->owed_to;
            info.place = NULL;
        }
        all->show(&info, all->arg);
        inner = j;
    }
}

/* A fiber that moves while the walk goes on is met twice. True: this is the first time. */
static bool first_time(struct graph *g, const void *fiber)
{
    uint32_t o = object_of(g, fiber);

    if (!o || graph_object_at(g, o)->seen)
        return false;
    return graph_object_at(g, o)->seen = true;
}

static void add_held(struct all *all, struct fiber *f, uint64_t generation, bool parked)
{
    if (!first_time(all->g, f))
        return;
    add_fiber(all->g, f, generation, parked);
    show_held(all, f, parked);
}

static void all_if_parked(struct fiber *f, void *arg)
{
    uint64_t generation;

    if (!fiber_claim_parked(f, &generation))
        return;
    add_held(arg, f, generation, true);
    if (!fiber_publish(f))
        worker_ready(f);
}

/* Who takes a fiber from its queue may look at it; then it goes to the end of the injector. */
static void add_queued(struct all *all, struct fiber *f)
{
    add_held(all, f, 0, false);
    worker_ready(f);
}

static void add_all_queued(struct all *all)
{
    struct coir_runtime *rt = all->g->rt;
    size_t n = atomic_load_explicit(&rt->inject.fiber_count, memory_order_relaxed); /* a bound */
    size_t bound = atomic_load_explicit(&rt->stacks.created, memory_order_relaxed); /* a bound */
    struct fiber *f;
    struct link *e;

    while (n-- > 0 && (e = inject_take_fiber(&rt->inject)))
        add_queued(all, CONTAINER_OF(e, struct fiber, stack.link));
    for (unsigned i = 0; i < rt->worker_count; i++)
        for (n = bound; n > 0 && (f = find_ready_of(rt->worker[i])); n--)
            add_queued(all, f);
}

static void add_running(struct all *all, struct worker *w)
{
    struct peek p;
    uint32_t node;
    bool seen = false;

    for (unsigned tries = 0; !seen && tries < 16; tries++)
        seen = peek_worker(w, &p);
    if (!seen || !first_time(all->g, p.fiber) || !(node = add_node(all->g)))
        return;
    graph_node_at(all->g, node)->open = true;
    all->g->jobs += p.depth;
    for (unsigned i = 0; i < p.depth && i < PEEK_JOBS; i++) {
        const struct peek_job *j = &p.job[i];
        coir_job_info info = {j->id, j->name, j->fn, (int)w->index, NULL, NULL, 0, NULL};

        if (i > 0) {
            info.waits_for = wait_for_counter;
            info.waits_on = p.job[i - 1].owed_to;
        }
        add_edge(all->g, node, j->owed_to, true);
        add_edge(all->g, node, j->serves, true);
        all->show(&info, all->arg);
    }
}

void graph_add_all(struct graph *g, void (*show)(const coir_job_info *job, void *arg), void *arg)
{
    struct all all = {g, show, arg};

    for (unsigned i = 0; i < g->rt->worker_count; i++)
        add_running(&all, g->rt->worker[i]);
    worker_each_fiber(g->rt, all_if_parked, &all);
    add_all_queued(&all);
    after_each(g->rt, add_pending, g);
}
