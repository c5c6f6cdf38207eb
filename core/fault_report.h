/* SPDX-License-Identifier: MIT */
/*
 * fault_report.h - what a signal told about a fault, and the line that tells people. See fault_report.c.
 */
#ifndef COIR_FAULT_REPORT_H
#define COIR_FAULT_REPORT_H

#include "job.h"

struct fault {
    int signal;
    uintptr_t address; /* of the access, or of the instruction, as the signal has it */
    bool overflow;     /* no stack is left */
    const struct fiber *fiber; /* whose stack the thread was on */
};

/* "SIGSEGV" and so on. Async-signal-safe, like all here. */
const char *fault_signal_name(int signal);

/* One line on standard error about a fault of a fiber on w. why: NULL, or why it could not be
 * contained. */
void fault_report(const struct worker *w, const struct fault *f, const char *why);

/* Ends the process by SIGABRT, whoever handles that. */
__attribute__((noreturn)) void fault_abort(void);

#endif
