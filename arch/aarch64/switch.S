/* SPDX-License-Identifier: MIT */
/*
 * switch.S - context switch, AArch64 AAPCS64. As x86_64/switch.asm; here are the differences.
 *
 *       high addresses
 *     +----------------------+
 *     | fpcr      |    -     |  +160
 *     +----------------------+
 *     | d8  ...   | d15      |  +96   only the low halves of v8 to v15 are callee-saved
 *     +----------------------+
 *     | x19 ...   | x28      |  +16
 *     +----------------------+
 *     | x29       | x30      |  +0    a frame-pointer record; x30 is where arch_switch returns
 *     +----------------------+  <- saved sp, 16-byte aligned
 *
 * Not saved: x18 (the platform's), tpidr_el0, signal mask, errno.
 */
#include "asm.inc"

#define FRAME 176
#define FPCR  160

// Saves pair a, b at offset in the frame whose CFA is sp + FRAME.
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

// Stores the frame, except that the caller saves what lies at FPCR; x9 holds this stack's fpcr.
.macro save_frame
        bti     c                               // may be called through a pointer
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
        mrs     x9, fpcr
        str     x9, [sp, #FPCR]
.endm

//   x0  save   where to store the sp of this stack
//   x1  load   sp of the stack to resume
.macro change_stack
        mov     x10, sp
        str     x10, [x0]
        mov     sp, x1                          // the switch
.endm

//   x2  pass   what the resumed arch_switch returns
.macro load_frame
        mov     x0, x2
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
.endm

// A further name, directly behind the other. So the crossing forms are the others: what is behind a call has no landing
// pad, and only a ret may go there.
.macro same_as name, other
        .globl  \name
        .hidden \name
        .type   \name, %function
        .set    \name, \other
        .size   \name, . - \other
.endm

// void *arch_switch(void **save, void *load, void *pass);
function arch_switch
        save_frame
        change_stack
        ldr     x10, [sp, #FPCR]
        cmp     x10, x9                         // a write to fpcr stalls the pipeline, and the
        b.eq    1f                              // words are nearly always equal
        msr     fpcr, x10
1:      load_frame
end_function arch_switch
        same_as arch_switch_loading, arch_switch        // to look is always faster
        same_as arch_cross, arch_switch
        same_as arch_cross_loading, arch_switch

// void *arch_switch_shared(void **save, void *load, void *pass);
function arch_switch_shared
        save_frame
        change_stack
        load_frame
end_function arch_switch_shared
        same_as arch_cross_shared, arch_switch_shared

// The first frame of every stack: arch_prepare has put the entry function into x19, its argument
// into x20 and the address of the stack's frame-pointer record into x29.
//   x0  pass   from the arch_switch that came here
function arch_enter
        .cfi_undefined x30
        nop
        mov     x1, x20
        blr     x19
        brk     #0
end_function arch_enter
