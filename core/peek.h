/* SPDX-License-Identifier: MIT */
/*
 * peek.h - what a worker is doing, read by others while it does it. See peek.c.
 */
#ifndef COIR_PEEK_H
#define COIR_PEEK_H

#include "job.h"

#define PEEK_JOBS 64

/* Where a worker is: as long as the two are unchanged it has neither begun nor left anything. */
struct progress {
    uint64_t turns, switches;
};

/* The jobs on the stack that a worker runs, the innermost first. */
struct peek {
    struct progress at;
    const struct fiber *fiber;  /* compared, not followed */
    unsigned depth;             /* how many; past PEEK_JOBS, the last entry is the outermost */
    struct peek_job {
        coir_fn *fn;
        const char *name;
        uint64_t id;            /* 0: it has none yet */
        struct counter *owed_to, *serves; /* not to be followed; serves NULL: no message of a pool */
        int64_t stall_ns;       /* how long it may go on without suspending; 0: nobody watches */
    } job[PEEK_JOBS];
};

static inline struct progress peek_progress(struct worker *w)
{
    return (struct progress){worker_turns(w), tally_read(&w->switches)};
}

static inline bool progress_same(struct progress a, struct progress b)
{
    return a.turns == b.turns && a.switches == b.switches;
}

/* False: it runs no job, or went on while it was looked at. */
bool peek_worker(struct worker *w, struct peek *p);

/* Jobs on a stack, and stacks that a worker keeps for later: both to be believed only if nothing moved. */
unsigned peek_jobs(const struct fiber *fiber);
unsigned peek_kept(struct worker *w);

#endif
