/* SPDX-License-Identifier: MIT */
/*
 * deadlock.h - cycles in the wait-for graph, and waits that nobody can end. See deadlock.c.
 */
#ifndef COIR_DEADLOCK_H
#define COIR_DEADLOCK_H

#include "graph.h"

/* As coir_deadlock_check; fail: the newest wait of each cycle ends with COIR_EDEADLK. */
int deadlock_check(struct coir_runtime *rt, bool fail, coir_deadlock *report);

#endif
