/* SPDX-License-Identifier: MIT */
/*
 * port.c - AArch64: the part of the port that C can say. As x86_64/port.c, where it is explained.
 */
#include "arch.h"

#include <sys/prctl.h>
#include <ucontext.h>
#include <unwind.h>

extern const char arch_enter[]; /* switch.S: the first frame of every stack */
enum { ENTER_NOP = 4 };         /* bytes of its leading nop */

void arch_fp_set(uint64_t words)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(words));
}

bool arch_prefers_loading(void)
{
    return false;
}

void *arch_prepare(void *top, arch_entry_fn *entry, void *arg, struct arch_record **record)
{
    struct arch_record *base = (struct arch_record *)top - 1;
    struct arch_frame *frame = (struct arch_frame *)(void *)base - 1;

    *base = (struct arch_record){0};
    *frame = (struct arch_frame){
        .fp = base,
        .pc = (void *)(uintptr_t)(arch_enter + ENTER_NOP),
        .x19 = (uint64_t)entry,
        .x20 = (uint64_t)arg,
        .fpcr = arch_fp_get(),
    };
    *record = base;
    return frame;
}

uintptr_t arch_context_pc(const void *context)
{
    const ucontext_t *uc = context;

    return uc->uc_mcontext.pc;
}

uintptr_t arch_context_sp(const void *context)
{
    const ucontext_t *uc = context;

    return uc->uc_mcontext.sp;
}

void arch_redirect(void *context, void *top, void (*entry)(void *arg), void *arg)
{
    enum { BRANCH_TYPE = 3 << 10 }; /* set between an indirect branch and its landing pad */
    mcontext_t *m = &((ucontext_t *)context)->uc_mcontext;
    struct arch_fault *saved = (struct arch_fault *)top - 1;

    *saved = (struct arch_fault){.sp = m->sp, .pc = m->pc};
    for (int i = 0; i < 31; i++)
        saved->x[i] = m->regs[i];
    m->sp = (uint64_t)saved;
    m->pc = (uint64_t)arch_rescue;
    m->regs[0] = (uint64_t)arg;
    m->regs[1] = (uint64_t)entry;
    m->pstate &= ~(uint64_t)BRANCH_TYPE;
}

void *arch_capture(struct _Unwind_Context *boundary, struct arch_frame *frame)
{
    enum { X19 = 19, X29 = 29, D8 = 72 };
    uint64_t *x = &frame->x19, *d = &frame->d8;

    *frame = (struct arch_frame){
        .fp = (void *)_Unwind_GetGR(boundary, X29),
        .pc = (void *)(uintptr_t)arch_boundary_resumed,
        .fpcr = arch_fp_get(),
    };
    for (int i = 0; i < 10; i++)
        x[i] = _Unwind_GetGR(boundary, X19 + i);
    for (int i = 0; i < 8; i++)
        d[i] = _Unwind_GetGR(boundary, D8 + i);
    return (struct arch_frame *)_Unwind_GetCFA(boundary) - 1;
}

void arch_interrupted(const void *context, uintptr_t *pc, uintptr_t *frame)
{
    const ucontext_t *uc = context;

    *pc = (uintptr_t)uc->uc_mcontext.pc;
    *frame = (uintptr_t)uc->uc_mcontext.regs[29];
}

/* Guarded control stacks, Linux 6.13. Older kernels refuse the call: then there are none. */
bool arch_shadow_stack(void)
{
    enum { GET_SHADOW_STACK_STATUS = 74, SHADOW_STACK_ENABLE = 1 };
    unsigned long status = 0;

    return prctl(GET_SHADOW_STACK_STATUS, &status, 0, 0, 0) == 0 &&
           (status & SHADOW_STACK_ENABLE) != 0;
}
