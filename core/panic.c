/* SPDX-License-Identifier: MIT */
/*
 * panic.c - raising a panic, and what the boundary does about the exceptions that reach it.
 *
 * A panic is a forced unwind (_Unwind_ForcedUnwind, Itanium C++ ABI, 1.6): it runs cleanups frame by
 * frame and ends at the innermost arch_boundary, whose personality is below. Why forced, and not
 * _Unwind_RaiseException: it costs about 0.6 of it, because there is no search phase over the same
 * frames, and no filter of a foreign language can claim it. What the search phase would give, a
 * moment when every frame is still whole, coir_panic has by itself before it starts. A foreign
 * exception does search, and the personality uses that moment in the same way.
 *
 * Invariants
 *   P1  Before any frame of the job goes, the jobs it spawned on counters in these frames have been
 *       canceled and have settled.
 *   P2  One panic at a time per boundary: a second one while the first unwinds aborts. A boundary
 *       inside a cleanup has a record of its own, so a panic may start and end there.
 *   P3  The exception object lies in the job's record, which no unwind tears down.
 *
 * What cannot be contained aborts with a report: no boundary, a panic while unwinding, a frame
 * without unwind tables, the end of a thread (pthread_exit, cancellation) through a job, and
 * exceptions that only their own language may end (Rust).
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "foreign.h"
#include "job.h"
#include "report.h"

/* -------------------------------------------------------------------------------- raising it */

/* Called for every frame on the way; only the end of the stack is news. */
static _Unwind_Reason_Code on_frame(int version, _Unwind_Action actions,
                                    _Unwind_Exception_Class class, struct _Unwind_Exception *e,
                                    struct _Unwind_Context *context, void *arg)
{
    struct job *j = arg;

    (void)version;
    (void)class;
    (void)e;
    (void)context;
    if (actions & _UA_END_OF_STACK)
        fatal("a frame without unwind tables is in the way of a panic: %s:%d: %s (compile with "
              "-fexceptions or -fasynchronous-unwind-tables)",
              j->failure.file ? j->failure.file : "?", j->failure.line, j->failure.message);
    return _URC_NO_REASON;
}

/* A catch of another language ended the panic without passing it on. */
static void on_swallowed(_Unwind_Reason_Code reason, struct _Unwind_Exception *e)
{
    struct job *j = CONTAINER_OF(e, struct job, exception);
    struct worker *w = worker_here();

    (void)reason;
    j->raising = false;
    if (w)
        tally(&w->swallowed, 1);
}

static void write_message(struct job *j, const char *file, int line, const char *format, va_list args)
{
    job_failure(j, &j->failure, COIR_PANICKED, COIR_KIND_PANIC);
    j->failure.file = file;
    j->failure.line = line;
    vsnprintf(j->failure.message, sizeof j->failure.message, format, args);
}

static __attribute__((noreturn, cold, format(printf, 4, 0))) void
die(const char *why, const char *file, int line, const char *format, va_list args)
{
    char message[COIR_MESSAGE_BYTES];

    vsnprintf(message, sizeof message, format, args);
    fatal("%s: %s:%d: %s", why, file ? file : "?", line, message);
}

void coir_panic_at(const char *file, int line, const char *format, ...)
{
    struct job *j = *job_slot();
    struct worker *w = worker_here();
    _Unwind_Reason_Code code;
    va_list args;

    va_start(args, format);
    if (!j)
        die("panic outside any boundary", file, line, format, args);
    if (j->raising)
        die("panic while an earlier one unwinds", file, line, format, args);
    write_message(j, file, line, format, args);
    va_end(args);
    j->raising = true;
    if (w)
        tally(&w->panics, 1);
    report_failure(runtime_here(), &j->failure);

    job_raised(j, (uintptr_t)__builtin_frame_address(0)); /* P1; may suspend */
    j->exception = (struct _Unwind_Exception){.exception_class = JOB_EXCEPTION_CLASS,
                                              .exception_cleanup = on_swallowed};
    memset(j->no_cxx_header, 0, sizeof j->no_cxx_header);
    fiber_forget_frames(j);
    code = _Unwind_ForcedUnwind(&j->exception, on_frame, j);
    fatal("the unwinder gave up (%d) on a panic: %s:%d: %s", (int)code, file ? file : "?", line,
          j->failure.message);
}

/* --------------------------------------------------------------------- the boundary's personality */

static _Unwind_Reason_Code land(struct _Unwind_Context *context, struct _Unwind_Exception *e)
{
    _Unwind_SetGR(context, __builtin_eh_return_data_regno(0), (_Unwind_Word)(uintptr_t)e);
    _Unwind_SetGR(context, __builtin_eh_return_data_regno(1), 0);
    _Unwind_SetIP(context, (_Unwind_Ptr)(uintptr_t)arch_boundary_landing);
    return _URC_INSTALL_CONTEXT;
}

/* Named in the unwind tables of arch_boundary. The first boundary met is the innermost job's. */
_Unwind_Reason_Code coir_personality(int version, _Unwind_Action actions,
                                     _Unwind_Exception_Class class, struct _Unwind_Exception *e,
                                     struct _Unwind_Context *context);
_Unwind_Reason_Code coir_personality(int version, _Unwind_Action actions,
                                     _Unwind_Exception_Class class, struct _Unwind_Exception *e,
                                     struct _Unwind_Context *context)
{
    if (version != 1)
        return _URC_FATAL_PHASE1_ERROR;
    if (class == JOB_EXCEPTION_CLASS)
        return land(context, e);
    if (actions & _UA_FORCE_UNWIND)
        fatal("a thread is being ended (pthread_exit or pthread_cancel) through a job");
    if (foreign_is_untouchable(class))
        fatal("a Rust panic reached a job's boundary: catch it with catch_unwind at the edge");
    if (actions & _UA_SEARCH_PHASE) {
        job_raised(*job_slot(), (uintptr_t)__builtin_frame_address(0)); /* P1; may suspend */
        return _URC_HANDLER_FOUND;
    }
    return land(context, e);
}

/* ------------------------------------------------------------------------------- public part */

int coir_try(coir_fn *fn, void *arg, coir_failure *failure)
{
    return fn ? job_try(fn, arg, failure) : COIR_EINVAL;
}

static void *defer_alloc(struct coir_runtime *rt, size_t bytes)
{
    return rt ? mem_alloc(&rt->host, bytes) : calloc(1, bytes);
}

int coir_defer(coir_fn *fn, void *arg)
{
    struct job *j = *job_slot();
    struct defer d = {fn, arg};

    if (!fn)
        return COIR_EINVAL;
    if (!j)
        return COIR_EPERM;
    if (j->defer_count < COIR_DEFER_INLINE) {
        j->handler[j->defer_count++] = d;
        return COIR_OK;
    }
    if (!j->more || j->more->count == COIR_DEFER_INLINE) {
        struct defer_block *b = defer_alloc(runtime_here(), sizeof *b);

        if (!b)
            return COIR_ENOMEM;
        b->older = j->more;
        j->more = b;
    }
    j->more->handler[j->more->count++] = d;
    return COIR_OK;
}
