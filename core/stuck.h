/* SPDX-License-Identifier: MIT */
/*
 * stuck.h - what the close of a domain could not end, by name, and telling who waits. See stuck.c.
 */
#ifndef COIR_STUCK_H
#define COIR_STUCK_H

#include "job.h"

/* Fills stuck, stuck_count and told. The tree is claimed; all jobs have been canceled and had their time. */
void stuck_name(struct coir_domain *d, coir_domain_receipt *r);

#endif
