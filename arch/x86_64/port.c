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

#include <cpuid.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

extern const char arch_enter[]; /* switch.asm: the first frame of every stack */
enum { ENTER_NOP = 1 };         /* bytes of its leading nop */

void arch_fp_set(uint64_t words)
{
    uint16_t x87_cw = (uint16_t)(words >> 32);

    __asm__ volatile("fldcw %0" : : "m"(x87_cw));
    __builtin_ia32_ldmxcsr((uint32_t)words);
}

bool arch_prefers_loading(void)
{
    unsigned leaves, ebx, ecx, edx;

    return __get_cpuid(0, &leaves, &ebx, &ecx, &edx) && ebx == signature_AMD_ebx;
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

uintptr_t arch_context_pc(const void *context)
{
    const ucontext_t *uc = context;

    return (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
}

uintptr_t arch_context_sp(const void *context)
{
    const ucontext_t *uc = context;

    return (uintptr_t)uc->uc_mcontext.gregs[REG_RSP];
}

/* An exception of the x87 is raised at its next instruction, whatever that is: here at the one that would restore the
 * control word. */
static void drop_x87_exceptions(mcontext_t *m)
{
    enum { EXCEPTIONS = 0x80ff }; /* with their summary, and what once was the same as that */

    if (m->fpregs)
        m->fpregs->swd &= (uint16_t)~EXCEPTIONS;
}

void arch_redirect(void *context, void *top, void (*entry)(void *arg), void *arg)
{
    enum { TRAP_FLAG = 0x100, DIRECTION_FLAG = 0x400, ALIGNMENT_CHECK = 0x40000 };
    mcontext_t *m = &((ucontext_t *)context)->uc_mcontext;
    greg_t *r = m->gregs;
    struct arch_fault *saved = (struct arch_fault *)top - 1;

#define SAVED(register, from) .register = (uint64_t)r[from]
    *saved = (struct arch_fault){
        SAVED(rax, REG_RAX), SAVED(rdx, REG_RDX), SAVED(rcx, REG_RCX), SAVED(rbx, REG_RBX),
        SAVED(rsi, REG_RSI), SAVED(rdi, REG_RDI), SAVED(rbp, REG_RBP), SAVED(rsp, REG_RSP),
        SAVED(r8, REG_R8),   SAVED(r9, REG_R9),   SAVED(r10, REG_R10), SAVED(r11, REG_R11),
        SAVED(r12, REG_R12), SAVED(r13, REG_R13), SAVED(r14, REG_R14), SAVED(r15, REG_R15),
        SAVED(rip, REG_RIP),
    };
#undef SAVED
    r[REG_RSP] = (greg_t)(uintptr_t)saved;
    r[REG_RIP] = (greg_t)(uintptr_t)arch_rescue;
    r[REG_RDI] = (greg_t)(uintptr_t)arg;
    r[REG_RSI] = (greg_t)(uintptr_t)entry;
    drop_x87_exceptions(m);
    r[REG_EFL] &= ~(greg_t)(TRAP_FLAG | DIRECTION_FLAG | ALIGNMENT_CHECK); /* as the psABI has it at an entry */
}

void *arch_capture(struct _Unwind_Context *boundary, struct arch_frame *frame)
{
    enum { RBX = 3, RBP = 6, R12 = 12, R13, R14, R15 };
    uint64_t fp_words = arch_fp_get();

    *frame = (struct arch_frame){
        .mxcsr = (uint32_t)fp_words,
        .x87_cw = (uint16_t)(fp_words >> 32),
        .r15 = _Unwind_GetGR(boundary, R15),
        .r14 = _Unwind_GetGR(boundary, R14),
        .r13 = _Unwind_GetGR(boundary, R13),
        .r12 = _Unwind_GetGR(boundary, R12),
        .rbx = _Unwind_GetGR(boundary, RBX),
        .fp = (void *)_Unwind_GetGR(boundary, RBP),
        .pc = (void *)(uintptr_t)arch_boundary_resumed,
    };
    return (struct arch_frame *)_Unwind_GetCFA(boundary) - 1;
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
