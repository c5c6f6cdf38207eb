/* SPDX-License-Identifier: MIT */
/*
 * abi.S - AArch64: what tests/arch_*.c cannot say in C. As x86_64/abi.asm.
 */
#include "asm.inc"

/* struct abi_call in arch_fixture.h */
#define FN      0
#define ARGS    8
#define RESULT  32
#define BEFORE  40
#define AFTER   200

#define FRAME   176

.macro save_pair a, b, offset
        stp     \a, \b, [sp, #\offset]
        .cfi_offset \a, \offset - FRAME
        .cfi_offset \b, \offset + 8 - FRAME
.endm

.macro load_pair a, b, offset
        ldp     \a, \b, [sp, #\offset]
        .cfi_restore \a
        .cfi_restore \b
.endm

// Applies op (ldp, stp) to all callee-saved registers and the array at offset in *base; op1 is its
// form for one register.
.macro all_registers op, op1, base, offset
        add     x16, \base, #\offset
        \op     x19, x20, [x16]
        \op     x21, x22, [x16, #16]
        \op     x23, x24, [x16, #32]
        \op     x25, x26, [x16, #48]
        \op     x27, x28, [x16, #64]
        \op1    x29, [x16, #80]
        \op     d8, d9, [x16, #88]
        \op     d10, d11, [x16, #104]
        \op     d12, d13, [x16, #120]
        \op1    d14, [x16, #136]
        \op1    d15, [x16, #144]
.endm

// void abi_call(struct abi_call *call);
function abi_call
        bti     c
        stp     x29, x30, [sp, #-FRAME]!
        .cfi_def_cfa_offset FRAME
        .cfi_offset x29, -FRAME
        .cfi_offset x30, 8 - FRAME
        save_pair x19, x20, 16
        save_pair x21, x22, 32
        save_pair x23, x24, 48
        save_pair x25, x26, 64
        save_pair x27, x28, 80
        save_pair d8, d9, 96
        save_pair d10, d11, 112
        save_pair d12, d13, 128
        save_pair d14, d15, 144
        str     x0, [sp, #160]
        all_registers ldp, ldr, x0, BEFORE
        ldr     x9, [x0, #FN]
        ldp     x1, x2, [x0, #ARGS + 8]
        ldr     x0, [x0, #ARGS]
        blr     x9
        ldr     x9, [sp, #160]                  // call
        str     x0, [x9, #RESULT]
        all_registers stp, str, x9, AFTER
        load_pair d14, d15, 144
        load_pair d12, d13, 128
        load_pair d10, d11, 112
        load_pair d8, d9, 96
        load_pair x27, x28, 80
        load_pair x25, x26, 64
        load_pair x23, x24, 48
        load_pair x21, x22, 32
        load_pair x19, x20, 16
        ldp     x29, x30, [sp], #FRAME
        .cfi_restore x29
        .cfi_restore x30
        .cfi_def_cfa_offset 0
        ret
end_function abi_call

// void abi_entry(void *passed, void *arg);
function abi_entry
        bti     c
        mov     x2, sp
        ldr     x16, [x1]
        br      x16
end_function abi_entry
