/* SPDX-License-Identifier: MIT */
/*
 * fault_test.c - options.faults = REPORT: a stack overflow is reported and ends the process;
 * every other fault ends it as it would have without us. Each case runs in a child.
 */
#include "child.h"
#include "job.h"

#include <sys/syscall.h>

/* Sanitizers look for these functions, and then leave the signals to us and what was before. */
#define NO_HANDLERS "handle_segv=0:handle_sigbus=0:handle_abort=0:use_sigaltstack=0"

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

static coir_options with_faults(enum coir_faults faults)
{
    coir_options o = run_options(2);

    o.faults = faults;
    return o;
}

static void run_with(enum coir_faults faults, coir_fn *fn)
{
    coir_options o = with_faults(faults);

    if (coir_run(&o, fn, NULL) != COIR_DONE)
        _exit(1);
}

/* ---------------------------------------------------------------------------------- overflow */

static __attribute__((noinline)) long recurse(volatile signed char *above)
{
    volatile signed char frame[512];

    frame[0] = *above;
    if (frame[0] < 0)
        return 0; /* never */
    return recurse(frame) + frame[0]; /* the sum keeps it from being a tail call */
}

static void overflow(void *unused)
{
    volatile signed char start = 0;

    (void)unused;
    recurse(&start);
}

static void overflow_named(void *unused)
{
    if (coir_job_name("bottomless") == COIR_OK)
        overflow(unused);
}

static void overflow_after_sleep(void *unused)
{
    if (coir_sleep_until(coir_now() + COIR_MS) == COIR_OK)
        overflow(unused);
}

static void overflow_in_place(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    if (coir_spawn(&c, overflow, unused) == COIR_OK && coir_wait(&c) >= COIR_DONE)
        _exit(0);
}

static void report(void *fn)
{
    run_with(COIR_FAULTS_REPORT, *(coir_fn **)fn);
}

static void do_not_report(void *fn)
{
    run_with(COIR_FAULTS_NONE, *(coir_fn **)fn);
}

static void an_overflow_is_reported_and_aborts(void)
{
    coir_fn *fn = overflow, *named = overflow_named, *later = overflow_after_sleep;
    char address[32];

    snprintf(address, sizeof address, "0x%llx", (unsigned long long)(uintptr_t)overflow);
    CHILD_DIES(report, &fn, SIGABRT, "stack overflow: fiber ", " on worker ", "job function ",
               address, "fault at 0x", "1 jobs deep");
    CHILD_DIES(report, &named, SIGABRT, "stack overflow: fiber ", "job bottomless");
    CHILD_DIES(report, &later, SIGABRT, "stack overflow: fiber ");
}

static void the_report_is_one_line(void)
{
    struct child c;
    coir_fn *fn = overflow;

    child_run(&c, report, &fn);
    CHECK(strncmp(c.text, "coir: stack overflow", 20) == 0);
    CHECK(strchr(c.text, '\n') != NULL && strstr(c.text + 1, "coir: ") == NULL);
}

/* With one worker the child runs on its waiter's stack. */
static void report_on_one(void *fn)
{
    coir_options o = with_faults(COIR_FAULTS_REPORT);

    o.workers = 1;
    if (coir_run(&o, *(coir_fn **)fn, NULL) != COIR_DONE)
        _exit(1);
}

static void the_report_tells_the_depth(void)
{
    coir_fn *fn = overflow_in_place;

    CHILD_DIES(report_on_one, &fn, SIGABRT, "stack overflow: fiber ", " 2 jobs deep");
}

static void nop(void *unused)
{
    (void)unused;
}

#ifndef COIR_TSAN /* the deepest of what is called may be its runtime, which holds a lock then */
/* Most of these waits park, and with a stack beside them a switch is the deepest of what they call. */
static __attribute__((noinline)) long wait_deeper(volatile signed char *above)
{
    volatile signed char frame[32];
    coir_counter c = COIR_COUNTER_INIT;

    frame[0] = *above;
    if (frame[0] < 0 || coir_spawn(&c, nop, NULL) != COIR_OK || coir_wait(&c) != COIR_DONE)
        return 0; /* never */
    return wait_deeper(frame) + frame[0];
}

static void wait_to_the_end(void *begin)
{
    volatile signed char *used = __builtin_alloca(*(size_t *)begin);

    used[0] = 0;
    wait_deeper(used);
}

static void wait_to_the_end_on_one(void *begin)
{
    coir_options o = with_faults(COIR_FAULTS_REPORT);

    o.workers = 1;
    (void)!coir_run(&o, wait_to_the_end, begin);
}

static void an_overflow_on_the_way_to_another_fiber_is_reported(void)
{
    for (size_t begin = 16; begin <= (SLOW ? 64 : 256); begin += 16)
        CHILD_DIES(wait_to_the_end_on_one, &begin, SIGABRT, "stack overflow: fiber ", " 1 jobs deep");
}
#endif

static void without_the_option_an_overflow_is_a_plain_fault(void)
{
    coir_fn *fn = overflow;

    CHILD_DIES(do_not_report, &fn, SIGSEGV, "");
}

/* ------------------------------------------------------------------------------- other faults */

static int *volatile wild = (int *)64;

static void touch_wild(void *unused)
{
    (void)unused;
    *wild = 1;
}

static void a_wild_pointer_is_not_an_overflow(void)
{
    struct child c;
    coir_fn *fn = touch_wild;

    child_run(&c, report, &fn);
    CHECK(WIFSIGNALED(c.status) && WTERMSIG(c.status) == SIGSEGV);
    CHECK(strstr(c.text, "overflow") == NULL);
}

#ifndef COIR_TSAN /* it takes a sent SIGSEGV for a fault of its own, and can hang in its locks */
static void kill_self(void *unused)
{
    (void)unused;
    kill(getpid(), SIGSEGV);
    for (;;)
        sched_yield();
}

static void kill_self_on_plain_thread(void *unused)
{
    coir_options o = with_faults(COIR_FAULTS_REPORT);
    coir_runtime *rt;

    if (coir_open(&o, &rt) == COIR_OK)
        kill_self(unused);
}

static void a_sent_signal_ends_the_process_as_without_us(void)
{
    coir_fn *fn = kill_self;

    CHILD_DIES(report, &fn, SIGSEGV, "");
    CHILD_DIES(kill_self_on_plain_thread, NULL, SIGSEGV, "");
}

#ifdef __x86_64__ /* emulators take what seems to come from the kernel for a fault of theirs */
/* As the kernel does. The job would go on. */
static void come_once(int number, int code)
{
    siginfo_t info = {.si_signo = number, .si_code = code};

    syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), number, &info);
}

static void want_room(void *unused)
{
    (void)unused;
    come_once(SIGSEGV, SI_KERNEL); /* a handler's frame does not fit */
}

static void lose_memory(void *unused)
{
    (void)unused;
    come_once(SIGBUS, BUS_MCEERR_AO);
}

static void what_does_not_come_again_ends_the_process_as_without_us(void)
{
    coir_fn *room = want_room, *memory = lose_memory;

    CHILD_DIES(report, &room, SIGSEGV, "");
    CHILD_DIES(report, &memory, SIGBUS, "");
}
#endif
#endif

/* -------------------------------------------------------------------------- previous handlers */

static void say_and_leave(const char *text)
{
    if (write(STDERR_FILENO, text, strlen(text)) > 0)
        _exit(7);
}

static void before_with_info(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)context;
    say_and_leave(info->si_addr == wild ? "chained with its address\n" : "chained\n");
}

static void before_plain(int signal)
{
    (void)signal;
    say_and_leave("chained\n");
}

static void fault_with_info_before(void *unused)
{
    struct sigaction sa = {.sa_sigaction = before_with_info, .sa_flags = SA_SIGINFO};

    (void)unused;
    sigaction(SIGSEGV, &sa, NULL);
    run_with(COIR_FAULTS_REPORT, touch_wild);
}

static void fault_with_plain_before(void *unused)
{
    struct sigaction sa = {.sa_handler = before_plain};

    (void)unused;
    sigaction(SIGSEGV, &sa, NULL);
    run_with(COIR_FAULTS_REPORT, touch_wild);
}

static void a_previous_handler_is_chained_to(void)
{
    struct child c;

    child_run(&c, fault_with_info_before, NULL);
    CHECK(WIFEXITED(c.status) && WEXITSTATUS(c.status) == 7);
    CHECK_STR(c.text, "chained with its address\n");
    child_run(&c, fault_with_plain_before, NULL);
    CHECK(WIFEXITED(c.status) && WEXITSTATUS(c.status) == 7);
    CHECK_STR(c.text, "chained\n");
}

static void must_hold(int holds)
{
    if (!holds)
        _exit(1);
}

static int handler_is(int number, void (*handler)(int))
{
    struct sigaction now;

    return sigaction(number, NULL, &now) == 0 && now.sa_handler == handler;
}

static void close_two(void *unused)
{
    coir_options o = with_faults(COIR_FAULTS_REPORT);
    coir_runtime *a, *b;

    (void)unused;
    signal(SIGSEGV, before_plain);
    signal(SIGBUS, SIG_DFL);
    run_with(COIR_FAULTS_NONE, nop);
    must_hold(handler_is(SIGSEGV, before_plain));
    must_hold(coir_open(&o, &a) == COIR_OK);
    must_hold(coir_open(&o, &b) == COIR_OK);
    must_hold(!handler_is(SIGSEGV, before_plain) && !handler_is(SIGBUS, SIG_DFL));
    must_hold(coir_close(a, -1, NULL) == COIR_OK); /* not the one opened last */
    must_hold(!handler_is(SIGSEGV, before_plain) && !handler_is(SIGBUS, SIG_DFL));
    must_hold(coir_close(b, -1, NULL) == COIR_OK);
    must_hold(handler_is(SIGSEGV, before_plain) && handler_is(SIGBUS, SIG_DFL));
}

static void handlers_come_back_with_the_last_close(void)
{
    child_ends(close_two, NULL);
}

static void install_on_top(void *unused)
{
    coir_options o = with_faults(COIR_FAULTS_REPORT);
    coir_runtime *rt;

    (void)unused;
    must_hold(coir_open(&o, &rt) == COIR_OK);
    signal(SIGSEGV, before_plain);
    must_hold(coir_close(rt, -1, NULL) == COIR_OK);
    must_hold(handler_is(SIGSEGV, before_plain));
}

static void a_handler_on_top_of_ours_stays(void)
{
    child_ends(install_on_top, NULL);
}

/* A handler on top that chains to what it found, as ours does. */
static struct sigaction below;

static void on_top(int number, siginfo_t *info, void *context)
{
    static const char text[] = "on top\n";
    static volatile sig_atomic_t entered;

    if (++entered > 1 || write(STDERR_FILENO, text, sizeof text - 1) < 0)
        _exit(3);
    must_hold(below.sa_flags & SA_SIGINFO);
    below.sa_sigaction(number, info, context);
}

static void open_again_under(coir_fn *fn)
{
    struct sigaction sa = {.sa_sigaction = on_top, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    coir_options o = with_faults(COIR_FAULTS_REPORT);
    coir_runtime *rt;

    must_hold(coir_open(&o, &rt) == COIR_OK);
    sigaction(SIGSEGV, &sa, &below);
    must_hold(coir_close(rt, -1, NULL) == COIR_OK);
    run_with(COIR_FAULTS_REPORT, fn);
}

static void fault_again(void *unused)
{
    (void)unused;
    open_again_under(touch_wild);
}

static void overflow_again(void *unused)
{
    (void)unused;
    open_again_under(overflow);
}

static void open_after_default(void *above)
{
    coir_options o = with_faults(COIR_FAULTS_REPORT);
    coir_runtime *rt;

    must_hold(coir_open(&o, &rt) == COIR_OK);
    signal(SIGSEGV, above ? before_plain : SIG_DFL);
    must_hold(coir_close(rt, -1, NULL) == COIR_OK);
    signal(SIGSEGV, SIG_DFL);
    run_with(COIR_FAULTS_REPORT, overflow);
}

static void ours_is_there_again_if_nothing_is_left_on_top(void)
{
    int above;

    CHILD_DIES(open_after_default, NULL, SIGABRT, "stack overflow: fiber ");
    CHILD_DIES(open_after_default, &above, SIGABRT, "stack overflow: fiber ");
}

static void a_handler_on_top_is_entered_once_after_another_open(void)
{
    CHILD_DIES(fault_again, NULL, SIGSEGV, "on top");
    CHILD_DIES(overflow_again, NULL, SIGABRT, "on top", "stack overflow: fiber ");
}

CHECK_MAIN(CASE(an_overflow_is_reported_and_aborts), CASE(the_report_is_one_line),
           CASE(the_report_tells_the_depth), CASE(without_the_option_an_overflow_is_a_plain_fault),
           CASE(a_wild_pointer_is_not_an_overflow),
#ifndef COIR_TSAN
           CASE(an_overflow_on_the_way_to_another_fiber_is_reported),
           CASE(a_sent_signal_ends_the_process_as_without_us),
#ifdef __x86_64__
           CASE(what_does_not_come_again_ends_the_process_as_without_us),
#endif
#endif
           CASE(a_previous_handler_is_chained_to), CASE(handlers_come_back_with_the_last_close),
           CASE(a_handler_on_top_of_ours_stays), CASE(ours_is_there_again_if_nothing_is_left_on_top),
           CASE(a_handler_on_top_is_entered_once_after_another_open))
