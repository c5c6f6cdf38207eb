/* SPDX-License-Identifier: MIT */
/*
 * isolate_forks_test.c - processes that a child of an isolator has forked end with it.
 */
#include "isolators.h"

#include <errno.h>
#include <sys/ptrace.h>

static void with(unsigned workers, const coir_isolator_options *o, coir_fn *fn)
{
    coir_isolator *iso = iso_open(o);

    run_on(workers, fn, iso);
    CHECK_EQ(coir_isolator_close(iso), COIR_OK);
}

/* Two processes that want to stay: in a session of their own, deaf to what can be ignored, each the other's parent or
 * child, one of them in the middle of writing all over the slot's memory. Returns their numbers. */
static size_t leave_two(const void *in, size_t in_bytes, void *out, size_t out_max)
{
    pid_t first, second, *pid = out; /* shared by all of them */
    int ready[2];
    char byte;

    (void)in;
    (void)in_bytes;
    if (out_max < 2 * sizeof *pid || pipe(ready) != 0)
        return 0;
    first = fork();
    if (first == 0) {
        setsid();
        for (int i = 1; i < NSIG; i++)
            signal(i, SIG_IGN);
        second = fork();
        while (second == 0)
            pause();
        pid[1] = second;
        byte = (char)write(ready[1], "", 1);
        for (unsigned i = 2 * sizeof *pid;; i = i < 4095 ? i + 1 : 2 * sizeof *pid)
            ((volatile char *)out)[i] = byte;
    }
    pid[0] = first;
    return read(ready[0], &byte, 1) == 1 ? 2 * sizeof *pid : 0;
}

/* Forks for ever, each process gone as soon as there is the next. */
static void run_away(void)
{
    if (fork() > 0)
        iso_segv();
    for (;;)
        if (fork() > 0)
            _exit(0);
}

static void leave_them(coir_isolator *iso, pid_t *pid)
{
    size_t bytes = 2 * sizeof *pid;

    CHECK_EQ(coir_isolate(iso, leave_two, NULL, 0, pid, &bytes, NULL), COIR_DONE);
    CHECK_EQ(bytes, 2 * sizeof *pid);
    CHECK_EQ(kill(pid[0], 0), 0);
    CHECK_EQ(kill(pid[1], 0), 0);
}

static void check_gone(const pid_t *pid)
{
    CHECK(kill(pid[0], 0) < 0 && errno == ESRCH);
    CHECK(kill(pid[1], 0) < 0 && errno == ESRCH);
}

static void leave_processes(void *iso)
{
    static iso_break_fn *const ways[] = {iso_segv, iso_exit, iso_kill};
    pid_t pid[2];

    for (size_t i = 0; i < 3; i++) {
        leave_them(iso, pid);
        CHECK(iso_breaks(iso, ways[i], NULL, COIR_NEVER) > COIR_DONE);
        iso_works(iso);
        check_gone(pid);
    }
    CHECK(iso_breaks(iso, run_away, NULL, COIR_NEVER) > COIR_DONE);
    iso_works(iso);
    leave_them(iso, pid);
    CHECK_EQ(iso_breaks(iso, iso_wait, NULL, iso_within(COIR_MS)), COIR_ETIMEDOUT);
    iso_works(iso);
    check_gone(pid);
}

static void what_a_child_has_forked_is_gone_before_the_next_serves(void)
{
    coir_isolator_options o = iso_options(1);

    if (!EMULATED) /* emulators know no subreaper */
        with(1, &o, leave_processes);
}

/* An orphan whose end its debugger, this child, does not take note of. Returns whether it may debug. */
static size_t hold_an_orphan(const void *in, size_t in_bytes, void *out, size_t out_max)
{
    pid_t parent, orphan;
    int numbers[2];

    (void)in;
    (void)in_bytes;
    (void)out;
    (void)out_max;
    if (pipe(numbers) != 0)
        return 0;
    parent = fork();
    if (parent == 0) {
        orphan = fork();
        while (orphan == 0)
            pause();
        if (write(numbers[1], &orphan, sizeof orphan) == sizeof orphan)
            pause();
        _exit(1);
    }
    if (read(numbers[0], &orphan, sizeof orphan) == sizeof orphan)
        ptrace(PTRACE_SEIZE, orphan, NULL, NULL); /* if it may not, the orphan is as any other */
    kill(parent, SIGKILL);
    waitpid(parent, NULL, 0);
    return 0;
}

static void wait_in_child(void *iso)
{
    CHECK_EQ(iso_breaks(iso, iso_wait, NULL, COIR_NEVER), COIR_ECANCELED);
}

static void use_another_slot(void *iso)
{
    coir_counter c = COIR_COUNTER_INIT;
    coir_stats s;

    CHECK_EQ(coir_isolate(iso, hold_an_orphan, NULL, 0, NULL, NULL, NULL), COIR_DONE);
    CHECK_EQ(coir_spawn(&c, wait_in_child, iso), COIR_OK); /* in the same child */
    do {
        coir_yield();
        CHECK_EQ(coir_stats_read(coir_current(), &s), COIR_OK);
    } while (s.parked == 0);
    CHECK(iso_breaks(iso, iso_segv, NULL, COIR_NEVER) > COIR_DONE);
    iso_works(iso);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void an_orphan_that_cannot_end_holds_nobody_up_for_long(void)
{
    coir_isolator_options o = iso_options(2);

    if (!EMULATED)
        with(1, &o, use_another_slot);
}

static pid_t left[2];

static void leave_them_to_the_close(void *iso)
{
    leave_them(iso, left);
}

static void a_close_ends_what_children_have_forked(void)
{
    coir_isolator_options o = iso_options(1);

    if (EMULATED)
        return;
    with(1, &o, leave_them_to_the_close);
    check_gone(left);
}

CHECK_MAIN(CASE(what_a_child_has_forked_is_gone_before_the_next_serves), CASE(a_close_ends_what_children_have_forked),
           CASE(an_orphan_that_cannot_end_holds_nobody_up_for_long))
