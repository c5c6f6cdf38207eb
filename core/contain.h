/* SPDX-License-Identifier: MIT */
/*
 * contain.h - ending the job that a fault has stopped, and nothing else. See contain.c.
 */
#ifndef COIR_CONTAIN_H
#define COIR_CONTAIN_H

#include "fault_report.h"

/* Lets the unwinder and the dynamic linker do now what they do once. */
void contain_open(void);

/* Gives the calling worker its rescue stack; low NULL: takes it away. */
void contain_use_stack(void *low, size_t bytes);

/* Handler: the return from it will end the running job's boundary, or the process. False: this thread
 * has no rescue stack. Async-signal-safe. */
bool contain_redirect(void *context, const struct fault *f);

/* Handler: does not return if the fault came while an earlier one's frames were looked at. */
void contain_check_walk(const struct worker *w, uintptr_t sp);

/* runtime->clean_up. */
void contain_clean_up(struct fiber *self, struct fiber *broken);

#endif
