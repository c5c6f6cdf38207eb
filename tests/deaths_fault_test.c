/* SPDX-License-Identifier: MIT */
/*
 * deaths_fault_test.c - faults that end the process: reported and named where they may not be
 * contained, and as without coir where nobody has asked it to look.
 */
#include "containable.h"
#include "deaths.h"

static void run_with(const coir_options *o, coir_fn *fn)
{
    int outcome = coir_run(o, fn, NULL);

    if (outcome >= COIR_DONE)
        _exit(0);
}

/* --------------------------------------------------------------------------- nobody contains it */

static void overflow_plainly(void *unused)
{
    coir_options o = run_options(1);

    (void)unused;
    run_with(&o, overflow);
}

static void overflow_reported(void *unused)
{
    coir_options o = run_options(1);

    (void)unused;
    o.faults = COIR_FAULTS_REPORT;
    run_with(&o, overflow);
}

static void signal_at_end_reported(void *unused)
{
    coir_options o = run_options(1);

    (void)unused;
    signal(SIGPROF, handle_nothing);
    o.faults = COIR_FAULTS_REPORT;
    run_with(&o, be_signaled_at_end);
}

static CONTAINABLE void touch_wild(void *unused)
{
    (void)unused;
    *(volatile int *)(uintptr_t)4096 = 1;
}

static void touch_wild_reported(void *unused)
{
    coir_options o = run_options(1);

    (void)unused;
    o.faults = COIR_FAULTS_REPORT; /* of overflows */
    run_with(&o, touch_wild);
}

static void call_abort(void *unused)
{
    (void)unused;
    abort();
}

/* --------------------------------------------------------------------------------- it must not be */

static void contain(coir_fn *fn)
{
    coir_options o = containing(1);

    o.faults_also = COIR_FAULTS_ALSO_ALL;
    register_containable();
    run_with(&o, fn);
}

static void overflow_foreign(void *unused)
{
    overflow(unused);
    __asm__ volatile("" : : : "memory"); /* not a tail call */
}

static void contain_foreign(void *unused)
{
    (void)unused;
    contain(overflow_foreign);
}

static void call_qsort(void *arg);

static CONTAINABLE int compare(const void *a, const void *b)
{
    call_qsort(NULL);
    return *(const int *)a - *(const int *)b;
}

static CONTAINABLE void call_qsort(void *arg)
{
    int numbers[4] = {4, 3, 2, 1};

    (void)arg;
    qsort(numbers, 4, sizeof *numbers, compare);
}

static void contain_qsort(void *unused)
{
    (void)unused;
    contain(call_qsort);
}

static CONTAINABLE void overflow_in_cleanup(int *unused)
{
    overflow(unused);
}

static CONTAINABLE void panic_and_overflow(void *unused)
{
    __attribute__((cleanup(overflow_in_cleanup))) int held = 0;

    (void)unused;
    (void)held;
    coir_panic("first");
}

static void contain_in_cleanup(void *unused)
{
    (void)unused;
    contain(panic_and_overflow);
}

/* Writes past the end of what it has on a fiber's stack. */
static CONTAINABLE __attribute__((no_sanitize("address", "undefined"))) void smash(void *unused)
{
    volatile char little[16];
    volatile char *at = little;

    (void)unused;
    __asm__ volatile("" : "+r"(at)); /* compilers would know */
    for (int i = 0; i < 32; i++)
        at[i] = 1;
}

static void smash_plainly(void *unused)
{
    coir_options o = run_options(1);

    (void)unused;
    run_with(&o, smash);
}

static void contain_smashed(void *unused)
{
    (void)unused;
    contain(smash);
}

/* The runtime calls the hook: its own frames are in between. */
static int in_job;

static CONTAINABLE void *alloc_hook(size_t bytes, void *arg)
{
    (void)arg;
    if (in_job)
        overflow(NULL);
    return malloc(bytes);
}

static void free_hook(void *memory, void *arg)
{
    (void)arg;
    free(memory);
}

static CONTAINABLE void spawn_after(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    in_job = 1;
    (void)!coir_spawn_after(&c, NULL, overflow, unused); /* allocates */
}

static void contain_in_hook(void *unused)
{
    coir_options o = containing(1);

    (void)unused;
    o.alloc = alloc_hook;
    o.free = free_hook;
    register_containable();
    if (coir_contain_object((void *)(uintptr_t)coir_version) != COIR_OK)
        _exit(2);
    run_with(&o, spawn_after);
}

/* -------------------------------------------------------------------------------------- the table */

#ifdef __SANITIZE_ADDRESS__ /* the end may come in its runtime */
#define QSORT "called as "
#else
#define QSORT "called as qsort"
#endif

#define OVERFLOW "coir: stack overflow: fiber "
#define FOREIGN "is not registered as containable"

#define DEATHS(X)                                                                                  \
    X(an_overflow_that_nobody_looks_at, SIGSEGV, BARE, overflow_plainly)                           \
    X(an_overflow_under_options_faults, SIGABRT, BARE, overflow_reported, OVERFLOW,                \
      " on worker 0, job function 0x", "fault at 0x", " 1 jobs deep")                              \
    X(a_signal_that_finds_no_room, SIGABRT, BARE, signal_at_end_reported, OVERFLOW, "fault at 0x") \
    X(an_overflow_in_code_that_is_not_registered, SIGABRT, BARE, contain_foreign, OVERFLOW,        \
      "; not contained: deaths_fault_test+0x", FOREIGN)                                            \
    X(an_overflow_below_a_function_of_libc, SIGABRT, BARE, contain_qsort, OVERFLOW,                \
      "; not contained: ", QSORT, FOREIGN)                                                         \
    X(an_overflow_in_a_callback_of_the_runtime, SIGABRT, BARE, contain_in_hook, OVERFLOW,          \
      "; not contained: ", FOREIGN)                                                                \
    X(an_overflow_while_a_panic_unwinds, SIGABRT, BARE, contain_in_cleanup, OVERFLOW,              \
      "; not contained: it came while a panic unwinds")                                            \
    X(a_clobbered_canary, SIGABRT, BARE, smash_plainly, "stack smashing detected")                 \
    X(a_clobbered_canary_where_all_is_contained, SIGABRT, BARE, contain_smashed,                   \
      "coir: SIGABRT: fiber ", "; not contained: ")                                                \
    X(a_wild_write, SIGSEGV, ANYWHERE, touch_wild)                                                 \
    X(a_wild_write_where_only_overflows_are_reported, SIGSEGV, BARE, touch_wild_reported)          \
    X(a_call_of_abort, SIGABRT, ANYWHERE, call_abort)

DEATH_MAIN("faults", DEATHS)
