/* SPDX-License-Identifier: MIT */
/*
 * report.h - failures kept, and panics told to the log as they happen (limit.h: so many a second).
 */
#ifndef COIR_REPORT_H
#define COIR_REPORT_H

#include "state.h"

#define REPORT_NOT (-1) /* the log has been told enough of such panics for now, or wants none */

/* Keeps the failure in the runtime's store and counts it; rt NULL: a plain thread's, nobody keeps it.
 * text: the whole message. domain: its name; "": none. Returns, for report_failure, how many panics of this
 * place the log was not told before this one, or REPORT_NOT; always that if it is no panic. */
int report_keep(struct coir_runtime *rt, const coir_failure *f, const char *text, const char *domain);

/* Tells a panic to the log. rt NULL: a plain thread's coir_try; standard error. untold: from report_keep. */
void report_failure(struct coir_runtime *rt, const coir_failure *f, const char *text, int untold);

/* In an isolated child, which tells its parent instead: panics on plain threads are not told from now on. */
void report_hush(void);

/* Somebody has ended the poisoning of a lock. */
void report_cleared(const char *kind, const void *lock, const char *reason);

#endif
