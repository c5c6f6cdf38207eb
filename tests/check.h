/* SPDX-License-Identifier: MIT */
/*
 * check.h - the test harness; C and C++. One file, one program, one case per sentence:
 *
 *     static void pop_returns_the_newest_item(void) { CHECK_EQ(deque_pop(&d), &b); }
 *     CHECK_MAIN(CASE(pop_returns_the_newest_item), ...)
 *
 * A program runs all its cases, or those named as arguments. It prints what failed and, last,
 * `N passed, N failed`; it exits 1 if a case failed. If a name is no case's, it runs none, prints
 * those there are, and exits 2. A case that takes longer than CHECK_SECONDS is named and the process
 * aborts, so that a core shows where it hangs. That is the time of a machine that does nothing else: where more
 * wait for the processors than there are, a case has as many times more, ten times at most.
 *
 * Checks may be made on any thread and any fiber; they do not end the case. They are expressions,
 * true when they hold: `if (!CHECK(p)) return;`. SIGALRM belongs to the harness.
 */
#ifndef COIR_CHECK_H
#define COIR_CHECK_H

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifndef CHECK_SECONDS
#define CHECK_SECONDS 60
#endif

/* Rounds of a repeated check: a variant that is given more time needs it (sanitizers, qemu), and gets
 * fewer. */
#define CHECK_SCALE(n) (CHECK_SECONDS > 60 ? (n) / 20 : (n))

#define CHECK(condition) check_that(!!(condition), __FILE__, __LINE__, #condition)

/* For a place that must not be reached. */
#define CHECK_NEVER(why) check_that(0, __FILE__, __LINE__, why)

/* Integers or pointers; prints both. */
#define CHECK_EQ(a, b)                                                                             \
    check_equal((long long)(a), (long long)(b), __FILE__, __LINE__, #a " == " #b)

/* Strings; prints both. */
#define CHECK_STR(a, b) check_string((a), (b), __FILE__, __LINE__, #a " == " #b)

struct check_case {
    const char *name;
    void (*run)(void);
};

#define CASE(name) {#name, name}

#define CHECK_MAIN(...)                                                                            \
    int main(int argc, char **argv)                                                                \
    {                                                                                              \
        static const struct check_case cases[] = {__VA_ARGS__};                                    \
        return check_main(cases, sizeof cases / sizeof cases[0], argc, argv);                      \
    }

/* Weak: a program may consist of several files. */
__attribute__((weak)) const char *check_current = ""; /* the case that runs */
__attribute__((weak)) int check_failures;             /* of that case; atomic */
__attribute__((weak)) time_t check_began;             /* that case, or this part of it; seconds, monotonic */
__attribute__((weak)) unsigned check_limit;           /* seconds that it has */
__attribute__((weak)) long check_processors = 1;

static inline time_t check_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return now.tv_sec;
}

/* Whether a repeated attack goes on to this round, of so many. On a machine that is busy with other things,
 * where each hand-over between threads may take a time slice, it ends early: after a twentieth of the time that
 * a case has, but not before a twentieth of the rounds. */
static inline int check_round(long round, long rounds)
{
    return round < rounds && (round <= rounds / 20 || check_seconds() - check_began < CHECK_SECONDS / 20);
}

static inline void check_failed(const char *file, int line, const char *text)
{
    __atomic_fetch_add(&check_failures, 1, __ATOMIC_RELAXED); /* a count, orders nothing */
    fprintf(stderr, "%s:%d: %s: not true: %s\n", file, line, check_current, text);
}

static inline int check_that(int holds, const char *file, int line, const char *text)
{
    if (!holds)
        check_failed(file, line, text);
    return holds;
}

static inline int check_equal(long long a, long long b, const char *file, int line,
                              const char *text)
{
    if (a == b)
        return 1;
    check_failed(file, line, text);
    fprintf(stderr, "    left  %lld (0x%llx)\n    right %lld (0x%llx)\n", a, (unsigned long long)a,
            b, (unsigned long long)b);
    return 0;
}

static inline int check_string(const char *a, const char *b, const char *file, int line,
                               const char *text)
{
    if (a && b && strcmp(a, b) == 0)
        return 1;
    check_failed(file, line, text);
    fprintf(stderr, "    left  %s\n    right %s\n", a ? a : "NULL", b ? b : "NULL");
    return 0;
}

/* From now on there are so many seconds: for a case, for a part that shall have a time of its own, or for a fork,
 * which inherits none. */
static inline void check_begin(unsigned seconds)
{
    check_began = check_seconds();
    check_limit = seconds;
    alarm(seconds);
}

/* How many wait for each processor, of late; 1 to 10. For a signal handler, too. */
static inline time_t check_crowd(void)
{
    char text[32] = "";
    int fd = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
    long waiting = 0;

    if (fd >= 0) {
        if (read(fd, text, sizeof text - 1) > 0)
            for (const char *c = text; *c >= '0' && *c <= '9'; c++)
                waiting = 10 * waiting + *c - '0';
        close(fd);
    }
    waiting = waiting / check_processors + 1;
    return waiting < 10 ? waiting : 10;
}

/* Of a handler of SIGALRM: whether the time is over. If not, there will be another signal. */
static inline int check_is_over(void)
{
    if (check_seconds() - check_began >= (time_t)check_limit * check_crowd())
        return 1;
    alarm(check_limit / 4);
    return 0;
}

static inline void check_timeout(int signal)
{
    static const char text[] = ": takes too long\n";

    (void)signal;
    if (!check_is_over())
        return;
    if (write(2, check_current, strlen(check_current)) < 0 || write(2, text, sizeof text - 1) < 0)
        _exit(1);
    abort();
}

static inline int check_selected(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return 1;
    return argc < 2;
}

static inline int check_run(const struct check_case *one)
{
    check_current = one->name;
    __atomic_store_n(&check_failures, 0, __ATOMIC_RELAXED); /* no other thread checks yet */
    check_begin(CHECK_SECONDS);
    one->run();
    alarm(0);
    if (__atomic_load_n(&check_failures, __ATOMIC_RELAXED) != 0) { /* its threads have ended */
        fprintf(stderr, "failed: %s\n", one->name);
        return 0;
    }
    return 1;
}

/* Whether all names are cases'; if not, says which is none and which there are. */
static inline int check_names(const struct check_case *cases, size_t count, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        size_t at = 0;

        while (at < count && strcmp(argv[i], cases[at].name) != 0)
            at++;
        if (at < count)
            continue;
        fprintf(stderr, "%s: no such case: %s; there are:\n", argv[0], argv[i]);
        for (at = 0; at < count; at++)
            fprintf(stderr, "    %s\n", cases[at].name);
        return 0;
    }
    return 1;
}

#if defined(CHECK_STRESS) && !defined(__cplusplus)
#include "stress/torment.h"
#else
static inline void torment_begin(void) {}
static inline void torment_end(void) {}
#endif

static inline int check_main(const struct check_case *cases, size_t count, int argc, char **argv)
{
    int passed = 0, failed = 0;

    if (!check_names(cases, count, argc, argv))
        return 2;
    check_processors = sysconf(_SC_NPROCESSORS_ONLN);
    signal(SIGALRM, check_timeout);
    torment_begin();
    for (size_t i = 0; i < count; i++) {
        if (!check_selected(cases[i].name, argc, argv))
            continue;
        if (check_run(&cases[i]))
            passed++;
        else
            failed++;
    }
    torment_end();
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}

#endif
