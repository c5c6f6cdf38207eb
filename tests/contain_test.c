/* SPDX-License-Identifier: MIT */
/*
 * contain_test.c - options.faults = CONTAIN: a stack overflow ends its job, and nothing else; all who
 * are owed something get it.
 */
#include "containable.h"
#include "state.h"

#include <time.h>

#ifdef __x86_64__
#define ROUNDING UINT64_C(0x6000)
#else
#define ROUNDING (UINT64_C(3) << 22)
#endif

static void run_contained(unsigned workers, coir_fn *fn, void *arg)
{
    coir_options o = containing(workers);

    register_containable();
    CHECK_EQ(coir_run(&o, fn, arg), COIR_DONE);
}

/* Runs fn(arg) as a job of its own, on whatever stack. */
static int outcome_of(coir_fn *fn, void *arg, coir_failure *f)
{
    coir_counter c = COIR_COUNTER_INIT;
    int outcome;

    CHECK_EQ(coir_spawn(&c, fn, arg), COIR_OK);
    outcome = coir_wait(&c);
    if (f)
        (void)coir_counter_failure(&c, f);
    return outcome;
}

/* ----------------------------------------------------------------------------------- the record */

static void check_record(void *unused)
{
    coir_stats s;
    coir_failure f = {0};
    unsigned frames = 0;

    (void)unused;
    CHECK_EQ(outcome_of(overflow, NULL, &f), COIR_PANICKED);
    CHECK_EQ(f.kind, COIR_KIND_STACK_OVERFLOW);
    CHECK_EQ(f.outcome, COIR_PANICKED);
    CHECK(f.id != 0 && f.job != 0 && f.worker >= 0 && f.time > 0);
    CHECK_EQ(sscanf(f.message, "stack overflow, %u frames deep, in ", &frames), 1);
    CHECK(frames > 20 && frames < 200); /* 64 KiB of frames that hold 512 bytes */
    CHECK(strstr(f.message, "in contain_test+0x") != NULL);
    CHECK_EQ(coir_stats_read(coir_current(), &s), COIR_OK);
    CHECK_EQ(s.contained, 1);
    CHECK_EQ(s.panics, 1);
    CHECK_EQ(s.tainted, 0);
}

/* Compiled as users are told to, it looks at each page on the way. */
static CONTAINABLE __attribute__((no_sanitize("address"))) void take_much(void *bytes)
{
    volatile char *much = __builtin_alloca(*(volatile size_t *)bytes);

    much[0] = 1;
}

static void check_large_frame(void *unused)
{
    coir_failure f = {0};

    (void)unused;
    for (size_t bytes = (size_t)96 << 10; bytes <= (size_t)64 << 20; bytes *= 3) {
        CHECK_EQ(outcome_of(take_much, &bytes, &f), COIR_PANICKED);
        CHECK_EQ(f.kind, COIR_KIND_STACK_OVERFLOW);
    }
}

static void a_large_frame_steps_over_no_guard(void)
{
    run_contained(1, check_large_frame, NULL);
}

static void an_overflow_ends_its_job_with_a_record(void)
{
    run_contained(1, check_record, NULL);
    run_contained(2, check_record, NULL);
}

static void a_first_job_that_overflows_is_what_run_returns(void)
{
    coir_options o = containing(1);

    register_containable();
    CHECK_EQ(coir_run(&o, overflow, NULL), COIR_PANICKED);
}

static char logged[256];

static void keep_line(enum coir_log_level level, const char *text, void *arg)
{
    (void)arg;
    if (level == COIR_LOG_ERROR)
        snprintf(logged, sizeof logged, "%s", text);
}

static void an_overflow_is_told_when_it_happens(void)
{
    coir_options o = containing(1);

    o.log = keep_line;
    register_containable();
    CHECK_EQ(coir_run(&o, overflow, NULL), COIR_PANICKED);
    CHECK(strstr(logged, "stack overflow, ") != NULL);
}

/* -------------------------------------------------------------------------- again and again */

static void nop(void *unused)
{
    (void)unused;
}

static CONTAINABLE void overflow_with_handler(void *unused)
{
    if (coir_defer(nop, unused) == COIR_OK)
        overflow(unused);
}

/* Threads and stacks are as many after n overflows as after a few. */
static void overflow_often(void *fn)
{
    enum { FEW = 100 };
    coir_stats before, after;

    for (int i = 0; i < MANY(10000); i++) {
        if (i == FEW)
            coir_stats_read(coir_current(), &before);
        if (!CHECK_EQ(outcome_of(*(coir_fn **)fn, NULL, NULL), COIR_PANICKED))
            return;
    }
    coir_stats_read(coir_current(), &after);
    CHECK(after.stacks <= before.stacks + 2);
    CHECK_EQ(after.contained, MANY(10000));
}

static void ten_thousand_overflows_leak_no_stack(void)
{
    coir_fn *plain = overflow, *handled = overflow_with_handler;

    run_contained(1, overflow_often, &plain);
    run_contained(1, overflow_often, &handled);
    run_contained(2, overflow_often, &handled);
}

static CONTAINABLE void overflow_or_not(void *arg)
{
    switch ((uintptr_t)arg % 4) {
    case 0: overflow(arg); break;
    case 1: overflow_with_handler(arg); break;
    case 2: coir_yield(); break;
    }
}

static void storm(void *unused)
{
    enum { JOBS = 64 };

    (void)unused;
    for (int round = 0; round < MANY(200); round++) {
        coir_counter c = COIR_COUNTER_INIT;

        for (uintptr_t i = 0; i < JOBS; i++)
            CHECK_EQ(coir_spawn(&c, overflow_or_not, (void *)i), COIR_OK);
        CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    }
}

static void jobs_overflow_while_other_workers_steal(void)
{
    coir_options o = containing(4);
    coir_receipt receipt;
    coir_runtime *rt;
    coir_counter c = COIR_COUNTER_INIT;

    register_containable();
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    CHECK_EQ(coir_submit(rt, &c, storm, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(coir_close(rt, -1, &receipt), COIR_OK);
    CHECK_EQ(receipt.ended[COIR_PANICKED], MANY(200) * 32);
    CHECK_EQ(receipt.ended[COIR_DONE], MANY(200) * 32 + 1);
}

/* ------------------------------------------------------------------ who is on the same stack */

/* With one worker each child runs in place, on the stack of those that wait for it. */
static void wait_below(void *depth)
{
    volatile unsigned char mine[256];
    uintptr_t level = (uintptr_t)depth;

    memset((void *)(uintptr_t)mine, (int)level, sizeof mine);
    if (level == 0)
        CHECK_EQ(outcome_of(overflow, NULL, NULL), COIR_PANICKED);
    else
        CHECK_EQ(outcome_of(wait_below, (void *)(level - 1), NULL), COIR_DONE);
    for (size_t i = 0; i < sizeof mine; i++)
        if (!CHECK_EQ(mine[i], level))
            return;
    CHECK_EQ(outcome_of(overflow_with_handler, NULL, NULL), COIR_PANICKED);
    CHECK_EQ(coir_sleep_until(coir_now() + COIR_US), COIR_OK); /* its fiber can still park */
}

static void waiters_below_the_job_on_its_stack_live_on(void)
{
    run_contained(1, wait_below, (void *)(uintptr_t)4);
    run_contained(2, wait_below, (void *)(uintptr_t)4);
}

static CONTAINABLE void sleep_and_overflow(void *unused)
{
    if (coir_sleep_until(coir_now() + COIR_US) == COIR_OK)
        overflow(unused);
}

static void sleepers(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    for (int i = 0; i < 100; i++)
        CHECK_EQ(coir_spawn(&c, sleep_and_overflow, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
}

static void a_fiber_that_has_been_parked_overflows(void)
{
    run_contained(2, sleepers, NULL);
}

static void try_it(void *unused)
{
    coir_failure f;

    (void)unused;
    for (int i = 0; i < 50; i++) {
        coir_fn *fn = i & 1 ? overflow : overflow_with_handler;

        f.kind = COIR_KIND_NONE;
        if (!CHECK_EQ(coir_try(fn, NULL, &f), COIR_PANICKED))
            return;
        CHECK_EQ(f.kind, COIR_KIND_STACK_OVERFLOW);
        CHECK_EQ(f.job, coir_job_id());
        coir_yield();
    }
}

static void a_try_around_the_place_catches_it(void)
{
    run_contained(1, try_it, NULL);
    run_contained(2, try_it, NULL);
}

static uint64_t control(void)
{
    return arch_fp_get() & ~UINT64_C(0x3f); /* without MXCSR's sticky flags */
}

static void check_control(void *plain)
{
    CHECK_EQ(control(), *(uint64_t *)plain);
}

static void set_rounding(void *plain)
{
    CHECK_EQ(coir_defer(check_control, plain), COIR_OK);
    arch_fp_set(arch_fp_get() ^ ROUNDING);
    overflow(NULL);
}

static void control_words_are_the_waiter_s_again(void *unused)
{
    uint64_t plain = control();

    (void)unused;
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(outcome_of(set_rounding, &plain, NULL), COIR_PANICKED);
        CHECK_EQ(control(), plain);
    }
}

static void a_contained_job_leaves_no_control_words_behind(void)
{
    CHECK_EQ(coir_contain_object((void *)(uintptr_t)set_rounding), COIR_OK);
    run_contained(1, control_words_are_the_waiter_s_again, NULL);
    CHECK_EQ(coir_contain_remove((void *)(uintptr_t)set_rounding), COIR_OK);
}

/* ----------------------------------------------------------------------------------- children */

struct family {
    int begun, ended, canceled;
    volatile int *frame; /* a word in the frame of the job that spawned them */
};

/* Uses its parent's frame for as long as it lives. */
static void child(void *arg)
{
    struct family *f = arg;

    run_count(&f->begun);
    while (!coir_canceled()) {
        CHECK_EQ(*f->frame, 4711);
        coir_yield();
    }
    run_count(&f->canceled);
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(*f->frame, 4711);
        coir_yield();
    }
    run_count(&f->ended);
}

static void sleeping_child(void *arg)
{
    struct family *f = arg;

    run_count(&f->begun);
    CHECK_EQ(coir_sleep_until(coir_now() + 3600 * COIR_SEC), COIR_ECANCELED);
    CHECK_EQ(*f->frame, 4711);
    run_count(&f->canceled);
    run_count(&f->ended);
}

static CONTAINABLE void bear_and_overflow(void *arg)
{
    coir_counter c = COIR_COUNTER_INIT;
    struct family *f = arg;
    volatile int frame = 4711;

    f->frame = &frame;
    for (int i = 0; i < 4; i++)
        (void)!coir_spawn(&c, i & 1 ? child : sleeping_child, f);
    while (__atomic_load_n(&f->begun, __ATOMIC_RELAXED) < 4)
        coir_yield();
    overflow(NULL);
}

static void parent(void *unused)
{
    (void)unused;
    for (int i = 0; i < MANY(200); i++) {
        struct family f = {0};

        CHECK_EQ(outcome_of(bear_and_overflow, &f, NULL), COIR_PANICKED);
        CHECK_EQ(f.ended, 4);
        CHECK_EQ(f.canceled, 4);
    }
}

static void children_are_canceled_and_waited_for_while_the_frames_are_whole(void)
{
    run_contained(1, parent, NULL);
    run_contained(2, parent, NULL);
    run_contained(4, parent, NULL);
}

/* -------------------------------------------------------------------------------- signals */

static volatile int ticks;

static void on_tick(int signal)
{
    (void)signal;
    ticks++;
}

static void let_ticks_in(unsigned worker, void *arg)
{
    sigset_t set;

    (void)worker;
    (void)arg;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static void overflow_until_ticked(void *unused)
{
    (void)unused;
    while (ticks < MANY(2000))
        if (!CHECK_EQ(outcome_of(overflow_with_handler, NULL, NULL), COIR_PANICKED))
            return;
}

static void signals_may_arrive_at_any_moment(void)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct itimerspec often = {{0, 100000}, {0, 100000}};
    struct sigaction sa = {.sa_handler = on_tick, .sa_flags = SA_ONSTACK};
    coir_options o = containing(1);
    sigset_t set;
    timer_t timer;

    register_containable();
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    sigaction(SIGUSR1, &sa, NULL);
    CHECK_EQ(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    timer_settime(timer, 0, &often, NULL);
    o.worker_start = let_ticks_in;
    CHECK_EQ(coir_run(&o, overflow_until_ticked, NULL), COIR_DONE);
    timer_delete(timer);
    signal(SIGUSR1, SIG_IGN);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

/* ------------------------------------------------------------------------------ two runtimes */

static void both(void *other)
{
    coir_counter c = COIR_COUNTER_INIT;

    for (int i = 0; i < 20; i++) {
        CHECK_EQ(coir_submit(other, &c, overflow_with_handler, NULL), COIR_OK);
        CHECK_EQ(outcome_of(overflow_with_handler, NULL, NULL), COIR_PANICKED);
        CHECK_EQ(coir_wait(&c), COIR_PANICKED);
        coir_counter_init(&c);
    }
}

static void two_runtimes_contain_side_by_side(void)
{
    coir_options o = containing(2);
    coir_runtime *a, *b;
    coir_counter c = COIR_COUNTER_INIT;

    register_containable();
    CHECK_EQ(coir_open(&o, &a), COIR_OK);
    CHECK_EQ(coir_open(&o, &b), COIR_OK);
    CHECK_EQ(coir_submit(a, &c, both, b), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    run_close(a);
    CHECK_EQ(coir_submit(b, &c, overflow, NULL), COIR_OK); /* the handler is still there */
    CHECK_EQ(coir_wait(&c), COIR_PANICKED);
    run_close(b);
}

static CONTAINABLE void overflow_holding(void *mutex)
{
    CHECK_EQ(coir_mutex_lock(mutex), COIR_OK);
    overflow(NULL);
}

static void lock_after_overflow(void *unused)
{
    coir_mutex mutex = COIR_MUTEX_INIT;
    coir_counter jobs = COIR_COUNTER_INIT;

    (void)unused;
    CHECK_EQ(coir_spawn(&jobs, overflow_holding, &mutex), COIR_OK);
    CHECK_EQ(coir_wait(&jobs), COIR_PANICKED);
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_EPOISONED);
    CHECK_EQ(coir_mutex_unlock(&mutex), COIR_OK);
}

static void a_lock_that_the_job_holds_is_poisoned(void)
{
    run_contained(2, lock_after_overflow, NULL);
}

CHECK_MAIN(CASE(a_lock_that_the_job_holds_is_poisoned),
           CASE(an_overflow_ends_its_job_with_a_record), CASE(a_large_frame_steps_over_no_guard),
           CASE(a_first_job_that_overflows_is_what_run_returns),
           CASE(an_overflow_is_told_when_it_happens), CASE(ten_thousand_overflows_leak_no_stack),
           CASE(jobs_overflow_while_other_workers_steal),
           CASE(waiters_below_the_job_on_its_stack_live_on),
           CASE(a_fiber_that_has_been_parked_overflows), CASE(a_try_around_the_place_catches_it),
           CASE(a_contained_job_leaves_no_control_words_behind),
           CASE(children_are_canceled_and_waited_for_while_the_frames_are_whole),
           CASE(signals_may_arrive_at_any_moment), CASE(two_runtimes_contain_side_by_side))
