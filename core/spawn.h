/* SPDX-License-Identifier: MIT */
/*
 * spawn.h - how work enters. The calls themselves are public (coir.h).
 */
#ifndef COIR_SPAWN_H
#define COIR_SPAWN_H

#include "job.h"

/* Ends all work that is queued: a runtime that closes cannot rely on its workers to come for it. */
void spawn_drop_queued(struct coir_runtime *rt);

/* Ends the queued work of domains that are canceled: the worker that has it may be stuck. Other work goes
 * to the end of the injector. */
void spawn_drop_canceled(struct coir_runtime *rt);

/* Queues work that its domain has admitted: as coir_spawn from a fiber of rt, else as coir_submit. If
 * the queue refuses, the admission is taken back. frame: an address below the caller's frames. */
int spawn_admitted(struct coir_runtime *rt, const struct work *item, uintptr_t frame);

/* Runs such work at once, on the calling fiber of its runtime; on a plain thread. */
void spawn_in_place(struct fiber *self, const struct work *item, uintptr_t frame);
void spawn_outside(const struct work *item, uintptr_t frame);

#endif
