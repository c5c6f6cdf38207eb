/* SPDX-License-Identifier: MIT */
/*
 * arch_test.c - what arch/arch.h promises, on every port: registers, control words, arguments,
 * frames and the boundary. arch_walk_test.c has what unwinders and debuggers see.
 */
#include "arch_fixture.h"

#include <sys/resource.h>
#include <sys/wait.h>

/* ------------------------------------------------------------------- registers, control words */

static void check_fp_is(uint64_t expected, uint64_t actual)
{
    char wrong[256] = "";

    for (int i = 0; i < FP_CONTROLS; i++)
        if ((expected ^ actual) & fp_controls[i].bits)
            strcat(strcat(wrong, fp_controls[i].name), "; ");
    CHECK_STR(wrong, "");
}

/* Calls fn with a value of its own in each callee-saved register, and checks them after it. */
static void *call_keeps_registers(void *fn, void *a, void *b, void *c, uint64_t seed)
{
    struct abi_call call = {.fn = fn, .args = {a, b, c}};
    char clobbered[256] = "";

    fill_registers(&call, seed);
    abi_call(&call);
    for (int i = 0; i < REGISTERS; i++)
        if (call.before[i] != call.after[i])
            strcat(strcat(clobbered, registers[i].name), " ");
    CHECK_STR(clobbered, "");
    return call.result;
}

/* On the fiber: goes home again and again, each time with other registers. */
static void partner_with_registers(void *passed, void *arg)
{
    (void)passed;
    for (uint64_t seed = 1000;; seed++)
        call_keeps_registers(*(switch_fn **)arg, &fiber, home, NULL, seed);
}

static void check_switch_keeps_registers(switch_fn *change)
{
    start(partner_with_registers, &change);
    for (uint64_t seed = 1; seed < 10; seed++)
        call_keeps_registers((void *)change, &home, fiber, NULL, seed);
}

static void switch_keeps_every_callee_saved_register(void)
{
    check_switch_keeps_registers(arch_switch);
    check_switch_keeps_registers(arch_switch_loading);
    check_switch_keeps_registers(arch_cross);
    check_switch_keeps_registers(arch_cross_loading);
}

static void switch_shared_keeps_every_callee_saved_register(void)
{
    check_switch_keeps_registers(arch_switch_shared);
    check_switch_keeps_registers(arch_cross_shared);
}

/* On the fiber: wipes the upper half of the stack, and looks at once how far that went. */
static void partner_wipes(void *passed, void *arg)
{
    const volatile char *at = fiber_stack + STACK_BYTES / 2;

    (void)passed;
    call_keeps_registers((void *)arch_wipe, (char *)(uintptr_t)at, NULL, NULL, 1);
    while (!*at)
        at++;
    *(const volatile char **)arg = at;
    arch_switch(&fiber, home, __builtin_frame_address(0));
}

static void wipe_clears_all_below_its_caller(void)
{
    const volatile char *not_zero = NULL;
    const char *frame;

    start(partner_wipes, &not_zero);
    memset(fiber_stack, 0xaa, (size_t)((char *)fiber - fiber_stack));
    frame = arch_switch(&home, fiber, NULL);
    CHECK(not_zero < frame && not_zero > frame - 4096);
    CHECK_EQ(fiber_stack[STACK_BYTES / 2 - 1], (char)0xaa);
}

/* On the fiber: flips what it finds, goes home, and passes what it finds then. */
static void partner_with_fp(void *passed, void *arg)
{
    switch_fn *change = *(switch_fn **)arg;
    static uint64_t found[2];

    (void)passed;
    found[0] = arch_fp_get();
    arch_fp_set(fp_flipped(found[0]));
    change(&fiber, home, &found[0]);
    found[1] = arch_fp_get();
    change(&fiber, home, &found[1]);
}

static void check_switch_keeps_control_words(switch_fn *change)
{
    uint64_t mine = arch_fp_get();

    start(partner_with_fp, &change);
    arch_fp_set(fp_flipped(mine));
    check_fp_is(mine, *(uint64_t *)change(&home, fiber, NULL)); /* those at arch_prepare */
    check_fp_is(fp_flipped(mine), arch_fp_get());
    check_fp_is(fp_flipped(mine), *(uint64_t *)change(&home, fiber, NULL));
    check_fp_is(fp_flipped(mine), arch_fp_get());
    arch_fp_set(mine);
    check_fp_is(mine, arch_fp_get());
}

static void switch_keeps_every_control_word(void)
{
    check_switch_keeps_control_words(arch_switch);
    check_switch_keeps_control_words(arch_switch_loading);
    check_switch_keeps_control_words(arch_cross);
    check_switch_keeps_control_words(arch_cross_loading);
}

static void partner_tells_fp(void *passed, void *arg)
{
    for (;;) {
        *(uint64_t *)arg = arch_fp_get();
        passed = arch_switch(&fiber, home, passed);
    }
}

/* By one form to the fiber, which comes back by arch_switch. */
static void check_single_words(switch_fn *change)
{
    uint64_t mine = arch_fp_get(), found = 0;

    start(partner_tells_fp, &found);
    for (int i = 0; i < FP_CONTROLS; i++) {
        arch_fp_set(mine ^ fp_controls[i].bits);
        change(&home, fiber, NULL);
        check_fp_is(mine ^ fp_controls[i].bits, arch_fp_get());
        check_fp_is(mine, found);
    }
    arch_fp_set(mine);
}

static void switch_sees_that_a_single_control_word_differs(void)
{
    check_single_words(arch_switch);
    check_single_words(arch_switch_loading);
    check_single_words(arch_cross);
    check_single_words(arch_cross_loading);
}

static void saved_control_words_come_back(void)
{
    uint64_t mine = arch_fp_get(), saved = UINT64_MAX; /* the bits beside the words mean nothing */

    arch_fp_save(&saved);
    arch_fp_set(fp_flipped(mine));
    check_fp_is(fp_flipped(mine), arch_fp_get());
    arch_fp_set(saved);
    check_fp_is(mine, arch_fp_get());
}

static void check_words_are_left_alone(switch_fn *change)
{
    uint64_t mine = arch_fp_get();

    start(partner_with_fp, &change);
    arch_fp_set(fp_flipped(mine));
    check_fp_is(fp_flipped(mine), *(uint64_t *)change(&home, fiber, NULL));
    check_fp_is(mine, arch_fp_get()); /* as the fiber left them */
    check_fp_is(mine, *(uint64_t *)change(&home, fiber, NULL));
    arch_fp_set(mine);
}

static void switch_shared_leaves_the_control_words_alone(void)
{
    check_words_are_left_alone(arch_switch_shared);
    check_words_are_left_alone(arch_cross_shared);
}

/* ------------------------------------------------------------------------------------- stacks */

struct seen {
    void (*go_on)(void *passed, void *seen, uintptr_t sp);
    void *passed;
    uintptr_t sp;
};

void abi_entry(void *passed, void *seen); /* an arch_entry_fn that goes on in seen->go_on */

static void look_around(void *passed, void *seen, uintptr_t sp)
{
    ((struct seen *)seen)->passed = passed;
    ((struct seen *)seen)->sp = sp;
    arch_switch(&fiber, home, seen);
}

static void entry_gets_what_was_passed_and_its_argument(void)
{
    struct seen seen = {.go_on = look_around};
    int pass;

    start(abi_entry, &seen);
    CHECK_EQ(arch_switch(&home, fiber, &pass), &seen);
    CHECK_EQ(seen.passed, &pass);
}

static void entry_has_an_aligned_stack_below_its_record(void)
{
    struct seen seen = {.go_on = look_around};

    start(abi_entry, &seen);
    arch_switch(&home, fiber, NULL);
    CHECK_EQ(seen.sp % 16, 0);
    CHECK(seen.sp <= (uintptr_t)record);
    CHECK_EQ(record + 1, fiber_stack + STACK_BYTES);
    CHECK_EQ(record->link, NULL);
    CHECK_EQ(record->pc, NULL);
}

static void check_switch_passes(switch_fn *change)
{
    char *number = (char *)0;

    start(count_up, &change);
    for (int i = 0; i < 100; i++)
        number = change(&home, fiber, number);
    CHECK_EQ(number, 100);
}

static void switch_returns_what_was_passed(void)
{
    check_switch_passes(arch_switch);
    check_switch_passes(arch_switch_loading);
    check_switch_passes(arch_switch_shared);
    check_switch_passes(arch_cross);
    check_switch_passes(arch_cross_loading);
    check_switch_passes(arch_cross_shared);
}

static void check_frame(const struct abi_call *call, uint64_t fp_words)
{
    const struct arch_frame *frame = home;
    int i = 0;

#define FIELD(name, dwarf)                                                                         \
    CHECK_STR(#name, (uint64_t)frame->name == call->before[i] ? #name : "something else");         \
    i++;
    ABI_REGISTERS(FIELD)
#undef FIELD
    check_fp_is(fp_words, ABI_FRAME_FP(frame));
    CHECK_EQ(_Unwind_FindEnclosingFunction(frame->pc), (void *)abi_call);
}

static void partner_looks_at_frame(void *passed, void *arg)
{
    check_frame(passed, *(uint64_t *)arg);
    arch_switch(&fiber, home, NULL);
}

static void frame_is_as_port_h_says(void)
{
    uint64_t mine = arch_fp_get(), flipped = fp_flipped(mine);
    struct abi_call call = {.fn = (void *)arch_switch};

    start(partner_looks_at_frame, &flipped);
    call.args[0] = &home;
    call.args[1] = fiber;
    call.args[2] = &call;
    fill_registers(&call, 12);
    CHECK_EQ((char *)record - (char *)fiber, ARCH_FRAME_BYTES);
    arch_fp_set(flipped);
    abi_call(&call);
    arch_fp_set(mine);
}

static void return_at_once(void *passed, void *arg)
{
    (void)passed;
    (void)arg;
}

static void entry_that_returns_is_trapped(void)
{
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0});
        signal(SIGILL, SIG_DFL); /* sanitizers take them over */
        signal(SIGTRAP, SIG_DFL);
        start(return_at_once, NULL);
        arch_switch(&home, fiber, NULL);
        _exit(0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status) && (WTERMSIG(status) == SIGILL || WTERMSIG(status) == SIGTRAP));
}

/* ----------------------------------------------------------------------------------- boundary */

static _Unwind_Reason_Code never_stop(int version, _Unwind_Action actions,
                                      _Unwind_Exception_Class class, struct _Unwind_Exception *e,
                                      struct _Unwind_Context *context, void *arg)
{
    (void)version, (void)class, (void)e, (void)context, (void)arg;
    CHECK(!(actions & _UA_END_OF_STACK));
    return _URC_NO_REASON;
}

static void force_it(void *arg)
{
    _Unwind_ForcedUnwind(&exception, never_stop, arg);
    CHECK_NEVER("the unwinder has returned");
}

static void boundary_returns_null_when_the_function_returns(void)
{
    int calls = 0;

    CHECK_EQ(call_keeps_registers((void *)arch_boundary, (void *)do_nothing, &calls, NULL, 7),
             NULL);
    CHECK_EQ(calls, 1);
}

static void boundary_returns_the_exception_raised(void)
{
    CHECK_EQ(arch_boundary(raise_it, NULL), &exception);
    CHECK_EQ(arch_boundary(force_it, NULL), &exception);
}

static void boundary_restores_every_register_after_a_panic(void)
{
    CHECK_EQ(call_keeps_registers((void *)arch_boundary, (void *)raise_it, NULL, NULL, 8),
             &exception);
    CHECK_EQ(call_keeps_registers((void *)arch_boundary, (void *)force_it, NULL, NULL, 9),
             &exception);
}

/* Has its own values in the registers when it raises. */
static void raise_in_a_crowd(void *arg)
{
    call_keeps_registers((void *)raise_it, arg, NULL, NULL, 10);
}

static void boundary_restores_registers_that_frames_below_had_saved(void)
{
    CHECK_EQ(call_keeps_registers((void *)arch_boundary, (void *)raise_in_a_crowd, NULL, NULL, 11),
             &exception);
}

static void count_cleanup(int **count)
{
    **count += 1;
}

static void raise_past_a_cleanup(void *arg)
{
    __attribute__((cleanup(count_cleanup))) int *count = arg;

    (void)count;
    raise_it(NULL);
}

static void boundary_lets_cleanups_run(void)
{
    int count = 0;

    CHECK_EQ(arch_boundary(raise_past_a_cleanup, &count), &exception);
    CHECK_EQ(count, 1);
}

static void hold_an_inner_boundary(void *arg)
{
    *(void **)arg = arch_boundary(raise_it, NULL);
}

static void innermost_boundary_takes_the_exception(void)
{
    void *inner = NULL;

    CHECK_EQ(arch_boundary(hold_an_inner_boundary, &inner), NULL);
    CHECK_EQ(inner, &exception);
}

static void partner_raises(void *passed, void *arg)
{
    (void)passed;
    (void)arg;
    arch_switch(&fiber, home, arch_boundary(raise_past_a_cleanup, passed));
}

static void boundary_works_on_a_fiber(void)
{
    int count = 0;

    start(partner_raises, NULL);
    CHECK_EQ(arch_switch(&home, fiber, &count), &exception);
    CHECK_EQ(count, 1);
}

/* -------------------------------------------------------------------------------------- other */

static uint32_t first_instruction(const void *code)
{
    uint32_t word;

    memcpy(&word, code, sizeof word);
    return word;
}

static void entries_begin_with_a_landing_pad(void)
{
    CHECK_EQ(first_instruction((void *)arch_switch), ABI_CALL_PAD);
    CHECK_EQ(first_instruction((void *)arch_switch_loading), ABI_CALL_PAD);
    CHECK_EQ(first_instruction((void *)arch_switch_shared), ABI_CALL_PAD);
    CHECK_EQ(first_instruction((void *)arch_cross), ABI_CALL_PAD);
    CHECK_EQ(first_instruction((void *)arch_cross_loading), ABI_CALL_PAD);
    CHECK_EQ(first_instruction((void *)arch_cross_shared), ABI_CALL_PAD);
    CHECK_EQ(first_instruction((void *)arch_boundary), ABI_CALL_PAD);
    CHECK_EQ(first_instruction(arch_boundary_landing), ABI_JUMP_PAD);
}

/* All other cases would have died. */
static void no_shadow_stack_is_enforced_here(void)
{
    CHECK(!arch_shadow_stack());
}

CHECK_MAIN(CASE(switch_keeps_every_callee_saved_register),
           CASE(switch_shared_keeps_every_callee_saved_register),
           CASE(switch_keeps_every_control_word),
           CASE(switch_sees_that_a_single_control_word_differs),
           CASE(saved_control_words_come_back), CASE(switch_shared_leaves_the_control_words_alone),
           CASE(entry_gets_what_was_passed_and_its_argument),
           CASE(entry_has_an_aligned_stack_below_its_record), CASE(switch_returns_what_was_passed),
           CASE(frame_is_as_port_h_says),
           CASE(entry_that_returns_is_trapped),
           CASE(wipe_clears_all_below_its_caller),
           CASE(boundary_returns_null_when_the_function_returns),
           CASE(boundary_returns_the_exception_raised),
           CASE(boundary_restores_every_register_after_a_panic),
           CASE(boundary_restores_registers_that_frames_below_had_saved),
           CASE(boundary_lets_cleanups_run), CASE(innermost_boundary_takes_the_exception),
           CASE(boundary_works_on_a_fiber), CASE(entries_begin_with_a_landing_pad),
           CASE(no_shadow_stack_is_enforced_here))
