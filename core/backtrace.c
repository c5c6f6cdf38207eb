/* SPDX-License-Identifier: MIT */
/*
 * backtrace.c - walks the unwind tables for addresses; asks the dynamic linker for names.
 *
 * A walk is as expensive as a panic, whose unwinder walks the same frames. So a panic's frames are noted as it
 * passes them, and only if the host's code may look at once are they walked beforehand. Nothing is looked up
 * then. Names are those of exported symbols; for the others OBJECT+OFFSET is what addr2line wants.
 */
#include "backtrace.h"

#include <dlfcn.h>
#include <string.h>

#include "line.h"

struct walk {
    void **pc;
    unsigned count, max;
    uintptr_t frame; /* frames below it are not wanted */
};

/* The unwinder gives the stack pointer as it is in the frame. */
static _Unwind_Reason_Code on_frame(struct _Unwind_Context *context, void *arg)
{
    struct walk *w = arg;

    if (_Unwind_GetCFA(context) <= w->frame)
        return _URC_NO_REASON;
    if (w->count == w->max || !_Unwind_GetIP(context))
        return _URC_END_OF_STACK;
    w->pc[w->count++] = (void *)(uintptr_t)_Unwind_GetIP(context);
    return _URC_NO_REASON;
}

unsigned backtrace_capture(void **pc, unsigned max, const void *frame)
{
    struct walk w = {pc, 0, max, (uintptr_t)frame};

    _Unwind_Backtrace(on_frame, &w);
    return w.count;
}

/* -------------------------------------------------------------------------------------- traces */

void trace_begin(struct trace *t, const void *frame)
{
    t->below = (uintptr_t)frame;
    t->count = 0;
}

/* A frame whose cleanup is done need not have the stack pointer it had (there were the arguments of its call), nor be
 * in the same function (cleanups may lie apart). */
void trace_frame(struct trace *t, struct _Unwind_Context *context, bool again)
{
    uintptr_t at = _Unwind_GetCFA(context);

    if (at <= t->below)
        return;
    t->below = at;
    if (!again && t->count < COIR_BACKTRACE_MAX)
        t->pc[t->count++] = (void *)(uintptr_t)_Unwind_GetIP(context);
}

struct walk_below {
    struct trace *trace;
    uintptr_t end;
};

static _Unwind_Reason_Code on_frame_below(struct _Unwind_Context *context, void *arg)
{
    struct walk_below *w = arg;

    if (_Unwind_GetCFA(context) >= w->end || w->trace->count == COIR_BACKTRACE_MAX)
        return _URC_END_OF_STACK;
    trace_frame(w->trace, context, false);
    return _URC_NO_REASON;
}

void trace_walk(struct trace *t, const void *end)
{
    _Unwind_Backtrace(on_frame_below, &(struct walk_below){t, (uintptr_t)end});
}

/* ------------------------------------------------------------------------------------- printing */

bool backtrace_print(unsigned number, const void *pc, int fd)
{
    const char *call = (const char *)pc - 1; /* a return address may be the next function's */
    const char *object;
    Dl_info info;

    if (!dladdr(call, &info) || !info.dli_fname)
        return line_print(fd, "  #%-2u %p", number, pc);
    object = strrchr(info.dli_fname, '/');
    object = object ? object + 1 : info.dli_fname;
    if (info.dli_sname)
        return line_print(fd, "  #%-2u %p %s+0x%zx (%s)", number, pc, info.dli_sname,
                          (size_t)((const char *)pc - (const char *)info.dli_saddr), object);
    return line_print(fd, "  #%-2u %p %s+0x%zx", number, pc, object,
                      (size_t)((const char *)pc - (const char *)info.dli_fbase));
}
