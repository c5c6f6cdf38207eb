/* SPDX-License-Identifier: MIT */
/*
 * arch_test.c - what arch/arch.h promises, on every port: registers, control words, arguments,
 * frames, the boundary, and that unwinders and debuggers see through all of it.
 *
 * Linked to the port alone, with arch_personality.c for core/panic.c. The port's own folder says
 * in abi.h which registers there are, and loads them in abi.asm or abi.S. arch_step.py runs the
 * case every_step_can_be_taken under gdb.
 */
#include "arch.h"
#include "abi.h"
#include "check.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unwind.h>

#define STACK_BYTES (256 * 1024)
#define FRAMES_MAX 32

static _Alignas(16) char fiber_stack[STACK_BYTES];
static void *home, *fiber; /* saved stack pointers of main's stack and of fiber_stack */
static struct arch_record *record;

typedef void *switch_fn(void **save, void *load, void *pass);

static void start(arch_entry_fn *entry, void *arg)
{
    fiber = arch_prepare(fiber_stack + STACK_BYTES, entry, arg, &record);
}

/* ------------------------------------------------------------------- registers, control words */

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
static uint64_t fp_flipped(uint64_t words)
{
    for (int i = 0; i < FP_CONTROLS; i++)
        words ^= fp_controls[i].bits;
    return words;
}

static void check_fp_is(uint64_t expected, uint64_t actual)
{
    char wrong[256] = "";

    for (int i = 0; i < FP_CONTROLS; i++)
        if ((expected ^ actual) & fp_controls[i].bits)
            strcat(strcat(wrong, fp_controls[i].name), "; ");
    CHECK_STR(wrong, "");
}

static void fill_registers(struct abi_call *call, uint64_t seed)
{
    for (uint64_t i = 0; i < REGISTERS; i++)
        call->before[i] = seed * (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
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
}

static void switch_shared_keeps_every_callee_saved_register(void)
{
    check_switch_keeps_registers(arch_switch_shared);
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

static void switch_keeps_every_control_word(void)
{
    switch_fn *change = arch_switch;
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

static void partner_tells_fp(void *passed, void *arg)
{
    for (;;) {
        *(uint64_t *)arg = arch_fp_get();
        passed = arch_switch(&fiber, home, passed);
    }
}

static void switch_sees_that_a_single_control_word_differs(void)
{
    uint64_t mine = arch_fp_get(), found = 0;

    start(partner_tells_fp, &found);
    for (int i = 0; i < FP_CONTROLS; i++) {
        arch_fp_set(mine ^ fp_controls[i].bits);
        arch_switch(&home, fiber, NULL);
        check_fp_is(mine ^ fp_controls[i].bits, arch_fp_get());
        check_fp_is(mine, found);
    }
    arch_fp_set(mine);
}

static void switch_shared_leaves_the_control_words_alone(void)
{
    switch_fn *change = arch_switch_shared;
    uint64_t mine = arch_fp_get();

    start(partner_with_fp, &change);
    arch_fp_set(fp_flipped(mine));
    check_fp_is(fp_flipped(mine), *(uint64_t *)change(&home, fiber, NULL));
    check_fp_is(mine, arch_fp_get()); /* as the fiber left them */
    check_fp_is(mine, *(uint64_t *)change(&home, fiber, NULL));
    arch_fp_set(mine);
}

/* ------------------------------------------------------------------------------------- stacks */

static struct {
    void *passed, *arg;
    uintptr_t sp;
} entered;

void abi_entry(void *passed, void *arg); /* an arch_entry_fn that goes on in ... */
void abi_entered(void *passed, void *arg, uintptr_t sp);

void abi_entered(void *passed, void *arg, uintptr_t sp)
{
    entered.passed = passed;
    entered.arg = arg;
    entered.sp = sp;
    arch_switch(&fiber, home, NULL);
}

static void entry_gets_what_was_passed_and_its_argument(void)
{
    int pass, arg;

    start(abi_entry, &arg);
    arch_switch(&home, fiber, &pass);
    CHECK_EQ(entered.passed, &pass);
    CHECK_EQ(entered.arg, &arg);
}

static void entry_has_an_aligned_stack_below_its_record(void)
{
    start(abi_entry, NULL);
    arch_switch(&home, fiber, NULL);
    CHECK_EQ(entered.sp % 16, 0);
    CHECK(entered.sp <= (uintptr_t)record);
    CHECK_EQ(record + 1, fiber_stack + STACK_BYTES);
    CHECK_EQ(record->link, NULL);
    CHECK_EQ(record->pc, NULL);
}

static void count_up(void *passed, void *arg)
{
    for (;; passed = arch_switch(&fiber, home, (char *)passed + 1))
        (void)arg;
}

static void switch_returns_what_was_passed(void)
{
    char *number = (char *)0;

    start(count_up, NULL);
    for (int i = 0; i < 100; i++)
        number = arch_switch(&home, fiber, number);
    CHECK_EQ(number, 100);
}

static void alternate(void *passed, void *arg)
{
    (void)arg;
    for (;;) {
        passed = arch_switch_shared(&fiber, home, (char *)passed + 1);
        passed = arch_switch(&fiber, home, (char *)passed + 1);
    }
}

static void each_switch_resumes_what_the_other_suspended(void)
{
    char *number = (char *)0;

    start(alternate, NULL);
    for (int i = 0; i < 5; i++) {
        number = arch_switch(&home, fiber, number);
        number = arch_switch(&home, fiber, number);
        number = arch_switch_shared(&home, fiber, number);
    }
    CHECK_EQ(number, 15);
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

static struct _Unwind_Exception exception;

static void do_nothing(void *arg)
{
    *(int *)arg += 1;
}

static void raise_it(void *arg)
{
    (void)arg;
    _Unwind_RaiseException(&exception);
    CHECK_NEVER("the unwinder has returned");
}

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

    CHECK_EQ(call_keeps_registers((void *)arch_boundary, (void *)do_nothing, &calls, NULL, 7), NULL);
    CHECK_EQ(calls, 1);
}

static void boundary_returns_the_exception_raised(void)
{
    CHECK_EQ(arch_boundary(raise_it, NULL), &exception);
    CHECK_EQ(arch_boundary(force_it, NULL), &exception);
}

static void boundary_restores_every_register_after_a_panic(void)
{
    CHECK_EQ(call_keeps_registers((void *)arch_boundary, (void *)raise_it, NULL, NULL, 8), &exception);
    CHECK_EQ(call_keeps_registers((void *)arch_boundary, (void *)force_it, NULL, NULL, 9), &exception);
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

/* -------------------------------------------------------------------------------------- walks */

extern const char arch_enter[];
int main(int argc, char **argv);

/* A walk by unwind tables. */
struct walk {
    int frames;
    void *last;    /* function of the last frame */
    int in_main;   /* main is among them */
};

static _Unwind_Reason_Code walk_frame(struct _Unwind_Context *context, void *arg)
{
    struct walk *walk = arg;

    walk->last = (void *)_Unwind_GetRegionStart(context);
    walk->in_main |= walk->last == (void *)main;
    return ++walk->frames > FRAMES_MAX ? _URC_END_OF_STACK : _URC_NO_REASON;
}

static void walk_by_tables(void *passed, void *arg)
{
    struct walk *walk = passed;

    (void)arg;
    CHECK_EQ(_Unwind_Backtrace(walk_frame, walk), _URC_END_OF_STACK);
    arch_switch(&fiber, home, NULL);
}

static void unwinder_ends_at_the_first_frame_of_a_fiber(void)
{
    struct walk walk = {0};

    start(walk_by_tables, NULL);
    arch_switch(&home, fiber, &walk);
    CHECK_EQ(walk.last, arch_enter);
    CHECK(walk.frames >= 2 && walk.frames < 10);
}

/* Follows frame-pointer records from the caller's; returns the last one. */
static struct arch_record *walk_by_records(int *count)
{
    struct arch_record *r = __builtin_frame_address(0);

    for (*count = 0; r->link && *count < FRAMES_MAX; ++*count)
        r = r->link;
    return r;
}

static void partner_walks_records(void *passed, void *arg)
{
    int count = 0;

    (void)passed;
    for (;;) {
        *(struct arch_record **)arg = walk_by_records(&count);
        CHECK(count < FRAMES_MAX);
        arch_switch(&fiber, home, NULL);
    }
}

static void frame_pointers_end_at_the_record_or_go_on_where_it_links(void)
{
    struct arch_record stop = {0}, *end = NULL;

    start(partner_walks_records, &end);
    arch_switch(&home, fiber, NULL);
    CHECK_EQ(end, record);
    record->link = &stop;
    arch_switch(&home, fiber, NULL);
    CHECK_EQ(end, &stop);
}

/* ------------------------------------------------------------------------------------ signals */

#define SLOW (CHECK_SECONDS > 60) /* instrumented or emulated */

/* The calls that switch to and fro while signals arrive: main's, and the fiber's, which has a frame
 * more, so that a return address of the one stack is wrong on the other. */
static struct abi_call home_call, fiber_call;

/* What handlers found; read when the last has run. */
static volatile int signals, signals_in_switch, bad_walks, in_hop;
static const char *volatile bad_register = "";
static timer_t timer;

struct signal_walk {
    struct walk walk;
    void *in_switch; /* the switch that was interrupted, or NULL */
    int on_fiber;    /* it was on the fiber's stack */
};

static int on_fiber_stack(struct _Unwind_Context *context)
{
    return _Unwind_GetCFA(context) - (_Unwind_Word)fiber_stack <= STACK_BYTES;
}

/* Compares the registers of an abi_call's frame; they are known from there up to the switch. */
static void check_registers(struct _Unwind_Context *context, const struct abi_call *call)
{
    for (int i = 0; i < REGISTERS; i++)
        if (_Unwind_GetGR(context, registers[i].dwarf) != call->before[i])
            bad_register = registers[i].name;
}

static _Unwind_Reason_Code walk_from_signal(struct _Unwind_Context *context, void *arg)
{
    struct signal_walk *at = arg;
    int interrupted = 0;
    _Unwind_Reason_Code code = walk_frame(context, &at->walk);

    _Unwind_GetIPInfo(context, &interrupted);
    if (interrupted &&
        (at->walk.last == (void *)arch_switch || at->walk.last == (void *)arch_switch_shared)) {
        at->in_switch = at->walk.last;
        at->on_fiber = on_fiber_stack(context);
    }
    if (at->in_switch && at->walk.last == (void *)abi_call)
        check_registers(context, at->on_fiber ? &fiber_call : &home_call);
    return code;
}

static int walk_is_right(const struct signal_walk *at)
{
    if (at->walk.frames > FRAMES_MAX)
        return 0;
    return at->on_fiber ? at->walk.last == arch_enter : at->walk.in_main;
}

/* Once, after a delay that varies so that it keeps step with nothing. */
static void arm_timer(void)
{
    const long least = SLOW ? 200000 : 10000;
    struct itimerspec times = {.it_value.tv_nsec = least + signals * 7919L % (4 * least)};

    timer_settime(timer, 0, &times, NULL);
}

static void on_signal(int signal)
{
    struct signal_walk at = {0};

    (void)signal;
    _Unwind_Backtrace(walk_from_signal, &at);
    if (at.in_switch) {
        signals_in_switch++;
        bad_walks += !walk_is_right(&at);
    }
    signals++;
    arm_timer();
}

static void start_timer(void)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};

    signal(SIGUSR1, on_signal);
    CHECK_EQ(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    arm_timer();
}

static void stop_timer(void)
{
    timer_delete(timer);
    signal(SIGUSR1, SIG_IGN);
}

static void hop(switch_fn **change)
{
    (*change)(&fiber, home, NULL);
    in_hop++; /* not a tail call */
}

static void partner_in_signals(void *passed, void *arg)
{
    (void)passed;
    fiber_call.fn = (void *)hop;
    fiber_call.args[0] = arg;
    for (;;)
        abi_call(&fiber_call);
}

static void unwinder_sees_through_a_signal_at_any_instruction(void)
{
    const int wanted = SLOW ? 1000 : 5000;
    switch_fn *change = arch_switch;

    fill_registers(&home_call, 13);
    fill_registers(&fiber_call, 14);
    start(partner_in_signals, &change);
    start_timer();
    for (long i = 0; signals < wanted; i++) {
        struct timespec now;

        home_call.fn = (void *)change;
        home_call.args[0] = &home;
        home_call.args[1] = fiber;
        abi_call(&home_call);
        change = i & 1 ? arch_switch : arch_switch_shared;
        if (i % 1000 == 0) /* ThreadSanitizer delivers signals at calls like this */
            clock_gettime(CLOCK_MONOTONIC, &now);
    }
    stop_timer();
    CHECK_EQ(bad_walks, 0);
    CHECK_STR(bad_register, "");
    CHECK(SLOW || signals_in_switch > wanted / 20);
}

static _Unwind_Reason_Code look_beyond_boundary(struct _Unwind_Context *context, void *arg)
{
    struct walk *walk = arg;
    _Unwind_Reason_Code code = walk_frame(context, walk);

    if (walk->last == (void *)abi_call)
        check_registers(context, &home_call);
    return code;
}

static void walk_over_boundary(void *arg)
{
    _Unwind_Backtrace(look_beyond_boundary, arg);
}

static void unwinder_finds_registers_beyond_a_boundary(void)
{
    struct walk walk = {0};

    home_call = (struct abi_call){.fn = (void *)arch_boundary};
    home_call.args[0] = (void *)walk_over_boundary;
    home_call.args[1] = &walk;
    fill_registers(&home_call, 15);
    bad_register = "";
    abi_call(&home_call);
    CHECK_STR(bad_register, "");
    CHECK(walk.in_main);
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
    CHECK_EQ(first_instruction((void *)arch_switch_shared), ABI_CALL_PAD);
    CHECK_EQ(first_instruction((void *)arch_boundary), ABI_CALL_PAD);
    CHECK_EQ(first_instruction(arch_boundary_landing), ABI_JUMP_PAD);
}

/* All other cases would have died. */
static void no_shadow_stack_is_enforced_here(void)
{
    CHECK(!arch_shadow_stack());
}

/* arch_step.py stops at every instruction that the port runs in here. */
static void every_step_can_be_taken(void)
{
    uint64_t mine = arch_fp_get();
    int calls = 0;

    start(alternate, NULL);
    for (int i = 0; i < 4; i++) {
        arch_fp_set(i % 2 ? mine : fp_flipped(mine));
        arch_switch(&home, fiber, NULL);
        arch_switch(&home, fiber, NULL);
        arch_switch_shared(&home, fiber, NULL);
    }
    arch_fp_set(mine);
    CHECK_EQ(arch_boundary(do_nothing, &calls), NULL);
    CHECK_EQ(arch_boundary(raise_it, NULL), &exception);
}

CHECK_MAIN(CASE(switch_keeps_every_callee_saved_register),
           CASE(switch_shared_keeps_every_callee_saved_register),
           CASE(switch_keeps_every_control_word),
           CASE(switch_sees_that_a_single_control_word_differs),
           CASE(switch_shared_leaves_the_control_words_alone),
           CASE(entry_gets_what_was_passed_and_its_argument),
           CASE(entry_has_an_aligned_stack_below_its_record),
           CASE(switch_returns_what_was_passed),
           CASE(each_switch_resumes_what_the_other_suspended),
           CASE(frame_is_as_port_h_says),
           CASE(entry_that_returns_is_trapped),
           CASE(boundary_returns_null_when_the_function_returns),
           CASE(boundary_returns_the_exception_raised),
           CASE(boundary_restores_every_register_after_a_panic),
           CASE(boundary_restores_registers_that_frames_below_had_saved),
           CASE(boundary_lets_cleanups_run),
           CASE(innermost_boundary_takes_the_exception),
           CASE(boundary_works_on_a_fiber),
           CASE(unwinder_ends_at_the_first_frame_of_a_fiber),
           CASE(frame_pointers_end_at_the_record_or_go_on_where_it_links),
           CASE(unwinder_sees_through_a_signal_at_any_instruction),
           CASE(unwinder_finds_registers_beyond_a_boundary),
           CASE(entries_begin_with_a_landing_pad),
           CASE(no_shadow_stack_is_enforced_here),
           CASE(every_step_can_be_taken))
