/* SPDX-License-Identifier: MIT */
/*
 * isolate_verdict.h - what became of an isolated call, as an outcome and a failure record. See
 * isolate_verdict.c.
 */
#ifndef COIR_ISOLATE_VERDICT_H
#define COIR_ISOLATE_VERDICT_H

#include "isolate_wire.h"

/* Each keeps the failure in the caller's runtime, tells its log if it is a panic, fills *failure if that is
 * not NULL, and returns the outcome. */

/* A notice that is DONE, with an outcome other than COIR_DONE. */
int verdict_said(const struct isolate_notice *n, coir_failure *failure);

/* A notice that is ENDED. */
int verdict_ended(const struct isolate_plan *p, const struct isolate_notice *n, coir_failure *failure);

int verdict_late(const struct isolate_plan *p, coir_failure *failure);
int verdict_deaf(coir_failure *failure);
int verdict_too_long(size_t bytes, size_t room, coir_failure *failure);

#endif
