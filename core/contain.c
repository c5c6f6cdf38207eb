/* SPDX-License-Identifier: MIT */
/*
 * contain.c - a fault inside a job ends that job, as a panic would, and nothing else.
 *
 * The way of a fault, after the handler (fault.c) has found that the policy wants it contained:
 *
 *   handler          contain_redirect: its return goes on in `contain`, in normal context, on the
 *                    worker's rescue stack. The job's stack stays as the fault left it.
 *   rescue stack     walks the faulting stack with the unwinder, running nothing. Every frame up to the
 *                    innermost boundary must lie in text that the program has registered (but for a job's
 *                    function that is this library's, own_function): only then
 *                    is it known that the thread is not inside malloc, printf or the dynamic linker
 *                    with their locks held. Otherwise the process aborts, and the report says what
 *                    was in the way. Until this is known nothing here may allocate or take a lock.
 *   another stack    the frames that will be skipped are dead but whole. Children are canceled and waited
 *                    for, and deferred handlers run, on another loop's stack (contain_clean_up): the
 *                    children write into these frames, and handlers' arguments may lie in them. The
 *                    faulted fiber is BROKEN meanwhile: no waker, canceler or closer can touch it.
 *   own stack again  the fiber is resumed at its boundary, which returns the job's exception as if a panic
 *                    had landed there. From here on it is one: caught() in boundary.c.
 *
 * A job that owes nothing and has no handlers lands at once, without another stack. For the others each
 * worker keeps a stack in reserve. If that, too, is taken (at the limit of stacks, by a clean-up that
 * waits on this worker), the process aborts: nothing that is left could end the job as promised.
 *
 * Why not unwind from the fault: the instruction that faulted is not a call, so compilers write no
 * landing pads for it (but with -fnon-call-exceptions, which nobody has), and a cleanup that runs on a
 * full stack, or after a wild write, is one more fault. So cleanups of the frames do not run.
 *
 * The stack itself is kept in use. The access that hit the guard was not made, so nothing beyond the
 * stack was written, and below the boundary lies nothing that anybody reads again; waiters that the
 * stack carries go on living above it. There is nothing to rebuild.
 */
#include "contain.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boundary.h"
#include "report.h"
#include "text.h"

#define ABORT_FRAMES 8 /* between the signal and abort, or abort and __assert_fail, at most */

/* How a boundary is ended from outside: what arch_capture knows. */
struct landing {
    void *sp;
    struct arch_frame frame;
};

/* At the top of a rescue stack. */
struct rescue {
    const void *low; /* of the stack */
    struct fault fault;
    uintptr_t pc; /* of the fault */
    struct landing landing;
};

static __thread struct rescue *rescue;

void contain_use_stack(void *low, size_t bytes)
{
    uintptr_t top = (uintptr_t)low + bytes - sizeof(struct rescue);

    rescue = low ? (struct rescue *)(top & ~(uintptr_t)(COIR_CACHE_LINE - 1)) : NULL;
    if (rescue)
        rescue->low = low;
}

/* ------------------------------------------------------------------------- the faulting frames */

/* A walk from the fault to the innermost boundary. */
struct walk {
    struct landing *landing; /* its sp is set at the boundary */
    bool inside;             /* past arch_rescue */
    size_t left;             /* frames that the stack has room for: one that was damaged may lead to itself */
    unsigned frames;
    uintptr_t fault;         /* where the first frame was stopped */
    uintptr_t last;          /* where the last frame was */
    uintptr_t foreign;       /* innermost place that is not containable, or 0 */
    uintptr_t entry;         /* outermost place of that stretch: what containable code had called */
    bool foreign_ended;      /* containable frames came after it */
    bool by_abort;           /* SIGABRT: only abort() itself is excused */
    bool aborted;            /* and was found */
    uintptr_t own;           /* the job's function, if it is this library's, or 0 */
    struct trace trace;      /* the frames up to the boundary's */
};

/* By its name, too: the address of abort is that of a stub in a program that is linked at a fixed address and takes it. */
static bool is_abort(uintptr_t function)
{
    char name[16];

    if (function == (uintptr_t)abort || function == (uintptr_t)__assert_fail)
        return true;
    text_name(function, name, sizeof name);
    return strcmp(name, "abort") == 0 || strcmp(name, "__assert_fail") == 0;
}

/* C lets a handler leave abort() for good, and so it holds nothing when it raises the signal. Its frames,
 * and those of a failed assert, are as if they were not there. */
static bool excuse_abort(struct walk *w, uintptr_t function)
{
    const struct walk begin = {.landing = w->landing, .inside = true, .left = w->left,
                               .by_abort = true, .aborted = true, .own = w->own};

    if (!w->by_abort || w->frames > ABORT_FRAMES || w->foreign_ended || !is_abort(function))
        return false;
    *w = begin;
    return true;
}

static void judge(struct walk *w, uintptr_t pc)
{
    if (w->frames++ == 0)
        w->fault = pc;
    w->last = pc;
    if (text_is_containable(pc)) {
        w->foreign_ended = w->foreign != 0;
    } else if (!w->foreign_ended) {
        w->entry = pc;
        if (!w->foreign)
            w->foreign = pc;
    }
}

/* Readers of a return address look up the byte before it. */
static void note(struct walk *w, uintptr_t return_address)
{
    if (w->trace.count < COIR_BACKTRACE_MAX)
        w->trace.pc[w->trace.count++] = (void *)return_address;
}

static _Unwind_Reason_Code on_frame(struct _Unwind_Context *c, void *arg)
{
    uintptr_t function = _Unwind_GetRegionStart(c);
    struct walk *w = arg;
    int stopped_there; /* else the address is a return address: the call lies before it */
    uintptr_t pc = _Unwind_GetIPInfo(c, &stopped_there);

    if (!w->inside) {
        w->inside = function == (uintptr_t)arch_rescue;
        return _URC_NO_REASON;
    }
    if (w->left-- == 0)
        return _URC_NORMAL_STOP;
    if (function != w->own && excuse_abort(w, function))
        return _URC_NO_REASON;
    note(w, pc + (stopped_there != 0));
    if (function == (uintptr_t)arch_boundary) {
        w->landing->sp = arch_capture(c, &w->landing->frame);
        return _URC_NORMAL_STOP;
    }
    if (function != w->own)
        judge(w, pc - !stopped_there);
    return _URC_NO_REASON;
}

/* A function of this library that is a whole job, as a supervised child is, holds nothing when it calls the
 * program's. */
static uintptr_t own_function(const struct job *j)
{
    return text_is_ours((uintptr_t)j->fn) ? (uintptr_t)j->fn : 0;
}

void contain_open(void)
{
    struct landing nowhere;
    struct walk walk = {.landing = &nowhere};

    _Unwind_Backtrace(on_frame, &walk);
}

/* ------------------------------------------------------------------------------------- refusing */

/* Handlers that were there before are not called: the signal's context has gone. */
static __attribute__((noreturn)) void refuse(struct worker *w, const struct fault *f, const char *why)
{
    fault_report(w, f, why);
    fault_abort();
}

void contain_check_walk(const struct worker *w, uintptr_t sp)
{
    if (!rescue || sp < (uintptr_t)rescue->low || sp >= (uintptr_t)rescue)
        return;
    fault_report(w, &rescue->fault, "its frames make no sense");
    fault_abort();
}

/* Unwinders read the instructions at an address that no table knows. What a program has made itself and registered is
 * there to be read. */
static void check_place(struct worker *w, const struct rescue *r)
{
    if (!text_is_known(r->pc) && !text_is_containable(r->pc))
        refuse(w, &r->fault, "the place is no code of the program");
}

/* Aborts unless every frame may be skipped. */
static void check_walk(struct worker *w, const struct fault *f, const struct walk *walk)
{
    char inner[80], outer[80], why[240];

    if (walk->by_abort && !walk->aborted)
        refuse(w, f, "somebody sent it");
    text_name(walk->foreign ? walk->foreign : walk->last, inner, sizeof inner);
    if (walk->foreign) {
        text_name(walk->entry, outer, sizeof outer);
        snprintf(why, sizeof why, "%s, called as %s, is not registered as containable", inner, outer);
        refuse(w, f, why);
    }
    if (!walk->landing->sp) {
        snprintf(why, sizeof why, "the stack cannot be walked beyond %s", inner);
        refuse(w, f, why);
    }
}

/* Aborts if the job is in no state to end by this fault. */
static void check_job(struct worker *w, const struct fault *f, const struct landing *l)
{
    const struct job *j = w->current->job;
    const struct eh_globals *eh = w->carrier.eh;

    if (j->raising)
        refuse(w, f, "it came while a panic unwinds");
    if (eh && eh->uncaught > (j->is_try ? j->eh.uncaught : 0))
        refuse(w, f, "it came while a C++ exception unwinds");
    if ((uintptr_t)l->sp >= (uintptr_t)j || (uintptr_t)l->sp < (uintptr_t)w->current->bottom)
        refuse(w, f, "the stack leads to a boundary that is not the running job's");
}

/* ----------------------------------------------------------------------------------- containing */

static void describe(const struct walk *walk, const struct fault *f, char *message, size_t bytes)
{
    char name[40];

    text_name(walk->fault, name, sizeof name);
    if (f->signal == SIGABRT)
        snprintf(message, bytes, "abort() called in %.39s", name);
    else if (f->overflow)
        snprintf(message, bytes, "stack overflow, %u frames deep, in %.29s", walk->frames, name);
    else
        snprintf(message, bytes, "%.8s at 0x%llx in %.39s", fault_signal_name(f->signal),
                 (unsigned long long)f->address, name);
}

/* After any fault but an overflow memory may have been written by mistake: said at the first, and
 * whenever their number has doubled. */
static void taint(struct worker *w)
{
    uint64_t n = tally_read(&w->tainted) + 1;

    tally(&w->tainted, 1);
    if (!(n & (n - 1)))
        host_log(&w->runtime->host, COIR_LOG_WARNING,
                 "%llu fault%s contained on worker %u: the process is tainted, drain and restart it",
                 (unsigned long long)n, plural(n), w->index);
}

static void write_record(struct worker *w, struct job *j, const struct walk *walk, const struct fault *f)
{
    coir_failure *told = &job_wreck(j)->failure;

    job_failure(j, told, COIR_PANICKED, f->overflow ? COIR_KIND_STACK_OVERFLOW : COIR_KIND_FAULT);
    describe(walk, f, told->message, sizeof told->message);
    tally(&w->contained, 1);
    if (!f->overflow)
        taint(w);
    job_faulted(j, told->message, &walk->trace);
    job_tell_locks(j, (uintptr_t)w->current->bottom);
}

/* The frames below the boundary are of no use any more. */
static void put_frame(struct fiber *f, const struct landing *l)
{
    fiber_forget_stack(f->bottom, (char *)l->sp + sizeof l->frame);
    memcpy(l->sp, &l->frame, sizeof l->frame);
}

/* On the rescue stack. Must not suspend: the worker still counts as running the fiber. */
static void contain(void *arg)
{
    struct rescue *r = arg;
    struct worker *w = worker_here();
    struct fiber *self = w->current;
    struct walk walk = {.landing = &r->landing,
                        .left = ((uintptr_t)self - (uintptr_t)self->bottom) / (2 * sizeof(void *)),
                        .by_abort = r->fault.signal == SIGABRT,
                        .own = own_function(self->job)};
    void *here;

    check_place(w, r);
    r->landing.sp = NULL;
    _Unwind_Backtrace(on_frame, &walk);
    check_walk(w, &r->fault, &walk);
    check_job(w, &r->fault, &r->landing);
    write_record(w, self->job, &walk, &r->fault);
    if (job_has_end(self->job))
        worker_leave_broken(self); /* does not return */
    put_frame(self, &r->landing);
    arch_switch(&here, r->landing.sp, NULL);
}

bool contain_redirect(void *context, const struct fault *f)
{
    if (!rescue)
        return false;
    fiber_forget_stack(rescue->low, rescue); /* nobody has returned from there */
    rescue->fault = *f;
    rescue->pc = arch_context_pc(context);
    arch_redirect(context, rescue, contain, rescue);
    return true;
}

void contain_clean_up(struct fiber *self, struct fiber *broken)
{
    struct landing l = rescue->landing; /* this thread's next fault will need the place */

    (void)self;
    job_end_apart(broken->job, (uintptr_t)broken->bottom);
    put_frame(broken, &l);
    broken->sp = l.sp;
}

/* Called by arch_boundary when its stack goes on. passed: the carrier, or NULL if it was never left. */
void *coir_landed(void *passed);
void *coir_landed(void *passed)
{
    if (passed)
        worker_return_broken(passed);
    return &worker_here()->current->job->wreck->exception;
}
