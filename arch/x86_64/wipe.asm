; SPDX-License-Identifier: MIT
;
; wipe.asm - clears a stack below its caller, x86-64 System V. The contract is arch/arch.h.

%include "cfi.inc"
%include "notes.inc"

section .text

; void arch_wipe(void *from);
; In C a frame of its own would lie in what is to be cleared. The stack pointer goes down first, since what is
; below it is nobody's: memcheck calls it an error to write there.
global arch_wipe:function hidden arch_wipe.size
align 32
arch_wipe:
    .cfi_startproc
    mov     rdx, rsp
    .cfi_def_cfa_register rdx
    mov     rcx, rsp
    sub     rcx, rdi
    shr     rcx, 3
    xor     eax, eax
    mov     rsp, rdi
    rep     stosq
    mov     rsp, rdx
    .cfi_def_cfa_register rsp
    ret
    .cfi_endproc
.size equ $ - arch_wipe
