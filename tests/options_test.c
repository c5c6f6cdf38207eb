/* SPDX-License-Identifier: MIT */
/*
 * options_test.c - coir_options: defaults, ranges, sizes of older and newer callers, hooks,
 * names.
 */
#include "run.h"

#include <pthread.h>
#include <signal.h>

static char last_line[512]; /* of the log */
static int lines;

static void keep_line(enum coir_log_level level, const char *text, void *arg)
{
    CHECK(arg == last_line);
    CHECK(level >= COIR_LOG_ERROR && level <= COIR_LOG_INFO);
    CHECK(strchr(text, '\n') == NULL);
    snprintf(last_line, sizeof last_line, "%s", text);
    __atomic_add_fetch(&lines, 1, __ATOMIC_RELAXED);
}

static coir_options logged(void)
{
    coir_options o = run_options(1);

    o.log = keep_line;
    o.log_arg = last_line;
    return o;
}

static void nop(void *unused)
{
    (void)unused;
}

static void opens(const coir_options *o)
{
    coir_runtime *rt = NULL;

    if (CHECK_EQ(coir_open(o, &rt), COIR_OK) && CHECK(rt != NULL))
        run_close(rt);
}

static void refuses(const coir_options *o, int status)
{
    int dummy;
    coir_runtime *rt = (coir_runtime *)(void *)&dummy;

    CHECK_EQ(coir_open(o, &rt), status);
    CHECK(rt == NULL);
}

static void no_options_are_all_defaults(void)
{
    coir_options zero = {.size = sizeof zero};

    opens(NULL);
    opens(&zero);
    CHECK_EQ(coir_run(NULL, nop, NULL), COIR_DONE);
    CHECK_EQ(coir_run(NULL, NULL, NULL), COIR_EINVAL);
    CHECK_EQ(coir_open(&zero, NULL), COIR_EINVAL);
}

/* ------------------------------------------------------------------------------------- ranges */

static void out_of_range(const coir_options *o, const char *name)
{
    char option[64];

    last_line[0] = '\0';
    refuses(o, COIR_ERANGE);
    snprintf(option, sizeof option, "options.%s", name);
    if (!CHECK(strstr(last_line, option) != NULL))
        fprintf(stderr, "    %s is not in: %s\n", option, last_line);
}

#define REFUSES(field, value)                                                                      \
    do {                                                                                           \
        coir_options o = logged();                                                                 \
                                                                                                   \
        o.field = (value);                                                                         \
        out_of_range(&o, #field);                                                                  \
    } while (0)

/* Others are set after it. */
#define OPENS(field, value, ...)                                                                   \
    do {                                                                                           \
        coir_options o = logged();                                                                 \
                                                                                                   \
        o.field = (value);                                                                         \
        __VA_ARGS__;                                                                               \
        opens(&o);                                                                                 \
    } while (0)

static void an_option_out_of_range_is_named(void)
{
    REFUSES(workers, 257);
    REFUSES(workers, ~0u);
    REFUSES(pin, 2);
    REFUSES(stack_bytes, 1);
    REFUSES(stack_bytes, (16 << 10) - 1);
    REFUSES(stack_bytes, (64 << 20) + 1);
    REFUSES(stack_bytes, SIZE_MAX);
    REFUSES(stacks_max, (16 << 20) + 1);
    REFUSES(stacks_max, SIZE_MAX);
    REFUSES(prefault, SIZE_MAX);
    REFUSES(prefault_bytes, (size_t)65537);
    REFUSES(jobs_max, SIZE_MAX);
    REFUSES(share_fp, 2);
    REFUSES(offload_threads, 257);
    REFUSES(faults, (enum coir_faults)3);
    REFUSES(io, (enum coir_io)3);
    REFUSES(panic, (enum coir_panic_policy)2);
    REFUSES(defer_panic, (enum coir_panic_policy)2);
    REFUSES(quiet, 2);
    REFUSES(backtrace, 2);
    REFUSES(park_times, 2);
    REFUSES(records, COIR_RECORDS + 1);
    REFUSES(stall_ns, -1);
    REFUSES(stall_ns, COIR_MS - 1);
    REFUSES(stall_signal, -1);
    REFUSES(stall_signal, 65);
    REFUSES(deadlock, (enum coir_deadlock_policy)3);
    REFUSES(name, "twelve_bytes");
}

static void both_ends_of_a_range_are_inside(void)
{
    OPENS(workers, 64);
    OPENS(pin, 1);
    OPENS(stall_ns, COIR_MS);
    OPENS(stall_ns, COIR_NEVER);
    OPENS(deadlock, COIR_DEADLOCK_FAIL_NEWEST);
    OPENS(stack_bytes, 16 << 10);
    OPENS(stack_bytes, (16 << 10) + 1);
    OPENS(stack_bytes, 64 << 20, o.stacks_max = 16);
    OPENS(stacks_max, 2);
    OPENS(prefault, 100);
    OPENS(prefault_bytes, 65536);
    OPENS(jobs_max, 1);
    OPENS(share_fp, 1);
    OPENS(offload_threads, 256);
    OPENS(spin_ns, -1);
    OPENS(spin_ns, INT64_MIN);
    OPENS(spin_ns, COIR_NEVER);
    OPENS(faults, COIR_FAULTS_REPORT);
    OPENS(faults, COIR_FAULTS_CONTAIN);
    OPENS(io, COIR_IO_EPOLL);
    OPENS(panic, COIR_PANIC_ABORT);
    OPENS(defer_panic, COIR_PANIC_ABORT);
    OPENS(quiet, 1);
    OPENS(backtrace, 1);
    OPENS(park_times, 1);
    OPENS(records, 1);
    OPENS(name, "");
    OPENS(name, "elevenbytes");
}

static void use_stack(void *unused)
{
    volatile char frame[12 << 10];

    (void)unused;
    for (size_t i = 0; i < sizeof frame; i += 1024)
        frame[i] = 1;
    coir_yield();
    CHECK_EQ(frame[1024], 1);
}

static void the_smallest_stack_holds_a_job(void)
{
    coir_options o = run_options(1);

    o.stack_bytes = 20 << 10;
    CHECK_EQ(coir_run(&o, use_stack, NULL), COIR_DONE);
}

/* -------------------------------------------------------------------------------------- sizes */

struct newer {
    coir_options known;
    unsigned char unknown[64];
};

static void older_and_newer_callers_open(void)
{
    struct newer n = {.known = {.size = sizeof n}};

    opens(&n.known);
    n.unknown[63] = 1; /* asks for what this library does not know */
    refuses(&n.known, COIR_EINVAL);
    n.known = (coir_options){.size = sizeof(size_t), .workers = 100000}; /* past its end */
    opens(&n.known);
    for (size_t size = 0; size < sizeof(size_t); size++) {
        n.known.size = size;
        refuses(&n.known, COIR_EINVAL);
    }
}

static void *no_memory(size_t bytes, void *arg)
{
    (void)bytes;
    (void)arg;
    return NULL;
}

static void keep_memory(void *memory, void *arg)
{
    (void)memory;
    (void)arg;
}

static void alloc_and_free_come_together(void)
{
    coir_options only_alloc = {.size = sizeof only_alloc, .alloc = no_memory};
    coir_options only_free = {.size = sizeof only_free, .free = keep_memory};

    refuses(&only_alloc, COIR_EINVAL);
    refuses(&only_free, COIR_EINVAL);
}

/* -------------------------------------------------------------------------- threads and hooks */

static const char *expected_name;

static void check_thread(void *unused)
{
    char name[32];
    sigset_t blocked;

    (void)unused;
    CHECK_EQ(pthread_getname_np(pthread_self(), name, sizeof name), 0);
    CHECK_STR(name, expected_name);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, NULL, &blocked), 0);
    CHECK_EQ(sigismember(&blocked, SIGINT), 1);
    CHECK_EQ(sigismember(&blocked, SIGTERM), 1);
    CHECK_EQ(sigismember(&blocked, SIGCHLD), 1);
    CHECK_EQ(sigismember(&blocked, SIGALRM), 1);
    CHECK_EQ(sigismember(&blocked, SIGSEGV), 0);
    CHECK_EQ(sigismember(&blocked, SIGFPE), 0);
}

static void workers_have_names_and_block_signals(void)
{
    coir_options o = run_options(1);
    sigset_t before, after;

    CHECK_EQ(pthread_sigmask(SIG_BLOCK, NULL, &before), 0);
    expected_name = "coir/0";
    CHECK_EQ(coir_run(&o, check_thread, NULL), COIR_DONE);
    o.name = expected_name = "elevenbytes";
    expected_name = "elevenbytes/0";
    CHECK_EQ(coir_run(&o, check_thread, NULL), COIR_DONE);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, NULL, &after), 0);
    CHECK_EQ(sigismember(&after, SIGINT), sigismember(&before, SIGINT));
}

static unsigned char hooked[64];
static int hooks;

static void on_start(unsigned worker, void *arg)
{
    CHECK(arg == hooked);
    CHECK(coir_current() == NULL);
    if (CHECK(worker < sizeof hooked))
        hooked[worker]++;
    run_count(&hooks);
}

static void check_hooks(void *unused)
{
    (void)unused;
    CHECK_EQ(hooks, 64);
}

static void each_worker_calls_its_hook_before_its_first_job(void)
{
    coir_options o = run_options(64);

    o.worker_start = on_start;
    o.worker_start_arg = hooked;
    hooks = 0;
    memset(hooked, 0, sizeof hooked);
    CHECK_EQ(coir_run(&o, check_hooks, NULL), COIR_DONE);
    for (int i = 0; i < 64; i++)
        CHECK_EQ(hooked[i], 1);
}

static void raise_plain(void *unused)
{
    (void)unused;
    coir_panic("for the log");
}

static void the_log_hook_gets_panics(void)
{
    coir_options o = logged();

    lines = 0;
    CHECK_EQ(coir_run(&o, raise_plain, NULL), COIR_PANICKED);
    CHECK(lines > 0);
    CHECK(strstr(last_line, "for the log") != NULL);
    CHECK(strstr(last_line, "options_test.c:") != NULL);
}

static void check_pinned(void *unused)
{
    cpu_set_t set;

    (void)unused;
    CHECK_EQ(pthread_getaffinity_np(pthread_self(), sizeof set, &set), 0);
    CHECK_EQ(CPU_COUNT(&set), 1);
}

static void pinned_workers_have_one_cpu_each(void)
{
    coir_options o = run_options(1);

    o.pin = 1;
    CHECK_EQ(coir_run(&o, check_pinned, NULL), COIR_DONE);
}

static void count(void *n)
{
    run_count(n);
}

/* In each mode jobs from outside find a worker that has been idle for a while. */
static void run_idle_mode(int64_t spin_ns)
{
    coir_options o = run_options(2);
    coir_runtime *rt;
    int n = 0;

    o.spin_ns = spin_ns;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    for (int i = 0; i < 20; i++) {
        coir_counter c = COIR_COUNTER_INIT;

        CHECK_EQ(coir_sleep_until(coir_now() + i % 3 * 100 * COIR_US), COIR_OK);
        CHECK_EQ(coir_submit(rt, &c, count, &n), COIR_OK);
        CHECK_EQ(coir_wait(&c), COIR_DONE);
    }
    CHECK_EQ(n, 20);
    run_close(rt);
}

static void idle_workers_spin_or_sleep_as_told(void)
{
    run_idle_mode(0);
    run_idle_mode(-1);
    run_idle_mode(10 * COIR_US);
    run_idle_mode(COIR_NEVER);
}

static void poll_mode_never_sleeps(void)
{
    coir_options o = run_options(1);
    coir_runtime *rt;
    coir_stats s;

    o.spin_ns = COIR_NEVER;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    CHECK_EQ(coir_sleep_until(coir_now() + 5 * COIR_MS), COIR_OK);
    CHECK_EQ(coir_stats_read(rt, &s), COIR_OK);
    CHECK_EQ(s.sleeps, 0);
    run_close(rt);
}

static void statuses_have_names_and_texts(void)
{
    CHECK_STR(coir_status_name(COIR_OK), "COIR_OK");
    CHECK_STR(coir_status_name(COIR_ETIMEDOUT), "COIR_ETIMEDOUT");
    CHECK_STR(coir_status_text(COIR_ETIMEDOUT), "deadline passed");
    CHECK_STR(coir_status_name(COIR_PANICKED), "COIR_PANICKED");
    CHECK_STR(coir_status_name(-9999), "COIR_E?");
    for (int kind = 0; kind < COIR_KINDS; kind++)
        CHECK(strcmp(coir_kind_name(kind), "?") != 0);
    for (int location = 0; location < COIR_LOCATIONS; location++)
        CHECK(strcmp(coir_location_name(location), "?") != 0);
    CHECK_STR(coir_kind_name(-1), "?");
    CHECK_STR(coir_kind_name(COIR_KINDS), "?");
    CHECK_STR(coir_location_name(-1), "?");
    CHECK_STR(coir_location_name(COIR_LOCATIONS), "?");
    CHECK_STR(coir_status_text(-9999), "unknown status");
    CHECK_STR(coir_version(), "0.1.0");
}

CHECK_MAIN(CASE(no_options_are_all_defaults), CASE(an_option_out_of_range_is_named),
           CASE(both_ends_of_a_range_are_inside), CASE(the_smallest_stack_holds_a_job),
           CASE(older_and_newer_callers_open), CASE(alloc_and_free_come_together),
           CASE(workers_have_names_and_block_signals),
           CASE(each_worker_calls_its_hook_before_its_first_job), CASE(the_log_hook_gets_panics),
           CASE(pinned_workers_have_one_cpu_each), CASE(idle_workers_spin_or_sleep_as_told),
           CASE(poll_mode_never_sleeps), CASE(statuses_have_names_and_texts))
