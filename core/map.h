/* SPDX-License-Identifier: MIT */
/*
 * map.h - the failure domains of a runtime as they were at one moment: a copy. See map.c.
 */
#ifndef COIR_MAP_H
#define COIR_MAP_H

#include "state.h"

enum map_kind { MAP_RUNTIME, MAP_DOMAIN, MAP_SUPERVISOR, MAP_CHILD, MAP_POOL };

#define MAP_NONE UINT32_MAX

/* What may still go wrong, or be taken. */
struct map_budget {
    uint64_t left, of; /* of 0: there is no limit */
    int64_t window_ns; /* it is counted in; 0: none */
};

struct map_node {
    enum map_kind kind;
    uint32_t up, first, next; /* the node above, the first below, the next beside it; MAP_NONE */
    uint32_t judge;           /* the domain whose threshold counts the panics of its jobs; MAP_NONE */
    unsigned depth;
    char name[32];
    int state;                /* COIR_DOMAIN_OPEN ..., or of a supervised child or supervisor COIR_CHILD_ENDED ... */
    bool has_domain;          /* jobs, places, memory, stacks and the policies of jobs are known */
    const void *domain;       /* to compare with; NULL: of the runtime */
    uint64_t jobs;            /* in flight */
    uint64_t locks, aborting; /* that its parked jobs hold, below left out; of these, by policy */
    struct map_budget failures, places, memory, stacks;

    /* Policies of its jobs. */
    int full;                 /* enum coir_full; with places or of a pool */
    int64_t full_wait_ns, deadline_ns, stall_ns; /* COIR_NEVER: none */
    unsigned contained;       /* as struct coir_domain */
    int64_t probe_ns;         /* after failures */

    /* A supervisor, or a child that is one: strategy; else -1. */
    int strategy;
    uint64_t restarts;        /* made */
    int64_t backoff_ns, backoff_max_ns;

    /* A child. */
    int restart;              /* enum coir_restart */
    uint64_t starts, failed;
    coir_failure last;

    /* A pool. */
    unsigned workers, attempts_max;
    uint64_t pending, dead;
    bool quarantine;
};

struct map {
    struct coir_runtime *rt;
    struct map_node *node;    /* [0] is the runtime */
    uint32_t count, room;
    coir_stats stats;
};

/* COIR_OK, or COIR_ENOMEM. */
int map_take(struct coir_runtime *rt, struct map *m);
void map_free(struct map *m);

/* The node after n in a walk from above; MAP_NONE: it was the last. */
uint32_t map_after(const struct map *m, uint32_t n);

#endif
