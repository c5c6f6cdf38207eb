/* SPDX-License-Identifier: MIT */
/*
 * matrix_dying.c - rows of the propagation matrix: what cannot be contained, the host's own threads and
 * callbacks, and policies. Those that die run in a child, and return if the process survives.
 */
#define COIR_DEBUG /* for ASSERT, which builds leave out */
#include "base.h"
#include "domains.h"
#include "matrix.h"

#include <pthread.h>
#include <unwind.h>

static coir_options one_worker(void)
{
    return run_options(1);
}

static void die_plainly(coir_fn *fn)
{
    coir_options o = one_worker();

    die_in_job(&o, fn);
}

static void panic_here(void *unused)
{
    (void)unused;
    coir_panic("planned");
}

/* ----------------------------------------------------------------------------------- host threads */

void thread_inside_try(struct scene *s)
{
    coir_failure f;
    int outcome = coir_try(panic_here, NULL, &f);

    waiter_saw(s, outcome, &f);
}

void thread_outside(struct scene *s)
{
    panic_here(s);
}

/* ---------------------------------------------------------------------------------------- callbacks */

static void start_hook(unsigned worker, void *unused)
{
    (void)worker;
    (void)unused;
    coir_panic("in a hook");
}

void start_hook_panics(struct scene *s)
{
    coir_options o = one_worker();

    (void)s;
    o.worker_start = start_hook;
    die_in_job(&o, panic_here);
}

static void panic_hook(const coir_failure *f, void *unused)
{
    (void)f;
    (void)unused;
    coir_panic("in a hook");
}

static void sleeping_hook(const coir_failure *f, void *unused)
{
    (void)f;
    (void)unused;
    (void)coir_sleep_until(coir_now() + COIR_SEC);
}

void panic_hook_panics(struct scene *s)
{
    coir_options o = one_worker();

    (void)s;
    o.panic_hook = panic_hook;
    die_in_job(&o, panic_here);
}

void panic_hook_suspends(struct scene *s)
{
    coir_options o = one_worker();

    (void)s;
    o.panic_hook = sleeping_hook;
    die_in_job(&o, panic_here);
}

static void completed(void *unused, int outcome, int64_t ns)
{
    (void)unused;
    (void)outcome;
    (void)ns;
    coir_panic("in a hook");
}

static void completed_asleep(void *unused, int outcome, int64_t ns)
{
    (void)unused;
    (void)outcome;
    (void)ns;
    (void)coir_sleep_until(coir_now() + COIR_SEC);
}

static void panic_in_log(enum coir_log_level level, const char *text, void *unused)
{
    (void)text;
    (void)unused;
    if (level == COIR_LOG_ERROR)
        coir_panic("in a hook");
}

/* Lines are limited by the second, and rows before this one have used some up. */
static void panic_until_logged(void *unused)
{
    while (coir_try(panic_here, unused, NULL) == COIR_PANICKED)
        ;
}

void log_callback_panics(struct scene *s)
{
    coir_options o = one_worker();

    (void)s;
    o.log = panic_in_log;
    die_in_job(&o, panic_until_logged);
}

static void sleep_in_log(enum coir_log_level level, const char *text, void *unused)
{
    (void)text;
    (void)unused;
    if (level == COIR_LOG_ERROR)
        (void)coir_sleep_until(coir_now() + COIR_SEC);
}

void log_callback_suspends(struct scene *s)
{
    coir_options o = one_worker();

    (void)s;
    o.log = sleep_in_log;
    die_in_job(&o, panic_until_logged);
}

static void nop(void *unused)
{
    (void)unused;
}

void metrics_callback_panics(struct scene *s)
{
    coir_metrics m = {.size = sizeof m, .completed = completed};
    coir_options o = one_worker();

    (void)s;
    o.metrics = &m;
    die_in_job(&o, nop);
}

void metrics_callback_suspends(struct scene *s)
{
    coir_metrics m = {.size = sizeof m, .completed = completed_asleep};
    coir_options o = one_worker();

    (void)s;
    o.metrics = &m;
    die_in_job(&o, nop);
}

/* ------------------------------------------------------------------------------------- in the job */

static void panic_in_handler(int number)
{
    (void)number;
    coir_panic("in a handler");
}

static void raise_signal(void *unused)
{
    (void)unused;
    signal(SIGTRAP, panic_in_handler); /* workers do not block what a thread sends to itself by a trap */
    raise(SIGTRAP);
}

void signal_handler_panics(struct scene *s)
{
    (void)s;
    die_plainly(raise_signal);
}

static void panic_again(int *unused)
{
    (void)unused;
    coir_panic("second");
}

static void panic_twice(void *unused)
{
    __attribute__((cleanup(panic_again), unused)) int n = 0;

    (void)unused;
    coir_panic("first");
}

void panic_while_unwinding(struct scene *s)
{
    (void)s;
    die_plainly(panic_twice);
}

static void end_thread(void *unused)
{
    pthread_exit(unused);
}

void job_ends_its_thread(struct scene *s)
{
    (void)s;
#ifdef COIR_TSAN /* it aborts by itself when a fiber ends a thread */
    (void)coir_try(end_thread, NULL, NULL);
#else
    die_plainly(end_thread);
#endif
}

static void throw_rust(void *unused)
{
    static struct _Unwind_Exception e = {.exception_class = UINT64_C(0x4d4f5a0052555354)}; /* "MOZ\0RUST" */

    (void)unused;
    _Unwind_RaiseException(&e);
}

void rust_panic(struct scene *s)
{
    (void)s;
    die_plainly(throw_rust);
}

static void break_invariant(void *unused)
{
    (void)unused;
    ASSERT(1 + 1 == 3);
}

void broken_invariant(struct scene *s)
{
    (void)s;
    die_plainly(break_invariant);
}

static void lock_and_panic(void *unused)
{
    coir_mutex mutex;

    (void)unused;
    CHECK_EQ(coir_mutex_init(&mutex, COIR_MUTEX_ABORT), COIR_OK);
    CHECK_EQ(coir_mutex_lock(&mutex), COIR_OK);
    coir_panic("planned");
}

void mutex_holder_policy_abort(struct scene *s)
{
    (void)s;
    die_plainly(lock_and_panic);
}

static void call_abort(void *unused)
{
    (void)unused;
    abort();
}

void abort_plain(struct scene *s)
{
    (void)s;
    die_plainly(call_abort);
}

/* ----------------------------------------------------------------------------------------- policies */

void panic_policy_abort(struct scene *s)
{
    coir_options o = one_worker();

    (void)s;
    o.panic = COIR_PANIC_ABORT;
    die_in_job(&o, panic_here);
}

static void defer_panic_here(void *unused)
{
    (void)!coir_defer(panic_here, unused);
}

void defer_policy_abort(struct scene *s)
{
    coir_options o = one_worker();

    (void)s;
    o.defer_panic = COIR_PANIC_ABORT;
    die_in_job(&o, defer_panic_here);
}

static void try_count(void *arg)
{
    int *status_and_calls = (int *)arg;

    status_and_calls[0] = coir_try(job_count, &status_and_calls[1], NULL);
}

void try_under_abort(struct scene *s)
{
    coir_options o = run_options(s->workers);
    coir_counter c = COIR_COUNTER_INIT;
    int seen[2] = {0, 0};
    coir_runtime *rt;

    o.panic = COIR_PANIC_ABORT;
    rt = scene_open(&o);
    CHECK_EQ(coir_submit(rt, &c, try_count, seen), COIR_OK);
    waiter_waits(s, &c);
    peer_saw(s, "try %s", outcome_name(seen[0]));
    peer_saw(s, "%s", seen[1] ? "called" : "not called");
    scene_close(rt);
}
