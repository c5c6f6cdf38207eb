/* SPDX-License-Identifier: MIT */
/*
 * deadlock_policy_test.c - options.deadlock: who looks by itself, what is logged, which wait is failed.
 */
#include "circles.h"

static coir_runtime *open_with(unsigned workers, enum coir_deadlock_policy policy)
{
    coir_options o = run_options(workers);
    coir_runtime *rt = NULL;

    o.deadlock = policy;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    return rt;
}

/* Jobs are submitted in order, so the last to park is the newest; all but it go on then. */
static void the_newest_wait_of_a_circle_is_failed(void)
{
    coir_runtime *rt = open_with(1, COIR_DEADLOCK_FAIL_NEWEST);
    coir_counter c[5];
    struct waiter w[5];
    int failed = 0;

    make_ring(rt, c, w, 5);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(coir_wait(&c[i]), COIR_DONE);
    for (int i = 0; i < 5; i++) {
        CHECK(w[i].status == COIR_DONE || w[i].status == COIR_EDEADLK);
        failed += w[i].status == COIR_EDEADLK;
    }
    CHECK_EQ(failed, 1);
    CHECK_EQ(w[4].status, COIR_EDEADLK);
    run_close(rt);
}

/* All workers but one idle: the watcher comes by itself. */
static void a_partial_circle_is_failed_while_others_run(void)
{
    coir_runtime *rt = open_with(2, COIR_DEADLOCK_FAIL_NEWEST);
    coir_counter c[2];
    struct waiter w[2];

    held = released = 0;
    submit(rt, NULL, loop_for_ever, NULL);
    run_until(&held);
    make_ring(rt, c, w, 2);
    CHECK_EQ(coir_wait(&c[0]), COIR_DONE);
    CHECK_EQ(coir_wait(&c[1]), COIR_DONE);
    CHECK_EQ((w[0].status == COIR_EDEADLK) + (w[1].status == COIR_EDEADLK), 1);
    run_set(&released);
    run_close(rt);
}

static int cycle_lines, unowed_lines;

static void count_lines(enum coir_log_level level, const char *text, void *arg)
{
    (void)arg;
    if (level == COIR_LOG_WARNING && strncmp(text, "deadlock: job", 13) == 0 && strstr(text, "since"))
        run_count(&cycle_lines);
    if (strncmp(text, "nothing can run: job", 20) == 0)
        run_count(&unowed_lines);
}

static void reports_name_the_circle_and_leave_it(void)
{
    coir_options o = run_options(2);
    coir_counter c[3], hand = COIR_COUNTER_INIT;
    struct waiter w[3], lonely = {.on = {&hand}};
    coir_runtime *rt;

    cycle_lines = unowed_lines = 0;
    o.deadlock = COIR_DEADLOCK_REPORT;
    o.log = count_lines;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    make_ring(rt, c, w, 3);
    until_lines(&cycle_lines, 3);
    CHECK_EQ(coir_wait_until(&c[0], coir_now() + 50 * COIR_MS), COIR_ETIMEDOUT);
    break_ring(c, 3);
    CHECK_EQ(__atomic_load_n(&cycle_lines, __ATOMIC_RELAXED), 3); /* once */
    coir_counter_add(&hand, 1);
    submit(rt, NULL, wait_as_told, &lonely);
    until_lines(&unowed_lines, 1);
    coir_counter_done(&hand, COIR_DONE);
    run_close(rt);
    CHECK_EQ(lonely.status, COIR_DONE); /* reported, not acted upon */
    CHECK_EQ(unowed_lines, 1);
}

/* Two that wait for each other, and whose names go with them. */
static struct {
    coir_counter c[2];
    char name[2][8];
    int gone, lines; /* that say what they were called */
} named;

static void named_job(void *arg)
{
    char *name = arg;

    CHECK_EQ(coir_job_name(name), COIR_OK);
    (void)!coir_wait(&named.c[name == named.name[0]]);
}

/* The first line comes when one of the waits has been failed; nothing more is said before both jobs are gone. */
static void log_after_their_end(enum coir_log_level level, const char *text, void *arg)
{
    (void)level;
    (void)arg;
    if (strncmp(text, "deadlock: 1 cycle", 17) == 0)
        run_until(&named.gone);
    if (strncmp(text, "deadlock: job", 13) == 0 && (strstr(text, "(first,") || strstr(text, "(second,")))
        run_count(&named.lines);
}

static void who_has_ended_meanwhile_is_named_all_the_same(void)
{
    coir_options o = run_options(2);
    coir_runtime *rt;

    memset(&named, 0, sizeof named);
    strcpy(named.name[0], "first");
    strcpy(named.name[1], "second");
    o.deadlock = COIR_DEADLOCK_FAIL_NEWEST;
    o.log = log_after_their_end;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    coir_counter_add(&named.c[0], 1);
    submit(rt, &named.c[1], named_job, named.name[1]);
    submit(rt, &named.c[0], named_job, named.name[0]);
    coir_counter_done(&named.c[0], COIR_DONE);
    CHECK_EQ(coir_wait(&named.c[0]), COIR_DONE);
    CHECK_EQ(coir_wait(&named.c[1]), COIR_DONE);
    memset(named.name, 'x', sizeof named.name - 1);
    run_set(&named.gone);
    until_lines(&named.lines, 2);
    run_close(rt);
}

CHECK_MAIN(CASE(the_newest_wait_of_a_circle_is_failed),
           CASE(a_partial_circle_is_failed_while_others_run),
           CASE(reports_name_the_circle_and_leave_it), CASE(who_has_ended_meanwhile_is_named_all_the_same))
