/* SPDX-License-Identifier: MIT */
/*
 * rescue.S - the first frame on a rescue stack, AArch64 AAPCS64. As x86_64/rescue.asm.
 *
 * The interrupted place is a register of its own in the table (column 96, as in libgcc), for x30 may
 * hold a return address that no frame has saved yet. arch_redirect does not know the vector registers:
 * the return from the handler has restored them, and they are stored here.
 */
#include "asm.inc"

#define FAULT_BYTES 336
#define PC          96
#define D8          264

// The DWARF registers first to last are kept from offset on.
.macro kept first, last, offset
        .cfi_offset \first, \offset - FAULT_BYTES
        .if \last - \first
        kept (\first + 1), \last, (\offset + 8)
        .endif
.endm

// Entered by the return from the handler.
//   x0  arg
//   x1  entry
function arch_rescue
        .cfi_signal_frame
        .cfi_return_column PC
        .cfi_def_cfa sp, FAULT_BYTES
        kept 0, 31, 0                           // x0 to x30, sp
        .cfi_offset PC, 32 * 8 - FAULT_BYTES
        bti     j
        stp     d8, d9, [sp, #D8]
        stp     d10, d11, [sp, #D8 + 16]
        stp     d12, d13, [sp, #D8 + 32]
        stp     d14, d15, [sp, #D8 + 48]
        kept 72, 79, D8
        blr     x1
        brk     #0
end_function arch_rescue
