/* SPDX-License-Identifier: MIT */
/*
 * policy_test.c - options.panic, defer_panic, quiet and panic_hook: what a panic does, decided once
 * for a runtime, and who is told first.
 */
#include "child.h"

#define CLEANUP(f) __attribute__((cleanup(f), unused))

static void nop(void *unused)
{
    (void)unused;
}

static void say(const char *text)
{
    if (write(STDERR_FILENO, text, strlen(text)) < 0)
        _exit(1);
}

static void say_unwound(int *unused)
{
    (void)unused;
    say("unwound\n");
}

static void raise_plain(void *unused)
{
    int n CLEANUP(say_unwound) = 0;

    (void)unused;
    coir_panic("plain");
}

/* A runtime with these options runs fn as its first job. */
struct setting {
    coir_options options;
    coir_fn *fn;
};

static void run_setting(void *arg)
{
    const struct setting *s = arg;

    if (coir_run(&s->options, s->fn, NULL) >= COIR_DONE)
        _exit(0);
}

static struct setting setting(coir_fn *fn)
{
    return (struct setting){run_options(1), fn};
}

/* ------------------------------------------------------------------------------- options.panic */

static void return_owing(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_spawn(&c, nop, unused), COIR_OK);
}

static void offload_raising(void *unused)
{
    CHECK_EQ(coir_offload(raise_plain, unused), COIR_PANICKED);
}

static void defer_raising(void *unused)
{
    CHECK_EQ(coir_defer(raise_plain, unused), COIR_OK);
}

static void every_panic_of_the_runtime_aborts(void)
{
    struct setting s = setting(return_owing);

    s.options.panic = COIR_PANIC_ABORT;
    CHILD_DIES(run_setting, &s, SIGABRT, "options.panic", "returned while jobs it spawned");
    s.fn = offload_raising;
    CHILD_DIES(run_setting, &s, SIGABRT, "options.panic", "plain");
    s.fn = defer_raising;
    CHILD_DIES(run_setting, &s, SIGABRT, "options.panic", "plain");
}

static void fail_plain(void *unused)
{
    (void)unused;
    coir_fail(1, "an error is no panic");
}

static int tried;

static void note_try(void *unused)
{
    (void)unused;
    tried++;
}

static void try_under_abort(void *unused)
{
    coir_failure f = {.id = 7};
    coir_counter c = COIR_COUNTER_INIT;
    int n = 0;

    (void)unused;
    CHECK_EQ(coir_try(note_try, NULL, &f), COIR_EPOLICY);
    CHECK_EQ(tried, 0); /* refused, not run bare */
    CHECK_EQ(f.id, 7);
    CHECK_EQ(coir_try(NULL, NULL, &f), COIR_EINVAL);
    CHECK_EQ(coir_offload(note_try, NULL), COIR_DONE);
    CHECK_EQ(coir_defer(nop, &n), COIR_OK);
    CHECK_EQ(coir_spawn(&c, fail_plain, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_FAILED);
}

static void what_needs_containment_refuses_under_abort(void)
{
    struct setting s = setting(try_under_abort);

    s.options.panic = COIR_PANIC_ABORT;
    tried = 0;
    CHECK_EQ(coir_run(&s.options, s.fn, NULL), COIR_DONE);
    CHECK_EQ(coir_try(note_try, NULL, NULL), COIR_DONE); /* a plain thread is of no runtime */
    CHECK_STR(coir_status_name(COIR_EPOLICY), "COIR_EPOLICY");
}

/* One runtime's decision is not another's. */
static void raise_beside_abort(void *unused)
{
    struct setting s = setting(nop);
    coir_runtime *other;

    (void)unused;
    s.options.panic = COIR_PANIC_ABORT;
    if (coir_open(&s.options, &other) != COIR_OK)
        _exit(1);
    s.options.panic = COIR_PANIC_UNWIND;
    s.fn = raise_plain;
    if (coir_run(&s.options, s.fn, NULL) != COIR_PANICKED || coir_close(other, -1, NULL) != COIR_OK)
        _exit(1);
}

static void each_runtime_decides_for_itself(void)
{
    child_ends(raise_beside_abort, NULL);
}

static void handlers_may_abort_while_jobs_are_contained(void)
{
    struct setting s = setting(defer_raising);
    struct child c;

    s.options.defer_panic = COIR_PANIC_ABORT;
    CHILD_DIES(run_setting, &s, SIGABRT, "a panic aborts (options.defer_panic)", "plain");
    s.fn = raise_plain;
    child_run(&c, run_setting, &s);
    CHECK_EQ(c.status, 0);
    CHECK_STR(c.text, "unwound\n");
}

/* ------------------------------------------------------------------------------- options.quiet */

static int lines, untold; /* panics told, and those that these lines say were not */

static void count_line(enum coir_log_level level, const char *text, void *unused)
{
    const char *more = strstr(text, "again and again (and ");

    (void)unused;
    lines += level == COIR_LOG_ERROR && strstr(text, "again and again") != NULL;
    untold += more ? atoi(more + strlen("again and again (and ")) : 0;
}

static void raise_again(void *unused)
{
    (void)unused;
    coir_panic("again and again");
}

static void raise_fifty(void *unused)
{
    coir_stats s;

    (void)unused;
    for (int i = 0; i < 50; i++)
        CHECK_EQ(coir_try(raise_again, NULL, NULL), COIR_PANICKED);
    CHECK_EQ(coir_stats_read(coir_current(), &s), COIR_OK);
    CHECK_EQ(s.panics, 50);
    CHECK_EQ(s.records, 50);
    CHECK_EQ(s.held_back + (uint64_t)lines, lines ? 50 : 0);
}

/* Ten a second and place, in as many seconds as the run takes. */
static void lines_are_limited_and_what_is_held_back_is_counted(void)
{
    coir_options o = run_options(1);
    int64_t first = coir_now() / COIR_SEC, seconds;

    o.log = count_line;
    lines = 0;
    CHECK_EQ(coir_run(&o, raise_fifty, NULL), COIR_DONE);
    seconds = coir_now() / COIR_SEC - first + 1;
    CHECK(lines >= 10 && lines <= 10 * seconds);
}

/* Until a line is told that speaks of those before it; 20 seconds are more than enough. */
static void raise_until_all_is_told(void *unused)
{
    int64_t end = coir_now() + 20 * COIR_SEC;
    int raised = 0, told = 0;

    (void)unused;
    for (int said = 0; !said && coir_now() < end; told = lines) {
        CHECK_EQ(coir_try(raise_again, NULL, NULL), COIR_PANICKED);
        raised++;
        said = lines > told && untold > 0;
    }
    CHECK(untold > 0);
    CHECK_EQ(lines + untold, raised);
}

static void what_is_held_back_is_told_with_the_next_line(void)
{
    coir_options o = run_options(1);

    o.log = count_line;
    lines = untold = 0;
    CHECK_EQ(coir_run(&o, raise_until_all_is_told, NULL), COIR_DONE);
}

static void each_runtime_has_a_log_and_a_limit_of_its_own(void)
{
    coir_options o = run_options(1);

    o.log = count_line;
    for (int i = 0; i < 5; i++) { /* all in one second, or nearly */
        lines = 0;
        CHECK_EQ(coir_run(&o, raise_fifty, NULL), COIR_DONE);
        CHECK(lines >= 10);
    }
}

static void quiet_keeps_panics_out_of_the_log_only(void)
{
    coir_options o = run_options(1);

    o.log = count_line;
    o.quiet = 1;
    lines = 0;
    CHECK_EQ(coir_run(&o, raise_fifty, NULL), COIR_DONE);
    CHECK_EQ(lines, 0);
}

/* --------------------------------------------------------------------------------- panic_hook */

static coir_failure hooked;
static int hooks;
static char hook_arg[] = "hook's";

static void keep_failure(const coir_failure *f, void *arg)
{
    char text[COIR_TEXT_BYTES];

    CHECK(arg == hook_arg);
    CHECK_EQ(coir_current() != NULL, f->location != COIR_AT_OFFLOAD);
    if (coir_current()) { /* it is kept already, so the hook can print all of it */
        CHECK_EQ(coir_failure_text(coir_current(), f->id, text, sizeof text), COIR_OK);
        CHECK(strncmp(text, f->message, COIR_MESSAGE_BYTES - 1) == 0);
    }
    hooked = *f;
    hooks++;
}

static int unwound;

static void note_unwound(int *unused)
{
    (void)unused;
    unwound++;
    CHECK_EQ(hooks, 1); /* the hook came first */
}

static void raise_watched(void *unused)
{
    int n CLEANUP(note_unwound) = 0;

    (void)unused;
    coir_panic("watched");
}

static void call_hook(void *unused)
{
    coir_failure f;

    (void)unused;
    hooks = unwound = 0;
    CHECK_EQ(coir_try(raise_watched, NULL, &f), COIR_PANICKED);
    CHECK_EQ(hooks, 1);
    CHECK_EQ(unwound, 1);
    CHECK_EQ(hooked.id, f.id);
    CHECK_STR(hooked.message, "watched");
    CHECK_EQ(coir_try(return_owing, NULL, &f), COIR_PANICKED);
    CHECK_EQ(hooks, 2);
    CHECK_EQ(hooked.kind, COIR_KIND_OWED);
    CHECK_EQ(coir_offload(raise_again, NULL), COIR_PANICKED);
    CHECK_EQ(hooks, 3);
    CHECK_EQ(coir_try(fail_plain, NULL, NULL), COIR_FAILED); /* an error: no panic */
    CHECK_EQ(hooks, 3);
}

static void the_hook_learns_of_each_panic_first(void)
{
    coir_options o = run_options(1);

    o.panic_hook = keep_failure;
    o.panic_hook_arg = hook_arg;
    CHECK_EQ(coir_run(&o, call_hook, NULL), COIR_DONE);
    CHECK_EQ(coir_try(raise_again, NULL, NULL), COIR_PANICKED);
    CHECK_EQ(hooks, 3); /* a plain thread's is nobody's */
}

static void spawn_in_hook(const coir_failure *f, void *counter)
{
    (void)f;
    for (volatile int i = 0; i < 100000; i = i + 1) /* slow */
        ;
    CHECK_EQ(coir_spawn(counter, nop, NULL), COIR_OK);
}

static coir_counter from_hook;

static void raise_and_wait(void *unused)
{
    (void)unused;
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(coir_try(raise_again, NULL, NULL), COIR_PANICKED);
        coir_yield();
    }
    CHECK_EQ(coir_wait_until(&from_hook, coir_now() + 1000 * COIR_SEC), COIR_DONE);
}

static void a_hook_may_be_slow_and_spawn(void)
{
    coir_options o = run_options(2);

    o.panic_hook = spawn_in_hook;
    o.panic_hook_arg = &from_hook;
    coir_counter_init(&from_hook);
    CHECK_EQ(coir_run(&o, raise_and_wait, NULL), COIR_DONE);
}

static void say_hook(const coir_failure *f, void *unused)
{
    (void)unused;
    say("hook: ");
    say(f->message);
    say("\n");
}

static void raise_twice(int *unused)
{
    (void)unused;
    coir_panic("second");
}

static void raise_over_raise(void *unused)
{
    int n CLEANUP(raise_twice) = 0;

    (void)unused;
    coir_panic("first");
}

static void the_hook_comes_before_an_abort_too(void)
{
    struct setting s = setting(raise_plain);

    s.options.panic_hook = say_hook;
    s.options.panic = COIR_PANIC_ABORT;
    CHILD_DIES(run_setting, &s, SIGABRT, "hook: plain\ncoir: fatal: a panic aborts");
    s.options.panic = COIR_PANIC_UNWIND;
    s.fn = raise_over_raise;
    CHILD_DIES(run_setting, &s, SIGABRT, "hook: first\nhook: second\ncoir: fatal: panic while an earlier");
}

/* ---------------------------------------------------------------------------- hooks that misbehave */

static void try_in_hook(const coir_failure *f, void *unused)
{
    (void)f;
    (void)unused;
    if (coir_try(raise_plain, NULL, NULL) == COIR_PANICKED)
        _exit(0);
}

static void a_panic_in_the_hook_aborts(void)
{
    struct setting s = setting(raise_plain);

    s.options.panic_hook = try_in_hook; /* not even inside a boundary: it would call itself */
    CHILD_DIES(run_setting, &s, SIGABRT, "fatal: panic in the panic hook: ", "plain");
    s.fn = offload_raising;
    CHILD_DIES(run_setting, &s, SIGABRT, "fatal: panic in the panic hook: ", "plain");
}

static void wait_in_hook(const coir_failure *f, void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)f;
    (void)unused;
    coir_counter_add(&c, 1);
    if (coir_wait(&c) == COIR_DONE)
        _exit(0);
}

static void yield_in_hook(const coir_failure *f, void *unused)
{
    (void)f;
    (void)unused;
    coir_yield();
}

static void spawn_and_raise(void *unused)
{
    if (coir_spawn(NULL, nop, unused) == COIR_OK) /* somebody to yield to */
        raise_plain(unused);
}

static void a_hook_that_suspends_aborts(void)
{
    struct setting s = setting(raise_plain);

    s.options.panic_hook = wait_in_hook;
    CHILD_DIES(run_setting, &s, SIGABRT, "fatal: the panic hook must not suspend");
    s.options.panic_hook = yield_in_hook;
    s.fn = spawn_and_raise;
    CHILD_DIES(run_setting, &s, SIGABRT, "fatal: the panic hook must not suspend");
}

static void containment_of_faults_cannot_be_had_with_it(void)
{
    coir_options o = run_options(1);
    coir_runtime *rt;

    o.panic = COIR_PANIC_ABORT;
    o.faults = COIR_FAULTS_CONTAIN;
    CHECK_EQ(coir_open(&o, &rt), COIR_EPOLICY);
    CHECK(rt == NULL);
}

CHECK_MAIN(CASE(containment_of_faults_cannot_be_had_with_it),
           CASE(every_panic_of_the_runtime_aborts), CASE(what_needs_containment_refuses_under_abort),
           CASE(each_runtime_decides_for_itself), CASE(handlers_may_abort_while_jobs_are_contained),
           CASE(lines_are_limited_and_what_is_held_back_is_counted),
           CASE(what_is_held_back_is_told_with_the_next_line),
           CASE(each_runtime_has_a_log_and_a_limit_of_its_own),
           CASE(quiet_keeps_panics_out_of_the_log_only), CASE(the_hook_learns_of_each_panic_first),
           CASE(a_hook_may_be_slow_and_spawn), CASE(the_hook_comes_before_an_abort_too),
           CASE(a_panic_in_the_hook_aborts), CASE(a_hook_that_suspends_aborts))
