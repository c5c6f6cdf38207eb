/* SPDX-License-Identifier: MIT */
/*
 * backtrace.h - where a stack is: return addresses now, names when somebody wants to read them.
 */
#ifndef COIR_BACKTRACE_H
#define COIR_BACKTRACE_H

#include "base.h"

/* Collects return addresses, innermost first, from the caller of the function whose frame address is
 * given. Returns how many. */
unsigned backtrace_capture(void **pc, unsigned max, const void *frame);

/* Writes a line with number, address, and what the dynamic linker knows of it. False: not written. */
bool backtrace_print(unsigned number, const void *pc, int fd);

#endif
