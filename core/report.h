/* SPDX-License-Identifier: MIT */
/*
 * report.h - panics told to the host's log as they happen, at most ten a second for each place.
 */
#ifndef COIR_REPORT_H
#define COIR_REPORT_H

#include "state.h"

/* rt NULL: a plain thread's coir_try; standard error. */
void report_failure(struct coir_runtime *rt, const coir_failure *f);

/* Somebody has ended the poisoning of a lock. */
void report_cleared(const char *kind, const void *lock, const char *reason);

#endif
