; SPDX-License-Identifier: MIT
;
; rescue.asm - the first frame on a rescue stack, x86-64 System V. The contract is arch/arch.h.
;
; arch_redirect has put the interrupted registers (struct arch_fault) at rsp, where the table below
; finds them. The frame is a signal frame: unwinders look its caller's address up as it is, for the
; interrupted instruction need not follow a call.

%include "cfi.inc"
%include "notes.inc"

%define FAULT_BYTES 144

section .text

; The register is kept in its slot of struct arch_fault, which is its DWARF number.
%macro kept 1-*
    %rep %0
        .cfi_offset %1, cfi_%1 * 8 - FAULT_BYTES
        %rotate 1
    %endrep
%endmacro

; Entered by the return from the handler.
;   rdi  arg
;   rsi  entry
global arch_rescue:function hidden arch_rescue.size
align 32
arch_rescue:
    .cfi_startproc
    .cfi_signal_frame
    .cfi_def_cfa rsp, FAULT_BYTES
    kept rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15, rip
    endbr64
    call    rsi
    ud2                         ; entry has returned, which it must not
    .cfi_endproc
.size equ $ - arch_rescue
