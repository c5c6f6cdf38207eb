/* SPDX-License-Identifier: MIT */
/*
 * status.c - names and texts of statuses and outcomes, the version, the clock, and fatal().
 */
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "line.h"

#ifdef COIR_TSAN
_Atomic unsigned tsan_fence_word;
#endif

#define OUTCOME_MAP(X)                                                                        \
    X(COIR_FAILED, "ended with an error")                                                     \
    X(COIR_EXPIRED, "deadline passed before it started")                                      \
    X(COIR_CANCELED, "canceled before it started")                                            \
    X(COIR_PANICKED, "panicked")

const char *coir_status_name(int status)
{
    switch (status) {
#define STATUS_NAME(name, value, text) case value: return #name;
        COIR_STATUS_MAP(STATUS_NAME)
#define OUTCOME_NAME(name, text) case name: return #name;
        OUTCOME_MAP(OUTCOME_NAME)
    default: return "COIR_E?";
    }
}

const char *coir_status_text(int status)
{
    switch (status) {
#define STATUS_TEXT(name, value, text) case value: return text;
        COIR_STATUS_MAP(STATUS_TEXT)
#define OUTCOME_TEXT(name, text) case name: return text;
        OUTCOME_MAP(OUTCOME_TEXT)
    default: return "unknown status";
    }
}

const char *coir_kind_name(int kind)
{
    static const char *const name[COIR_KINDS] = {
        [COIR_KIND_NONE] = "none",
        [COIR_KIND_PANIC] = "panic",
        [COIR_KIND_FOREIGN] = "foreign",
        [COIR_KIND_OWED] = "owed",
        [COIR_KIND_SKIPPED] = "skipped",
        [COIR_KIND_SHUTDOWN] = "shutdown",
        [COIR_KIND_DEPENDENCY] = "dependency",
        [COIR_KIND_DONE] = "done",
        [COIR_KIND_FAIL] = "fail",
        [COIR_KIND_HELD] = "held",
        [COIR_KIND_STACK_OVERFLOW] = "stack_overflow",
        [COIR_KIND_FAULT] = "fault",
        [COIR_KIND_EXPIRED] = "expired",
        [COIR_KIND_LEAK] = "leak",
        [COIR_KIND_ISOLATED] = "isolated",
    };

    return kind >= 0 && kind < COIR_KINDS && name[kind] ? name[kind] : "?";
}

const char *coir_location_name(int location)
{
    static const char *const name[COIR_LOCATIONS] = {
        [COIR_AT_JOB] = "job",
        [COIR_AT_DEFER] = "defer",
        [COIR_AT_CLEANUP] = "cleanup",
        [COIR_AT_OFFLOAD] = "offload",
        [COIR_AT_THREAD] = "thread",
        [COIR_AT_SCHEDULER] = "scheduler",
        [COIR_AT_FINALIZER] = "finalizer",
        [COIR_AT_OBLIGATION] = "obligation",
        [COIR_AT_ISOLATED] = "isolated",
    };

    return location >= 0 && location < COIR_LOCATIONS && name[location] ? name[location] : "?";
}

#define TEXT_OF(x) #x
#define VERSION_TEXT(major, minor, patch) TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(patch)

const char *coir_version(void)
{
    return VERSION_TEXT(COIR_VERSION_MAJOR, COIR_VERSION_MINOR, COIR_VERSION_PATCH);
}

__thread int64_t (*thread_clock)(void);

int64_t coir_now(void)
{
    struct timespec ts;

    if (UNLIKELY(thread_clock != NULL))
        return thread_clock();
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * COIR_SEC + ts.tv_nsec;
}

_Atomic(void (*)(int fd)) fatal_details;

/* Once in a process: not again if they are what is broken, and not of two threads at a time. The
 * second gives the first the time to finish. */
static void say_details(void)
{
    static _Atomic bool begun;
    static __thread bool mine;
    void (*details)(int fd) = atomic_load_explicit(&fatal_details, memory_order_relaxed); /* constant */

    if (!details || mine)
        return;
    if (atomic_exchange_explicit(&begun, true, memory_order_relaxed)) { /* one is first */
        poll(NULL, 0, 2000);
        return;
    }
    mine = true;
    details(STDERR_FILENO);
}

static void say_fatal(const char *format, va_list args)
{
    char line[512] = "coir: fatal: ";
    size_t head = strlen(line);

    vsnprintf(line + head, sizeof line - head - 1, format, args);
    strcat(line, "\n");
    if (line_write(STDERR_FILENO, line, strlen(line)))
        say_details(); /* else nobody can be told; the core still can */
}

void fatal_report(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say_fatal(format, args);
    va_end(args);
}

void fatal(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say_fatal(format, args);
    va_end(args);
    abort();
}
