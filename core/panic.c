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
 *   P3  A lock or hold that lies in a frame is let go when the frame goes, if no cleanup of that very frame
 *       has done so: cleanups further up run on the memory it lay in. A foreign exception does not say
 *       which frame is next, so they are let go when its search has come to the boundary.
 *   P4  The exception object lies in the job's wreck (wreck.h), which no unwind tears down.
 *   P5  What a C++ catch of the panic raises instead of it finds the object unused: it is off C++'s list by then, which
 *       also lets an inner catch have what comes next. So one object serves all panics of a boundary.
 *
 * What cannot be contained aborts with a report: no boundary, a panic while unwinding, in the panic
 * hook or in a signal handler, a frame without unwind tables or one that is noexcept (terminate.c), the
 * end of a thread (pthread_exit, cancellation) through a job, and exceptions that only their own
 * language may end (Rust).
 */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boundary.h"
#include "foreign.h"
#include "hostcall.h"
#include "job.h"
#include "report.h"
#include "terminate.h"

/* -------------------------------------------------------------------------------- raising it */

/* An unwinder begins anew when a cleanup has run, with the frame whose cleanup that was: it has been seen. */
static bool begins_leg(struct wreck *k, struct _Unwind_Context *context)
{
    bool again = k->leg && k->leg != context;

    k->leg = context;
    return again;
}

static _Unwind_Reason_Code begin_leg(struct job *j, struct _Unwind_Context *context)
{
    terminate_resumed(j);
    if (UNLIKELY(j->wreck->tracing))
        trace_frame(&j->wreck->trace, context, true);
    return _URC_NO_REASON;
}

__attribute__((noreturn)) static COLD void die_of_frame(const struct job *j, const char *what, const char *advice)
{
    const coir_failure *f = &j->wreck->failure;

    fatal("%s: %s:%d: %s%s", what, f->file ? f->file : "?", f->line, f->message, advice);
}

static _Unwind_Reason_Code pass_frame(struct job *j, struct _Unwind_Context *context, bool last)
{
    struct wreck *k = j->wreck;

    k->passing = _Unwind_GetIPInfo(context, &k->interrupted);
    if (UNLIKELY(k->interrupted))
        die_of_frame(j, "panic in a signal handler", "");
    if (UNLIKELY(last))
        die_of_frame(j, "a frame without unwind tables is in the way of a panic",
                     " (compile with -fexceptions or -fasynchronous-unwind-tables)");
    if (UNLIKELY(k->tracing))
        trace_frame(&k->trace, context, false);
    if (j->held)
        job_leave_locks(j, _Unwind_GetCFA(context)); /* P3: below it lie the frames that have gone */
    terminate_on_frame(j, context);
    return _URC_NO_REASON;
}

/* Called for every frame on the way, before its cleanups, and once more after each. */
static _Unwind_Reason_Code on_frame(int version, _Unwind_Action actions,
                                    _Unwind_Exception_Class class, struct _Unwind_Exception *e,
                                    struct _Unwind_Context *context, void *arg)
{
    struct job *j = arg;

    (void)version;
    (void)class;
    (void)e;
    return begins_leg(j->wreck, context) ? begin_leg(j, context) : pass_frame(j, context, actions & _UA_END_OF_STACK);
}

/* A catch of another language ended the panic without passing it on. */
static void swallowed(struct job *j)
{
    struct worker *w = worker_here();

    j->raising = false;
    job_keep_trace(j);
    terminate_ended(j);
    if (w)
        tally(&w->swallowed, 1);
}

static void on_swallowed(_Unwind_Reason_Code reason, struct _Unwind_Exception *e)
{
    (void)reason;
    swallowed(CONTAINER_OF(e, struct wreck, exception)->job);
}

/* What comes while j is raising may: its panic is in a C++ catch, which ends here and not where the catch does (P5). */
static NOINLINE COLD bool replaces(struct job *j)
{
    struct eh_globals *eh = exceptions_here();

    if (!eh || !foreign_take_caught(&eh->caught, j->wreck, sizeof *j->wreck))
        return false;
    swallowed(j);
    return true;
}

/* What a failure says. */
struct words {
    const char *file;
    int line;
    const void *frame; /* of the function of ours that was called */
    char text[COIR_TEXT_BYTES];
};

/* All but the text, which is large. */
static void put_place(struct words *said, const char *file, int line, const void *frame)
{
    said->file = file;
    said->line = line;
    said->frame = frame;
}

/* Most messages have no arguments, and the C library takes twice as long to find that out as to copy one. */
static void put_text(struct words *said, const char *format, va_list args)
{
    size_t length = strcspn(format, "%");

    if (format[length] || length >= sizeof said->text)
        vsnprintf(said->text, sizeof said->text, format, args);
    else
        memcpy(said->text, format, length + 1);
}

/* Writes the words and their place into a record. */
static void put_words(coir_failure *f, const struct words *said)
{
    f->file = said->file;
    f->line = said->line;
    memcpy(f->message, said->text, strnlen(said->text, sizeof f->message - 1)); /* the rest is zero */
}

static __attribute__((noreturn, cold)) void die_in_hostcall(const char *what, const struct words *said)
{
    fatal("%s %s: %s:%d: %s", what, hostcall_name(), said->file ? said->file : "?", said->line, said->text);
}

/* A panic that nothing can contain; the hook learns of it first. */
static __attribute__((noreturn, cold)) void die_told(const char *why, struct job *j,
                                                     const struct words *said)
{
    coir_failure f;

    job_failure(j, &f, COIR_PANICKED, COIR_KIND_PANIC);
    put_words(&f, said);
    hostcall_panic_hook(runtime_here(), &f);
    fatal("%s: %s:%d: %s", why, said->file ? said->file : "?", said->line, said->text);
}

/* Signal handlers may have a stack of their own, where nothing of the job's lies. A fiber knows its
 * bounds; a thread has to ask. */
static bool on_other_stack(const void *frame)
{
    struct worker *w = worker_here();
    const struct fiber *f = w ? w->current : NULL;
    stack_t other;

    if (f && f != &w->home)
        return (uintptr_t)frame - (uintptr_t)f->bottom >= f->bytes;
    return sigaltstack(NULL, &other) == 0 && (other.ss_flags & SS_ONSTACK);
}

/* The job that panics: its record is written, kept and told. */
static NOINLINE struct job *announce(const struct words *said)
{
    struct job *j = *job_slot();

    if (hostcall_name())
        die_in_hostcall("panic in", said);
    if (!j)
        die_told("panic outside any boundary", j, said);
    if (on_other_stack(said->frame))
        die_told("panic in a signal handler, or on another stack that is not the job's", j, said);
    if (j->raising && !replaces(j))
        die_told("panic while an earlier one unwinds", j, said);
    job_failure(j, &job_wreck(j)->failure, COIR_PANICKED, COIR_KIND_PANIC);
    put_words(&j->wreck->failure, said);
    job_panicked(j, said->text, said->frame);
    return j;
}

/* What is to be raised. Hot: gcc makes for size what leads to a call that does not return, and clears by `rep stos`. */
__attribute__((hot)) static struct _Unwind_Exception *begin(const struct words *said)
{
    struct job *j = announce(said);
    struct wreck *k = j->wreck;

    job_raised(j, (uintptr_t)said->frame); /* P1; may suspend */
    k->exception = (struct _Unwind_Exception){.exception_class = JOB_EXCEPTION_CLASS,
                                              .exception_cleanup = on_swallowed};
    memset(k->no_cxx_header, 0, sizeof k->no_cxx_header);
    k->leg = NULL;
    fiber_forget_frames(j);
    return &k->exception;
}

static void *begin_text(const char *file, int line, const void *frame, const char *format, va_list args)
{
    struct words said;

    put_place(&said, file, line, frame);
    put_text(&said, format, args);
    return begin(&said);
}

void *coir_panic_begin(const char *file, int line, const char *format, ...)
{
    va_list args;
    void *panic;

    va_start(args, format);
    panic = begin_text(file, line, __builtin_frame_address(0), format, args);
    va_end(args);
    return panic;
}

void *coir_require_begin(const char *file, int line, const char *condition, const char *format, ...)
{
    struct words said;
    va_list args;

    put_place(&said, file, line, __builtin_frame_address(0));
    va_start(args, format);
    if (format[0] && format[1])
        put_text(&said, format + 1, args);
    else
        snprintf(said.text, sizeof said.text, "required: %s", condition);
    va_end(args);
    return begin(&said);
}

/* A jump, where the compiler makes one of it. */
int coir_panic_raise(void *panic)
{
    return (int)_Unwind_ForcedUnwind(panic, on_frame, CONTAINER_OF(panic, struct wreck, exception)->job);
}

void coir_panic_stuck(int reason)
{
    const coir_failure *f = &(*job_slot())->wreck->failure;

    fatal("the unwinder gave up (%d) on a panic: %s:%d: %s", reason, f->file ? f->file : "?", f->line, f->message);
}

void coir_panic_at(const char *file, int line, const char *format, ...)
{
    va_list args;
    void *panic;

    va_start(args, format);
    panic = begin_text(file, line, __builtin_frame_address(0), format, args);
    va_end(args);
    coir_panic_stuck(coir_panic_raise(panic));
}

/* --------------------------------------------------------------------- the boundary's personality */

static _Unwind_Reason_Code land(struct _Unwind_Context *context, struct _Unwind_Exception *e)
{
    _Unwind_SetGR(context, __builtin_eh_return_data_regno(0), (_Unwind_Word)(uintptr_t)e);
    _Unwind_SetGR(context, __builtin_eh_return_data_regno(1), 0);
    _Unwind_SetIP(context, (_Unwind_Ptr)(uintptr_t)arch_boundary_landing);
    return _URC_INSTALL_CONTEXT;
}

/* A panic of a boundary further out, in whose C++ catch this one runs code that rethrew it. That catch has it still when
 * this boundary has failed of it, too. */
static COLD void fail_of_outer(struct job *j, const struct _Unwind_Exception *e)
{
    struct wreck *k = job_wreck(j);

    k->failure = CONTAINER_OF(e, struct wreck, exception)->failure;
    k->tracing = false;
    j->raising = true;
    job_tell_locks(j, (uintptr_t)__builtin_frame_address(0));
}

static _Unwind_Reason_Code land_panic(struct _Unwind_Context *context, struct _Unwind_Exception *e)
{
    struct job *j = *job_slot(); /* NULL: the process has been forked on the way */

    if (UNLIKELY(j && e != &j->wreck->exception))
        fail_of_outer(j, e);
    return land(context, e);
}

/* The search of a foreign exception has come to the boundary. Every frame is still whole. */
static void foreign_panicked(struct job *j, struct _Unwind_Exception *e)
{
    struct words said;

    put_place(&said, NULL, 0, __builtin_frame_address(0));
    foreign_name(e, said.text, sizeof said.text);
    if (hostcall_name())
        die_in_hostcall("an exception left", &said);
    if (j->raising && !replaces(j))
        die_told("an exception left a cleanup while an earlier panic unwinds", j, &said);
    job_failure(j, &job_wreck(j)->failure, COIR_PANICKED, COIR_KIND_FOREIGN);
    put_words(&j->wreck->failure, &said);
    job_panicked(j, said.text, said.frame);
    job_raised(j, (uintptr_t)__builtin_frame_address(0)); /* P1; may suspend */
    job_leave_locks(j, (uintptr_t)j); /* P3 */
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
        return land_panic(context, e);
    if (actions & _UA_FORCE_UNWIND)
        fatal("a thread is being ended (pthread_exit or pthread_cancel) through a job");
    if (foreign_is_untouchable(class))
        fatal("a Rust panic reached a job's boundary: catch it with catch_unwind at the edge");
    if (actions & _UA_SEARCH_PHASE) {
        foreign_panicked(*job_slot(), e);
        return _URC_HANDLER_FOUND;
    }
    return land(context, e);
}

/* ------------------------------------------------------------------------------- public part */

int coir_try(coir_fn *fn, void *arg, coir_failure *failure)
{
    const struct coir_runtime *rt = runtime_here();

    if (!fn)
        return COIR_EINVAL;
    return rt && rt->options.panic == COIR_PANIC_ABORT ? COIR_EPOLICY : job_try(fn, arg, failure);
}

/* A cleanup of a panic may call this, or a catch that will end it: if the panic arrives it outranks this, and its record
 * stays in any case. */
static void fail(struct job *j, int code, const struct words *said)
{
    coir_failure f;

    job_failure(j, &f, COIR_FAILED, COIR_KIND_FAIL);
    f.code = code;
    put_words(&f, said);
    report_keep(runtime_here(), &f, said->text, job_domain(j));
    if (j->failed)
        return;
    j->failed = true;
    j->code = code;
    if (!j->raising)
        job_wreck(j)->failure = f;
}

int coir_fail_at(const char *file, int line, int code, const char *format, ...)
{
    struct words said;
    struct job *j = *job_slot();
    va_list args;

    coir_require(code != 0, "coir_fail: the code is 0, which reads as success (%s:%d)", file, line);
    if (!j)
        return status_outside();
    put_place(&said, file, line, __builtin_frame_address(0));
    va_start(args, format);
    put_text(&said, format, args);
    va_end(args);
    fail(j, code, &said);
    return code;
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
        return status_outside();
    if (!j->defers) {
        j->defers = true;
        j->defer_count = 0;
        j->more = NULL;
    }
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
