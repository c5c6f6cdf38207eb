/* SPDX-License-Identifier: MIT */
/*
 * boundary.S - the panic boundary, AArch64 AAPCS64. As x86_64/boundary.asm.
 */
#include "asm.inc"

// void *arch_boundary(void (*fn)(void *arg), void *arg);
function arch_boundary
        .cfi_personality 0x1b, coir_personality
        .cfi_lsda 0x1b, .Llsda
        bti     c
        stp     x29, x30, [sp, #-16]!
        .cfi_def_cfa_offset 16
        .cfi_offset x29, -16
        .cfi_offset x30, -8
        mov     x29, sp
        mov     x9, x0
        mov     x0, x1
        blr     x9
        mov     x0, #0                          // fn has returned: no exception
        b       .Lleave

        nop                                     // see arch_enter
        .globl  arch_boundary_resumed
        .hidden arch_boundary_resumed
        .type   arch_boundary_resumed, %function
arch_boundary_resumed:                          // from arch_switch; x0: pass
        bl      coir_landed
        .size   arch_boundary_resumed, . - arch_boundary_resumed

        .globl  arch_boundary_landing
        .hidden arch_boundary_landing
        .type   arch_boundary_landing, %function
arch_boundary_landing:
        bti     j                               // unwinders jump here
.Lleave:
        ldp     x29, x30, [sp], #16
        .cfi_restore x29
        .cfi_restore x30
        .cfi_def_cfa_offset 0
        ret
        .size   arch_boundary_landing, . - arch_boundary_landing
end_function arch_boundary

        .section .gcc_except_table, "a", %progbits
.Llsda:
        .byte   0
