/* SPDX-License-Identifier: MIT */
/*
 * spawn.h - how work enters. The calls themselves are public (coir.h).
 */
#ifndef COIR_SPAWN_H
#define COIR_SPAWN_H

#include "job.h"

/* Ends work that waits for other work and has been canceled meanwhile; runtime->drop_pending. */
void spawn_drop_pending(struct coir_runtime *rt);

#endif
