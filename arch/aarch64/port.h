/* SPDX-License-Identifier: MIT */
/*
 * port.h - AArch64, AAPCS64. The contract is arch/arch.h.
 */
#ifndef COIR_PORT_H
#define COIR_PORT_H

#include <stddef.h>
#include <stdint.h>

#define COIR_CACHE_LINE 64
#define ARCH_GUARD_MIN 65536 /* compilers probe at this distance */
#define ARCH_EXC_REG 0       /* x0 */

/* A suspended stack from its saved sp upwards; drawn in switch.S. */
struct arch_frame {
    void *fp; /* x29; with pc, a frame-pointer record */
    void *pc; /* x30: where arch_switch returns when resumed */
    uint64_t x19, x20, x21, x22, x23, x24, x25, x26, x27, x28;
    uint64_t d8, d9, d10, d11, d12, d13, d14, d15; /* low halves of v8 to v15 */
    uint64_t fpcr;                                 /* floating-point control */
    uint64_t unused;
};

#define ARCH_FRAME_BYTES 176

_Static_assert(sizeof(struct arch_frame) == ARCH_FRAME_BYTES, "switch.S stores this much");
_Static_assert(offsetof(struct arch_frame, d8) == 96, "switch.S stores it there");
_Static_assert(offsetof(struct arch_frame, fpcr) == 160, "switch.S stores it there");

/* The registers of an interrupted frame; rescue.S. */
struct arch_fault {
    uint64_t x[31];
    uint64_t sp, pc;
    uint64_t d[8]; /* d8 to d15; stored by arch_rescue */
    uint64_t unused;
};

_Static_assert(sizeof(struct arch_fault) == 336, "rescue.S says so");
_Static_assert(offsetof(struct arch_fault, d) == 264, "rescue.S stores them there");

static inline uint64_t arch_fp_get(void)
{
    uint64_t fpcr;

    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    return fpcr;
}

static inline void arch_fp_save(uint64_t *words)
{
    *words = arch_fp_get();
}

/* isb and not yield: most cores take yield for a nop. */
static inline void arch_relax(void)
{
    __asm__ volatile("isb" : : : "memory");
}

/* isb drops what has been fetched, so loads begin anew once the branch before it is settled. */
static inline void arch_no_sooner(void)
{
    __asm__ volatile("isb" : : : "memory");
}

#endif
