/* SPDX-License-Identifier: MIT */
/*
 * abort_test.c - what cannot be contained ends the process with a report, and never goes on.
 *
 * Each case runs in a child. A noexcept frame is in abort_cxx_test.cc.
 */
#define COIR_DEBUG /* for ASSERT, which builds leave out */
#include "base.h"
#include "child.h"

#include <pthread.h>
#include <unwind.h>

#define CLEANUP(f) __attribute__((cleanup(f), unused))

/* Runs fn as a job; the report must come although the log is quiet. */
static void in_job(void *arg)
{
    coir_options o = run_options(2);
    coir_fn **fn = arg;

    if (coir_run(&o, *fn, NULL) >= COIR_DONE)
        _exit(0);
}

static void in_try(void *arg)
{
    coir_fn **fn = arg;

    if (coir_try(*fn, NULL, NULL) >= COIR_DONE)
        _exit(0);
}

#define BOTH_DIE(fn, ...)                                                                          \
    do {                                                                                           \
        coir_fn *of = (fn);                                                                        \
                                                                                                   \
        CHILD_DIES(in_job, &of, SIGABRT, __VA_ARGS__);                                             \
        CHILD_DIES(in_try, &of, SIGABRT, __VA_ARGS__);                                             \
    } while (0)

/* ------------------------------------------------------------------------------ no boundary */

static void raise_outside(void *unused)
{
    (void)unused;
    coir_panic("nobody is %s", "here");
}

static void add_nothing(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    coir_counter_add(&c, 0);
}

static void start_hook(unsigned worker, void *unused)
{
    (void)unused;
    coir_panic("in the hook of worker %u", worker);
}

static void raise_in_hook(void *unused)
{
    coir_options o = run_options(1);
    coir_runtime *rt;

    (void)unused;
    o.worker_start = start_hook;
    if (coir_open(&o, &rt) == COIR_OK)
        _exit(0);
}

static void a_panic_outside_any_boundary_aborts(void)
{
    CHILD_DIES(raise_outside, NULL, SIGABRT, "panic outside any boundary", "abort_test.c",
               "nobody is here");
    CHILD_DIES(add_nothing, NULL, SIGABRT, "panic outside any boundary", "coir_counter_add");
    CHILD_DIES(raise_in_hook, NULL, SIGABRT, "panic outside any boundary",
               "in the hook of worker 0");
}

/* ---------------------------------------------------------------------------- double panic */

static void raise_again(int *unused)
{
    (void)unused;
    coir_panic("second");
}

static void raise_twice(void *unused)
{
    int n CLEANUP(raise_again) = 0;

    (void)unused;
    coir_panic("first");
}

static void yield_and_raise_again(int *unused)
{
    coir_yield();
    raise_again(unused);
}

static void raise_twice_with_a_pause(void *unused)
{
    int n CLEANUP(yield_and_raise_again) = 0;

    (void)unused;
    coir_panic("first");
}

static void a_panic_while_another_unwinds_aborts(void)
{
    BOTH_DIE(raise_twice, "panic while an earlier one unwinds", "second", "abort_test.c");
    BOTH_DIE(raise_twice_with_a_pause, "panic while an earlier one unwinds", "second");
}

/* ------------------------------------------------------------------------- foreign exceptions */

#define CLASS_RUST UINT64_C(0x4d4f5a0052555354)  /* "MOZ\0RUST" */
#define CLASS_OTHER UINT64_C(0x5445535454455354) /* "TESTTEST" */

static void throw_class(uint64_t class)
{
    static struct _Unwind_Exception e;

    e = (struct _Unwind_Exception){.exception_class = class};
    _Unwind_RaiseException(&e);
}

static void throw_rust(void *unused)
{
    (void)unused;
    throw_class(CLASS_RUST);
}

static void a_rust_panic_at_a_boundary_aborts(void)
{
    BOTH_DIE(throw_rust, "a Rust panic reached a job's boundary", "catch_unwind");
}

static void throw_other(void *unused)
{
    (void)unused;
    throw_class(CLASS_OTHER);
}

static void an_unknown_exception_is_contained(void)
{
    coir_failure f;

    CHECK_EQ(coir_try(throw_other, NULL, &f), COIR_PANICKED);
    CHECK_EQ(f.kind, COIR_KIND_FOREIGN);
    CHECK_STR(f.message, "foreign exception of class 0x5445535454455354");
}

static void throw_from_cleanup(int *unused)
{
    throw_other(unused);
}

static void raise_over_throw(void *unused)
{
    int n CLEANUP(throw_from_cleanup) = 0;

    (void)unused;
    coir_panic("first");
}

static void throw_over_raise(void *unused)
{
    int n CLEANUP(raise_again) = 0;

    throw_other(unused);
}

static void exceptions_and_panics_do_not_mix_in_cleanups(void)
{
    BOTH_DIE(raise_over_throw, "an exception left a cleanup while an earlier panic unwinds",
             "foreign exception of class");
    BOTH_DIE(throw_over_raise, "panic while an earlier one unwinds", "second");
}

/* ------------------------------------------------------------------------------ signal handlers */

static void on_signal(int number)
{
    coir_panic("on signal %d", number);
}

static void raise_on_signal(void *unused)
{
    sigset_t set;

    (void)unused;
    signal(SIGUSR1, on_signal);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL); /* workers block it */
    raise(SIGUSR1);
}

static void nop(void *unused);

/* The handler has a stack of its own, and the job a counter that is owed. */
static void raise_on_other_stack(void *unused)
{
    static char memory[1 << 16];
    stack_t ss = {.ss_sp = memory, .ss_size = sizeof memory};
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
    coir_counter c = COIR_COUNTER_INIT;

    if (coir_current() && coir_spawn(&c, nop, unused) != COIR_OK)
        _exit(1);
    sigaltstack(&ss, NULL);
    sigaction(SIGTRAP, &sa, NULL);
    raise(SIGTRAP);
}

static void a_panic_in_a_signal_handler_aborts(void)
{
    BOTH_DIE(raise_on_signal, "panic in a signal handler", "on signal 10", "abort_test.c");
    BOTH_DIE(raise_on_other_stack, "panic in a signal handler", "on signal 5", "abort_test.c");
}

/* ----------------------------------------------------------------------------------- own books */

static void break_invariant(void *unused)
{
    (void)unused;
    ASSERT(1 + 1 == 3);
}

static void a_broken_invariant_aborts(void)
{
    BOTH_DIE(break_invariant, "abort_test.c:", "broken invariant: 1 + 1 == 3");
}

/* ----------------------------------------------------------------------------- no unwind tables */

/* Calls fn(NULL) from a frame that unwinders know nothing about: the assembler writes tables for
 * what is between .cfi_startproc and .cfi_endproc only. */
void call_without_tables(coir_fn *fn);

#if defined(__x86_64__)
__asm__(".pushsection .text\n"
        ".type call_without_tables, @function\n"
        "call_without_tables:\n"
        "    push %rbp\n"
        "    mov %rdi, %rax\n"
        "    xor %edi, %edi\n"
        "    call *%rax\n"
        "    pop %rbp\n"
        "    ret\n"
        ".size call_without_tables, . - call_without_tables\n"
        ".popsection\n");
#elif defined(__aarch64__)
__asm__(".pushsection .text\n"
        ".type call_without_tables, %function\n"
        "call_without_tables:\n"
        "    stp x29, x30, [sp, #-16]!\n"
        "    mov x9, x0\n"
        "    mov x0, xzr\n"
        "    blr x9\n"
        "    ldp x29, x30, [sp], #16\n"
        "    ret\n"
        ".size call_without_tables, . - call_without_tables\n"
        ".popsection\n");
#endif

static void raise_under(void *unused)
{
    (void)unused;
    coir_panic("under a bare frame");
}

static void raise_through_bare_frame(void *unused)
{
    (void)unused;
    call_without_tables(raise_under);
}

static void a_frame_without_unwind_tables_aborts(void)
{
    BOTH_DIE(raise_through_bare_frame, "without unwind tables", "under a bare frame",
             "abort_test.c", "-fexceptions");
}

/* ------------------------------------------------------------------------------ end of a thread */

static void leave_thread(void *unused)
{
    pthread_exit(unused);
}

static __attribute__((unused)) void sleep_and_leave(void *unused)
{
    if (coir_sleep_until(coir_now() + COIR_MS) == COIR_OK)
        leave_thread(unused);
}

static __attribute__((unused)) void cancel_thread(void *unused)
{
    int old;

    (void)unused;
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &old);
    pthread_cancel(pthread_self());
    pthread_testcancel();
}

/* Workers are not to be canceled: only who enables it gets there. */
static void ignore_cancel(void *unused)
{
    (void)unused;
    pthread_cancel(pthread_self());
    pthread_testcancel();
    _exit(0);
}

static void a_worker_ignores_pthread_cancel(void)
{
    coir_fn *fn = ignore_cancel;

    child_ends(in_job, &fn);
}

static void ending_a_thread_through_a_job_aborts(void)
{
    coir_fn *fn = leave_thread;

    CHILD_DIES(in_try, &fn, SIGABRT, "pthread_exit");
#ifndef COIR_TSAN /* it aborts by itself when a fiber ends a thread */
    BOTH_DIE(leave_thread, "pthread_exit");
    BOTH_DIE(sleep_and_leave, "pthread_exit");
    BOTH_DIE(cancel_thread, "a thread is being ended (pthread_exit or pthread_cancel)");
#endif
}

/* ------------------------------------------------------------------------------ lost counters */

static void nop(void *unused)
{
    (void)unused;
}

static __attribute__((noinline)) void leave_counter(void)
{
    coir_counter c = COIR_COUNTER_INIT;

    if (coir_spawn(&c, nop, NULL) != COIR_OK)
        _exit(0);
}

static __attribute__((noinline)) void reuse_frame(void)
{
    volatile char frame[4096];

    for (size_t i = 0; i < sizeof frame; i++)
        frame[i] = 0;
}

static void lose_counter(void *unused)
{
    (void)unused;
    leave_counter();
    reuse_frame();
}

static void a_counter_whose_frame_was_left_in_mid_job_aborts(void)
{
    coir_fn *fn = lose_counter;
    CHILD_DIES(in_job, &fn, SIGABRT, "a counter left its frame");
}

CHECK_MAIN(CASE(a_panic_outside_any_boundary_aborts), CASE(a_panic_while_another_unwinds_aborts),
           CASE(a_rust_panic_at_a_boundary_aborts), CASE(an_unknown_exception_is_contained),
           CASE(exceptions_and_panics_do_not_mix_in_cleanups),
           CASE(a_panic_in_a_signal_handler_aborts), CASE(a_broken_invariant_aborts),
           CASE(a_frame_without_unwind_tables_aborts), CASE(a_worker_ignores_pthread_cancel), CASE(ending_a_thread_through_a_job_aborts),
           CASE(a_counter_whose_frame_was_left_in_mid_job_aborts))
