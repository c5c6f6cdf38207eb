/* SPDX-License-Identifier: MIT */
/*
 * map_words.c - what a node of a map says to people: the same words for the text and for the picture.
 *
 * A node says of its policies only what differs from the node above, and nothing of a limit that it has not.
 */
#include "map_words.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "supervisor_tree.h"

const char *const map_heading[MAP_COLUMNS] = {
    [MAP_IS] = "is a",
    [MAP_STATE] = "state",
    [MAP_TAKES] = "takes along",
    [MAP_FAILURES] = "failures left",
    [MAP_JOBS] = "jobs",
    [MAP_PLACES] = "places left",
    [MAP_STACKS] = "stacks left",
    [MAP_MEMORY] = "memory left",
    [MAP_POLICIES] = "policies",
};

/* ------------------------------------------------------------------------------------ numbers */

/* Appends; what is too long is cut. */
__attribute__((format(printf, 2, 3))) static void put(struct map_cell *cell, const char *format, ...)
{
    size_t used = strlen(cell->text);
    va_list args;

    va_start(args, format);
    vsnprintf(cell->text + used, sizeof cell->text - used, format, args);
    va_end(args);
}

/* Up to five digits, then thousands, or kibibytes, and so on. */
static void put_number(struct map_cell *cell, uint64_t n, unsigned thousand)
{
    static const char unit[] = " KMGTPE";
    double scaled = (double)n;
    unsigned i = 0;

    if (n < 100000 && (thousand == 1000 || n < thousand)) {
        put(cell, "%llu", (unsigned long long)n);
        return;
    }
    for (; scaled >= thousand - 0.05 && i < 6; i++) /* else it would be shown as a thousand */
        scaled /= thousand;
    put(cell, "%.1f%c", scaled, unit[i]);
}

static void put_count(struct map_cell *cell, uint64_t n, const char *what)
{
    put(cell, "%llu %s%s", (unsigned long long)n, what, n == 1 ? "" : "s");
}

static void put_time(struct map_cell *cell, int64_t ns)
{
    static const struct {
        int64_t ns;
        const char *name;
    } units[] = {{COIR_SEC, "s"}, {COIR_MS, "ms"}, {COIR_US, "us"}, {1, "ns"}};
    unsigned i = 0;

    while (i < 3 && ns < units[i].ns)
        i++;
    put(cell, "%.4g %s", (double)ns / (double)units[i].ns, units[i].name);
}

static void put_budget(struct map_cell *cell, const struct map_budget *b, unsigned thousand)
{
    if (!b->of)
        return;
    put_number(cell, b->left, thousand);
    put(cell, "/");
    put_number(cell, b->of, thousand);
    if (b->window_ns) {
        put(cell, " in ");
        put_time(cell, b->window_ns);
    }
}

/* ----------------------------------------------------------------------------- a word for each */

static bool is_supervised(const struct map_node *n)
{
    return n->kind == MAP_CHILD || n->kind == MAP_SUPERVISOR;
}

static const char *kind_name(const struct map_node *n)
{
    static const char *const name[] = {"runtime", "domain", "supervisor", "child", "pool"};

    return n->kind == MAP_CHILD && n->strategy >= 0 ? "supervisor" : name[n->kind];
}

static const char *state_name(const struct map_node *n)
{
    static const char *const name[] = {"open", "tripped", "half open", "canceled", "closing"};

    return is_supervised(n) ? child_state_name[n->state] : name[n->state];
}

enum map_health map_health(const struct map_node *n)
{
    static const enum map_health child[] = {
        [COIR_CHILD_ENDED] = MAP_ENDS,   [COIR_CHILD_STARTING] = MAP_HURT, [COIR_CHILD_RUNNING] = MAP_WELL,
        [COIR_CHILD_WAITING] = MAP_HURT, [COIR_CHILD_STOPPING] = MAP_ENDS, [COIR_CHILD_STUCK] = MAP_STUCK,
    };
    static const enum map_health domain[] = {
        [COIR_DOMAIN_OPEN] = MAP_WELL,     [COIR_DOMAIN_TRIPPED] = MAP_HURT, [COIR_DOMAIN_HALF_OPEN] = MAP_HURT,
        [COIR_DOMAIN_CANCELED] = MAP_ENDS, [COIR_DOMAIN_CLOSING] = MAP_ENDS,
    };

    return is_supervised(n) ? child[n->state] : domain[n->state];
}

static bool aborts(const struct map *m)
{
    return m->rt->options.panic == COIR_PANIC_ABORT;
}

/* When a child fails. */
static void say_siblings(const struct map *m, const struct map_node *n, struct map_cell *cell)
{
    const struct map_node *above = &m->node[n->up];

    if (n->restart != COIR_TEMPORARY && above->strategy == COIR_ONE_FOR_ALL)
        put(cell, "all of %s", above->name);
    else if (n->restart != COIR_TEMPORARY && above->strategy == COIR_REST_FOR_ONE && n->next != MAP_NONE)
        put(cell, "those after it");
    else
        put(cell, "nobody");
}

/* When one of its jobs fails, or so many that nothing is left. */
static void say_takes(const struct map *m, const struct map_node *n, struct map_cell *cell)
{
    if (aborts(m))
        put(cell, "the process");
    else if (n->kind == MAP_CHILD)
        say_siblings(m, n, cell);
    else if (n->kind == MAP_SUPERVISOR)
        put(cell, "its children");
    else if (n->kind == MAP_POOL)
        put(cell, n->failures.of ? "its messages" : "nobody");
    else if (n->judge == MAP_NONE)
        put(cell, "nobody");
    else if (&m->node[n->judge] == n)
        put(cell, "its jobs");
    else
        put(cell, "jobs of %s", m->node[n->judge].name);
}

/* ------------------------------------------------------------------------------------ policies */

static void say_time(struct map_cell *cell, const char *before, int64_t ns)
{
    put(cell, "%s", before);
    put_time(cell, ns);
}

/* Before each policy but the first. */
static void say_next(struct map_cell *cell)
{
    if (cell->text[0])
        put(cell, "; ");
}

static void say_full(struct map_cell *cell, const struct map_node *n)
{
    if (!n->places.of)
        return;
    say_next(cell);
    put(cell, n->full == COIR_FULL_WAIT  ? "full: callers wait"
                : n->full == COIR_FULL_RUN ? "full: callers run it"
                                           : "full: refuses");
    if (n->full == COIR_FULL_WAIT && n->full_wait_ns != COIR_NEVER)
        say_time(cell, " up to ", n->full_wait_ns);
}

static void say_faults(struct map_cell *cell, const struct map *m, unsigned contained)
{
    static const char *const name[] = {"segv", "bus", "fpe", "ill", "abort"};

    say_next(cell);
    if (!contained) {
        put(cell, m->rt->options.faults == COIR_FAULTS_NONE ? "no fault is contained"
                                                              : "faults abort with a report");
        return;
    }
    put(cell, "contains overflow");
    for (unsigned i = 0; i < sizeof name / sizeof name[0]; i++)
        if (contained & 1u << i)
            put(cell, " %s", name[i]);
}

/* above: NULL for the runtime. */
static void say_job_policies(struct map_cell *cell, const struct map *m, const struct map_node *n,
                             const struct map_node *above)
{
    if (!above || n->contained != above->contained)
        say_faults(cell, m, n->contained);
    if (n->deadline_ns != COIR_NEVER && (!above || n->deadline_ns != above->deadline_ns)) {
        say_next(cell);
        say_time(cell, "starts within ", n->deadline_ns);
    }
    if (n->stall_ns != COIR_NEVER && (!above || n->stall_ns != above->stall_ns)) {
        say_next(cell);
        say_time(cell, "stalls past ", n->stall_ns);
    }
    if (n->failures.of && (n->kind == MAP_DOMAIN || n->kind == MAP_POOL)) {
        say_next(cell);
        say_time(cell, "probes after ", n->probe_ns);
    }
}

static void say_backoff(struct map_cell *cell, const struct map_node *n)
{
    if (!n->backoff_ns)
        return;
    say_time(cell, ", backoff ", n->backoff_ns);
    if (n->backoff_max_ns > n->backoff_ns)
        say_time(cell, " to ", n->backoff_max_ns);
}

static void say_runtime(struct map_cell *cell, const struct map *m)
{
    static const char *const deadlock[] = {"", "; deadlocks reported", "; deadlocks fail the newest wait"};

    put_count(cell, m->rt->worker_count, "worker");
    put(cell, "; a panic %s%s", aborts(m) ? "aborts" : "unwinds", deadlock[m->rt->options.deadlock]);
}

static void say_strategy(struct map_cell *cell, const struct map_node *n)
{
    say_next(cell);
    put(cell, "%s, ", strategy_name[n->strategy]);
    put_count(cell, n->restarts, "restart");
    say_backoff(cell, n);
}

static void say_child(struct map_cell *cell, const struct map_node *n)
{
    put(cell, "%s, ", restart_name[n->restart]);
    put_count(cell, n->starts, "start");
    if (n->failed)
        put(cell, ", failed %llu", (unsigned long long)n->failed);
    if (n->last.id)
        put(cell, ", last: %s %s", coir_status_name(n->last.outcome), n->last.message);
}

static void say_pool(struct map_cell *cell, const struct map_node *n)
{
    put_count(cell, n->workers, "worker");
    put(cell, "; ");
    put_count(cell, n->attempts_max, "attempt");
    say_backoff(cell, n);
    put(cell, "; dead letter (%llu so far)%s", (unsigned long long)n->dead,
               n->quarantine ? "; quarantine" : "");
}

static void say_locks(struct map_cell *cell, const struct map_node *n)
{
    say_next(cell);
    put(cell, "holds ");
    put_count(cell, n->locks, "lock");
    if (n->aborting)
        put(cell, ", %llu would abort the process", (unsigned long long)n->aborting);
}

static void say_policies(const struct map *m, const struct map_node *n, struct map_cell *cell)
{
    const struct map_node *above = n->up == MAP_NONE ? NULL : &m->node[n->up];

    if (n->kind == MAP_RUNTIME)
        say_runtime(cell, m);
    if (n->kind == MAP_CHILD)
        say_child(cell, n);
    if (n->strategy >= 0)
        say_strategy(cell, n);
    if (n->kind == MAP_POOL)
        say_pool(cell, n);
    say_full(cell, n);
    if (n->has_domain)
        say_job_policies(cell, m, n, above);
    if (n->locks)
        say_locks(cell, n);
}

void map_say(const struct map *m, uint32_t i, struct map_cell cell[MAP_COLUMNS])
{
    const struct map_node *n = &m->node[i];

    for (int c = 0; c < MAP_COLUMNS; c++)
        cell[c].text[0] = '\0';
    put(&cell[MAP_IS], "%s", kind_name(n));
    put(&cell[MAP_STATE], "%s", state_name(n));
    say_takes(m, n, &cell[MAP_TAKES]);
    put_budget(&cell[MAP_FAILURES], &n->failures, 1000);
    if (n->has_domain)
        put_number(&cell[MAP_JOBS], n->jobs, 1000);
    put_budget(&cell[MAP_PLACES], &n->places, 1000);
    put_budget(&cell[MAP_STACKS], &n->stacks, 1000);
    put_budget(&cell[MAP_MEMORY], &n->memory, 1024);
    say_policies(m, n, &cell[MAP_POLICIES]);
}
