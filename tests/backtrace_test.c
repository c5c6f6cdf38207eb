/* SPDX-License-Identifier: MIT */
/*
 * backtrace_test.c - options.backtrace: which frames are kept, how many, and how a failure is
 * printed.
 */
#include "run.h"

#include <fcntl.h>
#include <unwind.h>

/* -------------------------------------------------------------------------- functions to be found */

/* The compiler must keep each call a call, and each function in one piece. */
#define FRAME __attribute__((noinline))
#define NO_TAIL_CALL() __asm__ volatile("" : : : "memory")

static FRAME void raise_bottom(void)
{
    coir_panic("at the %s", "bottom");
}

static FRAME void throw_bottom(void)
{
    static struct _Unwind_Exception e;

    e = (struct _Unwind_Exception){.exception_class = UINT64_C(0x5445535454455354)};
    _Unwind_RaiseException(&e);
    NO_TAIL_CALL();
}

static FRAME void descend(int depth, void (*bottom)(void))
{
    if (depth > 0)
        descend(depth - 1, bottom);
    else
        bottom();
    NO_TAIL_CALL();
}

struct dive {
    int depth;
    void (*bottom)(void);
};

static void dive(void *arg)
{
    const struct dive *d = arg;

    descend(d->depth, d->bottom);
    NO_TAIL_CALL();
}

/* No function here is longer. */
#ifdef __SANITIZE_ADDRESS__
#define LONGEST 1000
#else
#define LONGEST 400
#endif

/* Whether the return address is in the function. */
static int is_in(const void *pc, const void *function)
{
    return (uintptr_t)pc - (uintptr_t)function < LONGEST;
}

#define IS_IN(pc, function) is_in((pc), (const void *)(uintptr_t)(function))

static int frames_of(int depth, void (*bottom)(void), void **pc, coir_failure *f)
{
    struct dive d = {depth, bottom};
    int n;

    CHECK_EQ(coir_try(dive, &d, f), COIR_PANICKED);
    n = coir_failure_frames(coir_current(), f->id, pc, COIR_BACKTRACE_MAX);
    CHECK_EQ(f->backtrace, n ? f->id : 0);
    return n;
}

static void run_traced(unsigned workers, coir_fn *fn, void *arg)
{
    coir_options o = run_options(workers);

    o.backtrace = 1;
    CHECK_EQ(coir_run(&o, fn, arg), COIR_DONE);
}

/* ------------------------------------------------------------------------------------ the frames */

static void trace_panic(void *unused)
{
    void *pc[COIR_BACKTRACE_MAX] = {NULL};
    coir_failure f;
    int n = frames_of(5, raise_bottom, pc, &f);

    (void)unused;
    CHECK(n >= 8); /* and what called dive */
    CHECK(IS_IN(pc[0], raise_bottom));
    for (int i = 1; i <= 6; i++)
        CHECK(IS_IN(pc[i], descend));
    CHECK(IS_IN(pc[7], dive));
}

static void trace_after_moving(void *unused)
{
    (void)unused;
    for (int i = 0; i < 50; i++) {
        CHECK_EQ(coir_sleep_until(coir_now() + 10 * COIR_US), COIR_OK);
        trace_panic(NULL);
    }
}

static void trace_many(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    CHECK_EQ(coir_spawn_many(&c, trace_after_moving, NULL, 0, 8), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void a_panic_keeps_the_frames_from_its_caller_on(void)
{
    run_traced(1, trace_panic, NULL);
    run_traced(2, trace_many, NULL);
}

static void tidy(int *held)
{
    __asm__ volatile("" : : "r"(held) : "memory");
}

/* Its arguments do not fit into registers, so the stack pointer is another in the cleanup than at the call. */
static FRAME int descend_tidily(int depth, long b, long c, long d, long e, long f, long g, long h)
{
    __attribute__((cleanup(tidy))) int outer = depth;

    if (depth > 0) {
        __attribute__((cleanup(tidy))) int inner = depth;

        descend_tidily(depth - 1, b, c, d, e, f, g, h + 1);
        __asm__ volatile("" : : "r"(&inner) : "memory");
    } else if (h) {
        raise_bottom();
    }
    __asm__ volatile("" : : "r"(&outer) : "memory");
    return (int)h;
}

static void dive_tidily(void *unused)
{
    (void)unused;
    descend_tidily(5, 1, 2, 3, 4, 5, 6, 7);
    NO_TAIL_CALL();
}

/* An unwinder passes a frame once more after each of its cleanups. */
static void trace_cleanups(void *unused)
{
    void *pc[COIR_BACKTRACE_MAX] = {NULL};
    coir_failure f;
    int n;

    (void)unused;
    CHECK_EQ(coir_try(dive_tidily, NULL, &f), COIR_PANICKED);
    n = coir_failure_frames(coir_current(), f.id, pc, COIR_BACKTRACE_MAX);
    CHECK(n >= 8 && n < 10);
    CHECK(IS_IN(pc[0], raise_bottom));
    for (int i = 2; i <= 6; i++) /* the first may lie apart: it panics */
        CHECK(IS_IN(pc[i], descend_tidily));
    CHECK(IS_IN(pc[7], dive_tidily));
}

static void a_frame_with_cleanups_is_kept_once(void)
{
    run_traced(1, trace_cleanups, NULL);
}

static void try_inside(void *unused)
{
    void *pc[COIR_BACKTRACE_MAX] = {NULL};
    coir_failure f;

    (void)unused;
    for (int n = frames_of(1, raise_bottom, pc, &f); n > 0; n--)
        CHECK(!IS_IN(pc[n - 1], try_inside));
    descend(0, raise_bottom);
}

static void trace_nested(void *unused)
{
    void *pc[COIR_BACKTRACE_MAX] = {NULL};
    coir_failure f;

    (void)unused;
    CHECK_EQ(coir_try(try_inside, NULL, &f), COIR_PANICKED);
    CHECK(coir_failure_frames(coir_current(), f.id, pc, COIR_BACKTRACE_MAX) <= 4); /* the boundary's is the last */
    CHECK(IS_IN(pc[1], descend));
}

static void they_end_at_the_boundary(void)
{
    run_traced(1, trace_nested, NULL);
}

static void trace_deep(void *unused)
{
    void *pc[COIR_BACKTRACE_MAX] = {NULL};
    coir_failure f;

    (void)unused;
    CHECK_EQ(frames_of(100, raise_bottom, pc, &f), COIR_BACKTRACE_MAX);
    CHECK(IS_IN(pc[COIR_BACKTRACE_MAX - 1], descend));
    pc[1] = NULL;
    CHECK_EQ(coir_failure_frames(coir_current(), f.id, pc, 1), COIR_BACKTRACE_MAX);
    CHECK(pc[1] == NULL); /* only as many as asked */
    CHECK_EQ(coir_failure_frames(coir_current(), f.id, NULL, 0), COIR_BACKTRACE_MAX);
}

static void no_more_than_there_is_room_for(void)
{
    run_traced(1, trace_deep, NULL);
}

static void trace_exception(void *unused)
{
    void *pc[COIR_BACKTRACE_MAX] = {NULL};
    coir_failure f;
    int n = frames_of(3, throw_bottom, pc, &f), at = 0;

    (void)unused;
    CHECK_EQ(f.kind, COIR_KIND_FOREIGN);
    while (at < n && !IS_IN(pc[at], throw_bottom))
        at++; /* the unwinder's own */
    if (CHECK(at + 5 < n)) {
        CHECK(IS_IN(pc[at + 1], descend));
        CHECK(IS_IN(pc[at + 5], dive));
    }
}

static void an_exception_has_the_frames_that_threw_it(void)
{
    run_traced(1, trace_exception, NULL);
}

static void fail_plain(void *unused)
{
    (void)unused;
    coir_fail(1, "an error");
}

static void ask_for_none(void *unused)
{
    void *pc[1];
    coir_failure f;

    (void)unused;
    CHECK_EQ(coir_try(fail_plain, NULL, &f), COIR_FAILED);
    CHECK_EQ(coir_failure_frames(coir_current(), f.id, pc, 1), 0); /* errors have none */
    CHECK_EQ(coir_failure_frames(coir_current(), 0, pc, 1), COIR_ENOENT);
    CHECK_EQ(coir_failure_frames(NULL, f.id, pc, 1), COIR_EINVAL);
    CHECK_EQ(coir_failure_frames(coir_current(), f.id, NULL, 1), COIR_EINVAL);
}

static void trace_off(void *unused)
{
    void *pc[COIR_BACKTRACE_MAX];
    coir_failure f;

    (void)unused;
    CHECK_EQ(frames_of(5, raise_bottom, pc, &f), 0);
}

static void there_is_none_without_the_option_or_for_errors(void)
{
    run_traced(1, ask_for_none, NULL);
    run_on(1, trace_off, NULL);
}

/* -------------------------------------------------------------------------------------- printing */

static char printed[8192];

static void read_printed(coir_runtime *rt, uint64_t id)
{
    int fd[2];
    ssize_t n;

    CHECK_EQ(pipe(fd), 0);
    CHECK_EQ(coir_failure_print(rt, id, fd[1]), COIR_OK);
    close(fd[1]);
    n = read(fd[0], printed, sizeof printed - 1);
    printed[n < 0 ? 0 : n] = '\0';
    close(fd[0]);
}

static void check_printed(const char *word)
{
    if (!CHECK(strstr(printed, word) != NULL))
        fprintf(stderr, "    \"%s\" is not in: %s\n", word, printed);
}

static void print_failures(void *unused)
{
    void *pc[COIR_BACKTRACE_MAX];
    coir_runtime *rt = coir_current();
    int full = open("/dev/full", O_WRONLY);
    coir_failure f;
    char line[64];

    (void)unused;
    frames_of(2, raise_bottom, pc, &f);
    read_printed(rt, f.id);
    snprintf(line, sizeof line, "coir: failure %llu: panic in job at ", (unsigned long long)f.id);
    check_printed(line);
    check_printed("backtrace_test.c:");
    check_printed(": at the bottom\n");
    check_printed("outcome COIR_PANICKED");
    check_printed(" on worker 0, resumed 0 times, at 20");
    snprintf(line, sizeof line, "\n  #0  %p backtrace_test+0x", pc[0]);
    check_printed(line);
    snprintf(line, sizeof line, "\n  #4  %p backtrace_test+0x", pc[4]);
    check_printed(line);
    CHECK_EQ(coir_try(fail_plain, NULL, &f), COIR_FAILED);
    read_printed(rt, f.id);
    check_printed(": fail in job at ");
    check_printed("code 1, outcome COIR_FAILED");
    CHECK(strstr(printed, "#0") == NULL);
    CHECK_EQ(coir_failure_print(rt, f.id, full), COIR_EIO);
    CHECK_EQ(coir_failure_print(rt, f.id, -1), COIR_EIO);
    CHECK_EQ(coir_failure_print(rt, 0, 2), COIR_ENOENT);
    CHECK_EQ(coir_failure_print(NULL, f.id, 2), COIR_EINVAL);
    close(full);
}

static void a_failure_is_printed_for_people(void)
{
    run_traced(1, print_failures, NULL);
}

static char heard[512];

static void hear(enum coir_log_level level, const char *text, void *unused)
{
    (void)level;
    (void)unused;
    snprintf(heard, sizeof heard, "%s", text);
}

static void raise_lines(void *unused)
{
    (void)unused;
    coir_panic("two\nlines \033[31m");
}

static void leave_owed(void *unused)
{
    coir_counter c = COIR_COUNTER_INIT;

    (void)unused;
    CHECK_EQ(coir_spawn(&c, raise_lines, NULL), COIR_OK);
}

static void say_and_print(void *unused)
{
    coir_failure f;

    (void)unused;
    CHECK_EQ(coir_try(raise_lines, NULL, &f), COIR_PANICKED);
    CHECK_STR(f.message, "two\nlines \033[31m");
    CHECK(strstr(heard, "two?lines ?[31m") != NULL);
    read_printed(coir_current(), f.id);
    check_printed("two?lines ?[31m\n");
    CHECK_EQ(coir_try(leave_owed, NULL, &f), COIR_PANICKED);
    CHECK(strncmp(heard, "panic (owed), job ", 18) == 0); /* it has no place */
    read_printed(coir_current(), f.id);
    check_printed(": owed in job: returned while");
}

static void what_a_panic_says_forges_no_line(void)
{
    coir_options o = run_options(1);

    o.log = hear;
    CHECK_EQ(coir_run(&o, say_and_print, NULL), COIR_DONE);
}

static char long_name[600];

static void raise_at_length(void *unused)
{
    (void)unused;
    coir_panic_at(long_name, 1, "%0300d", 7);
}

static void print_at_length(void *unused)
{
    coir_failure f;
    char *end;

    (void)unused;
    memset(long_name, 'x', sizeof long_name - 1);
    CHECK_EQ(coir_try(raise_at_length, NULL, &f), COIR_PANICKED);
    read_printed(coir_current(), f.id);
    end = strchr(printed, '\n');
    CHECK(end != NULL && end - printed < 512);
    CHECK(end != NULL && strncmp(end, "\n  code 0, outcome COIR_PANICKED", 30) == 0);
}

static void a_line_that_does_not_fit_is_cut(void)
{
    run_traced(1, print_at_length, NULL);
}

static void print_in_hook(const coir_failure *f, void *unused)
{
    (void)unused;
    read_printed(coir_current(), f->id);
}

static void raise_once(void *unused)
{
    struct dive d = {1, raise_bottom};

    (void)unused;
    CHECK_EQ(coir_try(dive, &d, NULL), COIR_PANICKED);
}

static void the_hook_may_print_it(void)
{
    coir_options o = run_options(1);

    o.backtrace = 1;
    o.panic_hook = print_in_hook;
    printed[0] = '\0';
    CHECK_EQ(coir_run(&o, raise_once, NULL), COIR_DONE);
    check_printed(": at the bottom\n");
    check_printed("  #0  ");
    check_printed("  #3  "); /* raise_bottom, descend twice, dive: whole, though nothing has unwound yet */
}

CHECK_MAIN(CASE(a_panic_keeps_the_frames_from_its_caller_on), CASE(no_more_than_there_is_room_for),
           CASE(a_frame_with_cleanups_is_kept_once), CASE(they_end_at_the_boundary),
           CASE(an_exception_has_the_frames_that_threw_it),
           CASE(there_is_none_without_the_option_or_for_errors),
           CASE(a_failure_is_printed_for_people), CASE(what_a_panic_says_forges_no_line),
           CASE(a_line_that_does_not_fit_is_cut),
           CASE(the_hook_may_print_it))
