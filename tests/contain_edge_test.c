/* SPDX-License-Identifier: MIT */
/*
 * contain_edge_test.c - faults in rare states of thread and stack: each is contained as any, and the next job finds
 * nothing of it.
 */
#include "child.h"
#include "containable.h"

#include <sys/mman.h>

static void must_hold(int holds)
{
    if (!holds)
        _exit(1);
}

/* Twice, for the first may leave something behind. */
static void contain_twice(coir_fn *fn, int kind)
{
    coir_options o = containing(1);
    coir_runtime *rt;

    o.faults_also = COIR_FAULTS_ALSO_ALL;
    o.log = NULL;
    register_containable();
    must_hold(coir_open(&o, &rt) == COIR_OK);
    for (int i = 0; i < 2; i++) {
        coir_counter c = COIR_COUNTER_INIT;
        coir_failure f;

        must_hold(coir_submit(rt, &c, fn, NULL) == COIR_OK);
        must_hold(coir_wait(&c) == COIR_PANICKED);
        must_hold(coir_counter_failure(&c, &f) == COIR_OK && f.kind == kind);
    }
    must_hold(coir_close(rt, -1, NULL) == COIR_OK);
}

static void signal_at_end(void *unused)
{
    (void)unused;
    signal(SIGPROF, handle_nothing);
    contain_twice(be_signaled_at_end, COIR_KIND_STACK_OVERFLOW);
}

static void a_signal_that_finds_no_room_is_an_overflow(void)
{
    child_ends(signal_at_end, NULL);
}

#ifdef __x86_64__

static CONTAINABLE void divide_by_zero(void *unused)
{
    enum { ZERO_DIVIDE = 4 };
    uint16_t control;

    (void)unused;
    __asm__ volatile("fnstcw %0" : "=m"(control));
    control &= (uint16_t)~ZERO_DIVIDE;
    __asm__ volatile("fldcw %0; fld1; fldz; fdivrp; fwait" : : "m"(control) : "st", "st(1)");
}

static void fpe_in_job(void *unused)
{
    (void)unused;
    contain_twice(divide_by_zero, COIR_KIND_FAULT);
}

static void divide_in_try(void *unused)
{
    must_hold(coir_try(divide_by_zero, unused, NULL) == COIR_PANICKED);
    __asm__ volatile("fwait");
}

static void fpe_in_try(void *unused)
{
    coir_options o = containing(1);

    (void)unused;
    o.faults_also = COIR_FAULT_FPE;
    o.log = NULL;
    register_containable();
    must_hold(coir_run(&o, divide_in_try, NULL) == COIR_DONE);
}

static void an_exception_of_the_x87_is_raised_once(void)
{
    child_ends(fpe_in_job, NULL);
    child_ends(fpe_in_try, NULL);
}

#ifndef COIR_TSAN /* its own handler misaligns */

static CONTAINABLE __attribute__((no_sanitize("undefined"))) void misalign(void *unused)
{
    long word[2];

    (void)unused;
    __asm__ volatile("pushfq; orq $0x40000, (%%rsp); popfq; movl $1, 1(%0)" : : "r"(word) : "memory", "cc");
}

static void misalign_in_job(void *unused)
{
    (void)unused;
    contain_twice(misalign, COIR_KIND_FAULT);
}

static void alignment_is_checked_no_more(void)
{
    child_ends(misalign_in_job, NULL);
}

#endif

/* ------------------------------------------------------------------------------- code made here */

extern void __register_frame(void *tables); /* the unwinder's */

/* Of code with nothing on its stack but where it returns to. */
struct unwind_tables {
    uint32_t common_bytes, common_id;
    uint8_t common[16];
    uint32_t bytes, common_distance;
    uint64_t start, length;
    uint32_t end;
};

static void *made;

static CONTAINABLE void call_made(void *unused)
{
    (void)unused;
    ((void (*)(void))made)();
    __asm__ volatile("" : : : "memory"); /* not a tail call */
}

static void make_code(void)
{
    static const uint8_t store_at_null[] = {0xc7, 0x04, 0x25, 0, 0, 0, 0, 1, 0, 0, 0, 0xc3}; /* movl $1, 0; ret */
    static struct unwind_tables t = {
        20, 0, {1, 0, 1, 0x78, 16, 0x0c, 7, 8, 0x90, 1}, /* the frame ends 8 above rsp, rip lies at its end - 8 */
        20, 28, 0, sizeof store_at_null, 0};

    made = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must_hold(made != MAP_FAILED);
    memcpy(made, store_at_null, sizeof store_at_null);
    must_hold(mprotect(made, 4096, PROT_READ | PROT_EXEC) == 0);
    t.start = (uint64_t)made;
    __register_frame(&t);
}

static void fault_in_made(void *registered)
{
    make_code();
    if (registered)
        must_hold(coir_contain_text(made, (char *)made + 4096) == COIR_OK);
    contain_twice(call_made, COIR_KIND_FAULT);
}

static void code_of_no_object_is_contained_if_registered(void)
{
    child_ends(fault_in_made, "registered");
    CHILD_DIES(fault_in_made, NULL, SIGABRT, "the place is no code of the program");
}

#endif

/* -------------------------------------------------------------------------------------- refused */

static void leave(int number)
{
    _exit(number ? 7 : 8);
}

static void touch_wild_outside(void *unused)
{
    (void)unused;
    *(volatile int *)(uintptr_t)4096 = 1;
}

static void refuse_handled(void *unused)
{
    (void)unused;
    signal(SIGSEGV, leave);
    signal(SIGABRT, leave);
    contain_twice(touch_wild_outside, COIR_KIND_FAULT);
}

static void what_is_refused_is_chained_to_nobody(void)
{
    CHILD_DIES(refuse_handled, NULL, SIGABRT, "; not contained: ", "is not registered as containable");
}

/* ----------------------------------------------------------------------------------- backtraces */

static CONTAINABLE void touch_wild(void *unused)
{
    (void)unused;
    *(volatile int *)(uintptr_t)4096 = 1;
}

static CONTAINABLE void call_abort(void *unused)
{
    if (!unused)
        abort();
}

static CONTAINABLE void call(void *fn)
{
    (*(coir_fn **)fn)(NULL);
    __asm__ volatile("" : : : "memory"); /* not a tail call */
}

static bool is_in(const void *pc, coir_fn *fn)
{
    return (uintptr_t)pc - 1 - (uintptr_t)fn < 1000; /* sanitizers make them long */
}

static uint64_t hooked; /* the backtrace that the hook was told of */

static void keep_backtrace(const coir_failure *f, void *unused)
{
    (void)unused;
    hooked = f->backtrace;
}

static int frames_of(coir_fn *fn, void **pc)
{
    coir_failure f;

    hooked = 0;
    must_hold(coir_try(call, &fn, &f) == COIR_PANICKED);
    must_hold(f.backtrace == f.id && hooked == f.id);
    return coir_failure_frames(coir_current(), f.id, pc, COIR_BACKTRACE_MAX);
}

static void trace_faults(void *unused)
{
    void *pc[COIR_BACKTRACE_MAX];

    (void)unused;
    must_hold(frames_of(touch_wild, pc) == 3); /* the boundary's is the last */
    must_hold(is_in(pc[0], touch_wild) && is_in(pc[1], call));
    must_hold(frames_of(call_abort, pc) == 3);
    must_hold(is_in(pc[0], call_abort) && is_in(pc[1], call));
    must_hold(frames_of(overflow, pc) == COIR_BACKTRACE_MAX);
    must_hold(is_in(pc[0], (coir_fn *)(uintptr_t)recurse) && is_in(pc[31], (coir_fn *)(uintptr_t)recurse));
}

static void run_traced(void *unused)
{
    coir_options o = containing(1);

    (void)unused;
    o.backtrace = 1;
    o.faults_also = COIR_FAULTS_ALSO_ALL;
    o.panic_hook = keep_backtrace;
    o.log = NULL;
    register_containable();
    must_hold(coir_run(&o, trace_faults, NULL) == COIR_DONE);
}

static void a_contained_fault_has_a_backtrace(void)
{
    child_ends(run_traced, NULL);
}

CHECK_MAIN(
#ifdef __x86_64__
           CASE(an_exception_of_the_x87_is_raised_once),
#ifndef COIR_TSAN
           CASE(alignment_is_checked_no_more),
#endif
           CASE(code_of_no_object_is_contained_if_registered),
#endif
           CASE(what_is_refused_is_chained_to_nobody), CASE(a_contained_fault_has_a_backtrace),
           CASE(a_signal_that_finds_no_room_is_an_overflow))
