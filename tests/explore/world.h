/* SPDX-License-Identifier: MIT */
/*
 * world.h - a runtime on the simulated machine, for scenarios with fibers: its scheduler is core/'s own. See
 * world.c.
 */
#ifndef EXPLORE_WORLD_H
#define EXPLORE_WORLD_H

#include "job.h"

#define WORLD_WORKERS 2

extern struct coir_runtime world;

/* In setup: a runtime without jobs. Its workers are threads 1 to `workers`. */
void world_reset(unsigned workers);

/* The same with so few stacks for each worker. */
void world_reset_scarce(unsigned workers, unsigned stacks);

/* In setup: fn(arg) is queued at a worker, and owed to a counter or NULL. */
void world_add(unsigned worker, coir_fn *fn, void *arg, struct counter *owed);

/* In setup: jobs will spawn so many more. */
void world_expect(unsigned more);

/* In setup: the workers go home when somebody closes the runtime, and not before. */
void world_keep_open(void);

/* A worker's thread: works until all jobs have ended. */
void world_work_1(void);
void world_work_2(void);

/* In check: all jobs have ended, and the workers are at rest. */
void world_check(void);

#endif
