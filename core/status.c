/* SPDX-License-Identifier: MIT */
/*
 * status.c - names and texts of statuses and outcomes, the version, the clock, and fatal().
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"

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

#define TEXT_OF(x) #x
#define VERSION_TEXT(major, minor, patch) TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(patch)

const char *coir_version(void)
{
    return VERSION_TEXT(COIR_VERSION_MAJOR, COIR_VERSION_MINOR, COIR_VERSION_PATCH);
}

int64_t coir_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * COIR_SEC + ts.tv_nsec;
}

void fatal(const char *format, ...)
{
    char line[512] = "coir: fatal: ";
    size_t head = strlen(line);
    va_list args;

    va_start(args, format);
    vsnprintf(line + head, sizeof line - head - 1, format, args);
    va_end(args);
    strcat(line, "\n");
    if (write(STDERR_FILENO, line, strlen(line)) < 0)
        abort(); /* nobody can be told; the core still can */
    abort();
}
