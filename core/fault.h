/* SPDX-License-Identifier: MIT */
/*
 * fault.h - telling faults apart: which are contained, reported, or not ours. See fault.c.
 */
#ifndef COIR_FAULT_H
#define COIR_FAULT_H

#include "job.h"

/* Installs the process's handler with the first runtime that asks. COIR_OK or a status. */
int fault_open(struct coir_runtime *rt);
void fault_close(struct coir_runtime *rt); /* with the last, the previous handlers come back */

/* Each worker of such a runtime, at its start and end: an alternate and a rescue stack. */
int fault_thread_open(const struct host *host);
void fault_thread_close(void);
void fault_forget_all(void); /* as runtime_forget_all: a handler that is installed stays */

#endif
