/* SPDX-License-Identifier: MIT */
/*
 * receipt.c - names the jobs that a close could not end, and ends the waits for them.
 *
 * A job that never returns cannot be stopped, and its counter stays owed. Who waits for it need not
 * hang with it: fibers of its own runtime have had their waits ended by the close (wait_wake_all);
 * here are the plain threads and the fibers of other runtimes. They get COIR_ECANCELED and know what
 * that means everywhere: the counter is still owed, and a second wait finds the real end.
 */
#include "receipt.h"

#include "graph.h"
#include "thread.h"
#include "wait.h"

static void name(const coir_job_info *job, void *arg)
{
    coir_receipt *receipt = arg;

    if (receipt->left_count < COIR_LEFT_MAX)
        receipt->left[receipt->left_count++] = *job;
}

static bool owed(const struct counter *c, void *arg)
{
    const struct graph *g = arg;

    return graph_owes(g, c);
}

struct tell {
    struct graph *graph;
    size_t told;
};

static void tell_fibers(struct coir_runtime *other, void *arg)
{
    struct tell *t = arg;

    if (other != t->graph->rt)
        t->told += wait_wake_owed(other, owed, t->graph);
}

void receipt_name_left(struct coir_runtime *rt, coir_receipt *receipt)
{
    struct graph g;
    struct tell t = {.graph = &g};

    graph_init(&g, rt);
    graph_add_all(&g, name, receipt);
    if (g.starved)
        host_log(&rt->host, COIR_LOG_WARNING, "no memory to find all who wait for jobs that do not end");
    receipt->owed = graph_owed(&g);
    runtime_each_open(tell_fibers, &t);
    receipt->told += t.told + thread_wake(owed, &g);
    graph_fini(&g);
}
