/* SPDX-License-Identifier: MIT */
/*
 * hostcall.h - calls of the host's code that must neither suspend nor panic. See hostcall.c.
 */
#ifndef COIR_HOSTCALL_H
#define COIR_HOSTCALL_H

#include "state.h"

/* Calls the runtime's panic hook, if there is one. rt NULL: nothing. */
void hostcall_panic_hook(struct coir_runtime *rt, const coir_failure *f);

/* The call of the host's code that this thread is in, for reports; NULL: none. */
const char *hostcall_name(void);

#endif
