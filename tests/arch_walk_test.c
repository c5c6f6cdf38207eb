/* SPDX-License-Identifier: MIT */
/*
 * arch_walk_test.c - what unwinders, profilers and debuggers see of a port: from a fiber, from a
 * signal at any instruction, beyond a boundary. arch_step.py runs every_step_can_be_taken under
 * gdb.
 */
#include "arch_fixture.h"
#include "coir.h"

#include <sys/mman.h>
#include <time.h>

#define FRAMES_MAX 32

extern const char arch_enter[];
int main(int argc, char **argv);

/* A walk by unwind tables. */
struct walk {
    int frames;
    void *last;  /* function of the last frame */
    int in_main; /* main is among them */
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

/* All forms of a switch. */
static switch_fn *const forms[] = {arch_switch, arch_switch_loading, arch_switch_shared,
                                   arch_cross, arch_cross_loading, arch_cross_shared};

#define FORMS ((int)(sizeof forms / sizeof *forms))

static int is_switch(const void *fn)
{
    int form = 0;

    while (form < FORMS && fn != (void *)forms[form])
        form++;
    return form < FORMS;
}

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
    if (interrupted && is_switch(at->walk.last)) {
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

/* To the fiber and back until so many signals have come. */
static void switch_in_signals(switch_fn *change, int wanted)
{
    start(partner_in_signals, &change);
    home_call.fn = (void *)change;
    home_call.args[0] = &home;
    for (long i = 0; signals < wanted; i++) {
        struct timespec now;

        home_call.args[1] = fiber;
        abi_call(&home_call);
        if (i % 1000 == 0) /* ThreadSanitizer delivers signals at calls like this */
            clock_gettime(CLOCK_MONOTONIC, &now);
    }
}

static void unwinder_sees_through_a_signal_at_any_instruction(void)
{
    const int wanted = SLOW ? 1000 : 5000;

    fill_registers(&home_call, 13);
    fill_registers(&fiber_call, 14);
    start_timer();
    for (int form = 0; form < FORMS; form++)
        switch_in_signals(forms[form], (form + 1) * wanted / FORMS);
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

/* ------------------------------------------------------------------------- faults and after */

/* Sanitizers leave the signal to us. */
COIR_API const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "handle_segv=0:use_sigaltstack=0";
}

COIR_API const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "handle_segv=0:use_sigaltstack=0";
}

/* A boundary whose call is given up, and a stack to do it on. */
static struct arch_frame at_boundary;
static void *boundary_sp;
static _Alignas(16) char rescue_stack[STACK_BYTES];
static char *forbidden; /* a page */

static _Unwind_Reason_Code find_boundary(struct _Unwind_Context *context, void *arg)
{
    _Unwind_Reason_Code code = walk_frame(context, arg);
    struct walk *walk = arg;

    if (walk->last != (void *)arch_boundary)
        return code;
    boundary_sp = arch_capture(context, &at_boundary);
    return _URC_NORMAL_STOP;
}

/* On the rescue stack. */
static void end_boundary(void *token)
{
    struct walk walk = {0};
    void *here;

    boundary_sp = NULL;
    _Unwind_Backtrace(find_boundary, &walk);
    if (!CHECK(boundary_sp != NULL))
        abort();
    memcpy(boundary_sp, &at_boundary, sizeof at_boundary);
    arch_switch(&here, boundary_sp, token);
}

static int in_fault_function; /* the handler was told a place in it, and a stack pointer of this stack */
static void fault(void *unused);

static void on_fault(int number, siginfo_t *info, void *context)
{
    uintptr_t frame = (uintptr_t)__builtin_frame_address(0);

    (void)number;
    in_fault_function = arch_context_pc(context) - (uintptr_t)fault < 128 &&
                        arch_context_sp(context) - frame < 65536;
    arch_redirect(context, rescue_stack + STACK_BYTES, end_boundary, info->si_addr);
}

static __attribute__((no_sanitize("address", "undefined"), noinline)) void fault(void *unused)
{
    (void)unused;
    *(volatile char *)forbidden = 1;
}

static void start_faults(void)
{
    struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};

    forbidden = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sigaction(SIGSEGV, &sa, NULL);
}

static void stop_faults(void)
{
    signal(SIGSEGV, SIG_DFL);
    munmap(forbidden, 4096);
}

/* With registers that the fault finds changed. */
static void change_registers_and_fault(void *arg)
{
    fiber_call = (struct abi_call){.fn = (void *)fault, .args = {arg}};
    fill_registers(&fiber_call, 17);
    abi_call(&fiber_call);
}

static void a_boundary_can_be_ended_from_outside_after_a_fault(void)
{
    home_call = (struct abi_call){.fn = (void *)arch_boundary};
    home_call.args[0] = (void *)change_registers_and_fault;
    fill_registers(&home_call, 16);
    start_faults();
    for (int i = 0; i < 3; i++) {
        in_fault_function = 0;
        abi_call(&home_call);
        CHECK(in_fault_function);
        CHECK_EQ(home_call.result, forbidden);
        for (int r = 0; r < REGISTERS; r++)
            if (!CHECK_EQ(home_call.after[r], home_call.before[r]))
                fprintf(stderr, "    in %s\n", registers[r].name);
    }
    stop_faults();
}

/* arch_step.py stops at every instruction that the port runs in here. */
static void every_step_can_be_taken(void)
{
    uint64_t mine = arch_fp_get();
    switch_fn *change;
    int calls = 0;

    for (int form = 0; form < FORMS; form++) {
        change = forms[form];
        start(count_up, &change);
        for (int i = 0; i < 4; i++) {
            arch_fp_set(i % 2 ? mine : fp_flipped(mine));
            change(&home, fiber, NULL);
        }
        arch_fp_set(mine);
    }
    CHECK_EQ(arch_boundary(do_nothing, &calls), NULL);
    CHECK_EQ(arch_boundary(raise_it, NULL), &exception);
    arch_wipe((char *)__builtin_frame_address(0) - 1024);
    start_faults();
    CHECK_EQ(arch_boundary(fault, NULL), forbidden);
    stop_faults();
}

CHECK_MAIN(CASE(unwinder_ends_at_the_first_frame_of_a_fiber),
           CASE(frame_pointers_end_at_the_record_or_go_on_where_it_links),
           CASE(unwinder_sees_through_a_signal_at_any_instruction),
           CASE(unwinder_finds_registers_beyond_a_boundary),
           CASE(a_boundary_can_be_ended_from_outside_after_a_fault), CASE(every_step_can_be_taken))
