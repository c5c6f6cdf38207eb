; SPDX-License-Identifier: MIT
;
; switch.asm - context switch, x86-64 System V. The contract is arch/arch.h.
;
; Owns: the layout of a suspended stack. port.h mirrors it; arch_test.c compares the two.
;
;       high addresses
;     +----------------------+
;     | return address       |  +56   where arch_switch returns when resumed
;     +----------------------+
;     | rbp                  |  +48   with the word above, a frame-pointer record
;     +----------------------+
;     | rbx                  |  +40
;     +----------------------+
;     | r12 | r13 | r14 | r15|  +32, +24, +16, +8
;     +----------------------+
;     | mxcsr | x87 cw |  -  |  +0    4 + 2 + 2 bytes
;     +----------------------+  <- saved rsp, 16-byte aligned
;
; Saved: what the psABI calls callee-saved, with both floating-point control words.
; Not saved: vector registers (caller-saved), fs base, signal mask, errno.
;
; Both switches leave the same frame, so either resumes what the other suspended.
;
; Why `ret` and not `jmp`: a ret to an address that no call pushed is mispredicted, but here one
; was pushed, by the call that suspends. The runtime suspends in one function only, so it is the
; right one, and seen through that function push and ret was the fastest of the forms measured.

%include "cfi.inc"
%include "notes.inc"

%define MXCSR  0
%define X87_CW 4

section .text

; Pushes the frame, changes stacks, pops the other frame. %1 and %2 save and load what lies in its
; lowest word. From the first push to the last pop both stacks have the shape drawn above, so the
; CFI rows are true on either side of the line that changes rsp.
;   rdi  save   where to store the rsp of this stack
;   rsi  load   rsp of the stack to resume
;   rdx  pass   what the resumed arch_switch returns
%macro switch_stacks 2
    endbr64                     ; may be called through a pointer
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
    sub     rsp, 8
    .cfi_adjust_cfa_offset 8
    %1
    mov     [rdi], rsp
    mov     rsp, rsi            ; the switch
    %2
    mov     rax, rdx
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
%endmacro

; Leaves the words in r8d and r9w, too, for load_fp.
%macro save_fp 0
    stmxcsr [rsp + MXCSR]
    fnstcw  [rsp + X87_CW]
    mov     r8d, [rsp + MXCSR]
    mov     r9w, [rsp + X87_CW]
%endmacro

; Compares first: the control bits are nearly always equal, and loading them costs 1.2 ns more. The
; six sticky flags in MXCSR are status, which belongs to nobody across a call.
%macro load_fp 0
    xor     r8d, [rsp + MXCSR]
    test    r8d, ~0x3f
    jne     %%load
    cmp     r9w, [rsp + X87_CW]
    je      %%loaded
%%load:
    ldmxcsr [rsp + MXCSR]
    fldcw   [rsp + X87_CW]
%%loaded:
%endmacro

; void *arch_switch(void **save, void *load, void *pass);
global arch_switch:function hidden arch_switch.size
align 32
arch_switch:
    .cfi_startproc
    switch_stacks save_fp, load_fp
    .cfi_endproc
.size equ $ - arch_switch

; void *arch_switch_shared(void **save, void *load, void *pass);
; The control words stay as they are. They are stored all the same: arch_switch may resume it.
global arch_switch_shared:function hidden arch_switch_shared.size
align 32
arch_switch_shared:
    .cfi_startproc
    switch_stacks save_fp, {}
    .cfi_endproc
.size equ $ - arch_switch_shared

; The first frame of every stack: arch_prepare has put the entry function into rbx, its argument
; into r12 and the address of the stack's frame-pointer record into rbp.
;   rax  pass   from the arch_switch that came here
global arch_enter:function hidden arch_enter.size
align 32
arch_enter:
    .cfi_startproc
    .cfi_undefined rip          ; there is no caller: every walk by these tables ends here
    nop                         ; arch_prepare skips it: the next line is reached by ret, and so
                                ; unwinders look it up at its address - 1, which must be ours
    mov     rdi, rax
    mov     rsi, r12
    call    rbx
    ud2                         ; the entry function has returned, which it must not
    .cfi_endproc
.size equ $ - arch_enter
