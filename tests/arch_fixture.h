/* SPDX-License-Identifier: MIT */
/*
 * arch_fixture.h - what the tests of a port share: a second stack, known registers, a panic.
 *
 * The port's own folder says in abi.h which registers there are, and loads them in abi.asm or
 * abi.S. The tests are linked to the port alone, with arch_personality.c for core/panic.c.
 */
#ifndef COIR_ARCH_FIXTURE_H
#define COIR_ARCH_FIXTURE_H

#include "abi.h"
#include "arch.h"
#include "check.h"

#include <unwind.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#endif

typedef void *switch_fn(void **save, void *load, void *pass);

#define STACK_BYTES (256 * 1024)

static _Alignas(16) char fiber_stack[STACK_BYTES];
static void *home, *fiber; /* saved stack pointers of main's stack and of fiber_stack */
static struct arch_record *record;

/* Frames of the case before were left where they were. */
static inline void start(arch_entry_fn *entry, void *arg)
{
    ASAN_UNPOISON_MEMORY_REGION(fiber_stack, STACK_BYTES);
    fiber = arch_prepare(fiber_stack + STACK_BYTES, entry, arg, &record);
}

/* An entry: adds one to what is passed, and goes home by the switch that arg points to. */
static inline void count_up(void *passed, void *arg)
{
    for (;;)
        passed = (*(switch_fn **)arg)(&fiber, home, (char *)passed + 1);
}

enum { REGISTERS_MAX = 20 };

/* abi_call reads and fills this; abi.asm and abi.S know the offsets. */
struct abi_call {
    void *fn;
    void *args[3];
    void *result;
    uint64_t before[REGISTERS_MAX];
    uint64_t after[REGISTERS_MAX];
};

_Static_assert(offsetof(struct abi_call, after) == 200, "abi.asm and abi.S say so");

void abi_call(struct abi_call *call);

static const struct {
    const char *name;
    int dwarf; /* number in unwind tables */
} registers[] = {
#define REGISTER(name, dwarf) {#name, dwarf},
    ABI_REGISTERS(REGISTER)
#undef REGISTER
};

enum { REGISTERS = sizeof registers / sizeof registers[0] };

static const struct {
    const char *name;
    uint64_t bits;
} fp_controls[] = {
#define CONTROL(name, bits) {name, bits},
    ABI_FP(CONTROL)
#undef CONTROL
};

enum { FP_CONTROLS = sizeof fp_controls / sizeof fp_controls[0] };

/* The words with all known control bits flipped. */
static inline uint64_t fp_flipped(uint64_t words)
{
    for (int i = 0; i < FP_CONTROLS; i++)
        words ^= fp_controls[i].bits;
    return words;
}

static inline void fill_registers(struct abi_call *call, uint64_t seed)
{
    for (uint64_t i = 0; i < REGISTERS; i++)
        call->before[i] = seed * (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
}

static struct _Unwind_Exception exception;

static inline void do_nothing(void *arg)
{
    *(int *)arg += 1;
}

static inline void raise_it(void *arg)
{
    (void)arg;
    _Unwind_RaiseException(&exception);
    CHECK_NEVER("the unwinder has returned");
}

#endif
