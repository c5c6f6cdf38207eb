/* SPDX-License-Identifier: MIT */
/*
 * abi.h - AArch64: what tests/arch_fixture.h must know of the port by name. See abi.S.
 */
#ifndef COIR_ABI_H
#define COIR_ABI_H

/* Callee-saved registers in the order of abi.S: name in struct arch_frame, DWARF number. */
#define ABI_REGISTERS(X)                                                                           \
    X(x19, 19) X(x20, 20) X(x21, 21) X(x22, 22) X(x23, 23) X(x24, 24) X(x25, 25) X(x26, 26)        \
    X(x27, 27) X(x28, 28) X(fp, 29) X(d8, 72) X(d9, 73) X(d10, 74) X(d11, 75) X(d12, 76)           \
    X(d13, 77) X(d14, 78) X(d15, 79)

/* Control bits in the words of arch_fp_get; flipping them disturbs no integer code. */
#define ABI_FP(X)                                                                                  \
    X("FPCR rounding", UINT64_C(3) << 22)                                                          \
    X("FPCR flush to zero", UINT64_C(1) << 24)                                                     \
    X("FPCR default NaN", UINT64_C(1) << 25)

/* The words of arch_fp_get in a suspended stack. */
#define ABI_FRAME_FP(frame) ((frame)->fpcr)

/* First instruction of an entry that indirect calls and jumps may reach: bti c, bti j. */
#define ABI_CALL_PAD 0xd503245fu
#define ABI_JUMP_PAD 0xd503249fu

#endif
