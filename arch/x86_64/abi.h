/* SPDX-License-Identifier: MIT */
/*
 * abi.h - x86-64: what tests/arch_fixture.h must know of the port by name. See abi.asm.
 */
#ifndef COIR_ABI_H
#define COIR_ABI_H

/* Callee-saved registers in the order of abi.asm: name in struct arch_frame, DWARF number. */
#define ABI_REGISTERS(X) X(rbx, 3) X(fp, 6) X(r12, 12) X(r13, 13) X(r14, 14) X(r15, 15)

/* Control bits in the words of arch_fp_get; flipping them disturbs no integer code. */
#define ABI_FP(X)                                                                                  \
    X("MXCSR rounding", UINT64_C(0x6000))                                                          \
    X("MXCSR flush to zero", UINT64_C(0x8000))                                                     \
    X("MXCSR denormals are zero", UINT64_C(0x40))                                                  \
    X("x87 rounding", UINT64_C(0xc00) << 32)                                                       \
    X("x87 precision", UINT64_C(0x300) << 32)

/* The words of arch_fp_get in a suspended stack. */
#define ABI_FRAME_FP(frame) ((uint64_t)(frame)->x87_cw << 32 | (frame)->mxcsr)

/* First instruction of an entry that indirect calls and jumps may reach: endbr64. */
#define ABI_CALL_PAD 0xfa1e0ff3u
#define ABI_JUMP_PAD 0xfa1e0ff3u

#endif
