/* SPDX-License-Identifier: MIT */
/*
 * obligation.h - promises to be kept before a job ends or a domain closes. The calls are public (coir.h).
 */
#ifndef COIR_OBLIGATION_H
#define COIR_OBLIGATION_H

#include "job.h"

/* The job ends: what is bound to it has leaked; job_ops->leak. */
void obligation_leak_job(struct job *j);

/* The domain closes: what is open has leaked. Visitors may still look at the slots, which go when there are none. */
void obligation_leak_domain(struct coir_domain *d);
void obligation_free_slots(struct coir_domain *d);

#endif
