/* SPDX-License-Identifier: MIT */
/*
 * deaths_test.c - panics that cannot be contained end the process with a report, and never go on.
 *
 * What C++ adds is in deaths_cxx_test.cc, faults are in deaths_fault_test.c.
 */
#define COIR_DEBUG /* for ASSERT, which builds leave out */
#include "base.h"
#include "deaths.h"

#include <pthread.h>
#include <unwind.h>

#define CLEANUP(f) __attribute__((cleanup(f), unused))

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

static void throw_other(void *unused)
{
    (void)unused;
    throw_class(CLASS_OTHER);
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

/* ----------------------------------------------------------------------------------- own books */

static void break_invariant(void *unused)
{
    (void)unused;
    ASSERT(1 + 1 == 3);
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

/* ------------------------------------------------------------------------------- what options ask for */

static void say_unwound(int *unused)
{
    (void)unused;
    fprintf(stderr, "unwound\n");
}

static void raise_plain(void *unused)
{
    int n CLEANUP(say_unwound) = 0;

    (void)unused;
    coir_panic("plain");
}

static void run_with(const coir_options *o, coir_fn *fn)
{
    if (coir_run(o, fn, NULL) >= COIR_DONE)
        _exit(0);
}

static void raise_under_abort(void *unused)
{
    coir_options o = run_options(1);

    (void)unused;
    o.panic = COIR_PANIC_ABORT;
    run_with(&o, raise_plain);
}

static void defer_raising(void *unused)
{
    if (coir_defer(raise_plain, unused) != COIR_OK)
        _exit(0);
}

static void raise_in_handler_under_abort(void *unused)
{
    coir_options o = run_options(1);

    (void)unused;
    o.defer_panic = COIR_PANIC_ABORT;
    run_with(&o, defer_raising);
}

static void raise_locked(void *unused)
{
    static coir_mutex m;

    (void)unused;
    if (coir_mutex_init(&m, COIR_MUTEX_ABORT) == COIR_OK && coir_mutex_lock(&m) == COIR_OK)
        coir_panic("half a change");
}

/* ---------------------------------------------------------------------------------- hooks of the host */

static void hook_that_raises(const coir_failure *f, void *unused)
{
    (void)unused;
    coir_panic("about %s", f->message);
}

static void raise_with_hook(void *unused)
{
    coir_options o = run_options(1);

    (void)unused;
    o.panic_hook = hook_that_raises;
    run_with(&o, raise_plain);
}

static void hook_that_sleeps(const coir_failure *f, void *unused)
{
    (void)f;
    (void)unused;
    if (coir_sleep_until(COIR_NEVER) == COIR_OK)
        _exit(0);
}

static void raise_with_sleeping_hook(void *unused)
{
    coir_options o = run_options(1);

    (void)unused;
    o.panic_hook = hook_that_sleeps;
    run_with(&o, raise_plain);
}

static void metric_that_raises(void *unused, int outcome, int64_t ns)
{
    (void)unused;
    (void)ns;
    coir_panic("told of an end with %d", outcome);
}

static void end_with_metric(void *unused)
{
    coir_options o = run_options(1);
    coir_metrics m = {.size = sizeof m, .completed = metric_that_raises};

    (void)unused;
    o.metrics = &m;
    run_with(&o, nop);
}

static void log_that_raises(enum coir_log_level level, const char *text, void *unused)
{
    (void)unused;
    if (level == COIR_LOG_ERROR)
        coir_panic("told: %s", text);
}

static void raise_with_log(void *unused)
{
    coir_options o = run_options(1);

    (void)unused;
    o.log = log_that_raises;
    run_with(&o, raise_plain);
}

/* An option out of its range: it is logged before there is a worker. */
static void open_with_log(void *unused)
{
    coir_options o = run_options(1);

    o.log = log_that_raises;
    o.stack_bytes = 1;
    run_with(&o, nop);
    leave_thread(unused);
}

static void log_that_sleeps(enum coir_log_level level, const char *text, void *unused)
{
    (void)text;
    if (level == COIR_LOG_ERROR)
        hook_that_sleeps(NULL, unused);
}

static void raise_with_sleeping_log(void *unused)
{
    coir_options o = run_options(1);

    (void)unused;
    o.log = log_that_sleeps;
    run_with(&o, raise_plain);
}

/* ------------------------------------------------------------------------------------- the table */

#define HERE "tests/deaths_test.c:"
#define OUTSIDE "fatal: panic outside any boundary"
#define TWICE "fatal: panic while an earlier one unwinds"
#define ON_SIGNAL "fatal: panic in a signal handler"
#define ENDED "fatal: a thread is being ended (pthread_exit or pthread_cancel) through a job"

#ifdef COIR_TSAN /* it aborts by itself when a fiber ends a thread */
#define ENDS_OF_WORKERS(X)
#else
#define ENDS_OF_WORKERS(X)                                                                         \
    X(a_pthread_exit_in_a_job, SIGABRT, IN_JOB, leave_thread, ENDED)                               \
    X(a_pthread_exit_in_a_job_that_has_moved, SIGABRT, IN_JOB, sleep_and_leave, ENDED)             \
    X(a_pthread_cancel_of_a_worker_that_enabled_it, SIGABRT, IN_JOB, cancel_thread, ENDED)
#endif

#define DEATHS(X)                                                                                  \
    X(a_panic_outside_any_boundary, SIGABRT, BARE, raise_outside, OUTSIDE, HERE, "nobody is here") \
    X(bad_use_outside_any_boundary, SIGABRT, BARE, add_nothing, OUTSIDE, "coir_counter_add")       \
    X(a_panic_in_the_start_hook_of_a_worker, SIGABRT, BARE, raise_in_hook, OUTSIDE, HERE,          \
      "in the hook of worker 0")                                                                   \
    X(a_panic_in_a_cleanup_that_a_panic_runs, SIGABRT, ANYWHERE, raise_twice, TWICE, HERE, "second") \
    X(a_panic_in_a_cleanup_that_has_yielded, SIGABRT, ANYWHERE, raise_twice_with_a_pause, TWICE,   \
      HERE, "second")                                                                              \
    X(a_panic_in_a_cleanup_that_an_exception_runs, SIGABRT, ANYWHERE, throw_over_raise, TWICE,     \
      "second")                                                                                    \
    X(an_exception_out_of_a_cleanup_that_a_panic_runs, SIGABRT, ANYWHERE, raise_over_throw,        \
      "fatal: an exception left a cleanup while an earlier panic unwinds",                         \
      "foreign exception of class")                                                                \
    X(a_panic_in_a_signal_handler, SIGABRT, ANYWHERE, raise_on_signal, ON_SIGNAL, HERE, "on signal 10") \
    X(a_panic_in_a_signal_handler_on_another_stack, SIGABRT, ANYWHERE, raise_on_other_stack,       \
      ON_SIGNAL, HERE, "on signal 5")                                                              \
    X(a_frame_without_unwind_tables_in_the_way, SIGABRT, ANYWHERE, raise_through_bare_frame,       \
      "fatal: a frame without unwind tables is in the way of a panic", HERE, "under a bare frame", \
      "-fexceptions")                                                                              \
    X(a_rust_panic_at_a_boundary, SIGABRT, ANYWHERE, throw_rust,                                   \
      "fatal: a Rust panic reached a job's boundary", "catch_unwind")                              \
    X(a_pthread_exit_in_a_try, SIGABRT, IN_TRY, leave_thread, ENDED)                               \
    ENDS_OF_WORKERS(X)                                                                             \
    X(a_counter_whose_frame_was_left_while_it_was_owed, SIGABRT, IN_JOB, lose_counter,             \
      "fatal: a counter left its frame")                                                           \
    X(a_broken_invariant_of_the_runtime, SIGABRT, ANYWHERE, break_invariant, HERE,                 \
      "broken invariant: 1 + 1 == 3")                                                              \
    X(a_panic_with_a_mutex_whose_policy_is_to_abort, SIGABRT, ANYWHERE, raise_locked,              \
      "fatal: a job panicked while it held mutex 0x", "policy")                                    \
    X(a_panic_under_options_panic, SIGABRT, BARE, raise_under_abort,                               \
      "fatal: a panic aborts (options.panic): ", HERE, "plain")                                    \
    X(a_panic_in_a_handler_under_options_defer_panic, SIGABRT, BARE, raise_in_handler_under_abort, \
      "fatal: a panic aborts (options.defer_panic): ", HERE, "plain")                              \
    X(a_panic_in_the_panic_hook, SIGABRT, BARE, raise_with_hook,                                   \
      "fatal: panic in the panic hook: ", HERE, "about plain")                                     \
    X(a_panic_hook_that_suspends, SIGABRT, BARE, raise_with_sleeping_hook,                         \
      "fatal: the panic hook must not suspend")                                                    \
    X(a_panic_in_a_metrics_callback, SIGABRT, BARE, end_with_metric,                               \
      "fatal: panic in the metrics callback \"completed\"", HERE, "told of an end with 0")          \
    X(a_panic_in_the_log_callback, SIGABRT, BARE, raise_with_log,                                  \
      "fatal: panic in the log callback: ", HERE, "told: ", "plain")                               \
    X(a_panic_in_the_log_callback_before_any_worker, SIGABRT, BARE, open_with_log,                 \
      "fatal: panic in the log callback: ", HERE, "options.stack_bytes")                           \
    X(a_log_callback_that_suspends, SIGABRT, BARE, raise_with_sleeping_log,                        \
      "fatal: the log callback must not suspend")

DEATH_MAIN("panics that cannot be contained", DEATHS)
