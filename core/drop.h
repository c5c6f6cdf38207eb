/* SPDX-License-Identifier: MIT */
/*
 * drop.h - work that ends without having run. See drop.c.
 */
#ifndef COIR_DROP_H
#define COIR_DROP_H

#include "job.h"

/* Ends a piece of work that will not run, as CANCELED. */
void job_drop(struct coir_runtime *rt, const struct work *item, enum coir_kind kind);

/* Whether its domain will not have the work run now; then it has ended. rt: whose books tell, or NULL.
 * who: stands for the job until it leaves the scope. */
bool drop_turned_away(struct coir_runtime *rt, const struct work *item, struct job *who);

#endif
