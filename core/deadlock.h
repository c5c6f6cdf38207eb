/* SPDX-License-Identifier: MIT */
/*
 * deadlock.h - cycles in the wait-for graph, and waits that nobody can end. See deadlock.c.
 */
#ifndef COIR_DEADLOCK_H
#define COIR_DEADLOCK_H

#include "graph.h"

/* What the jobs of a report are called, cut to fit: they may end, and their names go with them. */
struct deadlock_names {
    char text[COIR_DEADLOCK_MAX][64];
};

/* As coir_deadlock_check; fail: the newest wait of each cycle ends with COIR_EDEADLK. names: where the report's are
 * kept; NULL: it has the jobs' own. */
int deadlock_check(struct coir_runtime *rt, bool fail, coir_deadlock *report, struct deadlock_names *names);

#endif
