/* SPDX-License-Identifier: MIT */
/*
 * port.h - x86-64, System V. The contract is arch/arch.h.
 */
#ifndef COIR_PORT_H
#define COIR_PORT_H

#include <stddef.h>
#include <stdint.h>

#define COIR_CACHE_LINE 64
#define ARCH_GUARD_MIN 4096 /* compilers probe each page */
#define ARCH_EXC_REG 0      /* rax */

/* A suspended stack from its saved rsp upwards; drawn in switch.asm. */
struct arch_frame {
    uint32_t mxcsr;  /* SSE control and status */
    uint16_t x87_cw; /* x87 control word */
    uint16_t unused;
    uint64_t r15, r14, r13, r12, rbx;
    void *fp; /* rbp; with pc, a frame-pointer record */
    void *pc; /* where arch_switch returns when resumed */
};

#define ARCH_FRAME_BYTES 64

_Static_assert(sizeof(struct arch_frame) == ARCH_FRAME_BYTES, "switch.asm pushes this much");
_Static_assert(offsetof(struct arch_frame, x87_cw) == 4, "switch.asm stores it there");

/* The registers of an interrupted frame, by their DWARF numbers; rescue.asm. */
struct arch_fault {
    uint64_t rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t rip;
    uint64_t unused;
};

_Static_assert(sizeof(struct arch_fault) == 144, "rescue.asm says so");

/* The status word of the x87 and the sticky flags in MXCSR travel with the control bits; the psABI
 * leaves them to the callee. A sticky flag of the x87 traps where another fiber unmasks it: coir.h says so. */
static inline uint64_t arch_fp_get(void)
{
    uint16_t x87_cw;

    __asm__ volatile("fnstcw %0" : "=m"(x87_cw));
    return (uint64_t)x87_cw << 32 | __builtin_ia32_stmxcsr();
}

static inline void arch_fp_save(uint64_t *words)
{
    __asm__ volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(*words), "=m"(((char *)words)[4]));
}

static inline void arch_relax(void)
{
    __builtin_ia32_pause();
}

/* lfence waits for all before it, the branch that ends a loop too. */
static inline void arch_no_sooner(void)
{
    __asm__ volatile("lfence" : : : "memory");
}

#endif
