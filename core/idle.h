/* SPDX-License-Identifier: MIT */
/*
 * idle.h - a worker that has nothing to do, and how many of them may be awake.
 */
#ifndef COIR_IDLE_H
#define COIR_IDLE_H

#include "state.h"

/* The park is there. */
void idle_open(struct coir_runtime *rt, unsigned cpus);

/* Nothing was found: looks around for a while, then sleeps until there is work. */
void idle_wait(struct worker *w);

#endif
