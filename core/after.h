/* SPDX-License-Identifier: MIT */
/*
 * after.h - work that waits for a counter. The call itself is public (coir_spawn_after).
 */
#ifndef COIR_AFTER_H
#define COIR_AFTER_H

#include "job.h"

/* Ends work that waits for other work and has been canceled meanwhile. */
void after_drop_canceled(struct coir_runtime *rt);

/* job_ops->end_awaited. */
bool after_end_awaited(struct job *j, uintptr_t from);

/* Calls visit(after, done, arg) for work that waits for other work; done may be NULL. A lock is held. */
void after_each(struct coir_runtime *rt, void (*visit)(struct counter *after, struct counter *done, void *arg),
                void *arg);

#endif
