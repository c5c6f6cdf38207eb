; SPDX-License-Identifier: MIT
;
; boundary.asm - the panic boundary, x86-64 System V. The contract is arch/arch.h.
;
; An unwinder that reaches this frame calls coir_personality (core/panic.c), which may answer that
; the exception ends here. The unwinder then restores the callee-saved registers as they were at
; the call and jumps to the landing pad with the exception object in rax.

%include "cfi.inc"
%include "notes.inc"

section .text

; void *arch_boundary(void (*fn)(void *arg), void *arg);
global arch_boundary:function hidden arch_boundary.size
global arch_boundary_landing:function hidden arch_boundary_landing.size
global arch_boundary_resumed:function hidden arch_boundary_resumed.size
extern coir_landed
align 32
arch_boundary:
    .cfi_startproc
    .cfi_personality coir_personality
    .cfi_lsda lsda
    endbr64
    push    rbp
    .cfi_push rbp
    mov     rbp, rsp
    mov     rax, rdi
    mov     rdi, rsi
    call    rax
    xor     eax, eax            ; fn has returned: no exception
    pop     rbp
    .cfi_pop rbp
    ret
    .cfi_def_cfa_offset 16      ; as after the push
    .cfi_offset rbp, -16
    nop                         ; see arch_enter
arch_boundary_resumed:          ; from arch_switch; rax: pass
    mov     rdi, rax
    call    coir_landed
arch_boundary_resumed.size equ $ - arch_boundary_resumed
arch_boundary_landing:
    endbr64                     ; unwinders may jump here
    pop     rbp
    .cfi_pop rbp
    ret
    .cfi_endproc
.size equ $ - arch_boundary_landing
arch_boundary.size equ $ - arch_boundary

; The personality knows its only landing pad by name, so there is nothing to say here; but without
; language data unwinders do not call it.
section .gcc_except_table progbits alloc noexec nowrite align=1
lsda:
    db      0
