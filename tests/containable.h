/* SPDX-License-Identifier: MIT */
/*
 * containable.h - code that may be contained, and the end of any stack.
 *
 * It lies in a section of its own, so that its bounds are known to the linker and everything else,
 * a sanitizer's runtime in the same program too, stays foreign.
 */
#ifndef COIR_CONTAINABLE_H
#define COIR_CONTAINABLE_H

#include "job.h"
#include "run.h"

#include <signal.h>
#include <sys/syscall.h>

/* Instrumented code tells TSan of each entry and each return, and these functions may never return.
 * (no_sanitize("thread") leaves that in.) */
#if defined(COIR_TSAN)
#define CONTAINABLE __attribute__((noinline, section("containable"), disable_sanitizer_instrumentation))
#else
#define CONTAINABLE __attribute__((noinline, section("containable")))
#endif

extern const char __start_containable[], __stop_containable[]; /* the linker's */

/* Sanitizers look for these functions, and then leave the signals to us and what was before. */
#define NO_HANDLERS "handle_segv=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0:handle_abort=0:" \
    "use_sigaltstack=0"

COIR_API const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return NO_HANDLERS;
}

COIR_API const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return NO_HANDLERS;
}

/* Calls itself until something stops it: each, if there is one, is called at every level. */
static CONTAINABLE long recurse(volatile signed char *above, coir_fn *each, void *arg)
{
    volatile signed char frame[512];

    frame[0] = *above;
    if (frame[0] < 0)
        return 0; /* never */
    if (each)
        each(arg);
    return recurse(frame, each, arg) + frame[0]; /* the sum keeps it from being a tail call */
}

/* A job that overflows its stack. */
static CONTAINABLE __attribute__((unused)) void overflow(void *unused)
{
    volatile signed char start = 0;

    (void)unused;
    recurse(&start, NULL, NULL);
}

/* Sends the signal to the calling thread by a call of nothing. */
static CONTAINABLE __attribute__((unused)) void signal_self(long process, long thread, long number)
{
#ifdef __x86_64__
    long call = SYS_tgkill;

    __asm__ volatile("syscall" : "+a"(call) : "D"(process), "S"(thread), "d"(number) : "rcx", "r11", "memory");
#else
    register long x0 __asm__("x0") = process;
    register long x1 __asm__("x1") = thread, x2 __asm__("x2") = number, x8 __asm__("x8") = SYS_tgkill;

    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x1), "r"(x2), "r"(x8) : "memory");
#endif
}

static CONTAINABLE void come_to_end(uintptr_t end, long process, long thread, long number)
{
    volatile char frame[64];

    frame[0] = 0;
    if ((uintptr_t)__builtin_frame_address(0) - end > 700)
        come_to_end(end, process, thread, number);
    else
        signal_self(process, thread, number);
    frame[1] = frame[0]; /* not a tail call */
}

static inline void handle_nothing(int number)
{
    (void)number;
}

/* A job that gets a signal where its handler finds no room any more. */
static CONTAINABLE __attribute__((unused)) void be_signaled_at_end(void *unused)
{
    sigset_t set;

    (void)unused;
    sigemptyset(&set);
    sigaddset(&set, SIGPROF);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL); /* emulators leave it blocked when they have lost it */
    come_to_end((uintptr_t)worker_here()->current->stack.low, getpid(), gettid(), SIGPROF);
}

static inline void register_containable(void)
{
    CHECK_EQ(coir_contain_text(__start_containable, __stop_containable), COIR_OK);
}

static inline coir_options containing(unsigned workers)
{
    coir_options o = run_options(workers);

    o.faults = COIR_FAULTS_CONTAIN;
    return o;
}

#endif
