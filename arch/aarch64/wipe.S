/* SPDX-License-Identifier: MIT */
/*
 * wipe.S - clears a stack below its caller, AArch64 AAPCS64. As x86_64/wipe.asm, but the stack pointer stays: pages may
 * be of 64 KiB, so that `from` may be the lowest address of a stack, and a signal's handler would need more.
 */
#include "asm.inc"

// void arch_wipe(void *from);
function arch_wipe
        mov     x1, sp
        b       2f
1:      stp     xzr, xzr, [x0], #16
2:      cmp     x0, x1
        b.lo    1b
        ret
end_function arch_wipe
