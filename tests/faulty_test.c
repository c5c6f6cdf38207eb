/* SPDX-License-Identifier: MIT */
/*
 * faulty_test.c - each call of the table in faulty.h fails at its n-th use, for every n, once and from there on:
 * whoever asked is told, nothing is left behind, and the runtime can be used or is closed.
 *
 *   faulty_test --table    also prints the calls with how many uses were tried
 */
#include "faulty.h"
#include "faulty_work.h"
#include "run.h"

/* Where memory comes from and what I/O stands on: each way asks the world for other things. */
static const struct way {
    unsigned workers;
    enum coir_io io;
    int hook;
} ways[] = {{2, COIR_IO_AUTO, 1}, {1, COIR_IO_EPOLL, 0}};

static int tried[FAULTY_CALLS]; /* uses at which it has failed, on all ways */

/* Whether the log has said that memory is kept. */
static int kept;

static void listen_for_kept(enum coir_log_level level, const char *text, void *arg)
{
    run_quietly(level, text, arg);
    if (strstr(text, "not given back"))
        kept = 1;
}

static coir_options options_of(const struct way *way)
{
    coir_options o = run_options(way->workers);

    o.io = way->io;
    o.log = listen_for_kept;
    o.alloc = way->hook ? faulty_alloc : NULL;
    o.free = way->hook ? faulty_free : NULL;
    o.stacks_max = 1000;
    o.prefault = 4;
    o.pin = 1;
    o.spin_ns = -1; /* workers sleep, and are woken, as often as they can */
    o.faults = COIR_FAULTS_REPORT;
    o.stall_ns = 1000 * COIR_SEC; /* a watcher is started, and has nothing to say */
    o.deadlock = COIR_DEADLOCK_REPORT;
    return o;
}

#ifdef __SANITIZE_ADDRESS__
/* What is kept has guards in it, which its leak checker would read; the balance is checked here. */
const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}
#endif

/* One run. How often the call has failed. */
static int try(const struct way *way, enum faulty_call call, int at, int for_ever)
{
    coir_options o = options_of(way);
    struct faulty_balance before = faulty_balance(), after;
    int failures = __atomic_load_n(&check_failures, __ATOMIC_RELAXED);

    kept = 0;
    faulty_arm(call, at, for_ever);
    faulty_work(&o, !for_ever);
    faulty_disarm();
    after = faulty_balance();
    CHECK(after.blocks == before.blocks || (kept && after.blocks > before.blocks));
    CHECK_EQ(after.mapped, before.mapped);
    CHECK_EQ(after.threads, before.threads);
    CHECK_EQ(after.descriptors, before.descriptors);
    if (__atomic_load_n(&check_failures, __ATOMIC_RELAXED) != failures)
        fprintf(stderr, "    with %s failing at %d%s\n", faulty_name[call], at, for_ever ? " and ever after" : "");
    return faulty_failed();
}

/* All of them natively; elsewhere some, not the same, as on a machine so busy that a quarter of the call's time has
 * passed. */
static int step(void)
{
    return SLOW || check_seconds() - check_began > CHECK_SECONDS / 4 ? 7 : CHECK_SHARE > 1 ? 5 : 1;
}

/* Until a run passes in which it has not failed. */
static void fail_each_use(const struct way *way, enum faulty_call call, int for_ever)
{
    int at = 1, failed;

    check_begin(CHECK_SECONDS); /* each call has its time */
    while ((failed = try(way, call, at, for_ever)) > 0 && at < 100000) {
        tried[call]++;
        at += step();
    }
}

static void fail_each_call(int for_ever)
{
    faulty_work(&(coir_options){.size = sizeof(coir_options), .log = run_quietly}, true); /* what stays for the life of the process is there now */
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        for (enum faulty_call call = 0; call < FAULTY_CALLS; call++)
            fail_each_use(&ways[i], call, for_ever);
}

static void any_use_of_any_call_may_fail(void)
{
    fail_each_call(0);
}

static void all_uses_of_any_call_from_any_point_may_fail(void)
{
    fail_each_call(1);
}

/* Not a sentence: what --table prints when the others have run. */
static void print_table(void)
{
    int all = 0;

    printf("%-28s uses made to fail, once or from there on\n\n", "call");
    for (int i = 0; i < FAULTY_CALLS; i++) {
        printf("%-28s %5d\n", faulty_name[i], tried[i]);
        all += tried[i];
    }
    printf("%-28s %5d\n", "all", all);
}

int main(int argc, char **argv)
{
    static const struct check_case cases[] = {CASE(any_use_of_any_call_may_fail),
                                              CASE(all_uses_of_any_call_from_any_point_may_fail),
                                              CASE(print_table)};
    bool table = argc == 2 && strcmp(argv[1], "--table") == 0;

    return check_main(cases, table ? 3 : 2, table ? 1 : argc, argv);
}
