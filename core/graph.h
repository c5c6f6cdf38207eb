/* SPDX-License-Identifier: MIT */
/*
 * graph.h - the wait-for graph of a runtime: what its fibers wait for, and who could end that.
 * See graph.c.
 */
#ifndef COIR_GRAPH_H
#define COIR_GRAPH_H

#include "job.h"

/* One stack, or one piece of work that waits for other work. */
struct graph_node {
    struct fiber *fiber;  /* NULL: not a stack, or one that runs */
    uint64_t generation;  /* of its wait */
    int64_t since;        /* 0: not noted */
    uint32_t edge, edges; /* its edges: all it owes and waits for */
    uint32_t next;        /* in the list of those to look at again, or of a cycle */
    uint32_t walk;        /* which walk has come by; 0: none */
    bool open;            /* something outside the graph may end its wait */
    bool waits;           /* for others: it has an edge that says for whom */
    bool fails;           /* the wait can be failed */
    bool stuck;           /* waits for what only the stuck could give */
};

/* A node owes an object its end, or waits for it. */
struct graph_edge {
    uint32_t node, object;
    uint32_t next;        /* of the same object and the same sort */
    bool owes;
};

/* A counter, a primitive, one who waits at it, or a fiber. */
struct graph_object {
    const void *address;  /* compared, never followed */
    uint32_t owed, awaited; /* first edge of each sort; 0: none */
    uint32_t stuck;       /* of those who owe it, how many are stuck */
    bool seen;            /* a fiber that has been met */
};

/* Item 0 of each array is not used: 0 is "none". */
struct graph_array {
    void *items;
    uint32_t count, room;
};

struct graph {
    struct coir_runtime *rt;
    struct graph_array nodes, edges, objects;
    uint32_t *bucket;     /* object by address: open addressing */
    uint32_t buckets;     /* a power of two, or 0 */
    uint64_t jobs;        /* on all the nodes */
    uint64_t open;        /* nodes that something outside may end */
    bool starved;         /* there was no memory for all of it */
};

void graph_init(struct graph *g, struct coir_runtime *rt);
void graph_fini(struct graph *g);

/* Adds all parked fibers, and the work that waits for other work. Holds one fiber at a time. */
void graph_add_parked(struct graph *g);

/* Adds as well, as far as they can be seen, fibers that run and those that are queued, and shows each job
 * of each stack to `show`. For a runtime that closes: queued fibers lose their place in the queue. */
void graph_add_all(struct graph *g, void (*show)(const coir_job_info *job, void *arg), void *arg);

/* Whether somebody in the graph owes it. */
bool graph_owes(const struct graph *g, const void *object);

/* Whether the fiber of a node, which is held and in the wait that was noted, still waits for the same. */
bool graph_still_awaits(const struct graph *g, const struct graph_node *n);

/* How many counters are owed by those in the graph. */
uint64_t graph_owed(const struct graph *g);

/* What is known of j, the innermost job of a stack that the caller holds, parked or queued. */
void graph_job_info(struct fiber *f, struct job *j, bool parked, coir_job_info *info);

static inline struct graph_node *graph_node_at(const struct graph *g, uint32_t i)
{
    return (struct graph_node *)g->nodes.items + i;
}

static inline struct graph_edge *graph_edge_at(const struct graph *g, uint32_t i)
{
    return (struct graph_edge *)g->edges.items + i;
}

static inline struct graph_object *graph_object_at(const struct graph *g, uint32_t i)
{
    return (struct graph_object *)g->objects.items + i;
}

#endif
