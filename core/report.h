/* SPDX-License-Identifier: MIT */
/*
 * report.h - panics told to the host's log as they happen, at most ten a second for each place.
 */
#ifndef COIR_REPORT_H
#define COIR_REPORT_H

#include "state.h"

/* Keeps the failure in the runtime's store and counts it; rt NULL: a plain thread's, nobody keeps it.
 * text: the whole message. frame: of the function whose callers make the backtrace, if it is asked
 * for; NULL: has none. domain: its name; "": none. */
void report_keep(struct coir_runtime *rt, coir_failure *f, const char *text, const void *frame,
                 const char *domain);

/* Tells a panic to the log. rt NULL: a plain thread's coir_try; standard error. */
void report_failure(struct coir_runtime *rt, const coir_failure *f, const char *text);

/* Somebody has ended the poisoning of a lock. */
void report_cleared(const char *kind, const void *lock, const char *reason);

#endif
