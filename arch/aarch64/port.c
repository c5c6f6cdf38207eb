/* SPDX-License-Identifier: MIT */
/*
 * port.c - AArch64: the part of the port that C can say. As x86_64/port.c, where it is explained.
 */
#include "arch.h"

#include <sys/prctl.h>
#include <ucontext.h>

extern const char arch_enter[]; /* switch.S: the first frame of every stack */
enum { ENTER_NOP = 4 };         /* bytes of its leading nop */

uint64_t arch_fp_get(void)
{
    uint64_t fpcr;

    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    return fpcr;
}

void arch_fp_set(uint64_t words)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(words));
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
