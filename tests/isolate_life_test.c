/* SPDX-License-Identifier: MIT */
/*
 * isolate_life_test.c - children of an isolator: who waits for one, when they are replaced, how all of them end.
 */
#include "isolators.h"

#include "isolate.h"

#include <poll.h>
#include <sys/syscall.h>

static void with(unsigned workers, const coir_isolator_options *o, coir_fn *fn)
{
    coir_isolator *iso = iso_open(o);

    run_on(workers, fn, iso);
    CHECK_EQ(coir_isolator_close(iso), COIR_OK);
}

/* ------------------------------------------------------------------------------------ many calls */

static struct {
    coir_isolator *iso;
    int calls, wrong;
} crowd;

static void call_often(void *unused)
{
    uint64_t in[64], out[64];

    (void)unused;
    for (int i = 0; i < MANY(200); i++) {
        size_t n = (size_t)i % 64 * sizeof *in, bytes = sizeof out;

        for (int k = 0; k < 64; k++)
            in[k] = coir_job_id() * 1000 + (uint64_t)i;
        if (coir_isolate(crowd.iso, iso_echo, in, n, out, &bytes, NULL) != COIR_DONE || bytes != n ||
            memcmp(in, out, n) != 0)
            run_count(&crowd.wrong);
        run_count(&crowd.calls);
    }
}

static void spawn_crowd(void *iso)
{
    coir_counter c = COIR_COUNTER_INIT;

    crowd.iso = iso;
    CHECK_EQ(coir_spawn_many(&c, call_often, NULL, 0, 12), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

static void calls_of_many_jobs_each_get_their_own_result(void)
{
    coir_isolator_options o = iso_options(4);
    coir_options r = run_options(2);
    coir_isolator_stats s;
    coir_isolator *iso = iso_open(&o);

    for (int io = COIR_IO_AUTO; io <= COIR_IO_EPOLL; io += COIR_IO_EPOLL) {
        r.io = (enum coir_io)io;
        CHECK_EQ(coir_run(&r, spawn_crowd, iso), COIR_DONE);
    }
    CHECK_EQ(crowd.wrong, 0);
    CHECK_EQ(coir_isolator_stats_read(iso, &s), COIR_OK);
    CHECK_EQ(s.calls, crowd.calls);
    CHECK_EQ(s.broken, 0);
    CHECK_EQ(coir_isolator_close(iso), COIR_OK);
}

/* --------------------------------------------------------------------------------------- leaving */

struct waiting {
    coir_isolator *iso;
    int64_t deadline;
    int status;
};

static void wait_in_child(void *arg)
{
    struct waiting *w = arg;

    w->status = iso_breaks(w->iso, iso_wait, NULL, w->deadline);
}

static void cancel_it(void *iso)
{
    struct waiting w = {.iso = iso, .deadline = COIR_NEVER};
    coir_counter c = COIR_COUNTER_INIT;
    coir_stats s;

    CHECK_EQ(coir_spawn(&c, wait_in_child, &w), COIR_OK);
    do { /* on the only worker: the wait for a child does not hold it up */
        coir_yield();
        CHECK_EQ(coir_stats_read(coir_current(), &s), COIR_OK);
    } while (s.parked == 0);
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    CHECK_EQ(w.status, COIR_ECANCELED);
    iso_works(iso);
}

static void a_call_can_be_canceled_and_holds_up_nobody(void)
{
    coir_isolator_options o = iso_options(1);

    with(1, &o, cancel_it);
}

static void be_late(void *iso)
{
    coir_isolator_stats s;
    pid_t before = iso_child(iso);

    CHECK_EQ(iso_breaks(iso, iso_wait, NULL, iso_within(20 * COIR_MS)), COIR_ETIMEDOUT);
    CHECK(iso_child(iso) != before);
    CHECK_EQ(coir_isolator_stats_read(iso, &s), COIR_OK);
    CHECK_EQ(s.left, 1);
    CHECK_EQ(s.replaced, 1);
}

static void a_call_past_its_deadline_is_killed(void)
{
    coir_isolator_options o = iso_options(1);

    with(1, &o, be_late);
}

static void compete(void *iso)
{
    struct waiting first = {.iso = iso, .deadline = COIR_NEVER}, second = {.iso = iso};
    coir_counter c = COIR_COUNTER_INIT, d = COIR_COUNTER_INIT;
    coir_stats s;

    CHECK_EQ(coir_spawn(&c, wait_in_child, &first), COIR_OK);
    do {
        coir_yield();
        CHECK_EQ(coir_stats_read(coir_current(), &s), COIR_OK);
    } while (s.parked == 0);
    second.deadline = iso_within(20 * COIR_MS);
    CHECK_EQ(coir_spawn(&d, wait_in_child, &second), COIR_OK);
    CHECK_EQ(coir_wait(&d), COIR_DONE);
    CHECK_EQ(second.status, COIR_ETIMEDOUT); /* the only child is taken */
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    iso_works(iso);
}

static void a_wait_for_a_free_child_has_the_deadline_too(void)
{
    coir_isolator_options o = iso_options(1);

    with(1, &o, compete);
}

/* ------------------------------------------------------------------------------------ replacement */

static void call_twice(void *iso)
{
    pid_t first = iso_child(iso);

    CHECK_EQ(iso_child(iso), first);
    CHECK(iso_breaks(iso, iso_segv, NULL, COIR_NEVER) > COIR_DONE);
    CHECK(iso_child(iso) != first);
}

static void a_child_serves_on_until_it_breaks(void)
{
    coir_isolator_options o = iso_options(1);

    with(1, &o, call_twice);
}

static void call_three_times(void *iso)
{
    pid_t first = iso_child(iso), third;

    CHECK_EQ(iso_child(iso), first);
    third = iso_child(iso);
    CHECK(third != first);
    CHECK_EQ(iso_child(iso), third);
    CHECK(iso_child(iso) != third);
}

static void a_child_is_replaced_after_calls_max(void)
{
    coir_isolator_options o = iso_options(1);

    o.calls_max = 2;
    with(1, &o, call_three_times);
}

static void kill_idle(void *iso)
{
    for (int i = 0; i < MANY(200); i++) {
        pid_t child = iso_child(iso);

        kill(child, SIGKILL);
        CHECK(iso_child(iso) != child); /* called once, and in another */
    }
}

static void a_child_that_is_killed_while_idle_costs_no_call(void)
{
    coir_isolator_options o = iso_options(1);

    with(1, &o, kill_idle);
}

static void kill_template(void *iso)
{
    struct waiting w = {.iso = iso, .deadline = COIR_NEVER};
    coir_counter c = COIR_COUNTER_INIT;
    coir_stats s;

    CHECK_EQ(coir_spawn(&c, wait_in_child, &w), COIR_OK);
    do {
        coir_yield();
        CHECK_EQ(coir_stats_read(coir_current(), &s), COIR_OK);
    } while (s.parked == 0);
    kill(((struct coir_isolator *)iso)->template, SIGKILL);
    CHECK_EQ(coir_wait(&c), COIR_DONE); /* its child has ended with the template */
    /* An emulator has a thread of its own in the template, which may hold its sockets open a little longer. */
    CHECK(w.status == COIR_ECHILD || (SLOW && w.status == COIR_PANICKED));
    CHECK_EQ(iso_breaks(iso, iso_wait, NULL, COIR_NEVER), COIR_ECHILD);
}

static void without_its_template_an_isolator_says_so(void)
{
    coir_isolator_options o = iso_options(2);

    with(1, &o, kill_template);
}

/* ------------------------------------------------------------------------------- what is not shared */

/* A child writes where its parent has what another call returns; its own memory may lie there for it. */
static size_t scribble(const void *in, size_t in_bytes, void *out, size_t out_max)
{
    char *at;

    (void)out;
    (void)out_max;
    memcpy(&at, in, in_bytes);
    *(volatile char *)at = 'x';
    return 0;
}

/* Who calls alone is served by the same slot each time, the last. */
static void scribble_on_another(void *iso)
{
    struct coir_isolator *i = iso;

    for (int k = 0; k < 2; k++) {
        char *at = i->slot[k].out + i->plan.out_bytes - 1;

        CHECK(coir_isolate(iso, scribble, &at, sizeof at, NULL, NULL, NULL) >= COIR_DONE);
        CHECK_EQ(i->slot[0].out[i->plan.out_bytes - 1], 0);
        CHECK_EQ(i->slot[0].calls, 0);
    }
}

static void a_child_reaches_no_memory_of_other_calls(void)
{
    coir_isolator_options o = iso_options(2);

    if (!SLOW) /* sanitizers say it in their own way; emulators share what they should not */
        with(1, &o, scribble_on_another);
}

/* ----------------------------------------------------------------------------------------- closing */

static void a_fork_that_lives_on_does_not_hold_up_a_close(void)
{
    coir_isolator_options o = iso_options(1);
    coir_isolator *iso = iso_open(&o);
    pid_t other = fork();

    if (other == 0) {
        check_begin(CHECK_SECONDS); /* not inherited */
        for (;;)
            pause();
    }
    CHECK_EQ(coir_isolator_close(iso), COIR_OK);
    CHECK_EQ(kill(other, SIGKILL), 0);
    CHECK_EQ(waitpid(other, NULL, 0), other);
}

static void says_hello(void)
{
    printf("hello\n");
    fflush(stdout);
    _exit(7);
}

static void say_hello(void *iso)
{
    coir_failure f;

    CHECK_EQ(iso_breaks(iso, says_hello, &f, COIR_NEVER), COIR_FAILED);
    CHECK_EQ(f.code, 7);
    iso_works(iso);
}

/* As of a service that was started with none. */
static void an_isolator_needs_no_standard_streams(void)
{
    int status = -1;
    pid_t pid = fork();

    if (pid == 0) {
        coir_isolator_options o = iso_options(2);

        check_begin(CHECK_SECONDS); /* not inherited */
        for (int fd = 0; fd < 3; fd++)
            close(fd);
        with(1, &o, say_hello);
        _exit(check_failures != 0);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
}

/* -------------------------------------------------------------------------------- nothing is left */

static int count_descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    int n = 0;

    while (d && readdir(d))
        n++;
    closedir(d);
    return n;
}

static int maps_its_memory(void)
{
    FILE *f = fopen("/proc/self/maps", "r");
    char line[512];
    int n = 0;

    while (f && fgets(line, sizeof line, f))
        n += strstr(line, "coir-isolate") != NULL;
    fclose(f);
    return n;
}

static void break_and_leave(void *iso)
{
    static iso_break_fn *const ways[] = {iso_segv, iso_abort, iso_exit, iso_panic, iso_fail};

    for (size_t i = 0; i < 5; i++)
        CHECK(iso_breaks(iso, ways[i], NULL, COIR_NEVER) > COIR_DONE);
    CHECK_EQ(iso_breaks(iso, iso_wait, NULL, iso_within(COIR_MS)), COIR_ETIMEDOUT);
}

static void nothing_is_left_of_a_closed_isolator(void)
{
    coir_isolator_options o = iso_options(3);
    int descriptors = count_descriptors();

    for (int i = 0; i < 5; i++) {
        with(1, &o, break_and_leave);
        CHECK_EQ(count_descriptors(), descriptors);
        CHECK_EQ(maps_its_memory(), 0);
        CHECK_EQ(waitpid(-1, NULL, WNOHANG), -1); /* no child, not even a dead one */
    }
}

static void be_late_without_descriptors(void *iso)
{
    struct rlimit before;
    pid_t pid = iso_child(iso);

    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &(struct rlimit){0, before.rlim_max}), 0);
    CHECK_EQ(iso_breaks(iso, iso_wait, NULL, COIR_NEVER), COIR_PANICKED);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    while (kill(pid, 0) == 0)
        coir_yield();
}

static void a_late_call_is_killed_though_no_other_child_can_be_had(void)
{
    coir_isolator_options o = iso_options(1);

    o.time_ns = 50 * COIR_MS;
    with(1, &o, be_late_without_descriptors);
}

static void nothing_is_left_when_descriptors_run_out(void)
{
    coir_isolator_options o = iso_options(3);
    int descriptors = count_descriptors(), refused = 0;
    struct rlimit before, few;
    coir_isolator *iso;

    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    for (int i = 0; i < 20; i++) {
        int status;

        few = (struct rlimit){(rlim_t)(descriptors - 3 + i), before.rlim_max};
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
        status = coir_isolator_open(&o, &iso);
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
        refused += status != COIR_OK;
        if (status == COIR_OK)
            CHECK_EQ(coir_isolator_close(iso), COIR_OK);
        CHECK_EQ(count_descriptors(), descriptors);
        CHECK_EQ(waitpid(-1, NULL, WNOHANG), -1);
    }
    CHECK(refused > 5 && refused < 20);
}

/* ----------------------------------------------------------------------- the end of the parent */

struct family {
    pid_t child[3], template;
};

static void tell_and_wait(void *arg)
{
    coir_isolator *iso = ((void **)arg)[0];
    struct family f = {.template = ((struct coir_isolator *)iso)->template};
    coir_counter c = COIR_COUNTER_INIT;
    struct waiting w[3];
    int fd = *(int *)((void **)arg)[1];

    for (int i = 0; i < 3; i++) {
        f.child[i] = iso_child(iso); /* the one that is free, as the others are taken */
        w[i] = (struct waiting){.iso = iso, .deadline = COIR_NEVER};
        CHECK_EQ(coir_spawn(&c, wait_in_child, &w[i]), COIR_OK);
        coir_yield();
    }
    CHECK_EQ(write(fd, &f, sizeof f), sizeof f);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

/* Its own child without an exec keeps its descriptors open. */
static void be_the_parent(int fd)
{
    coir_isolator_options o = iso_options(3);
    coir_isolator *iso = iso_open(&o);
    void *arg[] = {iso, &fd};
    pid_t other = fork();

    if (other == 0) {
        for (;;)
            pause();
    }
    CHECK_EQ(write(fd, &other, sizeof other), sizeof other);
    run_on(1, tell_and_wait, arg);
    _exit(0);
}

/* Readable when that process has ended. */
static int open_process(pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);

    CHECK(fd >= 0);
    return fd;
}

static void the_parents_death_takes_all_along(void)
{
    struct family f = {0};
    struct pollfd ends[4];
    pid_t parent, other = 0;
    int fd[2];

    CHECK_EQ(pipe(fd), 0);
    parent = fork();
    if (parent == 0)
        be_the_parent(fd[1]);
    CHECK_EQ(read(fd[0], &other, sizeof other), sizeof other);
    CHECK_EQ(read(fd[0], &f, sizeof f), sizeof f);
    for (int i = 0; i < 4; i++)
        ends[i] = (struct pollfd){.fd = open_process(i < 3 ? f.child[i] : f.template), .events = POLLIN};
    CHECK_EQ(poll(ends, 4, 0), 0);
    CHECK_EQ(kill(parent, SIGKILL), 0);
    CHECK_EQ(waitpid(parent, NULL, 0), parent);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(poll(&ends[i], 1, -1), 1);
        close(ends[i].fd);
    }
    CHECK_EQ(kill(other, SIGKILL), 0);
    close(fd[0]);
    close(fd[1]);
}

CHECK_MAIN(CASE(calls_of_many_jobs_each_get_their_own_result), CASE(a_call_can_be_canceled_and_holds_up_nobody),
           CASE(a_call_past_its_deadline_is_killed), CASE(a_late_call_is_killed_though_no_other_child_can_be_had),
           CASE(a_wait_for_a_free_child_has_the_deadline_too), CASE(a_child_serves_on_until_it_breaks),
           CASE(a_child_is_replaced_after_calls_max), CASE(a_child_that_is_killed_while_idle_costs_no_call),
           CASE(without_its_template_an_isolator_says_so), CASE(nothing_is_left_of_a_closed_isolator),
           CASE(nothing_is_left_when_descriptors_run_out), CASE(the_parents_death_takes_all_along),
           CASE(a_child_reaches_no_memory_of_other_calls), CASE(a_fork_that_lives_on_does_not_hold_up_a_close),
           CASE(an_isolator_needs_no_standard_streams))
