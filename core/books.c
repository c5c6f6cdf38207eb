/* SPDX-License-Identifier: MIT */
/*
 * books.c - how many jobs were accepted, and how they ended; whether the books balance.
 *
 * BOOKS. Each accepted job is counted once by whoever accepted it (worker->spawned, inject.accepted)
 * and each job that ended once (worker->ended). All sums only grow, and ended <= accepted at any
 * moment. coir_close reads all that ended first and all that were accepted second: if the two are
 * equal, nothing was unfinished between the readings. (The count of ended is a release, the fence between
 * the readings its acquire: who has seen a stolen child's end also sees the spawn that accepted it.) A
 * worker that runs out of work passes a full fence and looks at draining; coir_close sets draining, passes a
 * full fence and reads the books. So either the worker wakes the closer, or the closer has seen what the
 * worker ended.
 */
#include "books.h"

#include <string.h>

uint64_t books_ended(struct coir_runtime *rt, uint64_t by_outcome[COIR_PANICKED + 1])
{
    uint64_t outside = atomic_load_explicit(&rt->ended_outside, memory_order_relaxed); /* a figure */
    uint64_t sum = outside;

    memset(by_outcome, 0, (COIR_PANICKED + 1) * sizeof *by_outcome);
    by_outcome[COIR_CANCELED] = outside;
    for (unsigned i = 0; i < rt->worker_count; i++)
        for (int o = 0; o <= COIR_PANICKED; o++) {
            uint64_t n = tally_read(&rt->worker[i]->ended[o]);

            by_outcome[o] += n;
            sum += n;
        }
    return sum;
}

uint64_t books_accepted(struct coir_runtime *rt)
{
    uint64_t sum = inject_accepted(&rt->inject);

    for (unsigned i = 0; i < rt->worker_count; i++)
        sum += tally_read(&rt->worker[i]->spawned);
    return sum;
}

uint64_t books_unfinished(struct coir_runtime *rt, uint64_t by_outcome[COIR_PANICKED + 1])
{
    uint64_t ended = books_ended(rt, by_outcome);

    atomic_thread_fence(memory_order_acquire); /* BOOKS: ended is read before accepted */
    return books_accepted(rt) - ended;
}

uint64_t books_dropped(struct coir_runtime *rt)
{
    uint64_t sum = tally_read(&rt->dropped_outside);

    for (unsigned i = 0; i < rt->worker_count; i++)
        sum += tally_read(&rt->worker[i]->dropped);
    return sum;
}
