/* SPDX-License-Identifier: MIT */
/*
 * isolate_test.c - isolated calls: what goes in and out, how each way to break ends, limits, what is refused.
 */
#include "isolators.h"

#include <fcntl.h>

/* Runs fn(iso) as a job of a runtime with one worker; o NULL: one child. */
static void with(const coir_isolator_options *o, coir_fn *fn)
{
    coir_isolator_options one = iso_options(1);
    coir_isolator *iso = iso_open(o ? o : &one);

    run_on(1, fn, iso);
    CHECK_EQ(coir_isolator_close(iso), COIR_OK);
}

/* ------------------------------------------------------------------------------------ in and out */

static void echo_sizes(void *iso)
{
    static char in[65536], out[65536];

    for (size_t n = 0; n <= sizeof in; n = n ? 2 * n : 1) {
        size_t bytes = sizeof out;

        memset(in, (int)(n & 255) + 1, n);
        memset(out, 0, sizeof out);
        CHECK_EQ(coir_isolate(iso, iso_echo, in, n, out, &bytes, NULL), COIR_DONE);
        CHECK_EQ(bytes, n);
        CHECK(memcmp(in, out, n) == 0);
    }
}

static void a_call_returns_the_bytes_that_its_function_wrote(void)
{
    with(NULL, echo_sizes);
}

static void too_long(void *iso)
{
    char out[2] = "";
    size_t bytes = sizeof out;
    coir_failure f;

    CHECK_EQ(coir_isolate(iso, iso_echo, "echo", 5, out, &bytes, &f), COIR_DONE);
    CHECK_EQ(bytes, 2); /* it was told how much room there is */
    CHECK_EQ(coir_isolate(iso, iso_pid, NULL, 0, out, &bytes, &f), COIR_PANICKED);
    CHECK_EQ(bytes, 0);
    CHECK_EQ(f.kind, COIR_KIND_ISOLATED);
    CHECK_STR(f.message, "it returned 4 bytes, where there is room for 2");
    CHECK_EQ(coir_isolate(iso, iso_echo, "echo", 5, NULL, NULL, NULL), COIR_DONE);
    iso_works(iso);
}

static void a_result_that_has_no_room_is_none(void)
{
    with(NULL, too_long);
}

/* ------------------------------------------------------------------------------------- breaking */

struct way {
    iso_break_fn *fn;
    int outcome, kind, code;
    const char *message; /* how it begins */
};

static void check_way(coir_isolator *iso, const struct way *w)
{
    coir_failure f = {0};
    int outcome = iso_breaks(iso, w->fn, &f, COIR_NEVER);

    CHECK_EQ(f.outcome, outcome);
    CHECK_EQ(f.kind, w->kind);
    CHECK_EQ(f.location, COIR_AT_ISOLATED);
    CHECK(f.job != 0);
    if (SANITIZED && w->kind == COIR_KIND_ISOLATED) {
        CHECK(outcome == COIR_FAILED || outcome == COIR_PANICKED); /* their reports may end in an exit */
    } else {
        CHECK_EQ(outcome, w->outcome);
        CHECK_EQ(f.code, w->code);
        if (!CHECK(strncmp(f.message, w->message, strlen(w->message)) == 0))
            fprintf(stderr, "    it says: %s\n", f.message);
    }
    iso_works(iso);
}

static void break_each_way(void *iso)
{
    static const struct way ways[] = {
        {iso_segv, COIR_PANICKED, COIR_KIND_ISOLATED, SIGSEGV, "SIGSEGV; limits:"},
        {iso_abort, COIR_PANICKED, COIR_KIND_ISOLATED, SIGABRT, "SIGABRT; limits:"},
        {iso_trap, COIR_PANICKED, COIR_KIND_ISOLATED, ISO_TRAP, ISO_TRAP == SIGILL ? "SIGILL; limits:" : "SIGTRAP; limits:"},
        {iso_smash, COIR_PANICKED, COIR_KIND_ISOLATED, SIGSEGV, "SIGSEGV; limits:"},
        {iso_overflow, COIR_PANICKED, COIR_KIND_ISOLATED, SIGSEGV, "SIGSEGV; limits:"},
        {iso_wild_write, COIR_PANICKED, COIR_KIND_ISOLATED, SIGSEGV, "SIGSEGV; limits:"},
        {iso_kill, COIR_PANICKED, COIR_KIND_ISOLATED, SIGKILL, "SIGKILL, by somebody else (out of memory?); limits:"},
        {iso_exit, COIR_FAILED, COIR_KIND_ISOLATED, 3, "exit status 3; limits:"},
        {iso_quick_exit, COIR_FAILED, COIR_KIND_ISOLATED, 4, "exit status 4; limits:"},
        {iso_panic, COIR_PANICKED, COIR_KIND_PANIC, 0, "tests/isolators.h:"},
        {iso_fail, COIR_FAILED, COIR_KIND_FAIL, COIR_EIO, "tests/isolators.h:"},
    };
    coir_stats s;

    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        check_way(iso, &ways[i]);
    CHECK_EQ(coir_stats_read(coir_current(), &s), COIR_OK);
    CHECK_EQ(s.failures_at[COIR_AT_ISOLATED], sizeof ways / sizeof *ways);
    CHECK_EQ(s.failures_of[COIR_KIND_ISOLATED], sizeof ways / sizeof *ways - 2);
}

static void each_way_to_break_is_an_outcome(void)
{
    with(NULL, break_each_way);
}

static int *atexit_pid; /* shared with children */

static void at_exit(void)
{
    *atexit_pid = getpid();
}

static void exit_once(void *iso)
{
    CHECK_EQ(iso_breaks(iso, iso_exit, NULL, COIR_NEVER), COIR_FAILED);
    CHECK_EQ(*atexit_pid, 0);
}

static void exit_in_a_child_runs_no_handlers_of_its_parent(void)
{
    atexit_pid = mmap(NULL, sizeof *atexit_pid, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK_EQ(atexit(at_exit), 0);
    with(NULL, exit_once);
}

/* --------------------------------------------------------------------------------------- limits */

/* How many MiB there are. */
static size_t take_memory(const void *in, size_t in_bytes, void *out, size_t out_max)
{
    int taken = 0;
    volatile char *block;

    (void)in;
    (void)in_bytes;
    (void)out_max;
    for (; taken < 1024 && (block = malloc(1 << 20)); taken++)
        for (int i = 0; i < 1 << 20; i += 4096)
            block[i] = 1;
    memcpy(out, &taken, sizeof taken);
    return sizeof taken;
}

static void run_out_of_memory(void *iso)
{
    int taken = 0;
    size_t bytes = sizeof taken;
    coir_failure f;

    if (!SANITIZED) { /* there malloc ends the process */
        CHECK_EQ(coir_isolate(iso, take_memory, NULL, 0, &taken, &bytes, &f), COIR_DONE);
        if (!CHECK(taken >= 24 && taken <= 32))
            fprintf(stderr, "    %d MiB\n", taken);
        CHECK_EQ(iso_breaks(iso, iso_memory, &f, COIR_NEVER), COIR_PANICKED);
        CHECK_EQ(f.code, SIGSEGV);
        CHECK(strstr(f.message, "limits: memory 32768 KiB") != NULL);
    }
    CHECK(iso_breaks(iso, iso_memory, &f, COIR_NEVER) > COIR_DONE);
    iso_works(iso);
}

static void memory_is_limited(void)
{
    coir_isolator_options o = {.size = sizeof o, .memory_bytes = 32 << 20, .cpu_ns = COIR_NEVER};
    coir_isolator *iso;

    o.time_ns = SANITIZED ? ISO_HANG_NS : 0;
    if (EMULATED)
        CHECK_EQ(coir_isolator_open(&o, &iso), COIR_ENOTSUP); /* the limit would not hold */
    else
        with(&o, run_out_of_memory);
}

static void run_out_of_cpu(void *iso)
{
    coir_failure f;

    CHECK_EQ(iso_breaks(iso, iso_loop, &f, COIR_NEVER), COIR_PANICKED);
    CHECK_EQ(f.code, SIGXCPU);
    CHECK(strncmp(f.message, "SIGXCPU, past its CPU limit; limits:", 36) == 0);
    CHECK(strstr(f.message, "CPU 20 ms") != NULL || strstr(f.message, "memory") != NULL);
    iso_works(iso);
    CHECK_EQ(iso_breaks(iso, iso_stubborn_loop, &f, COIR_NEVER), COIR_PANICKED);
    CHECK_EQ(f.code, SIGKILL);
    CHECK(strncmp(f.message, "SIGKILL, past its CPU limit; limits:", 36) == 0);
    iso_works(iso);
}

static void processor_time_is_limited_whatever_is_blocked(void)
{
    coir_isolator_options o = iso_options(1);

    o.cpu_ns = 20 * COIR_MS;
    o.time_ns = COIR_NEVER;
    with(&o, run_out_of_cpu);
}

static size_t compute(const void *in, size_t in_bytes, void *out, size_t out_max)
{
    clock_t until = clock() + CLOCKS_PER_SEC / 500;

    while (clock() < until)
        ;
    return iso_pid(in, in_bytes, out, out_max);
}

static void compute_on_and_on(void *iso)
{
    pid_t first = iso_child(iso), pid = first;

    for (int i = 0; i < 1000 && pid == first; i++) {
        size_t bytes = sizeof pid;

        CHECK_EQ(coir_isolate(iso, compute, NULL, 0, &pid, &bytes, NULL), COIR_DONE);
    }
    CHECK(pid != first);
}

static void a_child_that_has_used_much_processor_time_is_replaced(void)
{
    coir_isolator_options o = iso_options(1);

    o.cpu_ns = (SLOW ? 100 : 20) * COIR_MS; /* a call takes 2 ms of it */
    with(&o, compute_on_and_on);
}

static void run_out_of_time(void *iso)
{
    coir_failure f;

    CHECK_EQ(iso_breaks(iso, iso_wait, &f, COIR_NEVER), COIR_PANICKED);
    CHECK_EQ(f.kind, COIR_KIND_ISOLATED);
    CHECK_EQ(f.code, 0);
    CHECK(strncmp(f.message, "past its time limit; limits:", 28) == 0);
    iso_works(iso);
}

static void time_is_limited(void)
{
    coir_isolator_options o = iso_options(1);

    o.time_ns = (SLOW ? 1000 : 100) * COIR_MS; /* echoing takes less even there */
    with(&o, run_out_of_time);
}

static void call_the_kernel(void *iso)
{
    coir_failure f;

    CHECK_EQ(iso_breaks(iso, iso_forbidden, &f, COIR_NEVER), COIR_PANICKED);
    CHECK_EQ(f.code, SIGSYS);
    CHECK(strncmp(f.message, "SIGSYS, a forbidden system call; limits:", 40) == 0);
    iso_works(iso);
    if (SANITIZED)
        return; /* their reports need more of the kernel */
    CHECK_EQ(iso_breaks(iso, iso_abort, &f, COIR_NEVER), COIR_PANICKED);
    CHECK_EQ(f.code, SIGABRT);
    CHECK_EQ(iso_breaks(iso, iso_exit, &f, COIR_NEVER), COIR_FAILED);
    CHECK_EQ(iso_breaks(iso, iso_panic, &f, COIR_NEVER), COIR_PANICKED);
    CHECK_EQ(f.kind, COIR_KIND_PANIC);
}

static void a_forbidden_system_call_is_an_outcome(void)
{
    coir_isolator_options o = iso_options(1);
    coir_isolator *iso;

    o.syscalls = COIR_SYSCALLS_COMPUTE;
    if (EMULATED)
        CHECK_EQ(coir_isolator_open(&o, &iso), COIR_ENOSYS); /* built without libseccomp */
    else
        with(&o, call_the_kernel);
}

/* -------------------------------------------------------------------------------- what a child has */

struct what {
    int descriptors, handler, survives, session;
};

static size_t look_around(const void *in, size_t in_bytes, void *out, size_t out_max)
{
    struct what w = {.session = getsid(0) != *(const pid_t *)in};
    struct sigaction now;

    (void)in_bytes;
    (void)out_max;
    for (int fd = 0; fd < 1024; fd++)
        w.descriptors += fcntl(fd, F_GETFD) >= 0;
    sigaction(SIGUSR1, NULL, &now);
    w.handler = now.sa_handler != SIG_DFL;
    w.survives = raise(SIGTERM) == 0 && raise(SIGINT) == 0 && raise(SIGHUP) == 0;
    memcpy(out, &w, sizeof w);
    return sizeof w;
}

static void look_around_once(void *iso)
{
    struct what w;
    size_t bytes = sizeof w;
    pid_t session = getsid(0);

    CHECK_EQ(coir_isolate(iso, look_around, &session, sizeof session, &w, &bytes, NULL), COIR_DONE);
    CHECK_EQ(w.descriptors, 4); /* three, and its socket */
    CHECK_EQ(w.handler, 0);
    CHECK_EQ(w.survives, 1);
    CHECK_EQ(w.session, 1);
}

static void a_child_has_nothing_of_its_parent_but_memory(void)
{
    coir_isolator_options o = iso_options(3);
    int fd = open("/dev/null", O_RDONLY);

    signal(SIGUSR1, check_timeout);
    with(&o, look_around_once);
    signal(SIGUSR1, SIG_DFL);
    close(fd);
}

/* -------------------------------------------------------------------------------------- refused */

static void call_badly(void *iso)
{
    static char in[65537];
    char out[8];
    size_t bytes = sizeof out;

    CHECK_EQ(coir_isolate(NULL, iso_echo, NULL, 0, NULL, NULL, NULL), COIR_EINVAL);
    CHECK_EQ(coir_isolate(iso, NULL, NULL, 0, NULL, NULL, NULL), COIR_EINVAL);
    CHECK_EQ(coir_isolate(iso, iso_echo, NULL, 1, NULL, NULL, NULL), COIR_EINVAL);
    CHECK_EQ(coir_isolate(iso, iso_echo, NULL, 0, out, NULL, NULL), COIR_EINVAL);
    CHECK_EQ(coir_isolate(iso, iso_echo, NULL, 0, NULL, &bytes, NULL), COIR_EINVAL);
    CHECK_EQ(coir_isolate(iso, iso_echo, in, sizeof in, out, &bytes, NULL), COIR_ERANGE);
    CHECK_EQ(coir_isolate_until(iso, iso_echo, NULL, 0, NULL, NULL, NULL, 0), COIR_ETIMEDOUT);
    CHECK_EQ(coir_isolator_close(iso), COIR_EPERM);
    CHECK_EQ(coir_isolator_stats_read(iso, NULL), COIR_EINVAL);
    CHECK_EQ(coir_isolator_stats_read(NULL, NULL), COIR_EINVAL);
    iso_works(iso);
}

static void bad_calls_are_refused(void)
{
    coir_isolator_options one = iso_options(1);
    coir_isolator *iso = iso_open(&one);

    CHECK_EQ(coir_isolate(iso, iso_echo, NULL, 0, NULL, NULL, NULL), COIR_EPERM);
    run_on(1, call_badly, iso);
    CHECK_EQ(coir_isolator_close(iso), COIR_OK);
    CHECK_EQ(coir_isolator_close(NULL), COIR_EINVAL);
}

static int open_with(coir_isolator_options o)
{
    coir_isolator *iso = (coir_isolator *)&o;
    int status = coir_isolator_open(&o, &iso);

    CHECK(iso == NULL);
    return status;
}

static void bad_options_are_refused(void)
{
    struct {
        coir_isolator_options o;
        char more[8];
    } newer = {.o = {.size = sizeof newer}, .more = "x"};
    const size_t size = sizeof(coir_isolator_options);
    coir_isolator *iso;

    CHECK_EQ(coir_isolator_open(NULL, NULL), COIR_EINVAL);
    CHECK_EQ(open_with((coir_isolator_options){.size = 0}), COIR_EINVAL);
    CHECK_EQ(coir_isolator_open(&newer.o, &iso), COIR_EINVAL);
    CHECK_EQ(open_with((coir_isolator_options){.size = size, .children = 129}), COIR_ERANGE);
    CHECK_EQ(open_with((coir_isolator_options){.size = size, .input_max = SIZE_MAX}), COIR_ERANGE);
    CHECK_EQ(open_with((coir_isolator_options){.size = size, .output_max = (1 << 30) + 1}), COIR_ERANGE);
    CHECK_EQ(open_with((coir_isolator_options){.size = size, .memory_bytes = COIR_UNLIMITED - 1}), COIR_ERANGE);
    CHECK_EQ(open_with((coir_isolator_options){.size = size, .cpu_ns = -1}), COIR_ERANGE);
    CHECK_EQ(open_with((coir_isolator_options){.size = size, .time_ns = -1}), COIR_ERANGE);
    CHECK_EQ(open_with((coir_isolator_options){.size = size, .syscalls = COIR_SYSCALLS_COMPUTE + 1}), COIR_ERANGE);
}

static void a_process_with_threads_opens_none(void)
{
    coir_runtime *rt = run_open(1);

    if (!EMULATED) /* it does not say how many there are */
        CHECK_EQ(open_with((coir_isolator_options){.size = sizeof(coir_isolator_options)}), COIR_EBUSY);
    run_close(rt);
}

static void a_runtime_that_aborts_on_panics_may_call(void)
{
    coir_isolator_options one = iso_options(1);
    coir_isolator *iso = iso_open(&one);
    coir_options o = run_options(1);

    o.panic = COIR_PANIC_ABORT;
    CHECK_EQ(coir_run(&o, break_each_way, iso), COIR_DONE);
    CHECK_EQ(coir_isolator_close(iso), COIR_OK);
}

CHECK_MAIN(CASE(a_call_returns_the_bytes_that_its_function_wrote), CASE(a_result_that_has_no_room_is_none),
           CASE(each_way_to_break_is_an_outcome), CASE(exit_in_a_child_runs_no_handlers_of_its_parent),
           CASE(memory_is_limited), CASE(processor_time_is_limited_whatever_is_blocked),
           CASE(a_child_that_has_used_much_processor_time_is_replaced), CASE(time_is_limited),
           CASE(a_forbidden_system_call_is_an_outcome), CASE(a_child_has_nothing_of_its_parent_but_memory),
           CASE(bad_calls_are_refused), CASE(bad_options_are_refused), CASE(a_process_with_threads_opens_none),
           CASE(a_runtime_that_aborts_on_panics_may_call))
