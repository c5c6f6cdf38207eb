/* SPDX-License-Identifier: MIT */
/*
 * port.c - x86-64: the part of the port that C can say.
 *
 * A fresh stack looks like one that arch_switch has suspended (switch.asm draws it), with the
 * fiber's frame-pointer record above it:
 *
 *       top
 *     +----------------------+
 *     | record: link, pc     |  both zero
 *     +----------------------+
 *     | struct arch_frame    |  returns into arch_enter; rbp points to the record
 *     +----------------------+  <- saved rsp, 16-byte aligned
 */
#include "arch.h"

#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

extern const char arch_enter[]; /* switch.asm: the first frame of every stack */
enum { ENTER_NOP = 1 };         /* bytes of its leading nop */

/* The status word of the x87 and the sticky flags in MXCSR travel with the control bits; the psABI
 * leaves them to the callee, so that is harmless. */
uint64_t arch_fp_get(void)
{
    uint16_t x87_cw;

    __asm__ volatile("fnstcw %0" : "=m"(x87_cw));
    return (uint64_t)x87_cw << 32 | __builtin_ia32_stmxcsr();
}

void arch_fp_set(uint64_t words)
{
    uint16_t x87_cw = (uint16_t)(words >> 32);

    __asm__ volatile("fldcw %0" : : "m"(x87_cw));
    __builtin_ia32_ldmxcsr((uint32_t)words);
}

void *arch_prepare(void *top, arch_entry_fn *entry, void *arg, struct arch_record **record)
{
    struct arch_record *base = (struct arch_record *)top - 1;
    struct arch_frame *frame = (struct arch_frame *)(void *)base - 1;
    uint64_t fp_words = arch_fp_get();

    *base = (struct arch_record){0};
    *frame = (struct arch_frame){
        .mxcsr = (uint32_t)fp_words,
        .x87_cw = (uint16_t)(fp_words >> 32),
        .rbx = (uint64_t)entry,
        .r12 = (uint64_t)arg,
        .fp = base,
        .pc = (void *)(uintptr_t)(arch_enter + ENTER_NOP),
    };
    *record = base;
    return frame;
}

void arch_interrupted(const void *context, uintptr_t *pc, uintptr_t *frame)
{
    const ucontext_t *uc = context;

    *pc = (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
    *frame = (uintptr_t)uc->uc_mcontext.gregs[REG_RBP];
}

/* Linux 6.6. Older kernels and CPUs without shadow stacks refuse the call: then there are none. */
bool arch_shadow_stack(void)
{
    enum { ARCH_SHSTK_STATUS = 0x5005, ARCH_SHSTK_SHSTK = 1 };
    uint64_t features = 0;

    return syscall(SYS_arch_prctl, ARCH_SHSTK_STATUS, &features) == 0 &&
           (features & ARCH_SHSTK_SHSTK) != 0;
}
