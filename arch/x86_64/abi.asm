; SPDX-License-Identifier: MIT
;
; abi.asm - x86-64: what tests/arch_*.c cannot say in C. Linked to those tests only.

%include "cfi.inc"
%include "notes.inc"

; struct abi_call in arch_fixture.h
%define FN      0
%define ARGS    8               ; three
%define RESULT  32
%define BEFORE  40
%define AFTER   200

section .text

; void abi_call(struct abi_call *call);
; Calls call->fn with call->args and call->before in the callee-saved registers; then fills in
; call->result and call->after.
global abi_call:function hidden abi_call.size
abi_call:
    .cfi_startproc
    push    rbp
    .cfi_push rbp
    push    rbx
    .cfi_push rbx
    push    r12
    .cfi_push r12
    push    r13
    .cfi_push r13
    push    r14
    .cfi_push r14
    push    r15
    .cfi_push r15
    push    rdi
    .cfi_adjust_cfa_offset 8
    mov     rax, rdi
    mov     rbx, [rax + BEFORE]
    mov     rbp, [rax + BEFORE + 8]
    mov     r12, [rax + BEFORE + 16]
    mov     r13, [rax + BEFORE + 24]
    mov     r14, [rax + BEFORE + 32]
    mov     r15, [rax + BEFORE + 40]
    mov     rdi, [rax + ARGS]
    mov     rsi, [rax + ARGS + 8]
    mov     rdx, [rax + ARGS + 16]
    call    [rax + FN]
    mov     rcx, [rsp]          ; call
    mov     [rcx + RESULT], rax
    mov     [rcx + AFTER], rbx
    mov     [rcx + AFTER + 8], rbp
    mov     [rcx + AFTER + 16], r12
    mov     [rcx + AFTER + 24], r13
    mov     [rcx + AFTER + 32], r14
    mov     [rcx + AFTER + 40], r15
    add     rsp, 8
    .cfi_adjust_cfa_offset -8
    pop     r15
    .cfi_pop r15
    pop     r14
    .cfi_pop r14
    pop     r13
    .cfi_pop r13
    pop     r12
    .cfi_pop r12
    pop     rbx
    .cfi_pop rbx
    pop     rbp
    .cfi_pop rbp
    ret
    .cfi_endproc
.size equ $ - abi_call

; void abi_entry(void *passed, void *arg);
; An arch_entry_fn: goes on in (*arg)(passed, arg, sp), sp being the caller's.
global abi_entry:function hidden abi_entry.size
abi_entry:
    .cfi_startproc
    endbr64
    lea     rdx, [rsp + 8]
    jmp     [rsi]
    .cfi_endproc
.size equ $ - abi_entry
