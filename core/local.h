/* SPDX-License-Identifier: MIT */
/*
 * local.h - values that a job keeps for itself. See local.c.
 */
#ifndef COIR_LOCAL_H
#define COIR_LOCAL_H

#include "job.h"

/* job_ops->end_locals. */
int local_end_all(struct job *j, int outcome);

#endif
