/* SPDX-License-Identifier: MIT */
/*
 * backtrace.h - where a stack is: return addresses now, names when somebody wants to read them.
 */
#ifndef COIR_BACKTRACE_H
#define COIR_BACKTRACE_H

#include <unwind.h>

#include "base.h"

/* The frames of a panic from the one that raised it to its boundary, collected on the way there. */
struct trace {
    uintptr_t below; /* stack pointer in the frame that was seen last: later ones lie above it */
    unsigned count;
    void *pc[COIR_BACKTRACE_MAX]; /* return addresses, innermost first */
};

/* Frames up to the one whose address is given are not wanted. */
void trace_begin(struct trace *t, const void *frame);

/* To be called for each frame, in order. again: it was the last one, too. */
void trace_frame(struct trace *t, struct _Unwind_Context *context, bool again);

/* Collects at once what lies below `end`. */
void trace_walk(struct trace *t, const void *end);

/* Collects return addresses, innermost first, from the caller of the function whose frame address is
 * given. Returns how many. */
unsigned backtrace_capture(void **pc, unsigned max, const void *frame);

/* Writes a line with number, address, and what the dynamic linker knows of it. False: not written. */
bool backtrace_print(unsigned number, const void *pc, int fd);

#endif
