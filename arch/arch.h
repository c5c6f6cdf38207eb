/* SPDX-License-Identifier: MIT */
/*
 * arch.h - the port contract: everything coir needs from an instruction set.
 *
 * A port is one folder arch/<isa>/ with port.h (types and constants named below), its assembly
 * and port.ninja. The build's include path chooses the port; no file of core/ tests for an ISA.
 * arch/README.md is the porting guide; tests/arch_test.c is what a port must pass.
 *
 * Shadow stacks (x86 CET SHSTK, AArch64 GCS): a switched stack needs a shadow stack of its own,
 * which no port provides. arch_shadow_stack() says whether this process enforces them, and
 * coir_open then refuses with COIR_ENOTSUP instead of dying at the first switch. Indirect branch
 * tracking is different: every entry reached by an indirect branch has its landing pad (endbr64,
 * bti), so those stay usable.
 */
#ifndef COIR_ARCH_H
#define COIR_ARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "port.h"
/*
 * port.h defines
 *   COIR_CACHE_LINE          bytes that two writers must not share
 *   ARCH_GUARD_MIN           smallest guard that -fstack-clash-protection cannot step over, bytes
 *   ARCH_FRAME_BYTES         what arch_switch leaves on a suspended stack
 *   arch_relax()             inline; tells the core that this is a spin loop
 *   arch_no_sooner()         inline; what follows begins when all before it has ended, and not on a guess; orders no stores
 *   ARCH_EXC_REG             DWARF number of the register that carries the exception to the
 *                            landing pad (__builtin_eh_return_data_regno(0))
 *   struct arch_frame        a suspended stack from its saved stack pointer upwards, named fields
 *   struct arch_fault        what arch_rescue's unwind table calls the registers of the interrupted
 */

/*
 * A frame-pointer record, at the top of every fiber stack. While the fiber runs, link and pc name
 * the frame of the thread's home stack that it was entered from, so that a frame-pointer walk goes
 * on from fiber to thread. Both are zero at first. DWARF walks end at arch_enter instead.
 */
struct arch_record {
    void *link; /* frame pointer of the home stack's frame, or NULL */
    void *pc;   /* return address into the home stack's function, or NULL */
};

/*
 * Prepares a stack so that the first arch_switch to it calls entry(passed, arg) on it.
 *
 *   top        highest address of the stack, 16-byte aligned
 *   record     receives where the stack's arch_record lies (just below top)
 *
 * entry must never return (the port traps if it does). The floating-point control words of the
 * new stack are those of the calling thread. Returns the stack pointer to give to arch_switch.
 */
typedef void arch_entry_fn(void *passed, void *arg);
void *arch_prepare(void *top, arch_entry_fn *entry, void *arg, struct arch_record **record);

/*
 * Suspends the running stack and resumes another.
 *
 *   save       receives the stack pointer of the suspended stack
 *   load       a stack pointer from arch_prepare or from an earlier arch_switch
 *   pass       becomes the return value of the arch_switch that resumes (or entry's first argument)
 *
 * Keeps every callee-saved register of the psABI and the floating-point control words.
 * arch_switch_loading does the same, and the two resume each other's stacks: arch_switch looks whether the words
 * differ before it loads them, and arch_prefers_loading tells that on this processor the look costs more.
 * arch_switch_shared leaves the control words as they are: the stacks of a thread share them. What has been
 * suspended with control words is resumed with them, and the other way round: else they would be lost, or not be there.
 */
typedef void *arch_switch_fn(void **save, void *load, void *pass);
arch_switch_fn arch_switch, arch_switch_loading, arch_switch_shared;
bool arch_prefers_loading(void);

/*
 * The same three for a stack that is suspended in another function than the caller's. They may go there by a jump: a
 * processor expects a return to lead to who has called last, which it cannot here. Each resumes what its like of the
 * first three has suspended, and the other way round.
 */
arch_switch_fn arch_cross, arch_cross_loading, arch_cross_shared;

/*
 * The panic boundary: calls fn(arg); returns NULL when fn returns, or the exception object
 * (struct _Unwind_Exception *) when coir_personality chose to land here. Costs one call: the
 * landing pad and the personality are named in the frame's unwind tables.
 */
void *arch_boundary(void (*fn)(void *arg), void *arg);

/*
 * Clears the running stack from `from`, 16-byte aligned, up to the frame of its caller. There must be room for a
 * signal's handler below `from`.
 */
void arch_wipe(void *from);

/* Landing pad of arch_boundary: what coir_personality gives to _Unwind_SetIP. */
extern const char arch_boundary_landing[];

/*
 * Out of a signal handler. context is the handler's third argument. arch_redirect makes the
 * handler's return go on in entry(arg), which must not return, on the stack that ends below `top`
 * (16-byte aligned), signal mask and all. There arch_rescue is the first frame; unwinders that have
 * reached it step on into the interrupted frame, with the registers as they were. What the interrupted code had made
 * of flags is as a call wants it, and no floating-point exception waits to be raised. Async-signal-safe.
 */
uintptr_t arch_context_pc(const void *context);
uintptr_t arch_context_sp(const void *context);
void arch_redirect(void *context, void *top, void (*entry)(void *arg), void *arg);
extern const char arch_rescue[];

/*
 * Ends a call of arch_boundary from outside its stack. An unwinder whose current frame is
 * arch_boundary's fills in *frame, and the result says where: once the frame lies there, arch_switch
 * to that stack pointer makes the boundary call coir_landed(pass) and return what that returns.
 */
struct _Unwind_Context;
void *arch_capture(struct _Unwind_Context *boundary, struct arch_frame *frame);
extern const char arch_boundary_resumed[];

/* Floating-point control words, packed, as port.h's inline arch_fp_get tells them; restored when a panic
 * has left them changed. Its arch_fp_save only stores them, with bits beside them that mean nothing: to read what has
 * just been stored would stall. */
void arch_fp_set(uint64_t words);

/* Where the code that a signal has interrupted was, from the handler's context: program counter and
 * frame pointer. A frame record there is two words, the caller's frame pointer and return address. */
void arch_interrupted(const void *context, uintptr_t *pc, uintptr_t *frame);

/* Whether this process enforces shadow stacks. */
bool arch_shadow_stack(void);

#endif
