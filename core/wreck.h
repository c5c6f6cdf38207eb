/* SPDX-License-Identifier: MIT */
/*
 * wreck.h - what a job needs only if it fails: what travels, where that has come to, what is told of it.
 *
 * It is large, and most jobs end well, so they do not bring one: it would be most of a job's record, and records of
 * jobs that wait for each other lie on one stack. Each fiber has one, and a job that fails takes it until it has ended.
 * Two of a fiber's jobs can be in that state, since one that has failed may go on, and wait for others in place. So
 * whatever runs while the fiber's is taken brings its own (struct full_job), and so does what is called in the middle
 * of a job (coir_try), which may fail while that does.
 */
#ifndef COIR_WRECK_H
#define COIR_WRECK_H

#include <unwind.h>

#include "backtrace.h"

struct job;

struct wreck {
    struct job *job;          /* a fiber's: whose it is, NULL: nobody's. All is valid only once job_wreck was called */
    uintptr_t passing;        /* return address in the frame that its panic is passing */
    const void *leg;          /* the unwinder's context, which is another after each cleanup; NULL: not yet begun */
    int interrupted;          /* that frame was interrupted by a signal: the handler is below it */
    const void *caught;       /* what C++ was handling there; only if watched */
    bool tracing;             /* its panic notes the frames that it passes; set by each panic */
    bool watched;             /* terminate.c reports what C++ makes of that panic */
    char no_cxx_header[80];   /* zero: some C++ runtimes read the header of their own exceptions here */
    struct _Unwind_Exception exception; /* what travels; outside every frame that it unwinds */
    coir_failure failure;
    struct trace trace;       /* only while `tracing` */
};

#endif
