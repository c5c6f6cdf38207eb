/* SPDX-License-Identifier: MIT */
/*
 * terminate.h - std::terminate while a panic unwinds is reported as what it is. See terminate.c.
 */
#ifndef COIR_TERMINATE_H
#define COIR_TERMINATE_H

#include <unwind.h>

#include "job.h"

/* The panic of j comes to a frame; called before the frame's cleanups. */
void terminate_on_frame(struct job *j, struct _Unwind_Context *context);

/* It goes on after a cleanup, which may have changed what C++ is handling. */
void terminate_resumed(struct job *j);

/* The panic of j has landed, or was swallowed. */
void terminate_ended(struct job *j);

#endif
