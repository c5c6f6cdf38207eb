/* SPDX-License-Identifier: MIT */
/*
 * terminate.h - std::terminate while a panic unwinds is reported as what it is. See terminate.c.
 */
#ifndef COIR_TERMINATE_H
#define COIR_TERMINATE_H

#include <unwind.h>

#include "job.h"

/* The first frame that C++ may end the process at, if this is one. */
void terminate_look(struct job *j, struct _Unwind_Context *context);

/* The panic of j comes to a frame; called before the frame's cleanups. */
static inline void terminate_on_frame(struct job *j, struct _Unwind_Context *context)
{
    if (!j->wreck->watched)
        terminate_look(j, context);
}

/* Notes what C++ is handling. */
void terminate_note_caught(struct job *j);

/* It goes on after a cleanup, which may have changed that. */
static inline void terminate_resumed(struct job *j)
{
    if (j->wreck->watched)
        terminate_note_caught(j);
}

/* The panic of j has landed, or was swallowed. */
void terminate_ended(struct job *j);

#endif
