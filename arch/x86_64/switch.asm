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
; All switches leave the same frame, but for the lowest word, which the shared one leaves undefined.
;
; Why `ret` and not `jmp`: a ret to an address that no call pushed is mispredicted, but here one
; was pushed, by the call that suspends. Fibers suspend in few functions, so it is mostly the
; right one, and seen through those functions call and ret was the fastest of the forms measured. The
; crossing forms are for where it never is. Their jump is marked `notrack`, as no endbr64 is there.
;
; Why mov and not push: the frame is written and read below rsp, where the red zone keeps signal
; handlers off, so that rsp moves once. With the control words kept that is 0.3 ns less.

%include "cfi.inc"
%include "notes.inc"

%define MXCSR  0
%define X87_CW 4
%define FRAME  56               ; without the return address

section .text

; Writes the frame of this stack; rcx points to it.
;   rdi  save   where to store the rsp of this stack
%macro save_frame 0
    endbr64                     ; may be called through a pointer
    lea     rcx, [rsp - FRAME]
    mov     [rcx + 48], rbp
    mov     [rcx + 40], rbx
    mov     [rcx + 32], r12
    mov     [rcx + 24], r13
    mov     [rcx + 16], r14
    mov     [rcx + 8], r15
    mov     [rdi], rcx
%endmacro

%macro load 2
    mov     %1, [rsp - FRAME + %2]
    .cfi_restore %1
%endmacro

; Changes stacks, and reads the frame. Unwinders see the one stack before the first line and the other
; after it.
;   rsi  load   rsp of the stack to resume
;   rdx  pass   what the resumed arch_switch returns
%macro load_frame 0
    lea     rsp, [rsi + FRAME]  ; the switch
    .cfi_offset rbp, -16
    .cfi_offset rbx, -24
    .cfi_offset r12, -32
    .cfi_offset r13, -40
    .cfi_offset r14, -48
    .cfi_offset r15, -56
    load    rbp, 48
    load    rbx, 40
    load    r12, 32
    load    r13, 24
    load    r14, 16
    load    r15, 8
    mov     rax, rdx
%endmacro

; The two ways to go on in the stack that is resumed; each form of a switch is told which.
%macro return_to 0
    ret
%endmacro
%macro jump_to 0
    pop     rcx
    .cfi_adjust_cfa_offset -8
    db      0x3e                ; notrack
    jmp     rcx
    .cfi_adjust_cfa_offset 8    ; of what comes behind
%endmacro

; Compares before it loads: the control bits are nearly always equal, and loading them stalls. The
; six sticky flags in MXCSR are status, which belongs to nobody across a call.
%macro switch_comparing 1
    .cfi_startproc
    save_frame
    stmxcsr [rcx + MXCSR]       ; a third of the whole
    fnstcw  [rcx + X87_CW]
    mov     r8d, [rcx + MXCSR]
    movzx   r9d, word [rcx + X87_CW]
    xor     r8d, [rsi + MXCSR]
    test    r8d, ~0x3f
    jne     .load_fp
    cmp     r9w, [rsi + X87_CW]
    jne     .load_fp
.go_on:
    load_frame
    %1
.load_fp:                       ; on the first stack still
    ldmxcsr [rsi + MXCSR]
    fldcw   [rsi + X87_CW]
    jmp     .go_on
    .cfi_endproc
%endmacro

; To read a word that stmxcsr has just stored is what stalls AMD's processors: 1.4 ns on Zen 4.
%macro switch_loading 1
    .cfi_startproc
    save_frame
    stmxcsr [rcx + MXCSR]
    fnstcw  [rcx + X87_CW]
    ldmxcsr [rsi + MXCSR]
    fldcw   [rsi + X87_CW]
    load_frame
    %1
    .cfi_endproc
%endmacro

%macro switch_shared 1
    .cfi_startproc
    save_frame
    load_frame
    %1
    .cfi_endproc
%endmacro

; void *arch_switch(void **save, void *load, void *pass);
global arch_switch:function hidden arch_switch.size
align 32
arch_switch:
    switch_comparing return_to
.size equ $ - arch_switch

; void *arch_switch_loading(void **save, void *load, void *pass);
global arch_switch_loading:function hidden arch_switch_loading.size
align 32
arch_switch_loading:
    switch_loading return_to
.size equ $ - arch_switch_loading

; void *arch_switch_shared(void **save, void *load, void *pass);
global arch_switch_shared:function hidden arch_switch_shared.size
align 32
arch_switch_shared:
    switch_shared return_to
.size equ $ - arch_switch_shared

; void *arch_cross(void **save, void *load, void *pass);
global arch_cross:function hidden arch_cross.size
align 32
arch_cross:
    switch_comparing jump_to
.size equ $ - arch_cross

; void *arch_cross_loading(void **save, void *load, void *pass);
global arch_cross_loading:function hidden arch_cross_loading.size
align 32
arch_cross_loading:
    switch_loading jump_to
.size equ $ - arch_cross_loading

; void *arch_cross_shared(void **save, void *load, void *pass);
global arch_cross_shared:function hidden arch_cross_shared.size
align 32
arch_cross_shared:
    switch_shared jump_to
.size equ $ - arch_cross_shared

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
