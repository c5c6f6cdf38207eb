/* SPDX-License-Identifier: MIT */
/*
 * backtrace.c - walks the unwind tables for addresses; asks the dynamic linker for names.
 *
 * Capturing is the expensive part of a panic, so it is done only when asked, and nothing is looked up
 * then. Names are those of exported symbols; for the others OBJECT+OFFSET is what addr2line wants.
 */
#include "backtrace.h"

#include <dlfcn.h>
#include <string.h>
#include <unwind.h>

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
